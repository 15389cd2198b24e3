"""ConViT's three stages one after the other: the network, a detector on its backbone, the human branch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ..data.folders import ActionSamples
from ..registry import create, model_info
from .detection import DetectionTask, check_boxes
from .fit import fit, seed_everything
from .human_branch import HumanBranchTask
from .recipes import Recipe, recipes

STAGES = ("convit", "detector", "human")


def stage_recipes(name: str) -> dict[str, Recipe]:
    """Recipes of the three stages: the paper's (section 4.2), or this library's own for `*_tiny` models.

    The human branch is trained without mixup, since blended pictures have no one person at a place.
    """
    if name.endswith("_tiny"):
        return {"convit": recipes["scratch"], "detector": recipes["detector"], "human": recipes["human_branch"]}
    paper = recipes["convit_har"]
    return {"convit": paper, "detector": paper, "human": paper.override(mixup=0.0)}


def trunk_args(convit_args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a `person_*` detector on the backbone of a ConViT with the given arguments."""
    names = {"backbone": "trunk", "backbone_args": "trunk_args"}
    return {names[key]: value for key, value in convit_args.items() if key in names}


def fit_in_stages(
    name: str,
    samples: ActionSamples,
    output: str | Path,
    *,
    stages: Mapping[str, Recipe] | None = None,
    pretrained: bool = False,
    detector_args: Mapping[str, Any] | None = None,
    human_args: Mapping[str, Any] | None = None,
    seed: int = 0,
    amp: str = "no",
    workers: int = 0,
    resume: bool = False,
    progress: bool = True,
    **model_args: Any,
) -> dict[str, dict[str, Any]]:
    """Train ConViT, then a person detector on its frozen backbone, then the human branch beside both (section 4.2).

    Each stage is a run of its own that `create("local-dir:…")` loads: `output/convit`, `output/detector` and
    `output/human`, the last one the whole network without the detector, which `pipeline` takes beside it.

    Args:
        name: `convit_har_person_resnet50` or `convit_har_person_tiny`.
        samples: Labelled files with the boxes of their people (`ActionSamples.with_boxes`).
        output: Folder to write.
        stages: Recipes by stage, `"convit"`, `"detector"` and `"human"`; those of `stage_recipes` where left out.
        pretrained: Start ConViT from its published weights: the paper's from ImageNet's backbone, the tiny one from a
            whole trained network.
        detector_args: Arguments of the detector, such as `min_size`; its trunk is the ConViT's backbone.
        human_args: Further arguments of the network with the human branch, such as `roi`.
        seed: Seed of the weights, the order and the augmentation.
        amp: `"no"`, `"bf16"` or `"fp16"`.
        workers: Processes that decode images.
        resume: Go on where an earlier call stopped; finished stages are only scored again.
        progress: Show progress bars.
        model_args: Arguments of the ConViT, such as `input_size`.

    Returns:
        The metrics of each stage.

    Raises:
        ValueError: If the name or a stage is unknown, the samples have no boxes, or the three networks do not fit
            together, such as by a backbone that the detector's `out_indices` are not meant for.
        FileExistsError: If `output` holds another run and `resume` is False.
    """
    if not name.startswith("convit_har_person") or ":" in name or "." in name:
        raise ValueError(f"expected convit_har_person_resnet50 or convit_har_person_tiny, got {name!r}")
    name = model_info(name).name
    if unknown := sorted(set(stages or {}) - set(STAGES)):
        raise ValueError(f"the stages are {', '.join(STAGES)}, got {unknown}")
    recipe = {**stage_recipes(name), **(stages or {})}
    options: dict[str, Any] = {"seed": seed, "amp": amp, "workers": workers, "resume": resume, "progress": progress}
    # refuses samples without boxes before the first epoch
    tasks: dict[str, Any] = {"detector": DetectionTask(samples), "human": HumanBranchTask(samples)}
    check_boxes(samples)
    folder, classes = Path(output), len(samples.classes)

    seed_everything(seed)
    convit = create(name.replace("_person", ""), pretrained, num_classes=classes, **model_args)
    # with those of its weights, where it has some
    model_args = cast(dict[str, Any], convit.pretrained_cfg)["model_args"]
    # all are drawn now: later, random numbers would depend on where a run was stopped
    built: dict[str, Any] = {
        "detector": create(name.removeprefix("convit_har_"), **{**trunk_args(model_args), **(detector_args or {})}),
        "human": create(name, num_classes=classes, **{**model_args, **(human_args or {})}),
    }
    for stage, model in built.items():
        # refuses what does not fit before the first epoch
        tasks[stage].check(model)
        model.load_convit(convit)
    metrics = {"convit": fit(convit, samples, recipe["convit"], folder / "convit", **options)}
    for stage, model in built.items():
        model.load_convit(convit)
        metrics[stage] = fit(model, tasks[stage], recipe[stage], folder / stage, **options)
    return metrics
