import pytest
import timm
import torch
from torch import nn

import actionzoo
from actionzoo.models import PRFNet

SMALL = {"dim": 16, "num_heads": 2, "hidden": 16, "num_classes": 4}


def build(**args):
    torch.manual_seed(0)
    channels = {"channels": (8, 8, 16, 16), "stem_width": 4}
    return PRFNet(**{"backbone": "resnet18d", "backbone_args": channels, "tokens": 4, **SMALL, **args}).eval()


def test_feature_maps_of_the_papers_backbone():
    with torch.device("meta"):
        model = actionzoo.create("prfnet").eval()
        maps = model.forward_intermediates(torch.empty(1, 3, 256, 256), intermediates_only=True)
        tokens = model.forward_features(torch.empty(1, 3, 256, 256))
    assert [tuple(x.shape[1:]) for x in maps] == [(512, 32, 32), (1024, 16, 16), (2048, 8, 8)]
    assert tokens.shape == (1, 3 * 1024, 8, 8)


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_any_number_of_stages(stages):
    model = build(stages=stages)
    images = torch.randn(2, 3, 64, 96)
    assert model(images).shape == (2, 4)
    assert model.head.norm1.normalized_shape == (stages * 16,)
    seen = model.focus_regions(images)
    assert seen.stage_logits.shape == (2, stages, 4)
    assert seen.boxes.shape == (2, stages, 4)
    assert seen.attention.shape[:2] == (2, stages)


@pytest.mark.parametrize("backbone", ["resnet10t", "regnetx_002", "mobilenetv3_small_050", "convnext_atto", "vgg11"])
def test_any_timm_backbone(backbone):
    model = build(backbone=backbone, backbone_args={}).train()
    images = torch.randn(2, 3, 64, 64)
    for stage in (1, 2, 3, 4):
        model.forward_stage(images, stage).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_backbone_with_parallel_branches():
    assert build(backbone="hrnet_w18_small", backbone_args={})(torch.randn(2, 3, 64, 64)).shape == (2, 4)


def test_transformer_backbone():
    model = build(backbone="vit_tiny_patch16_224", backbone_args={"img_size": 64, "depth": 4})
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 4)


def test_forward_is_the_unweighted_concat_head():
    model = build()
    images = torch.randn(2, 3, 64, 64)
    maps = model.forward_intermediates(images, intermediates_only=True)
    atts = [block(x) for block, x in zip(model.attention, maps)]
    torch.testing.assert_close(model(images), model.head(torch.cat(atts[::-1], 1)))
    torch.testing.assert_close(model(images), model.forward_stage(images, 4))
    weights = torch.tensor([7 / 6, 11 / 6, 13 / 6])  # Eq. 3 for losses 2, 1, 0.5
    weighted = model.head(torch.cat([w * a for w, a in zip(weights, atts)][::-1], 1))
    torch.testing.assert_close(model.forward_stage(images, 4, losses=[2.0, 1.0, 0.5]), weighted)


def test_a_stage_runs_the_backbone_no_deeper_than_its_map():
    model = build()
    ran = []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        getattr(model.backbone, name).register_forward_hook(lambda *_, name=name: ran.append(name))
    model.forward_stage(torch.randn(1, 3, 64, 64), 1)
    assert ran == ["layer1", "layer2"]


def test_pruned_for_inference_is_bit_equal_and_smaller():
    model = build()
    images = torch.randn(2, 3, 64, 64)
    before, count = model(images), sum(p.numel() for p in model.parameters())
    assert model.prune_for_inference() is model
    assert torch.equal(model(images), before)
    assert sum(p.numel() for p in model.parameters()) < count
    with pytest.raises(RuntimeError, match="prune_for_inference"):
        model.forward_stage(images, 1)
    with torch.device("meta"):
        full = actionzoo.create("prfnet").prune_for_inference()
    assert sum(p.numel() for p in full.parameters()) == 47_884_888


def test_focus_regions_show_each_stage_on_what_the_one_before_focused_on():
    model = build()
    images = torch.randn(2, 3, 64, 96)
    seen = model.focus_regions(images)
    assert torch.equal(seen.logits, model(images))
    first = model.forward_stage(images, 1, return_features=True)
    assert torch.equal(seen.stage_logits[:, 0], first.logits)
    crop, box = model.focus(images, first.features)
    torch.testing.assert_close(seen.boxes[:, 0], box.float())
    torch.testing.assert_close(seen.stage_logits[:, 1], model.forward_stage(crop, 2))


def test_unpooled_and_headless_forms():
    model = build(num_classes=0)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 16)
    model.reset_classifier(0, "")
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 48, 4, 4)


def test_small_and_uneven_images():
    assert torch.isfinite(build()(torch.randn(1, 3, 33, 47))).all()


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ({"stages": 0}, "stages is 1 … 5"),
        ({"stages": 6}, "stages is 1 … 5"),
        ({"out_indices": (3, 2)}, "rise"),
        ({"out_indices": (9,)}, "do not fit 5"),
        ({"global_pool": "max"}, "global_pool"),
        ({"mixture": "median"}, "mode"),
        ({"kappa": 1.5}, "kappa"),
    ],
)
def test_bad_settings(args, match):
    with pytest.raises(ValueError, match=match):
        build(**args)


@pytest.mark.parametrize("stage", [0, 5, -1])
def test_bad_stage(stage):
    with pytest.raises(ValueError, match="stage is 1 … 4"):
        build().forward_stage(torch.randn(1, 3, 64, 64), stage)


def test_losses_go_to_the_concat_head_only():
    with pytest.raises(ValueError, match="concat head only"):
        build().forward_stage(torch.randn(1, 3, 64, 64), 2, losses=[1.0, 1.0, 1.0])


class TestTimm:
    """What timm's own tests/test_models.py asks of a model, and its list and info functions."""

    def test_listed(self):
        assert timm.list_models("prfnet_*") == ["prfnet_resnet18", "prfnet_resnet50", "prfnet_tiny"]
        assert timm.is_model("prfnet_resnet50")
        assert timm.get_pretrained_cfg("prfnet_resnet50").input_size == (3, 256, 256)

    def test_create_with_classes_and_channels(self):
        model = timm.create_model("prfnet_resnet50", num_classes=7, in_chans=1).eval()
        with torch.no_grad():
            assert model(torch.randn(1, 1, 64, 64)).shape == (1, 7)
        assert model.num_classes == 7

    def test_default_config(self):
        model = timm.create_model("prfnet_resnet18").eval()
        cfg = model.default_cfg
        images = torch.randn(1, *cfg["input_size"])
        with torch.no_grad():
            features = model.forward_features(images)
            assert features.shape[1:] == (model.num_features, *cfg["pool_size"])
            assert model.forward_head(features, pre_logits=True).shape == (1, model.head_hidden_size)
            assert f"{cfg['classifier']}.weight" in model.state_dict()
            assert f"{cfg['first_conv']}.weight" in model.state_dict()
            model.reset_classifier(0)
            assert model(images).shape == (1, model.head_hidden_size)
            model.reset_classifier(0, "")
            assert model(images).shape[-2:] == cfg["pool_size"]
        assert isinstance(timm.create_model("prfnet_resnet18", num_classes=0).get_classifier(), nn.Identity)

    @pytest.mark.parametrize("name", ["prfnet_resnet18", "prfnet_tiny"])
    def test_features_only(self, name):
        images = torch.randn(1, 3, 96, 96)
        net = timm.create_model(name, features_only=True).eval()
        whole = timm.create_model(name).eval()
        with torch.no_grad():
            maps = net(images)
            final, between = whole.forward_intermediates(images)
        assert [x.shape[1] for x in maps] == net.feature_info.channels() == [x.shape[1] for x in between]
        assert [96 // x.shape[-1] for x in maps] == net.feature_info.reduction() == [8, 16, 32]
        torch.testing.assert_close(final, whole.forward_features(images))

    def test_features_at_chosen_indices_are_cut_short(self):
        net = timm.create_model("prfnet_tiny", features_only=True, out_indices=(0, 1)).eval()
        assert [x.shape[1] for x in net(torch.randn(1, 3, 96, 96))] == net.feature_info.channels() == [64, 128]
        assert not any("layer4" in key for key in net.state_dict())

    def test_forward_intermediates_stops_early(self):
        model = build()
        maps = model.forward_intermediates(
            torch.randn(1, 3, 64, 64), indices=[0], stop_early=True, intermediates_only=True
        )
        assert [x.shape[1] for x in maps] == [8]
        with pytest.raises(ValueError, match="NCHW"):
            model.forward_intermediates(torch.randn(1, 3, 64, 64), output_fmt="NHWC")
