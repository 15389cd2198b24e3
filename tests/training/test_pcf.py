import copy
import inspect
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import torch

import actionzoo
from actionzoo.data.figures import ActingFigures
from actionzoo.data.part_videos import FigurePartVideos
from actionzoo.models import CSN, YOLOF
from actionzoo.models.segments import PART_GROUPS, SegmentLabeler
from actionzoo.training import PCF_STAGES, evaluate_parts, pcf_recipes, recipes, train_pcf
from actionzoo.training._pcf_stages import StageTrainer
from tests import persons

FRAMES = 12
FINDER = {"trunk_args": persons.TRUNK, "out_channels": 8, "mid_channels": 4, "dilations": (1,), "min_size": 32,
          "max_size": 48}  # fmt: skip
NET = {"width": 4, "depths": (1, 1), "input_size": (3, 4, 24, 24), "stride": 2}
SETTINGS = {
    "person_detector_args": FINDER,
    "part_detector_args": {**FINDER, "detections_per_class": 1},
    "video_net_args": NET,
    "part_net_args": NET,
    "seconds": 0.75,
    "clips": 1,
    "video_clips": 1,
}
RECIPES = {stage: recipe.override(epochs=1, batch_size=2) for stage, recipe in pcf_recipes("pcf_tiny").items()}
PLACES = {"people": "person_detector", "parts": "part_detector", "video": "video_net", "states": "part_nets"}


@cache
def frame(split, i, number):
    return ActingFigures("parts", split, 4, 32, frames=FRAMES).read(i, [number])[:, 0]


def videos(split, length):
    source = FigurePartVideos(ActingFigures("parts", split, length, 32, frames=FRAMES))
    source.read = lambda i, frames: torch.stack([frame(split, i, t) for t in frames], 1)
    return source


def splits():
    return {"train": videos("train", 4), "test": videos("test", 2)}


def parser(**args):
    torch.manual_seed(0)
    return actionzoo.create("pcf_tiny", num_classes=6, **{**SETTINGS, **args})


def train(output, model=None, **args):
    args = {"stage_recipes": RECIPES, "progress": False, **args}
    return train_pcf(model or parser(), args.pop("splits", None) or splits(), output, **args)


def loaded(folder):
    return actionzoo.create(f"local-dir:{folder}")


def same(first, second):
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run, its metrics, the model and its state before."""
    folder, model = tmp_path_factory.mktemp("pcf") / "run", parser()
    before = copy.deepcopy(model.state_dict())
    metrics = train(folder, model, name="figures", card={"command": "train it", "data": "figures"})
    return folder, metrics, model, before


class TestRun:
    def test_every_stage_is_a_network_of_its_own_and_a_part_of_the_whole(self, finished):
        folder, _, model, before = finished
        whole = loaded(folder)
        for stage, place in PLACES.items():
            alone = loaded(folder / stage)
            assert isinstance(alone, CSN if stage in ("video", "states") else YOLOF)
            assert alone.load_report.random == ()
            assert same(alone, getattr(whole, place))
            assert same(alone, getattr(model, place))
            weights = {name: before[f"{place}.{name}"] for name in alone.state_dict()}
            if stage != "states":
                # it began with the model's own weights, and learned
                assert any(not torch.equal(weights[name], value) for name, value in alone.state_dict().items())
        assert same(model.pose, whole.pose)
        assert same(loaded(folder / "pose"), whole.pose)
        assert all(torch.equal(before[f"pose.{name}"], value) for name, value in whole.pose.state_dict().items())
        assert not any(p.requires_grad for p in model.person_detector.parameters())
        assert all(p.requires_grad for p in model.video_net.parameters())

    def test_the_vocabulary_is_that_of_the_training_segments(self, finished):
        folder, _, _, _ = finished
        source = splits()["train"]
        cut = [
            segment
            for i in range(4)
            for segment in SegmentLabeler.segments(
                source.action(i), source.annotations(i), fps=8.0, length=FRAMES, seconds=0.75
            )
        ]
        assert len(cut) == 8
        assert loaded(folder).labeler.to_dict() == SegmentLabeler.from_segments(cut).to_dict()
        assert tuple(loaded(folder).pretrained_cfg["classes"]) == source.classes

    def test_metrics_of_the_stages_and_of_the_whole(self, finished):
        folder, metrics, _, _ = finished
        assert json.loads((folder / "metrics.json").read_text()) == metrics
        for stage in PCF_STAGES:
            assert metrics[stage] == json.loads((folder / stage / "metrics.json").read_text())
        assert metrics["split"] == "test"
        own = {key: value for key, value in metrics.items() if key not in (*PCF_STAGES, "split")}
        assert own == evaluate_parts(loaded(folder), splits()["test"]).metrics
        assert own["videos"] == 2

    def test_the_card(self, finished):
        folder, metrics, _, _ = finished
        config = json.loads((folder / "config.json").read_text())
        assert config["metrics"] == metrics
        assert (config["command"], config["data"], config["seed"]) == ("train it", "figures", 0)
        assert set(config["recipe"]) == set(PCF_STAGES)
        assert config["recipe"]["states"]["scale"] == list(RECIPES["states"].scale)
        assert "crop_pct" not in config["recipe"]["states"]
        assert "roc" in (folder / "README.md").read_text()
        part = json.loads((folder / "states" / "config.json").read_text())
        assert (part["command"], part["recipe"]["source"]) == ("train it", RECIPES["states"].source)

    def test_stage_by_stage_ends_the_same(self, finished, tmp_path):
        for stage in ("states", "people", "video", "parts"):
            model = parser()
            given = ("pose",) if stage == "states" else ()
            metrics = train(tmp_path / "run", model, name="figures", stages=[stage], given=given)
            if stage != "parts":
                assert not (tmp_path / "run" / "model.safetensors").exists()
                assert stage not in metrics["missing"]
        assert same(loaded(tmp_path / "run"), loaded(finished[0]))
        assert metrics["people"].keys() == finished[1]["people"].keys()
        assert metrics["roc"] == finished[1]["roc"]

    def test_a_finished_stage_is_not_done_again(self, finished, tmp_path, monkeypatch):
        model = parser()
        monkeypatch.setattr("actionzoo.training._pcf_stages.fit", lambda *_, **__: pytest.fail("trained again"))
        metrics = train(finished[0], model, name="figures", resume=True, card={"command": "train it"})
        assert metrics == finished[1]
        assert same(model, finished[2])

    def test_stopped_within_a_stage(self, finished, tmp_path, monkeypatch):
        from actionzoo.training import _pcf_stages

        own, calls = _pcf_stages.fit, []

        def stops(net, task, recipe, folder, **options):
            calls.append(folder.name)
            if len(calls) == 3:
                own(net, task, recipe, folder, **options, stop_after=1)
                raise KeyboardInterrupt
            return own(net, task, recipe, folder, **options)

        longer = {**RECIPES, "video": RECIPES["video"].override(epochs=2)}
        monkeypatch.setattr(_pcf_stages, "fit", stops)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", stage_recipes=longer)
        assert not (tmp_path / "run" / "video" / "metrics.json").exists()
        torch.manual_seed(5)
        model = parser()
        train(tmp_path / "run", model, stage_recipes=longer, resume=True)
        assert calls == ["people", "parts", "video", "video", "states"]
        monkeypatch.undo()
        again = parser()
        train(tmp_path / "whole", again, stage_recipes=longer)
        assert same(model, again)

    def test_other_data_or_settings_are_refused(self, finished):
        folder = finished[0]
        with pytest.raises(FileExistsError, match="holds a run already"):
            train(folder, name="figures")
        with pytest.raises(ValueError, match="people was trained with another files"):
            train(folder, name="others", resume=True)
        with pytest.raises(ValueError, match="people was trained with another seed"):
            train(folder, name="figures", resume=True, seed=1)
        changed = {**RECIPES, "states": RECIPES["states"].override(lr=1e-4)}
        with pytest.raises(ValueError, match="states was trained with another recipe"):
            train(folder, name="figures", resume=True, stage_recipes=changed)


class TestParts:
    def test_what_is_given_is_left_alone(self, tmp_path):
        model = parser()
        model.person_detector.head.class_logits.bias.data.fill_(1.0)
        before = copy.deepcopy(model.person_detector)
        model.pretrained_cfg["classes"] = list(splits()["train"].classes)
        video = copy.deepcopy(model.video_net)
        given = ("pose", "people", "video", "parts")
        metrics = train(tmp_path / "run", model, stages=["states"], given=given)
        assert not (tmp_path / "run" / "people").exists()
        assert "people" not in metrics
        whole = loaded(tmp_path / "run")
        assert same(whole.person_detector, before)
        assert same(whole.video_net, video)
        assert "roc" in metrics

    def test_six_networks(self, tmp_path):
        model = parser(shared=False)
        given = ("pose", "people", "video", "parts")
        model.pretrained_cfg["classes"] = list(splits()["train"].classes)
        metrics = train(tmp_path / "run", model, stages=["states"], given=given)
        assert set(metrics["states"]) == set(PART_GROUPS)
        whole = loaded(tmp_path / "run")
        for group in PART_GROUPS:
            alone = loaded(tmp_path / "run" / "states" / group)
            assert same(alone, whole.part_nets[group])
            assert tuple(alone.pretrained_cfg["classes"]) == tuple(map(str, whole.labeler.vocabulary[group]))
        # and from their folders
        again = parser(shared=False)
        rest = tuple(name for name in given if name != "people")
        again.pretrained_cfg["classes"] = list(splits()["train"].classes)
        train(tmp_path / "run", again, stages=["people"], given=rest)
        assert same(again.part_nets, whole.part_nets)

    def test_csn_weights_freeze_batch_norm(self, tmp_path):
        torch.manual_seed(3)
        source = actionzoo.create("ipcsn_tiny", num_classes=9, **NET)
        for module in source.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                torch.nn.init.uniform_(module.running_mean)
                torch.nn.init.uniform_(module.weight)
        model = parser()
        own = source.state_dict()
        # as VMZ's files call the stem, so that they are not ours
        theirs = {key.replace("stem.conv", "stem.0").replace("stem.norm", "stem.1"): own[key] for key in own}
        metrics = train(tmp_path / "run", model, stages=["video"], csn_weights=theirs)
        assert metrics["missing"] == ["people", "parts", "states"]
        trained = loaded(tmp_path / "run" / "video")
        assert trained.frozen_norm
        assert model.video_net.frozen_norm
        norms = [name for name in own if "norm" in name]
        assert norms
        assert all(torch.equal(own[name], trained.state_dict()[name]) for name in norms if "batches" not in name)
        assert not torch.equal(own["stem.conv.weight"], trained.state_dict()["stem.conv.weight"])
        assert not model.part_nets.frozen_norm

    def test_a_network_of_ours_goes_on_learning_all_of_it(self, tmp_path):
        source = actionzoo.create("ipcsn_tiny", num_classes=9, **NET)
        source.save_pretrained(tmp_path / "start")
        train(tmp_path / "run", parser(), stages=["video"], csn_weights=tmp_path / "start" / "model.safetensors")
        trained = loaded(tmp_path / "run" / "video")
        assert not trained.frozen_norm
        own, learned = source.state_dict(), trained.state_dict()
        norms = [name for name in own if "running_mean" in name]
        assert any(not torch.equal(own[name], learned[name]) for name in norms)
        # begun there and not at random
        assert (own["stem.conv.weight"] - learned["stem.conv.weight"]).norm() < 0.5 * own["stem.conv.weight"].norm()

    def test_frozen_trunks(self, tmp_path):
        model = parser()
        before = copy.deepcopy(model.person_detector.backbone.trunk)
        train(tmp_path / "run", model, stages=["people"], freeze_trunks=True)
        assert same(before, loaded(tmp_path / "run" / "people").backbone.trunk)

    def test_no_dots_where_the_model_has_none(self, tmp_path):
        model = parser(dots=False)
        train(tmp_path / "run", model, stages=["parts"])
        with pytest.raises(ValueError, match="was begun with dots False and not True"):
            train(tmp_path / "run", parser(), stages=["parts"], resume=True)
        (tmp_path / "run" / "settings.json").unlink()
        with pytest.raises(ValueError, match="parts was trained with another files"):
            train(tmp_path / "run", parser(), stages=["parts"], resume=True)


class TestCalls:
    """What several calls for one folder have in common."""

    @pytest.fixture
    def tasks(self, monkeypatch):
        """The tasks that would be trained."""
        seen = []
        monkeypatch.setattr(
            "actionzoo.training._pcf_stages.fit", lambda net, task, *_, **__: seen.append(task) or {"top1": 0.0}
        )
        return seen

    def test_a_pose_net_that_is_kept_is_not_replaced(self, tasks, tmp_path):
        folder, mine = tmp_path / "run", parser()
        torch.nn.init.constant_(mine.pose.head.bias, 0.25)
        train(folder, mine, stages=["people"])
        kept = loaded(folder / "pose")
        assert same(kept, mine.pose)
        with pytest.raises(ValueError, match="pose holds another pose net than the one that is given"):
            train(folder, parser(), stages=["video"])
        assert same(loaded(folder / "pose"), kept)
        # the same one again, or none
        train(folder, copy.deepcopy(mine), stages=["video"])
        model = parser()
        train(folder, model, stages=["video"], given=())
        assert same(model.pose, kept)
        assert same(loaded(folder / "pose"), kept)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"seconds": 0.5}, "begun with seconds 0.75 and not 0.5"),
            ({"clips": 2, "every": 3}, "every 5 and not 3, clips 1 and not 2"),
            ({"shared": False}, "shared True and not False"),
            ({"grower_args": {"threshold": 0.4}}, "grower_args"),
        ],
        ids=["seconds", "clips", "shared", "grower"],
    )
    def test_other_settings_are_refused(self, tasks, tmp_path, change, message):
        train(tmp_path / "run", stages=["people"])
        with pytest.raises(ValueError, match=message):
            train(tmp_path / "run", parser(**change), stages=["video"])
        train(tmp_path / "run", stages=["video"])
        assert len(tasks) == 2

    def test_a_call_that_is_refused_settles_nothing(self, tasks, tmp_path):
        model = parser(seconds=0.5)
        model.video_net = CSN(num_classes=6, **NET)
        with pytest.raises(ValueError, match="was not built by"):
            train(tmp_path / "run", model, stages=["video"])
        assert not (tmp_path / "run").exists()
        train(tmp_path / "run", stages=["video"])

    @pytest.mark.parametrize(
        ("figures", "workers", "frames"), [(True, 0, True), (True, 2, False), (False, 0, False), (False, 2, False)]
    )
    def test_what_is_kept_in_memory(self, tasks, tmp_path, figures, workers, frames):
        class Others:
            """Videos that are no figures."""

            def __init__(self, own):
                self.own = own

            def __len__(self):
                return len(self.own)

            def __getattr__(self, name):
                return getattr(self.own, name)

        data = splits() if figures else {split: Others(own) for split, own in splits().items()}
        train(tmp_path / "run", splits=data, stages=["parts", "video"], workers=workers)
        parts, video = tasks
        assert parts.cache
        assert (video._kept is not None) == frames

    @pytest.mark.parametrize(("device", "expected"), [(None, "cuda:3"), ("cpu", "cpu")])
    def test_where_the_whole_is_scored(self, monkeypatch, device, expected):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setenv("LOCAL_RANK", "3")
        trainer = StageTrainer(parser(), splits(), Path("run"), "", [], [], 0, device, False)
        assert str(trainer.device) == expected
        assert inspect.signature(train_pcf).parameters["device"].default is None

    def test_a_finished_stage_of_other_precision_or_annotations_is_refused(self, finished):
        again = {"name": "figures", "resume": True}
        with pytest.raises(ValueError, match="people was trained with another amp"):
            train(finished[0], amp="bf16", **again)
        every = {split: FigurePartVideos(own.figures, every=2) for split, own in splits().items()}
        with pytest.raises(ValueError, match="people was trained with another files"):
            train(finished[0], splits=every, **again)

    def test_labels_of_an_earlier_call_are_the_same(self, tmp_path):
        data = splits()
        for source in data.values():
            own = source.annotations

            def annotations(i, own=own):
                frames = own(i)
                for content in frames.values():
                    for person in content["humans"]:
                        person["parts"]["head"]["verb"] += "_head_side"
                return frames

            source.annotations = annotations
        first, again = parser(), parser()
        train(tmp_path / "run", first, stages=["states"], splits=data)
        train(tmp_path / "run", again, stages=["video"], splits=data)
        assert {label.states[0].endswith("_head_side") for label in again.labeler.vocabulary["head"]} == {True}
        assert again.labeler.to_dict() == first.labeler.to_dict()


class TestRecipes:
    def test_the_papers(self):
        chosen = pcf_recipes("pcf_ipcsn152")
        assert chosen["people"] is recipes["pcf_people"]
        assert chosen["parts"] is recipes["pcf_parts"]
        assert chosen["video"] is chosen["states"] is recipes["pcf_csn"]
        csn = recipes["pcf_csn"]
        assert (csn.optimizer, csn.lr, csn.epochs, csn.milestones) == ("sgd", 8e-5, 58, (32, 48))
        assert (csn.batch_size, csn.momentum, csn.nesterov, csn.weight_decay) == (16, 0.9, True, 1e-4)
        assert (csn.warmup_epochs, csn.clip_grad) == (16, 40)

    def test_the_tiny_ones(self):
        chosen = pcf_recipes("pcf_tiny")
        assert chosen["states"] is recipes["segments"]
        assert chosen["people"] is recipes["detector"]
        assert {**asdict(chosen["video"]), "epochs": 0} == {**asdict(recipes["segments"]), "epochs": 0}

    def test_training_crops_are_smaller_but_of_tiny_models(self, tmp_path, monkeypatch):
        from actionzoo.training import _pcf_stages

        seen = []
        monkeypatch.setattr(
            _pcf_stages, "fit", lambda net, task, *_, **__: seen.append(task.train_size) or {"top1": 0.0}
        )
        model = parser()
        train(tmp_path / "a", model, stages=["video"])
        model = parser()
        model.pretrained_cfg["architecture"] = "pcf_ipcsn152"
        train(tmp_path / "b", model, stages=["video"])
        train(tmp_path / "c", parser(), stages=["video"], train_size=20)
        assert seen == [None, 21, 20]


class TestErrors:
    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ({"stages": ["faces"]}, "stages are some of people, parts, video, states"),
            ({"stages": []}, "stages are some of"),
            ({"given": ("pose", "people")}, "given are others of them and pose"),
            ({"given": ("joints",)}, "given are others of them and pose"),
            ({"given": ()}, "the pose net is random; give a trained one"),
            ({"splits": {"test": videos("test", 1)}}, "expected the splits train, .* got test"),
            ({"model": "5"}, "the model has 5 actions, the data 6; create it with num_classes=6"),
            ({"stages": ["people"], "given": ("video",)}, "knows others than the data; train the stage video, too"),
            ({"stages": ["people"], "given": ("states",)}, "the model has no vocabulary; call set_vocabulary"),
        ],
    )
    def test_arguments(self, tmp_path, args, message):
        if args.get("model") == "5":
            model = actionzoo.create("pcf_tiny", num_classes=5, **SETTINGS)
        else:
            model = parser()
        with pytest.raises(ValueError, match=message):
            train(tmp_path / "run", **{**args, "model": model})
        assert not (tmp_path / "run").exists()

    def test_another_model(self, tmp_path):
        with pytest.raises(TypeError, match="train_pcf takes a PCF, got a CSN"):
            train(tmp_path, actionzoo.create("ipcsn_tiny", num_classes=6, **NET))

    def test_a_part_from_elsewhere(self, tmp_path):
        model = parser()
        model.video_net = CSN(num_classes=6, **NET)
        with pytest.raises(ValueError, match=r"video_net was not built by actionzoo\.create"):
            train(tmp_path / "run", model, stages=["video"])

    def test_stages_of_other_data(self, finished, tmp_path):
        renamed = splits()
        for source in renamed.values():
            own = source.action
            source.action = lambda i, own=own: f"other {own(i)}"
            source.classes = tuple(f"other {name}" for name in source.classes)
        folder = tmp_path / "run"
        train(folder, stages=["video"])
        with pytest.raises(ValueError, match="video knows other actions than the data"):
            train(folder, stages=["people"], splits=renamed)
