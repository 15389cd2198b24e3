"""Pose HRNet: joint heat maps at a quarter of the image's resolution, on timm's high-resolution network.

Paper: Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019. The part
action parser takes its joints from HRNet-W48 (PCF, section 3.2); the body-part network shares an HRNet-W32
between pose and action and needs all four resolutions of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.hrnet import HighResolutionNet, cfg_cls
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers import COCO_FLIP_PAIRS, MPII_FLIP_PAIRS
from ..registry import register_model
from ..weights import HubMixin, WeightsInfo

__all__ = ["HRNetTrunk", "PoseHRNet", "hrnet_config", "pose_hrnet_w32", "pose_hrnet_w48", "pose_tiny"]

FLIP_PAIRS = {"coco": COCO_FLIP_PAIRS, "mpii": MPII_FLIP_PAIRS}
LAYOUTS = {17: "coco", 16: "mpii"}


def hrnet_config(
    channels: tuple[int, ...],
    *,
    blocks: int = 1,
    stem_width: int = 16,
    stage1_width: int = 16,
    stage1_blocks: int = 1,
) -> dict[str, Any]:
    """Settings of a small HRNet, as timm's `HighResolutionNet` takes them: one module per stage.

    Args:
        channels: Channels of the four branches, highest resolution first.
        blocks: Basic blocks of each branch of each module.
        stem_width: Channels of the first convolution; the second has 64, as in timm.
        stage1_width: Width of the first stage's bottlenecks, a quarter of their output.
        stage1_blocks: How many of them.
    """
    config: dict[str, Any] = {"stem_width": stem_width}
    for stage in range(1, 5):
        first = stage == 1
        config[f"stage{stage}"] = {
            "num_modules": 1,
            "num_branches": stage,
            "block_type": "BOTTLENECK" if first else "BASIC",
            "num_blocks": (stage1_blocks,) if first else (blocks,) * stage,
            "num_channels": (stage1_width,) if first else tuple(channels[:stage]),
            "fuse_method": "SUM",
        }
    return config


class HRNetTrunk(HighResolutionNet):
    """timm's high-resolution network without its classification head.

    Classification nets fuse all four branches in the last module, pose nets only the highest resolution; here
    the fuse layers that no output needs are not built, so that every parameter is used.
    """

    def __init__(self, backbone: str | Mapping[str, Any], *, in_chans: int = 3, multi_scale: bool = True) -> None:
        """Build the trunk with random weights.

        Args:
            backbone: Name of a timm HRNet, or its settings, see `hrnet_config`.
            in_chans: Channels of the images.
            multi_scale: Give the maps of all four branches, or of the highest resolution alone.

        Raises:
            ValueError: If timm has no HRNet of that name.
        """
        if isinstance(backbone, str):
            if backbone not in cfg_cls:
                raise ValueError(f"no HRNet is named {backbone!r}; timm has {', '.join(cfg_cls)}")
            backbone = cfg_cls[backbone]
        super().__init__(dict(backbone), in_chans=in_chans, num_classes=0, head="")
        self.grad_checkpointing = False
        last: Any = self.stage4[-1]
        self.channels: tuple[int, ...] = tuple(last.get_num_in_chs())
        if not multi_scale:
            self.keep_scales((0,))

    def keep_scales(self, scales: Sequence[int]) -> None:
        """Remove the last module's fuse layers of all other resolutions, in place; `forward` leaves their maps out.

        Args:
            scales: Rising indices among the maps that `forward` gives now.
        """
        last: Any = self.stage4[-1]
        layers = list(last.fuse_layers.named_children())
        last.fuse_layers = nn.ModuleList()
        for scale in scales:
            # a list that skips numbers, so that ImageNet weights still find the layers by their names
            last.fuse_layers.add_module(*layers[scale])
        self.channels = tuple(self.channels[scale] for scale in scales)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute every multi-resolution module in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def _stage(self, modules: nn.Module, maps: list[Tensor]) -> list[Tensor]:
        if not (self.grad_checkpointing and self.training):
            return modules(maps)
        for module in modules.children():
            # a module overwrites the list it is given, which the recomputation needs whole
            maps = checkpoint(lambda *xs, module=module: module(list(xs)), *maps, use_reentrant=False)  # pyright: ignore[reportAssignmentType]
        return maps

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps at strides 4, 8, 16 and 32, or at 4 alone.

        Args:
            x: Images `(B, C, H, W)` with sides that are multiples of 32.

        Returns:
            `[(B, C1, H/4, W/4), (B, C2, H/8, W/8), (B, C3, H/16, W/16), (B, C4, H/32, W/32)]`, or the first.
        """
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        maps = self._stage(self.stage2, [t(x) for t in self.transition1])
        maps = self._stage(self.stage3, self._transition(self.transition2, maps))
        return self._stage(self.stage4, self._transition(self.transition3, maps))

    @staticmethod
    def _transition(layers: Any, maps: list[Tensor]) -> list[Tensor]:
        """Add a branch, from the lowest resolution there is, and change channels where they differ."""
        return [t(maps[min(i, len(maps) - 1)]) for i, t in enumerate(layers)]


def check_images(images: Tensor, name: str, in_chans: int, multiple: int) -> None:
    """Refuse images whose rank, channels or sides a model cannot take.

    Raises:
        ValueError: If `images` are not `(B, in_chans, H, W)` with sides that are multiples of `multiple`.
    """
    if images.ndim != 4 or images.shape[1] != in_chans or images.shape[2] % multiple or images.shape[3] % multiple:
        raise ValueError(
            f"{name} expects images (B, {in_chans}, H, W) with H and W multiples of {multiple}, got shape "
            f"{tuple(images.shape)}; give a single image a batch dimension with [None], pad or resize, or build "
            "with in_chans=…"
        )


def heatmap_conv(in_channels: int, num_joints: int, kernel_size: int) -> nn.Conv2d:
    """The last convolution of a pose net, near zero as in the HRNet code, since most of a heat map is zero."""
    conv = nn.Conv2d(in_channels, num_joints, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(conv.weight, std=0.001)
    nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]
    return conv


def joints_layout(num_joints: int, joints: str | None = None) -> str | None:
    """Name of the order of the joints: `"coco"` for 17, `"mpii"` for 16, None for another number.

    Raises:
        ValueError: If `joints` names another order than the one of `num_joints`.
    """
    found = LAYOUTS.get(num_joints)
    if joints not in (None, found):
        raise ValueError(f"joints is 'coco' (17 joints) or 'mpii' (16), got {joints!r} for {num_joints} joints")
    return found


def flip_pairs_of(joints: str | None) -> tuple[tuple[int, int], ...]:
    """Pairs of joints that a mirror swaps, by the order of the joints.

    Raises:
        ValueError: If the order is neither COCO's nor MPII's.
    """
    if joints not in FLIP_PAIRS:
        raise ValueError(
            f"flip pairs are known for the joint orders {', '.join(FLIP_PAIRS)}; this model's is {joints!r}"
        )
    return FLIP_PAIRS[joints]


class PoseHRNet(HubMixin, nn.Module):
    """Top-down pose net: one heat map per joint of the person that the image shows (Sun et al., CVPR 2019).

    `actionzoo.layers.decode_heatmaps` reads joints from the heat maps, in cells of four pixels.
    """

    classifier_names: tuple[str, ...] = ()
    """None: the heat maps are all that there is."""
    heatmap_stride = 4
    """Pixels of the image per heat-map cell."""

    def __init__(
        self,
        *,
        num_joints: int = 17,
        backbone: str | Mapping[str, Any] = "hrnet_w32",
        in_chans: int = 3,
        final_kernel: int = 1,
        joints: str | None = None,
        input_size: tuple[int, int, int] = (3, 256, 192),
        num_classes: None = None,
    ) -> None:
        """Build the network with random weights.

        Args:
            num_joints: Joints J, one heat map each.
            backbone: Name of a timm HRNet, or its settings, see `hrnet_config`.
            in_chans: Channels of the images.
            final_kernel: Kernel size of the last convolution.
            joints: Order of the joints, `"coco"` (17) or `"mpii"` (16); by default the one that has
                `num_joints`, if any has.
            input_size: `(C, H, W)` that the configuration is meant for; any multiples of 32 work.
            num_classes: Not taken; a pose net has joints instead.

        Raises:
            ValueError: If `num_classes` is given, the order of joints does not fit their number, or timm has no
                such backbone.
        """
        super().__init__()
        if num_classes is not None:
            raise ValueError(
                f"a pose net has no classes, got num_classes={num_classes}; num_joints=… sets its number of heat maps"
            )
        self.backbone = HRNetTrunk(backbone, in_chans=in_chans, multi_scale=False)
        self.num_joints, self.in_chans = num_joints, in_chans
        self.num_features = self.head_hidden_size = self.backbone.channels[0]
        self.head = heatmap_conv(self.num_features, num_joints, final_kernel)
        self.pretrained_cfg = self.default_cfg = {
            "input_size": (in_chans, *input_size[1:]),
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "interpolation": "bilinear",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "backbone.conv1",
            "num_joints": num_joints,
            "joints": joints_layout(num_joints, joints),
        }

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of joints that a mirror swaps, by the order that `pretrained_cfg["joints"]` names.

        Raises:
            ValueError: If the order of the joints is neither COCO's nor MPII's.
        """
        return flip_pairs_of(self.pretrained_cfg["joints"])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the trunk's activations in the backward pass: less memory, more time.

        Its BatchNorm layers see a recomputed batch twice, as in timm.
        """
        self.backbone.set_grad_checkpointing(enable)

    def forward_features(self, images: Tensor) -> Tensor:
        """The highest-resolution map: `(B, C, H, W)` -> `(B, D, H/4, W/4)`."""
        check_images(images, "PoseHRNet", self.in_chans, 32)
        return self.backbone(images)[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Heat maps of a feature map: `(B, D, h, w)` -> `(B, J, h, w)`, or the map itself before them."""
        return x if pre_logits else self.head(x)

    def forward(self, images: Tensor) -> Tensor:
        """Heat maps of the joints: `(B, C, H, W)` normalised images -> `(B, J, H/4, W/4)`.

        Raises:
            ValueError: If the images' rank, channels or sides are wrong.
        """
        return self.forward_head(self.forward_features(images))


_PAPER = "HRNet: deep high-resolution representation learning for human pose estimation"

CLASSIFICATION_HEAD = ("incre_modules.*", "downsamp_modules.*", "final_layer.*", "classifier.*")
"""What an ImageNet HRNet has on top of the trunk."""


def _imagenet(name: str) -> WeightsInfo:
    """ImageNet weights of a timm HRNet, without what the classification head and its branches alone need."""
    config: dict[str, Any] = cfg_cls[name]
    last = config["stage4"]["num_modules"] - 1
    return WeightsInfo(
        covers="backbone",
        source="hf-hub",
        location=f"timm/{name}.ms_in1k",
        prefix="backbone.",
        exclude=(*CLASSIFICATION_HEAD, f"stage4.{last}.fuse_layers.[123].*"),
        data="ImageNet-1k",
    )


@register_model(
    task="pose estimation",
    paper=_PAPER,
    input_size=(3, 256, 192),
    params=28_536_113,
    macs=7_645_003_776,
    config={"first_conv": "backbone.conv1", "joints": "coco"},
    weights=(_imagenet("hrnet_w32"),),
)
def pose_hrnet_w32(**kwargs: Any) -> PoseHRNet:
    """HRNet-W32 for the 17 joints of COCO, at the 256x192 of its paper."""
    return PoseHRNet(**{"backbone": "hrnet_w32", **kwargs})


@register_model(
    task="pose estimation",
    paper=_PAPER,
    input_size=(3, 384, 288),
    params=63_595_745,
    macs=35_306_606_592,
    config={"first_conv": "backbone.conv1", "joints": "coco"},
    weights=(_imagenet("hrnet_w48"),),
)
def pose_hrnet_w48(**kwargs: Any) -> PoseHRNet:
    """HRNet-W48 for the 17 joints of COCO at 384x288: the pose net of the part-level action parser."""
    return PoseHRNet(**{"backbone": "hrnet_w48", "input_size": (3, 384, 288), **kwargs})


@register_model(
    task="pose estimation",
    paper=_PAPER,
    input_size=(3, 96, 96),
    params=626_272,
    macs=88_676_352,
    config={"first_conv": "backbone.conv1", "joints": "mpii"},
)
def pose_tiny(**kwargs: Any) -> PoseHRNet:
    """A one-module-per-stage HRNet for the 16 joints of MPII: trains on a CPU."""
    settings = {"backbone": hrnet_config((32, 48, 64, 64)), "num_joints": 16, "input_size": (3, 96, 96)}
    return PoseHRNet(**{**settings, **kwargs})
