import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from actionzoo.layers import TAHNet
from tests.reference import tahnet as reference

TINY = {
    "v1": {"bottleneck": (6, 4, 3), "depth": 3},
    "no-bottleneck": {"bottleneck": None, "depth": 2},
    "v4": {"bottleneck": (6, 4, 3), "depth": 2, "temporal_bottleneck": True, "first_stride": 2, "hidden": None},
    "one-convolution": {"bottleneck": (4, 5, 2), "depth": 1},
    "no-norm": {"bottleneck": (6, 4, 3), "depth": 2, "norm": "none"},
}
every_tiny = pytest.mark.parametrize("settings", TINY.values(), ids=TINY)
SIZE = (2, 3, 5, 4, 3)


def build(**settings):
    """A network whose every tensor differs from its initial value."""
    net = TAHNet(**{"num_classes": 7, "in_chans": 3, "width": 6, "hidden": 5, **settings})
    with torch.no_grad():
        for name, x in net.state_dict().items():
            if x.is_floating_point():
                x.add_(0.3 * (torch.rand_like(x) if name.endswith("var") else torch.randn_like(x)))
    return net


def check(net, x, settings, device, tolerance):
    """Map, logits, and gradients of input and parameters, against the reference from one state."""
    layout = {key: settings[key] for key in ("first_stride",) if key in settings}
    state = {key: value.detach().clone() for key, value in net.state_dict().items()}
    for key, _ in net.named_parameters():
        state[key].requires_grad_()
    plain, ours = x.clone().requires_grad_(), x.clone().to(device).requires_grad_()
    temporal = settings.get("temporal_bottleneck", False)
    want_map, want = reference.tahnet(plain, state, temporal, training=net.training, **layout)
    upstream = torch.randn_like(want)
    want.backward(upstream)
    net = net.to(device)
    features = net.forward_features(ours)
    out = net.forward_head(features)
    out.backward(upstream.to(device))
    found = [features, out, ours.grad, *(p.grad for p in net.parameters())]
    expected = [want_map, want, plain.grad, *(state[key].grad for key, _ in net.named_parameters())]
    for value, right in zip(found, expected, strict=True):
        scale = max(1.0, right.abs().max().item())
        assert_close(value.detach().cpu(), right.detach(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@every_tiny
def test_equals_the_reference(settings, training, device):
    check(build(**settings).double().train(training), torch.randn(SIZE).double(), settings, device, 1e-10)


@every_tiny
def test_equals_the_reference_in_float32(settings, device):
    """At eval; in training, a ReLU at zero may fall to either side by rounding."""
    check(build(**settings).eval(), torch.randn(SIZE), settings, device, 1e-5)


@pytest.mark.parametrize("size", [(1, 3, 1, 1, 1), (2, 3, 1, 5, 2), (1, 3, 2, 4, 4)], ids=str)
@pytest.mark.parametrize("name", ["v1", "v4"])
def test_few_frames_and_cells_equal_the_reference(name, size, device):
    check(build(**TINY[name]).double().eval(), torch.randn(size).double(), TINY[name], device, 1e-10)


@pytest.mark.parametrize("frames", [1, 3, 8, 16])
def test_output_sizes(frames):
    """Halved and rounded up once; three times along time in v4, twice along height and width."""
    x = torch.randn(1, 3, frames, 14, 14)
    assert build(**TINY["v1"]).eval().forward_features(x).shape == (1, 6, -(-frames // 2), 7, 7)
    x = torch.randn(1, 3, frames, 28, 28)
    assert build(**TINY["v4"]).eval().forward_features(x).shape == (1, 6, -(-frames // 8), 7, 7)


@pytest.mark.parametrize("hidden", [5, None])
def test_features_head_and_classifier_make_up_forward(hidden):
    net, x = build(hidden=hidden).eval(), torch.randn(SIZE)
    features = net.forward_features(x)
    assert features.shape[1] == net.num_features == 6
    before = net.forward_head(features, pre_logits=True)
    assert before.shape == (2, net.head_hidden_size)
    assert net.head_hidden_size == (hidden or 6)
    assert_close(net.get_classifier()(before), net(x))
    assert [net.get_submodule(name) for name in net.classifier_names] == [net.get_classifier()]
    want = features.mean((2, 3, 4))
    assert_close(before, net.fc[0](want).relu() if hidden else want)


def test_reset_classifier():
    net, x = build().double().eval(), torch.randn(SIZE).double()
    body = {key: value.clone() for key, value in net.state_dict().items() if not key.startswith("classifier.")}
    net.reset_classifier(4)
    assert (net(x).shape, net(x).dtype, net.num_classes) == ((2, 4), torch.float64, 4)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in body.items())
    net.reset_classifier(0)
    assert_close(net(x), net.forward_head(net.forward_features(x), pre_logits=True))
    net.reset_classifier(3, global_pool="")
    assert_close(net(x), net.forward_features(x))
    net.reset_classifier(3, global_pool="avg")
    assert net(x).shape == (2, 3)
    with pytest.raises(ValueError, match="global_pool is 'avg' or ''"):
        net.reset_classifier(3, global_pool="max")


def test_dropout_stands_before_the_classifier():
    net, x = build(drop_rate=0.5).double(), torch.randn(SIZE).double()
    features = net.forward_features(x).detach()
    dropped = net.train().forward_head(features, pre_logits=True)
    kept = net.eval().forward_head(features, pre_logits=True)
    assert all(
        (a == 0 or a == pytest.approx(2 * b)) for a, b in zip(dropped.flatten().tolist(), kept.flatten().tolist())
    )
    assert 0 < (dropped != 0).sum() < (kept != 0).sum()


@pytest.mark.parametrize("norm", ["bn", "gn", "none"])
def test_people_of_a_batch_do_not_influence_one_another(norm):
    net, x = build(norm=norm).double().eval(), torch.randn(4, 3, 5, 4, 3).double()
    order = torch.tensor([2, 0, 3, 1])
    assert_close(net(x[order]), net(x)[order], rtol=0, atol=1e-12)
    assert_close(net(x[1:2]), net(x)[1:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("norm", ["bn", "gn", "none"])
def test_no_people(norm, training, checkpointing, device):
    net = build(norm=norm).to(device).train(training)
    net.set_grad_checkpointing(checkpointing)
    before = {key: x.clone() for key, x in net.named_buffers() if "running" in key}
    x = torch.zeros(0, *SIZE[1:], device=device, requires_grad=True)
    out = net(x)
    assert out.shape == (0, 7)
    out.sum().backward()
    assert x.grad.shape == x.shape
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())
    assert all(torch.equal(net.get_buffer(key), value) for key, value in before.items())


def last(x):
    return x.to(memory_format=torch.channels_last_3d)


def gradients(net, x):
    out = net(x)
    out.square().sum().backward()
    return [out.detach(), *(p.grad for p in net.parameters())]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@every_tiny
def test_channels_last_gives_the_same(settings, training, device):
    net, x = build(**settings).double().to(device).train(training), torch.randn(SIZE, device=device).double()
    swept = last(copy.deepcopy(net))
    for value, want in zip(gradients(swept, last(x)), gradients(net, x), strict=True):
        assert_close(value, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_channels_last_weights_keep_maps_channels_last(dtype, device):
    net = last(build()).to(device, dtype).eval()
    x = torch.randn(SIZE, device=device, dtype=dtype)
    for features in (
        net.forward_features(x),
        net.forward_features(last(x)),
        net.fuse_for_inference().convs(net.bottleneck(x)),
    ):
        assert features.is_contiguous(memory_format=torch.channels_last_3d)
        assert not features.is_contiguous()


def test_any_strides_give_the_same():
    net, x = build().double().eval(), torch.randn(SIZE).double()
    assert_close(net(x.transpose(1, 2).contiguous().transpose(1, 2)), net(x))
    assert_close(net(x[:1].expand(3, -1, -1, -1, -1)), net(x[:1]).expand(3, -1))


@pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last_3d], ids=["contiguous", "channels-last"]
)
@pytest.mark.parametrize("norm", ["bn", "gn", "none"])
def test_bfloat16_is_close(norm, layout, device):
    """Gradients where all is above 0: a sum that is rounded to the other side of a ReLU changes one by all it has."""
    net = TAHNet(num_classes=7, in_chans=3, bottleneck=(16, 12, 8), depth=3, width=16, hidden=16, norm=norm)
    if norm != "gn":  # whose maps always go below its mean
        for p in net.parameters():
            p.data.abs_()
    net, x = net.to(device).eval(), torch.rand(SIZE, device=device).bfloat16().float()
    full = gradients(copy.deepcopy(net), x)
    half = gradients(net.to(torch.bfloat16, memory_format=layout), x.bfloat16().to(memory_format=layout))
    assert all(value.dtype == torch.bfloat16 for value in half)
    for value, want in list(zip(half, full, strict=True))[: 1 if norm == "gn" else None]:
        assert (value.float() - want).norm() < 0.03 * want.norm()


def test_autocast_trains_float32_weights(device):
    net, x = build(width=16, hidden=16).to(device), torch.randn(SIZE, device=device)
    want = gradients(copy.deepcopy(net).double(), x.double())
    with torch.autocast(device.type, torch.bfloat16):
        out = net(x)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert (out - want[0]).norm() < 0.1 * want[0].norm()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


@every_tiny
def test_fusing_changes_no_value(settings, device):
    net, x = build(**settings).to(device).eval(), torch.randn(SIZE, device=device)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    want, fused = net(x), net.fuse_for_inference()
    assert_close(fused(x), want, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in fused.modules())
    assert not any(p.data_ptr() == q.data_ptr() for p in fused.parameters() for q in net.parameters())
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())
    assert torch.equal(fused.fuse_for_inference()(x), fused(x))
    net.reset_classifier(3)
    net.fuse_for_inference()


def test_fused_is_what_is_built_without_norm():
    net, x = build().eval(), torch.randn(SIZE)
    fused, other = net.fuse_for_inference(), build(norm="none").eval()
    other.load_state_dict(fused.state_dict())
    assert torch.equal(other(x), fused(x))
    assert fused.pretrained_cfg["model_args"] == {"norm": "none"}
    assert "model_args" not in net.pretrained_cfg
    fused(x).square().sum().backward()
    assert all(p.grad is not None for p in fused.parameters())
    assert not any(p.grad is not None for p in net.parameters())


def test_fusing_keeps_layout_and_what_is_frozen():
    net = last(build()).eval()
    net.convs.requires_grad_(False)
    fused = net.fuse_for_inference()
    assert fused.convs[-1].conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert {p.requires_grad for p in fused.convs.parameters()} == {False}


def test_fusing_is_refused_in_training_mode_and_with_group_norm():
    net = build()
    with pytest.raises(RuntimeError, match=r"TAHNet is in training mode.*call .eval\(\)"):
        net.fuse_for_inference()
    net.eval().convs[1].norm.train()
    with pytest.raises(RuntimeError, match="BatchNorm in training mode"):
        net.fuse_for_inference()
    with pytest.raises(ValueError, match="GroupNorm depends on its input"):
        build(norm="gn").eval().fuse_for_inference()


@pytest.mark.parametrize("norm", ["bn", "gn", "none"])
def test_gradient_checkpointing_changes_memory_not_gradients(norm, device):
    plain, x = build(norm=norm).to(device), torch.randn(SIZE, device=device)
    saving, kept = copy.deepcopy(plain), {}
    saving.set_grad_checkpointing()
    for name, net in (("plain", plain), ("saving", saving)):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            out = net(x)
        kept[name] = sum(sizes)
        out.square().sum().backward()
    assert kept["saving"] < 0.5 * kept["plain"]
    for key, value in plain.state_dict().items():
        assert torch.equal(saving.state_dict()[key], value), key
    for p, q in zip(plain.parameters(), saving.parameters(), strict=True):
        assert_close(p.grad, q.grad)
    saving.set_grad_checkpointing(False)
    assert not any(getattr(module, "grad_checkpointing", False) for module in saving.modules())


def test_compiles_in_one_graph(device):
    torch._dynamo.reset()
    net, x = build(**TINY["v4"]).to(device).eval(), torch.randn(SIZE, device=device)
    assert_close(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))


def test_compiles_in_one_graph_to_train_with_checkpointing(device):
    torch._dynamo.reset()
    net, x = build(**TINY["one-convolution"]).to(device), torch.randn(SIZE, device=device)
    net.set_grad_checkpointing()
    want = gradients(twin := copy.deepcopy(net), x)
    out = torch.compile(net, backend="eager", fullgraph=True)(x)
    out.square().sum().backward()
    for value, expected in zip((out, *(p.grad for p in net.parameters())), want, strict=True):
        assert_close(value.detach(), expected)
    for key, value in twin.named_buffers():
        assert_close(net.get_buffer(key), value)


def test_exports_with_any_number_of_people_and_frames():
    net = build().eval()
    sizes = {0: torch.export.Dim("people"), 2: torch.export.Dim("frames", min=3)}
    program = torch.export.export(net, (torch.randn(SIZE),), dynamic_shapes=(sizes,))
    for people, frames in ((1, 3), (5, 16)):
        x = torch.randn(people, 3, frames, 4, 3)
        assert_close(program.module()(x), net(x), rtol=1e-4, atol=1e-5)


def test_learns_which_way_something_moves():
    """A bright cell that moves left or right, the same cells in another order: only motion tells them apart."""
    generator = torch.Generator().manual_seed(0)
    net = TAHNet(num_classes=2, in_chans=1, bottleneck=(8, 8, 4), depth=2, width=8, hidden=8)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    steps = torch.arange(5)
    for step in range(60):
        labels = torch.randint(2, (16,), generator=generator)
        rows = torch.randint(5, (16,), generator=generator)
        x = 0.1 * torch.randn(16, 1, 5, 5, 5, generator=generator)
        for i, (label, row) in enumerate(zip(labels, rows)):
            x[i, 0, steps, row, steps if label else 4 - steps] += 1
        logits = net.train(step < 59)(x)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    assert (logits.argmax(1) == labels).all()


@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (2, 4, 5, 4, 3), (2, 3, 0, 4, 3), (2, 3, 5, 4, 0), (2, 3, 5)], ids=str)
def test_wrong_features(shape):
    with pytest.raises(
        ValueError, match=rf"TAHNet expects features \(N, 3, T, H, W\), got shape \({shape[0]}, {shape[1]}"
    ):
        build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "depth=0"),
        ({"width": 0}, "width=0"),
        ({"in_chans": 0}, "in_chans=0"),
        ({"hidden": 0}, "hidden=0"),
        ({"num_classes": -1}, "num_classes=-1"),
        ({"first_stride": 3}, "first_stride is 1 or 2, got 3"),
        ({"bottleneck": None, "temporal_bottleneck": True}, "needs a bottleneck"),
        ({"bottleneck": ()}, "one or more convolutions"),
        ({"norm": "ln"}, "got 'ln'"),
        ({"norm": "ln", "bottleneck": None}, "got 'ln'"),
        ({"global_pool": "max"}, "got 'max'"),
    ],
    ids=str,
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)
