"""Figures that need no timer: ATen operations, host synchronisations, breaks of the compiler's graph."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SYNCHRONISING = {
    "_local_scalar_dense",
    "item",
    "nonzero",
    "masked_select",
    "unique_dim",
    "_unique2",
    "equal",
    "is_nonzero",
}
READING = {"tolist", "numpy", "cpu", "__array__"}
"""Methods that read on the host below the dispatcher."""


class Counts(NamedTuple):
    """Of one forward pass."""

    aten_ops: int | None
    """Views are not counted: they start no kernel."""
    host_syncs: int | None
    graph_breaks: int | None
    why_none: str | None = None


class CountOperations(TorchDispatchMode):
    """Counts what reaches the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.synchronisations = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and run."""
        name = func._schema.name.removeprefix("aten::")
        self.synchronisations += name in SYNCHRONISING
        # indexing with a mask looks for its true entries
        masks = [x for x in (args[1] if name.startswith("index") and len(args) > 1 else []) or [] if x is not None]
        self.synchronisations += sum(isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) for x in masks)
        views = [r.alias_info for r in func._schema.returns if r.alias_info is not None]
        self.operations += not (views and not any(alias.is_write for alias in views))
        return func(*args, **(kwargs or {}))


class CountReads(TorchFunctionMode):
    """Counts calls that hand a tensor's memory to Python."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and run."""
        self.reads += getattr(func, "__name__", "") in READING
        return func(*args, **(kwargs or {}))


def operations(call: Callable[..., Any], inputs: Sequence[Any]) -> tuple[int, int]:
    """ATen operations without views, and host synchronisations, of one call."""
    dispatched, read = CountOperations(), CountReads()
    with torch.no_grad(), read, dispatched:
        call(*inputs)
    return dispatched.operations, dispatched.synchronisations + read.reads


def cuda_synchronisations(call: Callable[..., Any], inputs: Sequence[Any]) -> int:
    """Calls that made the host wait for the GPU, as CUDA's own debug mode sees them."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call(*inputs)
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("synchroniz" in str(warning.message) for warning in caught)


def graph_breaks(call: Callable[..., Any], inputs: Sequence[Any]) -> int:
    """Breaks of the graph that `torch.compile` would make of the forward pass."""
    torch._dynamo.reset()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch._dynamo.explain(call)(*inputs).graph_break_count
    finally:
        torch._dynamo.reset()


def count(call: Callable[..., Any], inputs: Sequence[Any], trace: bool) -> Counts:
    """All three; what fails is None with its reason.

    Args:
        call: Takes the inputs.
        inputs: On the device that is measured.
        trace: Whether to look for graph breaks; Python loops over data take minutes to trace.
    """
    try:
        ops, syncs = operations(call, inputs)
        on_cuda = any(isinstance(x, Tensor) and x.is_cuda for x in tree_leaves(inputs))
        syncs = cuda_synchronisations(call, inputs) if on_cuda else syncs
    except Exception as failure:
        return Counts(None, None, None, f"{type(failure).__name__}: {str(failure).splitlines()[0]}"[:200])
    try:
        return Counts(ops, syncs, graph_breaks(call, inputs) if trace else None)
    except Exception as failure:
        return Counts(ops, syncs, None, f"{type(failure).__name__}: {str(failure).splitlines()[0]}"[:200])
