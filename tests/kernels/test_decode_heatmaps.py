import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from actionzoo import kernels
from actionzoo.kernels._decode_heatmaps import decode_rows
from actionzoo.layers import decode_heatmaps
from tests.reference import heatmaps as reference

pytest.importorskip("triton")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def difficult(height, width, dtype=torch.float32):
    """Ten maps: random ones, ties, no positive cell, NaN, infinities."""
    heatmaps = torch.randn(2, 5, height, width).to(dtype)
    heatmaps[1] = torch.randint(-4, 3, heatmaps[1].shape).to(dtype)
    heatmaps[:, 0] = -heatmaps[:, 0].abs()
    heatmaps[0, 1, 0, 0], heatmaps[1, 1, -1, -1], heatmaps[0, 2, -1, 0] = torch.nan, torch.nan, torch.inf
    heatmaps[1, 2] = -torch.inf
    heatmaps[0, 3] = -torch.inf
    heatmaps[0, 3, height // 2, width // 2] = 1.5
    return heatmaps


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("quarter_shift", [False, True])
@pytest.mark.parametrize("size", [(5, 4), (7, 1)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_equals_the_reference(size, quarter_shift, dtype, device):
    heatmaps = difficult(*size, dtype)
    joints = kernels.decode_heatmaps(heatmaps.to(device), quarter_shift)
    assert joints.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    want = torch.from_numpy(reference.decode(heatmaps.double(), quarter_shift))
    assert_close(joints.double().cpu(), want, rtol=0, atol=0)
    assert torch.equal(joints, decode_rows(heatmaps.to(device), quarter_shift))


def test_shifts_inside_and_not_at_the_border(device):
    heatmaps = torch.rand(1, 20, 4, 5)
    heatmaps.flatten(2)[0, range(20), range(20)] = 2.0
    want = torch.from_numpy(reference.decode(heatmaps.double(), True)).float()
    assert torch.equal(kernels.decode_heatmaps(heatmaps.to(device), quarter_shift=True).cpu(), want)
    assert (want % 1).any(2).sum() == 2


def test_the_first_of_equal_maxima_counts_over_several_blocks(device):
    """65 x 64 cells are read as 4096 and 64."""
    heatmaps = torch.zeros(1, 4, 65, 64, device=device)
    heatmaps[0, 0, [1, 1, 2], [3, 4, 0]] = 2.0
    heatmaps[0, 1, [0, 64, 64], [63, 62, 63]] = 0.5
    heatmaps[0, 2, 64, [9, 11]] = 0.25
    heatmaps[0, 3, [10, 64], [30, 5]] = torch.tensor([4.0, torch.nan], device=device)
    want = [[3, 1, 2], [63, 0, 0.5], [9, 64, 0.25], [0, 0, 0]]
    assert kernels.decode_heatmaps(heatmaps).tolist() == [want]


def test_more_cells_than_half_precision_counts(device):
    """bfloat16 has no 257."""
    heatmaps = torch.zeros(1, 1, 3, 300, dtype=torch.bfloat16, device=device)
    heatmaps[0, 0, 1, 257] = 1
    heatmaps[0, 0, 1, 258] = 0.5
    assert kernels.decode_heatmaps(heatmaps, quarter_shift=True).tolist() == [[[257, 1, 1]]]
    assert kernels.decode_heatmaps(heatmaps.transpose(2, 3), quarter_shift=True).tolist() == [[[1, 257, 1]]]
    wide = torch.nn.functional.pad(heatmaps, (0, 0, 1, 1))
    assert kernels.decode_heatmaps(wide, quarter_shift=True).tolist() == [[[257.25, 2, 1]]]


LAYOUTS = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "every other column": lambda x: x[:, 1:4, 1:, ::2],
    "a window": lambda x: x[:, 1:4, 1:, 1:-1],
    "expanded": lambda x: x[:, 3:4].expand(-1, 3, -1, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_strides(layout, device):
    heatmaps = layout(difficult(6, 7).to(device))
    assert not heatmaps.is_contiguous()
    for quarter_shift in (False, True):
        want = decode_rows(heatmaps, quarter_shift)
        assert torch.equal(kernels.decode_heatmaps(heatmaps, quarter_shift), want)


@pytest.mark.parametrize("shape", [(0, 16, 4, 5), (2, 0, 4, 5)], ids=str)
def test_nothing_to_decode(shape, device):
    joints = kernels.decode_heatmaps(torch.zeros(shape, device=device), quarter_shift=True)
    assert joints.shape == (*shape[:2], 3)


def test_no_gradient(device):
    assert not kernels.decode_heatmaps(torch.rand(1, 2, 4, 5, device=device, requires_grad=True)).requires_grad


def test_is_a_well_behaved_operator(device):
    torch.library.opcheck(torch.ops.actionzoo.decode_heatmaps.default, (difficult(4, 5).to(device), True))


class Calls(TorchDispatchMode):
    """Names of the operators that were called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_the_layer_uses_it_where_it_is_told_to(device):
    heatmaps = difficult(5, 6).to(device)
    want = decode_heatmaps(heatmaps, quarter_shift=True)
    with kernels.use_kernels("decode_heatmaps"), Calls() as calls:
        joints = decode_heatmaps(heatmaps, quarter_shift=True)
    # one launch: the rest makes no tensor of its own
    assert [name for name in calls.names if "detach" not in name] == ["actionzoo.decode_heatmaps.default"]
    assert torch.equal(joints, want)
    with kernels.use_kernels("crop_resize"), Calls() as calls:
        decode_heatmaps(heatmaps)
    assert not [name for name in calls.names if name.startswith("actionzoo")]


def test_compiles_in_one_graph(device):
    torch._dynamo.reset()
    compiled = torch.compile(decode_heatmaps, backend="eager", fullgraph=True, dynamic=True)
    with kernels.use_kernels():
        for height in (4, 5):
            heatmaps = difficult(height, 6).to(device)
            assert torch.equal(compiled(heatmaps, True), decode_rows(heatmaps, True))


@pytest.mark.parametrize("shape", [(16, 8, 8), (1, 16, 0, 8), (1, 16, 8, 0)], ids=str)
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"heat maps \(B, J, h, w\), got shape"):
        kernels.decode_heatmaps(torch.zeros(shape))


def test_wrong_type():
    with pytest.raises(TypeError, match=r"got torch.uint8; call .float\(\) first"):
        kernels.decode_heatmaps(torch.zeros(1, 16, 8, 8, dtype=torch.uint8))
