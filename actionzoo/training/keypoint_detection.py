"""Find people and their joints: the detector of the instance-guided framework, where no COCO weights are used."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..data.figures import ActingFigures
from ..data.folders import ActionSamples
from ..data.people_in_pictures import (
    BoxedPeople,
    FigureFrames,
    PeopleTransform,
    PictureSource,
    TransformedPeople,
    collate_people_in_pictures,
)
from ..metrics import box_average_precision, keypoint_average_precision
from ..models import KeypointDetector
from .detection import DetectionScore, check_scale, write_detection
from .recipes import Recipe, all_but
from .stages import freeze
from .tasks import BaseTask, StepTools

LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_keypoint")


class PictureSplit(NamedTuple):
    """Sources of one split."""

    posed: Sequence[PictureSource] = ()
    """Pictures whose people have boxes and keypoints."""
    boxed: Sequence[PictureSource] = ()
    """Pictures whose people have boxes alone, from which the keypoint head learns nothing."""


class KeypointDetectionTask(BaseTask):
    """Train a keypoint detector on pictures of which some or all have keypoints; a trunk taken over stays as it is."""

    headline = "ap50"
    classes: tuple[str, ...] = ()
    unused_fields = all_but("hflip", "color_jitter")
    collate = staticmethod(collate_people_in_pictures)

    def __init__(self, splits: Mapping[str, PictureSplit], name: str) -> None:
        """Describe the data.

        Args:
            splits: Sources of `train`, and of `val` and `test` where there are.
            name: The data in one string, which a resumed run must have in common with the one it goes on with.
        """
        self.sources, self.name, self.splits = dict(splits), name, tuple(splits)
        self.sides: tuple[int, ...] = ()

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Mirror pictures and change their colours as the recipe says; the detector scales them itself.

        Raises:
            ValueError: If another input size is asked for than the detector scales pictures to; `check` comes first.
        """
        check_scale(cfg["input_size"][1], self.sides)
        self.recipe = recipe

    def check(self, model: nn.Module) -> None:
        """Refuse other models than keypoint detectors of COCO's joints.

        Raises:
            ValueError: If it is one.
        """
        if not isinstance(model, KeypointDetector) or model.num_keypoints != 17:
            raise ValueError(f"{type(model).__name__} finds no 17 joints of COCO; they train a keypointrcnn_* model")
        self.sides = tuple(cast(Any, model).transform.min_size)

    def prepare(self, model: nn.Module) -> None:
        """Freeze the trunk, BatchNorm statistics included."""
        backbone: Any = cast(Any, model).backbone
        freeze(backbone.trunk if hasattr(backbone, "trunk") else backbone.body)

    def rename(self, classes: Sequence[str]) -> None:
        """Do nothing: people have one class."""

    def describe(self) -> str:
        """Counts of pictures with and without keypoints."""
        counts = ", ".join(f"{sum(map(len, p))} + {sum(map(len, b))} {split}" for split, (p, b) in self.sources.items())
        return f"pictures with keypoints and with boxes alone: {counts}"

    def identity(self) -> str:
        """The data's name and the number of pictures."""
        return f"{self.name} {self.describe()}"

    def dataset(self, split: str, train: bool) -> Dataset:
        """Pictures in `[0, 1]`, boxes and keypoints of a split.

        Raises:
            ValueError: If there is no such split.
        """
        if split not in self.sources:
            raise ValueError(f"the data has no {split} split; it has {', '.join(self.splits) or 'none'}")
        recipe, sources = self.recipe, self.sources[split]
        random = {"hflip": recipe.hflip, "color_jitter": recipe.color_jitter} if train else {}
        return TransformedPeople([*sources.posed, *sources.boxed], PeopleTransform(**random))

    def step(self, tools: StepTools, batch: Sequence[Any]) -> Tensor:
        """Train on one batch: the five losses of torchvision, and their sum, which is minimised."""
        images, boxes, keypoints = batch
        targets = [
            {"boxes": b, "labels": torch.ones(len(b), dtype=torch.long, device=b.device), "keypoints": k}
            for b, k in zip(boxes, keypoints)
        ]
        tools.optimizer.zero_grad(set_to_none=True)
        losses = tools.model(images, targets)
        parts = torch.stack([losses[name] for name in LOSSES])
        tools.update(parts.sum())
        return torch.cat([parts, parts.sum()[None]]).detach()

    @torch.no_grad()
    def score(self, model: nn.Module, loader: DataLoader, device: torch.device | str, progress: bool) -> DetectionScore:
        """Average precision of boxes by VOC's rule at IoU 0.5, and of keypoints by COCO's.

        `ap50` is over all pictures; `posed_` and `boxed_` go before the figures of one kind, by whether the people of
        a picture have keypoints.
        """
        from tqdm import tqdm

        was_training, rows = model.training, []
        model.eval()
        try:
            for images, boxes, keypoints in tqdm(loader, "scoring", leave=False, disable=not progress):
                outputs = model([image.to(device) for image in images])
                for out, box, points in zip(outputs, boxes, keypoints):
                    rows.append(({name: x.cpu() for name, x in out.items()}, box.cpu(), points.cpu()))
        finally:
            model.train(was_training)
        # a picture without people belongs to neither kind
        kinds = {
            "posed_": [r for r in rows if bool((r[2][..., 2] > 0).any())],
            "boxed_": [r for r in rows if len(r[1]) and not (r[2][..., 2] > 0).any()],
        }
        metrics: dict[str, Any] = {"images": len(rows), "people": sum(len(box) for _, box, _ in rows)}
        for prefix, some in {"": rows, **kinds}.items():
            if any(len(box) for _, box, _ in some):
                found = [(out["boxes"], out["scores"]) for out, _, _ in some]
                metrics[f"{prefix}ap50"] = round(100 * box_average_precision(found, [box for _, box, _ in some]), 2)
        if posed := kinds["posed_"]:
            found = [(out["keypoints"], out["scores"]) for out, _, _ in posed]
            # what the box covers stands for the area, which only a mask would tell
            areas = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for _, box, _ in posed]
            ap = keypoint_average_precision(found, [(points, area) for (_, _, points), area in zip(posed, areas)])
            metrics["keypoint_ap"] = round(100 * ap["ap"], 2)
        return DetectionScore(metrics)

    def report(self, score: Any, output: Any) -> None:
        """Write the figures as `detection.json`."""
        write_detection(score, output)


def keypoint_figures_task(
    names: str,
    *,
    samples: ActionSamples | None = None,
    length: int = 3000,
    size: int = 192,
    seed: int = 0,
    val: bool = False,
) -> KeypointDetectionTask:
    """Acting figures, and photographs with boxes beside them, as training data of a keypoint detector.

    Args:
        names: Tasks of `ActingFigures`, joined by `+`; of clips one frame each, another one every time in training.
        samples: Photographs with `boxes`, for boxes alone.
        length: Figures of each task for training; a tenth of it, at least 50, for testing.
        size: Side of the figures' pictures in pixels.
        seed: Seed of the figures.
        val: Also give a `val` split, scored after every epoch, where the photographs have none.

    Raises:
        ValueError: If a task is unknown or named twice, or the photographs have no boxes.
    """
    tasks = names.split("+")
    if len(set(tasks)) < len(tasks):
        raise ValueError(f"figures:{names} names a task twice")
    if samples is not None and not samples.boxes:
        raise ValueError("a detector learns from boxes, and the photographs have none; give samples.with_boxes(…)")
    items, boxes = ({}, {}) if samples is None else (samples.items, samples.boxes)
    splits = {}
    for split in ("train", "val", "test"):
        if split == "val" and not val and split not in items:
            continue
        count = length if split == "train" else max(length // 10, 50)
        posed = [FigureFrames(ActingFigures(task, split, count, size, seed), split == "train") for task in tasks]
        splits[split] = PictureSplit(posed, [BoxedPeople(items[split], boxes)] if split in items else [])
    files = sorted(
        f"{split} {path} {boxes[path].tolist()}" for split, rows in items.items() for path, _ in rows if path in boxes
    )
    digest = hashlib.sha256("\n".join(files).encode()).hexdigest()[:16]
    return KeypointDetectionTask(splits, f"figures:{names} {length} {size} {seed} boxes {digest}")
