"""`actionzoo predict`: pictures in, labels, joints and annotated copies out."""

import argparse
import glob
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .arguments import add_model, model_name

ASSETS = Path(__file__).parents[1] / "assets"
DEFAULT_PICTURE = ASSETS / "weightlifter_public_domain.jpg"
DRAWN = ("_actionzoo", "_attention")
"""What the names of annotated copies end in."""


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of `actionzoo predict`."""
    sub.add_argument("inputs", nargs="*", help="files, folders or patterns; the bundled picture if none")
    add_model(sub)
    sub.add_argument(
        "--boxes",
        nargs="+",
        metavar="X1,Y1,X2,Y2",
        help="where the people of a single picture are, for models that find joints (else it counts whole) or label "
        "people (else a detector finds them)",
    )
    sub.add_argument("--detector", metavar="MODEL", help="person detector of a model that labels people; none for none")
    sub.add_argument("--threshold", type=float, default=0.5, help="least score of a detected person")
    sub.add_argument("--top", type=int, default=5, help="how many actions to show")
    sub.add_argument("--output", type=Path, default=Path("."), help="folder of the annotated pictures")
    sub.add_argument("--no-draw", action="store_true", help="write no pictures")
    sub.add_argument("--attention", action="store_true", help="also write the attention heat map")
    sub.add_argument("--device", help="cpu, cuda, …")


def run(args: argparse.Namespace) -> int:
    """Label every picture; one that cannot be read is reported and does not stop the others."""
    from ..pipeline import PeoplePipeline, PersonActionPipeline, pipeline

    if args.top < 1:
        raise ValueError(f"--top is at least 1, got {args.top}")
    if args.no_draw and args.attention:
        raise ValueError("--attention writes a picture and --no-draw none; give one of them")
    files, missing = _expand(args.inputs) if args.inputs else ([DEFAULT_PICTURE], [])
    boxes = None if args.boxes is None else [_parse_box(text) for text in args.boxes]
    if boxes and len(files) > 1:
        raise ValueError(f"--boxes are those of one picture, and there are {len(files)}")
    failures = [f"{item}: no such file, no picture in it, or no match" for item in missing]
    name = model_name(args)
    detector = False if args.detector == "none" else args.detector
    pipe: Any = pipeline(name, weights=args.weights, device=args.device, detector=detector, threshold=args.threshold)
    if boxes and not isinstance(pipe, PeoplePipeline | PersonActionPipeline):
        raise ValueError(
            f"{name} takes whole pictures; --boxes are for models that find joints or label people: bodypart_*, "
            "pose_*, convit_har_person_*"
        )
    if args.boxes is None and isinstance(pipe, PersonActionPipeline) and pipe.detector is None:
        raise ValueError(f"{name} labels people and finds none: give --boxes, or a --detector such as person_tiny")
    rows, used = [], set()
    for file in files:
        try:
            result = pipe(file, boxes) if boxes else pipe(file)
            written = [] if args.no_draw else _draw(result, file, args, used)
        except (RuntimeError, OSError) as error:
            failures.append(f"{file}: {error}" if str(file) not in str(error) else str(error))
            continue
        rows.append({**result.to_dict(args.top), "written": [str(path) for path in written]})
        if not args.json:
            _print_result(file, result, args.top, written)
    if args.json:
        print(json.dumps(rows, indent=1))
    for failure in failures:
        print(f"actionzoo: {' '.join(failure.split())}", file=sys.stderr)
    return 1 if failures else 0


def _parse_box(text: str) -> list[float]:
    try:
        x1, y1, x2, y2 = (float(value) for value in text.split(","))
    except ValueError:
        raise ValueError(f"a box is X1,Y1,X2,Y2 in pixels without spaces, got {text!r}") from None
    return [x1, y1, x2, y2]


def _expand(inputs: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Files of the given files, folders and patterns, and what matched nothing."""
    from ..data.folders import find_images

    files, missing = [], []
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            # not the annotated copies that an earlier call left in the folder
            found = [p for p in find_images(path) if not p.stem.endswith(DRAWN)]
        else:
            found = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(item, recursive=True))]
        files += found
        if not found:
            missing.append(item)
    return list(dict.fromkeys(files)), missing


def _print_result(file: Path, result: Any, top: int, written: list[Path]) -> None:
    print(file.name if file.is_relative_to(ASSETS) else file)
    for number, person in enumerate(result.people, 1):
        facts = []
        if person.keypoints:
            scores = [score for _, _, score in person.keypoints]
            facts.append(f"{person.joints_seen} of {len(scores)} joints, mean score {_mean(scores):.2f}")
        if person.detection is not None:
            facts.append(f"found with {person.detection:.0%} at {', '.join(f'{v:.0f}' for v in person.box)}")
        print(f"  person {number}{': ' if facts else ''}{'; '.join(facts)}")
        _print_top(person.top(result.classes, top), "    ")
    if not result.classes and not result.people:
        print("  nobody found")
    if result.image_only:
        print("  nobody to label; the image as a whole:")
    if not result.people or result.image_only:
        _print_top(result.top(top), "  ")
    for path in written:
        print(f"  wrote {path}")


def _print_top(top: Sequence[tuple[str, float]], indent: str) -> None:
    for rank, (label, score) in enumerate(top, 1):
        print(f"{indent}{rank}  {label:<24} {100 * score:5.1f} %")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _draw(result: Any, file: Path, args: argparse.Namespace, used: set[Path]) -> list[Path]:
    from .._checkpoint import atomic_path

    pictures = [(DRAWN[0], result.draw(args.top))]
    if args.attention:
        pictures.append((DRAWN[1], result.draw_attention()))
    args.output.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, picture in pictures:
        path, number = args.output / f"{file.stem}{suffix}.jpg", 1
        while path in used:  # two inputs of one name from different folders
            number += 1
            path = args.output / f"{file.stem}_{number}{suffix}.jpg"
        used.add(path)
        with atomic_path(path) as temporary:
            picture.save(temporary, "JPEG", quality=92)
        written.append(path)
    return written
