"""Whole videos and segments of them as training samples: what they show, and where their clips come from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.part_frames import fixed_frames
from ..data.part_videos import PartVideos, frame_number, sample_frames
from ..metrics._part_annotations import proposals
from ..models.segments import Segment, SegmentLabeler
from ._clip_augmentation import ClipAugmentation


class VideoSegment(NamedTuple):
    """A segment of one of several videos."""

    video: int
    """Number of the video."""
    segment: Segment
    """Where it lies in the video, and its labels."""
    states: dict[str, Counter[str]]
    """How often each part, by name, was annotated with each state, over all people and frames."""


class SegmentSample(NamedTuple):
    """A piece of a video and what it shows."""

    video: int
    start: int
    stop: int
    target: Tensor
    """`(G,)` int64 classes, one for each group; -100 where the vocabulary lacks it."""
    flipped: Tensor | None
    """Those of the mirrored piece; None where one is not in the vocabulary."""
    states: Mapping[str, Counter[str]]
    """See `VideoSegment`."""


def list_segments(videos: PartVideos, seconds: float = 3.0, *, progress: bool = False) -> list[VideoSegment]:
    """Cut annotated videos into segments, label them and count the states of parts in them.

    Args:
        videos: The videos.
        seconds: Length of a segment.
        progress: Show a progress bar.
    """
    from tqdm import tqdm

    listed = []
    for i in tqdm(range(len(videos)), "segments", leave=False, disable=not progress):
        frames, action = videos.annotations(i), videos.action(i)
        cut = SegmentLabeler.segments(action, frames, fps=videos.fps(i), length=videos.length(i), seconds=seconds)
        listed += [VideoSegment(i, segment, count_states(frames, segment.start, segment.stop)) for segment in cut]
    return listed


def count_states(frames: Mapping[str, Any], start: int, stop: int) -> dict[str, Counter[str]]:
    """How often each part, by name, is annotated with each state in frames `start` to `stop - 1`, the first is 0."""
    states: dict[str, Counter[str]] = {}
    for name, content in frames.items():
        if start < frame_number(name) <= stop:
            for person in content["humans"]:
                for part, annotated in person["parts"].items():
                    states.setdefault(part, Counter())[proposals(annotated)[1][0]] += 1
    return states


def few_of_each(segments: Sequence[VideoSegment], number: int) -> list[VideoSegment]:
    """Some segments of every video, evenly spread over it, but not in the same places of all videos."""
    by_video: dict[int, list[VideoSegment]] = {}
    for one in segments:
        by_video.setdefault(one.video, []).append(one)
    return [rows[k] for video, rows in by_video.items() for k in fixed_frames(len(rows), video, number)]


class SegmentClips(Dataset):
    """Clips of pieces of videos, with their classes."""

    def __init__(
        self,
        videos: PartVideos,
        samples: Sequence[SegmentSample],
        frames: int,
        stride: int,
        transform: ClipAugmentation,
        train: bool,
        kept: dict[tuple[int, int], Tensor] | None = None,
    ) -> None:
        """Describe the clips.

        Args:
            videos: What samples are pieces of.
            samples: The pieces.
            frames: Frames of a clip.
            stride: Step between them in frames of the video, less where a piece is short.
            transform: Makes a network's input of them.
            train: Take clips from random places, and change them at random.
            kept: Frames that were read, by video and number, and place for those that will be; None to keep none.
        """
        self.videos, self.samples, self.transform, self.train = videos, samples, transform, train
        self.frames, self.stride = frames, stride
        self._kept = kept

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int]:
        """`(3, T, h, w)` normalised clip, `(G,)` classes, and the number `i`."""
        sample, target = self.samples[i], self.samples[i].target
        at = float(torch.rand(())) if self.train else None
        where = sample_frames(sample.stop - sample.start, self.frames, self.stride, at)
        pixels = self._read(sample.video, [sample.start + frame for frame in where])
        if not self.train:
            return self.transform.score(pixels), target, i
        # drawn in any case, so that what follows does not depend on the label
        flip = bool(torch.rand(()) < self.transform.recipe.hflip) and sample.flipped is not None
        return self.transform.train(pixels, flip), sample.flipped if flip else target, i  # type: ignore[return-value]

    def _read(self, video: int, frames: Sequence[int]) -> Tensor:
        """Frames `(T, 3, H, W)`, no larger than is of use; each is read once."""
        kept = {} if self._kept is None else self._kept
        missing = sorted({frame for frame in frames if (video, frame) not in kept})
        if missing:
            pixels = self.transform.shrink(self.videos.read(video, missing).transpose(0, 1))
            # copies, since a view would keep all of them in memory
            kept.update({(video, frame): one.clone() for frame, one in zip(missing, pixels)})
        return torch.stack([kept[video, frame] for frame in frames])

    def __getstate__(self) -> dict[str, Any]:
        """Without the frames kept so far, which would have to travel to every worker."""
        return {**self.__dict__, "_kept": None if self._kept is None else {}}
