"""Ceilings measured in the same process, and the floor that they set for a case."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .cases._case import Problem, is_parameter
from .checks import forward, tensors, upstream, wanted


def median_seconds(call: Callable[[], Any], device: torch.device, budget: float) -> float:
    """Median time of a call: process CPU time on the CPU, triton's `do_bench` on CUDA."""
    if device.type == "cuda":
        from triton.testing import do_bench

        median = do_bench(call, warmup=25, rep=max(1, round(budget * 1e3)), return_mode="median")
        return float(median) * 1e-3  # pyright: ignore[reportArgumentType]
    call()
    samples: list[float] = []
    stop = time.perf_counter() + budget
    while len(samples) < 3 or time.perf_counter() < stop:
        began = time.process_time()
        call()
        samples.append(time.process_time() - began)
    return max(statistics.median(samples), 1e-9)


def copy_rate(device: torch.device, megabytes: int, budget: float = 0.3) -> float:
    """Bytes read and written per second by a large copy."""
    source = torch.randn(megabytes * 250_000, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / median_seconds(lambda: target.copy_(source), device, budget)


def product_rate(
    device: torch.device, dtype: torch.dtype, rows: int, columns: int, depth: int, budget: float = 0.3
) -> float:
    """FLOP per second of a matrix product of random numbers."""
    left = torch.randn(rows, depth, device=device).to(dtype)
    right = torch.randn(depth, columns, device=device).to(dtype)
    return 2 * rows * columns * depth / median_seconds(lambda: left @ right, device, budget)


def ceilings(device: torch.device, dtypes: Sequence[str], quick: bool = False) -> dict[str, float]:
    """Copy and matrix-product rates of the machine, to be taken before the cases."""
    cuda, budget = device.type == "cuda", 0.1 if quick else 0.5
    side = 8192 if cuda else 256 if quick else 512
    found = {"copy_bytes_per_s": copy_rate(device, (2000 if cuda else 32 if quick else 256), budget)}
    for dtype in dtypes:
        found[f"{dtype}_flop_per_s"] = product_rate(device, getattr(torch, dtype), side, side, side, budget)
    return found


def count_flops(call: Callable[..., Any], inputs: Sequence[Any], parameters: Sequence[Tensor], backward: bool) -> int:
    """FLOPs of convolutions and matrix products, as torch counts them."""
    counter = FlopCounterMode(display=False)
    if not backward:
        with counter:
            forward(call, inputs)
        return counter.get_total_flops()
    sources = [*(x.requires_grad_() for x in wanted(inputs)), *parameters]
    # the counter follows modules with hooks that autograd.grad does not support
    with counter:
        ends = [x for x in tensors(call(*inputs)) if x.requires_grad]
        torch.autograd.backward(ends, [upstream(x.shape, x.dtype, x.device) for x in ends])
    for source in sources:
        source.grad = None
    return counter.get_total_flops()


def least_bytes(problem: Problem, inputs: Sequence[Any], outputs: Sequence[Tensor], size: int, backward: bool) -> int:
    """Bytes that any implementation moves.

    Forward: what has to be read of the inputs, the parameters, and the outputs, once each. The backward pass reads
    the upstream gradient and writes that of every floating-point input and parameter; what it reads again is not
    counted.

    Args:
        problem: The case.
        inputs: One set.
        outputs: Of the forward pass.
        size: Bytes of a floating-point number.
        backward: Whether the backward pass is included.
    """

    def bytes_of(tensors: Sequence[Any]) -> int:
        return sum(x.numel() * (size if x.is_floating_point() else x.element_size()) for x in tensors)

    given = [x for x in tree_leaves(inputs) if isinstance(x, Tensor)]
    read = bytes_of(given) if problem.reads is None else problem.reads(*inputs) * size
    parameters = bytes_of([value for name, value in problem.state.items() if is_parameter(name, value)])
    total = read + parameters + bytes_of(outputs)
    if backward:
        real = [x for x in outputs if x.is_floating_point()]
        total += bytes_of(real) + bytes_of([x for x in given if x.is_floating_point()]) + parameters
    return total


def floor_us(bytes_moved: float, flops: float, copy: float, product: float) -> float:
    """Microseconds that the larger of traffic and arithmetic takes at the measured rates."""
    return max(bytes_moved / copy, flops / product) * 1e6
