"""ConViT for human action recognition in still images: a convolutional backbone and two feature-map ViTs.

Paper: "Human Action Recognition in Still Images Using ConViT" (sections 3.1-3.3). The first ViT relates the cells of
the backbone's last map to one another, the second those of the same map at half the resolution, where there are
fewer to relate. It shares nothing but its name with the ConViT that timm has.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..layers import FeatureMapViT
from ..registry import register_model
from ..weights import WeightsInfo
from ._maps import FeatureMapNet

__all__ = ["ConViTHAR", "ViTPair", "convit_har_resnet50", "convit_har_tiny"]


def _halving(pool: str, dim: int) -> nn.Module:
    """Downsampling by 2, an odd side rounded up."""
    if pool == "avg":
        return nn.AvgPool2d(2, ceil_mode=True)
    if pool == "max":
        return nn.MaxPool2d(2, ceil_mode=True)
    if pool == "conv":
        # depthwise: the ViTs around it mix the channels, and a full one would be the network's largest layer
        return nn.Conv2d(dim, dim, 3, stride=2, padding=1, groups=dim)
    raise ValueError(f"pool is 'avg', 'max' or 'conv', got {pool!r}")


class ViTPair(nn.Module):
    """A feature-map ViT, downsampling by 2, and a second one: ConViT's head, and its human branch's (Figs 5 and 6)."""

    def __init__(
        self,
        dim: int,
        grid: tuple[int, int],
        depth: int = 2,
        heads: int = 4,
        head_dim: int | None = 64,
        mlp_dim: int | None = None,
        pool: str = "avg",
    ) -> None:
        """Build the layers.

        Args:
            dim: Channels of the map.
            grid: Height and width of the map in cells: (14, 14) in ConViT, (10, 6) in the human branch.
            depth: Blocks of each ViT.
            heads: Attention heads.
            head_dim: Width of a head; None for `dim / heads`.
            mlp_dim: Hidden width of the MLPs; `dim` if None.
            pool: Downsampling: `"avg"` or `"max"` over 2x2 cells, or `"conv"`, a depthwise 3x3 convolution.

        Raises:
            ValueError: If a setting is unknown or out of range.
        """
        super().__init__()
        self.vit1: Any = FeatureMapViT(dim, grid, depth, heads, head_dim, mlp_dim)
        self.down = _halving(pool, dim)
        self.vit2: Any = FeatureMapViT(dim, (-(-grid[0] // 2), -(-grid[1] // 2)), depth, heads, head_dim, mlp_dim)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that optimizers should not decay: the positions."""
        return {"vit1.pos_embed", "vit2.pos_embed"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass: less memory, more time."""
        self.vit1.set_grad_checkpointing(enable)
        self.vit2.set_grad_checkpointing(enable)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, dim, h, w)` -> `(B, dim, h / 2, w / 2)`, odd sides rounded up."""
        return self.vit2(self.down(self.vit1(x)))


class ConViTHAR(FeatureMapNet):
    """Backbone, two feature-map ViTs, global average pooling, one linear classifier (ConViT Fig. 5)."""

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        num_classes: int = 40,
        in_chans: int = 3,
        depth: int = 2,
        heads: int = 4,
        head_dim: int | None = 64,
        mlp_dim: int | None = None,
        pool: str = "avg",
        drop_rate: float = 0.0,
        global_pool: str = "avg",
        backbone_args: dict[str, Any] | None = None,
        input_size: tuple[int, int, int] = (3, 448, 448),
        test_input_size: tuple[int, int, int] | None = None,
    ) -> None:
        """Build the network with random weights.

        Args:
            backbone: Name of a timm model that has `forward_intermediates`; its last map goes to the ViTs.
            num_classes: Classes K; 0 makes `forward` return the pooled features.
            in_chans: Channels of the images.
            depth: Blocks of each ViT.
            heads: Attention heads.
            head_dim: Width of a head; None for the backbone's channels divided by `heads`.
            mlp_dim: Hidden width of the ViTs' MLPs; by default the backbone's channels.
            pool: Downsampling between the ViTs, see `ViTPair`.
            drop_rate: Dropout before the classifier.
            global_pool: `"avg"`, the mean over cells, or `""`: `forward` returns the last map.
            backbone_args: Further arguments of the timm model.
            input_size: `(C, H, W)` that the configuration is meant for, from which follow the positions that the
                ViTs learn; at other sizes these are interpolated.
            test_input_size: `(C, H, W)` at inference where it differs from training's, as in timm.

        Raises:
            ValueError: If the backbone gives no feature maps, or a setting is unknown or out of range.
        """
        super().__init__(backbone, in_chans, backbone_args)
        dim, stride = self.feature_info[-1]["num_chs"], self.feature_info[-1]["reduction"]
        grid = (-(-input_size[1] // stride), -(-input_size[2] // stride))
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = dim
        self._set_global_pool(global_pool)
        self.vits: Any = ViTPair(dim, grid, depth, heads, head_dim, mlp_dim, pool)
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        self.pretrained_cfg = self.default_cfg = self._configuration(
            input_size,
            test_input_size,
            num_classes=num_classes,
            pool_size=self.vits.vit2.grid,
            crop_pct=448 / 512,
            classifier="fc",
        )

    @property
    def classifier_names(self) -> tuple[str, ...]:
        """Dotted name of the linear classifier."""
        return ("fc",)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that optimizers should not decay, as timm asks: positions, and the backbone's own."""
        return {f"vits.{name}" for name in self.vits.no_weight_decay()} | super().no_weight_decay()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them: less memory, more time.

        The backbone's BatchNorm layers see a recomputed batch twice, as in timm.
        """
        super().set_grad_checkpointing(enable)
        self.vits.set_grad_checkpointing(enable)

    def get_classifier(self) -> nn.Module:
        """The linear classifier."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a fresh classifier of `num_classes` rows; 0 removes it."""
        if global_pool is not None:
            self._set_global_pool(global_pool)
        self.num_classes = num_classes
        reference = next(self.parameters())
        fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.fc = fc.to(device=reference.device, dtype=reference.dtype)

    def _final(self, maps: list[Tensor]) -> Tensor:
        return self.vits(maps[-1])

    def _drop_head(self) -> None:
        self.vits, self.fc = nn.Identity(), nn.Identity()

    def forward_backbone(self, images: Tensor) -> Tensor:
        """The backbone's last map, which the human branch shares: `(B, C, H, W)` -> `(B, D, h, w)`."""
        return self._maps(images, self.out_indices[-1:])[0]

    def forward_features(self, images: Tensor) -> Tensor:
        """The last ViT's map: `(B, C, H, W)` -> `(B, D, h / 2, w / 2)`, for 448x448 images 7x7 cells."""
        return self.vits(self.forward_backbone(images))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Mean over cells, then the classifier: `(B, D, h, w)` -> `(B, K)` logits, or `(B, D)`."""
        if self.global_pool == "":
            return x
        x = self.drop(x.mean((2, 3)))
        return x if pre_logits else self.fc(x)

    def forward(self, images: Tensor) -> Tensor:
        """Classify: `(B, C, H, W)` normalised images -> `(B, K)` logits.

        Raises:
            ValueError: If the images' rank or channels are wrong.
        """
        return self.forward_head(self.forward_features(images))

    def heat_map(self, images: Tensor) -> Tensor:
        """Mean over the channels of the last map (Fig. 9): `(B, C, H, W)` images -> `(B, h / 2, w / 2)`.

        It is taken before the last ViT's LayerNorm, which sets the mean over channels of every cell to zero but
        for its own scale and shift.
        """
        return self.visualize(images)["channel_mean"]

    def class_activation_map(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Where the network sees a class: Grad-CAM on the last ViT's map (Fig. 8), before its ReLU.

        Between that map and the logits lie a mean and a linear layer only, so that Grad-CAM's weights are the
        classifier's row divided by the number of cells, and no backward pass is needed.

        Args:
            images: `(B, C, H, W)` as `forward` takes them.
            classes: `(B,)` class indices; the network's own predictions if None.

        Returns:
            `(B, h / 2, w / 2)`, whose sum plus the classifier's bias is the class's logit; `.relu()` gives Grad-CAM.

        Raises:
            ValueError: If there are no classes.
        """
        if not self.num_classes:
            raise ValueError("class activation needs classes, and this network has none (num_classes=0)")
        return self.visualize(images, classes)["class_activation"]

    def visualize(self, images: Tensor, classes: Tensor | None = None) -> dict[str, Tensor]:
        """Both maps from one pass: `"channel_mean"` and, if there are classes, `"class_activation"`.

        Args:
            images: As for `class_activation_map`.
            classes: Likewise.
        """
        last: Any = self.vits.vit2
        x = self.vits.down(self.vits.vit1(self.forward_backbone(images)))
        tokens, _ = last.forward_blocks(x)
        maps = {"channel_mean": tokens.mean(2).unflatten(1, x.shape[2:])}
        if self.num_classes:
            fc: Any = self.fc
            normed = last.norm(tokens)
            classes = fc(normed.mean(1)).argmax(1) if classes is None else classes
            activation = torch.einsum("bnc,bc->bn", normed, fc.weight[classes]) / normed.shape[1]
            maps["class_activation"] = activation.unflatten(1, x.shape[2:])
        return maps


TINY: dict[str, Any] = {
    "backbone": "resnet18d",
    "backbone_args": {"channels": (32, 64, 128, 128), "stem_width": 16, "output_stride": 16},
    "input_size": (3, 128, 128),
}
"""A slim ResNet-18-D of stride 16, so that small images still leave the ViTs 8x8 and 4x4 cells to relate."""

_CONFIG = {"classifier": "fc", "crop_pct": 448 / 512, "crop_mode": "squash", "interpolation": "bilinear"}
"""What timm may ask of a configuration before the model is built."""

_PAPER = "Human action recognition in still images using ConViT"


@register_model(
    paper=_PAPER,
    num_classes=40,
    input_size=(3, 448, 448),
    params=66_100_328,
    macs=21_528_445_952,
    config={**_CONFIG, "first_conv": "backbone.conv1", "pool_size": (7, 7)},
    aliases=("convit_har",),
    weights=(
        WeightsInfo(
            covers="backbone",
            source="hf-hub",
            location="timm/resnet50.tv_in1k",
            prefix="backbone.",
            exclude=("fc.*",),
            data="ImageNet-1k",
        ),
    ),
    timm=True,
)
def convit_har_resnet50(**kwargs: Any) -> ConViTHAR:
    """ConViT on ResNet-50: the paper's configuration, 448x448 images."""
    return ConViTHAR(**kwargs)


@register_model(
    paper=_PAPER,
    num_classes=40,
    input_size=(3, 128, 128),
    params=1_705_432,
    macs=190_649_344,
    config={**_CONFIG, "first_conv": "backbone.conv1.0", "pool_size": (4, 4)},
    timm=True,
)
def convit_har_tiny(**kwargs: Any) -> ConViTHAR:
    """ConViT on a slim ResNet-18-D, 128x128 images: trains on a CPU."""
    return ConViTHAR(**{**TINY, "head_dim": 32, **kwargs})
