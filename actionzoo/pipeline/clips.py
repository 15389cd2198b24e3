"""Clip in, one action per tracked person out: the instance-guided framework, with bounded memory."""

import json
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, takewhile
from typing import Any, TextIO, cast, overload

import torch
from torch import nn

from .._checkpoint import atomic_path
from ..data.clips import ClipFrame, write_clip
from ..models import InstanceActionNet
from .clip_overlay import Event, KeyFrames, annotate_frames, place_people
from .clip_result import Benchmark, ClipResult
from .clip_source import Clip, can_be_read_again, measure, open_frames, source_of
from .clip_tally import ClipTally
from .clip_window import ClipWindow
from .names import class_names, model_name
from .sliding_window import SlidingWindow


class ClipActionPipeline:
    """Detector, tracker and action head of the instance-guided framework over a sliding window; call it with clips."""

    def __init__(
        self,
        model: nn.Module,
        device: str | torch.device | None = None,
        threshold: float | None = None,
        stride: int | None = None,
        hop: int | None = None,
        min_frames: int = 2,
    ) -> None:
        """Wrap a built model.

        Args:
            model: An `InstanceActionNet`.
            device: Where to run; where the model's parameters are if None.
            threshold: Least score of a detected person, which becomes the model's; as the model has it if None.
            stride: Step between the frames that are looked at; the model's if None.
            hop: Looked-at frames from one window to the next, half a window if None.
            min_frames: Leave out people who were found in fewer frames of a window, unless it has fewer.

        Raises:
            ValueError: If the model is another or has no classes, or a number is out of range.
        """
        if not isinstance(model, InstanceActionNet):
            raise ValueError(f"{type(model).__name__} does not label people in clips; give an instance_action_* model")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a score in [0, 1], got {threshold}")
        self.stride = model.stride if stride is None else stride
        self.hop = max(model.frames // 2, 1) if hop is None else hop
        self.min_frames = min_frames
        if min(self.stride, self.hop, min_frames) < 1 or self.hop > model.frames:
            raise ValueError(
                f"stride and min_frames are at least 1 and hop lies in 1 to {model.frames}, the frames of a window, so "
                f"that no frame is left out; got {self.stride}, {min_frames} and {self.hop}"
            )
        self.classes, self.name = class_names(model), model_name(model)
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        self.model = model.to(self.device).eval()
        self.model.threshold = model.threshold if threshold is None else threshold
        self._window = SlidingWindow(self.model, self.classes, self.stride, self.hop, min_frames)

    @overload
    def __call__(
        self, clips: list[Any] | tuple[Any, ...], *, fps: float = 25.0, benchmark: Benchmark = "confidence"
    ) -> list[ClipResult]: ...
    @overload
    def __call__(self, clips: Clip, *, fps: float = 25.0, benchmark: Benchmark = "confidence") -> ClipResult: ...
    def __call__(self, clips: Any, *, fps: float = 25.0, benchmark: Benchmark = "confidence") -> Any:
        """Label the people of one clip, or of a list of clips one by one.

        Args:
            clips: A video file; a folder of frames; the number of a camera; `"-"` or a binary pipe; pixels
                `(3, T, H, W)` uint8; an iterator of `ClipFrame`s; or a list of them. `stride` steps over the frames
                of all of these.
            fps: Frames per second of pixels, of a folder, and of a video that does not say.
            benchmark: Whose action is the clip's, see `ClipResult`.

        Returns:
            One result, or a list of them.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            RuntimeError: If a file cannot be read as a video, or the frames change their size.
            ValueError: If pixels are not `(3, T, H, W)`, there are no frames, or the benchmark is unknown.
            TypeError: If it is something else.
            ImportError: If PyAV or scipy is missing (`pip install "actionzoo[video]"`).

        Warns:
            RuntimeWarning: If a video is damaged or cut short; the result is of what could be decoded.
        """
        # a single frame is a tuple, too, and refused below
        if isinstance(clips, list | tuple) and not isinstance(clips, ClipFrame):
            return [self._run(clip, fps, benchmark, windows=[]) for clip in clips]
        return self._run(cast(Clip, clips), fps, benchmark, windows=[])

    def stream(self, clip: Clip, *, fps: float = 25.0) -> Iterator[ClipWindow]:
        """The windows of a clip of any length, each as soon as its last frame was read, in bounded memory.

        Args:
            clip: As for a call, but one.
            fps: As for a call.

        Returns:
            An iterator of windows, the last of them over the clip's last frames. A clip shorter than a window gives
            one. Windows without anybody are given too.

        Raises:
            Exception: As for a call, most of it while iterating.
        """
        events = self._window.events(open_frames(clip, fps))
        return (event for event in events if isinstance(event, ClipWindow))

    def annotate(
        self,
        clip: Clip,
        video: str | os.PathLike[str] | None = None,
        lines: str | os.PathLike[str] | None = None,
        *,
        fps: float = 25.0,
        benchmark: Benchmark = "confidence",
        seconds: float | None = None,
        progress: bool = False,
    ) -> ClipResult:
        """Label the people of a clip of any length and write what was found, in one go and in bounded memory.

        Files are written under another name until they are whole.

        Args:
            clip: As for a call, but one.
            video: File of the annotated clip, see `write_clip`; none if None. It has the clip's frame rate, the mean
                if that varies, and its size, unless that is too small for tags.
            lines: File of JSON lines, one window each; none if None.
            fps: As for a call.
            benchmark: As for a call.
            seconds: Stop after so much of the clip; a camera has no end.
            progress: Show a bar, if standard error is a terminal.

        Returns:
            The result of the whole clip, without the windows.

        Raises:
            Exception: As for a call, and what `write_clip` raises.
        """
        if lines is None:
            return self._run(clip, fps, benchmark, video, seconds=seconds, progress=progress)
        with _open_lines(lines) as file:
            return self._run(clip, fps, benchmark, video, file, seconds=seconds, progress=progress)

    def _run(
        self,
        clip: Clip,
        fps: float,
        benchmark: Benchmark,
        video: str | os.PathLike[str] | None = None,
        lines: TextIO | None = None,
        *,
        windows: list[ClipWindow] | None = None,
        seconds: float | None = None,
        progress: bool = False,
    ) -> ClipResult:
        """Go through a clip; a list of windows given takes them."""
        if benchmark not in ("confidence", "area"):
            raise ValueError(f"benchmark is 'confidence' or 'area', got {benchmark!r}")
        started, tally, keys = time.perf_counter(), ClipTally(), KeyFrames()
        frames, pace = open_frames(clip, fps), measure(clip, fps)
        if seconds is not None:
            frames = takewhile(lambda frame: frame.time_s < seconds, frames)
        with _bar(tally.count(frames), pace.frames if seconds is None else None, progress) as counted:
            events = _record(self._window.events(counted, every=video is not None), tally, windows, lines)
            placed = keys.watch(place_people(events, self.model.frames))
            first = next(placed)
            # a window of frames has been read by now, whose times tell their rate
            rate = pace.fps or tally.frame_rate() or fps
            placed = chain([first], placed)
            if video is None:
                deque(placed, maxlen=0)
            else:
                write_clip(video, annotate_frames(placed), rate)
        return ClipResult(
            classes=self.classes,
            model=self.name,
            source=source_of(clip),
            people=tally.people(self.classes),
            windows=windows or [],
            frames=tally.frames,
            sampled=-(-tally.frames // self.stride),
            num_windows=tally.windows,
            fps=tally.frames / (time.perf_counter() - started),
            frame_rate=rate,
            benchmark=benchmark,
            key_frames=keys.kept,
            clip=clip if can_be_read_again(clip) else None,
        )


def _record(
    events: Iterable[Event], tally: ClipTally, windows: list[ClipWindow] | None, lines: TextIO | None
) -> Iterator[Event]:
    """Pass events on; count the windows, and keep and write them where asked to."""
    for event in events:
        if isinstance(event, ClipWindow):
            tally.add(event)
            if windows is not None:
                windows.append(event)
            if lines is not None:
                lines.write(json.dumps(event.to_dict()) + "\n")
        yield event


@contextmanager
def _open_lines(path: str | os.PathLike[str]) -> Generator[TextIO, None, None]:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


@contextmanager
def _bar(frames: Iterator[ClipFrame], total: int | None, progress: bool) -> Generator[Iterable[ClipFrame], None, None]:
    """Frames behind a progress bar, which is cleared at the end."""
    if not progress:
        yield frames
        return
    from tqdm import tqdm

    # None: nothing where standard error is no terminal
    with tqdm(frames, total=total, unit=" frames", leave=False, disable=None) as bar:
        yield bar
