from collections import OrderedDict
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.ops import FeaturePyramidNetwork

from actionzoo.layers import PathAggregation
from tests.reference import path_aggregation as reference

# sizes of the maps, and strides
CASES = {
    "exact": ([(8, 12), (4, 6), (2, 3)], None),
    "odd": ([(13, 15), (7, 8), (4, 4)], None),
    "equal-neighbours": ([(5, 7), (3, 4), (3, 4)], [8, 16, 16]),
    "equal-first": ([(4, 3), (4, 3), (2, 2)], [16, 16, 32]),
    "down-to-one-pixel": ([(3, 2), (2, 1), (1, 1)], [4, 8, 16]),
    "one-map": ([(3, 5)], None),
}


def build(count=3, out_channels=4, strides=None):
    """A neck with biases that are not zero."""
    neck = PathAggregation([3, 5, 2][:count], out_channels, strides)
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return neck


def draw(sizes, batch=2, dtype=torch.float32, device="cpu"):
    maps = [torch.randn(batch, channels, *size) for channels, size in zip([3, 5, 2], sizes)]
    return {name: x.to(device, dtype) for name, x in zip("zay", maps)}


def check(neck, features, strides, device, tolerance):
    """Maps, and gradients of every input and parameter, against the reference from one state."""
    dtype = next(neck.parameters()).dtype
    features = {name: x.to(device, dtype) for name, x in features.items()}
    wide = torch.promote_types(dtype, torch.float32)
    state = {k: p.detach().cpu().to(wide, copy=True).requires_grad_() for k, p in neck.named_parameters()}
    plain = [x.cpu().to(wide, copy=True).requires_grad_() for x in features.values()]
    strides = strides or [2**i for i in range(len(features))]
    want = reference.path_aggregation(plain, state, [b // a for a, b in pairwise(strides)])
    upstream = [torch.rand_like(x).to(dtype) for x in want]
    torch.autograd.backward(want, [grad.to(wide) for grad in upstream])

    neck, leaves = neck.to(device), {name: x.clone().requires_grad_() for name, x in features.items()}
    found = neck(leaves)
    assert isinstance(found, OrderedDict)
    assert list(found) == list(features)
    torch.autograd.backward(list(found.values()), [grad.to(device) for grad in upstream])

    values = [*found.values(), *(x.grad for x in leaves.values()), *(p.grad for p in neck.parameters())]
    expected = [*want, *(x.grad for x in plain), *(state[name].grad for name, _ in neck.named_parameters())]
    for value, right in zip(values, expected, strict=True):
        assert value.dtype == dtype
        scale = max(1.0, right.abs().max().item())
        assert_close(value.detach().cpu().to(wide), right.detach(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)], ids=["float64", "float32"]
)
@pytest.mark.parametrize(("sizes", "strides"), CASES.values(), ids=CASES)
def test_equals_the_reference(sizes, strides, dtype, tolerance, device):
    check(build(len(sizes), strides=strides).to(dtype), draw(sizes), strides, device, tolerance)


@pytest.mark.parametrize(("sizes", "strides"), CASES.values(), ids=CASES)
def test_bfloat16_is_close_to_the_reference(sizes, strides, device):
    """All above 0: a sum near 0 that is rounded to the other side of a ReLU changes a gradient by all it has."""
    neck = build(len(sizes), strides=strides)
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.abs_()
    features = {name: x.abs() for name, x in draw(sizes).items()}
    check(neck.to(torch.bfloat16), features, strides, device, 2e-2)


def test_the_first_map_is_that_of_the_pyramid():
    neck, features = build(), draw(CASES["odd"][0])
    pyramid = FeaturePyramidNetwork([3, 5, 2], 4)
    pyramid.load_state_dict(neck.top_down.state_dict())
    assert torch.equal(neck(features)["z"], pyramid(features)["z"])
    assert neck(features)["z"].min() < 0
    assert min(neck(features)[name].min() for name in "ay") == 0


def test_the_finest_map_reaches_the_coarsest_and_the_other_way():
    neck, features = build(out_channels=6).double(), draw(CASES["exact"][0], dtype=torch.float64)
    for x in features.values():
        x.requires_grad_()
    out = neck(features)
    for seen in out.values():
        assert all(grad.any() for grad in torch.autograd.grad(seen.sum(), list(features.values()), retain_graph=True))


def test_parameters_of_the_resnet50_neck():
    """Laterals 3840 * 256 + 4 * 256, and 4 + 6 convolutions of 256 * 256 * 9 + 256."""
    neck = PathAggregation([256, 512, 1024, 2048])
    assert neck.out_channels == 256
    assert sum(p.numel() for p in neck.parameters()) == 984_064 + 10 * 590_080


def test_the_path_neither_grows_nor_dies_at_the_start():
    neck = PathAggregation([16] * 4, 32)
    out = neck({str(i): torch.randn(2, 16, 32 >> i, 32 >> i) for i in range(4)})
    pyramid = neck.top_down({str(i): torch.randn(2, 16, 32 >> i, 32 >> i) for i in range(4)})
    for name in "123":
        assert 0.1 < out[name].square().mean() / pyramid[name].square().mean() < 2
    assert all((p == 0).all() for name, p in neck.named_parameters() if name.endswith("bias"))


def test_empty_batch(device):
    neck, features = build().to(device), draw(CASES["odd"][0], batch=0, device=device)
    out = neck(features)
    assert [tuple(x.shape) for x in out.values()] == [(0, 4, *size) for size in CASES["odd"][0]]


def test_images_of_a_batch_do_not_influence_one_another():
    neck, features = build().double(), draw(CASES["odd"][0], batch=3, dtype=torch.float64)
    whole, alone = neck(features), neck({name: x[2:] for name, x in features.items()})
    for name in whole:
        assert_close(whole[name][2:], alone[name])


def test_compiles_in_one_graph_for_any_size(device):
    torch._dynamo.reset()
    neck = build().to(device)
    compiled = torch.compile(neck, backend="eager", fullgraph=True, dynamic=True)
    for name in ("exact", "odd"):
        features = draw(CASES[name][0], device=device)
        found = compiled(features)
        for key, want in neck(features).items():
            assert_close(found[key], want)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [3, 3, 5, 2]
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.neck = build()

    def forward(self, x):
        features = {}
        for i, stage in enumerate(self.stages):
            features[str(i)] = x = stage(x)
        return self.neck(features)


def test_exports_behind_a_backbone_for_any_image_size():
    net = Net()
    sides = {2: torch.export.Dim("height", min=16, max=512), 3: torch.export.Dim("width", min=16, max=512)}
    program = torch.export.export(net, (torch.randn(1, 3, 33, 40),), dynamic_shapes=(sides,))
    images = torch.randn(1, 3, 50, 61)
    found = program.module()(images)
    for name, want in net(images).items():
        assert_close(found[name], want)


GOOD = draw(CASES["odd"][0])


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (list(GOOD.values()), TypeError, "dict of maps by name, the finest first, got list"),
        ({"z": GOOD["z"]}, ValueError, r"expected 3 maps, one per in_channels, got \['z'\]"),
        ({}, ValueError, r"expected 3 maps.*got \[\]"),
        ({**GOOD, "pool": GOOD["y"]}, ValueError, r"expected 3 maps.*'pool'"),
        ({**GOOD, "a": torch.zeros(2, 4, 7, 8)}, ValueError, r"map 'a' as \(B, 5, H, W\), got shape \(2, 4, 7, 8\)"),
        ({**GOOD, "a": torch.zeros(5, 7, 8)}, ValueError, r"map 'a' as \(B, 5, H, W\), got shape \(5, 7, 8\)"),
        ({**GOOD, "y": torch.zeros(2, 2, 0, 4)}, ValueError, r"map 'y' as \(B, 2, H, W\)"),
        ({**GOOD, "a": torch.zeros(2, 5, 6, 7)}, ValueError, r"= \(2, 7, 8\) for map 'a'.*'z', got \(2, 6, 7\)"),
        ({**GOOD, "y": torch.zeros(2, 2, 1, 1)}, ValueError, r"= \(2, 4, 4\) for map 'y'.*'a', got \(2, 1, 1\)"),
        ({**GOOD, "y": torch.zeros(2, 2, 7, 8)}, ValueError, r"got \(2, 7, 8\).*say in strides"),
        ({**GOOD, "y": torch.zeros(1, 2, 4, 4)}, ValueError, r"= \(2, 4, 4\) for map 'y'.*got \(1, 4, 4\)"),
    ],
    ids=[
        "list",
        "few",
        "none",
        "many",
        "channels",
        "rank",
        "no-pixels",
        "floored",
        "would-broadcast",
        "equal",
        "batch",
    ],
)
def test_wrong_features(features, error, message):
    with pytest.raises(error, match=message):
        build()(features)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "one or more maps"),
        (([3, 0],), r"in_channels=\(3, 0\)"),
        (([3], 0), "out_channels=0"),
        (([3, 5], 4, [8]), "one stride per map, got 1 for 2 maps"),
        (([3, 5], 4, [4, 16]), r"once or twice the one before, got \[4, 16\]"),
        (([3, 5], 4, [16, 8]), r"got \[16, 8\]"),
        (([3, 5], 4, [0, 0]), r"got \[0, 0\]"),
    ],
    ids=["no-map", "no-channel", "no-output", "few-strides", "four-times", "coarsest-first", "zero"],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        PathAggregation(*arguments)
