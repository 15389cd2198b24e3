"""Hand-made scenes of acting figures and a studio that draws them in known colours, for the tests."""

import numpy as np
import pytest
from PIL import Image

from actionzoo.data._figures import drawing
from actionzoo.data._figures.body import COCO_POINTS, INDEX, MPII_POINTS, body_points, standing
from actionzoo.data._figures.drawing import draw_scene
from actionzoo.data._figures.scenes import TASKS, Actor, Scene, make_scene
from actionzoo.data._figures.strokes import Look
from actionzoo.data.figures import PART_STATES, PARTS, ActingFigures, part_group

# points that are joints of one layout or the other
JOINTS = [name for i, name in enumerate(INDEX) if i in {*MPII_POINTS, *COCO_POINTS}]


def figures(task, split="train", length=40, size=32, seed=0, frames=4):
    return ActingFigures(task, split, length, size, seed, frames=frames)


def scene_of(task, name, seed, frames=8):
    return make_scene(task, TASKS[task].classes.index(name), np.random.default_rng(seed), frames)


def points_of(scene):
    """Points of everybody in the unit picture, (P, T, 26, 2), without drawing."""
    return np.stack([drawing._to_picture(scene, a, body_points(a.pose, scene.pitch)) for a in scene.actors])


def actor(pose=None, x=0.5, ground=0.9, height=0.75, props=()):
    pose = pose or standing(1)
    t = len(pose.yaw)
    return Actor(0, pose, props, np.full(t, x), np.full(t, ground), np.full(t, height))


def look(skin=(250, 200, 160), shirt=(20, 40, 250), trousers=(250, 30, 30), shoes=(20, 250, 30)):
    """Somebody with black hair, short sleeves and long trousers."""
    skin, hair, shirt, trousers, shoes, prop = (
        np.array(colour, dtype=float) for colour in (skin, (20, 20, 20), shirt, trousers, shoes, (255, 255, 0))
    )
    return Look(skin, hair, shirt, trousers, shoes, True, False, False, False, prop)


BLACK = look(*[(0, 0, 0)] * 4)


@pytest.fixture
def studio(monkeypatch):
    """Draws hand-made people before a grey wall in known colours, without light and grain."""
    monkeypatch.setattr(drawing, "_background", lambda rng, size: Image.new("RGB", (size, size), (128,) * 3))
    monkeypatch.setattr(drawing, "_develop", lambda picture, *_: picture)

    def draw(*actors, size=128, looks=(), **camera):
        remaining = iter(looks or [look()] * len(actors))
        monkeypatch.setattr(drawing, "random_look", lambda rng: next(remaining))
        drawn = draw_scene(Scene(list(actors), 1, **camera), size, np.random.default_rng(0))
        return drawn, np.asarray(drawn.frames[0]).astype(int)

    return draw


def flags(drawn, person=0):
    """Visibility of a person's joints by name."""
    return {name: int(drawn.shown[person, 0, INDEX[name]]) for name in JOINTS}


def arms_out():
    """Standing with both arms stretched out a little below the shoulders."""
    pose = standing(1)
    for side, sign in ((0, -1.0), (1, 1.0)):
        pose.wrists[:, side] = [sign * (0.105 + 0.29), 0.08, 0.0]
        pose.ankles[:, side, 0] += sign * 0.05
    return pose


def named(states):
    return {part: PART_STATES[part_group(part)][k] for part, k in zip(PARTS, states)}
