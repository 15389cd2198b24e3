"""The command line on part-level action parsing: the whole parser, its detectors and its networks."""

import json

import pytest
import torch
from PIL import Image

import actionzoo
from actionzoo.cli import build_parser, main
from actionzoo.cli.data import read_task
from actionzoo.cli.parts import default_recipe, part_videos
from actionzoo.data.figures import ActingFigures
from actionzoo.data.part_videos import FigurePartVideos, FilePartVideos
from actionzoo.metrics import part_state_roc, read_part_predictions
from actionzoo.training import DetectionTask, FramePeopleTask, PartDetectionTask, SegmentTask, recipes
from tests import parsing, persons

from .test_commands import fails

FIGURES = ["--data", "figures:parts", "--length", "4", "--clip-frames", "12", "--clip-size", "32"]
FAST = ["--epochs", "1", "--batch-size", "2", "--json"]
FINDER = {"trunk_args": persons.TRUNK, "out_channels": 8, "mid_channels": 4, "dilations": (1,), "min_size": 32,
          "max_size": 48}  # fmt: skip
NET = {"width": 4, "depths": (1, 1), "input_size": (3, 4, 24, 24), "stride": 2}
SMALL = {
    "person_detector_args": FINDER,
    "part_detector_args": {**FINDER, "detections_per_class": 1},
    "video_net_args": NET,
    "part_net_args": NET,
    "clips": 1,
    "video_clips": 1,
}
PARSER = ["--model", "pcf_tiny", *persons.model_args(SMALL)]
YOLOF = ["--model", "yolof_tiny", *persons.model_args(FINDER)]
CSN = ["--model", "ipcsn_tiny", *persons.model_args(NET)]


def output(capsys):
    return json.loads(capsys.readouterr().out)


def train(capsys, folder, *arguments):
    assert main(["train", *arguments, "--output", str(folder), *FAST]) == 0
    return output(capsys)


def loaded(folder):
    return actionzoo.create(f"local-dir:{folder}")


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Random weights: a detector, a network of actions, a classifier."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    models = {
        "yolof": actionzoo.create("yolof_tiny", **FINDER),
        "parts": actionzoo.create("yolof_tiny", num_classes=10, **FINDER),
        "csn": actionzoo.create("ipcsn_tiny", num_classes=3, **NET),
        "convit": persons.convit(),
        "pcf": parsing.net(),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return {name: f"local-dir:{folder / name}" for name in models}


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    """Figures as folders of frames and the challenge's annotations of every fifth."""
    root = tmp_path_factory.mktemp("challenge")
    for split, count in (("train", 3), ("val", 2)):
        source = FigurePartVideos(ActingFigures("parts", split, count, 32, frames=12), every=5)
        actions = {source.name(i): source.action(i) for i in range(count)}
        parts = {source.name(i): source.annotations(i) for i in range(count)}
        for i in range(count):
            folder = root / split / source.name(i)
            folder.mkdir(parents=True)
            for t, picture in enumerate(source.read(i, range(12)).unbind(1), 1):
                Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"img_{t:05d}.png")
        (root / split / "gt_vid_result.json").write_text(json.dumps(actions))
        (root / split / "gt_part_result.json").write_text(json.dumps(parts))
    return root


class TestParser:
    def test_all_stages_then_eval(self, tmp_path, capsys):
        run = tmp_path / "run"
        metrics = train(capsys, run, *PARSER, *FIGURES)
        assert {"people", "parts", "video", "states", "roc"} <= set(metrics)
        assert json.loads((run / "metrics.json").read_text()) == metrics
        config = json.loads((run / "config.json").read_text())
        assert config["command"].startswith("actionzoo ")
        assert config["recipe"]["parts"]["batch_size"] == 2
        # the bundled pose net, which is left as it is
        assert same(loaded(run).pose, actionzoo.create("pose_tiny", pretrained=True))
        scored = ["eval", "--model", f"local-dir:{run}", *FIGURES, "--output", str(tmp_path / "pred"), "--json"]
        assert main(scored) == 0
        again = output(capsys)
        assert {key: again[key] for key in ("roc", "psc", "video_accuracy", "videos")} == {
            key: metrics[key] for key in ("roc", "psc", "video_accuracy", "videos")
        }
        prediction = read_part_predictions(tmp_path / "pred")
        source = FigurePartVideos(ActingFigures("parts", "test", 4, 32, frames=12), every=5)
        truth = {
            "action": {source.name(i): source.action(i) for i in range(4)},
            "parts": {source.name(i): source.annotations(i) for i in range(4)},
        }
        assert round(100 * part_state_roc(truth, prediction), 2) == again["roc"]
        saved_metrics = json.loads((tmp_path / "pred" / "metrics.json").read_text())
        assert {**saved_metrics, **again} == again

    def test_stage_by_stage_and_resumed(self, tmp_path, capsys):
        run = tmp_path / "run"
        for stage in ("people", "parts", "video"):
            assert "missing" in train(capsys, run, *PARSER, *FIGURES, "--stage", stage)
        assert main(["train", *PARSER, *FIGURES, "--output", str(run), *FAST[:-1], "--stage", "states"]) == 0
        lines = capsys.readouterr().out
        assert "people         {" in lines
        assert "roc " in lines
        metrics = train(capsys, run, *PARSER, *FIGURES, "--resume")
        assert metrics == json.loads((run / "metrics.json").read_text())

    def test_what_is_not_there_yet_is_said(self, tmp_path, capsys):
        stage = ["--stage", "video", "--output", str(tmp_path / "run"), "--set", "color_jitter=0"]
        assert main(["train", *PARSER, *FIGURES, *FAST[:-1], *stage]) == 0
        out = capsys.readouterr().out
        assert "not there yet: people, parts, states; train them into the same --output" in out

    def test_given_detectors_and_a_folder_of_videos(self, saved, challenge, tmp_path, capsys):
        data = ["--data", str(challenge), "--fps", "8"]
        args = [*PARSER, *data, "--person-detector", saved["yolof"], "--part-detector", saved["parts"]]
        metrics = train(capsys, tmp_path / "run", *args)
        assert set(metrics) >= {"video", "states", "roc"}
        assert not set(metrics) & {"people", "parts", "missing"}
        assert (metrics["split"], metrics["videos"], metrics["frames"]) == ("val", 2, 6)
        whole = loaded(tmp_path / "run")
        assert same(whole.person_detector, loaded(saved["yolof"].removeprefix("local-dir:")))
        assert whole.num_classes == 3
        for folder in (challenge, challenge / "val"):
            assert main(["eval", "--model", f"local-dir:{tmp_path / 'run'}", "--data", str(folder), "--split", "val",
                         "--fps", "8", "--json"]) == 0  # fmt: skip
            assert output(capsys)["roc"] == metrics["roc"]

    def test_trunks_of_a_convit(self, saved, tmp_path, capsys):
        net = {key: value for key, value in FINDER.items() if key != "trunk_args"}
        args = {**SMALL, "part_detector_args": {**net, "trunk_args": persons.TRUNK}}
        args.pop("person_detector_args")
        model = ["--model", "pcf_tiny", *persons.model_args(args)]
        train(capsys, tmp_path / "run", *model, *FIGURES, "--stage", "people", "--convit", saved["convit"])
        trained, convit = loaded(tmp_path / "run" / "people"), loaded(saved["convit"].removeprefix("local-dir:"))
        theirs = convit.backbone.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in trained.backbone.trunk.state_dict().items())

    def test_a_later_stage_keeps_pose_net_and_settings(self, tmp_path, capsys):
        run, mine = tmp_path / "run", actionzoo.create("pose_tiny", pretrained=True)
        torch.nn.init.constant_(mine.head.bias, 0.1)
        mine.save_pretrained(tmp_path / "mine")
        pose = ["--pose", f"local-dir:{tmp_path / 'mine'}"]
        train(capsys, run, *PARSER, *FIGURES, "--stage", "people", *pose)
        train(capsys, run, *PARSER, *FIGURES, "--stage", "video")
        assert same(loaded(run / "pose"), mine)
        start = ["train", *PARSER, *FIGURES, "--output", str(run), *FAST, "--stage", "parts"]
        fails(capsys, *start, "--pose", "pose_tiny", match="another pose net than the one that is given")
        fails(capsys, *start, "--seconds", "0.5", match="begun with seconds 0.75 and not 0.5")

    def test_a_trained_one_learns_other_actions(self, saved, tmp_path, capsys, monkeypatch):
        model = parsing.net(classes=3, **{key: SMALL[key] for key in SMALL if key.endswith("_args")}, shared=True)
        model.save_pretrained(tmp_path / "start")
        seen = {}
        monkeypatch.setattr(
            "actionzoo.training.train_pcf", lambda model, splits, output, **args: seen.update(args) or {}
        )
        start = ["--model", f"local-dir:{tmp_path / 'start'}", *FIGURES]
        train(capsys, tmp_path / "run", *start, "--stage", "video")
        assert seen["given"] == {"people", "parts", "states", "pose"}
        assert seen["stages"] == ["video"]
        assert seen["stage_recipes"]["video"].source == recipes["segments"].source
        train(capsys, tmp_path / "run", *start)
        assert seen["given"] == {"pose"}
        train(capsys, tmp_path / "run", *start, "--stage", "people")
        # the network of actions would be a random one
        assert seen["given"] == {"parts", "states", "pose"}

    def test_body_parts_need_a_pose_net(self, tmp_path, capsys):
        args = {**SMALL, "pose": "pose_hrnet_w32"}
        start = ["train", "--model", "pcf_tiny", *persons.model_args(args), *FIGURES, "--output", str(tmp_path / "run")]
        fails(capsys, *start, match="give a trained pose net as --pose")


class TestParts:
    def test_a_detector_of_people(self, tmp_path, capsys):
        metrics = train(capsys, tmp_path / "run", *YOLOF, *FIGURES)
        assert (metrics["split"], metrics["images"]) == ("test", 4)
        assert loaded(tmp_path / "run").num_classes == 1
        assert main(["eval", "--model", f"local-dir:{tmp_path / 'run'}", *FIGURES, "--json"]) == 0
        assert output(capsys)["ap50"] == metrics["ap50"]

    def test_a_detector_of_body_parts(self, tmp_path, capsys):
        metrics = train(capsys, tmp_path / "run", *YOLOF, *FIGURES, "--parts", "--pose", "pose_tiny")
        assert metrics["parts"] > 0
        assert loaded(tmp_path / "run").num_classes == 10
        scored = ["eval", "--model", f"local-dir:{tmp_path / 'run'}", *FIGURES, "--json"]
        assert main([*scored, "--pose", "pose_tiny"]) == 0
        assert output(capsys)["part_ap50"] == metrics["part_ap50"]
        fails(capsys, *scored, match="joints a pose net had found; give that pose net as --pose")

    @pytest.mark.parametrize("groups", [None, "head,arm", "all"])
    def test_a_network(self, groups, tmp_path, capsys):
        metrics = train(capsys, tmp_path / "run", *CSN, *FIGURES, *(["--groups", groups] if groups else []))
        assert ("state_accuracy" in metrics) == bool(groups)
        assert ("top1_arm" in metrics) == bool(groups)
        assert ("top1_foot" in metrics) == (groups == "all")
        # its classes say what it was trained for
        assert main(["eval", "--model", f"local-dir:{tmp_path / 'run'}", *FIGURES, "--json"]) == 0
        again = output(capsys)
        assert {**metrics, **again} == {**again, **metrics}
        assert again["top1"] == metrics["top1"]

    def test_segments_are_as_long_in_scoring_as_in_training(self, tmp_path, capsys):
        args = [*CSN, *FIGURES, "--groups", "hip", "--seconds", "0.375"]
        metrics = train(capsys, tmp_path / "run", *args)
        scored = ["eval", "--model", f"local-dir:{tmp_path / 'run'}", *FIGURES, "--json"]
        assert main(scored) == 0
        assert output(capsys)["segments"] == metrics["segments"] == 16
        assert main([*scored, "--seconds", "0.75"]) == 0
        assert output(capsys)["segments"] == 8

    def test_a_network_resumed(self, tmp_path, capsys):
        args = [*CSN, *FIGURES, "--groups", "hip"]
        first = train(capsys, tmp_path / "run", *args)
        assert train(capsys, tmp_path / "run", *args, "--resume") == first
        fails(
            capsys, "train", *CSN, *FIGURES, "--output", str(tmp_path / "run"), *FAST, "--resume", match="resume with"
        )


class TestTasks:
    def task(self, *arguments, model="yolof_tiny", **args):
        parsed = build_parser().parse_args(["train", "--model", model, "--output", "runs", *arguments])
        small = FINDER if model.startswith("yolof") else NET
        blueprint = actionzoo.create(model, **{**small, **args})
        return read_task(parsed, blueprint, 0, parsed.val_fraction), default_recipe(parsed, blueprint)

    def test_kinds(self):
        task, recipe = self.task(*FIGURES, "--frames-per-video", "3")
        assert isinstance(task, FramePeopleTask)
        assert (task.frames_per_video, task.freeze_trunk, recipe) == (3, False, "detector")
        task, recipe = self.task(*FIGURES, "--parts", "--val-fraction", "0.1")
        assert isinstance(task, PartDetectionTask)
        assert (task.pose, task.dots, task.splits, recipe) == (None, None, ("train", "val", "test"), "detector")
        task, _ = self.task(*FIGURES, "--parts", "--pose", "pose_tiny", "--convit", "any")
        assert task.dots is not None
        assert task.freeze_trunk
        task, recipe = self.task(*FIGURES, model="ipcsn_tiny")
        assert isinstance(task, SegmentTask)
        assert (task.groups, recipe) == ((), "segments")
        task, _ = self.task(*FIGURES, "--groups", "head", model="ipcsn_tiny")
        assert (task.groups, task.seconds) == (("head",), 0.75)
        task, _ = self.task(*FIGURES, "--groups", "all", "--seconds", "1.5", model="ipcsn_tiny")
        assert (len(task.groups), task.seconds) == (6, 1.5)
        assert len(task.segments["train"]) == 4

    def test_recipes_of_the_papers_networks(self):
        for model, options, expected in (
            ("yolof_resnet50", [], "pcf_people"),
            ("yolof_resnet50", ["--parts"], "pcf_parts"),
            ("ipcsn_50", [], "pcf_csn"),
        ):
            parsed = build_parser().parse_args(["train", "--model", model, "--output", "runs", *options])
            with torch.device("meta"):
                assert default_recipe(parsed, actionzoo.create(model)) == expected
        assert default_recipe(parsed, torch.nn.Linear(1, 1)) is None

    @pytest.mark.parametrize(("key", "expected"), [("parts", "detector"), ("csn", "segments")])
    def test_recipes_of_saved_small_networks(self, saved, key, expected):
        parsed = build_parser().parse_args(["train", "--model", saved[key], "--output", "runs"])
        assert default_recipe(parsed, actionzoo.create(saved[key])) == expected

    def test_frames_of_files_are_not_kept(self, challenge):
        task, _ = self.task("--data", str(challenge), model="ipcsn_tiny")
        assert task._kept is None
        task, _ = self.task(*FIGURES, model="ipcsn_tiny")
        assert task._kept is not None

    def test_photographs_train_a_yolof_too(self, tmp_path):
        root = tmp_path / "photos"
        persons.write(root)
        task, _ = self.task("--data", str(root), "--person-boxes", str(root / "boxes.csv"))
        assert isinstance(task, DetectionTask)
        assert not task.freeze_trunk

    def test_figures(self):
        parsed = build_parser().parse_args(["train", "--output", "runs", "--data", "figures:parts"])
        splits, name = part_videos(parsed)
        assert {split: len(videos) for split, videos in splits.items()} == {"train": 300, "test": 30}
        figures = splits["train"].figures
        assert (figures.frames, figures.size, splits["train"].fps(0)) == (128, 128, 8.0)
        assert name == "figures:parts 300 128 128"

    def test_folders(self, challenge):
        parsed = build_parser().parse_args(["train", "--output", "runs", "--data", str(challenge)])
        splits, name = part_videos(parsed)
        assert {split: len(videos) for split, videos in splits.items()} == {"train": 3, "val": 2}
        assert all(isinstance(videos, FilePartVideos) for videos in splits.values())
        assert (name, splits["val"].fps(0)) == (challenge.name, 25)


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ([*PARSER], "no data: give --data figures:parts"),
            ([*PARSER, "--data", "figures:motion"], "figures:motion has no states of body parts that change"),
            ([*PARSER, *FIGURES, "--fps", "5"], "clips of figures have 8 frames per second"),
            ([*PARSER, *FIGURES, "--label", "class"], "--label is for other models"),
            ([*PARSER, *FIGURES, "--detector", "person_tiny"], "--detector is for other models"),
            ([*PARSER, *FIGURES, "--img-size", "64"], "have sizes of their own"),
            ([*PARSER, *FIGURES, "--parts"], "--parts does not go with a pcf_* model"),
            ([*PARSER, *FIGURES, "--groups", "all"], "--groups does not go with a pcf_* model"),
            ([*PARSER, *FIGURES, "--recipe", "segments"], "give --recipe with the --stage that it is for"),
            ([*PARSER, *FIGURES, "--stage", "video", "--recipe", "slow"], "unknown recipe 'slow'"),
            ([*PARSER, *FIGURES, "--stage", "people", "--set", "scale=(0.2,1)"], "takes no notice of scale"),
            ([*PARSER, *FIGURES, "--pose", "yolof"], "--pose takes a trained pose_* model"),
            ([*PARSER, *FIGURES, "--stage", "people", "--person-detector", "yolof"], "trained already; leave one"),
            ([*PARSER, "--data", "challenge", "--length", "5"], "--length says how figures are"),
            ([*PARSER, "--data", "challenge", "--val-fraction", "0.2"], "give --data a folder with val/"),
            ([*PARSER, "--data", "missing"], "no such file: missing/train/gt_vid_result.json"),
            ([*YOLOF, *FIGURES, "--pose", "pose_tiny"], "--pose does not go with a YOLOF that finds people"),
            ([*YOLOF, *FIGURES, "--groups", "all"], "--groups does not go with a YOLOF"),
            ([*YOLOF, *FIGURES, "--img-size", "64"], "a detector scales pictures itself"),
            ([*YOLOF, *FIGURES, "--parts", "--pose", "convit"], "--pose takes a trained pose_* model"),
            ([*YOLOF], "no data: give --data"),
            ([*CSN, *FIGURES, "--parts"], "--parts does not go with a CSN"),
            ([*CSN, *FIGURES, "--stage", "video"], "--stage does not go with a CSN"),
            ([*CSN, *FIGURES, "--groups", "tail"], "groups are 'action', 'all', or some of head"),
            ([*CSN, *FIGURES, "--convit", "convit"], "--convit is for --model person_*"),
            (["--model", "prfnet_tiny", *FIGURES], "does not go with a PRFNet"),
            (["--model", "prfnet_tiny", "--data", "x", "--stage", "all"], "--stage does not go with a PRFNet"),
        ],
    )
    def test_options_that_do_not_go_together(self, arguments, match, saved, challenge, tmp_path, capsys):
        names = {**saved, "challenge": str(challenge)}
        arguments = [names.get(text, text) for text in arguments]
        fails(capsys, "train", *arguments, "--output", str(tmp_path / "run"), match=match)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            (["--model", "csn", *FIGURES, "--parts"], "unrecognized arguments: --parts"),
            (["--model", "csn", *FIGURES, "--split", "dev"], "unknown split 'dev'"),
            (["--model", "pcf", *FIGURES, "--batch-size", "4"], "--batch-size: a pcf_* model is scored one video"),
            (["--model", "pcf", *FIGURES, "--workers", "2"], "--workers: a pcf_* model is scored one video"),
            (["--model", "csn", "--data", "challenge", "--split", "test"], "test/gt_vid_result.json"),
        ],
    )
    def test_eval(self, arguments, match, saved, challenge, capsys):
        names = {**saved, "challenge": str(challenge)}
        arguments = [names.get(text, text) for text in arguments]
        if "unrecognized" in match:
            with pytest.raises(SystemExit):
                main(["eval", *arguments])
            assert match in capsys.readouterr().err
        else:
            fails(capsys, "eval", *arguments, match=match)
