"""BatchNorm in eval mode is a scale and a shift per channel, which the convolution before it can do itself."""

import copy
import inspect
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d, SyncBatchNormAct
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

from ..layers import AttentionImageStream, SerializedAttention
from ..layers.channel_bottleneck3d import ConvNormReLU3d
from ..models.pose_hrnet import HRNetTrunk

_FROZEN = (FrozenBatchNorm2d, FrozenBatchNormAct2d)
_WITH_ACT = (BatchNormAct2d, SyncBatchNormAct, FrozenBatchNormAct2d)
_FOLDABLE: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.Linear: (nn.BatchNorm1d, nn.SyncBatchNorm),
    nn.Conv1d: (nn.BatchNorm1d, nn.SyncBatchNorm),
    nn.Conv2d: (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d, *_WITH_ACT),
    nn.Conv3d: (nn.BatchNorm3d, nn.SyncBatchNorm),
}
_NORMS = tuple({norm for norms in _FOLDABLE.values() for norm in norms})

_OURS: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    SerializedAttention: (("reduce", "bn"),),
    AttentionImageStream: (("trunk.conv1", "trunk.bn1"),),
    HRNetTrunk: (("conv1", "bn1"), ("conv2", "bn2")),
}
"""What our modules that check their inputs, and so cannot be traced, put one after the other."""

Place = tuple[nn.Module, str]
"""A module that has a child, and the child's name."""


class FoldedRows(nn.Identity):
    """In the place of a BatchNorm1d that was folded into a linear layer."""

    def forward(self, input: Tensor) -> Tensor:
        """`(N, C)` as it is; of `(N, C, L)` the layer's channels are the last axis and BatchNorm's the second."""
        if input.ndim != 2:
            raise RuntimeError(
                f"a BatchNorm1d that was folded into the linear layer before it got shape {tuple(input.shape)} instead "
                "of (N, C); this model cannot be optimized for such inputs"
            )
        return input


class _Shallow(fx.Tracer):
    """Traces one module's own forward pass; everything inside it is a call."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def fold_norms(model: nn.Module) -> None:
    """Fold every BatchNorm whose input is what one convolution or linear layer gives to nothing else.

    Taken for that is what stands next to each other in an `nn.Sequential`, what a module of one argument does as
    `torch.fx` traces it, and what is known of this library's own layers. Whatever is used in two places, has hooks or
    parametrizations, or goes by the batch stays as it is. A parent that takes a sequence apart, another method, and a
    switch that is set later are not seen; the example's check catches the first.

    Args:
        model: In eval mode; changed in place.
    """
    for module in model.modules():
        if isinstance(module, ConvNormReLU3d) and _foldable(module.conv, module.norm):
            module.fold_norm()
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for parent in list(model.modules()):
        for before, (owner, name) in list(_pairs(parent)):
            norm = getattr(owner, name)
            if uses[id(before)] == uses[id(norm)] == 1 and _foldable(before, norm):
                setattr(owner, name, _fold(before, norm))


def _pairs(parent: nn.Module) -> Iterator[tuple[nn.Module, Place]]:
    """Layers and the normalisations that alone get what they give, and that get nothing else."""
    if "forward" in vars(parent):
        # replaced on this very module
        return
    if type(parent).forward is nn.Sequential.forward:
        names = list(parent._modules)
        named = list(pairwise(names))
    elif type(parent) in _OURS:
        named = list(_OURS[type(parent)])
    elif any(isinstance(child, _NORMS) for child in parent.children()):
        named = _traced(parent)
    else:
        return
    for before, after in named:
        first, place = _last(parent.get_submodule(before)), _first(parent, after)
        if first is not None and place is not None:
            yield first, place


def _last(module: nn.Module) -> nn.Module | None:
    """The last layer of a sequence."""
    while type(module).forward is nn.Sequential.forward and not watched(module):
        children = list(module.children())
        if not children:
            return None
        module = children[-1]
    return module


def _first(parent: nn.Module, name: str) -> Place | None:
    """Where the first layer of a sequence is."""
    owner, _, name = name.rpartition(".")
    parent = parent.get_submodule(owner)
    module: nn.Module = getattr(parent, name)
    while type(module).forward is nn.Sequential.forward and not watched(module):
        names = list(module._modules)
        if not names:
            return None
        parent, name = module, names[0]
        module = getattr(parent, name)
    return parent, name


def _traced(parent: nn.Module) -> list[tuple[str, str]]:
    """Children that a module calls once each, one on nothing but what the other gives, and nothing else does."""
    arguments = list(inspect.signature(type(parent).forward).parameters.values())[1:]
    if len(arguments) != 1 or arguments[0].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        # which way it goes may depend on the other arguments
        return []
    try:
        # a copy down to its containers, so that what forward may note on the module is no symbol
        probe = copy.copy(parent)
        probe.__dict__ = {k: copy.copy(v) if isinstance(v, list | dict | set) else v for k, v in vars(parent).items()}
        graph = _Shallow().trace(probe)
    except Exception:
        # whatever a forward pass does with a value that it cannot look at: nothing is proved
        return []
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found = []
    for node in graph.nodes:
        source: Any = node.args[0] if len(node.args) == 1 and not node.kwargs else None
        if node.op != "call_module" or not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        if list(source.users) == [node] and calls[node.target] == calls[source.target] == 1:
            found.append((str(source.target), str(node.target)))
    return found


def watched(module: nn.Module) -> bool:
    """Whether somebody looks at, or changes, what goes in or out."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer is of this kind, its weights are its own, and a subclass does not use them otherwise."""
    same = all(getattr(type(module), name, None) is getattr(kind, name, None) for name in ("forward", "_conv_forward"))
    return isinstance(module, kind) and same and "weight" in module._parameters and "forward" not in vars(module)


def _foldable(before: Any, norm: Any) -> bool:
    norms = next((norms for kind, norms in _FOLDABLE.items() if _computes_as(before, kind)), ())
    kind = type(norm)
    # of exactly these types: what a subclass makes of its statistics is not known
    if kind not in norms or watched(before) or watched(norm):
        return False
    # in training mode, and without statistics also in eval mode, it goes by the batch
    if norm.running_mean is None or (norm.training and kind not in _FROZEN):
        return False
    return norm.running_mean.shape[0] == before.weight.shape[0]


def _fold(before: Any, norm: Any) -> nn.Module:
    """Change the layer and return what stands in the normalisation's place."""
    dtype = before.weight.dtype

    def precise(x: Any) -> Any:
        return None if x is None else x.detach().to(torch.promote_types(dtype, torch.float32))

    layer = precise(before.weight), precise(before.bias)
    mean, var, scale, shift = (precise(x) for x in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    folded = fuse_conv_bn_weights(*layer, mean, var, norm.eps, scale, shift)
    before.weight, before.bias = (nn.Parameter(x.detach().to(dtype), requires_grad=False) for x in folded)
    if isinstance(norm, _WITH_ACT):
        act: Any = norm.act
        return act
    return FoldedRows() if isinstance(before, nn.Linear) else nn.Identity()
