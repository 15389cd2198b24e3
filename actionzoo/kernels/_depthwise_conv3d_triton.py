"""The Triton kernels of `depthwise_conv3d`: the convolution, and its gradients by input and by weight.

A tile is `BLOCK_W` cells of a row in `BLOCK_C` channels. Tensors may have any strides; what decides the speed is the
shape of the tile, which follows the axis that is contiguous in memory.
"""

# Triton has types of its own, launch options that no kernel declares, and no `*` in a tuple
# ruff: noqa: ANN001, RUF005
# pyright: reportCallIssue=false, reportAssignmentType=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._depthwise_conv3d import channels_last

CELLS = 256
"""Of a tile: two for each thread of four warps, so that the 27 weights of both stay in registers."""
PROGRAMS = 1024
"""As many share the work, where there is enough of it: about eight for each multiprocessor of an H200."""


@triton.jit
def _weights(weight, channel, channels, first, step: tl.constexpr):
    """The 3x3 weights of one frame, nine times `(1, BLOCK_C)`, from number `first` on in steps of 1 or -1."""
    taps = ()
    for k in tl.static_range(9):
        tap = tl.load(weight + channel * 27 + first + step * k, mask=channel < channels, other=0.0)
        taps = taps + (tap.to(tl.float32)[None, :],)
    return taps


@triton.jit
def _window(x, frame, top, frames, height, strides, lefts, seen, HEIGHT: tl.constexpr):
    """Three tiles `(BLOCK_W, BLOCK_C)`, one cell apart, for each of `HEIGHT` rows from `top` on; 0 outside the map."""
    cells = ()
    for i in tl.static_range(HEIGHT):
        row = top + i
        inside = (frame >= 0) & (frame < frames) & (row >= 0) & (row < height)
        line = x + tl.cast(frame, tl.int64) * strides[2] + tl.cast(row, tl.int64) * strides[3]
        for j in tl.static_range(3):
            # no `&`: of a block and a scalar, Triton's interpreter makes integers of it
            cell = tl.load(line + lefts[j], mask=tl.where(inside, seen[j], False), other=0.0)
            cells = cells + (cell.to(tl.float32),)
    return cells


@triton.jit
def _added(sums, cells, taps, ROWS: tl.constexpr, STRIDE_H: tl.constexpr):
    """Sums of `ROWS` rows of the output, with the products of one frame's window and its weights added."""
    result = ()
    for r in tl.static_range(ROWS):
        total = sums[r]
        for k in tl.static_range(9):
            total += cells[3 * STRIDE_H * r + k] * taps[k]
        result = result + (total,)
    return result


@triton.jit
def _lefts(column, channel, width, strides, there, STRIDE_W: tl.constexpr):
    """Offsets of the cells left of, at and right of those that a tile of the output is centred on."""
    lefts, seen = (), ()
    for j in tl.static_range(3):
        left = (column * STRIDE_W + j - 1)[:, None]
        lefts = lefts + (left.to(tl.int64) * strides[4] + channel.to(tl.int64)[None, :] * strides[1],)
        seen = seen + (there & (left >= 0) & (left < width),)
    return lefts, seen


@triton.jit
def convolve_kernel(
    x,
    weight,
    bias,
    out,
    channels,
    size,
    out_size,
    strides,
    out_strides,
    STRIDE_T: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    FLIPPED: tl.constexpr,
    STRIP: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """`ROWS` rows of a tile in `STRIP` frames of the output.

    The program walks along time: a frame of the input is loaded once for all frames of the output that see it, and a
    row of it once for all rows that do.

    Grid: (clips x strips x rows x tiles of a row, the last fastest; blocks of channels).
    """
    tiles, rows, strips = tl.cdiv(out_size[2], BLOCK_W), tl.cdiv(out_size[1], ROWS), tl.cdiv(out_size[0], STRIP)
    rest, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    rest, top = rest // rows, rest % rows * ROWS
    clip, first = (rest // strips).to(tl.int64), rest % strips * STRIP
    x += clip * strides[0]
    out += clip * out_strides[0]
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    column = tile * BLOCK_W + tl.arange(0, BLOCK_W)
    there = (column < out_size[2])[:, None] & (channel < channels)[None, :]
    lefts, seen = _lefts(column, channel, size[2], strides, there, STRIDE_W)
    out += column.to(tl.int64)[:, None] * out_strides[4] + channel.to(tl.int64)[None, :] * out_strides[1]

    step: tl.constexpr = -1 if FLIPPED else 1
    past = _weights(weight, channel, channels, 26 if FLIPPED else 0, step)
    present = _weights(weight, channel, channels, 17 if FLIPPED else 9, step)
    future = _weights(weight, channel, channels, 8 if FLIPPED else 18, step)
    shift = tl.zeros([1, BLOCK_C], tl.float32)
    if bias is not None:
        shift += tl.load(bias + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]

    HEIGHT: tl.constexpr = STRIDE_H * (ROWS - 1) + 3
    x_top = STRIDE_H * top - 1
    zeros = (tl.zeros([BLOCK_W, BLOCK_C], tl.float32),) * ROWS
    # sums of two frames of the output: the one that the walk completes next, and the one after it
    cells = _window(x, STRIDE_T * first - 1, x_top, size[0], size[1], strides, lefts, seen, HEIGHT)
    sums, later = _added(zeros, cells, past, ROWS, STRIDE_H), zeros
    if STRIDE_T == 1:
        cells = _window(x, first, x_top, size[0], size[1], strides, lefts, seen, HEIGHT)
        sums = _added(sums, cells, present, ROWS, STRIDE_H)
        later = _added(zeros, cells, past, ROWS, STRIDE_H)
    for frame in range(first, tl.minimum(first + STRIP, out_size[0])):
        if STRIDE_T == 2:
            cells = _window(x, 2 * frame, x_top, size[0], size[1], strides, lefts, seen, HEIGHT)
            sums = _added(sums, cells, present, ROWS, STRIDE_H)
        cells = _window(x, STRIDE_T * frame + 1, x_top, size[0], size[1], strides, lefts, seen, HEIGHT)
        sums = _added(sums, cells, future, ROWS, STRIDE_H)
        for r in tl.static_range(ROWS):
            row = tl.cast(top + r, tl.int64)
            line = out + tl.cast(frame, tl.int64) * out_strides[2] + row * out_strides[3]
            tl.store(line, sums[r] + shift, mask=tl.where(row < out_size[1], there, False))
        if STRIDE_T == 2:
            sums = _added(zeros, cells, past, ROWS, STRIDE_H)
        else:
            sums = _added(later, cells, present, ROWS, STRIDE_H)
            later = _added(zeros, cells, past, ROWS, STRIDE_H)


@triton.jit
def input_gradient_kernel(
    grad,
    weight,
    out,
    channels,
    size,
    grad_size,
    strides,
    grad_strides,
    STRIDE_T: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """A tile of the gradient of the input for any stride: what each output cell that sees it gives back.

    Grid: (clips x frames x rows x tiles of a row of the input, the last fastest; blocks of channels).
    """
    tiles = tl.cdiv(size[2], BLOCK_W)
    rest, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    rest, row = rest // size[1], rest % size[1]
    clip, frame = (rest // size[0]).to(tl.int64), rest % size[0]
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    column = tile * BLOCK_W + tl.arange(0, BLOCK_W)
    there = (column < size[2])[:, None] & (channel < channels)[None, :]
    grad += clip * grad_strides[0] + channel.to(tl.int64)[None, :] * grad_strides[1]
    total = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)
    for k in tl.static_range(27):
        t, h, w = frame + 1 - k // 9, row + 1 - k // 3 % 3, (column + 1 - k % 3)[:, None]
        whole = (t >= 0) & (t % STRIDE_T == 0) & (h >= 0) & (h % STRIDE_H == 0)
        seen = there & (w >= 0) & (w % STRIDE_W == 0) & (w // STRIDE_W < grad_size[2])
        t, h, w = t // STRIDE_T, h // STRIDE_H, w // STRIDE_W
        seen = tl.where(whole & (t < grad_size[0]) & (h < grad_size[1]), seen, False)
        cell = grad + t.to(tl.int64) * grad_strides[2] + h.to(tl.int64) * grad_strides[3]
        cell += w.to(tl.int64) * grad_strides[4]
        tap = tl.load(weight + channel * 27 + k, mask=channel < channels, other=0.0).to(tl.float32)
        total += tl.load(cell, mask=seen, other=0.0).to(tl.float32) * tap[None, :]
    line = out + clip * strides[0] + tl.cast(frame, tl.int64) * strides[2] + tl.cast(row, tl.int64) * strides[3]
    line += column.to(tl.int64)[:, None] * strides[4]
    tl.store(line + channel.to(tl.int64)[None, :] * strides[1], total, mask=there)


@triton.jit
def _gradient_tile(grad, frame, frames, stride, there):
    inside = (frame >= 0) & (frame < frames)
    cell = grad + tl.cast(frame, tl.int64) * stride
    return tl.load(cell, mask=tl.where(inside, there, False), other=0.0).to(tl.float32)


@triton.jit
def _weighted(sums, cells, upstream):
    """Sums for the nine weights of one frame, with the products of a window and one gradient added."""
    result = ()
    for k in tl.static_range(9):
        result = result + (sums[k] + cells[k] * upstream,)
    return result


@triton.jit(do_not_specialize=["walks", "strip"])
def weight_gradient_kernel(
    grad,
    x,
    sums,
    channels,
    walks,
    strip,
    size,
    grad_size,
    strides,
    grad_strides,
    STRIDE_T: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The weights' gradients of a block of channels, summed over every so-and-so-many-th of `walks` along time.

    A walk is a tile of the output in `strip` frames, and each frame of the input is loaded once for all the frames
    of the output that see it.

    Grid: (parts, blocks of channels). `sums` is `(parts, 27, channels)`.
    """
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    tiles, strips = tl.cdiv(grad_size[2], BLOCK_W), tl.cdiv(grad_size[0], strip)
    past = (tl.zeros([BLOCK_W, BLOCK_C], tl.float32),) * 9
    present, future = past, past
    for number in range(tl.program_id(0), walks, tl.num_programs(0)):
        rest, tile = number // tiles, number % tiles
        rest, row = rest // grad_size[1], rest % grad_size[1]
        clip, first = tl.cast(rest // strips, tl.int64), rest % strips * strip
        column = tile * BLOCK_W + tl.arange(0, BLOCK_W)
        there = (column < grad_size[2])[:, None] & (channel < channels)[None, :]
        lefts, seen = _lefts(column, channel, size[2], strides, there, STRIDE_W)
        source, top = x + clip * strides[0], STRIDE_H * row - 1
        line = grad + clip * grad_strides[0] + tl.cast(row, tl.int64) * grad_strides[3]
        line += column.to(tl.int64)[:, None] * grad_strides[4] + channel.to(tl.int64)[None, :] * grad_strides[1]
        before = _gradient_tile(line, first - 1, grad_size[0], grad_strides[2], there)
        now = _gradient_tile(line, first, grad_size[0], grad_strides[2], there)
        for frame in range(first, tl.minimum(first + strip, grad_size[0])):
            after = _gradient_tile(line, frame + 1, grad_size[0], grad_strides[2], there)
            cells = _window(source, STRIDE_T * frame, top, size[0], size[1], strides, lefts, seen, 3)
            present = _weighted(present, cells, now)
            if STRIDE_T == 2:
                cells = _window(source, 2 * frame + 1, top, size[0], size[1], strides, lefts, seen, 3)
                future = _weighted(future, cells, now)
            else:
                future = _weighted(future, cells, before)
            past = _weighted(past, cells, after)
            before, now = now, after
    totals = past + present + future
    for k in tl.static_range(27):
        line = sums + (tl.program_id(0).to(tl.int64) * 27 + k) * channels
        tl.store(line + channel, tl.sum(totals[k], 0), mask=channel < channels)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], out: Tensor) -> Tensor:
    """Fill and return `out`, `(N, C, T', H', W')`, from `x` `(N, C, T, H, W)`."""
    return _convolve(x, weight, bias, stride, out, flipped=False)


def input_gradient(grad: Tensor, weight: Tensor, stride: Sequence[int], out: Tensor) -> Tensor:
    """Fill and return `out`, the gradient of the input `(N, C, T, H, W)`, from that of the output."""
    if max(stride) == 1:
        return _convolve(grad, weight, None, stride, out, flipped=True)
    if out.numel() == 0:
        return out
    clips, channels, frames, height, width = out.shape
    block_w, block_c = _tile(out, width)
    grid = (clips * frames * height * triton.cdiv(width, block_w), triton.cdiv(channels, block_c))
    with torch.cuda.device_of(out):
        input_gradient_kernel[grid](
            grad,
            weight.contiguous(),
            out,
            channels,
            tuple(out.shape[2:]),
            tuple(grad.shape[2:]),
            out.stride(),
            grad.stride(),
            *stride,
            BLOCK_W=block_w,
            BLOCK_C=block_c,
            num_warps=_warps(block_w * block_c),
            enable_fp_fusion=True,
        )
    return out


def weight_gradient(grad: Tensor, x: Tensor, stride: Sequence[int]) -> Tensor:
    """Gradient `(C, 1, 3, 3, 3)` of the weight in float32: parts, and the sum of them in one order."""
    clips, channels, frames, height, width = grad.shape
    block_w, block_c = _tile(x, width)
    tiles, blocks = clips * height * triton.cdiv(width, block_w), triton.cdiv(channels, block_c)
    strip = next((s for s in (32, 16) if tiles * blocks * triton.cdiv(frames, s) >= PROGRAMS), 8)
    walks = tiles * triton.cdiv(frames, strip)
    # no more parts than make it cheap to read them again, and all of as many walks
    parts = triton.cdiv(walks, max(1, triton.cdiv(walks, max(1, PROGRAMS // blocks))))
    sums = torch.empty(parts, 27, channels, dtype=torch.float32, device=grad.device)
    if sums.numel():
        with torch.cuda.device_of(grad):
            weight_gradient_kernel[(parts, blocks)](
                grad,
                x,
                sums,
                channels,
                walks,
                strip,
                tuple(x.shape[2:]),
                tuple(grad.shape[2:]),
                x.stride(),
                grad.stride(),
                *stride,
                BLOCK_W=block_w,
                BLOCK_C=block_c,
                num_warps=_warps(block_w * block_c),
                enable_fp_fusion=True,
            )
    return sums.sum(0).t().contiguous().view(channels, 1, 3, 3, 3)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], out: Tensor, flipped: bool
) -> Tensor:
    if out.numel() == 0:
        return out
    clips, channels, frames, height, width = out.shape
    block_w, block_c = _tile(out, width)
    rows = min(2, height)
    tiles, blocks = clips * triton.cdiv(height, rows) * triton.cdiv(width, block_w), triton.cdiv(channels, block_c)
    # a strip reads a frame or two more than it writes: long ones, but enough of them
    strip = next((s for s in (16, 8) if tiles * blocks * triton.cdiv(frames, s) >= PROGRAMS // 2), 4)
    with torch.cuda.device_of(out):
        convolve_kernel[(tiles * triton.cdiv(frames, strip), blocks)](
            x,
            weight.contiguous(),
            None if bias is None else bias.contiguous(),
            out,
            channels,
            tuple(x.shape[2:]),
            tuple(out.shape[2:]),
            x.stride(),
            out.stride(),
            *stride,
            FLIPPED=flipped,
            STRIP=strip,
            ROWS=rows,
            BLOCK_W=block_w,
            BLOCK_C=block_c,
            num_warps=_warps(block_w * block_c),
            enable_fp_fusion=True,
        )
    return out


def _tile(like: Tensor, width: int) -> tuple[int, int]:
    """Cells of a row and channels of a tile: long along what is contiguous in memory."""
    channels = like.shape[1]
    if channels_last(like):
        block_c = min(CELLS // 4, triton.next_power_of_2(channels))
        return min(CELLS // block_c, triton.next_power_of_2(width)), block_c
    block_w = min(CELLS // 4, triton.next_power_of_2(width))
    return block_w, min(CELLS // block_w, triton.next_power_of_2(channels))


def _warps(cells: int) -> int:
    return max(1, min(4, cells // 64))
