"""Multiply-accumulates and parameters of a model, without running it on real data."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle


class _PlainPython(TorchFunctionMode):
    """Changes nothing; its presence keeps attention and encoder layers off their fused fast path.

    In eval mode `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` may call one fused operator
    that a FLOP counter does not know; they avoid it while any function mode is active.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


def _product_flops(left: torch.Size, right: torch.Size, **kwargs: Any) -> int:
    """Count one multiplication and one addition per element of the matrix, or of both vectors."""
    return 2 * left.numel()


def _offset_product_flops(offset: torch.Size, left: torch.Size, right: torch.Size, **kwargs: Any) -> int:
    return _product_flops(left, right)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode and give each its own mode back, partly frozen models included."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _spent(counter: FlopCounterMode) -> Counter[Any]:
    """Floating-point operations so far, by operator."""
    return Counter(counter.get_flop_counts().get("Global", {}))


def _watch(child: nn.Module, counter: FlopCounterMode, share: Counter[Any]) -> list[RemovableHandle]:
    """Add to `share` what runs inside the child or, where it is entered past its `forward`, its modules."""
    entered: list[Counter[Any]] = []

    def enter(module: nn.Module, args: Any) -> None:
        entered.append(_spent(counter))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        before = entered.pop()
        if not entered:
            share.update(_spent(counter) - before)

    handles = []
    for module in child.modules():
        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    return handles


def _count(model: nn.Module, inputs: tuple[Any, ...], shares: dict[str, Counter[Any]] | None = None) -> Counter[Any]:
    """Run once and return operations by operator; fill `shares` by direct child."""
    aten = torch.ops.aten
    products = {aten.mv: _product_flops, aten.dot: _product_flops, aten.addmv: _offset_product_flops}
    counter = FlopCounterMode(display=False, custom_mapping=products)
    handles = []
    try:
        for name, share in (shares or {}).items():
            handles += _watch(model.get_submodule(name), counter, share)
        with torch.no_grad(), _evaluating(model), _PlainPython(), counter:
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return _spent(counter)


def _macs(by_op: Counter[Any], ops: str) -> int:
    total = sum(flops for op, flops in by_op.items() if ops == "all" or "convolution" in str(op))
    return total // 2


def count_macs(model: nn.Module, *inputs: Any, ops: Literal["conv", "all"] = "conv") -> int:
    """Count the multiply-accumulates (MACs) of one forward pass in eval mode.

    One multiplication with its addition is one MAC; a convolution costs (output elements) x (input
    channels / groups) x (kernel elements). Biases, normalisation, activations, pooling,
    interpolation, RoIAlign and softmax are never counted. Papers print this number as GMACs and, as
    all five papers here do, often call it GFLOPs.

    - `ops="conv"`: 1-d, 2-d and 3-d convolutions and transposed convolutions only, grouped and
      depthwise included. Linear layers are left out, 1x1 convolutions are in.
    - `ops="all"`: these, linear layers, every matrix product (`matmul`, `bmm`, `einsum`) and both
      products of attention, through `nn.MultiheadAttention`, `F.scaled_dot_product_attention` or
      timm, whichever kernel would serve them.

    Recurrent layers (`nn.LSTM` and its like) are not counted. The count is for the whole batch.

    Args:
        model: any module. Its mode is restored; no hooks stay behind.
        inputs: the forward arguments, on the model's device. With the model and the inputs on
            `torch.device("meta")` nothing is computed, so that full-size models cost nothing.
        ops: what to count.

    Returns:
        MACs.

    Raises:
        ValueError: unknown `ops`.
    """
    if ops not in ("conv", "all"):
        raise ValueError(f'ops must be "conv" or "all", got {ops!r}')
    return _macs(_count(model, inputs), ops)


def count_parameters(model: nn.Module, *, trainable_only: bool = False) -> int:
    """Count parameter values; a parameter that modules share counts once, buffers do not count.

    Args:
        model: any module, on any device including meta.
        trainable_only: leave out frozen parameters.
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def profile_table(model: nn.Module, *inputs: Any) -> str:
    """Tabulate parameters and MACs of the model's direct children, ready to print.

    Work that no module of a child does, such as a functional call, stands in the row `(itself)`;
    children without parameters and MACs are left out.

    Args:
        model: any module.
        inputs: the forward arguments, as `count_macs` takes them.

    Returns:
        Lines of: name, million parameters, conv GMACs, all GMACs; the last line is the whole model.
    """
    children = dict(model.named_children())
    shares: dict[str, Counter[Any]] = {name: Counter() for name in children}
    whole = _count(model, inputs, shares)

    def row(name: str, parameters: int, by_op: Counter[Any]) -> tuple[str, int, int, int]:
        return name, parameters, _macs(by_op, "conv"), _macs(by_op, "all")

    rows = [row(name, count_parameters(child), shares[name]) for name, child in children.items()]
    total = row(type(model).__name__, count_parameters(model), whole)
    own = sum(p.numel() for p in model.parameters(recurse=False))
    rows.append(("(itself)", own, total[2] - sum(r[2] for r in rows), total[3] - sum(r[3] for r in rows)))
    rows = [r for r in rows if any(r[1:])] + [total]
    width = max(len(r[0]) for r in rows)
    lines = [f"{'module':<{width}}  params (M)  conv GMACs  all GMACs"]
    for name, parameters, conv, everything in rows:
        lines.append(f"{name:<{width}}  {parameters / 1e6:10.3f}  {conv / 1e9:10.4f}  {everything / 1e9:9.4f}")
    return "\n".join(lines)
