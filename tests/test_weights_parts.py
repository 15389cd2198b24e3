"""Weights that leave out what bundled weights hold (`actionzoo/_parts.py`)."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import actionzoo
from actionzoo import _catalogue, _sources
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


class Inner(HubMixin, nn.Module):
    """A small network that is trained first."""

    def __init__(self, num_classes=4, in_chans=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(in_chans, 5, 3), nn.BatchNorm2d(5))
        self.fc = nn.Linear(5, num_classes)
        self.num_classes, self.in_chans = num_classes, in_chans
        self.pretrained_cfg = {"architecture": "zz_inner", "classifier": "fc", "input_size": (3, 8, 8)}

    def forward(self, x):
        return self.fc(self.backbone(x).mean((2, 3)))


class Outer(Inner):
    """One that is trained on top of it, with a tensor under the prefix that the inner one lacks."""

    def __init__(self, num_classes=4, in_chans=3):
        super().__init__(num_classes)
        self.pretrained_cfg = {**self.pretrained_cfg, "architecture": "zz_outer"}
        self.inner = Inner()
        self.inner.register_buffer("scale", torch.rand(2))
        self.trunk = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1))


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            # halves of small integers survive float16
            value.copy_(torch.randint(-50, 50, value.shape, generator=generator) / 2)
        else:
            value.fill_(seed + 70_000)
    return model


def entry(name):
    return next(found for found in bundled_weights() if found.name == name)


def record(folder):
    """Write SHA256SUMS for what lies in the folder; returns the checksums by weights' name."""
    sums = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {path.name}\n" for path, digest in sums.items()))
    return {path.stem: digest for path, digest in sums.items()}


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """A package folder that holds the inner network's weights in half precision."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setattr(_sources, "CHECKPOINTS", folder)
    save_checkpoint(randomise(Inner(), 1), folder / "zz_inner.a.safetensors", dtype=torch.float16)
    record(folder)
    return folder


@pytest.fixture
def model(checkpoints):
    """An outer network whose frozen parts are the bundled inner one's."""
    outer = randomise(Outer(), 2)
    inner = randomise(Inner(), 1)
    load_weights(outer.inner, {**outer.inner.state_dict(), **inner.state_dict()})
    load_weights(outer.trunk[:2], inner.backbone.state_dict())
    return outer


INNER = {"inner.": "zz_inner.a"}
TRUNK = {"trunk.": ("zz_inner.a", "backbone.")}
UNDER_INNER = {f"inner.{name}" for name in Inner().state_dict()}
UNDER_TRUNK = {f"trunk.{name}" for name in Inner().backbone.state_dict()}


def assert_equal(found, wanted):
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key


def assert_loads(source, model, **kwargs):
    fresh = randomise(Outer(), 3)
    report = load_weights(fresh, source, **kwargs)
    assert_equal(fresh.state_dict(), model.state_dict())
    assert set(report.loaded) == set(model.state_dict())
    assert (report.reheaded, report.random, report.unused) == ((), (), ())
    return report


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("parts", "gone"),
    [(INNER, UNDER_INNER), (TRUNK, UNDER_TRUNK), (INNER | TRUNK, UNDER_INNER | UNDER_TRUNK)],
    ids=["prefix", "source-prefix", "two"],
)
def test_left_out_and_put_together_again(tmp_path, model, parts, gone, dtype):
    path = save_checkpoint(model, tmp_path / "a.safetensors", dtype=dtype, parts=parts)
    assert set(load_file(path)) == set(model.state_dict()) - gone
    assert {"inner.scale", "trunk.2.weight"} <= set(load_file(path))
    report = assert_loads(path, model)
    assert report.source == f"zz_outer (file {path}), with zz_inner.a"
    assert report.pinned == "unpinned"


def test_without_parts_nothing_is_left_out(tmp_path, model):
    for parts in (None, {}):
        path = save_checkpoint(model, tmp_path / "a.safetensors", parts=parts)
        assert set(load_file(path)) == set(model.state_dict())
        assert "parts" not in read_checkpoint(path)[1]
        assert assert_loads(path, model).source == f"zz_outer (file {path})"


def test_read_checkpoint_gives_the_files_own_tensors_and_the_record(tmp_path, model, checkpoints):
    path = save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER | TRUNK)
    tensors, metadata = read_checkpoint(path)
    assert set(tensors) == set(model.state_dict()) - UNDER_INNER - UNDER_TRUNK
    common = {"weights": "zz_inner.a", "sha256": record(checkpoints)["zz_inner.a"], "unused": ()}
    assert metadata["parts"] == (
        {"prefix": "inner.", "source_prefix": "", "count": 9, **common},
        {"prefix": "trunk.", "source_prefix": "backbone.", "count": 7, **common},
    )


def test_what_the_model_has_no_use_for_is_noted(tmp_path, model):
    model.inner.fc = nn.Identity()
    path = save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)
    assert read_checkpoint(path)[1]["parts"][0]["unused"] == ("fc.bias", "fc.weight")
    fresh = Outer()
    fresh.inner.fc = nn.Identity()
    assert set(load_weights(fresh, path).loaded) == set(model.state_dict())


class TestWhatDiffers:
    @pytest.mark.parametrize("name", ["backbone.0.weight", "backbone.1.running_var", "backbone.1.num_batches_tracked"])
    def test_a_part_that_was_trained_on_is_refused(self, tmp_path, model, name):
        model.inner.state_dict()[name].view(-1)[0] += 1
        with pytest.raises(ValueError, match=rf"inner\.{name} is not the tensor of zz_inner\.a.*save it whole"):
            save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)
        assert not (tmp_path / "a.safetensors").exists()

    def test_the_smallest_difference_counts_until_the_cast_removes_it(self, tmp_path, model):
        weight = model.inner.fc.weight.data
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(torch.inf))
        with pytest.raises(ValueError, match=r"inner\.fc\.weight"):
            save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)
        save_checkpoint(model, tmp_path / "a.safetensors", dtype=torch.float16, parts=INNER)

    def test_minus_zero_is_another_value(self, tmp_path, checkpoints, model):
        model.inner.fc.bias.data.zero_()
        inner = {**read_checkpoint(checkpoints / "zz_inner.a.safetensors")[0], "fc.bias": -torch.zeros(4)}
        save_file(inner, checkpoints / "zz_inner.a.safetensors")
        record(checkpoints)
        with pytest.raises(ValueError, match=r"inner\.fc\.bias"):
            save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)

    def test_another_shape_is_refused(self, tmp_path, model):
        model.inner.fc = nn.Linear(5, 7)
        with pytest.raises(ValueError, match=r"inner\.fc\.bias is not the tensor of zz_inner\.a"):
            save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)


class TestWrongParts:
    @pytest.mark.parametrize(
        ("parts", "error", "match"),
        [
            ({"inner.": "zz_inner.b"}, RuntimeError, r"needs zz_inner\.b, looked for .* holds zz_inner\.a"),
            ({"inner.": "../a"}, RuntimeError, r"needs \.\./a, looked for"),
            ({"inner": "zz_inner.a"}, ValueError, "ends in a dot, got 'inner'"),
            ({"trunk.": ("zz_inner.a", "backbone")}, ValueError, "ends in a dot, got 'backbone'"),
            ({"outer.": "zz_inner.a"}, ValueError, r"no tensor under 'outer\.'.*begin with backbone\., fc\., inner\."),
            (TRUNK | {"trunk.": "zz_inner.a"}, ValueError, r"no tensor under 'trunk\.' that zz_inner\.a has under ''"),
            ({**INNER, "inner.fc.": "zz_inner.a"}, ValueError, r"'inner\.fc\.' lies in 'inner\.'"),
            ({**INNER, "": "zz_inner.a"}, ValueError, r"'inner\.' lies in ''"),
        ],
    )
    def test_wrong_parts_are_refused_when_saving(self, tmp_path, model, parts, error, match):
        with pytest.raises(error, match=match):
            save_checkpoint(model, tmp_path / "a.safetensors", parts=parts)
        assert not (tmp_path / "a.safetensors").exists()

    def test_a_damaged_part_is_refused_when_saving(self, tmp_path, model, checkpoints):
        save_checkpoint(randomise(Inner(), 1), checkpoints / "zz_inner.a.safetensors")
        with pytest.raises(RuntimeError, match=r"zz_inner\.a\.safetensors is another file, with sha256"):
            save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)

    def test_metadata_cannot_claim_parts(self, tmp_path, model):
        with pytest.raises(ValueError, match=r"'parts' .* is written by parts="):
            save_checkpoint(model, tmp_path / "a.safetensors", metadata={"parts": []})


class TestLoading:
    def refused(self, path, match):
        fresh = randomise(Outer(), 3)
        with pytest.raises(RuntimeError, match=match):
            load_weights(fresh, path)
        assert_equal(fresh.state_dict(), randomise(Outer(), 3).state_dict())

    def test_a_part_that_is_missing(self, tmp_path, model, checkpoints):
        path = save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)
        digest = record(checkpoints)["zz_inner.a"]
        (checkpoints / "zz_inner.a.safetensors").unlink()
        where = rf"looked for among the bundled weights: {checkpoints} holds none"
        self.refused(path, rf"a\.safetensors: needs zz_inner\.a \(sha256 {digest}\), {where}.*Install")

    def test_a_part_of_another_version(self, tmp_path, model, checkpoints):
        path = save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)
        old = record(checkpoints)["zz_inner.a"]
        save_checkpoint(randomise(Inner(), 1), checkpoints / "zz_inner.a.safetensors")
        new = record(checkpoints)["zz_inner.a"]
        self.refused(path, rf"needs zz_inner\.a \(sha256 {old}\).*is another file, with sha256 {new}")

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda parts: parts[0].pop("sha256"), "describes a part by prefix, weights"),
            (lambda parts: parts[0].update(count="9"), "describes a part by prefix, weights"),
            (lambda parts: parts.append("zz_inner.a"), "describes a part by prefix.*got 'zz_inner.a'"),
            (lambda parts: parts[0].update(count=8), r"counts 8 tensors of zz_inner\.a under 'inner\.'; it holds 9"),
            (lambda parts: parts[0].update(prefix=""), r"it holds 9, and 9 of them are in the file too"),
            (lambda parts: parts[0].update(weights="../zz_inner.a"), r"needs \.\./zz_inner\.a"),
        ],
    )
    def test_a_damaged_record(self, tmp_path, model, change, match):
        path = save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)
        tensors, metadata = read_checkpoint(path)
        metadata["parts"] = [dict(part) for part in metadata["parts"]]
        change(metadata["parts"])
        save_file(tensors, path, metadata={"actionzoo": json.dumps(metadata)})
        self.refused(path, match)

    def test_other_classes_are_reheaded_as_ever(self, tmp_path, model):
        path = save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)
        report = load_weights(Outer(num_classes=7), path)
        assert set(report.reheaded) == {"fc.weight", "fc.bias"}
        assert set(report.loaded) >= UNDER_INNER


class TestEverySource:
    def test_bundled(self, model, checkpoints):
        save_checkpoint(model, checkpoints / "zz_outer.b.safetensors", dtype=torch.float16, parts=INNER | TRUNK)
        record(checkpoints)
        report = assert_loads(entry("zz_outer.b"), model)
        assert report.source == "zz_outer.b (bundled zz_outer.b.safetensors), with zz_inner.a"
        assert report.pinned == "sha256 checked"
        rows = [(row["name"], row["status"]) for row in verify_weights("zz_*")]
        assert rows == [("zz_inner.a", "ok"), ("zz_outer.b", "ok")]

    def test_a_part_may_be_made_of_parts_itself(self, tmp_path, model, checkpoints):
        save_checkpoint(model, checkpoints / "zz_outer.b.safetensors", parts=INNER)
        record(checkpoints)
        both = nn.ModuleDict({"outer": model, "last": nn.Linear(1, 1)})
        path = save_checkpoint(both, tmp_path / "c.safetensors", parts={"outer.": "zz_outer.b"})
        assert set(load_file(path)) == {"last.weight", "last.bias"}
        fresh = nn.ModuleDict({"outer": Outer(), "last": nn.Linear(1, 1)})
        load_weights(fresh, path)
        assert_equal(fresh.state_dict(), both.state_dict())

    def in_folder(self, model, folder):
        """A saved folder whose weights are replaced by the same in parts."""
        model.save_pretrained(folder)
        path = save_checkpoint(model, folder / "model.safetensors", parts=INNER)
        config = json.loads((folder / "config.json").read_text())
        config["weights_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / "config.json").write_text(json.dumps(config))

    def test_local_folder(self, tmp_path, model):
        self.in_folder(model, tmp_path / "saved")
        info = WeightsInfo(source="local-dir", location=str(tmp_path / "saved"))
        assert assert_loads(info, model).source.endswith(", with zz_inner.a")

    def test_hub(self, tmp_path, model, monkeypatch):
        from huggingface_hub import constants

        self.in_folder(model, tmp_path / "saved")
        with serve() as server:
            monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
            template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            server.create("org/outer")
            files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
            server.commit("org/outer", "main", files)
            info = WeightsInfo(source="hf-hub", location="org/outer")
            report = assert_loads(info, model, cache_dir=tmp_path / "cache")
        assert report.source.endswith(", with zz_inner.a")

    def test_a_loaded_model_is_saved_whole(self, tmp_path, model):
        path = save_checkpoint(model, tmp_path / "a.safetensors", parts=INNER)
        fresh = Outer()
        load_weights(fresh, path)
        fresh.save_pretrained(tmp_path / "saved")
        assert set(load_file(tmp_path / "saved" / "model.safetensors")) == set(model.state_dict())
        shutil.rmtree(_sources.CHECKPOINTS)
        assert_loads(WeightsInfo(source="local-dir", location=str(tmp_path / "saved")), model)


def test_create_by_name(model, checkpoints):
    save_checkpoint(model, checkpoints / "zz_outer.b.safetensors", metadata={"classes": list("abcd")}, parts=INNER)
    record(checkpoints)

    @actionzoo.register_model(paper="none", num_classes=4, input_size=(3, 8, 8))
    def zz_outer(**kwargs) -> nn.Module:
        return Outer(**kwargs)

    try:
        created = actionzoo.create("zz_outer.b")
    finally:
        _catalogue.remove("zz_outer")
    assert_equal(created.state_dict(), model.state_dict())
    assert created.pretrained_cfg["classes"] == ("a", "b", "c", "d")
    assert "with zz_inner.a" in str(created.load_report)
