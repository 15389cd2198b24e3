"""What is true of a drawn scene: visibility, boxes, joints."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from .body import COCO_POINTS, INDEX, MPII_POINTS, POINTS
from .limbs import LIMB, PART_LIMBS
from .strokes import FIRST_OWNER, OWNERS_EACH, head_middle, on_face

_TORSO = ("shoulders", "hips", "spine", "throat")
# limbs that show a point when they are on top of it; other points, such as finger tips, are never visible
_SHOWN_BY = {
    **{
        f"{side}_{point}": (*(f"{side}_{limb}" for limb in limbs), *more)
        for side in ("left", "right")
        for point, limbs, more in (
            ("shoulder", ("upper_arm",), _TORSO),
            ("elbow", ("upper_arm", "forearm"), ()),
            ("wrist", ("forearm", "hand"), ()),
            ("hip", ("thigh",), _TORSO),
            ("knee", ("thigh", "shin"), ()),
            ("ankle", ("shin", "foot"), ()),
        )
    },
    "pelvis": _TORSO,
    "thorax": (*_TORSO, "skull"),
    "neck": (*_TORSO, "skull"),
    **dict.fromkeys(("head_top", "nose", "left_eye", "right_eye", "left_ear", "right_ear"), ("skull",)),
}
_SHOWS = np.zeros((len(POINTS), len(LIMB)), dtype=bool)
for _point, _limbs in _SHOWN_BY.items():
    _SHOWS[INDEX[_point], [LIMB[limb] for limb in _limbs]] = True


class Drawn(NamedTuple):
    """Pictures of a scene and what is true of them, in pixels; P people, T frames."""

    frames: list[Image.Image]
    points: np.ndarray
    """`(P, T, 26, 2)` points of the bodies in the picture."""
    space: np.ndarray
    """`(P, T, 26, 3)` the same in fractions of the body's height, as the camera sees them."""
    shown: np.ndarray
    """`(P, T, 26)` 2 visible, 1 hidden, 0 outside the picture."""
    boxes: np.ndarray
    """`(P, T, 4)` xyxy of the whole body, seen or not, clipped to the picture; all 0 where it is outside."""
    part_boxes: np.ndarray
    """`(P, T, 10, 4)` likewise for `PARTS`."""
    head_sizes: np.ndarray
    """`(P, T)` length of the head segment, from the neck to the top of the head, not foreshortened."""


def visibility(points: np.ndarray, space: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Whether each point is seen (2), behind something (1) or outside the picture (0).

    Args:
        points: `(P, 26, 2)` in pixels.
        space: `(P, 26, 3)` as the camera sees them.
        owners: `(size, size)` what is on top at every pixel, as `owner_of` numbers it.

    Returns:
        `(P, 26)`.
    """
    size, people = len(owners), np.arange(len(points))[:, None]
    cells = np.floor(points).astype(np.int64)
    inside = ((cells >= 0) & (cells < size)).all(-1)
    x, y = cells.clip(0, size - 1)[..., 0], cells.clip(0, size - 1)[..., 1]
    top = owners[y, x].astype(np.int64)
    limb = top - FIRST_OWNER - OWNERS_EACH * people
    own = (limb >= 0) & (limb < len(LIMB))
    seen = own & _SHOWS[np.arange(len(POINTS)), np.where(own, limb, 0)]
    for name in ("left_eye", "right_eye"):
        seen[:, INDEX[name]] &= on_face(space, name)
    for name in ("nose", "left_ear", "right_ear"):
        seen[:, INDEX[name]] &= space[..., INDEX[name], 2] > head_middle(space) - 0.02
    # the crown lies on the edge of the head, where the pixel may belong to what is behind it
    seen[:, INDEX["head_top"]] |= top[:, INDEX["head_top"]] == 0
    return np.where(inside, 1 + seen, 0)


def limb_boxes(outlines: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of bodies `(..., 4)` and of their parts `(..., 10, 4)` from their limbs' outlines `(..., 17, 12, 2)`."""
    low, high = outlines.min(-2), outlines.max(-2)

    def around(limbs: list[int] | slice) -> np.ndarray:
        x1y1, x2y2 = low[..., limbs, :].min(-2), high[..., limbs, :].max(-2)
        box = np.concatenate([x1y1, x2y2], -1).clip(0, size)
        empty = (box[..., 2] <= box[..., 0]) | (box[..., 3] <= box[..., 1])
        return np.where(empty[..., None], 0.0, box)

    return around(slice(None)), np.stack([around(limbs) for limbs in PART_LIMBS], -2)


def mpii_joints(drawn: Drawn) -> np.ndarray:
    """`(P, T, 16, 3)` joints in MPII's order: x, y and visibility."""
    return _joints(drawn, MPII_POINTS)


def coco_keypoints(drawn: Drawn) -> np.ndarray:
    """`(P, T, 17, 3)` keypoints in COCO's order: x, y and visibility."""
    return _joints(drawn, COCO_POINTS)


def _joints(drawn: Drawn, order: list[int]) -> np.ndarray:
    # as annotation files do, joints count from the centre of the first pixel, boxes from its corner
    joints = np.concatenate([drawn.points - 0.5, drawn.shown[..., None]], -1)[..., order, :]
    return np.where(joints[..., 2:] > 0, joints, 0.0)
