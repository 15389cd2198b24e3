"""Training detectors of people on frames of annotated videos."""

import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import actionzoo
from actionzoo.data import ActingFigures
from actionzoo.data.part_frames import annotated_frames
from actionzoo.data.part_videos import FigurePartVideos
from actionzoo.training import FramePeopleTask, fit, recipes
from tests import persons
from tests.training.test_part_detection import YOLOF

RECIPE = recipes["detector"].override(epochs=2, batch_size=3, lr=1e-2, hflip=0.5)


def detector(**args):
    torch.manual_seed(0)
    return actionzoo.create("yolof_tiny", **{**YOLOF, **args})


def videos(split, length=6):
    return FigurePartVideos(ActingFigures("parts", split, length, 64, frames=4))


def task(splits=("train", "test"), kind=FramePeopleTask, **args):
    counts = {"train": 6, "val": 2, "test": 3}
    return kind({split: videos(split, counts[split]) for split in splits}, "figures", **args)


def run(output, model=None, recipe=RECIPE, **args):
    model = model or detector()
    return model, fit(model, task(), recipe, output, progress=False, **args)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    torch.set_num_threads(1)  # as in the run that is stopped: sums come out otherwise on more
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, run(folder)[1]


class TestFit:
    def test_metrics_are_written(self, finished):
        folder, metrics = finished
        assert metrics == json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
        assert (metrics["split"], metrics["images"]) == ("test", 3)
        assert metrics["people"] == sum(len(annotated_frames(videos("test"), i)[i * 7 % 4].boxes) for i in range(3))
        assert all(0 <= metrics[name] <= 100 for name in ("ap50", "coco_ap", "coco_ap75", "coco_ar"))
        assert json.loads((folder / "detection.json").read_text())["ap50"] == metrics["ap50"]
        rows = json.loads((folder / "history.json").read_text())
        assert [len(row["losses"]) for row in rows] == [3, 3]
        assert rows[1]["losses"][-1] < rows[0]["losses"][-1]

    def test_stopped_and_resumed_ends_the_same(self, finished, tmp_path):
        run(tmp_path / "run", stop_after=1)
        torch.manual_seed(99)
        run(tmp_path / "run", resume=True)
        whole, parts = (actionzoo.create(f"local-dir:{folder}") for folder in (finished[0], tmp_path / "run"))
        assert persons.changed(whole.state_dict(), parts.state_dict()) == set()

    def test_other_data_is_another_run(self, finished):
        with pytest.raises(ValueError, match="was written with files"):
            fit(detector(), task(frames_per_video=2), RECIPE, finished[0], progress=False, resume=True)

    def test_a_detector_of_torchvisions_kind(self, tmp_path):
        model = persons.detector()
        before = persons.state(model)
        recipe = RECIPE.override(epochs=1)
        fit(model, task(("train", "val"), freeze_trunk=True), recipe, tmp_path / "run", progress=False, stop_after=1)
        (row,) = json.loads((tmp_path / "run" / "history.json").read_text())
        assert len(row["losses"]) == 5
        assert 0 <= row["val_ap50"] <= 100
        moved = persons.changed(before, model.state_dict())
        assert moved == {name for name in before if not name.startswith("backbone.trunk.")}

    def test_it_learns_to_find_people(self, tmp_path):
        splits = {"train": OneFrame(), "test": OneFrame()}
        recipe = RECIPE.override(epochs=10, batch_size=2, hflip=0.0, color_jitter=0.0)
        metrics = fit(detector(), FramePeopleTask(splits, "one"), recipe, tmp_path / "run", progress=False)
        assert metrics["ap50"] == 100


class OneFrame:
    """A bright person in a dark frame, again and again."""

    classes = ("stand",)

    def __len__(self):
        return 8

    def name(self, i):
        return f"frame_{i}"

    def action(self, i):
        return "stand"

    def annotations(self, i):
        # the last pixel counts in
        return {"img_00001.json": {"humans": [{"number": 1, "box": [16, 12, 27, 35], "parts": {}}]}}

    def read(self, i, frames):
        pixels = torch.zeros(3, len(frames), 48, 48, dtype=torch.uint8)
        pixels[:, :, 12:36, 16:28] = 220
        return pixels


class Watched(FramePeopleTask):
    """Notes the optimizer of every step."""

    def step(self, tools, batch):
        groups = tools.optimizer.param_groups
        names = {id(parameter): name for name, parameter in tools.model.named_parameters()}
        self.seen.append({names[id(p)]: (g["lr"], g["nesterov"], g["momentum"]) for g in groups for p in g["params"]})
        return super().step(tools, batch)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Rate, Nesterov's or not and momentum of every parameter, at six steps by the paper's recipe."""
    watched = task(("train",), Watched)
    watched.seen = []
    recipe = recipes["pcf_people"].override(batch_size=2, warmup_iterations=4)
    fit(detector(), watched, recipe, tmp_path_factory.mktemp("run"), progress=False, stop_after=2)
    return watched.seen


class TestPaperRecipe:
    def test_the_rate_rises_over_so_many_iterations(self, seen):
        rates = [step["head.class_logits.weight"][0] for step in seen]
        # 6 videos are 3 batches
        assert rates == pytest.approx([1e-5, 0.0025, 0.005, 0.0075, 0.01, 0.01])

    def test_the_trunk_learns_at_a_third_of_it_and_the_neck_does_not(self, seen):
        step = seen[-1]
        assert step["backbone.trunk.layer2.0.conv1.weight"] == (pytest.approx(0.01 / 3), True, 0.9)
        assert {value for name, value in step.items() if name.startswith(("backbone.neck.", "head."))} == {
            (0.01, True, 0.9)
        }
        assert {name.split(".")[0] for name in step} == {"backbone", "head"}


class TestData:
    def dataset(self, built, train):
        built.check(detector())
        built.configure({"input_size": (3, 48, 48)}, RECIPE)
        return built.dataset("train", train=train)

    def test_frames_and_people(self):
        built, source = task(), videos("train")
        scored = self.dataset(built, train=False)
        assert len(scored) == 6
        for i in range(6):
            truth = annotated_frames(source, i)[i * 7 % 4]
            assert torch.equal(scored[i].image, source.read(i, [truth.frame])[:, 0] / 255)
            assert_close(scored[i].boxes, truth.boxes.clamp(0, 64))
        assert len(self.dataset(task(frames_per_video=3), train=False)) == 18

    def test_training_shows_other_frames_mirrored_and_in_other_colours(self):
        built, source = task(), videos("train")
        trained = self.dataset(built, train=True)
        torch.manual_seed(0)
        left = {round(float(trained[0].boxes[0, 0]), 3) for _ in range(40)}
        boxes = [truth.boxes[0] for truth in annotated_frames(source, 0)]
        assert left == {round(float(x), 3) for box in boxes for x in (box[0], 64 - box[2])}
        # the scored ones are left alone
        assert torch.equal(self.dataset(built, train=False)[0].image, source.read(0, [0])[:, 0] / 255)

    def test_describe_and_identity(self):
        assert task().describe() == "people in frames: 6 train, 3 test videos, 1 frames of each"
        others = [task(("train",)), task(frames_per_video=2), FramePeopleTask({"train": videos("train")}, "other")]
        assert len({built.identity() for built in (task(), *others)}) == 4


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: detector(num_classes=10), "finds 10 classes; people are one: create it with 1"),
        (persons.convit, "ConViTHAR detects nobody"),
        (lambda: nn.Linear(1, 1), "Linear detects nobody"),
    ],
    ids=["parts", "convit", "linear"],
)
def test_refused_models(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", model())
    assert not (tmp_path / "run").exists()


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="frames_per_video is at least 1, got 0"):
        task(frames_per_video=0)
    with pytest.raises(ValueError, match=r"scales pictures itself.*min_size"):
        run(tmp_path / "run", input_size=32)
    with pytest.raises(ValueError, match="no val split; it has train, test"):
        task().dataset("val", train=False)
