"""Segments of a video and their pseudo-labels: what each part group does most of the time (PCF, section II-C).

A frame-by-frame task becomes one of recognising short clips: a video is cut into parts of about three seconds, and a
segment gets one label for each of six part groups, made of the action of the video, the group and its most frequent
state. Of groups with two sides the label holds both, which may differ.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.part_videos import frame_number
from ..metrics._part_annotations import check_parts, proposals

PART_GROUPS: dict[str, tuple[str, ...]] = {
    "head": ("head",),
    "arm": ("right_arm", "left_arm"),
    "hand": ("right_hand", "left_hand"),
    "hip": ("hip",),
    "leg": ("right_leg", "left_leg"),
    "foot": ("right_foot", "left_foot"),
}
"""The parts of every group; of two the right one first."""

UNSEEN = "none"
"""State of a part that is not annotated, one of the states of Kinetics-TPS."""


class SegmentLabel(NamedTuple):
    """What one part group does in a segment."""

    action: str
    group: str
    states: tuple[str, ...]
    """One state, or those of the right and the left side."""

    def __str__(self) -> str:
        """`belly_dancing_R_arm_bend_L_arm_hang`, or `bowling_head_none`."""
        names = [self.group] if len(self.states) == 1 else [f"R_{self.group}", f"L_{self.group}"]
        return "_".join([self.action, *(f"{name}_{state}" for name, state in zip(names, self.states))])

    def parts(self) -> dict[str, str]:
        """State of every part of the group, by the part's name."""
        return dict(zip(PART_GROUPS[self.group], self.states))

    def flipped(self) -> "SegmentLabel":
        """The label of the mirrored segment: right and left change places."""
        return self._replace(states=self.states[::-1])


class Segment(NamedTuple):
    """A part of a video and its pseudo-labels."""

    start: int
    stop: int
    """Frames `start` to `stop - 1`, the first of the video is 0."""
    labels: dict[str, SegmentLabel]
    """By part group."""


def segment_bounds(frames: int, fps: float, seconds: float = 3.0) -> list[tuple[int, int]]:
    """Cut a video into equal segments of about some length: as many as fit best, at least one.

    Args:
        frames: Frames of the video.
        fps: Frames per second.
        seconds: Length of a segment.

    Returns:
        First frame and frame after the last of every segment. Lengths differ by one frame at most.

    Raises:
        ValueError: If a number is not positive and finite. A file that does not know its frame rate says 0 or NaN:
            give the true one.
    """
    for name, value in (("frames", frames), ("fps", fps), ("seconds", seconds)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is a positive number, got {value!r}")
    count = min(max(1, round(frames / fps / seconds)), frames)
    return [(i * frames // count, (i + 1) * frames // count) for i in range(count)]


class SegmentLabeler:
    """Pseudo-labels of segments and the vocabulary of those that training videos show, an index for each.

    Section II-C of the paper; that a label of a paired group holds both sides is taken from the authors' lists of
    labels. Every person of every annotated frame has one vote, for the state of the group or for the states of both
    its sides together. A side that is not annotated counts as `"none"`; who shows nothing of the group does not vote.
    Of equal counts the first in the alphabet is taken.
    """

    def __init__(self, vocabulary: Mapping[str, Iterable[Sequence[Any]]]) -> None:
        """Take over a vocabulary, as `to_dict` gives it.

        Args:
            vocabulary: For every part group its labels in the order of their indices, each as the action and then the
                states.

        Raises:
            ValueError: If a group is missing or unknown, a label has too many or too few states, or comes twice.
        """
        if set(vocabulary) != set(PART_GROUPS):
            raise ValueError(f"expected the groups {', '.join(PART_GROUPS)}, got {', '.join(map(str, vocabulary))}")
        self.vocabulary: dict[str, tuple[SegmentLabel, ...]] = {}
        """Labels of every group in the order of their indices."""
        for group, parts in PART_GROUPS.items():
            labels = tuple(SegmentLabel(action, group, tuple(states)) for action, *states in vocabulary[group])
            if wrong := [label for label in labels if len(label.states) != len(parts)]:
                raise ValueError(f"a label of {group!r} has {len(parts)} states, got {wrong[0].states}")
            if len(set(labels)) < len(labels):
                raise ValueError(f"a label of {group!r} comes twice: {Counter(labels).most_common(1)[0][0]}")
            self.vocabulary[group] = labels
        self._index = {label: i for labels in self.vocabulary.values() for i, label in enumerate(labels)}

    @classmethod
    def from_segments(cls, segments: Iterable[Segment]) -> "SegmentLabeler":
        """The vocabulary of training segments, in alphabetical order.

        Raises:
            ValueError: If there is no segment.
        """
        labels = {label for segment in segments for label in segment.labels.values()}
        if not labels:
            raise ValueError("there is no segment to take a vocabulary from")
        return cls(
            {
                group: [(label.action, *label.states) for label in sorted(labels) if label.group == group]
                for group in PART_GROUPS
            }
        )

    @staticmethod
    def segments(
        action: str, frames: Mapping[str, Any], *, fps: float, length: int | None = None, seconds: float = 3.0
    ) -> list[Segment]:
        """Cut an annotated video into segments and label them.

        Args:
            action: Label of the video.
            frames: `{frame: {"humans": [...]}}`, the entry of a video in the ground truth of the Kinetics-TPS
                challenge (see `part_state_correctness`) or as `figure_annotations` gives it. The names of frames end
                in their numbers, the first of a video is 1; not every frame need be annotated.
            fps: Frames per second.
            length: Frames of the video; the number of the last annotated one if None.
            seconds: Length of a segment.

        Returns:
            The segments in order. A group that nobody shows in a segment is labelled `"none"`.

        Raises:
            ValueError: If annotations are malformed, a frame has no number or one beyond the length, or a number is
                not positive.
        """
        check_parts({action: frames}, "annotations", proposed=False)
        numbers = {frame_number(name): content["humans"] for name, content in frames.items()}
        if len(numbers) < len(frames):
            raise ValueError(f"two frames have the same number: {', '.join(sorted(frames)[:4])} ...")
        if not numbers and length is None:
            raise ValueError("no frame is annotated, so the length of the video must be given")
        length = max(numbers) if length is None else length
        if numbers and not 1 <= min(numbers) <= max(numbers) <= length:
            raise ValueError(f"expected frames 1 to {length}, got {min(numbers)} to {max(numbers)}")
        result, order = [], sorted(numbers)
        for start, stop in segment_bounds(length, fps, seconds):
            own = order[bisect_right(order, start) : bisect_right(order, stop)]
            people = [person for number in own for person in numbers[number]]
            labels = {group: SegmentLabel(action, group, _most_frequent(people, group)) for group in PART_GROUPS}
            result.append(Segment(start, stop, labels))
        return result

    def __len__(self) -> int:
        """Labels of all groups together."""
        return len(self._index)

    def __contains__(self, label: object) -> bool:
        """Whether a label is in the vocabulary."""
        return label in self._index

    def encode(self, labels: Mapping[str, SegmentLabel]) -> Tensor:
        """Targets for the six networks or heads of the part groups.

        Args:
            labels: Those of a segment, by group.

        Returns:
            `(6,)` int64 in the order of `PART_GROUPS`. A label that the vocabulary lacks is -100, which
            `cross_entropy` ignores.
        """
        return torch.tensor([self._index.get(labels[group], -100) for group in PART_GROUPS])

    def decode(self, group: str, index: int) -> SegmentLabel:
        """The label of an index."""
        return self.vocabulary[group][index]

    def of_action(self, group: str, action: str) -> Tensor:
        """Which labels of a group belong to an action, `(K,)` bool: all others can be ruled out once it is known."""
        return torch.tensor([label.action == action for label in self.vocabulary[group]], dtype=torch.bool)

    def flip(self, group: str) -> Tensor:
        """Index of every label's mirrored label, `(K,)` int64; -1 where there is none, so do not flip those."""
        return torch.tensor([self._index.get(label.flipped(), -1) for label in self.vocabulary[group]])

    def to_dict(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """The vocabulary in a form that JSON, a model's arguments and the metadata of its weights can hold."""
        return {
            group: tuple((label.action, *label.states) for label in labels) for group, labels in self.vocabulary.items()
        }

    def __repr__(self) -> str:
        """How many labels every group has."""
        return f"SegmentLabeler({', '.join(f'{group}={len(labels)}' for group, labels in self.vocabulary.items())})"


def _most_frequent(people: Iterable[Mapping[str, Any]], group: str) -> tuple[str, ...]:
    """States of a group for which most of the people stand."""
    votes: Counter[tuple[str, ...]] = Counter()
    for person in people:
        parts = [person["parts"].get(name) for name in PART_GROUPS[group]]
        if any(part is not None for part in parts):
            votes[tuple(UNSEEN if part is None else proposals(part)[1][0] for part in parts)] += 1
    if not votes:
        return (UNSEEN,) * len(PART_GROUPS[group])
    return min(votes, key=lambda states: (-votes[states], states))
