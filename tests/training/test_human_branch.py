import json

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import actionzoo
from actionzoo.data import ActionSamples, eval_transform, load_image
from actionzoo.metrics import mean_average_precision
from actionzoo.training import HumanBranchTask, Recipe, StepTools, fit, recipes
from tests import persons

RECIPE = recipes["human_branch"].override(epochs=2, batch_size=4, crop_pct=0.875, warmup_epochs=0)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return persons.samples(persons.write(tmp_path_factory.mktemp("people")))


def run(samples, output, recipe=RECIPE, model=None, fit_fusion=True, **args):
    model = model or persons.human()
    return fit(model, HumanBranchTask(samples, fit_fusion=fit_fusion), recipe, output, progress=False, **args)


def loaded(folder):
    return actionzoo.create(f"local-dir:{folder}")


def log_loss(probabilities, targets):
    return -probabilities[range(len(targets)), targets].log().mean()


@pytest.fixture(scope="module")
def finished(samples, tmp_path_factory):
    """A model before training, the trained one, its metrics and the folder of the run."""
    folder, model = tmp_path_factory.mktemp("runs") / "run", persons.human()
    before = persons.state(model)
    metrics = run(samples, folder, model=model)
    return before, model, metrics, folder


@pytest.fixture
def no_curves(monkeypatch):
    """Leave out the report's pictures, which take longer than the training."""
    monkeypatch.setattr("actionzoo.training.human_branch.write_report", lambda *_: [])


class TestFit:
    def test_convit_stays_bit_for_bit_and_the_branch_moves(self, finished):
        before, model, _, folder = finished
        moved = persons.changed(before, loaded(folder).state_dict())
        assert moved == {name for name in before if name.startswith("human.")}
        assert not any(parameter.requires_grad for parameter in model.convit.parameters())
        assert not any(module.training for module in model.train().convit.modules())
        assert any("running_mean" in name for name in before)

    def test_metrics_are_written(self, finished, samples):
        _, model, metrics, folder = finished
        assert metrics == json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
        assert (metrics["split"], metrics["images"], metrics["with_people"]) == ("test", 6, 5)
        assert set(metrics["branches"]) == {"image", "person"}
        for branch in metrics["branches"].values():
            assert set(branch) == {"top1", "top1_interval", "map"}
        assert json.loads((folder / "branches.json").read_text()) == metrics["branches"]
        assert metrics["fusion"] == list(model.fusion)
        for file in ("pr.png", "roc.png", "confusion.png", "scores.json", "README.md"):
            assert (folder / file).stat().st_size > 0
        rows = json.loads((folder / "history.json").read_text())
        assert [len(row["losses"]) for row in rows] == [1, 1]
        config = json.loads((folder / "config.json").read_text())
        assert config["classes"] == list(persons.CLASSES)
        assert config["crop_pct"] == RECIPE.crop_pct
        assert config["recipe"]["keep_person"] == RECIPE.keep_person
        assert not {"mixup", "auto_augment", "erase"} & set(config["recipe"])

    def test_fusion_weights_are_the_best_on_the_training_pictures_and_are_saved(self, finished, samples):
        _, model, _, folder = finished
        assert sum(model.fusion) == 1
        assert all(0 <= w <= 1 for w in model.fusion)
        again = loaded(folder)
        assert again.fusion == model.fusion
        assert again.load_report.random == ()
        task = HumanBranchTask(samples)
        task.configure(dict(again.pretrained_cfg), RECIPE)
        loader = DataLoader(task.dataset("train", train=False), 5, collate_fn=task.collate)
        image, person, known, targets = task.probabilities(again, loader, "cpu", False)
        # the last picture shows nobody
        assert known.tolist() == [True] * 11 + [False]
        losses = {
            w: log_loss(w * image[known] + (1 - w) * person[known], targets[known])
            for w in (0.0, 0.25, 0.5, 0.75, 1.0, model.fusion[0])
        }
        assert losses[model.fusion[0]] <= min(losses.values()) + 1e-6

    def test_fused_scores_are_those_that_a_pipeline_gives(self, finished, samples):
        folder = finished[3]
        scores = json.loads((folder / "scores.json").read_text())["scores"]
        pipe = actionzoo.pipeline(f"local-dir:{folder}")
        for (path, _), row in zip(samples.items["test"], scores):
            result = pipe(path, samples.boxes[path][:1])
            person = result.people[0].scores if result.people else result.scores
            # the crop's corner is a whole pixel in scoring
            assert row == pytest.approx(person, abs=0.02)
            assert result.image_only == (len(samples.boxes[path]) == 0)

    def test_stopped_and_resumed_ends_the_same(self, finished, samples, tmp_path, no_curves):
        _, model, metrics, folder = finished
        run(samples, tmp_path / "run", stop_after=1)
        assert not (tmp_path / "run" / "model.safetensors").exists()
        torch.manual_seed(99)
        resumed = run(samples, tmp_path / "run", resume=True)
        assert persons.changed(loaded(folder).state_dict(), loaded(tmp_path / "run").state_dict()) == set()
        assert {**resumed, "train_seconds": 0} == {**metrics, "train_seconds": 0}
        assert loaded(tmp_path / "run").fusion == model.fusion

    def test_a_finished_run_is_scored_again(self, finished, samples, no_curves):
        _, model, metrics, folder = finished
        again = run(samples, folder, resume=True)
        assert {**again, "train_seconds": 0} == {**metrics, "train_seconds": 0}
        assert loaded(folder).fusion == model.fusion

    def test_mixed_precision(self, samples, tmp_path, no_curves):
        model = persons.human()
        before = persons.state(model)
        run(samples, tmp_path / "run", RECIPE.override(epochs=1), model, amp="bf16")
        after = loaded(tmp_path / "run").state_dict()
        assert persons.changed(before, after) == {name for name in before if name.startswith("human.")}
        assert {value.dtype for value in after.values()} == {torch.float32, torch.int64}
        assert all(value.isfinite().all() for value in after.values())

    def test_fusion_weights_are_left_alone_if_asked(self, samples, tmp_path, no_curves):
        model = persons.human(fusion="voc2012")
        metrics = run(samples.hold_out(0.25), tmp_path / "run", RECIPE.override(epochs=1), model, fit_fusion=False)
        assert metrics["fusion"] == [0.30, 0.70]
        assert loaded(tmp_path / "run").fusion == (0.30, 0.70)
        (row,) = json.loads((tmp_path / "run" / "history.json").read_text())
        assert 0 <= row["val_top1"] <= 100

    def test_a_split_in_which_nobody_has_a_box_keeps_convits_scores(self, samples, tmp_path, no_curves):
        train = {path: samples.boxes[path] for path, _ in samples.items["train"]}
        metrics = run(samples.with_boxes(train), tmp_path / "run", RECIPE.override(epochs=1))
        assert metrics["with_people"] == 0
        assert set(metrics["branches"]) == {"image"}
        assert metrics["top1"] == metrics["branches"]["image"]["top1"]

    def test_people_of_whom_the_central_crop_leaves_nothing(self, samples, tmp_path, no_curves):
        edge = {path: torch.tensor([[0.0, 0, 2, 40]]) for path, _ in samples.items["train"]}
        recipe = RECIPE.override(epochs=1, crop_pct=0.5)
        metrics = run(samples.with_boxes(edge), tmp_path / "run", recipe)
        assert metrics["fusion"] == [0.83, 0.17]

    def test_the_branch_learns_what_convit_does_not_know(self, samples, tmp_path, no_curves):
        recipe = RECIPE.override(epochs=4, batch_size=5, lr=1e-2, label_smoothing=0.0, crop_pct=1.0)
        model = persons.human()
        # a backbone that sees colours, before a ConViT that takes everything for the first class
        model.convit.forward_backbone = lambda images: F.avg_pool2d(images, 16).repeat(1, 6, 1, 1)[:, :16]
        torch.nn.init.zeros_(model.convit.fc.weight)
        model.convit.fc.bias.data = torch.tensor([1.0, 0, 0])
        known = {path: boxes for path, boxes in samples.boxes.items() if len(boxes)}
        people = ActionSamples(
            samples.classes, {split: [r for r in rows if r[0] in known] for split, rows in samples.items.items()}
        ).with_boxes(known)
        metrics = run(people, tmp_path / "run", recipe, model)
        assert metrics["branches"]["person"]["top1"] == 100
        assert metrics["branches"]["image"]["top1"] == 40
        assert metrics["top1"] == 100
        assert metrics["fusion"][1] > 0.9


class TestStep:
    def step(self, samples, boxes, smoothing=0.0):
        model = persons.human()
        optimizer = torch.optim.SGD(model.human.parameters(), 0.1)
        tools = StepTools(model, optimizer, torch.Tensor.backward, lambda: None)
        task = HumanBranchTask(samples)
        task.configure(dict(model.pretrained_cfg), RECIPE.override(label_smoothing=smoothing))
        task.prepare(model.train())
        images, targets = [torch.randn(3, 64, 64) for _ in boxes], torch.tensor([2, 0, 1])[: len(boxes)]
        with torch.no_grad():
            logits = [model(x[None], [b]).logits for x, b in zip(images, boxes)]
        before = persons.state(model)
        loss = task.step(tools, (images, boxes, targets))
        gradients = [p.grad for p in model.human.parameters()]
        return loss, logits, targets, gradients, persons.changed(before, model.state_dict())

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_every_person_learns_the_pictures_label(self, samples, smoothing):
        boxes = [torch.tensor([[4.0, 4, 30, 60], [30, 2, 62, 40]]), torch.zeros(0, 4), torch.tensor([[1.0, 1, 50, 50]])]
        loss, logits, _, _, moved = self.step(samples, boxes, smoothing)
        terms = [F.cross_entropy(logits[i], torch.tensor([k] * n), label_smoothing=smoothing, reduction="none")
                 for i, k, n in ((0, 2, 2), (2, 1, 1))]  # fmt: skip
        assert loss.shape == (1,)
        torch.testing.assert_close(loss[0], torch.cat(terms).mean())
        assert moved
        assert all(name.startswith("human.") for name in moved)

    @pytest.mark.parametrize("boxes", [torch.zeros(0, 4), torch.tensor([[-9.0, 3, -1, 9]])], ids=["none", "outside"])
    def test_a_batch_in_which_nobody_has_a_box(self, samples, boxes):
        loss, _, _, gradients, moved = self.step(samples, [boxes, boxes])
        assert loss.tolist() == [0]
        assert all(g is None or (g == 0).all() for g in gradients)
        assert moved == set()


class TestTask:
    def configured(self, samples, model, recipe=RECIPE, **args):
        task = HumanBranchTask(samples, **args)
        task.check(model)
        task.configure(model.pretrained_cfg, recipe)
        return task

    def test_the_surest_people_are_trained_on(self, samples):
        crowd = {path: torch.tensor([[i, i, i + 20.0, i + 40] for i in range(9)]) for path in samples.boxes}
        crowded = samples.with_boxes(crowd)
        recipe = RECIPE.override(hflip=0.0, crop_pct=1.0)
        for most, expected in ((1, 1), (4, 4), (20, 9)):
            task = self.configured(crowded, persons.human(), recipe, max_people=most)
            for train in (True, False):
                assert len(task.dataset("train", train)[0].boxes) == expected
        image, boxes, target = task.dataset("test", train=False)[5]
        path, label = samples.items["test"][5]
        picture = load_image(path)
        assert target == label
        assert image.shape == (3, 64, 64)
        scale = torch.tensor([64 / picture.width, 64 / picture.height] * 2)
        torch.testing.assert_close(boxes[0], crowd[path][0] * scale)

    def test_pictures_are_scored_by_their_surest_person(self, samples):
        model = persons.human().eval()
        task = self.configured(samples, model)
        dataset = task.dataset("test", train=False)
        loader = DataLoader(dataset, 4, collate_fn=task.collate)
        image, person, known, targets = task.probabilities(model.train(), loader, "cpu", False)
        assert model.training
        model.eval()
        for i, (path, label) in enumerate(samples.items["test"]):
            with torch.no_grad():
                output = model(eval_transform(model.pretrained_cfg)(load_image(path))[None], [dataset[i].boxes])
            torch.testing.assert_close(image[i], output.image_logits.softmax(1)[0])
            alone = output.logits if len(output.logits) else output.image_logits
            torch.testing.assert_close(person[i], alone.softmax(1)[0])
            assert known[i] == (len(output.logits) > 0)
            assert targets[i] == label
        score = task.score(model, loader, "cpu", False)
        fused = 0.83 * image + 0.17 * person
        torch.testing.assert_close(score.evaluation.scores, fused)
        everybody = torch.ones_like(known)
        branch = score.metrics["branches"]["person"]
        for probabilities, rows, found in ((fused, everybody, score.metrics), (person, known, branch)):
            probs, labels = probabilities[rows], targets[rows]
            assert found["map"] == round(100 * mean_average_precision(probs, labels), 2)
            assert found["top1"] == round(100 * (probs.argmax(1) == labels).double().mean().item(), 2)

    def test_describe_and_identity(self, samples):
        task = HumanBranchTask(samples)
        assert task.describe() == (
            "3 classes, 12 train, 6 test images; boxes of people in 18; 0 rows without a label; 23 people"
        )
        path = samples.items["train"][0][0]
        moved = samples.with_boxes({**samples.boxes, path: samples.boxes[path] + 1})
        relabelled = samples.relabel({"jump": "sit", "sit": "jump", "walk": "walk"})
        others = [HumanBranchTask(moved), HumanBranchTask(samples, 3), HumanBranchTask(relabelled)]
        others.append(HumanBranchTask(samples.hold_out(0.25)))
        assert len({task.identity(), *(other.identity() for other in others)}) == 5
        assert HumanBranchTask(persons.samples(path.parents[2])).identity() == task.identity()

    def test_classes_are_numbered_as_a_model_does(self, samples):
        task = HumanBranchTask(samples)
        task.rename(("walk", "wave", "sit", "jump"))
        assert task.classes == ("walk", "wave", "sit", "jump")
        assert [k for _, k in task.samples.items["test"]] == [3, 3, 2, 2, 0, 0]
        assert len(task.samples.boxes) == 18
        with pytest.raises(ValueError, match=r"does not know the classes \['sit', 'wave'\]"):
            task.rename(("walk", "jump"))

    def test_refusals(self, samples, tmp_path):
        with pytest.raises(ValueError, match="the data has none; give --person-boxes"):
            HumanBranchTask(ActionSamples(samples.classes, samples.items))
        with pytest.raises(ValueError, match="max_people is at least 1, got 0"):
            HumanBranchTask(samples, 0)
        for model in (persons.convit(), persons.detector()):
            with pytest.raises(ValueError, match="has no human branch; this trains a convit_har_person_"):
                run(samples, tmp_path / "run", model=model)
        with pytest.raises(ValueError, match="the model has 5 classes, the data 3"):
            run(samples, tmp_path / "run", model=persons.human(5))
        with pytest.raises(ValueError, match="multi_label=False"):
            run(samples, tmp_path / "run", model=persons.human(multi_label=True))
        test = {path: samples.boxes[path] for path, _ in samples.items["test"]}
        with pytest.raises(ValueError, match="no training picture has boxes"):
            run(samples.with_boxes(test), tmp_path / "run")
        assert not (tmp_path / "run").exists()
        run(samples, tmp_path / "run", RECIPE.override(batch_size=12), stop_after=1)
        path = samples.items["train"][0][0]
        moved = samples.with_boxes({**samples.boxes, path: samples.boxes[path] + 1})
        with pytest.raises(ValueError, match="was written with files"):
            run(moved, tmp_path / "run", RECIPE.override(batch_size=12), resume=True)

    def test_fields_without_meaning(self):
        used = set(Recipe.__dataclass_fields__) - HumanBranchTask.unused_fields
        assert {"crop_pct", "keep_person", "hflip", "color_jitter", "hue", "grayscale", "label_smoothing"} <= used
        assert not {"mixup", "auto_augment", "erase", "resize", "scale", "sigma"} & used
