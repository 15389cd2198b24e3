"""Channels last in memory: the layout that convolutions are fast in."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_map

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of axes."""


def weights_channels_last(model: nn.Module, left: set[nn.Module], dtype: torch.dtype) -> frozenset[int]:
    """Lay out the weights of convolutions of pictures and clips, in place, but those of `left`.

    Clips stay as they are on a CPU in float32, unless there are depthwise convolutions: dense ones are slower channels
    last there, TAHNet-v1's by a sixth.

    Args:
        model: Changed in place.
        left: Modules that are left alone.
        dtype: What the model will compute in.

    Returns:
        Numbers of axes of the maps that have such convolutions.
    """
    # parameters of other layers have axes that mean something else
    layers = [x for x in model.modules() if isinstance(x, _ConvNd) and x.weight.ndim in FORMATS and x not in left]
    of_clips = [x for x in layers if x.weight.ndim == 5]
    if dtype in (torch.float32, torch.float64) and not any(x.groups == x.in_channels > 1 for x in of_clips):
        slow = {x for x in of_clips if x.weight.device.type == "cpu"}
        layers = [x for x in layers if x not in slow]
    for layer in layers:
        layer.weight.data = layer.weight.data.contiguous(memory_format=FORMATS[layer.weight.ndim])
    return frozenset(x.weight.ndim for x in layers)


def maps_channels_last(tree: Any, axes: frozenset[int]) -> Any:
    """Lay out the floating-point tensors of a tree that have such numbers of axes."""

    def one(x: Any) -> Any:
        if isinstance(x, Tensor) and x.ndim in axes and x.is_floating_point():
            return x.contiguous(memory_format=FORMATS[x.ndim])
        return x

    return tree_map(one, tree)
