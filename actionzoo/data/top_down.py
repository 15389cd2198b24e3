"""Top-down crops: a person's box to a crop of fixed size, with the matrix that leads back to the picture."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset
from torchvision.transforms import ColorJitter

from ..layers.heatmaps import COCO_FLIP_PAIRS, MPII_FLIP_PAIRS
from .people import PeopleSource, PersonExample, check_box


def crop_matrix(
    box: Tensor,
    size: int | tuple[int, int],
    padding: float = 1.25,
    rotation: float = 0.0,
    scale: float = 1.0,
    flip: bool = False,
) -> Tensor:
    """The affine map from a picture's pixels to those of a top-down crop.

    The box grows about its centre to the crop's aspect ratio, then by `padding * scale`, and fills the crop, as in
    HRNet (Sun et al. 2019; body-part net, section 4.1). Points count from the centre of the first pixel on both
    sides, so an unpadded box that is the whole picture gives the identity. HRNet's own code lands half a pixel
    further right and down.

    Args:
        box: `(4,)` xyxy, half-open, in pixels.
        size: `(h, w)` of the crop in pixels; one number for both.
        padding: Side of the crop's window over that of the box.
        rotation: Degrees by which the person turns counter-clockwise in the crop.
        scale: A further factor on the window; above 1 the person becomes smaller.
        flip: Mirror the finished crop left to right.

    Returns:
        `(2, 3)` float64: crop pixel = `matrix[:, :2] @ point + matrix[:, 2]`.

    Raises:
        ValueError: If the box has the wrong shape or no area, or a size or factor is not positive.
    """
    height, width = _pair(size)
    check_box(box, "the crop")
    if not (height > 0 and width > 0 and padding > 0 and scale > 0):
        raise ValueError(f"a crop's size, padding and scale are positive, got {(height, width)}, {padding}, {scale}")
    x1, y1, x2, y2 = box.tolist()
    window = max(x2 - x1, (y2 - y1) * width / height) * padding * scale
    zoom, angle = width / window, math.radians(rotation)
    c, s = zoom * math.cos(angle), zoom * math.sin(angle)
    rows = [[c, s], [-s, c]]
    if flip:
        rows[0] = [-c, -s]
    # centres of the first pixels are 0 here, while the box counts from their corners
    x, y = (x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2
    middle = (width - 1) / 2, (height - 1) / 2
    return torch.tensor([[a, b, m - a * x - b * y] for (a, b), m in zip(rows, middle)], dtype=torch.float64)


def invert_affine(matrix: Tensor) -> Tensor:
    """The map back: `(..., 2, 3)` -> `(..., 2, 3)`, in the same dtype.

    Raises:
        ValueError: If the shape is wrong or a map has no inverse.
    """
    if matrix.shape[-2:] != (2, 3):
        raise ValueError(f"an affine matrix has shape (..., 2, 3), got {tuple(matrix.shape)}")
    linear, shift = matrix[..., :2], matrix[..., 2:]
    inverse, info = torch.linalg.inv_ex(linear)
    if info.any():
        raise ValueError(f"an affine matrix without an inverse: {matrix.tolist()}")
    return torch.cat([inverse, -inverse @ shift], -1)


def apply_affine(points: Tensor, matrix: Tensor) -> Tensor:
    """Map points.

    Args:
        points: `(..., 2)` x, y.
        matrix: `(2, 3)` for all points, or `(B, 2, 3)` for points `(B, J, 2)`.

    Returns:
        `(..., 2)` in the dtype of `points`, computed in the wider of both dtypes.

    Raises:
        ValueError: If a shape is wrong.
    """
    batched = matrix.ndim == 3 and points.ndim == 3 and len(matrix) == len(points)
    if points.shape[-1:] != (2,) or matrix.shape[-2:] != (2, 3) or not (matrix.ndim == 2 or batched):
        raise ValueError(
            "expected points (..., 2) with a matrix (2, 3), or points (B, J, 2) with matrices (B, 2, 3); "
            f"got {tuple(points.shape)} and {tuple(matrix.shape)}"
        )
    dtype = torch.promote_types(points.dtype, matrix.dtype)
    linear, shift = matrix[..., :2].to(dtype), matrix[..., 2].to(dtype)
    moved = points.to(dtype) @ linear.mT + (shift[:, None] if batched else shift)
    return moved.to(points.dtype)


def crop_person(image: Image.Image, matrix: Tensor, size: int | tuple[int, int]) -> Image.Image:
    """Cut a crop out of a picture, bilinear, black outside it.

    A picture that shrinks by 2 or more is averaged over blocks of whole pixels first, so that it does not alias.

    Args:
        image: RGB picture.
        matrix: `(2, 3)` from the picture's pixels to the crop's, as `crop_matrix` gives it.
        size: `(h, w)` of the crop in pixels; one number for both.

    Returns:
        The crop, an RGB picture of `size`.

    Raises:
        ValueError: If the matrix has the wrong shape or no inverse.
    """
    height, width = _pair(size)
    inverse = invert_affine(matrix.double())
    (a, b, x), (d, e, y) = inverse.tolist()
    # Pillow counts from the corner of the first pixel: half a pixel off on both sides
    x, y = x + 0.5 - (a + b) / 2, y + 0.5 - (d + e) / 2
    # a factor that is whole but for rounding is taken as such
    factor = int(math.sqrt(abs(a * e - b * d)) + 1e-6)
    if factor >= 2:
        corners = [(a * u + b * v + x, d * u + e * v + y) for u in (0, width) for v in (0, height)]
        us, vs = zip(*corners)
        left, top = max(math.floor(min(us)), 0), max(math.floor(min(vs)), 0)
        # the last block may be cut short, which moves its mean: let it lie beyond the window
        right, bottom = min(math.ceil(max(us)) + factor, image.width), min(math.ceil(max(vs)) + factor, image.height)
        if left >= right or top >= bottom:
            return Image.new(image.mode, (width, height))
        image = image.reduce(factor, (left, top, right, bottom))
        a, b, x = a / factor, b / factor, (x - left) / factor
        d, e, y = d / factor, e / factor, (y - top) / factor
    data = (a, b, x, d, e, y)
    return image.transform((width, height), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class PersonInput(NamedTuple):
    """One person as a network and its losses take it; PyTorch's default collation makes a batch of it."""

    image: Tensor
    """`(3, H, W)` normalised crop."""
    joints: Tensor
    """`(J, 3)` x, y in heat-map cells and the flag of `PersonExample`: 0 also outside the crop. All -1: no pose."""
    label: int | Tensor
    """As in `PersonExample`."""
    head_size: Tensor
    """`()` float32, PCKh's reference length in heat-map cells, NaN if unknown."""
    matrix: Tensor
    """`(2, 3)` float32, pixels of the picture to pixels of the crop; `invert_affine` leads back."""


class TopDown:
    """Crop a person, at random in training, and bring the joints along: `PersonExample` -> `PersonInput`.

    The crop's geometry, the random draws and the joints' cells are HRNet's, but a joint outside the crop counts as
    not annotated, in training and scoring, where HRNet keeps its weight. A joint at crop pixel x lies in cell
    `x * heatmap_size / size`, so a decoded cell times the stride is the crop pixel again; a pixel and a cell both
    count from the centre of the first one. All draws come from PyTorch's global generator.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 512,
        heatmap_size: int | tuple[int, int] = 64,
        *,
        rotation: float = 0.0,
        scale: float = 0.0,
        hflip: float = 0.0,
        padding: float = 1.25,
        flip_pairs: Sequence[tuple[int, int]] = MPII_FLIP_PAIRS,
        mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
        std: Sequence[float] = IMAGENET_DEFAULT_STD,
        color_jitter: float = 0.0,
    ) -> None:
        """Set the crop and its randomness; all of it is off by default. The paper trains with scale 0.25 and flips.

        Args:
            size: `(h, w)` of the crop in pixels; one number for both.
            heatmap_size: `(h, w)` of the heat maps in cells, of the crop's aspect ratio.
            rotation: Standard deviation in degrees, cut at twice its size, drawn with probability 0.6. The paper
                takes 90 for MPII and 10 for Stanford 40 Actions.
            scale: Standard deviation of the factor on the window, cut at 1 - scale and 1 + scale.
            hflip: Probability of mirroring, which swaps the joints of each pair too.
            padding: Side of the crop's window over that of the box, before `scale`.
            flip_pairs: Joints that trade places in a mirror.
            mean: Per channel, subtracted from values in [0, 1].
            std: Per channel, divided by.
            color_jitter: Strength of random brightness, contrast and saturation, as torchvision's `ColorJitter`.

        Raises:
            ValueError: If crop and heat map differ in aspect ratio, or a strength or probability is out of range.
        """
        (height, width), (rows, columns) = _pair(size), _pair(heatmap_size)
        if min(height, width, rows, columns) < 1 or height * columns != width * rows:
            raise ValueError(f"heat maps have the crop's aspect ratio, got {(rows, columns)} for {(height, width)}")
        if not (0 <= hflip <= 1 and 0 <= scale < 1 and rotation >= 0 and color_jitter >= 0):
            raise ValueError(
                f"expected hflip in [0, 1], scale in [0, 1), rotation and color_jitter from 0 up; "
                f"got {hflip}, {scale}, {rotation}, {color_jitter}"
            )
        self.size, self.cells_per_pixel = (height, width), columns / width
        self.rotation, self.scale, self.hflip, self.padding = rotation, scale, hflip, padding
        self.flip_pairs = tuple((int(i), int(j)) for i, j in flip_pairs)
        self.jitter = ColorJitter(color_jitter, color_jitter, color_jitter) if color_jitter else None
        # (v / 255 - mean) / std as one product and one sum
        self._gain = 1 / (255 * torch.tensor(std, dtype=torch.float32)[:, None, None])
        self._shift = -(torch.tensor(mean) / torch.tensor(std)).float()[:, None, None]

    def __call__(self, example: PersonExample) -> PersonInput:
        """Crop one person.

        Raises:
            ValueError: If the box has no area, or the joints are not `(J, 3)` or do not fit the flip pairs.
        """
        self._check_joints(example.joints)
        scale, rotation, flip = self._draw()
        matrix = crop_matrix(example.box, self.size, self.padding, rotation, scale, flip)
        crop = crop_person(example.image, matrix, self.size)
        if self.jitter is not None:
            crop = self.jitter(crop)
        pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1)
        image = pixels.to(torch.float32, memory_format=torch.contiguous_format).mul_(self._gain).add_(self._shift)
        cell = math.hypot(*matrix[0, :2].tolist()) * self.cells_per_pixel
        head_size = torch.tensor(example.head_size * cell, dtype=torch.float32)
        joints = self._move_joints(example.joints, matrix, flip)
        return PersonInput(image, joints, example.label, head_size, matrix.float())

    def _draw(self) -> tuple[float, float, bool]:
        """Factor on the window, degrees and whether to mirror."""
        scale, rotation = 1.0, 0.0
        if self.scale:
            scale = min(max(1 + torch.randn(()).item() * self.scale, 1 - self.scale), 1 + self.scale)
        if self.rotation and torch.rand(()).item() <= 0.6:
            rotation = min(max(torch.randn(()).item(), -2.0), 2.0) * self.rotation
        flip = bool(self.hflip) and torch.rand(()).item() < self.hflip
        return scale, rotation, flip

    def _move_joints(self, joints: Tensor, matrix: Tensor, flip: bool) -> Tensor:
        if (joints == -1).all():
            return joints.clone()
        if flip:
            order = list(range(len(joints)))
            for i, j in self.flip_pairs:
                order[i], order[j] = j, i
            joints = joints[order]
        height, width = self.size
        xy = apply_affine(joints[:, :2], matrix)
        x, y = xy.unbind(1)
        inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
        flag = joints[:, 2]
        xy = torch.where(flag[:, None] > 0, xy * self.cells_per_pixel, 0.0)
        return torch.cat([xy, torch.where(inside & (flag > 0), flag, 0.0)[:, None]], 1)

    def _check_joints(self, joints: Tensor) -> None:
        if joints.ndim != 2 or joints.shape[1] != 3:
            raise ValueError(f"a person's joints have shape (J, 3), got {tuple(joints.shape)}")
        if not self.hflip:
            return
        named = {tuple(MPII_FLIP_PAIRS): 16, tuple(COCO_FLIP_PAIRS): 17}
        expected = named.get(self.flip_pairs)
        needed = 1 + max((max(pair) for pair in self.flip_pairs), default=-1)
        if len(joints) < needed or (expected and len(joints) != expected):
            raise ValueError(
                f"flip pairs of {expected or f'at least {needed}'} joints for a person of {len(joints)}; "
                "give TopDown the flip_pairs of your joints"
            )


class PersonImages(Dataset):
    """Map-style data set of the people of a source, each as `transform` makes it."""

    def __init__(self, source: PeopleSource, transform: TopDown) -> None:
        """Wrap a source.

        Args:
            source: People, such as `FolderPeople` or `KeypointPeople`.
            transform: Called with every `PersonExample`.
        """
        self.source = source
        self.transform = transform

    def __len__(self) -> int:
        """Number of people."""
        return len(self.source)

    def __getitem__(self, index: int) -> PersonInput:
        """Person `index`, cropped."""
        return self.transform(self.source[index])


def mix(datasets: Sequence[Dataset]) -> ConcatDataset:
    """Join pose sets and action sets into one, to be shuffled; each keeps its own transform.

    The paper trains on MPII (poses, no actions) and Stanford 40 Actions (actions, no poses) together, section 4.1,
    and its loss skips what a person lacks. It does not say how they are mixed: this joins them end to end.

    Args:
        datasets: Map-style sets of `PersonInput`.

    Raises:
        ValueError: If there is none, one is empty, or their first people differ in the crop's size, the number of
            joints or the kind of label.
    """
    if not datasets:
        raise ValueError("nothing to mix; give at least one data set")
    joined = ConcatDataset(datasets)
    starts = [0, *joined.cumulative_sizes]
    kinds: list[str] = []
    for i, (start, stop) in enumerate(pairwise(starts)):
        if start == stop:
            raise ValueError(f"data set {i} of the mix is empty")
        # a look at the data must not change the random draws of a run
        with torch.random.fork_rng(devices=[]):
            kinds.append(_kind(joined[start]))
        if kinds[i] != kinds[0]:
            raise ValueError(
                f"data set {i} does not go with the first: {kinds[i]} against {kinds[0]}. Give both the same crop "
                "and joints; people without a label in a multi-label set of K classes get (K,) entries of -1"
            )
    return joined


def _kind(person: Any) -> str:
    label = f"labels {tuple(person.label.shape)}" if isinstance(person.label, Tensor) else "one class index"
    return f"images {tuple(person.image.shape)}, joints {tuple(person.joints.shape)}, {label}"
