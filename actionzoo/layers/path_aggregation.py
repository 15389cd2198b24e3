"""Path aggregation: a feature pyramid with a second, short way from fine maps to coarse ones (PANet)."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork


class PathAggregation(nn.Module):
    """The neck of PANet (Liu et al., "Path Aggregation Network for Instance Segmentation", 2018, section 3.1).

    torchvision's feature pyramid gives maps P_1 (the finest) to P_L; then bottom-up path augmentation carries where
    things are back to the coarse maps: N_1 is P_1 as it is, and

    `N_{i+1} = relu(conv3x3(relu(conv3x3_down(N_i)) + P_{i+1}))`

    with `out_channels` throughout. The first convolution has stride 2, or 1 where the next map is as fine. The paper
    leaves initialisation open: these convolutions start as those of the pyramid do. PANet's other parts, adaptive
    feature pooling and fully-connected fusion, belong to its heads and are not in here.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, strides: Sequence[int] | None = None
    ) -> None:
        """Build the neck.

        Args:
            in_channels: Channels of every map, the finest first.
            out_channels: Channels of every map returned.
            strides: Strides of the maps in pixels of the image, the finest first, each once or twice the one before;
                None for doubling all the way.

        Raises:
            ValueError: If there is no map, a number of channels is below 1, or the strides are not as described.
        """
        super().__init__()
        self.in_channels = tuple(in_channels)
        if not self.in_channels or min(*self.in_channels, out_channels) < 1:
            raise ValueError(
                f"expected one or more maps with at least one channel, got in_channels={self.in_channels}, "
                f"out_channels={out_channels}"
            )
        strides = [2**i for i in range(len(self.in_channels))] if strides is None else list(strides)
        if len(strides) != len(self.in_channels):
            raise ValueError(f"expected one stride per map, got {len(strides)} for {len(self.in_channels)} maps")
        if min(strides) < 1 or any(coarse not in (fine, 2 * fine) for fine, coarse in pairwise(strides)):
            raise ValueError(f"expected every stride to be once or twice the one before, got {strides}")
        self.out_channels = out_channels
        self.steps = tuple(coarse // fine for fine, coarse in pairwise(strides))
        self.top_down = FeaturePyramidNetwork(list(self.in_channels), out_channels)
        self.down = nn.ModuleList(_conv3x3(out_channels, step) for step in self.steps)
        self.fuse = nn.ModuleList(_conv3x3(out_channels, 1) for _ in self.steps)

    def forward(self, features: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
        """Aggregate the maps of a backbone: L maps `(B, in_channels[i], H_i, W_i)` -> `(B, out_channels, H_i, W_i)`.

        Args:
            features: Maps by name, the finest first. Where the stride doubles, the next map has half the height and
                width, rounded up, as strided convolutions with padding make it.

        Returns:
            Maps under the same names, in the same order.

        Raises:
            TypeError: If `features` is not a dict.
            ValueError: If the number of maps, their channels or their sizes are not as described.
        """
        self._check(features)
        names, levels = list(features), list(self.top_down(features).values())
        path = [levels[0]]
        for down, fuse, level in zip(self.down, self.fuse, levels[1:]):
            path.append(torch.relu(fuse(torch.relu(down(path[-1])) + level)))
        return OrderedDict(zip(names, path))

    def _check(self, features: dict[str, Tensor]) -> None:
        if not isinstance(features, dict):
            raise TypeError(f"expected a dict of maps by name, the finest first, got {type(features).__name__}")
        if len(features) != len(self.in_channels):
            raise ValueError(f"expected {len(self.in_channels)} maps, one per in_channels, got {list(features)}")
        for (name, x), channels in zip(features.items(), self.in_channels):
            if x.ndim != 4 or x.shape[1] != channels or 0 in x.shape[2:]:
                raise ValueError(f"expected map {name!r} as (B, {channels}, H, W), got shape {tuple(x.shape)}")
        for ((fine_name, fine), (name, coarse)), step in zip(pairwise(features.items()), self.steps):
            batch, _, height, width = fine.shape
            # rounded up, in the form of a convolution's own output size, so that torch.export sees the two are equal
            want = (batch, (height - 1) // step + 1, (width - 1) // step + 1)
            got = (coarse.shape[0], coarse.shape[2], coarse.shape[3])
            if got != want:
                raise ValueError(
                    f"expected (B, H, W) = {want} for map {name!r}, at {step} times the stride of {fine_name!r}, "
                    f"got {got}; give the maps the finest first, and say in strides where two are equally fine"
                )


def _conv3x3(channels: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)
    # as torchvision's pyramid: gain 1, so that the ReLUs keep the sums along the path from growing
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
