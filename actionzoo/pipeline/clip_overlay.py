"""Who is where and does what on every frame of a clip, between the frames that were looked at too, drawn in."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import draw
from ..data.clips import ClipFrame
from .clip_window import ClipWindow, TrackAction
from .result import SEEN

READABLE = 240
"""Shorter side in pixels that tags need; smaller frames are enlarged."""


class Sighting(NamedTuple):
    """The people found in one sampled frame."""

    number: int
    """Of the frame."""
    ids: tuple[int, ...]
    """Track ids of the n people."""
    boxes: Tensor
    """`(n, 4)` xyxy in pixels."""
    keypoints: Tensor
    """`(n, J, 3)` x, y in pixels and score; J may be 0."""


class Placed(NamedTuple):
    """A person on one frame."""

    box: Tensor
    """`(4,)` xyxy in pixels."""
    keypoints: Tensor
    """`(J, 3)` x, y in pixels and score; J may be 0."""
    action: TrackAction
    """What the person does in the window whose middle is nearest."""


Event: TypeAlias = ClipFrame | Sighting | ClipWindow
"""What comes out of a clip, in this order: a frame, the people in it if it was looked at, a window if it ends there."""


def place_people(events: Iterable[Event], window: int, patience: int) -> Iterator[tuple[ClipFrame, list[Placed]]]:
    """Every frame with the people in it who have an action.

    Boxes and joints between two sightings of a track are interpolated, and held from the last one to the next sampled
    frame. A frame is given once a whole window of sampled frames has come after it, when all windows over it and the
    end of every gap in a track are known; that many frames are held.

    Args:
        events: Of a clip.
        window: Sampled frames of a window.
        patience: Sampled frames in a row that a track may miss.
    """
    held: deque[ClipFrame] = deque()
    sightings: deque[Sighting] = deque(maxlen=window + patience + 1)
    windows: deque[ClipWindow] = deque(maxlen=window + 2)
    for event in events:
        if isinstance(event, Sighting):
            sightings.append(event)
        elif isinstance(event, ClipWindow):
            windows.append(event)
        else:
            if len(sightings) >= window:
                while held and held[0].number <= sightings[-window].number:
                    yield _place(held.popleft(), sightings, windows)
            held.append(event)
    while held:
        yield _place(held.popleft(), sightings, windows)


def _place(
    frame: ClipFrame, sightings: Iterable[Sighting], windows: Iterable[ClipWindow]
) -> tuple[ClipFrame, list[Placed]]:
    number, actions, people = frame.number, {}, []
    # the nearest window comes last and has the last word
    for window in sorted(windows, key=lambda w: -abs(w.start_frame + w.end_frame - 2 * number)):
        actions |= {person.track_id: person for person in window.people}
    before, after, latest = {}, {}, -1
    for sighting in sightings:
        for row, track in enumerate(sighting.ids):
            here = sighting.number, sighting.boxes[row], sighting.keypoints[row]
            if sighting.number <= number:
                before[track] = here
            else:
                after.setdefault(track, here)
        latest = sighting.number if sighting.number <= number else latest
    for track in sorted(before.keys() & actions.keys()):
        (first, box, joints), following = before[track], after.get(track)
        if following is not None:
            weight = (number - first) / (following[0] - first)
            box, joints = torch.lerp(box, following[1], weight), torch.lerp(joints, following[2], weight)
        elif first < latest:
            continue
        people.append(Placed(box, joints, actions[track]))
    return frame, people


def replay(frames: Iterable[ClipFrame], windows: Sequence[ClipWindow]) -> Iterator[Event]:
    """The events of a clip whose windows are known, from reading its frames again."""
    ends = {window.end_frame: window for window in windows}
    found: dict[int, dict[int, tuple[Tensor, Tensor]]] = {n: {} for window in windows for n in window.frames}
    for person in (person for window in windows for person in window.people):
        joints = torch.zeros(len(person.frames), 0, 3) if person.keypoints is None else person.keypoints
        for number, box, pose in zip(person.frames, person.boxes, joints):
            found[number][person.track_id] = box, pose
    for frame in frames:
        yield frame
        if (people := found.get(frame.number)) is not None:
            boxes, joints = zip(*people.values()) if people else ((), ())
            yield Sighting(frame.number, tuple(people), _stack(boxes, 4), _stack(joints, 0, 3))
        if (window := ends.get(frame.number)) is not None:
            yield window


def _stack(rows: Sequence[Tensor], *shape: int) -> Tensor:
    return torch.stack(list(rows)) if rows else torch.zeros(0, *shape)


def draw_people(picture: Image.Image, people: Sequence[Placed], scale: float = 1.0) -> Image.Image:
    """A picture with everybody's box, joints, id, action and score; `scale`: its size over that of the frame."""
    if not people:
        return picture
    joints = torch.stack([person.keypoints for person in people])
    return draw.tracked_people(
        picture,
        torch.stack([person.box for person in people]) * scale,
        [person.action.track_id for person in people],
        [person.action.label for person in people],
        [person.action.score for person in people],
        torch.cat([joints[..., :2] * scale, joints[..., 2:]], -1) if joints.shape[1] else None,
        threshold=SEEN,
    )


def annotate_frames(placed: Iterable[tuple[ClipFrame, Sequence[Placed]]]) -> Iterator[Tensor]:
    """`(3, H, W)` uint8 pixels of every frame with its people drawn in, small frames enlarged so that tags fit."""
    for frame, people in placed:
        times = math.ceil(READABLE / min(frame.pixels.shape[1:]))
        picture = resized(draw.to_image(frame.pixels), times)
        yield torch.from_numpy(np.array(draw_people(picture, people, times))).permute(2, 0, 1)


def resized(picture: Image.Image, scale: float) -> Image.Image:
    """The picture with both sides times `scale`, at least one pixel."""
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


class KeyFrame(NamedTuple):
    """A small picture of one frame, and the people in it."""

    time_s: float
    """Seconds since the first frame."""
    picture: Image.Image
    people: list[Placed]
    scale: float
    """Size of the picture over that of the frame."""

    def draw(self) -> Image.Image:
        """The picture with everybody's box, joints and action."""
        return draw_people(self.picture, self.people, self.scale)


class KeyFrames:
    """A few frames, evenly spread over a clip of whatever length."""

    def __init__(self, most: int = 8, side: int = 480) -> None:
        """Choose how many pictures to keep at most, and their longer side in pixels."""
        self.most, self.side = most, side
        self.kept: list[KeyFrame] = []
        self._count, self._step = 0, 1

    def watch(self, placed: Iterable[tuple[ClipFrame, list[Placed]]]) -> Iterator[tuple[ClipFrame, list[Placed]]]:
        """Pass frames on and keep every so many: half as many from there on, once there are too many."""
        for frame, people in placed:
            if self._count % self._step == 0 and len(self.kept) == self.most:
                self.kept, self._step = self.kept[::2], 2 * self._step
            if self._count % self._step == 0:
                scale = self.side / max(frame.pixels.shape[1:])
                picture = resized(draw.to_image(frame.pixels), scale)
                self.kept.append(KeyFrame(frame.time_s, picture, people, scale))
            self._count += 1
            yield frame, people
