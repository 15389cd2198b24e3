import pytest
import torch

import actionzoo
from actionzoo.layers import TAHNet
from actionzoo.models import TAHNET_TABLE7, TAHNET_VARIANTS, TAHNetClassifier
from actionzoo.profile import count_macs

PRINTED = {
    "dim1024": (56.4, 100.8, 145.1, 189.5),
    "dim512": (14.2, 25.3, 36.4, 47.5),
    "dim512_temporal": (8.0, 13.5, 19.1, 24.6),
    "dim512_temporal_28": (5.3, 8.1, 10.8, 13.6),
}
"""Table 7's GFLOPs, which are GMACs, of three to six convolutions."""
CELLS = {"dim1024": (4, 7, 7), "dim512": (4, 7, 7), "dim512_temporal": (2, 7, 7), "dim512_temporal_28": (1, 7, 7)}
"""Table 7's sizes after the arrow."""
TABLES_1_AND_2 = {
    "v1": (145.1, 290.3),
    "v2": (100.8, 201.5),
    "v2_nocb": (105.4, 210.9),
    "v3": (25.3, 50.6),
    "v4": (5.3, 10.6),
}
"""GFLOPs of 8 and of 16 frames."""
PARAMETERS = {
    "v1": (118_466_364, 118_415_114),
    "v2": (90_152_764, 90_101_514),
    "v2_nocb": (93_131_836, 93_080_586),
    "v3": (22_915_516, 22_864_266),
    "v4": (16_435_772, 16_410_122),
}
"""Of 60 and of 10 classes."""
NAMES = [f"tahnet_{variant}" for variant in TAHNET_VARIANTS]
variants = pytest.mark.parametrize("variant", TAHNET_VARIANTS)


def small(name, **settings):
    """The network of that name with few channels, and every tensor of its layout."""
    narrow = {"in_chans": 3, "width": 6} | ({"hidden": 5} if name != "tahnet_v4" else {})
    narrow |= {"bottleneck": (6, 4, 3)} if name != "tahnet_v2_nocb" else {}
    return actionzoo.create(name, **{**narrow, "num_classes": 7, **settings})


def features(name, people=2, frames=8):
    side = actionzoo.model_info(name).input_size[-1]
    return torch.randn(people, 3, frames, side // 2, side // 2)


@pytest.mark.parametrize("depth", [3, 4, 5, 6])
@pytest.mark.parametrize("block", PRINTED)
def test_rows_of_table_7(block, depth):
    settings = TAHNET_TABLE7[f"{block}_conv{depth}"]
    assert settings["depth"] == depth
    with torch.device("meta"):
        net = TAHNet(**settings).eval()
        x = torch.empty(1, *net.pretrained_cfg["input_size"])
        assert abs(count_macs(net, x) / 1e9 - PRINTED[block][depth - 3]) <= 0.06
        assert net.forward_features(x).shape == (1, settings["width"], *CELLS[block])


def test_table_7_is_whole():
    assert list(TAHNET_TABLE7) == [f"{block}_conv{depth}" for block in PRINTED for depth in (3, 4, 5, 6)]


@pytest.mark.parametrize("frames", [8, 16])
@variants
def test_work_and_sizes_of_tables_1_and_2(variant, frames):
    settings = TAHNET_VARIANTS[variant]
    with torch.device("meta"):
        net = TAHNet(**settings).eval()
        side = net.pretrained_cfg["input_size"][-1]
        x = torch.empty(1, 256, frames, side, side)
        assert abs(count_macs(net, x) / 1e9 - TABLES_1_AND_2[variant][frames == 16]) <= 0.06
        left = frames // (8 if variant == "v4" else 2)
        assert net.forward_features(x).shape == (1, settings["width"], left, 7, 7)
        assert net.forward_features(x[:, :, :1]).shape == (1, settings["width"], 1, 7, 7)


@variants
def test_parameters(variant):
    with torch.device("meta"):
        nets = [actionzoo.create(f"tahnet_{variant}", num_classes=classes) for classes in (60, 10)]
    assert tuple(sum(p.numel() for p in net.parameters()) for net in nets) == PARAMETERS[variant]


def test_parameters_of_v1_by_hand():
    """One weight per pair of channels and cell of the kernel, two for each channel's norm, biases of the last two."""
    bottleneck = 256 * 1024 + 1024 * 256 + 256 * 128 + 2 * (1024 + 256 + 128)
    convolutions = 27 * (128 * 1024 + 4 * 1024 * 1024) + 5 * 2 * 1024
    linear = 1024 * 1024 + 1024 + 1024 * 60 + 60
    assert bottleneck + convolutions + linear == PARAMETERS["v1"][0]


def test_registered_names():
    assert sorted(actionzoo.list_models("tahnet*", task="per-person video classification")) == sorted(NAMES)
    for name in NAMES:
        info = actionzoo.model_info(name)
        assert info.num_classes == 60
        assert info.input_size == ((256, 8, 28, 28) if name == "tahnet_v4" else (256, 8, 14, 14))
        assert (info.weights, info.aliases) == ((), ())


@pytest.mark.parametrize("name", NAMES)
def test_configuration(name):
    net = small(name)
    assert isinstance(net, TAHNetClassifier)
    cfg = net.pretrained_cfg
    assert cfg["input_size"] == (3, *actionzoo.model_info(name).input_size[1:])
    assert (cfg["architecture"], cfg["num_classes"], cfg["in_chans"]) == (name, 7, 3)
    assert cfg["mean"] is None
    assert cfg["std"] is None
    assert net(features(name)).shape == (2, 7)
    assert (net.head_hidden_size, isinstance(net.fc, torch.nn.Identity)) == ((6, True) if "v4" in name else (5, False))


@pytest.mark.parametrize("fused", [False, True], ids=["as-built", "fused"])
@pytest.mark.parametrize("name", NAMES)
def test_saving_and_loading(name, fused, tmp_path):
    net, x = small(name).train(), features(name)
    net(x)  # running statistics of their own
    net.eval()
    saved = net.fuse_for_inference() if fused else net
    saved.save_pretrained(tmp_path / "saved")
    loaded = actionzoo.create(f"local-dir:{tmp_path / 'saved'}").eval()
    assert isinstance(loaded, TAHNetClassifier)
    assert not loaded.load_report.random
    assert torch.equal(loaded(x), saved(x))
    torch.testing.assert_close(loaded(x), net(x), rtol=1e-4, atol=1e-5)


def test_fine_tuning_from_60_classes_to_10(tmp_path):
    """As the paper goes from NTU RGB+D to N-UCLA (section 4.3)."""
    ntu = small("tahnet_v3", num_classes=60).eval()
    ntu.save_pretrained(tmp_path / "ntu")
    ucla = actionzoo.create(f"local-dir:{tmp_path / 'ntu'}", num_classes=10).eval()
    assert set(ucla.load_report.reheaded) == {"classifier.weight", "classifier.bias"}
    x = features("tahnet_v3")
    assert torch.equal(ucla.forward_features(x), ntu.forward_features(x))
    assert ucla(x).shape == (2, 10)


def test_other_channels_are_not_adapted(tmp_path):
    """Channels of features are no colours: nothing sensible can be made of weights for others."""
    small("tahnet_v3").save_pretrained(tmp_path / "saved")
    with pytest.raises(RuntimeError, match=r"bottleneck\.convs\.0\.conv\.weight"):
        actionzoo.create(f"local-dir:{tmp_path / 'saved'}", in_chans=1)


def test_nothing_is_published():
    with pytest.raises(RuntimeError, match="no weights are published for tahnet_v1"):
        actionzoo.create("tahnet_v1", pretrained=True)
