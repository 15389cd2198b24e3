"""Pictures with the boxes and keypoints of everybody in them, for keypoint detectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms as T
from torchvision.ops import clip_boxes_to_image
from torchvision.transforms import functional as TF

from ..layers import COCO_FLIP_PAIRS
from .figures import ActingFigures
from .folders import load_image

__all__ = ["BoxedPeople", "FigureFrames", "PeopleInPicture", "PeopleTransform", "collate_people_in_pictures"]


class PeopleInPicture(NamedTuple):
    """A picture and n people."""

    image: Image.Image | Tensor
    """An RGB picture, or once transformed `(3, H, W)` in `[0, 1]`."""
    boxes: Tensor
    """`(n, 4)` xyxy in pixels."""
    keypoints: Tensor
    """`(n, 17, 3)` in COCO's order: x, y, and 2 for visible, 1 for hidden, 0 for not known."""


class PictureSource(Protocol):
    """A map-style data set of `PeopleInPicture`."""

    def __len__(self) -> int: ...
    def __getitem__(self, i: int) -> PeopleInPicture: ...


class FigureFrames(Dataset):
    """Pictures of acting figures, of clips one frame each."""

    def __init__(self, figures: ActingFigures, random_frame: bool = False) -> None:
        """Wrap figures of any task.

        Args:
            figures: The figures.
            random_frame: Draw another frame of a clip every time, by torch's generator, for training; else item `i`
                shows always the same.
        """
        self.figures, self.random_frame = figures, random_frame

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.figures)

    def __getitem__(self, i: int) -> PeopleInPicture:
        """Draw picture `i`.

        Raises:
            IndexError: If there is no such picture.
        """
        frames, number = self.figures.frames, i % max(len(self), 1)
        frame = int(torch.randint(frames, ())) if self.random_frame else (number * 7) % frames
        return PeopleInPicture(*self.figures.people(i, frame))

    def __repr__(self) -> str:
        """What tells these pictures from others."""
        return f"FigureFrames({self.figures!r})"


class BoxedPeople(Dataset):
    """Photographs whose people have boxes and no keypoints."""

    def __init__(self, items: Sequence[tuple[Path, int]], boxes: Mapping[Path, Tensor]) -> None:
        """Wrap a split.

        Args:
            items: Files and class indices, as `ActionSamples.items[split]` holds them.
            boxes: `(n, 4)` xyxy boxes of a file's people; a file without an entry shows nobody.
        """
        self.items, self.boxes = list(items), boxes

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.items)

    def __getitem__(self, i: int) -> PeopleInPicture:
        """Decode photograph `i`.

        Raises:
            RuntimeError: If the file cannot be decoded; the message names it.
        """
        path, _ = self.items[i]
        boxes = self.boxes.get(path, torch.zeros(0, 4)).float()
        return PeopleInPicture(load_image(path), boxes, torch.zeros(len(boxes), 17, 3))


class PeopleTransform:
    """The picture as `(3, H, W)` in `[0, 1]`, at random mirrored and in other colours; boxes clipped to it."""

    def __init__(self, hflip: float = 0.0, color_jitter: float = 0.0) -> None:
        """Choose the augmentation.

        Args:
            hflip: Probability of a mirror image, in which left and right joints change places.
            color_jitter: Largest relative change of brightness, contrast and saturation.
        """
        self.hflip = hflip
        self.colours = T.ColorJitter(*[color_jitter] * 3) if color_jitter else None

    def __call__(self, example: PeopleInPicture) -> PeopleInPicture:
        """Transform a picture and its people; those of whom less than a pixel is inside are left out."""
        image, boxes, points = example
        image = image if isinstance(image, Image.Image) else TF.to_pil_image(image)
        boxes = clip_boxes_to_image(boxes, (image.height, image.width))
        inside = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        boxes, points = boxes[inside], points[inside]
        if self.hflip and float(torch.rand(())) < self.hflip:
            image, width = ImageOps.mirror(image), image.width
            boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
            order = torch.arange(points.shape[1])
            for left, right in COCO_FLIP_PAIRS:
                order[left], order[right] = right, left
            points = points[:, order]
            # joints count from the centre of the first pixel; one that is not known stays where it is
            x = torch.where(points[..., 2] > 0, width - 1 - points[..., 0], points[..., 0])
            points = torch.cat([x[..., None], points[..., 1:]], -1)
        return PeopleInPicture(TF.to_tensor(self.colours(image) if self.colours else image), boxes, points)


class TransformedPeople(Dataset):
    """Several sources one after the other, transformed."""

    def __init__(self, sources: Sequence[PictureSource], transform: PeopleTransform) -> None:
        """Wrap sources."""
        self.sources, self.transform = list(sources), transform

    def __len__(self) -> int:
        """Number of pictures of all sources."""
        return sum(map(len, self.sources))

    def __getitem__(self, i: int) -> PeopleInPicture:
        """Picture `i`, transformed.

        Raises:
            IndexError: If there is no such picture.
        """
        rest = i + len(self) if i < 0 else i
        for source in self.sources:
            if 0 <= rest < len(source):
                return self.transform(source[rest])
            rest -= len(source)
        raise IndexError(f"there is no picture {i} among {len(self)}")


def collate_people_in_pictures(
    batch: Sequence[PeopleInPicture],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Pictures, boxes and keypoints of a batch as lists, since they differ in size."""
    images, boxes, points = zip(*batch)
    return list(images), list(boxes), list(points)
