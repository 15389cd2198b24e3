"""What a body and the things in its hands are painted with: coloured polygons, each with its depth."""

from typing import NamedTuple

import numpy as np

from .body import HEAD, INDEX
from .limbs import FROM, LIMB, SKULL_RADIUS, TO, disc

SKIN = ((246, 216, 190), (229, 184, 143), (198, 142, 98), (148, 97, 62), (96, 62, 42))
HAIR = ((35, 26, 22), (70, 44, 28), (120, 80, 40), (190, 150, 80), (110, 110, 110), (140, 50, 25))
_HEAD_BIAS = 0.004
FIRST_OWNER, OWNERS_EACH = 1, 20
"""Numbers that limbs go by where it is noted what is on top: the first, and how many are set aside for a person."""


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


class Stroke(NamedTuple):
    """A polygon of one colour, and which limb of which person it shows."""

    depth: float
    outline: np.ndarray
    colour: tuple[int, int, int]
    owner: int
    """0 for things; see `owner_of` for limbs."""
    edge: bool


def owner_of(person: int, limb: str) -> int:
    """The number that stands for a limb of a person."""
    return FIRST_OWNER + OWNERS_EACH * person + LIMB[limb]


def random_look(rng: np.random.Generator) -> Look:
    """Clothes and colours of somebody."""

    def colour() -> np.ndarray:
        return rng.integers(20, 236, 3).astype(np.float64)

    skin = np.array(SKIN[rng.integers(len(SKIN))], dtype=np.float64) * rng.uniform(0.92, 1.05)
    hair = np.array(HAIR[rng.integers(len(HAIR))], dtype=np.float64)
    flags = rng.random(4)
    return Look(
        skin, hair, colour(), colour(), colour(), flags[0] < 0.5, flags[1] < 0.3, flags[2] < 0.3, flags[3] < 0.2,
        colour(),
    )  # fmt: skip


def rgb(colour: np.ndarray, light: float = 1.0) -> tuple[int, int, int]:
    """A colour as Pillow takes it."""
    r, g, b = (colour * light).clip(0, 255)
    return int(r), int(g), int(b)


def body_strokes(
    points: np.ndarray, space: np.ndarray, outlines: np.ndarray, height: float, look: Look, person: int
) -> list[Stroke]:
    """Strokes of one body in one frame.

    Args:
        points: `(26, 2)` in the picture.
        space: `(26, 3)` the same in fractions of the height.
        outlines: `(17, 12, 2)` of the limbs in the picture.
        height: Body height in the picture's unit.
        look: Colours.
        person: Which one it is.
    """
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
    for name, i in list(LIMB.items())[:12]:
        depth = (z[FROM[i]] + z[TO[i]]) / 2
        kind = name.split("_", 1)[1]
        # before the torso if it is level with it
        bias = 0.012 if "arm" in kind or kind == "hand" else -0.01
        light = 1.0 if depth > -0.03 else 0.82
        strokes.append(Stroke(depth + bias, outlines[i], rgb(colours[kind], light), owner_of(person, name), True))
    corners = points[[INDEX["right_shoulder"], INDEX["left_shoulder"], INDEX["left_hip"], INDEX["right_hip"]]]
    shirt = rgb(look.shirt)
    for name, depth, shape, colour in (
        ("throat", -0.002, outlines[LIMB["throat"]], rgb(skin, 0.9)),
        ("hips", -0.001, outlines[LIMB["hips"]], rgb(trousers)),
        ("spine", 0.0, outlines[LIMB["spine"]], shirt),
        ("shoulders", 0.0, outlines[LIMB["shoulders"]], shirt),
        ("spine", 0.0, corners, shirt),
    ):
        strokes.append(Stroke(depth, shape, colour, owner_of(person, name), False))
    if look.stripes:
        stripe, drop = rgb(255 - look.shirt), 0.008 * height * np.array([0.0, 1.0])
        for share in (0.25, 0.5, 0.75):
            a, b = corners[0] + share * (corners[3] - corners[0]), corners[1] + share * (corners[2] - corners[1])
            shape = np.stack([a, b, b + drop, a + drop])
            strokes.append(Stroke(0.001, shape, stripe, owner_of(person, "spine"), False))
    return strokes + _head_strokes(points, space, height, look, owner_of(person, "skull"))


def head_middle(space: np.ndarray) -> np.ndarray:
    """Depth `(...,)` of the middle of the heads of bodies `(..., 26, 3)`."""
    return (space[..., INDEX["neck"], 2] + space[..., INDEX["head_top"], 2]) / 2


def on_face(space: np.ndarray, name: str) -> np.ndarray:
    """`(...,)` whether an eye or the mouth is on the near side of the head, so that it is painted."""
    return space[..., INDEX[name], 2] > head_middle(space) + _HEAD_BIAS + 0.015


def _head_strokes(points: np.ndarray, space: np.ndarray, height: float, look: Look, owner: int) -> list[Stroke]:
    centre = (points[INDEX["neck"]] + points[INDEX["head_top"]]) / 2
    depth = float(head_middle(space)) + _HEAD_BIAS
    facing = space[INDEX["nose"]] - (space[INDEX["neck"]] + space[INDEX["head_top"]]) / 2
    toward = facing[2] / (0.56 * HEAD)
    radius = SKULL_RADIUS * height
    up = points[INDEX["head_top"]] - points[INDEX["neck"]]
    up = up / max(float(np.linalg.norm(up)), 1e-6)
    strokes = [Stroke(depth, disc(centre, radius * 0.88, radius), rgb(look.hair), owner, True)]
    if toward > -0.35:
        shift = facing[:2] * height * 0.42 - up * radius * 0.16
        face = disc(centre + shift, radius * (0.62 + 0.14 * max(toward, 0)), radius * 0.8)
        strokes.append(Stroke(depth + 1e-4, face, rgb(look.skin), owner, False))
    if look.hat:
        brim = np.array([-up[1], up[0]]) * radius
        low, high = centre + up * radius * 0.45, centre + up * radius * 1.15
        shape = np.stack([low - brim, low + brim, high + brim * 0.75, high - brim * 0.75])
        strokes.append(Stroke(depth + 2e-4, shape, rgb(look.shoes), owner, True))
    for name, size, colour in (("left_eye", 0.12, 25.0), ("right_eye", 0.12, 25.0), ("mouth", 0.17, 90.0)):
        if on_face(space, name):
            tone = np.array([colour, 30.0, 35.0])
            mark = disc(points[INDEX[name]], radius * size, radius * size * 0.7, 6)
            strokes.append(Stroke(depth + 3e-4, mark, rgb(tone), owner, False))
    return strokes


def prop_strokes(
    kind: str, side: int, points: np.ndarray, space: np.ndarray, height: float, look: Look
) -> list[Stroke]:
    """Strokes of a thing in a hand; the arguments are those of `Prop` and `body_strokes`."""
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
        return [Stroke(depth, cup, rgb(colour), 0, True), Stroke(depth, rim, rgb(255 - colour), 0, False)]
    if kind == "phone":
        phone = bar(hand - up * 0.032 * height, hand + up * 0.045 * height, 0.044)
        screen = bar(hand - up * 0.022 * height, hand + up * 0.035 * height, 0.032)
        return [Stroke(depth, phone, (24, 24, 30), 0, True), Stroke(depth, screen, (120, 190, 235), 0, False)]
    if kind == "brush":
        tip = points[INDEX["mouth"]]
        away = hand - tip
        away = away / max(float(np.linalg.norm(away)), 1e-6)
        handle = bar(tip, tip + away * 0.115 * height, 0.015)
        bristles = bar(tip, tip + away * 0.028 * height, 0.03)
        return [Stroke(depth, handle, rgb(colour), 0, True), Stroke(depth, bristles, (250, 250, 250), 0, True)]
    if kind == "flute":
        along = hand - other
        return [Stroke(depth, bar(other - along * 0.75, hand + along * 0.45, 0.019), rgb(colour), 0, True)]
    middle, half = (hand + other) / 2, np.array([0.1, 0.065]) * height
    box = np.stack([middle + half * corner for corner in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    return [Stroke(depth - 0.045, box, rgb(colour), 0, True)]
