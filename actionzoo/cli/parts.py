"""What `train` and `eval` need for part-level action parsing: its videos, and its networks one by one."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .clips import FIGURES

LENGTH, FRAMES, SIZE, RATE = 300, 128, 128, 8.0
"""Clips of figures for training, their frames, the side of their pictures, and frames per second."""
FEWEST, MOST = 4, 100
"""Clips for testing: a tenth of those for training, but not less or more. Parsing one takes seconds."""
STAGES = ("people", "parts", "video", "states")
SPLITS = ("train", "val", "test")
TRUTH = "gt_vid_result.json"

_SHARED = ("pose", "seconds", "frames_per_video", "segments_per_video", "clip_frames", "clip_size", "fps")
_TRAINING = ("stage", "parts", "groups", "person_detector", "part_detector", "csn_weights")
_OTHERS = ("root", "label", "label_map", "person_boxes", "pose_data", "pose_test", "pose_images", "fold", "val_fold",
           "cache", "views", "whole_frame", "video_rule", "detector")  # fmt: skip


def add_parts(sub: argparse.ArgumentParser) -> None:
    """Arguments that `train` and `eval` have for videos with annotated parts."""
    group = sub.add_argument_group(
        "part-level action parsing (pcf_*, its detectors yolof_*, its networks ipcsn_* and ircsn_*)",
        "--data is figures:parts, or a folder of the Kinetics-TPS challenge's form: train, val and test, each with "
        "gt_vid_result.json, gt_part_result.json and the videos",
    )
    group.add_argument("--pose", metavar="MODEL", help="trained pose net: where its joints are, dots mark the parts")
    group.add_argument("--seconds", type=float, help="length of a segment (default 3, of *_tiny models 0.75)")
    group.add_argument("--frames-per-video", type=int, help="frames of a video that a detector is shown (default 1)")
    group.add_argument(
        "--segments-per-video", type=int, help="segments of a training video that part states are learned from (all)"
    )
    group.add_argument("--clip-frames", type=int, help=f"frames of a clip of figures (default {FRAMES})")
    group.add_argument("--clip-size", type=int, help=f"side of its pictures in pixels (default {SIZE})")
    group.add_argument("--fps", type=float, help="frames per second of folders of frames (default 25)")


def add_part_training(sub: argparse.ArgumentParser) -> None:
    """Arguments that `train` alone has for them."""
    group = sub.add_argument_group("training of part-level action parsing")
    group.add_argument("--stage", choices=(*STAGES, "all"), help="stage of a pcf_* model to train (default all)")
    group.add_argument(
        "--parts", action="store_true", default=None, help="train a yolof_* model to find body parts, not people"
    )
    group.add_argument(
        "--groups",
        metavar="GROUP[,GROUP]",
        help="what an ipcsn_* model tells: action (default), head, arm, hand, hip, leg, foot, or all six part groups",
    )
    group.add_argument("--person-detector", metavar="MODEL", help="trained detector of people for a pcf_* model")
    group.add_argument("--part-detector", metavar="MODEL", help="trained detector of body parts for a pcf_* model")
    group.add_argument(
        "--csn-weights", metavar="FILE", help="IG-65M's or other weights, from which a pcf_* model's ipcsn_* start"
    )


def refuse_part_options(args: argparse.Namespace, kind: str, refused: Sequence[str] = (*_SHARED, *_TRAINING)) -> None:
    """Refuse options of part-level action parsing, or some of them, with a model that has no use for them.

    Raises:
        ValueError: If there are some.
    """
    if given := _given(args, refused):
        raise ValueError(f"{', '.join(given)} does not go with a {kind}; leave it out")


def _given(args: argparse.Namespace, names: Sequence[str]) -> list[str]:
    found = [name for name in names if getattr(args, name, None) is not None]
    return [f"--{name.replace('_', '-')}" for name in found]


def learns_from_parts(args: argparse.Namespace, model: Any) -> bool:
    """Whether the data of a model are videos with annotated parts; a detector of people may take photographs."""
    from ..models import CSN, YOLOF

    if isinstance(model, YOLOF):
        data = args.data or ""
        return data.startswith(FIGURES) or _is_challenge(data) or bool(getattr(args, "parts", None))
    return isinstance(model, CSN)


def _is_challenge(data: str) -> bool:
    return bool(data) and any((Path(data) / split / TRUTH).exists() for split in ("", *SPLITS))


def part_videos(args: argparse.Namespace, val: bool = False, only: str | None = None) -> tuple[dict[str, Any], str]:
    """The videos that `--data` names, by split, and in words.

    Args:
        args: Parsed arguments.
        val: Whether figures have a `val` split, too; folders have those that are there.
        only: The one split that is needed.

    Raises:
        ValueError: If the arguments do not go together, or there are no such videos.
        FileNotFoundError: If a video is not there.
    """
    if given := _given(args, _OTHERS):
        raise ValueError(f"{', '.join(given)} is for other models; what is known of videos of body parts is in --data")
    if not args.data:
        raise ValueError("no data: give --data figures:parts, or a folder of the Kinetics-TPS challenge's form")
    return (_figures if args.data.startswith(FIGURES) else _challenge)(args, val, only)


def _figures(args: argparse.Namespace, val: bool, only: str | None) -> tuple[dict[str, Any], str]:
    from ..data.figures import ActingFigures
    from ..data.part_videos import FigurePartVideos

    if args.data != f"{FIGURES}parts":
        raise ValueError(f"{args.data} has no states of body parts that change; give --data figures:parts")
    if args.fps is not None:
        raise ValueError(f"--fps is for folders of frames; clips of figures have {RATE:g} frames per second")
    length = LENGTH if args.length is None else args.length
    size, frames = args.clip_size or SIZE, args.clip_frames or FRAMES
    wanted = [only] if only else ["train", *(["val"] if val else []), "test"]
    counts = {split: length if split == "train" else min(max(length // 10, FEWEST), MOST) for split in wanted}
    # to annotate every frame of thousands of clips takes minutes, and what a segment shows every third one tells
    every = {"train": 3}
    splits = {
        s: FigurePartVideos(ActingFigures("parts", s, n, size, frames=frames), RATE, every.get(s, 1))
        for s, n in counts.items()
    }
    return splits, f"{args.data} {length} {size} {frames}"


def _challenge(args: argparse.Namespace, val: bool, only: str | None) -> tuple[dict[str, Any], str]:
    from ..data.part_videos import FilePartVideos
    from ..metrics import read_part_predictions

    if given := _given(args, ("length", "clip_frames", "clip_size")):
        raise ValueError(f"{', '.join(given)} says how figures are; it goes with --data figures:parts")
    if val:
        raise ValueError("--val-fraction holds out nothing of annotated videos; give --data a folder with val/")
    root, rate = Path(args.data), {} if args.fps is None else {"fps": args.fps}
    if only and (root / TRUTH).exists():
        folders = {only: root}
    else:
        names = [only] if only else SPLITS
        folders = {split: root / split for split in names if (root / split / TRUTH).exists()}
    if not folders or not (only or "train" in folders):
        raise FileNotFoundError(
            f"no such file: {root / (only or 'train') / TRUTH}; the Kinetics-TPS challenge's annotations are expected "
            "there, and the videos beside them"
        )
    found = {split: FilePartVideos(f, read_part_predictions(f, "gt"), **rate) for split, f in folders.items()}
    return found, root.name


def read_parts_task(args: argparse.Namespace, model: Any, val_fraction: float) -> Any:
    """Videos as a task for one of the parser's networks alone.

    Args:
        args: Parsed arguments.
        model: A `YOLOF` or `CSN`, or one of its kind with any classes.
        val_fraction: Anything above 0 gives figures a `val` split.

    Raises:
        ValueError: If the arguments do not go together, or not with the model.
    """
    from ..models import YOLOF
    from ..training import FramePeopleTask, PartDetectionTask

    kind, detector = type(model).__name__, isinstance(model, YOLOF)
    training = hasattr(args, "stage")
    parts = bool(args.parts) if training else detector and model.num_classes > 1
    refused = ["stage", "person_detector", "part_detector", "csn_weights"]
    if detector:
        refused += ["seconds", "segments_per_video", "groups", *([] if parts else ["pose"])]
        kind += " that finds people" if not parts else ""
    else:
        refused += ["pose", "frames_per_video", "parts"]
    refuse_part_options(args, kind, refused)
    splits, name = part_videos(args, val_fraction > 0, getattr(args, "split", None))
    if not detector:
        return _segment_task(args, model, splits, name)
    if args.img_size is not None:
        raise ValueError("a detector scales pictures itself; give --model-args min_size=… instead of --img-size")
    rules: dict[str, Any] = {
        "frames_per_video": 1 if args.frames_per_video is None else args.frames_per_video,
        "freeze_trunk": getattr(args, "convit", None) is not None,
    }
    if not parts:
        return FramePeopleTask(splits, name, **rules)
    pose = None if args.pose is None else trained_pose(args.pose)
    dots = None if training else _seen_dots(model, pose)
    return PartDetectionTask(splits, name, pose=pose, dots=dots, progress=not args.json, **rules)


def _seen_dots(model: Any, pose: Any) -> Any:
    """What says how to score a detector of body parts on the pictures that it was trained for; None for as usual.

    Raises:
        ValueError: If it learned from people with joints and there is no pose net, or the other way round.
    """
    if (args := model.pretrained_cfg.get("task_args")) is None or "pose" not in args:
        return None
    if args["pose"] != (pose is not None):
        raise ValueError(
            "this detector was trained on people whose joints a pose net had found; give that pose net as --pose"
            if args["pose"]
            else "this detector was trained on people without joints; leave --pose out"
        )
    return False if pose is not None and not args["dots"] else None


def _segment_task(args: argparse.Namespace, model: Any, splits: dict[str, Any], name: str) -> Any:
    from ..training import SegmentTask
    from ..training._segment_classes import groups_of, kept_vocabulary, vocabulary_of

    seconds = 0.75 if model.pretrained_cfg.get("architecture", "").endswith("_tiny") else 3.0
    if not hasattr(args, "groups"):
        # as it was trained
        seconds = (model.pretrained_cfg.get("task_args") or {}).get("seconds", seconds)
    # frames of figures are small, and no others
    cache = not args.workers and args.data.startswith(FIGURES)
    options: dict[str, Any] = {"cache": cache, "progress": not args.json}
    options["seconds"] = seconds if args.seconds is None else args.seconds
    if hasattr(args, "groups"):
        options["segments_per_video"] = args.segments_per_video
        groups = (args.groups or "action").split(",")
        return SegmentTask(splits, None, name, groups=groups[0] if len(groups) == 1 else groups, **options)
    if known := kept_vocabulary(model.pretrained_cfg):
        return SegmentTask(splits, known[0], name, groups=known[1], **options)
    # the names of a trained network's classes tell what it was trained for
    classes = model.pretrained_cfg.get("classes") or ()
    groups = groups_of(classes)
    labeler = vocabulary_of(classes, groups) if groups else None
    return SegmentTask(splits, labeler, name, groups=groups or "action", **options)


def trained_pose(name: str) -> Any:
    """The trained pose net of that name.

    Raises:
        ValueError: If it is none.
    """
    from ..models import PoseHRNet
    from ..pipeline import whole_model

    pose = whole_model(name)
    if not isinstance(pose, PoseHRNet):
        raise ValueError(f"--pose takes a trained pose_* model; {name} is a {type(pose).__name__}")
    return pose


def class_count(task: Any) -> int:
    """Classes of a network for a task: those that it names; of a detector, people or the body parts."""
    from ..data.figures import PARTS
    from ..training import PartDetectionTask

    return len(task.classes) or (len(PARTS) if isinstance(task, PartDetectionTask) else 1)


def default_recipe(args: argparse.Namespace, model: Any) -> str | None:
    """Name of the recipe for one of the parser's networks alone; None for another model."""
    from ..models import CSN, YOLOF

    tiny = getattr(model, "pretrained_cfg", {}).get("architecture", "").endswith("_tiny")
    if isinstance(model, CSN):
        return "segments" if tiny else "pcf_csn"
    if isinstance(model, YOLOF):
        return "detector" if tiny else "pcf_parts" if args.parts else "pcf_people"
    return None
