"""The data arguments of `train` and `eval`, and the task that they name."""

import argparse
import json
from pathlib import Path
from typing import Any

from .clips import FIGURES, add_clips, read_clips_task, refuse_clip_options
from .clips import LENGTH as CLIPS
from .parts import LENGTH as PARTS
from .parts import add_parts, learns_from_parts, read_parts_task, refuse_part_options

LENGTH = 6000


def add_data(sub: argparse.ArgumentParser) -> None:
    """Arguments that say what to train or score a model on."""
    sub.add_argument(
        "--data",
        help="pictures or, for instance_action_* models, clips: folder SPLIT/CLASS/*, CSV file with columns split and "
        "file, or figures:TASK[+TASK]",
    )
    sub.add_argument("--root", help="folder of a CSV file's pictures or clips")
    sub.add_argument("--label", help="label column of a CSV file")
    sub.add_argument("--label-map", metavar="FILE.json", help="JSON object class -> new class; or ppmi12, ppmi2")
    sub.add_argument(
        "--person-boxes", metavar="FILE.csv", help="boxes of the people in the pictures of --data, one row per picture"
    )
    sub.add_argument(
        "--length",
        type=int,
        help=f"figures of each task for training (default {LENGTH}; {LENGTH // 2} for keypointrcnn_* models, {CLIPS} "
        f"clips for instance_action_* models, {PARTS} for part-level action parsing); a tenth is for testing",
    )
    sub.add_argument(
        "--pose-data",
        metavar="FILE.json",
        help="people with joints for training: MPII's or COCO's file; "
        "for keypointrcnn_* models figures:TASK[+TASK] beside the photographs of --data",
    )
    sub.add_argument("--pose-test", metavar="FILE.json", help="likewise for testing")
    sub.add_argument("--pose-images", metavar="DIR", help="folder of their pictures")
    sub.add_argument("--img-size", type=int, help="side of the crops in pixels")
    sub.add_argument("--workers", type=int, default=0, help="processes that decode pictures or clips")
    add_clips(sub)
    add_parts(sub)


def read_task(
    args: argparse.Namespace, model: Any, seed: int = 0, val_fraction: float = 0.0, features: Path | None = None
) -> Any:
    """What the arguments of `add_data` name, as a task that a model can be trained for or scored on.

    Args:
        args: Parsed arguments.
        model: The model, or one of its kind with any classes: whether it finds joints, in which order, and its size.
        seed: Seed of the held-out part.
        val_fraction: Part of the labelled training pictures to hold out; of figures there are always more.
        features: Folder of pooled features of clips where `--cache` names none.

    Raises:
        ValueError: If the arguments do not go together, or not with the model.
        FileNotFoundError: If something that they name is not there.
    """
    from ..models import YOLOF, ConViTHARPerson, InstanceActionNet, KeypointDetector, PersonDetector
    from ..training import DetectionTask, HumanBranchTask, ImageTask, annotated_task, figures_task

    kind = type(model).__name__
    finds_joints, learns_actions = hasattr(model, "heatmap_stride"), getattr(model, "num_classes", None) is not None
    figures = (args.data or "").startswith(FIGURES)
    if not 0 <= val_fraction < 1:
        raise ValueError(f"--val-fraction is a part of train, at least 0 and below 1, got {val_fraction}")
    if learns_from_parts(args, model):
        return read_parts_task(args, model, val_fraction)
    refuse_part_options(args, kind)
    if isinstance(model, InstanceActionNet):
        return read_clips_task(args, model, seed, val_fraction, features)
    refuse_clip_options(args, kind)
    if isinstance(model, KeypointDetector):
        return _keypoint_task(args, model, seed, val_fraction)
    _check(args, figures)
    if finds_joints and args.person_boxes:
        raise ValueError(f"{kind} takes every picture as one person; --person-boxes is for classifiers of pictures")
    if not finds_joints and (figures or args.pose_data or args.pose_test):
        raise ValueError(f"{kind} finds no joints; joints and figures are for models that do: bodypart_*, pose_*")
    layout = model.pretrained_cfg.get("joints")
    if finds_joints and layout is None:
        raise ValueError(
            f"the joints of this {kind} are in neither MPII's order (16) nor COCO's (17), one of which data comes in"
        )
    if figures:
        names, (_, height, width) = args.data.removeprefix(FIGURES), model.pretrained_cfg["input_size"]
        if not learns_actions and "+" in names:
            raise ValueError(f"{args.data} mixes poses and actions, and {kind} learns poses alone; give one set")
        size = args.img_size or max(height, width)
        length = LENGTH if args.length is None else args.length
        return figures_task(names, length=length, size=size, layout=layout, val=val_fraction > 0)
    if not learns_actions and finds_joints and args.data:
        raise ValueError(f"{kind} learns poses alone, of which labelled pictures have none; leave --data out")
    if val_fraction and not args.data:
        raise ValueError("--val-fraction holds out labelled pictures, which --data gives")
    samples = _samples(args).hold_out(val_fraction, seed) if args.data else None
    if isinstance(model, PersonDetector | ConViTHARPerson | YOLOF):
        if args.person_boxes is None:
            raise ValueError(f"{kind} learns from the boxes of people, which --person-boxes gives")
        if isinstance(model, ConViTHARPerson):
            return HumanBranchTask(samples)  # type: ignore[arg-type]
        # what nothing was taken over into has to learn
        frozen = isinstance(model, PersonDetector) or getattr(args, "convit", None) is not None
        return DetectionTask(samples, freeze_trunk=frozen)  # type: ignore[arg-type]
    if not finds_joints:
        return ImageTask(samples)  # type: ignore[arg-type]
    return annotated_task(samples, pose=_poses(args, layout), layout=layout, name=args.data or "people")


def _keypoint_task(args: argparse.Namespace, model: Any, seed: int, val_fraction: float) -> Any:
    """Figures, as `--data` or `--pose-data`, and photographs with boxes, as the other."""
    from ..training import keypoint_figures_task

    given = [value for value in (args.data, args.pose_data) if value]
    figures = [value for value in given if value.startswith(FIGURES)]
    options = [
        f"--{name.replace('_', '-')}" for name in ("pose_test", "pose_images", "label_map") if getattr(args, name)
    ]
    if options:
        raise ValueError(f"a keypointrcnn_* model takes no {options[0]}; leave it out")
    if len(figures) != 1 or (args.pose_data and args.pose_data not in figures):
        raise ValueError(
            "a keypointrcnn_* model learns joints from figures: give --data figures:TASK[+TASK], or photographs as "
            "--data with their --person-boxes and --pose-data figures:TASK[+TASK] beside them"
        )
    if args.img_size is not None:
        raise ValueError("a detector scales pictures itself; give --model-args min_size=… instead of --img-size")
    samples = None
    if args.data and not args.data.startswith(FIGURES):
        if args.person_boxes is None:
            raise ValueError(f"{args.data} has no boxes, from which a detector learns; give --person-boxes")
        samples = _samples(args).hold_out(val_fraction, seed)
    elif args.person_boxes or args.root or args.label:
        raise ValueError("--person-boxes, --root and --label say something of photographs, which --data does not give")
    length = LENGTH // 2 if args.length is None else args.length
    side = model.transform.min_size[0]
    return keypoint_figures_task(
        figures[0].removeprefix(FIGURES), samples=samples, length=length, size=side, val=val_fraction > 0
    )


def _check(args: argparse.Namespace, figures: bool) -> None:
    """Refuse options without the one that they belong to."""
    poses = [option for option in ("pose_data", "pose_test") if getattr(args, option)]
    if not args.data and not poses:
        raise ValueError("no data: give --data, --pose-data or --pose-test")
    options = ("root", "label", "label_map", "person_boxes")
    labelled = [f"--{option.replace('_', '-')}" for option in options if getattr(args, option)]
    if labelled and (figures or not args.data):
        raise ValueError(f"{', '.join(labelled)} says something of labelled pictures, which --data does not give")
    if figures and (poses or args.pose_images):
        raise ValueError("figures have joints of their own; give --data figures:… or --pose-…, not both")
    if args.length is not None and not figures:
        raise ValueError("--length is a number of figures; it goes with --data figures:…")
    if bool(poses) != bool(args.pose_images):
        raise ValueError("--pose-data and --pose-test go with --pose-images, the folder of their pictures")


def _poses(args: argparse.Namespace, layout: str) -> dict[str, Any]:
    from ..data import read_keypoints

    files = {"train": args.pose_data, "test": args.pose_test}
    return {split: read_keypoints(file, args.pose_images, layout=layout) for split, file in files.items() if file}


def _samples(args: argparse.Namespace) -> Any:
    """The labelled files that the arguments of `add_data` name."""
    from ..data.boxes import read_person_boxes
    from ..data.folders import read_samples

    samples = read_samples(args.data, args.root, args.label)
    if args.person_boxes is not None:
        data = Path(args.data)
        root = args.root or (data if data.is_dir() else data.parent)
        samples = samples.with_boxes(read_person_boxes(args.person_boxes, root))
    return relabel(samples, args.label_map)


def relabel(samples: Any, label_map: str | None) -> Any:
    """Labelled files with classes merged as a label map says, a known one's name or a file."""
    from ..data.labels import LABEL_MAPS

    if label_map is None:
        return samples
    if label_map in LABEL_MAPS:
        return samples.relabel(LABEL_MAPS[label_map])
    mapping = json.loads(Path(label_map).read_text(encoding="utf-8"))
    if not isinstance(mapping, dict):
        raise ValueError(f"{label_map} holds a {type(mapping).__name__}; expected an object class -> new class")
    return samples.relabel(mapping)
