"""Dilated encoder: one feature map that sees objects of every size, in place of a pyramid (YOLOF)."""

from collections.abc import Sequence

from torch import Tensor, nn


class DilatedBlock(nn.Module):
    """1x1, dilated 3x3 and 1x1 convolution, each with BatchNorm and ReLU, beside the identity."""

    def __init__(self, channels: int, mid_channels: int, dilation: int) -> None:
        """Build the block.

        Args:
            channels: Channels in and out.
            mid_channels: Channels of the 3x3 convolution.
            dilation: Its step between taps in cells; the size of the map stays.
        """
        super().__init__()
        self.reduce = _conv_norm_relu(channels, mid_channels, 1)
        self.dilated = _conv_norm_relu(mid_channels, mid_channels, 3, dilation)
        self.expand = _conv_norm_relu(mid_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, H, W)` -> the same."""
        return x + self.expand(self.dilated(self.reduce(x)))


class DilatedEncoder(nn.Module):
    """The dilated encoder of YOLOF (Chen et al., "You Only Look One-level Feature", CVPR 2021).

    A 1x1 convolution narrows the backbone's last map and a 3x3 convolution smooths it, each with BatchNorm and no
    activation; then residual blocks of growing dilation add larger and larger receptive fields to those that are
    there. PCF's detectors of people and body parts have it (section III-A).
    """

    def __init__(
        self,
        in_channels: int = 2048,
        out_channels: int = 512,
        mid_channels: int = 128,
        dilations: Sequence[int] = (2, 4, 6, 8),
    ) -> None:
        """Build the encoder, initialised as the authors'.

        Args:
            in_channels: Channels of the map.
            out_channels: Channels of the map returned.
            mid_channels: Channels inside the residual blocks.
            dilations: Dilation of every residual block.

        Raises:
            ValueError: If a number of channels or a dilation is below 1.
        """
        super().__init__()
        self.in_channels, self.out_channels, self.dilations = in_channels, out_channels, tuple(dilations)
        if min(in_channels, out_channels, mid_channels, *self.dilations) < 1:
            raise ValueError(
                f"expected channels and dilations of at least 1, got in_channels={in_channels}, "
                f"out_channels={out_channels}, mid_channels={mid_channels}, dilations={self.dilations}"
            )
        narrow = nn.Conv2d(in_channels, out_channels, 1)
        smooth = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.lateral = nn.Sequential(narrow, nn.BatchNorm2d(out_channels))
        self.smooth = nn.Sequential(smooth, nn.BatchNorm2d(out_channels))
        self.blocks = nn.Sequential(*(DilatedBlock(out_channels, mid_channels, step) for step in self.dilations))
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
        for conv in (narrow, smooth):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Encode a map: `(B, in_channels, H, W)` -> `(B, out_channels, H, W)`.

        Args:
            x: A backbone's last map.

        Raises:
            ValueError: If it is not `(B, in_channels, H, W)`, or has no cells.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels or 0 in x.shape[2:]:
            raise ValueError(f"DilatedEncoder expects a map (B, {self.in_channels}, H, W), got shape {tuple(x.shape)}")
        return self.blocks(self.smooth(self.lateral(x)))


def _conv_norm_relu(cin: int, cout: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(cin, cout, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU(inplace=True))
