"""Channels last in memory: the layout that convolutions are fast in."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_map

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of axes."""


def weights_channels_last(model: nn.Module, left: set[nn.Module]) -> frozenset[int]:
    """Lay out the weights of convolutions of pictures and clips, in place, but those of `left`.

    Returns:
        Numbers of axes of the maps that have such convolutions.
    """
    found = set()
    for module in model.modules():
        # parameters of other layers have axes that mean something else
        if isinstance(module, _ConvNd) and module.weight.ndim in FORMATS and module not in left:
            module.weight.data = module.weight.data.contiguous(memory_format=FORMATS[module.weight.ndim])
            found.add(module.weight.ndim)
    return frozenset(found)


def maps_channels_last(tree: Any, axes: frozenset[int]) -> Any:
    """Lay out the floating-point tensors of a tree that have such numbers of axes."""

    def one(x: Any) -> Any:
        if isinstance(x, Tensor) and x.ndim in axes and x.is_floating_point():
            return x.contiguous(memory_format=FORMATS[x.ndim])
        return x

    return tree_map(one, tree)
