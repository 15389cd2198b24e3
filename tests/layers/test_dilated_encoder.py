import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from actionzoo.layers import DilatedEncoder
from tests.reference import dilated_encoder as reference

NET = {"in_channels": 5, "out_channels": 4, "mid_channels": 3, "dilations": (1, 2, 4)}
SIZES = [(7, 5), (1, 3), (6, 6)]


def build(**args):
    """An encoder whose every number matters: no zeros, and BatchNorm that has seen something."""
    torch.manual_seed(0)
    encoder = DilatedEncoder(**{**NET, **args})
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.4)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.2)
    return encoder.eval()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_equals_the_reference_in_values_and_gradients(size, training, device):
    encoder = build().double().train(training)
    plain = {
        key: value.clone().requires_grad_(value.is_floating_point()) for key, value in encoder.state_dict().items()
    }
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    ours, theirs = x.clone().to(device).requires_grad_(), x.requires_grad_()
    want = reference.dilated_encoder(theirs, plain, NET["dilations"], training)
    upstream = torch.randn_like(want)
    want.backward(upstream)
    encoder.to(device)
    found = encoder(ours)
    found.backward(upstream.to(device))
    assert_close(found.detach().cpu(), want.detach())
    assert_close(ours.grad.cpu(), theirs.grad)
    assert_close(
        {k: p.grad.cpu() for k, p in encoder.named_parameters()},
        {k: plain[k].grad for k, _ in encoder.named_parameters()},
    )


def test_half_precision_is_near(device):
    encoder, x = build(), torch.randn(2, 5, 7, 5)
    want = reference.dilated_encoder(x, encoder.state_dict(), NET["dilations"])
    found = encoder.to(device, torch.bfloat16)(x.to(device, torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert (found.float().cpu() - want).abs().max() < 0.03 * want.abs().max()


@pytest.mark.parametrize("dilation", [1, 2, 6, 8])
def test_a_block_sees_as_far_as_its_dilation(dilation):
    encoder = build(dilations=(dilation,))
    x = torch.randn(1, 4, 21, 21, requires_grad=True)
    encoder.blocks(x)[0, :, 10, 10].sum().backward()
    rows, columns = (x.grad[0].abs().sum(0) > 0).nonzero().T
    assert set(rows.tolist()) == set(columns.tolist()) == {10 - dilation, 10, 10 + dilation}


def test_parameters_of_the_papers_encoder():
    """1x1 and 3x3 with bias and norm, and four blocks without bias: mmdetection's neck."""
    with torch.device("meta"):
        encoder = DilatedEncoder()
    block = 512 * 128 + 128 * 128 * 9 + 128 * 512 + 2 * (128 + 128 + 512)
    assert sum(p.numel() for p in encoder.parameters()) == 2048 * 512 + 512 * 512 * 9 + 6 * 512 + 4 * block
    assert encoder.dilations == (2, 4, 6, 8)
    assert encoder.out_channels == 512


def test_blocks_start_small_and_biases_at_zero():
    encoder = DilatedEncoder(64, 64, 32)
    weights = torch.cat([p.flatten() for p in encoder.blocks.parameters() if p.ndim == 4])
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)
    assert not any(p.any() for key, p in encoder.named_parameters() if key.endswith("bias"))
    bound = (3 / 64) ** 0.5
    assert 0.95 * bound < encoder.lateral[0].weight.abs().max() <= bound


def test_no_blocks_is_the_projection_alone():
    encoder, x = build(dilations=()), torch.randn(1, 5, 4, 3)
    assert_close(encoder(x), reference.dilated_encoder(x, encoder.state_dict(), ()))


def test_empty_batch(device):
    assert build().to(device)(torch.zeros(0, 5, 4, 3, device=device)).shape == (0, 4, 4, 3)


def test_maps_of_a_batch_do_not_influence_one_another_in_eval():
    encoder, x = build().double(), torch.randn(3, 5, 7, 5, dtype=torch.float64)
    assert_close(encoder(x)[2:], encoder(x[2:]))


def test_the_map_given_is_not_changed():
    encoder, x = build(), torch.randn(1, 5, 4, 3)
    before = x.clone()
    encoder(x)
    encoder.train()(torch.cat([x, x]))
    assert torch.equal(x, before)


def test_compiles_in_one_graph_for_any_size(device):
    torch._dynamo.reset()
    encoder = build(dilations=(2,)).to(device)
    compiled = torch.compile(encoder, backend="eager", fullgraph=True, dynamic=True)
    for size in ((7, 5), (9, 12)):
        x = torch.randn(2, 5, *size, device=device)
        assert_close(compiled(x), encoder(x))


def test_a_copy_is_its_own():
    encoder = build()
    other = copy.deepcopy(encoder)
    nn.init.zeros_(encoder.lateral[0].weight)
    assert other.lateral[0].weight.all()


@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 4, 4, 3), (1, 5, 0, 3), (1, 5, 2, 4, 3)], ids=str)
def test_wrong_input(shape):
    with pytest.raises(ValueError, match=r"DilatedEncoder expects a map \(B, 5, H, W\), got shape"):
        build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"in_channels": 0}, "in_channels=0"),
        ({"out_channels": 0}, "out_channels=0"),
        ({"mid_channels": 0}, "mid_channels=0"),
        ({"dilations": (2, 0)}, r"dilations=\(2, 0\)"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_wrong_settings(args, message):
    with pytest.raises(ValueError, match=message):
        DilatedEncoder(**{**NET, **args})
