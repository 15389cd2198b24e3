import copy
from fnmatch import fnmatchcase

import pytest
import timm
import torch
from huggingface_hub import constants

import actionzoo
from actionzoo.layers import COCO_FLIP_PAIRS, MPII_FLIP_PAIRS
from actionzoo.models import HRNetTrunk, PoseHRNet
from actionzoo.models.pose_hrnet import hrnet_config

from .test_prfnet_weights import lay_cache

SMALL = hrnet_config((8, 8, 16, 16), stem_width=8, stage1_width=4)
POSE_NETS = actionzoo.list_models(task="pose estimation")


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_and_maps_of_w32():
    with torch.device("meta"):
        trunk = HRNetTrunk("hrnet_w32")
        maps = trunk(torch.empty(1, 3, 256, 256))
    assert [tuple(x.shape[1:]) for x in maps] == [(32, 64, 64), (64, 32, 32), (128, 16, 16), (256, 8, 8)]
    assert count(trunk) == 29_305_536
    trunk.keep_scales((0,))
    assert count(trunk) == 28_535_552


def test_the_trunk_is_timms_network_without_its_head():
    torch.manual_seed(0)
    ours = HRNetTrunk("hrnet_w18_small")
    timms = timm.create_model("hrnet_w18_small", num_classes=0)
    missing, extra = timms.load_state_dict(ours.state_dict(), strict=False)
    assert not extra
    assert {key.split(".")[0] for key in missing} == {"incre_modules", "downsamp_modules", "final_layer"}
    images = torch.randn(2, 3, 64, 96)
    maps = ours(images)
    expected = timms.stages(timms.act2(timms.bn2(timms.conv2(timms.act1(timms.bn1(timms.conv1(images)))))))
    for run in (maps, expected):
        sum((x * torch.linspace(-1, 1, x.numel()).reshape(x.shape)).sum() for x in run).backward()
    for x, y in zip(maps, expected, strict=True):
        assert torch.equal(x, y)
    grads = dict(timms.named_parameters())
    assert all(torch.equal(p.grad, grads[key].grad) for key, p in ours.named_parameters())


@pytest.mark.parametrize("scales", [(0,), (0, 3), (1, 2)], ids=str)
def test_dropped_scales_leave_the_others_as_they_were(scales):
    torch.manual_seed(0)
    whole = HRNetTrunk(SMALL).eval()
    part = copy.deepcopy(whole)
    part.keep_scales(scales)
    images = torch.randn(2, 3, 64, 64)
    kept = part(images)
    assert [x.shape[1] for x in kept] == list(part.channels)
    for x, scale in zip(kept, scales, strict=True):
        assert torch.equal(x, whole(images)[scale])
    sum(x.sum() for x in kept).backward()
    assert all(p.grad is not None for p in part.parameters())
    assert set(part.state_dict()) < set(whole.state_dict())


def test_stages_of_other_widths_keep_their_resolutions():
    config = copy.deepcopy(SMALL)
    config["stage3"]["num_channels"] = (12, 8, 16)
    maps = HRNetTrunk(config)(torch.randn(1, 3, 64, 32))
    assert [tuple(x.shape[1:]) for x in maps] == [(8, 16, 8), (8, 8, 4), (16, 4, 2), (16, 2, 1)]


def test_checkpointing_recomputes_every_module_and_gives_the_same_gradients():
    torch.manual_seed(0)
    plain = HRNetTrunk(SMALL)
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    runs = []
    for stage in (saving.stage2, saving.stage3, saving.stage4):
        stage[0].register_forward_pre_hook(lambda *_: runs.append(1))
    images = torch.randn(2, 3, 64, 64)
    for trunk in (plain, saving):
        sum(x.square().sum() for x in trunk(images)).backward()
    assert len(runs) == 6
    for p, q in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize(
    ("name", "joints", "pairs"),
    [
        ("pose_hrnet_w32", "coco", COCO_FLIP_PAIRS),
        ("pose_hrnet_w48", "coco", COCO_FLIP_PAIRS),
        ("pose_tiny", "mpii", MPII_FLIP_PAIRS),
    ],
)
def test_order_of_the_joints(name, joints, pairs):
    with torch.device("meta"):
        model = actionzoo.create(name)
    assert model.pretrained_cfg["joints"] == joints
    assert model.flip_pairs == pairs


def test_heat_maps_of_another_number_of_joints():
    model = actionzoo.create("pose_tiny", num_joints=5, final_kernel=3)
    assert model(torch.randn(1, 3, 64, 96)).shape == (1, 5, 16, 24)
    assert model.pretrained_cfg["joints"] is None
    with pytest.raises(ValueError, match="flip pairs are known for"):
        _ = model.flip_pairs


@pytest.mark.parametrize("name", POSE_NETS)
def test_num_classes_is_refused_by_naming_num_joints(name):
    with pytest.raises(ValueError, match=r"num_classes=7; num_joints="):
        actionzoo.create(name, num_classes=7)


def test_wrong_arguments_get_one_clear_error():
    with pytest.raises(ValueError, match=r"'coco' \(17 joints\) or 'mpii' \(16\), got 'mpii' for 17 joints"):
        PoseHRNet(backbone=SMALL, joints="mpii")
    with pytest.raises(ValueError, match=r"'resnet50'; timm has hrnet_w18_small"):
        PoseHRNet(backbone="resnet50")
    with pytest.raises(ValueError, match=r"multiples of 32, got shape \(1, 3, 64, 80\)"):
        PoseHRNet(backbone=SMALL)(torch.randn(1, 3, 64, 80))


def test_one_image_in_train_mode_is_enough():
    heatmaps = PoseHRNet(backbone=SMALL)(torch.randn(1, 3, 64, 64))
    heatmaps.square().sum().backward()
    assert torch.isfinite(heatmaps).all()


def test_the_bundled_file_will_be_small():
    values = sum(x.numel() for x in actionzoo.create("pose_tiny").state_dict().values())
    assert 2 * values < 1.5e6


@pytest.mark.parametrize("name", ["pose_hrnet_w32", "pose_hrnet_w48"])
def test_the_published_backbone_covers_the_trunk_and_no_more(name):
    (entry,) = actionzoo.list_weights(name)
    with torch.device("meta"):
        model = actionzoo.create(name)
        file = timm.create_model(entry.location.split("/")[1].split(".")[0]).state_dict()
    kept = {k: v for k, v in file.items() if not any(fnmatchcase(k, pattern) for pattern in entry.exclude)}
    trunk = {k: v for k, v in model.state_dict().items() if k.startswith(entry.prefix)}
    assert {entry.prefix + k: v.shape for k, v in kept.items()} == {k: v.shape for k, v in trunk.items()}


def test_imagenet_weights_load_into_the_trunk(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with torch.device("meta"):
        shapes = timm.create_model("hrnet_w32").state_dict()
    file = {k: torch.full(v.shape, i, dtype=v.dtype) for i, (k, v) in enumerate(shapes.items())}
    cache = lay_cache(tmp_path, "timm/hrnet_w32.ms_in1k", file)
    with pytest.warns(UserWarning, match=r"backbone only; left at random initialisation: head"):
        model = actionzoo.create("pose_hrnet_w32", pretrained=True, num_joints=16, cache_dir=cache)
    state = model.state_dict()
    assert all(torch.equal(v, file[k.removeprefix("backbone.")]) for k, v in state.items() if k.startswith("backbone."))
    assert model.load_report.random == ("head",)
