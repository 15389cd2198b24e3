import copy
import itertools

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from huggingface_hub import constants
from torch.utils import _pytree as pytree

import actionzoo
from actionzoo.layers import encode_heatmaps, part_boxes
from actionzoo.losses import MultitaskAwareLoss
from actionzoo.models import BodyPartNet, BodyPartOutput
from actionzoo.models.pose_hrnet import hrnet_config

from .test_prfnet_weights import lay_cache

SUBSETS = [streams for n in (1, 2, 3) for streams in itertools.combinations(("part", "image", "attention"), n)]
WIDTHS = {"image": 16, "attention": 24, "part": 3 * 24}


def build(**args):
    torch.manual_seed(0)
    settings = {
        "backbone": hrnet_config((8, 8, 16, 16), stem_width=8, stage1_width=4),
        "trunk_args": {"channels": (8, 8, 16, 24), "stem_width": 8},
        "num_classes": 5,
        "part_size": 64,
        "input_size": (3, 128, 128),
    }
    return BodyPartNet(**{**settings, **args}).eval()


def plant(model, heatmaps):
    """Make the pose convolution answer with these heat maps, whatever it sees."""
    model.pose.register_forward_hook(lambda module, args, output: output * 0 + heatmaps.to(output))


def total(output):
    return sum(x.float().square().sum() for x in (output.logits, output.heatmaps, *output.stream_logits.values()))


def assert_finite(model, output):
    for x in (output.logits, *output.stream_logits.values(), output.crops, output.attention):
        assert torch.isfinite(x).all()
    for name, p in model.named_parameters():
        assert p.grad is None or torch.isfinite(p.grad).all(), name


@pytest.mark.parametrize(("classes", "parameters"), [(40, 56_549_798), (26, 56_485_230)])
def test_parameters_of_the_papers_network(classes, parameters):
    with torch.device("meta"):
        model = actionzoo.create("bodypart", num_classes=classes)

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(model.backbone) == 29_305_536
    assert count(model.pose) == 4_624
    assert count(model.attention.trunk) == count(model.part_backbone) == 11_176_512
    assert count(model.attention.attention) == 54
    assert count(model.attention.transitions) == 4_702_080
    assert count(model.head) + count(model.stream_heads) == (2 * 2304 + 2) * classes + 2 * classes
    assert model.num_features == 256 + 512 + 3 * 512
    assert count(model) == parameters


def test_the_networks_input_is_the_two_by_two_mean_of_the_base():
    model = build()
    image = torch.randn(2, 3, 64, 64)
    base = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    base = base + torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(64, 64)  # its own mean is zero
    maps = model.backbone(image)
    out = model(base)
    torch.testing.assert_close(out.heatmaps, model.pose(maps[0]), rtol=1e-4, atol=1e-5)
    expected = model.stream_heads["image"](maps[3].flatten(2).mean(2))
    torch.testing.assert_close(out.stream_logits["image"], expected, rtol=1e-4, atol=1e-4)


def test_streams_and_heads_are_put_together_as_in_figure_1():
    model = build()
    base = torch.randn(2, 3, 128, 192)
    image = F.interpolate(base, scale_factor=0.5, mode="area")
    out = model(base)
    maps = model.backbone(image)
    attended, attention = model.attention(image, out.heatmaps, maps)
    parts = [model.part_backbone(out.crops[:, i]) for i in range(3)]
    features = {"image": maps[3].mean((2, 3)), "attention": attended, "part": torch.cat(parts, 1)}
    torch.testing.assert_close(out.attention, attention)
    torch.testing.assert_close(out.logits, model.head(torch.cat(list(features.values()), 1)))
    for name, x in features.items():
        torch.testing.assert_close(out.stream_logits[name], model.stream_heads[name](x))
    assert out.heatmaps.shape == (2, 16, 16, 24)
    assert out.crops.shape == (2, 3, 3, 64, 64)


def test_parts_are_cut_at_the_joints_in_pixels_of_the_base():
    model = build()
    cells = torch.randint(2, 14, (2, 16, 2)).float()
    cells[0, 10, 0] = -30  # the right wrist's Gaussian misses the map
    plant(model, encode_heatmaps(cells, 16)[0])
    base = torch.randn(2, 3, 128, 128)
    out = model(base)
    joints = torch.cat([cells * 8, torch.ones(2, 16, 1)], 2)
    joints[0, 10] = 0
    boxes, valid = part_boxes(joints, (128, 128))
    assert torch.equal(out.boxes, boxes)
    assert out.valid.all()
    assert torch.equal(out.valid, valid)
    head, elbow = out.boxes[1, 0], out.boxes[0, 1]
    assert torch.equal((head[:2] + head[2:]) / 2, cells[1, 9] * 8)
    assert torch.equal((elbow[:2] + elbow[2:]) / 2, cells[0, 11] * 8)
    x1, y1, x2, y2 = head.tolist()
    padded = F.pad(base[1:], (128,) * 4)[..., y1 + 128 : y2 + 128, x1 + 128 : x2 + 128]
    torch.testing.assert_close(out.crops[1:, 0], F.interpolate(padded, (64, 64), mode="bilinear"))


def test_quarter_shift_moves_joints_by_two_pixels():
    heatmaps = torch.zeros(1, 16, 16, 16)
    heatmaps[:, :, 8, 6], heatmaps[:, :, 8, 7], heatmaps[:, :, 9, 6] = 1.0, 0.5, 0.5
    boxes = []
    for quarter_shift in (False, True):
        model = build(quarter_shift=quarter_shift)
        plant(model, heatmaps)
        boxes.append(model(torch.randn(1, 3, 128, 128)).boxes)
    assert (boxes[1] - boxes[0] == 2).all()


@pytest.mark.parametrize("streams", SUBSETS, ids="-".join)
def test_any_streams_use_every_parameter(streams):
    model = build(streams=streams).train()
    out = model(torch.randn(2, 3, 128, 128))
    assert list(out.stream_logits) == [name for name in ("image", "attention", "part") if name in streams]
    assert model.num_features == sum(WIDTHS[name] for name in streams)
    assert (out.crops is None) == (out.boxes is None) == (out.valid is None) == ("part" not in streams)
    assert (out.attention is None) == ("attention" not in streams)
    total(out).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_action_gradients_reach_the_pose_through_the_attention_alone():
    for streams, reached in ((("part",), False), (("image",), False), (("attention",), True)):
        model = build(streams=streams).train()
        model(torch.randn(2, 3, 128, 128)).logits.sum().backward()
        assert (model.pose.weight.grad is not None) == reached


HEATMAPS = {
    "NaN": torch.full((16, 16, 16), torch.nan),
    "infinite": torch.full((16, 16, 16), torch.inf),
    "no-joint": torch.full((16, 16, 16), -1.0),
    "one-joint": torch.cat([torch.full((9, 16, 16), -1.0), torch.eye(16)[None], torch.full((6, 16, 16), -1.0)]),
    "one-point": torch.eye(256)[17].reshape(1, 16, 16).expand(16, -1, -1),
}


@pytest.mark.parametrize(
    ("kind", "valid", "side"),
    [
        ("NaN", [False] * 3, 64),
        ("infinite", [False] * 3, 64),
        ("no-joint", [False] * 3, 64),
        ("one-joint", [True, False, False], 8),
        ("one-point", [True] * 3, 8),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_any_heat_maps_give_finite_outputs_and_gradients(kind, valid, side, batch):
    model = build().train()
    plant(model, HEATMAPS[kind])
    out = model(torch.randn(batch, 3, 128, 128))
    sum(x.square().sum() for x in (out.logits, *out.stream_logits.values())).backward()
    assert_finite(model, out)
    assert out.valid.tolist() == [valid] * batch
    assert (out.boxes[..., 2:] - out.boxes[..., :2] == side).all()


@pytest.mark.parametrize("how", ["bfloat16", "float16", "autocast"])
def test_half_precision_trains(how):
    model = build().train()
    base = torch.randn(2, 3, 128, 128)
    if how != "autocast":
        model, base = model.to(getattr(torch, how)), base.to(getattr(torch, how))
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        out = model(base)
        targets, weights = encode_heatmaps(torch.rand(2, 16, 2) * 15, 16)
        loss = MultitaskAwareLoss(lam=1.0)(out, targets, weights, torch.tensor([1, 4]))
    loss.total.backward()
    assert_finite(model, out)
    assert out.boxes.dtype == torch.int64


def test_the_loss_takes_the_output_with_missing_annotations():
    model = build().train()
    out = model(torch.randn(3, 3, 128, 128))
    targets, weights = encode_heatmaps(torch.rand(3, 16, 2) * 15, 16)
    weights[2] = -1
    targets[2] = -1
    loss = MultitaskAwareLoss()(out, targets, weights, torch.tensor([-1, 0, 4]))
    loss.total.backward()
    assert loss.pose > 0
    assert loss.action > 0
    assert_finite(model, out)


def test_ensemble_is_the_mean_probability_without_the_attention_stream():
    names = ("image", "attention", "part")
    logits = torch.randn(4, 2, 5)
    streams = dict(zip(names, logits[1:]))
    output = BodyPartOutput(logits[0], torch.zeros(2, 16, 4, 4), streams, None, None, None, None)
    chosen = [logits[0], streams["image"], streams["part"]]
    odds = [x.exp() for x in chosen]
    expected = sum(x / x.sum(1, keepdim=True) for x in odds) / 3
    torch.testing.assert_close(BodyPartNet.ensemble(output), expected)
    expected = sum(1 / (1 + (-x).exp()) for x in chosen) / 3
    torch.testing.assert_close(BodyPartNet.ensemble(output, multi_label=True), expected)
    alone = output._replace(stream_logits={"attention": streams["attention"]})
    torch.testing.assert_close(BodyPartNet.ensemble(alone), logits[0].softmax(1))


def test_dropout_reaches_every_classifier():
    model = build(drop_rate=1.0).train()
    out = model(torch.randn(2, 3, 128, 128))
    torch.testing.assert_close(out.logits, model.head.bias.expand(2, -1))
    for name, logits in out.stream_logits.items():
        torch.testing.assert_close(logits, model.stream_heads[name].bias.expand(2, -1))


def test_parts_follow_the_order_of_the_joints():
    coco = build(num_joints=17)
    assert coco.cropper.parts == {"head": (0,), "right": (10,), "left": (9,)}
    assert coco.cropper.fallback == {"right": (8,), "left": (7,)}
    own = build(num_joints=5, parts={"feet": (3, 4)})
    assert own.cropper.fallback == {}
    assert own(torch.randn(1, 3, 128, 128)).boxes.shape == (1, 1, 4)
    with pytest.raises(ValueError, match=r"name the joints that parts are cut at, parts="):
        build(num_joints=5)


def test_wrong_arguments_get_one_clear_error():
    for streams in ((), ("image", "image"), ("image", "parts")):
        with pytest.raises(ValueError, match=r"streams are one or more of .*got"):
            build(streams=streams)
    with pytest.raises(ValueError, match=r"multiples of 64, got shape \(1, 3, 96, 128\)"):
        build()(torch.randn(1, 3, 96, 128))


def test_the_attention_streams_trunk_is_a_resnet_that_can_be_copied_and_run():
    model = build(trunk_args={})
    names = {k for k in torchvision.models.resnet18().state_dict() if not k.startswith("fc.")}
    assert set(model.attention.trunk.state_dict()) == names == set(model.part_backbone.state_dict())
    other = copy.deepcopy(model)
    other.attention.trunk["conv1"].weight.data.zero_()
    assert model.attention.trunk["conv1"].weight.any()
    with pytest.raises(AttributeError):
        _ = model.attention.layer5


def test_the_outputs_structure_can_be_saved_with_an_exported_program():
    structure = pytree.tree_structure(BodyPartOutput(*range(2), {"image": 3}, *range(3, 7)))
    assert pytree.treespec_loads(pytree.treespec_dumps(structure)) == structure


def test_the_bundled_file_will_be_small():
    model = actionzoo.create("bodypart_tiny")
    assert model.num_classes == 8
    assert sum(p.numel() for p in model.parameters()) <= 1.95e6
    assert 2 * sum(x.numel() for x in model.state_dict().values()) < 4e6


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A cache with files shaped as the published ones, every tensor filled with a number of its own."""
    with torch.device("meta"):
        shapes = [timm.create_model("hrnet_w32").state_dict(), torchvision.models.resnet18().state_dict()]
    files = [{k: torch.full(v.shape, i, dtype=v.dtype) for i, (k, v) in enumerate(x.items())} for x in shapes]
    cache = lay_cache(tmp_path_factory.mktemp("cache"), "timm/hrnet_w32.ms_in1k", files[0])
    url = torchvision.models.get_weight("ResNet18_Weights.IMAGENET1K_V1").url
    torch.save(files[1], cache / url.rsplit("/", 1)[1])
    return cache, *files


def test_imagenet_weights_load_into_the_hrnet_and_both_resnets(published, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cache, hrnet, resnet = published
    with pytest.warns(UserWarning, match="covers the backbone only") as caught:
        model = actionzoo.create("bodypart", pretrained=True, cache_dir=cache)
    assert len(caught) == 1
    expected = {f"backbone.{k}": v for k, v in hrnet.items()}
    expected |= {f"{prefix}.{k}": v for prefix in ("attention.trunk", "part_backbone") for k, v in resnet.items()}
    random = ("pose", "attention.attention", "attention.transitions", "head", "stream_heads")
    for key, value in model.state_dict().items():
        assert key.startswith(random) or torch.equal(value, expected[key]), key
    assert set(model.load_report.random) == set(random)
    assert not model.load_report.unused


def test_fewer_streams_load_what_they_have(published, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cache, _, resnet = published
    with pytest.raises(RuntimeError, match=r"in the file but not in the model.*strict=False"):
        actionzoo.create("bodypart", pretrained=True, cache_dir=cache, streams=("part",))
    with pytest.warns(UserWarning, match="in the file but not in the model"):
        model = actionzoo.create("bodypart", pretrained=True, cache_dir=cache, streams=("part",), strict=False)
    assert torch.equal(model.part_backbone.conv1.weight, resnet["conv1.weight"])
    assert model.load_report.random == ("pose", "stream_heads", "head")


def test_class_activation_map_averages_to_the_image_streams_logit():
    model = actionzoo.create("bodypart_tiny").eval()
    base = torch.randn(2, 3, 192, 192)
    classes = torch.tensor([3, 5])
    with torch.no_grad():
        maps = model.class_activation_map(base, classes)
        logits = model(base).stream_logits["image"]
        best = model.class_activation_map(base)
        assert torch.equal(best, model.class_activation_map(base, logits.argmax(1)))
    assert maps.shape == (2, 3, 3)
    expected = logits[[0, 1], classes] - model.stream_heads["image"].bias[classes]
    torch.testing.assert_close(maps.mean((1, 2)), expected)
    with pytest.raises(ValueError, match="needs the image stream"):
        actionzoo.create("bodypart_tiny", streams=("part",)).class_activation_map(base)
