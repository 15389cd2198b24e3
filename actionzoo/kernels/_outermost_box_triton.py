"""The Triton kernels of `outermost_box`: `A_y X A_x^T` of every person, and its gradient, gathered cell by cell.

A program has one row, of bins or of cells, in many planes at once, which are the frames and channels. Along y it adds
up a handful of rows, each times one number. Neither matrix is stored: both come from the box.
"""

# Triton has types of its own, and launch options that no kernel declares
# ruff: noqa: ANN001
# pyright: reportCallIssue=false, reportAssignmentType=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._outermost_box import channels_last


@triton.jit(do_not_specialize=["frames", "first_level", "levels"])
def window_kernel(
    boxes,
    valid,
    used,
    level,
    seen,
    frames,
    canonical_scale,
    canonical_level,
    first_level,
    levels,
    BLOCK: tl.constexpr,
):
    """Outermost box, level and presence of one track. Grid: people."""
    person = tl.program_id(0).to(tl.int64)
    x1, x2 = tl.full([BLOCK], float("inf"), tl.float32), tl.full([BLOCK], -float("inf"), tl.float32)
    y1, y2 = x1, x2
    for start in range(0, frames, BLOCK):
        frame = start + tl.arange(0, BLOCK)
        there = frame < frames
        corner = boxes + 4 * (person * frames + frame)
        left, top = tl.load(corner, there, 0.0), tl.load(corner + 1, there, 0.0)
        right, bottom = tl.load(corner + 2, there, 0.0), tl.load(corner + 3, there, 0.0)
        found = there & (tl.load(valid + person * frames + frame, there, 0) != 0)
        # a NaN is not smaller either
        found = found & (tl.abs(left) < float("inf")) & (tl.abs(top) < float("inf"))
        found = found & (tl.abs(right) < float("inf")) & (tl.abs(bottom) < float("inf"))
        x1, y1 = tl.where(found, tl.minimum(x1, left), x1), tl.where(found, tl.minimum(y1, top), y1)
        x2, y2 = tl.where(found, tl.maximum(x2, right), x2), tl.where(found, tl.maximum(y2, bottom), y2)
    x_low, y_low = tl.min(x1, 0), tl.min(y1, 0)
    exists = x_low < float("inf")
    x_low, y_low = tl.where(exists, x_low, 0.0), tl.where(exists, y_low, 0.0)
    x_high = tl.where(exists, tl.maximum(tl.max(x2, 0), x_low + 1), 0.0)
    y_high = tl.where(exists, tl.maximum(tl.max(y2, 0), y_low + 1), 0.0)
    area = tl.where(exists, (x_high - x_low) * (y_high - y_low), 1.0)
    own = tl.floor(canonical_level + tl.log2(tl.div_rn(tl.sqrt_rn(area), canonical_scale)) + 1e-6) - first_level
    own = tl.where(exists, tl.minimum(tl.maximum(own, 0.0), levels - 1.0), 0.0)
    tl.store(used + 4 * person, x_low)
    tl.store(used + 4 * person + 1, y_low)
    tl.store(used + 4 * person + 2, x_high)
    tl.store(used + 4 * person + 3, y_high)
    tl.store(level + person, own.to(tl.int64))
    tl.store(seen + person, exists)


@triton.jit
def _bins(start, stop, scale, BINS: tl.constexpr):
    """Where a box begins along one axis, and how long its bins are, in cells."""
    low = start * scale - 0.5
    return low, tl.div_rn(stop * scale - 0.5 - low, BINS + 0.0)


@triton.jit
def _point(low, step, cells, bins, sample: tl.constexpr, SAMPLES: tl.constexpr):
    """A sample of each bin in cells, moved into the map where it counts, and whether it does.

    RoIAlign's rule for the border: up to one cell outside the map a sample takes the border's value, beyond that 0.
    """
    point = low + bins * step + (sample + 0.5) * step / SAMPLES
    inside = (point >= -1) & (point <= cells)
    return tl.minimum(tl.maximum(tl.where(inside, point, 0.0), 0.0), cells - 1.0), inside


@triton.jit
def _covered(low, step, cells, bins, BINS: tl.constexpr, SAMPLES: tl.constexpr):
    """First cell that the samples of a box read, and one past the last; 0 and 0 where none counts."""
    first, last = tl.zeros_like(bins) + float("inf"), tl.zeros_like(bins) - float("inf")
    for sample in tl.static_range(SAMPLES):
        point, inside = _point(low, step, cells, bins, sample, SAMPLES)
        inside = inside & (bins < BINS)
        first = tl.where(inside, tl.minimum(first, point), first)
        last = tl.where(inside, tl.maximum(last, point), last)
    begin, end = tl.min(first, 0), tl.max(last, 0)
    begin, end = tl.where(begin <= end, tl.floor(begin), 0.0), tl.where(begin <= end, tl.ceil(end) + 1, 0.0)
    return begin.to(tl.int32), end.to(tl.int32)


@triton.jit(do_not_specialize=["clips", "frames"])
def pool_kernel(
    maps,
    heights,
    widths,
    scales,
    boxes,
    level,
    clip,
    seen,
    out,
    clips,
    frames,
    channels,
    BINS_Y: tl.constexpr,
    BINS_X: tl.constexpr,
    SAMPLES: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """One row of one person's bins in `BLOCK_P` planes. Grid: people x blocks of planes x rows, the last fastest."""
    row, rest = tl.program_id(0) % BINS_Y, tl.program_id(0) // BINS_Y
    blocks = tl.cdiv(frames * channels, BLOCK_P)
    block, person = rest % blocks * BLOCK_P, (rest // blocks).to(tl.int64)
    own, source = tl.load(level + person), tl.load(clip + person)
    there = tl.load(seen + person) & (own >= 0) & (own < len(maps))
    x1, y1 = tl.load(boxes + 4 * person), tl.load(boxes + 4 * person + 1)
    x2, y2 = tl.load(boxes + 4 * person + 2), tl.load(boxes + 4 * person + 3)
    cells, height, width, scale = maps[0], heights[0], widths[0], scales[0]
    for i in tl.static_range(1, len(maps)):
        cells = tl.where(own == i, maps[i], cells)
        height, width = tl.where(own == i, heights[i], height), tl.where(own == i, widths[i], width)
        scale = tl.where(own == i, scales[i], scale)
    known = (source >= 0) & (source < clips)
    x_low, x_step = _bins(x1, x2, scale, BINS_X)
    y_low, y_step = _bins(y1, y2, scale, BINS_Y)
    bins = tl.arange(0, BLOCK_X)
    left, right = _covered(x_low, x_step, width, bins.to(tl.float32), BINS_X, SAMPLES)
    # nothing is read of a clip that does not exist, nor for a person who was not seen or has no map
    right = tl.where(there & known, right, left)

    plane = block + tl.arange(0, BLOCK_P)
    frame, channel = plane // channels, plane % channels
    plane_there = (plane < frames * channels)[:, None]
    cells += tl.where(known, source, 0) * frames * channels * height * width
    if LAST:
        lines, apart = (frame.to(tl.int64) * height * width * channels + channel)[:, None], channels
    else:
        # 32 bits do for the planes of a block, and halve the arithmetic
        cells += block.to(tl.int64) * height * width
        lines, apart = ((plane - block) * height * width)[:, None], 1

    total = tl.zeros([BLOCK_P, BLOCK_X], tl.float32)
    for start in range(left, right, BLOCK_W):
        column = (start + tl.arange(0, BLOCK_W))[None, :]
        sums = tl.zeros([BLOCK_P, BLOCK_W], tl.float32)
        for sample in tl.static_range(SAMPLES):
            y, counts = _point(y_low, y_step, height, row, sample, SAMPLES)
            above = tl.floor(y)
            for tap in tl.static_range(2):
                weight = (y - above if tap else 1 - (y - above)) / SAMPLES
                # a row of no weight is not read: it may lie outside the map, or hold a NaN outside the box
                reads = tl.where(counts & (weight > 0), plane_there & (column < right), False)
                line = cells + (above.to(tl.int64) + tap) * width * apart
                sums += weight * tl.load(line + (lines + column * apart), mask=reads, other=0.0).to(tl.float32)
        for sample in tl.static_range(SAMPLES):
            x, counts = _point(x_low, x_step, width, bins, sample, SAMPLES)
            before = tl.floor(x)
            for tap in tl.static_range(2):
                weight = (x - before if tap else 1 - (x - before)) / SAMPLES
                at = before.to(tl.int32) + tap - start
                weight = tl.where(counts & (at >= 0) & (at < BLOCK_W), weight, 0.0)
                at = tl.minimum(tl.maximum(at, 0), BLOCK_W - 1)
                total += weight[None, :] * tl.gather(sums, tl.broadcast_to(at[None, :], BLOCK_P, BLOCK_X), 1)
    # the host, had it looked, would have raised
    total += tl.where(there & (known == 0), float("nan"), 0.0)
    place = ((person * channels + channel) * frames + frame) * BINS_Y + row
    tl.store(out + (place * BINS_X)[:, None] + bins[None, :], total, mask=plane_there & (bins < BINS_X)[None, :])


@triton.jit(do_not_specialize=["number", "people", "frames"])
def gradient_kernel(
    grad,
    boxes,
    level,
    clip,
    seen,
    out,
    number,
    scale,
    people,
    frames,
    channels,
    height,
    width,
    BINS_Y: tl.constexpr,
    BINS_X: tl.constexpr,
    SAMPLES: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """The gradient of `BLOCK_W` cells of a row of map `number` in `BLOCK_P` planes: what all people give to it.

    Grid: clips x blocks of planes x rows x blocks of a row, the last fastest.
    """
    chunks, blocks = tl.cdiv(width, BLOCK_W), tl.cdiv(frames * channels, BLOCK_P)
    rest, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    rest, row = rest // height, rest % height
    source, block = (rest // blocks).to(tl.int64), rest % blocks
    plane = block * BLOCK_P + tl.arange(0, BLOCK_P)
    frame, channel = plane // channels, plane % channels
    plane_there = (plane < frames * channels)[:, None]
    column = (chunk * BLOCK_W + tl.arange(0, BLOCK_W))[None, :]
    bins = tl.arange(0, BLOCK_X)

    total = tl.zeros([BLOCK_P, BLOCK_W], tl.float32)
    for person in range(people):
        if (tl.load(level + person) == number) & (tl.load(clip + person) == source) & tl.load(seen + person):
            x_low, x_step = _bins(tl.load(boxes + 4 * person), tl.load(boxes + 4 * person + 2), scale, BINS_X)
            y_low, y_step = _bins(tl.load(boxes + 4 * person + 1), tl.load(boxes + 4 * person + 3), scale, BINS_Y)
            left, right = _covered(x_low, x_step, width, bins.to(tl.float32), BINS_X, SAMPLES)
            if (chunk * BLOCK_W < right) & (chunk * BLOCK_W + BLOCK_W > left):
                pooled = grad + tl.cast(person, tl.int64) * channels * frames * BINS_Y * BINS_X
                pooled += ((channel.to(tl.int64) * frames + frame) * BINS_Y * BINS_X)[:, None] + bins[None, :]
                sums = tl.zeros([BLOCK_P, BLOCK_X], tl.float32)
                for bin_row in range(BINS_Y):
                    weight = 0.0
                    for sample in tl.static_range(SAMPLES):
                        y, counts = _point(y_low, y_step, height, bin_row, sample, SAMPLES)
                        weight += tl.where(counts, tl.maximum(1 - tl.abs(y - row), 0.0), 0.0) / SAMPLES
                    if weight > 0:
                        reads = plane_there & (bins < BINS_X)[None, :]
                        sums += weight * tl.load(pooled + bin_row * BINS_X, mask=reads, other=0.0).to(tl.float32)
                weights = tl.zeros([BLOCK_X, BLOCK_W], tl.float32)
                for sample in tl.static_range(SAMPLES):
                    x, inside = _point(x_low, x_step, width, bins[:, None], sample, SAMPLES)
                    weights += tl.where(inside, tl.maximum(1 - tl.abs(x - column), 0.0), 0.0) / SAMPLES
                # three products in TF32 are as good as one in float32
                product = tl.dot(sums, weights, input_precision="tf32x3")
                total += tl.where((column >= left) & (column < right), product, 0.0)
    if LAST:
        lines, apart = ((source * frames + frame) * height * width * channels + channel)[:, None], channels
    else:
        lines, apart = ((source * frames * channels + plane) * height * width)[:, None], 1
    place = lines + (tl.cast(row, tl.int64) * width + column) * apart
    tl.store(out + place, total, mask=plane_there & (column < width))


def windows(
    boxes: Tensor, valid: Tensor, canonical_scale: float, canonical_level: int, first_level: int, levels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Outermost boxes `(N, 4)`, levels `(N,)` and presence `(N,)` of tracks `(N, T, 4)` and `(N, T)`."""
    people, frames = valid.shape
    used, level = boxes.new_empty(people, 4), boxes.new_empty(people, dtype=torch.int64)
    seen = boxes.new_empty(people, dtype=torch.bool)
    if people:
        with torch.cuda.device_of(boxes):
            window_kernel[(people,)](
                boxes.contiguous(),
                valid.contiguous(),
                used,
                level,
                seen,
                frames,
                float(canonical_scale),
                float(canonical_level),
                first_level,
                levels,
                BLOCK=32,
                num_warps=1,
                enable_fp_fusion=False,
            )
    return used, level, seen


def pool(
    maps: Sequence[Tensor],
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    scales: Sequence[float],
    size: Sequence[int],
    samples: int,
) -> Tensor:
    """Pooled `(N, C, T, R_y, R_x)` from maps `(B, T, C, h, w)` of one dtype; the rest as in `outermost_box`."""
    clips, frames, channels = maps[0].shape[:3]
    out = maps[0].new_empty(boxes.shape[0], channels, frames, *size)
    if out.numel() == 0:
        return out
    last = all(map(channels_last, maps))
    block_x = max(16, triton.next_power_of_2(size[1]))
    block_p = 64 if block_x <= 32 else 16
    blocks = triton.cdiv(frames * channels, block_p)
    with torch.cuda.device_of(out):
        pool_kernel[(boxes.shape[0] * blocks * size[0],)](
            tuple(m if last else m.contiguous() for m in maps),
            tuple(m.shape[3] for m in maps),
            tuple(m.shape[4] for m in maps),
            tuple(scales),
            boxes.float().contiguous(),
            level.contiguous(),
            clip.contiguous(),
            seen.contiguous(),
            out,
            clips,
            frames,
            channels,
            BINS_Y=size[0],
            BINS_X=size[1],
            SAMPLES=samples,
            LAST=last,
            BLOCK_P=block_p,
            BLOCK_X=block_x,
            BLOCK_W=32,
            num_warps=4,
            num_stages=1,
            enable_fp_fusion=True,
        )
    return out


def gradient(
    grad: Tensor,
    boxes: Tensor,
    level: Tensor,
    clip: Tensor,
    seen: Tensor,
    number: int,
    scale: float,
    samples: int,
    out: Tensor,
) -> Tensor:
    """Fill and return `out` `(B, T, C, h, w)`, the gradient of map `number`, from that of the pooled maps."""
    if out.numel() == 0:
        return out
    clips, frames, channels, height, width = out.shape
    bins_y, bins_x = grad.shape[3:]
    block_p, block_w = 32, max(16, min(128, triton.next_power_of_2(width)))
    programs = triton.cdiv(width, block_w) * height * triton.cdiv(frames * channels, block_p) * clips
    with torch.cuda.device_of(out):
        gradient_kernel[(programs,)](
            grad.contiguous(),
            boxes.float().contiguous(),
            level.contiguous(),
            clip.contiguous(),
            seen.contiguous(),
            out,
            number,
            scale,
            boxes.shape[0],
            frames,
            channels,
            height,
            width,
            BINS_Y=bins_y,
            BINS_X=bins_x,
            SAMPLES=samples,
            LAST=channels_last(out),
            BLOCK_P=block_p,
            BLOCK_X=max(16, triton.next_power_of_2(bins_x)),
            BLOCK_W=block_w,
            num_warps=4,
            num_stages=1,
            enable_fp_fusion=True,
        )
    return out
