"""What `train` and `eval` need for models that label the people of clips: their data, and their detector."""

import argparse
from pathlib import Path
from typing import Any

FIGURES = "figures:"
LENGTH = 1000


def add_clips(sub: argparse.ArgumentParser) -> None:
    """Arguments for `instance_action_*` models alone."""
    clips = sub.add_argument_group("models that label the people of clips (instance_action_*)")
    clips.add_argument("--fold", help="fold of a CSV file with the columns fold and file to test on")
    clips.add_argument("--val-fold", help="fold to hold out and score each epoch")
    clips.add_argument("--cache", metavar="DIR", help="folder of pooled features, made where they are missing")
    clips.add_argument(
        "--views", type=int, help="clips of every training video, for train alone (default 4 of a file, 1 of figures)"
    )
    clips.add_argument(
        "--whole-frame",
        action="store_true",
        default=None,
        help="let the whole frame stand for the people of a clip in which nobody is found",
    )
    clips.add_argument(
        "--video-rule",
        choices=("score", "area", "mean"),
        help="how a video is labelled: by its surest person (default), its largest, or the mean of all",
    )


def refuse_clip_options(args: argparse.Namespace, kind: str) -> None:
    """Refuse options of clips with a model of something else.

    Raises:
        ValueError: If there are some.
    """
    options = ("fold", "val_fold", "cache", "views", "whole_frame", "video_rule")
    if given := [f"--{name.replace('_', '-')}" for name in options if getattr(args, name) is not None]:
        raise ValueError(f"{', '.join(given)} is for models that label the people of clips, not a {kind}")


def read_clips_task(args: argparse.Namespace, model: Any, seed: int, val_fraction: float, cache: Path | None) -> Any:
    """Clips of figures, of class folders or of a table, as a task for an `InstanceActionNet`.

    Args:
        args: Parsed arguments.
        model: The model, or one of its kind with any classes: its frames, stride and detector.
        seed: Seed of the held-out part and of the views.
        val_fraction: Part of the training videos to hold out.
        cache: Folder of pooled features where `--cache` names none; one for the time being if None.

    Raises:
        ValueError: If the arguments do not go together, or not with the model.
        FileNotFoundError: If something that they name is not there.
    """
    from ..training import instance_figures_task, instance_videos_task

    others = [f"--{name.replace('_', '-')}" for name in ("pose_data", "pose_test", "pose_images", "person_boxes")
              if getattr(args, name)]  # fmt: skip
    if others:
        raise ValueError(f"a {type(model).__name__} finds people itself, and learns no joints; leave out {others[0]}")
    if args.img_size is not None:
        raise ValueError("a detector scales frames itself; give --model-args detector_args=\"{'min_size': …}\"")
    if not args.data:
        raise ValueError("no data: give --data figures:TASK, a folder SPLIT/CLASS/*.mp4 or a CSV file of videos")
    figures = args.data.startswith(FIGURES)
    options: dict[str, Any] = {
        "cache": args.cache or cache,
        "views": (1 if figures else 4) if args.views is None else args.views,
        "rule": args.video_rule or "score",
        "whole_frame": bool(args.whole_frame),
        "seed": seed,
        "device": getattr(args, "device", None),
        "workers": args.workers,
        "progress": not args.json,
    }
    if not figures:
        if args.length is not None:
            raise ValueError("--length is a number of figures; it goes with --data figures:…")
        samples = _videos(args).hold_out(val_fraction, seed)
        return instance_videos_task(samples, model.frames, model.stride, **options)
    labelled = ("root", "label", "label_map", "fold", "val_fold")
    if given := [f"--{name.replace('_', '-')}" for name in labelled if getattr(args, name) is not None]:
        raise ValueError(f"{', '.join(given)} says something of labelled videos, which --data does not give")
    length, size = LENGTH if args.length is None else args.length, model.detector.transform.min_size[-1]
    return instance_figures_task(
        args.data.removeprefix(FIGURES),
        frames=model.frames,
        stride=model.stride,
        length=length,
        size=size,
        val=val_fraction > 0,
        **options,
    )


def _videos(args: argparse.Namespace) -> Any:
    """The labelled video files of a folder or a table."""
    from ..data import read_clips_folder, read_clips_table
    from .data import relabel

    if Path(args.data).is_dir():
        if given := [f"--{n.replace('_', '-')}" for n in ("root", "label", "fold", "val_fold") if getattr(args, n)]:
            raise ValueError(f"{', '.join(given)} belongs to a CSV file; a folder's splits and classes are its folders")
        samples = read_clips_folder(args.data)
    else:
        label = args.label or "class"
        samples = read_clips_table(args.data, args.root, label=label, fold=args.fold, val_fold=args.val_fold)
    return relabel(samples, args.label_map)


def trained_detector(args: argparse.Namespace, blueprint: Any) -> Any:
    """The trained detector that a model is to be built on; None where its weights bring one, or it has none.

    Args:
        args: Parsed arguments of `train`.
        blueprint: A model of the kind asked for.

    Raises:
        ValueError: If the detector would be random, is no detector, or the model has none.
    """
    from .. import model_info
    from ..models import InstanceActionNet, KeypointDetector
    from ..pipeline import whole_model

    if not isinstance(blueprint, InstanceActionNet):
        if args.detector:
            raise ValueError(f"--detector is for instance_action_* models, not {args.model}")
        return None
    name = args.detector
    if name is None:
        if args.weights or args.pretrained or "." in args.model or ":" in args.model:
            return None
        name = blueprint.detector.pretrained_cfg["architecture"]
        if not any(w.covers == "model" and w.source == "bundled" for w in model_info(name).weights):
            raise ValueError(
                f"{args.model} is trained on a frozen detector, which would be random; give a trained one as "
                "--detector, whole weights as --weights, or --pretrained where a detector's are published"
            )
    detector = whole_model(name)
    if not isinstance(detector, KeypointDetector):
        raise ValueError(f"--detector takes a trained keypointrcnn_* model; {name} is a {type(detector).__name__}")
    return detector


def detector_settings(detector: Any) -> dict[str, Any]:
    """Arguments with which an `InstanceActionNet` has a detector like that one."""
    config = detector.pretrained_cfg
    return {"detector": config["architecture"], "detector_args": dict(config["model_args"])}


def place_detector(model: Any, detector: Any) -> None:
    """Put a trained detector in its place; one that would be random and stay so is refused.

    Raises:
        ValueError: If it does not fit, or there is none.
    """
    from ..models._share import copy_state

    if detector is None:
        if random := [name for name in model.load_report.random if f"{name}.".startswith("detector.")]:
            raise ValueError(
                f"{', '.join(random)} of this {type(model).__name__} would be frozen at random values; give a trained "
                "detector as --detector"
            )
        return
    copy_state(detector, model.detector, f"this {type(model).__name__}'s detector")
