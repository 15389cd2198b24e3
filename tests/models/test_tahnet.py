import pytest
import torch

import actionzoo
from actionzoo.layers import TAHNet
from actionzoo.models import TAHNET_TABLE7, TAHNET_VARIANTS, TAHNetClassifier

NAMES = [f"tahnet_{variant}" for variant in TAHNET_VARIANTS]
BLOCKS = ("dim1024", "dim512", "dim512_temporal", "dim512_temporal_28")
"""Table 7's; tests/test_paper_numbers_tahnet.py has its numbers."""
variants = pytest.mark.parametrize("variant", TAHNET_VARIANTS)


def small(name, **settings):
    """The network of that name with few channels, and every tensor of its layout."""
    narrow = {"in_chans": 3, "width": 6} | ({"hidden": 5} if name != "tahnet_v4" else {})
    narrow |= {"bottleneck": (6, 4, 3)} if name != "tahnet_v2_nocb" else {}
    return actionzoo.create(name, **{**narrow, "num_classes": 7, **settings})


def features(name, people=2, frames=8):
    side = actionzoo.model_info(name).input_size[-1]
    return torch.randn(people, 3, frames, side // 2, side // 2)


def test_table_7_is_whole():
    assert list(TAHNET_TABLE7) == [f"{block}_conv{depth}" for block in BLOCKS for depth in (3, 4, 5, 6)]


@variants
def test_one_frame(variant):
    settings = TAHNET_VARIANTS[variant]
    with torch.device("meta"):
        net = TAHNet(**settings).eval()
        side = net.pretrained_cfg["input_size"][-1]
        assert net.forward_features(torch.empty(1, 256, 1, side, side)).shape == (1, settings["width"], 1, 7, 7)


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
