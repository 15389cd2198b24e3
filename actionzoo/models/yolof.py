"""YOLOF: a detector of people or body parts on one feature map.

Paper: "Part-level Action Parsing via a Pose-guided Coarse-to-Fine Framework" (section III-A), which finds people, and
then body parts in pictures with pose dots, by the detector of Chen et al., "You Only Look One-level Feature" (CVPR
2021). PCF calls it anchor-free; it has five square anchors at every cell.
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import (
    batched_nms,
    clip_boxes_to_image,
    generalized_box_iou_loss,
    remove_small_boxes,
    sigmoid_focal_loss,
)

from ..layers import DilatedEncoder
from ..registry import register_model
from ..weights import HubMixin, WeightsInfo
from ._detectors import MapTrunk, check_channels, check_pictures, check_targets
from ._share import copy_state
from .convit_har import TINY
from .yolof_head import BACKGROUND, IGNORED, CentreClampCoder, YOLOFHead, uniform_match

__all__ = ["YOLOF", "yolof_resnet50", "yolof_resnet101", "yolof_tiny"]


class EncodedTrunk(MapTrunk):
    """A timm backbone's last map, through a dilated encoder."""

    def __init__(
        self, trunk: str, trunk_args: dict[str, Any], out_channels: int, mid_channels: int, dilations: Sequence[int]
    ) -> None:
        super().__init__(trunk, trunk_args, (-1,), out_channels)
        self.stride = int(self.strides[0])
        self.neck = DilatedEncoder(self.channels[0], out_channels, mid_channels, dilations)

    def forward(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` -> `(B, out_channels, h, w)`."""
        return self.neck(self.maps(images)[self.levels[0]])


class YOLOF(HubMixin, nn.Module):
    """A one-stage detector on the last map of a backbone (PCF section III-A; YOLOF, CVPR 2021).

    Inputs and outputs are those of torchvision's detectors; the labels of K classes are 1 to K. It learns by uniform
    matching, sigmoid focal loss and generalised IoU loss. The authors train it with the backbone's BatchNorm fixed
    and its stem and first stage frozen; `actionzoo.training.freeze` does that, or freezes the trunk as a whole.
    """

    classifier_names = ("head.class_logits",)

    def __init__(
        self,
        *,
        trunk: str = "resnet50",
        trunk_args: dict[str, Any] | None = None,
        num_classes: int = 1,
        out_channels: int = 512,
        mid_channels: int = 128,
        dilations: Sequence[int] = (2, 4, 6, 8),
        anchor_scales: Sequence[float] = (1, 2, 4, 8, 16),
        min_size: int = 800,
        max_size: int = 1333,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.6,
        topk_candidates: int = 1000,
        detections_per_img: int = 100,
        detections_per_class: int | None = None,
        in_chans: int = 3,
    ) -> None:
        """Build the detector with random weights; the defaults are those of the authors' configuration.

        Args:
            trunk: Name of a timm model that has `forward_intermediates`; its last map is looked at.
            trunk_args: Further arguments of the timm model.
            num_classes: Classes K, the background not counted: 1 for people, 10 for PCF's body parts.
            out_channels: Channels of the encoder's map and of the head.
            mid_channels: Channels inside the encoder's residual blocks.
            dilations: Dilation of each of them, in cells.
            anchor_scales: Sides of the square anchors, in strides of the map.
            min_size: Pictures are scaled to this shorter side in pixels,
            max_size: but to no longer side than this.
            score_thresh: Detections score more than this.
            nms_thresh: Of two boxes of one class that overlap by more, the less sure one is dropped.
            topk_candidates: The surest of every class that are looked at.
            detections_per_img: The surest of a picture that are returned.
            detections_per_class: The surest of every class that are returned; None for no limit. PCF takes 1 for
                body parts, of which a person has one each. It may be set later, too.
            in_chans: Channels of the pictures, which torchvision's transform wants to be 3.

        Raises:
            ValueError: If the trunk gives no maps, there are no classes or anchors, or `in_chans` is not 3.
        """
        check_channels(type(self), in_chans)
        if not anchor_scales or min(anchor_scales) <= 0:
            raise ValueError(f"expected anchor_scales above 0, got {tuple(anchor_scales)}")
        super().__init__()
        self.in_chans = in_chans
        self.transform = GeneralizedRCNNTransform(
            min_size, max_size, list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD)
        )
        self.backbone = EncodedTrunk(trunk, trunk_args or {}, out_channels, mid_channels, dilations)
        stride = self.backbone.stride
        # torchvision takes integers, but only as a matter of typing
        sizes: Any = (tuple(scale * stride for scale in anchor_scales),)
        self.anchor_generator = AnchorGenerator(sizes, ((1.0,),))
        self.head = YOLOFHead(out_channels, num_classes, len(anchor_scales))
        self.box_coder = CentreClampCoder(clamp=stride)
        self.score_thresh, self.nms_thresh, self.topk_candidates = score_thresh, nms_thresh, topk_candidates
        self.detections_per_img, self.detections_per_class = detections_per_img, detections_per_class
        first = self.backbone.trunk.default_cfg.get("first_conv")
        self.pretrained_cfg = self.default_cfg = {
            "input_size": (3, min_size, min_size),
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": first and f"backbone.trunk.{first}",
            "num_classes": num_classes,
        }

    @property
    def num_classes(self) -> int:
        """Classes K, the background not counted."""
        return self.head.num_classes

    def get_classifier(self) -> nn.Module:
        """The convolution that gives the class logits of all anchors of a cell."""
        return self.head.class_logits

    def reset_classifier(self, num_classes: int) -> None:
        """Give the head fresh class logits of `num_classes` classes, at least 1."""
        self.head.reset_classifier(num_classes)

    def load_convit(self, convit: nn.Module) -> None:
        """Take over the backbone of a trained ConViT, or of any network whose `backbone` is the trunk's timm model.

        Raises:
            ValueError: If its backbone lacks something of the trunk, or is another.
        """
        copy_state(getattr(convit, "backbone", convit), self.backbone.trunk, f"the trunk of this {type(self).__name__}")

    def forward(self, images: list[Tensor] | Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Find objects in pictures.

        Args:
            images: `(3, H, W)` each, in `[0, 1]` and of any size, or a batch `(B, 3, H, W)`; they are normalised and
                scaled inside.
            targets: For training: `boxes` `(n, 4)` xyxy in pixels and `labels` `(n,)` in 1 … K, of every picture.

        Returns:
            In eval mode, for every picture, `boxes` `(n, 4)` in its pixels, `labels` `(n,)` and `scores` `(n,)`, the
            surest first; in training `loss_classifier` and `loss_box_reg`.

        Raises:
            ValueError: If there is no picture, one is not `(3, H, W)`, or in training the targets are not as described.
        """
        check_pictures(type(self).__name__, images)
        if self.training:
            check_targets(targets, len(images), self.num_classes)
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        batch, scaled = self.transform(list(images), targets if self.training else None)
        maps = self.backbone(batch.tensors)
        logits, deltas = self.head(maps)
        # in half precision the anchors' own coordinates would be rounded
        anchors = self.anchor_generator(batch, [maps.to(logits.dtype)])[0]
        if self.training:
            return self._losses(logits, deltas, anchors, scaled or [])
        return self._detections(logits, deltas, anchors, batch, sizes)

    def _losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Both losses, summed over anchors and divided by the number of those that have an object."""
        classifier, box_reg, positives = [], [], []
        for logit, delta, target in zip(logits, deltas, targets, strict=True):
            boxes, objects = self.box_coder.decode_single(delta, anchors), target["boxes"].to(anchors)
            match = uniform_match(boxes, anchors, objects)
            found = match.objects > BACKGROUND
            wanted = torch.zeros_like(logit)
            wanted[found, target["labels"][match.objects[found]] - 1] = 1
            learning = match.objects != IGNORED
            classifier.append(sigmoid_focal_loss(logit[learning], wanted[learning], reduction="sum"))
            here, there = match.pairs.unbind(1)
            box_reg.append(generalized_box_iou_loss(boxes[here], objects[there], reduction="sum"))
            positives.append(found.sum())
        count = torch.stack(positives).sum().clamp(min=1)
        return {
            "loss_classifier": torch.stack(classifier).sum() / count,
            "loss_box_reg": torch.stack(box_reg).sum() / count,
        }

    def _detections(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, batch: ImageList, sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        found = []
        for logit, delta, size in zip(logits, deltas, batch.image_sizes, strict=True):
            scores, index = logit.sigmoid().topk(min(self.topk_candidates, len(logit)), 0)
            labels = torch.arange(1, self.num_classes + 1, device=scores.device).expand_as(scores)
            sure = scores > self.score_thresh
            scores, index, labels = scores[sure], index[sure], labels[sure]
            boxes = clip_boxes_to_image(self.box_coder.decode_single(delta[index], anchors[index]), size)
            large = remove_small_boxes(boxes, min_size=1e-2)
            boxes, scores, labels = boxes[large], scores[large], labels[large]
            keep = batched_nms(boxes, scores, labels, self.nms_thresh)
            if self.detections_per_class is not None:
                rank = nn.functional.one_hot(labels[keep], self.num_classes + 1).cumsum(0)
                keep = keep[rank.gather(1, labels[keep][:, None]).squeeze(1) <= self.detections_per_class]
            keep = keep[: self.detections_per_img]
            found.append({"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]})
        return self.transform.postprocess(found, batch.image_sizes, sizes)


_PAPER = "Part-level action parsing via a pose-guided coarse-to-fine framework"
_TASK = "object detection"


def _imagenet(repository: str) -> WeightsInfo:
    return WeightsInfo(
        covers="backbone",
        source="hf-hub",
        location=repository,
        prefix="backbone.trunk.",
        exclude=("fc.*",),
        data="ImageNet-1k",
    )


@register_model(
    task=_TASK,
    paper=_PAPER,
    input_size=(3, 800, 800),
    num_classes=1,
    params=61_331_550,
    config={"first_conv": "backbone.trunk.conv1"},
    weights=(_imagenet("timm/resnet101.tv_in1k"),),
)
def yolof_resnet101(**kwargs: Any) -> YOLOF:
    """YOLOF on ResNet-101: the paper's detector of people, and with 10 classes of body parts."""
    return YOLOF(**{"trunk": "resnet101", **kwargs})


@register_model(
    task=_TASK,
    paper=_PAPER,
    input_size=(3, 800, 800),
    num_classes=1,
    params=42_339_422,
    config={"first_conv": "backbone.trunk.conv1"},
    weights=(_imagenet("timm/resnet50.tv_in1k"),),
)
def yolof_resnet50(**kwargs: Any) -> YOLOF:
    """YOLOF on ResNet-50."""
    return YOLOF(**{"trunk": "resnet50", **kwargs})


@register_model(
    task=_TASK,
    paper=_PAPER,
    input_size=(3, 192, 192),
    num_classes=1,
    params=1_631_694,
    config={"first_conv": "backbone.trunk.conv1.0"},
)
def yolof_tiny(**kwargs: Any) -> YOLOF:
    """YOLOF on the backbone of `convit_har_tiny`: trains on a CPU."""
    settings: dict[str, Any] = {
        "trunk": TINY["backbone"],
        "trunk_args": TINY["backbone_args"],
        "out_channels": 64,
        "mid_channels": 32,
        "dilations": (1, 2, 3, 4),
        # 16 to 128 pixels: at 192 pixels a hand is smaller than two cells
        "anchor_scales": (1, 1.5, 2.25, 4, 8),
        "min_size": 192,
        "max_size": 320,
        "detections_per_img": 30,
    }
    return YOLOF(**{**settings, **kwargs})
