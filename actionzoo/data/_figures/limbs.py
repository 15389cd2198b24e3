"""The limbs of a body as they look: which points they join, how thick they are, which parts they belong to."""

import numpy as np

from .body import HEAD, INDEX

PARTS = (
    "head", "hip", "left_arm", "right_arm", "left_foot", "right_foot", "left_hand", "right_hand", "left_leg",
    "right_leg",
)  # fmt: skip

# limbs as capsules: name, the points at their ends, radius at each in fractions of the height
_LIMBS = [
    row
    for side in ("right", "left")
    for row in (
        (f"{side}_thigh", f"{side}_hip", f"{side}_knee", 0.043, 0.032),
        (f"{side}_shin", f"{side}_knee", f"{side}_ankle", 0.031, 0.021),
        (f"{side}_foot", f"{side}_ankle", f"{side}_toe", 0.023, 0.019),
        (f"{side}_upper_arm", f"{side}_shoulder", f"{side}_elbow", 0.03, 0.024),
        (f"{side}_forearm", f"{side}_elbow", f"{side}_wrist", 0.023, 0.017),
        (f"{side}_hand", f"{side}_wrist", f"{side}_hand", 0.019, 0.019),
    )
] + [
    ("shoulders", "right_shoulder", "left_shoulder", 0.036, 0.036),
    ("hips", "right_hip", "left_hip", 0.046, 0.046),
    ("spine", "thorax", "pelvis", 0.066, 0.062),
    ("throat", "thorax", "neck", 0.03, 0.028),
    ("skull", "neck", "head_top", 0.0, 0.0),
]
LIMB = {row[0]: i for i, row in enumerate(_LIMBS)}
"""Limbs by name, the twelve of arms and legs first; the skull is a disc."""
FROM = [INDEX[row[1]] for row in _LIMBS]
TO = [INDEX[row[2]] for row in _LIMBS]
_RADII = np.array([row[3:] for row in _LIMBS], dtype=np.float64)
SKULL_RADIUS = 0.52 * HEAD

_PART_LIMBS = {
    "head": ("skull",),
    "hip": ("hips",),
    **{
        f"{side}_{part}": tuple(f"{side}_{limb}" for limb in limbs)
        for side in ("left", "right")
        for part, limbs in (
            ("arm", ("upper_arm", "forearm")),
            ("foot", ("foot",)),
            ("hand", ("hand",)),
            ("leg", ("thigh", "shin")),
        )
    },
}
PART_LIMBS = [[LIMB[name] for name in _PART_LIMBS[part]] for part in PARTS]
"""Limbs of every part, by index."""

_ARC = np.linspace(np.pi / 2, 3 * np.pi / 2, 6)


def limb_outlines(points: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Outlines of all limbs.

    Args:
        points: `(..., 26, 2)` points of bodies in the picture.
        height: `(...,)` their body heights in the same unit.

    Returns:
        `(..., 17, 12, 2)` corners of a polygon for every limb.
    """
    radii = _RADII * height[..., None, None]
    outlines = _capsules(points[..., FROM, :], points[..., TO, :], radii[..., 0], radii[..., 1])
    skull = (points[..., INDEX["neck"], :] + points[..., INDEX["head_top"], :]) / 2
    outlines[..., LIMB["skull"], :, :] = (
        skull[..., None, :] + disc(np.zeros(2), SKULL_RADIUS, sides=12) * height[..., None, None]
    )
    return outlines


def _capsules(start: np.ndarray, end: np.ndarray, r0: np.ndarray, r1: np.ndarray) -> np.ndarray:
    """Outlines `(..., 12, 2)` of tapered limbs with round ends."""
    axis = end - start
    angle = np.arctan2(axis[..., 1], axis[..., 0])[..., None]
    first, second = angle + _ARC, angle + _ARC + np.pi
    back = start[..., None, :] + r0[..., None, None] * np.stack([np.cos(first), np.sin(first)], -1)
    front = end[..., None, :] + r1[..., None, None] * np.stack([np.cos(second), np.sin(second)], -1)
    return np.concatenate([back, front], -2)


def disc(centre: np.ndarray, rx: float, ry: float | None = None, sides: int = 14) -> np.ndarray:
    """Corners `(sides, 2)` of an upright ellipse."""
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    return centre + np.stack([rx * np.cos(turn), (rx if ry is None else ry) * np.sin(turn)], -1)
