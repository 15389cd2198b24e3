"""The stages of part-level action parsing over the frames of a video of any length, one segment after the other."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.clips import ClipFrame
from ..models.part_people import PartPeople
from ..models.pcf import PCF, scale_frames
from .part_lengths import SegmentLengths
from .part_overlay import KeyPictures
from .part_views import VideoViews


class RecognisedSegment(NamedTuple):
    """A segment, before it is decided what its labels are."""

    start: int
    """Number of the first frame."""
    stop: int
    """Number after that of the last."""
    start_s: float
    stop_s: float
    frames: int
    people: dict[int, PartPeople]
    """By the number of the frame, of those that were looked at."""
    probabilities: dict[str, Tensor]
    """`(K_group,)` by part group."""
    action: Tensor | None
    """`(K,)` probabilities of the actions in this segment, if they were asked for."""


class _Moment(NamedTuple):
    """A frame without its pixels."""

    number: int
    time_s: float


class PartStream:
    """Reads frames one at a time and says what is in them, segment by segment.

    Every `every`-th frame goes through the detectors. Of a segment the frames are kept as small as its network takes
    them, and of those looked at `batch` as they are; no more.
    """

    def __init__(self, model: PCF, *, threshold: float, every: int, batch: int) -> None:
        """Describe what is looked at.

        Args:
            model: In eval mode.
            threshold: Least score of a person.
            every: Step between the frames that are looked at.
            batch: Of those so many go through the detectors at a time.
        """
        self.model, self.threshold, self.every, self.batch = model, threshold, every, batch
        self.device = next(model.parameters()).device
        self.keys = KeyPictures()
        self.frames, self.rate = 0, math.nan

    def segments(
        self, frames: Iterable[ClipFrame], lengths: SegmentLengths, fps: float, video: VideoViews | None = None
    ) -> Iterator[RecognisedSegment]:
        """Every segment as soon as its last frame was read.

        Args:
            frames: Of a video.
            lengths: Of the segments.
            fps: Frames per second, if the frames' own times do not tell.
            video: Takes the frames that the action is told from; None tells the action of every segment.

        Raises:
            RuntimeError: If there are no frames, or they change their size.
        """
        side: int = self.model.pretrained_cfg["input_size"][-1]  # type: ignore[assignment]
        size, start_s, number = None, 0.0, 0
        segment, waiting, people, small = list[_Moment](), list[ClipFrame](), {}, list[Tensor]()
        for frame in frames:
            if size is None:
                size, start_s = frame.pixels.shape, frame.time_s
            _check_size(size, frame.pixels.shape)
            small.append(scale_frames(frame.pixels[:, None], side))
            if video is not None:
                video.add(self.frames, small[-1])
            if self.frames % self.every == 0:
                self.keys.add(frame)
                waiting.append(frame)
            segment.append(_Moment(frame.number, frame.time_s))
            span = frame.time_s - start_s
            self.rate = self.frames / span if span > 0 else fps
            self.frames += 1
            over = len(segment) >= lengths.of(number, self.rate)
            if over or len(waiting) == self.batch:
                people |= self._look(waiting)
                waiting = []
            if over:
                yield self._recognise(segment, small, people, video is None)
                segment, people, small, number = [], {}, [], number + 1
        if size is None:
            raise RuntimeError("the clip has no frames")
        if segment:
            people |= self._look(waiting)
            yield self._recognise(segment, small, people, video is None)

    def _look(self, frames: Sequence[ClipFrame]) -> dict[int, PartPeople]:
        """The people of some frames."""
        if not frames:
            return {}
        pixels = torch.stack([frame.pixels for frame in frames]).to(self.device)
        found = {}
        for frame, people in zip(frames, self.model.detect(pixels.float() / 255)):
            sure = people.scores >= self.threshold
            found[frame.number] = PartPeople(*(values[sure].cpu() for values in people))
        return found

    def _recognise(
        self, segment: Sequence[_Moment], small: Sequence[Tensor], people: dict[int, PartPeople], action: bool
    ) -> RecognisedSegment:
        pixels = torch.cat(list(small), 1).to(self.device)
        probabilities = {group: p.cpu() for group, p in self.model.recognise(pixels).items()}
        return RecognisedSegment(
            start=segment[0].number,
            stop=segment[-1].number + 1,
            start_s=segment[0].time_s,
            stop_s=segment[-1].time_s + 1 / self.rate,
            frames=len(segment),
            people=people,
            probabilities=probabilities,
            action=self.model.recognise_video(pixels).cpu() if action else None,
        )


def _check_size(size: torch.Size, other: torch.Size) -> None:
    if size != other:
        sizes = f"{size[2]} x {size[1]} to {other[2]} x {other[1]}"
        raise RuntimeError(f"the frames of the clip change their size from {sizes}; cut the clip there")
