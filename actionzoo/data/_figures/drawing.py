"""Drawing a scene and reading off its truth."""

from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .body import COCO_POINTS, HEAD, INDEX, MPII_POINTS, NECK, body_points
from .scenes import Actor, Scene

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
]  # fmt: skip
_NAMES = [row[0] for row in _LIMBS]
_FROM = [INDEX[row[1]] for row in _LIMBS]
_TO = [INDEX[row[2]] for row in _LIMBS]
_RADII = np.array([row[3:] for row in _LIMBS], dtype=np.float64)
_SKULL_RADIUS = 0.52 * HEAD

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
_PART_INDEX = [[_NAMES.index(name) for name in _PART_LIMBS[part]] for part in PARTS]
_TORSO = ("shoulders", "hips", "spine", "throat")
# limbs that show a point when they are on top of it
_SHOWN_BY = {
    **{
        f"{side}_{point}": tuple(f"{side}_{limb}" for limb in limbs)
        for side in ("left", "right")
        for point, limbs in (
            ("shoulder", ("upper_arm",)),
            ("elbow", ("upper_arm", "forearm")),
            ("wrist", ("forearm", "hand")),
            ("hip", ("thigh",)),
            ("knee", ("thigh", "shin")),
            ("ankle", ("shin", "foot")),
        )
    },
    "pelvis": _TORSO,
    "thorax": (*_TORSO, "skull"),
    "neck": (*_TORSO, "skull"),
}
_SHOWN_BY["right_shoulder"] += _TORSO
_SHOWN_BY["left_shoulder"] += _TORSO
_SHOWN_BY["right_hip"] += _TORSO
_SHOWN_BY["left_hip"] += _TORSO
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")

SKIN = ((246, 216, 190), (229, 184, 143), (198, 142, 98), (148, 97, 62), (96, 62, 42))
HAIR = ((35, 26, 22), (70, 44, 28), (120, 80, 40), (190, 150, 80), (110, 110, 110), (140, 50, 25))


class Look(NamedTuple):
    """Colours of one person."""

    skin: np.ndarray
    hair: np.ndarray
    shirt: np.ndarray
    trousers: np.ndarray
    shoes: np.ndarray
    short_sleeves: bool
    shorts: bool
    stripes: bool
    hat: bool
    prop: np.ndarray


class Drawn(NamedTuple):
    """Pictures of a scene and what is true of them, in pixels; P people, T frames."""

    frames: list[Image.Image]
    points: np.ndarray
    """`(P, T, 26, 2)` points of the bodies in the picture."""
    space: np.ndarray
    """`(P, T, 26, 3)` the same in fractions of the body's height."""
    shown: np.ndarray
    """`(P, T, 26)` 2 visible, 1 hidden, 0 outside the picture."""
    boxes: np.ndarray
    """`(P, T, 4)` xyxy, clipped to the picture; of no area where nobody is seen."""
    part_boxes: np.ndarray
    """`(P, T, 10, 4)` likewise for `PARTS`."""
    head_sizes: np.ndarray
    """`(P, T)` length of the head segment."""


def _look(rng: np.random.Generator) -> Look:
    def colour() -> np.ndarray:
        return rng.integers(20, 236, 3).astype(np.float64)

    skin = np.array(SKIN[rng.integers(len(SKIN))], dtype=np.float64) * rng.uniform(0.92, 1.05)
    hair = np.array(HAIR[rng.integers(len(HAIR))], dtype=np.float64)
    flags = rng.random(4)
    return Look(
        skin, hair, colour(), colour(), colour(), flags[0] < 0.5, flags[1] < 0.3, flags[2] < 0.3, flags[3] < 0.2,
        colour(),
    )  # fmt: skip


def _to_picture(scene: Scene, actor: Actor, space: np.ndarray) -> np.ndarray:
    """Points in space `(T, 26, 3)` to the unit picture `(T, 26, 2)`."""
    flat = space[..., :2] * actor.height[:, None, None]
    flat += np.stack([actor.x, actor.ground], -1)[:, None]
    cos, sin = np.cos(scene.roll), np.sin(scene.roll)
    turned = (flat - 0.5) @ np.array([[cos, sin], [-sin, cos]]) + 0.5
    return turned + scene.pan[:, None]


_ARC = np.linspace(np.pi / 2, 3 * np.pi / 2, 6)


def _capsules(start: np.ndarray, end: np.ndarray, r0: np.ndarray, r1: np.ndarray) -> np.ndarray:
    """Outlines `(…, 12, 2)` of tapered limbs with round ends."""
    axis = end - start
    angle = np.arctan2(axis[..., 1], axis[..., 0])[..., None]
    first, second = angle + _ARC, angle + _ARC + np.pi
    back = start[..., None, :] + r0[..., None, None] * np.stack([np.cos(first), np.sin(first)], -1)
    front = end[..., None, :] + r1[..., None, None] * np.stack([np.cos(second), np.sin(second)], -1)
    return np.concatenate([back, front], -2)


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
        fill, kind = _rgb(colour(15, 241)), rng.random()
        if kind < 0.45:
            draw.rectangle((x, y, x + w, y + h), fill)
        elif kind < 0.7:
            draw.ellipse((x, y, x + w, y + h), fill)
        else:
            draw.line((x, y, *(rng.uniform(-0.1, 1.1, 2) * size)), fill, int(1 + rng.integers(0, 0.03 * size + 1)))
    return picture


class _Stroke(NamedTuple):
    """A polygon of one colour, and which limb of which person it shows (0 for none)."""

    depth: float
    outline: np.ndarray
    colour: tuple[int, int, int]
    owner: int
    edge: bool


def _rgb(colour: np.ndarray, light: float = 1.0) -> tuple[int, int, int]:
    r, g, b = (colour * light).clip(0, 255)
    return int(r), int(g), int(b)


def _disc(centre: np.ndarray, rx: float, ry: float | None = None, sides: int = 14) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    return centre + np.stack([rx * np.cos(turn), (rx if ry is None else ry) * np.sin(turn)], -1)


def _body_strokes(
    points: np.ndarray, space: np.ndarray, outlines: np.ndarray, height: float, look: Look, base: int
) -> list[_Stroke]:
    """Strokes of one body in one frame, far to near."""
    strokes, z = [], space[:, 2]
    skin, trousers = look.skin, look.trousers
    colours = {
        "thigh": trousers,
        "shin": skin if look.shorts else trousers,
        "foot": look.shoes,
        "upper_arm": look.shirt * 0.94,
        "forearm": skin if look.short_sleeves else look.shirt * 0.97,
        "hand": skin,
    }
    for i, name in enumerate(_NAMES[:12]):
        depth = (z[_FROM[i]] + z[_TO[i]]) / 2
        kind = name.split("_", 1)[1]
        # before the torso if it is level with it
        bias = 0.012 if "arm" in kind or kind == "hand" else -0.01
        light = 1.0 if depth > -0.03 else 0.82
        strokes.append(_Stroke(depth + bias, outlines[i], _rgb(colours[kind], light), base + i, True))
    corners = points[[INDEX["right_shoulder"], INDEX["left_shoulder"], INDEX["left_hip"], INDEX["right_hip"]]]
    strokes.append(_Stroke(-0.002, outlines[_NAMES.index("throat")], _rgb(skin, 0.9), base + 15, False))
    strokes.append(_Stroke(-0.001, outlines[_NAMES.index("hips")], _rgb(trousers), base + 13, False))
    for name, shape in (("spine", outlines[_NAMES.index("spine")]), ("shoulders", outlines[12]), ("spine", corners)):
        strokes.append(_Stroke(0.0, shape, _rgb(look.shirt), base + _NAMES.index(name), False))
    if look.stripes:
        stripe = _rgb(255 - look.shirt)
        for share in (0.25, 0.5, 0.75):
            a, b = corners[0] + share * (corners[3] - corners[0]), corners[1] + share * (corners[2] - corners[1])
            drop = 0.008 * height * np.array([0.0, 1.0])
            strokes.append(_Stroke(0.001, np.stack([a, b, b + drop, a + drop]), stripe, base + 14, False))
    return strokes + _head_strokes(points, space, height, look, base + 16)


def _head_strokes(points: np.ndarray, space: np.ndarray, height: float, look: Look, owner: int) -> list[_Stroke]:
    centre = (points[INDEX["neck"]] + points[INDEX["head_top"]]) / 2
    depth = (space[INDEX["neck"], 2] + space[INDEX["head_top"], 2]) / 2 + 0.004
    facing = space[INDEX["nose"]] - (space[INDEX["neck"]] + space[INDEX["head_top"]]) / 2
    toward = facing[2] / (0.56 * HEAD)
    radius = _SKULL_RADIUS * height
    up = points[INDEX["head_top"]] - points[INDEX["neck"]]
    up = up / max(float(np.linalg.norm(up)), 1e-6)
    strokes = [_Stroke(depth, _disc(centre, radius * 0.88, radius), _rgb(look.hair), owner, True)]
    if toward > -0.35:
        shift = facing[:2] * height * 0.42 - up * radius * 0.16
        face = _disc(centre + shift, radius * (0.62 + 0.14 * max(toward, 0)), radius * 0.8)
        strokes.append(_Stroke(depth + 1e-4, face, _rgb(look.skin), owner, False))
    if look.hat:
        brim = np.array([-up[1], up[0]]) * radius
        low, high = centre + up * radius * 0.45, centre + up * radius * 1.15
        shape = np.stack([low - brim, low + brim, high + brim * 0.75, high - brim * 0.75])
        strokes.append(_Stroke(depth + 2e-4, shape, _rgb(look.shoes), owner, True))
    for name, size, colour in (("left_eye", 0.12, 25.0), ("right_eye", 0.12, 25.0), ("mouth", 0.17, 90.0)):
        if space[INDEX[name], 2] > depth + 0.015:
            tone = np.array([colour, 30.0, 35.0])
            mark = _disc(points[INDEX[name]], radius * size, radius * size * 0.7, 6)
            strokes.append(_Stroke(depth + 3e-4, mark, _rgb(tone), owner, False))
    return strokes


def _prop_strokes(
    kind: str, side: int, points: np.ndarray, space: np.ndarray, height: float, look: Look
) -> list[_Stroke]:
    names = ("right", "left")
    hand = points[INDEX[f"{names[side]}_hand"]]
    other = points[INDEX[f"{names[1 - side]}_hand"]]
    depth = space[INDEX[f"{names[side]}_hand"], 2] + 0.03
    up, colour = np.array([0.0, -1.0]), look.prop

    def bar(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
        across = np.array([-(b - a)[1], (b - a)[0]])
        across *= width * height / 2 / max(float(np.linalg.norm(across)), 1e-6)
        return np.stack([a - across, b - across, b + across, a + across])

    if kind == "cup":
        cup = bar(hand - up * 0.022 * height, hand + up * 0.05 * height, 0.05)
        rim = bar(hand + up * 0.038 * height, hand + up * 0.05 * height, 0.05)
        return [_Stroke(depth, cup, _rgb(colour), 0, True), _Stroke(depth, rim, _rgb(255 - colour), 0, False)]
    if kind == "phone":
        phone = bar(hand - up * 0.032 * height, hand + up * 0.045 * height, 0.044)
        screen = bar(hand - up * 0.022 * height, hand + up * 0.035 * height, 0.032)
        return [_Stroke(depth, phone, (24, 24, 30), 0, True), _Stroke(depth, screen, (120, 190, 235), 0, False)]
    if kind == "brush":
        tip = points[INDEX["mouth"]]
        away = hand - tip
        away = away / max(float(np.linalg.norm(away)), 1e-6)
        handle = bar(tip, tip + away * 0.115 * height, 0.015)
        bristles = bar(tip, tip + away * 0.028 * height, 0.03)
        return [_Stroke(depth, handle, _rgb(colour), 0, True), _Stroke(depth, bristles, (250, 250, 250), 0, True)]
    if kind == "flute":
        along = hand - other
        flute = bar(other - along * 0.75, hand + along * 0.45, 0.019)
        return [_Stroke(depth, flute, _rgb(colour), 0, True)]
    middle, half = (hand + other) / 2, np.array([0.1, 0.065]) * height
    box = np.stack([middle + half * corner for corner in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    return [_Stroke(depth - 0.045, box, _rgb(colour), 0, True)]


def draw_scene(scene: Scene, size: int, rng: np.random.Generator) -> Drawn:
    """Draw every frame of a scene and read off the truth.

    Args:
        scene: What there is to see.
        size: Side of the pictures in pixels.
        rng: Draws looks, background and noise.
    """
    space = np.stack([body_points(actor.pose, scene.pitch) for actor in scene.actors])
    points = np.stack([_to_picture(scene, actor, at) for actor, at in zip(scene.actors, space)]) * size
    height = np.stack([actor.height for actor in scene.actors]) * size
    radii = _RADII * height[..., None, None]
    outlines = _capsules(points[..., _FROM, :], points[..., _TO, :], radii[..., 0], radii[..., 1])
    skull = (points[..., INDEX["neck"], :] + points[..., INDEX["head_top"], :]) / 2
    outlines[..., -1, :, :] = _disc(skull[..., None, :], 1, 1, 12) * 0 + skull[..., None, :]
    outlines[..., -1, :, :] += _disc(np.zeros(2), _SKULL_RADIUS, sides=12) * height[..., None, None]

    looks = [_look(rng) for _ in scene.actors]
    margin = 1.2 if scene.frames > 1 else 1.0
    background = _background(rng, int(2 * size * margin))
    table = _table(rng, size) if scene.table else None
    light, tint, grain = rng.uniform(0.75, 1.2), rng.uniform(0.92, 1.08, 3), rng.uniform(1, 7)
    frames, shown = [], np.zeros(points.shape[:3], dtype=np.int64)
    for t in range(scene.frames):
        strokes = []
        for p, (actor, look) in enumerate(zip(scene.actors, looks)):
            args = points[p, t], space[p, t]
            body = _body_strokes(*args, outlines[p, t], height[p, t], look, 1 + 20 * p)
            for prop in actor.props:
                body += _prop_strokes(prop.kind, prop.side, *args, height[p, t], look)
            strokes += sorted(body, key=lambda stroke: stroke.depth)
        if table is not None:
            strokes.append(table)
        shift = (scene.pan[t] + (margin - 1) / 2) * size * 2
        left, top = -shift + (margin - 1) * size * 2 if margin > 1 else (0, 0)
        canvas = background.crop((int(left), int(top), int(left) + 2 * size, int(top) + 2 * size))
        picture, owners = _paint(canvas, strokes, size)
        frames.append(_develop(picture, light * tint, grain, rng))
        shown[:, t] = _visibility(points[:, t], space[:, t], owners, size)
    boxes, part_boxes = _boxes(outlines, size)
    return Drawn(frames, points, space, shown, boxes, part_boxes, height * (HEAD + NECK))


def _table(rng: np.random.Generator, size: int) -> _Stroke:
    """Something in front of everybody, at the lower edge or one side."""
    top = rng.uniform(0.68, 0.9)
    x1, x2 = (-0.1, 1.1) if rng.random() < 0.5 else np.sort(rng.uniform(0, 1, 2))
    corners = np.array([(x1, top), (x2, top), (x2, 1.1), (x1, 1.1)]) * size
    return _Stroke(9.0, corners, _rgb(rng.uniform(20, 235, 3)), 0, True)


def _paint(canvas: Image.Image, strokes: list[_Stroke], size: int) -> tuple[Image.Image, np.ndarray]:
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
    pixels = np.asarray(picture).astype(np.float32) * tint.astype(np.float32)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray((pixels + grain * noise).clip(0, 255).astype(np.uint8))


def _visibility(points: np.ndarray, space: np.ndarray, owners: np.ndarray, size: int) -> np.ndarray:
    """`(P, 26)` whether each point is seen (2), behind something (1) or outside (0)."""
    cells = np.floor(points).astype(np.int64)
    inside = ((cells >= 0) & (cells < size)).all(-1)
    x, y = cells.clip(0, size - 1)[..., 0], cells.clip(0, size - 1)[..., 1]
    top, state = owners[y, x], inside.astype(np.int64)
    for p in range(len(points)):
        for name, limbs in _SHOWN_BY.items():
            allowed = [1 + 20 * p + _NAMES.index(limb) for limb in limbs]
            state[p, INDEX[name]] += int(inside[p, INDEX[name]] and top[p, INDEX[name]] in allowed)
        skull = 1 + 20 * p + _NAMES.index("skull")
        middle = (space[p, INDEX["neck"], 2] + space[p, INDEX["head_top"], 2]) / 2
        for name in _FACE:
            seen = top[p, INDEX[name]] == skull and space[p, INDEX[name], 2] > middle - 0.02
            state[p, INDEX[name]] += int(inside[p, INDEX[name]] and seen)
        # the crown lies on the edge of the head, where the pixel may belong to what is behind it
        covered = top[p, INDEX["head_top"]] not in (0, skull)
        state[p, INDEX["head_top"]] += int(inside[p, INDEX["head_top"]] and not covered)
    return state


def _boxes(outlines: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = outlines.min(-2), outlines.max(-2)

    def around(limbs: Any) -> np.ndarray:
        x1y1, x2y2 = low[..., limbs, :].min(-2), high[..., limbs, :].max(-2)
        box = np.concatenate([x1y1, x2y2], -1).clip(0, size)
        empty = (box[..., 2] <= box[..., 0]) | (box[..., 3] <= box[..., 1])
        return np.where(empty[..., None], 0.0, box)

    return around(slice(None)), np.stack([around(limbs) for limbs in _PART_INDEX], -2)


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
