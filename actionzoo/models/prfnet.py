"""PRF-Net: a progressive region-focused network for fine-grained actions in still images.

Paper: "A Progressive Region-Focused Network for Fine-Grained Human Behavior Recognition". A backbone's last S
feature maps each pass through serialized attention to one vector; a head per stage is trained in turn on images
that zoom in on what the stage before found, and a last head on the vectors together. Inference uses that last
head on the whole image alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers import (
    RegionFocusedGenerator,
    SerializedAttention,
    WeightedAttentionMixture,
    attention_map,
    chain_boxes,
)
from ..registry import register_model
from ..weights import WeightsInfo
from ._maps import FeatureMapNet

__all__ = [
    "ClassifierHead",
    "FocusOutput",
    "PRFNet",
    "StageOutput",
    "prfnet_resnet18",
    "prfnet_resnet50",
    "prfnet_tiny",
]


class StageOutput(NamedTuple):
    """What one training step of a stage needs."""

    logits: Tensor
    """`(B, K)` logits of the stage's head."""
    features: Tensor
    """`(B, C, h, w)` the stage's feature map, which says where the next step looks."""


class FocusOutput(NamedTuple):
    """What PRF-Net saw, for display."""

    logits: Tensor
    """`(B, K)` logits of the concat head on the whole image: the prediction."""
    stage_logits: Tensor
    """`(B, S, K)` logits of every stage's head on its own, ever closer image."""
    boxes: Tensor
    """`(B, S, 4)` focus boxes after every stage, float xyxy pixels of the whole image, nested."""
    attention: Tensor
    """`(B, S, h, w)` scores of Eq. 8 of every stage on the whole image, on the shallowest map's grid."""


class ClassifierHead(nn.Module):
    """Two-layer classifier: LayerNorm, Linear, LayerNorm, ELU, Linear.

    PRF-Net names it "fc" only (section 3.1). LayerNorm stands where progressive networks use BatchNorm, so that
    a batch of one trains and the weighted training features differ less from the unweighted ones of inference.
    """

    def __init__(self, in_features: int, hidden: int, num_classes: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_features)
        self.hidden = nn.Linear(in_features, hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.act = nn.ELU()
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """Replace the classifier; 0 classes leave the hidden vector."""
        weight = self.hidden.weight
        self.fc = nn.Linear(self.hidden.out_features, num_classes) if num_classes else nn.Identity()
        self.fc.to(device=weight.device, dtype=weight.dtype)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify: `(B, in_features)` -> `(B, K)` logits, or `(B, hidden)` before the classifier."""
        x = self.drop(self.act(self.norm2(self.hidden(self.norm1(x)))))
        return x if pre_logits else self.fc(x)


class PRFNet(FeatureMapNet):
    """Progressive region-focused network on the last S feature maps of any timm backbone (PRF-Net section 3).

    `forward` is the paper's inference (Eqs 14-15). Training calls `forward_stage` for each of its S + 1 steps,
    see `actionzoo.training.progressive_step`.
    """

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        num_classes: int = 24,
        in_chans: int = 3,
        stages: int = 3,
        dim: int = 1024,
        tokens: int = 8,
        num_heads: int = 8,
        mlp_ratio: float = 1.0,
        hidden: int = 512,
        mixture: str = "mean",
        kappa: float = 0.75,
        center_offset: float = 0.5,
        drop_rate: float = 0.0,
        global_pool: str = "avg",
        stage_heads: bool = True,
        out_indices: Sequence[int] | None = None,
        backbone_args: dict[str, Any] | None = None,
        input_size: tuple[int, int, int] = (3, 256, 256),
        test_input_size: tuple[int, int, int] | None = None,
    ) -> None:
        """Build the network with random weights.

        Args:
            backbone: Name of a timm model that has `forward_intermediates`.
            num_classes: Classes K; 0 makes `forward` return the concat head's hidden vector.
            in_chans: Channels of the images.
            stages: S, how many of the backbone's last feature maps are used (the paper: 3).
            dim: Width d of the tokens and of a stage's vector.
            tokens: Side g of the token grid.
            num_heads: Attention heads.
            mlp_ratio: Hidden width of the attention module's MLP as a multiple of `dim`.
            hidden: Width of the heads' hidden layer.
            mixture: How Eq. 3 is read, see `actionzoo.layers.mixture_weights`.
            kappa: Side of the focus window as a fraction of the image's side.
            center_offset: Where in its cell the strongest point lies, see `RegionFocusedGenerator`.
            drop_rate: Dropout before every classifier.
            global_pool: `"avg"`, the mean over tokens, or `""`: `forward` returns the attended token maps.
            stage_heads: Whether to build the stages' heads, which only training needs, see `prune_for_inference`.
            out_indices: Which of the backbone's feature maps to use, shallowest first, instead of the last S.
            backbone_args: Further arguments of the timm model.
            input_size: `(C, H, W)` that the configuration is meant for; any other size works too where the
                backbone takes it.
            test_input_size: `(C, H, W)` at inference where it differs from training's, as in timm.

        Raises:
            ValueError: If the backbone has no such feature maps or `global_pool` is unknown.
        """
        super().__init__(backbone, in_chans, backbone_args, stages, out_indices)
        self.num_classes = num_classes
        self.num_features = self.num_stages * dim
        self.head_hidden_size = hidden
        self.drop_rate = drop_rate
        self._set_global_pool(global_pool)
        self.attention: Any = nn.ModuleList(
            SerializedAttention(info["num_chs"], dim, tokens, num_heads, mlp_ratio) for info in self.feature_info
        )
        self.stage_heads: Any = nn.ModuleList(
            ClassifierHead(dim, hidden, num_classes, drop_rate) for _ in self.out_indices if stage_heads
        )
        self.mixture = WeightedAttentionMixture(mixture)
        self.head: Any = ClassifierHead(self.num_features, hidden, num_classes, drop_rate)
        self.focus = RegionFocusedGenerator(kappa, center_offset)
        self.grad_checkpointing = False
        self.pretrained_cfg = self.default_cfg = self._configuration(
            input_size,
            test_input_size,
            num_classes=num_classes,
            pool_size=(tokens, tokens),
            crop_pct=256 / 260,
            classifier="head.fc",
        )

    @property
    def num_stages(self) -> int:
        """S, how many of the backbone's feature maps are used."""
        return len(self.out_indices)

    @property
    def classifier_names(self) -> tuple[str, ...]:
        """Dotted names of every Linear that has one row per class: the concat head's, then the stages'."""
        return ("head.fc", *(f"stage_heads.{i}.fc" for i in range(len(self.stage_heads))))

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that optimizers should not decay, as timm asks: positions, and the backbone's own."""
        return {f"attention.{i}.pos_embed" for i in range(self.num_stages)} | super().no_weight_decay()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them: less memory, more time.

        The backbone's BatchNorm layers see a recomputed batch twice, as in timm.
        """
        super().set_grad_checkpointing(enable)
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """The concat head's Linear, the classifier that `forward` uses."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the concat head and every stage head fresh classifiers of `num_classes` rows.

        Args:
            num_classes: Classes; 0 removes the classifiers and `forward` returns the hidden vector.
            global_pool: `"avg"` or `""` to change what `forward` returns, see `__init__`.

        Raises:
            ValueError: If `global_pool` is unknown.
        """
        if global_pool is not None:
            self._set_global_pool(global_pool)
        self.num_classes = num_classes
        for head in (self.head, *self.stage_heads):
            head.reset(num_classes)

    def _final(self, maps: list[Tensor]) -> Tensor:
        return self._tokens(maps)

    def _drop_head(self) -> None:
        self.attention, self.stage_heads, self.head = nn.ModuleList(), nn.ModuleList(), nn.Identity()

    def _attend(self, stage: int, features: Tensor) -> Tensor:
        block = self.attention[stage]
        if self.grad_checkpointing and self.training and not torch.jit.is_scripting():
            # recomputing the serialization would update its BatchNorm statistics twice
            return checkpoint(block.attend, block.serialize(features), use_reentrant=False)
        return block.forward_tokens(features)

    def _tokens(self, maps: list[Tensor], losses: Tensor | Sequence[Tensor | float] | None = None) -> Tensor:
        """Attended token maps of all stages, weighted by the losses: S maps -> `(B, S * d, g, g)`."""
        tokens = self.mixture([self._attend(i, x).transpose(1, 2) for i, x in enumerate(maps)], losses)
        return rearrange(tokens, "b c (h w) -> b c h w", h=self.attention[0].tokens)

    def forward_features(self, images: Tensor) -> Tensor:
        """Attended token maps of all stages: `(B, C, H, W)` -> `(B, S * d, g, g)`, deepest stage first."""
        return self._tokens(self._maps(images, self.out_indices))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Mean over tokens, then the concat head: `(B, S * d, g, g)` -> `(B, K)`, or `(B, hidden)`."""
        if self.global_pool == "":
            return x
        return self.head(x.mean((2, 3)), pre_logits=pre_logits)

    def forward(
        self,
        images: Tensor,
        stage: int | None = None,
        *,
        losses: Tensor | Sequence[Tensor | float] | None = None,
        return_features: bool = False,
    ) -> Tensor | StageOutput:
        """Classify images, or run one training step's part of the network.

        `(B, C, H, W)` images -> `(B, K)` logits. Partial passes go through here, so that a wrapper such as
        `DistributedDataParallel` sees them.

        Args:
            images: Normalised images.
            stage: None for the paper's inference: whole network, unweighted concatenation (Eqs 14-15). 1 ... S
                for the head of that stage, shallowest first; deeper layers are not run. S + 1 for the concat
                head, weighted by `losses` where given (Eqs 3-5).
            losses: S losses of this iteration's steps, for `stage = S + 1`.
            return_features: Return the stage's feature map as well.

        Raises:
            ValueError: If the images or the stage are wrong, or losses are given to another stage.
            RuntimeError: If the stage heads were removed by `prune_for_inference`.
        """
        if stage is None and losses is None and not return_features:
            return self.forward_head(self.forward_features(images))
        last = self.num_stages + 1
        stage = last if stage is None else stage
        if not 1 <= stage <= last:
            raise ValueError(f"stage is 1 … {last} ({last} is the concat head), got {stage}")
        if losses is not None and stage != last:
            raise ValueError(f"losses weight the concat head only, stage {last}; got them with stage {stage}")
        if stage == last:
            maps = self._maps(images, self.out_indices)
            logits = self.forward_head(self._tokens(maps, losses))
            return StageOutput(logits, maps[-1]) if return_features else logits
        if not self.stage_heads:
            raise RuntimeError("this model has no stage heads (stage_heads=False, or prune_for_inference())")
        features = self._maps(images, self.out_indices[stage - 1 : stage])[0]
        logits = self.stage_heads[stage - 1](self._attend(stage - 1, features).mean(1))
        return StageOutput(logits, features) if return_features else logits

    def forward_stage(
        self,
        images: Tensor,
        stage: int,
        *,
        losses: Tensor | Sequence[Tensor | float] | None = None,
        return_features: bool = False,
    ) -> Tensor | StageOutput:
        """Short form of `model(images, stage=…)`: `(B, C, H, W)` -> `(B, K)` logits of one step, see `forward`."""
        return self(images, stage=stage, losses=losses, return_features=return_features)

    def prune_for_inference(self) -> "PRFNet":
        """Remove the stage heads, which inference does not use (PRF-Net section 3.4), in place.

        The outputs stay bit-equal: of the "first three steps" that the paper removes, the serialization and
        attention modules are still needed. A model saved afterwards loads without stage heads too.
        """
        self.stage_heads = nn.ModuleList()
        self.pretrained_cfg["model_args"] = {**self.pretrained_cfg.get("model_args", {}), "stage_heads": False}
        return self

    @torch.no_grad()
    def focus_regions(self, images: Tensor) -> FocusOutput:
        """Show what the network looks at: run every stage on what the stage before focused on.

        `(B, C, H, W)` images -> logits `(B, K)`, stage logits `(B, S, K)`, focus boxes `(B, S, 4)` in pixels of
        the images, attention `(B, S, h, w)`. Run it in eval mode for what inference would see.

        Raises:
            RuntimeError: If the stage heads were removed by `prune_for_inference`.
        """
        maps = self._maps(images, self.out_indices)
        current, logits, boxes = images, [], []
        for stage in range(1, self.num_stages + 1):
            out = self(current, stage=stage, return_features=True)
            current, box = self.focus(current, out.features)
            logits.append(out.logits)
            boxes.append(box)
        scores = [attention_map(x)[:, None] for x in maps]
        grid = scores[0].shape[2:]
        scores = [F.interpolate(score, grid, mode="bilinear", align_corners=False) for score in scores]
        chained = chain_boxes(boxes, (images.shape[2], images.shape[3]))
        return FocusOutput(self.forward_head(self._tokens(maps)), torch.stack(logits, 1), chained, torch.cat(scores, 1))


TINY_BACKBONE: dict[str, Any] = {
    "backbone": "resnet18d",
    "backbone_args": {"channels": (32, 64, 128, 192), "stem_width": 16},
    "input_size": (3, 96, 96),
    "test_input_size": (3, 128, 128),
}
"""A slim ResNet-18-D: half the channels and fewer in the last stage."""

_CONFIG = {
    "classifier": "head.fc",
    "crop_pct": 256 / 260,
    "crop_mode": "squash",
    "interpolation": "bilinear",
}
"""What timm may ask of a configuration before the model is built."""

_PAPER = "PRF-Net: progressive region-focused network for fine-grained human behavior recognition"


def _imagenet(repo: str) -> WeightsInfo:
    return WeightsInfo(
        covers="backbone", source="hf-hub", location=repo, prefix="backbone.", exclude=("fc.*",), data="ImageNet-1k"
    )


@register_model(
    paper=_PAPER,
    num_classes=24,
    params=49_505_440,
    macs=6_807_891_968,
    config={**_CONFIG, "first_conv": "backbone.conv1", "pool_size": (8, 8)},
    aliases=("prfnet",),
    weights=(_imagenet("timm/resnet50.tv_in1k"),),
    timm=True,
)
def prfnet_resnet50(**kwargs: Any) -> PRFNet:
    """PRF-Net on ResNet-50: the paper's configuration."""
    return PRFNet(**{"backbone": "resnet50", **kwargs})


@register_model(
    paper=_PAPER,
    num_classes=24,
    params=18_108_064,
    macs=2_713_464_832,
    config={**_CONFIG, "first_conv": "backbone.conv1", "pool_size": (8, 8)},
    weights=(_imagenet("timm/resnet18.tv_in1k"),),
    timm=True,
)
def prfnet_resnet18(**kwargs: Any) -> PRFNet:
    """PRF-Net on ResNet-18, with narrower tokens: a quick one to fine-tune."""
    return PRFNet(**{"backbone": "resnet18", "dim": 512, **kwargs})


@register_model(
    paper=_PAPER,
    num_classes=24,
    input_size=(3, 96, 96),
    params=2_526_352,
    macs=92_878_848,
    config={**_CONFIG, "first_conv": "backbone.conv1.0", "pool_size": (4, 4)},
    timm=True,
)
def prfnet_tiny(**kwargs: Any) -> PRFNet:
    """PRF-Net on a slim ResNet-18-D with narrow tokens: trains on a CPU, bundled weights."""
    return PRFNet(**{**TINY_BACKBONE, "dim": 128, "tokens": 4, "num_heads": 4, "hidden": 256, **kwargs})
