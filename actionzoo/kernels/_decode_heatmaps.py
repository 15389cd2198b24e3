"""Where heat maps have their maxima: the rows' maxima in PyTorch, or one launch of a Triton kernel."""

import torch
from torch import Tensor

from ._switch import can_run


def decode_heatmaps(heatmaps: Tensor, quarter_shift: bool = False) -> Tensor:
    """The first maximum of every heat map: a kernel where it can run, the rows' maxima elsewhere.

    What `actionzoo.layers.decode_heatmaps` computes, bit by bit. The kernel is one launch that reads every cell once,
    for any strides. No gradient flows to the heat maps.

    Args:
        heatmaps: `(B, J, h, w)`.
        quarter_shift: Move x and y a quarter of a cell towards the higher neighbour, as in the layer.

    Returns:
        `(B, J, 3)` x and y in heat-map cells and the maximum, as in the layer; float32 for half-precision maps.

    Raises:
        ValueError: If heatmaps is not `(B, J, h, w)` with at least one cell.
        TypeError: If heatmaps is not floating point.
    """
    check_heatmaps(heatmaps)
    if can_run(heatmaps):
        return _decode_kernel(heatmaps.detach(), quarter_shift)
    return decode_rows(heatmaps, quarter_shift)


def check_heatmaps(heatmaps: Tensor) -> None:
    """Raise what `decode_heatmaps` documents."""
    if heatmaps.ndim != 4 or heatmaps.shape[2] < 1 or heatmaps.shape[3] < 1:
        raise ValueError(f"decode_heatmaps expects heat maps (B, J, h, w), got shape {tuple(heatmaps.shape)}")
    if not heatmaps.is_floating_point():
        raise TypeError(f"decode_heatmaps expects floating-point heat maps, got {heatmaps.dtype}; call .float() first")


def decode_rows(heatmaps: Tensor, quarter_shift: bool = False) -> Tensor:
    """The plain form, for heat maps that `check_heatmaps` has seen."""
    # in another layout the maxima of rows take longer than the copy
    heatmaps = heatmaps.detach().contiguous()
    batch, joints, height, width = heatmaps.shape
    # the maximum of every row first: several times faster than argmax over the flat map
    rows = heatmaps.view(-1, width)
    peak, y = rows.amax(1).view(batch, joints, height).max(2, keepdim=True)
    first_row = torch.arange(0, batch * joints * height, height, device=heatmaps.device).view(batch, joints, 1)
    row = rows.index_select(0, (first_row + y).flatten()).view(batch, joints, width)
    x = row.argmax(2, keepdim=True)

    # in half precision the cell numbers themselves would be rounded
    found = torch.cat([x, y, peak.to(torch.float64 if heatmaps.dtype == torch.float64 else torch.float32)], 2)
    if quarter_shift:
        column = heatmaps.gather(3, x[..., None].expand(-1, -1, height, 1)).squeeze(3)
        inner = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        shift = torch.cat([_uphill(row, x), _uphill(column, y), torch.zeros_like(x)], 2)
        found = torch.where(inner, found + shift * 0.25, found)
    finite = peak.isfinite()
    positive = finite & (peak > 0)
    return torch.where(torch.cat([positive, positive, finite], 2), found, 0.0)


def _uphill(line: Tensor, at: Tensor) -> Tensor:
    """Sign of `line[at + 1] - line[at - 1]`, 0 where they are equal, infinities included."""
    before = line.gather(2, (at - 1).clamp(min=0))
    after = line.gather(2, (at + 1).clamp(max=line.shape[2] - 1))
    return (after > before).long() - (after < before).long()


# A schema that is written out serves torch 2.4 too, which reads fewer annotations.
@torch.library.custom_op(
    "actionzoo::decode_heatmaps", mutates_args=(), schema="(Tensor heatmaps, bool quarter_shift) -> Tensor"
)
def _decode_kernel(heatmaps: Tensor, quarter_shift: bool) -> Tensor:
    from ._decode_heatmaps_triton import decode

    return decode(heatmaps, quarter_shift)


@_decode_kernel.register_fake
def _(heatmaps: Tensor, quarter_shift: bool) -> Tensor:
    dtype = torch.float64 if heatmaps.dtype == torch.float64 else torch.float32
    return heatmaps.new_empty(*heatmaps.shape[:2], 3, dtype=dtype)
