"""Part states: what each of the ten body parts is doing, read off the pose itself."""

import numpy as np

from .body import INDEX
from .drawing import PARTS

PART_STATES: dict[str, tuple[str, ...]] = {
    "head": ("upright", "bowed"),
    "arm": ("hang", "bend", "raise", "stretch"),
    "hand": ("empty", "hold"),
    "hip": ("straight", "bend"),
    "leg": ("straight", "bend", "lift"),
    "foot": ("ground", "lift"),
}
"""Names of the states of every part group; a state is an index into its group's names."""


def part_group(part: str) -> str:
    """`"arm"` for `"left_arm"`."""
    return part.rsplit("_", 1)[-1]


def part_states(space: np.ndarray, holding: tuple[int, ...]) -> np.ndarray:
    """States `(T, 10)` of the parts of one body.

    Args:
        space: `(T, 26, 3)` points in fractions of the height, the ground at y = 0.
        holding: Hands that hold something: 0 right, 1 left.
    """

    def at(name: str) -> np.ndarray:
        return space[:, INDEX[name]]

    def angle(a: str, b: str, c: str) -> np.ndarray:
        first, second = at(a) - at(b), at(c) - at(b)
        cos = (first * second).sum(-1) / (np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1))
        return np.degrees(np.arccos(cos.clip(-1, 1)))

    spine, head = at("thorax") - at("pelvis"), at("head_top") - at("neck")
    states: dict[str, np.ndarray] = {
        "head": (-head[:, 1] < 0.8 * np.linalg.norm(head, axis=-1)).astype(np.int64),
        "hip": (-spine[:, 1] < 0.86 * np.linalg.norm(spine, axis=-1)).astype(np.int64),
    }
    lowest = np.maximum(at("right_ankle")[:, 1], at("left_ankle")[:, 1])
    for number, side in enumerate(("right", "left")):
        shoulder, wrist = at(f"{side}_shoulder"), at(f"{side}_wrist")
        high = wrist[:, 1] < shoulder[:, 1] - 0.1
        bent = angle(f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist") < 125
        out = np.abs(wrist[:, 1] - shoulder[:, 1]) < 0.17
        states[f"{side}_arm"] = np.select([high, bent, out], [2, 1, 3], 0)
        states[f"{side}_hand"] = np.full(len(space), int(number in holding))
        lifted = at(f"{side}_ankle")[:, 1] < lowest - 0.1
        knee = angle(f"{side}_hip", f"{side}_knee", f"{side}_ankle") < 140
        states[f"{side}_leg"] = np.select([lifted, knee], [2, 1], 0)
        states[f"{side}_foot"] = (at(f"{side}_ankle")[:, 1] < -0.1).astype(np.int64)
    return np.stack([states[part] for part in PARTS], -1)
