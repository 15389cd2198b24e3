from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from actionzoo.layers import (
    COCO_FLIP_PAIRS,
    COCO_JOINTS,
    MPII_FLIP_PAIRS,
    MPII_JOINTS,
    decode_heatmaps,
    encode_heatmaps,
    flip_heatmaps,
    flip_joints,
)
from tests.reference import heatmaps as reference

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "pose" / "golden" / "heatmaps.npz"
PAIRS = {"mpii": (MPII_FLIP_PAIRS, MPII_JOINTS), "coco": (COCO_FLIP_PAIRS, COCO_JOINTS)}


class NoSynchronisation(TorchDispatchMode):
    """Fail on operations that make the host wait for the device."""

    waits = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"})

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func._schema.name.removeprefix("aten::") not in self.waits, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


class TestEncode:
    @pytest.mark.parametrize("sigma", [1, 2.0, 3], ids="sigma{}".format)
    @pytest.mark.parametrize("size", [(16, 12), (7, 23), (1, 1)], ids=lambda s: f"{s[0]}x{s[1]}")
    @pytest.mark.parametrize("entries", [2, 3])
    def test_equals_the_reference(self, entries, size, sigma, device):
        # far enough for windows that miss the map on every side, and for int(), which rounds towards zero
        joints = torch.rand(4, 30, 3, dtype=torch.float64) * 60 - 24
        joints[..., 2] = torch.randint(-1, 3, (4, 30))
        joints = joints[..., :entries]
        want, want_weights = reference.encode(joints, size, sigma)
        assert 0 < want_weights.sum() < want_weights.size
        heatmaps, weights = encode_heatmaps(joints.to(device), size, sigma)
        assert heatmaps.dtype == weights.dtype == torch.float64
        assert_close(heatmaps.cpu().numpy(), want, rtol=0, atol=1e-12)
        assert_close(weights.cpu().numpy(), want_weights, rtol=0, atol=0)

    @settings(max_examples=60, deadline=None)
    @given(st.floats(-20, 30), st.floats(-20, 30), st.integers(1, 12), st.integers(1, 12))
    def test_any_joint_equals_the_reference(self, x, y, height, width):
        joints = torch.tensor([[[x, y]]], dtype=torch.float64)
        want, want_weights = reference.encode(joints, (height, width), 2)
        heatmaps, weights = encode_heatmaps(joints, (height, width))
        assert_close(heatmaps.numpy(), want, rtol=0, atol=1e-12)
        assert weights.item() == want_weights.item()

    def test_peak_and_window(self):
        heatmaps, weights = encode_heatmaps(torch.tensor([[[9.4, 7.5, 1.0]]]), 20)
        assert heatmaps.shape == (1, 1, 20, 20)
        assert weights.tolist() == [[1.0]]
        assert heatmaps[0, 0, 8, 9] == 1
        assert_close(heatmaps[0, 0, 8, 11].item(), np.exp(-0.5))
        seen = heatmaps[0, 0].nonzero()
        assert seen.amin(0).tolist() == [2, 3]
        assert seen.amax(0).tolist() == [14, 15]
        assert len(seen) == 13 * 13

    @pytest.mark.parametrize(
        "joint",
        [[5, 5, 0], [5, 5, -1], [torch.nan, 5, 1], [5, torch.inf, 1], [5, 5, torch.nan], [-9, 5, 1], [5, 18, 1]],
        ids=str,
    )
    def test_a_missing_joint_has_an_empty_map_and_weight_0(self, joint, device):
        heatmaps, weights = encode_heatmaps(torch.tensor([[joint, [5, 5, 1]]], device=device), 12)
        assert weights.tolist() == [[0, 1]]
        assert heatmaps[0, 0].count_nonzero() == 0
        assert heatmaps[0, 1].max() == 1

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64], ids=str)
    def test_other_dtypes(self, dtype, device):
        joints = torch.tensor([[[3, 200, 1], [2, 5, 1]]], dtype=dtype, device=device)
        heatmaps, weights = encode_heatmaps(joints, (256, 8))
        assert heatmaps.dtype == weights.dtype == (dtype if dtype.is_floating_point else torch.float32)
        want, _ = encode_heatmaps(joints.float(), (256, 8))
        assert_close(heatmaps.float(), want, rtol=0, atol=2**-9)
        assert heatmaps[0, 0, 200, 3] == 1

    def test_no_person(self):
        heatmaps, weights = encode_heatmaps(torch.zeros(0, 16, 3), (4, 5))
        assert heatmaps.shape == (0, 16, 4, 5)
        assert weights.shape == (0, 16)

    @pytest.mark.parametrize(
        ("joints", "size", "sigma", "message"),
        [
            (torch.zeros(16, 3), 8, 2, r"joints \(B, J, 2\) or \(B, J, 3\), got shape \(16, 3\)"),
            (torch.zeros(1, 16, 4), 8, 2, r"got shape \(1, 16, 4\)"),
            (torch.zeros(1, 16, 2), (8, 0), 2, r"at least one cell, got \(8, 0\)"),
            (torch.zeros(1, 16, 2), 8, 0, "standard deviation in cells, above 0, got 0"),
        ],
        ids=["rank", "entries", "size", "sigma"],
    )
    def test_wrong_input(self, joints, size, sigma, message):
        with pytest.raises(ValueError, match=message):
            encode_heatmaps(joints, size, sigma)


class TestDecode:
    @pytest.mark.parametrize("quarter_shift", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("size", [(5, 4), (9, 13), (1, 6), (7, 1), (2, 2)], ids=lambda s: f"{s[0]}x{s[1]}")
    def test_equals_the_reference(self, size, dtype, quarter_shift, device):
        heatmaps = torch.randn(6, 11, *size).to(dtype)
        # few values: ties, neighbours of one height, and maps without a positive one
        heatmaps[3:] = torch.randint(-4, 3, heatmaps[3:].shape).to(dtype)
        heatmaps[:, 0] = -heatmaps[:, 0].abs()
        heatmaps[0, 1, 0, 0], heatmaps[1, 1, -1, -1], heatmaps[2, 1] = torch.nan, torch.inf, -torch.inf
        heatmaps[2, 2] = -torch.inf
        heatmaps[2, 2, size[0] // 2, size[1] // 2] = 1.5
        want = reference.decode(heatmaps.double(), quarter_shift)
        joints = decode_heatmaps(heatmaps.to(device), quarter_shift)
        assert joints.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert_close(joints.double().cpu().numpy(), want, rtol=0, atol=0)

    def test_the_first_of_equal_maxima_counts(self, device):
        heatmaps = torch.zeros(1, 2, 4, 5, device=device)
        heatmaps[0, 0, [1, 1, 2], [3, 4, 0]] = 2.0
        heatmaps[0, 1, [0, 3], [4, 0]] = 0.5
        assert decode_heatmaps(heatmaps).tolist() == [[[3, 1, 2], [4, 0, 0.5]]]

    @pytest.mark.skipif(not GOLDEN.is_file(), reason=f"the answers of the HRNet code are not at {GOLDEN}")
    def test_equals_the_hrnet_code(self, device):
        golden = np.load(GOLDEN)
        heatmaps = torch.from_numpy(golden["heatmaps"]).to(device)
        for quarter_shift, key in ((False, "argmax_xy"), (True, "quarter_shift_xy")):
            want = np.concatenate([golden[key], golden["max_value"]], 2)
            assert_close(decode_heatmaps(heatmaps, quarter_shift).cpu().numpy(), want, rtol=0, atol=1e-6)

    def test_decodes_what_was_encoded(self, device):
        joints = torch.stack([torch.randint(0, 17, (5, 16)), torch.randint(0, 11, (5, 16)), torch.ones(5, 16)], 2)
        joints = joints.float().to(device)
        heatmaps, _ = encode_heatmaps(joints, (11, 17))
        assert torch.equal(decode_heatmaps(heatmaps), joints)

    def test_no_person(self):
        assert decode_heatmaps(torch.zeros(0, 16, 4, 5), quarter_shift=True).shape == (0, 16, 3)

    def test_no_gradient(self):
        assert not decode_heatmaps(torch.rand(1, 2, 4, 5, requires_grad=True)).requires_grad

    @pytest.mark.parametrize("shape", [(16, 8, 8), (1, 16, 0, 8), (1, 16, 8, 0)], ids=str)
    def test_wrong_shape(self, shape):
        with pytest.raises(ValueError, match=r"heat maps \(B, J, h, w\), got shape"):
            decode_heatmaps(torch.zeros(shape))

    def test_wrong_type(self):
        with pytest.raises(TypeError, match=r"got torch.uint8; call .float\(\) first"):
            decode_heatmaps(torch.zeros(1, 16, 8, 8, dtype=torch.uint8))


class TestFlip:
    @pytest.mark.parametrize(("pairs", "names"), PAIRS.values(), ids=PAIRS)
    def test_every_left_joint_is_paired_with_its_right(self, pairs, names):
        sided = {name for name in names if name.startswith(("left_", "right_"))}
        assert {frozenset((names[a], names[b])) for a, b in pairs} == {
            frozenset((name, "right_" + name.removeprefix("left_"))) for name in sided if name.startswith("left_")
        }
        assert len(sided) == 2 * len(pairs)

    @pytest.mark.parametrize(("pairs", "names"), PAIRS.values(), ids=PAIRS)
    def test_commutes_with_decoding(self, pairs, names, device):
        heatmaps = torch.randn(4, len(names), 9, 7, device=device)
        heatmaps[0, :3] = -heatmaps[0, :3].abs()
        heatmaps[1, 4, 2, 3] = torch.nan
        joints = decode_heatmaps(heatmaps)
        assert (joints[..., 2] <= 0).sum() == 4
        assert torch.equal(decode_heatmaps(flip_heatmaps(heatmaps, pairs)), flip_joints(joints, 7, pairs))

    def test_commutes_with_the_quarter_shift_away_from_the_border(self, device):
        heatmaps = torch.rand(3, 16, 11, 10, device=device)
        heatmaps[..., 3:8, 2:8] += 1
        joints = decode_heatmaps(heatmaps, quarter_shift=True)
        assert (joints % 1)[..., :2].ne(0).all()
        flipped = decode_heatmaps(flip_heatmaps(heatmaps, MPII_FLIP_PAIRS), quarter_shift=True)
        assert torch.equal(flipped, flip_joints(joints, 10, MPII_FLIP_PAIRS))

    def test_commutes_with_encoding(self, device):
        joints = torch.stack([torch.randint(0, 13, (3, 16)), torch.randint(-4, 13, (3, 16)), torch.ones(3, 16)], 2)
        joints = joints.float().to(device)
        joints[:, 2:5, 2] = 0
        heatmaps, weights = encode_heatmaps(joints, (9, 13), 1)
        assert 0 < weights.sum() < weights.numel() - 9
        flipped, flipped_weights = encode_heatmaps(flip_joints(joints, 13, MPII_FLIP_PAIRS), (9, 13), 1)
        assert torch.equal(flipped, flip_heatmaps(heatmaps, MPII_FLIP_PAIRS))
        assert torch.equal(flipped_weights, flip_heatmaps(weights[..., None, None], MPII_FLIP_PAIRS).flatten(1))

    def test_values(self):
        joints = torch.tensor([[1.0, 2, 0.5], [10, 3, 0.9], [0, 0, 0], [0, 0, 0.4], [6, 4, 0]])
        want = [[1, 3, 0.9], [10, 2, 0.5], [0, 0, 0], [11, 0, 0.4], [5, 4, 0]]
        assert_close(flip_joints(joints, 12, [(0, 1)]), torch.tensor(want, dtype=torch.float32))
        assert_close(flip_joints(joints[:2, :2], 12, [(0, 1)]), torch.tensor(want, dtype=torch.float32)[:2, :2])
        maps = torch.arange(12.0).reshape(3, 2, 2)
        want = [[[5, 4], [7, 6]], [[1, 0], [3, 2]], [[9, 8], [11, 10]]]
        assert flip_heatmaps(maps, [(1, 0)]).tolist() == want

    @pytest.mark.parametrize("flip", [flip_heatmaps, lambda x, pairs: flip_joints(x[..., 0, :2], 9, pairs)])
    def test_a_pair_of_no_joint(self, flip):
        with pytest.raises(ValueError, match=r"flip pair \(3, 4\) is not among 4 joints"):
            flip(torch.zeros(1, 4, 5, 6), [(0, 1), (3, 4)])

    def test_wrong_shapes(self):
        with pytest.raises(ValueError, match=r"heat maps \(..., J, h, w\), got shape \(5, 6\)"):
            flip_heatmaps(torch.zeros(5, 6), [])
        with pytest.raises(ValueError, match=r"joints \(..., J, 2\) or \(..., J, 3\), got shape \(5, 6\)"):
            flip_joints(torch.zeros(5, 6), 9, [])


def round_trip(joints, other):
    heatmaps, weights = encode_heatmaps(joints, (9, 11))
    flipped = flip_heatmaps(heatmaps + other, MPII_FLIP_PAIRS)
    return flip_joints(decode_heatmaps(flipped, quarter_shift=True), 11, MPII_FLIP_PAIRS), weights


def test_compiles_in_one_graph(device):
    joints, other = torch.rand(2, 16, 3, device=device) * 12 - 1, torch.rand(2, 16, 9, 11, device=device)
    compiled = torch.compile(round_trip, backend="eager", fullgraph=True)
    assert_close(compiled(joints, other), round_trip(joints, other), rtol=0, atol=0)


def test_never_waits_for_the_device(device):
    joints, other = torch.rand(2, 16, 3, device=device), torch.rand(2, 16, 9, 11, device=device)
    with NoSynchronisation():
        round_trip(joints, other)
