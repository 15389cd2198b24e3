"""`actionzoo eval`: a trained model's scores on a split."""

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_model, model_name, print_metrics
from .data import add_data, read_task
from .pcf import evaluate_parser

BATCH = 64


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of `actionzoo eval`."""
    add_data(sub)
    add_model(sub)
    sub.add_argument("--split", default="test")
    sub.add_argument("--batch-size", type=int, help=f"pictures or clips at a time (default {BATCH})")
    sub.add_argument("--output", type=Path, help="folder for scores and the PR, ROC and confusion pictures")
    sub.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> int:
    """Score a model that has weights for all of it."""
    from ..models import PCF
    from ..pipeline import whole_model
    from ..training import PeopleTask, score_task

    if args.views is not None:
        raise ValueError("--views is for training; a video is scored by the clip from its middle, so leave it out")
    name = model_name(args)
    model: Any = whole_model(name, weights=args.weights)
    if isinstance(model, PCF):
        return evaluate_parser(args, model, name)
    classes = model.pretrained_cfg.get("classes")
    task = read_task(args, model)
    if args.split not in task.splits:
        given = args.data or "the pose data"
        raise ValueError(f"{given} has no split {args.split!r}; it has {', '.join(task.splits)}")
    if isinstance(task, PeopleTask) and not task.actions and classes:
        # a network that knows actions may be scored on poses alone
        task = PeopleTask(task.sources, classes, task.name)
    result: Any = score_task(
        model,
        task,
        args.split,
        input_size=args.img_size,
        batch_size=BATCH if args.batch_size is None else args.batch_size,
        device=args.device,
        workers=args.workers,
        progress=not args.json,
    )
    if args.output is not None:
        task.report(result, args.output)
    print_metrics({"model": name, "split": args.split, **result.metrics}, args.json)
    return 0
