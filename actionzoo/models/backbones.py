"""Plain classifiers on a timm backbone: what the papers' systems are measured against."""

from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from ..registry import register_model
from ..weights import HubMixin
from ._maps import prefixed
from .prfnet import TINY_BACKBONE

__all__ = ["PlainClassifier", "plain_resnet18", "plain_resnet50", "plain_tiny"]


class PlainClassifier(HubMixin, nn.Module):
    """A timm backbone, globally pooled, with one linear classifier: "Base ResNet-50" of PRF-Net's Table 5."""

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        num_classes: int = 24,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        global_pool: str = "avg",
        backbone_args: dict[str, Any] | None = None,
        input_size: tuple[int, int, int] = (3, 256, 256),
        test_input_size: tuple[int, int, int] | None = None,
    ) -> None:
        """Build the network with random weights.

        Args:
            backbone: Name of a timm model.
            num_classes: Classes K; 0 makes `forward` return the pooled features.
            in_chans: Channels of the images.
            drop_rate: Dropout before the classifier.
            global_pool: timm's name of the pooling.
            backbone_args: Further arguments of the timm model.
            input_size: `(C, H, W)` that the configuration is meant for.
            test_input_size: `(C, H, W)` at inference where it differs from training's, as in timm.
        """
        super().__init__()
        # the attributes of a timm model are not declared, so it is typed loosely
        self.backbone: Any = timm.create_model(
            backbone,
            num_classes=num_classes,
            in_chans=in_chans,
            drop_rate=drop_rate,
            global_pool=global_pool,
            **(backbone_args or {}),
        )
        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features = self.backbone.num_features
        self.head_hidden_size = getattr(self.backbone, "head_hidden_size", self.num_features)
        cfg = self.backbone.default_cfg
        self.pretrained_cfg = self.default_cfg = {
            "num_classes": num_classes,
            "input_size": (in_chans, *input_size[1:]),
            "crop_pct": 256 / 260,
            "crop_mode": "squash",
            "interpolation": "bilinear",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": prefixed(cfg.get("first_conv")),
            "classifier": prefixed(cfg.get("classifier")),
        }
        if test_input_size is not None:
            self.pretrained_cfg["test_input_size"] = (in_chans, *test_input_size[1:])

    @property
    def classifier_names(self) -> tuple[str, ...]:
        """Dotted name of the linear classifier."""
        return (self.pretrained_cfg["classifier"],)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that optimizers should not decay, as timm asks."""
        names = self.backbone.no_weight_decay() if hasattr(self.backbone, "no_weight_decay") else set()
        return {f"backbone.{name}" for name in names}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.backbone.set_grad_checkpointing(enable)

    def get_classifier(self) -> nn.Module:
        """The linear classifier."""
        return self.backbone.get_classifier()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the backbone a fresh classifier of `num_classes` rows; 0 removes it."""
        self.num_classes = num_classes
        self.backbone.reset_classifier(num_classes, *([] if global_pool is None else [global_pool]))

    def forward_features(self, images: Tensor) -> Tensor:
        """The backbone's last map: `(B, C, H, W)` -> `(B, D, h, w)` (tokens for a transformer)."""
        if images.ndim != 4 or images.shape[1] != self.in_chans:
            raise ValueError(
                f"PlainClassifier expects images (B, {self.in_chans}, H, W), got shape {tuple(images.shape)}"
            )
        return self.backbone.forward_features(images)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify: `(B, D, h, w)` -> `(B, K)` logits, or `(B, D)`."""
        return self.backbone.forward_head(x, pre_logits=pre_logits)

    def forward(self, images: Tensor) -> Tensor:
        """Classify: `(B, C, H, W)` normalised images -> `(B, K)` logits.

        Raises:
            ValueError: If the images' rank or channels are wrong.
        """
        return self.forward_head(self.forward_features(images))


@register_model(num_classes=24, params=23_557_208, macs=5_338_349_568)
def plain_resnet50(**kwargs: Any) -> PlainClassifier:
    """Plain ResNet-50, the base of PRF-Net's Table 5."""
    return PlainClassifier(**{"backbone": "resnet50", **kwargs})


@register_model(num_classes=24, params=11_188_824, macs=2_368_745_472)
def plain_resnet18(**kwargs: Any) -> PlainClassifier:
    """Plain ResNet-18."""
    return PlainClassifier(**{"backbone": "resnet18", **kwargs})


@register_model(num_classes=24, input_size=(3, 96, 96), params=1_949_512, macs=87_077_376)
def plain_tiny(**kwargs: Any) -> PlainClassifier:
    """The backbone of `prfnet_tiny` alone, for comparison."""
    return PlainClassifier(**{**TINY_BACKBONE, **kwargs})
