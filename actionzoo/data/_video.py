"""Video streams: opening them, decoding whatever can be decoded, upright pixels."""

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

# FFmpeg also "plays" single pictures, and text as the terminals of old showed it
_PICTURES = ("image2", "image2pipe")
_TEXT = ("ansi", "bintext", "idf", "xbin")


def import_av() -> Any:
    """PyAV, or an error that says how to install it."""
    try:
        import av
    except ImportError as error:
        raise ImportError('video needs PyAV: pip install "actionzoo[video]"') from error
    return av


@dataclass
class Damage:
    """What was wrong with a video while it was read."""

    lost: int = 0
    """Packets that could not be decoded."""
    marred: int = 0
    """Frames that were decoded with errors."""
    cut: bool = False
    """Whether the file ended before its header said or in the middle of a packet."""

    def __bool__(self) -> bool:
        return bool(self.lost or self.marred or self.cut)

    def warn(self, name: str, outcome: str, stacklevel: int) -> None:
        """One warning if anything was wrong."""
        found = [
            *([f"packets that cannot be decoded: {self.lost}"] if self.lost else []),
            *([f"frames with errors: {self.marred}"] if self.marred else []),
            *(["cut short"] if self.cut else []),
        ]
        if found:
            warnings.warn(f"{name} is damaged ({', '.join(found)}); {outcome}", RuntimeWarning, stacklevel + 1)


@contextmanager
def open_video(source: Any, name: str, *, threads: int = 1, format: str | None = None) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream, closed at the end of the block.

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If it cannot be read as a video or has no pictures.
    """
    av = import_av()
    path = isinstance(source, str | os.PathLike)
    try:
        container = av.open(os.fspath(source) if path else source, format=format)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such video: {name}") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RuntimeError(f"{name} cannot be read as a video ({reason}); is it one, and is it whole?") from error
    with container:
        if not container.streams.video:
            raise RuntimeError(f"{name} has no pictures, only {[stream.type for stream in container.streams]}")
        stream, kind = container.streams.video[0], container.format.name
        if path and (kind in _PICTURES or kind.endswith("_pipe")):
            raise RuntimeError(f"{name} is no video but a single picture ({container.format.long_name})")
        if stream.codec_context.name in _TEXT:
            raise RuntimeError(f"{name} is no video but text")
        stream.codec_context.thread_count = threads
        if threads != 1:
            stream.thread_type = "AUTO"
        yield container, stream


def decode(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """The frames in the order of display; packets that cannot be decoded are counted and left out."""
    errors = import_av().error.FFmpegError
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except errors:
            damage.cut, packet = True, None
        # an empty packet empties the decoder; without a time it is the one after the last, else a frame left out
        if packet is None or packet.size or packet.dts is None:
            try:
                yield from stream.decode(packet)
            except errors:
                damage.lost += 1
        if packet is None:
            return


class FrameIndex(NamedTuple):
    """What the packets of a video say of its frames; reading them decodes nothing."""

    frames: int
    times: list[int]
    """When each frame is shown, ascending, in units of the stream's time base; empty where that is not known."""
    keys: list[int]
    """Times of the frames that decoding can start from, ascending."""


def read_index(container: Any, stream: Any, damage: Damage) -> FrameIndex:
    """Go through the packets of a stream that was just opened."""
    times, keys, hidden = [], [], 0
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if packet.is_discard:
                # an edit list cuts it off
                hidden += 1
                continue
            times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    except import_av().error.FFmpegError:
        damage.cut = True
    damage.cut |= len(times) + hidden < stream.frames
    # AVI stores no times, and those that FFmpeg makes up are wrong where frames are not in the order of decoding
    known = container.format.name != "avi" and None not in times and len(set(times)) == len(times)
    return FrameIndex(len(times), sorted(times) if known else [], sorted(keys) if known else [])


def to_rgb(frame: Any) -> Tensor:
    """`(3, H, W)` uint8 pixels of a decoded frame, turned and mirrored as its display matrix says."""
    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        # a point (x, y) is shown at (a x + c y, b x + d y); quarter turns and mirrors have two entries of four
        a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
        if abs(b) > abs(a):
            pixels, a, d = pixels.transpose(1, 2), c, b
        pixels = pixels.flip([axis for axis, sign in ((1, d), (2, a)) if sign < 0])
    return pixels.contiguous()


def source_name(source: Any) -> str:
    """What to call a source in messages."""
    return str(source) if isinstance(source, str | Path) else getattr(source, "name", None) or type(source).__name__
