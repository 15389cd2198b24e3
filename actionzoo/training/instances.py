"""Train the temporal action head of the instance-guided framework, everything before it frozen (section 4.2)."""

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .._checkpoint import atomic_path
from ..data.figures import ActingFigures
from ..data.folders import SPLITS, ActionSamples
from ..data.labelled_clips import ClipSource, FigureClips, FileClips
from ..models import InstanceActionNet
from .evaluate import write_report
from .evaluate_instances import VIDEO_RULES, InstanceBatch, InstanceEvaluation, collate_instances, evaluate_instances
from .instance_features import ClipFeatures, InstanceFeatures, UnreadableClipsError, cache_instances
from .recipes import Recipe, all_but
from .stages import freeze
from .tasks import BaseTask, StepTools, local_device

__all__ = ["InstanceActionTask", "instance_figures_task", "instance_loss", "instance_videos_task"]


def instance_loss(logits: Tensor, labels: Tensor, reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over the people of a batch of clips (instance-guided framework, Eqs 15 and 16).

    Args:
        logits: `(N, K)`.
        labels: `(N,)` classes; people of -1 do not count.
        reduction: `"sum"` as Eq. 16 is printed, whose size is that of the crowd; `"mean"` is this library's decision.
        label_smoothing: As in torch.

    Returns:
        A scalar; of nobody 0, with a graph.

    Raises:
        ValueError: If the reduction is unknown.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', got {reduction!r}")
    known = labels >= 0
    loss = F.cross_entropy(logits[known].float(), labels[known], label_smoothing=label_smoothing, reduction="sum")
    return loss / known.sum().clamp(min=1) if reduction == "mean" else loss


class InstanceActionTask(BaseTask):
    """Train the head of an `InstanceActionNet` on clips; the detector runs once, and its features are kept.

    Everybody in a video learns the video's label, or people their own where those are known. It is scored on the clip
    from the middle, a video by one of its tracks.
    """

    unused_fields = all_but("hflip", "label_smoothing")
    collate = staticmethod(collate_instances)

    def __init__(
        self,
        splits: Mapping[str, ClipSource],
        classes: Sequence[str],
        name: str = "clips",
        *,
        cache: str | Path | None = None,
        views: int = 1,
        rule: str = "score",
        reduction: str = "mean",
        true_boxes: bool = False,
        whole_frame: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
        workers: int = 0,
        progress: bool = True,
    ) -> None:
        """Describe the data; the detector runs when the first split is asked for.

        Args:
            splits: Clips of `train`, and of `val` and `test` where there are.
            classes: Names of the classes.
            name: The data in words.
            cache: Folder of the features, see `cache_instances`; if None a temporary one that goes with the task,
                under torchrun one of every process.
            views: Clips of every training video, of which each epoch takes one: the one from the middle, which is
                never mirrored, and others, which `Recipe.hflip` mirrors where left and right mean nothing.
            rule: How a video is scored by its tracks, see `video_scores`.
            reduction: See `instance_loss`.
            true_boxes: See `cache_instances`.
            whole_frame: See there.
            seed: Seed of the views.
            device: Where the detector runs; if None, on the process's own GPU where there is one.
            workers: Processes that decode clips for the detector.
            progress: Show a progress bar while it runs.

        Raises:
            ValueError: If there are no classes, a split, rule or reduction is unknown, or `views` is below 1.
        """
        if unknown := sorted(set(splits) - set(SPLITS)):
            raise ValueError(f"clips are given by the splits {', '.join(SPLITS)}, got {unknown}")
        if not classes or views < 1:
            raise ValueError(f"expected classes and at least one view, got {len(classes)} classes and {views} views")
        if rule not in VIDEO_RULES or reduction not in ("mean", "sum"):
            raise ValueError(
                f"rule is one of {', '.join(VIDEO_RULES)} and reduction 'mean' or 'sum', got {rule!r} and {reduction!r}"
            )
        self.sources, self.name, self.splits = dict(splits), name, tuple(splits)
        self.classes = tuple(classes)
        self.numbers = list(range(len(classes)))
        self.views, self.rule, self.reduction, self.seed = views, rule, reduction, seed
        self.how: dict[str, Any] = {"true_boxes": true_boxes, "whole_frame": whole_frame}
        self.device, self.workers, self.progress = device, workers, progress
        self.one_label = all(source.one_label for source in splits.values())
        self.headline = "top1" if self.one_label else "track_top1"
        if cache is None:
            cache = tempfile.mkdtemp(prefix="actionzoo-")
            weakref.finalize(self, shutil.rmtree, cache, ignore_errors=True)
        self.cache = Path(cache)
        # splits whose features are there, and whether all views are
        self.made: set[tuple[str, bool]] = set()

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Note the classes; frames are neither cropped nor scaled, which the detector does itself."""
        self.recipe, self.made = recipe, set()
        cfg["classes"] = list(self.classes)

    def check(self, model: nn.Module) -> None:
        """Refuse other models than `InstanceActionNet`, or one with another number of classes than the data.

        Raises:
            ValueError: If it is one.
        """
        if not isinstance(model, InstanceActionNet):
            raise ValueError(
                f"{type(model).__name__} labels no people of clips; this trains an instance_action_* model"
            )
        if model.num_classes != len(self.classes):
            raise ValueError(
                f"the model has {model.num_classes} classes, the data {len(self.classes)}; create it with as many"
            )
        self.model, self.made = model, set()

    def prepare(self, model: nn.Module) -> None:
        """Freeze the detector, BatchNorm statistics included."""
        freeze(cast(InstanceActionNet, model).detector)

    def rename(self, classes: Sequence[str]) -> None:
        """Number the classes as a trained model does.

        Raises:
            ValueError: If the data has a class that the model does not know.
        """
        if absent := sorted(set(self.classes) - set(classes)):
            raise ValueError(f"the model does not know the classes {absent} of the data; it knows {list(classes)}")
        self.numbers = [list(classes).index(self.classes[k]) for k in self.numbers]
        self.classes = tuple(classes)

    def describe(self) -> str:
        """Counts of classes and clips."""
        counts = ", ".join(f"{len(source)} {split}" for split, source in self.sources.items())
        return f"{len(set(self.numbers))} classes, {counts} clips"

    def identity(self) -> str:
        """The data's name, the names of all clips with their labels, and how the head is trained on them."""
        keys = [
            f"{split} {source.key(i)} {source.label(i)}"
            for split, source in sorted(self.sources.items())
            for i in range(len(source))
        ]
        digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()
        settings = (self.views, self.seed, self.reduction, *self.how.values())
        return f"{self.name} {digest} {json.dumps(settings)}"

    def dataset(self, split: str, train: bool) -> Dataset:
        """Pooled features of a split; the detector makes those that are not there yet.

        For training it makes those of all splits, so that under torchrun all processes share the work, and the model
        stays where it is from then on.

        Raises:
            ValueError: If there is no such split, the recipe mirrors views of which there are none, or the cache is
                of another detector.
            RuntimeError: If clips cannot be read; the features of all others are kept.
        """
        if split not in self.sources:
            raise ValueError(f"the data has no {split} split; it has {', '.join(self.splits) or 'none'}")
        if train and self.recipe.hflip and self.views == 1:
            raise ValueError(
                f"the recipe's hflip={self.recipe.hflip:g} mirrors views but the one from the middle, and there is no "
                "other; set hflip=0, or ask for more views"
            )
        wanted = [(name, train and name == split) for name in (self.splits if train else (split,))]
        self._make([(name, every) for name, every in wanted if not {(name, every), (name, True)} & self.made])
        views = self._views() if train else {}
        features = InstanceFeatures(self.sources[split], self.cache, **views, random_view=train)
        return _Numbered(features, self.numbers)

    def _views(self) -> dict[str, Any]:
        return {"views": self.views, "hflip": self.recipe.hflip, "seed": self.seed}

    def _make(self, wanted: Sequence[tuple[str, bool]]) -> None:
        """Make the features of splits, of all views or of the middle alone."""
        if wanted and not self.made:
            self.model.to(self.device or local_device())
        how, unreadable = {**self.how, "workers": self.workers, "progress": self.progress}, []
        for split, every in wanted:
            views = self._views() if every else {}
            try:
                cache_instances(self.model, self.sources[split], self.cache, **views, **how)
            except UnreadableClipsError as error:
                unreadable += error.messages
        if unreadable:
            raise UnreadableClipsError(unreadable)
        self.made.update(wanted)

    def step(self, tools: StepTools, batch: Sequence[Any]) -> Tensor:
        """Cross-entropy of everybody in the clips."""
        features, labels, *_ = batch
        known = labels >= 0
        tools.optimizer.zero_grad(set_to_none=True)
        logits = tools.model(features=features[known])
        loss = instance_loss(logits, labels[known], self.reduction, self.recipe.label_smoothing)
        tools.update(loss)
        return loss.detach()[None]

    def score(
        self, model: nn.Module, loader: DataLoader[InstanceBatch], device: torch.device | str, progress: bool
    ) -> InstanceEvaluation:
        """Accuracy by track and, where everybody in a video does the same, by video."""
        rule, one_label = self.rule, self.one_label
        return evaluate_instances(model, loader, rule=rule, one_label=one_label, device=device, progress=progress)

    def report(self, score: Any, output: Path) -> None:
        """Curves and the confusion matrix of videos or tracks, and the figures as `instances.json`."""
        output.mkdir(parents=True, exist_ok=True)
        if score.evaluation is not None:
            write_report(score.evaluation, self.classes, output)
        with atomic_path(output / "instances.json") as temporary:
            temporary.write_text(json.dumps(score.metrics, indent=1) + "\n", encoding="utf-8")


class _Numbered(Dataset):
    """Features whose labels are numbered as the model numbers its classes."""

    def __init__(self, features: InstanceFeatures, numbers: Sequence[int]) -> None:
        # -1, for people who are not known, is the last
        self.features, self.numbers = features, torch.tensor([*numbers, -1])

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, i: int) -> ClipFeatures:
        found = self.features[i]
        return found._replace(labels=self.numbers[found.labels], label=int(self.numbers[found.label]))


def instance_figures_task(
    task: str,
    *,
    frames: int = 8,
    stride: int = 2,
    length: int = 1000,
    size: int = 160,
    figures_seed: int = 0,
    val: bool = False,
    **options: Any,
) -> InstanceActionTask:
    """Clips of acting figures as training data.

    Args:
        task: `"motion"`, `"crowd"` or `"parts"`.
        frames: Frames T of a clip, those of the model.
        stride: Step between them, that of the model.
        length: Clips for training; a tenth of it, at least 50, for testing.
        size: Side of the pictures in pixels.
        figures_seed: Seed of the figures.
        val: Also give a `val` split, scored after every epoch.
        options: Further arguments of `InstanceActionTask`, such as the seed of its views.

    Raises:
        ValueError: If the task shows images or is unknown, or a number is out of range.
    """
    splits = {
        split: FigureClips(
            ActingFigures(task, split, count, size, figures_seed, frames=frames * stride),
            frames,
            stride,
        )
        for split in SPLITS
        for count in [length if split == "train" else max(length // 10, 50)]
        if val or split != "val"
    }
    classes = splits["train"].figures.classes
    return InstanceActionTask(splits, classes, f"figures:{task}", **options)


def instance_videos_task(samples: ActionSamples, frames: int, stride: int, **options: Any) -> InstanceActionTask:
    """Labelled video files as training data, as `read_clips_folder` and `read_clips_table` list them.

    Args:
        samples: The files.
        frames: Frames T of a clip, those of the model.
        stride: Step between them, that of the model.
        options: Further arguments of `InstanceActionTask`.
    """
    splits = {split: FileClips(items, frames, stride) for split, items in samples.items.items()}
    return InstanceActionTask(splits, samples.classes, "videos", **options)
