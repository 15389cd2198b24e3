from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from actionzoo.layers import (
    COCO_FLIP_PAIRS,
    COCO_JOINT_PARTS,
    COCO_JOINTS,
    MPII_FLIP_PAIRS,
    MPII_JOINT_PARTS,
    MPII_JOINTS,
    POSE_DOT_COLORS,
    PoseDotEncoder,
)
from tests.layers.test_heatmaps import NoSynchronisation
from tests.reference import pose_dots as reference

LAYOUTS = {"coco": (COCO_JOINTS, COCO_JOINT_PARTS), "mpii": (MPII_JOINTS, MPII_JOINT_PARTS)}


def scene(batch=2, people=2, size=(31, 45), joints=17, dtype=torch.float32):
    """Noise, joints in and round it of which about a third do not count, and boxes."""
    height, width = size
    keypoints = torch.rand(batch, people, joints, 3) * 1.3 - 0.15
    keypoints[..., :2] *= torch.tensor([width, height])
    corners = torch.rand(batch, people, 2, 2) * torch.tensor([width, height]) * 1.4 - 5
    boxes = torch.cat([corners.amin(2), corners.amax(2)], -1)
    return torch.rand(batch, 3, height, width).to(dtype), keypoints, boxes


def spoil(keypoints):
    """Joints that never get a dot: without a score, NaN, infinite, or of a NaN score."""
    keypoints[0, 0, 1] = torch.tensor([9.0, 9, 0])
    keypoints[0, 0, 2] = torch.tensor([torch.nan, 9, 0.9])
    keypoints[0, 1, 3] = torch.tensor([9, torch.inf, 0.9])
    keypoints[-1, 0, 4] = torch.tensor([9, 9, torch.nan])
    keypoints[-1, 1, 5] = torch.tensor([1e30, -1e30, 0.9])
    return keypoints


def dots(encoder, images, keypoints, boxes=None):
    """The reference with an encoder's settings."""
    kept = encoder.has_dot.tolist()
    colors = [row if keep else None for row, keep in zip(encoder.colors.tolist(), kept)]
    return reference.pose_dots(images, keypoints, boxes, colors, encoder.threshold, encoder.scale, encoder.min_radius)


class TestValues:
    @pytest.mark.parametrize(
        ("dtype", "tolerance"),
        [(torch.float32, 1e-6), (torch.float64, 1e-6), (torch.bfloat16, 2**-8)],
        ids=["float32", "float64", "bfloat16"],
    )
    @pytest.mark.parametrize("size", [(31, 45), (64, 24)], ids=lambda s: f"{s[0]}x{s[1]}")
    @pytest.mark.parametrize("own_size", [False, True], ids=["crop", "boxes"])
    def test_equal_the_reference(self, size, own_size, dtype, tolerance, device):
        images, keypoints, boxes = scene(size=size, dtype=dtype)
        spoil(keypoints)
        boxes[0, 0, 2] = torch.nan
        encoder = PoseDotEncoder(scale=7, min_radius=2)
        want = dots(encoder, images, keypoints, boxes if own_size else None)
        assert 0.05 < (want != images).float().mean() < 0.98
        found = encoder.to(device)(images.to(device), keypoints.to(device), boxes.to(device) if own_size else None)
        assert found.dtype == dtype
        assert found.is_contiguous()
        assert_close(found.cpu(), want, rtol=0, atol=tolerance)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_one_person_per_picture_of_any_layout(self, layout, device):
        parts = LAYOUTS[layout][1]
        images, keypoints, boxes = scene(3, 1, joints=len(parts))
        encoder = PoseDotEncoder(parts)
        want = dots(encoder, images, keypoints, boxes)
        encoder.to(device)
        found = encoder(images.to(device), keypoints[:, 0].to(device), boxes[:, 0].to(device))
        assert_close(found.cpu(), want)

    # eighths are exact in float32 as in the reference, on the very edge of a disc too
    coordinate = st.one_of(
        st.integers(-60, 160).map(lambda x: x / 8), st.sampled_from([float("nan"), float("inf"), 1e38, -1e38])
    )

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(*[coordinate] * 2, st.sampled_from([0.3, 0.29, 1.0])), min_size=2, max_size=2),
        st.integers(1, 12),
        st.integers(1, 12),
        st.integers(0, 4),
    )
    def test_any_joints_equal_the_reference(self, joints, height, width, radius):
        images, keypoints = torch.rand(1, 3, height, width), torch.tensor([[joints]])
        encoder = PoseDotEncoder(("head", "hip"), min_radius=radius)
        assert_close(encoder(images, keypoints), dots(encoder, images, keypoints))

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40))
    def test_pixels_outside_the_dots_are_untouched(self, seed, height, width):
        torch.manual_seed(seed)
        images, keypoints, boxes = scene(1, 2, (height, width))
        encoder = PoseDotEncoder(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        found = encoder(images, keypoints, boxes)
        touched = (dots(encoder, images, keypoints, boxes) != images).any(1, keepdim=True)
        assert torch.equal(torch.where(touched, 0, found), torch.where(touched, 0, images))
        palette = {tuple(color) for color in encoder.colors.tolist()}
        assert {tuple(pixel) for pixel in found.permute(0, 2, 3, 1)[touched[:, 0]].tolist()} <= palette


class TestDots:
    def one(self, x, y, size=(20, 30), score=0.9, **settings):
        """Where the dot of a single joint lies."""
        encoder = PoseDotEncoder(("head",), **settings)
        found = encoder(torch.zeros(1, 3, *size), torch.tensor([[[x, y, score]]]))
        return found[0, 1] == 1

    @pytest.mark.parametrize(
        ("size", "radius"), [((20, 30), 3), ((384, 288), 11), ((90, 90), 3), ((150, 150), 5), ((149, 150), 4)]
    )
    def test_the_radius_is_that_of_the_authors(self, size, radius):
        """max(int(sqrt(w h) / 30), 3), the distance of a pixel's centre."""
        x, y = size[1] / 2, size[0] / 2
        dot = self.one(x, y, size)
        rows, columns = dot.nonzero().T + 0.5
        assert dot.any()
        reach = ((rows - y) ** 2 + (columns - x) ** 2).sqrt().max().item()
        assert radius - 1 < reach <= radius
        assert 0.75 < dot.sum() / (torch.pi * radius**2) < 1.25

    def test_a_larger_person_has_larger_dots(self):
        images, keypoints = torch.zeros(1, 3, 300, 400), torch.zeros(1, 2, 1, 3)
        keypoints[0, :, 0] = torch.tensor([[60.0, 60, 1], [250, 150, 1]])
        boxes = torch.tensor([[[10.0, 10, 100, 100], [120, 0, 390, 300]]])
        found = PoseDotEncoder(("head",))(images, keypoints, boxes)[0, 1]
        assert found[:110, :110].sum().item() == pytest.approx(torch.pi * 3**2, rel=0.2)
        assert found[110:, 110:].sum() + found[:110, 110:].sum() == pytest.approx(torch.pi * 9**2, rel=0.05)

    @pytest.mark.parametrize(
        ("x", "y", "count"),
        [(-1.0, 10.0, 9), (-3.0, 10.0, 0), (-2.4, 10.0, 2), (33.1, 10.0, 0), (15.0, 100.0, 0), (31.0, -1.0, 1)],
        ids=["half", "just-out", "edge", "right", "below", "corner"],
    )
    def test_a_joint_outside_reaches_in_or_not(self, x, y, count):
        dot = self.one(x, y)
        want = reference.pose_dots(
            torch.zeros(1, 3, 20, 30), torch.tensor([[[[x, y, 1.0]]]]), None, [(0, 1, 0)], 0.3, 30, 3
        )
        assert torch.equal(dot, want[0, 1] == 1)
        assert (dot.sum() > 0) == (count > 0)

    @pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 7)], ids=lambda s: f"{s[0]}x{s[1]}")
    def test_a_crop_smaller_than_a_dot_is_all_dot(self, size):
        assert self.one(size[1] / 2, size[0] / 2, size)[:, : min(size[1], 5)].all()

    @pytest.mark.parametrize(
        ("score", "painted"), [(0.3, True), (0.2999, False), (1.0, True), (0.0, False), (-1, False)]
    )
    def test_the_threshold_itself_is_enough(self, score, painted):
        assert self.one(10.0, 10.0, score=score).any() == painted

    def test_no_joint_no_dot(self):
        images = torch.rand(2, 3, 9, 8)
        assert torch.equal(PoseDotEncoder()(images, torch.zeros(2, 17, 3)), images)
        assert torch.equal(PoseDotEncoder()(images, torch.zeros(2, 0, 17, 3)), images)

    def test_the_later_dot_is_on_top(self):
        keypoints = torch.tensor([[[[5.0, 5, 1], [5, 5, 1]], [[6, 5, 1], [50, 50, 1]]]])
        found = PoseDotEncoder(("head", "hip"))(torch.zeros(1, 3, 12, 12), keypoints)[0]
        assert found[:, 5, 2].tolist() == [1, 0, 1]  # the hip of the first
        assert found[:, 5, 5].tolist() == [0, 1, 0]  # below the head of the second

    def test_the_pictures_given_are_not_changed(self):
        images, keypoints, _ = scene()
        before = images.clone()
        PoseDotEncoder()(images, keypoints)
        assert torch.equal(images, before)

    def test_normalised_pictures_get_the_same_dots(self):
        images, keypoints, _ = scene()
        mean, std = (torch.rand(2, 3, 1, 1) + 0.1).unbind()
        plain = PoseDotEncoder()(images, keypoints)
        found = PoseDotEncoder(mean=mean.flatten().tolist(), std=std.flatten().tolist())(
            (images - mean) / std, keypoints
        )
        assert_close(found * std + mean, plain)


class TestColours:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_a_joint_has_the_colour_of_its_part(self, layout):
        names, parts = LAYOUTS[layout]
        assert len(names) == len(parts)
        words = {
            "head": ("nose", "eye", "ear", "neck", "head_top"), "arm": ("shoulder", "elbow"), "hand": ("wrist",),
            "hip": ("hip", "pelvis"), "leg": ("knee",), "foot": ("ankle",),
        }  # fmt: skip
        for name, part in zip(names, parts):
            if name == "thorax":
                assert part is None
                continue
            side = [s for s in ("left_", "right_") if name.startswith(s)] if part not in ("head", "hip") else []
            (group,) = (group for group, ends in words.items() if name.endswith(ends))
            assert part == "".join(side) + group
        assert {part for part in parts if part} == set(POSE_DOT_COLORS)

    def test_every_two_parts_differ_and_left_from_right(self):
        colors = torch.tensor(list(POSE_DOT_COLORS.values())).float()
        assert len(colors) == 10
        assert min((one - other).abs().max() for one, other in combinations(colors, 2)) >= 127
        for part, (red, _, blue) in POSE_DOT_COLORS.items():
            if "_" in part:
                assert (red > blue) == part.startswith("left_")

    @pytest.mark.parametrize(
        ("parts", "pairs"), [(COCO_JOINT_PARTS, COCO_FLIP_PAIRS), (MPII_JOINT_PARTS, MPII_FLIP_PAIRS)], ids=LAYOUTS
    )
    def test_sides_of_a_pair_of_joints_differ_unless_the_part_has_none(self, parts, pairs):
        colors = PoseDotEncoder(parts).colors
        for one, other in pairs:
            assert torch.equal(colors[one], colors[other]) == (parts[one] in ("head", "hip"))

    def test_a_palette_of_ones_own(self):
        encoder = PoseDotEncoder(("head", None), palette={"head": (51, 102, 255.0)})
        found = encoder(torch.zeros(1, 3, 9, 9), torch.tensor([[[4.0, 4, 1], [8, 8, 1]]]))
        assert_close(found[0, :, 4, 4], torch.tensor([0.2, 0.4, 1.0]))
        assert not found[0, :, 8, 8].any()

    def test_colours_are_no_weights(self):
        assert not PoseDotEncoder().state_dict()
        assert not list(PoseDotEncoder().parameters())


class TestRuns:
    def test_gradients_reach_the_pixels_that_show(self, device):
        images, keypoints, _ = (x.to(device) for x in scene())
        images.requires_grad_()
        keypoints.requires_grad_()
        found = PoseDotEncoder().to(device)(images, keypoints)
        upstream = torch.rand_like(found)
        found.backward(upstream)
        touched = (found != images).any(1, keepdim=True)
        assert 0 < touched.float().mean() < 1
        assert torch.equal(images.grad, torch.where(touched, 0, upstream))
        assert keypoints.grad is None

    def test_no_picture(self, device):
        images, keypoints = torch.zeros(0, 3, 9, 8, device=device), torch.zeros(0, 17, 3, device=device)
        assert PoseDotEncoder().to(device)(images, keypoints).shape == (0, 3, 9, 8)

    def test_pictures_of_a_batch_do_not_influence_one_another(self):
        images, keypoints, boxes = scene(4)
        encoder, order = PoseDotEncoder(), torch.tensor([2, 0, 3, 1])
        whole = encoder(images, keypoints, boxes)
        assert torch.equal(encoder(images[order], keypoints[order], boxes[order]), whole[order])
        assert torch.equal(encoder(images[1:2], keypoints[1:2], boxes[1:2]), whole[1:2])

    def test_never_waits_for_the_device(self, device):
        inputs = [x.to(device) for x in scene()]
        encoder = PoseDotEncoder().to(device)
        with NoSynchronisation():
            encoder(*inputs)

    def test_compiles_in_one_graph(self, device):
        torch._dynamo.reset()
        encoder, inputs = PoseDotEncoder().to(device), [x.to(device) for x in scene()]
        found = torch.compile(encoder, backend="eager", fullgraph=True)(*inputs)
        assert torch.equal(found, encoder(*inputs))

    def test_exports_with_any_batch(self):
        encoder, batch = PoseDotEncoder(), torch.export.Dim("batch", max=64)
        program = torch.export.export(encoder, scene(2), dynamic_shapes=({0: batch},) * 3)
        for count in (1, 5):
            inputs = scene(count)
            assert torch.equal(program.module()(*inputs), encoder(*inputs))


@pytest.mark.parametrize(
    ("images", "keypoints", "boxes", "error", "message"),
    [
        ((3, 8, 8), (1, 17, 3), None, ValueError, r"pictures \(B, 3, H, W\), got shape \(3, 8, 8\)"),
        ((1, 4, 8, 8), (1, 17, 3), None, ValueError, r"got shape \(1, 4, 8, 8\)"),
        ((2, 3, 8, 8), (2, 16, 3), None, ValueError, r"keypoints \(2, 17, 3\), or \(2, P, 17, 3\), got \(2, 16, 3\)"),
        ((2, 3, 8, 8), (2, 17, 2), None, ValueError, r"got \(2, 17, 2\)"),
        ((2, 3, 8, 8), (3, 17, 3), None, ValueError, r"got \(3, 17, 3\)"),
        ((2, 3, 8, 8), (17, 3), None, ValueError, r"got \(17, 3\)"),
        ((2, 3, 8, 8), (2, 4, 17, 3), (2, 4), ValueError, r"boxes \(2, 4, 4\) of the people, got \(2, 4\)"),
        ((2, 3, 8, 8), (2, 17, 3), (1, 4), ValueError, r"boxes \(2, 4\) of the people, got \(1, 4\)"),
    ],
    ids=["rank", "channels", "joints", "entries", "batch", "one-person", "boxes", "boxes-batch"],
)
def test_wrong_input(images, keypoints, boxes, error, message):
    boxes = None if boxes is None else torch.zeros(boxes)
    with pytest.raises(error, match=message):
        PoseDotEncoder()(torch.zeros(images), torch.zeros(keypoints), boxes)


def test_wrong_dtypes():
    images, keypoints = torch.zeros(1, 3, 8, 8), torch.zeros(1, 17, 3)
    with pytest.raises(TypeError, match=r"floating-point pictures, got torch\.uint8"):
        PoseDotEncoder()(images.byte(), keypoints)
    with pytest.raises(TypeError, match=r"floating-point keypoints, got torch\.int64"):
        PoseDotEncoder()(images, keypoints.long())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parts": ()}, "a part for at least one joint"),
        ({"parts": (None, None)}, "a part for at least one joint"),
        ({"parts": ("head", "tail")}, r"red, green, blue in \[0, 255\] for the part 'tail', got None"),
        ({"parts": ("head",), "palette": {"head": (1, 2)}}, r"'head', got \(1, 2\)"),
        ({"parts": ("head",), "palette": {"head": (1, 2, 256)}}, r"'head', got \(1, 2, 256\)"),
        ({"scale": 0}, "scale > 0 and min_radius >= 0 pixels, got 0 and 3"),
        ({"min_radius": -1}, "got 30 and -1"),
        ({"mean": (0.5,)}, "three channels"),
        ({"std": (1, 0, 1)}, "std above 0"),
    ],
    ids=["none", "no-dot", "colour", "two-values", "range", "scale", "radius", "mean", "std"],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PoseDotEncoder(**settings)


def test_representation_names_the_options():
    assert repr(PoseDotEncoder()) == "PoseDotEncoder(17 joints, threshold=0.3, scale=30, min_radius=3)"
