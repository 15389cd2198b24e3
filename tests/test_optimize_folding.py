"""Which BatchNorm layers `optimize_for_inference` folds, and which it leaves because nothing proves them."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from actionzoo import optimize_for_inference
from actionzoo.layers import AttentionImageStream, SerializedAttention, TAHNet
from actionzoo.optimize._folding import fold_norms

NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)


def random_norms(model):
    """In eval mode, with statistics, scales and shifts that a mistake would show in."""
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, NORMS) and norm.running_mean is not None:
                norm.running_mean.uniform_(-0.3, 0.3)
                norm.running_var.uniform_(0.5, 2.0)
                if norm.weight is not None:
                    norm.weight.uniform_(0.5, 1.5)
                    norm.bias.uniform_(-0.3, 0.3)
    return model.eval()


def count(model):
    return sum(isinstance(module, NORMS) for module in model.modules())


@torch.no_grad()
def error(model, made, *inputs):
    """Largest relative error of the outputs."""
    pairs = [[out] if isinstance(out, torch.Tensor) else out for out in (model(*inputs), made(*inputs))]
    return max(float((y - x).norm() / x.norm()) for x, y in zip(*pairs, strict=True))


class Pair(nn.Module):
    """A convolution, a BatchNorm, and what is done with them."""

    def __init__(self, run=None, conv=None, norm=None):
        super().__init__()
        self.conv, self.norm = conv or nn.Conv2d(3, 4, 3, bias=False), norm or nn.BatchNorm2d(4)
        self.run = run

    def forward(self, x):
        return self.norm(self.conv(x)) if self.run is None else self.run(self, x)


def nested():
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))


FOLDED = {
    "pair": Pair,
    "bias": lambda: Pair(conv=nn.Conv2d(3, 4, 3, padding=1)),
    "groups": lambda: Pair(conv=nn.Conv2d(3, 6, 3, groups=3), norm=nn.BatchNorm2d(6, eps=1e-2)),
    "without-affine": lambda: Pair(norm=nn.BatchNorm2d(4, affine=False)),
    "frozen": lambda: Pair(norm=FrozenBatchNorm2d(4)),
    "sequences": nested,
    "subclass": lambda: nn.Sequential(type("Named", (nn.Conv2d,), {})(3, 4, 3), nn.BatchNorm2d(4)),
    "torchvision": lambda: torchvision.ops.Conv2dNormActivation(3, 4, 3),
    "timm": lambda: timm.layers.ConvNormAct(3, 4, 3),
}


@pytest.mark.parametrize("make", FOLDED.values(), ids=FOLDED)
def test_what_is_proved_is_folded(make):
    model, x = random_norms(make()), torch.randn(2, 3, 7, 6)
    made = optimize_for_inference(model, x)
    assert count(model) == 1
    assert count(made) == 0
    assert error(model, made, x) < 1e-5


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU()), (3, 5)),
        ((nn.Conv1d(5, 4, 3), nn.BatchNorm1d(4)), (2, 5, 7)),
        ((nn.Conv3d(5, 4, 2), nn.BatchNorm3d(4)), (2, 5, 3, 3, 3)),
    ],
    ids=["linear", "conv1d", "conv3d"],
)
def test_other_dimensions_are_folded(layers, shape):
    model, x = random_norms(nn.Sequential(*layers)), torch.randn(shape)
    made = optimize_for_inference(model, x)
    assert count(made) == 0
    assert error(model, made, x) < 1e-5


def test_rows_alone_may_follow_a_folded_linear_layer():
    # 4 rows of 4 channels: BatchNorm goes by the rows, the linear layer by the channels
    model, x = random_norms(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))), torch.randn(2, 4, 5)
    with pytest.raises(RuntimeError, match=r"got shape \(2, 4, 4\) instead of \(N, C\)"):
        optimize_for_inference(model)(x)
    with pytest.raises(RuntimeError, match="cannot run the example"):
        optimize_for_inference(model, x)


def also_elsewhere(pair, x):
    y = pair.conv(x)
    return pair.norm(y) + y


def norm_twice(pair, x):
    return pair.norm(pair.conv(x)) + pair.norm(x.repeat(1, 2, 1, 1)[:, :4, 1:-1, 1:-1])


def by_values(pair, x):
    return pair.norm(pair.conv(x)) if x.sum() > 1e6 else pair.norm(pair.conv(x).abs())


def shared():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    return nn.Sequential(nn.Conv2d(3, 4, 1), conv, nn.BatchNorm2d(4), conv)


def watched():
    model = Pair()
    model.conv.register_forward_hook(lambda module, args, output: output.abs())
    return model


class Switched(Pair):
    def forward(self, x, normalise=None):
        y = self.conv(x)
        # a traced argument is not None
        return y if normalise is None else self.norm(y)


class Doubling(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Shifted(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 1


UNFOLDED = {
    "used-elsewhere": lambda: Pair(also_elsewhere),
    "norm-used-twice": lambda: Pair(norm_twice),
    "norm-first": lambda: Pair(lambda pair, x: pair.conv(pair.norm(x)), norm=nn.BatchNorm2d(3)),
    "relu-between": lambda: Pair(lambda pair, x: pair.norm(pair.conv(x).relu())),
    "goes-by-values": lambda: Pair(by_values),
    "shared": shared,
    "watched": watched,
    "weight-norm": lambda: Pair(conv=nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))),
    "without-statistics": lambda: Pair(norm=nn.BatchNorm2d(4, track_running_stats=False)),
    "other-arguments": Switched,
    "other-convolution": lambda: nn.Sequential(Doubling(3, 4, 3), nn.BatchNorm2d(4)),
    "other-norm": lambda: Pair(norm=Shifted(4)),
    "transposed": lambda: Pair(conv=nn.ConvTranspose2d(3, 4, 3)),
}


@pytest.mark.parametrize("make", UNFOLDED.values(), ids=UNFOLDED)
def test_what_is_not_proved_stays(make):
    model, x = random_norms(make()), torch.randn(2, 3, 7, 6)
    made = optimize_for_inference(model, x)
    assert count(made) == count(model) == 1
    assert error(model, made, x) < 1e-5


def test_other_normalisations_stay():
    model, x = (
        TAHNet(in_chans=6, bottleneck=(8,), depth=2, width=8, hidden=8, norm="gn").eval(),
        torch.randn(1, 6, 3, 7, 7),
    )
    made = optimize_for_inference(model, x)
    assert sum(isinstance(module, nn.GroupNorm) for module in made.modules()) == 3
    assert error(model, made, x) < 1e-5


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_models_of_torchvision_are_folded_whole(name):
    model, x = random_norms(getattr(torchvision.models, name)(weights=None)), torch.randn(2, 3, 32, 32)
    made = copy.deepcopy(model)
    fold_norms(made)
    assert count(model) > 0
    assert count(made) == 0
    assert error(model, made, x) < 1e-4


def maps():
    return [torch.rand(1, 4 + i, 8 >> i, 8 >> i) for i in range(4)]


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (lambda: SerializedAttention(6, 8, 2, 2), lambda: (torch.randn(2, 6, 5, 5),)),
        (
            lambda: AttentionImageStream(3, (4, 5, 6, 7)),
            lambda: (torch.rand(1, 3, 32, 32), torch.rand(1, 3, 8, 8), maps()),
        ),
    ],
    ids=["serialized_attention", "attention_image"],
)
def test_layers_that_check_their_inputs_are_folded(make, inputs):
    model, args = random_norms(make()), inputs()
    made = optimize_for_inference(model, args)
    assert count(made) == 0
    assert error(model, made, *args) < 1e-4
