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


def train_transform(
    cfg: Mapping[str, Any], recipe: Any, input_size: int | None = None
) -> Callable[[Image.Image], Tensor]:
    """The random transform that a `Recipe` describes, for a model's `pretrained_cfg`.

    Args:
        cfg: A model's `pretrained_cfg`: `input_size`, `mean`, `std`, `interpolation`.
        recipe: An `actionzoo.training.Recipe`.
        input_size: Side of the crop in pixels, that of `cfg` if None.

    Returns:
        A function from an RGB picture to a `(C, H, W)` normalised tensor, C = 3, or 1 for a model of one channel.

    Raises:
        ValueError: If the recipe's `resize` is unknown, or the model takes neither 1 nor 3 channels.
    """
    size = _size(cfg["input_size"], input_size)
    mode = InterpolationMode(cfg.get("interpolation", "bilinear"))
    if recipe.resize == "squash":
        resized = [round(side / recipe.crop_pct) for side in size]
        steps: list[Any] = [T.Resize(resized, mode), T.RandomCrop(size)]
    elif recipe.resize == "random":
        steps = [T.RandomResizedCrop(size, scale=recipe.scale, interpolation=mode)]
    else:
        raise ValueError(f"a recipe's resize is 'squash' or 'random', got {recipe.resize!r}")
    steps.append(T.RandomHorizontalFlip(recipe.hflip))
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
    return T.Compose(steps)


def denormalize(images: Tensor, cfg: Mapping[str, Any]) -> Tensor:
    """Undo the normalisation: `(..., 3, H, W)` normalised -> the same shape in `[0, 1]`."""
    mean = torch.as_tensor(cfg["mean"], dtype=images.dtype, device=images.device)[:, None, None]
    std = torch.as_tensor(cfg["std"], dtype=images.dtype, device=images.device)[:, None, None]
    return (images * std + mean).clamp(0, 1)
