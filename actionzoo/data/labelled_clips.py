"""Clips with the label of the video, or with labels and boxes of the people in it."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .clips import clip_info, read_clip
from .figures import ActingFigures

__all__ = ["ClipSource", "FigureClips", "FileClips", "LabelledClip"]


class LabelledClip(NamedTuple):
    """A clip and what is known of it."""

    clip: Tensor
    """`(3, T, H, W)` uint8 RGB; fewer frames than asked for where the video ends before."""
    label: int
    """Class of the video, which everybody in it has where nothing is known of people."""
    labels: Tensor | None = None
    """`(P,)` int64, class of every person; None where nothing is known of people."""
    boxes: Tensor | None = None
    """`(P, T, 4)` their boxes, xyxy in pixels; all 0 where a person is out of the picture."""


class ClipSource(Protocol):
    """Labelled clips, of which every one can be read from several places in its video."""

    one_label: bool
    """Whether everybody in a video does what the video is labelled with."""

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def label(self, i: int) -> int:
        """Class of video `i`, without reading it."""
        ...

    def key(self, i: int) -> str:
        """A file name for what is made of clip `i`; another one where the clip is another."""
        ...

    def read(self, i: int, at: float | None = None) -> LabelledClip:
        """Read a clip of video `i`, `at` a share in `[0, 1)` of the places where it can start; None for the middle."""
        ...


class FigureClips:
    """Clips of acting figures, every person with a label and true boxes."""

    def __init__(self, figures: ActingFigures, frames: int = 8, stride: int = 2) -> None:
        """Wrap figures of a task that shows clips.

        Args:
            figures: The figures.
            frames: Frames T of a clip.
            stride: Step from one to the next in frames of the figures.

        Raises:
            ValueError: If the task shows images, or a number is below 1.
        """
        if not figures.is_clip:
            raise ValueError(f"the task {figures.task!r} shows images; clips are motion, crowd, parts and parts_turned")
        _check(frames, stride)
        self.figures, self.frames, self.stride = figures, frames, stride
        self.one_label = figures.task != "crowd"

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.figures)

    def label(self, i: int) -> int:
        """Class that clip `i` is made for, without drawing it."""
        return self.figures.label(i)

    def key(self, i: int) -> str:
        """Task, split and number, and a hash of the settings."""
        figures = self.figures
        settings = f"{figures.size} {figures.seed} {figures.frames} {self.frames} {self.stride}"
        return f"{figures.task}-{figures.split}-{i:06d}-{_digest(settings)}"

    def read(self, i: int, at: float | None = None) -> LabelledClip:
        """Draw clip `i` and take every `stride`-th frame.

        Args:
            i: Number of the clip.
            at: Where it starts, as a share in `[0, 1)` of the places where it can; the middle if None.

        Raises:
            IndexError: If there is no such clip.
            ValueError: If `at` is out of range.
        """
        pixels, target = self.figures[i]
        first = _start(self.figures.frames, self.frames, self.stride, at)
        wanted = slice(first, first + self.frames * self.stride, self.stride)
        return LabelledClip(pixels[:, wanted], target["label"], target["labels"], target["boxes"][:, wanted])

    def __repr__(self) -> str:
        """What tells these clips from others."""
        return f"FigureClips({self.figures!r}, frames={self.frames}, stride={self.stride})"


class FileClips:
    """Clips of labelled video files."""

    one_label = True

    def __init__(self, items: Sequence[tuple[Path, int]], frames: int, stride: int = 1) -> None:
        """Wrap a split.

        Args:
            items: Files and class indices, as `ActionSamples.items[split]` holds them.
            frames: Frames T of a clip; a video that ends before gives a shorter one.
            stride: Step from one to the next in frames of the video.

        Raises:
            ValueError: If a number is below 1.
        """
        _check(frames, stride)
        self.items, self.frames, self.stride = list(items), frames, stride
        self._keys: dict[Path, str] = {}

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.items)

    def label(self, i: int) -> int:
        """Class of video `i`, without reading it."""
        return self.items[i][1]

    def key(self, i: int) -> str:
        """The file's name, and a hash of where it lies, its size and its time, as they are at the first call.

        Raises:
            FileNotFoundError: If the file is not there.
        """
        path, _ = self.items[i]
        if path not in self._keys:
            facts = os.stat(path)
            settings = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns} {self.frames} {self.stride}"
            self._keys[path] = f"{path.stem[:60]}-{_digest(settings)}"
        return self._keys[path]

    def read(self, i: int, at: float | None = None) -> LabelledClip:
        """Decode a clip of video `i`.

        Args:
            i: Number of the video.
            at: Where the clip starts, as a share in `[0, 1)` of the places where it can; the middle if None.

        Raises:
            ImportError: If PyAV is missing (`pip install "actionzoo[video]"`).
            RuntimeError: If nothing of the file can be decoded; the message names it.
            ValueError: If `at` is out of range.
        """
        path, label = self.items[i]
        start = None if at is None else _start(clip_info(path).frames, self.frames, self.stride, at)
        return LabelledClip(read_clip(path, self.frames, self.stride, start), label)

    def __repr__(self) -> str:
        """What was asked for."""
        return f"FileClips({len(self)} videos, frames={self.frames}, stride={self.stride})"


def flip_clip(found: LabelledClip) -> LabelledClip:
    """The mirror image of a clip, its boxes with it."""
    boxes, width = found.boxes, found.clip.shape[3]
    if boxes is not None:
        x1, y1, x2, y2 = boxes.unbind(-1)
        mirrored = torch.stack([width - x2, y1, width - x1, y2], -1)
        # somebody out of the picture has no box in the mirror either
        boxes = torch.where((boxes == 0).all(-1, keepdim=True), boxes, mirrored)
    return found._replace(clip=found.clip.flip(3), boxes=boxes)


def _start(count: int, frames: int, stride: int, at: float | None) -> int:
    """First frame of a clip among `count`, by a share of the places where it can start; the middle if None."""
    free = max(count - ((frames - 1) * stride + 1), 0)
    if at is None:
        return free // 2
    if not 0 <= at < 1:
        raise ValueError(f"a clip starts at a share in [0, 1) of the places where it can, got {at!r}")
    return int(at * (free + 1))


def _check(frames: int, stride: int) -> None:
    if min(frames, stride) < 1:
        raise ValueError(f"frames and stride of a clip are at least 1, got {frames} and {stride}")


def _digest(facts: str) -> str:
    return hashlib.sha256(facts.encode()).hexdigest()[:12]
