"""Joint heat maps of HRNet (Sun et al., CVPR 2019, and its public code): targets, decoding, flipping."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import kernels
from ..kernels._decode_heatmaps import check_heatmaps, decode_rows

MPII_JOINTS = (
    "right_ankle",
    "right_knee",
    "right_hip",
    "left_hip",
    "left_knee",
    "left_ankle",
    "pelvis",
    "thorax",
    "upper_neck",
    "head_top",
    "right_wrist",
    "right_elbow",
    "right_shoulder",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
)
COCO_JOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
MPII_FLIP_PAIRS = ((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13))
COCO_FLIP_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))


def encode_heatmaps(joints: Tensor, size: int | tuple[int, int], sigma: float = 2.0) -> tuple[Tensor, Tensor]:
    """Training targets: one Gaussian of peak 1 per joint, centred on the nearest cell.

    HRNet's `generate_target`: `exp(-d^2 / (2 sigma^2))` at distance d from the cell `int(x + 0.5), int(y + 0.5)`,
    cut to the square of `3 sigma` cells on every side. As there, a joint outside the map counts as long as its
    square reaches the map, or ends right before the first row or column. No gradient flows to the joints.

    Args:
        joints: `(B, J, 2)` x, y in heat-map cells, or `(B, J, 3)` with a visibility or score.
        size: `(h, w)` of the maps in cells; one number for both.
        sigma: Standard deviation in cells.

    Returns:
        `(B, J, h, w)` heat maps and `(B, J)` weights: 1, or 0 (and an empty map) for a joint whose third entry is
        0 or below, whose square misses the map, or that holds a NaN. Both in the dtype of `joints` where that is
        floating point.

    Raises:
        ValueError: If a shape is wrong, the size is below one cell, or sigma is not positive.
    """
    if joints.ndim != 3 or joints.shape[2] not in (2, 3):
        raise ValueError(f"encode_heatmaps expects joints (B, J, 2) or (B, J, 3), got shape {tuple(joints.shape)}")
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"encode_heatmaps expects a size of at least one cell, got {(height, width)}")
    if not sigma > 0:
        raise ValueError(f"sigma is a standard deviation in cells, above 0, got {sigma}")
    out_dtype = joints.dtype if joints.is_floating_point() else torch.float32
    # in half precision the cell numbers themselves would be rounded
    joints = joints.detach().to(torch.float64 if joints.dtype == torch.float64 else torch.float32)

    radius = math.floor(3 * sigma)
    # int() rounds towards zero, as trunc does
    cells = (joints[..., :2] + 0.5).trunc()
    # NaN fails every comparison
    before_end = (cells[..., 0] - radius < width) & (cells[..., 1] - radius < height)
    visible = before_end & (cells + radius + 1 >= 0).all(2)
    if joints.shape[2] == 3:
        visible = visible & (joints[..., 2] > 0)

    def profile(axis: int, length: int) -> Tensor:
        distance = torch.arange(length, device=joints.device, dtype=joints.dtype) - cells[..., axis, None]
        inside = visible[..., None] & (distance.abs() <= radius)
        return torch.where(inside, torch.exp(-(distance**2) / (2 * sigma**2)), 0.0)

    heatmaps = profile(1, height)[..., :, None] * profile(0, width)[..., None, :]
    return heatmaps.to(out_dtype), visible.to(out_dtype)


def decode_heatmaps(heatmaps: Tensor, quarter_shift: bool = False) -> Tensor:
    """Where every heat map has its maximum: HRNet's `get_max_preds`, and the shift of `get_final_preds`.

    The first of several equal maxima counts, row by row. No gradient flows to the heat maps. Inside
    `actionzoo.kernels.use_kernels` it is one launch of a Triton kernel.

    Args:
        heatmaps: `(B, J, h, w)`.
        quarter_shift: Move x and y a quarter of a cell towards the higher neighbour, where the maximum has two
            cells or more before it and one or more after it on both axes (HRNet's condition).

    Returns:
        `(B, J, 3)` x and y in heat-map cells and the maximum, float32 for half-precision maps. A joint whose
        maximum is 0 or below is missing and reads x = y = 0; one whose maximum is not finite (a NaN anywhere in
        the map is enough) reads 0, 0, 0.

    Raises:
        ValueError: If heatmaps is not `(B, J, h, w)` with at least one cell.
        TypeError: If heatmaps is not floating point.
    """
    check_heatmaps(heatmaps)
    if kernels.active("decode_heatmaps", heatmaps):
        return kernels.decode_heatmaps(heatmaps, quarter_shift)
    return decode_rows(heatmaps, quarter_shift)


def flip_heatmaps(heatmaps: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Heat maps `(..., J, h, w)` of the mirrored image: columns reversed, left and right joints exchanged.

    Args:
        heatmaps: `(..., J, h, w)`.
        pairs: Joint indices to exchange, such as `MPII_FLIP_PAIRS`.

    Raises:
        ValueError: If heatmaps has fewer than three axes, or a pair names a joint that is not there.
    """
    if heatmaps.ndim < 3:
        raise ValueError(f"flip_heatmaps expects heat maps (..., J, h, w), got shape {tuple(heatmaps.shape)}")
    return _exchange(heatmaps.flip(-1), pairs, -3)


def flip_joints(joints: Tensor, width: float, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Joints of the mirrored image: `x -> width - 1 - x`, left and right joints exchanged.

    Args:
        joints: `(..., J, 2)` x, y or `(..., J, 3)` with a score. A missing joint, which `decode_heatmaps` puts at
            0, 0 with a score of 0 or below, stays there.
        width: Width of the image (or heat map) in pixels (or cells) of the joints.
        pairs: Joint indices to exchange, such as `MPII_FLIP_PAIRS`.

    Raises:
        ValueError: If joints is not `(..., J, 2)` or `(..., J, 3)`, or a pair names a joint that is not there.
    """
    if joints.ndim < 2 or joints.shape[-1] not in (2, 3):
        raise ValueError(f"flip_joints expects joints (..., J, 2) or (..., J, 3), got shape {tuple(joints.shape)}")
    x = width - 1 - joints[..., :1]
    if joints.shape[-1] == 3:
        missing = (joints[..., :2] == 0).all(-1, keepdim=True) & (joints[..., 2:] <= 0)
        x = torch.where(missing, joints[..., :1], x)
    return _exchange(torch.cat([x, joints[..., 1:]], -1), pairs, -2)


def _exchange(x: Tensor, pairs: Sequence[tuple[int, int]], dim: int) -> Tensor:
    order = list(range(x.shape[dim]))
    for left, right in pairs:
        if not (0 <= left < len(order) and 0 <= right < len(order)):
            raise ValueError(f"the flip pair {(left, right)} is not among {len(order)} joints")
        order[left], order[right] = right, left
    # stacked views need no index tensor, which would have to be copied to the device
    return torch.stack([x.select(dim, joint) for joint in order], dim)
