"""Pose and action of people: the task that the body-part network and the pose nets are trained for."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .._checkpoint import atomic_path
from ..data.figures import ActingFigures, FigurePeople
from ..data.folders import SPLITS, ActionSamples
from ..data.keypoints import KeypointPeople
from ..data.people import FolderPeople, PeopleSource
from ..data.top_down import PersonImages, TopDown, mix
from ..layers import encode_heatmaps
from ..losses import MultitaskAwareLoss, joints_mse
from ..models.pose_hrnet import LAYOUTS, flip_pairs_of
from .evaluate import write_report
from .evaluate_people import PeopleEvaluation, evaluate_people
from .recipes import Recipe
from .tasks import BaseTask, StepTools

NUM_JOINTS = {layout: count for count, layout in LAYOUTS.items()}


class PeopleSplit(NamedTuple):
    """Sources of one split; a person may come with a pose, an action or both."""

    pose: Sequence[PeopleSource] = ()
    """Pose sets, turned by `Recipe.pose_rotation` in training."""
    action: Sequence[PeopleSource] = ()
    """Action sets, turned by `Recipe.action_rotation`."""


class PeopleTask(BaseTask):
    """Train pose and action on mixed sets with the multitask-aware loss (body-part net, sections 3.6 and 4.1).

    A model that returns heat maps alone is trained on the poses alone. `Recipe.action_loss` says whether people have
    one action each or several; multi-label sets come with `(K,)` labels, see `PersonExample`.
    """

    unused_fields: frozenset[str] = frozenset(
        ("crop_pct", "resize", "scale", "keep_person", "hue", "grayscale", "auto_augment", "erase", "mixup",
         "label_smoothing", "repeats", "final_input", "concat_weight", "weighted", "zoom")
    )  # fmt: skip

    def __init__(self, splits: Mapping[str, PeopleSplit], classes: Sequence[str] = (), name: str = "people") -> None:
        """Describe the data.

        Args:
            splits: Sources of `train`, and of `val` and `test` where there are.
            classes: Names of the actions; none for pose nets.
            name: The data in words, part of what a resumed run must have in common with the one it goes on with.
        """
        self.sources, self.name = dict(splits), name
        self.actions = self.classes = tuple(classes)
        self.splits = tuple(splits)
        self.headline = "top1" if classes else "pckh"

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Crop people to the model's input, joints to its heat maps; `check` comes first.

        Raises:
            ValueError: If the input's size does not suit the model, or it is not known which of its joints a mirror
                swaps.
        """
        self.recipe, self.cfg = recipe, cfg
        (_, height, width), multiple = cfg["input_size"], 8 * self.stride
        if min(height, width) < multiple or height % multiple or width % multiple:
            raise ValueError(
                f"people are cropped to {height}x{width} pixels (--img-size), which must be multiples of {multiple} "
                "for this model"
            )
        if self.classes:
            cfg["classes"] = list(self.classes)
            self.headline = "top1" if recipe.action_loss == "focal" else "map"
        else:
            self.headline = "pckh" if cfg.get("joints") == "mpii" else "pck"
        self.flip_pairs = flip_pairs_of(cfg.get("joints"))
        self.loss = MultitaskAwareLoss(recipe.action_weight, recipe.action_loss)  # type: ignore[arg-type]

    def check(self, model: nn.Module) -> None:
        """Refuse a model with another number of classes than the data, or without heat maps.

        Raises:
            ValueError: If it has.
        """
        if not hasattr(model, "heatmap_stride"):
            raise ValueError(f"{type(model).__name__} predicts no heat maps; people need a bodypart_* or pose_* model")
        if getattr(model, "in_chans", 3) != 3:
            raise ValueError(f"people are cropped in colour; create the model with in_chans=3, not {model.in_chans}")
        count = getattr(model, "num_classes", None)
        # a pose net learns no actions
        self.classes = () if count is None else self.actions
        if count is not None and not self.actions:
            raise ValueError(
                f"the data has no actions, which a {type(model).__name__} learns besides poses; add action pictures, "
                "or train a pose_* model"
            )
        if count is not None and count != len(self.actions):
            raise ValueError(f"the model has {count} classes, the data {len(self.actions)}; create it with as many")
        self.stride: int = model.heatmap_stride  # type: ignore[assignment]

    def rename(self, classes: Sequence[str]) -> None:
        """Refuse a model that was trained on other actions.

        Raises:
            ValueError: If its classes are not those of the data, in the same order.
        """
        if self.classes and tuple(classes) != self.classes:
            raise ValueError(f"the model knows the actions {list(classes)}, the data has {list(self.classes)}")

    def describe(self) -> str:
        """Counts of classes, and of people in pose and action sets."""
        counts = ", ".join(
            f"{sum(map(len, pose))} + {sum(map(len, action))} {split}" for split, (pose, action) in self.sources.items()
        )
        return f"{len(self.classes)} actions; people of pose and action sets: {counts}"

    def identity(self) -> str:
        """The data's name, and the files and annotations of every source, or how many people it has."""
        found = {s: [[_identify(x) for x in kind] for kind in sources] for s, sources in self.sources.items()}
        return f"{self.name} {json.dumps(found)}"

    def _images(self, source: PeopleSource, rotation: float, train: bool) -> PersonImages:
        """The people of a source, each cropped to the model's input."""
        recipe, (_, height, width) = self.recipe, self.cfg["input_size"]
        random = {"rotation": rotation, "scale": recipe.rescale}
        random |= {"hflip": recipe.hflip, "color_jitter": recipe.color_jitter}
        # around a picture that counts whole there is nothing to see, and a pipeline adds no margin to it either
        margin = {"padding": 1.0} if isinstance(source, FolderPeople) and not source.boxes else {}
        transform = TopDown(
            (height, width),
            (height // self.stride, width // self.stride),
            flip_pairs=self.flip_pairs,
            mean=self.cfg["mean"],
            std=self.cfg["std"],
            **margin,
            **(random if train else {}),
        )
        return PersonImages(source, transform)

    def dataset(self, split: str, train: bool) -> Dataset:
        """People of a split, cropped.

        Raises:
            ValueError: If there is no such split, or its sources do not go together (`mix`).
        """
        if split not in self.sources:
            raise ValueError(f"the data has no {split} split; it has {', '.join(self.splits) or 'none'}")
        sources, recipe = self.sources[split], self.recipe
        turned = [(source, recipe.pose_rotation) for source in sources.pose]
        turned += [(source, recipe.action_rotation) for source in sources.action]
        return mix([self._images(source, rotation, train) for source, rotation in turned])

    def step(self, tools: StepTools, batch: Sequence[Tensor]) -> Tensor:
        """Losses of pose and action and their weighted sum; of the pose alone for a pose net."""
        images, joints, labels = batch[:3]
        tools.optimizer.zero_grad(set_to_none=True)
        output: Any = tools.model(images.contiguous(memory_format=torch.channels_last))
        maps = output if isinstance(output, Tensor) else output.heatmaps
        targets, weights = encode_heatmaps(joints, (maps.shape[2], maps.shape[3]), self.recipe.sigma)
        if isinstance(output, Tensor):
            loss = joints_mse(maps, targets, weights)
            tools.update(loss)
            return loss.detach()[None]
        losses = self.loss(output, targets, weights, labels)
        tools.update(losses.total)
        return torch.stack([losses.pose, losses.action, losses.total]).detach()

    def score(
        self, model: nn.Module, loader: DataLoader, device: torch.device | str, progress: bool = False
    ) -> PeopleEvaluation:
        """PCKh, and accuracy and mAP of every head."""
        return evaluate_people(model, loader, device=device, progress=progress)

    def report(self, score: PeopleEvaluation, output: Path) -> None:
        """Curves of the concat head where it was scored, and the joints' table as `pose.json`."""
        output.mkdir(parents=True, exist_ok=True)
        if score.actions is not None:
            write_report(score.actions, self.actions, output)
        with atomic_path(output / "pose.json") as temporary:
            table = {key: score.metrics.get(key) for key in ("pck", "pckh", "pckh_groups")}
            temporary.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def figures_task(
    names: str, *, length: int = 6000, size: int = 192, seed: int = 0, layout: str = "mpii", val: bool = False
) -> PeopleTask:
    """Acting figures as training data, such as `"pose+fine_grained"`.

    In a mix, the figures of `pose` give poses and the others give actions, as MPII and Stanford 40 Actions do in the
    paper; alone, a set gives both. Where they are scored, all figures have both.

    Args:
        names: Image tasks of `ActingFigures`, joined by `+`; the actions are those of one of them.
        length: Figures of each for training; a tenth of it, at least 100, for testing.
        size: Side of the pictures in pixels; take that of the model's input.
        seed: Seed of the figures.
        layout: Order of the joints, `"mpii"` or `"coco"`.
        val: Also give a `val` split, scored after every epoch.

    Raises:
        ValueError: If a name is unknown or shows clips, or several give actions.
    """
    tasks = names.split("+")
    acting = [task for task in tasks if task != "pose" or len(tasks) == 1]
    if len(acting) > 1 or len(set(tasks)) < len(tasks):
        raise ValueError(f"figures:{names}: give one set, or pose and one other, such as pose+fine_grained")

    def people(task: str, split: str) -> FigurePeople:
        figures = ActingFigures(task, split, length if split == "train" else max(length // 10, 100), size, seed)
        both = split != "train" or len(tasks) == 1
        # only the actions of one set have the model's names
        return FigurePeople(
            figures,
            layout=layout,
            pose=both or task == "pose",
            action=task in acting,
            cache=split == "train",
        )

    splits = {
        split: PeopleSplit(
            pose=[people("pose", split)] if "pose" in tasks and len(tasks) > 1 else [],
            action=[people(task, split) for task in acting],
        )
        for split in SPLITS
        if val or split != "val"
    }
    classes = ActingFigures(acting[0], "train", 0).classes
    return PeopleTask(splits, classes, f"figures:{names} {length} {size} {seed}")


def annotated_task(
    samples: ActionSamples | None = None,
    *,
    pose: Mapping[str, PeopleSource] | None = None,
    layout: str = "mpii",
    name: str = "people",
) -> PeopleTask:
    """Labelled action pictures and keypoint annotations as training data, as the paper mixes them.

    Args:
        samples: Action pictures by split; every picture counts whole.
        pose: People with joints by split, as `read_keypoints` gives them.
        layout: Order of their joints, `"mpii"` or `"coco"`.
        name: The data in words, see `PeopleTask`.

    Raises:
        ValueError: If neither is given, or the layout or a split is unknown.
    """
    if samples is None and not pose:
        raise ValueError("nothing to train on; give action pictures, people with joints, or both")
    if layout not in NUM_JOINTS:
        raise ValueError(f"layout is one of {', '.join(NUM_JOINTS)}, got {layout!r}")
    poses, items = dict(pose or {}), samples.items if samples is not None else {}
    unknown = sorted(set(poses) - set(SPLITS))
    if unknown:
        raise ValueError(f"people are given by the splits {', '.join(SPLITS)}, got {unknown}")
    splits = {
        split: PeopleSplit(
            pose=[poses[split]] if split in poses else [],
            action=[FolderPeople(items[split], NUM_JOINTS[layout])] if split in items else [],
        )
        for split in SPLITS
        if split in poses or split in items
    }
    return PeopleTask(splits, samples.classes if samples is not None else (), name)


def _identify(source: PeopleSource) -> int | str:
    """What tells a source from another: its files and annotations as a hash, else its length."""
    if isinstance(source, FolderPeople):
        facts = [repr(source.items), repr({path: box.tolist() for path, box in source.boxes.items()})]
    elif isinstance(source, KeypointPeople):
        annotations = (source.boxes, source.joints, source.labels, source.head_sizes)
        facts = [repr([str(path) for path in source.paths])]
        facts += [hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest() for x in annotations]
    elif isinstance(source, FigurePeople):
        facts = [repr(source)]
    else:
        return len(source)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
