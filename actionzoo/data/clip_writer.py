"""Clips into video files."""

import math
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._checkpoint import atomic_path
from ._video import import_av

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}


def write_clip(
    path: str | os.PathLike[str],
    frames: Tensor | Iterable[Tensor],
    fps: float | Fraction = 25,
    *,
    codec: str | None = None,
    quality: int = 20,
) -> Path:
    """Write frames to a video file, one at a time, under another name until it is whole.

    Args:
        path: File to write; its suffix says the format: `.mp4`, `.mov`, `.mkv` or `.avi`.
        frames: A clip `(3, T, H, W)`, or frames `(3, H, W)` one after the other, uint8 RGB.
        fps: Frames per second.
        codec: FFmpeg's name of an encoder. If None: H.264 (`libx264`), in `.avi` motion JPEG.
        quality: Of H.264, its constant rate factor: 0 is lossless, 18 looks it, 51 is worst. H.264 keeps odd sizes by
            full colour resolution, which some browsers do not play. Other encoders get half a byte per pixel.

    Returns:
        The path.

    Raises:
        ValueError: If there are no frames, their shapes are wrong or differ, or the suffix or a number is wrong.
        TypeError: If frames are not uint8 tensors.
        FileNotFoundError: If the folder is not there.
        RuntimeError: If FFmpeg does not have the encoder or refuses the frames.
        ImportError: If PyAV is missing (`pip install "actionzoo[video]"`).
    """
    av, path = import_av(), Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"a clip is written to a file that ends in {', '.join(_FORMATS)}, got {path.name!r}")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps is a positive number of frames per second, got {fps!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {path.parent}; make it first")
    kind = _FORMATS[path.suffix.lower()]
    encoder = codec or ("mjpeg" if kind == "avi" else "libx264")
    rate = Fraction(fps).limit_denominator(1001)
    pictures = _pictures(frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError("there are no frames to write")
    with atomic_path(path) as temporary:
        try:
            with av.open(str(temporary), "w", format=kind) as container:
                stream = _add_stream(container, encoder, rate, first.shape[:2], quality)
                for i, pixels in enumerate(chain([first], pictures)):
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    frame.pts, frame.time_base = i, 1 / rate
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
        except av.error.FFmpegError as error:
            raise RuntimeError(f"FFmpeg cannot write {path} with the encoder {encoder}: {error}") from error
    return path


def _pictures(frames: Tensor | Iterable[Tensor]) -> Iterator[np.ndarray]:
    """`(H, W, 3)` arrays of frames that are all of one size."""
    if isinstance(frames, Tensor):
        if frames.ndim != 4:
            raise ValueError(f"a clip has the shape (3, T, H, W), got {tuple(frames.shape)}")
        frames = frames.unbind(1)
    shape = None
    for i, frame in enumerate(frames):
        if not isinstance(frame, Tensor) or frame.dtype != torch.uint8:
            kind = frame.dtype if isinstance(frame, Tensor) else type(frame).__name__
            raise TypeError(f"frames are uint8 tensors, got {kind} for frame {i}")
        shape = shape or frame.shape
        if frame.ndim != 3 or frame.shape[0] != 3 or frame.shape != shape or 0 in frame.shape:
            raise ValueError(f"frames are (3, H, W), all of one size; frame {i} is {tuple(frame.shape)}")
        yield np.ascontiguousarray(frame.detach().cpu().permute(1, 2, 0).numpy())


def _add_stream(container: Any, encoder: str, rate: Fraction, size: tuple[int, ...], quality: int) -> Any:
    height, width = size
    try:
        stream = container.add_stream(encoder, rate=rate)
    except ValueError as error:
        raise RuntimeError(f"this FFmpeg has no encoder {encoder}; give another as codec, such as 'mpeg4'") from error
    stream.width, stream.height = width, height
    stream.codec_context.thread_count = 1
    if encoder == "libx264":
        # colour at half the resolution needs an even size
        stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        stream.options = {"crf": str(quality)}
    else:
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        stream.bit_rate = math.ceil(4 * height * width * rate)
    return stream
