import csv
import json

import pytest
import torch
from PIL import Image

from actionzoo.data import read_person_boxes, read_samples

COLUMNS = ("split", "class", "file", "width", "height", "person_boxes_xyxy_score")

# fmt: off
BAD = ["cut-json", "number", "flat", "four", "string", "bool", "nan", "infinite", "width", "height", "nan-width",
       "no-file", "short", "twice"]
# fmt: on


def write(path, rows, columns=COLUMNS):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def row(boxes, name="a.jpg", size=(40, 30), split="train", kind="run"):
    return (split, kind, name, *size, boxes if isinstance(boxes, str) else json.dumps(boxes))


@pytest.fixture
def root(tmp_path):
    """Four pictures of 40 x 30: two in class folders, one under its split, one loose."""
    for name in ("train/run/a.jpg", "test/run/b.jpg", "train/c.jpg", "d.jpg"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "root" / name)
    return tmp_path / "root"


def test_the_surest_comes_first_and_equals_keep_their_order(tmp_path, root):
    boxes = [[1, 2, 3, 4, 0.5], [5, 6, 7, 8, 0.9], [9, 10, 11, 12, 0.5]]
    found = read_person_boxes(write(tmp_path / "t.csv", [row(boxes)]), root)
    assert list(found) == [root / "train/run/a.jpg"]
    expected = torch.tensor([[5.0, 6, 7, 8], [1, 2, 3, 4], [9, 10, 11, 12]])
    torch.testing.assert_close(found[root / "train/run/a.jpg"], expected, rtol=0, atol=0)


def test_boxes_are_clipped_and_those_without_an_area_dropped(tmp_path, root):
    boxes = [[-3, -1.5, 44.25, 31, 0.9], [40, 0, 50, 30, 0.8], [5, 5, 5, 9, 0.7], [9, 5, 3, 9, 0.6], [1, 1, 2, 2, 0.5]]
    path = root / "train/run/a.jpg"
    found = read_person_boxes(write(tmp_path / "t.csv", [row(boxes)]), root)[path]
    assert found.tolist() == [[0, 0, 40, 30], [1, 1, 2, 2]]
    # without the picture's size only its corner is known
    columns = ("file", "split", "class", COLUMNS[-1])
    table = write(tmp_path / "u.csv", [("a.jpg", "train", "run", json.dumps(boxes))], columns)
    assert read_person_boxes(table, root)[path].tolist() == [[0, 0, 44.25, 31], [40, 0, 50, 30], [1, 1, 2, 2]]


def test_uncertain_boxes_can_be_left_out(tmp_path, root):
    table = write(tmp_path / "t.csv", [row([[0, 0, 9, 9, 0.4], [0, 0, 8, 8, 0.6]])])
    assert read_person_boxes(table, root, min_score=0.6)[root / "train/run/a.jpg"].tolist() == [[0, 0, 8, 8]]
    assert read_person_boxes(table, root, min_score=0.7)[root / "train/run/a.jpg"].shape == (0, 4)


def test_nobody_is_not_the_same_as_nothing_said(tmp_path, root):
    table = write(tmp_path / "t.csv", [row([]), row("", "b.jpg", split="test")])
    found = read_person_boxes(table, root)
    assert list(found) == [root / "train/run/a.jpg"]
    assert found[root / "train/run/a.jpg"].shape == (0, 4)
    assert found[root / "train/run/a.jpg"].dtype == torch.float32


def test_the_paths_are_those_of_the_samples_of_a_folder_and_of_a_table(tmp_path, root):
    boxes = [[0, 0, 9, 9, 1]]
    table = write(tmp_path / "t.csv", [row(boxes), row(boxes, "b.jpg", split="test")])
    (root / "train" / "c.jpg").rename(root / "train" / "run" / "c.jpg")
    samples = read_samples(root).with_boxes(read_person_boxes(table, root))
    assert set(samples.boxes) == {root / "train/run/a.jpg", root / "test/run/b.jpg"}

    columns = ("split", "file", "kind", COLUMNS[-1])
    rows = [("train", "run/c.jpg", "x", json.dumps(boxes)), ("test", "d.jpg", "x", json.dumps(boxes))]
    table = write(root / "t.csv", rows, columns)
    samples = read_samples(table, label="kind")
    assert set(samples.with_boxes(read_person_boxes(table)).boxes) == {root / "train/run/c.jpg", root / "d.jpg"}


def test_pictures_that_are_not_there_are_left_out_but_not_all_of_them(tmp_path, root):
    rows = [row([], "gone.jpg"), row([[0, 0, 9, 9, 1]])]
    assert list(read_person_boxes(write(tmp_path / "t.csv", rows), root)) == [root / "train/run/a.jpg"]
    with pytest.raises(FileNotFoundError, match=r"1 pictures, none of which is there: no .*train/run/gone\.jpg"):
        read_person_boxes(write(tmp_path / "t.csv", rows[:1]), root)
    with pytest.raises(FileNotFoundError, match="pictures' folder as root"):
        read_person_boxes(tmp_path / "t.csv", root / "absent")
    with pytest.raises(FileNotFoundError, match="no such table of boxes"):
        read_person_boxes(tmp_path / "absent.csv", root)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (row("[[1, 2, 3, 4, 0.5]"), "line 3: .*; expected"),
        (row("5"), "line 3: boxes are a list"),
        (row([1, 2, 3, 4, 0.5]), "line 3: boxes are a list"),
        (row([[1, 2, 3, 4]]), r"line 3: .* got \[\[1, 2, 3, 4\]\]"),
        (row([[1, 2, 3, "4", 0.5]]), "line 3: boxes are a list"),
        (row([[1, 2, 3, True, 0.5]]), "line 3: boxes are a list"),
        (row("[[1, 2, NaN, 4, 0.5]]"), "line 3: .*finite"),
        (row("[[1, 2, 3, 4, Infinity]]"), "line 3: .*finite"),
        (row([], size=("wide", 30)), "line 3: .*'wide'; expected .*sizes in pixels"),
        (row([], size=(40, 0)), "line 3: .*width and a height in pixels, got 40 x 0"),
        (row([], size=("nan", 30)), "line 3: .*width and a height"),
        (row([], ""), "line 3 names no file"),
        (("train", "run", "a.jpg"), "line 3: "),
        (row([[1, 2, 3, 4, 0.5]], "b.jpg", split="test"), "two rows of .*b.jpg, lines 2 and 3"),
    ],
    ids=BAD,
)
def test_bad_rows_are_named(tmp_path, root, bad, match):
    table = write(tmp_path / "t.csv", [row([], "b.jpg", split="test"), bad])
    with pytest.raises(ValueError, match=match):
        read_person_boxes(table, root)


def test_other_files_are_refused(tmp_path, root):
    with pytest.raises(ValueError, match=r"lacks \['person_boxes_xyxy_score'\] and has \['split', 'file'\]"):
        read_person_boxes(write(tmp_path / "t.csv", [], ("split", "file")), root)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match=r"and has \[\]"):
        read_person_boxes(tmp_path / "empty.csv", root)
    with pytest.raises(ValueError, match="cannot be read as a CSV file"):
        read_person_boxes(root / "d.jpg", root)
