"""`actionzoo predict` on clips: tracked people with their actions, an annotated copy and JSON lines out."""

import argparse
from pathlib import Path
from typing import Any

from .arguments import print_top
from .predict_inputs import free_paths


def add_arguments(group: Any) -> None:
    """Arguments of `actionzoo predict` that are for clips."""
    group.add_argument("--stride", type=int, help="step between the frames that are looked at (default: the model's)")
    group.add_argument("--hop", type=int, help="looked-at frames from one window to the next (default: half a window)")
    group.add_argument("--seconds", type=float, help="stop after so much of each clip; a camera has no end")
    group.add_argument(
        "--frames-folder", action="store_true", help="each folder is a clip, and its pictures the frames"
    )
    group.add_argument("--fps", type=float, default=25.0, help="frames per second of a folder (default 25)")


def check(args: argparse.Namespace) -> None:
    """Refuse numbers that are out of range before anything is loaded."""
    for name in ("seconds", "fps"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name} is more than 0, got {value}")


def label(pipe: Any, source: Path | str | int, args: argparse.Namespace, used: set[Path]) -> tuple[Any, list[Path]]:
    """Label the people of one clip, and write the annotated clip and the windows.

    Raises:
        RuntimeError: If the clip cannot be read.
    """
    video = lines = None
    if not args.no_draw:
        video, lines = free_paths(args.output, _stem(source), ("_actionzoo.mp4", "_actionzoo.jsonl"), used)
    try:
        result = pipe.annotate(source, video, lines, fps=args.fps, seconds=args.seconds, progress=not args.json)
    except ValueError as error:
        # a clip without frames is no reason to leave out the others
        raise RuntimeError(str(error)) from error
    return result, [path for path in (video, lines) if path is not None]


def print_result(result: Any, top: int) -> None:
    """Who did what from when to when, and how fast that was found out."""
    for person in result.people:
        when = f"{person.start_s:.2f} to {person.end_s:.2f} s"
        print(f"  person #{person.track_id}: {when}; found with {person.detection:.0%}")
        print_top(person.top(result.classes, top), "    ")
    if not result.people:
        print("  nobody found")
    looked_at = f"{result.sampled} looked at in {result.num_windows} windows"
    print(f"  {result.frames} frames, {looked_at}; {result.fps:.1f} frames per second")


def _stem(source: Path | str | int) -> str:
    if isinstance(source, int):
        return f"camera{source}"
    return "stdin" if source == "-" else Path(source).stem or "stream"
