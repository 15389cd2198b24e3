"""Exact batched crop and resize: many boxes of a batch of images to one size."""

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_resize(images: Tensor, boxes: Tensor, index: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Cut integer boxes out of images and resize every crop to one size.

    Equal, in values and gradients, to cropping one box at a time and calling `F.interpolate(crop, size,
    mode="bilinear", align_corners=False)`: no pixel outside a box is ever read, which `roi_align` and
    `grid_sample` do at the border. Pixels outside the image read 0; a box narrower than one pixel is widened to
    one. In eager mode on the CPU the boxes are read once and cropped one by one (in one piece where all have one
    size and no gradient is wanted); compiled, exported or on an accelerator the same arithmetic runs as four
    gathers, with no host synchronisation.

    Args:
        images: `(B, C, H, W)` floating-point images or feature maps.
        boxes: `(N, 4)` integer xyxy boxes in pixels, half-open (`x2 - x1` is the width).
        index: `(N,)` integer, the image that each box is cut from, in `[0, B)`.
        size: `(h, w)` of the crops returned, in pixels; one number for both.

    Returns:
        `(N, C, h, w)` crops in the dtype of `images`; differentiable with respect to `images`.

    Raises:
        ValueError: If a shape is wrong, or (eager mode on the CPU) an index is out of range.
        TypeError: If images are not floating point, or boxes or index are not integers.
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check(images, boxes, index, height, width)
    if images.device.type == "cpu" and not torch.compiler.is_compiling():
        return _crop_one_by_one(images, boxes, index, height, width)
    return _crop_gather(images, boxes, index, height, width)


def _check(images: Tensor, boxes: Tensor, index: Tensor, height: int, width: int) -> None:
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


def _crop_one_by_one(images: Tensor, boxes: Tensor, index: Tensor, height: int, width: int) -> Tensor:
    batch, channels, image_h, image_w = images.shape
    rows = torch.cat([boxes.long(), index.long()[:, None]], 1).tolist()
    if not rows:
        return images.new_zeros(0, channels, height, width) + images.sum() * 0
    rows = [(x1, y1, max(x2, x1 + 1), max(y2, y1 + 1), i) for x1, y1, x2, y2, i in rows]
    for row in rows:
        if not 0 <= row[4] < batch:
            raise ValueError(f"crop_resize got image index {row[4]} for a batch of {batch} images")

    inside = all(x1 >= 0 and y1 >= 0 and x2 <= image_w and y2 <= image_h for x1, y1, x2, y2, _ in rows)
    # the backward pass would allocate every window of every image
    backward = torch.is_grad_enabled() and images.requires_grad
    if inside and not backward and len({(x2 - x1, y2 - y1) for x1, y1, x2, y2, _ in rows}) == 1:
        x1, y1, x2, y2, _ = rows[0]
        windows = images.unfold(2, y2 - y1, 1).unfold(3, x2 - x1, 1)
        crops = windows[index.long(), :, boxes[:, 1].long(), boxes[:, 0].long()]
        return _resize(crops, height, width)
    return torch.cat([_resize(_crop(images, row), height, width) for row in rows])


def _crop(images: Tensor, row: tuple[int, int, int, int, int]) -> Tensor:
    x1, y1, x2, y2, i = row
    image_h, image_w = images.shape[2:]
    # the part of the box that lies in the image, empty (of either sign) where they do not meet
    left, right = min(max(x1, 0), image_w), min(max(x2, 0), image_w)
    top, bottom = min(max(y1, 0), image_h), min(max(y2, 0), image_h)
    if left == right or top == bottom:
        # the empty sum is 0 and keeps the crop in the autograd graph
        return images.new_zeros(1, images.shape[1], y2 - y1, x2 - x1) + images[:0].sum()
    crop = images[i : i + 1, :, top:bottom, left:right]
    padding = (left - x1, x2 - right, top - y1, y2 - bottom)
    return F.pad(crop, padding) if any(padding) else crop


def _resize(crops: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(crops, (height, width), mode="bilinear", align_corners=False)


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


def _crop_gather(images: Tensor, boxes: Tensor, index: Tensor, height: int, width: int) -> Tensor:
    batch, channels, image_h, image_w = images.shape
    # F.interpolate computes half-precision inputs in float32
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    x1, y1, x2, y2 = boxes.long().unbind(1)
    top, bottom, top_in, bottom_in, wy = _taps(y1, y2, height, image_h, dtype)
    left, right, left_in, right_in, wx = _taps(x1, x2, width, image_w, dtype)

    # cast before the gathers, so that the gradients of a pixel read many times add up in this precision too
    pixels = images.to(dtype).permute(0, 2, 3, 1).reshape(batch * image_h * image_w, channels)
    base = (index.long() * (image_h * image_w))[:, None, None]

    def tap(y: Tensor, y_in: Tensor, x: Tensor, x_in: Tensor) -> Tensor:
        values = pixels[base + y[:, :, None] * image_w + x[:, None, :]]
        inside = (y_in[:, :, None] & x_in[:, None, :]).unsqueeze(-1)
        return torch.where(inside, values, values.new_zeros(()))

    wy, wx = wy[:, :, None, None], wx[:, None, :, None]
    upper = tap(top, top_in, left, left_in) * (1 - wx) + tap(top, top_in, right, right_in) * wx
    lower = tap(bottom, bottom_in, left, left_in) * (1 - wx) + tap(bottom, bottom_in, right, right_in) * wx
    crops = upper * (1 - wy) + lower * wy
    return crops.permute(0, 3, 1, 2).to(images.dtype)
