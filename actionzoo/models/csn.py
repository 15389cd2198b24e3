"""Channel-separated networks, which tell what happens in a clip: ip-CSN and ir-CSN.

Paper: Tran et al., "Video Classification with Channel-Separated Convolutional Networks", ICCV 2019. ip-CSN-152 is what
the part action parser recognises whole videos and segments of them with (PCF, section III-A).
"""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from ..layers import ChannelSeparatedBottleneck
from ..layers.csn import ConvNorm3d, recomputed
from ..registry import register_model
from ..weights import HubMixin, LoadReport, Weights, WeightsInfo, load_weights, read_checkpoint
from ._csn_names import csn_state_dict as csn_state_dict

__all__ = ["CSN", "csn_state_dict", "ipcsn_50", "ipcsn_152", "ipcsn_tiny", "ircsn_152"]

Net = TypeVar("Net", bound="CSN")


class CSN(HubMixin, nn.Module):
    """Channel-separated network: a 3D ResNet of bottlenecks whose 3x3x3 convolutions are depthwise.

    Stem 3x7x7 of stride (1, 2, 2), pooling of cells, stages of bottlenecks, mean over frames and cells, dropout, linear
    classifier. Every stage but the first halves frames and cells and doubles the channels. The defaults are those of
    ip-CSN-50.

    `.to(memory_format=torch.channels_last_3d)` and `.bfloat16()`, or autocast, work throughout, and so they do after
    `fuse_for_inference`.
    """

    def __init__(
        self,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        expansion: int = 4,
        mode: str = "ip",
        norm: str = "bn",
        frozen_norm: bool = False,
        drop_rate: float = 0.5,
        global_pool: str = "avg",
        input_size: tuple[int, int, int, int] = (3, 32, 256, 256),
        stride: int = 2,
    ) -> None:
        """Build the network with random weights.

        Args:
            num_classes: Classes K; 0 makes `forward` return what the classifier would take.
            in_chans: Channels of the clips.
            depths: Bottlenecks of each stage, of which there are as many as numbers.
            width: Channels of the stem and of the first stage's bottlenecks.
            expansion: Channels that a bottleneck gives over those inside it.
            mode: `"ip"`, interaction-preserved, or `"ir"`, interaction-reduced, see `ChannelSeparatedBottleneck`.
            norm: `"bn"`, BatchNorm, or `"none"`, convolutions with biases, as `fuse_for_inference` leaves them.
            frozen_norm: Whether BatchNorm keeps its statistics, scales and shifts in training, see `freeze_norm`. They
                should come from weights then: at random initialisation it does nothing.
            drop_rate: Dropout before the classifier.
            global_pool: `"avg"`, or `""`: `forward` returns the last map.
            input_size: `(C, T, H, W)` that the configuration is meant for; any T, H and W from 1 on work.
            stride: Step between the frames of a clip in frames of the video, for who samples clips.

        Raises:
            ValueError: If a setting is unknown or out of range.
        """
        super().__init__()
        depths = tuple(depths)
        if min(in_chans, width, stride, *depths, len(depths)) < 1 or num_classes < 0:
            raise ValueError(
                "in_chans, depths, width and stride are at least 1 and num_classes at least 0, got "
                f"in_chans={in_chans}, depths={depths}, width={width}, stride={stride}, num_classes={num_classes}"
            )
        if frozen_norm and norm == "none":
            raise ValueError("frozen_norm=True needs a normalisation to freeze, got norm='none'")
        self.num_classes, self.in_chans, self.frames, self.stride = num_classes, in_chans, input_size[1], stride
        self.grad_checkpointing = self.frozen_norm = False
        self._set_global_pool(global_pool)

        self.stem = ConvNorm3d(in_chans, width, (3, 7, 7), (1, 2, 2), norm)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.stages = nn.Sequential()
        cin = width
        for i, depth in enumerate(depths):
            stage = nn.Sequential()
            for j in range(depth):
                steps = (2, 2, 2) if i and not j else (1, 1, 1)
                block = ChannelSeparatedBottleneck(cin, width * 2**i, steps, mode, norm, expansion)
                stage.append(block)
                cin = block.cout
            self.stages.append(stage)
        self.num_features = self.head_hidden_size = cin
        self.drop = nn.Dropout(drop_rate)
        self.classifier: nn.Module = self._linear(num_classes)
        if frozen_norm:
            self.freeze_norm()
        self.pretrained_cfg = self.default_cfg = {
            "input_size": (in_chans, *input_size[1:]),
            "num_classes": num_classes,
            "classifier": "classifier",
            "first_conv": "stem.conv",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "frames": self.frames,
            "stride": stride,
        }

    @property
    def classifier_names(self) -> tuple[str, ...]:
        """Dotted name of the linear classifier."""
        return ("classifier",)

    def _linear(self, num_classes: int) -> nn.Module:
        if not num_classes:
            return nn.Identity()
        linear = nn.Linear(self.head_hidden_size, num_classes)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        return linear

    def _set_global_pool(self, global_pool: str) -> None:
        if global_pool not in ("avg", ""):
            raise ValueError(f"global_pool is 'avg' or '' (none), got {global_pool!r}")
        self.global_pool = global_pool

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute stem and bottlenecks in the backward pass: less memory, more time, the same running statistics."""
        self.grad_checkpointing = enable

    def freeze_norm(self, frozen: bool = True) -> None:
        """Freeze BatchNorm, as the part action parser is fine-tuned (PCF, section III-A), or let it learn again.

        Frozen, it goes by its running statistics in training mode too and leaves them as they are, and its scales and
        shifts do not learn. Call it before the optimizer takes its parameters.
        """
        self.frozen_norm = frozen
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.requires_grad_(not frozen)
        self.train(self.training)

    def train(self: Net, mode: bool = True) -> Net:
        """Put the network in training mode, or with False in eval mode; frozen BatchNorm stays in eval mode."""
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.eval()
        return self

    def get_classifier(self) -> nn.Module:
        """The linear classifier."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a fresh classifier of `num_classes` rows, whose classes have no names; 0 removes it."""
        if global_pool is not None:
            self._set_global_pool(global_pool)
        self.num_classes = num_classes
        reference = self.stem.conv.weight
        self.classifier = self._linear(num_classes).to(device=reference.device, dtype=reference.dtype)
        self.pretrained_cfg.pop("classes", None)
        self.pretrained_cfg["num_classes"] = num_classes

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map: `(B, C, T, H, W)` -> `(B, D, T / 8, H / 32, W / 32)`, rounded up, with four stages.

        Args:
            x: Clips, normalised as `pretrained_cfg` says.

        Raises:
            ValueError: If `x` is not `(B, C, T, H, W)`, or has no frames or pixels.
        """
        if x.ndim != 5 or x.shape[1] != self.in_chans or 0 in x.shape[2:]:
            raise ValueError(
                f"{type(self).__name__} expects clips (B, {self.in_chans}, T, H, W), got shape {tuple(x.shape)}; "
                "give a single clip a batch dimension with [None], or build with in_chans=…"
            )
        again = self.grad_checkpointing and self.training and torch.is_grad_enabled()
        x = self.pool(recomputed(self.stem, x) if again else self.stem(x))
        if not again:
            return self.stages(x)
        for stage in self.stages.children():
            for block in stage.children():
                x = recomputed(block, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Mean over frames and cells, dropout, classifier: `(B, D, t, h, w)` -> `(B, K)` logits.

        Args:
            x: What `forward_features` returns.
            pre_logits: Leave out the classifier: `(B, D)`.
        """
        if self.global_pool == "":
            return x
        x = self.drop(x.mean((2, 3, 4)))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """Tell what happens in each clip: `(B, C, T, H, W)` -> `(B, K)` logits.

        Raises:
            ValueError: If `x` is not `(B, C, T, H, W)`, or has no frames or pixels.
        """
        return self.forward_head(self.forward_features(x))

    def load_published(
        self, source: str | os.PathLike[str] | Mapping[str, Tensor], *, strict: bool = True
    ) -> LoadReport:
        """Load a file of VMZ, ig65m-pytorch or mmaction2, under their names of tensors; sets `load_report`.

        A classifier of another number of classes, or none, leaves this network's as it is. mmaction2's files that were
        not trained from IG-65M want Kinetics' mean and standard deviation, (0.43216, 0.394666, 0.37645) and (0.22803,
        0.22145, 0.216989), the others ImageNet's, as `pretrained_cfg` has them.

        Args:
            source: The file, or its state dict.
            strict: With False, load what fits and warn about the rest.

        Raises:
            RuntimeError: If the file cannot be read, or does not fit; nothing is loaded then.
        """
        path = None if isinstance(source, Mapping) else os.fspath(source)
        tensors = csn_state_dict(source if isinstance(source, Mapping) else read_checkpoint(source)[0])
        whole = "classifier.weight" in tensors
        info = WeightsInfo(
            source="state_dict" if path is None else "file",
            location=path or "",
            covers="model" if whole else "backbone",
        )
        self.load_report = load_weights(self, Weights(tensors, info, "unpinned"), strict=strict)
        return self.load_report

    def fuse_for_inference(self: Net) -> Net:
        """A copy whose convolutions have BatchNorm folded in, which saves a pass over every map.

        The network itself stays as it is. The copy gives the same logits but for rounding; it is what `norm="none"`
        builds, saves and loads as that. Fold in float32 before casting to less.

        Raises:
            RuntimeError: In training mode, where BatchNorm goes by the batch and not by its running statistics.
        """
        if self.training:
            raise RuntimeError(
                f"this {type(self).__name__} is in training mode, where BatchNorm goes by each batch; "
                "call .eval() first"
            )
        fused = copy.deepcopy(self)
        for module in fused.modules():
            if isinstance(module, ConvNorm3d):
                module.fold_norm()
        fused.frozen_norm = False
        arguments = {**fused.pretrained_cfg.get("model_args", {}), "norm": "none"}
        arguments.pop("frozen_norm", None)
        fused.pretrained_cfg = fused.default_cfg = {**fused.pretrained_cfg, "model_args": arguments}
        return fused


_ENTRY: dict[str, Any] = {
    "task": "video classification",
    "paper": "Video Classification with Channel-Separated Convolutional Networks",
    "input_size": (3, 32, 256, 256),
    "num_classes": 400,
    "config": {"classifier": "classifier", "first_conv": "stem.conv"},
    "rename": csn_state_dict,
}
_DEEP = (3, 8, 36, 3)


@register_model(**_ENTRY, params=33_016_592, macs=108_792_807_424)
def ipcsn_152(**kwargs: Any) -> CSN:
    """ip-CSN-152, interaction-preserved, what the part action parser recognises actions with."""
    return CSN(**{"depths": _DEEP, **kwargs})


@register_model(**_ENTRY, params=14_396_176, macs=62_239_178_752)
def ipcsn_50(**kwargs: Any) -> CSN:
    """ip-CSN-50, interaction-preserved, with a ResNet-50's depth."""
    return CSN(**kwargs)


@register_model(**_ENTRY, params=29_703_568, macs=96_713_211_904)
def ircsn_152(**kwargs: Any) -> CSN:
    """ir-CSN-152, interaction-reduced: without the 1x1x1 convolution before the depthwise one."""
    return CSN(**{"depths": _DEEP, "mode": "ir", **kwargs})


@register_model(**{**_ENTRY, "input_size": (3, 4, 112, 112)}, params=302_288, macs=114_481_728)
def ipcsn_tiny(**kwargs: Any) -> CSN:
    """A small ip-CSN for clips of 4 frames: trains on a CPU."""
    small: dict[str, Any] = {"depths": (1, 2, 3, 1), "width": 16, "expansion": 2, "stride": 16, "drop_rate": 0.2}
    return CSN(**{**small, "input_size": (3, 4, 112, 112), **kwargs})
