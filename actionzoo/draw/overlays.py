"""Boxes and heat maps laid over a picture of unchanged size."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .canvas import (
    PAPER,
    Box,
    Colour,
    PathLike,
    Sheet,
    Writer,
    as_boxes,
    clip,
    cycle,
    luminance,
    pretty,
    rgb,
    stroke_width,
    text_size,
)
from .picture import ImageLike, to_image

# Eleven evenly spaced colours of matplotlib's "inferno" map (CC0), between which heat is interpolated.
INFERNO = (
    (0, 0, 4), (22, 11, 57), (66, 10, 104), (106, 23, 110), (147, 38, 103), (188, 55, 84),
    (221, 81, 58), (243, 120, 25), (252, 165, 10), (246, 215, 70), (252, 255, 164),
)  # fmt: skip


def boxes(
    image: ImageLike,
    boxes: Tensor | np.ndarray | Sequence[Sequence[float]],
    labels: Sequence[str | None] | None = None,
    scores: Tensor | np.ndarray | Sequence[float] | None = None,
    ids: Tensor | np.ndarray | Sequence[int | None] | None = None,
    colors: Sequence[str | Colour] | None = None,
    *,
    font: PathLike | None = None,
) -> Image.Image:
    """Outline boxes and tag each with its id, label and score.

    Without `colors` a box takes its colour from its id, else from its label, else from its position in
    the list, so that a track or a class keeps one colour. A tag stands above its box where there is
    room and never leaves the picture; a label that is too long ends in an ellipsis. Boxes are cut at
    the picture's border; one that lies wholly outside is not drawn.

    Args:
        image: picture, as `to_image` takes it.
        boxes: (N, 4) xyxy in pixels; N may be 0.
        labels: N names; underscores are shown as spaces.
        scores: N probabilities, shown in percent.
        ids: N track ids.
        colors: N colours, as names, "#rrggbb" or RGB triples.
        font: TrueType file for other scripts than Latin.

    Raises:
        ValueError: wrong shapes or lengths, non-finite coordinates, or x2 < x1 or y2 < y1.
    """
    picture = to_image(image)
    corners = as_boxes(boxes)
    n = len(corners)
    ids = torch.as_tensor(ids).tolist() if isinstance(ids, (Tensor, np.ndarray)) else ids
    for name, given in (("labels", labels), ("scores", scores), ("ids", ids), ("colors", colors)):
        if given is not None and (isinstance(given, str) or len(given) != n):
            raise ValueError(f"{name} must be a list of {n}, one for each box, got {given!r}")
    keys = ids if ids is not None else labels if labels is not None else range(n)
    order = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    places = [key if ids is not None and isinstance(key, int) else order[key] for key in keys]
    hues = [rgb(c) for c in colors] if colors is not None else [rgb(cycle(place)) for place in places]
    values = None if scores is None else torch.as_tensor(scores).reshape(n).tolist()
    sheet = Sheet(picture.size)
    outline(sheet, corners, hues)
    tags = [
        [
            f"#{ids[i]}" if ids is not None and ids[i] is not None else "",
            pretty(labels[i]) if labels is not None else "",
            f"{values[i]:.0%}" if values is not None else "",
        ]
        for i in range(n)
    ]
    return tag(sheet.over(picture), corners, tags, hues, font)


def outline(sheet: Sheet, corners: np.ndarray, hues: Sequence[Colour]) -> None:
    """Outline the boxes `(N, 4)` on a sheet, each in its colour; one wholly outside is left out."""
    stroke = stroke_width(sheet.size)
    # Large boxes first, so that a small one inside stays visible.
    for i in sorted(range(len(corners)), key=lambda i: -float(np.prod(corners[i, 2:] - corners[i, :2]))):
        box = clip(corners[i], sheet.size)
        if box is not None:
            sheet.outline(box, stroke, hues[i])


def tag(
    picture: Image.Image,
    corners: np.ndarray,
    tags: Sequence[Sequence[str]],
    hues: Sequence[Colour],
    font: PathLike | None = None,
) -> Image.Image:
    """Write the parts of each box's tag at the box, on the picture itself, and return it."""
    writer, taken = Writer(text_size(picture.size), font), []
    for corner, parts, hue in zip(corners, tags, hues):
        box = clip(corner, picture.size)
        if box is not None:
            _tag(picture, box, [part for part in parts if part], hue, writer, taken)
    return picture


def _tag(
    picture: Image.Image,
    box: Box,
    parts: list[str],
    hue: Colour,
    writer: Writer,
    taken: list[tuple[int, int, int, int]],
) -> None:
    """Write a tag on the first free place at its box: above, inside, below, by either side."""
    pad = max(2, round(0.35 * writer.size))
    # The score stays readable: the label is what gives way.
    whole = writer.width("  ".join(parts))
    room = min(picture.width, max(0.6 * picture.width, box[2] - box[0], 8 * writer.size)) - 2 * pad
    if whole > room and len(parts) > 1:
        longest = max(range(len(parts)), key=lambda i: len(parts[i]))
        short = writer.fit(parts[longest], room - (whole - writer.width(parts[longest])))
        parts = [short if i == longest else part for i, part in enumerate(parts)]
    text = writer.fit("  ".join(part for part in parts if part), room)
    width, height = writer.width(text) + 2 * pad, round(1.25 * writer.size) + pad
    if not text or height > picture.height:
        return
    x1, y1, x2, y2 = (round(v) for v in box)
    spots = [(x, y) for y in (y1 - height, y1, y2, y2 - height) for x in (x1, x2 - width)]
    limits = picture.width - width, picture.height - height
    spots = [(min(max(x, 0), limits[0]), y) for x, y in spots if 0 <= y <= limits[1]]
    spots = spots or [(min(max(x1, 0), limits[0]), min(max(y1, 0), limits[1]))]

    def free(spot: tuple[int, int]) -> bool:
        x, y = spot
        return all(x >= c or x + width <= a or y >= d or y + height <= b for a, b, c, d in taken)

    x, y = next((spot for spot in spots if free(spot)), spots[0])
    taken.append((x, y, x + width, y + height))
    ImageDraw.Draw(picture).rectangle((x, y, x + width - 1, y + height - 1), fill=hue)
    # Black and white stand out equally from a luminance of 0.179.
    ink = "#000000" if luminance(hue) > 0.179 else PAPER
    writer.write(picture, (x + pad, y + height / 2), text, ink, room, anchor="lm")


def heat_map(image: ImageLike, heat: Tensor | np.ndarray, alpha: float = 0.5) -> Image.Image:
    """Lay a heat map over the picture, in colours whose lightness rises with the heat.

    The map is scaled from its minimum to its maximum and enlarged bilinearly; a constant map counts as
    cold everywhere, NaN and infinity as 0. Cold spots are tinted less than hot ones, so that the
    picture stays recognisable: the opacity runs from `alpha / 2` to `min(1, 1.5 * alpha)`.

    Args:
        image: picture, as `to_image` takes it.
        heat: (h, w) of any size, such as a class-activation map.
        alpha: opacity of a middling spot, 0..1; 0 leaves the picture as it is.

    Raises:
        ValueError: a map that is not (h, w), or `alpha` outside [0, 1].
    """
    picture = to_image(image)
    values = torch.as_tensor(heat).detach().cpu().double()
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"heat must be (h, w), got {tuple(values.shape)}; index or average it first")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    values = values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    values = values - values.min()
    values = values / values.max().clamp(min=torch.finfo(values.dtype).tiny)
    large = torch.nn.functional.interpolate(
        values[None, None], size=(picture.height, picture.width), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    stops = np.linspace(0, 1, len(INFERNO))
    colour = np.stack([np.interp(large, stops, [c[i] for c in INFERNO]) for i in range(3)], axis=-1)
    opacity = np.minimum(1.0, alpha * (0.5 + large))[..., None]
    blend = np.asarray(picture) * (1 - opacity) + colour * opacity
    return Image.fromarray(np.round(blend).astype(np.uint8))
