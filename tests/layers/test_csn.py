import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from actionzoo.layers import ChannelSeparatedBottleneck
from actionzoo.layers.csn import ConvNorm3d, recomputed
from tests.reference import csn as reference

TINY = {
    "ip": {},
    "ir": {"mode": "ir"},
    "ip-stride": {"stride": (2, 2, 2)},
    "ir-stride": {"mode": "ir", "stride": (1, 2, 2)},
    "identity-shortcut": {"cin": 8},
    "strided-shortcut": {"cin": 8, "stride": (2, 1, 1)},
    "expansion": {"expansion": 1, "cin": 4},
    "no-norm": {"norm": "none"},
}
every_tiny = pytest.mark.parametrize("settings", TINY.values(), ids=TINY)
modes = pytest.mark.parametrize("mode", ["ip", "ir"])


def build(**settings):
    """A block whose every tensor differs from its initial value."""
    block = ChannelSeparatedBottleneck(**{"cin": 3, "width": 4, "expansion": 2, **settings})
    with torch.no_grad():
        for name, x in block.state_dict().items():
            if x.is_floating_point():
                x.add_(0.3 * (torch.rand_like(x) if name.endswith("var") else torch.randn_like(x)))
    return block


def clips(block, size=(5, 4, 3)):
    return torch.randn(2, block.cin, *size)


def check(block, x, stride, device, tolerance):
    """Map, and gradients of input and parameters, against the reference from one state."""
    state = {key: value.detach().clone() for key, value in block.state_dict().items()}
    for key, _ in block.named_parameters():
        state[key].requires_grad_()
    plain, ours = x.clone().requires_grad_(), x.clone().to(device).requires_grad_()
    want = reference.bottleneck(plain, state, stride, block.training)
    upstream = torch.randn_like(want)
    want.backward(upstream)
    block = block.to(device)
    out = block(ours)
    out.backward(upstream.to(device))
    found = [out, ours.grad, *(p.grad for p in block.parameters())]
    expected = [want, plain.grad, *(state[key].grad for key, _ in block.named_parameters())]
    for value, right in zip(found, expected, strict=True):
        scale = max(1.0, right.abs().max().item())
        assert_close(value.detach().cpu(), right.detach(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@every_tiny
def test_equals_the_reference(settings, training, device):
    block = build(**settings).double().train(training)
    check(block, clips(block).double(), settings.get("stride", (1, 1, 1)), device, 1e-10)


@every_tiny
def test_equals_the_reference_in_float32(settings, device):
    """At eval; in training, a ReLU at zero may fall to either side by rounding."""
    block = build(**settings).eval()
    check(block, clips(block), settings.get("stride", (1, 1, 1)), device, 1e-5)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 2), (2, 1, 4)], ids=str)
@modes
def test_few_frames_and_cells_equal_the_reference(mode, size, device):
    block = build(mode=mode, stride=(2, 2, 2)).double().eval()
    check(block, clips(block, size).double(), (2, 2, 2), device, 1e-10)


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2)], ids=str)
@modes
def test_output_sizes(mode, stride):
    block = build(mode=mode, stride=stride)
    assert (block.cout, block.mode) == (8, mode)
    assert block(clips(block, (5, 7, 4))).shape == (2, 8, *(-(-n // s) for n, s in zip((5, 7, 4), stride)))


@modes
def test_channels_meet_in_pointwise_convolutions_only(mode):
    """3x3x3 weights look at one channel each; `ip` has a 1x1x1 convolution more, without a ReLU behind it."""
    block = build(mode=mode)
    shapes = {name: tuple(m.weight.shape) for name, m in block.convs.named_modules() if isinstance(m, nn.Conv3d)}
    middle = {"pointwise.conv": (4, 4, 1, 1, 1)} if mode == "ip" else {}
    wide = {"depthwise.conv": (4, 1, 3, 3, 3), "expand.conv": (8, 4, 1, 1, 1)}
    assert shapes == {"reduce.conv": (4, 3, 1, 1, 1), **middle, **wide}
    rectified = [name for name, m in block.convs.named_children() if isinstance(m.act, nn.ReLU)]
    assert rectified == ["reduce", "depthwise"]
    assert {m.eps for m in block.modules() if isinstance(m, nn.BatchNorm3d)} == {1e-3}
    assert all(m.bias is None for m in block.modules() if isinstance(m, nn.Conv3d))


def test_identity_shortcut_has_no_weights():
    assert isinstance(build(cin=8).shortcut, nn.Identity)
    assert not isinstance(build(cin=8, stride=(1, 2, 2)).shortcut, nn.Identity)


def test_the_input_stays_as_it_is():
    for settings in TINY.values():
        block = build(**settings).eval()
        x = clips(block)
        before = x.clone()
        block(x)
        assert torch.equal(x, before)


@modes
def test_bfloat16_and_channels_last(mode, device):
    block = ChannelSeparatedBottleneck(16, 8, mode=mode).to(device).eval()
    x = torch.rand(2, 16, 4, 5, 3, device=device).bfloat16()
    with torch.no_grad():
        want = block(x.float())
        block.to(torch.bfloat16, memory_format=torch.channels_last_3d)
        out = block(x.to(memory_format=torch.channels_last_3d))
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last_3d)
    assert (out.float() - want).norm() < 0.03 * want.norm()


def test_folding_gives_what_is_built_without_norm():
    block = build().eval()
    x, plain = clips(block), build(norm="none")
    want = block(x)
    for module in block.modules():
        if isinstance(module, ConvNorm3d):
            module.fold_norm()
    assert_close(block(x), want, rtol=1e-5, atol=1e-5)
    plain.load_state_dict(block.state_dict())
    assert torch.equal(plain(x), block(x))


def runs(block, x, forward):
    x = x.clone().requires_grad_()
    out = forward(block, x)
    out.square().sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in block.parameters()), *block.buffers()]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@modes
def test_recomputing_gives_the_same_and_moves_statistics_once(mode, training, device):
    block = build(mode=mode).to(device).train(training)
    x = clips(block).to(device)
    want = runs(copy.deepcopy(block), x, lambda block, x: block(x))
    for value, right in zip(runs(block, x, recomputed), want, strict=True):
        assert_close(value, right)


def test_weights_start_by_the_channels_they_look_at():
    """He's variance of 2 over the number of inputs: 27 of a depthwise convolution."""
    block = ChannelSeparatedBottleneck(64, 128)
    for name, inputs in (("reduce", 64), ("pointwise", 128), ("depthwise", 27), ("expand", 128)):
        weight = block.get_submodule(f"convs.{name}").conv.weight
        assert weight.square().mean().item() == pytest.approx(2 / inputs, rel=0.1)


@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (2, 4, 5, 4, 3), (2, 3, 5)], ids=str)
def test_wrong_input(shape):
    with pytest.raises(ValueError, match=rf"expects a map \(B, 3, T, H, W\), got shape \({shape[0]}, {shape[1]}"):
        build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "3d"}, "got '3d'"),
        ({"norm": "gn"}, "norm is 'bn' or 'none', got 'gn'"),
        ({"cin": 0}, "got 0, 4 and 2"),
        ({"width": 0}, "got 3, 0 and 2"),
        ({"expansion": 0}, "got 3, 4 and 0"),
    ],
    ids=str,
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)
