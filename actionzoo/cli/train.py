"""`actionzoo train`: a recipe, a model and data to a folder that `create("local-dir:…")` loads."""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from .arguments import parse_pairs, print_metrics
from .clips import detector_settings, place_detector, trained_detector
from .data import add_data, read_task
from .parts import add_part_training, class_count, default_recipe
from .pcf import train_parser

STARTED = ("person_", "convit_har_person", "keypointrcnn_tiny")
"""Models that start from a trained ConViT and leave it as it is."""
ON_TRUNK = ("yolof_tiny", "pcf_tiny")
"""Models of which a part may do so."""


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of `actionzoo train`."""
    add_data(sub)
    sub.add_argument("--model", default="prfnet_tiny")
    sub.add_argument("--model-args", nargs="*", default=[], metavar="KEY=VALUE", help="arguments of the model")
    sub.add_argument("--pretrained", action="store_true", help="start from the published weights")
    sub.add_argument("--weights", help="start from this checkpoint or tag")
    sub.add_argument(
        "--convit",
        metavar="MODEL",
        help="trained ConViT that a person_*, keypointrcnn_tiny or yolof_tiny detector, those of pcf_tiny, or a "
        "convit_har_person_* model start from, and leave as it is",
    )
    sub.add_argument(
        "--detector",
        metavar="MODEL",
        help="trained keypointrcnn_* detector that an instance_action_* model is built on, and leaves as it is",
    )
    sub.add_argument(
        "--recipe",
        help="by default scratch (classifiers), people (pose and action), detector (person_*, yolof_tiny), "
        "human_branch (convit_har_person_*), instances (instance_action_*) or segments (ipcsn_tiny); or a paper's: "
        "prfnet, convit_har, bodypart, tahnet_ntu, tahnet_nucla, pcf_people, pcf_parts, pcf_csn",
    )
    sub.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="other fields of the recipe")
    sub.add_argument("--epochs", type=int)
    sub.add_argument("--batch-size", type=int)
    sub.add_argument("--lr", type=float)
    sub.add_argument("--output", type=Path, required=True, help="folder to write")
    sub.add_argument("--resume", action="store_true", help="go on with the run in --output")
    sub.add_argument("--amp", choices=("no", "bf16", "fp16"), default="no", help="mixed precision")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--val-fraction", type=float, default=0.0, help="part of train held out and scored each epoch")
    add_part_training(sub)


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say."""
    from .. import create
    from ..models import PCF, InstanceActionNet
    from ..training import fit
    from ..training.fit import seed_everything

    model_args = parse_pairs(args.model_args, "--model-args")
    if "num_classes" in model_args:
        raise ValueError("the data says how many classes there are; leave num_classes out of --model-args")
    convit, asked = _convit(args), model_args
    model_args = {**_layers_of(convit, args.model), **asked}
    blueprint = _blueprint(args.model, model_args)
    if isinstance(blueprint, PCF):
        return train_parser(args, blueprint, convit, asked, _changes(args))
    detector = trained_detector(args, blueprint)
    if detector is not None:
        model_args = {**detector_settings(detector), **asked}
        blueprint = _blueprint(args.model, model_args)
    recipe = _recipe(args, default_recipe(args, blueprint) or _default_recipe(blueprint))
    task = read_task(args, blueprint, args.seed, args.val_fraction, args.output / "features")
    if convit is not None and convit.pretrained_cfg.get("classes"):
        # its frozen classifier goes on speaking of them
        task.rename(convit.pretrained_cfg["classes"])
    ignored = sorted(parse_pairs(args.set, "--set").keys() & task.unused_fields)
    if ignored:
        raise ValueError(f"training a {type(blueprint).__name__} takes no notice of {', '.join(ignored)}; leave it out")
    classifier = getattr(blueprint, "num_classes", None) is not None
    seed_everything(args.seed)
    classes = {"num_classes": class_count(task)} if classifier else {}
    model = create(args.model, args.pretrained, weights=args.weights, **classes, **model_args)
    _start_from(model, convit, asked)
    if isinstance(model, InstanceActionNet):
        place_detector(model, detector)
    main_process = int(os.environ.get("RANK", "0")) == 0  # under torchrun, one of many speaks
    if main_process and not args.json:
        print(f"{args.model}: {task.describe()}")
    if main_process and not args.json and not args.weights and ":" not in args.model and _lacks_poses(task):
        print(
            "actionzoo: nobody in the training data has joints, so the heat maps stay random and parts are cut out "
            "anywhere; add --pose-data, or start from --weights that find joints",
            file=sys.stderr,
        )
    metrics = fit(
        model,
        task,
        recipe,
        args.output,
        input_size=args.img_size,
        seed=args.seed,
        amp=args.amp,
        workers=args.workers,
        resume=args.resume,
        card={"command": f"actionzoo {shlex.join(sys.argv[1:])}"},
        progress=not args.json,
    )
    if main_process:
        print_metrics(metrics, args.json)
    return 0


def _default_recipe(model: Any) -> str:
    from ..models import ConViTHARPerson, InstanceActionNet, KeypointDetector, PersonDetector

    if isinstance(model, PersonDetector | KeypointDetector):
        return "detector"
    if isinstance(model, InstanceActionNet):
        return "instances"
    if isinstance(model, ConViTHARPerson):
        return "human_branch"
    return "people" if hasattr(model, "heatmap_stride") else "scratch"


def _convit(args: argparse.Namespace) -> Any:
    """The trained ConViT asked for; a model that stays random where it is frozen is refused."""
    from ..models import ConViTHAR
    from ..pipeline import whole_model

    frozen = args.model.startswith(STARTED)
    if args.convit is None:
        if frozen and not (args.weights or args.pretrained or "." in args.model):
            raise ValueError(
                f"{args.model} is trained on a frozen ConViT, which would be random; give a trained one as --convit, "
                "or whole weights as --weights"
            )
        return None
    if not frozen and not args.model.startswith(ON_TRUNK):
        raise ValueError(
            "--convit is for --model person_*, keypointrcnn_tiny and convit_har_person_*, or yolof_tiny and pcf_tiny, "
            f"not {args.model}"
        )
    convit = whole_model(args.convit)
    if not isinstance(convit, ConViTHAR):
        raise ValueError(f"--convit takes a trained convit_har_* model; {args.convit} is a {type(convit).__name__}")
    return convit


def _layers_of(convit: Any, name: str) -> dict[str, Any]:
    """Arguments with which a model of that name has the layers of the ConViT that it starts from."""
    from ..training.convit import trunk_args

    # those of a pcf_* model's detectors lie deeper
    own = {} if convit is None or name.startswith("pcf") else convit.pretrained_cfg["model_args"]
    return own if name.startswith("convit_har_person") else trunk_args(own)


def _start_from(model: Any, convit: Any, asked: dict[str, Any]) -> None:
    """Put the trained ConViT in its place; a part that would be random and stay so is refused."""
    from ..models import ConViTHARPerson, KeypointDetector, PersonDetector

    if convit is not None:
        model.load_convit(convit)
        if isinstance(model, ConViTHARPerson):
            # pictures as it was trained on
            sizes = () if "input_size" in asked else ("input_size", "test_input_size")
            keys = (*sizes, "mean", "std", "interpolation")
            own = convit.pretrained_cfg
            model.pretrained_cfg.update({key: own[key] for key in keys if key in own})
        return
    left = model.load_report.random
    frozen = {ConViTHARPerson: "convit.", PersonDetector: "backbone.trunk."}.get(type(model))
    if isinstance(model, KeypointDetector):
        frozen = "backbone.trunk." if hasattr(model.backbone, "trunk") else "backbone.body."
    random = [name for name in left if frozen and (f"{name}.".startswith(frozen) or frozen.startswith(f"{name}."))]
    if random:
        raise ValueError(
            f"{', '.join(random)} of this {type(model).__name__} would be frozen at random values; "
            + ("start from --pretrained" if frozen == "backbone.body." else "give a trained ConViT as --convit")
        )


def _lacks_poses(task: Any) -> bool:
    from ..data import FolderPeople
    from ..training import PeopleTask

    if not isinstance(task, PeopleTask) or "train" not in task.sources:
        return False
    train = task.sources["train"]
    return not train.pose and all(isinstance(source, FolderPeople) for source in train.action)


def _blueprint(name: str, model_args: dict[str, Any]) -> Any:
    """A model of the kind asked for, to see what data it takes; only a saved one's own files tell."""
    import torch

    from .. import create, model_info

    if ":" in name:
        return create(name, **model_args)
    with torch.device("meta"):
        return create(model_info(name).name, **model_args)


def _recipe(args: argparse.Namespace, default: str) -> Any:
    from ..training import recipes

    name = args.recipe or default
    if name not in recipes:
        raise ValueError(f"unknown recipe {name!r}; there are {', '.join(recipes)}")
    return recipes[name].override(**_changes(args))


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of the recipe that were asked for."""
    asked = {"epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr}
    changes = {key: value for key, value in asked.items() if value is not None}
    pairs = parse_pairs(args.set, "--set")
    twice = sorted(changes.keys() & pairs.keys())
    if twice:
        raise ValueError(f"{', '.join(twice)} is given by an option of its own and by --set; give one")
    return {**changes, **pairs}
