"""Pictures of people with pose dots, and the boxes of their parts (PCF section II-B, Eqs 1 to 4)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms as T
from torchvision.ops import clip_boxes_to_image

from ..layers import COCO_FLIP_PAIRS, BoxGrower, PoseDotEncoder, grow_boxes
from .figures import PARTS
from .part_crops import PartCrops, PersonCrop, crop_bounds

__all__ = ["PartCropTransform", "PartPicture", "TransformedCrops", "collate_parts"]

MIRRORED = [PARTS.index(name.replace("left", "?").replace("right", "left").replace("?", "right")) for name in PARTS]
"""The part that stands at the place of each part of `PARTS` in a mirror image."""


class PartPicture(NamedTuple):
    """What a detector of body parts is shown, and what it should find."""

    image: Tensor
    """`(3, h, w)` in `[0, 1]`."""
    boxes: Tensor
    """`(n, 4)` xyxy in pixels."""
    labels: Tensor
    """`(n,)` int64; label k is `PARTS[k - 1]`."""


class PartCropTransform:
    """Cut a person out and paint the pose dots, at random moved, mirrored and in other colours.

    Colours change before the dots are painted (Eqs 3 and 4), whose own are what they tell the detector by. In a
    mirror image left and right joints change places, and left and right parts. Parts of which less than a pixel is
    inside the crop are left out.
    """

    def __init__(
        self,
        dots: PoseDotEncoder | None = None,
        grower: BoxGrower | None = None,
        *,
        flip_pairs: Sequence[tuple[int, int]] = COCO_FLIP_PAIRS,
        jitter: float = 0.0,
        hflip: float = 0.0,
        color_jitter: float = 0.0,
    ) -> None:
        """Choose dots and augmentation.

        Args:
            dots: Paints the joints; None for pictures as they are.
            grower: Grows a box that was moved; the one of the `PartCrops`.
            flip_pairs: Joints that trade places in a mirror.
            jitter: Every side of the true box moves in or out at random by up to this share of the box's width or
                height, as a detector's box may lie, before it is grown; no more than the `PartCrops` has room for.
            hflip: Probability of a mirror image.
            color_jitter: Largest relative change of brightness, contrast and saturation.
        """
        self.dots, self.grower, self.flip_pairs = dots, grower, tuple(flip_pairs)
        self.jitter, self.hflip = jitter, hflip
        self.colours = T.ColorJitter(*[color_jitter] * 3) if color_jitter else None

    @torch.no_grad()
    def __call__(self, person: PersonCrop) -> PartPicture:
        """Cut one person out."""
        pixels, box, keypoints, parts = person.pixels, self._box(person), person.keypoints, person.parts
        x1, y1, x2, y2 = crop_bounds(box, (pixels.shape[1], pixels.shape[2]))
        pixels, corner = pixels[:, y1:y2, x1:x2], box.new_tensor([x1, y1])
        keypoints = torch.cat([keypoints[:, :2] - corner, keypoints[:, 2:]], 1)
        parts = parts - corner.repeat(2)
        if self.hflip and float(torch.rand(())) < self.hflip:
            pixels, width = pixels.flip(2), pixels.shape[2]
            keypoints = self._mirror_joints(keypoints, width)
            parts = torch.stack([width - parts[:, 2], parts[:, 1], width - parts[:, 0], parts[:, 3]], 1)[MIRRORED]
        image = (self.colours(pixels) if self.colours else pixels).float() / 255
        if self.dots is not None and len(keypoints):
            image = self.dots(image[None], keypoints[None])[0]
        parts = clip_boxes_to_image(parts, (image.shape[1], image.shape[2]))
        # nor has a part any area that is not annotated
        kept = ((parts[:, 2:] - parts[:, :2]) >= 1).all(1)
        return PartPicture(image, parts[kept], kept.nonzero()[:, 0] + 1)

    def _box(self, person: PersonCrop) -> Tensor:
        if not self.jitter:
            return person.grown
        moved = person.box + (person.box[2:] - person.box[:2]).repeat(2) * self.jitter * (2 * torch.rand(4) - 1)
        if self.grower is None:
            return moved
        size = (person.pixels.shape[1], person.pixels.shape[2])
        rules = (self.grower.threshold, self.grower.max_growth)
        return grow_boxes(moved[None], person.keypoints[None], size, *rules)[0]

    def _mirror_joints(self, keypoints: Tensor, width: int) -> Tensor:
        order = torch.arange(len(keypoints))
        if len(keypoints):
            for left, right in self.flip_pairs:
                order[left], order[right] = right, left
        # the first pixel reaches from 0 to 1
        return torch.cat([width - keypoints[order, :1], keypoints[order, 1:]], 1)


class TransformedCrops(Dataset):
    """People of a `PartCrops`, transformed."""

    def __init__(self, people: PartCrops, transform: PartCropTransform) -> None:
        """Wrap people."""
        self.people, self.transform = people, transform

    def __len__(self) -> int:
        """Number of people."""
        return len(self.people)

    def __getitem__(self, i: int) -> PartPicture:
        """Person `i` as a picture."""
        return self.transform(self.people[i])


def collate_parts(batch: Sequence[PartPicture]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Pictures, boxes and labels of a batch as lists, since they differ in size."""
    images, boxes, labels = zip(*batch)
    return list(images), list(boxes), list(labels)
