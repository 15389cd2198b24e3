"""How a training clip is cropped and coloured at random, as a whole, and what a network is shown in scoring."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms import functional as TF

from .recipes import Recipe


class ClipAugmentation:
    """Makes a network's input of a clip: at random, but the same for all frames, or the same every time."""

    def __init__(
        self,
        size: Sequence[int],
        crop: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        recipe: Recipe,
    ) -> None:
        """Describe it.

        Args:
            size: Height and width of the input in scoring.
            crop: The same in training.
            mean: Mean of the three colours, of values in [0, 1].
            std: Their standard deviation.
            recipe: Its `scale`, `color_jitter`, `hue` and `grayscale` are those of training.
        """
        self.size, self.crop, self.recipe = size, crop, recipe
        self.mean, self.std = (torch.tensor(values)[:, None, None, None] for values in (mean, std))
        jitter = recipe.color_jitter
        self.colours = ColorJitter(jitter, jitter, jitter, recipe.hue) if jitter or recipe.hue else None
        self.bound = [max(side, round(side_of_crop * 8 / 7)) for side, side_of_crop in zip(size, crop)]
        """Height and width of frames that leave room for random crops; more is of no use."""

    def shrink(self, pixels: Tensor) -> Tensor:
        """Scale `(T, 3, H, W)` uint8 down to just cover the bound; smaller frames stay as they are."""
        return _cover(pixels, self.bound, enlarge=False)

    def train(self, pixels: Tensor, flip: bool) -> Tensor:
        """Random resized crop, colours and, where asked for, mirrored: `(T, 3, H, W)` uint8 -> `(3, T, h, w)`."""
        where = RandomResizedCrop.get_params(pixels, list(self.recipe.scale), [3 / 4, 4 / 3])  # type: ignore[arg-type]
        pixels = TF.resized_crop(pixels, *where, list(self.crop), antialias=True)
        if flip:
            pixels = pixels.flip(3)
        if self.colours is not None:
            pixels = self.colours(pixels)
        if self.recipe.grayscale and torch.rand(()) < self.recipe.grayscale:
            pixels = TF.rgb_to_grayscale(pixels, 3)
        return self._normalize(pixels)

    def score(self, pixels: Tensor) -> Tensor:
        """Scaled to cover the input, and its centre: `(T, 3, H, W)` uint8 -> `(3, T, h, w)` normalised."""
        return self._normalize(TF.center_crop(_cover(pixels, self.size, enlarge=True), list(self.size)))

    def _normalize(self, pixels: Tensor) -> Tensor:
        return (pixels.transpose(0, 1).float() / 255 - self.mean) / self.std


def _cover(pixels: Tensor, size: Sequence[int], *, enlarge: bool) -> Tensor:
    """Frames `(T, 3, H, W)` scaled, their aspect kept, to just cover a height and width."""
    sides = pixels.shape[-2:]
    scale = max(wanted / side for wanted, side in zip(size, sides))
    if scale == 1 or (scale > 1 and not enlarge):
        return pixels
    target = [max(wanted, round(side * scale)) for wanted, side in zip(size, sides)]
    return TF.resize(pixels, target, antialias=True)
