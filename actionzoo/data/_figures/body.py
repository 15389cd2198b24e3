"""A jointed human body: poses to points in space, for any number of people and frames at once.

Lengths are fractions of the body's height. Body axes: x to the person's left, y down, z forward; after turning, x is
to the right of the picture, y down and z towards the camera. Side 0 is the person's right, side 1 the left.
"""

from dataclasses import dataclass

import numpy as np

POINTS = (
    "pelvis", "thorax", "neck", "head_top", "nose", "left_eye", "right_eye", "left_ear", "right_ear", "mouth",
    "right_shoulder", "left_shoulder", "right_elbow", "left_elbow", "right_wrist", "left_wrist",
    "right_hand", "left_hand", "right_hip", "left_hip", "right_knee", "left_knee", "right_ankle", "left_ankle",
    "right_toe", "left_toe",
)  # fmt: skip
INDEX = {name: i for i, name in enumerate(POINTS)}
MPII_POINTS = [
    INDEX[name]
    for name in (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "neck",
        "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    )
]  # fmt: skip
COCO_POINTS = [
    INDEX[name]
    for name in (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    )
]  # fmt: skip

SIDES = np.array([-1.0, 1.0])
SPINE, NECK, HEAD = 0.27, 0.045, 0.135
SHOULDER, HIP = 0.105, 0.058
UPPER_ARM, FOREARM, HAND = 0.165, 0.145, 0.045
THIGH, SHIN, FOOT = 0.235, 0.225, 0.085
ANKLE = 0.035
"""Height of the ankle above the ground."""
MOUTH = np.array([0.0, -NECK - 0.22 * HEAD, 0.47 * HEAD])
EAR = np.array([0.42 * HEAD, -NECK - 0.5 * HEAD, 0.0])
"""Mouth and left ear of an upright head, seen from the thorax."""


@dataclass
class Pose:
    """What a body does in every frame; all arrays begin with the same axes, say `(T,)`.

    Wrists are given from the thorax in the torso's axes and ankles from the pelvis in the body's, `(…, 2, 3)`;
    elbows and knees follow by inverse kinematics. Angles are radians.
    """

    wrists: np.ndarray
    ankles: np.ndarray
    elbow_hint: np.ndarray
    """`(…, 2, 3)` direction in which each elbow is pushed, in the torso's axes."""
    knee_hint: np.ndarray
    """`(…, 2, 3)` likewise for the knees, in the body's axes."""
    yaw: np.ndarray
    """Turn of the body: 0 faces the camera, positive turns to the right of the picture."""
    lean: np.ndarray
    """Forward bend of the torso."""
    tilt: np.ndarray
    """Sideways bend of the torso, to the person's left."""
    head_yaw: np.ndarray
    head_pitch: np.ndarray
    """Forward nod of the head beyond the torso's."""
    lift: np.ndarray
    """Height of the lower foot above the ground."""


def standing(frames: int) -> Pose:
    """Standing at ease, facing the camera, for a number of frames."""

    def per_side(outward: float, down: float, forward: float) -> np.ndarray:
        one = np.stack([SIDES * outward, np.full(2, down), np.full(2, forward)], -1)
        return np.broadcast_to(one, (frames, 2, 3)).copy()

    zero = np.zeros(frames)
    return Pose(
        wrists=per_side(SHOULDER + 0.045, 0.285, 0.035),
        ankles=per_side(0.062, THIGH + SHIN - 0.004, 0.0),
        elbow_hint=per_side(0.75, 0.35, -0.6),
        knee_hint=per_side(0.12, 0.0, 1.0),
        **{name: zero.copy() for name in ("yaw", "lean", "tilt", "head_yaw", "head_pitch", "lift")},
    )


def turn(points: np.ndarray, angle: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
    """Rotate the last axis of `points` in a plane; `angle` broadcasts over the axes before it."""
    a, b = points[..., axes[0]], points[..., axes[1]]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = points.copy()
    turned[..., axes[0]], turned[..., axes[1]] = a * cos + b * sin, b * cos - a * sin
    return turned


def _bend(root: np.ndarray, goal: np.ndarray, hint: np.ndarray, upper: float, lower: float) -> tuple:
    """Two-bone inverse kinematics: the middle joint and the end, which reaches for the goal as far as it can."""
    reach = goal - root
    distance = np.linalg.norm(reach, axis=-1, keepdims=True)
    along = reach / np.maximum(distance, 1e-6)
    distance = distance.clip(abs(upper - lower) + 0.02, (upper + lower) * 0.999)
    cos = (upper**2 + distance**2 - lower**2) / (2 * upper * distance)
    aside = hint - (hint * along).sum(-1, keepdims=True) * along
    aside /= np.maximum(np.linalg.norm(aside, axis=-1, keepdims=True), 1e-6)
    middle = root + upper * (cos * along + np.sqrt(np.maximum(1 - cos**2, 0)) * aside)
    return middle, root + distance * along


def body_points(pose: Pose, pitch: float = 0.0) -> np.ndarray:
    """Points of the body, `(…, 26, 3)` in the order of `POINTS`, in fractions of the height.

    The ground is y = 0 under the pelvis at x = 0; `pitch` is the camera's look downwards.
    """
    frames = pose.yaw.shape
    lean, tilt = pose.lean[..., None], pose.tilt[..., None]

    def torso(points: np.ndarray) -> np.ndarray:
        points = np.broadcast_to(points, (*frames, *points.shape[-2:]))
        return turn(turn(points, lean, (1, 2)), -tilt, (0, 1))

    def head(points: np.ndarray) -> np.ndarray:
        points = np.broadcast_to(points, (*frames, *points.shape[-2:]))
        points = turn(turn(points, pose.head_yaw[..., None], (0, 2)), pose.head_pitch[..., None], (1, 2))
        return torso(points)

    thorax = torso(np.array([[0.0, -SPINE, 0.0]]))
    neck = thorax + torso(np.array([[0.0, -NECK, 0.0]]))
    face = HEAD * np.array(
        [[0, -1, 0], [0, -0.42, 0.54], [0.19, -0.56, 0.44], [-0.19, -0.56, 0.44], [0.43, -0.5, 0], [-0.43, -0.5, 0]]
    )
    mouth = HEAD * np.array([[0, -0.22, 0.47]])
    face, mouth = neck + head(face), neck + head(mouth)

    shoulders = thorax + torso(np.stack([SIDES * SHOULDER, np.full(2, 0.012), np.zeros(2)], -1))
    elbows, wrists = _bend(shoulders, thorax + torso(pose.wrists), torso(pose.elbow_hint), UPPER_ARM, FOREARM)
    fingers = (wrists - elbows) / np.linalg.norm(wrists - elbows, axis=-1, keepdims=True)
    hips = np.broadcast_to(np.stack([SIDES * HIP, np.zeros(2), np.zeros(2)], -1), (*frames, 2, 3))
    knees, ankles = _bend(hips, hips * [0, 1, 1] + pose.ankles, pose.knee_hint, THIGH, SHIN)
    # the foot is square to the shin, forwards
    shin = (ankles - knees) / np.linalg.norm(ankles - knees, axis=-1, keepdims=True)
    forward = np.array([0.0, 0.0, 1.0]) + np.stack([SIDES * 0.3, np.zeros(2), np.zeros(2)], -1)
    toes = forward - (forward * shin).sum(-1, keepdims=True) * shin
    toes = ankles + FOOT * toes / np.linalg.norm(toes, axis=-1, keepdims=True) + 0.4 * ANKLE * shin

    pelvis = np.zeros((*frames, 1, 3))
    parts = [pelvis, thorax, neck, face, mouth, shoulders, elbows, wrists, wrists + HAND * fingers]
    points = np.concatenate([*parts, hips, knees, ankles, toes], -2)
    points[..., 1] -= ankles[..., 1].max(-1)[..., None] + ANKLE + pose.lift[..., None]
    points = turn(points, pose.yaw[..., None], (0, 2))
    return turn(points, np.asarray(pitch), (1, 2))
