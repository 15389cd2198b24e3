"""`actionzoo predict` on clips: tracked people with their actions, an annotated copy and JSON lines out."""

import argparse
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .arguments import print_top
from .predict_inputs import free_paths

RULES = {"score": "its surest person", "area": "its largest person", "mean": "the mean of all"}
"""How a clip is labelled by its people."""


def add_arguments(group: Any) -> None:
    """Arguments of `actionzoo predict` that are for clips."""
    group.add_argument("--stride", type=int, help="step between the frames that are looked at (default: the model's)")
    group.add_argument("--hop", type=int, help="looked-at frames from one window to the next (default: half a window)")
    group.add_argument("--seconds", type=float, help="stop after so much of each clip; a camera has no end")
    group.add_argument(
        "--frames-folder", action="store_true", help="each folder is a clip, and its pictures the frames"
    )
    group.add_argument("--fps", type=float, help="frames per second of a folder (default 25)")
    group.add_argument(
        "--video-rule",
        choices=tuple(RULES),
        help="how a clip is labelled: by its surest person (default), its largest, or the mean of all",
    )


def check(args: argparse.Namespace) -> None:
    """Refuse numbers that are out of range before anything is loaded."""
    for name in ("seconds", "fps"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name} is more than 0, got {value}")


def refuse(args: argparse.Namespace, name: str) -> None:
    """Refuse options of clips with a model of pictures.

    Raises:
        ValueError: If there are some.
    """
    options = ("stride", "hop", "seconds", "frames_folder", "fps", "video_rule")
    if given := [f"--{option.replace('_', '-')}" for option in options if getattr(args, option) not in (None, False)]:
        raise ValueError(
            f"{', '.join(given)} is for models of clips, instance_action_* and pcf_*, and {name} takes pictures"
        )


def label(
    pipe: Any, source: Path | str | int, args: argparse.Namespace, used: set[Path], stop: Callable[[], bool]
) -> tuple[Any, list[Path]]:
    """Label the people of one clip, and write the annotated clip and the windows.

    Args:
        pipe: A pipeline of clips.
        source: A file, a folder or a stream.
        args: Parsed arguments.
        used: Files written so far.
        stop: Whether to end a stream, which may have no end of its own, where it is.

    Raises:
        RuntimeError: If the clip cannot be read.
    """
    endings = ("_actionzoo.jsonl",) if args.no_draw else ("_actionzoo.mp4", "_actionzoo.jsonl")
    written = [] if args.no_write else free_paths(args.output, stem_of(source), endings, used)
    video = written[0] if len(written) == 2 else None
    result = pipe.annotate(
        source,
        video,
        written[-1] if written else None,
        fps=25.0 if args.fps is None else args.fps,
        rule=args.video_rule or "score",
        seconds=args.seconds,
        stop=None if isinstance(source, Path) else stop,
        progress=not args.json,
    )
    return result, written


@contextmanager
def interruptible(source: Path | str | int) -> Iterator[Callable[[], bool]]:
    """Ctrl-C ends a stream, with what was read of it written, and only a second one the program.

    A file ends by itself, and half of it would pass for the whole: there Ctrl-C is what it always is.

    Args:
        source: A file, a folder or a stream.

    Returns:
        A function that says whether Ctrl-C was pressed.
    """
    pressed = threading.Event()
    if isinstance(source, Path) or threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def press(*_: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def print_result(result: Any, top: int) -> None:
    """Who did what from when to when, and how fast that was found out."""
    for person in result.people:
        when = f"{person.start_s:.2f} to {person.end_s:.2f} s"
        print(f"  person #{person.track_id}: {when}; found with {person.detection:.0%}")
        print_top(person.top(result.classes, top), "    ")
    if not result.people:
        print("  nobody found")
    else:
        print(f"  the clip: {result.label}, {result.score:.1%} (by {RULES[result.rule]})")
    looked_at = f"{result.sampled} looked at in {result.num_windows} windows"
    print(f"  {result.frames} frames, {looked_at}; {result.fps:.1f} frames per second")


def stem_of(source: Path | str | int) -> str:
    """What files written for an input are named after."""
    if isinstance(source, int):
        return f"camera{source}"
    return "stdin" if source == "-" else Path(source).stem or "stream"
