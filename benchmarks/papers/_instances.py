"""What the studies of the instance-guided framework have in common: one run of a head on cached features."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

import actionzoo
from actionzoo.data.labelled_clips import ClipSource
from actionzoo.pipeline import whole_model
from actionzoo.training import InstanceActionTask, Recipe, fit
from actionzoo.training.fit import seed_everything


def build(detector: str, classes: int, **model_args: Any) -> Any:
    """An `instance_action_tiny` with a trained detector."""
    trained = whole_model(detector)
    config: Any = trained.pretrained_cfg
    arguments = {"detector": config["architecture"], "detector_args": dict(config["model_args"]), **model_args}
    model = actionzoo.create("instance_action_tiny", num_classes=classes, **arguments)
    model.detector.load_state_dict(trained.state_dict())
    # same values, and on every device faster
    model.detector.to(memory_format=torch.channels_last)
    return model


def train(
    folder: Path,
    sources: dict[str, ClipSource],
    classes: tuple[str, ...],
    recipe: Recipe,
    *,
    detector: str,
    seed: int,
    cache: Path,
    model_args: dict[str, Any],
    head: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train a head, or read what a finished run in the folder wrote.

    Args:
        folder: The run's folder.
        sources: Clips by split.
        classes: Their classes.
        recipe: Hyper-parameters.
        detector: Name of the trained detector.
        seed: Seed of the head's weights and of the order.
        cache: Folder of pooled features; runs whose features are the same share it.
        model_args: Arguments of the model.
        head: Folder of a run whose head to start from, but for the classifier.
        options: Arguments of `InstanceActionTask`.

    Returns:
        The run's metrics and, clip by clip, `scores` and `targets`.
    """
    if not (folder / "metrics.json").exists():
        seed_everything(seed)
        model = build(detector, len(classes), **model_args)
        if head is not None:
            state = actionzoo.create(f"local-dir:{head}").head.state_dict()
            kept = {name: x for name, x in state.items() if not name.startswith("classifier.")}
            model.head.load_state_dict({**model.head.state_dict(), **kept})
        task = InstanceActionTask(sources, classes, cache=cache, seed=0, **options)
        card = {"command": f"python {' '.join(sys.argv)}"}
        fit(model, task, recipe, folder, seed=seed, amp="bf16", resume=True, card=card)
    return {
        key: value
        for name in ("metrics", "scores")
        for key, value in json.loads((folder / f"{name}.json").read_text()).items()
    }
