"""The command line on models that label the people of clips."""

import csv
import json

import pytest
import torch

import actionzoo
from actionzoo.cli import build_parser, main
from actionzoo.cli.data import read_task
from actionzoo.data import write_clip
from actionzoo.training import cache_instances, recipes
from tests import instances, persons

from .test_commands import fails

SMALL = {key: value for key, value in instances.SMALL.items() if key != "detector_args"}
# a random detector is sure of nothing
MODEL = ["--model", "instance_action_tiny", *persons.model_args({**SMALL, "stride": 1, "threshold": 0.0})]
FAST = ["--epochs", "1", "--batch-size", "4", "--json"]
CLASSES = instances.figures().figures.classes


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Detectors with random weights, and a network with others."""
    folder = tmp_path_factory.mktemp("saved")
    instances.detector().save_pretrained(folder / "detector")
    persons.detector().save_pretrained(folder / "person")
    instances.net(3).save_pretrained(folder / "net")
    return {name: f"local-dir:{folder / name}" for name in ("detector", "person", "net")}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A table of videos in three folds, and the same in class folders."""
    folder = tmp_path_factory.mktemp("videos")
    rows = []
    for fold in range(3):
        for name, grey in (("dark", 40), ("bright", 200)):
            for i in range(2):
                split = "test" if fold == 0 else "train"
                path = folder / "clips" / split / name / f"{fold}{i}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_clip(path, torch.full((3, 6, 64, 64), grey, dtype=torch.uint8))
                rows.append({"file": path.relative_to(folder / "clips"), "class": name, "fold": fold})
    with (folder / "videos.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module", autouse=True)
def no_curves():
    """Leave out the reports' pictures, which take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actionzoo.training.instances.write_report", lambda *_: [])
        yield


def state(name):
    return actionzoo.create(name).state_dict()


def read(*arguments, model=None):
    args = build_parser().parse_args(["train", "--output", "runs", *arguments])
    return read_task(args, model or instances.net(), args.seed, args.val_fraction)


class TestTrain:
    def test_on_figures_then_eval(self, saved, tmp_path, capsys):
        run, data = tmp_path / "run", ["--data", "figures:motion", "--length", "8"]
        train = ["train", *MODEL, "--detector", saved["detector"], *data, "--output", str(run), *FAST]
        assert main(train) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert (metrics["split"], metrics["videos"], metrics["empty"]) == ("test", 50, 0)
        assert metrics["tracks"] > 50
        config = json.loads((run / "config.json").read_text())
        assert config["classes"] == list(CLASSES)
        assert config["recipe"]["source"] == recipes["instances"].source
        trained, before = state(f"local-dir:{run}"), state(saved["detector"])
        assert all(torch.equal(trained[f"detector.{name}"], value) for name, value in before.items())
        features = sorted(path.name for path in (run / "features").glob("motion-*"))
        assert len(features) == 8 + 50

        evaluate = ["eval", "--model", f"local-dir:{run}", *data, "--json", "--cache", str(run / "features")]
        assert main([*evaluate, "--output", str(tmp_path / "report")]) == 0
        scored = json.loads(capsys.readouterr().out)
        same = ("top1", "map", "tracks", "track_top1", "missed")
        assert {key: scored[key] for key in same} == {key: metrics[key] for key in same}
        assert json.loads((tmp_path / "report" / "instances.json").read_text())["map"] == metrics["map"]
        assert sorted(path.name for path in (run / "features").glob("motion-*")) == features

        assert main([*evaluate, "--video-rule", "mean"]) == 0
        assert json.loads(capsys.readouterr().out)["map"] != metrics["map"]

    def test_on_a_fold_of_a_table_from_whole_weights(self, saved, videos, tmp_path, capsys):
        weights = saved["net"].removeprefix("local-dir:") + "/model.safetensors"
        model = ["--model", "instance_action_tiny", *persons.model_args(instances.SMALL), "--weights", weights]
        cache = ["--cache", str(tmp_path / "features")]
        for fold in (1, 2):
            data = ["--data", str(videos / "videos.csv"), "--root", str(videos / "clips"), "--fold", str(fold)]
            run = tmp_path / f"run{fold}"
            command = ["train", *model, *data, "--val-fold", "0", *cache, "--views", "2", "--output", str(run), *FAST]
            assert main(command) == 0
            assert json.loads(capsys.readouterr().out)["videos"] == 4
            config = json.loads((run / "config.json").read_text())
            assert config["classes"] == ["bright", "dark"]
            (row,) = json.loads((run / "history.json").read_text())
            assert "val_top1" in row
        trained, before = state(f"local-dir:{run}"), state(saved["net"])
        assert trained["head.classifier.weight"].shape[0] == 2
        moved = {name for name in persons.changed(before, trained) if not name.startswith("head.")}
        assert moved == set()
        # twelve videos; of eight that were trained on in either run, another view
        assert len(list((tmp_path / "features").glob("*.safetensors"))) == 12 + 8
        assert not (run / "features").exists()

    def test_a_stale_cache(self, saved, tmp_path, capsys):
        cache_instances(actionzoo.create(saved["net"]), instances.figures(length=0), tmp_path / "cache", progress=False)
        data = ["--data", "figures:motion", "--length", "4", "--output", str(tmp_path / "run"), *FAST]
        detector = ["--detector", saved["detector"], "--cache", str(tmp_path / "cache")]
        fails(capsys, "train", *MODEL, *detector, *data, match="are stale: detector was KeypointDetector")

    def test_a_random_detector_is_refused(self, tmp_path, capsys):
        model = ["--model", "instance_action_tahnet_v3"]
        said = "frozen detector, which would be random; give a trained one as --detector"
        fails(capsys, "train", *model, "--data", "figures:motion", "--output", str(tmp_path), match=said)

    def test_detectors_that_do_not_fit(self, saved, tmp_path, capsys):
        data = ["--data", "figures:motion", "--output", str(tmp_path)]
        fails(capsys, "train", *MODEL, "--detector", saved["person"], *data, match="is a PersonDetector")
        trained = ["--detector", saved["detector"]]
        other = [*MODEL, "detector_args={'trunk_args': {}}"]
        fails(capsys, "train", *other, *trained, *data, match="does not fit this InstanceActionNet's")
        fails(capsys, "train", *trained, *data, match="--detector is for instance_action_* models, not prfnet_tiny")


class TestData:
    def test_figures(self):
        task = read("--data", "figures:crowd", "--val-fraction", "0.1", model=instances.net(frames=3, stride=4))
        assert [len(task.sources[split]) for split in ("train", "val", "test")] == [1000, 100, 100]
        source = task.sources["train"]
        assert (source.frames, source.stride, source.figures.frames, source.figures.size) == (3, 4, 12, 64)
        assert (task.views, task.rule) == (1, "score")

    def test_the_seed_changes_the_views_and_no_figure(self):
        tasks = [read("--data", "figures:motion", "--length", "20", "--seed", seed) for seed in ("0", "3")]
        keys = [[task.sources[split].key(i) for split in ("train", "test") for i in range(20)] for task in tasks]
        assert keys[0] == keys[1]
        assert [task.seed for task in tasks] == [0, 3]

    def test_the_whole_frame(self):
        given = [read("--data", "figures:motion", *option).how for option in ([], ["--whole-frame"])]
        assert [how["whole_frame"] for how in given] == [False, True]
        args = build_parser().parse_args(["eval", "--data", "figures:motion", "--whole-frame"])
        assert read_task(args, instances.net()).how["whole_frame"] is True

    def test_views_are_for_training(self, saved, capsys):
        data = ["--data", "figures:motion", "--views", "7"]
        fails(capsys, "eval", "--model", saved["net"], *data, match="--views is for training")

    def test_a_folder(self, videos):
        task = read("--data", str(videos / "clips"), "--video-rule", "area", "--seed", "5")
        assert {split: len(source) for split, source in task.sources.items()} == {"train": 8, "test": 4}
        assert (task.classes, task.views, task.rule, task.seed) == (("bright", "dark"), 4, "area", 5)
        held = read("--data", str(videos / "clips"), "--val-fraction", "0.25")
        assert {split: len(source) for split, source in held.sources.items()} == {"train": 6, "test": 4, "val": 2}

    def test_classes_are_merged(self, videos, tmp_path):
        (tmp_path / "map.json").write_text('{"dark": "any", "bright": "any"}')
        task = read("--data", str(videos / "clips"), "--label-map", str(tmp_path / "map.json"))
        assert task.classes == ("any",)

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ([], "no data: give --data figures:TASK"),
            (["--data", "figures:pose"], "'pose' shows images"),
            (["--data", "figures:motion", "--fold", "1"], "--fold says something of labelled videos"),
            (["--data", "figures:motion", "--img-size", "64"], "scales frames itself"),
            (["--data", "figures:motion", "--person-boxes", "x.csv"], "leave out --person-boxes"),
            (["--data", "{videos}/clips", "--length", "3"], "--length is a number of figures"),
            (["--data", "{videos}/clips", "--fold", "1"], "--fold belongs to a CSV file"),
            (["--data", "{videos}/videos.csv", "--root", "{videos}/clips", "--fold", "9"], "has no fold 9"),
            (["--data", "{videos}/videos.csv", "--root", "{videos}/clips"], "lacks .*split"),
        ],
    )
    def test_what_does_not_go_together(self, videos, arguments, match):
        with pytest.raises(ValueError, match=match):
            read(*(argument.format(videos=videos) for argument in arguments))

    def test_options_of_clips_with_other_models(self):
        model = actionzoo.create("plain_tiny", num_classes=2, backbone_args=persons.TRUNK)
        with pytest.raises(ValueError, match=r"--val-fold, --cache is for models that label .* not a PlainClassifier"):
            read("--data", "x", "--val-fold", "1", "--cache", "y", model=model)
        with pytest.raises(ValueError, match="--whole-frame is for models that label"):
            read("--data", "x", "--whole-frame", model=model)
