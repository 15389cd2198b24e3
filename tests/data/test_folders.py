import csv

import numpy as np
import pytest
import torch
from PIL import Image

from actionzoo.data import DAR_4, PPMI_24, PPMI_24_TO_12, ActionImages, ActionSamples, load_image, read_samples


def picture(path, size=(40, 30), color=(200, 30, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 10), ("test", 4)):
        for name in ("b_walk", "a_run"):
            for i in range(count):
                picture(tmp_path / "data" / split / name / f"{i}.jpg")
    (tmp_path / "data/train/a_run/notes.txt").write_text("not a picture")
    return tmp_path / "data"


def table(tmp_path, rows, columns=("split", "file", "kind")):
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_folder_gives_sorted_classes_and_every_picture(folder):
    samples = read_samples(folder)
    assert samples.classes == ("a_run", "b_walk")
    assert {split: len(rows) for split, rows in samples.items.items()} == {"train": 20, "test": 8}
    assert all(path.parent.name == samples.classes[k] for path, k in samples.items["train"])


def test_hold_out_is_seeded_stratified_and_disjoint(folder):
    samples = read_samples(folder)
    first, again, other = samples.hold_out(0.2, 1), samples.hold_out(0.2, 1), samples.hold_out(0.2, 2)
    assert first.items == again.items
    assert first.items["val"] != other.items["val"]
    assert [sum(k == c for _, k in first.items["val"]) for c in (0, 1)] == [2, 2]
    assert not set(first.items["val"]) & set(first.items["train"])
    assert sorted(first.items["val"] + first.items["train"]) == samples.items["train"]
    assert first.items["test"] == samples.items["test"]
    assert samples.hold_out(0) is samples
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        samples.hold_out(1.0)
    with pytest.raises(ValueError, match="val split already"):
        first.hold_out(0.1)
    with pytest.raises(ValueError, match="holds out none"):
        samples.hold_out(0.001)
    with pytest.raises(ValueError, match="no train split"):
        ActionSamples(("a",), {"test": []}).hold_out(0.5)


def test_table_finds_files_directly_or_under_the_split_and_drops_unlabelled_rows(tmp_path):
    picture(tmp_path / "root" / "one.jpg")
    picture(tmp_path / "root" / "test" / "two.jpg")
    path = table(tmp_path, [("train", "one.jpg", "x"), ("test", "two.jpg", "x"), ("train", "three.jpg", "")])
    samples = read_samples(path, tmp_path / "root", "kind")
    assert samples.skipped == 1
    assert samples.items["train"] == [(tmp_path / "root" / "one.jpg", 0)]
    assert samples.items["test"] == [(tmp_path / "root" / "test" / "two.jpg", 0)]


def test_bad_data(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="no such data"):
        read_samples(tmp_path / "absent")
    with pytest.raises(ValueError, match="no labelled images"):
        read_samples(picture(tmp_path / "empty" / "loose.jpg").parent)
    with pytest.raises(ValueError, match=r"a folder train/CLASS/\* or a .csv"):
        read_samples(tmp_path / "empty" / "loose.jpg")
    with pytest.raises(ValueError, match="belong to a CSV"):
        read_samples(folder, label="kind")
    path = table(tmp_path, [("train", "one.jpg", "x")])
    with pytest.raises(ValueError, match=r"label is 'sort'"):
        read_samples(path, tmp_path, "sort")
    with pytest.raises(FileNotFoundError, match=r"one\.jpg"):
        read_samples(path, tmp_path, "kind")
    with pytest.raises(FileNotFoundError, match="images' folder"):
        read_samples(path, tmp_path / "absent", "kind")
    picture(folder / "test" / "c_jump" / "0.jpg")
    with pytest.raises(ValueError, match="c_jump"):
        read_samples(folder)


def test_hidden_folders_and_folders_named_as_pictures_are_left_out(folder):
    picture(folder / "train" / ".ipynb_checkpoints" / "0.jpg")
    (folder / "train" / "a_run" / "odd.jpg").mkdir()
    samples = read_samples(folder)
    assert samples.classes == ("a_run", "b_walk")
    assert len(samples.items["train"]) == 20


def test_tables_with_a_byte_order_mark_and_with_odd_splits(tmp_path):
    picture(tmp_path / "one.jpg")
    (tmp_path / "table.csv").write_text("split,file,kind\ntrain,one.jpg,x\n", encoding="utf-8-sig")
    assert len(read_samples(tmp_path / "table.csv", label="kind").items["train"]) == 1
    with pytest.raises(ValueError, match="split 'training'; expected one of train, val, test"):
        read_samples(table(tmp_path, [("training", "one.jpg", "x")]), label="kind")
    with pytest.raises(FileNotFoundError, match="which is neither"):
        read_samples(table(tmp_path, [("train", "", "x")]), label="kind")


def test_relabel_merges_classes(folder):
    samples = read_samples(folder)
    merged = samples.relabel({"a_run": "move", "b_walk": "move"})
    assert merged.classes == ("move",)
    assert {k for _, k in merged.items["train"]} == {0}
    swapped = samples.relabel({"a_run": "z", "b_walk": "y"})
    assert swapped.classes == ("y", "z")
    assert all((path.parent.name == "a_run") == (k == 1) for path, k in swapped.items["test"])
    with pytest.raises(ValueError, match=r"says nothing of \['b_walk'\]"):
        samples.relabel({"a_run": "move"})
    with pytest.raises(TypeError, match="as strings"):
        samples.relabel({"a_run": 1, "b_walk": 2})


def test_boxes_belong_to_pictures_and_stay_when_those_are_sorted_anew(folder):
    samples = read_samples(folder)
    first, second = samples.items["train"][0][0], samples.items["test"][0][0]
    box = [1.0, 1, 9, 9]
    boxes = {first: torch.tensor([box, box]), second: torch.zeros(0, 4), folder / "other.jpg": torch.ones(1, 4)}
    known = samples.with_boxes(boxes)
    assert samples.boxes == {}
    assert (known.items, known.classes) == (samples.items, samples.classes)
    assert set(known.boxes) == {first, second}
    assert known.boxes[first].tolist() == [box, box]
    for changed in (known.hold_out(0.2), known.relabel({"a_run": "move", "b_walk": "move"})):
        assert changed.boxes is known.boxes


def test_boxes_of_other_pictures_or_shapes_are_refused(folder):
    samples = read_samples(folder)
    path = samples.items["train"][0][0]
    with pytest.raises(ValueError, match=r"named like .*data/train/a_run/0\.jpg, boxes like .*other\.jpg; read both"):
        samples.with_boxes({folder / "other.jpg": torch.ones(1, 4)})
    with pytest.raises(ValueError, match="boxes like none"):
        samples.with_boxes({})
    for shape in ((4,), (1, 5)):
        with pytest.raises(ValueError, match=r"\(n, 4\), xyxy; .*0\.jpg has "):
            samples.with_boxes({path: torch.ones(shape)})
    for box in ((1.0, 1, 1, 5), (1.0, 1, 5, float("nan"))):
        with pytest.raises(ValueError, match=r"0\.jpg has no area or is not finite"):
            samples.with_boxes({path: torch.tensor([box])})


def test_the_papers_label_lists():
    assert (len(PPMI_24), len(set(PPMI_24_TO_12.values())), len(DAR_4)) == (24, 12, 4)
    assert set(PPMI_24_TO_12) == set(PPMI_24)
    assert PPMI_24_TO_12["play_french_horn"] == PPMI_24_TO_12["with_french_horn"] == "french_horn"


def test_images_are_transformed_and_counted(folder):
    dataset = ActionImages(read_samples(folder).items["test"], lambda image: image.size)
    assert dataset[5] == ((40, 30), 1)
    assert dataset.class_counts() == {0: 4, 1: 4}


def test_transforms_are_told_of_people(folder):
    items = read_samples(folder).items["test"][:2]
    boxes = {items[0][0]: torch.ones(1, 4)}
    dataset = ActionImages(items, lambda image, boxes: (image.size, boxes), boxes)
    assert dataset[0] == (((40, 30), boxes[items[0][0]]), 0)
    assert dataset[1] == (((40, 30), None), 0)
    assert ActionImages(items, boxes=boxes)[0][0].size == (40, 30)


def test_unreadable_pictures_are_named(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(RuntimeError, match=r"broken\.jpg cannot be read"):
        load_image(broken)
    whole = picture(tmp_path / "whole.jpg", (300, 300)).read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError, match=r"broken\.jpg cannot be read"):
        ActionImages([(broken, 0)])[0]
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        load_image(tmp_path / "absent.jpg")


def test_sixteen_bit_and_palette_pictures_keep_their_values(tmp_path):
    ramp = np.linspace(0, 65535, 32, dtype=np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    found = np.asarray(load_image(tmp_path / "deep.png"))[..., 0]
    assert np.abs(found - ramp / 257).max() <= 0.5
    Image.new("F", (4, 4), 0.5).save(tmp_path / "float.tiff")
    with pytest.raises(RuntimeError, match="floating-point"):
        load_image(tmp_path / "float.tiff")
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.save(tmp_path / "palette.png", transparency=b"\xff\x80")
    assert load_image(tmp_path / "palette.png").getpixel((0, 0)) == (10, 200, 30)


def test_pictures_are_turned_upright_and_made_rgb(tmp_path):
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(tmp_path / "turned.jpg").size == (20, 40)
    Image.new("LA", (5, 6)).save(tmp_path / "grey.png")
    assert load_image(tmp_path / "grey.png").mode == "RGB"
