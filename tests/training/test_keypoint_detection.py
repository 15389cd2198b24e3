"""Training keypoint detectors on figures and on photographs with boxes alone, also from the command line."""

import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import actionzoo
from actionzoo.cli import build_parser, main
from actionzoo.cli.data import read_task
from actionzoo.data import ActingFigures, ActionSamples
from actionzoo.data.people_in_pictures import BoxedPeople, FigureFrames
from actionzoo.training import KeypointDetectionTask, Recipe, StepTools, fit, keypoint_figures_task, recipes
from actionzoo.training.keypoint_detection import LOSSES, PictureSplit
from tests import persons

RECIPE = recipes["detector"].override(epochs=2, batch_size=4, lr=1e-2, hflip=0.5)
# of a backbone's maps those of strides 8 and 16
SETTINGS = {**persons.DETECTOR, "out_indices": (2, 4), "keypoint_layers": (8,)}
MODEL = ["--model", "keypointrcnn_tiny", *persons.model_args(SETTINGS)]


def detector(**args):
    """A detector that trains in milliseconds."""
    torch.manual_seed(0)
    return actionzoo.create("keypointrcnn_tiny", **{**SETTINGS, "trunk_args": persons.TRUNK, **args})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return persons.write(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def samples(folder):
    return persons.samples(folder)


def mixed(samples, train=6, test=3, val=False):
    """Figures and photographs, few of both."""
    splits = {"train": train, "test": test, **({"val": 2} if val else {})}
    return KeypointDetectionTask(
        {
            split: PictureSplit(
                [FigureFrames(ActingFigures("crowd", split, count, 48, frames=3), split == "train")],
                [BoxedPeople(samples.items[split][:count], samples.boxes)] if split in samples.items else [],
            )
            for split, count in splits.items()
        },
        "mixed",
    )


def run(samples, output, model=None, recipe=RECIPE, **args):
    model = model or detector()
    return model, fit(model, mixed(samples), recipe, output, progress=False, **args)


def loaded(folder):
    return actionzoo.create(f"local-dir:{folder}").state_dict()


@pytest.fixture(scope="module")
def finished(samples, tmp_path_factory):
    """A model's state before training, its metrics and the folder of the run."""
    torch.set_num_threads(1)  # as in the run that is stopped: sums come out otherwise on more
    folder, model = tmp_path_factory.mktemp("runs") / "run", detector()
    before = persons.state(model)
    return before, run(samples, folder, model)[1], folder


class TestFit:
    def test_the_trunk_stays_bit_for_bit_and_everything_else_moves(self, finished):
        before, _, folder = finished
        moved = persons.changed(before, loaded(folder))
        assert moved == {name for name in before if not name.startswith("backbone.trunk.")}

    def test_metrics_are_written(self, finished):
        _, metrics, folder = finished
        assert metrics == json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
        names = ("ap50", "posed_ap50", "boxed_ap50", "keypoint_ap")
        assert all(0 <= metrics[name] <= 100 for name in names)
        assert (metrics["split"], metrics["images"]) == ("test", 6)
        assert json.loads((folder / "detection.json").read_text())["keypoint_ap"] == metrics["keypoint_ap"]
        for row in json.loads((folder / "history.json").read_text()):
            assert len(row["losses"]) == len(LOSSES) + 1
            assert sum(row["losses"][:-1]) == pytest.approx(row["losses"][-1], abs=1e-4)
        config = json.loads((folder / "config.json").read_text())
        assert not {"crop_pct", "mixup", "keep_person"} & set(config["recipe"])
        assert "classes" not in config

    def test_stopped_and_resumed_ends_the_same(self, finished, samples, tmp_path):
        run(samples, tmp_path / "run", stop_after=1)
        assert not (tmp_path / "run" / "model.safetensors").exists()
        torch.manual_seed(99)
        _, metrics = run(samples, tmp_path / "run", detector(), resume=True)
        assert persons.changed(loaded(finished[2]), loaded(tmp_path / "run")) == set()
        assert metrics["keypoint_ap"] == finished[1]["keypoint_ap"]

    def test_a_run_goes_on_with_the_same_data_only(self, finished, samples):
        other = mixed(samples, train=7)
        with pytest.raises(ValueError, match="was written with files"):
            fit(detector(), other, RECIPE, finished[2], progress=False, resume=True)

    def test_val_is_scored_every_epoch(self, samples, tmp_path):
        fit(detector(), mixed(samples, val=True), RECIPE.override(epochs=1), tmp_path / "run", progress=False)
        (row,) = json.loads((tmp_path / "run" / "history.json").read_text())
        assert 0 <= row["val_ap50"] <= 100


def batch(posed=True):
    """Two pictures with a person each; without `posed` the joints are not known."""
    images = [torch.rand(3, 50, 60), torch.rand(3, 64, 40)]
    boxes = [torch.tensor([[5.0, 5, 30, 45]]), torch.tensor([[10.0, 9, 39, 60]])]
    points = torch.cat([torch.rand(1, 17, 2) * 20 + 12, torch.full((1, 17, 1), 2.0)], -1)
    return images, boxes, [points if posed else torch.zeros(1, 17, 3)] * 2


class TestStep:
    def step(self, model, batch):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        task = KeypointDetectionTask({}, "none")
        task.prepare(model)
        losses = task.step(StepTools(model.train(), optimizer, torch.Tensor.backward, lambda: None), batch)
        return losses, {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    def test_the_last_loss_is_the_sum_of_torchvisions(self):
        model = detector()
        torch.manual_seed(3)
        given = batch()
        torch.manual_seed(4)
        losses, _ = self.step(model, given)
        assert losses.shape == (6,)
        assert not losses.requires_grad
        assert losses[-1] == losses[:-1].sum()
        targets = [
            {"boxes": b, "labels": torch.ones(1).long(), "keypoints": k}
            for b, k in zip(given[1], given[2], strict=True)
        ]
        torch.manual_seed(4)
        fresh = detector().train()
        fresh.backbone.trunk.eval()
        torch.manual_seed(4)
        wanted = fresh(given[0], targets)
        assert LOSSES[-1] == "loss_keypoint"
        torch.testing.assert_close(losses[:-1], torch.stack([wanted[name] for name in LOSSES]).detach())

    def test_boxes_alone_teach_the_keypoints_nothing(self):
        model = detector()
        before = persons.state(model)
        losses, reached = self.step(model, batch(posed=False))
        assert losses[LOSSES.index("loss_keypoint")] == 0
        assert (losses[:-1] > 0).sum() == 4
        keypoints = {name for name in before if "keypoint" in name}
        assert len(keypoints) == 4
        assert not reached & keypoints
        moved = persons.changed(before, model.state_dict())
        assert not moved & keypoints
        assert "roi_heads.box_predictor.bbox_pred.weight" in moved
        assert self.step(model, batch())[1] >= keypoints

    def test_joints_beside_boxes_alone_teach_as_much_as_without(self):
        # the loss of the joints is a mean over those that are known
        images, boxes, points = batch()
        model, found = detector(rpn_post_nms_top_n_train=1, box_fg_iou_thresh=0.99, box_bg_iou_thresh=0.99), []
        for known in (points[:1], [points[0], torch.zeros(1, 17, 3)]):
            torch.manual_seed(0)
            found.append(self.step(model, (images[: len(known)], boxes[: len(known)], known))[0])
            model = detector(rpn_post_nms_top_n_train=1, box_fg_iou_thresh=0.99, box_bg_iou_thresh=0.99)
        at = LOSSES.index("loss_keypoint")
        assert found[0][at] > 0
        torch.testing.assert_close(found[0][at], found[1][at], rtol=0.02, atol=0)

    def test_pictures_without_people(self):
        model = detector()
        nobody = [torch.rand(3, 50, 60)] * 2, [torch.zeros(0, 4)] * 2, [torch.zeros(0, 17, 3)] * 2
        losses, _ = self.step(model, nobody)
        assert losses.isfinite().all()
        assert all(value.isfinite().all() for value in model.state_dict().values())

    def test_torchvisions_trunk_is_frozen_too(self):
        with torch.device("meta"):
            model = actionzoo.create("keypointrcnn_resnet50_fpn")
        KeypointDetectionTask({}, "none").prepare(model)
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        assert frozen == {f"backbone.body.{name}" for name, _ in model.backbone.body.named_parameters()}
        assert frozen


class Planted(nn.Module):
    """Finds in the pictures, one after the other, what it was given; `spoil` moves it in some."""

    def __init__(self, dataset, spoil=lambda i: False):
        super().__init__()
        self.found = []
        for i in range(len(dataset)):
            _, boxes, points = dataset[i]
            far = 1000.0 * spoil(i)
            scores = torch.linspace(0.9, 0.5, len(boxes))
            self.found.append({"boxes": boxes + far, "scores": scores, "keypoints": points[..., :3] + far})

    def forward(self, images):
        out, self.found = self.found[: len(images)], self.found[len(images) :]
        return out


class TestScore:
    def score(self, samples, spoil=lambda i: False, test=6):
        task = mixed(samples, test=test)
        task.check(detector())
        task.configure({"input_size": (3, 64, 64)}, RECIPE)
        dataset = task.dataset("test", train=False)
        model = Planted(dataset, spoil).train()
        score = task.score(model, DataLoader(dataset, 4, collate_fn=task.collate), "cpu", False)
        assert model.training
        people = sum(len(dataset[i].boxes) for i in range(len(dataset)))
        assert (score.metrics["images"], score.metrics["people"]) == (2 * test, people)
        return {name: value for name, value in score.metrics.items() if "ap" in name}

    def test_who_finds_everything_has_all(self, samples):
        assert self.score(samples) == {"ap50": 100, "posed_ap50": 100, "boxed_ap50": 100, "keypoint_ap": 100}

    def test_figures_and_photographs_are_told_apart(self, samples):
        # six figures, then six photographs
        figures = self.score(samples, lambda i: i < 6)
        photographs = self.score(samples, lambda i: i >= 6)
        assert (figures["posed_ap50"], figures["keypoint_ap"], figures["boxed_ap50"]) == (0, 0, 100)
        assert (photographs["posed_ap50"], photographs["keypoint_ap"], photographs["boxed_ap50"]) == (100, 100, 0)
        assert 0 < figures["ap50"] < 100

    def test_only_what_there_is_is_scored(self, samples):
        none = ActionSamples(samples.classes, {"train": samples.items["train"]}).with_boxes(samples.boxes)
        task = mixed(none)
        assert [len(source) for source in task.sources["test"].posed] == [3]
        task.configure({"input_size": (3, 64, 64)}, RECIPE)
        dataset = task.dataset("test", train=False)
        score = task.score(Planted(dataset), DataLoader(dataset, 2, collate_fn=task.collate), "cpu", False)
        assert "boxed_ap50" not in score.metrics
        assert score.metrics["ap50"] == score.metrics["posed_ap50"] == 100


class TestTask:
    def test_splits_of_figures_and_photographs(self, samples):
        task = keypoint_figures_task("crowd+pose", samples=samples, length=700, size=48, seed=5, val=True)
        assert task.splits == ("train", "val", "test")
        counts = {s: ([len(p) for p in posed], [len(b) for b in boxed]) for s, (posed, boxed) in task.sources.items()}
        assert counts == {"train": ([700, 700], [12]), "val": ([70, 70], []), "test": ([70, 70], [6])}
        for split, (posed, _) in task.sources.items():
            for source, name in zip(posed, ("crowd", "pose"), strict=True):
                assert repr(source.figures) == repr(ActingFigures(name, split, len(source), 48, 5))
                assert source.random_frame == (split == "train")
        assert task.describe() == (
            "pictures with keypoints and with boxes alone: 1400 + 12 train, 140 + 0 val, 140 + 6 test"
        )
        few = keypoint_figures_task("pose", length=40)
        assert {split: len(posed[0]) for split, (posed, _) in few.sources.items()} == {"train": 40, "test": 50}

    def test_photographs_that_have_a_val_split_keep_it(self, samples):
        task = keypoint_figures_task("pose", samples=samples.hold_out(0.25), length=10)
        assert task.splits == ("train", "val", "test")
        assert len(task.sources["val"].boxed[0]) == 3

    def test_identity(self, samples):
        def identity(names="crowd", **args):
            return keypoint_figures_task(names, **{"samples": samples, "length": 600, **args}).identity()

        path = samples.items["train"][0][0]
        moved = samples.with_boxes({**samples.boxes, path: samples.boxes[path] + 1})
        fewer = samples.with_boxes({key: boxes for key, boxes in samples.boxes.items() if key != path})
        others = [{"names": "pose"}, {"length": 601}, {"size": 64}, {"seed": 1}, {"val": True}]
        others += [{"samples": None}, {"samples": moved}, {"samples": fewer}]
        assert len({identity(**args) for args in ({}, *others)}) == len(others) + 1
        assert identity() == identity()

    def test_pictures_of_a_split(self, samples):
        task = mixed(samples)
        task.configure({"input_size": (3, 64, 64)}, RECIPE)
        scored, trained = task.dataset("train", train=False), task.dataset("train", train=True)
        assert len(scored) == len(trained) == 12
        assert torch.equal(scored[7].boxes, samples.boxes[samples.items["train"][1][0]])
        width = scored[7].image.shape[2]
        left = {float(trained[7].boxes[0, 0]) for _ in range(12)}
        assert left == {float(scored[7].boxes[0, 0]), width - float(scored[7].boxes[0, 2])}
        with pytest.raises(ValueError, match="no val split; it has train, test"):
            task.dataset("val", train=False)

    def test_refusals(self, samples, tmp_path):
        with pytest.raises(ValueError, match=r"figures:pose\+pose names a task twice"):
            keypoint_figures_task("pose+pose")
        with pytest.raises(ValueError, match="unknown task 'jumping'"):
            keypoint_figures_task("pose+jumping")
        with pytest.raises(ValueError, match="learns from boxes, and the photographs have none"):
            keypoint_figures_task("pose", samples=ActionSamples(samples.classes, samples.items))
        for model in (persons.detector(), persons.convit(), detector(num_keypoints=16)):
            with pytest.raises(ValueError, match="finds no 17 joints of COCO; they train a keypointrcnn_"):
                run(samples, tmp_path / "run", model)
        with pytest.raises(ValueError, match=r"scales pictures itself.*min_size"):
            run(samples, tmp_path / "run", input_size=32)
        assert not (tmp_path / "run").exists()

    def test_fields_without_meaning(self):
        used = {"hflip", "color_jitter", "epochs", "batch_size", "optimizer", "lr", "weight_decay", "momentum"}
        used |= {"backbone_lr_scale", "warmup_epochs", "milestones", "clip_grad", "source"}
        assert used <= set(Recipe.__dataclass_fields__) - KeypointDetectionTask.unused_fields


@pytest.fixture(scope="module")
def model():
    return detector()


@pytest.fixture(scope="module")
def convit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("convit")
    persons.convit().save_pretrained(folder)
    return f"local-dir:{folder}"


class TestArguments:
    """What `--data` and the options beside it name."""

    def read(self, model, *argv, **args):
        return read_task(build_parser().parse_args(["train", "--output", "x", *map(str, argv)]), model, **args)

    def test_figures(self, model):
        task = self.read(model, "--data", "figures:crowd+pose")
        assert [repr(source.figures) for source in task.sources["train"].posed] == [
            repr(ActingFigures(name, "train", 3000, 64)) for name in ("crowd", "pose")
        ]
        assert task.splits == ("train", "test")
        assert not task.sources["train"].boxed
        assert self.read(model, "--pose-data", "figures:pose").identity() == (
            self.read(model, "--data", "figures:pose").identity()
        )
        few = self.read(model, "--data", "figures:pose", "--length", 40, val_fraction=0.1)
        assert {split: len(posed[0]) for split, (posed, _) in few.sources.items()} == {
            "train": 40,
            "val": 50,
            "test": 50,
        }

    def test_photographs_beside_figures(self, model, folder, samples):
        argv = ["--data", folder, "--person-boxes", folder / "boxes.csv", "--pose-data", "figures:pose"]
        task = self.read(model, *argv, val_fraction=0.25)
        assert {split: [len(b) for b in boxed] for split, (_, boxed) in task.sources.items()} == {
            "train": [9],
            "val": [3],
            "test": [6],
        }
        found = task.sources["test"].boxed[0].boxes
        assert all(torch.equal(found[path], samples.boxes[path]) for path, _ in samples.items["test"] if path in found)

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            ([], "learns joints from figures"),
            (["--data", "FOLDER", "--person-boxes", "FOLDER/boxes.csv"], "learns joints from figures"),
            (["--data", "figures:pose", "--pose-data", "figures:crowd"], "learns joints from figures"),
            (["--data", "figures:pose", "--pose-test", "a.json"], "takes no --pose-test"),
            (["--data", "figures:pose", "--pose-images", "a"], "takes no --pose-images"),
            (["--data", "figures:pose", "--pose-data", "a.json"], "learns joints from figures"),
            (["--data", "figures:pose", "--img-size", "64"], "scales pictures itself; give --model-args min_size=…"),
            (["--data", "FOLDER", "--pose-data", "figures:pose"], "has no boxes.*give --person-boxes"),
            (["--data", "figures:pose", "--person-boxes", "a.csv"], "say something of photographs"),
            (["--data", "figures:pose", "--root", "a"], "say something of photographs"),
            (["--pose-data", "figures:pose", "--label", "a"], "say something of photographs"),
            (["--data", "figures:poses"], "unknown task 'poses'"),
            (["--data", "figures:pose+pose"], "names a task twice"),
        ],
        ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
    )
    def test_refusals(self, model, folder, argv, message):
        with pytest.raises(ValueError, match=message):
            self.read(model, *(text.replace("FOLDER", str(folder)) for text in argv))


class TestCommand:
    def test_train_then_eval(self, convit, folder, tmp_path, capsys):
        run, few = tmp_path / "run", ["--epochs", "1", "--batch-size", "10", "--json"]
        data = ["--data", str(folder), "--person-boxes", str(folder / "boxes.csv"), "--pose-data", "figures:pose"]
        data += ["--length", "8"]
        assert main(["train", *MODEL, "--convit", convit, *data, "--output", str(run), *few]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert (metrics["split"], metrics["images"]) == ("test", 56)
        config = json.loads((run / "config.json").read_text())
        assert config["recipe"]["source"] == recipes["detector"].source
        trained = loaded(run)
        for name, value in actionzoo.create(convit).state_dict().items():
            if name.startswith("backbone."):
                assert torch.equal(trained[f"backbone.trunk.{name.removeprefix('backbone.')}"], value)
        # of other batches there are other margins, which a detector that knows nothing yet takes notice of
        assert main(["eval", "--model", f"local-dir:{run}", *data, "--batch-size", "10", "--json"]) == 0
        scored = json.loads(capsys.readouterr().out)
        same = ("images", "people", "ap50", "posed_ap50", "boxed_ap50", "keypoint_ap")
        assert [scored[key] for key in same] == pytest.approx([metrics[key] for key in same], abs=0.05)

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            ([*MODEL], "keypointrcnn_tiny is trained on a frozen ConViT, which would be random"),
            ([*MODEL, "--convit", "CONVIT", "--set", "mixup=0.4"], "training a KeypointDetector takes no notice of"),
            ([*MODEL, "--convit", "CONVIT", "--img-size", "32"], "scales pictures itself"),
            ([*MODEL, "trunk='resnet10t'", "--convit", "CONVIT"], "does not fit the trunk of this KeypointDetector"),
            (["--model", "keypointrcnn_resnet50_fpn", "--convit", "CONVIT"], "--convit is for --model person_*"),
        ],
        ids=["no-convit", "mixup", "size", "other-trunk", "resnet50"],
    )
    def test_refusals(self, convit, tmp_path, capsys, argv, message):
        output = ["--output", str(tmp_path / "run"), "--data", "figures:pose", "--length", "8"]
        assert main(["train", *(convit if text == "CONVIT" else text for text in argv), *output]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line
        assert not (tmp_path / "run").exists()
