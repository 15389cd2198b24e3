"""Photographs with the boxes of the people in them, for detectors and for branches that look at one person each."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms as T
from torchvision.ops import box_iou, clip_boxes_to_image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from .folders import load_image
from .transforms import _to_tensor, keep_person_crop


class BoxedImage(NamedTuple):
    """A transformed picture, the boxes of its people and its label."""

    image: Tensor
    """`(3, H, W)`."""
    boxes: Tensor
    """`(n, 4)` xyxy in pixels of `image`, the surest first."""
    target: int


BoxTransform = Callable[[Image.Image, Tensor], tuple[Tensor, Tensor]]


class BoxedImages(Dataset):
    """Map-style data set of `BoxedImage`."""

    def __init__(
        self, items: Sequence[tuple[Path, int]], boxes: Mapping[Path, Tensor], transform: BoxTransform | None = None
    ) -> None:
        """Wrap a split.

        Args:
            items: Files and class indices, as `ActionSamples.items[split]` holds them.
            boxes: `(n, 4)` xyxy boxes of a file's people, the surest first; a file without an entry has none.
            transform: Called with every RGB image and its boxes; by default the image as a tensor in `[0, 1]`.
        """
        self.items, self.boxes = list(items), boxes
        self.transform = transform or detection_transform()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.items)

    def __getitem__(self, i: int) -> BoxedImage:
        """Decode image `i`.

        Raises:
            RuntimeError: If the file cannot be decoded; the message names it.
        """
        path, target = self.items[i]
        boxes = self.boxes.get(path)
        boxes = torch.zeros(0, 4) if boxes is None else boxes.float()
        return BoxedImage(*self.transform(load_image(path), boxes), target)


def collate_boxed(batch: Sequence[BoxedImage]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Pictures of a batch as a list, since they differ in size, their boxes as a list, and `(B,)` labels."""
    images, boxes, targets = zip(*batch)
    return list(images), list(boxes), torch.tensor(targets)


def detection_transform(hflip: float = 0.0, color_jitter: float = 0.0) -> BoxTransform:
    """What a detector takes: the picture in `[0, 1]` at its own size, boxes clipped to it.

    Args:
        hflip: Probability of a mirror image.
        color_jitter: Largest relative change of brightness, contrast and saturation.
    """
    return _DetectionTransform(hflip, _colours(color_jitter))


def person_transform(cfg: Mapping[str, Any], recipe: Any = None, jitter_iou: float = 0.7) -> BoxTransform:
    """What a human branch takes: the picture squashed to the model's input, people's boxes with it.

    In training, the crop that keeps a share of the surest person's box, a mirror image, colours, and boxes moved at
    random, as a detector's would lie (a decision: annotated boxes fit better than any detector's). Augmentations
    that would move people away from their boxes are left out.

    Args:
        cfg: A model's `pretrained_cfg`: `input_size`, `test_input_size`, `mean`, `std`, `interpolation`.
        recipe: An `actionzoo.training.Recipe` (`crop_pct`, `keep_person`, `hflip`, `color_jitter`, `hue`,
            `grayscale`); None for the picture as it is scored: squashed and cropped centrally.
        jitter_iou: Least overlap of a moved box with the true one.

    Raises:
        ValueError: If the model takes neither 1 nor 3 channels.
    """
    return _PersonTransform(cfg, recipe, jitter_iou)


# classes, since processes that are not forked receive a data set pickled, which closures cannot be
class _DetectionTransform:
    """See `detection_transform`."""

    def __init__(self, hflip: float, colours: Callable[[Image.Image], Image.Image]) -> None:
        self.hflip, self.colours = hflip, colours

    def __call__(self, image: Image.Image, boxes: Tensor) -> tuple[Tensor, Tensor]:
        boxes = _inside(boxes, image.height, image.width)
        if self.hflip and float(torch.rand(())) < self.hflip:
            image, boxes = ImageOps.mirror(image), _mirror(boxes, image.width)
        return TF.to_tensor(self.colours(image)), boxes


class _PersonTransform:
    """See `person_transform`."""

    def __init__(self, cfg: Mapping[str, Any], recipe: Any, jitter_iou: float) -> None:
        self.size = tuple((cfg["input_size"] if recipe else cfg.get("test_input_size") or cfg["input_size"])[-2:])
        crop_pct = recipe.crop_pct if recipe else cfg.get("crop_pct", 1.0)
        self.squashed = tuple(round(side / crop_pct) for side in self.size)
        self.resize = T.Resize(self.squashed, InterpolationMode(cfg.get("interpolation", "bilinear")))
        self.finish: Any = T.Compose(_to_tensor(cfg))
        self.jitter_iou, self.random = jitter_iou, recipe is not None
        if recipe is not None:
            self.keep, self.hflip = recipe.keep_person, recipe.hflip
            self.colours = _colours(recipe.color_jitter, recipe.hue, recipe.grayscale)

    def __call__(self, image: Image.Image, boxes: Tensor) -> tuple[Tensor, Tensor]:
        scale = torch.tensor([self.squashed[1] / image.width, self.squashed[0] / image.height]).repeat(2)
        # a box that holds nothing of the picture is no person to keep
        boxes, image = _inside(boxes, image.height, image.width) * scale, self.resize(image)
        height, width = self.size
        top, left = self._corner(image, boxes)
        boxes = boxes - torch.tensor([left, top, left, top])
        image = image.crop((left, top, left + width, top + height))
        if self.random:
            image, boxes = self.colours(image), jitter_boxes(boxes, self.jitter_iou)
            if float(torch.rand(())) < self.hflip:
                image, boxes = ImageOps.mirror(image), _mirror(boxes, width)
        return self.finish(image), _inside(boxes, height, width)

    def _corner(self, image: Image.Image, boxes: Tensor) -> tuple[int, int]:
        """Top and left of the crop."""
        if not self.random:
            # as torchvision's CenterCrop rounds
            top, left = (round((squashed - side) / 2) for squashed, side in zip(self.squashed, self.size))
            return top, left
        if len(boxes) and self.keep:
            return keep_person_crop(self.squashed, self.size, boxes[0], self.keep)
        return T.RandomCrop.get_params(image, self.size)[:2]  # type: ignore[arg-type]


def _colours(jitter: float = 0.0, hue: float = 0.0, grayscale: float = 0.0) -> Callable[[Image.Image], Image.Image]:
    steps: list[Any] = [T.ColorJitter(jitter, jitter, jitter, hue)] if jitter or hue else []
    return T.Compose([*steps, T.RandomGrayscale(grayscale)] if grayscale else steps)


def jitter_boxes(boxes: Tensor, iou: float = 0.7, tries: int = 10) -> Tensor:
    """Move and scale boxes at random.

    Args:
        boxes: `(n, 4)` xyxy.
        iou: Least intersection over union of a box with where it was.
        tries: Draws; a box for which none overlaps enough stays.

    Returns:
        `(n, 4)` boxes.
    """
    moved, undone = boxes.clone(), torch.ones(len(boxes), dtype=torch.bool)
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    for _ in range(tries):
        drawn = boxes + sides * (0.3 * torch.rand(len(boxes), 4) - 0.15)
        good = undone & (box_iou(drawn, boxes).diagonal() >= iou)
        moved[good] = drawn[good]
        undone &= ~good
    return moved


def _mirror(boxes: Tensor, width: int) -> Tensor:
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes clipped to the picture, without those of which less than a pixel is left in height or width."""
    boxes = clip_boxes_to_image(boxes, (height, width))
    return boxes[((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)]
