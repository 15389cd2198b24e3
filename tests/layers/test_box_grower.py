import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from actionzoo.layers import BoxGrower, grow_boxes
from tests.layers.test_heatmaps import NoSynchronisation
from tests.reference import box_grower as reference

SIZE = (60, 80)
BOX = torch.tensor([[20.0, 10, 40, 50]])


def joint(*rows):
    return torch.tensor([rows], dtype=torch.float32).reshape(1, -1, 3)


def scene(count=40, joints=17, dtype=torch.float32):
    """Boxes that may reach past the picture, and joints on both sides of the threshold in and round them."""
    corners = torch.rand(count, 2, 2, dtype=dtype) * torch.tensor([90.0, 70]) - 5
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    xy = centre[:, None] + side[:, None] * torch.randn(count, joints, 2, dtype=dtype) * 0.4
    return boxes, torch.cat([xy, torch.rand(count, joints, 1, dtype=dtype)], 2)


class TestGrowBoxes:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize(("threshold", "growth"), [(0.3, 1.5), (0.8, 1.1), (0.0, 3.0)])
    def test_equal_the_reference_in_values_and_gradients(self, threshold, growth, dtype, device):
        boxes, keypoints = scene(dtype=dtype)
        keypoints[3, 4] = torch.tensor([torch.nan, 3, 0.9])
        keypoints[5, 1, 1], keypoints[7, 2, 2], keypoints[9, :, 2] = torch.inf, torch.nan, 0
        pairs = []
        for where in (torch.device("cpu"), device):
            leaves = [x.clone().to(where).requires_grad_() for x in (boxes, keypoints)]
            grow = grow_boxes if pairs else reference.grow_boxes
            grown = grow(*leaves, SIZE, threshold, growth)
            grown.backward(torch.arange(1.0, 161).reshape(40, 4).to(grown))
            pairs.append([x.detach().cpu() for x in (grown, *(leaf.grad for leaf in leaves))])
        assert (pairs[0][0] != boxes).any(1).float().mean() > 0.5
        assert pairs[0][2].any(2).sum() > 5
        assert_close(pairs[1], pairs[0])

    coordinate = st.one_of(st.integers(-20, 100).map(float), st.sampled_from([float("nan"), float("inf"), -1e30]))
    person = st.tuples(
        st.tuples(st.integers(0, 80), st.integers(0, 60), st.integers(0, 40), st.integers(0, 40)),
        st.lists(st.tuples(coordinate, coordinate, st.sampled_from([0.9, 0.3, 0.1, 0.0])), min_size=3, max_size=3),
    )

    @settings(max_examples=80, deadline=None)
    @given(st.lists(person, max_size=4), st.sampled_from([1.0, 1.5, 4.0]))
    def test_invariants(self, people, growth):
        given_boxes = [[x, y, min(x + w, 80), min(y + h, 60)] for (x, y, w, h), _ in people]
        boxes = torch.tensor(given_boxes, dtype=torch.float32).reshape(-1, 4)
        keypoints = torch.tensor([rows for _, rows in people], dtype=torch.float32).reshape(-1, 3, 3)
        grown = grow_boxes(boxes, keypoints, SIZE, max_growth=growth)
        assert_close(grown, reference.grow_boxes(boxes, keypoints, SIZE, 0.3, growth))
        # holds the box, stays in the picture and within the limit
        assert (grown[:, :2] <= boxes[:, :2]).all()
        assert (grown[:, 2:] >= boxes[:, 2:]).all()
        assert ((grown >= 0) & (grown <= torch.tensor([80.0, 60, 80, 60]))).all()
        room = (boxes[:, 2:] - boxes[:, :2]) * (growth - 1) + 1e-4
        assert (boxes[:, :2] - grown[:, :2] <= room).all()
        assert (grown[:, 2:] - boxes[:, 2:] <= room).all()
        # growing again by the same joints goes on from there only where the limit stopped it
        free = (grown[:, :2] - boxes[:, :2] > -room + 1e-3) & (boxes[:, 2:] - grown[:, 2:] > -room + 1e-3)
        again = grow_boxes(grown, keypoints, SIZE, max_growth=growth)
        still = free.all(1)
        assert_close(again[still], grown[still])

    def test_includes_the_joints_outside(self):
        grown = grow_boxes(BOX, joint([15, 30, 0.9], [44, 8, 0.5], [30, 30, 1.0]), SIZE)
        assert grown.tolist() == [[15, 8, 44, 50]]

    def test_joints_inside_change_nothing(self):
        assert torch.equal(grow_boxes(BOX, joint([20, 10, 1.0], [40, 50, 1.0]), SIZE), BOX)

    @pytest.mark.parametrize(("score", "left"), [(0.3, 15), (0.29, 20), (0.0, 20), (float("nan"), 20)])
    def test_the_threshold_itself_is_enough(self, score, left):
        assert grow_boxes(BOX, joint([15, 30, score]), SIZE)[0, 0] == left

    def test_one_wild_joint_moves_a_side_by_half_the_box(self):
        assert grow_boxes(BOX, joint([-500, 30, 1.0]), SIZE).tolist() == [[10, 10, 40, 50]]
        assert grow_boxes(BOX, joint([30, 1e9, 1.0]), (1000, 1000)).tolist() == [[20, 10, 40, 70]]
        assert grow_boxes(BOX, joint([500, 30, 1.0]), SIZE, max_growth=2).tolist() == [[20, 10, 60, 50]]
        assert torch.equal(grow_boxes(BOX, joint([500, 30, 1.0]), SIZE, max_growth=1), BOX)

    def test_stays_in_the_picture(self):
        box = torch.tensor([[-5.0, 10, 40, 59]])
        assert grow_boxes(box, joint([-9, 70, 1.0], [30, -3, 0.1]), SIZE).tolist() == [[0, 10, 40, 60]]

    @pytest.mark.parametrize("spoilt", [torch.nan, torch.inf, -torch.inf], ids=str)
    def test_spoilt_joints_do_not_count_and_give_no_nan_gradient(self, spoilt):
        box = BOX.clone().requires_grad_()
        keypoints = joint([spoilt, 30, 0.9], [30, spoilt, 0.9], [30, 30, spoilt]).requires_grad_()
        grown = grow_boxes(box, keypoints, SIZE)
        grown.sum().backward()
        assert torch.equal(grown, BOX)
        assert box.grad.tolist() == [[1, 1, 1, 1]]
        assert not keypoints.grad.any()

    def test_no_people_and_no_joints(self, device):
        none = grow_boxes(torch.zeros(0, 4, device=device), torch.zeros(0, 17, 3, device=device), SIZE)
        assert none.shape == (0, 4)
        assert torch.equal(grow_boxes(BOX.to(device), torch.zeros(1, 0, 3, device=device), SIZE).cpu(), BOX)

    def test_half_precision_is_computed_in_float32(self, device):
        boxes, keypoints = (x.bfloat16().to(device) for x in scene())
        want = grow_boxes(boxes.float(), keypoints.float(), SIZE)
        found = grow_boxes(boxes, keypoints, SIZE)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, want.bfloat16())

    def test_never_waits_for_the_device(self, device):
        boxes, keypoints = (x.to(device) for x in scene())
        with NoSynchronisation():
            grow_boxes(boxes, keypoints, SIZE)

    @pytest.mark.parametrize(
        ("boxes", "keypoints", "args", "error", "message"),
        [
            (torch.zeros(4), torch.zeros(1, 17, 3), {}, ValueError, r"boxes \(N, 4\) as xyxy, got shape \(4,\)"),
            (
                torch.zeros(2, 4),
                torch.zeros(1, 17, 3),
                {},
                ValueError,
                r"keypoints \(2, J, 3\).*got shape \(1, 17, 3\)",
            ),
            (torch.zeros(2, 4), torch.zeros(2, 17, 2), {}, ValueError, r"got shape \(2, 17, 2\)"),
            (torch.zeros(2, 4).long(), torch.zeros(2, 17, 3), {}, TypeError, r"floating-point boxes, got torch\.int64"),
            (torch.zeros(2, 4), torch.zeros(2, 17, 3).int(), {}, TypeError, "floating-point keypoints"),
            (torch.zeros(2, 4), torch.zeros(2, 17, 3), {"max_growth": 0.9}, ValueError, "at least 1, got 0.9"),
        ],
        ids=["rank", "people", "entries", "boxes-dtype", "keypoints-dtype", "growth"],
    )
    def test_wrong_input(self, boxes, keypoints, args, error, message):
        with pytest.raises(error, match=message):
            grow_boxes(boxes, keypoints, SIZE, **args)


class TestGrower:
    def test_once_is_the_function(self):
        boxes, keypoints = scene()
        grown, last = BoxGrower(0.5, 1.2)(boxes, keypoints, SIZE)
        assert torch.equal(grown, grow_boxes(boxes, keypoints, SIZE, 0.5, 1.2))
        assert last is keypoints

    def test_poses_and_boxes_take_turns_until_nothing_moves(self):
        """Every estimate finds a joint a little outside the box it looks at, until the fourth."""
        seen = []

        def estimate(boxes):
            seen.append(boxes[0].tolist())
            return joint([boxes[0, 0] - (3 if len(seen) < 4 else 0), 30, 0.9])

        grown, keypoints = BoxGrower(max_iters=9)(BOX, joint([19, 30, 0.9]), SIZE, estimate)
        assert [box[0] for box in seen] == [19, 16, 13, 10]
        assert grown.tolist() == [[10, 10, 40, 50]]
        assert keypoints[0, 0, 0] == 10

    def test_the_limit_is_that_of_one_turn(self):
        def estimate(boxes):
            return joint([boxes[0, 0] - 9, boxes[0, 3] + 9, 0.9])

        grown, _ = BoxGrower(max_iters=20)(BOX, joint([12, 55, 0.9]), (500, 500), estimate)
        assert grown.tolist() == [[10, 10, 40, 70]]

    def test_a_box_never_shrinks_and_turns_are_counted(self):
        calls = []

        def estimate(boxes):
            calls.append(1)
            return joint([20 + len(calls), 50 + len(calls), 0.9])

        grown, _ = BoxGrower(max_iters=3)(BOX, joint([15, 30, 0.9]), SIZE, estimate)
        assert grown.tolist() == [[15, 10, 40, 52]]
        assert len(calls) == 2

    def test_wrong_settings(self):
        with pytest.raises(ValueError, match=r"at least 1, got 0\.5 and 1"):
            BoxGrower(max_growth=0.5)
        with pytest.raises(ValueError, match=r"at least 1, got 1\.5 and 0"):
            BoxGrower(max_iters=0)
        with pytest.raises(ValueError, match="max_iters=2 needs estimate"):
            BoxGrower(max_iters=2)(BOX, joint([15, 30, 0.9]), SIZE)

    def test_compiles_in_one_graph(self, device):
        torch._dynamo.reset()
        boxes, keypoints = (x.to(device) for x in scene())
        found = torch.compile(BoxGrower(), backend="eager", fullgraph=True)(boxes, keypoints, SIZE)
        assert_close(found[0], BoxGrower()(boxes, keypoints, SIZE)[0])

    def test_representation_names_the_rules(self):
        assert repr(BoxGrower()) == "BoxGrower(threshold=0.3, max_growth=1.5, max_iters=1)"
