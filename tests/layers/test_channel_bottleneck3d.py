import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from actionzoo.layers import ChannelBottleneck3D
from actionzoo.layers.channel_bottleneck3d import ConvNormReLU3d
from actionzoo.profile import count_macs
from tests.reference import tahnet as reference

SIZES = {"2x3x3x2": (2, 3, 3, 2), "one-frame": (3, 1, 2, 2), "five-frames": (1, 5, 2, 3)}


def build(cin=3, channels=(6, 4, 2), temporal=False, norm="bn"):
    """A layer whose every tensor differs from its initial value."""
    layer = ChannelBottleneck3D(cin, channels, temporal, norm)
    with torch.no_grad():
        for name, x in layer.state_dict().items():
            if x.is_floating_point():
                x.add_(0.3 * (torch.rand_like(x) if name.endswith("var") else torch.randn_like(x)))
    return layer


def draw(size, cin=3, dtype=torch.float32):
    return torch.randn(size[0], cin, *size[1:]).to(dtype)


def check(layer, x, device, tolerance):
    """Map, and gradients of input and parameters, against the reference from one state."""
    state = {key: value.detach().clone() for key, value in layer.state_dict().items()}
    for key, _ in layer.named_parameters():
        state[key].requires_grad_()
    plain, ours = x.clone().requires_grad_(), x.clone().to(device).requires_grad_()
    want = reference.channel_bottleneck(plain, state, temporal=layer.temporal, training=layer.training)
    upstream = torch.randn_like(want)
    want.backward(upstream)
    layer = layer.to(device)
    out = layer(ours)
    out.backward(upstream.to(device))
    found = [out, ours.grad, *(p.grad for p in layer.parameters())]
    expected = [want, plain.grad, *(state[key].grad for key, _ in layer.named_parameters())]
    for value, right in zip(found, expected, strict=True):
        scale = max(1.0, right.abs().max().item())
        assert_close(value.detach().cpu(), right.detach(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("norm", ["bn", "none"])
@pytest.mark.parametrize("temporal", [False, True], ids=["frames-kept", "frames-halved"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_equals_the_reference(size, temporal, norm, dtype, tolerance, device):
    for training in (False, True):
        layer = build(temporal=temporal, norm=norm).to(dtype).train(training)
        check(layer, draw(size, dtype=dtype), device, tolerance)


@pytest.mark.parametrize(("frames", "left"), [(1, 1), (2, 1), (7, 4), (8, 4), (16, 8)])
def test_only_the_temporal_one_changes_the_number_of_frames(frames, left):
    x = torch.randn(1, 3, frames, 2, 2)
    assert build()(x).shape == (1, 2, frames, 2, 2)
    assert build(temporal=True)(x).shape == (1, 2, left, 2, 2)


@pytest.mark.parametrize("temporal", [False, True])
def test_a_cell_sees_no_other_cell_and_other_frames_only_if_temporal(temporal):
    layer, x = build(temporal=temporal).double().eval(), draw((1, 6, 3, 3), dtype=torch.float64).requires_grad_()
    with torch.no_grad():
        for parameter in layer.parameters():  # no ReLU may stop a gradient
            parameter.abs_()
        x.abs_()
        for block in layer.convs:
            block.norm.running_mean.zero_()
    layer(x)[0, :, 2, 1, 1].sum().backward()
    seen = x.grad.abs().sum((0, 1)).nonzero()
    assert set(map(tuple, seen[:, 1:].tolist())) == {(1, 1)}
    assert set(seen[:, 0].tolist()) == ({3, 4, 5} if temporal else {2})


def test_group_norm_is_of_groups_that_divide_the_channels():
    layer = build(channels=(64, 24, 5), norm="gn")
    assert [block.norm.num_groups for block in layer.convs] == [32, 8, 1]
    x = draw((2, 3, 4, 4))
    block = layer.convs[0]
    grouped = block.conv(x).unflatten(1, (32, 2))
    var, mean = torch.var_mean(grouped, (2, 3, 4, 5), correction=0, keepdim=True)
    want = ((grouped - mean) / (var + 1e-5).sqrt()).flatten(1, 2) * block.norm.weight[:, None, None, None]
    assert_close(block(x), (want + block.norm.bias[:, None, None, None]).relu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "temporal", "weights", "cells"),
    [
        ((1024, 256, 128), False, 256 * 1024 + 1024 * 256 + 256 * 128, 8 * 14 * 14),
        ((512, 128, 128), True, 3 * 256 * 512 + 512 * 128 + 128 * 128, 4 * 14 * 14),
    ],
    ids=["v1", "v4"],
)
def test_parameters_and_work_of_the_papers(channels, temporal, weights, cells):
    """Every weight works once per cell that comes out; every channel has two more for its norm."""
    with torch.device("meta"):
        layer = ChannelBottleneck3D(256, channels, temporal)
        assert count_macs(layer, torch.empty(1, 256, 8, 14, 14)) == weights * cells
    assert sum(p.numel() for p in layer.parameters()) == weights + 2 * sum(channels)


def test_without_norm_activations_keep_their_size():
    layer = ChannelBottleneck3D(64, (256, 64, 32), norm="none")
    x = torch.randn(4, 64, 2, 4, 4).relu()
    assert 0.5 < layer(x).square().mean() / x.square().mean() < 2
    assert not any(p.any() for name, p in layer.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("norm", ["bn", "none"])
def test_folding_changes_no_value(norm):
    layer, x = build(norm=norm).eval(), draw((2, 3, 3, 2))
    want = layer(x)
    for block in layer.convs:
        block.fold_norm()
    assert not any(isinstance(module, nn.BatchNorm3d) for module in layer.modules())
    assert layer.state_dict().keys() == build(norm="none").state_dict().keys()
    assert_close(layer(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen-norms"])
@pytest.mark.parametrize("momentum", [0.1, None], ids=["moving", "cumulative"])
def test_recomputing_moves_running_statistics_once(frozen, momentum):
    plain, x = build(temporal=True), draw((2, 3, 3, 2))
    for block in plain.convs:
        block.norm.momentum = momentum
        block.norm.train(not frozen)
    saving, calls = copy.deepcopy(plain), []
    for block in saving.convs:
        block.grad_checkpointing = True
        block.conv.register_forward_hook(lambda *_: calls.append(1))
    for layer in (plain, saving):
        for _ in range(2):
            layer(x).square().sum().backward()
    assert len(calls) == 2 * 2 * 3
    assert plain.convs[0].norm.num_batches_tracked == (0 if frozen else 2)
    for key, value in plain.state_dict().items():
        assert torch.equal(saving.state_dict()[key], value), key
    for p, q in zip(plain.parameters(), saving.parameters()):
        assert_close(p.grad, q.grad, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3, 4, 5, 5), (2, 4, 2, 5, 5), (2, 3, 0, 5, 5), (2, 3, 2, 5, 0)], ids=str)
def test_wrong_features(shape):
    with pytest.raises(ValueError, match=rf"features \(N, 3, T, H, W\), got shape \({shape[0]}, {shape[1]}"):
        build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, ()), r"one or more convolutions.*channels=\(\)"),
        ((3, (4, 0, 2)), r"channels=\(4, 0, 2\)"),
        ((0, (4,)), "cin=0"),
        ((3, (4,), False, "ln"), "norm is 'bn', 'gn' or 'none', got 'ln'"),
    ],
    ids=["none", "no-channel", "nothing-in", "norm"],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        ChannelBottleneck3D(*arguments)


def test_group_norm_cannot_be_folded():
    with pytest.raises(ValueError, match="GroupNorm depends on its input"):
        ConvNormReLU3d(3, 4, (1, 1, 1), norm="gn").fold_norm()
