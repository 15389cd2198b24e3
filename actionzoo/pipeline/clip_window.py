"""What a pipeline says of one window of frames."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .result import Box, best_of, round_all


@dataclass(frozen=True, eq=False)
class TrackAction:
    """What one tracked person does in a window."""

    track_id: int
    """The same in every window of a clip."""
    label: str
    score: float
    """Probability of `label`."""
    scores: tuple[float, ...]
    """Probability of every class."""
    frames: tuple[int, ...]
    """Numbers of the t frames of the window that the person was found in."""
    start_s: float
    """Time of the first of them in seconds."""
    end_s: float
    """Time of the last."""
    boxes: Tensor
    """`(t, 4)` xyxy in pixels, in those frames."""
    keypoints: Tensor | None
    """`(t, J, 3)` x, y in pixels and score; None of a detector that finds no joints."""
    window: Box
    """xyxy, the box that encloses all of them, from which features were pooled."""
    detection: float
    """The detector's score, mean over those frames."""

    def top(self, classes: Sequence[str], k: int = 5) -> list[tuple[str, float]]:
        """The `k` likeliest of `classes` (the window's) and their probabilities, likeliest first."""
        return best_of(classes, self.scores, k)

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain numbers and strings, for JSON: boxes and points to a hundredth of a pixel."""
        poses = None if self.keypoints is None else self.keypoints.tolist()
        return {
            "track_id": self.track_id,
            "label": self.label,
            "score": round(self.score, 6),
            "scores": {name: round(score, 6) for name, score in zip(classes, self.scores)},
            "frames": list(self.frames),
            "start_s": round(self.start_s, 4),
            "end_s": round(self.end_s, 4),
            "boxes": [round_all(box) for box in self.boxes.tolist()],
            "keypoints": poses and [[[*round_all((x, y)), round(s, 4)] for x, y, s in pose] for pose in poses],
            "window": round_all(self.window),
            "detection": round(self.detection, 4),
        }


@dataclass(frozen=True, eq=False)
class ClipWindow:
    """Who does what in a window of frames; nobody, where `people` is empty."""

    classes: tuple[str, ...]
    frames: tuple[int, ...]
    """Numbers of the frames that people were looked for in."""
    start_s: float
    """Time of the first of them in seconds."""
    end_s: float
    """Time of the last."""
    people: list[TrackAction] = field(default_factory=list)
    """In the order of their ids."""

    @property
    def start_frame(self) -> int:
        """Number of the first frame."""
        return self.frames[0]

    @property
    def end_frame(self) -> int:
        """Number of the last frame."""
        return self.frames[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "start_frame": self.start_frame,
            "end_frame": self.end_frame,
            "start_s": round(self.start_s, 4),
            "end_s": round(self.end_s, 4),
            "frames": list(self.frames),
            "people": [person.to_dict(self.classes) for person in self.people],
        }
