"""Train the part action parser: its detectors and its channel-separated networks, each on its own (section III-A)."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.folders import SPLITS
from ..data.part_videos import PartVideos
from ..models import PCF
from ._pcf_stages import PCF_STAGES, StageTrainer
from .fit import seed_everything
from .recipes import Recipe, recipes

__all__ = ["PCF_STAGES", "pcf_recipes", "train_pcf"]


def pcf_recipes(name: str) -> dict[str, Recipe]:
    """Recipes of the four stages: the paper's (section III-A), or this library's own for `*_tiny` models."""
    if name.endswith("_tiny"):
        segments = recipes["segments"]
        # a video is one sample, and has many segments
        video = segments.override(epochs=3 * segments.epochs)
        return {"people": recipes["detector"], "parts": recipes["detector"], "video": video, "states": segments}
    names = {"people": "pcf_people", "parts": "pcf_parts", "video": "pcf_csn", "states": "pcf_csn"}
    return {stage: recipes[recipe] for stage, recipe in names.items()}


def train_pcf(
    model: PCF,
    splits: Mapping[str, PartVideos],
    output: str | Path,
    *,
    name: str = "videos",
    stages: Sequence[str] = PCF_STAGES,
    given: Collection[str] = ("pose",),
    stage_recipes: Mapping[str, Recipe] | None = None,
    pretrained: bool = False,
    csn_weights: str | os.PathLike[str] | Mapping[str, Tensor] | None = None,
    freeze_trunks: bool = False,
    frames_per_video: int = 1,
    segments_per_video: int | None = None,
    train_size: int | None = None,
    cache: bool | None = None,
    seed: int = 0,
    amp: str = "no",
    workers: int = 0,
    resume: bool = False,
    card: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train the stages of a part action parser one by one, put them together, and score the whole.

    Each stage is a run of `fit` on a network like the model's and with its weights, in a folder of its own that
    `create("local-dir:…")` loads: `output/people`, `output/parts`, `output/video`, `output/states`, or one folder for
    each part group below `output/states`. Once all of them are there, trained now, in an earlier call or given, the
    whole model is saved in `output` with its vocabulary, which is that of the training segments. The pose net is
    never trained (section III-A). What belongs to no stage, such as `seconds`, is kept in `output/settings.json`, and
    has to be the same in every call.

    Args:
        model: The parser, changed in place; for stages that are not trained its parts stay as they are.
        splits: Videos of `train`, and of `val` and `test` where there are; the whole is scored on the last of those.
        output: Folder to write.
        name: The data in words, which a resumed run must have in common with the one it goes on with.
        stages: Which of `PCF_STAGES` to train.
        given: Stages whose part of the model is trained already, and `"pose"` where the pose net is. A given pose net
            is saved in `output/pose`, where later calls find it; they may give the same one again, and no other.
        stage_recipes: Recipes by stage; those of `pcf_recipes` where left out.
        pretrained: Start the detectors from their published weights, ImageNet's of the backbone.
        csn_weights: What the channel-separated networks start from, see `CSN.load_published`; the paper takes IG-65M's.
            Their BatchNorm is frozen then (section III-A), but not with a file that this library has saved.
        freeze_trunks: Leave the trunks of the detectors as they are.
        frames_per_video: Annotated frames of every video that an epoch of the detectors shows.
        segments_per_video: See `SegmentTask`.
        train_size: See `SegmentTask`; if None 7/8 of the input, 224 of 256, but all of it for `*_tiny` models.
        cache: Keep frames in memory, see `SegmentTask`; by default those of figures, without workers. People with
            their joints are kept in any case, see `PartDetectionTask`.
        seed: Seed of order, augmentation and fresh classifiers.
        amp: `"no"`, `"bf16"` or `"fp16"`.
        workers: Processes that decode videos.
        resume: Go on where an earlier call stopped; a stage that is finished is taken from its folder.
        card: Facts for the model cards: data, licence, command and the like.
        device: Where the whole is scored, and where the pose net runs; the GPU of this process if None, or the CPU
            where there is none. The stages are trained where accelerate says.
        progress: Show progress bars.

    Returns:
        Metrics of every stage that is there by its name, those of `evaluate_parts` on the whole beside them, and
        `split`, what it was scored on; or `missing`, what is not there yet, so that there is no whole.

    Raises:
        ValueError: If a stage is unknown, the model does not fit the data, `parts` are to be trained and there is no
            pose net, a finished stage was trained on other data or otherwise, or the model's settings, such as its
            `seconds`, or the pose net are not those of the earlier calls.
        FileExistsError: If a stage's folder holds a run and `resume` is False.
    """
    _check(model, splits, stages, given)
    trainer = StageTrainer(model, dict(splits), Path(output), name, stages, given, seed, device, progress)
    trainer.check_settings()
    trainer.place_pose()
    # now: to load what an earlier call kept takes random numbers, too
    seed_everything(seed)
    if cache is None and workers:
        cache = False
    side = _train_size(model) if train_size is None else train_size
    trainer.describe_tasks(freeze_trunks, frames_per_video, segments_per_video, side, cache)
    chosen = {**pcf_recipes(_name(model)), **(stage_recipes or {})}
    # all are built now: later, random numbers would depend on where a run was stopped
    trainer.build(pretrained, csn_weights)
    trainer.keep()
    options = {"seed": seed, "amp": amp, "workers": workers, "resume": resume, "progress": progress}
    for stage in PCF_STAGES:
        trainer.run(stage, chosen[stage], {**options, "card": dict(card or {})})
    return trainer.finish({**(card or {}), "seed": seed})


def _check(model: PCF, splits: Mapping[str, PartVideos], stages: Sequence[str], given: Collection[str]) -> None:
    if not isinstance(model, PCF):
        raise TypeError(f"train_pcf takes a PCF, got a {type(model).__name__}")
    if "train" not in splits or set(splits) - set(SPLITS):
        raise ValueError(f"expected the splits train, and val and test where there are, got {', '.join(splits)}")
    known = {*PCF_STAGES, "pose"}
    if not stages or set(stages) - set(PCF_STAGES) or set(given) - known or set(stages) & set(given):
        raise ValueError(
            f"stages are some of {', '.join(PCF_STAGES)}, given are others of them and pose; got {list(stages)} and "
            f"{sorted(given)}"
        )
    classes = splits["train"].classes
    if model.num_classes != len(classes):
        raise ValueError(
            f"the model has {model.num_classes} actions, the data {len(classes)}; create it with num_classes="
            f"{len(classes)}"
        )
    if "video" in given and tuple(model.pretrained_cfg.get("classes") or ()) != tuple(classes):
        raise ValueError("the network of actions is given, but knows others than the data; train the stage video, too")
    if "states" in given and model.labeler is None:
        raise ValueError("the networks of part states are given, but the model has no vocabulary; call set_vocabulary")


def _name(model: PCF) -> str:
    return str(model.pretrained_cfg.get("architecture", ""))


def _train_size(model: PCF) -> int | None:
    return None if _name(model).endswith("_tiny") else model.pretrained_cfg["input_size"][-1] * 7 // 8
