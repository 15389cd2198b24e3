"""Which parts of a model compute in half precision, and how tensors get from one precision to the other."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_map
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from ..models import PCF, YOLOF

# they want what they take in the precision of their weights
_LAYERS = (_ConvNd, _NormBase, nn.Linear, nn.LayerNorm, nn.GroupNorm, nn.RNNBase, nn.MultiheadAttention)
# their fused form in eval mode passes their parts' hooks by
_WHOLE = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def detectors(model: nn.Module) -> list[Any]:
    """Detectors of torchvision's kind in a model, itself perhaps; what they give is chosen by scores."""
    return [x for x in model.modules() if isinstance(x._modules.get("transform"), GeneralizedRCNNTransform)]


def detector_heads(model: nn.Module) -> set[nn.Module]:
    """What torchvision's detectors have beside their backbone, and some of which takes one layout of maps only."""
    heads: set[nn.Module] = set()
    for detector in detectors(model):
        if not isinstance(detector, YOLOF):
            heads |= set(detector.modules()) - set(detector.backbone.modules())
    return heads


def exact_parts(model: nn.Module) -> set[nn.Module]:
    """Modules that keep their precision: heads of detectors, and all that finds people in models of several stages.

    torchvision takes the precision of anchors and boxes from the maps, and half precision rounds a pixel; neither its
    suppression of boxes nor RoIAlign knows it on a CPU. YOLOF keeps its boxes in float32 itself. In videos, pipelines
    want people found in float32.
    """
    stages = [x for x in detectors(model) if x is not model]
    stages += [x.pose for x in model.modules() if isinstance(x, PCF)]
    return detector_heads(model).union(*(stage.modules() for stage in stages))


def cast_model(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast parameters, but those of `exact_parts`, and let every layer take what comes in its own precision.

    Buffers of modules without parameters, such as colours, keep theirs. That layers cast makes every method work, and
    every part on its own: inputs of any precision may come in anywhere.

    Args:
        model: Changed in place.
        dtype: Any floating one.
    """
    exact, found = exact_parts(model), detectors(model)
    if model in exact:
        # a detector, whose heads go on in the precision that it had
        back = next(model.parameters()).dtype
        found[0].backbone.register_forward_hook(partial(_give, dtype=back))
    for module in model.modules():
        own = [] if module in exact else list(module.parameters(recurse=False))
        for tensor in (*own, *(module.buffers(recurse=False) if own else ())):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
        if (own and isinstance(module, _LAYERS)) or (module not in exact and isinstance(module, _WHOLE)):
            module.register_forward_pre_hook(_take, with_kwargs=True)


def _take(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    dtype = next(module.parameters()).dtype

    def cast(x: Any) -> Any:
        return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x

    return tuple(map(cast, args)), {name: cast(x) for name, x in kwargs.items()}


def _give(module: nn.Module, args: Any, output: Any, dtype: torch.dtype) -> Any:
    return tree_map(lambda x: x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x, output)
