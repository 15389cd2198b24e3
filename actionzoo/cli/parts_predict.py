"""`actionzoo predict` with models that parse parts: actions, states and people out, an annotated copy, and the
challenge's files.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .arguments import print_top
from .predict_clips import stem_of
from .predict_inputs import Input, free_paths

OPTIONS = ("segment", "segment_frames", "coarse", "challenge", "joints", "draw_threshold")


def add_arguments(group: Any) -> None:
    """Arguments of `actionzoo predict` that are for models that parse parts."""
    length = group.add_mutually_exclusive_group()
    length.add_argument("--segment", type=float, metavar="SECONDS", help="length of a segment (default: the model's)")
    length.add_argument("--segment-frames", type=int, metavar="N", help="length of a segment in frames")
    group.add_argument(
        "--coarse",
        choices=("independent", "conditioned"),
        help="read part states from the labels of all actions, or of the action that was recognised (default: the "
        "model's)",
    )
    group.add_argument(
        "--challenge", type=Path, metavar="DIR", help="also write pred_vid_result.json and pred_part_result.json there"
    )
    group.add_argument("--joints", action="store_true", help="draw the joints, too")
    group.add_argument(
        "--draw-threshold", type=float, metavar="SCORE", help="least score of who is drawn (default 0.3)"
    )


def refuse(args: argparse.Namespace, name: str) -> None:
    """Refuse options of models that parse parts with another model.

    Raises:
        ValueError: If there are some.
    """
    if given := [option for option in OPTIONS if getattr(args, option) not in (None, False)]:
        named = ", ".join(f"--{option.replace('_', '-')}" for option in given)
        raise ValueError(f"{named} is for models that parse parts, pcf_*, and {name} does not")


def prepare(pipe: Any, inputs: Sequence[Input], args: argparse.Namespace) -> None:
    """Set the pipeline's options, and refuse what could not be written before a frame is read.

    Raises:
        ValueError: If a number is out of range, an option is of other models of clips, two videos would have one name
            in the challenge's files, or a stream is to be read twice.
        FileNotFoundError: If the challenge's files have no place.
    """
    if args.video_rule is not None:
        raise ValueError("--video-rule labels a clip by its people; a model that parses parts labels the clip itself")
    if args.draw_threshold is not None and not 0 <= args.draw_threshold <= 1:
        raise ValueError(f"--draw-threshold is a score in [0, 1], got {args.draw_threshold}")
    streams = [item.source for item in inputs if not isinstance(item.source, Path)]
    if streams and not (args.no_draw or args.no_write):
        raise ValueError(f"{streams[0]} can be read once, and a video is annotated in a second pass; give --no-draw")
    if args.challenge is not None:
        _check_challenge([item.source for item in inputs if item.kind != "picture"], args)
    pipe.seconds = pipe.seconds if args.segment is None else args.segment
    pipe.frames_per_segment = args.segment_frames
    pipe.coarse = args.coarse or pipe.coarse
    pipe.check_settings()


def _check_challenge(sources: Sequence[Path | str | int], args: argparse.Namespace) -> None:
    from ..pipeline.part_result import video_name

    if args.no_write:
        raise ValueError("--challenge writes files and --no-write none; give one of them")
    if not args.challenge.absolute().parent.is_dir():
        raise FileNotFoundError(f"no such folder: {args.challenge.absolute().parent}; make it first")
    names: dict[str, Any] = {}
    for source in sources:
        if not isinstance(source, Path):
            raise ValueError(f"{source} has no name for the challenge's files; leave --challenge out")
        if (name := video_name(source)) in names:
            raise ValueError(f"{names[name]} and {source} would both be {name!r} in the challenge's files; rename one")
        names[name] = source


def label(
    pipe: Any, source: Path | str | int, args: argparse.Namespace, used: set[Path], stop: Callable[[], bool]
) -> tuple[Any, list[Path]]:
    """Parse one video, and write the annotated video and the segments; arguments as for other models of clips.

    Raises:
        RuntimeError: If the video cannot be read.
    """
    endings = ("_actionzoo.jsonl",) if args.no_draw else ("_actionzoo.mp4", "_actionzoo.jsonl")
    written = [] if args.no_write else free_paths(args.output, stem_of(source), endings, used)
    result = pipe.annotate(
        source,
        written[0] if len(written) == 2 else None,
        written[-1] if written else None,
        fps=25.0 if args.fps is None else args.fps,
        seconds=args.seconds,
        stop=None if isinstance(source, Path) else stop,
        progress=not args.json,
        joints=args.joints,
        **({} if args.draw_threshold is None else {"drawn": args.draw_threshold}),
    )
    return result, written


def print_result(result: Any, top: int) -> None:
    """The action, what every part did from when to when, and how fast that was found out."""
    print_top(result.top(top), "  ")
    for segment in result.segments:
        states = ", ".join(f"{part.replace('_', ' ')} {state}" for part, (state, _) in segment.states.items())
        print(f"  {segment.start_s:.2f} to {segment.stop_s:.2f} s: {states}")
    looked_at = result.people
    people = sum(len(found.boxes) for found in looked_at.values())
    print(
        f"  {result.frames} frames, {len(looked_at)} looked at with {people} people, {len(result.segments)} segments; "
        f"{result.speed:.1f} frames per second"
    )


def write_challenge(results: Sequence[Any], folder: Path) -> list[Path]:
    """Write the challenge's two files of all videos, if there are some."""
    from ..pipeline import save_predictions

    if not results:
        return []
    save_predictions(results, folder)
    return [folder / "pred_vid_result.json", folder / "pred_part_result.json"]
