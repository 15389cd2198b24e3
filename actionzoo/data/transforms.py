"""Image transforms of training and inference, built from timm's and torchvision's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from .people import check_box


def eval_transform(cfg: Mapping[str, Any], input_size: int | None = None) -> Callable[[Image.Image], Tensor]:
    """The deterministic transform of a model: resize to a square, centre crop, normalise.

    PRF-Net section 4.2 resizes to 260x260 and crops 256x256; the crop is central here so that scores repeat.

    Args:
        cfg: A model's `pretrained_cfg`: `test_input_size` or else `input_size`, `crop_pct`, `mean`, `std`,
            `interpolation` and `crop_mode` (`"squash"`, the default, or `"center"`, which keeps the aspect
            ratio).
        input_size: Side of the crop in pixels, that of `cfg` if None.

    Returns:
        A function from an RGB picture to a `(C, H, W)` normalised tensor, C = 3, or 1 for a model of one channel.

    Raises:
        ValueError: If the model takes neither 1 nor 3 channels.
    """
    size = _size(cfg.get("test_input_size") or cfg["input_size"], input_size)
    resized = [round(side / cfg.get("crop_pct", 1.0)) for side in size]
    squash = cfg.get("crop_mode", "squash") == "squash"
    mode = InterpolationMode(cfg.get("interpolation", "bilinear"))
    resize = T.Resize(resized if squash else max(resized), mode)
    return T.Compose([resize, T.CenterCrop(size), *_to_tensor(cfg)])


def _size(configured: Sequence[int], asked: int | None) -> list[int]:
    """Height and width of the crop in pixels."""
    return [asked, asked] if asked else list(configured[-2:])


def _to_tensor(cfg: Mapping[str, Any]) -> list[Any]:
    """The last steps: grey pictures for a model of one channel, a tensor, normalisation."""
    channels = cfg["input_size"][0]
    if channels not in (1, 3):
        raise ValueError(f"pictures have 1 or 3 channels, the model takes {channels}; make its inputs yourself")
    grey = [T.Grayscale()] if channels == 1 else []
    return [*grey, T.ToTensor(), T.Normalize(cfg["mean"][:channels], cfg["std"][:channels])]


def keep_person_crop(
    image_size: Sequence[int], crop_size: Sequence[int], box: Tensor, keep: float = 0.7
) -> tuple[int, int]:
    """Where to crop a picture at random so that most of a person stays in it (ConViT-HAR, section 4.2).

    All crops that leave at least `keep` of the box's area are equally likely; where there is none, those that leave
    most of it. Of a box that reaches over the picture's edge, only what lies inside counts.

    Args:
        image_size: Height and width of the picture in pixels.
        crop_size: Height and width of the crop in pixels.
        box: `(4,)` xyxy, half-open, in pixels of the picture.
        keep: Share of the box's area, in [0, 1].

    Returns:
        Top and left of the crop in whole pixels, drawn with torch's random numbers.

    Raises:
        ValueError: If the crop is larger than the picture, `keep` is no share, or the box has another shape, is not
            finite or has no area.
    """
    check_box(box, "the person to keep")
    if not 0 <= keep <= 1:
        raise ValueError(f"keep is the share of the person's box that a crop leaves, in [0, 1], got {keep}")
    if any(not 0 < crop <= side for side, crop in zip(image_size, crop_size)):
        raise ValueError(f"a crop of {tuple(crop_size)} pixels does not fit into a picture of {tuple(image_size)}")
    x1, y1, x2, y2 = box.tolist()
    rows = _overlaps(image_size[0], crop_size[0], y1, y2)
    columns = _overlaps(image_size[1], crop_size[1], x1, x2)
    kept = rows[:, None] * columns
    whole = _length(0, image_size[0], y1, y2) * _length(0, image_size[1], x1, x2)
    allowed = (kept >= min(keep * whole, float(kept.max()))).nonzero()
    top, left = allowed[int(torch.randint(len(allowed), ()))].tolist()
    return top, left


def _length(low: float, high: float, start: float, stop: float) -> float:
    """How much of the interval [start, stop] lies in [low, high]."""
    return max(min(high, stop) - max(low, start), 0.0)


def _overlaps(side: int, crop: int, start: float, stop: float) -> Tensor:
    """`(side - crop + 1,)` float64 pixels of [start, stop] in the crop at every offset."""
    return torch.tensor([_length(i, i + crop, max(start, 0), min(stop, side)) for i in range(side - crop + 1)]).double()


class TrainTransform:
    """A random transform whose crop may look at the people in a picture; `train_transform` makes it."""

    def __init__(
        self,
        resize: Callable[[Image.Image], Image.Image] | None,
        crop: Callable[[Image.Image], Image.Image],
        rest: Callable[[Image.Image], Tensor],
        keep: tuple[float, Sequence[int]] | None = None,
    ) -> None:
        """Put the steps together.

        Args:
            resize: The first step.
            crop: The random crop.
            rest: What makes a tensor of it.
            keep: Share of the person and height and width of the crop, see `keep_person_crop`: instead of `crop` where
                a person is known.
        """
        self.resize, self.crop, self.rest, self.keep = resize, crop, rest, keep

    def __call__(self, image: Image.Image, boxes: Tensor | None = None) -> Tensor:
        """Transform one picture.

        Args:
            image: RGB picture.
            boxes: `(n, 4)` xyxy boxes of its people in pixels, the one to keep first; None or none for a plain crop.

        Returns:
            `(C, H, W)` normalised.
        """
        resized = image if self.resize is None else self.resize(image)
        if self.keep is None or boxes is None or not len(boxes):
            return self.rest(self.crop(resized))
        share, (height, width) = self.keep
        stretch = torch.tensor([resized.width / image.width, resized.height / image.height] * 2, dtype=torch.float64)
        top, left = keep_person_crop((resized.height, resized.width), (height, width), boxes[0] * stretch, share)
        return self.rest(resized.crop((left, top, left + width, top + height)))


def train_transform(cfg: Mapping[str, Any], recipe: Any, input_size: int | None = None) -> TrainTransform:
    """The random transform that a `Recipe` describes, for a model's `pretrained_cfg`.

    Args:
        cfg: A model's `pretrained_cfg`: `input_size`, `mean`, `std`, `interpolation`.
        recipe: An `actionzoo.training.Recipe`.
        input_size: Side of the crop in pixels, that of `cfg` if None.

    Returns:
        A function from an RGB picture, and the boxes of its people where they are known, to a `(C, H, W)` normalised
        tensor, C = 3, or 1 for a model of one channel. With `recipe.keep_person` the crop keeps that share of the
        first person, by `keep_person_crop`; otherwise boxes change nothing.

    Raises:
        ValueError: If the recipe's `resize` is unknown, or the model takes neither 1 nor 3 channels.
    """
    size = _size(cfg["input_size"], input_size)
    mode = InterpolationMode(cfg.get("interpolation", "bilinear"))
    if recipe.resize == "squash":
        resize, crop = T.Resize([round(side / recipe.crop_pct) for side in size], mode), T.RandomCrop(size)
    elif recipe.resize == "random":
        resize, crop = None, T.RandomResizedCrop(size, scale=recipe.scale, interpolation=mode)
    else:
        raise ValueError(f"a recipe's resize is 'squash' or 'random', got {recipe.resize!r}")
    steps: list[Any] = [T.RandomHorizontalFlip(recipe.hflip)]
    if recipe.color_jitter or recipe.hue:
        jitter = recipe.color_jitter
        steps.append(T.ColorJitter(jitter, jitter, jitter, recipe.hue))
    if recipe.grayscale:
        steps.append(T.RandomGrayscale(recipe.grayscale))
    if recipe.auto_augment:
        fill = tuple(round(255 * m) for m in cfg["mean"])
        limits = {"translate_const": round(min(size) * 0.45), "img_mean": fill}
        steps.append(rand_augment_transform(recipe.auto_augment, limits))
    steps += _to_tensor(cfg)
    if recipe.erase:
        steps.append(RandomErasing(recipe.erase, mode="pixel", device="cpu"))
    return TrainTransform(resize, crop, T.Compose(steps), (recipe.keep_person, size) if recipe.keep_person else None)


def denormalize(images: Tensor, cfg: Mapping[str, Any]) -> Tensor:
    """Undo the normalisation: `(..., 3, H, W)` normalised -> the same shape in `[0, 1]`."""
    mean = torch.as_tensor(cfg["mean"], dtype=images.dtype, device=images.device)[:, None, None]
    std = torch.as_tensor(cfg["std"], dtype=images.dtype, device=images.device)[:, None, None]
    return (images * std + mean).clamp(0, 1)
