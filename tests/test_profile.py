import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from actionzoo.profile import count_macs, count_parameters, profile_table

torch.set_num_threads(1)
META = torch.device("meta")


def meta(build, *shape):
    with META:
        return build(), torch.zeros(shape)


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (lambda: nn.Conv1d(3, 8, 5, padding=2), (2, 3, 10), 2 * 10 * 8 * 3 * 5),
        (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 9, 7), 2 * 5 * 4 * 6 * 4 * 9),
        (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), (1, 8, 6, 6), 36 * 8 * 9),
        (lambda: nn.Conv2d(8, 12, (1, 3), groups=4, bias=False), (1, 8, 6, 6), 6 * 4 * 12 * 2 * 3),
        (lambda: nn.Conv3d(2, 4, (3, 1, 1), dilation=(2, 1, 1)), (1, 2, 8, 3, 3), 4 * 9 * 4 * 2 * 3),
        # Every input value meets every kernel element of its group once.
        (lambda: nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1), (1, 4, 5, 5), 25 * 4 * 6 * 16),
        (lambda: nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2), (1, 4, 5, 5), 25 * 4 * 3 * 16),
    ],
    ids=["1d", "2d-stride", "depthwise", "groups", "3d-dilated", "transposed", "transposed-groups"],
)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_convolutions(layer, shape, macs, device):
    with torch.device(device):
        model, x = layer(), torch.zeros(shape)
    assert count_macs(model, x) == count_macs(model, x, ops="all") == macs


class Product(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (torch.matmul, [(5, 7), (7, 3)], 5 * 7 * 3),
        (torch.matmul, [(2, 4, 5, 7), (2, 4, 7, 3)], 8 * 5 * 7 * 3),
        (torch.bmm, [(4, 5, 7), (4, 7, 3)], 4 * 5 * 7 * 3),
        (torch.baddbmm, [(4, 5, 3), (4, 5, 7), (4, 7, 3)], 4 * 5 * 7 * 3),
        (lambda a, b: torch.einsum("bnd,bmd->bnm", a, b), [(2, 5, 7), (2, 6, 7)], 2 * 5 * 6 * 7),
        (torch.mv, [(5, 7), (7,)], 35),
        (torch.dot, [(7,), (7,)], 7),
        (F.linear, [(7,), (5, 7), (5,)], 35),
        (F.linear, [(2, 3, 7), (5, 7), (5,)], 6 * 35),
        (F.scaled_dot_product_attention, [(2, 4, 6, 8), (2, 4, 9, 8), (2, 4, 9, 8)], 2 * 2 * 4 * 6 * 9 * 8),
    ],
    ids=["mm", "matmul-4d", "bmm", "baddbmm", "einsum", "mv", "dot", "linear-1d", "linear-3d", "sdpa"],
)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_products_count_as_all_but_not_as_conv(function, shapes, macs, device):
    inputs = [torch.zeros(shape, device=device) for shape in shapes]
    assert count_macs(Product(function), *inputs, ops="all") == macs
    assert count_macs(Product(function), *inputs) == 0


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_attention_counts_the_same_on_every_path(device, training):
    b, n, d, hidden = 2, 10, 32, 48
    attention = b * (4 * n * d * d + 2 * n * n * d)
    with torch.device(device):
        mha = nn.MultiheadAttention(d, 4, batch_first=True).train(training)
        layer = nn.TransformerEncoderLayer(d, 4, hidden, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 3).train(training)
        x = torch.zeros(b, n, d)
    assert count_macs(mha, x, x, x, ops="all") == attention
    expected = 3 * (attention + b * 2 * n * d * hidden)
    assert count_macs(encoder, x, ops="all") == expected
    if device == "cpu":
        padding = torch.zeros(b, n, dtype=torch.bool)
        padding[0, 4:] = True
        assert count_macs(encoder, x, None, padding, ops="all") == expected


def test_resnet50_equals_the_formula():
    model, x = meta(lambda: timm.create_model("resnet50"), 1, 3, 224, 224)
    macs, channels = 112 * 112 * 64 * 3 * 49, 64
    for stage, (width, depth) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        cells = (56 >> stage) ** 2
        for block in range(depth):
            before = cells * 4 if stage and not block else cells  # the 3x3 convolution carries the stride
            macs += before * channels * width + cells * (9 * width * width + width * 4 * width)
            macs += cells * channels * 4 * width if not block else 0
            channels = 4 * width
    assert macs == pytest.approx(4.09e9, rel=1e-3)
    assert count_macs(model, x) == macs
    assert count_macs(model, x, ops="all") == macs + 2048 * 1000
    assert count_parameters(model) == 25_557_032


def test_vit_tiny_counts_timms_attention():
    model, x = meta(lambda: timm.create_model("vit_tiny_patch16_224"), 1, 3, 224, 224)
    n, d = 197, 192
    expected = 196 * 768 * d + 12 * (12 * n * d * d + 2 * n * n * d) + 1000 * d
    assert count_macs(model, x, ops="all") == expected
    assert expected == pytest.approx(1.26e9, rel=0.01)  # the figure usually printed for DeiT-tiny
    assert count_macs(model, x) == 196 * 768 * d


def test_modes_buffers_and_hooks_are_left_as_they_were():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
    model.train()
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, torch.ones(1, 3, 3, 3))
    assert [m.training for m in model.modules()] == [True, True, True, False, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    hooks = nn.modules.module
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.is_grad_enabled()


def test_modes_come_back_after_a_failure():
    model = nn.Conv2d(3, 4, 3)
    with pytest.raises(RuntimeError):
        count_macs(model, torch.ones(1, 2, 3, 3))
    assert model.training
    with pytest.raises(RuntimeError):
        profile_table(nn.Sequential(model), torch.ones(1, 2, 3, 3))
    assert not model._forward_hooks


def test_unknown_ops_are_refused():
    with pytest.raises(ValueError, match="linear"):
        count_macs(nn.Identity(), torch.ones(1), ops="linear")


def test_shared_and_frozen_parameters():
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    assert count_parameters(nn.Sequential(first, second)) == 16
    last = nn.Linear(4, 2).requires_grad_(False)
    assert count_parameters(nn.Sequential(first, last), trainable_only=True) == 16


def test_a_model_without_work_costs_nothing():
    assert count_macs(nn.Identity(), torch.ones(1), ops="all") == 0


class Mixed(nn.Module):
    """Enters `blocks` past its own forward and multiplies by a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 8, 1), nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())])
        self.act = nn.ReLU()
        self.head = nn.Linear(8, 5)
        self.scale = nn.Parameter(torch.ones(8, 8))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.act(x).mean((2, 3)) @ self.scale)


def test_table_adds_up():
    model, x = meta(Mixed, 500, 3, 100, 100)
    table = profile_table(model, x)
    rows = {line.split()[0]: [float(v) for v in line.split()[1:]] for line in table.splitlines()[1:]}
    assert list(rows) == ["blocks", "head", "(itself)", "Mixed"]
    assert rows["blocks"] == [0.0, 0.44, 0.44]  # 500 x 100 x 100 x (3 x 8 + 8 x 8)
    assert rows["Mixed"] == [0.0, 0.44, 0.4401]
    assert len({len(line) for line in table.splitlines()}) == 1
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
