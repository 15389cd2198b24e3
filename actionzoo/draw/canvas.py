"""Colours, smooth shapes, text and box checks that the drawing functions share."""

import math
import os
import unicodedata
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont

Colour: TypeAlias = tuple[int, int, int]
Box: TypeAlias = tuple[float, float, float, float]
PathLike: TypeAlias = str | os.PathLike[str]

# Okabe and Ito (2008), those first that stand out most on photographs.
PALETTE = ("#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#f0e442", "#0072b2")
INK, GREY, PAPER, TRACK = "#1f2933", "#5b6770", "#ffffff", "#e6eaee"
BEST, OTHERS = "#0072b2", "#8dbbdc"
LEFT, RIGHT, MIDDLE = "#56b4e9", "#e69f00", "#ffffff"
HALO = (0, 0, 0, 90)


class Sheet:
    """A transparent sheet over a picture, drawn larger and shrunk, which smooths every edge."""

    def __init__(self, size: tuple[int, int], smooth: int = 4) -> None:
        self.size = size
        # Large pictures have fine pixels and would need much memory.
        self.factor = min(smooth, 4 if max(size) <= 1280 else 2 if max(size) <= 3200 else 1)
        self.image = Image.new("RGBA", (size[0] * self.factor, size[1] * self.factor))
        self.draw = ImageDraw.Draw(self.image)

    def _rounded(self, box: Sequence[float], radius: float, **style: Any) -> None:
        x1, y1, x2, y2 = (round(v * self.factor) for v in box)
        radius = min(radius * self.factor, (x2 - x1) / 2, (y2 - y1) / 2)
        # Pillow includes the last pixel, our boxes do not.
        self.draw.rounded_rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), radius, **style)

    def pill(self, box: Sequence[float], colour: str) -> None:
        """Fill a box whose ends are round."""
        self._rounded(box, box[3] - box[1], fill=rgb(colour))

    def outline(self, box: Sequence[float], stroke: int, colour: Colour) -> None:
        """Outline a box inside its border, with a faint dark rim on both sides."""
        rim, f = max(1, round(stroke / 3)), self.factor
        x1, y1, x2, y2 = box
        wide = (x1 - rim, y1 - rim, x2 + rim, y2 + rim)
        self._rounded(wide, stroke + rim, outline=HALO, width=(stroke + 2 * rim) * f)
        self._rounded(box, stroke, outline=colour, width=stroke * f)

    def line(self, start: Any, end: Any, width: float, colour: Any) -> None:
        """Draw a line."""
        ends = [(float(x) * self.factor, float(y) * self.factor) for x, y in (start, end)]
        self.draw.line(ends, fill=colour, width=max(1, round(width * self.factor)))

    def disc(self, centre: Any, radius: float, colour: Any) -> None:
        """Fill a disc."""
        x, y, r = (float(v) * self.factor for v in (*centre, radius))
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def over(self, picture: Image.Image) -> Image.Image:
        """Lay the sheet over a picture of the size it was made for."""
        f, result, drawn = self.factor, picture.convert("RGBA"), self.image.getbbox()
        if drawn is not None:
            # shrinking takes most of the time, so only what was drawn on is
            x1, y1, x2, y2 = drawn[0] // f, drawn[1] // f, -(-drawn[2] // f), -(-drawn[3] // f)
            result.alpha_composite(self.image.reduce(f, (x1 * f, y1 * f, x2 * f, y2 * f)), (x1, y1))
        return result.convert("RGB")


class Writer:
    """Text of one size that is never wider than told."""

    def __init__(self, size: int, font: PathLike | None = None) -> None:
        self.size, self.plain = size, font is None
        try:
            self.font = ImageFont.load_default(size) if font is None else ImageFont.truetype(font, size)
        except OSError as error:
            raise ValueError(f"cannot read the font {font!r}: {error}") from error

    def _spelling(self, text: str) -> str:
        """Drop the accents that Pillow's own font would show as empty frames."""
        if not self.plain:
            return text
        return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))

    def width(self, text: str) -> int:
        """Width of a text in pixels."""
        return math.ceil(self.font.getlength(self._spelling(text)))

    def fit(self, text: str, room: float) -> str:
        """Cut a text, with an ellipsis, to a width in pixels; empty where nothing fits."""
        if self.width(text) <= room:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if self.width(text[:middle].rstrip() + "…") <= room:
                low = middle
            else:
                high = middle - 1
        return text[:low].rstrip() + "…" if low else ""

    def write(
        self,
        canvas: Image.Image,
        at: tuple[float, float],
        text: str,
        colour: Any,
        room: float,
        anchor: str = "la",
    ) -> None:
        """Write one line, cut to `room` pixels."""
        text = self._spelling(self.fit(text, room))
        ImageDraw.Draw(canvas).text(at, text, fill=colour, font=self.font, anchor=anchor)


def as_boxes(boxes: Any) -> np.ndarray:
    """Check xyxy boxes and return them as float64 (N, 4)."""
    array = torch.as_tensor(boxes).detach().cpu().double().numpy()
    if array.size == 0 and array.ndim in (1, 2):
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes must be (N, 4) xyxy, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("boxes contain NaN or infinite coordinates")
    if (array[:, 2:] < array[:, :2]).any():
        raise ValueError("boxes must be xyxy with x2 >= x1 and y2 >= y1; are these (x, y, width, height)?")
    return array


def clip(box: Sequence[float] | np.ndarray, size: tuple[int, int]) -> Box | None:
    """Round a box to pixels and cut it at the picture's border; None if no pixel is left."""
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, size[0]), min(y2, size[1])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def stroke_width(size: tuple[int, int]) -> int:
    """Outline width in pixels that suits a picture of (width, height)."""
    return max(1, round(math.sqrt(size[0] * size[1]) / 220))


def text_size(size: tuple[int, int]) -> int:
    """Font size in pixels that suits a picture of (width, height)."""
    return max(10, round(math.sqrt(size[0] * size[1]) / 38))


def cycle(place: int) -> str:
    """Colour of the palette for a place in a list of any length."""
    return PALETTE[place % len(PALETTE)]


def rgb(colour: str | Colour) -> Colour:
    """Colour as a triple, from a name, "#rrggbb" or a triple."""
    red, green, blue = (ImageColor.getrgb(colour) if isinstance(colour, str) else colour)[:3]
    return red, green, blue


def luminance(colour: Colour) -> float:
    """Relative luminance (WCAG 2.1), 0 for black to 1 for white."""
    linear = [v / 3294.6 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def pretty(label: Any) -> str:
    """Show a class name as words on one line: `weight_lifting` becomes `weight lifting`."""
    return "" if label is None else " ".join(str(label).replace("_", " ").split())
