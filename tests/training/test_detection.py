import json

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import actionzoo
from actionzoo.data import ActionSamples
from actionzoo.metrics import box_average_precision
from actionzoo.training import DetectionTask, Recipe, StepTools, fit, recipes
from actionzoo.training.detection import LOSSES
from tests import persons

RECIPE = recipes["detector"].override(epochs=2, batch_size=4, lr=1e-2, hflip=0.5)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return persons.samples(persons.write(tmp_path_factory.mktemp("people")))


def run(samples, output, recipe=RECIPE, model=None, **args):
    model = model or persons.detector()
    return model, fit(model, DetectionTask(samples), recipe, output, progress=False, **args)


def loaded(folder):
    return actionzoo.create(f"local-dir:{folder}")


@pytest.fixture(scope="module")
def finished(samples, tmp_path_factory):
    """A model's state before training, its metrics and the folder of the run."""
    folder, model = tmp_path_factory.mktemp("runs") / "run", persons.detector()
    before = persons.state(model)
    return before, run(samples, folder, model=model)[1], folder


class TestFit:
    def test_the_trunk_stays_bit_for_bit_and_everything_else_moves(self, finished):
        before, _, folder = finished
        moved = persons.changed(before, loaded(folder).state_dict())
        assert moved == {name for name in before if not name.startswith("backbone.trunk.")}

    def test_metrics_are_written(self, finished):
        _, metrics, folder = finished
        assert metrics == json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
        found = {key: metrics[key] for key in ("ap50", "coco_ap", "coco_ap75", "coco_ar")}
        assert all(0 <= value <= 100 for value in found.values())
        # one and two people by turns in two pictures of three classes, but nobody in the last
        assert (metrics["split"], metrics["images"], metrics["people"]) == ("test", 6, 7)
        assert json.loads((folder / "detection.json").read_text())["ap50"] == metrics["ap50"]
        rows = json.loads((folder / "history.json").read_text())
        for row in rows:
            assert len(row["losses"]) == len(LOSSES) + 1
            assert sum(row["losses"][:-1]) == pytest.approx(row["losses"][-1], abs=1e-4)
        assert rows[1]["losses"][-1] < rows[0]["losses"][-1]
        config = json.loads((folder / "config.json").read_text())
        assert config["recipe"]["color_jitter"] == RECIPE.color_jitter
        assert not {"crop_pct", "mixup", "keep_person"} & set(config["recipe"])
        assert "classes" not in config

    def test_stopped_and_resumed_ends_the_same(self, finished, samples, tmp_path):
        run(samples, tmp_path / "run", stop_after=1)
        assert not (tmp_path / "run" / "model.safetensors").exists()
        torch.manual_seed(99)
        _, metrics = run(samples, tmp_path / "run", model=persons.detector(), resume=True)
        whole, parts = loaded(finished[2]).state_dict(), loaded(tmp_path / "run").state_dict()
        assert persons.changed(whole, parts) == set()
        assert metrics["ap50"] == finished[1]["ap50"]

    def test_mixed_precision(self, samples, tmp_path):
        model = persons.detector()
        before = persons.state(model)
        run(samples, tmp_path / "run", model=model, recipe=RECIPE.override(epochs=1), amp="bf16")
        after = loaded(tmp_path / "run").state_dict()
        moved = persons.changed(before, after)
        assert moved == {name for name in before if not name.startswith("backbone.trunk.")}
        assert {value.dtype for value in after.values()} == {torch.float32, torch.int64}
        assert all(value.isfinite().all() for value in after.values())

    def test_val_is_scored_every_epoch(self, samples, tmp_path):
        run(samples.hold_out(0.25), tmp_path / "run", recipe=RECIPE.override(epochs=1))
        (row,) = json.loads((tmp_path / "run" / "history.json").read_text())
        assert 0 <= row["val_ap50"] <= 100

    def test_a_split_in_which_nobody_has_a_box_has_no_precision(self, samples, tmp_path):
        train = {path for path, _ in samples.items["train"]}
        known = samples.with_boxes({path: boxes for path, boxes in samples.boxes.items() if path in train})
        _, metrics = run(known, tmp_path / "run", recipe=RECIPE.override(epochs=1))
        assert (metrics["images"], metrics["people"]) == (6, 0)
        assert "ap50" not in metrics
        assert json.loads((tmp_path / "run" / "metrics.json").read_text())["people"] == 0

    def test_it_learns_to_find_people(self, tmp_path):
        # one picture with one person, again and again
        picture = Image.new("RGB", (64, 64))
        picture.paste((230, 60, 60), (20, 16, 36, 48))
        picture.save(tmp_path / "a.png")
        items = [(tmp_path / "a.png", 0)] * 8
        boxes = {tmp_path / "a.png": torch.tensor([[20.0, 16, 36, 48]])}
        task_samples = ActionSamples(("person",), {"train": items, "val": items[:1]}).with_boxes(boxes)
        recipe = RECIPE.override(epochs=12, batch_size=4, lr=1e-2, hflip=0.0)
        model, metrics = run(task_samples, tmp_path / "run", recipe)
        assert metrics["ap50"] == 100
        result = actionzoo.pipeline(model)(tmp_path / "a.png")
        assert result.people[0].box == pytest.approx((20, 16, 36, 48), abs=5)


class TestYOLOF:
    """The same pictures and another detector, which has two losses."""

    def detector(self, **args):
        torch.manual_seed(0)
        sizes = {"out_channels": 8, "mid_channels": 8, "dilations": (1, 2), "min_size": 64, "max_size": 96}
        return actionzoo.create("yolof_tiny", **{"trunk_args": persons.TRUNK, **sizes, **args})

    @pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "whole"])
    def test_it_trains_on_photographs(self, frozen, samples, tmp_path):
        model = self.detector()
        before = persons.state(model)
        args = {} if frozen else {"freeze_trunk": False}
        metrics = fit(model, DetectionTask(samples, **args), RECIPE, tmp_path / "run", progress=False)
        moved = persons.changed(before, loaded(tmp_path / "run").state_dict())
        assert moved == {name for name in before if not (frozen and name.startswith("backbone.trunk."))}
        assert (metrics["images"], metrics["people"]) == (6, 7)
        assert 0 <= metrics["ap50"] <= 100
        rows = json.loads((tmp_path / "run" / "history.json").read_text())
        for row in rows:
            assert len(row["losses"]) == 3
            assert sum(row["losses"][:-1]) == pytest.approx(row["losses"][-1], abs=1e-4)
        assert rows[1]["losses"][-1] < rows[0]["losses"][-1]

    def test_a_detector_of_parts_is_refused(self, samples, tmp_path):
        with pytest.raises(ValueError, match="this YOLOF finds 10 classes; people are one"):
            run(samples, tmp_path / "run", model=self.detector(num_classes=10))
        assert not (tmp_path / "run").exists()


class TestStep:
    def step(self, samples, model, batch):
        model.train()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
        tools = StepTools(model, optimizer, torch.Tensor.backward, lambda: None)
        task = DetectionTask(samples)
        task.prepare(model)
        return task.step(tools, batch)

    def test_the_last_loss_is_the_sum(self, samples):
        images = [torch.rand(3, 50, 60), torch.rand(3, 64, 40)]
        boxes = [torch.tensor([[5.0, 5, 30, 45]]), torch.tensor([[1.0, 2, 20, 30], [10, 9, 39, 60]])]
        losses = self.step(samples, persons.detector(), (images, boxes, torch.zeros(2)))
        assert losses.shape == (5,)
        assert not losses.requires_grad
        assert losses[-1] == losses[:-1].sum()
        assert (losses[:-1] > 0).all()

    def test_pictures_without_people(self, samples):
        model = persons.detector()
        before = persons.state(model)
        losses = self.step(samples, model, ([torch.rand(3, 50, 60)] * 2, [torch.zeros(0, 4)] * 2, torch.zeros(2)))
        assert losses.isfinite().all()
        assert losses[0] > 0
        assert losses[1] == losses[3] == 0
        assert all(value.isfinite().all() for value in model.state_dict().values())
        assert "rpn.head.cls_logits.weight" in persons.changed(before, model.state_dict())


class TestTask:
    def test_pictures_of_a_split(self, samples):
        task = DetectionTask(samples)
        task.configure({"input_size": (3, 64, 64)}, RECIPE)
        assert task.splits == ("train", "test")
        items = samples.items["train"]
        scored = task.dataset("train", train=False)
        for i, (path, _) in enumerate(items):
            with Image.open(path) as picture:
                assert scored[i].image.shape == (3, picture.height, picture.width)
            assert torch.equal(scored[i].boxes, samples.boxes[path])
        assert len(scored[11].boxes) == 0
        # in training colours change and half of the pictures are mirrored
        drawn = [task.dataset("train", train=True)[0] for _ in range(12)]
        width = scored[0].image.shape[2]
        assert {float(x.boxes[0, 0]) for x in drawn} == {
            float(samples.boxes[items[0][0]][0, 0]),
            width - float(samples.boxes[items[0][0]][0, 2]),
        }
        assert not any(torch.equal(x.image, scored[0].image) for x in drawn)

    def test_describe_and_identity(self, samples):
        task = DetectionTask(samples)
        assert task.describe() == "people: 16 in 12 train images, 7 in 6 test images"
        path = samples.items["train"][0][0]
        moved = {**samples.boxes, path: samples.boxes[path] + 1}
        fewer = {key: boxes for key, boxes in samples.boxes.items() if key != path}
        others = [samples.with_boxes(moved), samples.with_boxes(fewer), samples.hold_out(0.25)]
        names = {DetectionTask(other).identity() for other in (samples, *others)}
        assert len(names) == 4
        assert DetectionTask(persons.samples(path.parents[2])).identity() == task.identity()

    def test_scores_are_those_of_the_metric(self, samples):
        class Planted(nn.Module):
            """Finds in every picture its own box and another."""

            def forward(self, images):
                return [
                    {"boxes": torch.tensor([[0.0, 0, 30, 30], [4, 4, 20, 40]]), "scores": torch.tensor([0.9, score])}
                    for score in (0.5 + image.mean().item() / 10 for image in images)
                ]

        task = DetectionTask(samples)
        task.configure({"input_size": (3, 64, 64)}, RECIPE)
        dataset = task.dataset("test", train=False)
        model = Planted().train()
        score = task.score(model, DataLoader(dataset, 2, collate_fn=task.collate), "cpu", False)
        found = [(out["boxes"], out["scores"]) for out in model([dataset[i].image for i in range(6)])]
        truth = [dataset[i].boxes for i in range(6)]
        assert score.metrics["ap50"] == round(100 * box_average_precision(found, truth), 2)
        assert model.training

    def test_refusals(self, samples, tmp_path):
        with pytest.raises(ValueError, match="learns from boxes, and the data has none"):
            DetectionTask(ActionSamples(samples.classes, samples.items))
        for model in (persons.human(), persons.convit()):
            with pytest.raises(ValueError, match="detects nobody; boxes alone train a person_"):
                run(samples, tmp_path / "run", model=model)
        test = {path: samples.boxes[path] for path, _ in samples.items["test"]}
        with pytest.raises(ValueError, match="no training picture has boxes"):
            run(samples.with_boxes(test), tmp_path / "run")
        with pytest.raises(ValueError, match=r"scales pictures itself.*min_size"):
            run(samples, tmp_path / "run", input_size=32)
        assert not (tmp_path / "run").exists()
        run(samples, tmp_path / "run", RECIPE.override(epochs=1, batch_size=12), stop_after=1)
        path = samples.items["train"][0][0]
        moved = samples.with_boxes({**samples.boxes, path: samples.boxes[path] + 1})
        with pytest.raises(ValueError, match="was written with files"):
            run(moved, tmp_path / "run", RECIPE.override(epochs=1, batch_size=12), resume=True)

    def test_fields_without_meaning(self):
        used = {"hflip", "color_jitter", "epochs", "batch_size", "optimizer", "lr", "weight_decay", "momentum"}
        used |= {"backbone_lr_scale", "warmup_epochs", "milestones", "schedule", "clip_grad", "source"}
        used |= {"nesterov", "warmup_iterations"}
        assert set(Recipe.__dataclass_fields__) - DetectionTask.unused_fields == used
