"""How long a video is, and the segments that it is cut into."""

import math
import os
import warnings
from pathlib import Path

from ..data.frame_stream import find_pictures
from ..models.segments import segment_bounds
from .clip_source import Clip, Pace, measure


def measure_video(clip: Clip, fps: float, seconds: float | None = None) -> Pace:
    """Pace and length of a video, as far as they are known before it is read.

    Args:
        clip: In any form.
        fps: Frames per second of pixels, of a folder, and of a file that does not say.
        seconds: Count no more than so much of it.

    Raises:
        Exception: As `measure` does.

    Warns:
        RuntimeWarning: If a file does not say its frame rate.
    """
    pace = measure(clip, fps)
    if isinstance(clip, str | os.PathLike) and Path(clip).is_dir():
        pace = pace._replace(frames=len(find_pictures(Path(clip))))
    if pace.frames is not None and pace.fps is None:
        warnings.warn(
            f"{clip} does not say its frame rate; it is taken for {fps:g} frames per second, give fps=… if it has "
            "another",
            RuntimeWarning,
            stacklevel=4,
        )
        pace = pace._replace(fps=fps)
    if seconds is not None and pace.frames is not None and pace.fps is not None:
        # frame t is shown at t / fps; a rounding error does not make another
        pace = pace._replace(frames=min(pace.frames, max(1, math.ceil(seconds * pace.fps - 1e-6))))
    return pace


class SegmentLengths:
    """How many frames every segment has."""

    def __init__(self, length: int | None, fps: float, seconds: float, frames: int | None = None) -> None:
        """Cut a video into equal segments, if it is known how long it is, else into segments of the same length.

        Args:
            length: Frames of the video; None if only reading it tells.
            fps: Frames per second, if that is known before they are read.
            seconds: Length of a segment.
            frames: Its length in frames, which then is that of all but the last.
        """
        self.seconds, self.frames = seconds, frames
        bounds = [] if length is None or frames is not None else segment_bounds(length, fps, seconds)
        self.known = [stop - start for start, stop in bounds]

    def of(self, number: int, fps: float) -> int:
        """Frames of a segment.

        Args:
            number: Of the segment; there may be more than are known, if a file has more frames than it says.
            fps: Frames per second as far as the frames read tell.
        """
        if self.known:
            return self.known[min(number, len(self.known) - 1)]
        return max(1, round(self.seconds * fps)) if self.frames is None else self.frames
