"""What a pipeline says of a segment of a video."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..data.figures import PARTS
from ..models.parsed_video import PartState
from ..models.part_people import PartPeople
from .result import best_of, named_scores, round_all


@dataclass(frozen=True, eq=False)
class PartSegment:
    """Frames `start` to `stop - 1` of a video, in which every part of everybody does one thing."""

    classes: tuple[str, ...]
    start: int
    """Number of the first frame."""
    stop: int
    """Number after that of the last."""
    start_s: float
    """Time of the first frame in seconds."""
    stop_s: float
    """Time at which the last frame ends."""
    states: dict[str, PartState]
    """By the part's name; the score is that of the group's label."""
    people: dict[int, PartPeople]
    """By the number of the frame, of those that were looked at."""
    scores: tuple[float, ...]
    """Probability of every action: as far as is known after this segment in a stream, else of the whole video."""

    @property
    def label(self) -> str:
        """The likeliest action."""
        return best_of(self.classes, self.scores, 1)[0][0]

    @property
    def score(self) -> float:
        """Probability of `label`."""
        return max(self.scores)

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """Plain numbers and strings, for JSON: boxes and points to a hundredth of a pixel."""
        return {
            "start": self.start,
            "stop": self.stop,
            "start_s": round(self.start_s, 4),
            "stop_s": round(self.stop_s, 4),
            "label": self.label,
            "score": round(self.score, 6),
            "top": named_scores(best_of(self.classes, self.scores, k)),
            "states": {
                part: {"state": state, "score": round(score, 6)} for part, (state, score) in self.states.items()
            },
            "people": {str(number): _plain(people, self.states) for number, people in self.people.items()},
        }


def _plain(people: PartPeople, states: Mapping[str, PartState]) -> list[dict[str, Any]]:
    """Everybody in a frame, in plain numbers; parts without a box are left out."""
    return [
        {
            "box": round_all(box),
            "score": round(score, 4),
            "keypoints": [[*round_all((x, y)), round(s, 4)] for x, y, s in pose],
            "parts": {
                name: {"box": round_all(part), "score": round(sure, 4), "state": states[name].state}
                for name, part, sure in zip(PARTS, boxes, scores)
                if part[2] > part[0] and part[3] > part[1]
            },
        }
        for box, score, pose, boxes, scores in zip(*(values.tolist() for values in people))
    ]
