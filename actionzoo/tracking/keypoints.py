"""Linking by the distance of keypoints, as the instance-guided framework does."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._assignment import Tracks, to_numpy


class KeypointTracker:
    """Gives every person of a stream of frames a track id, by the distance of the joints to those last seen.

    Instance-guided framework, section 3.1.3, equation 3: person n' of frame i-1 continues as the person n of frame i
    with the smallest sum of joint distances. What the equation leaves open is decided so: the distance is the mean
    over the joints seen in both, so that it does not grow with their number; the links are one to one; a person
    further away than the gate starts a new track; a track that nobody continues is kept for some frames.

    Ids count up from 0 in the order of first appearance and are not used again. What is kept does not grow with the
    length of the stream.
    """

    def __init__(
        self, *, method: str = "hungarian", gate: float = 0.5, patience: int = 5, min_score: float = 0.0
    ) -> None:
        """Describe how people are linked.

        Args:
            method: `"hungarian"`: one to one with the least total distance, where leaving a pair apart costs as much
                as the frame's largest gate. `"greedy"`: one to one, the nearest pair first. `"printed"`: equation 3 to
                the letter, where every track takes its nearest person and two may take the same: the person then
                stays with the nearer track and the other track is lost, even if somebody else stands close by. The
                equation knows neither gate nor memory; `gate=math.inf, patience=0` turns both off.
            gate: Largest distance of a link, in diagonals of the larger of the two boxes.
            patience: Frames that a track may miss in a row; it waits at the pose last seen.
            min_score: Joints of this score or below are not seen, nor are those with NaN or infinite coordinates.

        Raises:
            ValueError: If the method is unknown, the gate is not positive or the patience not a whole number from 0.
        """
        if not gate > 0:
            raise ValueError(f"gate is a positive share of the box diagonal, got {gate!r}")
        self.method, self.gate, self.patience, self.min_score = method, gate, patience, min_score
        self.reset()

    def reset(self) -> None:
        """Forget everybody, as before a new clip: ids start at 0 again."""
        self._tracks = Tracks(self.method, self.patience)
        self._people: _People | None = None

    def update(self, keypoints: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Track ids of the people of the next frame.

        A pair without a joint seen in both is as far apart as the centres of its boxes. A person with neither a joint
        nor a box is linked to nobody.

        Args:
            keypoints: `(n, J, 3)` x, y in pixels and score.
            boxes: `(n, 4)` xyxy in pixels. If None, and for a box that is not finite: the extent of the joints seen.
                A width or height below a pixel counts as one.

        Returns:
            `(n,)` int64 ids, no two alike, on the device of the keypoints.

        Raises:
            ValueError: If a shape is wrong or J is not that of the frames before.
            TypeError: If an argument is not a tensor of numbers.
            ImportError: If scipy is missing and the method is `"hungarian"`.
        """
        found = _read_people(keypoints, boxes, self.min_score)
        people = found.boxes.shape[1]
        before = _nobody(found.xy.shape[1]) if self._people is None else self._people
        if not people:
            # a frame without people may come without joints too
            found = _nobody(before.xy.shape[1])
        if before.xy.shape[1] != found.xy.shape[1]:
            raise ValueError(
                f"keypoints have {found.xy.shape[1]} joints, those of the frames before {before.xy.shape[1]}; "
                "call reset() before a clip of another layout"
            )
        ids, alive = self._tracks.step(_distances(before, found), self.gate * _larger_diagonals(before, found))
        if people or self._people is not None:
            self._people = _People(*(np.concatenate(arrays, -1)[..., alive] for arrays in zip(before, found)))
        return torch.from_numpy(ids).to(keypoints.device)


def link_keypoints(
    keypoints: Sequence[Tensor],
    boxes: Sequence[Tensor] | None = None,
    *,
    method: str = "hungarian",
    gate: float = 0.5,
    patience: int = 5,
    min_score: float = 0.0,
) -> list[Tensor]:
    """Give every person of every frame of a clip a track id, by keypoints; `KeypointTracker` says how.

    Args:
        keypoints: For each frame `(n_t, J, 3)`, x, y in pixels and score.
        boxes: For each frame `(n_t, 4)` xyxy in pixels; the extent of the joints seen if None.
        method: `"hungarian"`, `"greedy"` or `"printed"`.
        gate: Largest distance of a link, in diagonals of the larger of the two boxes.
        patience: Frames that a track may miss in a row.
        min_score: Joints of this score or below are not seen.

    Returns:
        For each frame `(n_t,)` int64 ids, no two alike in a frame, on the device of the keypoints.

    Raises:
        ValueError: If a setting or a shape is wrong, or keypoints and boxes are of different frames.
        TypeError: If a frame is not a tensor of numbers.
        ImportError: If scipy is missing and the method is `"hungarian"`.
    """
    frames_of_boxes = [None] * len(keypoints) if boxes is None else boxes
    if len(frames_of_boxes) != len(keypoints):
        raise ValueError(
            f"expected keypoints and boxes of the same frames, got {len(keypoints)} and {len(boxes or ())}"
        )
    tracker = KeypointTracker(method=method, gate=gate, patience=patience, min_score=min_score)
    return [tracker.update(joints, found) for joints, found in zip(keypoints, frames_of_boxes)]


class _People(NamedTuple):
    """Poses of n people, who come last: sums over joints are several times as fast that way."""

    xy: np.ndarray
    """(2, J, n), 0 where not seen."""
    seen: np.ndarray
    """(J, n) bool."""
    boxes: np.ndarray
    """(4, n), NaN where neither a box nor a joint is known."""


def _nobody(joints: int) -> _People:
    return _People(np.zeros((2, joints, 0)), np.zeros((joints, 0), dtype=bool), np.zeros((4, 0)))


def _read_people(keypoints: Tensor, boxes: Tensor | None, min_score: float) -> _People:
    values = np.ascontiguousarray(to_numpy(keypoints, "keypoints", (None, None, 3)).transpose(2, 1, 0))
    xy, count = values[:2], values.shape[2]
    seen = np.isfinite(xy).all(0) & (values[2] > min_score)
    known = np.full((4, count), np.nan) if boxes is None else to_numpy(boxes, "boxes", (count, 4)).T
    usable = np.isfinite(known).all(0)
    if not usable.all():
        low = np.where(seen, xy, np.inf).min(1, initial=np.inf)
        high = np.where(seen, xy, -np.inf).max(1, initial=-np.inf)
        extent = np.where(seen.any(0), np.concatenate([low, high]), np.nan)
        known = np.where(usable, known, extent)
    return _People(np.where(seen, xy, 0.0), seen, known)


def _distances(before: _People, found: _People) -> np.ndarray:
    """Mean distance over the joints seen in both, else that of the box centres: (m, n); NaN where neither is known."""
    shared = before.seen[:, :, None] & found.seen[:, None]
    count = shared.sum(0)
    mean = _lengths(before.xy[..., None] - found.xy[:, :, None]).sum(0, where=shared) / np.maximum(count, 1)
    if count.all():
        return mean
    centres = [(people.boxes[:2] + people.boxes[2:]) / 2 for people in (before, found)]
    return np.where(count > 0, mean, _lengths(centres[0][:, :, None] - centres[1][:, None]))


def _larger_diagonals(before: _People, found: _People) -> np.ndarray:
    """Diagonal of the larger box of every pair, in pixels: (m, n)."""
    first, second = (_lengths((people.boxes[2:] - people.boxes[:2]).clip(min=1)) for people in (before, found))
    return np.maximum(first[:, None], second[None])


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Lengths of (2, ...) vectors. np.hypot guards against an overflow that pixels do not cause, at twice the cost."""
    squares = np.square(vectors)
    return np.sqrt(squares[0] + squares[1])
