"""The people, parts and states of a video drawn in: on one frame, and on all of them."""

import math
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import draw
from ..data.clips import ClipFrame, read_clip
from ..data.figures import PARTS
from ..models.parsed_video import PartState
from ..models.part_people import PartPeople
from ..models.segments import PART_GROUPS
from ..tracking import link_keypoints
from .clip_output import progress_bar
from .clip_overlay import resized
from .clip_source import Clip, open_frames
from .part_segment import PartSegment
from .result import SEEN

READABLE = 360
"""Shorter side in pixels at which parts can be told apart; smaller frames are enlarged."""

DRAWN = 0.3
"""People who score less are not drawn unless asked for."""

ROWS = tuple(part for parts in sorted(PART_GROUPS.values(), key=len) for part in parts)
"""Order of the parts in the panel: those in the middle of the body, then right and left by turns."""


class KeyPicture(NamedTuple):
    """A small picture of one frame."""

    number: int
    picture: Image.Image
    scale: float
    """Size of the picture over that of the frame."""


class KeyPictures:
    """A few of the frames looked at, evenly spread over a video of whatever length."""

    def __init__(self, most: int = 8, side: int = 640) -> None:
        """Choose how many pictures to keep at most, and their longer side in pixels."""
        self.most, self.side = most, side
        self.kept: list[KeyPicture] = []
        self._count, self._step = 0, 1

    def add(self, frame: ClipFrame) -> None:
        """Keep every so many frames: half as many from there on, once there are too many."""
        if self._count % self._step == 0 and len(self.kept) == self.most:
            self.kept, self._step = self.kept[::2], 2 * self._step
        if self._count % self._step == 0:
            scale = min(1.0, self.side / max(frame.pixels.shape[1:]))
            self.kept.append(KeyPicture(frame.number, resized(draw.to_image(frame.pixels), scale), scale))
        self._count += 1


def read_frame(clip: Clip, number: int, fps: float) -> Image.Image:
    """One frame of a video, read again."""
    if isinstance(clip, str | os.PathLike) and Path(clip).is_file():
        return draw.to_image(read_clip(clip, 1, 1, number)[:, 0])
    with closing(cast(Any, open_frames(clip, fps))) as frames:
        return draw.to_image(next(frame.pixels for frame in frames if frame.number == number))


def readable(picture: Image.Image) -> tuple[Image.Image, int]:
    """A picture large enough for its parts to be told apart, and how many times it was enlarged."""
    times = math.ceil(READABLE / min(picture.size))
    return resized(picture, times), times


def draw_people(
    picture: Image.Image, people: PartPeople, scale: float, tags: Sequence[str], *, joints: bool = False
) -> Image.Image:
    """A picture with everybody's box, part boxes and tag; `scale`: its size over that of the frame."""
    points = people.keypoints
    return draw.body_parts(
        picture,
        people.boxes * scale,
        people.part_boxes * scale,
        PARTS,
        people.part_scores,
        torch.cat([(points[..., :2] + 0.5) * scale, points[..., 2:]], -1) if joints else None,
        tags,
        threshold=SEEN,
    )


def draw_states(
    picture: Image.Image, states: Mapping[str, PartState], label: str, score: float, caption: str
) -> Image.Image:
    """The picture beside a panel with the action and what every part does."""
    return draw.part_panel(picture, {part: states[part] for part in ROWS if part in states}, label, score, caption)


class _Span(NamedTuple):
    """A person from one frame that was looked at to the next with the same person."""

    track: int
    first: int
    row: int
    """Which of the people of the first frame."""
    last: int | None
    """None where the person is not seen again."""
    last_row: int


class Followed:
    """People of the frames that were looked at, linked, and placed on all frames between."""

    def __init__(self, people: Mapping[int, PartPeople], threshold: float) -> None:
        """Link those who score at least `threshold`."""
        self.numbers = sorted(people)
        kept = (people[number].scores >= threshold for number in self.numbers)
        self.people = [PartPeople(*(v[keep] for v in people[n])) for n, keep in zip(self.numbers, kept)]
        ids = link_keypoints([p.keypoints for p in self.people], [p.boxes for p in self.people])
        seen: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for place, of_frame in enumerate(ids):
            for row, track in enumerate(of_frame.tolist()):
                seen[track].append((place, row))
        self.spans: dict[int, list[_Span]] = defaultdict(list)
        """By the place of the frame looked at from which on they hold."""
        for track, sightings in sorted(seen.items()):
            for (first, row), (last, last_row) in pairwise(sightings):
                for place in range(first, last):
                    self.spans[place].append(_Span(track, first, row, last, last_row))
            self.spans[sightings[-1][0]].append(_Span(track, *sightings[-1], None, -1))

    def at(self, number: int) -> tuple[PartPeople, list[int]]:
        """The people of any frame, and their track ids: interpolated, and after the last sighting held till the next
        frame that was looked at.
        """
        place = bisect_right(self.numbers, number) - 1
        spans = self.spans.get(place, [])
        rows = [self._between(span, number) for span in spans]
        if not rows:
            return PartPeople(*(values[:0] for values in self.people[max(place, 0)])), []
        return PartPeople(*(torch.stack(values) for values in zip(*rows))), [span.track for span in spans]

    def _between(self, span: _Span, number: int) -> tuple[Tensor, ...]:
        before = tuple(values[span.row] for values in self.people[span.first])
        if span.last is None:
            return before
        after = tuple(values[span.last_row] for values in self.people[span.last])
        start, stop = self.numbers[span.first], self.numbers[span.last]
        weight = (number - start) / (stop - start)
        mixed = PartPeople(*(torch.lerp(a, b, weight) for a, b in zip(before, after)))
        first, last = PartPeople(*before), PartPeople(*after)
        # a part without a box at one end is not half there: it is where it was, until it was looked at again
        both = (_there(first.part_boxes) & _there(last.part_boxes))[:, None]
        return mixed._replace(part_boxes=torch.where(both, mixed.part_boxes, first.part_boxes))


def _there(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] > boxes[:, :2]).all(1)


def overlay_frames(
    clip: Clip,
    segments: Sequence[PartSegment],
    count: int,
    fps: float,
    *,
    threshold: float,
    joints: bool = False,
    progress: bool = False,
) -> Iterator[Tensor]:
    """`(3, H, W)` uint8 pixels of every frame with everything drawn in, small frames enlarged so that it is readable.

    Args:
        clip: Can be read again.
        segments: In order.
        count: Frames to read.
        fps: Frames per second.
        threshold: People who score less are left out.
        joints: Draw the joints, too.
        progress: Show a bar, if standard error is a terminal.
    """
    followed = Followed({n: people for segment in segments for n, people in segment.people.items()}, threshold)
    starts = [segment.start for segment in segments]
    with closing(cast(Any, open_frames(clip, fps))) as frames, _bar(frames, count, progress) as shown:
        for frame in shown:
            people, ids = followed.at(frame.number)
            place = max(0, bisect_right(starts, frame.number) - 1)
            picture, scale = readable(draw.to_image(frame.pixels))
            picture = draw_people(picture, people, scale, [f"#{track}" for track in ids], joints=joints)
            segment, caption = segments[place], f"{frame.time_s:.1f} s, segment {place + 1} of {len(segments)}"
            picture = draw_states(picture, segment.states, segment.label, segment.score, caption)
            yield torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _bar(frames: Iterable[ClipFrame], count: int, progress: bool) -> Any:
    return progress_bar(islice(frames, count), count, progress)
