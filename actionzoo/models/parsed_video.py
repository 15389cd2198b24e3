"""What part-level action parsing says of a video."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..data.figures import PARTS
from ..data.part_videos import frame_name, inclusive_box
from ..metrics._part_annotations import MAX_PEOPLE
from .part_people import PartPeople


class PartState(NamedTuple):
    """What a part does."""

    state: str
    score: float
    """Probability of the label that it was read from, in `[0, 1]`."""


class ParsedSegment(NamedTuple):
    """A part of a video, in which every part of everybody does one thing."""

    start: int
    stop: int
    """Frames `start` to `stop - 1`, the first of the video is 0."""
    states: dict[str, PartState]
    """By the part's name."""


class ParsedVideo(NamedTuple):
    """A video parsed into its action, people, parts and states."""

    action: str
    scores: Tensor
    """`(K,)` probabilities of the actions."""
    segments: list[ParsedSegment]
    people: dict[int, PartPeople]
    """By the number of the frame, from 0; the frames that were looked at."""

    def to_challenge(self) -> dict[str, Any]:
        """The frames as the Kinetics-TPS challenge takes them, one proposal per part (see `part_state_roc`)."""
        return challenge_frames(self.people, self.segments)


def challenge_frames(people: Mapping[int, PartPeople], segments: list[ParsedSegment]) -> dict[str, Any]:
    """People, parts and states frame by frame in the form of the Kinetics-TPS challenge.

    Args:
        people: By the number of the frame, from 0.
        segments: In order, over all these frames.

    Returns:
        `{"img_00001.json": {"humans": [...]}}`, boxes with their last pixel, at most 10 people per frame.
    """
    frames, place = {}, 0
    for t in sorted(people):
        while segments[place].stop <= t:
            place += 1
        frames[f"{frame_name(t)}.json"] = {"humans": _humans(people[t], segments[place].states)}
    return frames


def _humans(people: PartPeople, states: Mapping[str, PartState]) -> list[dict[str, Any]]:
    humans = []
    for number, (box, boxes) in enumerate(zip(people.boxes[:MAX_PEOPLE], people.part_boxes), 1):
        parts = {
            name: {"number": 1, "box": [inclusive_box(part)], "verb": [states[name].state]}
            for name, part in zip(PARTS, boxes)
            if bool(part.any())
        }
        humans.append({"number": number, "box": inclusive_box(box), "parts": parts})
    return humans
