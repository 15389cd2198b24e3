import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from actionzoo.data import (
    FolderPeople,
    PersonImages,
    TopDown,
    mix,
    read_coco_keypoints,
    read_keypoints,
    read_mpii,
)
from actionzoo.data.keypoints import MPII_FROM_COCO
from actionzoo.data.top_down import crop_matrix
from actionzoo.layers import COCO_JOINTS, MPII_JOINTS

POSE = Path(__file__).resolve().parents[3] / "shared" / "data" / "pose"
needs_data = pytest.mark.skipif(not POSE.is_dir(), reason="needs ../shared/data/pose beside the repository")


def write(tmp_path, data):
    (tmp_path / "images").mkdir(exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (64, 48), (120, 40, 40)).save(tmp_path / "images" / name)
    path = tmp_path / "annotations.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path, tmp_path / "images"


def coco_person(i=1, image_id=10, flags=(2,) * 17, **changes):
    keypoints = [value for k, flag in enumerate(flags) for value in ((k + 1, 2 * k + 1, flag) if flag else (0, 0, 0))]
    shown = sum(flag > 0 for flag in flags)
    person = {"id": i, "image_id": image_id, "bbox": [3.5, 4.0, 20.0, 30.5], "iscrowd": 0}
    return {**person, "num_keypoints": shown, "keypoints": keypoints, **changes}


def coco(*people):
    images = [{"id": 10, "file_name": "a.jpg"}, {"id": 11, "file_name": "b.jpg"}]
    return {"images": images, "annotations": list(people)}


def mpii_person(image="a.jpg", **changes):
    joints = [[float(k + 1), float(2 * k + 1)] for k in range(16)]
    joints[8], joints[9] = [40.0, 50.0], [10.0, 10.0]
    person = {"image": image, "center": [30.0, 20.0], "scale": 0.2, "joints": joints, "joints_vis": [1] * 16}
    return {**person, **changes}


class TestCoco:
    def test_values(self, tmp_path):
        flags = (2, 0, 1) + (2,) * 14
        people = read_coco_keypoints(*write(tmp_path, coco(coco_person(7, flags=flags), coco_person(5, 11))))
        assert (len(people), list(people.ids), [path.name for path in people.paths]) == (2, [7, 5], ["a.jpg", "b.jpg"])
        example = people[0]
        assert example.image.size == (64, 48)
        assert_close(example.box, torch.tensor([3.5, 4.0, 23.5, 34.5]))
        assert_close(example.joints[:4], torch.tensor([[1.0, 1, 2], [0, 0, 0], [3, 5, 1], [4, 7, 2]]))
        assert example.label == -1
        assert isinstance(example.label, int)
        assert math.isnan(example.head_size)

    def test_crowds_and_people_without_a_joint_are_left_out(self, tmp_path):
        crowd, empty = coco_person(2, iscrowd=1), coco_person(3, flags=(0,) * 17)
        people = read_coco_keypoints(*write(tmp_path, coco(crowd, coco_person(1), empty)))
        assert list(people.ids) == [1]

    def test_mpii_joints_made_of_cocos(self, tmp_path):
        flags = [2] * 17
        flags[11], flags[6], flags[9] = 1, 0, 0
        joints = read_coco_keypoints(*write(tmp_path, coco(coco_person(flags=flags))), layout="mpii")[0].joints
        assert joints.shape == (16, 3)
        # COCO's joint k is at (k + 1, 2 k + 1)
        assert_close(joints[0], torch.tensor([17.0, 33.0, 2.0]), msg="right ankle")
        assert_close(joints[6], torch.tensor([12.5, 24.0, 1.0]), msg="pelvis between a hidden and a visible hip")
        assert_close(joints[10], torch.tensor([11.0, 21.0, 2.0]), msg="right wrist")
        # thorax and right shoulder need joint 6, the left wrist is joint 9
        assert [k for k in range(16) if joints[k].eq(0).all()] == [7, 8, 9, 12, 15]

    def test_joints_of_one_name_are_one_joint(self):
        named = {MPII_JOINTS[k]: parts for k, parts in enumerate(MPII_FROM_COCO) if MPII_JOINTS[k] in COCO_JOINTS}
        assert {name: [COCO_JOINTS[k] for k in parts] for name, parts in named.items()} == {n: [n] for n in named}
        assert len(named) == 12
        mixed = {MPII_JOINTS[k]: parts for k, parts in enumerate(MPII_FROM_COCO) if MPII_JOINTS[k] not in named}
        assert mixed == {"pelvis": (11, 12), "thorax": (5, 6), "upper_neck": (), "head_top": ()}

    def test_other_joints_need_to_be_asked_for(self, tmp_path):
        files = write(tmp_path, coco(coco_person(flags=(2,) * 18)))
        assert read_coco_keypoints(*files, layout=None).joints.shape == (1, 18, 3)
        with pytest.raises(ValueError, match=r"annotation 1 of .* has 18 joints, expected 17; give layout=None"):
            read_coco_keypoints(*files)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ("{", "cannot be read as JSON"),
            ("[]", "not a COCO keypoint file"),
            ({"images": []}, "not a COCO keypoint file.*'annotations'"),
            (coco({"id": 1, "image_id": 10, "bbox": [0, 0, 5, 5]}), "not a COCO keypoint file.*'keypoints'"),
            (coco(coco_person(image_id=99)), "not a COCO keypoint file.*99"),
            (coco(coco_person(bbox=[0, 0, 5])), "not a COCO keypoint file"),
            (coco(coco_person(bbox=[3, 3, 0, 5])), r"box of annotation 1 \(a\.jpg\) has no area"),
            (coco(coco_person(flags=(0,) * 17)), "nobody with an annotated joint"),
        ],
        ids=["broken", "a-list", "no-people", "no-keypoints", "no-image", "short-box", "no-area", "nobody"],
    )
    def test_bad_files(self, tmp_path, data, message):
        with pytest.raises(ValueError, match=message):
            read_coco_keypoints(*write(tmp_path, data))

    def test_things_that_are_not_there(self, tmp_path):
        path, images = write(tmp_path, coco(coco_person()))
        with pytest.raises(FileNotFoundError, match=r"no such annotation file: .*none\.json"):
            read_coco_keypoints(tmp_path / "none.json", images)
        with pytest.raises(FileNotFoundError, match="no such folder of pictures"):
            read_coco_keypoints(path, tmp_path / "nowhere")
        (images / "a.jpg").unlink()
        with pytest.raises(FileNotFoundError, match=r"lacks 1 annotated pictures, such as a\.jpg"):
            read_coco_keypoints(path, images)
        with pytest.raises(ValueError, match="layout is"):
            read_coco_keypoints(path, images, layout="lsp")


class TestMpii:
    def test_values(self, tmp_path):
        visible = [1] * 16
        visible[3] = 0
        people = read_mpii(*write(tmp_path, [mpii_person(joints_vis=visible), mpii_person("b.jpg")]))
        assert (len(people), list(people.ids), people.paths[1].name) == (2, [0, 1], "b.jpg")
        example = people[0]
        assert_close(example.joints[:4], torch.tensor([[0.0, 0, 2], [1, 2, 2], [2, 4, 2], [0, 0, 0]]))
        # centre (29, 19) counted from 0, moved down by 3, half a pixel more from the corner; 40 pixels wide
        assert_close(example.box, torch.tensor([9.5, 2.5, 49.5, 42.5]))
        assert example.label == -1
        # the head segment is 50 pixels long
        assert example.head_size == pytest.approx(37.5)

    def test_the_crop_is_hrnets(self, tmp_path):
        people = read_mpii(*write(tmp_path, [mpii_person(center=[33.0, 21.0], scale=0.3)]))
        matrix = crop_matrix(people.boxes[0], 256)
        # HRNet: centre + 15 scale down - 1, window 1.25 * 200 * scale, to the point (128, 128)
        zoom, center = 256 / (1.25 * 200 * 0.3), torch.tensor([32.0, 20.0 + 15 * 0.3])
        assert_close(matrix[:, :2], zoom * torch.eye(2, dtype=torch.float64), atol=1e-5, rtol=0)
        # half a pixel less: the middle of 256 pixels is 127.5, counted from the first one's centre
        assert_close(matrix[:, 2].float(), 128 - zoom * center - 0.5, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("joint", [8, 9])
    def test_no_head_no_head_size(self, tmp_path, joint):
        visible = [int(k != joint) for k in range(16)]
        assert math.isnan(read_mpii(*write(tmp_path, [mpii_person(joints_vis=visible)]))[0].head_size)

    def test_a_test_set_has_no_joints(self, tmp_path):
        record = mpii_person()
        del record["joints"], record["joints_vis"]
        example = read_mpii(*write(tmp_path, [record]))[0]
        assert_close(example.joints, torch.full((16, 3), -1.0))
        assert math.isnan(example.head_size)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ("{", "cannot be read as JSON"),
            ([], "not HRNet's form of MPII"),
            (coco(coco_person()), "not HRNet's form of MPII"),
            ([{"image": "a.jpg"}], "not HRNet's form of MPII.*'center'"),
            ([mpii_person(), mpii_person(joints=[[0, 0]] * 17)], r"record 1 \(a\.jpg\) has joints \(17, 2\)"),
            ([mpii_person(joints_vis=[1] * 15)], r"joints_vis \(15,\)"),
            ([mpii_person(joints=[[0, 0], [1]] * 8)], "not HRNet's form of MPII"),
            ([mpii_person(center=[1.0])], "not HRNet's form of MPII"),
            ([mpii_person(scale=0.0)], r"box of annotation 0 \(a\.jpg\) has no area"),
        ],
        ids=["broken", "empty", "coco", "no-center", "17-joints", "15-flags", "ragged", "no-point", "no-area"],
    )
    def test_bad_files(self, tmp_path, data, message):
        with pytest.raises(ValueError, match=message):
            read_mpii(*write(tmp_path, data))

    def test_a_picture_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"such as c\.jpg"):
            read_mpii(*write(tmp_path, [mpii_person("c.jpg")]))


class TestKeypointPeople:
    def test_pixels_are_the_stored_ones(self, tmp_path):
        path, images = write(tmp_path, coco(coco_person()))
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (64, 48)).save(images / "a.jpg", exif=exif)
        assert read_coco_keypoints(path, images)[0].image.size == (64, 48)

    def test_a_damaged_picture_is_named(self, tmp_path):
        path, images = write(tmp_path, coco(coco_person()))
        (images / "a.jpg").write_bytes(b"no picture")
        with pytest.raises(RuntimeError, match=r"a\.jpg cannot be read as a picture"):
            read_coco_keypoints(path, images)[0]

    def test_labels_of_a_multi_label_set(self, tmp_path):
        people = read_coco_keypoints(*write(tmp_path, coco(coco_person(), coco_person(2))))
        people = replace(people, labels=torch.tensor([[0.0, 1.0, -1.0], [1.0, 0.0, 0.0]]))
        assert_close(people[0].label, torch.tensor([0.0, 1.0, -1.0]))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"labels": torch.zeros(3)}, "every person needs one of each; 1 paths, .*'labels': 3"),
            ({"labels": torch.zeros(1, 2, 2)}, r"labels have shape"),
            ({"joints": torch.zeros(1, 17, 2)}, r"joints have shape \(N, J, 3\)"),
            ({"boxes": torch.zeros(1, 4)}, r"annotation 1 \(a\.jpg\) has no area"),
        ],
        ids=["count", "labels", "joints", "boxes"],
    )
    def test_tables_that_do_not_agree(self, tmp_path, changes, message):
        people = read_coco_keypoints(*write(tmp_path, coco(coco_person())))
        with pytest.raises(ValueError, match=message):
            replace(people, **changes)

    def test_coco_mpii_and_action_pictures_mix(self, tmp_path):
        for name in ("coco", "mpii"):
            (tmp_path / name).mkdir()
        first = read_coco_keypoints(*write(tmp_path / "coco", coco(coco_person())), layout="mpii")
        second = read_mpii(*write(tmp_path / "mpii", [mpii_person()]))
        actions = FolderPeople([(second.paths[0], 3)])
        joined = mix([PersonImages(people, TopDown(32, 8)) for people in (first, second, actions)])
        assert [item.label for item in joined] == [-1, -1, 3]


@pytest.mark.data
@needs_data
class TestRealFiles:
    """Facts about the files that HRNet's code and MPII's, COCO's and the motion capture's authors made."""

    def test_mpii(self):
        people = read_mpii(POSE / "mpii" / "test_mpii.json", POSE / "mpii")
        assert people.joints.shape == (5, 16, 3)
        for example in (people[i] for i in range(5)):
            known = example.joints[:, 2] > 0
            out = TopDown(256, 64)(example)
            assert torch.equal(out.joints[:, 2] > 0, known), "a joint fell outside HRNet's crop"
            # the feet are at the bottom and the head on top, in pictures of people who stand
            assert out.joints[known, 1].max() > out.joints[9, 1]

    def test_mpii_head_sizes_are_those_of_rectangles_of_whole_pixels(self):
        people = read_mpii(POSE / "mpii" / "test_mpii.json", POSE / "mpii")
        squared = (people.head_sizes.double() / 0.6) ** 2
        assert squared.shape == (5,)
        assert_close(squared, squared.round(), atol=0.05, rtol=0)
        # whole numbers that are a sum of two squares, as the diagonal's is; one in four of this size is
        for value in squared.round().long().tolist():
            assert any(
                math.isqrt(value - side * side) ** 2 == value - side * side for side in range(1, math.isqrt(value))
            )

    @pytest.mark.parametrize(("layout", "joints"), [("coco", 17), ("mpii", 16)])
    def test_coco(self, layout, joints):
        people = read_coco_keypoints(POSE / "coco" / "test_coco.json", POSE / "coco", layout=layout)
        assert people.joints.shape == (12, joints, 3), "two of the 14 people have no annotated joint"
        for example in (people[i] for i in range(12)):
            x, y = example.joints[example.joints[:, 2] > 0, :2].T
            assert (x >= 0).all()
            assert (x < example.image.width).all()
            assert (y < example.image.height).all()

    def test_motion_capture(self):
        people = read_coco_keypoints(POSE / "mocap" / "annotations.json", POSE / "mocap" / "images", layout=None)
        assert people.joints.shape == (144, 18, 3)
        assert TopDown(64, 16)(people[0]).joints[:, 2].min() >= 1


class TestEitherKind:
    def test_a_list_is_mpiis(self, tmp_path):
        files = write(tmp_path, [mpii_person(), mpii_person("b.jpg")])
        found, expected = read_keypoints(*files), read_mpii(*files)
        assert_close(found.joints, expected.joints)
        assert_close(found.boxes, expected.boxes)
        assert found.paths == expected.paths

    @pytest.mark.parametrize("layout", ["mpii", "coco"])
    def test_an_object_is_cocos(self, tmp_path, layout):
        files = write(tmp_path, "\n \t" + json.dumps(coco(coco_person())))
        found, expected = read_keypoints(*files, layout=layout), read_coco_keypoints(*files, layout=layout)
        assert_close(found.joints, expected.joints)
        assert_close(found.boxes, expected.boxes)

    @pytest.mark.parametrize(
        ("data", "layout", "message"),
        [
            ("", "mpii", "neither a list of people, as MPII's file is, nor an object"),
            ("3", "mpii", "neither a list"),
            ("[", "mpii", "cannot be read as JSON"),
            ("{", "coco", "cannot be read as JSON"),
            ([mpii_person()], "coco", "holds MPII's joints"),
            ([mpii_person()], "lsp", "layout is 'mpii' or 'coco', got 'lsp'"),
        ],
        ids=["empty", "number", "broken-list", "broken-object", "mpii-as-coco", "layout"],
    )
    def test_bad_files(self, tmp_path, data, layout, message):
        with pytest.raises(ValueError, match=message):
            read_keypoints(*write(tmp_path, data), layout=layout)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no such annotation file: .*none\.json"):
            read_keypoints(tmp_path / "none.json", tmp_path)
        with pytest.raises(ValueError, match="cannot be read as JSON"):
            read_keypoints(tmp_path, tmp_path)
