"""Photograph in, one action per person out: ConViT with its human branch behind a person detector."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast, overload

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as TF

from ..models import YOLOF, ConViTHARPerson, associate_boxes, fuse_scores
from ..models._detectors import PERSON
from .image import ActionPipeline, Picture, open_picture
from .names import model_name
from .people import Boxes
from .result import ActionResult, Person

Detector = Callable[[list[Tensor]], Sequence[dict[str, Tensor]]]


class DetectionPipeline:
    """A detector of people, and of their joints if it finds any, behind one call."""

    def __init__(
        self, detector: nn.Module | Detector, device: str | torch.device | None = None, threshold: float = 0.5
    ) -> None:
        """Wrap a detector.

        Args:
            detector: Takes a list of `(3, H, W)` pictures in `[0, 1]` and gives `boxes`, `labels` and `scores` of
                each, as torchvision's detectors do; people have label 1.
            device: Where to run; where the detector's parameters are if None.
            threshold: Least score of a person.

        Raises:
            ValueError: If the threshold is outside `[0, 1]`, or the detector is a YOLOF of more classes than people.
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a score in [0, 1], got {threshold}")
        if isinstance(detector, YOLOF) and detector.num_classes != 1:
            raise ValueError(
                f"this YOLOF finds {detector.num_classes} classes, of which none need be people; a detector of people "
                "has num_classes=1"
            )
        self.detector, self.threshold = detector, threshold
        self.device = torch.device(device or "cpu")
        self.name = model_name(detector)
        if isinstance(detector, nn.Module):
            parameter = next(detector.parameters(), None)
            self.device = torch.device(device) if device is not None else getattr(parameter, "device", self.device)
            detector.to(self.device).eval()

    @overload
    def __call__(self, pictures: Picture) -> ActionResult: ...
    @overload
    def __call__(self, pictures: list[Any] | tuple[Any, ...]) -> list[ActionResult]: ...
    def __call__(self, pictures: Picture | list[Any] | tuple[Any, ...]) -> ActionResult | list[ActionResult]:
        """Find the people in one picture, or in a list of pictures one by one.

        Args:
            pictures: A file, a PIL image, a `(3, H, W)` uint8 tensor, or a list of them.

        Returns:
            One result, or a list of them, whose `people` have `box`, `detection` and, if the detector finds any,
            `keypoints`, the surest first, and no action.

        Raises:
            FileNotFoundError: If there is no such file.
            RuntimeError: If a file cannot be read as a picture.
            TypeError: If it is something else.
        """
        if isinstance(pictures, list | tuple):
            return [self._one(picture) for picture in pictures]
        return self._one(pictures)

    def _one(self, picture: Picture) -> ActionResult:
        image, source = open_picture(picture)
        found = self._find(image)
        poses: list[Any] = [None] * len(found["boxes"])
        if {"keypoints", "keypoints_scores"} <= found.keys():
            # of a joint the heat map's logit is known; its sigmoid is a score as people have it elsewhere
            joints = torch.cat([found["keypoints"][..., :2], found["keypoints_scores"].sigmoid()[..., None]], -1)
            poses = [[tuple(joint) for joint in pose] for pose in joints.tolist()]
        people = [
            Person(_box(box), detection=score, keypoints=pose)
            for box, score, pose in zip(found["boxes"], found["scores"].tolist(), poses)
        ]
        return ActionResult((), (), self.name, source, people, image=image)

    def detect(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        """People in an RGB picture: `(n, 4)` boxes in its pixels and `(n,)` scores, the surest first."""
        found = self._find(image)
        return found["boxes"], found["scores"]

    @torch.inference_mode()
    def _find(self, image: Image.Image) -> dict[str, Tensor]:
        """Boxes, scores and, if there are any, keypoints of the people in an RGB picture, the surest first."""
        found = self.detector([TF.to_tensor(image).to(self.device)])[0]
        keep = (found["labels"] == PERSON) & (found["scores"] >= self.threshold)
        order = keep.nonzero()[:, 0][found["scores"][keep].argsort(descending=True)]
        wanted = ("boxes", "scores", "keypoints", "keypoints_scores")
        return {name: found[name][order].cpu() for name in wanted if name in found}


class PersonActionPipeline:
    """ConViT, its human branch and a detector (ConViT section 3.5); call it with pictures, and boxes if known."""

    def __init__(
        self,
        model: nn.Module,
        device: str | torch.device | None = None,
        detector: nn.Module | Detector | None = None,
        threshold: float = 0.5,
    ) -> None:
        """Wrap a built model.

        Args:
            model: A `ConViTHARPerson`.
            device: Where to run; where the model's parameters are if None.
            detector: As `DetectionPipeline` takes it; without one, people have to be given by their boxes.
            threshold: Least score of a detected person.

        Raises:
            ValueError: If the model is another, or has no classes, or the threshold is outside `[0, 1]`.
        """
        if not isinstance(model, ConViTHARPerson):
            raise ValueError(f"{type(model).__name__} labels no people; give a convit_har_person_* model")
        # transform, class names and device are those of a classifier
        self.whole = ActionPipeline(model, device)
        self.model, self.device, self.classes, self.name = model, self.whole.device, self.whole.classes, self.whole.name
        self.detector = None if detector is None else DetectionPipeline(detector, device, threshold)

    @overload
    def __call__(self, pictures: Picture, boxes: Boxes | None = None) -> ActionResult: ...
    @overload
    def __call__(
        self, pictures: list[Any] | tuple[Any, ...], boxes: Sequence[Boxes | None] | None = None
    ) -> list[ActionResult]: ...
    def __call__(
        self, pictures: Picture | list[Any] | tuple[Any, ...], boxes: Any = None
    ) -> ActionResult | list[ActionResult]:
        """Label the people in one picture, or in a list of pictures one by one.

        Args:
            pictures: A file, a PIL image, a `(3, H, W)` uint8 tensor, or a list of them.
            boxes: `(N, 4)` the people's boxes, xyxy in pixels; the detector's if None. Where both are there, every
                given box gives way to the detection of largest overlap, if that is at least 0.5 (the protocol of
                PASCAL VOC). For a list of pictures a list of as many.

        Returns:
            One result, or a list of them. `scores` are the image's own (ConViT); those of `people` are fused with
            the human branch's (Eq. 1). People given by boxes keep their order; one of whom less than a pixel lies
            in what the model sees of the picture (`field_of_view`, its central crop) has no label. Where nobody is
            found, `image_only` says so.

        Raises:
            FileNotFoundError: If there is no such file.
            RuntimeError: If a file cannot be read as a picture.
            TypeError: If a picture is something else.
            ValueError: If there are neither boxes nor a detector, or the boxes are not `(N, 4)`, or not those of
                every picture.
        """
        if not isinstance(pictures, list | tuple):
            return self._one(cast(Picture, pictures), boxes)
        if boxes is None:
            boxes = [None] * len(pictures)
        if len(boxes) != len(pictures):
            raise ValueError(f"a list of pictures takes boxes for each; got {len(pictures)} and {len(boxes)}")
        return [self._one(picture, of_picture) for picture, of_picture in zip(pictures, boxes)]

    @torch.inference_mode()
    def _one(self, picture: Picture, boxes: Boxes | None) -> ActionResult:
        image, source = open_picture(picture)
        people = self._find(image, boxes)
        batch = self.whole.transform(image)[None].to(self.device)
        view = self.whole.field_of_view(image.size)
        height, width = batch.shape[2:]
        corners = torch.tensor([person.box for person in people]).reshape(-1, 4)
        scale = torch.tensor([width / (view[2] - view[0]), height / (view[3] - view[1])]).repeat(2)
        seen = (corners - torch.tensor(view[:2]).repeat(2)) * scale
        output = self.model(batch, [seen.to(self.device)])
        image_scores = self.model.probabilities(output.image_logits).cpu()
        fused = fuse_scores(image_scores, self.model.probabilities(output.logits).cpu(), self.model.fusion)
        for row, i in zip(fused, output.box_index.tolist()):
            best = int(row.argmax())
            people[i] = replace(people[i], label=self.classes[best], score=float(row[best]), scores=tuple(row.tolist()))
        return ActionResult(
            self.classes,
            tuple(image_scores[0].tolist()),
            self.name,
            source,
            people,
            field_of_view=view,
            image=image,
            image_only=not any(person.scores for person in people),
            maps=self.whole.maps_of(batch),
        )

    def _find(self, image: Image.Image, boxes: Boxes | None) -> list[Person]:
        """The people to label: those given, as the detector sees them, or those detected."""
        if boxes is None and self.detector is None:
            raise ValueError(f"{self.name} labels people and finds none: give their boxes, or a detector=")
        detected, scores = (torch.zeros(0, 4), torch.zeros(0)) if self.detector is None else self.detector.detect(image)
        if boxes is None:
            return [Person(_box(box), detection=score) for box, score in zip(detected, scores.tolist())]
        given = torch.as_tensor(boxes, dtype=torch.float32)
        given = given.reshape(0, 4) if given.numel() == 0 and given.ndim <= 2 else given
        if given.ndim != 2 or given.shape[1] != 4 or not given.isfinite().all():
            raise ValueError(f"boxes of the people are (N, 4) finite xyxy, got {tuple(given.shape)}")
        placed, index = associate_boxes(given, detected)
        return [
            Person(_box(box), detection=scores[i].item() if i >= 0 else None) for box, i in zip(placed, index.tolist())
        ]


def _box(box: Tensor) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.tolist()
    return (x1, y1, x2, y2)
