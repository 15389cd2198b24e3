"""Detectors of people and their keypoints on a feature pyramid: torchvision's keypoint R-CNN, and a tiny one.

Paper: "An efficient human instance-guided framework for video action recognition" (sections 3.1.1 and 3.1.2). It takes
Mask R-CNN with a keypoint head on ResNet-50-FPN; masks are never used there, so keypoint R-CNN is all of it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torchvision.models.detection import KeypointRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ..registry import register_model
from ..weights import HubMixin, WeightsInfo
from ._detectors import MapTrunk, check_pictures, check_settings, check_targets
from ._share import copy_state
from .convit_har import TINY

__all__ = ["KeypointDetector", "keypointrcnn_resnet50_fpn", "keypointrcnn_tiny"]


class KeypointDetector(HubMixin, KeypointRCNN):
    """Keypoint R-CNN (section 3.1), with torchvision's layers and their names.

    Inputs and outputs are those of torchvision's detectors. `actionzoo.models.instances` gets the pyramid's maps out
    of it along with the people.
    """

    def __init__(
        self,
        *,
        trunk: str | None = None,
        trunk_args: dict[str, Any] | None = None,
        out_indices: Sequence[int] | None = None,
        out_channels: int = 256,
        hidden: int = 1024,
        keypoint_layers: Sequence[int] = (512,) * 8,
        num_keypoints: int = 17,
        anchor_sizes: Sequence[Sequence[int]] = ((32,), (64,), (128,), (256,), (512,)),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        min_size: int = 720,
        max_size: int = 1280,
        in_chans: int = 3,
        **settings: Any,
    ) -> None:
        """Build the detector with random weights; the defaults are those of torchvision's COCO weights.

        Args:
            trunk: Name of a timm model that has `forward_intermediates`; None for torchvision's ResNet-50, whose
                BatchNorm statistics are fixed.
            trunk_args: Further arguments of the timm model.
            out_indices: Which of its maps the pyramid takes, the finest first; the last four if None.
            out_channels: Channels of the pyramid's maps.
            hidden: Width of the two-layer box head.
            keypoint_layers: Channels of the keypoint head's convolutions.
            num_keypoints: Joints J of a person; 17 are COCO's.
            anchor_sizes: Side of the anchors in pixels for each map, and for one more of twice the last one's stride.
            aspect_ratios: Height over width of the anchors.
            min_size: Pictures are scaled to this shorter side in pixels,
            max_size: but to no longer side than this. With the paper's 720 and 1280, frames of NTU RGB+D at
                1280x720 keep their size and are padded to 1280x736.
            in_chans: Channels of the pictures, which torchvision wants to be 3.
            settings: Further arguments of torchvision's `KeypointRCNN`, such as `box_score_thresh`.

        Raises:
            TypeError: If torchvision has no such setting.
            ValueError: If the trunk gives no such maps, or their number does not fit `anchor_sizes`, or `in_chans` is
                not 3, or there are no `keypoint_layers`, or arguments of a timm trunk come without one.
        """
        check_settings(type(self), settings, in_chans)
        if not keypoint_layers:
            raise ValueError("keypoint_layers names no convolution; expected the channels of one or more")
        if trunk is None:
            if trunk_args or out_indices is not None or out_channels != 256:
                raise ValueError("trunk_args, out_indices and out_channels are those of a timm trunk; name it as trunk")
            # the published weights divide by the bare standard deviation
            norm = partial(FrozenBatchNorm2d, eps=0.0)
            backbone: Any = resnet_fpn_backbone(
                backbone_name="resnet50", weights=None, norm_layer=norm, trainable_layers=5
            )
            levels, first_conv = ["0", "1", "2", "3"], "backbone.body.conv1"
        else:
            backbone = PyramidTrunk(trunk, trunk_args or {}, out_indices, out_channels)
            levels, first = backbone.levels, backbone.trunk.default_cfg.get("first_conv")
            first_conv = first and f"backbone.trunk.{first}"
        if len(anchor_sizes) != len(levels) + 1:
            raise ValueError(
                f"anchor_sizes has {len(anchor_sizes)} entries; expected {len(levels) + 1}: one for each of the "
                "trunk's maps and one more"
            )
        anchors = tuple(tuple(sizes) for sizes in anchor_sizes)
        channels, layers = backbone.out_channels, tuple(keypoint_layers)
        super().__init__(
            backbone,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(IMAGENET_DEFAULT_MEAN),
            image_std=list(IMAGENET_DEFAULT_STD),
            rpn_anchor_generator=AnchorGenerator(anchors, (tuple(aspect_ratios),) * len(anchors)),
            box_roi_pool=MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
            box_head=TwoMLPHead(channels * 7**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, 2),
            keypoint_roi_pool=MultiScaleRoIAlign(levels, output_size=14, sampling_ratio=2),
            keypoint_head=KeypointRCNNHeads(channels, layers),
            keypoint_predictor=ContiguousPredictor(layers[-1], num_keypoints),
            **settings,
        )
        self.num_keypoints = num_keypoints
        self.pretrained_cfg = self.default_cfg = {
            "input_size": (3, min_size, max_size if trunk is None else min_size),
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": first_conv,
            "num_joints": num_keypoints,
            "joints": "coco" if num_keypoints == 17 else None,
        }

    def load_convit(self, convit: nn.Module) -> None:
        """Take over the backbone of a trained ConViT, or of any network whose `backbone` is the trunk's timm model.

        Raises:
            ValueError: If this detector's trunk is not one of timm's, or the backbone lacks something of it, or is
                another.
        """
        trunk: Any = getattr(self.backbone, "trunk", None)
        if trunk is None:
            raise ValueError(f"this {type(self).__name__} is built on torchvision's ResNet-50; create it with trunk=…")
        copy_state(getattr(convit, "backbone", convit), trunk, f"the trunk of this {type(self).__name__}")

    def forward(self, images: list[Tensor] | Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Find people and their joints.

        Args:
            images: `(3, H, W)` each, in `[0, 1]` and of any size, or a batch `(B, 3, H, W)`; they are normalised and
                scaled inside.
            targets: For training: `boxes` `(n, 4)` xyxy in pixels, `labels` `(n,)`, all 1, and `keypoints`
                `(n, J, 3)` x, y and visibility of every picture; a joint of visibility 0 teaches nothing.

        Returns:
            In eval mode, for every picture, `boxes` `(n, 4)` in its pixels, `labels` `(n,)`, all 1, `scores` `(n,)`,
            the surest first, `keypoints` `(n, J, 3)`, whose third number is 1, and `keypoints_scores` `(n, J)`, the
            heat maps' logits at the joints; in training torchvision's five losses by name.

        Raises:
            ValueError: If there is no picture, one is not `(3, H, W)`, or in training the targets are not as described.
        """
        check_pictures(type(self).__name__, images)
        if self.training:
            check_targets(targets, len(images))
            for i, target in enumerate(targets or ()):
                expected = (len(target["boxes"]), self.num_keypoints, 3)
                if "keypoints" not in target or tuple(target["keypoints"].shape) != expected:
                    got = tuple(target["keypoints"].shape) if "keypoints" in target else "none"
                    raise ValueError(f"target {i}: expected keypoints {expected} of its people, got {got}")
        return super().forward(list(images), targets)


class ContiguousPredictor(KeypointRCNNPredictor):
    """The same heat maps in the default memory format, in which alone torchvision can view them as rows."""

    def forward(self, x: Tensor) -> Tensor:
        """`(n, C, h, w)` -> `(n, J, 4 h, 4 w)`."""
        return super().forward(x).contiguous()


class PyramidTrunk(MapTrunk):
    """A timm backbone's maps, mixed by torchvision's feature pyramid network, and one coarser level."""

    def __init__(
        self, trunk: str, trunk_args: dict[str, Any], out_indices: Sequence[int] | None, out_channels: int
    ) -> None:
        super().__init__(trunk, trunk_args, out_indices, out_channels)
        self.fpn = FeaturePyramidNetwork(self.channels, out_channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """`(B, 3, H, W)` -> maps of `out_channels`, the finest first."""
        return self.fpn(self.maps(images))


_PAPER = "An efficient human instance-guided framework for video action recognition"
_TASK = "person keypoint detection"


@register_model(
    task=_TASK,
    paper=_PAPER,
    input_size=(3, 720, 1280),
    params=59_137_258,
    config={"first_conv": "backbone.body.conv1"},
    weights=(
        WeightsInfo(
            source="torchvision",
            location="KeypointRCNN_ResNet50_FPN_Weights.COCO_V1",
            tag="coco_v1",
            data="COCO keypoints",
        ),
    ),
)
def keypointrcnn_resnet50_fpn(**kwargs: Any) -> KeypointDetector:
    """The keypoint R-CNN of torchvision on ResNet-50-FPN, at the paper's 720 pixels: its human instance head."""
    return KeypointDetector(**kwargs)


@register_model(
    task=_TASK,
    paper=_PAPER,
    input_size=(3, 160, 160),
    params=1_933_481,
    config={"first_conv": "backbone.trunk.conv1.0"},
)
def keypointrcnn_tiny(**kwargs: Any) -> KeypointDetector:
    """A small keypoint R-CNN on the backbone of `convit_har_tiny`: trains on a CPU."""
    settings: dict[str, Any] = {
        "trunk": TINY["backbone"],
        "trunk_args": TINY["backbone_args"],
        # strides 4, 8 and 16, the latter of the last stage
        "out_indices": (1, 2, 4),
        "out_channels": 64,
        "hidden": 96,
        "keypoint_layers": (64, 64, 64, 64),
        "anchor_sizes": ((16, 24), (32, 48), (64, 96), (128, 192)),
        "aspect_ratios": (0.75, 1.5, 3.0),
        "min_size": 160,
        "max_size": 288,
        "rpn_pre_nms_top_n_train": 500,
        "rpn_pre_nms_top_n_test": 300,
        "rpn_post_nms_top_n_train": 100,
        "rpn_post_nms_top_n_test": 100,
        "box_batch_size_per_image": 32,
        "box_detections_per_img": 20,
    }
    return KeypointDetector(**{**settings, **kwargs})
