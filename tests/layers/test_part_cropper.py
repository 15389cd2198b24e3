import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from actionzoo.layers import MPII_FALLBACK, MPII_PARTS, PartCropper, part_boxes
from tests.layers.test_heatmaps import NoSynchronisation
from tests.reference import part_cropper as reference

HEAD, RIGHT, LEFT = range(3)
RIGHT_WRIST, RIGHT_ELBOW, LEFT_ELBOW, LEFT_WRIST = 10, 11, 14, 15
OTHER_PARTS = {"hips": (2, 3), "feet": (0, 5), "chest": 7}
OTHER_FALLBACK = {"feet": (1, 4), "chest": (12, 13, 8)}


def people(batch, size, dtype=torch.float64):
    """Joints in and round a picture of `(H, W)`, about a third of them missing."""
    joints = torch.rand(batch, 16, 3, dtype=dtype) * 1.4 - 0.2
    joints[..., :2] *= torch.tensor([size[1], size[0]], dtype=dtype)
    joints[..., 2] -= 0.2
    return joints


def person(size=512, score=0.9):
    """One person `(1, 16, 3)`: joints evenly on an ellipse, whose box of 288 x 384 at 512 pixels makes l = 120."""
    angle = torch.arange(16) * torch.pi / 8
    ellipse = torch.stack([9 / 32 * angle.cos(), 3 / 8 * angle.sin()], 1) * size + size / 2
    return torch.cat([ellipse.round(), torch.full((16, 1), score)], 1)[None]


class TestBoxes:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("size", [(97, 131), (512, 512), (31, 20)], ids=lambda s: f"{s[0]}x{s[1]}")
    @pytest.mark.parametrize(
        ("parts", "fallback"), [(MPII_PARTS, MPII_FALLBACK), (OTHER_PARTS, OTHER_FALLBACK)], ids=["mpii", "means"]
    )
    def test_equal_the_reference(self, parts, fallback, size, dtype, device):
        joints = people(40, size, dtype)
        joints[::7, :, 2] = 0
        joints[3, RIGHT_WRIST, 0], joints[4, 7, 1], joints[5, 3, 2] = torch.nan, torch.inf, torch.nan
        want, want_valid = reference.part_boxes(joints, size, parts, fallback)
        assert 0 < want_valid.sum() < want_valid.numel()
        boxes, valid = part_boxes(joints.to(device), size, parts, fallback)
        assert boxes.dtype == torch.int64
        assert valid.dtype == torch.bool
        assert torch.equal(valid.cpu(), want_valid)
        assert torch.equal(boxes.cpu(), want)

    coordinate = st.one_of(st.floats(-50, 150), st.floats(width=32))
    triples = st.tuples(coordinate, coordinate, st.sampled_from([0.5, 0.0, -1.0, float("nan")]))

    @settings(max_examples=80, deadline=None)
    @given(st.lists(triples, min_size=2, max_size=2), st.integers(1, 99), st.integers(1, 99))
    def test_any_joints_give_finite_boxes(self, joints, height, width):
        joints = torch.tensor([joints], dtype=torch.float64)
        boxes, valid = part_boxes(joints, (height, width), {"first": 0, "both": (0, 1)}, {})
        clamped = torch.where(joints.isfinite(), joints.clamp(-(2.0**24), 2.0**24), joints)
        want, want_valid = reference.part_boxes(clamped, (height, width), {"first": 0, "both": (0, 1)}, {})
        assert torch.equal(boxes, want)
        assert torch.equal(valid, want_valid)
        side = max(height, width)
        lengths = boxes[..., 2:] - boxes[..., :2]
        assert (lengths > side / 16 - 1).all()
        assert (lengths < side + 1).all()

    @pytest.mark.parametrize("offset", [0.0, 0.25, 0.5, 1.5], ids=str)
    def test_the_patch_of_300_by_400_is_250(self, offset, device):
        """Joints at (0, 0) and (300, 400) alone: l = 500 / 4."""
        joints = torch.zeros(1, 16, 3, device=device)
        joints[0, 9] = torch.tensor([0, 0, 1.0])
        joints[0, 10] = torch.tensor([300, 400, 1.0])
        joints[..., :2] += offset
        boxes, valid = part_boxes(joints, (512, 512))
        assert valid.tolist() == [[True, True, False]]
        assert (boxes[..., 2:] - boxes[..., :2] == 250).all()
        if offset == 0:
            assert boxes.tolist() == [[[-125, -125, 125, 125], [175, 275, 425, 525], [131, 131, 381, 381]]]

    def test_the_side_does_not_depend_on_where_a_box_lies(self):
        """l = 124.5: rounding halves to the even number would give 248 here and 250 there."""
        joints = torch.zeros(1, 16, 3)
        joints[0, 9] = torch.tensor([0, 0, 1.0])
        joints[0, 10] = torch.tensor([498, 0, 1.0])
        for dx, dy in ((0, 0), (1, 0), (0, 1), (7, 4)):
            boxes, _ = part_boxes(joints + torch.tensor([dx, dy, 0]), (512, 512))
            assert (boxes[..., 2:] - boxes[..., :2] == 249).all()

    @pytest.mark.parametrize("fill", [0.0, -1.0, torch.nan, torch.inf], ids=["0", "-1", "nan", "inf"])
    def test_no_visible_joint(self, fill, device):
        joints = torch.full((1, 16, 3), fill, device=device)
        boxes, valid = part_boxes(joints, (512, 512))
        assert boxes.tolist() == [[[128, 128, 384, 384]] * 3]
        assert not valid.any()
        # a picture that is not square: l is a quarter of the larger side, round the centre
        assert part_boxes(joints, (100, 200))[0].tolist() == [[[50, 0, 150, 100]] * 3]

    @pytest.mark.parametrize("visible", [[9], list(range(16))], ids=["one-joint", "coincident"])
    def test_length_is_clamped_from_below(self, visible, device):
        joints = torch.zeros(1, 16, 3, device=device)
        joints[0, visible] = torch.tensor([200.0, 100, 0.1], device=device)
        boxes, valid = part_boxes(joints, (512, 512))
        assert boxes[0, HEAD].tolist() == [184, 84, 216, 116]
        assert valid[0].tolist() == [True, len(visible) > 1, len(visible) > 1]

    def test_length_is_clamped_from_above(self, device):
        joints = person().to(device)
        joints[0, 0, :2] = torch.tensor([-3000, 1e30])
        boxes, valid = part_boxes(joints, (512, 512))
        assert (boxes[..., 2:] - boxes[..., :2] == 512).all()
        assert valid.all()

    def test_missing_hands(self, device):
        joints = person().to(device)
        joints[0, [RIGHT_WRIST, LEFT_WRIST, LEFT_ELBOW], 2] = torch.tensor([0, torch.nan, -0.5], device=device)
        boxes, valid = part_boxes(joints, (512, 512))
        assert valid.tolist() == [[True, True, False]]
        centres = (boxes[0, :, :2] + boxes[0, :, 2:]) / 2
        assert_close(centres[HEAD], joints[0, 9, :2], rtol=0, atol=0.5)
        assert_close(centres[RIGHT], joints[0, RIGHT_ELBOW, :2], rtol=0, atol=0.5)
        assert_close(centres[LEFT].cpu(), torch.tensor([256.0, 256.0]), rtol=0, atol=0.5)
        # the part is missing, the person is not: l comes from the joints that are visible
        assert (boxes[..., 2:] - boxes[..., :2] == 240).all()

    def test_a_missing_joint_does_not_stretch_the_length(self):
        joints = person()
        far = joints.clone()
        far[0, 3] = torch.tensor([5000.0, 5000.0, 0.0])
        joints[0, 3, 2] = 0
        assert torch.equal(part_boxes(far, (512, 512))[0], part_boxes(joints, (512, 512))[0])

    def test_the_mean_is_of_the_visible_joints(self):
        joints = person()
        joints[0, 3, 2] = 0
        boxes, valid = part_boxes(joints, (512, 512), {"both": (2, 3), "one": 2})
        assert torch.equal(boxes[0, 0], boxes[0, 1])
        assert valid.all()

    def test_other_parts_do_not_inherit_the_elbows_of_mpii(self):
        joints = person()
        joints[0, RIGHT_WRIST, 2] = 0
        assert part_boxes(joints, (512, 512))[1].all()
        assert part_boxes(joints, (512, 512), dict(MPII_PARTS))[1].all()
        assert part_boxes(joints, (512, 512), {"right": RIGHT_WRIST, "left": 9})[1].tolist() == [[False, True]]
        assert part_boxes(joints, (512, 512), fallback={})[1].tolist() == [[True, False, True]]

    def test_half_precision_joints_are_computed_in_float32(self, device):
        joints = people(5, (90, 90), torch.float32).bfloat16().to(device)
        assert torch.equal(part_boxes(joints, (90, 90))[0], part_boxes(joints.float(), (90, 90))[0])

    @pytest.mark.parametrize(
        ("joints", "arguments", "message"),
        [
            (torch.zeros(16, 3), {}, r"joints \(B, J, 3\) as x, y, score, got shape \(16, 3\)"),
            (torch.zeros(1, 16, 2), {}, r"got shape \(1, 16, 2\)"),
            (torch.zeros(1, 12, 3), {}, "'left' is cut at joint 15, but there are 12 joints"),
            (torch.zeros(1, 16, 3), {"parts": {"head": (9, -1)}}, "'head' is cut at joint -1"),
            (torch.zeros(1, 16, 3), {"parts": {"head": 9}, "fallback": {"neck": 8}}, r"'neck'.*among.*\['head'\]"),
            (torch.zeros(1, 16, 3), {"parts": {}}, "there must be a part"),
            (torch.zeros(1, 16, 3), {"parts": {"head": ()}}, "every part needs a joint"),
        ],
        ids=["rank", "entries", "too-few-joints", "negative", "unknown-fallback", "no-parts", "empty-part"],
    )
    def test_wrong_input(self, joints, arguments, message):
        with pytest.raises(ValueError, match=message):
            part_boxes(joints, (64, 64), **arguments)


class TestCropper:
    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize(
        ("dtype", "tolerance"),
        [(torch.float32, 1e-5), (torch.bfloat16, 2**-6)],
        ids=["float32", "bfloat16"],
    )
    @pytest.mark.parametrize("size", [(45, 61), (32, 32)], ids=lambda s: f"{s[0]}x{s[1]}")
    def test_equals_the_reference(self, size, dtype, tolerance, batch, device):
        base, joints = torch.rand(batch, 3, *size).to(dtype), people(batch, size, torch.float32)
        cropper = PartCropper(out=(17, 13))
        plain = base.clone().float().requires_grad_()
        want_boxes, want_valid = reference.part_boxes(joints, size, MPII_PARTS, MPII_FALLBACK)
        want = reference.crop_parts(plain, want_boxes, (17, 13))
        upstream = torch.rand_like(want)
        want.backward(upstream)

        ours = base.clone().to(device).requires_grad_()
        crops, boxes, valid = cropper(ours, joints.to(device))
        crops.backward(upstream.to(crops))
        assert crops.shape == (batch, 3, 3, 17, 13)
        assert crops.dtype == dtype
        assert torch.equal(boxes.cpu(), want_boxes)
        assert torch.equal(valid.cpu(), want_valid)
        assert_close(crops.detach().cpu().float(), want.detach(), rtol=0, atol=tolerance)
        scale = max(1, plain.grad.abs().max().item())
        assert_close(ours.grad.cpu().float(), plain.grad, rtol=0, atol=tolerance * scale)

    def test_a_joint_outside_the_picture_is_filled_with_zeros(self, device):
        base, joints = torch.ones(1, 3, 512, 512, device=device), person().to(device)
        joints[0, RIGHT_WRIST, :2] = torch.tensor([-1000.0, 300.0])
        joints[0, LEFT_WRIST, :2] = torch.tensor([0.0, 256.0])
        crops, boxes, valid = PartCropper(out=8)(base, joints)
        assert valid.all()
        assert boxes[0, RIGHT, 2] < 0
        assert crops[0, RIGHT].count_nonzero() == 0
        assert crops[0, LEFT, :, :, :4].count_nonzero() == 0
        assert (crops[0, LEFT, :, :, 4:] == 1).all()

    def test_a_crop_of_its_own_size_is_a_copy(self, device):
        base = torch.rand(1, 3, 512, 512, device=device)
        crops, boxes, _ = PartCropper(out=240)(base, person().to(device))
        x1, y1, x2, y2 = boxes[0, RIGHT].tolist()
        assert torch.equal(crops[0, RIGHT], base[0, :, y1:y2, x1:x2])

    def test_no_person(self, device):
        base = torch.zeros(0, 3, 20, 24, device=device, requires_grad=True)
        crops, boxes, valid = PartCropper(out=8)(base, torch.zeros(0, 16, 3, device=device))
        assert crops.shape == (0, 3, 3, 8, 8)
        assert boxes.shape == (0, 3, 4)
        assert valid.shape == (0, 3)
        crops.sum().backward()

    def test_no_gradient_to_the_joints(self, device):
        base, joints = torch.rand(1, 3, 20, 24, device=device, requires_grad=True), person(20).to(device)
        joints.requires_grad_()
        crops, _, _ = PartCropper(out=8)(base, joints)
        crops.sum().backward()
        assert joints.grad is None
        assert base.grad.count_nonzero() > 0

    def test_compiles_in_one_graph(self, device):
        cropper = PartCropper(out=(9, 7))
        base, joints = torch.rand(2, 3, 31, 33, device=device), people(2, (31, 33), torch.float32).to(device)
        got = torch.compile(cropper, backend="eager", fullgraph=True)(base, joints)
        assert_close(got, cropper(base, joints), rtol=0, atol=1e-6)

    def test_exports_with_any_batch(self):
        cropper, batch = PartCropper(out=8), torch.export.Dim("batch", max=64)
        example = torch.rand(2, 3, 24, 24), people(2, (24, 24), torch.float32)
        exported = torch.export.export(cropper, example, dynamic_shapes=({0: batch}, {0: batch})).module()
        for count in (1, 5):
            inputs = torch.rand(count, 3, 24, 24), people(count, (24, 24), torch.float32)
            assert_close(exported(*inputs), cropper(*inputs), rtol=0, atol=1e-6)

    def test_boxes_never_wait_for_the_device(self, device):
        joints = people(3, (24, 24), torch.float32).to(device)
        with NoSynchronisation():
            part_boxes(joints, (24, 24))

    def test_wrong_input(self):
        with pytest.raises(ValueError, match=r"pictures \(B, C, H, W\), got shape \(3, 8, 8\)"):
            PartCropper()(torch.zeros(3, 8, 8), torch.zeros(1, 16, 3))
        with pytest.raises(ValueError, match="one set of joints per picture, got 3 for 2"):
            PartCropper()(torch.zeros(2, 3, 8, 8), torch.zeros(3, 16, 3))
        with pytest.raises(ValueError, match="there must be a part"):
            PartCropper(parts={})

    def test_representation_names_the_parts(self):
        assert repr(PartCropper(out=8)) == (
            "PartCropper(parts={'head': (9,), 'right': (10,), 'left': (15,)}, "
            "fallback={'right': (11,), 'left': (14,)}, out=(8, 8))"
        )
