"""What adds up while a clip streams by."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.clips import ClipFrame
from .clip_result import TrackedPerson
from .clip_window import ClipWindow


@dataclass
class _Track:
    """Sums over the windows of a track, and its ends: a few numbers, since there may be many tracks."""

    start_frame: int
    start_s: float
    scores: Tensor
    box: Tensor
    end_frame: int = 0
    end_s: float = 0.0
    windows: int = 0
    detection: float = 0.0
    area: float = 0.0


class ClipTally:
    """Counts of frames and windows, and the people of all windows.

    No frame or window is kept; of every person a few numbers are.
    """

    def __init__(self) -> None:
        self.frames = self.windows = 0
        self._tracks: dict[int, _Track] = {}
        self._start_s = self._end_s = 0.0

    def count(self, frames: Iterable[ClipFrame]) -> Iterator[ClipFrame]:
        """Pass frames on and count them."""
        for frame in frames:
            self._start_s = frame.time_s if self.frames == 0 else self._start_s
            self._end_s, self.frames = frame.time_s, self.frames + 1
            yield frame

    def add(self, window: ClipWindow) -> None:
        """Add the people of a window."""
        self.windows += 1
        for person in window.people:
            box = torch.tensor(person.window)
            track = self._tracks.get(person.track_id)
            if track is None:
                scores = torch.zeros(len(person.scores), dtype=torch.float64)
                track = self._tracks[person.track_id] = _Track(person.frames[0], person.start_s, scores, box)
            track.end_frame, track.end_s = person.frames[-1], person.end_s
            track.scores += torch.tensor(person.scores, dtype=torch.float64)
            track.box = torch.cat([torch.minimum(track.box, box)[:2], torch.maximum(track.box, box)[2:]])
            track.windows += 1
            track.detection += person.detection
            track.area += float((person.boxes[:, 2:] - person.boxes[:, :2]).prod(1).mean())

    def frame_rate(self) -> float | None:
        """Frames per second by the times of the frames counted so far; None where these do not tell."""
        span = self._end_s - self._start_s
        return (self.frames - 1) / span if span > 0 else None

    def people(self, classes: tuple[str, ...]) -> list[TrackedPerson]:
        """Everybody, in the order of their ids."""
        return [_person(number, self._tracks[number], classes) for number in sorted(self._tracks)]


def _person(number: int, track: _Track, classes: tuple[str, ...]) -> TrackedPerson:
    scores = track.scores / track.windows
    best = int(scores.argmax())
    x1, y1, x2, y2 = track.box.tolist()
    return TrackedPerson(
        box=(x1, y1, x2, y2),
        label=classes[best],
        score=float(scores[best]),
        track_id=number,
        scores=tuple(scores.tolist()),
        detection=track.detection / track.windows,
        start_frame=track.start_frame,
        end_frame=track.end_frame,
        start_s=track.start_s,
        end_s=track.end_s,
        windows=track.windows,
        area=track.area / track.windows,
    )
