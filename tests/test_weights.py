"""Strict loading, checkpoint files, and where weights come from (`actionzoo/weights.py` and its parts)."""

import hashlib
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from actionzoo import _sources
from actionzoo.weights import (
    HubMixin,
    WeightsInfo,
    bundled_weights,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    verify_weights,
)

from .hub_server import serve

torch.set_num_threads(1)


class Net(HubMixin, nn.Module):
    """A backbone, two stage heads and a head: what the loader distinguishes."""

    def __init__(self, num_classes=4, in_chans=3, dim=6, video=False):
        super().__init__()
        conv = nn.Conv3d(in_chans, dim, (2, 3, 3)) if video else nn.Conv2d(in_chans, dim, 3)
        self.backbone = nn.Sequential(conv, nn.BatchNorm3d(dim) if video else nn.BatchNorm2d(dim))
        self.neck = nn.Linear(dim, dim)
        self.stages = nn.ModuleList(self._classifier(dim, num_classes) for _ in range(2))
        self.head = nn.ModuleDict({"norm": nn.LayerNorm(dim), "fc": self._classifier(dim, num_classes)})
        self.num_classes = num_classes
        self.pretrained_cfg = {"architecture": "net", "classifier": "head.fc", "first_conv": "backbone.0"}
        self.classifier_names = ("stages.0", "stages.1", "head.fc")

    @staticmethod
    def _classifier(dim, num_classes):
        return nn.Linear(dim, num_classes) if num_classes else nn.Identity()


HEADS = {f"{name}.{leaf}" for name in ("stages.0", "stages.1", "head.fc") for leaf in ("weight", "bias")}


def net(seed, **kwargs):
    torch.manual_seed(seed)
    model = Net(**kwargs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(module.running_mean)
            module.num_batches_tracked.fill_(70_000)
    return model


def copy_of(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_equal(found, wanted, keys=None):
    keys = wanted if keys is None else keys
    for key in keys:
        assert torch.equal(found[key], wanted[key]), key


def assert_refused(model, source, *, match, **kwargs):
    """Loading must raise, and leave every tensor as it was."""
    before = copy_of(model)
    with pytest.raises(RuntimeError, match=match):
        load_weights(model, source, **kwargs)
    assert_equal(model.state_dict(), before)


class TestLoadWeights:
    def test_loads_every_tensor(self):
        source, model = net(0), net(1)
        report = load_weights(model, source.state_dict())
        assert_equal(model.state_dict(), source.state_dict())
        assert set(report.loaded) == set(source.state_dict())
        assert (report.reheaded, report.adapted, report.random, report.unused) == ((), (), (), ())
        assert report.pinned == "unpinned"

    def test_renamed_tensor_is_refused_and_nothing_is_written(self):
        state = net(0).state_dict()
        state["neck.wight"] = state.pop("neck.weight")
        assert_refused(net(1), state, match=r"1 missing from the file: neck\.weight.*not in the model: neck\.wight")

    @pytest.mark.parametrize("key", ["backbone.1.running_mean", "neck.bias", "head.fc.bias", "head.fc.weight"])
    def test_missing_tensor_is_refused(self, key):
        state = net(0).state_dict()
        del state[key]
        assert_refused(net(1), state, match=f"missing from the file: {key}")

    def test_other_shape_is_refused_with_both_shapes(self):
        state = {**net(0).state_dict(), "neck.weight": torch.zeros(6, 7)}
        assert_refused(net(1), state, match=r"neck\.weight: file \(6, 7\), model \(6, 6\)")

    def test_integers_do_not_fill_floating_tensors(self):
        state = {**net(0).state_dict(), "neck.bias": torch.zeros(6, dtype=torch.int64)}
        assert_refused(net(1), state, match=r"neck\.bias: file torch\.int64, model torch\.float32")

    def test_long_lists_are_cut_and_counted(self):
        model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(20)))
        assert_refused(model, {"x": torch.zeros(1)}, match=r"40 missing from the file: .* and 30 more")

    def test_only_batch_counters_may_be_absent(self):
        source, model = net(0), net(1)
        state = source.state_dict()
        del state["backbone.1.num_batches_tracked"]
        report = load_weights(model, state)
        assert_equal(model.state_dict(), state)
        assert report.random == ()

    def test_meta_model_is_refused(self):
        with torch.device("meta"):
            model = Net()
        with pytest.raises(RuntimeError, match="meta device"):
            load_weights(model, net(0).state_dict())

    def test_not_strict_loads_the_rest_with_one_warning(self):
        source, model = net(0), net(1)
        before, state = copy_of(model), source.state_dict()
        state["neck.wight"] = state.pop("neck.weight")
        state["neck.bias"] = torch.zeros(7)
        with pytest.warns(UserWarning, match=r"strict=False") as caught:
            report = load_weights(model, state, strict=False)
        assert len(caught) == 1
        assert_equal(model.state_dict(), source.state_dict(), set(state) - {"neck.wight", "neck.bias"})
        assert_equal(model.state_dict(), before, ("neck.weight", "neck.bias"))
        assert set(report.unused) == {"neck.wight", "neck.bias"}
        assert report.random == ("neck",)

    def test_wrong_types_are_refused(self):
        with pytest.raises(TypeError, match="not tensors: neck"):
            load_weights(net(0), {"neck": 3})
        with pytest.raises(TypeError, match="got int"):
            load_weights(net(0), [3])


class TestOtherSizes:
    @pytest.mark.parametrize("num_classes", [1, 7])
    def test_another_number_of_classes_leaves_all_classifiers_random(self, num_classes):
        source, model = net(0), net(1, num_classes=num_classes)
        before = copy_of(model)
        report = load_weights(model, source.state_dict())
        assert set(report.reheaded) == HEADS
        assert_equal(model.state_dict(), before, HEADS)
        assert_equal(model.state_dict(), source.state_dict(), set(before) - HEADS)
        assert set(report.random) == {"stages", "head.fc"}

    def test_no_classes_drops_the_classifiers(self):
        source, model = net(0), net(1, num_classes=0)
        report = load_weights(model, source.state_dict())
        assert set(report.reheaded) == HEADS
        assert_equal(model.state_dict(), source.state_dict(), model.state_dict())

    def test_file_without_classifiers_leaves_them_random(self, tmp_path):
        path = save_checkpoint(net(0, num_classes=0), tmp_path / "a.safetensors")
        report = load_weights(net(1), path)
        assert set(report.reheaded) == HEADS

    def test_other_width_of_a_classifier_is_no_change_of_classes(self):
        state = {**net(0).state_dict(), "head.fc.weight": torch.zeros(4, 5)}
        assert_refused(net(1), state, match=r"head\.fc\.weight: file \(4, 5\), model \(4, 6\)")

    def test_one_channel_sums_the_three(self):
        source, model = net(0), net(1, in_chans=1)
        report = load_weights(model, source.state_dict())
        wanted = source.backbone[0].weight.detach().sum(1, keepdim=True)
        torch.testing.assert_close(model.backbone[0].weight.detach(), wanted, rtol=0, atol=1e-6)
        assert report.adapted == ("backbone.0.weight",)

    @pytest.mark.parametrize("video", [False, True], ids=["image", "clip"])
    def test_more_channels_repeat_the_three(self, video):
        source, model = net(0, video=video), net(1, in_chans=5, video=video)
        load_weights(model, source.state_dict())
        weight = source.backbone[0].weight.detach()
        wanted = torch.stack([weight[:, i % 3] for i in range(5)], dim=1) * 3 / 5
        torch.testing.assert_close(model.backbone[0].weight.detach(), wanted, rtol=0, atol=1e-6)

    def test_channels_are_adapted_in_the_named_convolution_alone(self):
        model = net(1, in_chans=1)
        model.pretrained_cfg["first_conv"] = None
        assert_refused(model, net(0).state_dict(), match=r"backbone\.0\.weight: file \(6, 3, 3, 3\)")

    def test_channels_other_than_three_are_not_adapted(self):
        assert_refused(net(1), net(0, in_chans=2).state_dict(), match=r"file \(6, 2, 3, 3\), model \(6, 3, 3, 3\)")


class TestBackbone:
    entry = WeightsInfo(model="net", tag="x", covers="backbone", source="file", prefix="backbone.", exclude=("fc.*",))

    def write(self, folder, extra=(), drop=()):
        state = {key.removeprefix("backbone."): v for key, v in net(0).state_dict().items() if "backbone" in key}
        state |= {key: torch.zeros(2) for key in extra}
        save_file({key: v for key, v in state.items() if key not in drop}, folder / "b.safetensors")
        return _sources.replace(self.entry, location=str(folder / "b.safetensors"))

    def test_one_warning_names_what_stays_random(self, tmp_path):
        model, source = net(1), net(0)
        before = copy_of(model)
        with pytest.warns(UserWarning, match=r"backbone only; .*: neck, stages, head$") as caught:
            report = load_weights(model, self.write(tmp_path, extra=("fc.weight", "fc.bias")))
        assert len(caught) == 1
        covered = {key for key in before if key.startswith("backbone.")}
        assert set(report.loaded) == covered
        assert_equal(model.state_dict(), source.state_dict(), covered)
        assert_equal(model.state_dict(), before, set(before) - covered)
        assert report.random == ("neck", "stages", "head")

    def test_every_tensor_under_the_prefix_must_be_provided(self, tmp_path):
        entry = self.write(tmp_path, drop=("1.running_var",))
        assert_refused(net(1), entry, match=r"missing from the file: backbone\.1\.running_var")

    def test_every_tensor_that_is_not_excluded_must_land(self, tmp_path):
        entry = self.write(tmp_path, extra=("layer5.weight",))
        assert_refused(net(1), entry, match=r"not in the model: backbone\.layer5\.weight")

    def test_classifier_inside_the_backbone_stays_random(self, tmp_path):
        model = net(1)
        model.backbone.append(nn.Linear(6, 4))
        model.pretrained_cfg["classifier"] = "backbone.2"
        with pytest.warns(UserWarning, match=r"random initialisation: backbone\.2, neck"):
            load_weights(model, self.write(tmp_path))

    def test_several_entries_make_one_set_with_one_warning(self, tmp_path):
        model, source = net(1), net(0)
        save_file({"weight": source.neck.weight, "bias": source.neck.bias}, tmp_path / "n.safetensors")
        neck = _sources.replace(self.entry, location=str(tmp_path / "n.safetensors"), prefix="neck.", exclude=())
        with pytest.warns(UserWarning, match=r"random initialisation: stages, head$") as caught:
            load_weights(model, [self.write(tmp_path), neck])
        assert len(caught) == 1
        assert torch.equal(model.neck.weight, source.neck.weight)


class TestFiles:
    def test_round_trip_of_tensors_and_metadata(self, tmp_path):
        model = net(0)
        model.neck.weight = nn.Parameter(model.neck.weight.detach().t())
        model.twin = model.neck
        assert not model.neck.weight.is_contiguous()
        path = save_checkpoint(model, tmp_path / "a.safetensors", metadata={"classes": ["a", "b", "c", "d"]})
        state, metadata = read_checkpoint(path)
        assert set(state) == set(model.state_dict())
        assert_equal(state, model.state_dict())
        assert metadata["architecture"] == "net"
        assert metadata["num_classes"] == 4
        assert metadata["classes"] == ("a", "b", "c", "d")
        assert metadata["version"]
        other = net(1)
        other.twin = other.neck
        load_weights(other, path)
        assert_equal(other.state_dict(), model.state_dict())

    def test_class_names_of_another_number_of_classes_are_not_written(self, tmp_path):
        model = net(0)
        model.pretrained_cfg["classes"] = ("a", "b")
        assert "classes" not in read_checkpoint(save_checkpoint(model, tmp_path / "a.safetensors"))[1]

    def test_half_precision_file(self, tmp_path):
        source, model = net(0), net(1)
        path = save_checkpoint(source, tmp_path / "a.safetensors", dtype=torch.float16)
        stored = load_file(path)
        assert stored["neck.weight"].dtype == torch.float16
        assert stored["backbone.1.num_batches_tracked"].item() == 70_000
        load_weights(model, path)
        assert model.neck.weight.dtype == torch.float32
        assert torch.equal(model.neck.weight, source.neck.weight.half().float())
        assert model.backbone[1].num_batches_tracked.item() == 70_000

    def test_cast_that_overflows_is_refused_and_leaves_no_file(self, tmp_path):
        model = net(0)
        model.neck.bias.data[2] = 70_000.0
        with pytest.raises(ValueError, match=r"neck\.bias is not finite as torch\.float16"):
            save_checkpoint(model, tmp_path / "a.safetensors", dtype=torch.float16)
        assert list(tmp_path.iterdir()) == []

    def test_failed_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = save_checkpoint(net(0), tmp_path / "a.safetensors")
        before = path.read_bytes()

        def full_disk(*args):
            raise OSError("no space left")

        monkeypatch.setattr(os, "replace", full_disk)
        with pytest.raises(OSError, match="no space"):
            save_checkpoint(net(1), path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_only_safetensors_are_written(self, tmp_path):
        with pytest.raises(ValueError, match=r"expected NAME\.safetensors"):
            save_checkpoint(net(0), tmp_path / "a.pth")

    def test_argument_that_json_cannot_hold_is_named(self, tmp_path):
        model = net(0)
        model.pretrained_cfg["model_args"] = {"detector": nn.Identity()}
        with pytest.raises(TypeError, match=r"model_args\['detector'\] is a Identity"):
            model.save_pretrained(tmp_path / "new")
        assert not (tmp_path / "new").exists()
        save_checkpoint(model, tmp_path / "a.safetensors", metadata={"model_args": {}})

    @pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "ddp"])
    def test_pickle_of_tensors(self, tmp_path, wrap):
        source, model = net(0), net(1)
        state = source.state_dict()
        content = {wrap: state, "epoch": 3} if wrap in ("state_dict", "model") else state
        if wrap == "ddp":
            content = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
        torch.save(content, tmp_path / "a.pth")
        load_weights(model, tmp_path / "a.pth")
        assert_equal(model.state_dict(), state)

    @pytest.mark.parametrize("plain", [True, False], ids=["pickle", "torch.save"])
    def test_malicious_pickle_is_refused_without_running(self, tmp_path, plain):
        class Attack:
            def __reduce__(self):
                return Path.touch, (tmp_path / "touched",)

        path = tmp_path / "a.pth"
        if plain:
            path.write_bytes(pickle.dumps({"neck.weight": Attack()}, protocol=2))
        else:
            torch.save({"neck.weight": Attack()}, path)
        assert_refused(net(0), path, match="refused to load")
        assert not (tmp_path / "touched").exists()

    @pytest.mark.parametrize("size", [0, 5, 200, -1])
    def test_truncated_safetensors(self, tmp_path, size):
        path = save_checkpoint(net(0), tmp_path / "a.safetensors")
        path.write_bytes(path.read_bytes()[:size])
        assert_refused(net(1), path, match=r"cannot read .*a\.safetensors.*truncated")

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"], ids=["0", "text", "zip"])
    def test_corrupt_pickle(self, tmp_path, content):
        (tmp_path / "a.pth").write_bytes(content)
        assert_refused(net(1), tmp_path / "a.pth", match=r"(cannot read|refused to load) .*a\.pth")

    def test_truncated_torch_file(self, tmp_path):
        torch.save(net(0).state_dict(), tmp_path / "a.pth")
        (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-300])
        assert_refused(net(1), tmp_path / "a.pth", match=r"(cannot read|refused to load) .*a\.pth")

    @pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
    def test_missing_file(self, tmp_path, name):
        assert_refused(net(1), tmp_path / name, match=f"cannot read .*{name}")

    def test_file_of_other_things(self, tmp_path):
        torch.save([torch.zeros(1)], tmp_path / "list.pth")
        assert_refused(net(1), tmp_path / "list.pth", match="holds a list, expected a state dict")
        torch.save({"neck.weight": 1}, tmp_path / "int.pth")
        assert_refused(net(1), tmp_path / "int.pth", match=r"not tensors: neck\.weight")

    def test_checksum(self, tmp_path):
        path = save_checkpoint(net(0), tmp_path / "a.safetensors")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entry = WeightsInfo(model="net", tag="a", source="file", location=str(path), sha256=digest)
        assert load_weights(net(1), entry).pinned == "sha256 checked"
        wrong = _sources.replace(entry, sha256="0" * 64)
        assert_refused(net(1), wrong, match=f"sha256 is {digest}, expected 0000")


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """A package folder with one good, one changed, one damaged, one unrecorded and one lost file."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setattr(_sources, "CHECKPOINTS", folder)
    sums = {}
    for tag in ("good", "changed", "damaged", "unrecorded"):
        described = {"classes": ["a", "b", "c", "d"], "licence": "MIT", "metrics": {"accuracy": 0.5}}
        path = save_checkpoint(net(0), folder / f"net.{tag}.safetensors", metadata=described)
        sums[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    save_checkpoint(net(1), folder / "net.changed.safetensors")
    (folder / "net.damaged.safetensors").write_bytes(b"\0" * 30)
    del sums["net.unrecorded.safetensors"]
    sums["net.lost.safetensors"] = "1" * 64
    lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


class TestBundled:
    def test_headers_describe_the_weights(self, checkpoints):
        found = {entry.tag: entry for entry in bundled_weights("net.*")}
        assert sorted(found) == ["changed", "damaged", "good", "unrecorded"]
        good = found["good"]
        assert (good.name, good.covers, good.source, good.num_classes) == ("net.good", "model", "bundled", 4)
        assert (good.classes, good.licence, good.metrics) == (("a", "b", "c", "d"), "MIT", {"accuracy": 0.5})
        assert found["damaged"].num_classes is None
        assert bundled_weights("other.*") == []

    def test_checksums_are_enforced(self, checkpoints):
        found = {entry.tag: entry for entry in bundled_weights()}
        assert load_weights(net(1), found["good"]).pinned == "sha256 checked"
        assert load_weights(net(1), found["unrecorded"]).pinned == "unpinned"
        for tag in ("changed", "damaged"):
            assert_refused(net(1), found[tag], match="not the file that was published")

    def test_verify(self, checkpoints):
        rows = {row["name"]: row for row in verify_weights("net.*")}
        assert {name: row["status"] for name, row in rows.items()} == {
            "net.good": "ok",
            "net.changed": "mismatch",
            "net.damaged": "mismatch",
            "net.unrecorded": "unrecorded",
            "net.lost": "missing",
        }
        assert rows["net.good"]["sha256"] == rows["net.good"]["expected"]
        assert [row["name"] for row in verify_weights("*.good")] == ["net.good"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on the loopback interface with a backbone in it; nothing touches the user's own cache."""
    from huggingface_hub import constants

    state = {key.removeprefix("backbone."): v for key, v in net(0).state_dict().items() if "backbone" in key}
    save_file(state, tmp_path / "model.safetensors")
    with serve() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "default-cache"))
        server.create("timm/tiny.x_in1k")
        content = (tmp_path / "model.safetensors").read_bytes()
        server.commit("timm/tiny.x_in1k", "main", {"model.safetensors": content, "config.json": b"{}"})
        yield server


def go_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


class TestHub:
    entry = WeightsInfo(
        model="net", covers="backbone", source="hf-hub", location="timm/tiny.x_in1k", prefix="backbone."
    )

    def load(self, model, entry, cache):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*covers the backbone only")
            return load_weights(model, entry, cache_dir=cache)

    def test_download_then_cache(self, hub, tmp_path, monkeypatch):
        model = net(1)
        report = self.load(model, self.entry, tmp_path / "cache")
        assert self.entry.name == "net.x_in1k"
        assert report.pinned == "unpinned"
        assert torch.equal(model.backbone[0].weight, net(0).backbone[0].weight)
        asked = len(hub.requests)
        assert asked > 0
        go_offline(monkeypatch)
        model = net(2)
        self.load(model, self.entry, tmp_path / "cache")
        assert torch.equal(model.backbone[0].weight, net(0).backbone[0].weight)
        assert len(hub.requests) == asked

    def test_unreachable_server_with_a_cached_file(self, hub, tmp_path, monkeypatch):
        from huggingface_hub import constants

        self.load(net(1), self.entry, tmp_path / "cache")
        closed = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", closed)
        assert len(self.load(net(1), self.entry, tmp_path / "cache").loaded) == 7

    def test_offline_without_a_cached_file(self, hub, tmp_path, monkeypatch):
        go_offline(monkeypatch)
        match = r"(?s)model\.safetensors of hf-hub:timm/tiny\.x_in1k.*not in the local cache.*HF_HUB_CACHE.*weights="
        assert_refused(net(1), self.entry, match=match, cache_dir=tmp_path / "cache")

    @pytest.mark.parametrize(
        "change", [{"location": "timm/absent"}, {"filename": "absent.safetensors"}, {"revision": "absent"}]
    )
    def test_what_the_hub_does_not_have(self, hub, tmp_path, change):
        assert_refused(net(1), _sources.replace(self.entry, **change), match="cannot get .*absent", cache_dir=tmp_path)

    def test_bad_repository_name(self, hub, tmp_path):
        with pytest.raises(ValueError, match="expected ORG/NAME"):
            load_weights(net(1), _sources.replace(self.entry, location="a/b/c"), cache_dir=tmp_path)

    def test_revision_and_checksum_are_checked_and_reported(self, hub, tmp_path):
        commit = hub.branches["timm/tiny.x_in1k"]["main"]
        digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
        pinned = _sources.replace(self.entry, revision=commit, sha256=digest)
        report = self.load(net(1), pinned, tmp_path / "cache")
        assert report.pinned == f"revision {commit}, sha256 checked"
        wrong = _sources.replace(pinned, sha256="f" * 64)
        assert_refused(net(1), wrong, match="not the file that was published", cache_dir=tmp_path / "cache")

    def test_verify_hashes_cached_files_against_the_name_the_hub_gave(self, hub, tmp_path, checkpoints):
        _sources.publish("net", [self.entry])
        try:
            assert verify_weights("net.x_in1k", tmp_path / "cache")[0]["status"] == "not cached"
            self.load(net(1), self.entry, tmp_path / "cache")
            (row,) = verify_weights("net.x_in1k", tmp_path / "cache")
            assert (row["status"], row["source"]) == ("ok", "hf-hub")
            with open(row["path"], "r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\x01")
            assert verify_weights("net.x_in1k", tmp_path / "cache")[0]["status"] == "mismatch"
        finally:
            _sources.withdraw("net")


class TestTorchvision:
    name = "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    entry = WeightsInfo(model="net", covers="backbone", source="torchvision", location=name, prefix="backbone.")

    def test_cached_file_is_found_under_torchvisions_name(self, tmp_path):
        import torchvision

        url = torchvision.models.get_weight(self.name).url
        state = {key.removeprefix("backbone."): v for key, v in net(0).state_dict().items() if "backbone" in key}
        torch.save(state, tmp_path / url.rsplit("/", 1)[-1])
        model = net(1)
        with pytest.warns(UserWarning, match="neck, stages, head"):
            report = load_weights(model, self.entry, cache_dir=tmp_path)
        assert torch.equal(model.backbone[0].weight, net(0).backbone[0].weight)
        assert report.pinned == "unpinned"
        assert self.entry.name == "net.imagenet1k_v1"

    def test_unknown_name(self, tmp_path):
        with pytest.raises(ValueError, match="Absent_Weights"):
            load_weights(net(1), _sources.replace(self.entry, location="Absent_Weights.V1"), cache_dir=tmp_path)


def test_report_in_words():
    report = load_weights(net(1, num_classes=2, in_chans=1), net(0).state_dict())
    text = str(report)
    assert text.startswith("state_dict: 11 tensors loaded, unpinned")
    for part in ("re-headed", "head.fc.weight", "adapted", "backbone.0.weight", "random initialisation"):
        assert part in text


def test_a_checkpoint_has_the_permissions_of_any_new_file(tmp_path):
    save_checkpoint(net(0), tmp_path / "model.safetensors")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
