"""The instance-guided framework over the frames of a clip of any length: find, link, pool, classify."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.clips import ClipFrame
from ..layers import outermost_boxes
from ..models import InstanceActionNet, People, View
from ..tracking import KeypointTracker, collect_tracks
from .clip_overlay import Event, Sighting
from .clip_window import ClipWindow, TrackAction

PATIENCE = KeypointTracker().patience
"""Frames in a row, of those looked at, that a track may miss."""


class _Sampled(NamedTuple):
    """A frame that was looked at: its people, and the maps that they were found on."""

    number: int
    time_s: float
    people: People
    ids: Tensor
    maps: dict[str, Tensor]
    """`(C, h, w)` by the name of their level."""
    view: View


class SlidingWindow:
    """Says who does what in the last frames, time and again, as the frames of a clip come in.

    Every `stride`-th frame goes through the detector once, and one tracker runs through the whole clip, so that an id
    means the same person in all windows. Maps and people of the last `model.frames` such frames are kept, and of those
    that went through the detector with them; no more.
    """

    def __init__(
        self,
        model: InstanceActionNet,
        classes: tuple[str, ...],
        *,
        threshold: float,
        stride: int,
        hop: int,
        min_frames: int,
        batch: int,
    ) -> None:
        """Describe the windows.

        Args:
            model: In eval mode.
            classes: Names of its classes.
            threshold: Least score of a detected person.
            stride: Step between the frames that are looked at.
            hop: Looked-at frames from one window to the next.
            min_frames: Leave out people who were found in fewer frames of a window, unless it has fewer.
            batch: Looked-at frames that go through the detector at a time.

        Raises:
            ValueError: If a number is out of range, or the detector is not in float32.
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a score in [0, 1], got {threshold}")
        if min(stride, hop, min_frames, batch) < 1 or hop > model.frames:
            raise ValueError(
                f"stride, min_frames and batch are at least 1 and hop lies in 1 to {model.frames}, the frames of a "
                f"window, so that no frame is left out; got {stride}, {min_frames}, {batch} and {hop}"
            )
        parameter = next(model.detector.parameters(), None)
        if parameter is not None and parameter.dtype != torch.float32:
            raise ValueError(
                f"people are found in float32, and the detector is in {parameter.dtype}; call model.detector.float() "
                "and change the precision of model.head alone"
            )
        self.model, self.classes, self.threshold = model, classes, threshold
        self.stride, self.hop, self.min_frames, self.batch = stride, hop, min_frames, batch

    def events(self, frames: Iterable[ClipFrame], every: bool = False) -> Iterator[Event]:
        """What comes out of a clip: the frames looked at (`every`: all of them), the people in each, the windows.

        Raises:
            RuntimeError: If there are no frames, or they change their size.
        """
        tracker = KeypointTracker(patience=PATIENCE)
        window: deque[_Sampled] = deque(maxlen=self.model.frames)
        # looked-at frames until the next window, and whether any has come since the last one
        due, pending = self.model.frames, False
        for group in self._groups(frames, every):
            seen = deque(self._look([frame for frame, looked_at in group if looked_at], tracker))
            for frame, looked_at in group:
                yield frame
                if not looked_at:
                    continue
                window.append(seen.popleft())
                ids, people = window[-1].ids, window[-1].people
                yield Sighting(frame.number, tuple(ids.tolist()), people.boxes, people.keypoints)
                due, pending = due - 1, True
                if due == 0:
                    yield self._classify(window)
                    due, pending = self.hop, False
        if pending:
            yield self._classify(window)

    def _groups(self, frames: Iterable[ClipFrame], every: bool) -> Iterator[list[tuple[ClipFrame, bool]]]:
        """Frames and whether each is looked at: `batch` that are, with those between them, or one that is not."""
        group, due, size = list[tuple[ClipFrame, bool]](), 0, None
        for index, frame in enumerate(frames):
            size = size or frame.pixels.shape
            if frame.pixels.shape != size:
                sizes = f"{size[2]} x {size[1]} to {frame.pixels.shape[2]} x {frame.pixels.shape[1]}"
                raise RuntimeError(f"the frames of the clip change their size from {sizes}; cut the clip there")
            looked_at = index % self.stride == 0
            if looked_at or every:
                group.append((frame, looked_at))
                due += looked_at
            if group and due in (0, self.batch):
                yield group
                group, due = [], 0
        if size is None:
            raise RuntimeError("the clip has no frames")
        if group:
            yield group

    def _look(self, frames: Sequence[ClipFrame], tracker: KeypointTracker) -> Iterator[_Sampled]:
        """Find and follow the people of frames, if there are any."""
        if not frames:
            return
        device = next(self.model.parameters()).device
        pixels = torch.stack([frame.pixels for frame in frames]).to(device)
        with torch.no_grad():
            found = self.model.detect(pixels.float() / 255, self.threshold)
        for i, frame in enumerate(frames):
            people = People(*(values.cpu() for values in found.people[i]))
            ids = tracker.update(people.keypoints, people.boxes)
            maps = {name: found.maps[name][i] for name in self.model.pooler.levels}
            yield _Sampled(frame.number, frame.time_s, people, ids, maps, found.view)

    @torch.no_grad()
    def _classify(self, window: Sequence[_Sampled]) -> ClipWindow:
        ids, boxes = [sampled.ids for sampled in window], [sampled.people.boxes for sampled in window]
        tracks = collect_tracks(ids, boxes, min_frames=min(self.min_frames, len(window)))
        result = ClipWindow(
            self.classes, tuple(sampled.number for sampled in window), window[0].time_s, window[-1].time_s, []
        )
        if not len(tracks.ids):
            return result
        maps = {name: torch.stack([sampled.maps[name] for sampled in window])[None] for name in window[0].maps}
        device = next(iter(maps.values())).device
        clip_index = torch.zeros(len(tracks.ids), dtype=torch.long, device=device)
        pooled = self.model.pool(maps, tracks.boxes.to(device), tracks.valid.to(device), clip_index, window[0].view)
        scores = self.model.head(pooled).float().softmax(1).cpu()
        outermost = outermost_boxes(tracks.boxes, tracks.valid)
        for track, rows, of_track, box in zip(tracks.ids.tolist(), tracks.rows.tolist(), scores, outermost):
            found = [(sampled, row) for sampled, row in zip(window, rows) if row >= 0]
            result.people.append(_action(self.classes, track, found, of_track, box))
        return result


def _action(
    classes: tuple[str, ...], track: int, found: Sequence[tuple[_Sampled, int]], scores: Tensor, window: Tensor
) -> TrackAction:
    """What a track does that was found in these frames, as that one of their people."""
    best = int(scores.argmax())
    keypoints = torch.stack([sampled.people.keypoints[row] for sampled, row in found])
    x1, y1, x2, y2 = window.tolist()
    return TrackAction(
        track_id=track,
        label=classes[best],
        score=float(scores[best]),
        scores=tuple(scores.tolist()),
        frames=tuple(sampled.number for sampled, _ in found),
        start_s=found[0][0].time_s,
        end_s=found[-1][0].time_s,
        boxes=torch.stack([sampled.people.boxes[row] for sampled, row in found]),
        keypoints=keypoints if keypoints.shape[1] else None,
        window=(x1, y1, x2, y2),
        detection=sum(float(sampled.people.scores[row]) for sampled, row in found) / len(found),
    )
