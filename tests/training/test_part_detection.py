"""Training a detector of body parts on people with pose dots."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader

import actionzoo
from actionzoo.data import ActingFigures
from actionzoo.data.figures import PARTS
from actionzoo.data.part_frames import annotated_frames
from actionzoo.data.part_videos import FigurePartVideos
from actionzoo.layers import (
    COCO_FLIP_PAIRS,
    COCO_JOINT_PARTS,
    MPII_FLIP_PAIRS,
    MPII_JOINT_PARTS,
    BoxGrower,
    PoseDotEncoder,
)
from actionzoo.metrics import box_average_precision, coco_box_ap
from actionzoo.models.part_people import dotted_crop, pose_keypoints
from actionzoo.training import PartDetectionTask, Recipe, StepTools, fit, recipes
from actionzoo.training.part_detection import _share_found
from tests import people, persons

RECIPE = recipes["detector"].override(epochs=2, batch_size=4, lr=1e-2, hflip=0.5)
YOLOF = {
    "trunk_args": persons.TRUNK,
    "out_channels": 8,
    "mid_channels": 8,
    "dilations": (1, 2),
    "anchor_scales": (0.5, 1, 2),
    "min_size": 48,
    "max_size": 64,
}


def detector(**args):
    """A detector of parts that trains in milliseconds."""
    torch.manual_seed(0)
    return actionzoo.create("yolof_tiny", **{"num_classes": 10, **YOLOF, **args})


def videos(split, length=6):
    return FigurePartVideos(ActingFigures("parts", split, length, 64, frames=4), every=3)


def task(splits=("train", "test"), pose="pose", **args):
    counts = {"train": 6, "val": 2, "test": 3}
    if pose == "pose":
        pose = people.pose()
    return PartDetectionTask({split: videos(split, counts[split]) for split in splits}, "figures", pose=pose, **args)


def run(output, model=None, recipe=RECIPE, **args):
    model = model or detector()
    return model, fit(model, task(), recipe, output, progress=False, **args)


def loaded(folder):
    return actionzoo.create(f"local-dir:{folder}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A model's state before training, its metrics and the folder of the run."""
    torch.set_num_threads(1)  # as in the run that is stopped: sums come out otherwise on more
    folder, model = tmp_path_factory.mktemp("runs") / "run", detector()
    before = persons.state(model)
    return before, run(folder, model)[1], folder


class TestFit:
    def test_a_random_trunk_learns_with_the_rest(self, finished):
        before, _, folder = finished
        assert persons.changed(before, loaded(folder).state_dict()) == set(before)

    def test_metrics_are_written(self, finished):
        _, metrics, folder = finished
        assert metrics == json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
        assert (metrics["split"], metrics["images"]) == ("test", 3)
        assert 3 <= metrics["parts"] <= 30
        assert all(0 <= metrics[name] <= 100 for name in ("part_ap50", "part_coco_ap", "ap50_head"))
        assert json.loads((folder / "detection.json").read_text())["part_ap50"] == metrics["part_ap50"]
        for row in json.loads((folder / "history.json").read_text()):
            assert len(row["losses"]) == 3
            assert sum(row["losses"][:-1]) == pytest.approx(row["losses"][-1], abs=1e-4)
        config = json.loads((folder / "config.json").read_text())
        assert not {"crop_pct", "mixup", "keep_person"} & set(config["recipe"])
        assert "classes" not in config

    def test_stopped_and_resumed_ends_the_same(self, finished, tmp_path):
        run(tmp_path / "run", stop_after=1)
        torch.manual_seed(99)
        _, metrics = run(tmp_path / "run", resume=True)
        assert persons.changed(loaded(finished[2]).state_dict(), loaded(tmp_path / "run").state_dict()) == set()
        assert metrics["part_ap50"] == finished[1]["part_ap50"]

    def test_val_is_scored_every_epoch(self, tmp_path):
        fit(detector(), task(("train", "val")), RECIPE.override(epochs=1), tmp_path / "run", progress=False)
        (row,) = json.loads((tmp_path / "run" / "history.json").read_text())
        assert 0 <= row["val_part_ap50"] <= 100

    def test_the_loss_falls(self, tmp_path):
        recipe = RECIPE.override(epochs=10, batch_size=2, hflip=0.0, color_jitter=0.0)
        run(tmp_path / "run", recipe=recipe)
        rows = [row["losses"] for row in json.loads((tmp_path / "run" / "history.json").read_text())]
        assert rows[-1][0] < 0.6 * rows[0][0]
        assert rows[-1][1] < 0.9 * rows[0][1]


class TestTrunk:
    def changes(self, model, folder, **args):
        before = persons.state(model)
        fit(model, task(("train",), **args), RECIPE.override(epochs=1), folder, progress=False, stop_after=1)
        return before, persons.changed(before, model.state_dict())

    def test_frozen(self, tmp_path):
        before, moved = self.changes(detector(), tmp_path / "run", freeze_trunk=True)
        assert moved == {name for name in before if not name.startswith("backbone.trunk.")}

    def test_of_a_trained_one_stem_first_stage_and_batch_norm_stay(self, finished, tmp_path):
        model = loaded(finished[2])
        before, moved = self.changes(model, tmp_path / "run")
        stem = ("conv1.", "bn1.", "layer1.")
        norms = [name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)]
        expected = {
            name
            for name in before
            if not name.startswith("backbone.trunk.")
            or not (name.removeprefix("backbone.trunk.").startswith(stem) or name.rpartition(".")[0] in norms)
        }
        assert moved == expected
        assert any(name.startswith("backbone.trunk.layer2.") for name in moved)
        assert not any(
            part.training for name, part in model.train().named_modules() if name.startswith("backbone.trunk.bn")
        )


class TestData:
    def dataset(self, train=False, **args):
        built = task(**args)
        built.check(detector())
        built.configure({"input_size": (3, 48, 48)}, RECIPE)
        return built.dataset("train", train=train)

    @pytest.mark.parametrize("dots", [True, False], ids=["dots", "no-dots"])
    def test_pictures_are_what_the_parser_shows_its_detector(self, dots):
        pose, source, grower = people.pose(), videos("train"), BoxGrower()
        # sure enough to be painted, and to grow boxes
        nn.init.constant_(pose.head.bias, 0.6)
        pose.eval()
        found = self.dataset(pose=pose, dots=None if dots else False)
        encoder = PoseDotEncoder(MPII_JOINT_PARTS) if dots else None
        assert len(found) == 6
        for i in range(6):
            truth = annotated_frames(source, i)[i * 7 % 2]
            frame = source.read(i, [truth.frame])[:, 0] / 255
            joints = pose_keypoints(pose, frame, truth.boxes)
            corner = torch.tensor([0.5, 0.5, 0.0])
            grown, _ = grower(truth.boxes, joints + corner, (64, 64))
            assert not torch.equal(grown, truth.boxes)
            crop, (x, y) = dotted_crop(frame, grown[0], joints[0], encoder)
            assert_close(found[i].image, crop, rtol=0, atol=1e-6)
            for box, label in zip(found[i].boxes, found[i].labels):
                inside = truth.parts[0, label - 1] - torch.tensor([x, y, x, y])
                limit = torch.tensor([crop.shape[2], crop.shape[1]] * 2)
                assert_close(box, inside.clamp(min=0).minimum(limit), rtol=0, atol=1e-4)

    def test_without_a_pose_net_there_are_no_dots(self):
        found, source = self.dataset(pose=None), videos("train")
        for i in range(len(found)):
            truth = annotated_frames(source, i)[i * 7 % 2]
            x1, y1, x2, y2 = truth.boxes[0].tolist()
            frame = source.read(i, [truth.frame])[:, 0] / 255
            assert torch.equal(found[i].image, frame[:, int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))])

    def test_dots_and_mirror_follow_the_order_of_the_joints(self):
        coco, mpii = (task(pose=people.pose(num_joints=count)) for count in (17, 16))
        assert (coco.dots.parts, mpii.dots.parts) == (COCO_JOINT_PARTS, MPII_JOINT_PARTS)
        assert (coco.flip_pairs, mpii.flip_pairs) == (COCO_FLIP_PAIRS, MPII_FLIP_PAIRS)

    def test_more_frames_are_more_people(self):
        assert len(self.dataset(pose=None, frames_per_video=2)) == 12

    def test_training_pictures_differ_and_scored_ones_do_not(self):
        trained = self.dataset(train=True)
        torch.manual_seed(0)
        assert len({trained[0].image.shape for _ in range(8)}) > 1
        scored = self.dataset()
        assert torch.equal(scored[0].image, scored[0].image)

    def test_what_is_kept_changes_nothing(self):
        kept, anew = self.dataset(train=True), self.dataset(train=True, cache=False)
        for i in (0, 4, 0):
            torch.manual_seed(i)
            one = kept[i]
            torch.manual_seed(i)
            for a, b in zip(one, anew[i]):
                assert torch.equal(a, b)

    def test_identity(self):
        def identity(splits=("train", "test"), **args):
            return task(splits, **args).identity()

        other = people.pose()
        nn.init.constant_(other.head.bias, 0.1)
        changes = [{"frames_per_video": 2}, {"jitter": 0.1}, {"dots": False}, {"pose": None}, {"pose": other}]
        actions = videos("train", 6)
        actions.action = lambda i: "other"
        named = videos("train", 6)
        named.name = lambda i: f"other {i}"
        others = [actions, named, FigurePartVideos(actions.figures, every=2)]
        same = {"name": "figures", "pose": people.pose()}
        identities = {
            PartDetectionTask({"train": own, "test": videos("test", 3)}, **same).identity()
            for own in (videos("train", 6), *others)
        }
        assert identity() in identities
        assert len(identities) == 4
        changes += [
            {"grower": BoxGrower(max_growth=1.2)},
            {"dots": PoseDotEncoder(min_radius=5)},
            {"splits": ("train",)},
        ]
        assert len({identity(**change) for change in ({}, *changes)}) == len(changes) + 1
        assert identity() == identity()
        assert task().describe() == "body parts: 6 train, 3 test videos, 1 frames of each, with pose dots"

    def test_a_worker_cannot_ask_a_gpu_for_joints(self, monkeypatch):
        pose = people.pose().to("meta")
        monkeypatch.setattr("actionzoo.training.part_detection.get_worker_info", lambda: object())
        with pytest.raises(RuntimeError, match=r"the pose net is on meta, .*cache=True"):
            self.dataset(pose=pose, cache=False)[0]

    @pytest.mark.parametrize(
        ("args", "expected"),
        [({}, (True, True)), ({"dots": False}, (True, False)), ({"pose": None}, (False, False))],
        ids=["dots", "no-dots", "no-pose"],
    )
    def test_what_the_detector_saw_is_noted(self, args, expected):
        cfg = {"input_size": (3, 48, 48)}
        task(**args).configure(cfg, RECIPE)
        assert (cfg["task_args"]["pose"], cfg["task_args"]["dots"]) == expected


class TestStep:
    def test_the_last_loss_is_the_sum(self):
        model = detector().train()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        images = [torch.rand(3, 40, 20), torch.rand(3, 30, 24)]
        boxes = [torch.tensor([[2.0, 3, 12, 15], [4, 20, 18, 39]]), torch.zeros(0, 4)]
        labels = [torch.tensor([1, 10]), torch.zeros(0, dtype=torch.long)]
        targets = [{"boxes": b, "labels": k} for b, k in zip(boxes, labels)]
        expected = model(images, targets)
        model = detector().train()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        before = persons.state(model)
        losses = task(pose=None).step(
            StepTools(model, optimizer, torch.Tensor.backward, lambda: None), (images, boxes, labels)
        )
        assert_close(losses[:2], torch.stack([expected["loss_classifier"], expected["loss_box_reg"]]).detach())
        assert losses[2] == losses[:2].sum()
        assert not losses.requires_grad
        assert "head.class_logits.weight" in persons.changed(before, model.state_dict())


class Planted(nn.Module):
    """Finds given boxes in the pictures, one after the other."""

    def __init__(self, rows):
        super().__init__()
        self.rows = list(rows)

    def forward(self, images):
        found, self.rows = self.rows[: len(images)], self.rows[len(images) :]
        return found


class TestScore:
    def rows(self):
        """Truth and findings of five pictures; nobody shows a hip."""
        rng, truth, found = np.random.default_rng(0), [], []
        for _ in range(5):
            boxes, labels = [], []
            for label in range(1, 11):
                if label != 2 and rng.random() < 0.7:
                    first = rng.uniform(0, 30, 2)
                    boxes.append([*first, *(first + rng.uniform(8, 20, 2))])
                    labels.append(label)
            truth.append((torch.rand(3, 48, 48), torch.tensor(boxes, dtype=torch.float32), torch.tensor(labels)))
            again = np.array(boxes) + rng.uniform(-3, 3, (len(boxes), 4))
            found.append(
                {
                    "boxes": torch.from_numpy(np.concatenate([again, [[1, 1, 9, 9]]])).float(),
                    "labels": torch.tensor([*labels, int(rng.integers(1, 11))]),
                    "scores": torch.from_numpy(rng.uniform(0.1, 1, len(labels) + 1)).float(),
                }
            )
        return truth, found

    def test_a_part_is_found_by_its_surest_box_alone(self):
        box, far = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([[30.0, 30.0, 40.0, 40.0]])
        # 10 x 10 against 10 x 10 shifted by k share (10 - k) / (10 + k): 0.33 for 5, 0.25 for 6
        near, off = box + torch.tensor([5.0, 0.0, 5.0, 0.0]), box + torch.tensor([6.0, 0.0, 6.0, 0.0])
        none = (torch.zeros(0, 4), torch.zeros(0))
        found = [
            (near, torch.tensor([0.1])),
            (off, torch.tensor([0.9])),
            (torch.cat([far, near]), torch.tensor([0.2, 0.3])),
            (torch.cat([far, near]), torch.tensor([0.3, 0.2])),
            none,
            (near, torch.tensor([0.5])),
        ]
        assert _share_found(found, [box] * 5 + [torch.zeros(0, 4)]) == 2 / 5

    def test_every_part_by_itself(self):
        truth, found = self.rows()
        model, built = Planted(found).train(), task(pose=None)
        metrics = built.score(model, DataLoader(truth, 2, collate_fn=built.collate), "cpu", False).metrics
        ap50, ap, right = {}, [], []
        for label, part in enumerate(PARTS, 1):
            boxes = [[b.tolist() for b, k in zip(boxes, labels) if k == label] for _, boxes, labels in truth]
            if not any(boxes):
                continue
            pairs = []
            for out in found:
                mine = [j for j in range(len(out["labels"])) if out["labels"][j] == label]
                pairs.append((out["boxes"][mine].reshape(-1, 4), out["scores"][mine]))
            wanted = [torch.tensor(rows).reshape(-1, 4) for rows in boxes]
            ap50[part], _ = box_average_precision(pairs, wanted), ap.append(coco_box_ap(pairs, wanted)["ap"])
            hits, total = 0, 0
            for (found_boxes, scores), true_boxes in zip(pairs, boxes):
                total += len(true_boxes)
                if len(found_boxes):
                    x1, y1, x2, y2 = found_boxes[int(scores.argmax())].tolist()
                    for a, b, c, d in true_boxes:
                        shared = max(min(x2, c) - max(x1, a), 0) * max(min(y2, d) - max(y1, b), 0)
                        hits += shared / ((x2 - x1) * (y2 - y1) + (c - a) * (d - b) - shared) >= 0.3
            right.append(hits / total)
        assert set(ap50) == set(PARTS) - {"hip"}
        assert len(set(ap50.values())) > 2
        assert metrics["part_ap50"] == round(100 * np.mean(list(ap50.values())), 2)
        assert metrics["part_coco_ap"] == round(100 * np.mean(ap), 2)
        assert metrics["part_found"] == round(100 * np.mean(right), 2)
        assert {name: value for name, value in metrics.items() if name.startswith("ap50_")} == {
            f"ap50_{part}": round(100 * value, 2) for part, value in ap50.items()
        }
        assert (metrics["images"], metrics["parts"]) == (5, sum(len(labels) for _, _, labels in truth))
        assert model.training

    def test_no_part_at_all(self):
        truth = [(torch.rand(3, 20, 20), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))]
        found = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)}]
        built = task(pose=None)
        score = built.score(Planted(found), DataLoader(truth, 1, collate_fn=built.collate), "cpu", False)
        assert score.metrics == {"images": 1, "parts": 0}


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (lambda: detector(num_classes=1), "YOLOF of 1 classes does not find the 10 body parts; create a yolof_"),
            (persons.detector, "PersonDetector does not find the 10 body parts"),
            (persons.convit, "ConViTHAR does not find the 10 body parts"),
        ],
        ids=["people", "person_tiny", "convit"],
    )
    def test_models(self, model, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            run(tmp_path / "run", model())
        assert not (tmp_path / "run").exists()

    def test_arguments(self, tmp_path):
        with pytest.raises(ValueError, match="need joints: give the pose net"):
            task(pose=None, dots=PoseDotEncoder())
        with pytest.raises(ValueError, match="need joints: give the pose net"):
            task(pose=None, grower=BoxGrower())
        for dots in (None, False):
            with pytest.raises(ValueError, match=r"the order of the pose net's joints is .* coco or mpii; take a pose"):
                task(pose=people.pose(num_joints=14), dots=dots)
        with pytest.raises(ValueError, match="frames_per_video is at least 1"):
            task(frames_per_video=0)
        with pytest.raises(ValueError, match=r"scales pictures itself.*min_size"):
            run(tmp_path / "run", input_size=32)
        with pytest.raises(ValueError, match="no val split; it has train, test"):
            task().dataset("val", train=False)

    def test_fields_without_meaning(self):
        used = {"hflip", "color_jitter", "nesterov", "warmup_iterations", "milestones", "clip_grad", "source"}
        assert used <= set(Recipe.__dataclass_fields__) - PartDetectionTask.unused_fields
        assert {"mixup", "crop_pct", "pose_rotation"} <= PartDetectionTask.unused_fields
