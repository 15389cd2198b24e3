"""The bodies of acting figures and the states of their parts, at hand-made poses and in the tasks."""

import numpy as np
import pytest
import torch

from actionzoo.data._figures.body import COCO_POINTS, INDEX, MPII_POINTS, body_points, standing
from actionzoo.data._figures.scenes import TASKS, make_scene
from actionzoo.data.figures import PART_STATES, PARTS, part_group, part_states
from actionzoo.layers.heatmaps import COCO_JOINTS, MPII_JOINTS

from .figure_scenes import figures, named


@pytest.fixture(scope="module")
def bodies():
    """Bodies in the poses of all tasks, (N, 26, 3), upright."""
    poses = []
    for task in TASKS:
        for i in range(24):
            scene = make_scene(task, i % len(TASKS[task].classes), np.random.default_rng(i), 5)
            poses += [actor.pose for actor in scene.actors]
    return np.concatenate([body_points(pose) for pose in poses])


class TestBodies:
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

    @pytest.mark.parametrize("name", sorted(set(COCO_JOINTS) & set(MPII_JOINTS)))
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


AT_EASE = {
    "head": "upright", "hip": "straight", "left_arm": "hang", "right_arm": "hang", "left_foot": "ground",
    "right_foot": "ground", "left_hand": "empty", "right_hand": "empty", "left_leg": "straight",
    "right_leg": "straight",
}  # fmt: skip


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

        assert self.states(turned) == {**AT_EASE, **different}

    def test_hands_hold_what_is_in_them(self):
        assert self.states(holding=(1,)) == {**AT_EASE, "left_hand": "hold"}
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
