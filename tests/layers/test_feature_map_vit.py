import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from actionzoo.layers import FeatureMapViT
from tests.reference import feature_map_vit as reference

CPU = torch.device("cpu")


def build(dim=6, grid=(4, 3), depth=2, heads=2, head_dim=4, mlp_dim=None):
    """A layer whose every tensor differs from its initial value."""
    layer = FeatureMapViT(dim, grid, depth, heads, head_dim, mlp_dim)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def check(layer, x, device, tolerance, heads=2):
    """Map, attention, and gradients of input and parameters against the reference, from one state."""
    state = {name: p.detach().clone().to(torch.promote_types(p.dtype, torch.float32)).requires_grad_()
             for name, p in layer.named_parameters()}  # fmt: skip
    plain = x.detach().clone().to(state["pos_embed"].dtype).requires_grad_()
    want, want_attention = reference.feature_map_vit(plain, state, layer.grid, len(layer.blocks), heads)
    upstream = torch.randn(want.shape, dtype=torch.float64)
    want.backward(upstream.to(want))

    def close(value, expected):
        expected = expected.detach()
        scale = max(1.0, expected.abs().max().item())
        assert_close(value.detach().cpu().to(expected.dtype), expected, rtol=0, atol=tolerance * scale)

    for return_attention in (False, True):
        ours = x.detach().clone().to(device).requires_grad_()
        found = copy.deepcopy(layer).to(device)
        out = found(ours, return_attention=return_attention)
        if return_attention:
            out, attention = out
            assert len(attention) == len(want_attention)
            for value, expected in zip(attention, want_attention):
                close(value, expected)
        assert out.dtype == x.dtype
        out.backward(upstream.to(out))
        close(out, want)
        close(ours.grad, plain.grad)
        for name, parameter in found.named_parameters():
            close(parameter.grad, state[name].grad)


@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (13, 15), (10, 6)], ids=str)
def test_equals_the_reference_on_the_grids_of_the_paper(grid, device):
    check(build(grid=grid), torch.randn(1, 6, *grid), device, 1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-11), (torch.float32, 1e-5), (torch.bfloat16, 8e-2)],
    ids=["float64", "float32", "bfloat16"],
)
def test_equals_the_reference_in_other_precisions(dtype, tolerance, device):
    check(build().to(dtype), torch.randn(2, 6, 4, 3).to(dtype), device, tolerance)


@pytest.mark.parametrize(
    ("settings", "heads"),
    [
        ({"depth": 0}, 2),
        ({"depth": 3, "heads": 1}, 1),
        ({"heads": 3, "head_dim": None}, 3),
        ({"mlp_dim": 10}, 2),
        ({"grid": 1}, 2),
    ],
    ids=str,
)
def test_any_settings_equal_the_reference(settings, heads):
    layer = build(**settings).double()
    check(layer, torch.randn(2, 6, *layer.grid, dtype=torch.float64), CPU, 1e-11, heads)


@pytest.mark.parametrize("size", [(4, 4), (3, 4), (2, 2), (9, 7), (1, 12)], ids=str)
def test_another_grid_than_the_one_built_for_equals_the_reference(size, device):
    """(3, 4) and (1, 12) have as many cells as the grid of (4, 3), and other positions."""
    check(build().double(), torch.randn(2, 6, *size, dtype=torch.float64), device, 1e-6)  # positions in float32


def test_positions_are_resized_bicubically_with_antialiasing():
    layer = build(dim=2, grid=(6, 4))
    picture = layer.pos_embed.detach()[0].T.reshape(1, 2, 6, 4)
    want = F.interpolate(picture, (3, 5), mode="bicubic", antialias=True, align_corners=False)
    assert_close(layer.positions((3, 5))[0], want[0].flatten(1).T)
    assert layer.positions((6, 4)) is layer.pos_embed


def test_attention_is_where_each_token_looked(device):
    layer, x = build().to(device), torch.randn(2, 6, 4, 3, device=device)
    out, attention = layer(x, return_attention=True)
    assert_close(out, layer(x))
    assert [weights.shape for weights in attention] == [(2, 2, 12, 12)] * 2
    for weights in attention:
        assert weights.min() >= 0
        assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


@pytest.mark.parametrize(
    ("dtype", "train", "return_attention", "fused"),
    [
        (torch.float32, True, False, 2),
        (torch.float32, True, True, 0),
        (torch.bfloat16, False, False, 2),
        (torch.bfloat16, True, False, 0),
    ],
    ids=["float32", "attention asked for", "bfloat16 inference", "bfloat16 training"],
)
def test_the_fused_kernel_runs_where_it_is_the_faster(dtype, train, return_attention, fused, monkeypatch):
    calls, kernel = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *args: calls.append(1) or kernel(*args))
    with torch.set_grad_enabled(train):
        build().to(dtype)(torch.randn(1, 6, 4, 3, dtype=dtype), return_attention=return_attention)
    assert len(calls) == fused


def test_without_positions_the_order_of_the_cells_does_not_matter():
    layer, x = build().double(), torch.randn(1, 6, 4, 3, dtype=torch.float64)
    order = torch.randperm(12)

    def shuffled(x):
        return x.flatten(2)[:, :, order].view_as(x)

    assert not torch.allclose(layer(shuffled(x)), shuffled(layer(x)), atol=1e-3)
    nn.init.zeros_(layer.pos_embed)
    assert_close(layer(shuffled(x)), shuffled(layer(x)))


def test_every_cell_reaches_every_other():
    layer = build().double()
    x = torch.randn(1, 6, 4, 3, dtype=torch.float64, requires_grad=True)
    layer(x)[0, 0, 0, 0].backward()
    assert x.grad.abs().sum(1).min() > 1e-6


def test_images_of_a_batch_do_not_influence_one_another(device):
    layer, x = build().double().to(device), torch.randn(4, 6, 4, 3, dtype=torch.float64, device=device)
    order = torch.tensor([2, 0, 3, 1], device=device)
    assert_close(layer(x[order]), layer(x)[order], rtol=0, atol=1e-12)
    assert_close(layer(x[1:2]), layer(x)[1:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_empty_batch(dtype, device):
    layer = build().to(device, dtype)
    x = torch.zeros(0, 6, 4, 3, device=device, dtype=dtype, requires_grad=True)
    out, attention = layer(x, return_attention=True)
    assert out.shape == layer(x).shape == (0, 6, 4, 3)
    assert attention[0].shape == (0, 2, 12, 12)
    layer(x).sum().backward()
    assert x.grad.shape == x.shape
    assert not any(p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_close(dtype, device):
    layer, x = build().to(device), torch.randn(2, 6, 4, 3, device=device)
    half = layer.to(dtype)(x.to(dtype)).float()
    full = layer.float()(x.to(dtype).float())
    assert (half - full).norm() < 0.03 * full.norm()
    other_grid = layer.to(dtype)(x[:, :, :3].to(dtype))
    assert other_grid.dtype == dtype
    assert other_grid.isfinite().all()


def test_works_on_any_memory_layout(device):
    layer, x = build().to(device), torch.randn(2, 6, 4, 3, device=device)
    want = layer(x)
    assert_close(layer(x.contiguous(memory_format=torch.channels_last)), want)
    assert_close(layer(x.transpose(2, 3).contiguous().transpose(2, 3)), want)
    assert want.is_contiguous(memory_format=torch.channels_last)


def test_stands_in_for_a_convolution(device):
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), FeatureMapViT(8, 5, heads=2, head_dim=3), nn.Conv2d(8, 4, 1))
    out = network.to(device)(torch.randn(2, 3, 10, 10, device=device))
    assert out.shape == (2, 4, 5, 5)
    out.square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize(
    ("grid", "settings", "count"),
    [
        (14, {}, 21_405_696),
        (7, {}, 21_104_640),
        ((10, 6), {}, 21_127_168),
        ((5, 3), {}, 21_035_008),
        (14, {"head_dim": None, "mlp_dim": 8192}, 101_109_760),
    ],
    ids=str,
)
def test_parameter_count(grid, settings, count):
    with torch.device("meta"):
        layer = FeatureMapViT(2048, grid, **settings)
    assert sum(p.numel() for p in layer.parameters()) == count


def test_gradient_checkpointing_changes_memory_not_gradients():
    plain, x = build().double(), torch.randn(2, 6, 4, 3, dtype=torch.float64)
    saving, calls = copy.deepcopy(plain), []
    saving.set_grad_checkpointing()
    saving.blocks[0].norm1.register_forward_hook(lambda *_: calls.append(1))
    for layer in (plain, saving):
        layer(x).square().sum().backward()
    assert len(calls) == 2
    for p, q in zip(plain.parameters(), saving.parameters()):
        assert_close(p.grad, q.grad)


def test_positions_start_as_a_truncated_normal_and_do_not_decay():
    layer = FeatureMapViT(256, 8)
    assert layer.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert layer.no_weight_decay() <= dict(layer.named_parameters()).keys()


@pytest.mark.parametrize(
    ("size", "return_attention"), [((4, 3), False), ((5, 6), True)], ids=["own grid", "other grid, attention"]
)
def test_compiles_in_one_graph(size, return_attention, device):
    torch._dynamo.reset()
    layer, x = build().to(device), torch.randn(2, 6, *size, device=device)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert_close(compiled(x, return_attention), layer(x, return_attention))


@pytest.mark.parametrize("size", [(4, 3), (5, 6)], ids=["own grid", "other grid"])
def test_exports_with_a_dynamic_batch(size, device):
    layer, x = build().to(device), torch.randn(5, 6, *size, device=device)
    program = torch.export.export(layer, (x[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for batch in (1, 5):
        assert_close(program.module()(x[:batch]), layer(x[:batch]))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"head_dim": None, "heads": 4}, "dim must be a multiple of heads, got dim=6, heads=4"),
        ({"grid": (0, 3)}, r"grid=\(0, 3\)"),
        ({"heads": 0}, "heads=0"),
        ({"depth": -1}, "depth=-1"),
        ({"head_dim": 0}, "head_dim and mlp_dim are at least 1, got 0 and 6"),
        ({"mlp_dim": 0}, "head_dim and mlp_dim are at least 1, got 4 and 0"),
    ],
)
def test_wrong_settings(settings, match):
    with pytest.raises(ValueError, match=match):
        build(**settings)


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (6, 4, 3), (2, 12, 6), (1, 6, 0, 3)], ids=str)
def test_wrong_map(shape):
    with pytest.raises(ValueError, match=r"a feature map \(B, 6, H, W\), got shape \("):
        build()(torch.zeros(shape))
