"""The command line on clips."""

import io
import json
import signal
import sys

import pytest
import torch

import actionzoo
from actionzoo.cli import main
from actionzoo.cli.arguments import DEFAULT_CLIP_MODEL
from actionzoo.cli.predict_inputs import expand, free_paths
from actionzoo.data.clips import clip_info, read_clip
from actionzoo.models import InstanceActionNet, Instances, People
from tests import instances, persons
from tests.data import videos

from .test_commands import PHOTO, fails

CLASSES = ["sit", "stand", "walk"]
BOX = (4.0, 4.0, 24.0, 28.0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Models with random weights: of clips, of pictures, a detector."""
    folder = tmp_path_factory.mktemp("saved")
    made = {"clips": instances.net(3), "pictures": persons.convit(), "detector": instances.detector()}
    made["clips"].pretrained_cfg["classes"] = CLASSES
    for name, model in made.items():
        model.save_pretrained(folder / name)
    return {name: f"local-dir:{folder / name}" for name in made}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """11 frames at 10 per second."""
    return videos.make_video(tmp_path_factory.mktemp("clips") / "walk.mp4", 11)


@pytest.fixture(autouse=True)
def somebody(monkeypatch):
    """One person in every frame, in the same place; the thresholds that were used."""
    own, used = InstanceActionNet.detect, []

    def detect(self, frames, threshold):
        used.append(threshold)
        found = own(self, frames, threshold)
        return Instances([People(torch.tensor([BOX]), torch.tensor([0.75]), torch.zeros(1, 0, 3))], *found[1:])

    monkeypatch.setattr(InstanceActionNet, "detect", detect)
    return used


def predict(saved, *arguments, model="clips"):
    return main(["predict", *map(str, arguments), "--model", saved[model]])


def test_writes_the_annotated_clip_and_lines(saved, clip, tmp_path, capsys):
    assert predict(saved, clip, "--output", tmp_path / "out", "--top", 2) == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["walk_actionzoo.jsonl", "walk_actionzoo.mp4"]
    info = clip_info(out / "walk_actionzoo.mp4")
    assert (info.frames, info.fps, info.width, info.height) == (11, 10, 384, 256)
    rows = [json.loads(line) for line in (out / "walk_actionzoo.jsonl").read_text().splitlines()]
    assert [row["frames"] for row in rows] == [[0, 2, 4, 6], [4, 6, 8, 10]]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(clip)
    assert lines[1] == "  person #0: 0.00 to 1.00 s; found with 75%"
    assert lines[2].split()[0] == "1"
    assert lines[2].split()[1] in CLASSES
    assert lines[4] == f"  the clip: {lines[2].split()[1]}, {lines[2].split()[2]}% (by its surest person)"
    assert lines[5].startswith("  11 frames, 6 looked at in 2 windows; ")
    assert lines[5].endswith(" frames per second")
    assert lines[6:] == [f"  wrote {out / 'walk_actionzoo'}.{suffix}" for suffix in ("mp4", "jsonl")]


def test_json(saved, clip, tmp_path, capsys):
    assert predict(saved, clip, clip, "--output", tmp_path, "--json") == 0
    captured = capsys.readouterr()
    (row,) = json.loads(captured.out)
    assert row["counts"] == {"frames": 11, "sampled": 6, "windows": 2, "people": 1}
    assert row["people"][0]["box"] == list(BOX)
    assert row["label"] in CLASSES
    assert row["written"] == [str(tmp_path / f"walk_actionzoo.{suffix}") for suffix in ("mp4", "jsonl")]
    assert captured.err == ""


def test_options(saved, clip, tmp_path, capsys, monkeypatch, somebody):
    monkeypatch.chdir(tmp_path)
    options = ["--stride", 1, "--hop", 1, "--threshold", 0.25, "--seconds", 0.6, "--no-write", "--json"]
    assert predict(saved, clip, *options) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["counts"] == {"frames": 6, "sampled": 6, "windows": 3, "people": 1}
    assert row["written"] == []
    assert set(somebody) == {0.25}
    assert not list(tmp_path.iterdir())


def test_without_a_video_the_lines_are_still_written(saved, clip, tmp_path, capsys):
    assert predict(saved, clip, "--no-draw", "--output", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["walk_actionzoo.jsonl"]
    assert len((tmp_path / "out" / "walk_actionzoo.jsonl").read_text().splitlines()) == 2
    assert capsys.readouterr().out.splitlines()[-1] == f"  wrote {tmp_path / 'out' / 'walk_actionzoo.jsonl'}"


@pytest.mark.parametrize(("rule", "words"), [("score", "surest"), ("area", "largest"), ("mean", "mean of all")])
def test_whose_action_is_the_clips(saved, clip, capsys, rule, words):
    assert predict(saved, clip, "--no-write", "--video-rule", rule, "--seconds", 0.1) == 0
    assert words in capsys.readouterr().out


def test_ctrl_c_ends_a_stream_with_its_files_whole(saved, clip, tmp_path, capsys, monkeypatch, somebody):
    own, before = InstanceActionNet.detect, signal.getsignal(signal.SIGINT)

    def detect(self, frames, threshold):
        if len(somebody) == 3:
            signal.raise_signal(signal.SIGINT)
        return own(self, frames, threshold)

    monkeypatch.setattr(InstanceActionNet, "detect", detect)
    data = videos.make_video(tmp_path / "piped.mkv", 11).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert predict(saved, "-", clip, "--output", tmp_path / "out", "--json") == 130
    captured = capsys.readouterr()
    # the fourth frame that is looked at is the seventh; the next input is left out
    (row,) = json.loads(captured.out)
    assert (row["source"], row["counts"]["frames"]) == ("standard input", 7)
    assert clip_info(tmp_path / "out" / "stdin_actionzoo.mp4").frames == 7
    assert captured.err == "actionzoo: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is before
    # half a file is not written
    somebody.clear()
    assert predict(saved, clip, "--output", tmp_path / "file") == 130
    assert not list((tmp_path / "file").iterdir())


def test_another_detector(saved, clip, capsys):
    assert predict(saved, clip, "--no-write", "--detector", saved["detector"]) == 0
    capsys.readouterr()
    fails(capsys, "predict", str(clip), "--model", saved["clips"], "--detector", "none", match="do without one")


def test_folders_pipes_and_cameras(saved, clip, tmp_path, capsys, monkeypatch):
    frames = tmp_path / "frames"
    frames.mkdir()
    pixels = read_clip(clip, 11)
    for i in range(11):
        actionzoo.draw.to_image(pixels[:, i]).save(frames / f"{i}.png")
    out = ["--output", tmp_path / "out", "--json"]
    assert predict(saved, frames, "--frames-folder", "--fps", 5, *out) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["counts"]["frames"], row["frame_rate"], row["people"][0]["end_s"]) == (11, 5, 2.0)
    assert row["written"][0].endswith("frames_actionzoo.mp4")

    # without the option a folder is a place to look for clips
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "more" / "a_actionzoo.mp4").write_bytes(b"from an earlier call")
    actionzoo.draw.to_image(pixels[:, 0]).save(tmp_path / "more" / "cover.png")
    assert predict(saved, tmp_path / "more", *out) == 0
    assert [row["source"] for row in json.loads(capsys.readouterr().out)] == [str(tmp_path / "more" / "a.mp4")]

    data = videos.make_video(tmp_path / "piped.mkv", 11).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert predict(saved, "-", *out) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["source"], row["counts"]["frames"]) == ("standard input", 11)
    assert row["written"][0].endswith("stdin_actionzoo.mp4")

    assert predict(saved, "63", *out) == 1
    assert "camera 63" in capsys.readouterr().err


def test_one_that_cannot_be_read_does_not_stop_the_others(saved, clip, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "walk.mp4").write_bytes(clip.read_bytes())
    inputs = [tmp_path / "broken.mp4", clip, tmp_path / "absent.mp4", tmp_path / "empty", tmp_path / "walk.mp4"]
    assert predict(saved, *inputs, "--output", tmp_path / "out", "--json", "--frames-folder") == 1
    captured = capsys.readouterr()
    # two inputs of one name
    assert [row["written"][0].rpartition("/")[2] for row in json.loads(captured.out)] == [
        "walk_actionzoo.mp4",
        "walk_2_actionzoo.mp4",
    ]
    assert len(list((tmp_path / "out").iterdir())) == 4
    errors = captured.err.strip().splitlines()
    assert len(errors) == 3
    for name, error in (("absent.mp4", "no such file"), ("broken.mp4", "cannot be read"), ("empty", "nothing to")):
        assert any(name in line and error in line for line in errors)


def test_models_of_the_other_kind_are_refused(saved, clip, capsys):
    both = [str(clip), str(PHOTO)]
    fails(capsys, "predict", *both, "--model", saved["pictures"], match="walk.mp4 is a clip, and local-dir:")
    fails(
        capsys, "predict", str(clip), "--model", saved["pictures"], match="model of clips such as instance_action_tin"
    )
    fails(capsys, "predict", str(PHOTO), "--model", saved["clips"], match=f"{PHOTO.name} is a picture, and local-dir:")
    fails(capsys, "predict", "--model", saved["clips"], match="model of pictures such as prfnet_tiny.sports20")
    fails(capsys, "predict", str(clip.parent), "--model", saved["pictures"], match="walk.mp4 is a clip")
    for option in (["--stride", "2"], ["--hop", "2"]):
        fails(capsys, "predict", str(PHOTO), "--model", saved["pictures"], *option, match="are for models of clips")
    for option in (["--seconds", "2"], ["--fps", "9"], ["--video-rule", "mean"], ["--frames-folder"]):
        match = f"{option[0]} is for models of clips, instance_action_* and pcf_*, and local-dir:"
        fails(capsys, "predict", str(PHOTO), "--model", saved["pictures"], *option, match=match)


def test_options_that_do_not_fit(saved, clip, capsys):
    for options, match in (
        (["--boxes", "1,2,3,4"], "takes whole clips; --boxes are for models that find joints"),
        (["--attention"], "--attention is of pictures"),
        (["--attention", "--no-draw"], "--attention writes a picture and --no-draw none"),
        (["--attention", "--no-write"], "--attention writes a picture and --no-write none"),
        (["--seconds", "0"], "--seconds is more than 0, got 0"),
        (["--fps", "-1"], "--fps is more than 0, got -1"),
        (["--hop", "9"], "hop lies in 1 to 4"),
        (["--threshold", "2"], "threshold is a score in"),
    ):
        fails(capsys, "predict", str(clip), "--model", saved["clips"], *options, match=match)


@pytest.mark.parametrize("clips", [True, False], ids=["clip", "picture"])
def test_the_default_model_fits_the_input(clip, monkeypatch, clips):
    asked = []

    def pipeline(name, **options):
        asked.append(name)
        raise RuntimeError("far enough")

    # the package's attribute of that name is the function
    monkeypatch.setattr(sys.modules["actionzoo.pipeline"], "pipeline", pipeline)
    source = str(clip if clips else PHOTO)
    for arguments in ([source], [source, "--weights", "mine.safetensors"], [str(clip.parent) if clips else source]):
        assert main(["predict", *arguments]) == 1
    name = "instance_action_tiny.motion" if clips else "prfnet_tiny.sports20"
    assert asked == [name, name.partition(".")[0], name]


def test_random_weights_are_refused(clip, capsys):
    match = "train one (actionzoo train --model instance_action_tahnet_v2 --data … --output DIR) and give local-dir:DIR"
    fails(capsys, "predict", str(clip), "--model", "instance_action_tahnet_v2", match=match)


def test_the_bundled_model_labels_clips_without_further_ado(clip, tmp_path, capsys):
    assert main(["predict", str(clip), "--output", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["model"] == DEFAULT_CLIP_MODEL
    (person,) = row["people"]
    assert person["label"] in actionzoo.create(DEFAULT_CLIP_MODEL).pretrained_cfg["classes"]


def test_inputs(tmp_path):
    for name in ("a.jpg", "b.mp4", "c.ts", "d.txt"):
        (tmp_path / name).touch()
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "1.png").touch()

    def found(*items, **options):
        inputs, missing = expand([str(item) for item in items], **options)
        return [(getattr(i.source, "name", i.source), i.kind, i.named) for i in inputs], missing

    both = [("1.png", "picture", False), ("a.jpg", "picture", False), ("b.mp4", "clip", False)]
    assert found(tmp_path) == (both, [])
    assert found(tmp_path / "7", frames_folder=True) == ([("7", "clip", True)], [])
    assert found(tmp_path, frames_folder=True) == ([(tmp_path.name, "clip", True)], [])
    assert found(tmp_path / "*.[mt]*") == ([("b.mp4", "clip", True), ("c.ts", None, True), ("d.txt", None, True)], [])
    assert found("0", "-", "rtsp://host/a") == (
        [(0, "clip", True), ("-", "clip", True), ("rtsp://host/a", "clip", True)],
        [],
    )
    assert found("absent", tmp_path / "a.jpg") == ([("a.jpg", "picture", True)], ["absent"])
    for copy in ("a_actionzoo.jpg", "a_2_attention.jpg", "b_actionzoo.mp4", "e_actionzoo.mp4"):
        (tmp_path / copy).touch()
    # no copies of an earlier call, unless named without what they are copies of
    assert found(tmp_path) == (both, [])
    assert found(tmp_path / "?*.*[g4]") == ([("a.jpg", "picture", True), ("b.mp4", "clip", True)], [])
    assert found(*sorted(tmp_path.glob("*.*[g4]")), 0) == (
        [("a.jpg", "picture", True), ("b.mp4", "clip", True), ("e_actionzoo.mp4", "clip", True), (0, "clip", True)],
        [],
    )
    assert found(tmp_path / "b_actionzoo.mp4")[0] == [("b_actionzoo.mp4", "clip", True)]
    assert found(tmp_path / "*_actionzoo.mp4") == ([], [str(tmp_path / "*_actionzoo.mp4")])
    # once each, by name if it was named
    assert found(tmp_path, tmp_path / "b.mp4")[0] == [*both[:2], ("b.mp4", "clip", True)]


def test_names_of_what_is_written(tmp_path):
    used = set()
    first = free_paths(tmp_path / "out", "a", ("_x.mp4", "_x.jsonl"), used)
    assert first == [tmp_path / "out" / "a_x.mp4", tmp_path / "out" / "a_x.jsonl"]
    assert (tmp_path / "out").is_dir()
    assert [path.name for path in free_paths(tmp_path / "out", "a", ("_x.mp4",), used)] == ["a_2_x.mp4"]
    assert [path.name for path in free_paths(tmp_path / "out", "a", ("_x.jsonl",), used)] == ["a_2_x.jsonl"]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only(saved, clip, monkeypatch, capsys, terminal):
    class Stream(io.StringIO):
        def isatty(self):
            return terminal

    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    assert predict(saved, clip, "--no-write") == 0
    assert ("/11 " in stream.getvalue()) == terminal
    shown = len(stream.getvalue())
    assert predict(saved, clip, "--no-write", "--json") == 0
    assert len(stream.getvalue()) == shown
