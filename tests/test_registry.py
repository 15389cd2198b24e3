"""Registration, names, and building models with weights (`actionzoo/registry.py` and its parts)."""

import json
import sys
import warnings
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from actionzoo import _catalogue, _sources
from actionzoo.registry import (
    create,
    create_model,
    is_model,
    list_models,
    list_weights,
    model_info,
    register_model,
)
from actionzoo.weights import HubMixin, WeightsInfo, read_checkpoint, save_checkpoint

from .hub_server import serve

torch.set_num_threads(1)

CLASSES = ("run", "jump", "throw", "row", "ski")


class TinyNet(HubMixin, nn.Module):
    """The smallest network with a stem, a trunk of a given width, and a classifier."""

    def __init__(self, *, num_classes=4, in_chans=3, dim=6, shape=(1, 2)):
        super().__init__()
        self.num_classes, self.in_chans, self.shape = num_classes, in_chans, shape
        self.backbone = nn.Sequential(nn.Conv2d(in_chans, dim, 3), nn.BatchNorm2d(dim))
        self.feature_info = [{"num_chs": dim, "reduction": 1, "module": "backbone"}]
        self.neck = nn.Linear(dim, dim)
        self.fc = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        self.pretrained_cfg = {"classifier": "fc", "first_conv": "backbone.0", "crop_pct": 0.9}
        self.pretrained_cfg["test_input_size"] = (3, 24, 24)

    def forward_intermediates(self, x, indices=None, norm=False, output_fmt="NCHW", intermediates_only=False):
        return [self.backbone(x)]

    def forward(self, x):
        return self.fc(self.neck(self.backbone(x).mean((2, 3))))


def register(name, **options):
    """Register a fresh entry point of this name, as a decorator on a function of this module would."""

    def entry_point(**kwargs):
        return TinyNet(**kwargs)

    entry_point.__name__ = entry_point.__qualname__ = name
    entry_point.__doc__ = f"{name}: a network for tests.\n\nMore about it."
    return register_model(entry_point, **{"num_classes": 4, "input_size": (3, 16, 16), **options})


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """An empty checkpoint folder, and a registry that forgets what the test registers."""
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr(_sources, "CHECKPOINTS", tmp_path / "checkpoints")
    before = set(_catalogue._models)
    yield tmp_path / "checkpoints"
    for name in set(_catalogue._models) - before:
        _catalogue.remove(name)


def bundle(folder, name="zz_tiny", tag="sports", seed=0, **kwargs):
    """Write bundled weights, and return the model that they came from."""
    model = build(name, seed, **{"num_classes": 5, **kwargs})
    said = {"classes": CLASSES[: model.num_classes], "mean": (0.1, 0.2, 0.3), "licence": "MIT", "tag": tag}
    said |= {"metrics": {"accuracy": 0.9}}
    save_checkpoint(model, folder / f"{name}.{tag}.safetensors", metadata=said)
    return model


def build(name, seed=0, **kwargs):
    torch.manual_seed(seed)
    return create(name, **kwargs)


def same(model, other, keys=None):
    state, wanted = model.state_dict(), other.state_dict()
    return all(torch.equal(state[key], wanted[key]) for key in (wanted if keys is None else keys))


class TestRegisterModel:
    def test_returns_the_function_bare_and_with_keywords(self):
        def zz_bare(**kwargs):
            return TinyNet(**kwargs)

        def zz_keyword(**kwargs):
            return TinyNet(**kwargs)

        assert register_model(zz_bare) is zz_bare
        assert register_model(task="pose estimation")(zz_keyword) is zz_keyword
        assert list_models("zz_*") == ["zz_bare", "zz_keyword"]
        assert list_models("zz_*", task="pose estimation") == ["zz_keyword"]

    @pytest.mark.parametrize(
        ("name", "aliases"),
        [("zz_tiny", ()), ("zz_alias", ()), ("zz_new", ("zz_tiny",)), ("zz_new", ("zz_alias",))],
        ids=["name-name", "name-alias", "alias-name", "alias-alias"],
    )
    def test_taken_names_are_refused(self, name, aliases):
        register("zz_tiny", aliases=("zz_alias",))
        with pytest.raises(ValueError, match="is taken by a registered model"):
            register(name, aliases=aliases)
        assert list_models("zz_*") == ["zz_tiny"]

    @pytest.mark.parametrize("exposed", [True, False])
    def test_a_timm_name_is_not_shadowed(self, exposed):
        with pytest.raises(ValueError, match="taken by a model of timm's"):
            register("resnet18", timm=exposed)
        assert not is_model("resnet18")
        assert timm.models.model_entrypoint("resnet18").__module__ == "timm.models.resnet"

    def test_natural_order(self):
        for name in ("zz_net10", "zz_net9", "zz_net_b"):
            register(name)
        assert list_models("zz_*") == ["zz_net9", "zz_net10", "zz_net_b"]


class TestModelInfo:
    def test_fields(self):
        register("zz_tiny", aliases=("zz",), paper="A paper", macs=123)
        info = model_info("zz")
        assert (info.name, info.paper, info.macs, info.num_classes) == ("zz_tiny", "A paper", 123, 4)
        assert (info.task, info.input_size, info.aliases) == ("image classification", (3, 16, 16), ("zz",))
        assert info.description == "zz_tiny: a network for tests."
        assert info.weights == ()
        assert model_info("zz_tiny.some_tag") is info

    def test_parameters_are_counted_unless_recorded(self):
        register("zz_tiny")
        register("zz_recorded", params=7)
        # conv 6*3*9 + 6, batch norm 2*6, neck 6*6 + 6, classifier 4*6 + 4
        assert model_info("zz_tiny").parameters == 162 + 6 + 12 + 42 + 28
        assert model_info("zz_recorded").parameters == 7

    def test_example_inputs(self):
        register("zz_tiny")
        register("zz_pair", example_inputs=lambda batch: (torch.zeros(batch, 2), torch.ones(batch)))
        register("zz_single", example_inputs=lambda batch: torch.zeros(batch, 2))
        (images,) = model_info("zz_tiny").example_inputs(3)
        assert images.shape == (3, 3, 16, 16)
        assert [x.shape for x in model_info("zz_pair").example_inputs(2)] == [(2, 2), (2,)]
        assert [x.shape for x in model_info("zz_single").example_inputs()] == [(1, 2)]

    def test_unknown_names_list_the_nearest(self):
        register("zz_tiny", aliases=("zz_short",))
        for call in (model_info, create):
            with pytest.raises(ValueError, match=r"unknown model 'zz_tinny'.*zz_tiny"):
                call("zz_tinny")
        with pytest.raises(ValueError, match=r"list_models\(\) lists all"):
            create("123456789")

    def test_is_model(self):
        register("zz_tiny", aliases=("zz",))
        assert is_model("zz_tiny")
        assert is_model("zz.tag")
        assert not is_model("zz_other")


class TestCreateWithoutWeights:
    def test_arguments_reach_the_model_and_its_config(self):
        register("zz_tiny", paper="A paper")
        model = create_model("zz_tiny", num_classes=7, in_chans=1, dim=9)
        assert (model.fc.out_features, model.backbone[0].in_channels, model.neck.in_features) == (7, 1, 9)
        cfg = model.pretrained_cfg
        assert model.default_cfg is cfg
        assert (cfg["architecture"], cfg["num_classes"], cfg["in_chans"]) == ("zz_tiny", 7, 1)
        assert (cfg["input_size"], cfg["model_args"]) == ((1, 16, 16), {"dim": 9})
        assert cfg["test_input_size"] == (1, 24, 24)
        assert (cfg["classifier"], cfg["first_conv"], cfg["crop_pct"]) == ("fc", "backbone.0", 0.9)
        assert cfg["mean"] == (0.485, 0.456, 0.406)
        assert model.load_report.source == "random initialisation"
        assert model.load_report.loaded == ()
        assert set(model.load_report.random) == {"backbone", "neck", "fc"}

    def test_defaults_are_the_models_own(self):
        register("zz_tiny")
        model = create("zz_tiny")
        assert (model.num_classes, model.in_chans) == (4, 3)

    def test_config_of_one_model_is_not_shared_with_another(self):
        register("zz_tiny")
        first, second = create("zz_tiny"), create("zz_tiny", num_classes=3)
        first.pretrained_cfg["mean"] = None
        assert second.pretrained_cfg["mean"] is not None
        assert model_info("zz_tiny").num_classes == 4

    def test_nothing_published(self, clean):
        register("zz_tiny")
        register("zz_other")
        bundle(clean, "zz_other")
        with pytest.raises(RuntimeError, match=r"(?s)no weights are published for zz_tiny.*zz_other.*weights=PATH"):
            create("zz_tiny", pretrained=True)

    def test_a_default_tag_that_is_not_there_is_no_silent_downgrade(self, clean):
        register("zz_tiny", default_tag="best")
        bundle(clean, tag="sports")
        with pytest.raises(RuntimeError, match=r"zz_tiny as its default, 'best' \(its tags: sports\)"):
            create("zz_tiny", pretrained=True)

    def test_unknown_argument(self):
        register("zz_tiny")
        with pytest.raises(TypeError, match="depth"):
            create("zz_tiny", depth=3)

    @pytest.mark.parametrize("name", ["https://x.y/z", "local-dir:", "timm:resnet18"])
    def test_unknown_scheme(self, name):
        with pytest.raises(ValueError, match=r"expected NAME, NAME\.TAG, local-dir:DIR or hf-hub:"):
            create(name)


class TestBundledWeights:
    @pytest.fixture(autouse=True)
    def model(self, clean):
        register("zz_tiny", aliases=("zz",))
        self.source = bundle(clean)

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("zz_tiny.sports", {}),
            ("zz.sports", {}),
            ("zz_tiny.sports", {"pretrained": True}),
            ("zz_tiny", {"pretrained": True}),
            ("zz_tiny", {"weights": "sports"}),
            ("zz_tiny", {"weights": "zz_tiny.sports"}),
            ("zz", {"weights": "zz.sports"}),
            ("zz_tiny", {"weights": "sports", "pretrained": True}),
        ],
    )
    def test_every_way_to_name_them(self, name, options):
        model = build(name, seed=1, **options)
        assert same(model, self.source)
        assert (model.num_classes, model.load_report.pinned) == (5, "unpinned")
        cfg = model.pretrained_cfg
        assert (cfg["tag"], cfg["classes"], cfg["mean"]) == ("sports", CLASSES, (0.1, 0.2, 0.3))
        assert (cfg["licence"], cfg["metrics"]) == ("MIT", {"accuracy": 0.9})
        assert str(model.load_report).startswith("zz_tiny.sports (bundled zz_tiny.sports.safetensors): ")

    def test_an_entry_of_list_weights(self):
        (entry,) = list_weights("zz_tiny*")
        assert (entry.name, entry.classes) == ("zz_tiny.sports", CLASSES)
        assert same(build("zz_tiny", seed=1, weights=entry), self.source)

    def test_another_number_of_classes(self):
        model = build("zz_tiny.sports", seed=1, num_classes=2)
        assert set(model.load_report.reheaded) == {"fc.weight", "fc.bias"}
        assert same(model, self.source, [k for k in model.state_dict() if not k.startswith("fc.")])
        # Names and scores of the old classes do not describe the new head.
        assert "classes" not in model.pretrained_cfg
        assert "metrics" not in model.pretrained_cfg
        assert model.pretrained_cfg["num_classes"] == 2

    def test_no_classifier(self):
        model = build("zz_tiny.sports", seed=1, num_classes=0)
        assert isinstance(model.fc, nn.Identity)
        assert set(model.load_report.reheaded) == {"fc.weight", "fc.bias"}

    def test_another_number_of_channels(self):
        model = build("zz_tiny.sports", seed=1, in_chans=1)
        wanted = self.source.backbone[0].weight.detach().sum(1, keepdim=True)
        torch.testing.assert_close(model.backbone[0].weight.detach(), wanted, rtol=0, atol=1e-6)
        assert model.load_report.adapted == ("backbone.0.weight",)
        assert model.pretrained_cfg["input_size"] == (1, 16, 16)

    def test_stored_arguments_are_defaults_and_the_users_win(self, clean):
        source = bundle(clean, tag="wide", dim=9, in_chans=1, shape=(3, 4))
        model = build("zz_tiny.wide", seed=1)
        assert same(model, source)
        assert (model.in_chans, model.shape) == (1, (3, 4))
        assert build("zz_tiny.wide", shape=(5, 6)).shape == (5, 6)
        with pytest.raises(RuntimeError, match=r"neck\.weight: file \(9, 9\), model \(6, 6\)"):
            create("zz_tiny.wide", dim=6)

    def test_unknown_tag(self):
        with pytest.raises(ValueError, match=r"no weights tagged 'spots'; published tags: sports"):
            create("zz_tiny.spots")
        with pytest.raises(ValueError, match=r"weights='spots' is neither a file nor a tag"):
            create("zz_tiny", weights="spots")
        with pytest.raises(ValueError, match=r"no weights tagged ''"):
            create("zz_tiny.")

    def test_two_sources_at_once(self, tmp_path):
        for name in ("zz_tiny.sports", f"local-dir:{tmp_path}", "hf-hub:org/name"):
            with pytest.raises(ValueError, match="two sources of weights"):
                create(name, weights=self.source.state_dict())

    def test_lists(self, clean):
        register("zz_bare")
        register("zz_start", weights=[WeightsInfo(tag="in1k", covers="backbone", source="file", location="x")])
        assert list_models("zz*") == ["zz_bare", "zz_start", "zz_tiny"]
        assert list_models("zz*", pretrained=True) == ["zz_tiny"]
        assert [entry.name for entry in list_weights("zz*")] == ["zz_start.in1k", "zz_tiny.sports"]
        assert [entry.name for entry in list_weights("*.sports")] == ["zz_tiny.sports"]

    def test_default_tag_decides(self, clean):
        register("zz_two", default_tag="b")
        bundle(clean, "zz_two", "a", seed=2)
        wanted = bundle(clean, "zz_two", "b", seed=3)
        assert same(build("zz_two", seed=1, pretrained=True), wanted)
        assert [entry.tag for entry in model_info("zz_two").weights] == ["b", "a"]

    def test_whole_models_come_before_backbones(self, clean):
        start = WeightsInfo(tag="aa", covers="backbone", source="file", location="absent")
        whole = WeightsInfo(tag="zz", source="file", location=str(clean / "zz_tiny.sports.safetensors"))
        register("zz_both", weights=[start, whole])
        assert [entry.tag for entry in model_info("zz_both").weights] == ["zz", "aa"]

    def test_bundled_weights_win_over_published_ones_of_the_same_tag(self, clean):
        register("zz_both", weights=[WeightsInfo(tag="sports", source="file", location="absent")])
        wanted = bundle(clean, "zz_both")
        assert same(build("zz_both.sports", seed=1), wanted)


class TestOwnWeights:
    @pytest.fixture(autouse=True)
    def model(self, tmp_path):
        register("zz_tiny")
        self.source = build("zz_tiny", num_classes=5, dim=9)
        self.path = save_checkpoint(self.source, tmp_path / "own.safetensors", metadata={"classes": CLASSES})

    def test_safetensors_file_brings_its_arguments_and_classes(self):
        for path in (self.path, str(self.path)):
            model = build("zz_tiny", seed=1, weights=path)
            assert same(model, self.source)
            assert model.pretrained_cfg["classes"] == CLASSES

    def test_pickle_file_and_state_dict_bring_their_number_of_classes(self, tmp_path):
        torch.save(self.source.state_dict(), tmp_path / "own.pth")
        for weights in (tmp_path / "own.pth", self.source.state_dict()):
            assert same(build("zz_tiny", seed=1, weights=weights, dim=9), self.source)

    def test_file_of_another_model(self):
        register("zz_other")
        with pytest.raises(ValueError, match="holds weights of 'zz_tiny', not of 'zz_other'"):
            create("zz_other", weights=self.path)
        assert same(create("zz_other", weights=read_checkpoint(self.path)[0], dim=9), self.source)

    def test_not_strict(self):
        state = self.source.state_dict()
        del state["neck.bias"]
        with pytest.raises(RuntimeError, match=r"missing from the file: neck\.bias"):
            create("zz_tiny", weights=state, dim=9)
        with pytest.warns(UserWarning, match=r"neck\.bias"):
            model = create("zz_tiny", weights=state, dim=9, strict=False)
        assert model.load_report.random == ("neck.bias",)

    def test_reheaded_model_saves_no_stale_classes(self, tmp_path):
        model = create("zz_tiny", weights=self.path, num_classes=2)
        assert "classes" not in read_checkpoint(save_checkpoint(model, tmp_path / "b.safetensors"))[1]


class TestBackbone:
    def test_pretrained_warns_once_and_names_the_random_parts(self, tmp_path):
        register("zz_source")
        source = build("zz_source")
        state = {k.removeprefix("backbone."): v for k, v in source.state_dict().items() if "backbone." in k}
        save_file({**state, "fc.weight": torch.zeros(1)}, tmp_path / "in1k.safetensors")
        entry = WeightsInfo(
            tag="in1k",
            covers="backbone",
            source="file",
            location=str(tmp_path / "in1k.safetensors"),
            prefix="backbone.",
            exclude=("fc.*",),
        )
        register("zz_tiny", weights=[entry])
        with pytest.warns(UserWarning, match=r"zz_tiny\.in1k .*: neck, fc$") as caught:
            model = build("zz_tiny", seed=1, pretrained=True)
        assert len(caught) == 1
        assert same(model, source, [k for k in model.state_dict() if k.startswith("backbone.")])
        assert model.num_classes == 4
        assert "tag" not in model.pretrained_cfg


class TestSavePretrained:
    @pytest.fixture(autouse=True)
    def model(self, tmp_path):
        register("zz_tiny", paper="A paper")
        self.folder = tmp_path / "saved"
        self.source = build("zz_tiny", num_classes=5, dim=9, shape=(3, 4))
        self.source.pretrained_cfg |= {"classes": CLASSES, "licence": "CC-BY-4.0", "data": "our photographs"}
        self.source.pretrained_cfg |= {"test_input_size": (3, 32, 32), "crop_pct": 1.0}

    def test_round_trip(self):
        assert self.source.save_pretrained(self.folder) == self.folder
        assert sorted(path.name for path in self.folder.iterdir()) == [
            "README.md",
            "config.json",
            "model.safetensors",
        ]
        model = build(f"local-dir:{self.folder}", seed=1)
        assert same(model, self.source)
        assert (model.num_classes, model.shape) == (5, (3, 4))
        assert model.pretrained_cfg["classes"] == CLASSES
        assert model.pretrained_cfg["model_args"] == {"dim": 9, "shape": (3, 4)}
        assert (model.pretrained_cfg["test_input_size"], model.pretrained_cfg["crop_pct"]) == ((3, 32, 32), 1.0)
        assert model.load_report.pinned == "sha256 checked"
        again = build(f"local-dir:{model.save_pretrained(self.folder / 'again')}", seed=2)
        assert same(again, self.source)

    def test_other_classes_and_channels(self):
        self.source.save_pretrained(self.folder)
        model = create(f"local-dir:{self.folder}", num_classes=3, in_chans=1)
        assert (model.num_classes, model.in_chans) == (3, 1)

    def test_card(self):
        self.source.save_pretrained(self.folder, metadata={"metrics": {"accuracy": 0.75}})
        card = (self.folder / "README.md").read_text()
        assert card.startswith("---\nlibrary_name: actionzoo\n")
        for part in ("license: cc-by-4.0", "pipeline_tag: image-classification", "# zz_tiny", "A paper"):
            assert f"{part}\n" in card
        assert str(self.folder.parent) not in card
        for part in ('create("local-dir:saved")', "our photographs", "| accuracy | 0.75 |", "run, jump"):
            assert part in card

    def test_licence_that_the_hub_does_not_list(self):
        self.source.save_pretrained(self.folder, metadata={"licence": "Research: only"})
        card = (self.folder / "README.md").read_text()
        assert 'license: other\nlicense_name: "Research: only"\n' in card

    def test_nameless_model(self):
        with pytest.raises(ValueError, match="does not know the name"):
            TinyNet().save_pretrained(self.folder)

    def test_damaged_folder(self):
        self.source.save_pretrained(self.folder)
        weights = self.folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
        with pytest.raises(RuntimeError, match="not the file that was published"):
            create(f"local-dir:{self.folder}")
        weights.unlink()
        with pytest.raises(RuntimeError, match=r"model\.safetensors is missing"):
            create(f"local-dir:{self.folder}")
        (self.folder / "config.json").write_text("{")
        with pytest.raises(RuntimeError, match=r"cannot read the model configuration"):
            create(f"local-dir:{self.folder}")
        (self.folder / "config.json").write_text("{}")
        with pytest.raises(RuntimeError, match=r"names no 'architecture'"):
            create(f"local-dir:{self.folder}")
        with pytest.raises(RuntimeError, match=r"is not a folder"):
            create(f"local-dir:{self.folder / 'absent'}")

    def test_folder_of_an_unknown_model(self):
        self.source.save_pretrained(self.folder, metadata={"architecture": "zz_foreign"})
        with pytest.raises(ValueError, match="holds a 'zz_foreign', which is not a registered model"):
            create(f"local-dir:{self.folder}")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on the loopback interface; nothing touches the user's own cache or token."""
    from huggingface_hub import constants

    with serve() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "default-cache"))
        yield server


class TestHub:
    @pytest.fixture(autouse=True)
    def model(self, hub):
        register("zz_tiny")
        self.source = build("zz_tiny", num_classes=5, dim=9)
        self.source.pretrained_cfg["classes"] = CLASSES

    def test_push_then_create(self, hub, tmp_path):
        commit = self.source.push_to_hub("org/zz", token="hf_test", private=True, commit_message="First")
        assert commit == hub.branches["org/zz"]["main"]
        assert hub.private["org/zz"] is True
        assert sorted(hub.commits["org/zz"][commit]) == ["README.md", "config.json", "model.safetensors"]
        assert b'create("hf-hub:org/zz")' in hub.commits["org/zz"][commit]["README.md"]

        model = build(f"hf-hub:org/zz@{commit}", seed=1, cache_dir=tmp_path / "cache")
        assert same(model, self.source)
        assert model.pretrained_cfg["classes"] == CLASSES
        assert model.load_report.pinned == f"revision {commit}, sha256 checked"
        assert not (tmp_path / "default-cache").exists()

    def test_revision_is_honoured(self, hub, tmp_path):
        first = self.source.push_to_hub("org/zz", token="hf_test")
        other = build("zz_tiny", seed=5, num_classes=5, dim=9)
        second = other.push_to_hub("org/zz", revision="v2", token="hf_test")
        assert hub.branches["org/zz"] == {"main": first, "v2": second}
        for name, wanted in (("org/zz", self.source), ("org/zz@v2", other), (f"org/zz@{first}", self.source)):
            assert same(build(f"hf-hub:{name}", seed=1, cache_dir=tmp_path), wanted)
        report = create("hf-hub:org/zz", cache_dir=tmp_path).load_report
        assert report.pinned == f"unpinned (commit {first[:12]})"

    def test_weights_come_from_the_commit_of_their_config(self, hub, tmp_path):
        self.source.push_to_hub("org/zz", token="hf_test")
        other = build("zz_tiny", seed=5, num_classes=5, dim=9)

        def push_in_between(path):
            if path.endswith("config.json"):
                hub.after_reply = lambda path: None
                save_checkpoint(other, tmp_path / "other.safetensors")
                hub.commit("org/zz", "main", {"model.safetensors": (tmp_path / "other.safetensors").read_bytes()})

        hub.after_reply = push_in_between
        assert same(build("hf-hub:org/zz@main", seed=1, cache_dir=tmp_path / "cache"), self.source)

    def test_offline_with_and_without_a_cached_copy(self, hub, tmp_path, monkeypatch):
        from huggingface_hub import constants

        commit = self.source.push_to_hub("org/zz", token="hf_test")
        create("hf-hub:org/zz", cache_dir=tmp_path / "cache")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        asked = len(hub.requests)
        for name in ("hf-hub:org/zz", "hf-hub:org/zz@main", f"hf-hub:org/zz@{commit}"):
            assert same(build(name, seed=1, cache_dir=tmp_path / "cache"), self.source)
        with pytest.raises(RuntimeError, match=r"config\.json of hf-hub:org/zz.*not in the local cache.*cache_dir="):
            create("hf-hub:org/zz", cache_dir=tmp_path / "empty")
        assert len(hub.requests) == asked

    def test_weights_published_on_the_hub(self, hub, tmp_path):
        commit = self.source.push_to_hub("org/zz", token="hf_test")
        entry = WeightsInfo(tag="big", source="hf-hub", location="org/zz", revision=commit, num_classes=5)
        _catalogue.remove("zz_tiny")
        register("zz_tiny", weights=[entry], timm=True)
        assert list_models("zz*", pretrained=True) == ["zz_tiny"]
        assert same(build("zz_tiny", seed=1, pretrained=True, cache_dir=tmp_path), self.source)
        assert same(build("zz_tiny.big", seed=1, cache_dir=tmp_path), self.source)
        made = timm.create_model("zz_tiny.big", pretrained=True, cache_dir=tmp_path)
        assert same(made, self.source)
        assert made.load_report.pinned == f"revision {commit}, sha256 checked"


class TestTimm:
    @pytest.fixture(autouse=True)
    def model(self, clean):
        register("zz_source")
        self.source = bundle(clean, "zz_source")
        # Bundled weights are there when a model is registered, as they are when the package is imported.
        (clean / "zz_source.sports.safetensors").rename(clean / "zz_tiny.sports.safetensors")
        self.path = clean / "zz_tiny.sports.safetensors"
        state, metadata = read_checkpoint(self.path)
        save_file(state, self.path, {"actionzoo": json.dumps({**metadata, "architecture": "zz_tiny"})})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            register("zz_tiny", timm=True)
            register("zz_bare", timm=True)

    def test_lists_are_truthful(self):
        assert timm.list_models("zz_*") == ["zz_bare", "zz_tiny"]
        assert timm.list_models("zz_*", pretrained=True) == ["zz_tiny.sports"]
        assert timm.is_model("zz_tiny")
        assert not timm.is_model("zz_source")
        assert timm.models.is_model_pretrained("zz_tiny")
        assert not timm.models.is_model_pretrained("zz_bare")
        entry = timm.models.model_entrypoint("zz_tiny")
        assert (entry.__name__, entry.__module__) == ("zz_tiny", __name__)

    def test_configs_are_truthful(self):
        cfg = timm.get_pretrained_cfg("zz_tiny")
        assert (cfg.architecture, cfg.tag, cfg.num_classes) == ("zz_tiny", "sports", 5)
        assert (cfg.input_size, cfg.mean, cfg.label_names) == ((3, 16, 16), (0.1, 0.2, 0.3), CLASSES)
        assert (cfg.classifier, cfg.first_conv, cfg.license) == ("fc", "backbone.0", "MIT")
        assert Path(cfg.file) == self.path
        bare = timm.get_pretrained_cfg("zz_bare")
        assert (bare.tag, bare.file, bare.num_classes, bare.input_size) == (None, None, 4, (3, 16, 16))
        with pytest.raises(RuntimeError, match="Invalid pretrained tag"):
            timm.create_model("zz_tiny.absent", pretrained=True)

    def test_create_passes_sizes_through(self):
        for num_classes in (None, 0, 7):
            model = timm.create_model("zz_tiny", num_classes=num_classes, in_chans=1)
            assert model.num_classes == (4 if num_classes is None else num_classes)
            assert model.in_chans == 1
            assert model.load_report.loaded == ()
        assert model.pretrained_cfg is model.default_cfg

    @pytest.mark.parametrize("name", ["zz_tiny", "zz_tiny.sports"])
    def test_pretrained_loads_through_our_loader(self, name):
        model = timm.create_model(name, pretrained=True)
        assert same(model, self.source)
        assert model.load_report.source == "zz_tiny.sports (bundled zz_tiny.sports.safetensors)"

    def test_a_tag_without_pretrained_only_sets_the_defaults(self):
        model = timm.create_model("zz_tiny.sports")
        assert model.num_classes == 5
        assert model.load_report.loaded == ()

    def test_nothing_published(self):
        with pytest.raises(RuntimeError, match="no weights are published for zz_bare"):
            timm.create_model("zz_bare", pretrained=True)

    def test_a_file_in_the_config_is_loaded_strictly(self, tmp_path):
        torch.save(self.source.state_dict(), tmp_path / "own.pth")
        overlay = {"file": str(tmp_path / "own.pth"), "mean": (0.0, 0.0, 0.0)}
        model = timm.create_model("zz_bare", pretrained=True, pretrained_cfg_overlay=overlay)
        assert same(model, self.source)
        assert model.pretrained_cfg["mean"] == (0.0, 0.0, 0.0)
        model = timm.create_model("zz_bare", pretrained=True, pretrained_cfg={"file": overlay["file"], "std": 1})
        assert same(model, self.source)
        assert model.pretrained_cfg["std"] == 1
        state = {"wrong." + key: value for key, value in self.source.state_dict().items()}
        torch.save(state, tmp_path / "own.pth")
        with pytest.raises(RuntimeError, match="does not fit this TinyNet"):
            timm.create_model("zz_bare", pretrained=True, pretrained_cfg_overlay=overlay)

    def test_a_state_dict_in_the_config(self):
        state = self.source.state_dict()
        model = timm.create_model("zz_bare", pretrained=True, pretrained_cfg={"state_dict": state})
        assert same(model, self.source)
        cfg = timm.models.PretrainedCfg(state_dict=state, crop_pct=0.5)
        model = timm.create_model("zz_bare", pretrained=True, pretrained_cfg=cfg)
        assert same(model, self.source)
        assert model.pretrained_cfg["crop_pct"] == 0.5

    def test_local_dir(self, tmp_path):
        source = build("zz_tiny", seed=3, num_classes=5, shape=(3, 4))
        source.save_pretrained(tmp_path / "saved")
        model = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True)
        assert same(model, source)
        assert model.shape == (3, 4)
        assert timm.create_model(f"local-dir:{tmp_path / 'saved'}").num_classes == 5

    def test_url_is_refused(self):
        with pytest.raises(ValueError, match="bare URL"):
            timm.create_model("zz_bare", pretrained=True, pretrained_cfg={"url": "https://x.y/z.pth"})

    def test_features(self, monkeypatch):
        net = timm.create_model("zz_tiny", pretrained=True, features_only=True)
        images = torch.randn(2, 3, 16, 16)
        (found,) = net.eval()(images)
        torch.testing.assert_close(found, self.source.eval().backbone(images))
        assert net.feature_info.channels() == [6]
        assert net.model.num_classes == 0
        assert "classifier" not in net.pretrained_cfg
        assert net.load_report.loaded
        register("zz_plain", timm=True)
        monkeypatch.delattr(TinyNet, "forward_intermediates")
        with pytest.raises(ValueError, match="no forward_intermediates"):
            timm.create_model("zz_plain", features_only=True)

    def test_withdrawn_models_are_gone(self):
        _catalogue.remove("zz_tiny")
        assert timm.list_models("zz_*") == ["zz_bare"]
        assert "zz_tiny" not in sys.modules[__name__].default_cfgs
