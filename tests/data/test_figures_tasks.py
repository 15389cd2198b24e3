"""The tasks of acting figures: what decides is where it should be, and nowhere else."""

import itertools

import numpy as np
import pytest
from torch.testing import assert_close

from actionzoo.data._figures.body import INDEX, MPII_POINTS, body_points
from actionzoo.data._figures.drawing import draw_scene
from actionzoo.data._figures.scenes import TASKS, Scene, make_scene
from actionzoo.data.figures import part_states

from .figure_scenes import figures, named, points_of, scene_of


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


FRAMES = 5


@pytest.fixture(scope="module")
def points():
    """Joints of 180 clips of every class, {name: (N, P, T, 16, 2)}."""
    data = {}
    for k, name in enumerate(TASKS["motion"].classes):
        scenes = [scene_of("motion", name, [k, i], FRAMES) for i in range(180)]
        data[name] = np.stack([points_of(scene)[:, :, MPII_POINTS] for scene in scenes])
    return data


class TestMotion:
    @staticmethod
    def accuracy(points, pair, features):
        x = np.concatenate([features(points[name]).reshape(180, -1) for name in pair])
        y = np.repeat([False, True], 180)
        train = np.tile(np.arange(180) < 120, 2)
        return least_squares((x[train], y[train]), (x[~train], y[~train]))

    PAIRS = pytest.mark.parametrize(
        "pair",
        [("raise", "lower"), ("hold", "wave"), ("walk_towards", "walk_apart"), ("walk_left", "walk_right")],
        ids="-".join,
    )

    @PAIRS
    def test_one_frame_cannot_tell(self, points, pair):
        assert self.accuracy(points, pair, lambda p: p[:, :, FRAMES // 2]) == pytest.approx(0.5, abs=0.11)
        # nor can a frame from anywhere in the clip
        rng = np.random.default_rng(0)
        anywhere = self.accuracy(points, pair, lambda p: p[np.arange(180), :, rng.integers(FRAMES, size=180)])
        assert anywhere == pytest.approx(0.5, abs=0.11)

    @PAIRS
    def test_motion_can(self, points, pair):
        def change(p):
            if pair[0] == "hold":  # how much the joints move, whatever the way; the camera moves them all alike
                return np.abs(np.diff(p - p.mean(3, keepdims=True), axis=2)).sum(2)
            return p[:, :, -1] - p[:, :, 0]

        assert self.accuracy(points, pair, change) > 0.9

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

    def test_somebody_walks_through_the_picture(self):
        for seed in range(10):
            left, right = (scene_of("motion", name, seed).actors for name in ("walk_left", "walk_right"))
            assert len(left) == len(right) == 1
            np.testing.assert_allclose(left[0].x, right[0].x[::-1])
            assert (np.diff(right[0].x) > 0).all()
            assert np.ptp(right[0].x) > 0.2
            # cut out by their own boxes they look alike: the steps do not say where to
            np.testing.assert_array_equal(left[0].pose.yaw, right[0].pose.yaw)


@pytest.fixture(scope="module")
def scenes():
    return [make_scene("crowd", i % 8, np.random.default_rng([1, i]), 8) for i in range(160)]


class TestCrowd:
    def test_two_to_four_people_do_different_things(self, scenes):
        counts = np.bincount([len(scene.actors) for scene in scenes], minlength=5)
        assert (counts[2:] > 25).all()
        assert counts[:2].sum() + counts[5:].sum() == 0
        for i, scene in enumerate(scenes):
            labels = [a.label for a in scene.actors]
            assert len(set(labels)) == len(labels)
            assert i % 8 in labels

    def test_whoever_walks_passes_somebody(self):
        for i in range(800):
            scene = make_scene("crowd", i % 8, np.random.default_rng([3, i]), 2)
            x = np.stack([a.x for a in scene.actors])
            # who is to the left of whom, at the beginning and at the end
            before, after = (x[:, None, t] < x[None, :, t] for t in (0, 1))
            walks = x[:, 0] != x[:, 1]
            assert walks.any()
            assert (before != after).any(1)[walks].all(), i

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


TASKS_OF_PARTS = ("parts", "parts_turned")


class TestParts:
    def test_states_hold_for_segments(self):
        for i in range(120):
            scene = make_scene("parts", i % 6, np.random.default_rng([2, i]), 16)
            states = part_states(body_points(scene.actors[0].pose), ())
            # to and fro at most three times, each with at most one state on the way
            assert (states[1:] != states[:-1]).sum(0).max() <= 6
            assert (states[1:] == states[:-1]).all(1).mean() > 0.5

    @pytest.mark.parametrize("frames", [4, 8, 9, 16, 31], ids="T{}".format)
    def test_it_changes_and_rests_in_every_pose_that_it_goes_to(self, frames):
        visits = []
        for i in range(300):
            scene = make_scene("parts", i % 6, np.random.default_rng([4, i]), frames)
            body = body_points(scene.actors[0].pose).reshape(frames, -1)
            # resting frames are those that look like the one before or after; the two poses differ in some state
            still = np.isclose(body[1:], body[:-1], rtol=0, atol=1e-9).all(1)
            ends = np.flatnonzero(np.diff(np.r_[False, still, False]))
            starts, stops = ends[::2], ends[1::2]
            rests = [body[start : stop + 1] for start, stop in zip(starts, stops)]
            assert min(map(len, rests)) >= 2
            states = [part_states(body[[start]].reshape(1, -1, 3), ())[0] for start in starts]
            assert len(states) > 1
            assert all((a != b).any() for a, b in itertools.pairwise(states))
            assert all(np.array_equal(a, b) for a, b in zip(states, states[2:]))
            # never more than the frames that a change takes lie between two rests, nor any outside
            assert starts[0] == 0
            assert stops[-1] == frames - 1
            assert (starts[1:] - stops[:-1]).max() <= 0.08 * (frames - 1) + 2
            visits.append(len(states) - 1)
        # one change in the shortest, up to three where there is room
        assert set(visits) == set(range(1, {4: 2, 8: 3}.get(frames, 4)))

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


class TestPartsTurned:
    def test_half_of_the_people_turn_their_back_and_nothing_else_differs(self):
        backs = 0
        for i in range(80):
            facing, turned = (make_scene(task, i % 6, np.random.default_rng([6, i]), 8) for task in TASKS_OF_PARTS)
            (one,), (other,) = facing.actors, turned.actors
            yaw = other.pose.yaw - one.pose.yaw
            assert np.ptp(yaw) == 0
            assert np.isclose(yaw[0] % (2 * np.pi), (0, np.pi)).any()
            backs += bool(np.isclose(yaw[0] % (2 * np.pi), np.pi))
            states = [part_states(body_points(actor.pose), ()) for actor in (one, other)]
            assert np.array_equal(*states)
            assert (facing.pitch, facing.roll) == (turned.pitch, turned.roll)
        assert 25 < backs < 55

    def test_from_behind_the_left_hand_is_on_the_left(self):
        sides = {}
        for i in range(40):
            (actor,) = make_scene("parts_turned", i % 6, np.random.default_rng([6, i]), 4).actors
            points = body_points(actor.pose)[0]
            left, right = (points[INDEX[f"{side}_shoulder"], 0] for side in ("left", "right"))
            sides.setdefault(bool(np.cos(actor.pose.yaw[0]) < 0), set()).add(bool(left < right))
        assert sides == {True: {True}, False: {False}}
