"""What `fit` trains: where the batches come from, what one step does with them, and how the result is scored."""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import MixUp

from .._checkpoint import atomic_path
from ..data.folders import ActionImages, ActionSamples
from ..data.transforms import eval_transform, train_transform
from .evaluate import evaluate, write_report
from .progressive import progressive_step
from .recipes import Recipe, recipes


def local_device() -> torch.device:
    """The GPU of this process, by its number among those of the machine, or the CPU where there is none."""
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu")


def write_metrics(file: Path, metrics: Any) -> None:
    """Write metrics as JSON, in a folder that is made where it is not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


class StepTools(NamedTuple):
    """What a step needs besides the batch."""

    model: nn.Module
    """The network, wrapped as accelerate wraps it."""
    optimizer: torch.optim.Optimizer
    backward: Callable[[Tensor], Any]
    """Instead of `loss.backward()`."""
    before_step: Callable[[], Any]
    """Called between the backward pass and the optimizer's step."""

    def update(self, loss: Tensor) -> None:
        """Backward pass of one loss and one step of the optimizer; the gradients must be clear."""
        self.backward(loss)
        self.before_step()
        self.optimizer.step()


class Score(Protocol):
    """What scoring gives."""

    @property
    def metrics(self) -> dict[str, Any]:
        """Plain numbers for `metrics.json`; `headline` names the one to watch."""
        ...


class Task(Protocol):
    """Something to train a network for."""

    classes: tuple[str, ...]
    """Names of the classes; empty where there are none."""
    splits: tuple[str, ...]
    """Splits that there are, among train, val and test."""
    headline: str
    """Name of the metric that a progress line shows."""
    unused_fields: frozenset[str]
    """Fields of a recipe that the task takes no notice of."""

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Note in the model's configuration what the task decides, and build the transforms from it."""
        ...

    def check(self, model: nn.Module) -> None:
        """Refuse a model that does not fit.

        Raises:
            ValueError: If it does not.
        """
        ...

    def rename(self, classes: Sequence[str]) -> None:
        """Number the classes as a trained model does.

        Raises:
            ValueError: If the data has a class that the model does not know.
        """
        ...

    def describe(self) -> str:
        """The data in one line."""
        ...

    def identity(self) -> str:
        """The data in one string: a resumed run must go on with the same."""
        ...

    def dataset(self, split: str, train: bool) -> Dataset:
        """A split with its training or its scoring transform."""
        ...

    collate: Callable[[Any], Any] | None
    """Makes a batch of examples; None for torch's own."""

    def prepare(self, model: nn.Module) -> None:
        """Set a model up for training, such as freezing a part of it."""
        ...

    def complete(self, model: nn.Module, device: torch.device, progress: bool) -> None:
        """Do what is left to do after the last epoch, before the model is scored."""
        ...

    def step(self, tools: StepTools, batch: Sequence[Tensor]) -> Tensor:
        """Train on one batch; returns the losses `(L,)`, the one to watch last."""
        ...

    def score(self, model: nn.Module, loader: DataLoader, device: torch.device, progress: bool) -> Score:
        """Score a model in eval mode."""
        ...

    def report(self, score: Any, output: Path) -> None:
        """Write what there is to look at to a folder."""
        ...


class BaseTask:
    """What a task does where it says nothing else: batches as torch makes them, the whole model trained."""

    collate: Callable[[Any], Any] | None = None

    def prepare(self, model: nn.Module) -> None:
        """Freeze nothing."""

    def complete(self, model: nn.Module, device: torch.device, progress: bool) -> None:
        """Leave the model as the last epoch did."""


class ImageTask(BaseTask):
    """Classify whole images; a model with `forward_stage` is trained by `progressive_step`."""

    headline = "top1"
    unused_fields: frozenset[str] = frozenset(
        ("pose_rotation", "action_rotation", "rescale", "action_loss", "action_weight", "sigma")
    )

    def __init__(self, samples: ActionSamples) -> None:
        """Wrap labelled files; their boxes, where there are any, are what `Recipe.keep_person` keeps."""
        self.samples = samples
        self.classes = tuple(samples.classes)
        self.splits = tuple(samples.items)
        self.progressive = False

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Squash images to the recipe's size, train and score them with its transforms; `check` comes first.

        Raises:
            ValueError: If the recipe blends pictures and the model is trained by `progressive_step`.
        """
        if recipe.mixup and self.progressive:
            raise ValueError(
                f"mixup={recipe.mixup} and progressive training do not go together: the region that a stage zooms in "
                "on belongs to one picture; set mixup=0"
            )
        train = [self.samples.boxes.get(path) for path, _ in self.samples.items.get("train", [])]
        if recipe.keep_person and not any(boxes is not None and len(boxes) for boxes in train):
            warnings.warn(
                f"the recipe's crops keep {recipe.keep_person:.0%} of a person, but no training picture comes with "
                "boxes, so that they are plain random crops; see read_person_boxes (--person-boxes)",
                stacklevel=2,
            )
        self.recipe = recipe
        self.mixup = MixUp(alpha=recipe.mixup, num_classes=len(self.classes)) if recipe.mixup else None
        cfg["classes"] = list(self.classes)
        cfg["crop_pct"] = recipe.crop_pct
        self.transforms = {True: train_transform(cfg, recipe), False: eval_transform(cfg)}

    def check(self, model: nn.Module) -> None:
        """Refuse a model with another number of classes than the data.

        Raises:
            ValueError: If it has.
        """
        self.progressive = hasattr(model, "forward_stage")
        count = getattr(model, "num_classes", len(self.classes))
        if count != len(self.classes):
            raise ValueError(f"the model has {count} classes, the data {len(self.classes)}; create it with as many")

    def rename(self, classes: Sequence[str]) -> None:
        """Number the classes as a trained model does.

        Raises:
            ValueError: If the data has a class that the model does not know.
        """
        absent = sorted(set(self.classes) - set(classes))
        if absent:
            raise ValueError(f"the model does not know the classes {absent} of the data; it knows {list(classes)}")
        index = [classes.index(name) for name in self.classes]
        items = {split: [(path, index[k]) for path, k in rows] for split, rows in self.samples.items.items()}
        self.samples = replace(self.samples, classes=tuple(classes), items=items)
        self.classes = tuple(classes)

    def describe(self) -> str:
        """Counts of classes, pictures and rows without a label."""
        counts = ", ".join(f"{len(rows)} {split}" for split, rows in self.samples.items.items())
        boxes = f"; boxes of people in {len(self.samples.boxes)}" if self.samples.boxes else ""
        return f"{len(self.classes)} classes, {counts} images{boxes}; {self.samples.skipped} rows without a label"

    def identity(self) -> str:
        """Every file, its class, and its people where they are known."""
        rows = [f"{split} {path} {k}" for split, items in sorted(self.samples.items.items()) for path, k in items]
        rows += [f"{path} {boxes.tolist()}" for path, boxes in sorted(self.samples.boxes.items())]
        return "\n".join(rows)

    def dataset(self, split: str, train: bool) -> Dataset:
        """Transformed images and class indices of a split."""
        boxes = (self.samples.boxes or None) if train else None
        return ActionImages(self.samples.items.get(split, []), self.transforms[train], boxes)

    def step(self, tools: StepTools, batch: Sequence[Tensor]) -> Tensor:
        """Cross-entropy, of blended pictures with `Recipe.mixup`; or PRF-Net's progressive steps."""
        images, targets = batch
        if self.mixup is not None:
            images, targets = self.mixup(images, targets)
        images = images.contiguous(memory_format=torch.channels_last)
        recipe = self.recipe
        if not hasattr(getattr(tools.model, "module", tools.model), "forward_stage"):
            tools.optimizer.zero_grad(set_to_none=True)
            loss = self._criterion(tools.model(images), targets)
            tools.update(loss)
            return loss.detach()[None]
        return progressive_step(
            tools.model,
            images,
            targets,
            tools.optimizer,
            criterion=self._criterion,
            generator="model" if recipe.zoom else None,
            weighted=recipe.weighted,
            repeats=recipe.repeats,
            final_input=recipe.final_input,
            concat_weight=recipe.concat_weight,
            backward=tools.backward,
            before_step=tools.before_step,
        ).losses

    def _criterion(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)

    def score(self, model: nn.Module, loader: DataLoader, device: torch.device, progress: bool) -> Score:
        """Accuracy, mAP and kappa."""
        return evaluate(model, loader, device=device, progress=progress)

    def report(self, score: Any, output: Path) -> None:
        """Curves and the confusion matrix as pictures, and every image's scores."""
        write_report(score, self.classes, output)


def score_task(
    model: nn.Module,
    task: Task,
    split: str = "test",
    *,
    input_size: int | None = None,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: bool = False,
) -> Score:
    """Score a trained model on data, as `actionzoo eval` does.

    Args:
        model: Built by `create`, whose `pretrained_cfg` says how its inputs are made and which classes it knows.
        task: The data; it may have some of the model's classes only.
        split: One of the task's splits.
        input_size: Side of the inputs in pixels; the model's own if None.
        batch_size: Examples at a time.
        device: Where to run; the model is moved there.
        workers: Processes that decode images.
        progress: Show a progress bar.

    Raises:
        ValueError: If the data has no such split, or does not fit the model.
    """
    if split not in task.splits:
        raise ValueError(f"the data has no split {split!r}; it has {', '.join(task.splits)}")
    cfg: dict[str, Any] = dict(model.pretrained_cfg)  # type: ignore[arg-type]
    size = cfg.get("test_input_size") or cfg["input_size"]
    size = size if input_size is None else (size[0], input_size, input_size)
    cfg["input_size"] = cfg["test_input_size"] = size
    if cfg.get("classes"):
        # before the check: data with some of the model's classes will do
        task.rename(cfg["classes"])
    task.check(model)
    # a recipe is for training, except for how its pictures are cropped
    task.configure(cfg, recipes["scratch"].override(crop_pct=cfg.get("crop_pct", 1.0)))
    loader = DataLoader(task.dataset(split, train=False), batch_size, num_workers=workers, collate_fn=task.collate)
    return task.score(model.to(device), loader, torch.device(device), progress)
