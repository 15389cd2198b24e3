"""Person detectors: torchvision's Faster R-CNN with a path aggregation neck on the backbone of a classifier.

Paper: "Human Action Recognition in Still Images Using ConViT" (sections 3.4 and 4.2, Fig. 6), whose detector shares
the ResNet of the trained, frozen ConViT. A detector here holds a copy of it under `backbone.trunk`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, box_iou

from ..layers import PathAggregation
from ..registry import register_model
from ..weights import HubMixin, WeightsInfo
from ._detectors import MapTrunk, check_pictures, check_settings, check_targets
from ._share import copy_state
from .convit_har import TINY

__all__ = ["PersonDetector", "person_resnet50", "person_tiny"]


class NeckedTrunk(MapTrunk):
    """A timm backbone's maps, mixed by a path aggregation neck, and one coarser level: what torchvision detects on."""

    def __init__(
        self, trunk: str, trunk_args: dict[str, Any], out_indices: Sequence[int] | None, out_channels: int
    ) -> None:
        super().__init__(trunk, trunk_args, out_indices, out_channels)
        self.neck = PathAggregation(self.channels, out_channels, self.strides)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """`(B, 3, H, W)` -> maps of `out_channels`, the finest first."""
        out = self.neck(self.maps(images))
        # for large people, as torchvision's pyramids end
        out["pool"] = nn.functional.max_pool2d(out[self.levels[-1]], 1, 2)
        return out


class PersonDetector(HubMixin, FasterRCNN):
    """Faster R-CNN with PANet's neck that finds people (ConViT section 3.4).

    Inputs and outputs are those of torchvision's detectors. For training, put `backbone.trunk` in eval mode
    without gradients (`actionzoo.training.freeze`), as the paper does with the trained ConViT's.
    """

    def __init__(
        self,
        *,
        trunk: str = "resnet50",
        trunk_args: dict[str, Any] | None = None,
        out_indices: Sequence[int] | None = None,
        out_channels: int = 256,
        hidden: int = 1024,
        anchor_sizes: Sequence[Sequence[int]] = ((32,), (64,), (128,), (256,), (512,)),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        min_size: int = 800,
        max_size: int = 1333,
        in_chans: int = 3,
        **settings: Any,
    ) -> None:
        """Build the detector with random weights.

        Args:
            trunk: Name of a timm model that has `forward_intermediates`: the backbone of the ConViT.
            trunk_args: Further arguments of the timm model.
            out_indices: Which of its maps the neck takes, the finest first; the last four if None.
            out_channels: Channels of the neck's maps.
            hidden: Width of the two-layer box head.
            anchor_sizes: Side of the anchors in pixels for each map, and for one more of twice the last one's stride.
            aspect_ratios: Height over width of the anchors.
            min_size: Pictures are scaled to this shorter side in pixels,
            max_size: but to no longer side than this.
            in_chans: Channels of the pictures, which torchvision wants to be 3.
            settings: Further arguments of torchvision's `FasterRCNN`, such as `box_score_thresh`.

        Raises:
            TypeError: If torchvision has no such setting.
            ValueError: If the trunk gives no such maps, or their number does not fit `anchor_sizes`, or `in_chans` is
                not 3.
        """
        check_settings(type(self), settings, in_chans)
        backbone = NeckedTrunk(trunk, trunk_args or {}, out_indices, out_channels)
        if len(anchor_sizes) != len(backbone.levels) + 1:
            raise ValueError(
                f"anchor_sizes has {len(anchor_sizes)} entries; expected {len(backbone.levels) + 1}: one for each of "
                "the trunk's maps and one more"
            )
        anchors = tuple(tuple(sizes) for sizes in anchor_sizes)
        super().__init__(
            backbone,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(IMAGENET_DEFAULT_MEAN),
            image_std=list(IMAGENET_DEFAULT_STD),
            rpn_anchor_generator=AnchorGenerator(anchors, (tuple(aspect_ratios),) * len(anchors)),
            box_roi_pool=MultiScaleRoIAlign(backbone.levels, output_size=7, sampling_ratio=2),
            box_head=TwoMLPHead(out_channels * 7**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, 2),
            **settings,
        )
        first = backbone.trunk.default_cfg.get("first_conv")
        self.pretrained_cfg = self.default_cfg = {
            "input_size": (3, min_size, min_size),
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": first and f"backbone.trunk.{first}",
        }

    def load_convit(self, convit: nn.Module) -> None:
        """Take over the backbone of a trained ConViT, whose copy the trunk then is (section 4.2).

        Args:
            convit: A `ConViTHAR`, or any other network whose `backbone` is the timm model that the trunk is.

        Raises:
            ValueError: If its backbone lacks something of the trunk, or is another.
        """
        trunk: Any = self.backbone.trunk
        copy_state(getattr(convit, "backbone", convit), trunk, f"the trunk of this {type(self).__name__}")

    def forward(self, images: list[Tensor] | Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Find the people in pictures.

        Args:
            images: `(3, H, W)` each, in `[0, 1]` and of any size, or a batch `(B, 3, H, W)`; they are normalised and
                scaled inside.
            targets: For training: `boxes` `(n, 4)` xyxy in pixels and `labels` `(n,)`, all 1, of every picture.

        Returns:
            In eval mode, for every picture, `boxes` `(n, 4)` in its pixels, `labels` `(n,)`, all 1, and `scores`
            `(n,)`, the surest first; in training torchvision's four losses by name.

        Raises:
            ValueError: If there is no picture, one is not `(3, H, W)`, or in training the targets are not as described.
        """
        check_pictures(type(self).__name__, images)
        if self.training:
            check_targets(targets, len(images))
        return super().forward(list(images), targets)


def associate_boxes(given: Tensor, detected: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Put detected boxes in the place of given ones that they overlap (ConViT section 3.4).

    PASCAL VOC's action task says which people to label; a detector's boxes may fit them better, or be what the human
    branch was trained with. Two given boxes may get the same detection.

    Args:
        given: `(N, 4)` boxes of the people to label, xyxy.
        detected: `(M, 4)` detections.
        threshold: Least intersection over union.

    Returns:
        `(N, 4)` boxes: of every given one the detection of largest overlap, the given box itself where none reaches
        the threshold, of the type that holds both; and `(N,)` the detection's index or -1.

    Raises:
        ValueError: If the boxes are not `(n, 4)`, or the threshold is outside `(0, 1]`.
    """
    for boxes in (given, detected):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes are (n, 4) xyxy, got {tuple(boxes.shape)}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is an overlap in (0, 1], got {threshold}")
    # integers given by hand must not round the detections
    dtype = torch.promote_types(given.dtype, detected.dtype)
    if not len(detected) or not len(given):
        return given.to(dtype, copy=True), torch.full((len(given),), -1, device=given.device)
    # a box without area or coordinates overlaps nothing; as NaN it would hide what the others overlap
    overlap, index = box_iou(given.float(), detected.float()).nan_to_num(0.0).max(1)
    found = overlap >= threshold
    boxes = torch.where(found[:, None], detected[index].to(dtype), given.to(dtype))
    return boxes, torch.where(found, index, -1)


_PAPER = "Human action recognition in still images using ConViT"
_TASK = "person detection"


@register_model(
    task=_TASK,
    paper=_PAPER,
    input_size=(3, 800, 800),
    params=44_892_761,
    config={"first_conv": "backbone.trunk.conv1"},
    weights=(
        WeightsInfo(
            covers="backbone",
            source="hf-hub",
            location="timm/resnet50.tv_in1k",
            prefix="backbone.trunk.",
            exclude=("fc.*",),
            data="ImageNet-1k",
        ),
    ),
)
def person_resnet50(**kwargs: Any) -> PersonDetector:
    """Faster R-CNN with PANet's neck on ResNet-50: the paper's person detector."""
    return PersonDetector(**{"out_indices": (1, 2, 3, 4), **kwargs})


@register_model(
    task=_TASK,
    paper=_PAPER,
    input_size=(3, 192, 192),
    params=1_911_064,
    config={"first_conv": "backbone.trunk.conv1.0"},
)
def person_tiny(**kwargs: Any) -> PersonDetector:
    """A person detector on the backbone of `convit_har_tiny`: trains on a CPU."""
    settings: dict[str, Any] = {
        "trunk": TINY["backbone"],
        "trunk_args": TINY["backbone_args"],
        # strides 8 and 16, the latter of the last stage
        "out_indices": (2, 4),
        "out_channels": 64,
        "hidden": 128,
        "anchor_sizes": ((32, 48), (64, 96), (128, 192)),
        "aspect_ratios": (0.75, 1.5, 3.0),
        "min_size": 192,
        "max_size": 320,
        "rpn_pre_nms_top_n_train": 500,
        "rpn_pre_nms_top_n_test": 300,
        "rpn_post_nms_top_n_train": 200,
        "rpn_post_nms_top_n_test": 100,
        "box_batch_size_per_image": 64,
        "box_detections_per_img": 30,
    }
    return PersonDetector(**{**settings, **kwargs})
