"""Several pictures on one sheet."""

import math
from collections.abc import Sequence

from PIL import Image

from .canvas import INK, PAPER, PathLike, Writer, pretty
from .picture import ImageLike, resized, to_image


def grid(
    images: Sequence[ImageLike],
    columns: int | None = None,
    captions: Sequence[str] | None = None,
    *,
    cell: tuple[int, int] | None = None,
    font: PathLike | None = None,
) -> Image.Image:
    """Arrange pictures in rows, each scaled to fit one cell and centred in it, with captions below.

    Args:
        images: pictures, as `to_image` takes them.
        columns: pictures in a row; by default as square as possible.
        captions: one for each picture; underscores are shown as spaces.
        cell: width and height of a cell in pixels; by default those of the largest picture, within
            96..480.
        font: TrueType file for other scripts than Latin.

    Raises:
        ValueError: no pictures, another number of captions, or columns or cell sides under 1.
    """
    pictures = [to_image(image) for image in images]
    if not pictures:
        raise ValueError("grid needs at least one picture")
    if captions is not None and (isinstance(captions, str) or len(captions) != len(pictures)):
        raise ValueError(f"captions must be a list of {len(pictures)}, one a picture, got {captions!r}")
    columns = math.ceil(math.sqrt(len(pictures))) if columns is None else min(columns, len(pictures))
    if cell is None:
        largest = max(p.width for p in pictures), max(p.height for p in pictures)
        fit = min(1.0, 480 / max(largest)) if max(largest) >= 96 else 96 / max(largest)
        cell = max(1, round(largest[0] * fit)), max(1, round(largest[1] * fit))
    if columns < 1 or min(cell) < 1:
        raise ValueError(f"columns and cell sides must be at least 1, got {columns} and {cell}")
    writer = Writer(max(11, round(min(cell) / 17)), font)
    gap, below = round(0.6 * writer.size), round(1.7 * writer.size) if captions is not None else 0
    rows = math.ceil(len(pictures) / columns)
    pitch = cell[0] + gap, cell[1] + below + gap
    canvas = Image.new("RGB", (columns * pitch[0] + gap, rows * pitch[1] + gap), PAPER)
    for i, picture in enumerate(pictures):
        x, y = gap + i % columns * pitch[0], gap + i // columns * pitch[1]
        scale = min(cell[0] / picture.width, cell[1] / picture.height)
        fitted = resized(picture, scale)
        canvas.paste(fitted, (x + (cell[0] - fitted.width) // 2, y + (cell[1] - fitted.height) // 2))
        if captions is not None:
            at = x + cell[0] // 2, y + cell[1] + round(0.3 * writer.size)
            writer.write(canvas, at, pretty(captions[i]), INK, cell[0], anchor="ma")
    return canvas


def stack(images: Sequence[ImageLike], width: int | None = None) -> Image.Image:
    """Set pictures below one another on white; wider ones shrink to `width`, narrower ones are centred.

    Args:
        images: pictures, as `to_image` takes them.
        width: of the result in pixels; by default that of the widest picture, at most 1600.

    Raises:
        ValueError: no pictures, or a width under 1.
    """
    pictures = [to_image(image) for image in images]
    if not pictures:
        raise ValueError("stack needs at least one picture")
    width = min(max(p.width for p in pictures), 1600) if width is None else width
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    pictures = [p if p.width <= width else resized(p, width / p.width) for p in pictures]
    canvas = Image.new("RGB", (width, sum(p.height for p in pictures)), PAPER)
    y = 0
    for picture in pictures:
        canvas.paste(picture, ((width - picture.width) // 2, y))
        y += picture.height
    return canvas
