"""The bundled ConViT, its human branch and its person detector: what they are, and what they do on a photograph."""

import json
import warnings
from pathlib import Path

import pytest
import timm
import torch
from torchvision.ops import box_iou

import actionzoo
from tests.studies import printed

ROOT = Path(__file__).parents[2]
ASSETS = Path(actionzoo.__file__).parent / "assets"
SKIER = ASSETS / "skier_cc_by.jpg"
SKIERS_BOX = torch.tensor([[280.79, 44.73, 499.49, 391.41]])
"""As COCO annotates her."""
NAMES = ("convit_har_tiny.sports20", "convit_har_person_tiny.sports20", "person_tiny.sports20")
MEGABYTES = dict(zip(NAMES, (4.0, 2.0, 2.0)))
named = pytest.mark.parametrize("name", NAMES)


@named
def test_every_name_loads_the_same_checked_weights(name):
    bare = name.partition(".")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models = [
            actionzoo.create(name),
            actionzoo.create(bare, pretrained=True),
            actionzoo.create(bare, weights="sports20"),
        ]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(a, b) for other in states[1:] for a, b in zip(states[0].values(), other.values()))
    assert "sha256 checked" in models[0].load_report.pinned
    assert not models[0].load_report.random


@named
def test_the_file_is_small_and_says_what_it_is(name):
    (info,) = actionzoo.list_weights(name)
    assert info.path.stat().st_size < MEGABYTES[name] * 1e6
    assert info.covers == "model"
    assert "not redistributed" in info.data
    for key in ("command", "seed", "limits"):
        assert key in info.config
    assert "/" not in info.config["command"].replace("runs/", "")
    if "person" in name:
        assert "pseudo" in info.data
        # the frozen part is the other file's
        assert [part["weights"] for part in info.config["parts"]] == ["convit_har_tiny.sports20"]


def test_timm_gives_the_same_network():
    ours = actionzoo.create("convit_har_tiny.sports20").state_dict()
    theirs = timm.create_model("convit_har_tiny.sports20", pretrained=True).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_frozen_parts_are_those_of_the_whole_image_network():
    convit = actionzoo.create("convit_har_tiny.sports20")
    people = actionzoo.create("convit_har_person_tiny.sports20")
    detector = actionzoo.create("person_tiny.sports20")
    mine, trunk = people.convit.state_dict(), detector.backbone.trunk.state_dict()
    assert all(torch.equal(mine[key], value) for key, value in convit.state_dict().items())
    assert all(torch.equal(value, convit.backbone.state_dict()[key]) for key, value in trunk.items())


def test_the_detector_finds_the_skier():
    result = actionzoo.pipeline("person_tiny")(SKIER)
    boxes = torch.tensor([person.box for person in result.people])
    assert box_iou(boxes[:1], SKIERS_BOX) >= 0.6
    assert result.people[0].detection == max(person.detection for person in result.people)
    assert actionzoo.list_weights("person_tiny.sports20")[0].metrics["ap50"] > 50


def test_a_photograph_gets_an_action_per_person():
    pipe = actionzoo.pipeline("convit_har_person_tiny")
    result = pipe(SKIER)
    assert box_iou(torch.tensor([result.people[0].box]), SKIERS_BOX) >= 0.6
    assert not result.image_only
    for person in result.people:
        assert person.label in result.classes
        assert sum(person.scores) == pytest.approx(1, abs=1e-4)
    assert sum(result.scores) == pytest.approx(1, abs=1e-4)
    assert json.loads(result.to_json())["people"][0]["label"] == result.people[0].label
    assert result.draw().width > 640
    assert set(result.maps) == {"grad_cam", "channel_mean"}
    weights = pipe.model.fusion
    assert sum(weights) == pytest.approx(1)
    assert weights == tuple(actionzoo.list_weights("convit_har_person_tiny.sports20")[0].metrics["fusion"])


def test_the_page_prints_what_the_runs_scored(monkeypatch, capsys):
    """The table of the page is made from the kept file, in which ConViT is ahead of its backbone on average."""
    kept_file = ROOT / "benchmarks" / "results" / "convit_sports20.json"
    runs = json.loads(kept_file.read_text())["runs"]
    assert len(runs["convit"]) == len(runs["plain"]) == 3
    for key in ("top1", "map"):
        assert sum(row[key] for row in runs["convit"]) > sum(row[key] for row in runs["plain"])
    page = (ROOT / "docs" / "papers" / "convit_har.md").read_text(encoding="utf-8")
    assert printed("convit_table.py", kept_file, monkeypatch, capsys) in page
    bundled = actionzoo.list_weights("convit_har_tiny.sports20")[0]
    assert f"{bundled.metrics['top1']} %" in page
    detector = actionzoo.list_weights("person_tiny.sports20")[0]
    assert f"{detector.metrics['ap50']} %" in page
