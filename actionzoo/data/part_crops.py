"""People cut out of annotated frames, with their joints: what PCF's detector of body parts learns from."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.ops import clip_boxes_to_image

from ..layers import BoxGrower, grow_boxes
from .part_frames import FrameTruth, annotated_frames, fixed_frames
from .part_videos import PartVideos

__all__ = ["PartCrops", "PersonCrop", "crop_bounds"]

Estimate = Callable[[Tensor, Tensor], Tensor]
"""A frame `(3, H, W)` in `[0, 1]` and the boxes `(n, 4)` of its people -> their joints `(n, J, 3)`: x, y in pixels that
count from the corner of the first one, as boxes do, and score."""

_THIN = 16
"""No crop is more than so many times as long as it is wide: a detector would scale it to nothing."""


class PersonCrop(NamedTuple):
    """A piece of a frame with one person in it; everything in pixels of the piece."""

    pixels: Tensor
    """`(3, h, w)` uint8: what any crop of this person may show."""
    box: Tensor
    """`(4,)` true box xyxy."""
    grown: Tensor
    """`(4,)` the same, grown to hold the joints."""
    keypoints: Tensor
    """`(J, 3)` x, y, from the corner of the first pixel, and score; `(0, 3)` without a pose net."""
    parts: Tensor
    """`(10, 4)` true boxes in the order of `PARTS`; one that is not annotated has no area."""


def crop_bounds(box: Tensor, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches, at least one, and no strip too thin to be scaled; within the picture.

    Args:
        box: `(4,)` xyxy.
        size: `(H, W)` of the picture.

    Returns:
        x1, y1, x2, y2, half-open.
    """
    spans = []
    for low, high, limit in ((box[0], box[2], size[1]), (box[1], box[3], size[0])):
        first = min(max(math.floor(float(low)), 0), limit - 1)
        spans.append([first, min(max(math.ceil(float(high)), first + 1), limit), limit])
    least = math.ceil(max(last - first for first, last, _ in spans) / _THIN)
    for span in spans:
        if span[1] - span[0] < least:
            span[1] = min(span[0] + least, span[2])
            span[0] = max(span[1] - least, 0)
    (x1, x2, _), (y1, y2, _) = spans
    return x1, y1, x2, y2


class PartCrops(Dataset):
    """The people of some annotated frames of every video, one by one, with their joints as a frozen pose net sees them.

    The frames are always the same ones, so that the pose net, which costs more than the detector that learns from it,
    looks at each person once, in the true box. The annotations of all videos are looked through once, when the first
    person or their number is asked for.
    """

    def __init__(
        self,
        videos: PartVideos,
        estimate: Estimate | None = None,
        grower: BoxGrower | None = None,
        *,
        frames_per_video: int = 1,
        jitter: float = 0.0,
        cache: bool = True,
    ) -> None:
        """Wrap videos.

        Args:
            videos: The videos.
            estimate: Finds the joints of the people of a frame; None for people without joints.
            grower: Grows the boxes to hold the joints; None for boxes as they are.
            frames_per_video: Frames of every video whose people are shown.
            jitter: Room for boxes whose every side moves out by this share of the box's width or height.
            cache: Keep the crops in memory, as uint8. Every worker process keeps its own, but has those that were
                loaded before it was forked.

        Raises:
            ValueError: If a number is out of range, or boxes are to grow and there are no joints.
        """
        if frames_per_video < 1 or not 0 <= jitter < 0.5:
            raise ValueError(
                f"frames_per_video is at least 1 and jitter in [0, 0.5), got {frames_per_video} and {jitter}"
            )
        if grower is not None and estimate is None:
            raise ValueError("boxes grow to hold the joints, so a grower needs estimate, which finds them")
        self.videos, self.estimate, self.grower = videos, estimate, grower
        self.frames_per_video, self.jitter = frames_per_video, jitter
        self._kept: dict[int, list[PersonCrop]] | None = {} if cache else None
        self._frames: list[FrameTruth] | None = None
        self._people: list[tuple[int, int]] = []

    def _truth(self) -> list[FrameTruth]:
        if self._frames is None:
            chosen = []
            for i in range(len(self.videos)):
                frames = [truth for truth in annotated_frames(self.videos, i) if len(truth.boxes)]
                if frames:
                    chosen += [frames[k] for k in fixed_frames(len(frames), i, self.frames_per_video)]
            self._people = [(k, p) for k, truth in enumerate(chosen) for p in range(len(truth.boxes))]
            self._frames = chosen
        return self._frames

    def __len__(self) -> int:
        """Number of people."""
        self._truth()
        return len(self._people)

    def __getitem__(self, i: int) -> PersonCrop:
        """Person `i`.

        Raises:
            IndexError: If there is no such person.
        """
        frames = self._truth()
        k, person = self._people[i]
        if self._kept is None:
            return self._cut(frames[k])[person]
        if k not in self._kept:
            self._kept[k] = self._cut(frames[k])
        return self._kept[k][person]

    @torch.no_grad()
    def _cut(self, truth: FrameTruth) -> list[PersonCrop]:
        """All people of a frame."""
        pixels, boxes = self.videos.read(truth.video, [truth.frame])[:, 0], truth.boxes
        size = (pixels.shape[1], pixels.shape[2])
        outer = boxes + self.jitter * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) * boxes.new_tensor([-1, -1, 1, 1])
        keypoints, grown = boxes.new_zeros(len(boxes), 0, 3), clip_boxes_to_image(boxes, size)
        if self.estimate is not None:
            frame, estimate = pixels.float() / 255, self.estimate
            keypoints = estimate(frame, boxes)
            if self.grower is not None:
                grown, keypoints = self.grower(boxes, keypoints, size, lambda rows: estimate(frame, rows))
                # a larger box grows to a larger one, so that this holds all that jitter may lead to
                outer = grow_boxes(outer, keypoints, size, self.grower.threshold, self.grower.max_growth)
        people = []
        for p in range(len(boxes)):
            both = torch.cat([torch.minimum(outer[p, :2], grown[p, :2]), torch.maximum(outer[p, 2:], grown[p, 2:])])
            x1, y1, x2, y2 = crop_bounds(both, size)
            corner = boxes.new_tensor([x1, y1])
            people.append(
                PersonCrop(
                    pixels[:, y1:y2, x1:x2].clone(),
                    boxes[p] - corner.repeat(2),
                    grown[p] - corner.repeat(2),
                    torch.cat([keypoints[p, :, :2] - corner, keypoints[p, :, 2:]], 1),
                    truth.parts[p] - corner.repeat(2),
                )
            )
        return people

    def __repr__(self) -> str:
        """What tells these people from others."""
        rules = f"frames_per_video={self.frames_per_video}, joints={self.estimate is not None}, grower={self.grower}"
        return f"PartCrops({self.videos!r}, {rules})"
