"""The Triton kernel of `decode_heatmaps`: one program for every heat map."""

# Triton has types of its own, and launch options that no kernel declares
# ruff: noqa: ANN001
# pyright: reportCallIssue=false, reportOperatorIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def decode_kernel(
    heatmaps,
    found,
    joints,
    height,
    width,
    stride_b,
    stride_j,
    stride_y,
    stride_x,
    SHIFT: tl.constexpr,
    FLAT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """x, y and value of the first maximum of one map. `FLAT` says that its cells lie one after the other."""
    real = found.dtype.element_ty
    number = tl.program_id(0).to(tl.int64)
    cells = heatmaps + (number // joints) * stride_b + (number % joints) * stride_j

    best = tl.full([BLOCK], float("-inf"), real)
    where = tl.zeros([BLOCK], tl.int32)
    unknown = tl.zeros([BLOCK], tl.int32)
    for start in range(0, height * width, BLOCK):
        cell = start + tl.arange(0, BLOCK)
        if FLAT:
            offset = cell
        else:
            offset = (cell // width).to(tl.int64) * stride_y + (cell % width).to(tl.int64) * stride_x
        value = tl.load(cells + offset, cell < height * width, float("-inf")).to(real)
        unknown |= (value != value).to(tl.int32)
        # the first of equal values stays; the comparison is false for a NaN
        where = tl.where(value > best, cell, where)
        best = tl.where(value > best, value, best)
    peak = tl.max(best)
    cell = tl.min(tl.where(best == peak, where, height * width))
    finite = (tl.max(unknown) == 0) & (tl.abs(peak) != float("inf"))
    y, x = cell // width, cell % width
    exact_x, exact_y = x.to(real), y.to(real)
    if SHIFT:
        inner = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        middle = cells + y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x
        before, after = tl.load(middle - stride_x, inner, 0.0), tl.load(middle + stride_x, inner, 0.0)
        exact_x += tl.where(after > before, 0.25, 0.0) - tl.where(after < before, 0.25, 0.0)
        before, after = tl.load(middle - stride_y, inner, 0.0), tl.load(middle + stride_y, inner, 0.0)
        exact_y += tl.where(after > before, 0.25, 0.0) - tl.where(after < before, 0.25, 0.0)
    positive = finite & (peak > 0)
    tl.store(found + 3 * number, tl.where(positive, exact_x, 0.0))
    tl.store(found + 3 * number + 1, tl.where(positive, exact_y, 0.0))
    tl.store(found + 3 * number + 2, tl.where(finite, peak, 0.0))


def decode(heatmaps: Tensor, quarter_shift: bool) -> Tensor:
    """`(B, J, 3)` x, y and maximum of heat maps `(B, J, h, w)` of less than 2^31 cells each."""
    batch, joints, height, width = heatmaps.shape
    dtype = torch.float64 if heatmaps.dtype == torch.float64 else torch.float32
    found = heatmaps.new_empty(batch, joints, 3, dtype=dtype)
    if found.numel() == 0:
        return found
    block = min(triton.next_power_of_2(height * width), 4096)
    with torch.cuda.device_of(heatmaps):
        decode_kernel[(batch * joints,)](
            heatmaps,
            found,
            joints,
            height,
            width,
            *heatmaps.stride(),
            SHIFT=quarter_shift,
            FLAT=heatmaps.stride(3) == 1 and heatmaps.stride(2) == width,
            BLOCK=block,
            # sixteen cells a thread, all of them under way at once
            num_warps=max(1, min(8, block // 512)),
            enable_fp_fusion=False,
        )
    return found
