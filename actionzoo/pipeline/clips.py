"""Clip in, one action per tracked person out: the instance-guided framework, with bounded memory."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any, TextIO, cast, get_args, overload

import torch
from torch import nn

from ..data.clips import ClipFrame, write_clip
from ..models import InstanceActionNet
from .clip_output import check_targets, open_lines, progress_bar, record
from .clip_overlay import KeyFrames, annotate_frames, place_people
from .clip_result import ClipResult, Rule
from .clip_source import Clip, can_be_read_again, measure, open_frames, source_of
from .clip_tally import ClipTally
from .clip_window import ClipWindow
from .names import class_names, model_name
from .sliding_window import PATIENCE, SlidingWindow


class ClipActionPipeline:
    """Detector, tracker and action head of the instance-guided framework over a sliding window; call it with clips."""

    def __init__(
        self,
        model: nn.Module,
        device: str | torch.device | None = None,
        threshold: float | None = None,
        stride: int | None = None,
        hop: int | None = None,
        min_frames: int = 1,
        batch: int = 1,
    ) -> None:
        """Wrap a built model.

        Args:
            model: An `InstanceActionNet`.
            device: Where to run; where the model's parameters are if None.
            threshold: Least score of a detected person; as the model has it if None. The detector itself gives nobody
                below its `roi_heads.score_thresh` (0.05 unless it was built otherwise).
            stride: Step between the frames that are looked at; the model's if None.
            hop: Looked-at frames from one window to the next, half a window if None.
            min_frames: Leave out people who were found in fewer frames of a window, unless it has fewer.
            batch: Looked-at frames that go through the detector at a time: the results are the same, come later and
                take more memory.

        The numbers may be changed afterwards, for the clips that come then.

        Raises:
            ValueError: If the model is another, has no classes or a detector that is not in float32, or a number is
                out of range.
        """
        if not isinstance(model, InstanceActionNet):
            raise ValueError(f"{type(model).__name__} does not label people in clips; give an instance_action_* model")
        self.model, self.classes, self.name = model, class_names(model), model_name(model)
        self.threshold = model.threshold if threshold is None else threshold
        self.stride = model.stride if stride is None else stride
        self.hop = max(model.frames // 2, 1) if hop is None else hop
        self.min_frames, self.batch = min_frames, batch
        # refuses numbers before the model is touched
        self._sliding_window()
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        model.to(self.device).eval()

    def _sliding_window(self) -> SlidingWindow:
        return SlidingWindow(
            self.model,
            self.classes,
            threshold=self.threshold,
            stride=self.stride,
            hop=self.hop,
            min_frames=self.min_frames,
            batch=self.batch,
        )

    @overload
    def __call__(
        self, clips: list[Any] | tuple[Any, ...], *, fps: float = 25.0, rule: Rule = "score"
    ) -> list[ClipResult]: ...
    @overload
    def __call__(self, clips: Clip, *, fps: float = 25.0, rule: Rule = "score") -> ClipResult: ...
    def __call__(self, clips: Any, *, fps: float = 25.0, rule: Rule = "score") -> Any:
        """Label the people of one clip, or of a list of clips one by one.

        All windows of a clip are kept in the result, so that memory grows with its length; that of `stream` and
        `annotate` does not.

        Args:
            clips: A video file; a folder of frames; the number of a camera; `"-"` or a binary pipe; pixels
                `(3, T, H, W)` uint8; an iterator of `ClipFrame`s; or a list of them. `stride` steps over the frames
                of all of these.
            fps: Frames per second of pixels, of a folder, and of a video that does not say.
            rule: How the clip is labelled by its people, see `ClipResult`.

        Returns:
            One result, or a list of them.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            RuntimeError: If a file cannot be read as a video, there are no frames, or they change their size.
            ValueError: If pixels are not `(3, T, H, W)` uint8, a folder has no pictures, or the rule is unknown.
            TypeError: If it is something else.
            ImportError: If PyAV or scipy is missing (`pip install "actionzoo[video]"`).

        Warns:
            RuntimeWarning: If a video is damaged or cut short; the result is of what could be decoded.
        """
        # a single frame is a tuple, too, and refused below
        if isinstance(clips, list | tuple) and not isinstance(clips, ClipFrame):
            return [self._run(clip, fps, rule, windows=[]) for clip in clips]
        return self._run(cast(Clip, clips), fps, rule, windows=[])

    def stream(self, clip: Clip, *, fps: float = 25.0) -> Iterator[ClipWindow]:
        """The windows of a clip of any length, each as soon as its last frame was looked at, in bounded memory.

        Args:
            clip: As for a call, but one.
            fps: As for a call.

        Returns:
            An iterator of windows, the last of them over the clip's last frames. A clip shorter than a window gives
            one. Windows without anybody are given too.

        Raises:
            Exception: As for a call, most of it while iterating.
        """
        return self._windows(self._sliding_window(), open_frames(clip, fps))

    @staticmethod
    def _windows(sliding: SlidingWindow, frames: Iterator[ClipFrame]) -> Iterator[ClipWindow]:
        with closing(cast(Any, frames)):
            yield from (event for event in sliding.events(frames) if isinstance(event, ClipWindow))

    def annotate(
        self,
        clip: Clip,
        video: str | os.PathLike[str] | None = None,
        lines: str | os.PathLike[str] | None = None,
        *,
        fps: float = 25.0,
        rule: Rule = "score",
        seconds: float | None = None,
        stop: Callable[[], bool] | None = None,
        progress: bool = False,
    ) -> ClipResult:
        """Label the people of a clip of any length and write what was found, in one go and in bounded memory.

        Files are written under another name until they are whole. Of every person a few numbers are kept.

        Args:
            clip: As for a call, but one.
            video: File of the annotated clip, see `write_clip`; none if None. It has the clip's frame rate, the mean
                if that varies, and its size, unless that is too small for tags.
            lines: File of JSON lines, one window each; none if None.
            fps: As for a call.
            rule: As for a call.
            seconds: End after so much of the clip; a camera has no end.
            stop: Asked at every frame whether to end before it, with the files whole.
            progress: Show a bar, if standard error is a terminal.

        Returns:
            The result of the whole clip, without the windows.

        Raises:
            ValueError: If `seconds` is not positive, or, before a frame is read, if the suffix of `video` is none that
                is written, or a file would take the place of the clip or of the other.
            FileNotFoundError: If the folder of a file is not there.
            Exception: As for a call, and what `write_clip` raises.
        """
        if seconds is not None and not seconds > 0:
            raise ValueError(f"seconds is more than 0, got {seconds!r}")
        check_targets(clip, video, lines)
        with open_lines(lines) as file:
            return self._run(clip, fps, rule, video, file, seconds=seconds, stop=stop, progress=progress)

    def _run(
        self,
        clip: Clip,
        fps: float,
        rule: Rule,
        video: str | os.PathLike[str] | None = None,
        lines: TextIO | None = None,
        *,
        windows: list[ClipWindow] | None = None,
        seconds: float | None = None,
        stop: Callable[[], bool] | None = None,
        progress: bool = False,
    ) -> ClipResult:
        """Go through a clip; a list of windows given takes them."""
        if rule not in get_args(Rule):
            raise ValueError(f"rule is one of {', '.join(get_args(Rule))}, got {rule!r}")
        started, tally, keys, sliding = time.perf_counter(), ClipTally(), KeyFrames(), self._sliding_window()
        with closing(cast(Any, open_frames(clip, fps))) as frames:
            pace = measure(clip, fps)
            counted = tally.count(before_end(frames, seconds, stop))
            with progress_bar(counted, pace.frames if seconds is None else None, progress) as shown:
                events = record(sliding.events(shown, every=video is not None), tally, windows, lines)
                placed = keys.watch(place_people(events, self.model.frames, PATIENCE))
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
            sampled=-(-tally.frames // sliding.stride),
            num_windows=tally.windows,
            fps=tally.frames / (time.perf_counter() - started),
            frame_rate=rate,
            rule=rule,
            key_frames=keys.kept,
            clip=clip if can_be_read_again(clip) else None,
        )


def before_end(
    frames: Iterable[ClipFrame], seconds: float | None, stop: Callable[[], bool] | None
) -> Iterator[ClipFrame]:
    """Frames before a time, and before somebody wants to stop."""
    for frame in frames:
        if (seconds is not None and frame.time_s >= seconds) or (stop is not None and stop()):
            return
        yield frame
