import csv
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from actionzoo.data import ActionClips, read_clips_folder, read_clips_table
from tests.data.videos import make_video, numbers

TENNIS = Path(__file__).resolve().parents[3] / "shared" / "data" / "video" / "tennis7.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos of two classes, of 20 and 6 frames, in class folders and splits."""
    root = tmp_path_factory.mktemp("clips")
    for split, count in (("train", 20), ("test", 6)):
        for name in ("serve", "smash"):
            (root / split / name).mkdir(parents=True)
            make_video(root / split / name / f"{name}.mp4", count)
    (root / "train" / "serve" / "notes.txt").write_text("no video")
    (root / "train" / "serve" / ".hidden.mp4").write_text("no video")
    return root


@pytest.fixture
def table(tmp_path):
    """A table of empty files; what it lists is not opened."""
    rows = [(f"{name}/{i}.mp4", name, str(i % 3)) for name in ("smash", "serve") for i in range(6)]
    for file, *_ in rows:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()

    def write(rows=rows, columns=("file", "class", "fold"), name="table.csv"):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
        return tmp_path / name

    write.rows = rows
    return write


class TestTable:
    def test_folds(self, table):
        samples = read_clips_table(table(), fold=1)
        assert samples.classes == ("serve", "smash")
        assert {split: sorted(p.stem for p, _ in rows) for split, rows in samples.items.items()} == {
            "train": sorted(["0", "2", "3", "5"] * 2),
            "test": sorted(["1", "4"] * 2),
        }
        assert all(samples.classes[k] == p.parent.name for rows in samples.items.values() for p, k in rows)
        assert samples == read_clips_table(table(), fold="1")

    def test_a_fold_held_out(self, table):
        samples = read_clips_table(table(), fold=0, val_fold=2)
        stems = {split: {p.stem for p, _ in rows} for split, rows in samples.items.items()}
        assert stems == {"train": {"1", "4"}, "val": {"2", "5"}, "test": {"0", "3"}}

    def test_splits_and_labels(self, table, tmp_path):
        rows = [
            ("smash/0.mp4", "train", "hard"),
            ("serve/1.mp4", "train", "soft"),
            ("serve/2.mp4", "test", "soft"),
            ("serve/3.mp4", "test", ""),
        ]
        path = table(rows, ("file", "split", "force"), "splits.csv")
        samples = read_clips_table(path, label="force")
        assert samples.classes == ("hard", "soft")
        assert samples.items == {
            "train": [(tmp_path / "smash/0.mp4", 0), (tmp_path / "serve/1.mp4", 1)],
            "test": [(tmp_path / "serve/2.mp4", 1)],
        }
        assert samples.skipped == 1

    def test_a_root_elsewhere(self, table, tmp_path):
        path = table().rename(tmp_path / "smash" / "moved.csv")
        assert read_clips_table(path, tmp_path, fold=0) == read_clips_table(table(), fold=0)

    @pytest.mark.parametrize(
        ("change", "arguments", "error", "message"),
        [
            ({}, {"fold": 7}, ValueError, "has no fold 7; it has 0, 1, 2"),
            ({}, {"fold": 0, "val_fold": 9}, ValueError, "has no fold 9"),
            ({}, {"fold": 0, "val_fold": "0"}, ValueError, "val_fold '0' goes with another fold"),
            ({}, {"val_fold": 1}, ValueError, "val_fold 1 goes with another fold to test on; fold is None"),
            ({}, {}, ValueError, r"needs the columns file, class, split; it lacks \['split'\]"),
            ({}, {"fold": 0, "label": "stroke"}, ValueError, r"lacks \['stroke'\] and has \['file', 'class', 'fold'\]"),
            ({"rows": []}, {"fold": 0}, ValueError, "has no rows"),
            ({"rows": [("a.mp4", "a", "0")]}, {"fold": 0}, FileNotFoundError, "not there: .*a.mp4; give .* as root"),
            (
                {"columns": ("file", "class", "split")},
                {},
                ValueError,
                "has a split '0'; expected one of train, val, test",
            ),
            (
                {"rows": [("smash/0.mp4", "a", "0"), ("smash/1.mp4", "b", "1")]},
                {"fold": 0},
                ValueError,
                r"\['a'\] are in",
            ),
            ({}, {"fold": 0, "root": "nowhere"}, FileNotFoundError, "no such folder: nowhere"),
            ({}, {"fold": 0, "table": "nowhere.csv"}, FileNotFoundError, "no such table of clips: nowhere.csv"),
        ],
    )
    def test_wrong_input(self, table, change, arguments, error, message):
        with pytest.raises(error, match=message):
            read_clips_table(**{"table": table(**change), **arguments})

    def test_no_table(self, tmp_path):
        (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x81")
        with pytest.raises(ValueError, match=r"a.csv cannot be read as a CSV file"):
            read_clips_table(tmp_path / "a.csv", fold=0)

    @pytest.mark.data
    @pytest.mark.skipif(not TENNIS.is_file(), reason="needs ../shared/data/video beside the repository")
    def test_a_real_table(self, tmp_path):
        """Folds of whole scenes, of files that are not unpacked here."""
        with TENNIS.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            (tmp_path / row["file"]).parent.mkdir(exist_ok=True)
            (tmp_path / row["file"]).touch()
        samples = read_clips_table(TENNIS, tmp_path, fold=2, val_fold=0)
        assert len(samples.classes) == 7
        assert sum(map(len, samples.items.values())) == 285
        scene = {tmp_path / row["file"]: row["group"] for row in rows}
        scenes = [{scene[path] for path, _ in rows} for rows in samples.items.values()]
        assert not scenes[0] & scenes[1] | scenes[1] & scenes[2] | scenes[0] & scenes[2]


class TestFolder:
    def test_lists_videos(self, folder):
        samples = read_clips_folder(folder)
        assert samples.classes == ("serve", "smash")
        assert samples.items == {
            split: [(folder / split / name / f"{name}.mp4", k) for k, name in enumerate(samples.classes)]
            for split in ("train", "test")
        }

    def test_nothing_there(self, tmp_path):
        with pytest.raises(ValueError, match=r"no labelled videos in .*; expected train/CLASS"):
            read_clips_folder(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"no such folder: .*nowhere"):
            read_clips_folder(tmp_path / "nowhere")

    def test_a_class_that_is_not_trained(self, tmp_path):
        for place in ("train/a", "test/b"):
            (tmp_path / place).mkdir(parents=True)
            (tmp_path / place / "0.avi").touch()
        with pytest.raises(ValueError, match=r"classes \['b'\] are in another split but not in train"):
            read_clips_folder(tmp_path)


class TestActionClips:
    def test_centre_clips_and_targets(self, folder):
        data = ActionClips(read_clips_folder(folder).items["train"], 4, 2)
        assert len(data) == 2
        for i in range(2):
            clip, target = data[i]
            assert numbers(clip) == [6, 8, 10, 12]
            assert target == i
        assert data.class_counts() == Counter({0: 1, 1: 1})

    def test_random_clips(self, folder):
        data = ActionClips(read_clips_folder(folder).items["train"], 4, random_start=True)
        starts = {numbers(data[0][0])[0] for _ in range(20)}
        assert len(starts) > 5
        torch.manual_seed(3)
        first = data[0][0]
        torch.manual_seed(3)
        assert torch.equal(data[0][0], first)

    def test_short_videos_in_a_batch(self, folder):
        data = ActionClips(read_clips_folder(folder).items["test"], 8, pad="last", transform=lambda clip: clip.float())
        clips, targets = next(iter(DataLoader(data, batch_size=2)))
        assert clips.shape == (2, 3, 8, 32, 48)
        assert clips.dtype == torch.float32
        assert numbers(clips[1]) == [0, 1, 2, 3, 4, 5, 5, 5]
        assert targets.tolist() == [0, 1]
        assert ActionClips(data.items, 8)[0][0].shape[1] == 6

    def test_a_bad_file_is_named(self, tmp_path):
        (tmp_path / "bad.mp4").write_text("no video")
        with pytest.raises(RuntimeError, match=r"bad.mp4 cannot be read as a video"):
            ActionClips([(tmp_path / "bad.mp4", 0)], 4)[0]
