"""Exact batched crop and resize without host synchronisation: four gathers in PyTorch, or a Triton kernel."""

from typing import Any

import torch
from torch import Tensor

from ._switch import can_run


def crop_resize(images: Tensor, boxes: Tensor, index: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Cut integer boxes out of images and resize every crop: a kernel where it can run, four gathers elsewhere.

    What `actionzoo.layers.crop_resize` computes, in values and gradients, with the boxes left on their device. The
    kernels are one launch forward and one backward, for any strides of `images`; the crops and the gradient are
    contiguous. The gradient is gathered, not scattered: nothing is added atomically, so that it is the same in
    every run, and it adds up in float32 (float64 for float64 images).

    Args:
        images: `(B, C, H, W)` floating-point images or feature maps.
        boxes: `(N, 4)` integer xyxy boxes in pixels, half-open.
        index: `(N,)` integer, the image that each box is cut from, in `[0, B)`. A crop of any other index is NaN and
            gives no gradient: to raise, the host would have to wait for the device.
        size: `(h, w)` of the crops in pixels; one number for both.

    Returns:
        `(N, C, h, w)` crops in the dtype of `images`; differentiable with respect to `images`.

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If images are not floating point, or boxes or index are not integers.
    """
    height, width = (size, size) if isinstance(size, int) else size
    check_crop(images, boxes, index, height, width)
    if can_run(images):
        return _crop_kernel(images, boxes, index, height, width)
    return crop_gather(images, boxes, index, height, width)


def check_crop(images: Tensor, boxes: Tensor, index: Tensor, height: int, width: int) -> None:
    """Raise what `crop_resize` documents."""
    if images.ndim != 4:
        raise ValueError(f"crop_resize expects images (B, C, H, W), got shape {tuple(images.shape)}")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"crop_resize expects boxes (N, 4) as xyxy, got shape {tuple(boxes.shape)}")
    if index.ndim != 1 or index.shape[0] != boxes.shape[0]:
        raise ValueError(
            f"crop_resize expects one image index per box, (N,) = ({boxes.shape[0]},), got {tuple(index.shape)}"
        )
    if height < 1 or width < 1:
        raise ValueError(f"crop_resize expects a size of at least one pixel, got {(height, width)}")
    if not images.is_floating_point():
        raise TypeError(f"crop_resize expects floating-point images, got {images.dtype}; call .float() first")
    for name, tensor in (("boxes", boxes), ("index", index)):
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise TypeError(f"crop_resize expects integer {name}, got {tensor.dtype}; use .round().long() first")


def crop_gather(images: Tensor, boxes: Tensor, index: Tensor, height: int, width: int) -> Tensor:
    """The plain form: `(N, C, height, width)` crops as four gathers, whose arguments `check_crop` has seen."""
    batch, channels, image_h, image_w = images.shape
    index = index.long()[:, None]
    if batch * image_h * image_w == 0:
        # from no pixel nothing can be gathered; the empty sum is 0 and keeps the crops in the autograd graph
        known = (index >= 0) & (index < batch)
        empty = torch.where(known, 0.0, torch.nan).to(images.dtype)[:, :, None, None] + images.sum()
        return empty.expand(-1, channels, height, width).contiguous()
    image = index.clamp(0, batch - 1)
    known = image == index
    # F.interpolate computes half-precision inputs in float32
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    x1, y1, x2, y2 = boxes.long().unbind(1)
    top, bottom, top_in, bottom_in, wy = _taps(y1, y2, height, image_h, dtype)
    left, right, left_in, right_in, wx = _taps(x1, x2, width, image_w, dtype)
    # of an image that does not exist nothing is read, and a weight of NaN marks the crop without a pass over it
    top_in, bottom_in, wy = top_in & known, bottom_in & known, torch.where(known, wy, torch.nan)

    # cast before the gathers, so that the gradients of a pixel read many times add up in this precision too
    pixels = images.to(dtype).permute(0, 2, 3, 1).reshape(batch * image_h * image_w, channels)
    base = (image * (image_h * image_w))[:, :, None]

    def tap(y: Tensor, y_in: Tensor, x: Tensor, x_in: Tensor) -> Tensor:
        values = pixels[base + y[:, :, None] * image_w + x[:, None, :]]
        inside = (y_in[:, :, None] & x_in[:, None, :]).unsqueeze(-1)
        return torch.where(inside, values, values.new_zeros(()))

    wy, wx = wy[:, :, None, None], wx[:, None, :, None]
    upper = tap(top, top_in, left, left_in) * (1 - wx) + tap(top, top_in, right, right_in) * wx
    lower = tap(bottom, bottom_in, left, left_in) * (1 - wx) + tap(bottom, bottom_in, right, right_in) * wx
    crops = upper * (1 - wy) + lower * wy
    return crops.permute(0, 3, 1, 2).to(images.dtype)


def _taps(start: Tensor, stop: Tensor, out: int, limit: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The two source pixels of every output pixel along one axis, and the weight of the second.

    Returns `low`, `high` `(N, out)` in image pixels clamped to the image, `low_in`, `high_in` `(N, out)` bool,
    whether they lay in it, and `weight` `(N, out)`.
    """
    length = (stop - start).clamp(min=1)
    centres = torch.arange(out, device=start.device, dtype=dtype) + 0.5
    # F.interpolate's own rule: half-pixel centres, clamped at the first pixel
    source = (length.to(dtype)[:, None] / out * centres - 0.5).clamp(min=0)
    low = torch.minimum(source.long(), length[:, None] - 1)
    # at its own size F.interpolate copies: a NaN or infinite neighbour of weight 0 must not spread
    step = (length != out).long()[:, None]
    high = torch.minimum(low + step, length[:, None] - 1)
    weight = source - low.to(dtype)
    low, high = low + start[:, None], high + start[:, None]
    low_in, high_in = (low >= 0) & (low < limit), (high >= 0) & (high < limit)
    return low.clamp(0, limit - 1), high.clamp(0, limit - 1), low_in, high_in, weight


# A schema that is written out serves torch 2.4 too, which reads fewer annotations.


@torch.library.custom_op(
    "actionzoo::crop_resize",
    mutates_args=(),
    schema="(Tensor images, Tensor boxes, Tensor index, SymInt height, SymInt width) -> Tensor",
)
def _crop_kernel(images: Tensor, boxes: Tensor, index: Tensor, height: int, width: int) -> Tensor:
    from ._crop_resize_triton import crop

    return crop(images, boxes, index, height, width)


@torch.library.custom_op(
    "actionzoo::crop_resize_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor boxes, Tensor index, SymInt batch, SymInt image_h, SymInt image_w) -> Tensor",
)
def _crop_kernel_backward(grad: Tensor, boxes: Tensor, index: Tensor, batch: int, image_h: int, image_w: int) -> Tensor:
    from ._crop_resize_triton import crop_backward

    return crop_backward(grad, boxes, index, batch, image_h, image_w)


@_crop_kernel.register_fake
def _(images: Tensor, boxes: Tensor, index: Tensor, height: int, width: int) -> Tensor:
    return images.new_empty(boxes.shape[0], images.shape[1], height, width)


@_crop_kernel_backward.register_fake
def _(grad: Tensor, boxes: Tensor, index: Tensor, batch: int, image_h: int, image_w: int) -> Tensor:
    return grad.new_empty(batch, grad.shape[1], image_h, image_w)


def _save_boxes(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    source, boxes, index = inputs[:3]
    ctx.save_for_backward(boxes, index)
    ctx.shape = source.shape


def _image_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    batch, _, image_h, image_w = ctx.shape
    return _crop_kernel_backward(grad, *ctx.saved_tensors, batch, image_h, image_w), None, None, None, None


def _crop_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # cropping is linear in the images, so the derivative of its gradient is the crop again
    return _crop_kernel(grad, *ctx.saved_tensors, *ctx.shape[2:]), None, None, None, None, None


_crop_kernel.register_autograd(_image_gradient, setup_context=_save_boxes)
_crop_kernel_backward.register_autograd(_crop_gradient, setup_context=_save_boxes)
