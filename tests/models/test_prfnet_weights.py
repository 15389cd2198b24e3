"""PRF-Net's published starting points, from a real local hub cache laid out as huggingface_hub lays it."""

import warnings

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

import actionzoo


def lay_cache(root, repo, tensors):
    """Put `model.safetensors` of a repository into a hub cache and return the cache's folder."""
    folder = root / f"models--{repo.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    save_file(tensors, folder / "snapshots" / commit / "model.safetensors")
    return root


@pytest.fixture(scope="module")
def resnet50():
    torch.manual_seed(0)
    return timm.create_model("resnet50").state_dict()


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_the_papers_backbone_loads_whole_and_says_what_stays_random(resnet50, tmp_path):
    cache = lay_cache(tmp_path, "timm/resnet50.tv_in1k", resnet50)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = actionzoo.create("prfnet", pretrained=True, cache_dir=cache)
    assert [w.category for w in caught] == [UserWarning]
    message = str(caught[0].message)
    assert all(part in message for part in ("backbone only", "attention", "stage_heads", "head"))
    state = model.state_dict()
    body = {k: v for k, v in resnet50.items() if not k.startswith("fc.")}
    assert all(torch.equal(state[f"backbone.{k}"], v) for k, v in body.items())
    assert {k for k in state if k.startswith("backbone.")} == {f"backbone.{k}" for k in body}
    report = model.load_report
    assert len(report.loaded) == len(body)
    assert report.random == ("attention", "stage_heads", "head")
    assert "unpinned" in str(report)


def test_one_renamed_tensor_is_refused(resnet50, tmp_path):
    tensors = {("layer3.0.conv9.weight" if k == "layer3.0.conv1.weight" else k): v for k, v in resnet50.items()}
    cache = lay_cache(tmp_path, "timm/resnet50.tv_in1k", tensors)
    with pytest.raises(RuntimeError, match=r"(?s)layer3\.0\.conv1\.weight.*layer3\.0\.conv9\.weight"):
        actionzoo.create("prfnet_resnet50", pretrained=True, cache_dir=cache)


def test_grey_images_adapt_the_stem(resnet50, tmp_path):
    cache = lay_cache(tmp_path, "timm/resnet50.tv_in1k", resnet50)
    with pytest.warns(UserWarning, match="backbone only"):
        model = actionzoo.create("prfnet", pretrained=True, in_chans=1, num_classes=7, cache_dir=cache)
    torch.testing.assert_close(model.state_dict()["backbone.conv1.weight"], resnet50["conv1.weight"].sum(1, True))
    assert model.load_report.adapted == ("backbone.conv1.weight",)


def test_without_the_file_one_error_says_what_to_do(tmp_path):
    with pytest.raises(RuntimeError, match=r"timm/resnet50\.tv_in1k"):
        actionzoo.create("prfnet", pretrained=True, cache_dir=tmp_path)


class TestBundled:
    def test_every_name_loads_the_same_checked_weights(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            models = [
                actionzoo.create("prfnet_tiny.sports20"),
                actionzoo.create("prfnet_tiny", pretrained=True),
                actionzoo.create("prfnet_tiny", weights="sports20"),
                timm.create_model("prfnet_tiny.sports20", pretrained=True),
            ]
        states = [model.state_dict() for model in models]
        assert all(torch.equal(a, b) for other in states[1:] for a, b in zip(states[0].values(), other.values()))
        assert models[0].num_classes == 20
        assert "sha256 checked" in models[0].load_report.pinned
        assert not models[0].load_report.random

    def test_the_file_is_small_and_says_what_it_is(self):
        (info,) = actionzoo.list_weights("prfnet_tiny.sports20")
        assert info.path.stat().st_size < 6e6
        assert info.covers == "model"
        assert len(info.classes) == 20
        assert info.metrics["top1"] >= 64
        assert "not redistributed" in info.data
        for key in ("command", "seed", "limits"):
            assert key in info.config
        assert timm.list_models("prfnet*", pretrained=True) == ["prfnet_tiny.sports20"]
        assert "prfnet_tiny" in actionzoo.list_models(pretrained=True)

    def test_fine_tuning_starts_from_the_body(self):
        model = actionzoo.create("prfnet_tiny.sports20", num_classes=4, in_chans=1)
        assert model(torch.randn(2, 1, 64, 64)).shape == (2, 4)
        assert {name.rsplit(".", 1)[0] for name in model.load_report.reheaded} == set(model.classifier_names)
