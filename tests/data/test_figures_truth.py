"""What acting figures claim is true, against their pixels."""

import numpy as np
import pytest
import torch

from actionzoo.data._figures import drawing
from actionzoo.data._figures.body import INDEX, standing
from actionzoo.data._figures.scenes import TASKS, make_scene
from actionzoo.data._figures.strokes import random_look
from actionzoo.data._figures.truth import coco_keypoints, mpii_joints
from actionzoo.data.figures import PARTS
from actionzoo.layers.heatmaps import COCO_JOINTS, MPII_JOINTS

from .figure_scenes import BLACK, actor, arms_out, figures, flags, look
from .figure_scenes import studio as studio


def people(count):
    """People in all kinds of pose."""
    for i in range(count):
        yield make_scene("pose", i % 10, np.random.default_rng(i), 1).actors[0]


def hue(pixel, colour):
    """Cosine between a pixel and a colour: limbs are shaded and their outlines darker. Dark pixels count as none."""
    return pixel @ colour / (max(np.linalg.norm(pixel), 60) * np.linalg.norm(colour))


class TestTruthAgainstPixels:
    def test_the_box_is_that_of_the_pixels(self, studio):
        for person in people(10):
            drawn, pixels = studio(person, size=160, roll=0.05)
            rows, columns = np.nonzero((pixels != 128).any(-1))
            seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            np.testing.assert_allclose(drawn.boxes[0, 0], seen, atol=1.5)

    def test_a_visible_joint_shows_its_limb(self, studio):
        colours = look()
        shown_by = {
            "wrist": [colours.skin],
            "elbow": [colours.shirt, colours.skin],
            "knee": [colours.trousers],
            "ankle": [colours.trousers, colours.shoes],
        }
        close = []
        for person in people(60):
            drawn, pixels = studio(person)
            for joint, allowed in shown_by.items():
                for side in ("right", "left"):
                    if flags(drawn)[f"{side}_{joint}"] == 2:
                        x, y = np.floor(drawn.points[0, 0, INDEX[f"{side}_{joint}"]]).astype(int)
                        close.append(max(hue(pixels[y, x], colour) for colour in allowed) > 0.97)
        assert len(close) > 300
        # on the edge of a limb a pixel mixes with what is beside it
        assert np.mean(close) > 0.97

    def test_a_joint_is_hidden_where_somebody_else_covers_it(self, studio):
        covered, open_ = [], []
        for person in people(60):
            passer = actor(x=person.x[0] + 0.06)
            alone, before = studio(person)
            drawn, after = studio(person, passer, looks=[look(), BLACK])
            for joint, flag in flags(alone).items():
                x, y = np.floor(alone.points[0, 0, INDEX[joint]]).astype(int)
                if flag == 2 and joint != "head_top":
                    changed = (before[y, x] != after[y, x]).any()
                    (covered if flags(drawn)[joint] == 1 else open_).append(changed)
        assert min(len(covered), len(open_)) > 400
        # but for joints on the edge of the one in front
        assert np.mean(covered) > 0.96
        assert np.mean(open_) < 0.04

    def test_everything_is_seen_of_somebody_who_faces_the_camera(self, studio):
        drawn, _ = studio(actor(arms_out()))
        assert set(flags(drawn).values()) == {2}

    def test_somebody_who_turns_away_hides_the_face(self, studio):
        pose = arms_out()
        pose.yaw += np.pi
        drawn, _ = studio(actor(pose))
        hidden = {name for name, flag in flags(drawn).items() if flag == 1}
        assert {"nose", "left_eye", "right_eye"} <= hidden
        assert not hidden & {"head_top", "left_wrist", "right_wrist", "left_knee", "right_ankle"}

    def test_in_profile_one_eye_and_one_ear_are_hidden(self, studio):
        pose = arms_out()
        pose.yaw += 0.7
        state = flags(studio(actor(pose))[0])
        assert (state["right_eye"], state["left_eye"]) == (2, 2)
        pose.yaw[:] = np.pi / 2
        state = flags(studio(actor(pose))[0])
        assert (state["right_ear"], state["left_ear"]) == (2, 1)
        assert (state["right_eye"], state["left_eye"]) == (2, 1)

    def test_an_eye_is_visible_where_it_is_painted(self, studio):
        # never in profile, where one eye lies upon the other
        for yaw in (-2.8, -2.2, -1.9, -1.3, -0.9, -0.3, 0.0, 0.6, 1.2, 2.0, 2.5):
            pose = arms_out()
            pose.yaw += yaw
            drawn, pixels = studio(actor(pose), size=256)
            for name in ("left_eye", "right_eye"):
                x, y = np.floor(drawn.points[0, 0, INDEX[name]]).astype(int)
                painted = (pixels[y, x] == (25, 30, 35)).all()
                assert painted == (flags(drawn)[name] == 2)

    def test_a_table_hides_the_legs(self, studio, monkeypatch):
        corners = np.array([(-0.1, 0.6), (1.1, 0.6), (1.1, 1.1), (-0.1, 1.1)]) * 128
        table = drawing.Stroke(9.0, corners, (1, 2, 3), 0, True)
        monkeypatch.setattr(drawing, "_table", lambda rng, size: table)
        free, behind = studio(actor(arms_out()))[0], studio(actor(arms_out()), table=True)[0]
        changed = {name for name in flags(free) if flags(free)[name] != flags(behind)[name]}
        assert changed == {f"{side}_{name}" for side in ("left", "right") for name in ("knee", "ankle")}
        assert all(flags(behind)[name] == 1 for name in changed)
        # what is hidden is still annotated
        np.testing.assert_array_equal(free.boxes, behind.boxes)
        np.testing.assert_array_equal(free.points, behind.points)

    def test_a_table_moves_with_everything_else(self, studio, monkeypatch):
        corners = np.array([(0.3, 0.7), (0.8, 0.7), (0.8, 1.1), (0.3, 1.1)]) * 128
        monkeypatch.setattr(drawing, "_table", lambda rng, size: drawing.Stroke(9.0, corners, (1, 2, 3), 0, True))
        still, pixels = studio(actor(arms_out()), table=True)
        panned, moved = studio(actor(arms_out()), table=True, pan=np.array([[10, -6]]) / 128)
        np.testing.assert_array_equal(moved[:-6, 10:], pixels[6:, :-10])
        assert ((pixels == (1, 2, 3)).all(-1)).sum() > 1000
        assert flags(panned) == flags(still)
        assert flags(still)["left_knee"] == 1

    def test_who_stands_in_front_hides_who_stands_behind(self, studio):
        drawn, _ = studio(actor(arms_out()), actor(arms_out()))
        assert set(flags(drawn, 0).values()) == {1}
        assert flags(drawn, 1)["left_wrist"] == 2
        apart, _ = studio(actor(arms_out(), x=0.25, height=0.4), actor(arms_out(), x=0.75, height=0.4))
        assert flags(apart, 0) == flags(apart, 1)
        assert flags(apart, 0)["left_knee"] == 2

    def test_joints_outside_the_picture_are_all_zero(self, studio):
        drawn, _ = studio(actor(arms_out(), x=0.02))
        for joints, names in (
            (mpii_joints(drawn)[0, 0], MPII_JOINTS),
            (coco_keypoints(drawn)[0, 0], COCO_JOINTS),
        ):
            outside = [i for i, name in enumerate(names) if name in ("right_wrist", "right_elbow", "right_knee")]
            assert not joints[outside].any()
            assert joints[names.index("left_wrist"), 2] == 2
        assert drawn.boxes[0, 0, 0] == 0
        hand = drawn.part_boxes[0, 0, PARTS.index("right_hand")]
        assert not hand.any()

    def test_nothing_is_true_of_somebody_who_left_the_picture(self, studio):
        drawn, _ = studio(actor(arms_out(), x=1.6))
        assert not drawn.boxes.any()
        assert not drawn.part_boxes.any()
        assert not drawn.shown.any()

    def test_joints_count_from_the_centre_of_the_first_pixel(self, studio):
        drawn, _ = studio(actor(arms_out()))
        nose = coco_keypoints(drawn)[0, 0][0, :2]
        np.testing.assert_allclose(nose + 0.5, drawn.points[0, 0, INDEX["nose"]])

    @pytest.mark.parametrize("task", TASKS)
    def test_joints_lie_in_the_box_and_so_do_the_boxes_of_parts(self, task):
        for i in range(6):
            _, target = figures(task, size=64)[i]
            box = target["boxes"][..., None, :]
            for name in ("joints", "keypoints"):
                joints = target[name] + torch.tensor([0.5, 0.5, 0.0])
                inside = ((joints[..., :2] >= box[..., :2] - 1e-3) & (joints[..., :2] <= box[..., 2:] + 1e-3)).all(-1)
                assert inside[joints[..., 2] > 0].all()
            assert set(target["joints"][..., 2].unique().tolist()) <= {0.0, 1.0, 2.0}
            parts, there = target["part_boxes"], target["part_boxes"].any(-1)
            assert there.float().mean() > 0.8
            within = (parts[..., :2] >= box[..., :2]).all(-1) & (parts[..., 2:] <= box[..., 2:]).all(-1)
            assert within[there].all()
            assert (parts[..., 2:] > parts[..., :2]).all(-1)[there].all()
            assert target["boxes"].min() >= 0
            assert target["boxes"].max() <= 64

    def test_a_part_box_holds_its_joints(self, studio):
        drawn, _ = studio(actor(arms_out()))
        ends = {"left_arm": ("left_shoulder", "left_wrist"), "right_leg": ("right_hip", "right_ankle")}
        ends |= {
            "head": ("nose", "head_top"),
            "hip": ("left_hip", "right_hip"),
            "left_foot": ("left_ankle", "left_toe"),
        }
        for part, names in ends.items():
            x1, y1, x2, y2 = drawn.part_boxes[0, 0, PARTS.index(part)]
            for name in names:
                x, y = drawn.points[0, 0, INDEX[name]]
                assert x1 <= x <= x2
                assert y1 <= y <= y2

    def test_the_head_size_is_the_way_from_neck_to_crown(self, studio):
        drawn, _ = studio(actor(standing(1)))
        way = drawn.points[0, 0, INDEX["neck"]] - drawn.points[0, 0, INDEX["head_top"]]
        assert drawn.head_sizes[0, 0] == pytest.approx(np.linalg.norm(way), rel=1e-6)
        assert drawn.head_sizes[0, 0] == pytest.approx(0.135 * 0.75 * 128)

    def test_looks_differ(self):
        rng = np.random.default_rng(0)
        looks = [random_look(rng) for _ in range(60)]
        assert len({tuple(look.shirt) for look in looks}) == 60
        for name in ("short_sleeves", "shorts", "stripes", "hat"):
            assert 3 < sum(getattr(look, name) for look in looks) < 57
