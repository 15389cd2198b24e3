"""Depthwise 3x3x3 convolution: a Triton kernel where it can run, PyTorch's own elsewhere."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._switch import can_run

HALF = (torch.float16, torch.bfloat16)


def depthwise_conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Sequence[int] = (1, 1, 1)
) -> Tensor:
    """Convolve each channel with its own 3x3x3 weights, padded by one cell: a kernel where it can run.

    The kernel serves float32, bfloat16 and float16, adds up in float32, and gives the same numbers in every run;
    float64 and all else take `torch.nn.functional.conv3d`. It is made for `channels_last_3d`, where a warp reads the
    channels of neighbouring cells, and then returns that layout; a contiguous map is read along its rows, which is
    slower in narrow maps, and gives a contiguous one. Any other strides are right too, and nothing is copied. Like
    `conv3d` it computes in autocast's dtype under autocast.

    Args:
        x: `(N, C, T, H, W)` floating-point maps, of one channel, frame, row and column at least.
        weight: `(C, 1, 3, 3, 3)` in the dtype of `x`.
        bias: `(C,)` in the dtype of `x`.
        stride: 1 or 2 along time, height and width; one number for all three.

    Returns:
        `(N, C, T', H', W')` in the dtype of `x`, sizes divided by the stride and rounded up; differentiable, twice
        too, with respect to `x`, `weight` and `bias`.

    Raises:
        ValueError: If a shape is wrong, a map is empty, or a stride is neither 1 nor 2.
        TypeError: If the dtypes differ or are not floating point.
    """
    if x.device.type != "meta" and torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    stride = (stride,) * 3 if isinstance(stride, int) else tuple(stride)
    _check(x, weight, bias, stride)
    if can_run(x) and x.dtype in (torch.float32, *HALF):
        return _convolve(x, weight, bias, list(stride))
    return F.conv3d(x, weight, bias, stride, padding=1, groups=x.shape[1])


def channels_last(x: Tensor) -> bool:
    """Whether the channels of a map `(N, C, T, H, W)` lie side by side in memory."""
    return x.shape[1] > 1 and x.stride(1) == 1


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int]) -> None:
    if x.ndim != 5:
        raise ValueError(f"depthwise_conv3d expects maps (N, C, T, H, W), got shape {tuple(x.shape)}")
    channels = x.shape[1]
    if 0 in x.shape[1:]:
        raise ValueError(
            f"depthwise_conv3d expects at least one channel, frame, row and column, got shape {tuple(x.shape)}"
        )
    if weight.shape != (channels, 1, 3, 3, 3):
        raise ValueError(
            f"expected weights ({channels}, 1, 3, 3, 3) for maps of {channels} channels, got {tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"expected a bias ({channels},), got {tuple(bias.shape)}")
    if len(stride) != 3 or not set(stride) <= {1, 2}:
        raise ValueError(f"expected strides of 1 or 2 along time, height and width, got {tuple(stride)}")
    dtypes = {t.dtype for t in (x, weight, bias) if t is not None}
    if len(dtypes) > 1 or not x.is_floating_point():
        raise TypeError(f"expected maps, weights and bias of one floating-point dtype, got {sorted(map(str, dtypes))}")


def _empty(like: Tensor, sizes: Sequence[int], last: bool) -> Tensor:
    layout = torch.channels_last_3d if last else torch.contiguous_format
    return torch.empty(sizes, dtype=like.dtype, device=like.device, memory_format=layout)


def _output(x: Tensor, stride: Sequence[int]) -> Tensor:
    sizes = [(side - 1) // step + 1 for side, step in zip(x.shape[2:], stride)]
    return _empty(x, [*x.shape[:2], *sizes], channels_last(x))


# A schema that is written out serves torch 2.4 too, which reads fewer annotations.


@torch.library.custom_op(
    "actionzoo::depthwise_conv3d",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor? bias, SymInt[] stride) -> Tensor",
)
def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int]) -> Tensor:
    from ._depthwise_conv3d_triton import convolve

    return convolve(x, weight, bias, stride, _output(x, stride))


@torch.library.custom_op(
    "actionzoo::depthwise_conv3d_input_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor weight, SymInt[] stride, SymInt[] size, bool last) -> Tensor",
)
def _input_gradient(grad: Tensor, weight: Tensor, stride: list[int], size: list[int], last: bool) -> Tensor:
    from ._depthwise_conv3d_triton import input_gradient

    return input_gradient(grad, weight, stride, _empty(grad, [*grad.shape[:2], *size], last))


@torch.library.custom_op(
    "actionzoo::depthwise_conv3d_weight_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor x, SymInt[] stride) -> Tensor",
)
def _weight_gradient(grad: Tensor, x: Tensor, stride: list[int]) -> Tensor:
    from ._depthwise_conv3d_triton import weight_gradient

    return weight_gradient(grad, x, stride).to(x.dtype)


@_convolve.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int]) -> Tensor:
    return _output(x, stride)


@_input_gradient.register_fake
def _(grad: Tensor, weight: Tensor, stride: list[int], size: list[int], last: bool) -> Tensor:
    return _empty(grad, [*grad.shape[:2], *size], last)


@_weight_gradient.register_fake
def _(grad: Tensor, x: Tensor, stride: list[int]) -> Tensor:
    return x.new_empty(x.shape[1], 1, 3, 3, 3)


# All three are linear in each of their tensors, and the derivative of each consists of the other two.


def _keep_convolution(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, ctx.stride = inputs
    ctx.size, ctx.last = list(x.shape[2:]), channels_last(x)
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)


def _convolution_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    by_x = None if weight is None else _input_gradient(grad, weight, ctx.stride, ctx.size, ctx.last)
    by_weight = None if x is None else _weight_gradient(grad, x, ctx.stride)
    return by_x, by_weight, grad.sum((0, 2, 3, 4)) if ctx.needs_input_grad[2] else None, None


def _keep_both(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.stride = inputs[2]


def _input_gradient_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    grad, weight = ctx.saved_tensors
    by_grad = _convolve(upstream, weight, None, ctx.stride)
    return by_grad, _weight_gradient(grad, upstream, ctx.stride), None, None, None


def _weight_gradient_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    grad, x = ctx.saved_tensors
    by_x = _input_gradient(grad, upstream, ctx.stride, list(x.shape[2:]), channels_last(x))
    return _convolve(x, upstream, None, ctx.stride), by_x, None


_convolve.register_autograd(_convolution_backward, setup_context=_keep_convolution)
_input_gradient.register_autograd(_input_gradient_backward, setup_context=_keep_both)
_weight_gradient.register_autograd(_weight_gradient_backward, setup_context=_keep_both)
