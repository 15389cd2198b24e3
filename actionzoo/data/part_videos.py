"""Videos in which people, their body parts and the states of these are annotated, as Kinetics-TPS has them."""

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .clip_sets import VIDEO_SUFFIXES
from .clips import clip_info, read_clip
from .figures import PART_STATES, PARTS, ActingFigures, part_group
from .folders import load_image
from .frame_stream import find_pictures

__all__ = [
    "FigurePartVideos",
    "FilePartVideos",
    "PartVideos",
    "figure_annotations",
    "frame_name",
    "frame_number",
    "sample_frames",
    "true_people",
]


class PartVideos(Protocol):
    """Annotated videos, read frame by frame."""

    classes: tuple[str, ...]
    """Actions, sorted."""

    def __len__(self) -> int:
        """Number of videos."""
        ...

    def name(self, i: int) -> str:
        """What the challenge's files call video `i`."""
        ...

    def action(self, i: int) -> str:
        """Action of video `i`."""
        ...

    def length(self, i: int) -> int:
        """Frames of video `i`."""
        ...

    def fps(self, i: int) -> float:
        """Frames per second of video `i`."""
        ...

    def annotations(self, i: int) -> dict[str, Any]:
        """People of the annotated frames of video `i`, in the challenge's form (see `part_state_correctness`)."""
        ...

    def read(self, i: int, frames: Sequence[int]) -> Tensor:
        """Frames of video `i` by their numbers from 0, `(3, n, H, W)` uint8."""
        ...


class FigurePartVideos:
    """Clips of acting figures as annotated videos: the truth needs no drawing, and only frames asked for are drawn."""

    def __init__(self, figures: ActingFigures, fps: float = 8.0, every: int = 1) -> None:
        """Wrap figures of the task `"parts"`.

        Args:
            figures: The figures.
            fps: Frames per second that the clips are said to have; how often people change what they do is a matter
                of the clip's length alone.
            every: Frames 1, 1 + every ... are annotated; the challenge has every fifth.

        Raises:
            ValueError: If the task shows images, or a number is out of range.
        """
        if not figures.is_clip:
            raise ValueError(f"the task {figures.task!r} shows images; parts change their states in clips: parts")
        if not (math.isfinite(fps) and fps > 0) or every < 1:
            raise ValueError(f"fps is positive and every at least 1, got {fps!r} and {every!r}")
        self.figures, self.rate, self.every = figures, fps, every
        self.classes = tuple(sorted(figures.classes))

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.figures)

    def name(self, i: int) -> str:
        """Split and number."""
        return f"{self.figures.split}_{range(len(self))[i]:05d}"

    def action(self, i: int) -> str:
        """Action of video `i`."""
        return self.figures.classes[self.figures.label(i)]

    def length(self, i: int) -> int:
        """Frames of a clip, the same for all."""
        return self.figures.frames

    def fps(self, i: int) -> float:
        """Frames per second, the same for all."""
        return self.rate

    def annotations(self, i: int) -> dict[str, Any]:
        """The truth of every annotated frame."""
        return figure_annotations(self.figures.describe(i), self.every)

    def read(self, i: int, frames: Sequence[int]) -> Tensor:
        """Draw frames of clip `i`, `(3, n, H, W)` uint8.

        Raises:
            IndexError: If there is no such clip or frame.
        """
        return self.figures.read(i, frames)

    def __repr__(self) -> str:
        """What tells these videos from others."""
        return f"FigurePartVideos({self.figures!r}, fps={self.rate:g}, every={self.every})"


class FilePartVideos:
    """Videos of a folder and their annotations: a file each, or a folder of frames."""

    def __init__(self, root: str | os.PathLike[str], truth: Mapping[str, Any], fps: float = 25.0) -> None:
        """Find the videos that are annotated.

        Args:
            root: Folder with a video file or a folder of frames, `img_00001.jpg` the first, for every video.
            truth: `"action"` and `"parts"` by video, as `actionzoo.metrics.read_part_predictions(root, "gt")` reads
                them from the challenge's files.
            fps: Frames per second of folders, and of files that do not say.

        Raises:
            FileNotFoundError: If a video is not there; the message names the first.
            ValueError: If there is no video, or `fps` is not positive.
        """
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps is a positive number of frames per second, got {fps!r}")
        self.root, self.truth, self.rate = Path(root), truth, fps
        self.names = sorted(truth["action"])
        if not self.names:
            raise ValueError(f"the annotations of {self.root} name no video")
        self.classes = tuple(sorted({str(label) for label in truth["action"].values()}))
        files = [file for file in sorted(self.root.iterdir()) if file.suffix.lower() in VIDEO_SUFFIXES]
        folders = {file.name: file for file in self.root.iterdir() if file.is_dir()}
        # a name may have a suffix, which is not always that of the file
        known = {file.stem: file for file in files} | {file.name: file for file in files} | folders
        found = {name: known.get(name) or known.get(_without_suffix(name)) for name in self.names}
        if missing := [name for name, path in found.items() if path is None]:
            raise FileNotFoundError(
                f"{self.root} has neither a folder of frames nor a file for the annotated video {missing[0]!r}"
                + (f" and {len(missing) - 1} others" if len(missing) > 1 else "")
            )
        self.paths: list[Path] = [path for path in found.values() if path is not None]
        self._measures: dict[int, tuple[int, float]] = {}

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.names)

    def name(self, i: int) -> str:
        """Its name in the annotations."""
        return self.names[i]

    def action(self, i: int) -> str:
        """Action of video `i`."""
        return str(self.truth["action"][self.names[i]])

    def length(self, i: int) -> int:
        """Frames of video `i`; of a file its packets are counted, once.

        Raises:
            ValueError: If the pictures of a folder are not numbered one after the other.
            RuntimeError: If a file is no video.
        """
        return self._measured(i)[0]

    def fps(self, i: int) -> float:
        """Frames per second of video `i`.

        Warns:
            RuntimeWarning: If a file does not say; that of a folder is what was given.
        """
        rate = self._measured(i)[1]
        if math.isfinite(rate) and rate > 0:
            return rate
        if not self.paths[i].is_dir():
            warnings.warn(
                f"{self.paths[i]} does not say its frame rate; it is taken for {self.rate:g} frames per second, give "
                "fps=… if it has another",
                RuntimeWarning,
                stacklevel=2,
            )
        return self.rate

    def annotations(self, i: int) -> dict[str, Any]:
        """People of the annotated frames."""
        return dict(self.truth["parts"].get(self.names[i], {}))

    def read(self, i: int, frames: Sequence[int]) -> Tensor:
        """Decode frames of video `i`, `(3, n, H, W)` uint8.

        They take 3 n H W bytes: a minute of 720p at 25 frames per second 4 GB. Pictures, and pieces of a file in which
        frames are left out unevenly, are joined by a copy, for which it is twice as much for a moment.

        Raises:
            IndexError: If there is no such frame.
            ValueError: If the pictures of a folder are not numbered one after the other.
            RuntimeError: If the file cannot be decoded, or frames differ in size; the message names it.
        """
        if not len(frames):
            return self.read(i, [0])[:, :0]
        path, count = self.paths[i], self.length(i)
        if wrong := [frame for frame in frames if not 0 <= frame < count]:
            raise IndexError(f"{path} has {count} frames and no frame {wrong[0]}")
        order = sorted(set(frames))
        if path.is_dir():
            pictures = find_pictures(path)
            found = [torch.from_numpy(np.array(load_image(pictures[n]))).permute(2, 0, 1) for n in order]
            if len(sizes := {f"{picture.shape[2]} x {picture.shape[1]}" for picture in found}) > 1:
                raise RuntimeError(f"the pictures of {path} differ in size: {', '.join(sorted(sizes))}")
            pixels = torch.stack(found, 1)
        else:
            pieces = [read_clip(path, n, step, first) for first, step, n in _runs(order)]
            pixels = pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
            if pixels.shape[1] < len(order):
                raise RuntimeError(f"{path} is damaged: {pixels.shape[1]} of {len(order)} frames could be decoded")
        if order == list(frames):
            return pixels
        place = {frame: k for k, frame in enumerate(order)}
        return pixels[:, [place[frame] for frame in frames]]

    def _measured(self, i: int) -> tuple[int, float]:
        """Frames and frame rate of a file, or of a folder of frames, which does not know its rate."""
        i = range(len(self))[i]
        if i not in self._measures:
            path = self.paths[i]
            if path.is_dir():
                pictures = find_pictures(path)
                _check_numbers(path, pictures)
                self._measures[i] = len(pictures), 0.0
            else:
                with warnings.catch_warnings():
                    # that it is damaged is said when its frames are read
                    warnings.simplefilter("ignore", RuntimeWarning)
                    info = clip_info(path)
                self._measures[i] = info.frames, info.fps
        return self._measures[i]

    def __repr__(self) -> str:
        """What tells these videos from others."""
        return f"FilePartVideos({str(self.root)!r}, {len(self)} videos)"


def _without_suffix(name: str) -> str:
    """The name of a video without the suffix of a video file, if it has one."""
    return Path(name).stem if Path(name).suffix.lower() in VIDEO_SUFFIXES else name


def _check_numbers(folder: Path, pictures: Sequence[Path]) -> None:
    """Refuse pictures that are not all frames of a video: the n-th of them would not be frame n."""
    numbers = [frame_number(picture.name) for picture in pictures]
    wrong = [f"begins with frame {numbers[0]}"] if numbers[0] != 1 else []
    wrong += [f"holds frame {before} and then {after}" for before, after in pairwise(numbers) if after != before + 1]
    if wrong:
        raise ValueError(f"{folder} {wrong[0]}; expected all frames of the video, img_00001.jpg first")


def _runs(frames: Sequence[int]) -> list[tuple[int, int, int]]:
    """Rising numbers as runs of equal steps, each as long as it can be: first, step, count."""
    runs, start = list[tuple[int, int, int]](), 0
    while start < len(frames):
        stop, step = start + 1, frames[start + 1] - frames[start] if start + 1 < len(frames) else 1
        while stop < len(frames) and frames[stop] - frames[stop - 1] == step:
            stop += 1
        runs.append((frames[start], step, stop - start))
        start = stop
    return runs


def figure_annotations(target: Mapping[str, Any], every: int = 1) -> dict[str, Any]:
    """The truth of one clip of acting figures in the form of the Kinetics-TPS challenge.

    Args:
        target: The dictionary that `ActingFigures("parts")` gives with a clip, or its `describe`.
        every: Frames 1, 1 + every ... are annotated.

    Returns:
        `{frame: {"humans": [...]}}` as `part_state_correctness` takes it for a video, `"img_00001.json"` the first
        frame. Boxes are such that the last pixel counts in. People and parts outside the picture are left out.
    """
    states, boxes, part_boxes = (target[name] for name in ("part_states", "boxes", "part_boxes"))
    frames = {}
    for t in range(0, states.shape[1], every):
        humans = []
        for p in range(states.shape[0]):
            parts = {
                name: {"box": inclusive_box(box), "verb": PART_STATES[part_group(name)][state]}
                for name, box, state in zip(PARTS, part_boxes[p, t], states[p, t].tolist())
                if box.any()
            }
            if boxes[p, t].any():
                humans.append({"number": p + 1, "box": inclusive_box(boxes[p, t]), "parts": parts})
        frames[f"{frame_name(t)}.json"] = {"humans": humans}
    return frames


def inclusive_box(box: Tensor) -> list[float]:
    """A half-open box `(4,)` up to its last pixel, as the challenge counts."""
    return [*box[:2].tolist(), *(box[2:] - 1).maximum(box[:2]).tolist()]


def frame_name(frame: int) -> str:
    """`"img_00001"` of frame 0, as the challenge's files and folders call it."""
    return f"img_{frame + 1:05d}"


def frame_number(name: str) -> int:
    """1 of `"img_00001.json"`: the challenge counts frames from 1.

    Raises:
        ValueError: If the name does not end in a number.
    """
    digits = name.rsplit(".", 1)[0]
    digits = digits[len(digits.rstrip("0123456789")) :]
    if not digits:
        raise ValueError(f"expected the name of a frame to end in its number, as img_00001.json, got {name!r}")
    return int(digits)


def true_people(content: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Boxes of the people and parts of one annotated frame, half-open as everywhere in this library.

    Args:
        content: The frame's entry, `{"humans": [...]}`.

    Returns:
        `(n, 4)` boxes of people and `(n, 10, 4)` of their parts in the order of `PARTS`, all 0 where a part is not
        annotated.
    """
    humans = content["humans"]
    boxes, parts = torch.zeros(len(humans), 4), torch.zeros(len(humans), len(PARTS), 4)
    last_pixel = torch.tensor([0.0, 0.0, 1.0, 1.0])
    for p, person in enumerate(humans):
        boxes[p] = torch.tensor(person["box"], dtype=torch.float) + last_pixel
        for k, name in enumerate(PARTS):
            if name in person["parts"]:
                parts[p, k] = torch.tensor(person["parts"][name]["box"], dtype=torch.float) + last_pixel
    return boxes, parts


def sample_frames(length: int, frames: int, stride: int, at: float | None = None) -> list[int]:
    """Numbers of the frames of a clip of T frames out of a part of a video (PCF section III-A takes T x tau = 32 x 2).

    Where the part is too short for the stride, the stride shrinks to what fits, but not below 1; where it is shorter
    than the clip even so, its last frame is repeated.

    Args:
        length: Frames of the part.
        frames: Frames T of the clip.
        stride: Step tau between them.
        at: Where the clip starts, as a share in `[0, 1]` of the places where it can; the middle if None.

    Returns:
        T numbers from 0, none of which is beyond the part.

    Raises:
        ValueError: If a number is below 1, or `at` is out of range.
    """
    if min(length, frames, stride) < 1 or (at is not None and not 0 <= at <= 1):
        raise ValueError(
            f"length, frames and stride are at least 1 and at lies in [0, 1], got {length}, {frames}, {stride}, {at}"
        )
    step = max(1, min(stride, (length - 1) // max(frames - 1, 1)))
    room = max(0, length - 1 - (frames - 1) * step)
    first = round(room * (0.5 if at is None else at))
    return [min(first + t * step, length - 1) for t in range(frames)]
