"""Pooling one box in many frames: gathers in plain PyTorch, or a Triton kernel."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ._switch import can_run


def outermost_box(
    maps: Sequence[Tensor],
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    scales: Sequence[float],
    size: tuple[int, int],
    samples: int,
) -> Tensor:
    """RoIAlign of boxes that stand still through a clip: a kernel where it can run, gathers elsewhere.

    What `actionzoo.layers.OutermostBoxPooler` pools with once it has found each track's box and level. The host reads
    nothing. The kernel is one launch for all people, frames, channels and levels, and one for each level in the
    backward pass, where every cell gathers what the people give to it: nothing is added atomically, so that the
    gradient is the same in every run, and it adds up in float32. It serves float32, bfloat16 and float16 maps,
    contiguous or with the channels side by side; others are copied. float64 takes the plain form.

    Args:
        maps: `(B, T, C, h, w)` of every level, floating point, of at least one clip, if there are boxes, and cell.
        boxes: `(N, 4)` xyxy in pixels, not clipped to the image; what lies outside reads 0.
        level: `(N,)` int64 index of each box's map; a row with another pools to zeros.
        clip: `(N,)` int64, the clip of each box, in `[0, B)`. A row of any other is NaN, if it was seen and has a
            map, and gives no gradient: to raise, the host would have to wait for the device.
        seen: `(N,)` bool; other rows pool to zeros.
        scales: Cells per pixel of every level.
        size: `(R_y, R_x)` bins.
        samples: Samples per bin along each axis.

    Returns:
        `(N, C, T, R_y, R_x)` in the dtype of the first map; differentiable with respect to the maps, twice too.

    Raises:
        ValueError: If a shape or a number is wrong, or there is not one scale per map.
        TypeError: If a dtype is wrong.
    """
    _check(maps, boxes, level, clip, seen, scales, size, samples)
    if can_run(maps[0]) and _fit(maps):
        return _pool(list(maps), boxes, level, clip, seen, list(scales), list(size), samples)
    return pool_taps(maps, boxes, level, clip, seen, scales, size, samples)


def channels_last(level: Tensor) -> bool:
    """Whether the channels of a map `(B, T, C, h, w)` lie side by side in memory, and nothing between."""
    return not level.is_contiguous() and level.permute(0, 1, 3, 4, 2).is_contiguous()


def _fit(maps: Sequence[Tensor]) -> bool:
    """Whether the kernel serves the maps: it counts the cells of 64 planes in 32 bits."""
    half = (torch.float32, torch.bfloat16, torch.float16)
    return all(m.dtype == maps[0].dtype and m.dtype in half and m.shape[3] * m.shape[4] < 2**25 for m in maps)


def _check(
    maps: Sequence[Tensor],
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    scales: Sequence[float],
    size: tuple[int, int],
    samples: int,
) -> None:
    """Raise what `outermost_box` documents."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"outermost_box expects boxes (N, 4) as xyxy, got shape {tuple(boxes.shape)}")
    people = boxes.shape[0]
    for name, rows in (("level", level), ("clip", clip), ("seen", seen)):
        if rows.shape != (people,):
            raise ValueError(f"outermost_box expects one {name} per box, ({people},), got {tuple(rows.shape)}")
    if not maps or len(scales) != len(maps):
        raise ValueError(f"outermost_box expects one scale per map, got {len(scales)} for {len(maps)} maps")
    for m in maps:
        if m.ndim != 5 or m.shape[:3] != maps[0].shape[:3] or 0 in m.shape[3:] or (people and not m.shape[0]):
            raise ValueError(
                "outermost_box expects maps (B, T, C, h, w) of one B, T and C, with clips and cells, got "
                f"{[tuple(m.shape) for m in maps]}"
            )
    if len(size) != 2 or min(size) < 1 or samples < 1:
        raise ValueError(f"outermost_box expects at least one bin and one sample, got {tuple(size)} and {samples}")
    for m in maps:
        if not m.is_floating_point():
            raise TypeError(f"outermost_box expects floating-point maps, got {m.dtype}")
    for name, rows, dtype in (("level", level, torch.int64), ("clip", clip, torch.int64), ("seen", seen, torch.bool)):
        if rows.dtype != dtype:
            raise TypeError(f"outermost_box expects {name} to be {dtype}, got {rows.dtype}")


def pool_taps(
    maps: Sequence[Tensor],
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    scales: Sequence[float],
    size: tuple[int, int],
    samples: int,
) -> Tensor:
    """The plain form: no value decides a shape, so that every box is pooled at every level."""
    boxes = boxes.to(real_dtype(maps[0]))
    clips, frames, channels = maps[0].shape[:3]
    own = clip.clamp(0, clips - 1)
    known = own == clip
    out = boxes.new_zeros(boxes.shape[0], channels, frames, *size)
    with no_autocast(boxes):
        for i, (cells, scale) in enumerate(zip(maps, scales)):
            y, y_in, w_y = _taps(boxes[:, 1], boxes[:, 3], scale, cells.shape[3], size[0], samples)
            x, x_in, w_x = _taps(boxes[:, 0], boxes[:, 2], scale, cells.shape[4], size[1], samples)
            index = (own[:, None, None], y.flatten(1)[:, :, None], x.flatten(1)[:, None, :])
            # cast before the gather, so that the gradients of a cell read many times add up in this precision too
            values = cells.to(boxes.dtype).permute(0, 3, 4, 1, 2)[index]
            # of a clip that does not exist nothing is read, and a weight of NaN marks the row
            inside = (y_in.flatten(1) & known[:, None])[:, :, None] & x_in.flatten(1)[:, None, :]
            w_y = torch.where(known[:, None, None], w_y, torch.nan)
            values = torch.where(inside[..., None, None], values, 0.0)
            values = values.unflatten(2, x.shape[1:]).unflatten(1, y.shape[1:])
            pooled = torch.einsum("nrkqltc,nrk,nql->nctrq", values, w_y, w_x)
            out = torch.where(((level == i) & seen)[:, None, None, None, None], pooled, out)
    return out.to(maps[0].dtype)


def sample_points(
    start: Tensor, stop: Tensor, scale: Tensor | float, cells: Tensor | int, bins: Tensor | int, samples: int, most: int
) -> tuple[Tensor, Tensor]:
    """Where RoIAlign samples along an axis, in cells, and whether it counts; `most` bins, those past `bins` do not.

    Its rule for the border: up to one cell outside the map a sample takes the border's value, beyond that 0.

    Args:
        start: `(...)` where each box begins, in pixels.
        stop: `(...)` where it ends.
        scale: Cells per pixel; it, `cells` and `bins` are numbers or broadcast to `(..., 1, 1)`.
        cells: Cells of the map along the axis.
        bins: Bins that the box is divided into.
        samples: Samples per bin.
        most: Bins that are returned.

    Returns:
        Two tensors `(..., most, samples)`.
    """
    low = start[..., None, None] * scale - 0.5
    width = (stop[..., None, None] * scale - 0.5 - low) / bins
    bin_index = torch.arange(most, device=start.device, dtype=start.dtype)[:, None]
    centre = torch.arange(samples, device=start.device, dtype=start.dtype) + 0.5
    points = low + bin_index * width + centre * width / samples
    inside = (points >= -1) & (points <= cells) & (bin_index < bins)
    points = torch.where(inside, points, 0.0).clamp(min=0)
    return torch.where(points > cells - 1, cells - 1, points), inside


def _taps(
    start: Tensor, stop: Tensor, scale: float, cells: int, bins: int, samples: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells of every sample `(N, bins, 2 samples)`, whether they count, and their weights in the bin."""
    points, inside = sample_points(start, stop, scale, cells, bins, samples, bins)
    low = points.floor()
    share = points - low
    taps = torch.cat([low, (low + 1).clamp(max=cells - 1)], 2).long()
    return taps, torch.cat([inside, inside], 2), torch.cat([1 - share, share], 2) / samples


def real_dtype(maps: Tensor) -> torch.dtype:
    """What a map is computed in: half precision in float32."""
    return torch.float64 if maps.dtype == torch.float64 else torch.float32


def no_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """Matrix products keep their precision under autocast, as torchvision's RoIAlign does."""
    kind = tensor.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


# A schema that is written out serves torch 2.4 too, which reads fewer annotations.


@torch.library.custom_op(
    "actionzoo::outermost_windows",
    mutates_args=(),
    schema="(Tensor boxes, Tensor valid, float canonical_scale, SymInt canonical_level, SymInt first_level, "
    "SymInt levels) -> (Tensor, Tensor, Tensor)",
)
def outermost_windows(
    boxes: Tensor, valid: Tensor, canonical_scale: float, canonical_level: int, first_level: int, levels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What `OutermostBoxPooler` finds out about each track before it pools, in one launch, with the kernel alone.

    Args:
        boxes: `(N, T, 4)` float32 xyxy boxes of N tracks, in pixels.
        valid: `(N, T)` bool, the frames in which the person was found.
        canonical_scale: Side in pixels of the square box that belongs to the canonical level.
        canonical_level: That level.
        first_level: The finest level that there is.
        levels: How many there are.

    Returns:
        The outermost boxes `(N, 4)`, at least one pixel wide and high, zeros for a track that was never seen; the
        levels `(N,)` int64, counted from the finest; and `(N,)` bool, whether a track was seen.
    """
    from ._outermost_box_triton import windows

    return windows(boxes, valid, canonical_scale, canonical_level, first_level, levels)


@outermost_windows.register_fake
def _(
    boxes: Tensor, valid: Tensor, canonical_scale: float, canonical_level: int, first_level: int, levels: int
) -> tuple[Tensor, Tensor, Tensor]:
    people = boxes.shape[0]
    level, seen = boxes.new_empty(people, dtype=torch.int64), boxes.new_empty(people, dtype=torch.bool)
    return boxes.new_empty(people, 4), level, seen


@torch.library.custom_op(
    "actionzoo::outermost_box",
    mutates_args=(),
    schema="(Tensor[] maps, Tensor boxes, Tensor level, Tensor clip, Tensor seen, float[] scales, SymInt[] size, "
    "SymInt samples) -> Tensor",
)
def _pool(
    maps: list[Tensor],
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    scales: list[float],
    size: list[int],
    samples: int,
) -> Tensor:
    from ._outermost_box_triton import pool

    return pool(maps, boxes, level, clip, seen, scales, size, samples)


@torch.library.custom_op(
    "actionzoo::outermost_box_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor boxes, Tensor level, Tensor clip, Tensor seen, SymInt number, float scale, "
    "SymInt samples, SymInt[] shape, bool last) -> Tensor",
)
def _gradient(
    grad: Tensor,
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    number: int,
    scale: float,
    samples: int,
    shape: list[int],
    last: bool,
) -> Tensor:
    from ._outermost_box_triton import gradient

    return gradient(grad, boxes, level, clip, seen, number, scale, samples, _empty_map(grad, shape, last))


def _empty_map(like: Tensor, shape: Sequence[int], last: bool) -> Tensor:
    clips, frames, channels, height, width = shape
    if last:
        return like.new_empty(clips, frames, height, width, channels).permute(0, 1, 4, 2, 3)
    return like.new_empty(clips, frames, channels, height, width)


@_pool.register_fake
def _(
    maps: list[Tensor],
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    scales: list[float],
    size: list[int],
    samples: int,
) -> Tensor:
    return maps[0].new_empty(boxes.shape[0], maps[0].shape[2], maps[0].shape[1], *size)


@_gradient.register_fake
def _(
    grad: Tensor,
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    number: int,
    scale: float,
    samples: int,
    shape: list[int],
    last: bool,
) -> Tensor:
    return _empty_map(grad, shape, last)


def _keep_boxes(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    maps, *boxes, ctx.scales, _, ctx.samples = inputs
    ctx.shapes, ctx.last = [list(m.shape) for m in maps], [channels_last(m) for m in maps]
    ctx.save_for_backward(*boxes)


def _pool_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    layouts = zip(ctx.needs_input_grad[0], ctx.scales, ctx.shapes, ctx.last)
    gradients = [
        _gradient(grad, *ctx.saved_tensors, i, scale, ctx.samples, shape, last) if needed else None
        for i, (needed, scale, shape, last) in enumerate(layouts)
    ]
    return gradients, *[None] * 7


def _keep_boxes_of_level(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, *boxes, ctx.number, ctx.scale, ctx.samples, _, _ = inputs
    ctx.size = list(grad.shape[3:])
    ctx.save_for_backward(*boxes)


def _gradient_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    # pooling is linear in the maps, so the derivative of its gradient is the pooling of that level again
    boxes, level, clip, seen = ctx.saved_tensors
    own = torch.where(level == ctx.number, 0, -1)
    return _pool([grad], boxes, own, clip, seen, [ctx.scale], ctx.size, ctx.samples), *[None] * 9


_pool.register_autograd(_pool_backward, setup_context=_keep_boxes)
_gradient.register_autograd(_gradient_backward, setup_context=_keep_boxes_of_level)
