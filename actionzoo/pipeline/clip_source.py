"""The frames of a clip in any of its forms, how fast they follow one another, and how many there are."""

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor

from ..data.clips import ClipFrame, clip_info, iter_frames

Clip: TypeAlias = str | os.PathLike[str] | int | BinaryIO | Tensor | Iterable[ClipFrame]
"""A video file or a folder of frames, the number of a camera, `"-"` or a binary pipe, pixels `(3, T, H, W)` uint8, or
frames one after the other."""


class Pace(NamedTuple):
    """What is known of a clip before its frames are read."""

    fps: float | None
    """Frames per second; None where only the frames' own times tell."""
    frames: int | None
    """How many; None where only reading them tells."""


def open_frames(clip: Clip, fps: float = 25.0) -> Iterator[ClipFrame]:
    """The frames of a clip, one at a time.

    Args:
        clip: In any of its forms.
        fps: Frames per second of pixels, of a folder, and of a video that does not say.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        RuntimeError: While iterating, if a file cannot be read as a video.
        ValueError: If pixels are not `(3, T, H, W)` uint8, those of a frame (while iterating) not `(3, H, W)` uint8, a
            folder has no pictures, or `fps` is not positive.
        TypeError: If it is something else.
        ImportError: If PyAV is missing (`pip install "actionzoo[video]"`); folders, pixels and frames do without.
    """
    if isinstance(clip, Tensor):
        return _from_pixels(clip, fps)
    # a text, a single frame and a file can be iterated over, too
    if isinstance(clip, Iterable) and not isinstance(clip, str | ClipFrame) and not hasattr(clip, "read"):
        return _checked(clip)
    return iter_frames(cast(Any, clip), fps=fps)


def measure(clip: Clip, fps: float = 25.0) -> Pace:
    """Pace and length of a clip, as far as they are known beforehand; arguments and errors are those of `open_frames`.

    Of a file the packets are gone through.
    """
    if isinstance(clip, Tensor):
        return Pace(fps, clip.shape[1])
    if isinstance(clip, str | os.PathLike):
        path = Path(clip)
        if path.is_dir():
            return Pace(fps, None)
        if path.is_file():
            with warnings.catch_warnings():
                # that it is damaged is said when the frames are read
                warnings.simplefilter("ignore", RuntimeWarning)
                info = clip_info(path)
            return Pace(info.fps if info.fps > 0 else None, info.frames)
    return Pace(None, None)


def source_of(clip: Clip) -> str | None:
    """What a result calls the clip; None for pixels and for frames."""
    if isinstance(clip, int):
        return f"camera {clip}"
    if isinstance(clip, str | os.PathLike):
        return "standard input" if clip == "-" else str(clip)
    return str(getattr(clip, "name", "pipe")) if hasattr(clip, "read") else None


def can_be_read_again(clip: Clip) -> bool:
    """Whether the frames are still there after they have been read."""
    return isinstance(clip, Tensor) or (isinstance(clip, str | os.PathLike) and Path(clip).exists())


def _from_pixels(pixels: Tensor, fps: float) -> Iterator[ClipFrame]:
    if pixels.ndim != 4 or pixels.shape[0] != 3 or 0 in pixels.shape or pixels.dtype != torch.uint8:
        raise ValueError(f"pixels of a clip are (3, T, H, W) uint8, got {tuple(pixels.shape)} {pixels.dtype}")
    if not fps > 0:
        raise ValueError(f"fps is a positive number of frames per second, got {fps!r}")
    return (ClipFrame(t, t / fps, frame) for t, frame in enumerate(pixels.unbind(1)))


def _checked(frames: Iterable[Any]) -> Iterator[ClipFrame]:
    for frame in frames:
        if not isinstance(frame, ClipFrame):
            raise TypeError(
                f"frames of a clip are ClipFrames (number, time_s, pixels), as iter_frames gives, "
                f"got {type(frame).__name__}"
            )
        pixels: Any = frame.pixels
        shape, dtype = getattr(pixels, "shape", ()), getattr(pixels, "dtype", type(pixels).__name__)
        if len(shape) != 3 or shape[0] != 3 or 0 in shape or dtype != torch.uint8:
            raise ValueError(f"pixels of frame {frame.number} are (3, H, W) uint8, got {tuple(shape)} {dtype}")
        yield frame
