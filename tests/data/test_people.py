import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from actionzoo.data import FolderPeople
from actionzoo.data.people import check_box


@pytest.fixture
def items(tmp_path):
    paths = [tmp_path / "run.png", tmp_path / "walk.png"]
    for path, size in zip(paths, ((40, 30), (20, 50))):
        Image.new("RGB", size, (200, 30, 30)).save(path)
    return list(zip(paths, (3, 1)))


def test_a_picture_counts_whole_and_nobody_knows_the_pose(items):
    people = FolderPeople(items)
    assert len(people) == 2
    example = people[0]
    assert (example.image.size, example.image.mode, example.label) == ((40, 30), "RGB", 3)
    assert_close(example.box, torch.tensor([0.0, 0.0, 40.0, 30.0]))
    assert_close(example.joints, torch.full((16, 3), -1.0))
    assert math.isnan(example.head_size)
    assert FolderPeople(items, num_joints=17)[1].joints.shape == (17, 3)


@pytest.mark.parametrize("kind", [Path, str])
def test_boxes_go_by_the_path_and_a_picture_without_one_counts_whole(items, kind):
    people = FolderPeople(items, boxes={kind(items[1][0]): torch.tensor([2, 5, 12, 40])})
    assert_close(people[1].box, torch.tensor([2.0, 5.0, 12.0, 40.0]))
    assert_close(people[0].box, torch.tensor([0.0, 0.0, 40.0, 30.0]))


def test_boxes_under_other_names_are_no_boxes(items):
    with pytest.raises(ValueError, match=r"no picture has a box: .*run\.png.*'run'"):
        FolderPeople(items, boxes={"run": torch.tensor([0, 0, 5, 5])})


def test_a_bad_box_names_its_picture(items):
    with pytest.raises(ValueError, match=r"box of .*walk\.png has no area"):
        FolderPeople(items, boxes={items[1][0]: torch.tensor([4, 0, 4, 5])})


def test_no_joints_and_no_picture(items, tmp_path):
    with pytest.raises(ValueError, match="num_joints=0"):
        FolderPeople(items, num_joints=0)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(RuntimeError, match=r"broken\.png"):
        FolderPeople([(tmp_path / "broken.png", 0)])[0]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([0.0, 0.0, 5.0], r"shape \(4,\).*\(3,\)"),
        ([[0.0, 0.0, 5.0, 5.0]], r"shape \(4,\).*\(1, 4\)"),
        ([5.0, 0.0, 0.0, 5.0], "no area"),
        ([0.0, 5.0, 5.0, 5.0], "no area"),
        ([0.0, 0.0, math.nan, 5.0], "no area"),
        ([-math.inf, 0.0, 5.0, 5.0], "no area"),
    ],
)
def test_what_is_no_box(box, message):
    check_box(torch.tensor([-3.0, 0.0, 5.0, 0.5]), "me")
    with pytest.raises(ValueError, match=f"{message}.*") as caught:
        check_box(torch.tensor(box), "me")
    assert "of me" in str(caught.value)
