"""Linking by the overlap of boxes, which keypoints are compared with."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ._assignment import Tracks, to_numpy


def link_boxes(
    boxes: Sequence[Tensor], *, iou: float = 0.3, method: str = "hungarian", patience: int = 5
) -> list[Tensor]:
    """Give every box of every frame of a clip a track id, by its overlap with the boxes last seen.

    What `link_keypoints` is compared with: where people of one size cross, overlap cannot tell them apart.

    Args:
        boxes: For each frame `(n_t, 4)` xyxy in pixels. A box that is not finite or has no area overlaps nothing.
        iou: Smallest intersection over union of a link.
        method: As in `link_keypoints`, with 1 - IoU for the distance.
        patience: Frames that a track may miss in a row; it waits at the box last seen.

    Returns:
        For each frame `(n_t,)` int64 ids, no two alike in a frame, on the device of the boxes.

    Raises:
        ValueError: If a setting or a shape is wrong.
        TypeError: If a frame is not a tensor of numbers.
        ImportError: If scipy is missing and the method is `"hungarian"`.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou lies in (0, 1], got {iou!r}")
    tracks, last, linked = Tracks(method, patience), np.zeros((0, 4)), []
    for frame in boxes:
        found = to_numpy(frame, "boxes", (None, 4))
        found = np.where(np.isfinite(found).all(1, keepdims=True), found, np.nan)
        overlap = _overlap(last, found)
        ids, alive = tracks.step(1 - overlap, np.full(overlap.shape, 1 - iou))
        last = np.concatenate([last, found])[alive]
        linked.append(torch.from_numpy(ids).to(frame.device))
    return linked


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of (m, 4) and (n, 4) boxes, (m, n); NaN where a box is, or has no area."""
    corners = np.maximum(first[:, None, :2], second[None, :, :2]), np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (corners[1] - corners[0]).clip(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(-1) for boxes in (first, second)]
    areas = [np.where(area > 0, area, np.nan) for area in areas]
    return shared / (areas[0][:, None] + areas[1][None] - shared)
