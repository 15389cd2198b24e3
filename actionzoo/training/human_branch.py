"""Classify people: the third stage of ConViT's training, the human branch beside the frozen ConViT (section 4.2)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .._checkpoint import atomic_path
from ..data.boxed import BoxedImages, collate_boxed, person_transform
from ..data.folders import ActionSamples
from ..models import ConViTHARPerson, fuse_scores
from .detection import check_boxes
from .evaluate import Evaluation, classification_metrics, write_report
from .fusion import fit_fusion_weights
from .recipes import Recipe, all_but
from .stages import freeze
from .tasks import BaseTask, ImageTask, StepTools


class PersonScore(NamedTuple):
    """How well pictures are labelled by the image, by their surest person, and by both."""

    metrics: dict[str, Any]
    evaluation: Evaluation
    """Of the fused scores."""


class HumanBranchTask(BaseTask):
    """Train the human branch on pictures with one label and boxes, ConViT frozen (section 4.2, third stage).

    Every person of a picture learns the picture's label; it is scored by its surest person, whose scores are fused
    with ConViT's. A picture in which nobody is known keeps ConViT's. After the last epoch the fusion weights are
    those that minimise the loss on the training pictures (section 4.3), or on those held out, if there are any: on
    pictures that both branches have learned from, the surer one wins.
    """

    headline = "top1"
    unused_fields = all_but("hflip", "color_jitter", "hue", "grayscale", "crop_pct", "keep_person", "label_smoothing")
    collate = staticmethod(collate_boxed)

    def __init__(self, samples: ActionSamples, max_people: int = 4, fit_fusion: bool = True) -> None:
        """Wrap labelled pictures whose people have boxes.

        Args:
            samples: Files with `boxes`.
            max_people: How many people of a picture to train on, the surest.
            fit_fusion: Whether to fit the fusion weights after training.

        Raises:
            ValueError: If there are no boxes, or `max_people` is below 1.
        """
        if not samples.boxes:
            raise ValueError("the human branch looks at people's boxes, and the data has none; give --person-boxes")
        if max_people < 1:
            raise ValueError(f"max_people is at least 1, got {max_people}")
        self.images = ImageTask(samples)
        self.splits, self.classes = self.images.splits, self.images.classes
        self.max_people, self.fit_fusion = max_people, fit_fusion

    @property
    def samples(self) -> ActionSamples:
        """The labelled files."""
        return self.images.samples

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Squash pictures to the recipe's size, people's boxes with them."""
        self.recipe = recipe
        cfg["classes"] = list(self.classes)
        cfg["crop_pct"] = recipe.crop_pct
        self.transforms = {True: person_transform(cfg, recipe), False: person_transform(cfg)}

    def check(self, model: nn.Module) -> None:
        """Refuse models without a human branch, or with another number of classes than the data.

        Raises:
            ValueError: If it is one.
        """
        if not isinstance(model, ConViTHARPerson):
            raise ValueError(f"{type(model).__name__} has no human branch; this trains a convit_har_person_* model")
        self.images.check(model)

    def prepare(self, model: nn.Module) -> None:
        """Freeze ConViT, BatchNorm statistics included.

        Raises:
            ValueError: If no training picture has boxes, or the model gives several labels to a person.
        """
        check_boxes(self.samples)
        if cast(Any, model).multi_label:
            raise ValueError("pictures in class folders have one label each; create the model with multi_label=False")
        freeze(cast(Any, model).convit)

    def rename(self, classes: Sequence[str]) -> None:
        """Number the classes as a trained model does.

        Raises:
            ValueError: If the data has a class that the model does not know.
        """
        self.images.rename(classes)
        self.classes = self.images.classes

    def describe(self) -> str:
        """Counts of classes, pictures and people."""
        return f"{self.images.describe()}; {sum(map(len, self.samples.boxes.values()))} people"

    def identity(self) -> str:
        """Every file, its class and its boxes."""
        return f"{self.images.identity()}\n{self.max_people}"

    def dataset(self, split: str, train: bool) -> Dataset:
        """Pictures, boxes and class indices of a split."""
        boxes = {path: rows[: self.max_people] for path, rows in self.samples.boxes.items()}
        return BoxedImages(self.samples.items[split], boxes, self.transforms[train])

    def step(self, tools: StepTools, batch: Sequence[Any]) -> Tensor:
        """Cross-entropy of every person with the picture's label."""
        images, boxes, targets = batch
        tools.optimizer.zero_grad(set_to_none=True)
        output = tools.model(torch.stack(list(images)).contiguous(memory_format=torch.channels_last), boxes)
        target = targets.to(output.logits.device)[output.image_index]
        smoothing = self.recipe.label_smoothing
        loss = F.cross_entropy(output.logits.float(), target, label_smoothing=smoothing, reduction="sum")
        # a batch without people has loss 0
        loss = loss / max(len(target), 1)
        tools.update(loss)
        return loss.detach()[None]

    @torch.no_grad()
    def probabilities(
        self, model: nn.Module, loader: DataLoader, device: torch.device | str, progress: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`(N, K)` of images, `(N, K)` of their surest person, `(N,)` bool whether there is one, `(N,)` labels."""
        from tqdm import tqdm

        was_training, rows, network = model.training, [], cast(Any, model)
        model.eval()
        try:
            for images, boxes, targets in tqdm(loader, "scoring", leave=False, disable=not progress):
                batch = torch.stack(list(images)).to(device)
                output = network(batch, [b[:1].to(device) for b in boxes])
                image = network.probabilities(output.image_logits).cpu()
                person, known = image.clone(), torch.zeros(len(image), dtype=torch.bool)
                person[output.image_index.cpu()] = network.probabilities(output.logits).cpu()
                known[output.image_index.cpu()] = True
                rows.append((image, person, known, targets.cpu()))
        finally:
            model.train(was_training)
        image, person, known, targets = (torch.cat(column) for column in zip(*rows))
        return image, person, known, targets

    def score(self, model: nn.Module, loader: DataLoader, device: torch.device | str, progress: bool) -> PersonScore:
        """Accuracy and mAP of ConViT, of the human branch, and of both."""
        image, person, known, targets = self.probabilities(model, loader, device, progress)
        weights = cast(Any, model).fusion
        fused = fuse_scores(image, person, weights)
        evaluation = Evaluation(fused, targets, classification_metrics(fused, targets))
        branches = {}
        for name, probs, rows in (("image", image, targets == targets), ("person", person, known)):
            if not rows.any():
                continue
            alone = classification_metrics(probs[rows], targets[rows])
            branches[name] = {key: alone[key] for key in ("top1", "top1_interval", "map")}
        found = {"with_people": int(known.sum()), "fusion": list(weights)}
        return PersonScore({**evaluation.metrics, "branches": branches, **found}, evaluation)

    @torch.no_grad()
    def complete(self, model: nn.Module, device: torch.device, progress: bool) -> None:
        """Fit the fusion weights to the pictures held out, else the training pictures, without augmentation."""
        if not self.fit_fusion:
            return
        dataset = self.dataset("val" if "val" in self.splits else "train", train=False)
        loader = DataLoader(dataset, self.recipe.batch_size, collate_fn=collate_boxed)
        image, person, known, targets = self.probabilities(model, loader, device, progress)
        if not known.any():
            return  # the central crop leaves nothing of anybody, so that the weights make no difference
        network = cast(Any, model)
        network.fusion = fit_fusion_weights(image[known], person[known], targets[known])

    def report(self, score: Any, output: Path) -> None:
        """Curves and the confusion matrix of the fused scores, and every image's scores; `branches.json`."""
        write_report(score.evaluation, self.classes, output)
        with atomic_path(output / "branches.json") as temporary:
            temporary.write_text(json.dumps(score.metrics["branches"], indent=1) + "\n", encoding="utf-8")
