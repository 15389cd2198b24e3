"""A contact sheet: what a data set of people looks like, with its truth drawn in."""

from collections.abc import Sequence
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from .canvas import PathLike
from .layout import grid
from .overlays import boxes
from .picture import to_image
from .skeletons import COCO_SKELETON, MPII_SKELETON, keypoints


class LabelledPeople(Protocol):
    """A data set whose items are pixels and a target in torchvision's manner, such as `ActingFigures`."""

    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Number of items."""
        ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, dict[str, Any]]:
        """Pixels `(3, H, W)` or `(3, T, H, W)` uint8, and the truth."""
        ...


def contact_sheet(
    data: LabelledPeople,
    items: Sequence[int] | None = None,
    columns: int = 6,
    *,
    truth: bool = True,
    cell: tuple[int, int] | None = None,
    font: PathLike | None = None,
) -> Image.Image:
    """Lay out items of a data set with their labels: images in rows, every clip as one row of frames.

    Args:
        data: Such as `ActingFigures`; the targets hold `labels`, and `boxes` and `joints` or `keypoints` to draw.
        items: Which items; by default the first four rows.
        columns: Pictures in a row; of a clip as many frames, evenly spread.
        truth: Draw boxes and skeletons, also of joints that are hidden.
        cell: Width and height of a picture in pixels; by default its own within 96 to 480.
        font: TrueType file for labels in other scripts than Latin.

    Raises:
        ValueError: If there are no items, or no columns.
        IndexError: If an item does not exist.
    """
    if columns < 1:
        raise ValueError(f"a sheet has at least one column, got {columns}")
    if items is None:
        clips = len(data) > 0 and data[0][0].ndim == 4
        items = range(min(len(data), 4 if clips else 4 * columns))
    if len(items) == 0:
        raise ValueError("a sheet has at least one item, got none; give a data set that is not empty, or some items")
    pictures, captions = [], []
    for item in items:
        pixels, target = data[item]
        names = [data.classes[int(k)] for k in target["labels"]]
        times = [None] if pixels.ndim == 3 else spread(pixels.shape[1], columns)
        for place, t in enumerate(times):
            pictures.append(_picture(pixels, target, t) if truth else to_image(pixels if t is None else pixels[:, t]))
            captions.append(", ".join(names) if place == 0 else "")
    return grid(pictures, columns, captions, cell=cell, font=font)


def spread(frames: int, count: int) -> list[int]:
    """`count` frames from the first to the last, evenly; some twice if there are fewer."""
    return [round(i * (frames - 1) / max(count - 1, 1)) for i in range(count)]


def _picture(pixels: Tensor, target: dict[str, Any], t: int | None) -> Image.Image:
    """One frame (`t` None: the image) with the boxes and joints of the people in it."""
    frame = {name: target[name] for name in ("boxes", "joints", "keypoints") if name in target}
    if t is not None:
        pixels, frame = pixels[:, t], {name: value[:, t] for name, value in frame.items()}
    picture = to_image(pixels)
    if "boxes" in frame:
        seen = frame["boxes"][:, 2] > frame["boxes"][:, 0]
        picture = boxes(picture, frame["boxes"][seen])
    if "joints" in frame:
        return keypoints(picture, frame["joints"], MPII_SKELETON, threshold=0.5)
    return keypoints(picture, frame["keypoints"], COCO_SKELETON, threshold=0.5) if "keypoints" in frame else picture
