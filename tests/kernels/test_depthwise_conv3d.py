import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from actionzoo import kernels
from actionzoo.layers import ChannelSeparatedBottleneck
from tests.reference import csn as reference

pytest.importorskip("triton")
LAST = torch.channels_last_3d
OPS = torch.ops.actionzoo


def plain(x, weight, bias=None, stride=(1, 1, 1)):
    return F.conv3d(x, weight, bias, stride, 1, 1, x.shape[1])


def tensors(shape, device, last=False, dtype=torch.float32):
    """Map, weight and bias."""
    x = torch.randn(shape, dtype=dtype).to(device, memory_format=LAST if last else torch.contiguous_format)
    found = x, torch.randn(shape[1], 1, 3, 3, 3, dtype=dtype, device=device), torch.randn(shape[1], device=device)
    return [t.to(dtype).requires_grad_() for t in found]


def results(call, leaves, stride, dtype=torch.float32):
    """Output and gradients for one upstream gradient that is exact in `dtype`, as float64 on the CPU."""
    out = call(*leaves, stride)
    torch.manual_seed(1)
    out.backward(torch.randn(out.shape, dtype=dtype).to(out))
    return [t.detach().cpu().double() for t in (out, *(leaf.grad for leaf in leaves))]


@pytest.mark.parametrize(
    ("shape", "stride", "last"),
    [
        ((2, 3, 2, 1, 5), (1, 1, 1), False),
        ((1, 5, 3, 3, 2), (1, 1, 1), True),
        ((1, 3, 3, 2, 3), (2, 2, 2), True),
        ((1, 2, 1, 3, 4), (1, 2, 2), False),
        ((1, 3, 4, 1, 1), (2, 1, 1), True),
    ],
    ids=str,
)
def test_equals_the_loop(shape, stride, last, device):
    leaves = tensors(shape, device, last)
    got = results(kernels.depthwise_conv3d, leaves, stride)

    def loop(x, weight, bias, stride):
        return reference.unit(x, {"c.conv.weight": weight, "c.conv.bias": bias}, "c", stride)

    want = results(loop, [leaf.detach().cpu().double().requires_grad_() for leaf in leaves], stride)
    for value, right in zip(got, want, strict=True):
        assert_close(value, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
def test_many_tiles_strips_and_blocks(last, device, monkeypatch):
    """Tiles of four cells in two channels or the other way round, and two parts of the sums for six walks."""
    from actionzoo.kernels import _depthwise_conv3d_triton as launches

    monkeypatch.setattr(launches, "CELLS", 8)
    monkeypatch.setattr(launches, "PROGRAMS", 4)
    leaves = tensors((1, 3, 5, 1, 5), device, last)
    got = results(kernels.depthwise_conv3d, leaves, (1, 1, 1))
    want = results(plain, [leaf.detach().cpu().double().requires_grad_() for leaf in leaves], (1, 1, 1))
    for value, right in zip(got, want, strict=True):
        assert_close(value, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_adds_up_in_float32(dtype, device):
    leaves = tensors((1, 2, 2, 2, 3), device, True, dtype)
    got = results(kernels.depthwise_conv3d, leaves, (1, 1, 1), dtype)
    want = results(plain, [leaf.detach().cpu().double().requires_grad_() for leaf in leaves], (1, 1, 1), dtype)
    assert all(leaf.grad.dtype == dtype for leaf in leaves)
    for value, right in zip(got, want, strict=True):
        # rounded once, at the end; Triton's interpreter truncates to bfloat16
        assert_close(value, right, rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_sums_in_half_precision_do_not_stall(device):
    """512 ones added up in bfloat16 stop at 256."""
    x = torch.ones(1, 1, 1, 1, 512, device=device, dtype=torch.bfloat16)
    weight = torch.zeros(1, 1, 3, 3, 3, device=device, dtype=torch.bfloat16, requires_grad=True)
    kernels.depthwise_conv3d(x, weight).sum().backward()
    assert weight.grad[0, 0, 1, 1, 1] == 512


def test_layouts(device):
    x, weight, bias = (t.detach() for t in tensors((1, 4, 2, 2, 2), device))
    out = kernels.depthwise_conv3d(x, weight, bias)
    assert out.is_contiguous()
    last = x.contiguous(memory_format=LAST).requires_grad_()
    again = kernels.depthwise_conv3d(last, weight, bias)
    assert again.is_contiguous(memory_format=LAST)
    assert_close(again, out, rtol=1e-6, atol=1e-6)
    again.sum().backward()
    assert last.grad.is_contiguous(memory_format=LAST)


def test_any_strides(device):
    """Slices of a larger map, a transposed weight, and a gradient that is one number."""
    wide = torch.randn(2, 5, 3, 7, 4, device=device)
    x = wide.transpose(3, 4)[:, 1:4, :2, 1:3, ::2].requires_grad_()
    weight = torch.randn(3, 3, 3, 1, 3, device=device).permute(4, 3, 2, 1, 0).requires_grad_()
    assert not x.is_contiguous()
    assert not weight.is_contiguous()
    got, want = (torch.autograd.grad(call(x, weight).sum(), (x, weight)) for call in (kernels.depthwise_conv3d, plain))
    assert_close(kernels.depthwise_conv3d(x, weight), plain(x, weight), rtol=1e-5, atol=1e-5)
    for value, right in zip(got, want):
        assert_close(value, right, rtol=1e-5, atol=1e-5)


def test_one_number_for_all_strides(device):
    x, weight, bias = tensors((1, 2, 2, 3, 3), device)
    out = kernels.depthwise_conv3d(x, weight, bias, 2)
    assert out.shape == (1, 2, 1, 2, 2)
    assert torch.equal(out, kernels.depthwise_conv3d(x, weight, bias, (2, 2, 2)))


def test_no_clip(device):
    leaves = tensors((0, 3, 2, 4, 4), device)
    out, *gradients = results(kernels.depthwise_conv3d, leaves, (1, 2, 2))
    assert out.shape == (0, 3, 2, 2, 2)
    assert all(gradient.count_nonzero() == 0 for gradient in gradients)


def test_nothing_is_kept_that_no_gradient_needs(device):
    x, weight, bias = (t.detach() for t in tensors((1, 2, 1, 2, 2), device))
    out = kernels.depthwise_conv3d(x, weight.requires_grad_())
    assert [t is None for t in out.grad_fn.saved_tensors] == [False, True]
    out = kernels.depthwise_conv3d(x.requires_grad_(), weight.detach(), bias)
    assert [t is None for t in out.grad_fn.saved_tensors] == [True, False]


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 1, 1)], ids=str)
def test_second_derivatives(stride, device):
    def twice(call):
        leaves = tensors((1, 2, 2, 1, 2), device)[:2]
        out = call(*leaves, None, stride)
        first = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), leaves)

    torch.manual_seed(0)
    got = twice(kernels.depthwise_conv3d)
    torch.manual_seed(0)
    for value, right in zip(got, twice(plain), strict=True):
        assert_close(value, right, rtol=1e-4, atol=1e-3)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_are_registered_as_torch_wants_them(device):
    x, weight, bias = tensors((1, 2, 2, 1, 1), device, last=True)
    grad = torch.randn(1, 2, 1, 1, 1, device=device).requires_grad_()
    stride = [2, 1, 1]
    torch.library.opcheck(OPS.depthwise_conv3d, (x, weight, bias, stride))
    torch.library.opcheck(OPS.depthwise_conv3d_input_gradient, (grad, weight, stride, [2, 1, 1], True))
    torch.library.opcheck(OPS.depthwise_conv3d_weight_gradient, (grad, x, stride))


def test_compiles_in_one_graph(device):
    torch._dynamo.reset()
    compiled = torch.compile(kernels.depthwise_conv3d, backend="eager", fullgraph=True)
    leaves = tensors((1, 2, 2, 2, 2), device, last=True)
    again = [leaf.detach().clone(memory_format=torch.preserve_format).requires_grad_() for leaf in leaves]
    for value, right in zip(results(compiled, again, (1, 1, 1)), results(plain, leaves, (1, 1, 1)), strict=True):
        assert_close(value, right, rtol=1e-5, atol=1e-5)


def test_float64_takes_the_plain_form(device):
    leaves = tensors((1, 2, 2, 3, 2), device, dtype=torch.float64)
    assert torch.equal(kernels.depthwise_conv3d(*leaves), plain(*leaves))
    assert torch.autograd.gradcheck(partial(kernels.depthwise_conv3d, stride=(1, 2, 1)), leaves)


def test_autocast_decides_the_dtype(device):
    x, weight, bias = tensors((1, 2, 2, 2, 2), device)
    with torch.autocast(device.type, torch.bfloat16):
        out = kernels.depthwise_conv3d(x, weight, bias)
    assert out.dtype == torch.bfloat16
    assert_close(out.float(), plain(x, weight, bias), rtol=0.02, atol=0.05)


def test_bottleneck_with_the_kernel(device, monkeypatch):
    block = ChannelSeparatedBottleneck(4, 2, (1, 2, 1)).to(device)
    x = torch.randn(2, 4, 1, 3, 2, device=device)
    calls = []
    kernel = kernels.depthwise_conv3d
    monkeypatch.setattr(kernels, "depthwise_conv3d", lambda *given: calls.append(given[3]) or kernel(*given))

    def run(block):
        out = block(x)
        out.square().sum().backward()
        return out, *(parameter.grad for parameter in block.parameters())

    want = run(copy.deepcopy(block))
    assert not calls
    with kernels.use_kernels("depthwise_conv3d"):
        got = run(block)
    assert calls == [(1, 2, 1)]
    for value, right in zip(got, want, strict=True):
        assert_close(value, right, rtol=1e-4, atol=1e-4)


def test_offsets_beyond_32_bits(device):
    """Two clips, frames and rows that lie 2^30 numbers and more apart."""
    if device.type == "cpu":
        pytest.skip("needs 8 GB")
    memory = torch.zeros(2**32, dtype=torch.bfloat16, device=device)
    x = memory.as_strided((2, 2, 2, 2, 2), (2**31, 1, 2**30, 2**29, 2))
    x.copy_(torch.randn(2, 2, 2, 2, 2))
    weight = torch.randn(2, 1, 3, 3, 3, device=device).bfloat16()
    assert_close(kernels.depthwise_conv3d(x, weight), plain(x.contiguous(), weight), rtol=1e-2, atol=1e-2)
    grad = torch.autograd.grad(kernels.depthwise_conv3d(x, weight.requires_grad_()).sum(), weight)[0]
    assert_close(grad, torch.autograd.grad(plain(x.contiguous(), weight).sum(), weight)[0], rtol=1e-2, atol=1e-2)


def test_columns_beyond_32_bits(device):
    """The cells of a row lie 2^30 numbers apart, in 4 GB of which the CPU touches three pages."""
    row = torch.empty(2**31 + 1, dtype=torch.bfloat16, device=device).as_strided((1, 1, 1, 1, 3), (1, 1, 1, 1, 2**30))
    row.copy_(torch.tensor([1.0, 2, 3]))
    weight, small = torch.randn(1, 1, 3, 3, 3, device=device).bfloat16(), row.new_ones(1, 1, 1, 1, 3)
    for stride in ([1, 1, 1], [2, 1, 1]):
        for call, rest in (
            (OPS.depthwise_conv3d, (weight, None, stride)),
            (OPS.depthwise_conv3d_input_gradient, (weight, stride, [1, 1, 3], False)),
            (OPS.depthwise_conv3d_weight_gradient, (small, stride)),
        ):
            assert torch.equal(call(row, *rest), call(row.contiguous(), *rest))
        assert torch.equal(
            OPS.depthwise_conv3d_weight_gradient(small, row, stride),
            OPS.depthwise_conv3d_weight_gradient(small, row.contiguous(), stride),
        )


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": torch.zeros(2, 4, 4, 4)}, ValueError, r"maps \(N, C, T, H, W\), got shape \(2, 4, 4, 4\)"),
        ({"weight": torch.zeros(3, 1, 3, 3, 3)}, ValueError, r"weights \(2, 1, 3, 3, 3\).*got \(3, 1, 3, 3, 3\)"),
        ({"bias": torch.zeros(3)}, ValueError, r"a bias \(2,\), got \(3,\)"),
        ({"stride": (1, 3, 1)}, ValueError, r"strides of 1 or 2.*got \(1, 3, 1\)"),
        ({"stride": (1, 1)}, ValueError, r"got \(1, 1\)"),
        ({"stride": 3}, ValueError, r"strides of 1 or 2.*got \(3, 3, 3\)"),
        ({"x": torch.zeros(1, 2, 1, 2, 0)}, ValueError, r"one channel, frame, row and column, got.*\(1, 2, 1, 2, 0\)"),
        ({"x": torch.zeros(1, 0, 1, 2, 2)}, ValueError, r"one channel, frame, row and column, got.*\(1, 0, 1, 2, 2\)"),
        ({"weight": torch.zeros(2, 1, 3, 3, 3).half()}, TypeError, "one floating-point dtype, got .*float16.*float32"),
        ({"x": torch.zeros(1, 2, 1, 1, 1).long()}, TypeError, "one floating-point dtype, got .*float32.*int64"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_input(wrong, error, message):
    good = {"x": torch.zeros(1, 2, 1, 2, 2), "weight": torch.zeros(2, 1, 3, 3, 3), "bias": torch.zeros(2)}
    kernels.depthwise_conv3d(**good)
    with pytest.raises(error, match=message):
        kernels.depthwise_conv3d(**{**good, **wrong})
