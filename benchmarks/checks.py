"""Whether a provider computes what it should: values and gradients against float64, outputs poisoned beforehand."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from benchmarks.cases._case import is_parameter

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
"""Largest relative error of values; gradients have three times as much. In half precision a provider may also err
twice as much as the reference does in that dtype: a deep network's gradients do not survive it in any form."""

WIDEST = 0.1
"""No factor makes a tolerance wider: half precision leaves a whole network nine tenths of what it says."""


class Verdict(NamedTuple):
    """Outcome of a check; only a green one is followed by a time."""

    ok: bool
    error: float | None
    gradient_error: float | None
    tolerance: float
    why: str | None = None


class Poison(TorchDispatchMode):
    """Fills uninitialised tensors with NaN, or with the largest integer, so that what is not written is seen."""

    EMPTY = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation; fill its output where that has not been written."""
        out = func(*args, **(kwargs or {}))
        if func._schema.name.removeprefix("aten::") in self.EMPTY:
            out.fill_(
                math.nan if out.is_floating_point() else torch.iinfo(out.dtype).max if out.dtype != torch.bool else 1
            )
        return out


def cast(tree: Any, device: torch.device | str, dtype: torch.dtype) -> Any:
    """Copy nested tensors; floating-point ones take the dtype."""

    def one(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        x = x.detach()
        return x.to(device, dtype if x.is_floating_point() else x.dtype, copy=True)

    return tree_map(one, tree)


def tensors(tree: Any) -> list[Tensor]:
    """The tensors of nested inputs or outputs."""
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def wanted(tree: Any) -> list[Tensor]:
    """The floating-point tensors of a tree; as inputs they are what is differentiated by."""
    return [x for x in tensors(tree) if x.is_floating_point()]


def forward(call: Callable[..., Any], inputs: Sequence[Any]) -> list[Tensor]:
    """Outputs as a flat list, without a graph."""
    with torch.no_grad():
        return tensors(call(*inputs))


@functools.lru_cache(maxsize=64)
def upstream(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A gradient that depends on the shape alone; kept, so that making it takes no part in a time.

    Not all ones: the sum over a normalised row does not depend on anything.
    """
    return torch.arange(shape.numel(), dtype=torch.float64, device=device).mul(1.7).cos().reshape(shape).to(dtype)


def forward_backward(
    call: Callable[..., Any], inputs: Sequence[Any], parameters: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Outputs, and the gradients of inputs and parameters; where a tensor takes no part its gradient is None."""
    sources = [*(x.requires_grad_() for x in wanted(inputs)), *parameters]
    outputs = tensors(call(*inputs))
    ends = [x for x in outputs if x.requires_grad]
    above = [upstream(x.shape, x.dtype, x.device) for x in ends]
    return outputs, list(torch.autograd.grad(ends, sources, above, allow_unused=True))


def relative_error(values: Sequence[Tensor | None], references: Sequence[Tensor | None]) -> float:
    """Largest ‖x - r‖ / ‖r‖ over pairs of tensors; a missing gradient is 0, a NaN or a wrong shape is infinite.

    A norm below a thousandth of the largest counts as that: the gradient of a bias that has no influence is
    rounding alone. Integers have to be equal.
    """
    references = [None if r is None else r.detach().cpu() for r in references]
    norms = [0.0 if r is None else float(r.double().norm()) for r in references]
    least = 1e-3 * max([norm for norm in norms if math.isfinite(norm)], default=0.0)
    worst = 0.0
    for x, r, norm in zip(values, references, norms, strict=True):
        if x is None and r is None:
            continue
        if x is not None and r is not None and x.shape != r.shape:
            return math.inf
        if r is not None and not r.is_floating_point():
            if x is None or not torch.equal(x.detach().cpu().long(), r.long()):
                return math.inf
            continue
        left = torch.zeros(()) if x is None else x.detach().double().cpu()
        right = torch.zeros(()) if r is None else r.double()
        difference = float((left - right).norm())
        if not math.isfinite(difference):
            return math.inf
        worst = max(worst, difference / max(norm, least, 1e-30))
    return worst


class Truth(NamedTuple):
    """What a reference in float64 gives."""

    inputs: Any
    """In the measured dtype, as the providers get them."""
    outputs: list[Tensor]
    gradients: list[Tensor | None]
    names: list[str]
    """Of the parameters, whose gradients stand last."""
    rounding: float = 0.0
    """Error of the reference itself in the measured dtype, where that is a half-precision one."""
    gradient_rounding: float = 0.0


def truth(reference: Callable[..., Any], state: dict[str, Tensor], inputs: Any, backward: bool) -> Truth:
    """Run `reference(state, *inputs)` in float64, on the same rounded numbers that the providers get."""
    device = next((x.device for x in wanted(inputs)), torch.device("cpu"))
    dtype = next((x.dtype for x in wanted(inputs)), torch.float32)
    names = [name for name, value in state.items() if backward and is_parameter(name, value)]

    def run(dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor | None]]:
        own_inputs, own_state = cast(inputs, device, dtype), cast(state, device, dtype)
        if not backward:
            return forward(lambda *given: reference(own_state, *given), own_inputs), []
        parameters = [own_state[name].requires_grad_() for name in names]
        return forward_backward(lambda *given: reference(own_state, *given), own_inputs, parameters)

    found = Truth(inputs, *run(torch.float64), names)
    if dtype not in (torch.bfloat16, torch.float16):
        return found
    try:
        outputs, gradients = run(dtype)
    except (RuntimeError, NotImplementedError):
        # it does without an operation in this dtype
        return found
    errors = relative_error(outputs, found.outputs), relative_error(gradients, found.gradients)
    return found._replace(rounding=errors[0], gradient_rounding=errors[1])


def check(
    call: Callable[..., Any],
    parameters: dict[str, Tensor],
    expected: Truth,
    dtype: torch.dtype,
    backward: bool,
    looser: float = 1.0,
    poison: bool = True,
) -> Verdict:
    """Compare one provider; whatever it raises is a red check, too.

    Args:
        call: The provider.
        parameters: Its parameters by name.
        expected: What is right.
        dtype: What it computes in, whose tolerance counts.
        backward: Whether gradients are compared.
        looser: Factor of the tolerance.
        poison: Whether memory that it allocates is poisoned.
    """
    tolerance = min(TOLERANCE[dtype] * looser, WIDEST)
    inputs = tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, expected.inputs)
    names = [name for name in expected.names if name in parameters]
    gradient_error = None
    try:
        if backward:
            with Poison() if poison else torch.enable_grad():
                outputs, gradients = forward_backward(call, inputs, [parameters[name] for name in names])
            given = len(expected.gradients) - len(expected.names)
            by_name = dict(zip(expected.names, expected.gradients[given:]))
            gradient_error = relative_error(gradients, [*expected.gradients[:given], *(by_name[n] for n in names)])
        else:
            with Poison() if poison else torch.enable_grad():
                outputs = forward(call, inputs)
        if len(outputs) != len(expected.outputs):
            why = f"gives {len(outputs)} tensors instead of {len(expected.outputs)}"
            return Verdict(False, None, None, tolerance, why)
        error = relative_error(outputs, expected.outputs)
    except Exception as failure:
        return Verdict(False, None, None, tolerance, f"{type(failure).__name__}: {str(failure).splitlines()[0]}"[:200])
    ok = error <= max(tolerance, 2 * _finite(expected.rounding))
    gradient_limit = max(3 * tolerance, 2 * _finite(expected.gradient_rounding))
    ok = ok and (gradient_error is None or gradient_error <= gradient_limit)
    return Verdict(ok, error, gradient_error, tolerance, None if ok else "differs from the reference")


def _finite(error: float) -> float:
    """A reference that overflows lets nothing pass."""
    return error if math.isfinite(error) else 0.0
