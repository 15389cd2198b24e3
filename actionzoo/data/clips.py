"""Clips of video files: decoding, sampling, and what a file holds."""

import math
import numbers
import os
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ._video import Damage, FrameIndex, decode, open_video, read_index, to_rgb
from .clip_writer import write_clip as write_clip
from .frame_stream import ClipFrame as ClipFrame
from .frame_stream import iter_frames as iter_frames

__all__ = ["ClipFrame", "ClipInfo", "clip_info", "iter_frames", "read_clip", "write_clip"]

PADDINGS = ("none", "last", "loop")


class ClipInfo(NamedTuple):
    """What a video file holds."""

    frames: int
    fps: float
    """Frames per second; the mean where the rate varies."""
    width: int
    """Of the upright picture, in pixels."""
    height: int
    """Of the upright picture, in pixels."""
    duration: float
    """Seconds, the last frame included."""


def read_clip(
    path: str | os.PathLike[str],
    frames: int,
    stride: int = 1,
    start: int | Literal["random"] | None = None,
    *,
    pad: str = "none",
    threads: int = 1,
) -> Tensor:
    """Decode every `stride`-th frame of a part of a video.

    Frames are numbered in the order of display, whatever times they have, so a clip is exact under a variable frame
    rate too. The packets are gone through first, which decodes nothing; then decoding starts at the last key frame
    before the clip.

    A video that ends before the clip does gives the frames that there are. The instance-guided framework pads with
    zeros (section 4.2), which are zeros of pooled features here and not black pictures, so that is left to the model.

    Args:
        path: Video file; any size, frame rate and pixel format. Pictures are turned upright as the file says; pixels
            that are not square stay as they are.
        frames: Frames T to read.
        stride: Step from one to the next.
        start: Number of the first one. None takes the clip from the middle of the video, `"random"` from anywhere in
            it, by torch's generator; both start at 0 where the video is shorter than the clip.
        pad: If the video ends before the clip: `"none"`, the clip is shorter; `"last"`, its last frame is repeated;
            `"loop"`, the clip starts over.
        threads: Decoding threads, 0 for as many as FFmpeg likes. One by default: the workers of a loader hold a core
            each already, and several threads first decode frames ahead that a short clip does not want.

    Returns:
        `(3, T, H, W)` uint8 RGB.

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If it is no video, nothing can be decoded, or the pictures change their size.
        ValueError: If a number is out of range, `start` is behind the last frame, or `pad` is unknown.
        ImportError: If PyAV is missing (`pip install "actionzoo[video]"`).

    Warns:
        RuntimeWarning: If the file is damaged or cut short; the clip is what could be decoded. Matroska and MPEG-TS
            do not say how much there should be: cut between two frames, they look whole.
    """
    _check_numbers(frames=(frames, 1), stride=(stride, 1), threads=(threads, 0))
    if start is not None and start != "random":
        _check_numbers(start=(start, 0))
    if pad not in PADDINGS:
        raise ValueError(f"pad is one of {', '.join(PADDINGS)}, got {pad!r}")
    damage = Damage()
    with open_video(path, str(path)) as (container, stream):
        index = read_index(container, stream, damage)
    first = _first_frame(start, (frames - 1) * stride + 1, index.frames, path)
    wanted = range(first, min(first + frames * stride, index.frames), stride)
    pictures = _decode_wanted(path, wanted, index, damage, threads)
    if not pictures:
        raise RuntimeError(f"{path} is damaged: none of the frames {wanted[0]} to {wanted[-1]} can be decoded")
    sizes = {f"{picture.shape[2]} x {picture.shape[1]}" for picture in pictures}
    if len(sizes) > 1:
        raise RuntimeError(f"the pictures of {path} change their size ({', '.join(sorted(sizes))}); use iter_frames")
    damage.cut |= len(pictures) < len(wanted) and not damage
    damage.warn(str(path), f"the clip has {len(pictures)} of the {len(wanted)} frames wanted", stacklevel=2)

    found = len(pictures)
    if pad == "last":
        pictures += pictures[-1:] * (frames - found)
    elif pad == "loop":
        pictures = [pictures[i % found] for i in range(frames)]
    return torch.stack(pictures, 1)


def _check_numbers(**values: tuple[Any, int]) -> None:
    for name, (value, least) in values.items():
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is a whole number of at least {least}, got {value!r}")


def _first_frame(start: int | str | None, span: int, count: int, path: Any) -> int:
    """Number of a clip's first frame, for a clip that spans `span` frames of `count`."""
    if count == 0:
        raise RuntimeError(f"{path} holds no pictures; is it cut short?")
    free = max(count - span, 0)
    if start is None:
        return free // 2
    if isinstance(start, str):
        return int(torch.randint(free + 1, ()))
    if start >= count:
        raise ValueError(f"{path} has {count} frames; a clip cannot start at number {start}")
    return start


def _decode_wanted(path: Any, wanted: range, index: FrameIndex, damage: Damage, threads: int) -> list[Tensor]:
    """Pixels of the frames wanted, from the last key frame before them, or by counting from the first frame."""
    key = max((time for time in index.keys if time <= index.times[wanted[0]]), default=None)
    if key is not None and key > index.times[0]:
        found = Damage()
        pictures = _decode_part(path, wanted, index.times, key, found, threads)
        if pictures is not None:
            damage.lost, damage.marred, damage.cut = found.lost, found.marred, found.cut or damage.cut
            return pictures
    return _decode_part(path, wanted, [], None, damage, threads) or []


def _decode_part(
    path: Any, wanted: range, times: list[int], key: int | None, damage: Damage, threads: int
) -> list[Tensor] | None:
    """Pixels of the frames wanted; None if seeking led elsewhere, so that their numbers are not known."""
    number = {time: i for i, time in enumerate(times)}
    pictures: list[Tensor] = []
    with open_video(path, str(path), threads=threads) as (container, stream):
        if key is not None:
            container.seek(key, stream=stream)
        following = 0 if key is None else number[key]
        for frame in decode(container, stream, damage):
            here = following if key is None else number.get(frame.pts, -1)
            if here != following and (here < following or not damage):
                return None
            following = here + 1
            if here in wanted:
                damage.marred += bool(frame.is_corrupt)
                pictures.append(to_rgb(frame))
            if here >= wanted[-1]:
                break
    return None if key is not None and len(pictures) < len(wanted) and not damage else pictures


def clip_info(path: str | os.PathLike[str]) -> ClipInfo:
    """Frames, rate, size and duration of a video file, counted over its packets; one frame is decoded.

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If it is no video or nothing can be decoded.
        ImportError: If PyAV is missing (`pip install "actionzoo[video]"`).

    Warns:
        RuntimeWarning: If the file is cut short; the numbers are of what is there.
    """
    damage = Damage()
    with open_video(path, str(path)) as (container, stream):
        index, rate, unit = read_index(container, stream, damage), stream.average_rate, stream.time_base
    with open_video(path, str(path)) as (container, stream):
        first = next(decode(container, stream, Damage()), None)
        if first is None:
            raise RuntimeError(f"{path} holds no pictures that can be decoded; is it cut short?")
        _, height, width = to_rgb(first).shape
    damage.warn(str(path), f"it holds {index.frames} frames", stacklevel=2)
    span = float((index.times[-1] - index.times[0]) * unit) if len(index.times) > 1 else 0.0
    fps = float(rate) if rate else (index.frames - 1) / span if span else math.nan
    duration = span * index.frames / (index.frames - 1) if span else index.frames / fps
    return ClipInfo(index.frames, fps, width, height, duration)
