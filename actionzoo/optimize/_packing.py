"""Weights of convolutions in oneDNN's own layout, so that a CPU does not reorder them at every call."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

Maps = set[tuple[torch.Size, torch.dtype]]


class _Packed(_ConvNd):
    """Convolution that has its weights packed for some shapes of maps; for others it computes as before."""

    packed: dict[tuple[torch.Size, torch.dtype], Tensor]
    packed_from: tuple[int, int]

    def _state(self) -> tuple[int, int]:
        """Changes when the weights do."""
        return self.weight.data_ptr(), self.weight._version

    def pack(self, maps: Maps) -> None:
        """Pack the weights for maps of these shapes and dtypes."""
        arguments = (self.padding, self.stride, self.dilation, self.groups)
        self.packed_from = self._state()
        self.packed = {
            (shape, dtype): torch.ops.mkldnn._reorder_convolution_weight(self.weight, *arguments, shape)
            for shape, dtype in maps
            if dtype == self.weight.dtype
        }

    def _weight_for(self, input: Tensor) -> Tensor | None:
        if torch.compiler.is_compiling() or input.requires_grad or input.device.type != "cpu":
            # a compiler packs weights itself, and the operators below give no gradient
            return None
        weight = self.packed.get((input.shape, input.dtype))
        return weight if weight is not None and self.packed_from == self._state() else None

    def forward(self, input: Tensor, relu: bool = False, other: Tensor | None = None, into: bool = False) -> Tensor:
        """As the convolution that it was, and what may follow it.

        Args:
            input: `(B, C, …)`.
            relu: Whether ReLU comes last.
            other: Added before it.
            into: Whether the result may be written into `other`.
        """
        weight = self._weight_for(input)
        if weight is None:
            out = super().forward(input)
            out = out if other is None else out + other
            return out.relu() if relu else out
        arguments = (weight, self.bias, self.padding, self.stride, self.dilation, self.groups)
        act = "relu" if relu else "none"
        if other is None:
            return torch.ops.mkldnn._convolution_pointwise(input, *arguments, act, [], "")
        post = ("add", 1.0, act if relu else None, [], "")
        if into:
            return torch.ops.mkldnn._convolution_pointwise_.binary(other, input, *arguments, *post)
        return torch.ops.mkldnn._convolution_pointwise.binary(input, other, *arguments, *post)

    def __getstate__(self) -> dict[str, Any]:
        """Packed weights can be neither copied nor saved."""
        return {**self.__dict__, "packed": {}}


class PackedConv2d(_Packed, nn.Conv2d):
    """`nn.Conv2d` with packed weights."""


class PackedConv3d(_Packed, nn.Conv3d):
    """`nn.Conv3d` with packed weights."""


_KINDS = {nn.Conv2d: PackedConv2d, nn.Conv3d: PackedConv3d}


def pack_weights(model: nn.Module, run: Callable[[], object], left: set[nn.Module]) -> None:
    """Run a model once, and pack the weights of its convolutions on the CPU for the maps that they got.

    Args:
        model: Changed in place.
        run: Runs it.
        left: Modules that are left alone.
    """
    seen: dict[nn.Module, Maps] = {}

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.setdefault(module, set()).add((args[0].shape, args[0].dtype))

    convs = [x for x in model.modules() if x not in left and _packable(x)]
    handles = [conv.register_forward_pre_hook(note) for conv in convs]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    for conv, maps in seen.items():
        packed: Any = conv
        packed.__class__ = _KINDS[type(conv)]
        packed.pack(maps)


def _packable(module: Any) -> bool:
    if type(module) not in _KINDS or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return False
    weight = module.weight
    known = weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and _bfloat16())
    return known and weight.device.type == "cpu" and _available()


def _available() -> bool:
    # operators of torch's own compiler, which other builds may lack
    names = ("_reorder_convolution_weight", "_convolution_pointwise", "_convolution_pointwise_")
    mkldnn = torch.backends.mkldnn
    return mkldnn.is_available() and mkldnn.enabled and all(hasattr(torch.ops.mkldnn, name) for name in names)


def _bfloat16() -> bool:
    return hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
