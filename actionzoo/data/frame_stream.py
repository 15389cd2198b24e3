"""Frames one after the other: of files, folders, cameras and pipes, in bounded memory."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._video import Damage, decode, open_video, source_name, to_rgb
from .folders import IMAGE_SUFFIXES, load_image


class ClipFrame(NamedTuple):
    """One frame of a stream."""

    number: int
    """Number in the order of display, from 0; steps by the stride."""
    time_s: float
    """Seconds since the first frame; never less than that of the frame before."""
    pixels: Tensor
    """`(3, H, W)` uint8 RGB, upright."""


def iter_frames(
    source: str | os.PathLike[str] | int | BinaryIO,
    stride: int = 1,
    *,
    fps: float = 25.0,
    format: str | None = None,
    threads: int = 1,
) -> Iterator[ClipFrame]:
    """Frames of a video of any length, one at a time.

    Args:
        source: A video file, or an address that FFmpeg opens (`rtsp://...`); a folder of pictures, taken in the order
            of their names with numbers by value; the number of a camera (Linux and macOS); `"-"` for standard input,
            or a binary file object. A pipe cannot go back, so a video in it needs its header first (fragmented MP4,
            Matroska, MPEG-TS, AVI).
        stride: Every which frame to give; the others are decoded, as frames build on one another, and dropped.
        fps: Frames per second of a folder, and of a video that says neither times nor a rate.
        format: FFmpeg's name of the format, for pipes that it does not recognise (`"mpegts"`, `"h264"`, `"mjpeg"`).
        threads: Decoding threads, 0 for as many as FFmpeg likes. Several are faster on long files and come later by
            some frames on live streams.

    Returns:
        An iterator of frames; the source is closed when it is exhausted or closed.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        RuntimeError: While iterating, if the source is no video, a picture of a folder cannot be read, or nothing can
            be decoded.
        ValueError: If a number is out of range or a folder has no pictures.
        TypeError: If the source is of another kind.
        ImportError: If PyAV is missing (`pip install "actionzoo[video]"`); folders do without.

    Warns:
        RuntimeWarning: At the end, if a video is damaged or cut short.
    """
    if not isinstance(stride, int) or stride < 1:
        raise ValueError(f"stride is a whole number of at least 1, got {stride!r}")
    if not fps > 0:
        raise ValueError(f"fps is a positive number of frames per second, got {fps!r}")
    if isinstance(source, int) and not isinstance(source, bool):
        device, format = _camera(source)
        return _from_video(device, f"camera {source}", stride, fps, format, threads)
    if isinstance(source, str | os.PathLike):
        if source == "-":
            return _from_video(sys.stdin.buffer, "standard input", stride, fps, format, threads)
        path = Path(source)
        if path.is_dir():
            return _from_folder(path, find_pictures(path), stride, fps)
        if "://" not in str(source) and not path.exists():
            raise FileNotFoundError(f"no such video: {path}")
        return _from_video(source, str(source), stride, fps, format, threads)
    if hasattr(source, "read"):
        return _from_video(source, source_name(source), stride, fps, format, threads)
    raise TypeError(
        f"a source is a file, a folder, the number of a camera, '-' or a binary file, got {type(source).__name__}"
    )


def _camera(number: int) -> tuple[str, str]:
    """FFmpeg's address and format of a camera."""
    if number < 0:
        raise ValueError(f"cameras are numbered from 0, got {number}")
    if sys.platform.startswith("linux"):
        return f"/dev/video{number}", "v4l2"
    if sys.platform == "darwin":
        return str(number), "avfoundation"
    raise ValueError(f"cameras have no numbers on {sys.platform}; give 'video=NAME' with format='dshow'")


def find_pictures(folder: Path) -> list[Path]:
    """Picture files of a folder, not of those in it: 2.jpg comes before 10.jpg."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not found:
        raise ValueError(f"{folder} has no pictures; expected frames that end in {', '.join(sorted(IMAGE_SUFFIXES))}")

    def order(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]

    return sorted(found, key=order)


def _from_folder(folder: Path, pictures: list[Path], stride: int, fps: float) -> Iterator[ClipFrame]:
    for index in range(0, len(pictures), stride):
        pixels = torch.from_numpy(np.array(load_image(pictures[index])))
        yield ClipFrame(index, index / fps, pixels.permute(2, 0, 1).contiguous())


def _from_video(
    source: Any, name: str, stride: int, fps: float, format: str | None, threads: int
) -> Iterator[ClipFrame]:
    damage, index, first, time = Damage(), -1, None, 0.0
    with open_video(source, name, threads=threads, format=format) as (container, stream):
        rate, total = float(stream.average_rate or fps), stream.frames
        # AVI stores no times, and those that FFmpeg makes up are wrong where frames are not in the order of decoding
        decoding_time = container.format.name == "avi"
        for index, frame in enumerate(decode(container, stream, damage)):
            damage.marred += bool(frame.is_corrupt)
            stamp = frame.dts if decoding_time else frame.pts
            if stamp is not None and frame.time_base:
                first = stamp if first is None else first
                time = max(time, float((stamp - first) * frame.time_base))
            elif index:
                time += 1 / rate
            if index % stride == 0:
                yield ClipFrame(index, time, to_rgb(frame))
    if index < 0:
        raise RuntimeError(f"{name} holds no pictures that can be decoded; is it cut short?")
    damage.cut |= index + 1 + damage.lost < total
    damage.warn(name, f"it gave {index + 1} frames", stacklevel=2)
