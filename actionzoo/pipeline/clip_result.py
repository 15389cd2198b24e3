"""What a pipeline says of a clip: of every window of frames, and of the whole."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from PIL import Image

from .. import draw
from ..data.clips import write_clip
from .clip_overlay import KeyFrame, annotate_frames, place_people, replay
from .clip_source import Clip, open_frames
from .clip_window import ClipWindow
from .result import Person, best_of, named_scores
from .sliding_window import PATIENCE

Rule: TypeAlias = Literal["score", "area", "mean"]


@dataclass(frozen=True)
class TrackedPerson(Person):
    """One person through a whole clip: scores and detection are means over the windows that the person was seen in.

    `box` encloses the person over the whole clip.
    """

    start_frame: int = 0
    """Number of the first frame that the person was seen in."""
    end_frame: int = 0
    """Number of the last."""
    start_s: float = 0.0
    """Its time in seconds."""
    end_s: float = 0.0
    """Its time in seconds."""
    windows: int = 0
    """Windows that label the person."""
    area: float = 0.0
    """Area of the person's boxes in square pixels, mean over the windows."""

    def to_dict(self, classes: Sequence[str] = (), k: int = 5) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            **super().to_dict(classes, k),
            "start_frame": self.start_frame,
            "end_frame": self.end_frame,
            "start_s": round(self.start_s, 4),
            "end_s": round(self.end_s, 4),
            "windows": self.windows,
            "area": round(self.area, 2),
        }


@dataclass(frozen=True, eq=False)
class ClipResult:
    """What a model says of a clip.

    `label`, `score` and `top` are those of one person, as the paper scores its benchmarks (instance-guided framework,
    section 4.2): of the surest detection (`rule="score"`, NTU RGB+D) or of the largest boxes (`"area"`, N-UCLA); or
    they are the mean of everybody (`"mean"`).
    """

    classes: tuple[str, ...]
    model: str
    source: str | None
    """Where the clip came from."""
    people: list[TrackedPerson]
    """In the order of their ids, which is that of their first appearance."""
    windows: list[ClipWindow] = field(repr=False)
    """In the order of time; none after `annotate`, which keeps nothing that grows with the clip."""
    frames: int
    """Frames read."""
    sampled: int
    """Frames that people were looked for in."""
    num_windows: int
    fps: float
    """Frames read per second: decoding, detection, tracking, classification, and drawing where there was some."""
    frame_rate: float
    """Frames per second of the clip itself."""
    rule: Rule = "score"
    """How the clip is labelled by its people."""
    key_frames: list[KeyFrame] = field(default_factory=list, repr=False)
    """Up to 8 frames, evenly spread."""
    clip: Clip | None = field(default=None, repr=False)
    """The clip, if it can be read again."""

    @property
    def label(self) -> str:
        """The likeliest class, named as the training folder was.

        Raises:
            RuntimeError: If nobody was found.
        """
        return self._best()[0]

    @property
    def score(self) -> float:
        """Probability of `label`.

        Raises:
            RuntimeError: If nobody was found.
        """
        return self._best()[1]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` likeliest classes and their probabilities, likeliest first; none where nobody was found."""
        return best_of(self.classes, self._scores(), k) if self.people else []

    def _best(self) -> tuple[str, float]:
        if not self.people:
            raise RuntimeError("there are no people in this result, so that nothing was labelled")
        return self.top(1)[0]

    def _scores(self) -> tuple[float, ...]:
        """Probabilities of the clip's classes."""
        if self.rule == "mean":
            rows = torch.tensor([person.scores for person in self.people], dtype=torch.float64)
            return tuple(rows.mean(0).tolist())
        if self.rule == "area":
            return max(self.people, key=lambda person: person.area).scores or ()
        return max(self.people, key=lambda person: person.detection or 0.0).scores or ()

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "source": self.source,
            "model": self.model,
            "label": self.label if self.people else None,
            "score": round(self.score, 6) if self.people else None,
            "top": named_scores(self.top(k)),
            "people": [person.to_dict(self.classes, k) for person in self.people],
            "windows": [window.to_dict() for window in self.windows],
            "counts": {
                "frames": self.frames,
                "sampled": self.sampled,
                "windows": self.num_windows,
                "people": len(self.people),
            },
            "frame_rate": round(self.frame_rate, 4),
            "fps": round(self.fps, 2),
        }

    def to_json(self, k: int = 5) -> str:
        """The result as one JSON object: label, score, the `k` best, people, windows, counts."""
        return json.dumps(self.to_dict(k))

    def draw(self, columns: int | None = None) -> Image.Image:
        """A contact sheet of annotated frames from all over the clip, with their times.

        Args:
            columns: Pictures in a row; by default as square as possible.
        """
        times = [f"{key.time_s:.2f} s" for key in self.key_frames]
        return draw.grid([key.draw() for key in self.key_frames], columns, times)

    def write_video(self, path: str | os.PathLike[str]) -> None:
        """Read the clip again and write it with everybody's box, joints and action drawn in.

        Args:
            path: File to write, see `write_clip`.

        Raises:
            RuntimeError: If the clip cannot be read again, or the windows were not kept; `annotate` writes the clip
                while it is read the first time.
        """
        if self.clip is None or not self.windows:
            what = "cannot be read again" if self.clip is None else "was annotated, and its windows were not kept"
            raise RuntimeError(f"this clip {what}; pipe.annotate(clip, path) writes it while it is read")
        events = replay(open_frames(self.clip, self.frame_rate), self.windows)
        longest = max(len(window.frames) for window in self.windows)
        write_clip(path, annotate_frames(place_people(events, longest, PATIENCE)), self.frame_rate)
