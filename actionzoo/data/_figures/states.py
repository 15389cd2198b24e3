"""Part states: what each of the ten body parts is doing, read off the pose itself."""

import numpy as np

from .body import INDEX
from .limbs import PARTS

PART_STATES: dict[str, tuple[str, ...]] = {
    "head": ("upright", "bowed"),
    "arm": ("hang", "bend", "raise", "stretch", "to_face"),
    "hand": ("empty", "hold"),
    "hip": ("straight", "bend"),
    "leg": ("straight", "bend", "lift"),
    "foot": ("ground", "lift"),
}
"""Names of the states of every part group; a state is an index into its group's names."""

_HIGH = 0.1
"""How much higher than the shoulder a raised hand is, or than the other foot a lifted leg's."""
_FACE_REACH = 0.12
"""Distance from wrist to mouth or ear of a hand that is at the face."""
_FACE = [INDEX[name] for name in ("mouth", "right_ear", "left_ear")]
_LIMB_POINTS = [
    [INDEX[f"right_{name}"], INDEX[f"left_{name}"]] for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]


def part_group(part: str) -> str:
    """`"arm"` for `"left_arm"`."""
    return part.rsplit("_", 1)[-1]


def part_states(space: np.ndarray, holding: tuple[int, ...]) -> np.ndarray:
    """States of the parts of one body, indices into `PART_STATES`.

    A head is bowed and a hip bent where they lean by more than 37 and 31 degrees, in any direction. An arm is raised
    if the wrist is well above the shoulder; else to the face if the wrist is at mouth or ear; else bent if the elbow
    makes less than 125 degrees; else stretched if the wrist is about as high as the shoulder; else it hangs. A leg is
    lifted if its ankle is well above the other, else bent if the knee makes less than 140 degrees. A foot is lifted
    if its ankle is above 0.1, and a hand holds what `holding` says.

    Args:
        space: `(T, 26, 3)` points in fractions of the height, upright, the ground at y = 0.
        holding: Hands that hold something: 0 right, 1 left.

    Returns:
        `(T, 10)` in the order of `PARTS`.
    """
    spine = space[:, INDEX["thorax"]] - space[:, INDEX["pelvis"]]
    head = space[:, INDEX["head_top"]] - space[:, INDEX["neck"]]
    shoulder, elbow, wrist, hip, knee, ankle = (space[:, both] for both in _LIMB_POINTS)
    face = np.linalg.norm(wrist[:, :, None] - space[:, None, _FACE], axis=-1).min(-1)
    # right and left, as the points
    arm = np.select(
        [
            wrist[..., 1] < shoulder[..., 1] - _HIGH,
            face < _FACE_REACH,
            _angle(shoulder, elbow, wrist) < 125,
            np.abs(wrist[..., 1] - shoulder[..., 1]) < 0.17,
        ],
        [2, 4, 1, 3],
        0,
    )
    lifted = ankle[..., 1] < ankle[..., 1].max(1, keepdims=True) - _HIGH
    leg = np.select([lifted, _angle(hip, knee, ankle) < 140], [2, 1], 0)
    foot = (ankle[..., 1] < -0.1).astype(np.int64)
    hold = np.array([int(side in holding) for side in (0, 1)]) + np.zeros_like(foot)
    states = {
        "head": (-head[:, 1] < 0.8 * np.linalg.norm(head, axis=-1)).astype(np.int64),
        "hip": (-spine[:, 1] < 0.86 * np.linalg.norm(spine, axis=-1)).astype(np.int64),
    }
    for group, values in (("arm", arm), ("hand", hold), ("leg", leg), ("foot", foot)):
        states[f"right_{group}"], states[f"left_{group}"] = values[:, 0], values[:, 1]
    return np.stack([states[part] for part in PARTS], -1)


def _angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Degrees between the ways from `b` to `a` and to `c`."""
    first, second = a - b, c - b
    cos = (first * second).sum(-1) / (np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1))
    return np.degrees(np.arccos(cos.clip(-1, 1)))
