import copy

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close

import actionzoo
from actionzoo.models import ConViTHAR, PlainClassifier, ViTPair
from actionzoo.models.convit_har import TINY

SLIM = {"channels": (8, 8, 16, 16), "stem_width": 4}


def build(**args):
    """A small network for 128x128 images (4x4 cells), whose every parameter differs from its initial value."""
    settings = {"backbone": "resnet18d", "backbone_args": SLIM, "num_classes": 5, "head_dim": 4, "heads": 2}
    model = ConViTHAR(**{**settings, "input_size": (3, 128, 128), **args}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_the_papers_network():
    with torch.device("meta"):
        model = actionzoo.create("convit_har").eval()
        images = torch.empty(1, 3, 448, 448)
        c5, features = model.forward_backbone(images), model.forward_features(images)
    assert c5.shape == (1, 2048, 14, 14)
    assert features.shape == (1, 2048, 7, 7)
    assert (model.vits.vit1.grid, model.vits.vit2.grid) == ((14, 14), (7, 7))
    assert [count(part) for part in (model.vits.vit1, model.vits.vit2, model)] == [21_405_696, 21_104_640, 66_100_328]


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [({"num_classes": 10}, 66_038_858), ({"head_dim": None, "mlp_dim": 8192}, 225_508_456)],
    ids=["10 classes", "wide"],
)
def test_parameters_in_other_settings(settings, parameters):
    with torch.device("meta"):
        assert count(actionzoo.create("convit_har", **settings)) == parameters


def test_the_pair_of_the_human_branch():
    with torch.device("meta"):
        pair = ViTPair(2048, (10, 6))
        assert pair(torch.empty(3, 2048, 10, 6)).shape == (3, 2048, 5, 3)
    assert [count(pair.vit1), count(pair.vit2)] == [21_127_168, 21_035_008]


def test_tiny_fits_its_file():
    with torch.device("meta"):
        model = actionzoo.create("convit_har_tiny")
    assert 2 * count(model) < 4e6
    assert (model.vits.vit1.grid, model.vits.vit2.grid) == ((8, 8), (4, 4))


def test_forward_is_backbone_two_vits_mean_and_classifier():
    model, images = build(), torch.randn(2, 3, 128, 128)
    x = model.vits.vit1(model.backbone.forward_features(images))
    x = torch.stack([x[:, :, i : i + 2, j : j + 2].mean((2, 3)) for i in (0, 2) for j in (0, 2)], 2)
    x = model.vits.vit2(x.unflatten(2, (2, 2)))
    assert_close(model(images), model.fc(x.flatten(2).mean(2)))


def test_with_an_identity_second_vit_it_is_the_pooled_first():
    model, images = build(), torch.randn(2, 3, 128, 128)
    model.vits.vit2 = nn.Identity()
    first = model.vits.vit1(model.forward_backbone(images))
    assert_close(model(images), model.fc(first.mean((2, 3))))


def test_without_vits_it_is_the_plain_classifier():
    model, images = build(), torch.randn(2, 3, 128, 128)
    model.vits.vit1 = model.vits.vit2 = nn.Identity()
    plain = PlainClassifier(backbone="resnet18d", backbone_args=SLIM, num_classes=5).eval()
    state = {key: value for key, value in model.state_dict().items() if key.startswith("backbone.")}
    plain.load_state_dict({**state, **{f"backbone.fc.{key}": p for key, p in model.fc.state_dict().items()}})
    assert_close(model(images), plain(images))


@pytest.mark.parametrize("pool", ["avg", "max", "conv"])
@pytest.mark.parametrize("size", [(128, 128), (96, 160), (33, 65)], ids=str)
def test_any_downsampling_and_any_image(pool, size):
    model, images = build(pool=pool), torch.randn(2, 3, *size)
    h, w = model.forward_backbone(images).shape[2:]
    assert model.forward_features(images).shape == (2, 16, -(-h // 2), -(-w // 2))
    assert model(images).isfinite().all()


def test_downsampling_by_convolution_mixes_no_channels():
    pair = ViTPair(6, (4, 4), heads=1, head_dim=2, pool="conv")
    x = torch.randn(1, 6, 5, 4)
    changed = (pair.down(x) - pair.down(x * torch.tensor([1, 1, 1, 1, 1, 2.0])[:, None, None])).abs().sum((0, 2, 3))
    assert changed.nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("backbone", ["resnet10t", "regnetx_002", "mobilenetv3_small_050", "convnext_atto"])
def test_any_timm_backbone(backbone):
    model = build(backbone=backbone, backbone_args={}, input_size=(3, 64, 64)).train()
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert model.vits.vit1.grid == (2, 2)
    assert all(p.grad is not None for p in model.parameters())


def test_vgg_is_cut_before_its_fully_connected_layers():
    with torch.device("meta"):
        model = actionzoo.create("convit_har", backbone="vgg16").eval()
        assert model.forward_backbone(torch.empty(1, 3, 448, 448)).shape == (1, 512, 14, 14)
    assert count(model.backbone) == 14_714_688


def test_transformer_backbone():
    arguments = {"img_size": 64, "depth": 2}
    model = build(backbone="vit_tiny_patch16_224", backbone_args=arguments, input_size=(3, 64, 64))
    assert model.vits.vit1.grid == (4, 4)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize("classes", [None, [3, 0]], ids=["predicted", "given"])
def test_class_activation_is_grad_cam(classes):
    model, images = build(), torch.randn(2, 3, 128, 128)
    chosen = model(images).argmax(1) if classes is None else torch.tensor(classes)
    found = model.class_activation_map(images, None if classes is None else chosen)
    features = model.forward_features(images).detach().requires_grad_()
    logits = model.forward_head(features)[range(2), chosen]
    logits.sum().backward()
    weights = features.grad.mean((2, 3), keepdim=True)  # of Selvaraju et al. 2017
    assert_close(found.relu(), (weights * features).sum(1).relu())
    assert_close(found.sum((1, 2)) + model.fc.bias[chosen], logits)


def test_class_activation_needs_classes():
    with pytest.raises(ValueError, match="num_classes=0"):
        build(num_classes=0).class_activation_map(torch.randn(1, 3, 64, 64))


def test_heat_map_is_the_channel_mean_before_the_last_norm():
    model, images = build(), torch.randn(2, 3, 128, 96)
    found = model.heat_map(images)
    assert found.shape == (2, 2, 2)
    nn.init.ones_(model.vits.vit2.norm.weight)
    nn.init.zeros_(model.vits.vit2.norm.bias)
    assert_close(model.forward_features(images).mean(1), torch.zeros(2, 2, 2))  # why it is taken before
    model.vits.vit2.norm = nn.Identity()
    assert_close(found, model.forward_features(images).mean(1))


def test_unpooled_headless_and_dropped_out_forms():
    images = torch.randn(2, 3, 128, 128)
    model = build(drop_rate=0.5)
    assert model.forward_head(model.forward_features(images), pre_logits=True).shape == (2, 16)
    model.train()
    features = torch.ones(2, 16, 2, 2)
    assert set(model.forward_head(features, pre_logits=True).unique().tolist()) == {0.0, 2.0}
    model.eval().reset_classifier(0)
    assert model(images).shape == (2, 16)
    model.reset_classifier(0, "")
    assert model(images).shape == (2, 16, 2, 2)


def test_what_should_not_decay_exists():
    model = build()
    assert model.no_weight_decay() == {"vits.vit1.pos_embed", "vits.vit2.pos_embed"}
    assert model.no_weight_decay() <= dict(model.named_parameters()).keys()


def test_the_backbone_holds_every_tensor_of_timms_weights():
    with torch.device("meta"):
        ours, theirs = actionzoo.create("convit_har"), timm.create_model("resnet50")
    found = {key: p.shape for key, p in ours.state_dict().items() if key.startswith("backbone.")}
    assert found == {f"backbone.{key}": p.shape for key, p in theirs.state_dict().items() if key[:3] != "fc."}


def test_the_plain_counterpart_of_tiny_has_its_backbone():
    with torch.device("meta"):
        ours, plain = actionzoo.create("convit_har_tiny"), PlainClassifier(**TINY, num_classes=40)
    fc = [key for key in plain.state_dict() if key.startswith("backbone.fc.")]
    assert {key for key in ours.state_dict() if key.startswith("backbone.")} == plain.state_dict().keys() - fc


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ({"pool": "median"}, "'avg', 'max' or 'conv', got 'median'"),
        ({"global_pool": "max"}, "global_pool"),
        ({"heads": 3, "head_dim": None}, "dim=16, heads=3"),
        ({"depth": -1}, "depth=-1"),
    ],
)
def test_bad_settings(args, match):
    with pytest.raises(ValueError, match=match):
        build(**args)


class TestTimm:
    """What timm's own tests/test_models.py asks of a model, and its list and info functions."""

    def test_listed_beside_timms_own_convit(self):
        assert timm.list_models("convit_har_*") == ["convit_har_resnet50", "convit_har_tiny"]
        assert timm.get_pretrained_cfg("convit_har_resnet50").input_size == (3, 448, 448)
        assert not isinstance(timm.create_model("convit_tiny"), ConViTHAR)

    def test_create_with_classes_and_channels(self):
        model = timm.create_model("convit_har_tiny", num_classes=7, in_chans=1).eval()
        with torch.no_grad():
            assert model(torch.randn(1, 1, 64, 64)).shape == (1, 7)

    def test_default_config(self):
        model = timm.create_model("convit_har_tiny").eval()
        cfg = model.default_cfg
        images = torch.randn(1, *cfg["input_size"])
        with torch.no_grad():
            assert model.forward_features(images).shape[1:] == (model.num_features, *cfg["pool_size"])
        for name in ("classifier", "first_conv"):
            assert f"{cfg[name]}.weight" in model.state_dict()
        assert isinstance(timm.create_model("convit_har_tiny", num_classes=0).get_classifier(), nn.Identity)

    def test_features_only(self):
        images = torch.randn(1, 3, 128, 128)
        net = timm.create_model("convit_har_tiny", features_only=True).eval()
        whole = timm.create_model("convit_har_tiny").eval()
        with torch.no_grad():
            maps = net(images)
            final, between = whole.forward_intermediates(images)
        assert [x.shape[1] for x in maps] == net.feature_info.channels() == [x.shape[1] for x in between]
        assert [128 // x.shape[-1] for x in maps] == net.feature_info.reduction() == [2, 4, 8, 16, 16]
        assert_close(final, whole.forward_features(images))
        assert not any("vit" in key for key in net.state_dict())

    def test_features_at_chosen_indices_are_cut_short(self):
        net = timm.create_model("convit_har_tiny", features_only=True, out_indices=(1, 2)).eval()
        assert [x.shape[1] for x in net(torch.randn(1, 3, 96, 96))] == net.feature_info.channels() == [32, 64]
        assert not any("layer3" in key for key in net.state_dict())

    def test_a_necks_maps_run_the_backbone_no_deeper_than_they_lie(self):
        model, ran = copy.deepcopy(build()), []
        for name in ("layer1", "layer2", "layer3", "layer4"):
            getattr(model.backbone, name).register_forward_hook(lambda *_, name=name: ran.append(name))
        maps = model.forward_intermediates(torch.randn(1, 3, 64, 64), indices=[1, 2], intermediates_only=True)
        assert [x.shape[1] for x in maps] == [8, 8]
        assert ran == ["layer1", "layer2"]
        with pytest.raises(ValueError, match="NCHW"):
            model.forward_intermediates(torch.randn(1, 3, 64, 64), output_fmt="NHWC")
