"""`actionzoo eval`: a trained model's scores on a split."""

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_model, model_name, print_metrics
from .data import add_data, read_task


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of `actionzoo eval`."""
    add_data(sub)
    add_model(sub)
    sub.add_argument("--split", default="test")
    sub.add_argument("--batch-size", type=int, default=64)
    sub.add_argument("--output", type=Path, help="folder for scores and the PR, ROC and confusion pictures")
    sub.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> int:
    """Score a model that has weights for all of it."""
    from torch.utils.data import DataLoader

    from ..pipeline import whole_model
    from ..training import PeopleTask, recipes

    name = model_name(args)
    model: Any = whole_model(name, weights=args.weights)
    cfg = dict(model.pretrained_cfg)
    size = cfg.get("test_input_size") or cfg["input_size"]
    if args.img_size is not None:
        size = (size[0], args.img_size, args.img_size)
    cfg["input_size"] = cfg["test_input_size"] = size
    task = read_task(args, model)
    if args.split not in task.splits:
        given = args.data or "the pose data"
        raise ValueError(f"{given} has no split {args.split!r}; it has {', '.join(task.splits)}")
    if isinstance(task, PeopleTask) and not task.actions and cfg.get("classes"):
        # a network that knows actions may be scored on poses alone
        task = PeopleTask(task.sources, cfg["classes"], task.name)
    if cfg.get("classes"):
        # before the check: data with some of the model's classes will do
        task.rename(cfg["classes"])
    task.check(model)
    task.configure(cfg, recipes["scratch"].override(crop_pct=cfg.get("crop_pct", 1.0)))
    dataset = task.dataset(args.split, train=False)
    loader = DataLoader(dataset, args.batch_size, num_workers=args.workers, collate_fn=task.collate)
    result = task.score(model.to(args.device), loader, args.device, not args.json)
    if args.output is not None:
        task.report(result, args.output)
    print_metrics({"model": name, "split": args.split, **result.metrics}, args.json)
    return 0
