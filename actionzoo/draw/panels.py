"""Pictures with a panel of score bars, and chains of focus regions."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .canvas import (
    BEST,
    GREY,
    INK,
    OTHERS,
    PAPER,
    TRACK,
    Box,
    Colour,
    PathLike,
    Sheet,
    Writer,
    as_boxes,
    clip,
    cycle,
    pretty,
    rgb,
)
from .picture import ImageLike, resized, to_image


def score_bars(
    image: ImageLike,
    labels: Sequence[str],
    scores: Tensor | np.ndarray | Sequence[float],
    title: str | None = None,
    *,
    k: int = 5,
    side: Literal["right", "bottom"] | None = None,
    font: PathLike | None = None,
) -> Image.Image:
    """Set the picture beside a panel with a bar for each of the `k` best classes.

    A bar's track is a score of 1. Pictures under 160 pixels are enlarged so that the panel is readable.

    Args:
        image: picture, as `to_image` takes it.
        labels: K names; underscores are shown as spaces.
        scores: (K,) probabilities.
        title: line above the bars.
        k: number of bars at most.
        side: where the panel stands; by default right, or below a picture that is wide.
        font: TrueType file for other scripts than Latin.

    Raises:
        ValueError: no label, another number of scores than of labels, scores outside [0, 1], k < 1, or
            an unknown side.
    """
    if side not in (None, "right", "bottom"):
        raise ValueError(f'side must be "right", "bottom" or None, got {side!r}')
    rows = _best(labels, scores, k)
    picture = to_image(image)
    if (scale := min(160 / min(picture.size), max(1.0, 640 / max(picture.size)))) > 1:
        picture = resized(picture, scale)
    width, height = picture.size
    right = side == "right" or (side is None and width < 1.7 * height)

    size = min(max(12, round(math.sqrt(width * height) / 34)), 40)
    if right:
        size = max(11, min(size, int(height / (2.7 * len(rows) + 3))))
    area = 19 * size if right else max(width, 14 * size)
    columns = 1 if right else min(len(rows), max(1, area // (18 * size)))
    per_column = math.ceil(len(rows) / columns)
    margin, step, head = round(1.4 * size), round(2.7 * size), round(2.2 * size) if title else 0
    needed = 2 * margin + head + step * per_column - round(0.9 * size)
    total = (width + area, max(height, needed)) if right else (area, height + needed)
    canvas = Image.new("RGB", total, PAPER)
    canvas.paste(picture, (0, (total[1] - height) // 2) if right else ((area - width) // 2, 0))

    left = margin + (width if right else 0)
    top = margin + ((total[1] - needed) // 2 if right else height)
    if title:
        heading = Writer(round(1.2 * size), font)
        heading.write(canvas, (left, top), " ".join(title.split()), INK, area - 2 * margin)
    writer, pitch = Writer(size, font), (area - margin) // columns
    for i, (label, value) in enumerate(rows):
        corner = left + pitch * (i // per_column), top + head + step * (i % per_column)
        _bar(canvas, corner, pitch - margin, label, value, i == 0, writer)
    return canvas


def _best(labels: Sequence[str], scores: Tensor | np.ndarray | Sequence[float], k: int) -> list[tuple[str, float]]:
    """Check the scores and return the `k` best, best first."""
    values = torch.as_tensor(scores).detach().cpu().double()
    if isinstance(labels, str) or not len(labels) or values.shape != (len(labels),):
        raise ValueError(f"need as many labels as scores, at least one; got {len(labels)} and {tuple(values.shape)}")
    # Half-precision softmax may end a hair above 1.
    if not ((values >= 0) & (values <= 1.01)).all():
        raise ValueError("scores must lie in [0, 1]: give logits.softmax(-1), not logits")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    ranked = values.argsort(descending=True, stable=True)[:k].tolist()
    return [(pretty(labels[i]), min(1.0, float(values[i]))) for i in ranked]


def _bar(
    canvas: Image.Image,
    corner: tuple[int, int],
    width: int,
    label: str,
    value: float,
    best: bool,
    writer: Writer,
) -> None:
    """Write the label and the percentage, and draw the bar under them."""
    x, y = corner
    percent = f"{value:.1%}"
    writer.write(canvas, (x + width, y), percent, INK, width, anchor="ra")
    room = width - writer.width(percent) - writer.size
    writer.write(canvas, corner, label, INK if best else GREY, room)
    thick = max(4, round(0.42 * writer.size))
    bar_top = y + round(1.36 * writer.size)
    sheet = Sheet((width, thick))
    sheet.pill((0, 0, width, thick), TRACK)
    if (length := round(value * width)) > 0:
        sheet.pill((0, 0, length, thick), BEST if best else OTHERS)
    canvas.paste(sheet.over(canvas.crop((x, bar_top, x + width, bar_top + thick))), (x, bar_top))


def focus_chain(
    image: ImageLike,
    boxes: Tensor | np.ndarray | Sequence[Sequence[float]],
    labels: Sequence[str] | None = None,
    *,
    height: int | None = None,
    font: PathLike | None = None,
) -> Image.Image:
    """Show where a model looks next: the picture with its focus boxes, then every region enlarged.

    Each region keeps the colour of its box; the next box is outlined in the region before it.

    Args:
        image: picture, as `to_image` takes it.
        boxes: (S, 4) xyxy in pixels of the original picture, S >= 1, in the order of the steps.
        labels: captions of the S regions, or of the picture and the S regions.
        height: of a panel in pixels; by default the picture's, within 160..480.
        font: TrueType file for other scripts than Latin.

    Raises:
        ValueError: wrong shapes or lengths, no box, a box that misses the picture, or height < 32.
    """
    picture = to_image(image)
    height = min(max(picture.height, 160), 480) if height is None else height
    if height < 32:
        raise ValueError(f"height must be at least 32 pixels, got {height}")
    corners = as_boxes(boxes)
    regions = [box for corner in corners if (box := clip(corner, picture.size)) is not None]
    count = len(regions)
    if not count or count < len(corners):
        raise ValueError(f"need at least one box, each within {picture.size}; got {corners.tolist()}")
    if labels is None:
        labels = [f"region {i + 1}" for i in range(count)]
    if isinstance(labels, str) or len(labels) not in (count, count + 1):
        raise ValueError(f"need {count} labels (regions) or {count + 1} (picture first), got {labels!r}")
    captions = ["image", *labels] if len(labels) == count else list(labels)

    marks = [(box, rgb(cycle(i))) for i, box in enumerate(regions)]
    stroke = max(2, round(height / 120))
    whole = (0.0, 0.0, float(picture.width), float(picture.height))
    panels = [_panel(picture, whole, marks, height, stroke, None)]
    for i, (region, hue) in enumerate(marks):
        panels.append(_panel(picture, region, marks[i + 1 : i + 2], height, stroke, hue))
    return _chain(panels, captions, height, font)


def _chain(panels: list[Image.Image], captions: list[str], height: int, font: PathLike | None) -> Image.Image:
    """Set panels side by side with arrows between them and captions below."""
    writer = Writer(max(12, round(height / 20)), font)
    gap, below = round(2.2 * writer.size), round(1.9 * writer.size)
    margin = round(0.8 * writer.size)
    # A narrow panel still gets room for its caption.
    widths = [max(panel.width, 5 * writer.size) for panel in panels]
    total = sum(widths) + gap * (len(panels) - 1) + 2 * margin
    canvas = Image.new("RGB", (total, height + below + 2 * margin), PAPER)
    x = margin
    for i, (panel, width) in enumerate(zip(panels, widths)):
        canvas.paste(panel, (x + (width - panel.width) // 2, margin + (height - panel.height) // 2))
        at = x + width // 2, margin + height + round(0.55 * writer.size)
        writer.write(canvas, at, pretty(captions[i]), INK, width + gap - writer.size, anchor="ma")
        x += width + gap
        if i < len(panels) - 1:
            _chevron(canvas, (x - gap // 2, margin + height // 2), 0.5 * writer.size)
    return canvas


def _panel(
    picture: Image.Image,
    view: Box,
    marks: list[tuple[Box, Colour]],
    height: int,
    stroke: int,
    frame: Colour | None,
) -> Image.Image:
    """Enlarge one view of the picture to `height` (less for a very wide view), with boxes and a frame."""
    x1, y1, x2, y2 = view
    scale = min(height / (y2 - y1), 3 * height / (x2 - x1))
    size = max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))
    panel = picture.resize(size, Image.Resampling.BICUBIC, box=view)
    sheet = Sheet(size)
    for (a, b, c, d), hue in marks:
        mapped = ((a - x1) * scale, (b - y1) * scale, (c - x1) * scale, (d - y1) * scale)
        if (box := clip(mapped, size)) is not None:
            sheet.outline(box, stroke, hue)
    if frame is not None:
        sheet.outline((0, 0, *size), stroke + 1, frame)
    return sheet.over(panel)


def _chevron(canvas: Image.Image, centre: tuple[int, int], size: float) -> None:
    side = math.ceil(size) + 2
    box = (centre[0] - side, centre[1] - side, centre[0] + side, centre[1] + side)
    sheet = Sheet((2 * side, 2 * side))
    tip = (side + size / 2, side)
    for y in (side - size, side + size):
        sheet.line((side - size / 2, y), tip, size / 3, rgb(GREY))
    sheet.disc(tip, size / 6, rgb(GREY))
    canvas.paste(sheet.over(canvas.crop(box)), box[:2])
