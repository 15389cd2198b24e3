"""ReLU and a block's shortcut, done by the convolution before them while it has its result at hand."""

from typing import Any

from torch import Tensor, nn

from .. import kernels
from ..layers import ChannelSeparatedBottleneck
from ..layers.channel_bottleneck3d import ConvNormReLU3d
from ..layers.csn import ConvNorm3d
from ._folding import watched
from ._packing import PackedConv3d


class _ReLUInside(ConvNormReLU3d):
    """Folded convolution whose packed form does the ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """As the layer that it was."""
        if self.conv.groups > 1 and kernels.active("depthwise_conv3d", x):
            return super().forward(x)
        return self.conv(x, relu=isinstance(self.act, nn.ReLU))


class PackedConvNormReLU3d(_ReLUInside):
    """`ConvNormReLU3d` without its normalisation."""


class PackedConvNorm3d(_ReLUInside, ConvNorm3d):
    """`ConvNorm3d` without its normalisation."""


class PackedBottleneck(ChannelSeparatedBottleneck):
    """Block whose last convolution adds the shortcut."""

    def forward(self, x: Tensor, own: bool = False) -> Tensor:
        """As the block that it was.

        Args:
            x: `(B, cin, T, H, W)`.
            own: Whether `x` may be overwritten.
        """
        *first, last = self.convs.children()
        conv: Any = last
        y = x
        for layer in first:
            y = layer(y)
        fresh = own or not isinstance(self.shortcut, nn.Identity)
        return conv.conv(y, relu=True, other=self.shortcut(x), into=fresh)


class PackedStage(nn.Sequential):
    """Such blocks one after the other: all but the first overwrite what the one before gave."""

    def forward(self, input: Tensor) -> Tensor:
        """As the sequence that it was."""
        before = None
        for block in self:
            watched = before is None or before._forward_hooks or block._forward_pre_hooks
            input, before = block(input, own=not watched), block
        return input


_KINDS = {ConvNormReLU3d: PackedConvNormReLU3d, ConvNorm3d: PackedConvNorm3d}


def fuse_epilogues(model: nn.Module) -> None:
    """Let convolutions of our layers whose weights are packed do what follows them, in place.

    Modules that are passed by then keep their places; those that have hooks are not passed by.
    """
    for module in list(model.modules()):
        layer: Any = module
        if type(layer) not in _KINDS or watched(layer.norm) or watched(layer.act):
            continue
        if isinstance(layer.conv, PackedConv3d) and isinstance(layer.norm, nn.Identity):
            layer.__class__ = _KINDS[type(layer)]
    for module in list(model.modules()):
        block: Any = module
        if type(block) is not ChannelSeparatedBottleneck or watched(block.convs) or watched(block.act):
            continue
        if isinstance(block.convs.expand, PackedConvNorm3d) and not watched(block.convs.expand):
            block.__class__ = PackedBottleneck
    for module in list(model.modules()):
        stage: Any = module
        if type(stage) is nn.Sequential and len(stage) and all(type(x) is PackedBottleneck for x in stage):
            stage.__class__ = PackedStage
