"""Find people: the second stage of ConViT's training, a detector on the frozen backbone (section 4.2)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .._checkpoint import atomic_path
from ..data.boxed import BoxedImages, collate_boxed, detection_transform
from ..data.folders import ActionSamples
from ..metrics import box_average_precision, coco_box_ap
from ..models import PersonDetector
from .recipes import Recipe, all_but
from .stages import freeze
from .tasks import BaseTask, StepTools

LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")


def check_boxes(samples: ActionSamples) -> None:
    """Refuse data to train on in which nobody has a box.

    Raises:
        ValueError: If it is such.
    """
    if not any(len(samples.boxes.get(path, ())) for path, _ in samples.items.get("train", [])):
        raise ValueError(
            "no training picture has boxes of people, so there is nothing to learn from; give those of the train "
            "split, too (--person-boxes)"
        )


def check_scale(side: int, sides: Sequence[int]) -> None:
    """Refuse an input size that is none of the sides that a detector scales pictures to.

    Raises:
        ValueError: If it is not one of them.
    """
    if sides and side not in sides:
        raise ValueError(
            f"the detector scales pictures itself, to a shorter side of {sides[0]} pixels, not {side}; create it with "
            "min_size and max_size instead of an input size (--img-size)"
        )


def write_detection(score: Any, output: Path) -> None:
    """Write a detector's figures as `detection.json`."""
    output.mkdir(parents=True, exist_ok=True)
    with atomic_path(output / "detection.json") as temporary:
        temporary.write_text(json.dumps(score.metrics, indent=1) + "\n", encoding="utf-8")


class DetectionScore(NamedTuple):
    """How well people are found."""

    metrics: dict[str, Any]


class DetectionTask(BaseTask):
    """Train a person detector on pictures with boxes; its trunk stays as it is (section 4.2, second stage)."""

    headline = "ap50"
    classes: tuple[str, ...] = ()
    unused_fields = all_but("hflip", "color_jitter")
    collate = staticmethod(collate_boxed)

    def __init__(self, samples: ActionSamples) -> None:
        """Wrap pictures whose people have boxes.

        Args:
            samples: Files with `boxes`; their classes are not looked at. Pictures without boxes show nobody.

        Raises:
            ValueError: If there are no boxes.
        """
        if not samples.boxes:
            raise ValueError("a detector learns from boxes, and the data has none; give samples.with_boxes(…)")
        self.samples = samples
        self.splits = tuple(samples.items)
        self.sides: tuple[int, ...] = ()

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Mirror pictures and change their colours as the recipe says; the detector scales them itself.

        Raises:
            ValueError: If another input size is asked for than the detector scales pictures to; `check` comes first.
        """
        check_scale(cfg["input_size"][-1], self.sides)
        self.recipe = recipe

    def check(self, model: nn.Module) -> None:
        """Refuse other models than person detectors.

        Raises:
            ValueError: If it is one.
        """
        if not isinstance(model, PersonDetector):
            raise ValueError(f"{type(model).__name__} detects nobody; boxes alone train a person_* model")
        self.sides = tuple(cast(Any, model).transform.min_size)

    def prepare(self, model: nn.Module) -> None:
        """Freeze the trunk, BatchNorm statistics included.

        Raises:
            ValueError: If no training picture has boxes.
        """
        check_boxes(self.samples)
        freeze(cast(Any, model).backbone.trunk)

    def rename(self, classes: Sequence[str]) -> None:
        """Do nothing: people have one class."""

    def describe(self) -> str:
        """Counts of pictures and people."""
        boxes = self.samples.boxes
        found = {
            split: sum(len(boxes[path]) for path, _ in rows if path in boxes)
            for split, rows in self.samples.items.items()
        }
        counts = ", ".join(f"{found[s]} in {len(rows)} {s} images" for s, rows in self.samples.items.items())
        return f"people: {counts}"

    def identity(self) -> str:
        """Every file and its boxes."""
        items, boxes = self.samples.items, self.samples.boxes
        files = [f"{split} {path}" for split, rows in sorted(items.items()) for path, _ in rows]
        return "\n".join([*files, *(f"{path} {found.tolist()}" for path, found in sorted(boxes.items()))])

    def dataset(self, split: str, train: bool) -> Dataset:
        """Pictures in `[0, 1]` and boxes of a split."""
        recipe = self.recipe
        random = {"hflip": recipe.hflip, "color_jitter": recipe.color_jitter} if train else {}
        return BoxedImages(self.samples.items[split], self.samples.boxes, detection_transform(**random))

    def step(self, tools: StepTools, batch: Sequence[Any]) -> Tensor:
        """Train on one batch: the four losses of torchvision, and their sum, which is minimised."""
        images, boxes, _ = batch
        targets = [{"boxes": b, "labels": torch.ones(len(b), dtype=torch.long, device=b.device)} for b in boxes]
        tools.optimizer.zero_grad(set_to_none=True)
        losses = tools.model(images, targets)
        parts = torch.stack([losses[name] for name in LOSSES])
        tools.update(parts.sum())
        return torch.cat([parts, parts.sum()[None]]).detach()

    @torch.no_grad()
    def score(self, model: nn.Module, loader: DataLoader, device: torch.device | str, progress: bool) -> DetectionScore:
        """Average precision by VOC's rule at IoU 0.5, and by COCO's; none where nobody has a box."""
        from tqdm import tqdm

        was_training, found, truth = model.training, [], []
        model.eval()
        try:
            for images, boxes, _ in tqdm(loader, "scoring", leave=False, disable=not progress):
                outputs = model([image.to(device) for image in images])
                found += [(out["boxes"].cpu(), out["scores"].cpu()) for out in outputs]
                truth += [b.cpu() for b in boxes]
        finally:
            model.train(was_training)
        metrics: dict[str, Any] = {"images": len(truth), "people": sum(map(len, truth))}
        if metrics["people"]:
            coco = coco_box_ap(found, truth)
            metrics["ap50"] = round(100 * box_average_precision(found, truth), 2)
            metrics |= {f"coco_{key}": round(100 * coco[key], 2) for key in ("ap", "ap75", "ar")}
        return DetectionScore(metrics)

    def report(self, score: Any, output: Path) -> None:
        """Write the figures as `detection.json`."""
        write_detection(score, output)
