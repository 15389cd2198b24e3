"""`train` and `eval` of the part action parser, `pcf_*`."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from .arguments import print_metrics
from .parts import STAGES, part_videos, refuse_part_options, trained_pose


def train_parser(
    args: argparse.Namespace, blueprint: Any, convit: Any, asked: dict[str, Any], changes: dict[str, Any]
) -> int:
    """Train the stages of a `pcf_*` model.

    Args:
        args: Parsed arguments of `train`.
        blueprint: A model of the kind asked for.
        convit: The trained ConViT whose backbone the detectors take over and leave as it is; None for none.
        asked: Arguments of the model.
        changes: Fields of the recipes.

    Raises:
        ValueError: If the arguments do not go together.
    """
    from .. import create
    from ..training import train_pcf
    from ..training._pcf_stages import PLACES
    from ..training.fit import seed_everything

    refuse_part_options(args, "pcf_* model", ("parts", "groups"))
    if args.img_size is not None:
        raise ValueError("a pcf_* model's networks have sizes of their own; see --model-args")
    placed = _placed(args, blueprint)
    trained = {place: stage for stage, place in PLACES.items()} | {"pose": "pose"}
    taken = {trained[key] for key in placed}
    stages = [stage for stage in STAGES if args.stage in (None, "all", stage) and stage not in taken]
    if not stages:
        raise ValueError(f"--stage {args.stage} trains what is given trained already; leave one of the two out")
    recipes = _stage_recipes(args, blueprint, stages, changes)
    splits, name = part_videos(args, args.val_fraction > 0)
    settings = _settings(args, blueprint, convit, placed)
    seed_everything(args.seed)
    count = len(splits["train"].classes)
    model: Any = create(args.model, weights=args.weights, num_classes=count, **{**settings, **asked})
    given = (taken | _loaded(model)) - set(stages)
    if "parts" in stages and "pose" not in given:
        raise ValueError("body parts are looked for in people with pose dots; give a trained pose net as --pose")
    for key, part in placed.items():
        setattr(model, key, part)
    for key in ("person_detector", "part_detector"):
        if convit is not None and key not in placed:
            getattr(model, key).load_convit(convit)
    metrics = train_pcf(
        model,
        splits,
        args.output,
        name=name,
        stages=stages,
        given=given,
        stage_recipes=recipes,
        pretrained=args.pretrained,
        csn_weights=args.csn_weights,
        freeze_trunks=convit is not None,
        frames_per_video=1 if args.frames_per_video is None else args.frames_per_video,
        segments_per_video=args.segments_per_video,
        seed=args.seed,
        amp=args.amp,
        workers=args.workers,
        resume=args.resume,
        card={"command": f"actionzoo {shlex.join(sys.argv[1:])}"},
        progress=not args.json,
    )
    if int(os.environ.get("RANK", "0")) == 0:  # under torchrun, one of many speaks
        _print(metrics, args.json)
    return 0


def _placed(args: argparse.Namespace, blueprint: Any) -> dict[str, Any]:
    """Trained parts that options give.

    The pose net is that of an earlier stage in `--output`, or the bundled one where there is one, unless weights of
    the parser bring it.
    """
    from .. import model_info
    from ..pipeline import whole_model

    placed: dict[str, Any] = {}
    for key in ("person_detector", "part_detector"):
        if (name := getattr(args, key)) is not None:
            placed[key] = whole_model(name)
    pose = args.pose
    if pose is None and not args.weights and ":" not in args.model and "." not in args.model:
        own, kept = blueprint.pose.pretrained_cfg["architecture"], args.output / "pose"
        if (kept / "config.json").exists():
            placed["pose"] = trained_pose(f"local-dir:{kept}")
            return placed
        pose = own if any(w.covers == "model" and w.source == "bundled" for w in model_info(own).weights) else None
    if pose is not None:
        placed["pose"] = trained_pose(pose)
    return placed


def _loaded(model: Any) -> set[str]:
    """Stages, and the pose net, of whose networks all weights were loaded with the model."""
    from ..training._pcf_stages import PLACES

    fresh = (*model.load_report.random, *model.load_report.reheaded)
    found = {
        stage
        for stage, place in {**PLACES, "pose": "pose"}.items()
        if not any(f"{name}.".startswith(f"{place}.") for name in fresh)
    }
    return found - (set() if model.labeler is not None else {"states"})


def _settings(args: argparse.Namespace, blueprint: Any, convit: Any, placed: dict[str, Any]) -> dict[str, Any]:
    """Arguments with which a parser has room for what is given."""
    from ..training.convit import trunk_args

    settings: dict[str, Any] = {} if args.seconds is None else {"seconds": args.seconds}
    if "pose" in placed:
        # the dots are painted by the order of its joints
        own = placed["pose"].pretrained_cfg
        settings |= {"pose": own["architecture"], "pose_args": dict(own["model_args"])}
    if convit is not None:
        trunk = trunk_args(convit.pretrained_cfg["model_args"])
        for key in ("person_detector", "part_detector"):
            settings[f"{key}_args"] = {**getattr(blueprint, key).pretrained_cfg["model_args"], **trunk}
    return settings


def _stage_recipes(
    args: argparse.Namespace, blueprint: Any, stages: Sequence[str], changes: dict[str, Any]
) -> dict[str, Any]:
    """The recipe of every stage to train, with the fields that were asked for."""
    from ..training import FramePeopleTask, PartDetectionTask, SegmentTask, pcf_recipes, recipes

    chosen = pcf_recipes(blueprint.pretrained_cfg["architecture"])
    if args.recipe is not None:
        if len(stages) > 1:
            raise ValueError("every stage has a recipe of its own; give --recipe with the --stage that it is for")
        if args.recipe not in recipes:
            raise ValueError(f"unknown recipe {args.recipe!r}; there are {', '.join(recipes)}")
        chosen[stages[0]] = recipes[args.recipe]
    tasks = {"people": FramePeopleTask, "parts": PartDetectionTask, "video": SegmentTask, "states": SegmentTask}
    unused = frozenset.intersection(*[tasks[stage].unused_fields for stage in stages])
    if ignored := sorted(changes.keys() & unused):
        raise ValueError(f"training {', '.join(stages)} takes no notice of {', '.join(ignored)}; leave it out")
    return {stage: chosen[stage].override(**changes) for stage in stages}


def _print(metrics: dict[str, Any], as_json: bool) -> None:
    """The whole's metrics one a line, after those of the stages, one stage a line."""
    if as_json:
        print(json.dumps(metrics))
        return
    whole = {key: value for key, value in metrics.items() if key not in STAGES}
    for stage in STAGES:
        if stage in metrics:
            print(f"{stage:<14} {json.dumps(metrics[stage])}")
    if missing := whole.pop("missing", None):
        print(f"not there yet: {', '.join(missing)}; train them into the same --output, and the whole is put together")
    print_metrics(whole, False)


def evaluate_parser(args: argparse.Namespace, model: Any, name: str) -> int:
    """Score a `pcf_*` model, and write its predictions in the challenge's form where `--output` says.

    Args:
        args: Parsed arguments of `eval`.
        model: The model.
        name: What it is called.

    Raises:
        ValueError: If the arguments do not go together.
    """
    from ..metrics import write_part_predictions
    from ..training import evaluate_parts
    from ..training.tasks import write_metrics

    refuse_part_options(args, "pcf_* model in scoring", ("pose", "seconds", "frames_per_video", "segments_per_video"))
    if args.img_size is not None:
        raise ValueError("a pcf_* model's networks have sizes of their own; leave --img-size out")
    unused = {"--batch-size": args.batch_size is not None, "--workers": args.workers != 0}
    if given := [option for option, is_given in unused.items() if is_given]:
        raise ValueError(f"{', '.join(given)}: a pcf_* model is scored one video at a time; leave it out")
    splits, _ = part_videos(args, only=args.split)
    result = evaluate_parts(model, splits[args.split], device=args.device, progress=not args.json)
    if args.output is not None:
        write_part_predictions(args.output, result.prediction)
        write_metrics(args.output / "metrics.json", result.metrics)
    print_metrics({"model": name, "split": args.split, **result.metrics}, args.json)
    return 0
