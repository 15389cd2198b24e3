"""Video in, people with their body parts and what each does out: part-level action parsing, with bounded memory."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, cast, overload

import torch
from torch import Tensor, nn

from ..data.clips import ClipFrame
from ..models._part_settings import Coarse, check_part_settings
from ..models.pcf import PCF
from .clip_output import check_targets, open_lines, progress_bar
from .clip_source import Clip, Pace, can_be_read_again, open_frames, source_of
from .clips import before_end
from .names import model_name
from .part_lengths import SegmentLengths, measure_video
from .part_overlay import DRAWN
from .part_result import PartParsingResult
from .part_segment import PartSegment
from .part_stream import PartStream, RecognisedSegment
from .part_views import MeanAction, VideoViews


class PartParsingPipeline:
    """Part-level action parsing of videos of any length; call it with videos.

    Paper: "Part-level Action Parsing via a Pose-guided Coarse-to-Fine Framework" (section II).
    """

    def __init__(
        self,
        model: nn.Module,
        device: str | torch.device | None = None,
        threshold: float | None = None,
        every: int | None = None,
        seconds: float | None = None,
        coarse: Coarse | None = None,
        frames_per_segment: int | None = None,
        batch: int = 1,
    ) -> None:
        """Wrap a built model.

        Args:
            model: A `PCF` with names of actions and a vocabulary of states.
            device: Where to run; where the model's parameters are if None.
            threshold: Least score of a person; as the model has it if None. The model gives nobody below its own.
            every: Step between the frames that people are looked for in; the model's if None.
            seconds: Length of a segment; the model's if None. A video of known length is cut into equal segments of
                about this length, any other into segments of this length.
            coarse: Whether part states are read from the labels of all actions (`"independent"`) or from those of the
                action that was recognised (`"conditioned"`); as the model has it if None.
            frames_per_segment: Length of a segment in frames, in place of seconds; the last one may be shorter.
            batch: Looked-at frames that go through the detectors and the pose net at a time.

        The settings may be changed afterwards, for the videos that come then.

        Raises:
            ValueError: If the model is another, its detectors are not in float32, or a setting is out of range.
            RuntimeError: If the model has no vocabulary, or its actions no names.
        """
        if not isinstance(model, PCF):
            raise ValueError(f"{type(model).__name__} does not parse parts in videos; give a pcf_* model")
        for part in ("person_detector", "pose", "part_detector"):
            if wrong := {p.dtype for p in getattr(model, part).parameters()} - {torch.float32}:
                raise ValueError(
                    f"people and parts are found in float32, and the {part} is in {wrong.pop()}; call "
                    f"model.{part}.float() and change the precision of the networks for clips alone"
                )
        model.known_labels()
        self.model, self.classes, self.name = model, tuple(model.action_names()), model_name(model)
        self.threshold = model.threshold if threshold is None else threshold
        self.every = model.every if every is None else every
        self.seconds = model.seconds if seconds is None else seconds
        self.coarse = model.coarse if coarse is None else coarse
        self.frames_per_segment, self.batch = frames_per_segment, batch
        if seconds is not None and frames_per_segment is not None:
            raise ValueError("a segment's length is given in seconds or in frames_per_segment, not in both")
        self.check_settings()
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        model.to(self.device).eval()

    def check_settings(self) -> None:
        """Refuse settings that are out of range.

        Raises:
            ValueError: If one is.
        """
        check_part_settings(
            self.threshold,
            self.seconds,
            self.coarse,
            every=self.every,
            batch=self.batch,
            frames_per_segment=self.frames_per_segment,
        )

    @overload
    def __call__(self, clips: list[Any] | tuple[Any, ...], *, fps: float = 25.0) -> list[PartParsingResult]: ...
    @overload
    def __call__(self, clips: Clip, *, fps: float = 25.0) -> PartParsingResult: ...
    def __call__(self, clips: Any, *, fps: float = 25.0) -> Any:
        """Parse one video, or a list of videos one by one.

        A video is read once. Of the segment under way the frames are kept as small as the networks take them, and so
        are those that the video's action is told from; of the frames that were looked at, the people.

        The action of a file, a folder or pixels, whose length is known, is told from clips all over it
        (`model.recognise_video`). Of other sources it is the mean over the segments, each by its frames, of what is
        recognised in them.

        Args:
            clips: A video file; a folder of frames; the number of a camera; `"-"` or a binary pipe; pixels
                `(3, T, H, W)` uint8; an iterator of `ClipFrame`s; or a list of them.
            fps: Frames per second of pixels, of a folder, and of what does not say.

        Returns:
            One result, or a list of them.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            RuntimeError: If a file cannot be read as a video, there are no frames, or they change their size.
            ValueError: If pixels are not `(3, T, H, W)` uint8, a folder has no pictures, or a setting is out of range.
            TypeError: If it is something else.
            ImportError: If PyAV is missing (`pip install "actionzoo[video]"`).

        Warns:
            RuntimeWarning: If a file does not say its frame rate, so that `fps` is taken, or it is damaged or cut
                short; the result is of what could be decoded.
        """
        # a single frame is a tuple, too, and refused below
        if isinstance(clips, list | tuple) and not isinstance(clips, ClipFrame):
            return [self._run(clip, fps) for clip in clips]
        return self._run(cast(Clip, clips), fps)

    def stream(self, clip: Clip, *, fps: float = 25.0) -> Iterator[PartSegment]:
        """The segments of a video of any length, each as soon as it is over, in bounded memory.

        Segments, people and states are those of a call. The action is the mean over the segments so far, each by its
        frames; so are the states of a segment read from it where `coarse` is `"conditioned"`.

        Args:
            clip: As for a call, but one.
            fps: As for a call.

        Returns:
            An iterator of segments.

        Raises:
            Exception: As for a call, most of it while iterating.
        """
        self.check_settings()
        return self._stream(open_frames(clip, fps), measure_video(clip, fps), fps)

    def _stream(self, opened: Iterator[ClipFrame], pace: Pace, fps: float) -> Iterator[PartSegment]:
        mean = MeanAction()
        with closing(cast(Any, opened)) as frames:
            for segment in self._reader().segments(frames, self._lengths(pace, fps), fps):
                if segment.action is not None:
                    mean.add(segment.action, segment.frames)
                yield self._decided(segment, mean.scores)

    def annotate(
        self,
        clip: Clip,
        video: str | os.PathLike[str] | None = None,
        lines: str | os.PathLike[str] | None = None,
        *,
        fps: float = 25.0,
        drawn: float = DRAWN,
        joints: bool = False,
        seconds: float | None = None,
        stop: Callable[[], bool] | None = None,
        progress: bool = False,
    ) -> PartParsingResult:
        """Parse a video and write what was found.

        Files are written under another name until they are whole.

        Args:
            clip: As for a call, but one.
            video: File of the annotated video, for which it is read a second time; none if None.
            lines: File of JSON lines, one segment each; none if None. They are written at the end, as every line says
                the action of the whole video; `stream` gives the segments of a camera as they end.
            fps: As for a call.
            drawn: People who score less are not drawn.
            joints: Draw the joints, too.
            seconds: End after so much of the video; a camera has no end.
            stop: Asked at every frame whether to end before it, with the files whole.
            progress: Show a bar, if standard error is a terminal.

        Raises:
            ValueError: If `seconds` is not positive, or, before a frame is read, if the suffix of `video` is none that
                is written, or a file would take the place of the clip or of the other.
            FileNotFoundError: If the folder of a file is not there.
            RuntimeError: If a video is asked for and the clip cannot be read again.
            Exception: As for a call, and what `write_clip` raises.
        """
        if seconds is not None and not seconds > 0:
            raise ValueError(f"seconds is more than 0, got {seconds!r}")
        check_targets(clip, video, lines)
        if video is not None and not can_be_read_again(clip):
            # of a file that is not there, that is what is wrong
            open_frames(clip, fps)
            raise RuntimeError(
                f"{source_of(clip) or 'this clip'} cannot be read again, which an annotated video takes: a state is "
                "known once its segment is over; write it to a file first (actionzoo.data.write_clip)"
            )
        with open_lines(lines) as file:
            result = self._run(clip, fps, seconds=seconds, stop=stop, progress=progress)
            if file is not None:
                file.writelines(json.dumps(segment.to_dict()) + "\n" for segment in result.segments)
            if video is not None:
                result.save_video(video, threshold=drawn, joints=joints, progress=progress)
        return result

    def _run(
        self,
        clip: Clip,
        fps: float,
        *,
        seconds: float | None = None,
        stop: Callable[[], bool] | None = None,
        progress: bool = False,
    ) -> PartParsingResult:
        self.check_settings()
        started, opened, pace = time.perf_counter(), open_frames(clip, fps), measure_video(clip, fps, seconds)
        reader, mean = self._reader(), MeanAction()
        video = None if pace.frames is None else VideoViews(self.model, pace.frames)
        found = []
        shown = progress_bar(before_end(opened, seconds, stop), pace.frames, progress)
        with closing(cast(Any, opened)), shown as frames:
            for segment in reader.segments(frames, self._lengths(pace, fps), fps, video):
                found.append(segment)
                if segment.action is not None:
                    mean.add(segment.action, segment.frames)
        scores = mean.scores if video is None else video.recognise(self.device)
        return PartParsingResult(
            classes=self.classes,
            scores=tuple(scores.tolist()),
            model=self.name,
            source=source_of(clip),
            segments=[self._decided(segment, scores) for segment in found],
            frames=reader.frames,
            fps=pace.fps or reader.rate,
            speed=reader.frames / (time.perf_counter() - started),
            key_pictures=reader.keys.kept,
            clip=clip if can_be_read_again(clip) else None,
        )

    def _reader(self) -> PartStream:
        return PartStream(self.model, threshold=self.threshold, every=self.every, batch=self.batch)

    def _lengths(self, pace: Pace, fps: float) -> SegmentLengths:
        return SegmentLengths(pace.frames, pace.fps or fps, self.seconds, self.frames_per_segment)

    def _decided(self, segment: RecognisedSegment, scores: Tensor) -> PartSegment:
        known = self.classes[int(scores.argmax())] if self.coarse == "conditioned" else None
        return PartSegment(
            classes=self.classes,
            start=segment.start,
            stop=segment.stop,
            start_s=segment.start_s,
            stop_s=segment.stop_s,
            states=self.model.decide(segment.probabilities, known),
            people=segment.people,
            scores=tuple(scores.tolist()),
        )
