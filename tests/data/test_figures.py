"""Acting figures: the same for a seed, true to their pictures, and such that each task's idea matters."""

import pickle

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader

from actionzoo.data import PersonImages, TopDown
from actionzoo.data._figures import drawing
from actionzoo.data._figures.body import COCO_POINTS, INDEX, MPII_POINTS, Pose, body_points, standing
from actionzoo.data._figures.drawing import draw_scene
from actionzoo.data._figures.scenes import TASKS, Actor, Scene, make_scene
from actionzoo.data._figures.strokes import Look, random_look
from actionzoo.data.figures import PART_STATES, PARTS, ActingFigures, FigurePeople, part_group, part_states
from actionzoo.layers.heatmaps import COCO_FLIP_PAIRS, COCO_JOINTS, MPII_JOINTS

IMAGES, CLIPS = ("fine_grained", "pose"), ("motion", "crowd", "parts")


def figures(task, split="train", length=40, size=32, seed=0, frames=4):
    return ActingFigures(task, split, length, size, seed, frames=frames)


def same(a, b):
    assert torch.equal(a[0], b[0])
    assert a[1].keys() == b[1].keys()
    for name, value in a[1].items():
        assert_close(value, b[1][name], rtol=0, atol=0)


def scene_of(task, name, seed, frames=8):
    return make_scene(task, TASKS[task].classes.index(name), np.random.default_rng(seed), frames)


def points_of(scene):
    """Points of everybody in the unit picture, (P, T, 26, 2), without drawing."""
    return np.stack([drawing._to_picture(scene, a, body_points(a.pose, scene.pitch)) for a in scene.actors])


def actor(pose=None, x=0.5, ground=0.9, height=0.75, props=()):
    pose = pose or standing(1)
    t = len(pose.yaw)
    return Actor(0, pose, props, np.full(t, x), np.full(t, ground), np.full(t, height))


@pytest.fixture
def studio(monkeypatch):
    """Draws hand-made people before a grey wall in known colours, without light and grain."""
    colours = np.array(
        [(250, 200, 160), (30, 20, 20), (20, 40, 250), (250, 30, 30), (20, 250, 30), (255, 255, 0)], float
    )
    skin, hair, shirt, trousers, shoes, prop = colours
    look = Look(skin, hair, shirt, trousers, shoes, True, False, False, False, prop)
    monkeypatch.setattr(drawing, "random_look", lambda rng: look)
    monkeypatch.setattr(drawing, "_background", lambda rng, size: drawing.Image.new("RGB", (size, size), (128,) * 3))
    monkeypatch.setattr(drawing, "_develop", lambda picture, *_: picture)

    def draw(*actors, size=128, **camera):
        drawn = draw_scene(Scene(list(actors), 1, **camera), size, np.random.default_rng(0))
        return drawn, np.asarray(drawn.frames[0]).astype(int)

    draw.look = look
    return draw


def flags(drawn, person=0):
    """Visibility of the points of a person by name."""
    return {
        name: int(drawn.shown[person, 0, i]) for name, i in INDEX.items() if "toe" not in name and "hand" not in name
    }


class TestDeterminism:
    @pytest.mark.parametrize("task", TASKS)
    def test_an_item_depends_on_its_number_and_not_on_the_length_or_on_what_came_before(self, task):
        few, many = figures(task, length=8), figures(task, length=10_000)
        many[9]
        same(few[5], many[5])
        same(few[5], few[5])
        same(few[-3], few[5])

    @pytest.mark.parametrize("other", [{"split": "val"}, {"split": "test"}, {"seed": 1}], ids=lambda o: str(o))
    def test_another_split_or_seed_is_another_picture(self, other):
        pixels, target = figures("pose")[3]
        others, truth = figures("pose", **other)[3]
        assert not torch.equal(pixels, others)
        assert not torch.equal(target["joints"], truth["joints"])
        assert target["label"] == truth["label"]

    def test_another_task_or_number_is_another_picture(self):
        data = figures("pose")
        assert not torch.equal(data[3][0], figures("fine_grained")[3][0])
        # the same class, ten further on
        assert not torch.equal(data[3][0], data[13][0])

    @pytest.mark.parametrize("task", TASKS)
    def test_a_scene_is_the_same_at_every_size(self, task):
        small, large = (figures(task, size=size)[2][1] for size in (48, 120))
        assert small.keys() == large.keys()
        both = (small["joints"][..., 2] > 0) & (large["joints"][..., 2] > 0)
        assert both.float().mean() > 0.9
        for name in ("joints", "keypoints"):
            # from pixel centres to lengths from the picture's corner
            a, b = (target[name][..., :2] + 0.5 for target in (small, large))
            seen = (small[name][..., 2] > 0) & (large[name][..., 2] > 0)
            assert_close(a[seen] * 2.5, b[seen], rtol=0, atol=1e-3)
        for name in ("boxes", "part_boxes", "head_sizes"):
            assert_close(small[name] * 2.5, large[name], rtol=0, atol=1e-3)
        for name in ("labels", "part_states"):
            assert torch.equal(small[name], large[name])

    def test_the_smallest_size_still_shows_the_same_background(self):
        # the clutter takes as many random numbers at every size, so that light and grain are the same, too
        states = []
        for size in (48, 256):
            rng = np.random.default_rng(0)
            for _ in range(50):
                drawing._background(rng, size)
            states.append(rng.bit_generator.state)
        assert states[0] == states[1]


class TestItems:
    SHAPES = {"boxes": (4,), "joints": (16, 3), "keypoints": (17, 3), "part_boxes": (10, 4), "head_sizes": ()}

    @pytest.mark.parametrize("task", IMAGES)
    def test_image(self, task):
        pixels, target = figures(task)[1]
        assert (pixels.shape, pixels.dtype) == ((3, 32, 32), torch.uint8)
        assert pixels.is_contiguous()
        assert set(target) == {*self.SHAPES, "part_states", "labels", "label"}
        for name, shape in self.SHAPES.items():
            assert (target[name].shape, target[name].dtype) == ((1, *shape), torch.float32)
        assert (target["part_states"].shape, target["part_states"].dtype) == ((1, 10), torch.int64)
        assert target["labels"].tolist() == [target["label"]] == [1]

    @pytest.mark.parametrize("task", CLIPS)
    def test_clip(self, task):
        data = figures(task, frames=5)
        for i in range(len(data.classes)):
            pixels, target = data[i]
            people = len(target["labels"])
            assert (pixels.shape, pixels.dtype) == ((3, 5, 32, 32), torch.uint8)
            assert set(target) == {*self.SHAPES, "part_states", "labels", "label", "track_ids"}
            for name, shape in self.SHAPES.items():
                assert (target[name].shape, target[name].dtype) == ((people, 5, *shape), torch.float32)
            assert (target["part_states"].shape, target["part_states"].dtype) == ((people, 5, 10), torch.int64)
            assert target["track_ids"].tolist() == list(range(people))
            assert target["label"] == i
            assert i in target["labels"]

    def test_a_clip_may_be_one_frame(self):
        for task in CLIPS:
            assert figures(task, frames=1)[0][0].shape == (3, 1, 32, 32)

    def test_images_take_no_notice_of_frames(self):
        same(figures("pose", frames=1)[0], figures("pose", frames=9)[0])
        assert figures("pose", frames=9).frames == 1

    @pytest.mark.parametrize("task", TASKS)
    def test_classes_take_turns(self, task):
        data = figures(task, length=1000)
        counts = np.bincount([data.label(i) for i in range(1000)])
        assert len(counts) == len(data.classes) == len(set(data.classes))
        assert counts.max() - counts.min() <= 1

    def test_a_negative_number_counts_from_the_end(self):
        data = figures("pose", length=13)
        assert data.label(-1) == data.label(12) == 2
        assert FigurePeople(data)[-1].label == 2

    @pytest.mark.parametrize("i", [40, -41])
    def test_no_such_item(self, i):
        data = figures("pose")
        for get in (data.__getitem__, data.label, data.draw, FigurePeople(data, cache=True).__getitem__):
            with pytest.raises(IndexError, match=rf"no item {i}"):
                get(i)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"task": "poses"}, "unknown task 'poses'; there are fine_grained, pose, motion, crowd, parts"),
            ({"split": "training"}, "unknown split 'training'; there are train, val, test"),
            ({"length": -1}, "length is a whole number of at least 0, got -1"),
            ({"size": 23}, "size is a whole number of at least 24, got 23"),
            ({"size": 64.0}, r"size is a whole number of at least 24, got 64\.0"),
            ({"seed": -1}, "seed is a whole number of at least 0, got -1"),
            ({"frames": 0}, "frames is a whole number of at least 1, got 0"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            figures(**{"task": "pose", **arguments})

    def test_says_what_it_is(self):
        assert repr(figures("pose", "val", 7, 48, 3)) == "ActingFigures('pose', 'val', length=7, size=48, seed=3)"
        assert repr(figures("crowd", frames=6)).endswith("seed=0, frames=6)")
        assert len(figures("pose", length=0)) == 0


class TestBodies:
    @pytest.fixture(scope="class")
    def bodies(self):
        """Poses of all tasks, (N, 26, 3), upright."""
        poses = [a.pose for task in TASKS for i in range(24) for a in self.scene(task, i).actors]
        return np.concatenate([body_points(pose) for pose in poses])

    @staticmethod
    def scene(task, i):
        return make_scene(task, i % len(TASKS[task].classes), np.random.default_rng(i), 5)

    @pytest.mark.parametrize(
        ("a", "b", "length"),
        [
            ("shoulder", "elbow", 0.165),
            ("elbow", "wrist", 0.145),
            ("wrist", "hand", 0.045),
            ("hip", "knee", 0.235),
            ("knee", "ankle", 0.225),
        ],
    )
    def test_limbs_keep_their_length(self, bodies, a, b, length):
        for side in ("right", "left"):
            bone = bodies[:, INDEX[f"{side}_{a}"]] - bodies[:, INDEX[f"{side}_{b}"]]
            np.testing.assert_allclose(np.linalg.norm(bone, axis=-1), length, atol=1e-9)

    @pytest.mark.parametrize(
        ("a", "b", "length"), [("pelvis", "thorax", 0.27), ("thorax", "neck", 0.045), ("neck", "head_top", 0.135)]
    )
    def test_the_trunk_keeps_its_length(self, bodies, a, b, length):
        np.testing.assert_allclose(
            np.linalg.norm(bodies[:, INDEX[a]] - bodies[:, INDEX[b]], axis=-1), length, atol=1e-9
        )

    def test_nobody_is_below_the_ground(self, bodies):
        ankles = bodies[:, [INDEX["right_ankle"], INDEX["left_ankle"]], 1].max(-1)
        assert ankles.max() <= -0.035 + 1e-9
        assert (np.abs(ankles + 0.035) < 1e-9).mean() > 0.8  # but for those who jump

    def test_a_standing_body_is_as_tall_as_it_says(self):
        body = body_points(standing(1))[0]
        assert -body[INDEX["head_top"], 1] == pytest.approx(1, abs=0.06)
        assert body[INDEX["left_hip"], 0] > 0 > body[INDEX["right_hip"], 0]
        assert body[INDEX["nose"], 2] > 0

    def test_turning_to_the_right_of_the_picture(self):
        pose = standing(1)
        pose.yaw += np.pi / 2
        body = body_points(pose)[0]
        assert body[INDEX["nose"], 0] > 0.05
        assert body[INDEX["right_shoulder"], 2] > 0.1 > -0.1 > body[INDEX["left_shoulder"], 2]

    def test_a_camera_that_looks_down_sees_near_things_lower(self):
        pose = standing(1)
        pose.ankles[:, 1, 2] += 0.2
        level, down = body_points(pose)[0], body_points(pose, 0.2)[0]
        near = INDEX["left_ankle"]
        assert down[near, 1] > level[near, 1] + 0.02

    @pytest.mark.parametrize("name", sorted({n for n in COCO_JOINTS} & {n for n in MPII_JOINTS}))
    def test_both_layouts_share_a_joint(self, name):
        assert MPII_POINTS[MPII_JOINTS.index(name)] == COCO_POINTS[COCO_JOINTS.index(name)] == INDEX[name]

    def test_joints_that_both_layouts_have_are_the_same_in_an_item(self):
        shared = [n for n in COCO_JOINTS if n in MPII_JOINTS]
        assert len(shared) == 12
        target = figures("crowd", size=64)[1][1]
        for name in shared:
            a, b = (
                target["joints"][..., MPII_JOINTS.index(name), :],
                target["keypoints"][..., COCO_JOINTS.index(name), :],
            )
            assert torch.equal(a, b)


class TestTruthAgainstPixels:
    def test_the_box_is_that_of_the_pixels(self, studio):
        rng = np.random.default_rng(1)
        for label in range(10):
            person = make_scene("pose", label, rng, 1).actors[0]
            drawn, pixels = studio(person, size=160, roll=0.05)
            rows, columns = np.nonzero((pixels != 128).any(-1))
            seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            np.testing.assert_allclose(drawn.boxes[0, 0], seen, atol=1.5)

    def test_a_visible_joint_shows_its_limb_and_a_hidden_one_does_not(self, studio):
        look, right, wrong, total = studio.look, 0, 0, 0
        skin, shirt, trousers, shoes = look.skin, look.shirt, look.trousers, look.shoes
        colours = {"wrist": [skin], "elbow": [shirt, skin], "knee": [trousers], "ankle": [trousers, shoes]}
        rng = np.random.default_rng(0)
        for i in range(40):
            pair = [make_scene("pose", k % 10, rng, 1).actors[0] for k in (i, i + 3)]
            # the second stands before the first, all in black, and hides what it covers
            black = look._replace(**{name: np.zeros(3) for name in ("skin", "hair", "shirt", "trousers", "shoes")})
            looks = iter([look, black])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(drawing, "random_look", lambda rng, looks=looks: next(looks))
                drawn, pixels = studio(pair[0]._replace(x=np.array([0.45])), pair[1], size=128)
            for name, allowed in colours.items():
                for side in ("right", "left"):
                    k = INDEX[f"{side}_{name}"]
                    x, y = np.floor(drawn.points[0, 0, k]).astype(int)
                    if drawn.shown[0, 0, k] == 0:
                        assert not (0 <= x < 128 and 0 <= y < 128)
                        continue
                    # limbs are shaded, and their outlines darker: what counts is the hue
                    pixel = pixels[y, x] / max(np.linalg.norm(pixels[y, x]), 60)
                    close = max(float(pixel @ (c / np.linalg.norm(c))) for c in allowed) > 0.95
                    total += 1
                    if drawn.shown[0, 0, k] == 2:
                        right += close
                        wrong += not close
                    else:
                        black_on_top = pixels[y, x].max() < 60
                        assert black_on_top or close or pixels[y, x].max() > 0
        assert total > 250
        assert right > 150
        assert wrong <= 0.03 * (right + wrong)  # pixels on a limb's edge mix with what is beside them

    def test_everything_is_seen_of_somebody_who_faces_the_camera(self, studio):
        drawn, _ = studio(actor(arms_out()))
        # without a limb of their own that would show them
        assert {name for name, flag in flags(drawn).items() if flag != 2} == {"mouth"}

    def test_somebody_who_turns_away_hides_the_face(self, studio):
        pose = arms_out()
        pose.yaw += np.pi
        drawn, _ = studio(actor(pose))
        hidden = {name for name, flag in flags(drawn).items() if flag == 1}
        assert {"nose", "left_eye", "right_eye"} <= hidden
        assert not hidden & {"head_top", "left_wrist", "right_wrist", "left_knee", "right_ankle"}

    def test_in_profile_one_eye_and_one_ear_are_hidden(self, studio):
        pose = arms_out()
        pose.yaw += 1.1
        drawn, _ = studio(actor(pose))
        state = flags(drawn)
        assert (state["right_eye"], state["left_eye"]) == (2, 2)  # three quarters: both are painted
        pose.yaw[:] = np.pi / 2
        state = flags(studio(actor(pose))[0])
        assert (state["right_ear"], state["left_ear"]) == (2, 1)
        assert state["left_eye"] == 1

    def test_an_eye_is_visible_where_it_is_painted(self, studio):
        for yaw in np.linspace(-np.pi, np.pi, 25):
            pose = arms_out()
            pose.yaw += yaw
            drawn, pixels = studio(actor(pose), size=256)
            for name in ("left_eye", "right_eye"):
                x, y = np.floor(drawn.points[0, 0, INDEX[name]]).astype(int)
                # an eye is (25, 30, 35), hair (30, 20, 20), skin far brighter
                painted = pixels[y, x, 2] > 25 and pixels[y, x].max() < 60
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
            (drawing_joints(drawn, "mpii"), MPII_JOINTS),
            (drawing_joints(drawn, "coco"), COCO_JOINTS),
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
        nose = drawing_joints(drawn, "coco")[0, :2]
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

    def test_the_head_size_is_the_way_from_thorax_to_crown(self, studio):
        drawn, _ = studio(actor(standing(1)))
        way = drawn.points[0, 0, INDEX["thorax"]] - drawn.points[0, 0, INDEX["head_top"]]
        assert drawn.head_sizes[0, 0] == pytest.approx(np.linalg.norm(way), rel=1e-6)
        assert drawn.head_sizes[0, 0] == pytest.approx(0.18 * 0.75 * 128)

    def test_looks_differ(self):
        rng = np.random.default_rng(0)
        looks = [random_look(rng) for _ in range(60)]
        assert len({tuple(look.shirt) for look in looks}) == 60
        for name in ("short_sleeves", "shorts", "stripes", "hat"):
            assert 3 < sum(getattr(look, name) for look in looks) < 57


def arms_out():
    """Standing with both arms stretched out a little below the shoulders."""
    pose = standing(1)
    for side, sign in ((0, -1.0), (1, 1.0)):
        pose.wrists[:, side] = [sign * (0.105 + 0.29), 0.08, 0.0]
        pose.ankles[:, side, 0] += sign * 0.05
    return pose


def drawing_joints(drawn, layout):
    from actionzoo.data._figures.truth import coco_keypoints, mpii_joints

    return (mpii_joints if layout == "mpii" else coco_keypoints)(drawn)[0, 0]


def named(states):
    return {part: PART_STATES[part_group(part)][k] for part, k in zip(PARTS, states)}


class TestPartStates:
    def test_every_state_has_a_name(self):
        assert {part_group(part) for part in PARTS} == set(PART_STATES)
        for task in TASKS:
            states = torch.cat([figures(task)[i][1]["part_states"].reshape(-1, 10) for i in range(8)])
            for k, part in enumerate(PARTS):
                assert 0 <= int(states[:, k].min()) <= int(states[:, k].max()) < len(PART_STATES[part_group(part)])

    @staticmethod
    def states(change=lambda pose: None, holding=()):
        pose = standing(1)
        change(pose)
        return named(part_states(body_points(pose), holding)[0])

    AT_EASE = {
        "head": "upright", "hip": "straight", "left_arm": "hang", "right_arm": "hang", "left_foot": "ground",
        "right_foot": "ground", "left_hand": "empty", "right_hand": "empty", "left_leg": "straight",
        "right_leg": "straight",
    }  # fmt: skip

    @pytest.mark.parametrize(
        ("change", "different"),
        [
            pytest.param(lambda pose: None, {}, id="at ease"),
            pytest.param(
                lambda pose: pose.wrists.__setitem__((0, 0), [-0.15, -0.25, 0.0]), {"right_arm": "raise"}, id="raise"
            ),
            pytest.param(
                lambda pose: pose.wrists.__setitem__((0, 1), [0.4, 0.02, 0.0]), {"left_arm": "stretch"}, id="stretch"
            ),
            pytest.param(
                lambda pose: pose.wrists.__setitem__((0, 1), [0.05, 0.1, 0.16]), {"left_arm": "bend"}, id="at the chest"
            ),
            pytest.param(
                lambda pose: pose.wrists.__setitem__((0, 1), [0.045, -0.025, 0.108]),
                {"left_arm": "to_face"},
                id="at the mouth",
            ),
            pytest.param(
                lambda pose: pose.wrists.__setitem__((0, 0), [-0.082, -0.068, 0.035]),
                {"right_arm": "to_face"},
                id="at the ear",
            ),
            pytest.param(lambda pose: pose.head_pitch.__iadd__(0.9), {"head": "bowed"}, id="nod"),
            pytest.param(lambda pose: pose.lean.__iadd__(0.9), {"head": "bowed", "hip": "bend"}, id="bow"),
            pytest.param(
                lambda pose: pose.ankles[0, :, 1].__isub__(0.2),
                {"left_leg": "bend", "right_leg": "bend"},
                id="knees bent",
            ),
            pytest.param(
                lambda pose: pose.ankles[0, 1].__iadd__([0, -0.25, 0.3]),
                {"left_leg": "lift", "left_foot": "lift"},
                id="kick",
            ),
            pytest.param(
                lambda pose: pose.lift.__iadd__(0.15), {"left_foot": "lift", "right_foot": "lift"}, id="in the air"
            ),
        ],
    )
    @pytest.mark.parametrize("yaw", [0.0, 2.0])
    def test_poses(self, change, different, yaw):
        def turned(pose):
            change(pose)
            pose.yaw += yaw

        assert self.states(turned) == {**self.AT_EASE, **different}

    def test_hands_hold_what_is_in_them(self):
        assert self.states(holding=(1,)) == {**self.AT_EASE, "left_hand": "hold"}
        held = {
            name: figures("fine_grained")[i][1]["part_states"][0] for i, name in enumerate(TASKS["fine_grained"][0])
        }
        hands = {name: sorted(named(s)[f"{side}_hand"] for side in ("left", "right")) for name, s in held.items()}
        assert hands["touching_face"] == ["empty", "empty"]
        assert hands["playing_flute"] == hands["holding_flute"] == ["hold", "hold"]
        assert hands["drinking"] == hands["phoning"] == hands["brushing_teeth"] == ["empty", "hold"]

    def test_a_camera_that_looks_down_changes_no_state(self):
        data = figures("parts", length=60, frames=8)
        for i in range(0, 60, 7):
            scene, _ = data.draw(i)
            hands = tuple(hand for prop in scene.actors[0].props for hand in prop.hands)
            upright = part_states(body_points(scene.actors[0].pose), hands)
            assert np.array_equal(data[i][1]["part_states"][0].numpy(), upright)


class TestFineGrained:
    def test_the_pose_says_nothing(self):
        # one law for the pose: the same random numbers give the same pose, and only what is in the hand differs
        for seed in range(20):
            scenes = [scene_of("fine_grained", n, seed) for n in ("drinking", "brushing_teeth", "touching_face")]
            points = [points_of(scene) for scene in scenes]
            np.testing.assert_array_equal(points[0], points[1])
            np.testing.assert_array_equal(points[0], points[2])
            kinds = [[prop.kind for prop in scene.actors[0].props] for scene in scenes]
            assert kinds == [["cup"], ["brush"], []]
            at_chest = [points_of(scene_of("fine_grained", n, seed)) for n in ("holding_cup", "holding_phone")]
            np.testing.assert_array_equal(*at_chest)

    def test_the_hand_is_as_far_from_the_mouth_whatever_it_holds(self):
        data, far = figures("fine_grained", length=10**6), {}
        for name in ("drinking", "brushing_teeth", "touching_face", "holding_cup"):
            label, ways = data.classes.index(name), []
            for k in range(150):
                scene = make_scene("fine_grained", label, np.random.default_rng([label, k]), 1)
                body = body_points(scene.actors[0].pose)[0]
                hands = body[[INDEX["right_wrist"], INDEX["left_wrist"]]] - body[INDEX["mouth"]]
                ways.append(np.linalg.norm(hands, axis=-1).min())
            far[name] = np.mean(ways), np.std(ways)
        for name in ("brushing_teeth", "touching_face"):
            assert far[name] == pytest.approx(far["drinking"], abs=0.004)
        assert far["holding_cup"][0] > 2 * far["drinking"][0]

    @pytest.mark.parametrize("name", ["drinking", "brushing_teeth", "phoning", "holding_cup", "playing_flute"])
    def test_a_prop_changes_the_picture_at_the_hand_alone(self, name):
        for seed in range(4):
            scene = scene_of("fine_grained", name, seed)
            scene.table = False
            person = scene.actors[0]
            bare = Scene([person._replace(props=())], 1, scene.pitch, scene.roll, scene.pan)
            pictures = [draw_scene(s, 96, np.random.default_rng(seed)) for s in (scene, bare)]
            changed = (np.asarray(pictures[0].frames[0]) != np.asarray(pictures[1].frames[0])).any(-1)
            rows, columns = np.nonzero(changed)
            assert 8 < len(rows) < 0.03 * 96 * 96
            height = person.height[0] * 96
            hands = [INDEX["right_hand"], INDEX["left_hand"]]
            way = np.stack([columns, rows], -1)[:, None] + 0.5 - pictures[0].points[0, 0, hands]
            reach = 0.25 if name == "playing_flute" else 0.15
            assert np.linalg.norm(way, axis=-1).min(1).max() < reach * height
            # truth is that of the person, but for what the prop hides
            np.testing.assert_array_equal(pictures[0].points, pictures[1].points)
            np.testing.assert_array_equal(pictures[0].boxes, pictures[1].boxes)
            assert (pictures[0].shown <= pictures[1].shown).all()


def least_squares(train, test):
    """Accuracy on `test` of a linear classifier for two classes, from pairs of features and classes."""

    def bias(features):
        return np.concatenate([features, np.ones((len(features), 1))], 1)

    (x, y), (x2, y2) = train, test
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, x2 = bias((x - mean) / std), bias((x2 - mean) / std)
    weight = np.linalg.solve(x.T @ x + 1.0 * np.eye(x.shape[1]), x.T @ (2.0 * y - 1))
    return ((x2 @ weight > 0) == y2).mean()


class TestMotion:
    FRAMES = 5

    @pytest.fixture(scope="class")
    def points(self):
        """Joints of both classes of every pair: {name: (N, P, T, 16, 2)}, seeds apart."""
        data = {}
        for k, name in enumerate(("raise", "lower", "hold", "wave", "walk_towards", "walk_apart")):
            scenes = [scene_of("motion", name, [k, i], self.FRAMES) for i in range(220)]
            data[name] = np.stack([points_of(scene)[:, :, MPII_POINTS] for scene in scenes])
        return data

    @staticmethod
    def accuracy(points, pair, features):
        x = np.concatenate([features(points[name]).reshape(220, -1) for name in pair])
        y = np.repeat([False, True], 220)
        train = np.tile(np.arange(220) < 140, 2)
        return least_squares((x[train], y[train]), (x[~train], y[~train]))

    PAIRS = pytest.mark.parametrize(
        "pair", [("raise", "lower"), ("hold", "wave"), ("walk_towards", "walk_apart")], ids="-".join
    )

    @PAIRS
    def test_one_frame_cannot_tell(self, points, pair):
        assert self.accuracy(points, pair, lambda p: p[:, :, self.FRAMES // 2]) == pytest.approx(0.5, abs=0.11)
        # nor can a frame from anywhere in the clip
        rng = np.random.default_rng(0)
        anywhere = self.accuracy(points, pair, lambda p: p[np.arange(220), :, rng.integers(self.FRAMES, size=220)])
        assert anywhere == pytest.approx(0.5, abs=0.11)

    @PAIRS
    def test_motion_can(self, points, pair):
        def change(p):
            if pair[0] == "hold":  # how much the joints move, whatever the way; the camera moves them all alike
                return np.abs(np.diff(p - p.mean(3, keepdims=True), axis=2)).sum(2)
            return p[:, :, -1] - p[:, :, 0]

        assert self.accuracy(points, pair, change) > 0.95

    def test_lower_is_raise_run_backwards(self):
        for seed in range(10):
            up, down = (scene_of("motion", name, seed).actors[0].pose for name in ("raise", "lower"))
            np.testing.assert_allclose(body_points(up)[::-1], body_points(down), atol=1e-12)
            wrists = body_points(up)[:, [INDEX["right_wrist"], INDEX["left_wrist"]], 1]
            assert (wrists[-1] - wrists[0]).min() < -0.3

    def test_holding_still_is_still(self):
        for seed in range(10):
            pose = scene_of("motion", "hold", seed).actors[0].pose
            assert np.ptp(body_points(pose), axis=0).max() < 1e-12
            pose = scene_of("motion", "wave", seed).actors[0].pose
            assert np.ptp(body_points(pose), axis=0).max() > 0.05

    def test_people_walk_towards_each_other_or_apart(self):
        for seed in range(10):
            for name, sign in (("walk_towards", -1), ("walk_apart", 1)):
                scene = scene_of("motion", name, seed)
                gap = np.abs(scene.actors[0].x - scene.actors[1].x)
                assert (sign * np.diff(gap) > -1e-12).all()
                assert sign * (gap[-1] - gap[0]) > 0.2
                assert [a.label for a in scene.actors] == [TASKS["motion"].classes.index(name)] * 2


class TestCrowd:
    @pytest.fixture(scope="class")
    def scenes(self):
        return [make_scene("crowd", i % 8, np.random.default_rng([1, i]), 8) for i in range(160)]

    def test_two_to_four_people_do_different_things(self, scenes):
        counts = np.bincount([len(scene.actors) for scene in scenes], minlength=5)
        assert (counts[2:] > 25).all()
        assert counts[:2].sum() + counts[5:].sum() == 0
        for i, scene in enumerate(scenes):
            labels = [a.label for a in scene.actors]
            assert len(set(labels)) == len(labels)
            assert i % 8 in labels

    def test_ways_cross(self, scenes):
        def order(scene, t):
            return tuple(np.argsort([a.x[t] for a in scene.actors]))

        assert np.mean([order(scene, 0) != order(scene, -1) for scene in scenes]) > 0.95

    def test_somebody_walks_the_way_the_label_says(self, scenes):
        for scene in scenes:
            names = {TASKS["crowd"].classes[a.label]: a.x[-1] - a.x[0] for a in scene.actors}
            assert any(name.startswith("walking") for name in names)
            for name, way in names.items():
                expected = {"walking_right": 1, "walking_left": -1}.get(name, 0)
                assert np.sign(round(way, 6)) == expected

    def test_the_farthest_are_drawn_first(self, scenes):
        for scene in scenes:
            ground = [a.ground[0] for a in scene.actors]
            assert ground == sorted(ground)

    def test_people_hide_each_other(self):
        data = figures("crowd", size=64, frames=6)
        hidden = [(data[i][1]["joints"][..., 2] == 1).float().mean((0, 2)) for i in range(8)]
        # in some frame of some clip a fifth of all joints is behind somebody else
        assert max(h.max() for h in hidden) > 0.2

    def test_a_track_is_one_person(self):
        # a body moves a little from frame to frame, so its nearest box in the next frame is its own unless two overlap
        _, target = figures("crowd", size=96, frames=24)[2]
        centre = (target["boxes"][..., :2] + target["boxes"][..., 2:]) / 2
        step = (centre[:, 1:] - centre[:, :-1]).norm(dim=-1)
        assert step.max() < 96 * 0.06
        assert_close(target["head_sizes"], target["head_sizes"][:, :1].expand(-1, 24))


class TestParts:
    def test_states_hold_for_segments(self):
        moving = {name: [] for name in TASKS["parts"].classes}
        for i in range(120):
            scene = make_scene("parts", i % 6, np.random.default_rng([2, i]), 16)
            states = part_states(body_points(scene.actors[0].pose), ())
            changes = (states[1:] != states[:-1]).sum(0)
            # to and fro at most three times, each with at most one state on the way
            assert changes.max() <= 6
            still = (states[1:] == states[:-1]).all(1)
            assert still.mean() > 0.5
            moving[TASKS["parts"].classes[i % 6]].append(changes.sum() > 0)
        for name, some in moving.items():
            assert np.mean(some) > 0.8, name

    @pytest.mark.parametrize(
        ("name", "part", "both"),
        [
            ("bowing", "hip", {"straight", "bend"}),
            ("raising_arms", "left_arm", {"raise"}),
            ("lifting", "left_hand", {"hold"}),
            ("drinking", None, {"to_face", "bend"}),
            ("squatting", "left_leg", {"straight", "bend"}),
        ],
    )
    def test_an_action_shows_its_states(self, name, part, both):
        seen = set()
        for seed in range(6):
            scene = scene_of("parts", name, seed, 16)
            holding = tuple(hand for prop in scene.actors[0].props for hand in prop.hands)
            states = part_states(body_points(scene.actors[0].pose), holding)
            parts = [part] if part else [f"{('right', 'left')[scene.actors[0].props[0].side]}_arm"]
            seen |= {named(frame)[p] for frame in states for p in parts}
        assert both <= seen

    def test_both_poses_stand_the_same_way(self):
        for seed in range(6):
            pose = scene_of("parts", "kicking", seed, 16).actors[0].pose
            assert np.ptp(pose.yaw) == 0


class TestFigurePeople:
    @pytest.mark.parametrize(("layout", "joints", "key"), [("mpii", 16, "joints"), ("coco", 17, "keypoints")])
    def test_a_person_is_that_of_the_figure(self, layout, joints, key):
        data = figures("pose", size=48)
        people = FigurePeople(data, layout=layout)
        assert len(people) == 40
        pixels, target = data[7]
        person = people[7]
        assert np.array_equal(np.asarray(person.image), pixels.permute(1, 2, 0).numpy())
        assert person.joints.shape == (joints, 3)
        assert_close(person.joints, target[key][0])
        assert_close(person.box, target["boxes"][0])
        assert person.label == target["label"] == 7
        assert person.head_size == pytest.approx(target["head_sizes"][0].item())

    def test_without_pose_or_action(self):
        data = figures("pose")
        assert (FigurePeople(data, pose=False, layout="coco")[0].joints == -1).all()
        assert FigurePeople(data, pose=False)[4].label == 4
        assert FigurePeople(data, action=False)[4].label == -1
        assert FigurePeople(data, action=False)[4].joints.max() > 2

    def test_kept_pictures_are_the_same(self, monkeypatch):
        data = figures("pose")
        fresh, kept = FigurePeople(data), FigurePeople(data, cache=True)
        first = kept[3]
        for one in (first, kept[3]):
            assert np.array_equal(np.asarray(one.image), np.asarray(fresh[3].image))
            assert_close(one.joints, fresh[3].joints, rtol=0, atol=0)
        assert kept[3] is first
        monkeypatch.setattr(data, "draw", None)
        assert kept[3] is first

    @pytest.mark.parametrize("cache", [False, True])
    def test_it_travels_to_workers_without_the_pictures_it_keeps(self, cache):
        people = FigurePeople(figures("pose"), cache=cache)
        before = len(pickle.dumps(people))
        first = people[3]
        data = pickle.dumps(people)
        assert len(data) == before
        copy = pickle.loads(data)
        assert np.array_equal(np.asarray(copy[3].image), np.asarray(first.image))
        assert (copy[3] is copy[3]) == cache

    def test_batches(self):
        transform = TopDown(32, 8, flip_pairs=COCO_FLIP_PAIRS, hflip=0.5)
        images = PersonImages(FigurePeople(figures("fine_grained", size=48), layout="coco"), transform)
        batch = next(iter(DataLoader(images, batch_size=4)))
        assert batch.image.shape == (4, 3, 32, 32)
        assert batch.joints.shape == (4, 17, 3)
        assert batch.label.tolist() == [0, 1, 2, 3]
        assert batch.head_size.isfinite().all()

    def test_a_crop_brings_the_joints_to_the_same_place(self):
        data = figures("pose", size=64)
        person = FigurePeople(data)[2]
        whole = person._replace(box=torch.tensor([0.0, 0.0, 64.0, 64.0]))
        cropped = TopDown(64, 64, padding=1.0)(whole)
        assert_close(cropped.joints, person.joints)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match=r"'crowd' shows clips.*fine_grained, pose"):
            FigurePeople(figures("crowd"))
        with pytest.raises(ValueError, match="layout is 'mpii' or 'coco', got 'body25'"):
            FigurePeople(figures("pose"), layout="body25")


def test_a_batch_of_images_collates():
    pixels, target = next(iter(DataLoader(figures("pose"), batch_size=3)))
    assert pixels.shape == (3, 3, 32, 32)
    assert target["joints"].shape == (3, 1, 16, 3)
    assert target["label"].tolist() == [0, 1, 2]


def test_a_pose_has_one_value_a_frame():
    pose = standing(7)
    assert isinstance(pose, Pose)
    assert body_points(pose).shape == (7, 26, 3)
    np.testing.assert_array_equal(body_points(pose)[0], body_points(pose)[6])
