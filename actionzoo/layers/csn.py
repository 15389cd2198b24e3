"""The channel-separated bottleneck: channels meet in 1x1x1 convolutions, frames and cells in depthwise ones.

Paper: Tran et al., "Video Classification with Channel-Separated Convolutional Networks", ICCV 2019. The part action
parser recognises videos and segments of them with it (PCF, section III-A).
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from .. import kernels
from .channel_bottleneck3d import ConvNormReLU3d

NORM_EPS = 1e-3
"""BatchNorm's epsilon in the published networks, a hundred times torch's."""


class ConvNorm3d(ConvNormReLU3d):
    """3D convolution, of groups perhaps, padded by half its kernel; BatchNorm; ReLU where asked for.

    BatchNorm folds into the convolution as in `ConvNormReLU3d`. A depthwise 3x3x3 convolution runs as a Triton kernel
    inside `actionzoo.kernels.use_kernels`.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: tuple[int, int, int] = (1, 1, 1),
        stride: tuple[int, int, int] = (1, 1, 1),
        norm: str = "bn",
        *,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        """Build the layer.

        Args:
            cin: Channels in.
            cout: Channels out.
            kernel: Kernel's size along time, height and width, odd numbers.
            stride: Stride along time, height and width.
            norm: `"bn"`, BatchNorm, or `"none"`, the convolution with a bias.
            groups: Groups of channels that the convolution keeps apart.
            act: Whether ReLU follows.

        Raises:
            ValueError: If `norm` is unknown.
        """
        if norm not in ("bn", "none"):
            raise ValueError(f"norm is 'bn' or 'none', got {norm!r}")
        # the weight of a grouped convolution is that of one with as many channels in as a group has
        super().__init__(cin // groups, cout, kernel, stride, norm)
        self.conv.in_channels, self.conv.groups = cin, groups
        if norm == "bn":
            self.norm.eps = NORM_EPS
        if not act:
            self.act = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`(N, cin, T, H, W)` -> `(N, cout, T', H', W')`, sizes divided by the stride and rounded up."""
        conv = self.conv
        depthwise = conv.groups == conv.in_channels == conv.out_channels and conv.kernel_size == (3, 3, 3)
        if depthwise and max(conv.stride) <= 2 and kernels.active("depthwise_conv3d", x):
            return self.act(self.norm(kernels.depthwise_conv3d(x, conv.weight, conv.bias, conv.stride)))
        return super().forward(x)


class ChannelSeparatedBottleneck(nn.Module):
    """Residual block of a channel-separated network (Tran et al., section 3.4 and Fig. 2): `ip` or `ir`.

    A bottleneck's 3x3x3 convolution becomes depthwise. Where interactions between channels are preserved (`"ip"`), a
    1x1x1 convolution with normalisation goes before it; where they are reduced (`"ir"`), nothing does. The depthwise
    convolution has the stride.
    """

    def __init__(
        self,
        cin: int,
        width: int,
        stride: tuple[int, int, int] = (1, 1, 1),
        mode: str = "ip",
        norm: str = "bn",
        expansion: int = 4,
    ) -> None:
        """Build the block.

        Args:
            cin: Channels in.
            width: Channels of the bottleneck.
            stride: Stride along time, height and width.
            mode: `"ip"`, interaction-preserved, or `"ir"`, interaction-reduced.
            norm: `"bn"`, BatchNorm, or `"none"`, convolutions with biases.
            expansion: Channels out over channels of the bottleneck.

        Raises:
            ValueError: If `mode` or `norm` is unknown, or there are no channels.
        """
        super().__init__()
        if mode not in ("ip", "ir"):
            raise ValueError(f"mode is 'ip' (interaction-preserved) or 'ir' (interaction-reduced), got {mode!r}")
        if min(cin, width, expansion) < 1:
            raise ValueError(f"cin, width and expansion are at least 1, got {cin}, {width} and {expansion}")
        self.cin, self.cout, self.mode = cin, width * expansion, mode
        convs: OrderedDict[str, nn.Module] = OrderedDict(reduce=ConvNorm3d(cin, width, norm=norm))
        if mode == "ip":
            convs["pointwise"] = ConvNorm3d(width, width, norm=norm, act=False)
        convs["depthwise"] = ConvNorm3d(width, width, (3, 3, 3), stride, norm, groups=width)
        convs["expand"] = ConvNorm3d(width, self.cout, norm=norm, act=False)
        self.convs = nn.Sequential(convs)
        self.shortcut: nn.Module = nn.Identity()
        if cin != self.cout or tuple(stride) != (1, 1, 1):
            self.shortcut = ConvNorm3d(cin, self.cout, stride=stride, norm=norm, act=False)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, cin, T, H, W)` -> `(B, width * expansion, T', H', W')`, sizes divided by the stride and rounded up.

        Raises:
            ValueError: If `x` is not `(B, cin, T, H, W)`.
        """
        if x.ndim != 5 or x.shape[1] != self.cin:
            raise ValueError(
                f"{type(self).__name__} expects a map (B, {self.cin}, T, H, W), got shape {tuple(x.shape)}"
            )
        return self.act(self.convs(x) + self.shortcut(x))


def recomputed(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)` that keeps nothing but `x` for the backward pass, in which it runs again.

    Running statistics move once, as without recomputing.

    Args:
        module: Takes and returns one tensor.
        x: Its input.
    """
    names = [name for name, _ in module.named_buffers()]

    def run(x: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        # the statistics move in copies, so that the second run does not move them again
        buffers = {name: value.clone() for name, value in zip(names, before, strict=True)}
        return functional_call(module, buffers, (x,)), *buffers.values()

    # nor may those that the second run starts from be the ones that the first has moved
    before = [buffer.clone() for buffer in module.buffers()]
    out, *moved = checkpoint(run, x, *before, use_reentrant=False)
    with torch.no_grad():
        for buffer, value in zip(module.buffers(), moved, strict=True):
            buffer.copy_(value)
    return out
