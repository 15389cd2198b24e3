"""What figures do: an action's name and a random generator to the pose of every frame, and what the hands hold."""

from collections.abc import Callable
from dataclasses import fields
from typing import NamedTuple

import numpy as np

from .body import EAR, MOUTH, SHOULDER, SIDES, Pose, standing


class Prop(NamedTuple):
    """Something in a hand."""

    kind: str
    """`"cup"`, `"phone"`, `"brush"`, `"flute"` (in both hands) or `"box"` (in both hands)."""
    side: int
    """The hand: 0 right, 1 left. A flute points to this side."""

    @property
    def hands(self) -> tuple[int, ...]:
        """The hands that hold it."""
        return (0, 1) if self.kind in ("flute", "box") else (self.side,)


Performance = tuple[Pose, tuple[Prop, ...]]


def blend(a: Pose, b: Pose, weight: np.ndarray) -> Pose:
    """From pose `a` (weight 0) to pose `b` (weight 1), frame by frame."""
    mixed = {}
    for field in fields(Pose):
        first, second = getattr(a, field.name), getattr(b, field.name)
        w = weight.reshape(-1, *[1] * (first.ndim - 1))
        mixed[field.name] = (1 - w) * first + w * second
    return Pose(**mixed)


def stance(rng: np.random.Generator, frames: int, turn: float = 0.6, sitting: float = 0.0) -> Pose:
    """Standing or sitting in one of many ways; `turn` bounds the turn of the body, `sitting` is a probability."""
    pose = standing(frames)
    pose.yaw += rng.uniform(-turn, turn)
    pose.lean += rng.uniform(-0.04, 0.16)
    pose.tilt += rng.normal(0, 0.05)
    pose.head_yaw += rng.normal(0, 0.2)
    pose.head_pitch += rng.uniform(-0.1, 0.2)
    if rng.random() < sitting:
        return _seated(rng, pose)
    pose.ankles[..., 0] += SIDES * rng.uniform(-0.03, 0.09)
    pose.ankles[..., 2] += SIDES * rng.normal(0, 0.05)
    for side in (0, 1):
        set_wrist(pose, side, *_resting_hand(rng, side))
    return pose


def _seated(rng: np.random.Generator, pose: Pose) -> Pose:
    pose.ankles[..., 1] -= rng.uniform(0.15, 0.22)
    pose.ankles[..., 2] += rng.uniform(0.16, 0.24)
    pose.ankles[..., 0] += SIDES * rng.uniform(0.0, 0.08)
    pose.knee_hint[..., 1] -= 1.0
    for side in (0, 1):
        set_wrist(pose, side, SIDES[side] * rng.uniform(0.04, 0.12), rng.uniform(0.18, 0.24), rng.uniform(0.12, 0.2))
    return pose


def _resting_hand(rng: np.random.Generator, side: int) -> tuple[float, float, float]:
    """Hanging, on the hip, or before the belly."""
    kind = rng.random()
    if kind < 0.65:
        return SIDES[side] * (SHOULDER + rng.uniform(0.01, 0.1)), rng.uniform(0.25, 0.3), rng.normal(0.03, 0.03)
    if kind < 0.85:
        return SIDES[side] * (SHOULDER + rng.uniform(-0.01, 0.02)), rng.uniform(0.19, 0.23), rng.uniform(0.0, 0.05)
    return SIDES[side] * rng.uniform(-0.01, 0.06), rng.uniform(0.16, 0.22), rng.uniform(0.1, 0.14)


def set_wrist(pose: Pose, side: int, x: float | np.ndarray, y: float | np.ndarray, z: float | np.ndarray) -> None:
    """Put a wrist somewhere in every frame, seen from the thorax in the torso's axes."""
    for axis, value in enumerate((x, y, z)):
        pose.wrists[..., side, axis] = value


def _at_mouth(rng: np.random.Generator, pose: Pose, side: int) -> None:
    x, y, z = MOUTH + rng.normal(0, 0.008, 3)
    set_wrist(pose, side, x + SIDES[side] * 0.045, y + 0.05, z + 0.045)
    pose.head_yaw *= 0.3
    pose.head_pitch *= 0.3


def _at_ear(rng: np.random.Generator, pose: Pose, side: int) -> None:
    x, y, z = EAR * [SIDES[side], 1, 1] + rng.normal(0, 0.008, 3)
    set_wrist(pose, side, x + SIDES[side] * 0.025, y + 0.045, z + 0.035)
    pose.head_yaw *= 0.3
    pose.head_pitch *= 0.3


def _at_chest(rng: np.random.Generator, pose: Pose, side: int) -> None:
    set_wrist(pose, side, SIDES[side] * rng.uniform(0.02, 0.1), rng.uniform(0.06, 0.15), rng.uniform(0.14, 0.19))


def _along_flute(rng: np.random.Generator, pose: Pose, side: int, drop: float) -> None:
    """Both hands on a flute that points to one side, its inner end at the mouth or `drop` below it."""
    x, y, z = MOUTH + rng.normal(0, 0.006, 3)
    pose.head_yaw *= 0.3
    pose.head_pitch *= 0.3
    set_wrist(pose, side, x + SIDES[side] * 0.2, y + 0.045 + drop, z + 0.02)
    set_wrist(pose, 1 - side, x + SIDES[side] * 0.085, y + 0.05 + drop, z + 0.05)


def _hand_action(
    place: Callable[[np.random.Generator, Pose, int], None], kind: str | None
) -> Callable[[np.random.Generator, int], Performance]:
    def perform(rng: np.random.Generator, frames: int) -> Performance:
        pose, side = stance(rng, frames, sitting=0.25), int(rng.integers(2))
        place(rng, pose, side)
        return pose, () if kind is None else (Prop(kind, side),)

    return perform


def _flute(drop: tuple[float, float]) -> Callable[[np.random.Generator, int], Performance]:
    def perform(rng: np.random.Generator, frames: int) -> Performance:
        pose, side = stance(rng, frames, sitting=0.25), int(rng.integers(2))
        _along_flute(rng, pose, side, rng.uniform(*drop))
        return pose, (Prop("flute", side),)

    return perform


def _standing(rng: np.random.Generator, frames: int) -> Performance:
    return stance(rng, frames, turn=0.9), ()


def _sitting(rng: np.random.Generator, frames: int) -> Performance:
    return stance(rng, frames, turn=0.9, sitting=1.0), ()


def gait(pose: Pose, phase: np.ndarray, stride: float, lift: float, swing: float) -> None:
    """Add steps, `phase` in radians per frame. In still frames a step forwards looks like a step backwards."""
    for side, sign in ((0, 1.0), (1, -1.0)):
        pose.ankles[..., side, 2] += sign * stride * np.sin(phase)
        pose.ankles[..., side, 1] -= lift * np.maximum(sign * np.cos(phase), 0)
        pose.wrists[..., side, 2] -= sign * swing * np.sin(phase)
        pose.wrists[..., side, 1] -= 0.25 * swing * np.abs(np.sin(phase))


def _moving(
    stride: float, lift: float, swing: float, lean: float, speed: float, turn: float
) -> Callable[[np.random.Generator, int], Performance]:
    def perform(rng: np.random.Generator, frames: int) -> Performance:
        pose = standing(frames)
        pose.yaw += rng.choice(SIDES) * rng.uniform(0.3, turn)
        pose.lean += lean + rng.normal(0, 0.04)
        if swing > 0.2:  # a runner's elbows are bent
            pose.wrists[..., 1] -= 0.11
            pose.wrists[..., 2] += 0.05
        phase = rng.uniform(0, 2 * np.pi) + speed * np.arange(frames)
        gait(pose, phase, stride * rng.uniform(0.8, 1.1), lift, swing)
        return pose, ()

    return perform


def squat(rng: np.random.Generator, frames: int) -> Performance:
    pose = stance(rng, frames, turn=0.8)
    pose.ankles[..., 1] -= rng.uniform(0.17, 0.25)
    pose.ankles[..., 2] -= rng.uniform(0.0, 0.04)
    pose.ankles[..., 0] += SIDES * rng.uniform(0.03, 0.08)
    pose.knee_hint[..., 0] += SIDES * 0.4
    pose.lean += rng.uniform(0.3, 0.6)
    for side in (0, 1):
        set_wrist(pose, side, SIDES[side] * rng.uniform(0.05, 0.12), rng.uniform(-0.02, 0.12), rng.uniform(0.2, 0.28))
    return pose, ()


def bow(rng: np.random.Generator, frames: int) -> Performance:
    pose = stance(rng, frames, turn=1.0)
    pose.yaw[:] = rng.choice(SIDES) * rng.uniform(0.5, 1.1)
    pose.lean += rng.uniform(0.75, 1.2)
    for side in (0, 1):
        set_wrist(pose, side, SIDES[side] * rng.uniform(0.08, 0.13), rng.uniform(0.1, 0.26), rng.uniform(0.1, 0.25))
    return pose, ()


def kick(rng: np.random.Generator, frames: int) -> Performance:
    pose, side = stance(rng, frames, turn=0.3), int(rng.integers(2))
    pose.yaw[:] = rng.choice(SIDES) * rng.uniform(0.4, 1.1)
    pose.lean -= rng.uniform(0.1, 0.3)
    pose.ankles[..., side, 1] -= rng.uniform(0.18, 0.34)
    pose.ankles[..., side, 2] += rng.uniform(0.28, 0.4)
    for arm in (0, 1):
        set_wrist(pose, arm, SIDES[arm] * rng.uniform(0.12, 0.28), rng.uniform(0.05, 0.2), rng.uniform(-0.05, 0.15))
    return pose, ()


def arms_up(rng: np.random.Generator, frames: int) -> Performance:
    pose = stance(rng, frames, turn=0.8)
    for side in (0, 1):
        set_wrist(pose, side, SIDES[side] * rng.uniform(0.06, 0.22), -rng.uniform(0.18, 0.3), rng.uniform(-0.02, 0.1))
    return pose, ()


def _jumping(rng: np.random.Generator, frames: int) -> Performance:
    pose = arms_up(rng, frames)[0] if rng.random() < 0.5 else stance(rng, frames, turn=0.8)
    pose.lift += rng.uniform(0.08, 0.16)
    pose.ankles[..., 1] -= rng.uniform(0.03, 0.12)
    pose.ankles[..., 0] += SIDES * rng.uniform(0.02, 0.12)
    pose.ankles[..., 2] -= rng.uniform(0.0, 0.1)
    return pose, ()


def _pointing(rng: np.random.Generator, frames: int) -> Performance:
    pose, side = stance(rng, frames, turn=0.8), int(rng.integers(2))
    angle = rng.uniform(-0.2, 1.2)
    reach = rng.uniform(0.27, 0.31)
    x = SIDES[side] * (SHOULDER + reach * np.cos(angle))
    set_wrist(pose, side, x, rng.uniform(-0.06, 0.06), reach * np.sin(angle))
    return pose, ()


def arm_raise(rng: np.random.Generator, frames: int, height: np.ndarray, side: int) -> Pose:
    """One arm between hanging (`height` 0) and straight up (1), in every frame."""
    pose = stance(rng, frames, turn=0.5)
    angle = np.pi * (0.06 + 0.88 * height) * np.ones(frames)
    reach, forward = 0.29, rng.uniform(0.02, 0.1)
    x = SIDES[side] * (SHOULDER + reach * np.sin(angle))
    set_wrist(pose, side, x, reach * np.cos(angle), forward)
    return pose


def _lift_up(rng: np.random.Generator, frames: int) -> Performance:
    """Both hands before the chest, on a box."""
    pose = stance(rng, frames, turn=0.4)
    for side in (0, 1):
        set_wrist(pose, side, SIDES[side] * 0.075, rng.uniform(0.04, 0.08), 0.2)
    return pose, (Prop("box", 0),)


def _lift_down(rng: np.random.Generator, frames: int) -> Performance:
    """Both hands low, on a box."""
    pose = stance(rng, frames, turn=0.4)
    pose.lean += 0.5
    pose.ankles[..., 1] -= 0.1
    for side in (0, 1):
        set_wrist(pose, side, SIDES[side] * 0.075, 0.27, 0.12)
    return pose, (Prop("box", 0),)


def _free_hands(
    act: Callable[[np.random.Generator, int], Performance],
) -> Callable[[np.random.Generator, int], Performance]:
    """The same with hands that sometimes go anywhere within reach below the eyes, or to mouth, ear or chest."""

    def perform(rng: np.random.Generator, frames: int) -> Performance:
        pose, props = act(rng, frames)
        for side in (0, 1):
            kind = rng.random()
            if kind < 0.25:
                x, z = SHOULDER + rng.uniform(-0.15, 0.2), rng.uniform(0.0, 0.25)
                set_wrist(pose, side, SIDES[side] * x, rng.uniform(-0.1, 0.25), z)
            elif kind < 0.45:
                (_at_mouth, _at_ear, _at_chest, _at_mouth)[int(rng.integers(4))](rng, pose, side)
        return pose, props

    return perform


FINE_GRAINED: dict[str, Callable[[np.random.Generator, int], Performance]] = {
    "brushing_teeth": _hand_action(_at_mouth, "brush"),
    "drinking": _hand_action(_at_mouth, "cup"),
    "holding_cup": _hand_action(_at_chest, "cup"),
    "holding_flute": _flute((0.09, 0.15)),
    "holding_phone": _hand_action(_at_chest, "phone"),
    "phoning": _hand_action(_at_ear, "phone"),
    "playing_flute": _flute((0.0, 0.0)),
    "touching_face": _hand_action(_at_mouth, None),
}
"""Same poses, and a small thing at the mouth or in the hand decides."""

POSES: dict[str, Callable[[np.random.Generator, int], Performance]] = {
    "bowing": _free_hands(bow),
    "jumping": _free_hands(_jumping),
    "kicking": _free_hands(kick),
    "pointing": _pointing,
    "raising_arms": arms_up,
    "running": _free_hands(_moving(0.19, 0.12, 0.22, 0.25, 0.9, 1.25)),
    "sitting": _free_hands(_sitting),
    "squatting": _free_hands(squat),
    "standing": _free_hands(_standing),
    "walking": _free_hands(_moving(0.12, 0.04, 0.1, 0.04, 0.6, 1.25)),
}

ALTERNATIONS: dict[str, tuple[Callable, Callable]] = {
    "bowing": (_standing, bow),
    "drinking": (_hand_action(_at_chest, "cup"), _hand_action(_at_mouth, "cup")),
    "kicking": (_standing, kick),
    "lifting": (_lift_down, _lift_up),
    "raising_arms": (_standing, arms_up),
    "squatting": (_standing, squat),
}
"""Two poses that an action goes between, for the states of parts over time."""
