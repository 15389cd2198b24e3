"""What a pipeline says of a video whose parts were parsed."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ..data.clip_sets import VIDEO_SUFFIXES
from ..data.clips import write_clip
from ..metrics import write_part_predictions
from ..models.parsed_video import ParsedSegment, challenge_frames
from ..models.part_people import PartPeople
from .clip_source import Clip
from .part_overlay import DRAWN, KeyPicture, draw_people, draw_states, overlay_frames, read_frame, readable
from .part_segment import PartSegment
from .result import best_of, named_scores


@dataclass(frozen=True, eq=False)
class PartParsingResult:
    """What a model says of a video: its action, its segments, and the people and parts of the frames looked at."""

    classes: tuple[str, ...]
    scores: tuple[float, ...]
    """Probability of every action."""
    model: str
    source: str | None
    """Where the video came from."""
    segments: list[PartSegment] = field(repr=False)
    """In order."""
    frames: int
    """Frames read."""
    fps: float
    """Frames per second of the video."""
    speed: float
    """Frames read per second: decoding, detection and recognition."""
    key_pictures: list[KeyPicture] = field(default_factory=list, repr=False)
    """Up to 8 of the frames looked at, evenly spread."""
    clip: Clip | None = field(default=None, repr=False)
    """The video, if it can be read again."""

    @property
    def label(self) -> str:
        """The likeliest action, named as the training folder was."""
        return self.top(1)[0][0]

    @property
    def score(self) -> float:
        """Probability of `label`."""
        return self.top(1)[0][1]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` likeliest actions and their probabilities, likeliest first."""
        return best_of(self.classes, self.scores, k)

    @property
    def people(self) -> dict[int, PartPeople]:
        """Everybody, by the number of the frame, of those that were looked at."""
        return {number: people for segment in self.segments for number, people in segment.people.items()}

    def at(self, frame: int) -> PartPeople:
        """The people of one of the frames that were looked at.

        Raises:
            ValueError: If it was not.
        """
        people = next((s.people.get(frame) for s in self.segments if s.start <= frame < s.stop), None)
        if people is None:
            nearest = min(self.people, key=lambda number: abs(number - frame))
            raise ValueError(f"frame {frame} was not looked at; the nearest that was is {nearest}")
        return people

    @property
    def name(self) -> str | None:
        """What the challenge's files call the video: its file's name without the suffix; None without a file."""
        return None if self.source is None else video_name(self.source)

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "source": self.source,
            "model": self.model,
            "label": self.label,
            "score": round(self.score, 6),
            "top": named_scores(self.top(k)),
            "segments": [segment.to_dict(k) for segment in self.segments],
            "counts": {
                "frames": self.frames,
                "sampled": len(self.people),
                "segments": len(self.segments),
                "people": sum(len(people.boxes) for people in self.people.values()),
            },
            "fps": round(self.fps, 4),
            "speed": round(self.speed, 2),
        }

    def to_json(self, k: int = 5) -> str:
        """The result as one JSON object: action, the `k` best, segments with states and people, counts."""
        return json.dumps(self.to_dict(k))

    def to_challenge(self) -> tuple[str, dict[str, Any]]:
        """The action, and the frames as the Kinetics-TPS challenge takes them (see `part_state_roc`)."""
        segments = [ParsedSegment(segment.start, segment.stop, segment.states) for segment in self.segments]
        return self.label, challenge_frames(self.people, segments)

    def save(self, folder: str | os.PathLike[str], name: str | None = None) -> Path:
        """Write the challenge's two files of this video alone, see `save_predictions`.

        Args:
            folder: Is made if its parent is there.
            name: Of the video; that of its file if None.

        Raises:
            ValueError: If the video has no name.
            FileNotFoundError: If the folder above is not there.
        """
        return save_predictions([self], folder, None if name is None else [name])

    def draw(self, frame: int | None = None, *, threshold: float = DRAWN, joints: bool = False) -> Image.Image:
        """A frame with its people and their parts, and a panel with the action and the state of every part.

        Args:
            frame: Number of one of the frames that were looked at; it is read again. None is one of a few kept in the
                result, that with the surest person.
            threshold: People who score less are left out.
            joints: Draw the joints, too.

        Raises:
            ValueError: If the frame was not looked at.
            RuntimeError: If the video cannot be read again.
        """
        if frame is None:
            key = max(self.key_pictures, key=lambda key: max(self.at(key.number).scores.tolist(), default=0.0))
            frame, picture, scale = key.number, key.picture, key.scale
        else:
            self.at(frame)
            picture, scale = read_frame(self._readable(), frame, self.fps), 1.0
        people = self.at(frame)
        keep = people.scores >= threshold
        people = PartPeople(*(values[keep] for values in people))
        place, segment = next((i, s) for i, s in enumerate(self.segments, 1) if s.start <= frame < s.stop)
        tags = [f"{number}:  {score:.0%}" for number, score in enumerate(people.scores.tolist(), 1)]
        picture, times = readable(picture)
        picture = draw_people(picture, people, times * scale, tags, joints=joints)
        caption = f"frame {frame}, segment {place} of {len(self.segments)}"
        return draw_states(picture, segment.states, self.label, self.score, caption)

    def save_video(
        self, path: str | os.PathLike[str], *, threshold: float = DRAWN, joints: bool = False, progress: bool = False
    ) -> None:
        """Read the video again and write it with its people, parts, states and action drawn in.

        People are linked through the frames that were looked at, and their boxes interpolated between these.

        Args:
            path: File to write, see `write_clip`.
            threshold: People who score less are left out.
            joints: Draw the joints, too.
            progress: Show a bar, if standard error is a terminal.

        Raises:
            RuntimeError: If the video cannot be read again.
            ValueError: If the file is the video's own, and what `write_clip` raises.
        """
        clip = self._readable()
        if isinstance(clip, str | os.PathLike) and Path(clip).resolve() == Path(path).resolve():
            raise ValueError(f"{path} is the video that is read; give another file")
        frames = overlay_frames(
            clip, self.segments, self.frames, self.fps, threshold=threshold, joints=joints, progress=progress
        )
        write_clip(path, frames, self.fps)

    def _readable(self) -> Clip:
        if self.clip is None:
            raise RuntimeError(
                f"{self.source or 'this video'} cannot be read again: frames one after the other, cameras and pipes "
                "are gone once they are read; write them to a file first (actionzoo.data.write_clip)"
            )
        return self.clip


def video_name(path: str | os.PathLike[str]) -> str:
    """Name of a file without the suffix of a video; of a folder its name."""
    path = Path(path)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name


def save_predictions(
    results: Sequence[PartParsingResult], folder: str | os.PathLike[str], names: Sequence[str] | None = None
) -> Path:
    """Write `pred_vid_result.json` and `pred_part_result.json`, which the Kinetics-TPS challenge scores.

    Args:
        results: Of one video each.
        folder: Is made if its parent is there.
        names: Of the videos; those of their files if None.

    Returns:
        The folder.

    Raises:
        ValueError: If a video has no name, two have the same, or there is not one name for each.
        FileNotFoundError: If the folder above is not there.
    """
    found = [result.name for result in results] if names is None else list(names)
    if len(found) != len(results):
        raise ValueError(f"expected a name for each of {len(results)} videos, got {len(found)}")
    actions, parts = {}, {}
    for name, result in zip(found, results):
        if not name:
            raise ValueError("a video without a file has no name in the challenge's files; give names=[...]")
        if name in actions:
            raise ValueError(
                f"two videos are called {name!r}, so the files could not tell them apart; give names=[...]"
            )
        actions[name], parts[name] = result.to_challenge()
    return write_part_predictions(folder, {"action": actions, "parts": parts})
