"""Who stands where and does what: one scene of a task from a random generator.

Places and lengths are fractions of the picture's side, so that a scene is the same at every resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np

from .actions import (
    ALTERNATIONS,
    FINE_GRAINED,
    POSES,
    Performance,
    Prop,
    arm_raise,
    arms_up,
    blend,
    gait,
    squat,
    stance,
)
from .body import SIDES, Pose, standing

MOTION = ("hold", "lower", "raise", "walk_apart", "walk_left", "walk_right", "walk_towards", "wave")
CROWD = ("drinking", "phoning", "raising_arms", "squatting", "standing", "walking_left", "walking_right", "waving")


class Task(NamedTuple):
    """What a task shows."""

    classes: tuple[str, ...]
    clip: bool
    """Whether its items are clips."""


TASKS = {
    "fine_grained": Task(tuple(FINE_GRAINED), False),
    "pose": Task(tuple(POSES), False),
    "motion": Task(MOTION, True),
    "crowd": Task(CROWD, True),
    "parts": Task(tuple(ALTERNATIONS), True),
    "parts_turned": Task(tuple(ALTERNATIONS), True),
}


class Actor(NamedTuple):
    """One person of a scene, in every frame."""

    label: int
    pose: Pose
    props: tuple[Prop, ...]
    x: np.ndarray
    """`(T,)` place of the pelvis from the left."""
    ground: np.ndarray
    """`(T,)` height of the ground under the person, from the top."""
    height: np.ndarray
    """`(T,)` body height."""


@dataclass
class Scene:
    """Actors in the order in which they are drawn, and the camera."""

    actors: list[Actor]
    frames: int
    pitch: float = 0.0
    """Radians that the camera looks down."""
    roll: float = 0.0
    """Radians that the camera is turned."""
    pan: np.ndarray = field(default_factory=lambda: np.zeros((1, 2)))
    """`(T, 2)` shift of everything seen, in x and y."""
    table: bool = False
    """Whether something stands in front of the people's legs."""

    def only(self, frame: int) -> "Scene":
        """The same scene in one of its frames."""
        here = slice(frame, frame + 1)
        actors = [
            actor._replace(
                pose=Pose(**{f.name: getattr(actor.pose, f.name)[here] for f in fields(Pose)}),
                **{name: getattr(actor, name)[here] for name in ("x", "ground", "height")},
            )
            for actor in self.actors
        ]
        return replace(self, actors=actors, frames=1, pan=self.pan[here])


def make_scene(task: str, label: int, rng: np.random.Generator, frames: int) -> Scene:
    """Make up a scene of a task in which somebody does `label`, in `crowd` among others."""
    return _SCENES[task](label, rng, frames if TASKS[task].clip else 1)


def _camera(rng: np.random.Generator, actors: list[Actor], frames: int, table: float) -> Scene:
    pan = np.zeros((frames, 2))
    if frames > 1 and rng.random() < 0.5:
        pan = np.cumsum(rng.normal(0, 0.003, (frames, 2)), 0).clip(-0.09, 0.09)
    return Scene(actors, frames, rng.uniform(-0.06, 0.2), rng.normal(0, 0.05), pan, bool(rng.random() < table))


def _placed(
    rng: np.random.Generator, label: int, act: Performance, frames: int, size: tuple[float, float], x: np.ndarray
) -> Actor:
    """A person whose body height, below 1, lies in `size`, with both feet in the picture."""
    pose, props = act
    height = rng.uniform(*size)
    ground = min(0.97, 0.5 + height / 2 + rng.uniform(-0.05, 0.1))
    return Actor(label, pose, props, x, np.full(frames, ground), np.full(frames, height))


def _single(actions: dict[str, Callable], size: tuple[float, float]) -> Callable:
    def make(label: int, rng: np.random.Generator, frames: int) -> Scene:
        act = list(actions.values())[label](rng, frames)
        x = np.full(frames, rng.uniform(0.4, 0.6))
        return _camera(rng, [_placed(rng, label, act, frames, size, x)], frames, table=0.2)

    return make


def _smooth(values: np.ndarray) -> np.ndarray:
    return values * values * (3 - 2 * values)


def _walk(rng: np.random.Generator, frames: int, moves: np.ndarray, height: np.ndarray) -> Pose:
    """Steps whose pace fits the way gone, `moves` and `height` in the picture's unit; the facing says nothing."""
    pose = standing(frames)
    pose.yaw += rng.uniform(-0.9, 0.9)
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(moves)))])
    gait(pose, rng.uniform(0, 2 * np.pi) + np.pi * way / (0.24 * height), 0.12, 0.045, 0.1)
    return pose


def _passing(label: int, rng: np.random.Generator, frames: int) -> Scene:
    """One person who walks through the picture; only the way gone says to which side."""
    middle, half, height = rng.uniform(0.42, 0.58), rng.uniform(0.12, 0.28), rng.uniform(0.45, 0.62)
    x, tall = middle + half * np.linspace(-1, 1, frames), np.full(frames, height)
    x = x[::-1] if MOTION[label] == "walk_left" else x
    walker = _placed(rng, label, (_walk(rng, frames, x, tall), ()), frames, (height, height), x)
    return _camera(rng, [walker], frames, table=0.0)


def _motion(label: int, rng: np.random.Generator, frames: int) -> Scene:
    name, time = MOTION[label], np.linspace(0, 1, frames)
    if name in ("walk_left", "walk_right"):
        return _passing(label, rng, frames)
    if name.startswith("walk"):
        # one law for both, run backwards for "apart", so that no frame alone can tell
        near, far = rng.uniform(0.1, 0.14), rng.uniform(0.27, 0.33)
        gap = far + (near - far) * _smooth(np.clip((time - rng.uniform(0, 0.1)) / rng.uniform(0.85, 0.9), 0, 1))
        gap = gap[::-1] if name == "walk_apart" else gap
        middle, height, actors = rng.uniform(0.45, 0.55), rng.uniform(0.45, 0.62), []
        for side in SIDES:
            tall, x = np.full(frames, height * rng.uniform(0.92, 1.08)), middle + side * gap
            pose = _walk(rng, frames, x, tall)
            actors.append(_placed(rng, label, (pose, ()), frames, (tall[0], tall[0]), x))
        return _camera(rng, actors, frames, table=0.0)
    side = int(rng.integers(2))
    if name in ("raise", "lower"):
        low, high = rng.uniform(0, 0.1), rng.uniform(0.85, 1.0)
        arm = low + (high - low) * _smooth(np.clip((time - rng.uniform(0, 0.15)) / rng.uniform(0.7, 0.85), 0, 1))
        arm = arm[::-1] if name == "lower" else arm
        pose = arm_raise(rng, frames, arm, side)
    else:
        centre, swing = rng.uniform(0.72, 0.88), rng.uniform(0.1, 0.16)
        turns = rng.uniform(1.5, 3.0) * 2 * np.pi * time if name == "wave" else np.zeros(frames)
        arm = centre + swing * np.sin(rng.uniform(0, 2 * np.pi) + turns)
        pose = arm_raise(rng, frames, arm, side)
    x = np.full(frames, rng.uniform(0.4, 0.6))
    return _camera(rng, [_placed(rng, label, (pose, ()), frames, (0.55, 0.85), x)], frames, table=0.1)


def _crowd_act(name: str, rng: np.random.Generator, frames: int) -> Performance:
    if name in FINE_GRAINED:
        return FINE_GRAINED[name](rng, frames)
    if name == "waving":
        turns = rng.uniform(0, 2 * np.pi) + rng.uniform(1.5, 3.0) * 2 * np.pi * np.linspace(0, 1, frames)
        return arm_raise(rng, frames, 0.8 + 0.13 * np.sin(turns), int(rng.integers(2))), ()
    acts = {"squatting": squat, "raising_arms": arms_up}
    return acts[name](rng, frames) if name in acts else (stance(rng, frames), ())


def _crowd(label: int, rng: np.random.Generator, frames: int) -> Scene:
    """Two to four people doing different things, the farthest first; whoever walks passes somebody."""
    count = int(rng.integers(2, 5))
    others = [k for k in rng.permutation(len(CROWD)) if k != label]
    walkers = [k for k in others if CROWD[k].startswith("walking")]
    if not CROWD[label].startswith("walking"):  # somebody always walks
        others = [walkers[0], *(k for k in others if k != walkers[0])]
    labels, places = [label, *others[: count - 1]], rng.permutation(count)
    walking = [i for i, k in enumerate(labels) if CROWD[k].startswith("walking")]
    if len(walking) == 1 and count == 3 and places[walking[0]] == 1:
        # a single walker leaves the middle to one of the two who stay: they might stand beyond both ends of its way
        alone = walking[0]
        places[alone], places[alone - 1] = places[alone - 1], 1
    height, actors = rng.uniform(0.42, 0.55), []
    for k, place in zip(labels, places):
        name, x = CROWD[k], np.full(frames, (place + 0.5) / count + rng.uniform(-0.04, 0.04))
        tall = np.full(frames, height * rng.uniform(0.9, 1.1))
        if name.startswith("walking"):
            # through the middle and past at least one of the others
            x = np.linspace(rng.uniform(0.1, 0.2), rng.uniform(0.8, 0.9), frames)
            x = x if name == "walking_right" else 1 - x
            act: Performance = (_walk(rng, frames, x, tall), ())
        else:
            act = _crowd_act(name, rng, frames)
        actors.append(_placed(rng, int(k), act, frames, (tall[0], tall[0]), x))
    return _camera(rng, sorted(actors, key=lambda actor: actor.ground[0]), frames, table=0.0)


_CHANGE, _EDGE = 0.08, 0.11
"""How much of a clip a change of pose takes, and how much lies at least before the first and after the last."""


def _changes(rng: np.random.Generator, frames: int) -> np.ndarray:
    """When one to three changes begin, as fractions of a clip of `frames` sampled at both ends and between.

    From 4 frames on two or more of them lie before the first change, after the last and between; where there is not
    room for three changes there are fewer, but never none.
    """
    step = 1 / max(frames - 1, 1)
    # two steps hold two frames wherever they begin, and so does the first and the last step
    rest, edge = 2 * step, min(max(step, _EDGE), (1 - _CHANGE) / 2)
    room = 1 - 2 * edge + rest
    count = int(rng.integers(1, 1 + max(1, min(3, int(room / (_CHANGE + rest))))))
    slack = max(0.0, room - count * (_CHANGE + rest))
    return edge + np.sort(rng.uniform(0, slack, count)) + np.arange(count) * (_CHANGE + rest)


def _parts_turned(label: int, rng: np.random.Generator, frames: int) -> Scene:
    """The same people, half of whom turn their back to the camera: then their left is on the left of the picture."""
    scene = _parts(label, rng, frames)
    scene.actors[0].pose.yaw[:] += rng.choice((0.0, np.pi))
    return scene


def _parts(label: int, rng: np.random.Generator, frames: int) -> Scene:
    """To and fro between two poses, resting in each: the parts' states hold for segments of the clip."""
    seed = int(rng.integers(2**31))
    # one seed for both, so that the same body stands the same way in the same place
    (first, props), (second, _) = (
        act(np.random.default_rng(seed), frames) for act in tuple(ALTERNATIONS.values())[label]
    )
    second.yaw[:] = first.yaw
    # an even number of changes so far: the first pose, odd: the second
    time = np.linspace(0, 1, frames)[:, None]
    passed = _smooth(np.clip((time - _changes(rng, frames)) / _CHANGE, 0, 1)).sum(1)
    weight = np.abs((passed + rng.integers(2) + 1) % 2 - 1)
    x = np.full(frames, rng.uniform(0.42, 0.58))
    act = (blend(first, second, weight), props)
    return _camera(rng, [_placed(rng, label, act, frames, (0.6, 0.82), x)], frames, table=0.0)


_SCENES: dict[str, Callable[[int, np.random.Generator, int], Scene]] = {
    "fine_grained": _single(FINE_GRAINED, (0.62, 0.95)),
    "pose": _single(POSES, (0.55, 0.85)),
    "motion": _motion,
    "crowd": _crowd,
    "parts": _parts,
    "parts_turned": _parts_turned,
}
