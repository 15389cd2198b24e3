"""The command line on videos whose parts are parsed."""

import io
import json
import signal
import sys

import pytest

import actionzoo
from actionzoo.cli import main
from actionzoo.data.clips import clip_info, read_clip
from actionzoo.metrics import read_part_predictions
from actionzoo.models.pcf import PCF
from actionzoo.pipeline import PartParsingPipeline
from tests import instances, parts, persons
from tests.data import videos

from .test_commands import PHOTO, fails


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Models with random weights: a part action parser, one of clips, one of pictures."""
    folder = tmp_path_factory.mktemp("saved")
    made = {"parts": parts.net(), "clips": instances.net(3), "pictures": persons.convit()}
    for name, model in made.items():
        model.save_pretrained(folder / name)
    return {name: f"local-dir:{folder / name}" for name in made}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """16 frames at 10 per second."""
    return videos.make_video(tmp_path_factory.mktemp("clips") / "walk.mp4", 16)


@pytest.fixture(autouse=True)
def somebody(monkeypatch):
    """One person in every frame, in the same place; how many frames were looked at at a time."""
    calls = []

    def detect(self, frames):
        calls.append(len(frames))
        return [parts.people([[8.0, 4.0, 24.0, 28.0]]) for _ in frames]

    monkeypatch.setattr(PCF, "detect", detect)
    return calls


def predict(saved, *arguments):
    return main(["predict", *map(str, arguments), "--model", saved["parts"]])


def test_writes_the_annotated_video_and_lines(saved, clip, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(saved, clip, "--output", out, "--top", 2, "--joints") == 0
    assert sorted(path.name for path in out.iterdir()) == ["walk_actionzoo.jsonl", "walk_actionzoo.mp4"]
    info = clip_info(out / "walk_actionzoo.mp4")
    assert (info.frames, info.fps, info.width) == (16, 10, 12 * 48)
    rows = [json.loads(line) for line in (out / "walk_actionzoo.jsonl").read_text().splitlines()]
    assert [(row["start"], row["stop"], list(row["people"])) for row in rows] == [
        (0, 8, ["0", "2", "4", "6"]),
        (8, 16, ["8", "10", "12", "14"]),
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(clip)
    assert [line.split()[:2] for line in lines[1:3]] == [["1", rows[0]["label"]], ["2", rows[0]["top"][1]["label"]]]
    assert lines[3].startswith(f"  0.00 to 0.80 s: head {rows[0]['states']['head']['state']}, right arm ")
    assert lines[4].startswith("  0.80 to 1.60 s: ")
    assert lines[5].startswith("  16 frames, 8 looked at with 8 people, 2 segments; ")
    assert lines[6:] == [f"  wrote {out / 'walk_actionzoo'}.{suffix}" for suffix in ("mp4", "jsonl")]


def test_json_and_the_files_of_the_challenge(saved, clip, tmp_path, capsys):
    other = tmp_path / "run.avi"
    other.write_bytes(videos.make_video(tmp_path / "run.mkv", 9).read_bytes())
    options = ["--no-draw", "--output", tmp_path / "out", "--challenge", tmp_path / "challenge", "--json"]
    assert predict(saved, clip, other, *options) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert [row["counts"]["frames"] for row in rows] == [16, 9]
    assert rows[0]["written"] == [str(tmp_path / "out" / "walk_actionzoo.jsonl")]
    assert captured.err == ""
    found = read_part_predictions(tmp_path / "challenge")
    assert found["action"] == {name: row["label"] for name, row in zip(("walk", "run"), rows)}
    assert list(found["parts"]["run"]) == [f"img_{n:05d}.json" for n in (1, 3, 5, 7, 9)]
    assert found["parts"]["walk"]["img_00001.json"]["humans"][0]["box"] == [8.0, 4.0, 23.0, 27.0]
    (tmp_path / "challenge" / "pred_vid_result.json").unlink()
    assert predict(saved, clip, *options[:-1]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"wrote {tmp_path / 'challenge' / name}" for name in ("pred_vid_result.json", "pred_part_result.json")
    ]


def test_options(saved, clip, tmp_path, capsys, monkeypatch, somebody):
    monkeypatch.chdir(tmp_path)
    used = []
    own = PartParsingPipeline.annotate

    def annotate(self, *args, **kwargs):
        used.append((self.every, self.threshold, self.seconds, self.frames_per_segment, self.coarse, kwargs))
        return own(self, *args, **kwargs)

    monkeypatch.setattr(PartParsingPipeline, "annotate", annotate)
    options = ["--stride", 3, "--threshold", 0.25, "--segment", 0.4, "--coarse", "conditioned", "--seconds", 1.0]
    assert predict(saved, clip, *options, "--no-write", "--json", "--draw-threshold", 0.6) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["counts"] == {"frames": 10, "sampled": 4, "segments": 2, "people": 4}
    assert used[0][:5] == (3, 0.25, 0.4, None, "conditioned")
    assert (used[0][5]["seconds"], used[0][5]["drawn"], used[0][5]["joints"]) == (1.0, 0.6, False)
    assert predict(saved, clip, "--segment-frames", 6, "--no-write", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert [segment["stop"] for segment in row["segments"]] == [6, 12, 16]
    assert used[1][:5] == (2, 0.0, 0.8, 6, "independent")
    assert not list(tmp_path.iterdir())


def test_folders_and_pipes(saved, clip, tmp_path, capsys, monkeypatch):
    frames = tmp_path / "frames"
    frames.mkdir()
    for i, pixels in enumerate(read_clip(clip, 16).unbind(1)):
        actionzoo.draw.to_image(pixels).save(frames / f"{i}.png")
    out = ["--output", tmp_path / "out", "--json"]
    assert predict(saved, frames, "--frames-folder", "--fps", 5, *out, "--challenge", tmp_path / "c") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["counts"]["frames"], row["fps"], len(row["segments"])) == (16, 5, 4)
    assert row["written"][0].endswith("frames_actionzoo.mp4")
    assert list(read_part_predictions(tmp_path / "c")["action"]) == ["frames"]

    data = videos.make_video(tmp_path / "piped.mkv", 16).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert predict(saved, "-", "--no-draw", *out) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["source"], row["counts"]["frames"]) == ("standard input", 16)
    assert row["written"] == [str(tmp_path / "out" / "stdin_actionzoo.jsonl")]


def test_ctrl_c_ends_a_stream_with_its_files_whole(saved, tmp_path, capsys, monkeypatch, somebody):
    own = PCF.detect

    def detect(self, frames):
        if len(somebody) == 3:
            signal.raise_signal(signal.SIGINT)
        return own(self, frames)

    monkeypatch.setattr(PCF, "detect", detect)
    data = videos.make_video(tmp_path / "piped.mkv", 16).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert predict(saved, "-", "--no-draw", "--output", tmp_path / "out", "--json") == 130
    (row,) = json.loads(capsys.readouterr().out)
    # the fourth frame that is looked at is the seventh
    assert row["counts"]["frames"] == 7
    assert len((tmp_path / "out" / "stdin_actionzoo.jsonl").read_text().splitlines()) == 1


def test_one_that_cannot_be_read_does_not_stop_the_others(saved, clip, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    options = ["--no-draw", "--output", tmp_path / "out", "--json", "--challenge", tmp_path / "c"]
    assert predict(saved, tmp_path / "broken.mp4", clip, *options) == 1
    captured = capsys.readouterr()
    assert [row["source"] for row in json.loads(captured.out)] == [str(clip)]
    assert "broken.mp4" in captured.err
    assert list(read_part_predictions(tmp_path / "c")["action"]) == ["walk"]
    assert predict(saved, tmp_path / "broken.mp4", "--challenge", tmp_path / "none", "--output", tmp_path / "out") == 1
    assert not (tmp_path / "none").exists()


def test_what_does_not_fit_is_refused_before_a_frame_is_read(saved, clip, tmp_path, capsys, somebody):
    twin = tmp_path / "walk.mkv"
    twin.write_bytes(clip.read_bytes())
    challenge = ["--challenge", str(tmp_path / "c")]
    model = ["--model", saved["parts"]]
    for arguments, match in (
        ([str(clip), str(twin), *challenge], "would both be 'walk' in the challenge's files; rename one"),
        (["-", "--no-draw", *challenge], "- has no name for the challenge's files"),
        ([str(clip), "--no-write", *challenge], "--challenge writes files and --no-write none"),
        ([str(clip), "--challenge", str(tmp_path / "absent" / "c")], "no such folder: "),
        (["-"], "- can be read once, and a video is annotated in a second pass; give --no-draw"),
        ([str(clip), "--video-rule", "mean"], "--video-rule labels a clip by its people"),
        ([str(clip), "--hop", "2"], "hop and detector are for instance_action_*"),
        ([str(clip), "--draw-threshold", "2"], "--draw-threshold is a score in [0, 1], got 2.0"),
        ([str(clip), "--segment", "0"], "seconds of a segment are a positive number, got 0.0"),
        ([str(clip), "--segment-frames", "0"], "got 2, 1 and 0"),
        ([str(clip), "--boxes", "1,2,3,4"], "takes whole clips; --boxes are for models"),
        ([str(clip), "--attention"], "--attention is of pictures"),
        ([str(PHOTO)], f"{PHOTO.name} is a picture, and local-dir:"),
    ):
        fails(capsys, "predict", *arguments, *model, match=match)
    assert somebody == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.mkv"]


def test_options_of_parts_are_refused_with_other_models(saved, clip, tmp_path, capsys):
    for option in (["--segment", "2"], ["--segment-frames", "9"], ["--coarse", "independent"], ["--joints"]):
        for kind, source in (("clips", clip), ("pictures", PHOTO)):
            match = f"{option[0]} is for models that parse parts, pcf_*, and local-dir:"
            fails(capsys, "predict", str(source), "--model", saved[kind], *option, match=match)
    options = ["--challenge", str(tmp_path / "c"), "--draw-threshold", "0.5"]
    fails(
        capsys, "predict", str(PHOTO), "--model", saved["pictures"], *options, match="--challenge, --draw-threshold is"
    )
