"""Drawing a scene: background, people far to near, something in front of them, and the camera's own traces."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .body import HEAD, body_points
from .limbs import limb_outlines
from .scenes import Actor, Scene
from .strokes import Stroke, body_strokes, prop_strokes, random_look, rgb
from .truth import Drawn, limb_boxes, visibility


class Geometry(NamedTuple):
    """Where the bodies of a scene are, P people in T frames."""

    space: np.ndarray
    """`(P, T, 26, 3)` points in fractions of the body's height, as the camera sees them."""
    points: np.ndarray
    """`(P, T, 26, 2)` the same in pixels of the picture."""
    height: np.ndarray
    """`(P, T)` body height in pixels."""
    outlines: np.ndarray
    """`(P, T, 17, 12, 2)` outlines of the limbs in pixels."""


def geometry(scene: Scene, size: int) -> Geometry:
    """Where everybody is, without drawing; `size` is the side of the pictures in pixels."""
    space = np.stack([body_points(actor.pose, scene.pitch) for actor in scene.actors])
    points = np.stack([_to_picture(scene, actor, at) for actor, at in zip(scene.actors, space)]) * size
    height = np.stack([actor.height for actor in scene.actors]) * size
    return Geometry(space, points, height, limb_outlines(points, height))


def draw_scene(scene: Scene, size: int, rng: np.random.Generator, wanted: Sequence[int] | None = None) -> Drawn:
    """Draw frames of a scene and read off the truth.

    Args:
        scene: What there is to see.
        size: Side of the pictures in pixels.
        rng: Draws looks, background and noise.
        wanted: Numbers of the frames, all if None. Each then looks the same whichever others are asked for, which
            takes other noise than that of all frames.
    """
    space, points, height, outlines = geometry(scene, size)
    looks = [random_look(rng) for _ in scene.actors]
    # a moving camera needs a background larger than the picture
    margin = 1.2 if scene.frames > 1 else 1.0
    background = _background(rng, int(2 * size * margin))
    table = _table(rng, size) if scene.table else None
    light, tint, grain = rng.uniform(0.75, 1.2), rng.uniform(0.92, 1.08, 3), rng.uniform(1, 7)
    seed = None if wanted is None else int(rng.integers(2**62))
    order = list(range(scene.frames) if wanted is None else wanted)
    frames, shown = [], np.zeros((len(points), len(order), points.shape[2]), dtype=np.int64)
    for place, t in enumerate(order):
        strokes = []
        for p, (actor, look) in enumerate(zip(scene.actors, looks)):
            args = points[p, t], space[p, t]
            body = body_strokes(*args, outlines[p, t], height[p, t], look, p)
            for prop in actor.props:
                body += prop_strokes(prop.kind, prop.side, *args, height[p, t], look)
            strokes += sorted(body, key=lambda stroke: stroke.depth)
        if table is not None:
            strokes.append(table._replace(outline=table.outline + scene.pan[t] * size))
        shift = (scene.pan[t] + (margin - 1) / 2) * size * 2
        left, top = -shift + (margin - 1) * size * 2 if margin > 1 else (0, 0)
        canvas = background.crop((int(left), int(top), int(left) + 2 * size, int(top) + 2 * size))
        picture, owners = _paint(canvas, strokes, size)
        noise = rng if seed is None else np.random.default_rng((seed, t))
        frames.append(_develop(picture, light * tint, grain, noise))
        shown[:, place] = visibility(points[:, t], space[:, t], owners)
    boxes, part_boxes = limb_boxes(outlines[:, order], size)
    return Drawn(frames, points[:, order], space[:, order], shown, boxes, part_boxes, height[:, order] * HEAD)


def _to_picture(scene: Scene, actor: Actor, space: np.ndarray) -> np.ndarray:
    """Points in space `(T, 26, 3)` to the unit picture `(T, 26, 2)`."""
    flat = space[..., :2] * actor.height[:, None, None]
    flat += np.stack([actor.x, actor.ground], -1)[:, None]
    cos, sin = np.cos(scene.roll), np.sin(scene.roll)
    turned = (flat - 0.5) @ np.array([[cos, sin], [-sin, cos]]) + 0.5
    return turned + scene.pan[:, None]


def _background(rng: np.random.Generator, size: int) -> Image.Image:
    """Walls of uneven colour, a floor, and clutter."""

    def colour(least: float, most: float) -> np.ndarray:
        vivid = rng.uniform(least, most, 3)
        return vivid + rng.uniform(0.2, 0.9) * (vivid.mean() - vivid)

    coarse = colour(30, 225) + rng.normal(0, 12, (5, 5, 1)) + rng.normal(0, 8, (5, 5, 3))
    if rng.random() < 0.7:
        coarse[int(rng.integers(2, 5)) :] = colour(30, 225) + rng.normal(0, 6, 3)
    picture = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 9))):
        (x, y), (w, h) = rng.uniform(-0.1, 1, 2) * size, (0.02 + rng.uniform(0, 0.3, 2) ** 1.3) * size
        fill, kind = rgb(colour(15, 241)), rng.random()
        if kind < 0.45:
            draw.rectangle((x, y, x + w, y + h), fill)
        elif kind < 0.7:
            draw.ellipse((x, y, x + w, y + h), fill)
        else:
            end = rng.uniform(-0.1, 1.1, 2) * size
            draw.line((x, y, *end), fill, 1 + int(rng.integers(0, int(0.03 * size + 1))))
    return picture


def _table(rng: np.random.Generator, size: int) -> Stroke:
    """Something in front of everybody, at the lower edge or one side."""
    top = rng.uniform(0.68, 0.9)
    x1, x2 = (-0.1, 1.1) if rng.random() < 0.5 else np.sort(rng.uniform(0, 1, 2))
    corners = np.array([(x1, top), (x2, top), (x2, 1.1), (x1, 1.1)]) * size
    return Stroke(9.0, corners, rgb(rng.uniform(20, 235, 3)), 0, True)


def _paint(canvas: Image.Image, strokes: list[Stroke], size: int) -> tuple[Image.Image, np.ndarray]:
    """Draw at twice the size and halve; also which limb is on top at every pixel, `(size, size)`."""
    owners = Image.new("L", (size, size))
    colours, limbs = ImageDraw.Draw(canvas), ImageDraw.Draw(owners)
    for stroke in strokes:
        edge = tuple(v * 2 // 3 for v in stroke.colour) if stroke.edge else None
        # Pillow counts from the centre of the first pixel, we from its corner
        colours.polygon((stroke.outline * 2 - 0.5).ravel().tolist(), stroke.colour, edge)
        limbs.polygon((stroke.outline - 0.5).ravel().tolist(), stroke.owner)
    return canvas.reduce(2), np.asarray(owners)


def _develop(picture: Image.Image, tint: np.ndarray, grain: float, rng: np.random.Generator) -> Image.Image:
    """The camera's exposure, colour cast and grain."""
    pixels = np.asarray(picture) * tint.astype(np.float32)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    # in place: this is the slowest step of a still image
    noise *= grain
    noise += pixels
    return Image.fromarray(noise.clip(0, 255, out=noise).astype(np.uint8))
