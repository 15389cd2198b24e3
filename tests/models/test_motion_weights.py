"""The bundled keypoint detector and instance-guided network do on fresh figures what their cards say."""

import json
from pathlib import Path

import pytest
import torch

import actionzoo
from actionzoo.data import ActingFigures
from actionzoo.training import instance_figures_task, keypoint_figures_task, score_task
from tests.studies import printed

ROOT = Path(__file__).parents[2]
DETECTOR, NETWORK = "keypointrcnn_tiny.figures_sports20", "instance_action_tiny.motion"
RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.parametrize("name", [DETECTOR, NETWORK])
def test_every_name_loads_the_same_checked_weights(name):
    bare, _, tag = name.partition(".")
    models = [
        actionzoo.create(name),
        actionzoo.create(bare, pretrained=True),
        actionzoo.create(bare, weights=tag),
    ]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(a, b) for other in states[1:] for a, b in zip(states[0].values(), other.values()))
    assert "sha256 checked" in models[0].load_report.pinned
    assert not models[0].load_report.random


def test_the_files_are_small_and_say_what_they_are():
    entries = [actionzoo.list_weights(name)[0] for name in (DETECTOR, NETWORK)]
    assert sum(info.path.stat().st_size for info in entries) < 2e6
    for info in entries:
        assert info.covers == "model"
        for key in ("command", "seed", "limits"):
            assert key in info.config
        assert " /" not in info.config["command"]


def test_the_network_is_built_on_the_detector():
    detector, network = actionzoo.create(DETECTOR).state_dict(), actionzoo.create(NETWORK).detector.state_dict()
    assert all(torch.equal(detector[name], tensor) for name, tensor in network.items())
    assert tuple(actionzoo.create(NETWORK).pretrained_cfg["classes"]) == ActingFigures("motion").classes


def test_people_and_joints_of_fresh_figures_are_found():
    task = keypoint_figures_task("crowd+pose", length=200, size=160, seed=1)
    found = score_task(actionzoo.create(DETECTOR), task, batch_size=10).metrics
    assert found["ap50"] > 88
    assert found["keypoint_ap"] > 60


def test_actions_of_fresh_figures_are_told():
    task = instance_figures_task("motion", length=240, figures_seed=1, progress=False)
    found = score_task(actionzoo.create(NETWORK), task).metrics
    assert found["empty"] <= 2
    # these clips are a sample of what the card counts
    assert found["top1"] > 70


def test_a_clip_of_figures_is_labelled_and_drawn(tmp_path):
    pipe = actionzoo.pipeline(NETWORK)
    figures = ActingFigures("motion", "test", 16, 160, seed=2)
    names = [figures.classes[figures.label(i)] for i in range(16)]
    at = names.index("walk_left")
    result = pipe(figures[at][0])
    assert result.label == "walk_left"
    assert [person.track_id for person in result.people][:1] == [0]
    assert len(result.people[0].keypoints or ()) in (0, 17)
    assert json.loads(result.to_json())["label"] == "walk_left"
    assert result.draw().width > 300


def test_the_study_on_figures_says_what_table_3_says(monkeypatch, capsys):
    """Outermost boxes beat basic ones, above all for somebody who moves; without time the order stays unknown."""
    kept_file = RESULTS / "tahnet_figures.json"
    kept = json.loads(kept_file.read_text())
    assert all(len(runs) == 3 for runs in kept["runs"].values())

    def of(name, key):
        return [run["shares"][key] for run in kept["runs"][name]]

    assert min(of("outermost", "all")) > max(of("basic", "all"))
    assert min(of("outermost", "alone")) > max(of("basic", "alone"))
    assert all(abs(share - 50) < 10 for share in of("frames alone", "order"))
    assert min(of("outermost", "order")) > 75
    assert printed("tahnet_figures.py", kept_file, monkeypatch, capsys) in _page()


def test_the_page_prints_what_the_runs_on_real_clips_scored(monkeypatch, capsys):
    assert printed("tahnet_clips.py", RESULTS / "tahnet_clips.json", monkeypatch, capsys) in _page()


def test_memory_stayed_flat_over_ten_minutes():
    kept = json.loads((RESULTS / "clip_memory.json").read_text())
    assert kept["minutes"] >= 10
    assert kept["peak_mb"] < 2000
    first, *later = kept["mean_mb_by_fifths"][1:]
    assert max(later) < 1.1 * first


def _page():
    return (ROOT / "docs" / "papers" / "tahnet.md").read_text(encoding="utf-8")
