"""Body parts of people and what they do: boxes in the parts' colours, and a panel that names them."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ..layers.pose_dots import POSE_DOT_COLORS
from .canvas import GREY, HALO, INK, PAPER, Colour, PathLike, Sheet, Writer, as_boxes, clip, pretty, rgb, stroke_width
from .overlays import outline, tag
from .picture import ImageLike, to_image
from .skeletons import as_people, skeleton_of, skeletons

LIGHT = (255, 255, 255, 110)
"""Rim of boxes in dark colours, which would be lost on dark pictures."""


def body_parts(
    image: ImageLike,
    boxes: Tensor | np.ndarray | Sequence[Sequence[float]],
    part_boxes: Tensor | np.ndarray,
    parts: Sequence[str],
    part_scores: Tensor | np.ndarray | None = None,
    keypoints: Tensor | np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    *,
    colors: Mapping[str, str | Colour] | None = None,
    threshold: float = 0.3,
    font: PathLike | None = None,
) -> Image.Image:
    """Draw people in white and their parts in the parts' colours, without names: `part_panel` says which is which.

    Args:
        image: picture, as `to_image` takes it.
        boxes: (N, 4) xyxy of the people in pixels; N may be 0.
        part_boxes: (N, P, 4) xyxy of their parts; boxes without width or height are not drawn.
        parts: P names.
        part_scores: (N, P); a part that scores 0, whose place is a guess, gets the thinnest line.
        keypoints: (N, J, 3) x, y in pixels and score.
        labels: N short tags of the people, such as their numbers.
        colors: of every part; by default those of the pose dots (PCF, Eq. 3).
        threshold: joints that score less are left out.
        font: TrueType file for other scripts than Latin.

    Raises:
        ValueError: wrong shapes or lengths, non-finite boxes, x2 < x1 or y2 < y1, or a part without a colour.
    """
    picture, people, hues = to_image(image), as_boxes(boxes), _hues(parts, colors)
    count = len(people)
    shape = tuple(part_boxes.shape)
    if shape != (count, len(parts), 4):
        raise ValueError(f"part_boxes must be ({count}, {len(parts)}, 4), for these people and parts, got {shape}")
    for name, given in (("part_scores", part_scores), ("keypoints", keypoints), ("labels", labels)):
        if given is not None and len(given) != count:
            raise ValueError(f"{name} must be {count}, one for each person, got {len(given)}")
    sheet = Sheet(picture.size, smooth=2)
    outline(sheet, people, [rgb(PAPER)] * count)
    corners = as_boxes(part_boxes.reshape(-1, 4)).reshape(shape)
    guessed = np.zeros(shape[:2], bool) if part_scores is None else np.asarray(part_scores) <= 0
    thick = max(2, stroke_width(picture.size))
    for person, unsure in zip(corners, guessed):
        # large parts first, so that a small one inside stays visible
        for p in sorted(range(len(parts)), key=lambda p: -float(np.prod(person[p, 2:] - person[p, :2]))):
            box = clip(person[p], picture.size) if (person[p, 2:] > person[p, :2]).all() else None
            if box is not None:
                _outline(sheet, box, 1 if unsure[p] else thick, hues[p])
    if keypoints is not None and count:
        skeleton = skeleton_of(keypoints.shape[1])
        skeletons(sheet, as_people(keypoints, skeleton), skeleton, threshold, None)
    picture = sheet.over(picture)
    return (
        picture if labels is None else tag(picture, people, [[label] for label in labels], [rgb(PAPER)] * count, font)
    )


def _outline(sheet: Sheet, box: Sequence[float], stroke: int, hue: Colour) -> None:
    """Outline a box in its colour with a rim that sets it off: dark round light colours, light round dark ones."""
    rim, f = 1, sheet.factor
    x1, y1, x2, y2 = (round(v * f) for v in box)
    around = HALO if max(hue) > 160 else LIGHT
    wide = x1 - rim * f, y1 - rim * f, x2 + rim * f - 1, y2 + rim * f - 1
    sheet.draw.rectangle(wide, outline=around, width=(stroke + 2 * rim) * f)
    sheet.draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=hue, width=stroke * f)


def part_panel(
    image: ImageLike,
    states: Mapping[str, tuple[str, float]],
    title: str,
    score: float | None = None,
    caption: str = "",
    *,
    side: Literal["right", "bottom"] | None = None,
    colors: Mapping[str, str | Colour] | None = None,
    font: PathLike | None = None,
) -> Image.Image:
    """Set the picture beside a panel that says what every part does: its colour, name, state and score.

    The panel's size depends on the picture's and on the number of parts alone, so that it is the same for all frames
    of a clip. Both sides of the result are even.

    Args:
        image: picture, as `to_image` takes it.
        states: state and probability of every part by its name, in the order of the rows.
        title: what stands above them, such as the action; underscores are shown as spaces.
        score: probability of the title.
        caption: a second line, such as what time it is.
        side: where the panel stands; by default right, or below a picture that is wide, there in two columns, which
            parts fill row by row.
        colors: of every part; by default those of the pose dots (PCF, Eq. 3).
        font: TrueType file for other scripts than Latin.

    Raises:
        ValueError: an unknown side, or a part without a colour.
    """
    if side not in (None, "right", "bottom"):
        raise ValueError(f'side must be "right", "bottom" or None, got {side!r}')
    hues, picture = _hues(tuple(states), colors), to_image(image)
    width, height = picture.size
    right = side == "right" or (side is None and width < 1.5 * height)
    columns = 1 if right else 2
    rows = math.ceil(len(states) / columns)
    size = min(max(11, round(math.sqrt(width * height) / 36)), 34)
    if right:
        size = max(10, min(size, int(height / (1.7 * rows + 6))))
    area = _even(21 * size, width) if right else _even(max(width, 40 * size), 0)
    margin, step, head = size, round(1.7 * size), round(4.2 * size)
    needed = 2 * margin + head + step * rows - round(0.5 * size)
    total = (width + area, _even(max(height, needed), 0)) if right else (area, height + _even(needed, height))
    canvas = Image.new("RGB", total, PAPER)
    canvas.paste(picture, (0, (total[1] - height) // 2) if right else ((area - width) // 2, 0))
    left, top = margin + (width if right else 0), margin + (0 if right else height)
    _heading(canvas, (left, top), area - 2 * margin, title, score, caption, Writer(round(1.4 * size), font), size)
    writer, pitch = Writer(size, font), (area - margin) // columns
    for i, (part, (state, value)) in enumerate(states.items()):
        corner = left + pitch * (i % columns), top + head + step * (i // columns)
        _row(canvas, corner, pitch - margin, hues[i], part, state, value, writer)
    return canvas


def _even(length: int, other: int) -> int:
    """A length that makes an even sum with another: codecs for browsers want even sizes."""
    return length + (length + other) % 2


def _heading(
    canvas: Image.Image,
    corner: tuple[int, int],
    width: int,
    title: str,
    score: float | None,
    caption: str,
    large: Writer,
    size: int,
) -> None:
    """The title with its score at the right, the caption, and a line below both."""
    x, y = corner
    percent = "" if score is None else f"{score:.0%}"
    large.write(canvas, (x + width, y), percent, INK, width, anchor="ra")
    large.write(canvas, corner, pretty(title), INK, width - large.width(percent) - size)
    Writer(size).write(canvas, (x, y + round(1.9 * size)), caption, GREY, width)
    line = y + round(3.5 * size)
    ImageDraw.Draw(canvas).line((x, line, x + width, line), fill=GREY)


def _row(
    canvas: Image.Image,
    corner: tuple[int, int],
    width: int,
    hue: Colour,
    part: str,
    state: str,
    value: float,
    writer: Writer,
) -> None:
    """A swatch of the part's colour, its name, its state, and the score at the right."""
    (x, y), side = corner, writer.size
    ImageDraw.Draw(canvas).rectangle((x, y + 1, x + side - 1, y + side), fill=hue, outline=GREY)
    percent, gap = f"{value:.0%}", round(0.6 * side)
    name_room = round(0.36 * width)
    writer.write(canvas, (x + side + gap, y), pretty(part), GREY, name_room)
    writer.write(canvas, (x + width, y), percent, GREY, width, anchor="ra")
    at = x + side + gap + name_room + gap
    writer.write(canvas, (at, y), pretty(state), INK, x + width - writer.width("100%") - gap - at)


def _hues(parts: Sequence[str], colors: Mapping[str, str | Colour] | None) -> list[Colour]:
    known = POSE_DOT_COLORS if colors is None else colors
    if unknown := [part for part in parts if part not in known]:
        raise ValueError(f"no colour for the part {unknown[0]!r}; there are {', '.join(known)}")
    return [rgb(known[part]) for part in parts]
