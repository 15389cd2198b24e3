"""Channel bottleneck of TAHNet: 1x1x1 convolutions that widen a person's features, then narrow them."""

from collections.abc import Sequence
from itertools import pairwise
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


def _norm(norm: str, channels: int) -> nn.Module:
    if norm == "bn":
        return nn.BatchNorm3d(channels)
    if norm == "gn":
        return nn.GroupNorm(gcd(32, channels), channels)
    if norm == "none":
        return nn.Identity()
    raise ValueError(f"norm is 'bn', 'gn' or 'none', got {norm!r}")


class ConvNormReLU3d(nn.Module):
    """3D convolution padded by half its kernel, normalisation, ReLU.

    The convolution has a bias only where no normalisation follows, so that folding BatchNorm into it gives the very
    module that `norm="none"` builds.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
        norm: str = "bn",
    ) -> None:
        """Build the layer.

        Args:
            cin: Channels in.
            cout: Channels out.
            kernel: Kernel's size along time, height and width, odd numbers.
            stride: Stride along time, height and width.
            norm: `"bn"`, BatchNorm; `"gn"`, GroupNorm of 32 groups, fewer where they do not divide `cout`; `"none"`.

        Raises:
            ValueError: If `norm` is unknown.
        """
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(cin, cout, kernel, stride, padding, bias=norm == "none")
        self.norm: Any = _norm(norm, cout)
        self.act = nn.ReLU(inplace=True)
        self.grad_checkpointing = False
        # by the channels in, so that activations keep their size where no normalisation sees to it
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def fold_norm(self) -> None:
        """Fold BatchNorm, as it is in eval mode, into the convolution, in place; nothing is left to do without it.

        Raises:
            RuntimeError: If BatchNorm is in training mode, where it goes by the batch.
            ValueError: If the normalisation is GroupNorm, which depends on the input.
        """
        if isinstance(self.norm, nn.Identity):
            return
        if isinstance(self.norm, nn.GroupNorm):
            raise ValueError('GroupNorm depends on its input and cannot be folded; build with norm="bn" or "none"')
        if self.norm.training:
            raise RuntimeError("BatchNorm in training mode goes by each batch and cannot be folded; call .eval() first")
        weight, norm = self.conv.weight, self.norm
        with torch.no_grad():
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            folded = (weight * scale[:, None, None, None, None]).to(weight.dtype)
            shift = (norm.bias - norm.running_mean * scale).to(weight.dtype)
        # torch's own folding would leave a bias that does not learn
        self.conv.weight = nn.Parameter(folded, weight.requires_grad)
        self.conv.bias = nn.Parameter(shift, norm.bias.requires_grad)
        self.norm = nn.Identity().eval()

    def forward(self, x: Tensor) -> Tensor:
        """`(N, cin, T, H, W)` -> `(N, cout, T', H', W')`, sizes divided by the stride and rounded up."""
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            return self._forward_recomputed(x)
        return self.act(self.norm(self.conv(x)))

    def _forward_recomputed(self, x: Tensor) -> Tensor:
        """The same, keeping nothing but `x` for the backward pass."""
        names = [name for name, _ in self.norm.named_buffers()]

        def run(x: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
            # the running statistics move in copies, so that the second run does not move them again
            buffers = {name: value.clone() for name, value in zip(names, before, strict=True)}
            x = functional_call(self.norm, buffers, (self.conv(x),))
            return self.act(x), *buffers.values()

        # nor may those that the second run starts from be the ones that the first has moved
        before = [buffer.clone() for buffer in self.norm.buffers()]
        out, *moved = checkpoint(run, x, *before, use_reentrant=False)
        for buffer, value in zip(self.norm.buffers(), moved, strict=True):
            buffer.copy_(value)
        return out


class ChannelBottleneck3D(nn.Module):
    """The CB module of TAHNet (section 3.3.1, Fig. 4): 1x1x1 convolutions, "increasing and decreasing" the channels.

    The paper's has three; TAHNet-v4's first one also looks at three frames and halves their number (section 4.4).
    Every convolution is followed by normalisation and ReLU, of which the paper says nothing.
    """

    def __init__(self, cin: int, channels: Sequence[int], temporal: bool = False, norm: str = "bn") -> None:
        """Build the layer.

        Args:
            cin: Channels in, 256 for a feature pyramid's.
            channels: Channels out of each convolution, (1024, 256, 128) in TAHNet-v1 and -v2.
            temporal: Whether the first convolution has kernel 3 and stride 2 along time.
            norm: `"bn"`, `"gn"` or `"none"`, see `ConvNormReLU3d`.

        Raises:
            ValueError: If there is no convolution, a number of channels is below 1, or `norm` is unknown.
        """
        super().__init__()
        widths = (cin, *channels)
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(
                f"expected one or more convolutions of at least one channel, got cin={cin}, channels={tuple(channels)}"
            )
        self.cin, self.channels, self.temporal = cin, widths[1:], temporal
        self.convs = nn.Sequential()
        for i, (before, after) in enumerate(pairwise(widths)):
            kernel, stride = ((3, 1, 1), (2, 1, 1)) if temporal and i == 0 else ((1, 1, 1), (1, 1, 1))
            self.convs.append(ConvNormReLU3d(before, after, kernel, stride, norm))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, cin, T, H, W)` -> `(N, channels[-1], T, H, W)`; `temporal` halves T, rounding up.

        Args:
            x: Features of N people.

        Raises:
            ValueError: If `x` is not `(N, cin, T, H, W)`, or has no frames or cells.
        """
        if x.ndim != 5 or x.shape[1] != self.cin or 0 in x.shape[2:]:
            raise ValueError(
                f"{type(self).__name__} expects features (N, {self.cin}, T, H, W), got shape {tuple(x.shape)}"
            )
        return self.convs(x)
