"""People, joints and parts of a frame, against the reference that goes pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.testing import assert_close

import actionzoo
from actionzoo.data.figures import PARTS, ActingFigures
from actionzoo.data.part_crops import crop_bounds
from actionzoo.data.top_down import crop_matrix, crop_person
from actionzoo.layers import BoxGrower, PoseDotEncoder
from actionzoo.layers.pose_dots import COCO_JOINT_PARTS, MPII_JOINT_PARTS, POSE_DOT_COLORS
from actionzoo.models import PartPeople, pose_keypoints
from actionzoo.models.part_people import JOINT_PARTS, dotted_crop, find_part_people
from tests.parsing import Finds, Joints, found, smooth
from tests.reference import part_parsing as reference

COLORS = {
    layout: [None if part is None else [v / 255 for v in POSE_DOT_COLORS[part]] for part in parts]
    for layout, parts in JOINT_PARTS.items()
}
BOXES = {
    "inside": (10.0, 8.0, 40.0, 45.5),
    "beyond-the-frame": (-20.0, -10.0, 90.0, 70.0),
    "corner": (55.25, 40.5, 64.0, 48.0),
    "one-pixel": (20.0, 20.0, 21.0, 21.0),
    "no-area": (64.0, 48.0, 64.0, 48.0),
    "upright": (30.0, 2.0, 33.0, 47.0),
    "flat": (2.0, 30.0, 62.0, 31.5),
}


def people_of(frame, script, parts=None, pose=None, device="cpu", **settings):
    """The people that scripted detectors lead to, and the detector of parts."""
    parts = found() if parts is None else parts
    pose = pose or Joints()
    dots = PoseDotEncoder(JOINT_PARTS.get(pose.pretrained_cfg["joints"], COCO_JOINT_PARTS))
    detector = Finds(parts if callable(parts) else lambda image: parts)
    options = {
        "pose": pose.to(device),
        "grower": BoxGrower(),
        "dots": dots.to(device),
        "part_detector": detector,
        "threshold": 0.05,
        "max_people": 10,
        **settings,
    }
    (people,) = find_part_people([frame.to(device)], [{k: v.to(device) for k, v in script.items()}], **options)
    return people, detector


class Still(torch.nn.Module):
    """A pose net that finds joints at given places of the frame, wherever it is asked to look."""

    def __init__(self, joints, layout="coco"):
        super().__init__()
        self.joints, self.boxes = torch.tensor(joints, dtype=torch.float), []
        self.pretrained_cfg = {"num_joints": len(joints), "joints": layout, "input_size": (3, 48, 36)}


@pytest.fixture
def placed(monkeypatch):
    """Lets the joints be those of a `Still` net, without looking."""

    def joints_of(pose, frames, boxes):
        pose.boxes += boxes
        return [pose.joints.expand(len(rows), -1, -1).to(frame) for frame, rows in zip(frames, boxes)]

    monkeypatch.setattr("actionzoo.models.part_people.keypoints_in_frames", joints_of)


class TestPoseKeypoints:
    @pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
    def test_equals_the_reference(self, box, device):
        frame, pose = smooth(48, 64), Joints()
        expected = reference.pose_keypoints(pose, frame, [box])
        crop = pose.seen.pop()
        found = pose_keypoints(pose.to(device), frame.to(device), torch.tensor([box], device=device))
        assert_close(pose.seen[0].cpu(), crop, rtol=0, atol=2e-4)
        assert found.device.type == device.type
        assert_close(found.cpu(), expected, rtol=0, atol=2e-3)

    def test_of_several_people(self):
        frame, pose = smooth(48, 64), Joints("mpii")
        boxes = torch.tensor(list(BOXES.values()))
        together = pose_keypoints(pose, frame, boxes)
        assert together.shape == (7, 16, 3)
        for box, joints in zip(boxes, together):
            assert_close(pose_keypoints(pose, frame, box[None])[0], joints)

    def test_of_nobody(self):
        assert pose_keypoints(Joints(), smooth(8, 8), torch.zeros(0, 4)).shape == (0, 17, 3)

    @pytest.mark.parametrize("box", [(20, 10, 80, 90), (5, 5, 17, 22), (0, 0, 128, 96)], ids=str)
    def test_the_crop_is_that_of_training(self, box):
        """Which Pillow cuts, of a picture in bytes, averaging blocks where the crop is smaller."""
        frame, pose = smooth(96, 128, seed=3), Joints(size=(48, 36))
        pose.pretrained_cfg |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        pose_keypoints(pose, frame, torch.tensor([box]).float())
        picture = Image.fromarray((frame * 255).round().byte().permute(1, 2, 0).numpy())
        matrix = crop_matrix(torch.tensor(box).float(), (48, 36))
        theirs = torch.from_numpy(np.array(crop_person(picture, matrix, (48, 36)))).permute(2, 0, 1) / 255
        inside = (theirs > 0).all(0) & (pose.seen[0][0] > 0).all(0)
        assert inside.float().mean() > 0.3
        # away from the frame's edge, which the one softens and the other does not
        inside = -torch.nn.functional.max_pool2d(-inside[None].float(), 3, 1, 1)[0] > 0
        assert_close(pose.seen[0][0][:, inside], theirs[:, inside], rtol=0, atol=0.04)
        assert (pose.seen[0][0] - theirs)[:, inside].abs().mean() < 0.008

    def test_joints_are_those_of_the_pipeline(self):
        """On figures, by a trained net: the same joints as `actionzoo.pipeline` finds in the same boxes."""
        pipe, figures = actionzoo.pipeline("pose_tiny"), ActingFigures("crowd", "test", 4, 128, frames=1)
        for i in range(4):
            picture, boxes, _ = figures.people(i)
            people = pipe(picture, boxes).people
            theirs = torch.tensor([person.keypoints for person in people])
            frame = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
            ours = pose_keypoints(pipe.model, frame, boxes)
            clear = (theirs[..., 2] > 0.4) & (ours[..., 2] > 0.4)
            assert clear.float().mean() > 0.4
            apart = (ours - theirs)[..., :2].norm(dim=-1)[clear]
            # a quarter of a cell of 4 pixels at a crop of 96 for one of half a picture
            assert apart.median() < 0.3
            assert (apart < 2).float().mean() > 0.97
            assert_close(ours[..., 2][clear], theirs[..., 2][clear], rtol=0, atol=0.1)


class TestWholePixels:
    @settings(max_examples=150, deadline=None)
    @given(
        st.tuples(*[st.one_of(st.integers(-5, 70).map(float), st.floats(-5, 70, width=32)) for _ in range(4)]),
        st.tuples(st.integers(1, 66), st.integers(1, 66)),
    )
    def test_equals_the_reference(self, box, size):
        found = crop_bounds(torch.tensor(box), size)
        assert found == reference.whole_pixels(box, size)
        x1, y1, x2, y2 = found
        assert 0 <= x1 < x2 <= size[1]
        assert 0 <= y1 < y2 <= size[0]

    @pytest.mark.parametrize(
        ("box", "pixels"),
        [
            ((2.0, 3.0, 8.0, 9.0), (2, 3, 8, 9)),
            ((2.01, 3.99, 7.99, 8.01), (2, 3, 8, 9)),
            ((-3.5, -0.1, 50.0, 20.5), (0, 0, 40, 20)),
            ((39.5, 19.5, 40.0, 20.0), (39, 19, 40, 20)),
            ((40.0, 20.0, 40.0, 20.0), (39, 19, 40, 20)),
            ((45.0, 30.0, 50.0, 40.0), (39, 19, 40, 20)),
            ((-9.0, -9.0, -3.0, -3.0), (0, 0, 1, 1)),
            ((5.0, 5.0, 5.0, 5.0), (5, 5, 6, 6)),
            ((0.0, 4.0, 40.0, 5.0), (0, 4, 40, 7)),
            ((0.0, 19.5, 40.0, 20.0), (0, 17, 40, 20)),
        ],
        ids=[
            "whole", "touched", "larger-than-the-frame", "last-pixel", "at-the-last-corner", "beyond", "before",
            "no-area", "strip", "strip-at-the-border",
        ],
    )  # fmt: skip
    def test_hand_worked_cases(self, box, pixels):
        assert crop_bounds(torch.tensor(box), (20, 40)) == pixels

    def test_a_frame_that_is_a_strip_itself(self):
        assert crop_bounds(torch.tensor([0.0, 0.0, 100.0, 2.0]), (2, 100)) == (0, 0, 100, 2)


class TestDottedCrop:
    @pytest.mark.parametrize("layout", JOINT_PARTS)
    @pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
    def test_is_cut_out_of_a_dotted_frame(self, box, layout, device):
        frame, parts = smooth(48, 64), JOINT_PARTS[layout]
        joints = torch.rand(len(parts), 3) * torch.tensor([70.0, 54.0, 1.0]) - torch.tensor([3.0, 3.0, 0.0])
        # the middle and the corners of pixels
        joints[:4, :2] = (2 * joints[:4, :2]).round() / 2
        expected, offset = reference.dotted_crop(frame, torch.tensor(box), joints, COLORS[layout])
        before = frame.clone()
        crop, found = dotted_crop(
            frame.to(device), torch.tensor(box), joints.to(device), PoseDotEncoder(parts).to(device)
        )
        assert found == offset
        assert_close(crop.cpu(), expected, rtol=0, atol=0)
        assert torch.equal(frame, before)

    def test_the_centre_of_the_first_pixel_is_zero(self):
        """A dot of radius 3 on joint (10, 12) paints what lies within 3 pixels of the centre of that pixel."""
        joints = torch.zeros(17, 3)
        joints[0] = torch.tensor([10.0, 12.0, 1.0])
        crop, (x, y) = dotted_crop(
            torch.zeros(3, 30, 30), torch.tensor([4.0, 5.0, 28.0, 27.0]), joints, PoseDotEncoder()
        )
        rows, columns = crop.sum(0).nonzero(as_tuple=True)
        assert (columns + x).float().mean() == 10
        assert (rows + y).float().mean() == 12
        assert sorted({(columns + x).min().item(), (columns + x).max().item()}) == [7, 13]

    def test_unsure_joints_leave_it_as_it_is(self):
        frame, joints = smooth(30, 30), torch.full((17, 3), 15.0)
        joints[:, 2] = 0.2999
        crop, _ = dotted_crop(frame, torch.tensor([3.0, 4.0, 20.0, 25.0]), joints, PoseDotEncoder())
        assert torch.equal(crop, frame[:, 4:25, 3:20])
        joints[5, 2] = 0.3
        assert not torch.equal(
            dotted_crop(frame, torch.tensor([3.0, 4.0, 20.0, 25.0]), joints, PoseDotEncoder())[0], crop
        )

    def test_without_dots(self):
        frame = smooth(30, 30)
        crop, offset = dotted_crop(frame, torch.tensor([3.5, 4.0, 20.0, 25.2]), torch.full((17, 3), 15.0), None)
        assert torch.equal(crop, frame[:, 4:26, 3:20])
        assert offset == (3, 4)

    def test_a_crop_smaller_than_a_dot(self):
        joints = torch.full((17, 3), 1.0)
        crop, offset = dotted_crop(smooth(9, 9), torch.tensor([0.0, 0.0, 2.0, 2.0]), joints, PoseDotEncoder())
        # the last joint, an ankle, lies on top
        right_foot = torch.tensor(POSE_DOT_COLORS["right_foot"]) / 255
        assert offset == (0, 0)
        assert_close(crop, right_foot[:, None, None].expand(3, 2, 2))


class TestFindPartPeople:
    script = found(
        [1, 0.6, 5, 4, 30, 44],
        [2, 0.9, 0, 0, 20, 20],
        [1, 0.9, 28, 10, 63.5, 47],
        [1, 0.05, 40, 2, 50, 9],
        [1, 0.049, 3, 3, 9, 9],
        [1, 0.6, 50, 30, 64, 48],
    )

    @staticmethod
    def some_parts(image):
        """Parts that depend on the crop; some twice, and not the surest first."""
        height, width = image.shape[1:]
        seed = int(1000 * float(image.mean()))
        rng = np.random.default_rng(seed)
        rows = []
        for label in rng.permutation(np.repeat(np.arange(1, 11), 2))[: int(rng.integers(4, 12))]:
            x, y = rng.uniform(0, (width - 1, height - 1))
            rows.append([label, rng.uniform(0.1, 1), x, y, *rng.uniform((x, y), (width, height))])
        return found(*rows)

    @pytest.mark.parametrize("layout", JOINT_PARTS)
    @pytest.mark.parametrize("threshold", [0.05, 0.6, 0.95])
    def test_equals_the_reference(self, layout, threshold, device):
        frame, pose = smooth(48, 64), Joints(layout)
        settings = {"threshold": threshold, "max_people": 3}
        expected = reference.find_people(
            frame, self.script, pose, JOINT_PARTS[layout], COLORS[layout], Finds(self.some_parts), **settings
        )
        people, detector = people_of(frame, self.script, self.some_parts, pose, device, **settings)
        assert isinstance(people, PartPeople)
        assert len(people.boxes) == {0.05: 3, 0.6: 3, 0.95: 0}[threshold]
        assert len(detector.seen) == len(people.boxes)
        for ours, theirs in zip(people.to("cpu"), expected):
            assert_close(ours, theirs, rtol=0, atol=4e-3)
        for crop, box, joints in zip(detector.seen, people.boxes, people.keypoints):
            dotted, _ = reference.dotted_crop(frame, box.cpu(), joints.cpu(), COLORS[layout])
            assert_close(crop.cpu(), dotted, rtol=0, atol=0)

    def test_the_surest_come_first_and_no_more_than_allowed(self):
        rows = [[1, score, 2, 3, 20, 30] for score in np.linspace(0.3, 0.9, 14)]
        people, _ = people_of(smooth(48, 64), found(*rows))
        assert_close(people.scores, torch.linspace(0.3, 0.9, 14).flip(0)[:10])
        people, _ = people_of(smooth(48, 64), found(*rows), max_people=4)
        assert len(people.boxes) == len(people.keypoints) == len(people.part_boxes) == 4

    @pytest.mark.parametrize("script", [found(), found([1, 0.01, 2, 3, 9, 9]), found([3, 0.9, 2, 3, 9, 9])])
    def test_nobody(self, script):
        people, detector = people_of(smooth(48, 64), script)
        shapes = [(0, 4), (0,), (0, 17, 3), (0, 10, 4), (0, 10)]
        assert [tuple(values.shape) for values in people] == shapes
        assert not detector.seen

    def test_nothing_learns(self):
        frame = smooth(48, 64).requires_grad_()
        people, _ = people_of(frame, self.script, self.some_parts)
        assert not any(values.requires_grad for values in people)

    def test_the_surest_of_every_class_whatever_the_order(self):
        parts = found([1, 0.2, 0, 0, 4, 4], [7, 0.5, 1, 1, 2, 2], [1, 0.8, 2, 3, 9, 9], [1, 0.3, 1, 0, 5, 5])
        people, _ = people_of(smooth(48, 64), found([1, 0.9, 10, 12, 40, 44]), parts)
        x, y = reference.whole_pixels(people.boxes[0].tolist(), (48, 64))[:2]
        assert_close(people.part_scores[0], torch.tensor([0.8, 0, 0, 0, 0, 0, 0.5, 0, 0, 0]))
        assert people.part_boxes[0, 0].tolist() == [x + 2, y + 3, x + 9, y + 9]
        assert people.part_boxes[0, 6].tolist() == [x + 1, y + 1, x + 2, y + 2]

    @pytest.mark.parametrize("label", [0, 11])
    def test_a_label_that_is_no_part(self, label):
        with pytest.raises(ValueError, match=f"labels of the part detector are 1 to 10.*got {label}"):
            people_of(smooth(48, 64), self.script, found([label, 0.9, 0, 0, 2, 2]))

    def test_joints_make_the_box_grow_to_hold_them(self, placed):
        joints = [[20.0, 20.0, 0.1]] * 17
        joints[9] = [45.0, 25.0, 0.9]  # a wrist
        joints[10] = [50.0, 25.0, 0.29]  # the other, unsure
        people, detector = people_of(smooth(48, 64), found([1, 0.9, 10, 10, 40, 40]), pose=Still(joints))
        # the centre of pixel 45 lies 45.5 pixels from the edge
        assert people.boxes.tolist() == [[10, 10, 45.5, 40]]
        assert detector.seen[0].shape == (3, 30, 36)
        assert people.keypoints[0].tolist() == torch.tensor(joints).tolist()

    def test_unsure_joints_change_nothing(self, placed):
        frame = smooth(48, 64)
        pose = Still([[5.0 * j, 3.0 * j, 0.29] for j in range(17)])
        people, detector = people_of(frame, found([1, 0.9, 10, 10, 40, 40]), pose=pose)
        assert people.boxes.tolist() == [[10, 10, 40, 40]]
        assert torch.equal(detector.seen[0], frame[:, 10:40, 10:40])

    def test_a_joint_outside_the_frame(self, placed):
        joints = [[20.0, 20.0, 0.9]] * 17
        joints[15] = joints[16] = [30.0, 400.0, 0.9]
        people, _ = people_of(smooth(48, 64), found([1, 0.9, 10, 10, 40, 40]), pose=Still(joints))
        # grown by half its height at most, and no further than the frame
        assert people.boxes.tolist() == [[10, 10, 40, 48]]
        feet = [PARTS.index("left_foot"), PARTS.index("right_foot")]
        assert not people.part_boxes[0, feet].any()
        assert people.part_boxes[0].any(-1).sum() == 8
        assert (people.part_scores == 0).all()

    def test_a_missing_part_gets_a_box_round_its_joints(self, placed):
        joints = [[0.0, 0.0, 0.0]] * 17
        joints[6], joints[8] = [30.0, 12.0, 0.8], [36.0, 22.0, 0.5]  # shoulder and elbow on the right
        joints[5], joints[7] = [14.0, 12.0, 0.8], [2.0, 40.0, 0.2]  # on the left only the shoulder is sure
        joints[13], joints[14] = [18.0, 44.0, 0.1], [26.0, 44.0, 0.1]  # unsure knees are better than nothing
        people, _ = people_of(smooth(48, 64), found([1, 0.9, 10, 8, 40, 44]), pose=Still(joints))
        assert people.boxes.tolist() == [[10, 8, 40, 44]]
        reach = math.sqrt(30 * 36) / 12
        box = dict(zip(PARTS, people.part_boxes[0]))
        assert_close(box["right_arm"], torch.tensor([30.5 - reach, 12.5 - reach, 36.5 + reach, 22.5 + reach]))
        assert_close(box["left_arm"], torch.tensor([14.5 - reach, 12.5 - reach, 14.5 + reach, 12.5 + reach]))
        assert_close(box["left_leg"], torch.tensor([18.5 - reach, 44.5 - reach, 18.5 + reach, 44.5 + reach]))

    def test_joints_in_an_order_of_their_own_tell_of_no_part(self):
        people, _ = people_of(
            smooth(48, 64), found([1, 0.9, 10, 8, 40, 44]), found([3, 0.6, 1, 1, 5, 5]), Joints("five"), dots=None
        )  # fmt: skip
        assert people.keypoints.shape == (1, 5, 3)
        assert people.part_boxes.any(-1).tolist() == [[k == 2 for k in range(10)]]

    def test_a_person_at_the_corner_of_a_tiny_frame(self):
        people, detector = people_of(smooth(3, 4), found([1, 0.9, 3.5, 2.5, 4, 3]), found([1, 0.5, 0, 0, 1, 1]))
        assert all(values.isfinite().all() for values in people)
        assert len(detector.seen) == 1
        assert_close(people.part_boxes[0, 0, 2:].clamp(max=4), people.part_boxes[0, 0, 2:])

    def test_the_grower_may_look_again(self):
        """With a second turn the joints are those that are found in the grown box."""
        frame, pose = smooth(48, 64), Joints()
        script = found([1, 0.9, 20, 15, 34, 30])
        once, _ = people_of(frame, script, pose=pose)
        twice, _ = people_of(frame, script, pose=pose, grower=BoxGrower(max_iters=2))
        assert not torch.equal(once.boxes[0], script["boxes"][0])
        assert_close(twice.keypoints, pose_keypoints(pose, frame, once.boxes))
        assert not torch.equal(once.keypoints, twice.keypoints)


def test_the_parts_of_joints_are_those_of_the_dots():
    assert JOINT_PARTS == {"coco": COCO_JOINT_PARTS, "mpii": MPII_JOINT_PARTS}
    # so that every part can be guessed from joints
    assert all(set(PARTS) == set(parts) - {None} for parts in JOINT_PARTS.values())
