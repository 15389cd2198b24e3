"""The body-part network: pose and action of one person from three streams that look at the pose.

Paper: "Body-Part-Aware and Multitask-Aware Single-Image-Based Action Recognition" (section 3). One HRNet predicts
joint heat maps. The image stream classifies its lowest-resolution map, the attention stream the image brightened
where joints are, the part stream crops of head and hands cut at the joints from an image of twice the resolution;
a concat head classifies what the three see together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from einops import rearrange
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple

from ..layers import MPII_FALLBACK, MPII_PARTS, AttentionImageStream, PartCropper, decode_heatmaps
from ..registry import register_model
from ..weights import HubMixin, WeightsInfo
from .pose_hrnet import (
    CLASSIFICATION_HEAD,
    HRNetTrunk,
    check_images,
    flip_pairs_of,
    heatmap_conv,
    hrnet_config,
    joints_layout,
)

__all__ = ["BodyPartNet", "BodyPartOutput", "bodypart_hrnet_w32", "bodypart_tiny"]

STREAMS = ("image", "attention", "part")
ENSEMBLE = ("image", "part")
Joints = Mapping[str, int | tuple[int, ...]]
PARTS: dict[str | None, tuple[Joints, Joints]] = {
    "mpii": (MPII_PARTS, MPII_FALLBACK),
    "coco": ({"head": 0, "right": 10, "left": 9}, {"right": 8, "left": 7}),
}
"""Top of the head (COCO: nose) and wrists, and elbows for wrists that are missing, by the order of the joints."""


class BodyPartOutput(NamedTuple):
    """What the body-part network predicts and where it looked."""

    logits: Tensor
    """`(B, K)` logits of the concat head: the prediction."""
    heatmaps: Tensor
    """`(B, J, h, w)` joint heat maps at an eighth of the base image's resolution."""
    stream_logits: dict[str, Tensor]
    """`(B, K)` logits of every stream's own head, by the stream's name."""
    crops: Tensor | None
    """`(B, P, C, s, s)` part crops, None without the part stream."""
    boxes: Tensor | None
    """`(B, P, 4)` integer xyxy boxes of the crops in pixels of the base image."""
    valid: Tensor | None
    """`(B, P)` whether a crop shows its part; where not, it shows the image's centre."""
    attention: Tensor | None
    """`(B, 3, H, W)` attention on the network's input, None without the attention stream."""


# torch.export.save writes outputs of registered types only
_register_namedtuple(BodyPartOutput, serialized_type_name="actionzoo.models.BodyPartOutput")


class _Streams(NamedTuple):
    """The streams' features `(B, D_i)`, and the rest of the output."""

    features: dict[str, Tensor]
    heatmaps: Tensor
    crops: Tensor | None = None
    boxes: Tensor | None = None
    valid: Tensor | None = None
    attention: Tensor | None = None


def _default_parts(layout: str | None, parts: Joints | None, fallback: Joints | None) -> tuple[Joints, Joints]:
    """Parts and fallback where the caller gives none, which needs to know the order of the joints."""
    if parts is not None:
        return parts, fallback or {}
    if layout not in PARTS:
        raise ValueError(
            "the joints are in neither MPII's order (16) nor COCO's (17), so that head and hands are not known; "
            'name the joints that parts are cut at, parts={"head": …}'
        )
    known = PARTS[layout]
    return known[0], known[1] if fallback is None else fallback


class BodyPartNet(HubMixin, nn.Module):
    """Pose and action from image, attention and part streams on one HRNet (body-part net, section 3).

    The input is the base image that parts are cut from; the network's own input is its 2x2 mean.
    `actionzoo.losses.MultitaskAwareLoss` trains it on images with joints, with actions, or with both.
    """

    heatmap_stride = 8
    """Pixels of the base image per heat-map cell."""

    def __init__(
        self,
        *,
        num_classes: int = 40,
        in_chans: int = 3,
        num_joints: int = 16,
        backbone: str | Mapping[str, Any] = "hrnet_w32",
        trunk: str = "resnet18",
        trunk_args: Mapping[str, Any] | None = None,
        streams: Sequence[str] = STREAMS,
        parts: Joints | None = None,
        fallback: Joints | None = None,
        part_size: int | None = None,
        pose_kernel: int = 3,
        quarter_shift: bool = False,
        drop_rate: float = 0.0,
        joints: str | None = None,
        input_size: tuple[int, int, int] = (3, 512, 512),
    ) -> None:
        """Build the network with random weights.

        Args:
            num_classes: Classes K; 0 removes the classifiers, and the logits are the features before them.
            in_chans: Channels of the images.
            num_joints: Joints J, one heat map each.
            backbone: Name of a timm HRNet, or its settings, see `hrnet_config`.
            trunk: Name of the timm ResNet that the attention stream and the part stream have one each of.
            trunk_args: Further arguments of the timm model.
            streams: Any of `"image"`, `"attention"` and `"part"` (Table 6 drops some).
            parts: Joint, or joints to average, at the centre of every part, by the part's name; by default head
                and wrists.
            fallback: The same for parts whose own joints are missing; by default, with the default parts, the
                elbows for the wrists.
            part_size: Side of the part crops in pixels; by default that of the network's own input.
            pose_kernel: Kernel size of the pose convolution: 3 as in the paper, 1 as in HRNet.
            quarter_shift: Refine decoded joints by a quarter of a cell, see `decode_heatmaps`.
            drop_rate: Dropout before every classifier.
            joints: Order of the joints, `"coco"` (17) or `"mpii"` (16); by default the one that has
                `num_joints`, if any has.
            input_size: `(C, H, W)` of the base image that the configuration is meant for; any multiples of 64
                work.

        Raises:
            ValueError: If the streams are none or unknown, the order of joints does not fit their number, or a
                backbone's name is unknown.
        """
        super().__init__()
        if not streams or set(streams) - set(STREAMS) or len(set(streams)) != len(streams):
            raise ValueError(f"streams are one or more of {STREAMS}, each once; got {tuple(streams)}")
        self.streams = tuple(name for name in STREAMS if name in streams)
        self.num_classes, self.in_chans, self.num_joints = num_classes, in_chans, num_joints
        self.quarter_shift, self.drop_rate = quarter_shift, drop_rate
        self.backbone = HRNetTrunk(backbone, in_chans=in_chans)
        channels = self.backbone.channels
        if "attention" not in self.streams:
            self.backbone.keep_scales((0, 3) if "image" in self.streams else (0,))
        self.pose = heatmap_conv(channels[0], num_joints, pose_kernel)

        def build_trunk() -> Any:
            return timm.create_model(trunk, num_classes=0, in_chans=in_chans, **(trunk_args or {}))

        widths: dict[str, int] = {"image": channels[-1]}
        if "attention" in self.streams:
            self.attention = AttentionImageStream(num_joints, channels, build_trunk())
            widths["attention"] = self.attention.num_features
        if "part" in self.streams:
            parts, fallback = _default_parts(joints_layout(num_joints, joints), parts, fallback)
            self.cropper = PartCropper(parts, fallback, part_size or input_size[-1] // 2)
            self.part_backbone: Any = build_trunk()
            widths["part"] = len(parts) * self.part_backbone.num_features
        self.stream_features = {name: widths[name] for name in self.streams}
        self.num_features = self.head_hidden_size = sum(self.stream_features.values())
        self.drop = nn.Dropout(drop_rate)
        self.stream_heads: Any = nn.ModuleDict()
        self.reset_classifier(num_classes)
        self.pretrained_cfg = self.default_cfg = self._config(input_size, joints)

    def _config(self, input_size: tuple[int, int, int], joints: str | None) -> dict[str, Any]:
        first = {"attention": "attention.trunk.conv1", "part": "part_backbone.conv1"}
        return {
            "num_classes": self.num_classes,
            "input_size": (self.in_chans, *input_size[1:]),
            "base_scale": 2,  # input_size is that of the base image, this many times the network's own input
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "interpolation": "bilinear",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": ("backbone.conv1", *(first[name] for name in self.streams if name in first)),
            "classifier": self.classifier_names,
            "num_joints": self.num_joints,
            "joints": joints_layout(self.num_joints, joints),
        }

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of joints that a mirror swaps, by the order that `pretrained_cfg["joints"]` names.

        Raises:
            ValueError: If the order of the joints is neither COCO's nor MPII's.
        """
        return flip_pairs_of(self.pretrained_cfg["joints"])

    @property
    def classifier_names(self) -> tuple[str, ...]:
        """Dotted names of every Linear that has one row per class: the concat head's, then the streams'."""
        return ("head", *(f"stream_heads.{name}" for name in self.streams))

    def get_classifier(self) -> nn.Module:
        """The concat head, whose logits are the prediction."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Give the concat head and every stream's head fresh weights with `num_classes` rows; 0 removes them."""
        self.num_classes = num_classes
        reference = self.pose.weight

        def fresh(width: int) -> nn.Module:
            head = nn.Linear(width, num_classes) if num_classes else nn.Identity()
            return head.to(device=reference.device, dtype=reference.dtype)

        self.head = fresh(self.num_features)
        for name, width in self.stream_features.items():
            self.stream_heads[name] = fresh(width)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of the HRNet and the part stream in the backward pass: less memory, more time.

        Their BatchNorm layers see a recomputed batch twice, as in timm.
        """
        self.backbone.set_grad_checkpointing(enable)
        if "part" in self.streams:
            self.part_backbone.set_grad_checkpointing(enable)

    def _run(self, base: Tensor) -> _Streams:
        """Everything before the classifiers: `(B, C, 2H, 2W)` base images."""
        check_images(base, "BodyPartNet", self.in_chans, 64)
        image = F.avg_pool2d(base, 2)
        maps = self.backbone(image)
        out = _Streams({}, self.pose(maps[0]))
        if "image" in self.streams:
            out.features["image"] = maps[-1].mean((2, 3))
        if "attention" in self.streams:
            out.features["attention"], attention = self.attention(image, out.heatmaps, maps)
            out = out._replace(attention=attention)
        if "part" in self.streams:
            crops, boxes, valid = self.cropper(base, self._joints(out.heatmaps))
            features = self.part_backbone(crops.flatten(0, 1))
            out.features["part"] = rearrange(features, "(b p) d -> b (p d)", p=crops.shape[1])
            out = out._replace(crops=crops, boxes=boxes, valid=valid)
        return out

    def _joints(self, heatmaps: Tensor) -> Tensor:
        """Decoded joints `(B, J, 3)` in pixels of the base image, without gradient."""
        joints = decode_heatmaps(heatmaps, self.quarter_shift)
        return torch.cat([joints[..., :2] * self.heatmap_stride, joints[..., 2:]], -1)

    def forward_features(self, base: Tensor) -> Tensor:
        """What the concat head sees: `(B, C, 2H, 2W)` base images -> `(B, D)`, streams one after the other."""
        return torch.cat(list(self._run(base).features.values()), 1)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify concatenated features: `(B, D)` -> `(B, K)` logits, or the features before them."""
        x = self.drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, base: Tensor) -> BodyPartOutput:
        """Pose and action of the person that an image shows.

        Args:
            base: `(B, C, 2H, 2W)` normalised images of twice the network's resolution, with sides that are
                multiples of 64; heat maps are `(B, J, H/4, W/4)`.

        Raises:
            ValueError: If the images' rank, channels or sides are wrong.
        """
        out = self._run(base)
        logits = self.forward_head(torch.cat(list(out.features.values()), 1))
        stream_logits = {name: self.stream_heads[name](self.drop(x)) for name, x in out.features.items()}
        return BodyPartOutput(logits, out.heatmaps, stream_logits, out.crops, out.boxes, out.valid, out.attention)

    def class_activation_map(self, base: Tensor, classes: Tensor | None = None) -> Tensor:
        """Where the image stream sees a class (Fig. 7; Zhou et al. 2016).

        Args:
            base: `(B, C, 2H, 2W)` as `forward` takes it.
            classes: `(B,)` class indices; the image stream's own predictions if None.

        Returns:
            `(B, H/32, W/32)`: the lowest-resolution map weighted by the class's row of the stream's head. Its mean
            plus the head's bias is the class's logit.

        Raises:
            ValueError: If there is no image stream, or no classes.
        """
        if "image" not in self.streams or not self.num_classes:
            raise ValueError(
                f"class activation needs the image stream and classes, got {self.streams}, {self.num_classes}"
            )
        check_images(base, "BodyPartNet", self.in_chans, 64)
        features = self.backbone(F.avg_pool2d(base, 2))[-1]
        head: Any = self.stream_heads["image"]
        if classes is None:
            classes = head(features.mean((2, 3))).argmax(1)
        return torch.einsum("bchw,bc->bhw", features, head.weight[classes])

    @staticmethod
    def ensemble(output: BodyPartOutput, multi_label: bool = False) -> Tensor:
        """Mean probability of image stream, part stream and concat head, where built (Table 3).

        The paper leaves the attention stream out.

        Args:
            output: What `forward` returned.
            multi_label: Whether classes are independent (sigmoid) or one is true (softmax).

        Returns:
            `(B, K)` probabilities in float32.
        """
        logits = [output.logits, *(output.stream_logits[name] for name in ENSEMBLE if name in output.stream_logits)]
        scores = torch.stack(logits).float()
        return (scores.sigmoid() if multi_label else scores.softmax(-1)).mean(0)


_PAPER = "Body-part-aware and multitask-aware single-image-based action recognition"


def _resnet18(prefix: str) -> WeightsInfo:
    return WeightsInfo(
        tag="in1k",
        covers="backbone",
        source="torchvision",
        location="ResNet18_Weights.IMAGENET1K_V1",
        prefix=prefix,
        exclude=("fc.*",),
        data="ImageNet-1k",
    )


_IMAGENET = (
    WeightsInfo(
        tag="in1k",
        covers="backbone",
        source="hf-hub",
        location="timm/hrnet_w32.ms_in1k",
        prefix="backbone.",
        exclude=CLASSIFICATION_HEAD,
        data="ImageNet-1k",
    ),
    _resnet18("attention.trunk."),
    _resnet18("part_backbone."),
)
"""Where the paper starts (section 4.1): ImageNet weights of the HRNet and of both ResNet-18."""


@register_model(
    task="pose and action recognition",
    paper=_PAPER,
    num_classes=40,
    input_size=(3, 512, 512),
    params=56_549_798,
    macs=20_707_397_632,
    aliases=("bodypart",),
    config={"joints": "mpii"},
    weights=_IMAGENET,
)
def bodypart_hrnet_w32(**kwargs: Any) -> BodyPartNet:
    """Body-part network on HRNet-W32 and two ResNet-18: the paper's configuration, 512x512 base images."""
    return BodyPartNet(**kwargs)


@register_model(
    task="pose and action recognition",
    paper=_PAPER,
    num_classes=8,
    input_size=(3, 192, 192),
    params=1_751_750,
    macs=172_041_472,
    config={"joints": "mpii"},
)
def bodypart_tiny(**kwargs: Any) -> BodyPartNet:
    """Body-part network on a small HRNet and slim ResNets, 192x192 base images: trains on a CPU."""
    settings: dict[str, Any] = {
        "backbone": hrnet_config((24, 32, 48, 64)),
        "trunk_args": {"channels": (16, 32, 64, 96), "stem_width": 16},
        "num_classes": 8,
        "part_size": 64,
        "input_size": (3, 192, 192),
    }
    return BodyPartNet(**{**settings, **kwargs})
