"""Find people in photographs: the second stage of ConViT's training (section 4.2); what detectors' tasks share."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .._modes import eval_mode
from ..data.boxed import BoxedImages, collate_boxed, detection_transform
from ..data.folders import ActionSamples
from ..metrics import box_average_precision, coco_box_ap
from ..models import YOLOF, PersonDetector
from .recipes import Recipe, all_but
from .stages import freeze
from .tasks import BaseTask, StepTools, write_metrics

LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
"""Of torchvision's detectors, in the order of a history's rows; YOLOF has the last two."""


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


def train_detector(tools: StepTools, images: Sequence[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
    """One step of a detector that gives its losses by name: those of `LOSSES` that it has, and their sum."""
    tools.optimizer.zero_grad(set_to_none=True)
    losses = tools.model(images, targets)
    parts = torch.stack([losses[name] for name in LOSSES if name in losses])
    tools.update(parts.sum())
    return torch.cat([parts, parts.sum()[None]]).detach()


@torch.no_grad()
def detect(
    model: nn.Module, pictures: Iterable[Sequence[Tensor]], device: torch.device | str
) -> list[dict[str, Tensor]]:
    """What a detector in eval mode finds in every picture of some batches, on the CPU; its modes are put back."""
    found = []
    with eval_mode(model):
        for images in pictures:
            outputs = model([image.to(device) for image in images])
            found += [{name: value.cpu() for name, value in out.items()} for out in outputs]
    return found


def prepare_trunk(model: nn.Module, frozen: bool) -> None:
    """Freeze as much of a detector's trunk as its training asks for.

    YOLOF's authors start from trained weights and freeze the stem, the first stage and all BatchNorm of the backbone.
    That is done where `create` loaded the trunk; a random one is trained as a whole, and so is one that was taken over
    later (`load_convit`), unless it is to be frozen.

    Args:
        model: A detector whose `backbone.trunk` is a timm model.
        frozen: Freeze all of the trunk, BatchNorm statistics included.
    """
    trunk: Any = cast(Any, model).backbone.trunk
    if frozen:
        freeze(trunk)
        return
    report: Any = getattr(model, "load_report", None)
    if report is None or not any(name.startswith("backbone.trunk.") for name in report.loaded):
        return
    stage = next(info["module"] for info in trunk.feature_info if info["reduction"] >= 4)
    leaves = [(name, part) for name, part in trunk.named_modules() if next(part.children(), None) is None]
    last = max(i for i, (name, _) in enumerate(leaves) if f"{name}.".startswith(f"{stage}."))
    for i, (_, part) in enumerate(leaves):
        if i <= last or isinstance(part, nn.modules.batchnorm._BatchNorm):
            freeze(part)


def write_detection(score: Any, output: Path) -> None:
    """Write a detector's figures as `detection.json`."""
    write_metrics(output / "detection.json", score.metrics)


class DetectionScore(NamedTuple):
    """How well people are found."""

    metrics: dict[str, Any]


class PeopleDetection(BaseTask):
    """What the tasks have in common that train a detector of people: everything but the pictures."""

    headline = "ap50"
    classes: tuple[str, ...] = ()
    unused_fields = all_but("hflip", "color_jitter")

    def __init__(self, freeze_trunk: bool) -> None:
        """Say whether the trunk stays as it is."""
        self.freeze_trunk = freeze_trunk
        self.sides: tuple[int, ...] = ()

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Mirror pictures and change their colours as the recipe says; the detector scales them itself.

        Raises:
            ValueError: If another input size is asked for than the detector scales pictures to; `check` comes first.
        """
        check_scale(cfg["input_size"][-1], self.sides)
        self.recipe = recipe

    @property
    def augmentation(self) -> dict[str, float]:
        """What the recipe says of training pictures."""
        return {"hflip": self.recipe.hflip, "color_jitter": self.recipe.color_jitter}

    def check(self, model: nn.Module) -> None:
        """Refuse other models than detectors of people alone.

        Raises:
            ValueError: If it is one.
        """
        if isinstance(model, YOLOF) and model.num_classes != 1:
            raise ValueError(f"this YOLOF finds {model.num_classes} classes; people are one: create it with 1")
        if not isinstance(model, PersonDetector | YOLOF):
            raise ValueError(f"{type(model).__name__} detects nobody; boxes alone train a person_* or yolof_* model")
        self.sides = tuple(cast(Any, model).transform.min_size)

    def prepare(self, model: nn.Module) -> None:
        """Freeze the trunk or a part of it, see `prepare_trunk`."""
        prepare_trunk(model, self.freeze_trunk)

    def rename(self, classes: Sequence[str]) -> None:
        """Do nothing: people have one class."""

    def step(self, tools: StepTools, batch: Sequence[Any]) -> Tensor:
        """Train on one batch: the detector's losses, and their sum, which is minimised."""
        images, boxes = batch[:2]
        targets = [{"boxes": b, "labels": torch.ones(len(b), dtype=torch.long, device=b.device)} for b in boxes]
        return train_detector(tools, images, targets)

    def score(self, model: nn.Module, loader: DataLoader, device: torch.device | str, progress: bool) -> DetectionScore:
        """Average precision by VOC's rule at IoU 0.5, and by COCO's; none where nobody has a box."""
        from tqdm import tqdm

        truth: list[Tensor] = []

        def pictures() -> Iterator[Sequence[Tensor]]:
            for images, boxes, _ in tqdm(loader, "scoring", leave=False, disable=not progress):
                truth.extend(boxes)
                yield images

        found = [(out["boxes"], out["scores"]) for out in detect(model, pictures(), device)]
        metrics: dict[str, Any] = {"images": len(truth), "people": sum(map(len, truth))}
        if metrics["people"]:
            coco = coco_box_ap(found, truth)
            metrics["ap50"] = round(100 * box_average_precision(found, truth), 2)
            metrics |= {f"coco_{key}": round(100 * coco[key], 2) for key in ("ap", "ap75", "ar")}
        return DetectionScore(metrics)

    def report(self, score: Any, output: Path) -> None:
        """Write the figures as `detection.json`."""
        write_detection(score, output)


class DetectionTask(PeopleDetection):
    """Train a person detector on pictures with boxes; its trunk stays as it is (section 4.2, second stage)."""

    collate = staticmethod(collate_boxed)

    def __init__(self, samples: ActionSamples, freeze_trunk: bool = True) -> None:
        """Wrap pictures whose people have boxes.

        Args:
            samples: Files with `boxes`; their classes are not looked at. Pictures without boxes show nobody.
            freeze_trunk: As ConViT's second stage does it; a trunk that knows nothing yet has to learn: False.

        Raises:
            ValueError: If there are no boxes.
        """
        if not samples.boxes:
            raise ValueError("a detector learns from boxes, and the data has none; give samples.with_boxes(…)")
        super().__init__(freeze_trunk)
        self.samples = samples
        self.splits = tuple(samples.items)

    def prepare(self, model: nn.Module) -> None:
        """Freeze the trunk, BatchNorm statistics included.

        Raises:
            ValueError: If no training picture has boxes.
        """
        check_boxes(self.samples)
        super().prepare(model)

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
        random = self.augmentation if train else {}
        return BoxedImages(self.samples.items[split], self.samples.boxes, detection_transform(**random))
