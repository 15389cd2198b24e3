import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actionzoo.tracking import KeypointTracker, link_boxes, link_keypoints
from tests.reference import tracking as reference

METHODS = ("hungarian", "greedy", "printed")
methods = pytest.mark.parametrize("method", METHODS)

# an upright body, 17 joints in a box of 40 x 100 pixels
BODY = torch.tensor(
    [
        [20, 8], [23, 5], [17, 5], [26, 7], [14, 7], [32, 22], [8, 22], [36, 40], [4, 40], [38, 55], [2, 55],
        [28, 55], [12, 55], [29, 78], [11, 78], [30, 100], [10, 100],
    ],
    dtype=torch.float32,
)  # fmt: skip


def person(x, y=0.0, arms_up=False, score=1.0):
    """`(17, 3)` keypoints of a body whose box starts at (x, y)."""
    joints = BODY.clone()
    if arms_up:
        joints[[7, 8, 9, 10], 1] = torch.tensor([14.0, 14, 0, 0])
    return torch.cat([joints + torch.tensor([x, y]), torch.full((17, 1), score)], 1)


def frame(*people):
    return torch.stack(people) if people else torch.zeros(0, 17, 3)


def lists(ids):
    return [frame_ids.tolist() for frame_ids in ids]


def random_clip(frames, people, joints=5, hidden=0.3, seed=0):
    """People who walk about, appear and vanish, in another order in every frame; a part of their joints is bad."""
    generator = torch.Generator().manual_seed(seed)
    poses = 60 * torch.rand(people, 1, 2, generator=generator) + 40 * torch.rand(people, joints, 2, generator=generator)
    clip, boxes = [], []
    for _ in range(frames):
        poses = poses + 12 * torch.rand(people, 1, 2, generator=generator) - 6
        poses = poses + 4 * torch.rand(poses.shape, generator=generator)
        order = torch.randperm(people, generator=generator)
        order = order[: int(torch.randint(people + 1, (), generator=generator))]
        score = (torch.rand(len(order), joints, 1, generator=generator) > hidden).float()
        keypoints = torch.cat([poses[order], score], 2)
        bad = torch.rand(len(order), joints, generator=generator)
        keypoints[bad < 0.05] = torch.tensor([math.nan, 3.0, 1.0])
        keypoints[bad > 0.95] = torch.tensor([3.0, 9.0, math.nan])
        clip.append(keypoints)
        boxes.append(torch.cat([poses[order].amin(1) - 2, poses[order].amax(1) + 2], 1))
    return clip, boxes


@methods
@pytest.mark.parametrize("with_boxes", [False, True], ids=["extent", "boxes"])
@pytest.mark.parametrize(
    "options",
    [{}, {"gate": 0.2}, {"patience": 0}, {"patience": 1, "gate": 1.5}, {"gate": math.inf}, {"hidden": 0.9}],
    ids=lambda options: "-".join(f"{key}{value}" for key, value in options.items()) or "default",
)
def test_equals_the_reference(method, with_boxes, options):
    settings_ = {key: value for key, value in options.items() if key != "hidden"}
    new, linked = 0, 0
    for seed in range(4):
        clip, boxes = random_clip(12, 3, hidden=options.get("hidden", 0.3), seed=seed)
        given_boxes = boxes if with_boxes else None
        ids = lists(link_keypoints(clip, given_boxes, method=method, **settings_))
        assert ids == reference.link_keypoints(clip, given_boxes, method=method, **settings_)
        people = sum(map(len, ids))
        new, linked = new + len({i for row in ids for i in row}), linked + people
    # the comparison saw people come and people linked
    assert 4 < new < linked


@methods
def test_first_frame_counts_up(method):
    clip = [frame(person(300), person(0), person(100)), frame(person(2), person(98), person(303))]
    assert lists(link_keypoints(clip, method=method)) == [[0, 1, 2], [1, 2, 0]]


def test_crossing_people_keep_their_ids_where_box_overlap_swaps_them():
    """SPEC 4.5: equal boxes, arms up or down; two people walk through one another and change places in one frame."""
    left, right = [0, 30, 62, 68, 100, 130], [130, 100, 68, 62, 30, 0]
    # the detector lists people from left to right, so their order says nothing
    clip, truth = [], []
    for a, b in zip(left, right):
        people = sorted([(a, 0, person(a, arms_up=True)), (b, 1, person(b))], key=lambda entry: entry[0])
        clip.append(frame(*(joints for _, _, joints in people)))
        truth.append([who for _, who, _ in people])
    boxes = [
        torch.tensor([[x, 0, x + 40, 100] for x in sorted(pair)], dtype=torch.float32) for pair in zip(left, right)
    ]
    assert lists(link_keypoints(clip, boxes, gate=0.5)) == truth
    assert lists(link_keypoints(clip, boxes, method="greedy")) == truth
    swapped = lists(link_boxes(boxes, iou=0.1))
    assert swapped[0] == truth[0]
    assert swapped[-1] == truth[-1][::-1]


def test_people_with_one_and_the_same_box_are_told_apart_by_pose():
    box = torch.tensor([[10.0, 0, 50, 100]] * 2)
    clip = [frame(person(10), person(10, arms_up=True)), frame(person(10, arms_up=True), person(10))]
    assert lists(link_keypoints(clip, [box, box])) == [[0, 1], [1, 0]]
    assert lists(link_boxes([box, box])) == [[0, 1], [0, 1]]


class TestMethods:
    # a crowd in a row; everybody moves 18 pixels to the right, and the last one leaves
    BEFORE = frame(person(0), person(30))
    AFTER = frame(person(18), person(48))

    def test_hungarian_has_the_least_total(self):
        # 18 + 18 for the right links against 12 + 48 for the nearest pair and what it leaves
        assert lists(link_keypoints([self.BEFORE, self.AFTER], method="hungarian"))[1] == [0, 1]

    def test_greedy_takes_the_nearest_pair_first(self):
        assert lists(link_keypoints([self.BEFORE, self.AFTER], method="greedy"))[1] == [1, 0]

    def test_printed_lets_two_tracks_want_one_person(self):
        # both 0 (18 away) and 30 (12 away) take the person at 18; nobody takes the one at 48, who is new
        assert lists(link_keypoints([self.BEFORE, self.AFTER], method="printed"))[1] == [1, 2]

    def test_the_equation_as_printed_has_no_gate_and_no_memory(self):
        clip = [frame(person(0)), frame(person(500)), frame(), frame(person(500))]
        ids = link_keypoints(clip, method="printed", gate=math.inf, patience=0)
        assert lists(ids) == [[0], [0], [], [1]]

    def test_one_link_is_not_broken_to_make_two_bad_ones(self):
        """The total counts a pair left apart as the gate, so a perfect link stands against two poor ones."""
        before, after = frame(person(0), person(45)), frame(person(0), person(-45))
        assert lists(link_keypoints([before, after], gate=0.5))[1] == [0, 2]

    def test_without_a_gate_everybody_is_linked(self):
        clip = [frame(person(0), person(5000)), frame(person(9000), person(-9000))]
        assert lists(link_keypoints(clip, gate=math.inf)) == [[0, 1], [1, 0]]


class TestGate:
    def test_is_half_the_diagonal(self):
        diagonal = math.hypot(40, 100)
        for share, new in ((0.49, False), (0.51, True)):
            clip = [frame(person(0)), frame(person(share * diagonal))]
            boxes = [torch.tensor([[x, 0, x + 40, 100]]) for x in (0, share * diagonal)]
            assert lists(link_keypoints(clip, boxes))[1] == [int(new)]

    def test_of_boxes_that_are_given(self):
        clip = [frame(person(0)), frame(person(80))]
        wide = [torch.tensor([[-50.0, -50, 150, 150]])] * 2
        assert lists(link_keypoints(clip))[1] == [1]
        assert lists(link_keypoints(clip, wide))[1] == [0]

    def test_of_the_larger_box(self):
        """Somebody of whom two joints were seen is not lost when all of them are."""
        hidden = person(0)
        hidden[2:, 2] = 0
        for clip in ([frame(hidden), frame(person(20))], [frame(person(20)), frame(hidden)]):
            assert lists(link_keypoints(clip))[1] == [0]

    def test_degenerate_box_counts_a_pixel(self):
        point = person(7)[:1].expand(1, 1, 3)
        for step, new in ((0.7, 0), (0.72, 1)):
            moved = point + torch.tensor([step, 0, 0])
            assert lists(link_keypoints([point, moved]))[1] == [new]
            flat = [torch.tensor([[5.0, 5, 5, 5]])] * 2
            assert lists(link_keypoints([point, moved], flat))[1] == [new]


class TestPatience:
    @pytest.mark.parametrize(("missing", "same"), [(0, True), (1, True), (5, True), (6, False), (9, False)])
    def test_a_track_waits_five_frames(self, missing, same):
        clip = [frame(person(0)), *[frame()] * missing, frame(person(3))]
        assert lists(link_keypoints(clip))[-1] == [0 if same else 1]

    def test_counts_frames_missed_in_a_row(self):
        clip = [frame(person(0)), frame(), frame()] * 4
        assert {i for ids in lists(link_keypoints(clip, patience=2)) for i in ids} == {0}
        assert {i for ids in lists(link_keypoints(clip, patience=1)) for i in ids} == {0, 1, 2, 3}

    def test_it_waits_at_the_pose_last_seen(self):
        """Somebody else who stands there since does not take the id of the one who comes back further on."""
        clip = [frame(person(0), person(200)), frame(person(20)), frame(person(40)), frame(person(60), person(203))]
        assert lists(link_keypoints(clip)) == [[0, 1], [0], [0], [0, 1]]

    def test_a_track_seen_in_one_frame(self):
        clip = [frame(person(0)), frame(person(0), person(300)), frame(person(0)), frame(person(0), person(600))]
        assert lists(link_keypoints(clip)) == [[0], [0, 1], [0], [0, 2]]

    def test_memory_is_bounded(self):
        tracker = KeypointTracker(patience=3)
        for t in range(50):
            tracker.update(frame(person(1000.0 * t)))
            assert len(tracker._tracks.ids) == tracker._people.boxes.shape[1] <= 4


class TestJoints:
    def test_the_mean_is_over_joints_seen_in_both(self):
        """A sum would link the track of few joints to whoever shows few, a mean over all J likewise."""
        before = frame(person(0))
        far, near = person(40), person(10)
        far[3:, 2] = 0
        assert lists(link_keypoints([before, frame(far, near)]))[1] == [1, 0]

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("column", [0, 1, 2], ids=["x", "y", "score"])
    def test_joints_that_are_not_finite_are_ignored(self, value, column):
        clip = [frame(person(0), person(100)), frame(person(103), person(3))]
        clip[0][:, 4, column] = value
        clip[1][:, 8, column] = value
        assert lists(link_keypoints(clip)) == [[0, 1], [1, 0]]

    def test_joints_of_zero_score_are_ignored(self):
        clip = [frame(person(0), person(100)), frame(person(103), person(3))]
        clip[0][0, :8], clip[1][0, 3:9] = torch.tensor([9e3, 9e3, 0]), torch.tensor([-9e3, 9e3, 0])
        assert lists(link_keypoints(clip)) == [[0, 1], [1, 0]]

    def test_joints_at_the_least_score_are_ignored(self):
        clip = [frame(person(0)), frame(person(0))]
        clip[1][0, :, :2] += 500
        clip[1][0, 5] = torch.tensor([*BODY[5], 0.5])
        clip[1][0, [i for i in range(17) if i != 5], 2] = 0.25
        boxes = [torch.tensor([[0.0, 0, 40, 100]])] * 2
        assert lists(link_keypoints(clip, boxes))[1] == [1]
        assert lists(link_keypoints(clip, boxes, min_score=0.25))[1] == [0]

    def test_without_a_shared_joint_the_centres_of_the_boxes_count(self):
        first, second = frame(person(0), person(100)), frame(person(102), person(2))
        first[:, 8:, 2], second[:, :8, 2] = 0, 0
        boxes = [torch.tensor([[x, 0, x + 40, 100] for x in xs]) for xs in ([0.0, 100], [102.0, 2])]
        assert lists(link_keypoints([first, second], boxes)) == [[0, 1], [1, 0]]
        # 30 and 70 pixels from centre to centre, at a gate of 54
        for x, new in ((30.0, 0), (70.0, 1)):
            far = [boxes[0][:1], torch.tensor([[x, 0, x + 40, 100]])]
            assert lists(link_keypoints([first[:1], second[:1]], far))[1] == [new]

    def test_nobody_is_linked_to_a_person_without_joints_and_box(self):
        clip = [frame(person(0, score=0.0)), frame(person(0)), frame(person(0, score=0.0))]
        assert lists(link_keypoints(clip, gate=math.inf)) == [[0], [1], [2]]

    @pytest.mark.parametrize("method", METHODS)
    def test_such_a_person_takes_no_track_from_others(self, method):
        clip = [frame(person(0)), frame(person(0, score=0.0), person(300))]
        assert lists(link_keypoints(clip, method=method, gate=math.inf))[1] == [1, 0]

    def test_a_box_that_is_not_finite_is_that_of_the_joints(self):
        clip = [frame(person(0)), frame(person(30))]
        boxes = [torch.tensor([[math.nan, 0, 40, 100]]), torch.tensor([[0, 0, math.inf, 100]])]
        assert lists(link_keypoints(clip, boxes)) == lists(link_keypoints(clip)) == [[0], [0]]


def test_frames_without_people():
    assert link_keypoints([]) == []
    nobody = torch.zeros(0, 0, 3)
    ids = link_keypoints([nobody, frame(), frame(person(0)), nobody, frame(), frame(person(0))])
    assert lists(ids) == [[], [], [0], [], [], [0]]
    assert all(i.dtype == torch.int64 for i in ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64], ids=str)
def test_types_and_devices(dtype, device):
    clip = [frame(person(0), person(100)), frame(person(102), person(2))]
    ids = link_keypoints([keypoints.to(device, dtype) for keypoints in clip])
    assert lists(ids) == [[0, 1], [1, 0]]
    assert all(i.dtype == torch.int64 and i.device.type == device.type for i in ids)


def test_keypoints_with_a_gradient_are_read_and_left_alone():
    clip = [frame(person(0)).double().requires_grad_(), frame(person(1)).double().requires_grad_()]
    before = [keypoints.detach().clone() for keypoints in clip]
    boxes = [torch.tensor([[0.0, 0, 40, 100]], dtype=torch.float64)] * 2
    assert lists(link_keypoints(clip, boxes)) == [[0], [0]]
    assert all(torch.equal(now, then) for now, then in zip(clip, before))


@methods
def test_a_stream_gives_what_the_whole_clip_gives(method):
    clip, boxes = random_clip(15, 4, seed=3)
    tracker = KeypointTracker(method=method)
    want = lists(link_keypoints(clip, boxes, method=method))
    for _ in range(2):
        # what was read may be overwritten, as buffers of a camera are
        buffers = [(keypoints.clone(), found.clone()) for keypoints, found in zip(clip, boxes)]
        assert [(tracker.update(*buffer).tolist(), *(b.zero_() for b in buffer))[0] for buffer in buffers] == want
        tracker.reset()


clips = st.builds(
    lambda frames, people, seed: random_clip(frames, people, joints=3, hidden=0.2, seed=seed)[0],
    st.integers(1, 8),
    st.integers(1, 6),
    st.integers(0, 10**6),
)


@settings(max_examples=60, deadline=None)
@given(clip=clips, method=st.sampled_from(METHODS), gate=st.sampled_from([0.1, 0.5, math.inf]))
def test_ids_are_unique_in_a_frame_and_count_up(clip, method, gate):
    ids = lists(link_keypoints(clip, method=method, gate=gate))
    assert [len(row) for row in ids] == [len(keypoints) for keypoints in clip]
    assert all(len(set(row)) == len(row) for row in ids)
    assert ids[0] == list(range(len(clip[0])))
    seen = 0
    for row in ids:
        new = [i for i in row if i >= seen]
        assert new == list(range(seen, seen + len(new)))
        seen += len(new)


@settings(max_examples=60, deadline=None)
@given(clip=clips, method=st.sampled_from(METHODS), seed=st.integers(0, 10**6))
def test_order_of_people_does_not_matter(clip, method, seed):
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(keypoints), generator=generator) for keypoints in clip]
    ids = link_keypoints(clip, method=method)
    shuffled = link_keypoints([keypoints[order] for keypoints, order in zip(clip, orders)], method=method)
    pairs = {
        pair for row, order, other in zip(ids, orders, shuffled) for pair in zip(row[order].tolist(), other.tolist())
    }
    # one to one from the ids of the one to those of the other
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


class TestBoxes:
    @methods
    def test_follows_the_overlap(self, method):
        boxes = [
            torch.tensor([[0.0, 0, 40, 100], [60, 0, 100, 100]]),
            torch.tensor([[66.0, 0, 106, 100], [5, 0, 45, 100]]),
        ]
        assert lists(link_boxes(boxes, method=method)) == [[0, 1], [1, 0]]

    @pytest.mark.parametrize(("step", "same"), [(0.0, True), (20.0, True), (22.0, False), (50.0, False)])
    def test_least_overlap(self, step, same):
        # (40 - step) / (40 + step) is 1/3 at 20 and 0.29 at 22
        boxes = [torch.tensor([[x, 0, x + 40, 100]]) for x in (0.0, step)]
        assert lists(link_boxes(boxes))[1] == [0 if same else 1]

    def test_only_equal_boxes(self):
        boxes = [
            torch.tensor([[0.0, 0, 40, 100], [60, 0, 100, 100]]),
            torch.tensor([[60.0, 0, 100, 100], [1, 0, 40, 100]]),
        ]
        assert lists(link_boxes(boxes, iou=1)) == [[0, 1], [1, 2]]

    def test_patience(self):
        box, none = torch.tensor([[0.0, 0, 40, 100]]), torch.zeros(0, 4)
        assert lists(link_boxes([box, *[none] * 5, box])) == [[0], *[[]] * 5, [0]]
        assert lists(link_boxes([box, *[none] * 6, box])) == [[0], *[[]] * 6, [1]]
        assert lists(link_boxes([box, none, box], patience=0)) == [[0], [], [1]]

    @pytest.mark.parametrize("box", [[5.0, 5, 5, 9], [9.0, 5, 5, 9], [math.nan, 0, 9, 9], [0, 0, math.inf, 9]], ids=str)
    def test_boxes_that_overlap_nothing(self, box):
        assert lists(link_boxes([torch.tensor([box])] * 2)) == [[0], [1]]

    def test_no_frames(self):
        assert link_boxes([]) == []


@pytest.mark.parametrize("link", [link_keypoints, link_boxes], ids=["keypoints", "boxes"])
def test_scipy_is_an_extra(link, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    clip = [frame(person(0))] * 2 if link is link_keypoints else [torch.tensor([[0.0, 0, 9, 9]])] * 2
    with pytest.raises(ImportError, match=r'scipy: pip install "actionzoo\[video\]"'):
        link(clip)
    assert lists(link(clip, method="greedy")) == lists(link(clip, method="printed")) == [[0], [0]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "iou"}, ValueError, "unknown method 'iou'; there are hungarian, greedy, printed"),
        ({"gate": 0}, ValueError, "gate is a positive share of the box diagonal, got 0"),
        ({"gate": math.nan}, ValueError, "gate is a positive share"),
        ({"patience": -1}, ValueError, "patience is a whole number of frames, at least 0, got -1"),
        ({"patience": 1.5}, ValueError, "patience is a whole number"),
        ({"keypoints": [torch.zeros(2, 17, 2)]}, ValueError, r"keypoints of a frame have the shape \(n, n, 3\)"),
        ({"keypoints": [torch.zeros(17, 3)]}, ValueError, r"keypoints of a frame .*got \(17, 3\)"),
        ({"keypoints": [[[0, 0, 1]]]}, TypeError, "keypoints of a frame are a tensor of numbers, got list"),
        ({"keypoints": [torch.ones(1, 2, 3, dtype=torch.bool)]}, TypeError, "tensor of numbers, got torch.bool"),
        ({"boxes": []}, ValueError, "keypoints and boxes of the same frames, got 1 and 0"),
        ({"boxes": [torch.zeros(2, 4)]}, ValueError, r"boxes of a frame have the shape \(1, 4\), got \(2, 4\)"),
        ({"boxes": [torch.zeros(1, 5)]}, ValueError, r"boxes of a frame have the shape \(1, 4\), got \(1, 5\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_input(arguments, error, message):
    with pytest.raises(error, match=message):
        link_keypoints(**{"keypoints": [frame(person(0))], **arguments})


def test_joints_of_another_layout():
    tracker = KeypointTracker()
    tracker.update(frame(person(0)))
    with pytest.raises(ValueError, match=r"keypoints have 16 joints, those of the frames before 17; call reset\(\)"):
        tracker.update(torch.zeros(1, 16, 3))
    tracker.reset()
    assert tracker.update(torch.zeros(1, 16, 3)).tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"iou": 0}, ValueError, r"iou lies in \(0, 1\], got 0"),
        ({"iou": 1.5}, ValueError, "iou lies in"),
        ({"method": "best"}, ValueError, "unknown method 'best'"),
        ({"patience": -2}, ValueError, "patience is a whole number"),
        ({"boxes": [torch.zeros(4)]}, ValueError, r"boxes of a frame have the shape \(n, 4\), got \(4,\)"),
        ({"boxes": [None]}, TypeError, "boxes of a frame are a tensor of numbers, got NoneType"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_boxes(arguments, error, message):
    with pytest.raises(error, match=message):
        link_boxes(**{"boxes": [torch.zeros(1, 4)], **arguments})
