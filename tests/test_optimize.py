"""Copies for inference give what their models give, and refuse what they are not for."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

import actionzoo
from actionzoo import kernels, optimize_for_inference, pipeline
from actionzoo.layers import TAHNet
from actionzoo.models import CSN
from actionzoo.optimize import _graph
from actionzoo.optimize._packing import PackedConv3d

TINY = actionzoo.list_models("*_tiny")
NORMS = nn.modules.batchnorm._BatchNorm
DETECTORS = ("keypointrcnn_tiny", "person_tiny", "yolof_tiny")


def with_statistics(model):
    """Statistics, scales and shifts that hide no mistake, as 0 and 1 do."""
    for module in model.modules():
        if isinstance(module, NORMS):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.7, 1.3)
            module.bias.data.uniform_(-0.2, 0.2)
    return model.eval()


def floats(output):
    return [x for x in tree_leaves(output) if isinstance(x, torch.Tensor) and x.is_floating_point()]


def error(expected, found):
    assert [x.shape for x in floats(expected)] == [x.shape for x in floats(found)]
    assert [x.dtype for x in floats(expected)] == [x.dtype for x in floats(found)]
    pairs = [(a.detach(), b) for a, b in zip(floats(expected), floats(found)) if a.numel()]
    return max((a - b).norm().item() / max(a.norm().item(), 1e-6) for a, b in pairs)


@pytest.fixture(scope="module")
def built():
    """A tiny model and its example, built once for a file's tests; nobody changes them."""
    made = {}

    def get(name, device="cpu"):
        if (name, device) not in made:
            torch.manual_seed(0)
            model = with_statistics(actionzoo.create(name)).to(device)
            example = tuple(actionzoo.model_info(name).example_inputs(2))
            made[name, device] = model, tree_map(lambda x: x.to(device), example)
        return made[name, device]

    return get


def small_net():
    return with_statistics(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1)))


@pytest.mark.parametrize("with_example", [True, False], ids=["example", "no example"])
@pytest.mark.parametrize("name", [name for name in TINY if name not in DETECTORS])
def test_gives_what_the_model_gives(built, device, name, with_example):
    model, example = built(name, device)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    fast = optimize_for_inference(model, example if with_example else None)
    assert isinstance(fast, type(model))
    assert not any(isinstance(module, NORMS) for module in fast.modules())
    assert fast.pretrained_cfg == model.pretrained_cfg
    with torch.no_grad():
        assert error(model(*example), fast(*example)) < 1e-4
        # other sizes of batch run too
        one = tree_map(lambda x: x[:1], example) if name != "instance_action_tiny" else example
        assert error(model(*one), fast(*one)) < 1e-4
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert any(isinstance(module, NORMS) for module in model.modules())


@pytest.mark.parametrize("name", [name for name in TINY if name not in (*DETECTORS, "bodypart_tiny")])
def test_bfloat16_comes_near_and_back_in_float32(built, device, name):
    model, example = built(name, device)
    fast = optimize_for_inference(model, example, torch.bfloat16)
    with torch.no_grad():
        assert error(model(*example), fast(*example)) < 0.1
    assert any(parameter.dtype == torch.bfloat16 for parameter in fast.parameters())


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_find_what_they_found(name, dtype):
    model = actionzoo.create(name, pretrained=name != "yolof_tiny").eval()
    picture = torch.rand(3, 96, 96)
    fast = optimize_for_inference(model, [picture], dtype)
    with torch.no_grad():
        (expected,), (found,) = model([picture]), fast([picture])
    assert expected.keys() == found.keys()
    assert {key: value.dtype for key, value in expected.items()} == {key: value.dtype for key, value in found.items()}
    if dtype is None:
        torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: CSN(depths=(1, 2), width=8, expansion=2, num_classes=5), (2, 3, 4, 40, 36)),
        (lambda: CSN(depths=(1, 1), width=8, mode="ir", num_classes=5), (1, 3, 3, 33, 32)),
        (lambda: TAHNet(in_chans=9, bottleneck=(16, 8, 8), depth=2, width=16, hidden=16), (2, 9, 4, 14, 14)),
        (lambda: TAHNet(in_chans=9, bottleneck=None, depth=3, width=16, hidden=None), (2, 9, 4, 13, 14)),
    ],
    ids=["ip-CSN", "ir-CSN", "TAHNet", "TAHNet without bottleneck"],
)
def test_networks_of_clips(device, make, shape, dtype):
    model = with_statistics(make()).to(device)
    x = torch.randn(shape, device=device)
    fast = optimize_for_inference(model, x, dtype)
    assert not any(isinstance(module, NORMS) for module in fast.modules())
    weights = [module.weight for module in fast.modules() if isinstance(module, nn.Conv3d)]
    last = [weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in weights]
    # dense convolutions of clips are slower so on a CPU in float32
    assert all(last) is (isinstance(model, CSN) or dtype is not None or device.type == "cuda")
    with torch.inference_mode():
        expected, found = model(x), fast(x)
    assert error(expected, found) < (1e-4 if dtype is None else 0.06)
    assert found.is_contiguous()


class Given(nn.Module):
    """Notes what comes in."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, pictures, boxes, *, joints):
        self.seen = pictures.dtype, boxes.dtype, joints.dtype
        return self.conv(pictures).mean((2, 3)), boxes


def test_boxes_and_joints_keep_their_precision():
    boxes = torch.tensor([[[0.5, 1001.5, 30, 2000]]])
    fast = optimize_for_inference(Given(), None, torch.bfloat16)
    out, same = fast(torch.randn(1, 3, 4, 4), boxes, joints=torch.zeros(1, 16, 3))
    assert fast.seen == (torch.bfloat16, torch.float32, torch.float32)
    assert out.dtype == torch.float32
    assert torch.equal(same, boxes)


class Taps(nn.Module):
    """Uses what its convolution gives in two places."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        kept = []
        for module in self.stem:
            x = module(x)
            kept.append(x)
        return torch.cat(kept, 1)


def test_folding_that_would_change_the_results_is_refused():
    with pytest.raises(RuntimeError, match=r"folding BatchNorm changes what this \w*Taps gives"):
        optimize_for_inference(with_statistics(Taps()), torch.randn(1, 3, 4, 4))


def test_what_two_use_or_somebody_watches_is_not_folded():
    norm = with_statistics(nn.BatchNorm2d(4))
    shared = nn.Sequential(nn.Conv2d(4, 4, 1), norm, nn.Conv2d(4, 4, 1), norm).eval()
    watched = small_net()
    seen = []
    watched[1].register_forward_hook(lambda module, args, output: seen.append(output))
    for model, x in ((shared, torch.randn(1, 4, 3, 3)), (watched, torch.randn(1, 3, 5, 5))):
        fast = optimize_for_inference(model, x)
        assert any(isinstance(module, NORMS) for module in fast.modules())
        assert error(model(x), fast(x)) < 1e-5
    assert len(seen) >= 2


def test_a_model_in_training_stays_so_and_its_copy_is_in_eval_mode():
    model = small_net().train()
    fast = optimize_for_inference(model)
    assert model.training
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in fast.modules())
    x = torch.randn(2, 3, 6, 6)
    assert error(model.eval()(x), fast(x)) < 1e-5
    assert fast.eval() is fast
    with pytest.raises(RuntimeError, match="is for inference: BatchNorm is folded"):
        fast.train()


def test_it_gives_no_gradients_and_is_not_saved():
    fast = optimize_for_inference(small_net())
    assert not fast(torch.randn(1, 3, 4, 4)).requires_grad
    with pytest.raises(RuntimeError, match="gives no gradients"):
        fast(torch.randn(1, 3, 4, 4, requires_grad=True))
    with pytest.raises(RuntimeError, match="save the model that it was made from"):
        optimize_for_inference(actionzoo.create("plain_tiny")).save_pretrained("nowhere")


@pytest.mark.parametrize(
    ("model", "example", "dtype", "kind", "words"),
    [
        ("prfnet_tiny", None, None, TypeError, "expected a model, an nn.Module, got str"),
        (small_net(), None, torch.int8, TypeError, "dtype is a floating-point one"),
        (small_net(), None, "bfloat16", TypeError, "got 'bfloat16'"),
        (small_net(), torch.randn(1, 4, 8, 8), None, ValueError, "does not take the example"),
        (small_net(), (torch.randn(1, 3, 8, 8), 2), None, ValueError, "does not take the example"),
        (optimize_for_inference(small_net()), None, None, ValueError, "is optimized already"),
        (torch.compile(small_net()), None, None, ValueError, "as torch.compile does"),
    ],
)
def test_errors(model, example, dtype, kind, words):
    with pytest.raises(kind, match=words):
        optimize_for_inference(model, example, dtype)


def test_a_range_that_is_left_is_seen():
    model = small_net()
    model[3].weight.data.fill_(6e4)
    with pytest.raises(RuntimeError, match="leaves the range of its new dtype"):
        optimize_for_inference(model, torch.full((1, 3, 8, 8), 100.0), torch.float16)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda fast: pickle.loads(pickle.dumps(fast))], ids=["copy", "pickle"]
)
def test_copies_and_parts_compute_on(again):
    model, x = small_net(), torch.randn(2, 3, 9, 9)
    fast = optimize_for_inference(model, x)
    twin = again(fast)
    assert type(twin) is type(fast)
    assert error(model(x), twin(x)) < 1e-5
    assert error(model(x), fast[:4](x)) < 1e-5


def test_weights_that_change_in_place_are_seen():
    model, x = small_net(), torch.randn(1, 3, 9, 9)
    fast = optimize_for_inference(model, x)
    with torch.no_grad():
        expected = 2 * fast(x)
        fast[3].weight.mul_(2)
        fast[3].bias.mul_(2)
    torch.testing.assert_close(fast(x), expected)


def test_what_a_forward_pass_notes_stays_its_own():
    class Notes(Taps):
        def __init__(self):
            super().__init__()
            self.notes, self.norm = [], nn.BatchNorm2d(4)

        def forward(self, x):
            self.notes.append(x)
            return self.norm(self.stem(x))

    fast = optimize_for_inference(Notes(), torch.randn(1, 3, 4, 4))
    assert all(type(note) is torch.Tensor for note in fast.notes)


@pytest.mark.parametrize("with_example", [True, False], ids=["example", "no example"])
def test_transformers_of_torch_in_half_precision(with_example):
    x = torch.randn(2, 5, 16)
    for model in (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.TransformerDecoderLayer(16, 2, 32)):
        args = (x,) if isinstance(model, nn.TransformerEncoderLayer) else (x, x)
        fast = optimize_for_inference(model, args if with_example else None, torch.bfloat16)
        assert error(model.eval()(*args), fast(*args)) < 0.05


class Replayed:
    """Stands for a CUDA graph."""

    def fits(self, args):
        return args[0].shape[0] == 1

    def __call__(self, *args):
        return "replayed"


@pytest.fixture
def captured():
    fast = optimize_for_inference(actionzoo.create("plain_tiny"))
    fast._optimized_plan.graph = Replayed()
    return fast


def test_a_graph_serves_its_own_shapes(captured):
    picture = torch.randn(1, 3, 96, 96)
    assert captured.captured
    assert captured(picture) == "replayed"
    assert captured(torch.cat([picture, picture])).shape[0] == 2
    assert not copy.deepcopy(captured).captured
    captured.load_state_dict(captured.state_dict())
    assert captured.captured


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.reset_classifier(3),
        lambda model: model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True),
        lambda model: model.double(),
    ],
    ids=["classifier", "assigned", "cast"],
)
def test_a_changed_model_loses_its_graph(captured, change):
    with pytest.warns(UserWarning, match="lost its CUDA graph"):
        change(captured)
    assert not captured.captured


def test_a_graph_on_cuda(device):
    if device.type != "cuda":
        pytest.skip("needs CUDA")
    model = with_statistics(CSN(depths=(1, 1), width=8, num_classes=5)).to(device)
    first, second, wide = (torch.randn(n, 3, 4, 32, 32, device=device) for n in (1, 1, 2))
    fast = optimize_for_inference(model, first)
    assert fast.captured
    outputs = [fast(x) for x in (first, second, wide)]
    for x, found in zip((first, second, wide), outputs):
        assert error(model(x), found) < 1e-4


@pytest.mark.parametrize("name", ["prfnet_tiny", "bodypart_tiny", "convit_har_person_tiny"])
def test_pipelines_of_pictures_take_a_copy_in_half_precision(name):
    picture = torch.randint(0, 256, (3, 96, 120), dtype=torch.uint8)
    model = actionzoo.create(name, pretrained=True)
    settings = {"detector": False} if name.startswith("convit") else {}
    boxes = () if name == "prfnet_tiny" else ([[4.0, 4.0, 80.0, 90.0]],)
    copies = model, optimize_for_inference(model, dtype=torch.bfloat16)
    wanted, found = (pipeline(x, **settings)(picture, *boxes) for x in copies)
    assert found.model == wanted.model
    for one, two in zip(found.people or [found], wanted.people or [wanted], strict=True):
        assert one.label == two.label
        assert one.score == pytest.approx(two.score, abs=0.03)
    found.draw()


def test_pipelines_of_clips_take_a_copy_in_half_precision():
    for name in ("instance_action_tiny", "pcf_tiny"):
        fast = optimize_for_inference(actionzoo.create(name, pretrained=True), dtype=torch.bfloat16)
        # people are found in float32, or the pipeline refuses
        assert pipeline(fast).model is fast
        assert torch.bfloat16 in {parameter.dtype for parameter in fast.parameters()}
    parsed = fast.parse(torch.randint(0, 256, (3, 4, 64, 64), dtype=torch.uint8), 8.0)
    assert float(parsed.scores.sum()) == pytest.approx(1, abs=1e-3)


def test_detectors_keep_their_heads_in_float32():
    fast = optimize_for_inference(actionzoo.create("keypointrcnn_tiny"), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in fast.backbone.parameters()} == {torch.bfloat16}
    heads = (*fast.rpn.parameters(), *fast.roi_heads.parameters())
    assert {parameter.dtype for parameter in heads} == {torch.float32}
    assert {x.dtype for x in fast.backbone(torch.rand(1, 3, 64, 64)).values()} == {torch.float32}


def small_csn():
    return with_statistics(CSN(depths=(1, 2), width=8, expansion=2, num_classes=5))


def test_weights_are_packed_for_the_examples_shapes():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    model, x = small_csn(), torch.randn(1, 3, 4, 16, 16)
    fast = optimize_for_inference(model, x)
    convs = [module for module in fast.modules() if isinstance(module, nn.Conv3d)]
    assert all(isinstance(conv, PackedConv3d) and len(conv.packed) == 1 for conv in convs)
    assert not any(isinstance(module, PackedConv3d) for module in optimize_for_inference(model).modules())
    with torch.no_grad():
        fast.load_state_dict({key: value + 0.01 for key, value in fast.state_dict().items()})
        twin = copy.deepcopy(fast)
        assert not any(getattr(module, "packed", None) for module in twin.modules())
        assert error(twin(x), fast(x)) < 1e-5
        assert error(twin(x), fast.double()(x.double()).float()) < 1e-5


def test_hooks_see_what_they_saw():
    model, x = small_csn(), torch.randn(1, 3, 4, 16, 16)
    fast, seen = optimize_for_inference(model, x), ([], [])
    for net, kept in zip((model, fast), seen):
        for block in net.stages[1]:
            block.register_forward_hook(lambda block, args, output, kept=kept: kept.append(output))
        net(x)
    # a block that writes into what the one before gave would change it
    assert error(*seen) < 1e-5


def test_kernels_are_taken_inside_their_block():
    pytest.importorskip("triton")
    model = with_statistics(CSN(depths=(1,), width=2, expansion=1, num_classes=2))
    x = torch.randn(1, 3, 2, 8, 8)
    fast = optimize_for_inference(model, x)
    with kernels.use_kernels("depthwise_conv3d"):
        inside, again = fast(x), optimize_for_inference(model, x)(x)
    with torch.no_grad():
        assert error([model(x)] * 2, [inside, again]) < 1e-5


def test_inference_mode_does_not_stay_in_the_copy():
    model, x = small_net(), torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        fast = optimize_for_inference(model, x)
        inside = fast(x)
    assert not any(parameter.is_inference() for parameter in fast.parameters())
    torch.testing.assert_close(fast(x), inside)


def test_a_compiler_takes_the_copy():
    model, x = small_net(), torch.randn(1, 3, 8, 8)
    torch._dynamo.reset()
    compiled = torch.compile(optimize_for_inference(model, x), backend="eager", fullgraph=True)
    assert error(model(x), compiled(x)) < 1e-5


def test_a_model_that_cannot_run_channels_last_is_refused():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(x).view(len(x), -1)

    with pytest.raises(RuntimeError, match=r"cannot run the example channels last, as it could before .*view"):
        optimize_for_inference(Views(), torch.rand(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("recorded", "given", "fits"),
    [
        ((torch.zeros(2), 3), (torch.ones(2), 3), True),
        ((torch.zeros(2), 3), (torch.ones(2), 4), False),
        ((torch.zeros(2), None), (torch.ones(2), torch.ones(2)), False),
        (([torch.zeros(2)],), ([torch.zeros(2), torch.zeros(2)],), False),
        (({"a": torch.zeros(2)},), ({"b": torch.zeros(2)},), False),
        ((torch.zeros(2),), (torch.zeros(2, dtype=torch.int32),), False),
        ((1,), (True,), False),
    ],
)
def test_what_fits_a_recorded_pass(recorded, given, fits):
    graph = object.__new__(_graph.CapturedForward)
    graph.args = recorded
    assert graph.fits(given) is fits


def test_what_waits_for_the_gpu_is_not_captured(device):
    if device.type != "cuda":
        pytest.skip("needs CUDA")

    class Waits(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(x) * float(x.sum().item() > 0)

    with pytest.warns(UserWarning, match="runs without a CUDA graph"):
        fast = optimize_for_inference(Waits().to(device), torch.rand(1, 3, 4, 4, device=device))
    assert not fast.captured
    assert fast(torch.rand(2, 3, 4, 4, device=device)).shape == (2, 4, 4, 4)


def test_kernels_are_captured_on_cuda(device):
    if device.type != "cuda":
        pytest.skip("needs CUDA")
    pytest.importorskip("triton")
    model, x = small_csn().to(device), torch.randn(1, 3, 4, 16, 16, device=device)
    with kernels.use_kernels():
        fast = optimize_for_inference(model, x)
    assert fast.captured
    with torch.no_grad():
        assert error(model(x), fast(x)) < 1e-3
