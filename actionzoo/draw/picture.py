"""Pictures of any accepted kind as Pillow images."""

import os
from collections.abc import Sequence
from typing import TypeAlias

import torch
from PIL import Image, ImageOps
from torch import Tensor

ImageLike: TypeAlias = Image.Image | str | os.PathLike[str] | Tensor


def to_image(image: ImageLike, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Image.Image:
    """Turn a picture of any accepted kind into a new RGB Pillow image.

    Args:
        image: Pillow image; path (turned upright by its EXIF orientation); uint8 tensor (3, H, W); or
            float tensor (3, H, W), which needs `mean` and `std`.
        mean: per-channel mean that was subtracted from a picture in [0, 1].
        std: per-channel standard deviation it was divided by. `(0, 0, 0)` and `(1, 1, 1)` suit a float
            picture that is in [0, 1] already; values outside are clipped.

    Raises:
        ValueError: wrong shape, unreadable file, or `mean`/`std` missing or given without need.
        TypeError: anything but these kinds.
    """
    if isinstance(image, Tensor):
        return _from_tensor(image.detach().cpu(), mean, std)
    if mean is not None or std is not None:
        raise ValueError("mean and std belong to float tensors; this picture is not one")
    if isinstance(image, Image.Image):
        picture = image.convert("RGB")
        return picture.copy() if picture is image else picture
    if not isinstance(image, (str, os.PathLike)):
        raise TypeError(f"expected a Pillow image, a path or a (3, H, W) tensor, got {type(image).__name__}")
    try:
        with Image.open(image) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        raise ValueError(f"cannot read the picture {os.fspath(image)!r}: {error}") from error


def _from_tensor(image: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Image.Image:
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(f"expected one picture (3, H, W), got {tuple(image.shape)}; index a batch first")
    if image.is_floating_point():
        if mean is None or std is None:
            raise ValueError("a float picture needs mean and std: draw on to_image(image, mean, std)")
        scale, offset = torch.tensor(std).view(3, 1, 1), torch.tensor(mean).view(3, 1, 1)
        image = ((image.float() * scale + offset).nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
    elif image.dtype != torch.uint8:
        raise TypeError(f"a tensor picture must be uint8 or float, got {image.dtype}")
    elif mean is not None or std is not None:
        raise ValueError("mean and std belong to float tensors; this picture is uint8")
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def resized(picture: Image.Image, scale: float) -> Image.Image:
    """Scale both sides by one factor, to 1 pixel at least."""
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)
