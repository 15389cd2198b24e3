"""The bundled pose and body-part networks do on fresh figures what their cards say."""

import pytest
import torch
from torch.utils.data import DataLoader

import actionzoo
from actionzoo.data import ActingFigures
from actionzoo.training import figures_task, recipes

BUNDLED = pytest.mark.parametrize(
    ("name", "names", "size", "megabytes"),
    [
        pytest.param("bodypart_tiny.figures", "pose+fine_grained", 192, 4.0, id="bodypart"),
        pytest.param("pose_tiny.figures", "pose", 96, 1.5, id="pose"),
    ],
)


@BUNDLED
def test_every_name_loads_the_same_checked_weights(name, names, size, megabytes):
    bare = name.partition(".")[0]
    models = [
        actionzoo.create(name),
        actionzoo.create(bare, pretrained=True),
        actionzoo.create(bare, weights="figures"),
    ]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(a, b) for other in states[1:] for a, b in zip(states[0].values(), other.values()))
    assert "sha256 checked" in models[0].load_report.pinned
    assert not models[0].load_report.random


@BUNDLED
def test_the_file_is_small_and_says_what_it_is(name, names, size, megabytes):
    (info,) = actionzoo.list_weights(name)
    assert info.path.stat().st_size < megabytes * 1e6
    assert info.covers == "model"
    assert "no photographs" in info.data
    assert info.metrics["pckh"] >= 90
    for key in ("command", "seed", "limits"):
        assert key in info.config
    assert "/" not in info.config["command"].replace("runs/", "")


@BUNDLED
def test_fresh_figures_score_as_the_card_says(name, names, size, megabytes):
    model = actionzoo.create(name)
    assert model.pretrained_cfg["input_size"] == (3, size, size)
    task = figures_task(names, length=480, size=size, layout="mpii")
    task.check(model)
    task.configure(dict(model.pretrained_cfg), recipes["people"])
    found = task.score(model, DataLoader(task.dataset("test", False), 48), "cpu")
    said = actionzoo.list_weights(name)[0].metrics
    # 100 figures of each task are a sample of what the card counts
    assert abs(found.metrics["pckh"] - said["pckh"]) < 1.5
    if model.pretrained_cfg.get("classes"):
        assert found.metrics["top1"] > 90
        assert found.metrics["map"] > max(stream["map"] for stream in found.metrics["streams"].values())


def test_the_classes_are_those_of_the_figures():
    cfg = actionzoo.create("bodypart_tiny.figures").pretrained_cfg
    assert tuple(cfg["classes"]) == ActingFigures("fine_grained").classes
