"""The bundled part action parser does on fresh figures what its card says, and the page says what the studies found."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

import actionzoo
from actionzoo.data import ActingFigures, FigurePartVideos
from actionzoo.data.clips import clip_info, write_clip
from actionzoo.metrics import part_state_correctness, part_state_roc, read_part_predictions
from actionzoo.training import evaluate_parts

ROOT = Path(__file__).parents[2]
NAME = "pcf_tiny.figures"
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "papers" / "pcf.md"


@pytest.fixture(scope="module")
def videos():
    # the card's figures have seed 0
    return FigurePartVideos(ActingFigures("parts", "test", length=6, size=128, seed=3, frames=64), fps=8)


def test_every_name_loads_the_same_checked_weights():
    models = [
        actionzoo.create(NAME),
        actionzoo.create("pcf_tiny", pretrained=True),
        actionzoo.create("pcf_tiny", weights="figures"),
    ]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(a, b) for other in states[1:] for a, b in zip(states[0].values(), other.values()))
    assert "sha256 checked" in models[0].load_report.pinned
    assert not models[0].load_report.random


def test_the_file_is_small_and_says_what_it_is():
    (info,) = actionzoo.list_weights(NAME)
    assert info.path.stat().st_size < 2.5e6
    assert info.covers == "model"
    assert all(key in info.config for key in ("command", "seed", "limits"))
    assert " /" not in info.config["command"]


def test_it_holds_its_vocabulary_and_its_pose_net():
    model = actionzoo.create(NAME)
    assert tuple(model.pretrained_cfg["classes"]) == tuple(sorted(ActingFigures("parts").classes))
    assert {label.action for label in model.labeler.vocabulary["leg"]} == set(model.pretrained_cfg["classes"])
    pose = actionzoo.create("pose_tiny.figures").state_dict()
    assert all(torch.equal(pose[name], tensor) for name, tensor in model.pose.state_dict().items())


def test_fresh_clips_are_parsed(videos):
    found = evaluate_parts(actionzoo.create(NAME), videos).metrics
    # the card says 82; six clips are a small sample
    assert found["roc"] > 50
    assert found["state_accuracy"] > 80
    assert found["people_ap50"] > 95


def test_a_file_is_parsed_end_to_end(videos, tmp_path):
    number = next(i for i in range(6) if videos.action(i) == "squatting")
    path = tmp_path / "clip.mp4"
    write_clip(path, videos.read(number, range(64)), 8)
    result = actionzoo.pipeline(NAME)(path)
    result.save(tmp_path / "answer")
    answer = read_part_predictions(tmp_path / "answer")
    truth = {"action": {"clip": videos.action(number)}, "parts": {"clip": videos.annotations(number)}}
    # the parser looks at every fifth frame, and those are what the challenge scores
    looked = answer["parts"]["clip"].keys()
    truth["parts"]["clip"] = {name: truth["parts"]["clip"][name] for name in looked}
    assert len(looked) == 13
    assert part_state_roc(truth, answer) >= 0.5
    assert part_state_correctness(truth, answer)["clip"] > 0.5
    result.save_video(tmp_path / "overlay.mp4")
    assert clip_info(tmp_path / "overlay.mp4").frames == 64


@pytest.mark.parametrize("study", ["pcf_dots", "pcf_segments"])
def test_the_page_shows_what_the_study_found(study, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks" / "papers"), *sys.path])
    module = importlib.import_module(study)
    kept = json.loads((RESULTS / f"{study}.json").read_text(encoding="utf-8"))
    text = module.table(kept["rows"] if study == "pcf_segments" else kept["runs"])
    assert f"<!-- {study}:begin -->\n{text}\n<!-- {study}:end -->" in PAGE.read_text(encoding="utf-8")


def test_dots_make_detection_better_where_few_crops_are_labelled():
    few = json.loads((RESULTS / "pcf_dots.json").read_text(encoding="utf-8"))["runs"]["300"]
    assert [row["seed"] for row in few["dots"]] == [row["seed"] for row in few["no dots"]] == [0, 1, 2]
    for measure in ("part_found", "part_coco_ap", "part_ap50"):
        assert min(row[measure] for row in few["dots"]) > max(row[measure] for row in few["no dots"]) + 2


def test_the_page_shows_the_card():
    metrics = actionzoo.list_weights(NAME)[0].config["metrics"]
    page = PAGE.read_text(encoding="utf-8").split("<!-- pcf_tiny:begin -->")[1].split("<!-- pcf_tiny:end -->")[0]
    cells = [[cell.strip() for cell in line.split("|")] for line in page.splitlines() if line.count("|") == 3]
    rows = {name: value for _, name, value, _ in cells}
    groups = [metrics[f"state_accuracy_{group}"] for group in ("head", "arm", "hand", "hip", "leg", "foot")]
    low, high = metrics["video_accuracy_interval"]
    assert rows == {
        f"{metrics['videos']} clips, {metrics['frames']:,} frames": "percent",
        "---": "---",
        "ROC score": f"{metrics['roc']:.1f}",
        "video accuracy (95 % interval)": f"{metrics['video_accuracy']:.1f} ({low:.1f} to {high:.1f})",
        "part state correctness, mean": f"{metrics['psc']:.1f}",
        "states by segment: head, arm, hand, hip, leg, foot": ", ".join(f"{value:.1f}" for value in groups),
        "people, AP50": f"{metrics['people_ap50']:.1f}",
        "body parts in people who were found, AP50": f"{metrics['part_ap50']:.1f}",
    }


def test_segments_cost_a_third_at_most_and_lose_a_point_at_most():
    rows = json.loads((RESULTS / "pcf_segments.json").read_text(encoding="utf-8"))["rows"]
    own = rows["segment, 0.75 s"]
    assert own["cost"] <= 1 / 3
    assert own["lost"] <= 1
