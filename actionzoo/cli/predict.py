"""`actionzoo predict`: pictures and clips in, labels, joints and annotated copies out."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import parts_predict, predict_clips
from .arguments import DEFAULT_CLIP_MODEL, DEFAULT_MODEL, add_model, model_name, print_top
from .predict_inputs import Input, expand, free_paths

ASSETS = Path(__file__).parents[1] / "assets"
DEFAULT_PICTURE = ASSETS / "weightlifter_public_domain.jpg"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of `actionzoo predict`."""
    sub.add_argument(
        "inputs",
        nargs="*",
        help="files, folders or patterns; a camera's number, - for a pipe, an address; the bundled picture if none",
    )
    add_model(sub, clips=True)
    sub.add_argument(
        "--boxes",
        nargs="+",
        metavar="X1,Y1,X2,Y2",
        help="where the people of a single picture are, for models that find joints (else it counts whole) or label "
        "people (else a detector finds them)",
    )
    sub.add_argument("--detector", metavar="MODEL", help="person detector of a model that labels people; none for none")
    sub.add_argument(
        "--threshold",
        type=float,
        help="least score of a detected person (default 0.5; of a model of clips, its own); below 0.05 it changes "
        "nothing, as detectors give nobody there",
    )
    sub.add_argument("--top", type=int, default=5, help="how many actions to show")
    sub.add_argument("--output", type=Path, default=Path("."), help="folder of what is written")
    sub.add_argument("--no-draw", action="store_true", help="write no pictures and videos")
    sub.add_argument("--no-write", action="store_true", help="write nothing, no JSON lines of clips either")
    sub.add_argument("--attention", action="store_true", help="also write the attention heat map of a picture")
    sub.add_argument("--device", help="cpu, cuda, …")
    predict_clips.add_arguments(sub.add_argument_group("clips"))
    parts_predict.add_arguments(sub.add_argument_group("clips whose parts are parsed"))


def run(args: argparse.Namespace) -> int:
    """Label every picture or clip; one that cannot be read is reported and does not stop the others."""
    from ..pipeline import ClipActionPipeline, PartParsingPipeline, pipeline

    _check_options(args)
    default = [Input(DEFAULT_PICTURE, "picture", True)], []
    inputs, missing = expand(args.inputs, args.frames_folder) if args.inputs else default
    boxes = None if args.boxes is None else [_parse_box(text) for text in args.boxes]
    if boxes and len(inputs) > 1:
        raise ValueError(f"--boxes are those of one picture, and there are {len(inputs)}")
    failures = [f"{item}: no such file, nothing to label in it, or no match" for item in missing]
    clips = any(item.named and item.kind == "clip" for item in inputs)
    clips = clips or (bool(inputs) and all(item.kind == "clip" for item in inputs))
    name = model_name(args, clips)
    pipe: Any = pipeline(
        name,
        weights=args.weights,
        device=args.device,
        detector=False if args.detector == "none" else args.detector,
        threshold=args.threshold,
        stride=args.stride,
        hop=args.hop,
    )
    _check_fit(pipe, name, inputs, boxes, args)
    clip_kinds: dict[type, Any] = {ClipActionPipeline: predict_clips, PartParsingPipeline: parts_predict}
    of_clips, parsed, rows, used, interrupted = clip_kinds.get(type(pipe)), [], [], set(), False
    for source in (item.source for item in inputs if item.kind in (None, "clip" if of_clips else "picture")):
        if interrupted:
            break
        try:
            if of_clips:
                with predict_clips.interruptible(source) as stop:
                    try:
                        result, written = of_clips.label(pipe, source, args, used, stop)
                    finally:
                        interrupted = stop()
            else:
                result = pipe(source, boxes) if boxes else pipe(source)
                written = [] if args.no_draw or args.no_write else _draw(result, source, args, used)
        except (RuntimeError, OSError) as error:
            failures.append(f"{source}: {error}" if str(source) not in str(error) else str(error))
            continue
        if args.challenge is not None:
            parsed.append(result)
        rows.append({**result.to_dict(args.top), "written": [str(path) for path in written]})
        if not args.json:
            print(source.name if isinstance(source, Path) and source.is_relative_to(ASSETS) else source)
            (of_clips.print_result if of_clips else _print_result)(result, args.top)
            for path in written:
                print(f"  wrote {path}")
    challenge = [] if args.challenge is None else parts_predict.write_challenge(parsed, args.challenge)
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        print(*(f"wrote {path}\n" for path in challenge), sep="", end="")
    for failure in failures:
        print(f"actionzoo: {' '.join(failure.split())}", file=sys.stderr)
    if interrupted:
        raise KeyboardInterrupt
    return 1 if failures else 0


def _check_options(args: argparse.Namespace) -> None:
    """Refuse what is out of range, or does not go together, before anything is loaded."""
    if args.top < 1:
        raise ValueError(f"--top is at least 1, got {args.top}")
    if args.attention and (args.no_draw or args.no_write):
        given = "--no-draw" if args.no_draw else "--no-write"
        raise ValueError(f"--attention writes a picture and {given} none; give one of them")
    predict_clips.check(args)


def _check_fit(pipe: Any, name: str, inputs: Sequence[Input], boxes: Any, args: argparse.Namespace) -> None:
    """Refuse inputs and options that the model has no use for."""
    from ..pipeline import ClipActionPipeline, PartParsingPipeline, PeoplePipeline, PersonActionPipeline

    takes, other, fitting = "picture", "clip", f"a model of clips such as {DEFAULT_CLIP_MODEL}"
    if not isinstance(pipe, PartParsingPipeline):
        parts_predict.refuse(args, name)
    if isinstance(pipe, ClipActionPipeline | PartParsingPipeline):
        takes, other, fitting = "clip", "picture", f"a model of pictures such as {DEFAULT_MODEL}"
    else:
        predict_clips.refuse(args, name)
    wrong = [item for item in inputs if item.kind == other]
    if any(item.named for item in wrong) or (wrong and len(wrong) == len(inputs)):
        first = next((item for item in wrong if item.named), wrong[0])
        raise ValueError(f"{first.source} is a {other}, and {name} takes {takes}s; give it to {fitting} with --model")
    if boxes and not isinstance(pipe, PeoplePipeline | PersonActionPipeline):
        raise ValueError(
            f"{name} takes whole {takes}s; --boxes are for models that find joints or label people in pictures: "
            "bodypart_*, pose_*, convit_har_person_*"
        )
    if args.boxes is None and isinstance(pipe, PersonActionPipeline) and pipe.detector is None:
        raise ValueError(f"{name} labels people and finds none: give --boxes, or a --detector such as person_tiny")
    if args.attention and takes == "clip":
        raise ValueError("--attention is of pictures; a clip is written with its people and their actions")
    if isinstance(pipe, PartParsingPipeline):
        parts_predict.prepare(pipe, inputs, args)


def _parse_box(text: str) -> list[float]:
    try:
        x1, y1, x2, y2 = (float(value) for value in text.split(","))
    except ValueError:
        raise ValueError(f"a box is X1,Y1,X2,Y2 in pixels without spaces, got {text!r}") from None
    return [x1, y1, x2, y2]


def _print_result(result: Any, top: int) -> None:
    for number, person in enumerate(result.people, 1):
        facts = []
        if person.keypoints:
            scores = [score for _, _, score in person.keypoints]
            facts.append(f"{person.joints_seen} of {len(scores)} joints, mean score {_mean(scores):.2f}")
        if person.detection is not None:
            facts.append(f"found with {person.detection:.0%} at {', '.join(f'{v:.0f}' for v in person.box)}")
        print(f"  person {number}{': ' if facts else ''}{'; '.join(facts)}")
        print_top(person.top(result.classes, top), "    ")
    if not result.classes and not result.people:
        print("  nobody found")
    if result.image_only:
        print("  nobody to label; the image as a whole:")
    if not result.people or result.image_only:
        print_top(result.top(top), "  ")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _draw(result: Any, file: Any, args: argparse.Namespace, used: set[Path]) -> list[Path]:
    from .._checkpoint import atomic_path

    pictures = [result.draw(args.top)]
    if args.attention:
        pictures.append(result.draw_attention())
    endings = ("_actionzoo.jpg", "_attention.jpg")[: len(pictures)]
    paths = free_paths(args.output, file.stem, endings, used)
    for path, picture in zip(paths, pictures):
        with atomic_path(path) as temporary:
            picture.save(temporary, "JPEG", quality=92)
    return paths
