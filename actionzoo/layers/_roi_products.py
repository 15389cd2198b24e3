"""RoIAlign of one box in many frames, as two small matrix products; and torchvision's for boxes that change."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import roi_align

from ..kernels._outermost_box import no_autocast, real_dtype, sample_points


class Window(NamedTuple):
    """The cells that one person's box covers in the maps of one clip."""

    level: int
    clip: int
    top: int
    left: int
    bottom: int
    right: int


def pool_windows(
    maps: Sequence[Tensor],
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    scales: Sequence[float],
    size: tuple[int, int],
    samples: int,
) -> Tensor:
    """Pool in eager mode: the boxes are read by the host once, and only the cells they cover take part.

    Args:
        maps: `(B, T, C, h, w)` of every level.
        boxes: `(N, 4)` xyxy in pixels.
        level: `(N,)` int64 index of each box's map.
        clip: `(N,)` int64.
        seen: `(N,)` bool; other rows pool to zeros.
        scales: Cells per pixel of every level.
        size: `(R_y, R_x)` bins.
        samples: Samples per bin along each axis.

    Returns:
        `(N, C, T, R_y, R_x)` in the dtype of the maps.
    """
    boxes = boxes.to(real_dtype(maps[0]))
    scale, cells = boxes.new_tensor(scales)[level], clip.new_tensor([m.shape[3:] for m in maps])[level]
    # y and x in one tensor (N, 2, bins, samples): half the operations
    points, inside = sample_points(
        boxes[:, :2].flip(1),
        boxes[:, 2:].flip(1),
        scale[:, None, None, None],
        cells[:, :, None, None],
        boxes.new_tensor(size)[:, None, None],
        samples,
        max(size),
    )
    first, end = _covered(points, inside & seen[:, None, None, None])
    windows = [Window(*row) for row in torch.cat([level[:, None], clip[:, None], first, end], 1).tolist()]
    longest = max((max(w.bottom - w.top, w.right - w.left) for w in windows), default=0)
    weights = _weights(points, inside, first, longest)
    a_y, a_x = weights[:, 0, : size[0]], weights[:, 1, : size[1]]
    return _Products.apply(windows, a_y, a_x, *maps)


class _Products(torch.autograd.Function):
    """`A_y X A_x^T` of every window. Linear in X, so that the backward pass needs the matrices alone.

    Slices under autograd would each fill a whole map with zeros in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, windows: list[Window], a_y: Tensor, a_x: Tensor, *maps: Tensor) -> Tensor:
        ctx.windows, ctx.like = windows, [torch.empty_like(m, device="meta") for m in maps]
        ctx.save_for_backward(a_y, a_x)
        frames, channels = maps[0].shape[1:3]
        out = a_y.new_zeros(len(windows), channels, frames, a_y.shape[1], a_x.shape[1])
        with no_autocast(a_y):
            for n, w in enumerate(windows):
                if w.top < w.bottom and w.left < w.right:
                    rows, columns = a_y[n, :, : w.bottom - w.top], a_x[n, :, : w.right - w.left]
                    cells = maps[w.level][w.clip, :, :, w.top : w.bottom, w.left : w.right].to(a_y.dtype)
                    out[n] = torch.matmul(torch.matmul(rows, cells), columns.t()).transpose(0, 1)
        return out.to(maps[0].dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        a_y, a_x = ctx.saved_tensors
        sums: dict[int, Tensor] = {}
        with no_autocast(a_y):
            for n, w in enumerate(ctx.windows):
                if w.top < w.bottom and w.left < w.right and ctx.needs_input_grad[3 + w.level]:
                    if w.level not in sums:
                        # boxes that overlap add up in this precision
                        sums[w.level] = torch.zeros_like(ctx.like[w.level], dtype=a_y.dtype, device=a_y.device)
                    rows, columns = a_y[n, :, : w.bottom - w.top], a_x[n, :, : w.right - w.left]
                    cells = torch.matmul(rows.t(), torch.matmul(grad[n].transpose(0, 1).to(a_y.dtype), columns))
                    sums[w.level][w.clip, :, :, w.top : w.bottom, w.left : w.right] += cells
        # the gradient of a level without a person is one zero, expanded, not a map of them
        grads = [
            sums[i].to(like.dtype) if i in sums else grad.new_zeros((), dtype=like.dtype).expand(like.shape)
            for i, like in enumerate(ctx.like)
        ]
        return (None, None, None, *grads)


def pool_frames(
    maps: Sequence[Tensor],
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    scales: Sequence[float],
    size: tuple[int, int],
    samples: int,
) -> Tensor:
    """Pool boxes `(N, T, 4)` at levels `(N, T)` that differ from frame to frame, with torchvision's operator."""
    dtype = real_dtype(maps[0])
    frames, channels = maps[0].shape[1:3]
    frame = clip[:, None] * frames + torch.arange(frames, device=clip.device)
    rois = torch.cat([frame[..., None].to(dtype), boxes.to(dtype)], 2).flatten(0, 1)
    level = torch.where(seen[:, None], level, -1).flatten()
    out = rois.new_zeros(rois.shape[0], channels, *size)
    with no_autocast(rois):
        for i, (cells, scale) in enumerate(zip(maps, scales)):
            images = cells.flatten(0, 1)
            if in_graph(rois):
                pooled = roi_align(images.to(dtype), rois, size, scale, samples, aligned=True)
                out = torch.where((level == i)[:, None, None, None], pooled, out)
                continue
            chosen = (level == i).nonzero().flatten()
            # a level without a box stays in the graph without being converted
            images = (images if len(chosen) else images[:1]).to(dtype)
            out = out.index_copy(0, chosen, roi_align(images, rois[chosen], size, scale, samples, aligned=True))
    return out.unflatten(0, boxes.shape[:2]).transpose(1, 2).to(maps[0].dtype)


def in_graph(tensor: Tensor) -> bool:
    """Whether the values of a tensor are out of the host's reach: under compile and export, and on meta."""
    return torch.compiler.is_compiling() or tensor.device.type == "meta"


def _covered(points: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """First cell that the samples of a box read, and one past the last, `(N, 2)`; equal where none counts."""
    first = torch.where(inside, points, torch.inf).flatten(2).amin(2).floor()
    end = torch.where(inside, points, -torch.inf).flatten(2).amax(2).ceil() + 1
    anywhere = inside.flatten(2).any(2)
    return torch.where(anywhere, first, 0.0).long(), torch.where(anywhere, end, 0.0).long()


def _weights(points: Tensor, inside: Tensor, first: Tensor, length: int) -> Tensor:
    """Matrices `(N, 2, bins, length)`: the mean of a bin's samples, as weights of the cells from `first` on."""
    cells = first[..., None] + torch.arange(length, device=first.device)
    weights = (1 - (points[..., None] - cells[:, :, None, None]).abs()).clamp(min=0)
    return torch.where(inside[..., None], weights, 0.0).mean(3)
