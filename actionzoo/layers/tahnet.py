"""TAHNet, the temporal action head network: from the features of one person through a clip to an action.

Paper: "An efficient human instance-guided framework for video action recognition" (sections 3.3
and 4.4, Fig. 4, Table 7).
"""

import copy
from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor, nn

from .channel_bottleneck3d import ChannelBottleneck3D, ConvNormReLU3d

Net = TypeVar("Net", bound="TAHNet")


class TAHNet(nn.Module):
    """Channel bottleneck, 3x3x3 convolutions, mean over frames and cells, linear layer, linear classifier (Fig. 4).

    The defaults are those of TAHNet-v1. Table 7's multiply-accumulates and output sizes say what its text leaves
    open: only the last convolution has stride 2, along time as along height and width, and TAHNet-v4's first too.
    Every convolution is followed by normalisation and ReLU, and the linear layer by ReLU: the paper says nothing of
    either. Softmax over the logits is Eqs 12 and 14.

    `.to(memory_format=torch.channels_last_3d)` and `.bfloat16()`, or autocast, work throughout.
    """

    def __init__(
        self,
        *,
        num_classes: int = 60,
        in_chans: int = 256,
        bottleneck: Sequence[int] | None = (1024, 256, 128),
        temporal_bottleneck: bool = False,
        depth: int = 5,
        width: int = 1024,
        first_stride: int = 1,
        temporal_kernel: int = 3,
        hidden: int | None = 1024,
        norm: str = "bn",
        drop_rate: float = 0.0,
        global_pool: str = "avg",
        input_size: tuple[int, int, int, int] = (256, 8, 14, 14),
    ) -> None:
        """Build the network with random weights.

        Args:
            num_classes: Classes K; 0 makes `forward` return what the classifier would take.
            in_chans: Channels C of the features.
            bottleneck: Channels of the bottleneck's convolutions; None for no bottleneck.
            temporal_bottleneck: Whether the bottleneck halves the number of frames, see `ChannelBottleneck3D`.
            depth: Number of 3x3x3 convolutions.
            width: Their channels D, the table's DIM_Conv.
            first_stride: Stride of the first of them, 1 or 2; that of the last is 2.
            temporal_kernel: Their kernel along time, odd; 1 for a head that sees every frame alone, with the strides
                along height and width only.
            hidden: Width of the linear layer before the classifier; None for none.
            norm: Normalisation after every convolution: `"bn"`, `"gn"` or `"none"`.
            drop_rate: Dropout before the classifier.
            global_pool: `"avg"`, or `""`: `forward` returns the last map.
            input_size: `(C, T, H, W)` that the configuration is meant for; any T, H and W from 1 on work.

        Raises:
            ValueError: If a setting is unknown or out of range.
        """
        super().__init__()
        if min(in_chans, depth, width) < 1 or (hidden is not None and hidden < 1) or num_classes < 0:
            raise ValueError(
                "in_chans, depth, width and hidden are at least 1 and num_classes at least 0, got "
                f"in_chans={in_chans}, depth={depth}, width={width}, hidden={hidden}, num_classes={num_classes}"
            )
        if first_stride not in (1, 2):
            raise ValueError(f"first_stride is 1 or 2, got {first_stride}")
        if temporal_kernel < 1 or temporal_kernel % 2 == 0:
            raise ValueError(f"temporal_kernel is an odd number of frames, got {temporal_kernel}")
        if temporal_bottleneck and bottleneck is None:
            raise ValueError("temporal_bottleneck=True needs a bottleneck, got bottleneck=None")
        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features, self.head_hidden_size = width, width if hidden is None else hidden
        self._set_global_pool(global_pool)

        self.bottleneck: nn.Module = nn.Identity()
        cin = in_chans
        if bottleneck is not None:
            self.bottleneck = ChannelBottleneck3D(in_chans, bottleneck, temporal_bottleneck, norm)
            cin = self.bottleneck.channels[-1]
        strides = [first_stride] + [1] * (depth - 1)
        strides[-1] = 2
        self.convs = nn.Sequential()
        for i, s in enumerate(strides):
            kernel, stride = (temporal_kernel, 3, 3), (s if temporal_kernel > 1 else 1, s, s)
            self.convs.append(ConvNormReLU3d(width if i else cin, width, kernel, stride, norm))
        self.fc: nn.Module = nn.Identity()
        if hidden is not None:
            self.fc = nn.Sequential(nn.Linear(width, hidden), nn.ReLU())
        self.drop = nn.Dropout(drop_rate)
        self.classifier: nn.Module = self._linear(num_classes)
        self.pretrained_cfg = self.default_cfg = {
            "input_size": (in_chans, *input_size[1:]),
            "num_classes": num_classes,
            "classifier": "classifier",
            # features are not pictures: nothing is subtracted from them
            "mean": None,
            "std": None,
        }

    @property
    def classifier_names(self) -> tuple[str, ...]:
        """Dotted name of the linear classifier."""
        return ("classifier",)

    def _linear(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()

    def _set_global_pool(self, global_pool: str) -> None:
        if global_pool not in ("avg", ""):
            raise ValueError(f"global_pool is 'avg' or '' (none), got {global_pool!r}")
        self.global_pool = global_pool

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the convolutions in the backward pass: less memory, more time, the same running statistics."""
        for module in self.modules():
            if isinstance(module, ConvNormReLU3d):
                module.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """The linear classifier."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a fresh classifier of `num_classes` rows; 0 removes it."""
        if global_pool is not None:
            self._set_global_pool(global_pool)
        self.num_classes = num_classes
        reference = next(self.parameters())
        self.classifier = self._linear(num_classes).to(device=reference.device, dtype=reference.dtype)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map: `(N, C, T, H, W)` -> `(N, D, T / 2, H / 2, W / 2)`, rounded up.

        Of 8 frames and 14x14 cells it has 4x7x7. In TAHNet-v4 the bottleneck halves T once more, and the first
        convolution T, H and W: of 28x28 cells it has 1x7x7.

        Args:
            x: Features of N people, the same region of every frame.

        Raises:
            ValueError: If `x` is not `(N, C, T, H, W)`, or has no frames or cells.
        """
        if x.ndim != 5 or x.shape[1] != self.in_chans or 0 in x.shape[2:]:
            raise ValueError(
                f"{type(self).__name__} expects features (N, {self.in_chans}, T, H, W), got shape {tuple(x.shape)}; "
                "give a single person a batch dimension with [None], or build with in_chans=…"
            )
        return self.convs(self.bottleneck(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Mean over frames and cells, linear layer, classifier: `(N, D, t, h, w)` -> `(N, K)` logits.

        Args:
            x: What `forward_features` returns.
            pre_logits: Leave out the classifier: `(N, head_hidden_size)`.
        """
        if self.global_pool == "":
            return x
        x = self.drop(self.fc(x.mean((2, 3, 4))))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """Classify what each person does: `(N, C, T, H, W)` features -> `(N, K)` logits; N may be 0.

        Raises:
            ValueError: If `x` is not `(N, C, T, H, W)`, or has no frames or cells.
        """
        return self.forward_head(self.forward_features(x))

    def fuse_for_inference(self: Net) -> Net:
        """A copy whose convolutions have BatchNorm folded in, which saves a pass over every map.

        The network itself stays as it is. The copy gives the same logits but for rounding; it is what `norm="none"`
        builds, saves and loads as that, and can be trained on as such. Fold in float32 before casting to less.

        Raises:
            RuntimeError: In training mode, where BatchNorm goes by the batch and not by its running statistics.
            ValueError: If the normalisation is GroupNorm, which depends on the input.
        """
        if self.training:
            raise RuntimeError(
                f"this {type(self).__name__} is in training mode, where BatchNorm goes by each batch; "
                "call .eval() first"
            )
        fused = copy.deepcopy(self)
        for module in fused.modules():
            if isinstance(module, ConvNormReLU3d):
                module.fold_norm()
        arguments = {**fused.pretrained_cfg.get("model_args", {}), "norm": "none"}
        fused.pretrained_cfg = fused.default_cfg = {**fused.pretrained_cfg, "model_args": arguments}
        return fused
