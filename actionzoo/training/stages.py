"""Training in stages: parts of a network that are finished stay exactly as they are while others train."""

from functools import partial
from typing import TypeVar

from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def freeze(module: ModuleT) -> ModuleT:
    """Take a module out of training: no gradients for its parameters, and eval mode that lasts.

    ConViT-HAR section 4.2 freezes its backbone while the detector and the human branch are trained. Switching off
    gradients is not enough: BatchNorm in training mode would still update its running statistics, and a later
    `train()` of the network that holds the module would bring that mode back. A frozen module stays in eval mode
    whoever calls `train()`, so that its Dropout is off and every one of its values stays bit-equal. Gradients still
    pass through it to what lies before.

    The state belongs to the module itself: a deep copy is frozen on its own, and so is what `torch.save` of the
    whole module gives back. Freeze before wrapping in `DistributedDataParallel`. Freezing again changes nothing but
    catches parameters that were switched on in between.

    Args:
        module: The part to freeze, changed in place; its parameters' gradients are dropped, since an optimizer that
            holds them would go on applying them.

    Returns:
        The module.

    Raises:
        TypeError: If it is not a module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"freeze takes a torch.nn.Module, got {type(module).__name__}; pass the module that holds it")
    required = _required(module) or frozenset()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            required |= {name}
        parameter.requires_grad_(False)
        parameter.grad = None
    # An instance attribute shadows the method, also where a parent's `train` calls its children's. It is a partial
    # and no closure, because copy and pickle follow its arguments to the copied module.
    module.__dict__["train"] = partial(_stay_in_eval, module, required)
    module.eval()
    return module


def unfreeze(module: ModuleT) -> ModuleT:
    """Undo `freeze`: gradients for the parameters that had them before, and `train()` works again.

    The module stays in eval mode until `train()` is called. A module that is not frozen is left as it is, and so is
    one inside that was frozen on its own.

    Args:
        module: The module that was given to `freeze`, changed in place.

    Returns:
        The module.

    Raises:
        TypeError: If it is not a module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"unfreeze takes a torch.nn.Module, got {type(module).__name__}")
    required = _required(module)
    if required is None:
        return module
    del module.__dict__["train"]
    still_frozen = [(f"{name}.", part) for name, part in module.named_modules() if _required(part) is not None]
    for name, parameter in module.named_parameters():
        if name in required:
            parameter.requires_grad_(not any(name.startswith(prefix) for prefix, _ in still_frozen))
    for prefix, part in still_frozen:
        # Frozen after its parent, the part saw parameters that were off already; this hands over what it missed.
        missed = {name.removeprefix(prefix) for name in required if name.startswith(prefix)}
        part.__dict__["train"] = partial(_stay_in_eval, part, (_required(part) or frozenset()) | missed)
    return module


def _stay_in_eval(module: nn.Module, required: frozenset[str], mode: bool = True) -> nn.Module:
    """Stands in for a frozen module's `train`; also calls back a submodule that was put into training mode."""
    type(module).train(module, False)
    return module


def _required(module: nn.Module) -> frozenset[str] | None:
    """Names of the parameters that required gradients before `freeze`; None for a module that is not frozen."""
    stand_in = module.__dict__.get("train")
    if isinstance(stand_in, partial) and stand_in.func is _stay_in_eval:
        return stand_in.args[1]
    return None
