"""Pose and action of people: the task that the body-part network and the pose nets are trained for."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .._checkpoint import atomic_path
from ..data.figures import ActingFigures, FigurePeople
from ..data.folders import ActionSamples
from ..data.people import FolderPeople, PeopleSource
from ..data.top_down import PersonImages, TopDown, mix
from ..layers import decode_heatmaps, encode_heatmaps
from ..layers.heatmaps import COCO_FLIP_PAIRS, MPII_FLIP_PAIRS
from ..losses import MultitaskAwareLoss, joints_mse
from ..metrics import mean_average_precision, pckh_groups, wilson_interval
from .evaluate import Evaluation, write_report
from .recipes import Recipe
from .tasks import StepTools

FLIP_PAIRS = {"mpii": MPII_FLIP_PAIRS, "coco": COCO_FLIP_PAIRS}


class PeopleSplit(NamedTuple):
    """Sources of one split; a person may come with a pose, an action or both."""

    pose: Sequence[PeopleSource] = ()
    """Pose sets, turned by `Recipe.pose_rotation` in training."""
    action: Sequence[PeopleSource] = ()
    """Action sets, turned by `Recipe.action_rotation`."""


@dataclass(frozen=True)
class PeopleEvaluation:
    """Scores of a pose and action network."""

    actions: Evaluation | None
    """Of the concat head, over the people with an action; None where there are none."""
    metrics: dict[str, Any]
    """`people`; `pckh` and `pckh_groups` in percent; `top1`, `map` of the concat head, `streams` and `ensemble`."""


class PeopleTask:
    """Train pose and action on mixed sets with the multitask-aware loss (body-part net, sections 3.6 and 4.1).

    A model that returns heat maps alone is trained on the poses alone.
    """

    def __init__(self, splits: Mapping[str, PeopleSplit], classes: Sequence[str] = (), name: str = "people") -> None:
        """Describe the data.

        Args:
            splits: Sources of `train`, and of `val` and `test` where there are.
            classes: Names of the actions; none for pose nets.
            name: The data in words, part of what a resumed run must have in common with the one it goes on with.
        """
        self.sources, self.classes, self.name = dict(splits), tuple(classes), name
        self.splits = tuple(splits)
        self.headline = "top1" if classes else "pckh"

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Crop people to the model's input, joints to its heat maps."""
        self.recipe, self.cfg = recipe, cfg
        if self.classes:
            cfg["classes"] = list(self.classes)
        self.loss = MultitaskAwareLoss(recipe.action_weight, recipe.action_loss)  # type: ignore[arg-type]

    def check(self, model: nn.Module) -> None:
        """Refuse a model with another number of classes than the data, or without heat maps.

        Raises:
            ValueError: If it has.
        """
        if not hasattr(model, "heatmap_stride"):
            raise ValueError(f"{type(model).__name__} predicts no heat maps; people need a bodypart_* or pose_* model")
        count = getattr(model, "num_classes", None)
        if count is None:
            self.classes, self.headline = (), "pckh"
        elif count != len(self.classes):
            raise ValueError(f"the model has {count} classes, the data {len(self.classes)}; create it with as many")
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
        """The data's name and how many people every source has."""
        counts = {s: [[len(x) for x in kind] for kind in sources] for s, sources in self.sources.items()}
        return f"{self.name} {json.dumps(counts)}"

    def _transform(self, rotation: float, train: bool) -> TopDown:
        recipe, (_, height, width) = self.recipe, self.cfg["input_size"]
        random = {"rotation": rotation, "scale": recipe.rescale}
        random |= {"hflip": recipe.hflip, "color_jitter": recipe.color_jitter}
        return TopDown(
            (height, width),
            (height // self.stride, width // self.stride),
            flip_pairs=FLIP_PAIRS[self.cfg["joints"]],
            mean=self.cfg["mean"],
            std=self.cfg["std"],
            **(random if train else {}),
        )

    def dataset(self, split: str, train: bool) -> Dataset:
        """People of a split, cropped."""
        sources, recipe = self.sources[split], self.recipe
        pose, action = (self._transform(angle, train) for angle in (recipe.pose_rotation, recipe.action_rotation))
        sets = [PersonImages(source, pose) for source in sources.pose]
        return mix([*sets, *(PersonImages(source, action) for source in sources.action)])

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
        return evaluate_people(model, loader, device=device, progress=progress, mpii=self.cfg["joints"] == "mpii")

    def report(self, score: PeopleEvaluation, output: Path) -> None:
        """Curves of the concat head, or the joints' table for a pose net."""
        if score.actions is not None:
            write_report(score.actions, self.classes, output)
        with atomic_path(output / "pose.json") as temporary:
            table = {key: score.metrics.get(key) for key in ("pckh", "pckh_groups")}
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
        for split in ("train", "val", "test")
        if val or split != "val"
    }
    classes = ActingFigures(acting[0], "train", 0).classes
    return PeopleTask(splits, classes, f"figures:{names} {length} {size} {seed}")


def annotated_task(
    samples: ActionSamples | None = None, *, pose: Mapping[str, PeopleSource] | None = None, name: str = "people"
) -> PeopleTask:
    """Labelled action pictures and keypoint annotations as training data, as the paper mixes them.

    Args:
        samples: Action pictures by split; every picture counts whole.
        pose: People with joints by split, as `read_mpii` and `read_coco_keypoints` give them.
        name: The data in words, see `PeopleTask`.

    Raises:
        ValueError: If neither is given.
    """
    if samples is None and not pose:
        raise ValueError("nothing to train on; give action pictures, people with joints, or both")
    poses, items = dict(pose or {}), samples.items if samples is not None else {}
    joints = next((len(source[0].joints) for source in poses.values() if len(source)), 16)
    splits = {
        split: PeopleSplit(
            pose=[poses[split]] if split in poses else [],
            action=[FolderPeople(items[split], joints)] if split in items else [],
        )
        for split in ("train", "val", "test")
        if split in poses or split in items
    }
    return PeopleTask(splits, samples.classes if samples is not None else (), name)


@torch.no_grad()
def evaluate_people(
    model: Any,
    loader: Iterable[Any],
    *,
    device: torch.device | str = "cpu",
    progress: bool = False,
    mpii: bool = True,
) -> PeopleEvaluation:
    """Score a pose net or a body-part network on batches of `PersonInput`.

    Args:
        model: Returns heat maps, or a `BodyPartOutput`; in eval mode meanwhile, as it was afterwards.
        loader: Batches of cropped people.
        device: Where to run; the model is moved there.
        progress: Show a progress bar.
        mpii: Whether the joints are MPII's 16, of which the groups of Table 2 are made.

    Returns:
        `pckh` at half the head's length with the quarter shift, over the people with a pose, and accuracy and mAP
        of every stream, the concat head and the ensemble over those with an action (Tables 2 and 3), in percent.

    Raises:
        ValueError: If the loader is empty.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.to(device).eval()
    if progress:
        from tqdm import tqdm

        loader = tqdm(loader, "scoring", leave=False)
    joints, truth, heads, labels = [], [], [], []
    scores: dict[str, list[Tensor]] = {}
    try:
        for batch in loader:
            output = model(batch[0].to(device))
            maps = output if isinstance(output, Tensor) else output.heatmaps
            joints.append(decode_heatmaps(maps.float(), quarter_shift=True).cpu())
            truth.append(batch[1])
            labels.append(batch[2])
            heads.append(batch[3])
            if not isinstance(output, Tensor):
                logits = {**output.stream_logits, "concat": output.logits}
                found = {name: values.float().softmax(1) for name, values in logits.items()}
                for name, values in {**found, "ensemble": model.ensemble(output)}.items():
                    scores.setdefault(name, []).append(values.cpu())
    finally:
        for module, mode in modes:
            module.training = mode
    if not joints:
        raise ValueError("there is nobody to score: the loader is empty")
    metrics: dict[str, Any] = {"people": sum(map(len, joints))}
    metrics |= _pose_metrics(torch.cat(joints), torch.cat(truth), torch.cat(heads), mpii)
    if not scores:
        return PeopleEvaluation(None, metrics)
    targets = torch.cat(labels)
    known = targets >= 0
    if not known.any():
        return PeopleEvaluation(None, metrics)
    by_head = {name: torch.cat(values)[known] for name, values in scores.items()}
    found = {name: _action_metrics(values, targets[known]) for name, values in by_head.items()}
    metrics |= {"actions": int(known.sum()), **found.pop("concat")}
    metrics["ensemble"], metrics["streams"] = found.pop("ensemble"), found
    return PeopleEvaluation(Evaluation(by_head["concat"], targets[known], metrics), metrics)


def _pose_metrics(pred: Tensor, truth: Tensor, heads: Tensor, mpii: bool) -> dict[str, Any]:
    """PCKh@0.5 in percent over people with a pose and a head size, in all and by Table 2's groups."""
    posed = (truth[:, :, 2] > 0).any(1) & heads.isfinite() & (heads > 0)
    if not mpii or not posed.any():
        return {}
    truth, pred = truth[posed], pred[posed]
    groups = pckh_groups(pred[..., :2], truth[..., :2], truth[..., 2] > 0, heads[posed])
    groups = {name: round(100 * value, 2) for name, value in groups.items()}
    return {"posed": int(posed.sum()), "pckh": groups["Mean"], "pckh_groups": groups}


def _action_metrics(scores: Tensor, targets: Tensor) -> dict[str, Any]:
    correct = int((scores.argmax(1) == targets).sum())
    low, high = wilson_interval(correct, len(targets))
    return {
        "top1": round(100 * correct / len(targets), 2),
        "top1_interval": [round(100 * low, 2), round(100 * high, 2)],
        "map": round(100 * mean_average_precision(scores, targets), 2),
    }
