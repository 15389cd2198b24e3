import json

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import actionzoo
from actionzoo.data import ActionSamples, write_clip
from actionzoo.training import (
    InstanceActionTask,
    StepTools,
    evaluate_instances,
    fit,
    instance_figures_task,
    instance_loss,
    instance_videos_task,
    recipes,
    score_task,
    video_scores,
)
from actionzoo.training.evaluate_instances import InstanceBatch, collate_instances
from actionzoo.training.instance_features import ClipFeatures
from tests import instances, persons

RECIPE = recipes["instances"].override(epochs=2, batch_size=4, warmup_epochs=0, lr=1e-2)
CLASSES = instances.figures().figures.classes


def task(splits=("train", "test"), name="motion", **args):
    sources = {split: instances.figures(name, split, length=8) for split in splits}
    args = {"true_boxes": True, "progress": False, **args}
    return InstanceActionTask(sources, next(iter(sources.values())).figures.classes, **args)


def run(output, data=None, model=None, recipe=RECIPE, **args):
    data = data or task()
    model = model or instances.net(len(data.classes))
    return fit(model, data, recipe, output, progress=False, **args)


def loaded(folder):
    return actionzoo.create(f"local-dir:{folder}")


def clip(count, label=0, people=0, found=0, score=None, area=None, labels=None):
    """Features of a clip with `count` tracks."""
    score = torch.rand(count) if score is None else torch.tensor(score)
    area = torch.rand(count) if area is None else torch.tensor(area)
    labels = torch.full((count,), label) if labels is None else torch.tensor(labels)
    return ClipFeatures(torch.randn(count, 8, 4, 4, 4), labels, score, area, label, people, found)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Leave out the report's pictures, which take longer than the training."""
    written = []
    monkeypatch.setattr("actionzoo.training.instances.write_report", lambda *args: written.append(args))
    return written


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A model's state before training, the model, its metrics and the folder of the run."""
    folder, model = tmp_path_factory.mktemp("runs") / "run", instances.net(len(CLASSES))
    before = persons.state(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actionzoo.training.instances.write_report", lambda *_: [])
        metrics = run(folder, model=model, data=task(cache=folder.parent / "features"))
    return before, model, metrics, folder


class TestFit:
    def test_the_detector_stays_bit_for_bit_and_the_head_moves(self, finished):
        before, model, _, folder = finished
        moved = persons.changed(before, loaded(folder).state_dict())
        assert moved == {name for name in before if name.startswith("head.")}
        assert any(name.startswith("detector.") and "running_mean" in name for name in before)
        assert not any(p.requires_grad or p.grad is not None for p in model.detector.parameters())
        assert not any(module.training for module in model.train().detector.modules())

    def test_metrics_are_written(self, finished):
        _, _, metrics, folder = finished
        assert metrics == json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
        assert (metrics["split"], metrics["videos"], metrics["empty"]) == ("test", 8, 0)
        assert (metrics["tracks"], metrics["unmatched"], metrics["missed"]) == (metrics["people"], 0, 0)
        assert {"top1", "top1_interval", "top5", "map", "track_top1", "track_top1_interval"} <= set(metrics)
        assert json.loads((folder / "instances.json").read_text())["top1"] == metrics["top1"]
        config = json.loads((folder / "config.json").read_text())
        assert config["classes"] == list(CLASSES)
        assert config["recipe"]["schedule"] == "cosine"
        assert config["recipe"]["label_smoothing"] == RECIPE.label_smoothing
        assert not {"crop_pct", "mixup", "keep_person"} & set(config["recipe"])

    def test_the_detector_runs_once(self, tmp_path, monkeypatch):
        model, data, seen = instances.net(len(CLASSES)), task(cache=tmp_path / "features"), []
        own = model.pool
        monkeypatch.setattr(model, "pool", lambda *args: seen.append(1) or own(*args))
        run(tmp_path / "run", data, model, RECIPE.override(epochs=3))
        assert len(seen) == 16
        assert len(list((tmp_path / "features").glob("*.safetensors"))) == 16

    def test_stopped_and_resumed_ends_the_same(self, finished, tmp_path):
        run(tmp_path / "run", stop_after=1)
        assert not (tmp_path / "run" / "model.safetensors").exists()
        torch.manual_seed(99)
        metrics = run(tmp_path / "run", resume=True)
        whole, parts = loaded(finished[3]).state_dict(), loaded(tmp_path / "run").state_dict()
        assert persons.changed(whole, parts) == set()
        assert {**metrics, "train_seconds": 0} == {**finished[2], "train_seconds": 0}
        with pytest.raises(ValueError, match="resume with the same"):
            run(tmp_path / "run", task(views=2), resume=True)

    def test_mixed_precision(self, tmp_path):
        model = instances.net(len(CLASSES))
        before = persons.state(model)
        run(tmp_path / "run", model=model, recipe=RECIPE.override(epochs=1), amp="bf16")
        after = loaded(tmp_path / "run").state_dict()
        assert persons.changed(before, after) == {name for name in before if name.startswith("head.")}
        assert {value.dtype for value in after.values()} == {torch.float32, torch.int64}
        assert all(value.isfinite().all() for value in after.values())

    def test_training_sees_mixed_precision(self, tmp_path):
        model, seen = instances.net(len(CLASSES)), set()
        model.head.convs[0].conv.register_forward_hook(lambda _m, _i, out: seen.add((model.training, out.dtype)))
        run(tmp_path / "run", model=model, recipe=RECIPE.override(epochs=1), amp="bf16")
        assert seen == {(True, torch.bfloat16), (False, torch.float32)}

    def test_nobody_is_found_in_some_clips(self, tmp_path):
        boxes = [(8.0, 8.0, 30.0, 56.0), (34.0, 8.0, 60.0, 56.0)]
        # in the first batch whoever comes first; in testing nobody in half of the clips
        counts = [0, 1, 2, 0, 1, 0, 2, 1] + [0, 2] * 4
        model = instances.net(len(CLASSES))
        instances.scripted(model, [[[(box, 0.9) for box in boxes[:n]]] * 4 for n in counts])
        data = task(true_boxes=False, rule="area")
        # everybody has the video's label, as in files
        for source in data.sources.values():
            own = source.read
            source.read = lambda i, at=None, own=own: own(i, at)._replace(labels=None, boxes=None)
        metrics = run(tmp_path / "run", data, model)
        assert (metrics["videos"], metrics["empty"], metrics["tracks"]) == (8, 4, 8)
        assert metrics["top1"] <= 50
        assert "people" not in metrics

    def test_people_who_differ_are_scored_by_track(self, tmp_path):
        data = task(("train", "val", "test"), "crowd")
        metrics = run(tmp_path / "run", data, recipe=RECIPE.override(epochs=1))
        assert "top1" not in metrics
        assert 0 <= metrics["track_top1"] <= 100
        (row,) = json.loads((tmp_path / "run" / "history.json").read_text())
        assert 0 <= row["val_track_top1"] <= 100

    def test_it_learns(self, tmp_path):
        # dark and bright clips, seen as wholes, since a detector with random weights finds nobody
        model, data = instances.net(2), task(("train",))
        for source in data.sources.values():
            source.label = lambda i: i % 2
            own = source.read
            source.read = lambda i, at=None, own=own: own(i, at)._replace(
                clip=own(i, at).clip // 2 + 127 * (i % 2), labels=None, boxes=None
            )
        data.classes, data.numbers = ("dark", "bright"), [0, 1]
        data.how = {"true_boxes": False, "whole_frame": True}
        model.detector.roi_heads.score_thresh = 2.0
        metrics = run(tmp_path / "run", data, model, RECIPE.override(epochs=12, lr=2e-2, label_smoothing=0.0))
        assert (metrics["tracks"], metrics["top1"], metrics["map"]) == (8, 100, 100)

    def test_video_files_then_their_scores(self, tmp_path, no_curves):
        items = {}
        for split, count in (("train", 4), ("test", 2)):
            rows = [(tmp_path / f"{split}{i}.mp4", i % 2) for i in range(count)]
            for path, k in rows:
                write_clip(path, torch.full((3, 12, 64, 64), 90 * k + 40, dtype=torch.uint8))
            items[split] = rows
        samples = ActionSamples(("dark", "bright"), items)
        options = {"cache": tmp_path / "features", "views": 3, "whole_frame": True, "progress": False}
        model = instances.net(2)
        model.detector.roi_heads.score_thresh = 2.0
        run(tmp_path / "run", instance_videos_task(samples, 4, 2, **options), model, RECIPE.override(epochs=1))
        assert len(list((tmp_path / "features").glob("*.safetensors"))) == 4 * 3 + 2
        assert len(no_curves[-1][0].targets) == 2
        # the other way round, and one class more
        model.pretrained_cfg["classes"] = ["bright", "dark"]
        data = instance_videos_task(samples, 4, 2, **{**options, "views": 1})
        score = score_task(model, data, "test")
        assert score.metrics["videos"] == 2
        assert score.evaluation.targets.tolist() == [1, 0]


class TestStep:
    def step(self, clips, model=None, smoothing=0.0, **args):
        model = (model or instances.net(len(CLASSES))).train()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1, momentum=0.9)
        tools = StepTools(model, optimizer, torch.Tensor.backward, lambda: None)
        data = task(**args)
        data.configure(dict(model.pretrained_cfg), RECIPE.override(label_smoothing=smoothing))
        data.prepare(model)
        before = persons.state(model)
        batch = collate_instances(clips)
        seen = []
        handle = model.head.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
        loss = data.step(tools, batch)
        handle.remove()
        return loss, seen[0], batch, model, persons.changed(before, model.state_dict())

    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_different_numbers_of_people(self, reduction, smoothing):
        clips = [clip(2, 3), clip(0, 1), clip(1, 0), clip(3, 2)]
        loss, logits, batch, model, moved = self.step(clips, smoothing=smoothing, reduction=reduction)
        assert batch.features.shape == (6, 8, 4, 4, 4)
        assert batch.clip_index.tolist() == [0, 0, 2, 3, 3, 3]
        assert batch.targets.tolist() == [3, 1, 0, 2]
        terms = [F.cross_entropy(row[None], torch.tensor([k]), label_smoothing=smoothing)
                 for row, k in zip(logits, [3, 3, 0, 2, 2, 2])]  # fmt: skip
        expected = sum(terms) / (6 if reduction == "mean" else 1)
        assert loss.shape == (1,)
        torch.testing.assert_close(loss[0], expected)
        assert moved
        assert all(name.startswith("head.") for name in moved)
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head.parameters())
        assert all(p.grad is None for p in model.detector.parameters())

    def test_people_who_are_nobody_do_not_count(self):
        known = [clip(2, 3), clip(1, 0)]
        extra = clip(2, 1, labels=[-1, -1])
        torch.manual_seed(1)
        loss, _, _, model, _ = self.step(known)
        again, logits, _, other, _ = self.step([known[0], extra, known[1]])
        assert len(logits) == 3
        assert torch.equal(loss, again)
        # nor do they move BatchNorm's statistics
        assert persons.changed(model.state_dict(), other.state_dict()) == set()

    @pytest.mark.parametrize("clips", [[clip(0)] * 3, [clip(2, labels=[-1, -1])]], ids=["none", "unknown"])
    def test_a_batch_without_anybody(self, clips):
        loss, _, _, model, moved = self.step(clips)
        assert loss.tolist() == [0]
        assert all(p.grad is not None and (p.grad == 0).all() for p in model.head.parameters())
        # BatchNorm counts its batches
        assert all(name.endswith("num_batches_tracked") for name in moved)


class TestLoss:
    def test_the_sum_is_the_papers_and_the_mean_does_not_grow_with_the_crowd(self):
        logits, labels = torch.randn(5, 3, requires_grad=True), torch.tensor([0, -1, 2, 1, -1])
        rows = [-logits[i].log_softmax(0)[labels[i]] for i in (0, 2, 3)]
        torch.testing.assert_close(instance_loss(logits, labels, "sum"), sum(rows))
        torch.testing.assert_close(instance_loss(logits, labels), sum(rows) / 3)
        instance_loss(logits, labels).backward()
        assert (logits.grad[[1, 4]] == 0).all()
        expected = (logits.detach().softmax(1) - F.one_hot(labels.clamp(min=0), 3))[[0, 2, 3]] / 3
        torch.testing.assert_close(logits.grad[[0, 2, 3]], expected)

    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_nobody(self, reduction):
        logits = torch.zeros(0, 3, requires_grad=True)
        loss = instance_loss(logits * 1, torch.zeros(0, dtype=torch.long), reduction)
        loss.backward()
        assert loss.item() == 0
        assert logits.grad.shape == (0, 3)

    def test_unknown_reduction(self):
        with pytest.raises(ValueError, match="'mean' or 'sum', got 'none'"):
            instance_loss(torch.zeros(1, 2), torch.zeros(1).long(), "none")


class TestVideoScores:
    SCORES = torch.tensor([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    INDEX = torch.tensor([0, 2, 2, 2])

    @pytest.mark.parametrize(
        ("rule", "expected"), [("score", [0.6, 0.4]), ("area", [0.2, 0.8]), ("mean", [1.3 / 3, 1.7 / 3])]
    )
    def test_one_track_speaks_for_a_video(self, rule, expected):
        score, area = torch.tensor([0.9, 0.6, 0.8, 0.7]), torch.tensor([1.0, 9, 5, 7])
        videos, known = video_scores(self.SCORES, self.INDEX, score, area, 4, rule)
        torch.testing.assert_close(videos, torch.tensor([[0.7, 0.3], [0, 0], expected, [0, 0]]))
        assert known.tolist() == [True, False, True, False]

    def test_the_first_of_equals(self):
        same = torch.ones(4)
        videos, _ = video_scores(self.SCORES, self.INDEX, same, same, 3)
        assert torch.equal(videos[2], self.SCORES[1])

    def test_unknown_rule(self):
        with pytest.raises(ValueError, match="one of score, area, mean, got 'best'"):
            video_scores(self.SCORES, self.INDEX, self.SCORES[:, 0], self.SCORES[:, 0], 3, "best")


class TestEvaluate:
    class Says(torch.nn.Module):
        """Gives the logits that the features hold."""

        def forward(self, features):
            return features.flatten(1)[:, :3] * 9

    def clips(self):
        rows = [
            # right by its surest track, wrong by its largest
            (1, [0, 1], [1, -1], [0.5, 0.9], [9.0, 1]),
            (0, [0], [0], [0.7], [1.0]),
            (0, [], [], [], []),
            (2, [0], [-1], [0.7], [1.0]),
        ]
        for label, says, labels, score, area in rows:
            features = F.one_hot(torch.tensor(says, dtype=torch.long), 3).float().reshape(-1, 3, 1, 1, 1)
            made = clip(len(says), label, 2, len(labels), score, area, labels)
            yield made._replace(features=features, labels=torch.tensor(labels, dtype=torch.long))

    def evaluate(self, size=2, **args):
        loader = DataLoader(list(self.clips()), size, collate_fn=collate_instances)
        return evaluate_instances(self.Says(), loader, **args)

    @pytest.mark.parametrize(("rule", "top1"), [("score", 50), ("area", 25)])
    @pytest.mark.parametrize("size", [1, 2, 4])
    def test_videos_without_tracks_are_wrong(self, rule, top1, size):
        result = self.evaluate(size, rule=rule)
        assert result.metrics["top1"] == top1
        assert (result.metrics["videos"], result.metrics["empty"], result.metrics["tracks"]) == (4, 1, 4)
        assert (result.metrics["unmatched"], result.metrics["people"], result.metrics["missed"]) == (2, 8, 4)
        # of the two tracks whose label is known, one is right
        assert result.metrics["track_top1"] == 50
        # three classes: everything that is seen at all is among the first three
        assert result.metrics["top5"] == 75
        assert result.evaluation.targets.tolist() == [1, 0, 2]

    def test_tracks_alone(self):
        result = self.evaluate(one_label=False)
        assert not {"top1", "top5", "map"} & set(result.metrics)
        assert result.evaluation.targets.tolist() == [1, 0]

    def test_no_track_at_all(self):
        loader = DataLoader([clip(0, 1)] * 2, 2, collate_fn=collate_instances)
        result = evaluate_instances(instances.net(3), loader)
        assert (result.metrics["top1"], result.metrics["top5"], result.metrics["empty"]) == (0, 0, 2)
        assert "track_top1" not in result.metrics
        assert result.evaluation is None
        json.dumps(result.metrics, allow_nan=False)

    def test_nothing_to_score(self):
        with pytest.raises(ValueError, match="loader is empty"):
            evaluate_instances(self.Says(), [])

    def test_modes_are_put_back(self):
        model = instances.net(3).train()
        modes = {name: module.training for name, module in model.named_modules()}
        evaluate_instances(model, DataLoader([clip(2, 1)], 1, collate_fn=collate_instances))
        assert {name: module.training for name, module in model.named_modules()} == modes


class TestCollate:
    def test_batches_are_named(self):
        batch = collate_instances([clip(1, 4, 3, 1), clip(2, 5, 2, 2)])
        assert isinstance(batch, InstanceBatch)
        assert batch.labels.tolist() == [4, 5, 5]
        assert batch.people.tolist() == [[3, 1], [2, 2]]


class TestTask:
    def test_what_does_not_fit_is_refused(self):
        data = task()
        with pytest.raises(ValueError, match=r"PlainClassifier labels no people .*instance_action_\*"):
            data.check(actionzoo.create("plain_tiny", num_classes=6, backbone_args=persons.TRUNK))
        with pytest.raises(ValueError, match=f"model has 4 classes, the data {len(CLASSES)}"):
            data.check(instances.net(4))
        data.check(instances.net(len(CLASSES)))
        data.configure({}, RECIPE)
        with pytest.raises(ValueError, match="no val split; it has train, test"):
            data.dataset("val", train=False)
        with pytest.raises(ValueError, match="splits train, val, test, got"):
            InstanceActionTask({"dev": instances.figures()}, CLASSES)
        with pytest.raises(ValueError, match="0 classes and 1 views"):
            InstanceActionTask({}, ())
        for change in ({"rule": "best"}, {"reduction": "none"}):
            with pytest.raises(ValueError, match="rule is one of score, area, mean and reduction"):
                InstanceActionTask({}, CLASSES, **change)

    def test_classes_are_numbered_as_the_model_does(self):
        data, own = task(("train",)), list(CLASSES)
        data.check(model := instances.net(len(own)))
        data.configure({}, RECIPE)
        before = [data.dataset("train", False)[i] for i in range(8)]
        data.rename(own[::-1])
        data.rename([*own[2:], *own[:2], "another"])
        after = [data.dataset("train", False)[i] for i in range(8)]
        assert data.classes[-1] == "another"
        assert len(model.pretrained_cfg) > 0
        for a, b in zip(before, after):
            assert data.classes[b.label] == own[a.label]
            assert [data.classes[k] for k in b.labels] == [own[k] for k in a.labels]
        with pytest.raises(ValueError, match="does not know the classes"):
            data.rename(own[:2])

    def test_identity_and_description(self):
        one, two = task(), task(views=2)
        assert one.identity() == task().identity() != two.identity()
        assert task(name="crowd").identity() != one.identity()
        assert one.describe() == f"{len(CLASSES)} classes, 8 train, 8 test clips"

    def test_a_stale_cache_is_refused(self, tmp_path):
        for model in (instances.net(len(CLASSES)), instances.net(len(CLASSES), mode="basic")):
            data = task(("train",), cache=tmp_path)
            data.check(model)
            data.configure({}, RECIPE)
            if model.pooler.mode == "outermost":
                assert len(data.dataset("train", True)) == 8
            else:
                with pytest.raises(ValueError, match="stale: pooler"):
                    data.dataset("train", True)

    def test_all_splits_are_made_before_training_and_then_the_model_stays(self, monkeypatch):
        data, seen = task(("train", "val", "test"), views=2, device="cpu"), []
        model = instances.net(len(CLASSES))
        monkeypatch.setattr("actionzoo.training.instances.cache_instances", lambda *a, **how: seen.append((a[1], how)))
        data.check(model)
        data.configure({}, RECIPE)
        data.dataset("train", train=True)
        assert [source for source, _ in seen] == [data.sources[split] for split in ("train", "val", "test")]
        assert [how.get("views", 1) for _, how in seen] == [2, 1, 1]
        monkeypatch.setattr(model, "to", None)
        for split in ("val", "test", "train"):
            data.dataset(split, train=False)
        data.dataset("train", train=True)
        assert len(seen) == 3

    def test_scoring_makes_its_own_split_alone(self, monkeypatch):
        data, seen = task(views=2), []
        monkeypatch.setattr("actionzoo.training.instances.cache_instances", lambda *a, **how: seen.append((a[1], how)))
        data.check(instances.net(len(CLASSES)))
        data.configure({}, RECIPE)
        data.dataset("train", train=False)
        assert [(source, how.get("views", 1)) for source, how in seen] == [(data.sources["train"], 1)]
        # the views are not there yet
        data.dataset("train", train=True)
        assert [how.get("views", 1) for _, how in seen] == [1, 2, 1]

    def test_clips_that_cannot_be_read_in_any_split(self, tmp_path):
        items = {split: [(tmp_path / f"{split}{i}.mp4", 0) for i in range(2)] for split in ("train", "test")}
        for rows in items.values():
            write_clip(rows[0][0], torch.zeros(3, 6, 64, 64, dtype=torch.uint8))
            rows[1][0].write_bytes(b"no video")
        data = instance_videos_task(
            ActionSamples(("one",), items), 4, 1, cache=tmp_path / "features", whole_frame=True, progress=False
        )
        data.check(instances.net(1))
        data.configure({}, RECIPE)
        with pytest.raises(RuntimeError, match=r"(?s)2 clips cannot be read.*\ntrain1-.*\ntest1-"):
            data.dataset("train", train=True)
        assert len(list((tmp_path / "features").glob("*.safetensors"))) == 2

    def test_mirrors_without_a_view_to_mirror_are_refused(self):
        data = task()
        data.check(instances.net(len(CLASSES)))
        data.configure({}, RECIPE.override(hflip=0.5))
        with pytest.raises(ValueError, match=r"hflip=0\.5 mirrors views but the one from the middle.*hflip=0, or ask"):
            data.dataset("train", train=True)
        # a model may be scored whatever the recipe says
        assert len(data.dataset("test", train=False)) == 8

    def test_figures(self):
        data = instance_figures_task("crowd", frames=4, stride=3, length=20, size=48, val=True, views=2)
        assert {split: len(source) for split, source in data.sources.items()} == {"train": 20, "val": 50, "test": 50}
        assert data.sources["train"].figures.frames == 12
        assert (data.headline, data.views) == ("track_top1", 2)
        assert data.sources["train"].key(0) != data.sources["test"].key(0)
        # the seed of the views changes no figure
        seeds = [{}, {"seed": 3}, {"figures_seed": 3}]
        tasks = [instance_figures_task("crowd", length=20, size=48, **args) for args in seeds]
        assert [data.seed for data in tasks] == [0, 3, 0]
        same, views, other = (data.sources["test"].key(0) for data in tasks)
        assert same == views != other


class TestReheading:
    def test_the_head_but_the_classifier_is_taken_over(self, finished):
        # as N-UCLA's 10 classes from NTU's 60 (section 4.2)
        trained = loaded(finished[3])
        model = actionzoo.create(
            "instance_action_tiny", weights=finished[3] / "model.safetensors", num_classes=10, **instances.SMALL
        )
        report = model.load_report
        assert set(report.reheaded) == {"head.classifier.weight", "head.classifier.bias"}
        theirs, mine = trained.state_dict(), model.state_dict()
        assert mine["head.classifier.weight"].shape == (10, 8)
        for name, value in mine.items():
            if not name.startswith("head.classifier."):
                assert torch.equal(value, theirs[name]), name
