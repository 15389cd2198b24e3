import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from actionzoo.layers import SerializedAttention
from tests.reference import serialized_attention as reference


def build(in_ch=5, dim=12, tokens=3, heads=4, mlp_ratio=1.5, train=False):
    """A block whose every tensor, the running statistics too, differs from its initial value."""
    layer = SerializedAttention(in_ch, dim, tokens, heads, mlp_ratio)
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(0.3 * torch.rand_like(tensor) if name.endswith("var") else 0.3 * torch.randn_like(tensor))
    return layer.train(train)


def leaves(layer):
    return {name: tensor.detach().cpu().clone() for name, tensor in layer.state_dict().items()}


def check(layer, x, device, tolerance, train):
    """Tokens, vector, gradients of input and parameters against the reference, from one state."""
    state, parameters = leaves(layer), [name for name, _ in layer.named_parameters()]
    if x.dtype == torch.bfloat16:
        state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    for name in parameters:
        state[name].requires_grad_()
    plain = x.detach().clone().to(state["pos_embed"].dtype).requires_grad_()
    want = reference.serialized_attention(plain, state, layer.tokens, layer.attn.num_heads, train)

    layer = layer.to(device)
    ours = x.detach().clone().to(device).requires_grad_()
    tokens = layer.forward_tokens(ours)
    assert tokens.dtype == x.dtype
    assert tokens.shape == (x.shape[0], layer.tokens**2, layer.dim)
    upstream = torch.randn(want.shape, dtype=torch.float64)
    want.backward(upstream.to(want))
    tokens.backward(upstream.to(tokens))

    def close(value, expected):
        expected = expected.detach()
        scale = max(1.0, expected.abs().max().item())
        assert_close(value.detach().cpu().to(expected.dtype), expected, rtol=0, atol=tolerance * scale)

    close(tokens, want)
    close(ours.grad, plain.grad)
    for name, parameter in layer.named_parameters():
        close(parameter.grad, state[name].grad)


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.float64, 1e-11), (torch.bfloat16, 6e-2)],
    ids=["float32", "float64", "bfloat16"],
)
def test_equals_the_reference(train, dtype, tolerance, device):
    layer = build(train=train).to(dtype)
    check(layer, torch.randn(2, 5, 7, 5).to(dtype), device, tolerance, train)


@pytest.mark.parametrize(
    ("size", "tokens"),
    [((1, 1), 2), ((2, 5), 3), ((3, 3), 3), ((4, 11), 3), ((9, 6), 1)],
    ids=lambda value: str(value),
)
def test_any_size_of_map_equals_the_reference(size, tokens, device):
    """Smaller than the token grid too: the pixels are then repeated."""
    check(build(tokens=tokens).double(), torch.randn(2, 5, *size, dtype=torch.float64), device, 1e-11, False)


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_any_number_of_heads_equals_the_reference(heads):
    layer = build(heads=heads, mlp_ratio=0.5).double()
    check(layer, torch.randn(1, 5, 4, 3, dtype=torch.float64), torch.device("cpu"), 1e-11, False)


def test_the_vector_is_the_mean_of_the_tokens(device):
    layer, x = build().to(device), torch.randn(3, 5, 6, 7, device=device)
    vector = layer(x)
    assert vector.shape == (3, 12)
    assert_close(vector, sum(layer.forward_tokens(x).unbind(1)) / 9)


def test_training_updates_the_running_statistics():
    layer, x = build(train=True), torch.randn(4, 5, 3, 3)
    before = leaves(layer)
    layer(x)
    values = torch.einsum("bchw,dc->bhwd", x, layer.reduce.weight[:, :, 0, 0]).reshape(-1, 12)
    assert_close(layer.bn.running_mean, 0.9 * before["bn.running_mean"] + 0.1 * values.mean(0))
    assert_close(layer.bn.running_var, 0.9 * before["bn.running_var"] + 0.1 * values.var(0))


def test_tokens_know_their_position():
    """A map turned upside down gives another vector, and the same one without positions."""
    layer, x = build().double(), torch.randn(1, 5, 6, 6, dtype=torch.float64)
    assert not torch.allclose(layer(x), layer(x.flip(2)), atol=1e-3)
    nn.init.zeros_(layer.pos_embed)
    assert_close(layer(x), layer(x.flip(2)))


def test_images_of_a_batch_do_not_influence_one_another_in_eval(device):
    layer, x = build().double().to(device), torch.randn(4, 5, 7, 5, dtype=torch.float64, device=device)
    order = torch.tensor([2, 0, 3, 1], device=device)
    assert_close(layer(x[order]), layer(x)[order], rtol=0, atol=1e-12)
    assert_close(layer(x[1:2]), layer(x)[1:2], rtol=0, atol=1e-12)


def parameter_count(in_ch, dim, tokens, hidden):
    reduce_and_norm = in_ch * dim + 2 * dim
    positions = tokens**2 * dim
    attention = (3 * dim * dim + 3 * dim) + (dim * dim + dim)
    mlp = (dim * hidden + hidden) + (hidden * dim + dim)
    return reduce_and_norm + positions + attention + mlp + 3 * 2 * dim


@pytest.mark.parametrize(
    ("in_ch", "dim", "tokens", "heads", "mlp_ratio"),
    [(512, 1024, 8, 8, 1.0), (7, 24, 3, 4, 4.0), (32, 10, 1, 2, 0.5)],
    ids=str,
)
def test_parameter_count(in_ch, dim, tokens, heads, mlp_ratio):
    with torch.device("meta"):
        layer = SerializedAttention(in_ch, dim, tokens, heads, mlp_ratio)
    count = sum(p.numel() for p in layer.parameters())
    assert count == parameter_count(in_ch, dim, tokens, int(dim * mlp_ratio))


def test_three_stages_of_a_resnet50_have_the_size_that_fits_the_paper():
    """Serialization 3,872,768 and attention 18,911,232 parameters: the share of the 49.6 M of Table 4."""
    with torch.device("meta"):
        stages = [SerializedAttention(channels) for channels in (512, 1024, 2048)]
    serialization = attention = 0
    for stage in stages:
        for name, parameter in stage.named_parameters():
            if name.startswith(("reduce", "bn", "pos_embed")):
                serialization += parameter.numel()
            else:
                attention += parameter.numel()
    assert serialization == 3_872_768
    assert attention == 18_911_232


@pytest.mark.parametrize("name", ["resnet18", "regnetx_002", "mobilenetv3_small_050"])
def test_works_on_the_features_of_a_timm_backbone(name, device):
    backbone = timm.create_model(name, features_only=True, out_indices=(-2, -1)).eval().to(device)
    images = torch.randn(2, 3, 64, 48, device=device)
    with torch.no_grad():
        maps = backbone(images)
    for channels, features in zip(backbone.feature_info.channels(), maps, strict=True):
        layer = SerializedAttention(channels, dim=16, tokens=3, heads=2).to(device)
        vector = layer(features)
        assert vector.shape == (2, 16)
        vector.square().sum().backward()
        assert all(p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())


def test_one_image_in_train_mode(device):
    layer = SerializedAttention(5, dim=8, tokens=2, heads=2).to(device).train()
    layer(torch.randn(1, 5, 3, 4, device=device)).sum().backward()
    assert layer.reduce.weight.grad.isfinite().all()


def test_positions_start_as_a_truncated_normal():
    layer = SerializedAttention(4, dim=256, tokens=8, heads=2)
    assert layer.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert layer.pos_embed.abs().max() <= 2


def test_a_large_map_costs_what_the_token_grid_costs():
    """The map is pooled before the convolution, which sees `tokens ** 2` cells whatever the map's size."""
    layer, seen = SerializedAttention(3, dim=8, tokens=4, heads=2).eval(), []
    layer.reduce.register_forward_hook(lambda module, args, out: seen.append(tuple(args[0].shape)))
    layer(torch.randn(1, 3, 8, 8))
    layer(torch.randn(1, 3, 33, 32))
    assert seen == [(1, 3, 4, 4)] * 2


def test_compiles_in_one_graph(device):
    torch._dynamo.reset()
    layer, x = build().to(device), torch.randn(2, 5, 7, 5, device=device)
    assert_close(torch.compile(layer, backend="eager", fullgraph=True)(x), layer(x))


def test_exports_with_a_dynamic_batch(device):
    layer, x = build().to(device), torch.randn(5, 5, 7, 5, device=device)
    program = torch.export.export(layer, (x[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for batch in (1, 5):
        assert_close(program.module()(x[:batch]), layer(x[:batch]))


def test_wrong_settings():
    with pytest.raises(ValueError, match="dim must be a multiple of heads, got dim=10, heads=4"):
        SerializedAttention(3, dim=10, heads=4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        SerializedAttention(3, dim=8, tokens=0)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (5, 8, 8), (1, 2, 5, 8, 8)], ids=str)
def test_wrong_map(shape):
    layer = build()
    for call in (layer, layer.forward_tokens):
        with pytest.raises(ValueError, match=r"a feature map \(B, 5, H, W\), got shape \("):
            call(torch.zeros(shape))


def test_relu_stands_between_norm_and_tokens():
    """With only negative features after the norm, the positions are all that attends."""
    layer = build()
    nn.init.constant_(layer.bn.weight, 0.0)
    nn.init.constant_(layer.bn.bias, -1.0)
    sequence = layer.pos_embed
    sequence = sequence + layer.attn(F.layer_norm(sequence, (12,), layer.norm1.weight, layer.norm1.bias))
    sequence = sequence + layer.mlp(F.layer_norm(sequence, (12,), layer.norm2.weight, layer.norm2.bias))
    want = F.layer_norm(sequence, (12,), layer.norm.weight, layer.norm.bias).mean(1)
    assert_close(layer(torch.randn(1, 5, 4, 4)), want)


@pytest.mark.parametrize("size", [(3, 3), (6, 6), (7, 5)], ids=str)
def test_the_pool_is_a_module_like_any_other(size):
    """It has torch's type and values, its hooks are called, and another can stand in its place."""
    layer, x = build().double(), torch.randn(2, 5, *size, dtype=torch.float64)
    want, seen = nn.AdaptiveAvgPool2d(3)(x), []
    assert isinstance(layer.pool, nn.AdaptiveAvgPool2d)
    layer.pool.register_forward_hook(lambda module, args, out: seen.append(out))
    vector = layer(x)
    assert_close(seen.pop(), want)
    layer.pool = nn.AdaptiveAvgPool2d(3)
    assert_close(layer(x), vector)
    layer.pool = nn.AdaptiveMaxPool2d(3)
    assert size == (3, 3) or not torch.allclose(layer(x), vector)
