import pytest
import torch
from torch.testing import assert_close

from actionzoo import kernels
from actionzoo.kernels._outermost_box import pool_taps
from actionzoo.layers import OutermostBoxPooler
from tests.reference import outermost_box as reference

pytest.importorskip("triton")
NAN = torch.nan
OPS = torch.ops.actionzoo
IMAGE = (37, 50)
SCALES = (1 / 4, 1 / 8)
# the level that each is pooled at, its clip, its corners
BOXES = {
    "inside": (0, 0, [5.0, 4, 30, 33]),
    "coarse": (1, 1, [3, 2, 45, 36]),
    "past-left-and-top": (1, 1, [-20, -15, 20, 30]),
    "outside": (0, 0, [300, 10, 330, 60]),
    "one-pixel": (0, 1, [10, 10, 11, 11]),
    "past-all-sides": (1, 1, [-30, -30, 70, 60]),
    "overlaps": (0, 0, [8, 9, 41, 30]),
}


def pyramid(device, channels=3, frames=2, dtype=torch.float32, last=False):
    maps = [torch.randn(2, frames, channels, -(-IMAGE[0] // s), -(-IMAGE[1] // s)).to(dtype) for s in (4, 8)]
    if last:
        maps = [m.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (2, frames)) for m in maps]
    return [m.to(device).requires_grad_() for m in maps]


def people(device, names=tuple(BOXES)):
    level, clip, boxes = zip(*(BOXES[name] for name in names))
    return torch.tensor(boxes), torch.tensor(level), torch.tensor(clip), torch.ones(len(names), dtype=torch.bool)


def results(call, maps, rows, size, samples=2):
    """Output and gradients for one upstream gradient, on the CPU."""
    rows = [row.to(maps[0].device) for row in rows]
    out = call(maps, *rows, SCALES[: len(maps)], size, samples)
    torch.manual_seed(1)
    out.backward(torch.randn(out.shape, dtype=torch.float64).to(out))
    return [t.detach().cpu() for t in (out, *(m.grad for m in maps))]


def again(maps, dtype=None):
    return [m.detach().to("cpu", dtype).requires_grad_() for m in maps]


@pytest.mark.parametrize(
    ("size", "samples", "last"), [((3, 5), 2, False), ((1, 2), 3, True)], ids=["contiguous", "channels-last"]
)
def test_equals_the_plain_form(size, samples, last, device):
    maps = pyramid(device, last=last)
    got = results(kernels.outermost_box, maps, people(device), size, samples)
    assert [m.grad.stride() == m.stride() for m in maps] == [True, True]
    for value, right in zip(got, results(pool_taps, again(maps), people(device), size, samples), strict=True):
        assert_close(value, right, rtol=1e-5, atol=1e-5)


def tracks():
    """Three frames of people of all kinds, of whom two are never seen."""
    boxes = torch.tensor([BOXES[name][2] for name in BOXES])[:, None] + torch.arange(2.0)[:, None]
    boxes[0, 1] = NAN
    boxes[1] = NAN
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    valid[2] = False
    valid[3, 0] = False
    return boxes, valid, torch.tensor([clip for _, clip, _ in BOXES.values()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_layer_equals_the_reference(dtype, device, monkeypatch):
    boxes, valid, clips = tracks()
    maps = pyramid(device, dtype=dtype)
    pooler = OutermostBoxPooler((2, 3), levels=("0", "1"), canonical_scale=56)
    calls = []
    kernel = kernels.outermost_box
    monkeypatch.setattr(kernels, "outermost_box", lambda *given: calls.append(given) or kernel(*given))
    with kernels.use_kernels("outermost_box"):
        out, used = pooler(dict(zip("01", maps)), boxes.to(device), valid.to(device), clips.to(device), IMAGE)
    assert len(calls) == 1
    assert calls[0][2].unique().tolist() == [0, 1]
    leaves = again(maps)
    want, want_used = reference.pool(leaves, boxes, valid, clips, "outermost", (2, 3), 56, 4, 2)
    assert torch.equal(used.cpu(), want_used)
    upstream = torch.randn(out.shape).to(dtype)
    out.backward(upstream.to(device))
    want.backward(upstream)
    # half precision: what is computed in float32 is rounded once; Triton's interpreter truncates to bfloat16
    unit = {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}[dtype]
    for value, right in zip((out, *(m.grad for m in maps)), (want, *(leaf.grad for leaf in leaves)), strict=True):
        assert value.dtype == dtype
        assert_close(value.cpu(), right, rtol=unit, atol=unit)


def test_windows_equal_those_of_the_layer(device):
    """In 40 frames, more than a program reads at a time; the levels where they change, as torchvision has them."""
    side = torch.tensor([0.5, 1, 56, 111.99, 112, 112.01, 223.9, 223.9999, 224, 447.9, 448, 449, 896, 5000])
    boxes = torch.cat([torch.stack([side * 0, side * 0, side, side], 1), 300 * torch.rand(6, 4)])
    boxes = boxes[:, None].repeat(1, 40, 1)
    valid = torch.rand(boxes.shape[:2]) > 0.1
    boxes[14:] += 20 * torch.randn(6, 40, 4)
    boxes[16, 3:] = NAN
    boxes[17, ::2, 2] = torch.inf
    boxes[18, :, 1] = -torch.inf
    valid[19] = False
    for strides in ((4, 8, 16, 32), (8, 16)):
        pooler = OutermostBoxPooler(levels=[str(i) for i in range(len(strides))], strides=strides)
        given = boxes.to(device), valid.to(device)
        used, seen = pooler._windows(*given)
        scale, level, first = pooler.canonical_scale, pooler.canonical_level, pooler._first_level
        found = OPS.outermost_windows(*given, scale, level, first, len(strides))
        assert list(map(torch.equal, found, (used, pooler._level(used), seen))) == [True] * 3
        assert seen.tolist() == [True] * 18 + [False] * 2


def test_basic_mode_and_layers_outside_the_block_do_without(device, monkeypatch):
    monkeypatch.setattr(kernels, "outermost_box", None)
    boxes, valid, clips = (t.to(device) for t in tracks())
    features = dict(zip("01", pyramid(device)))
    OutermostBoxPooler(2, levels=("0", "1"))(features, boxes, valid, clips, IMAGE)
    with kernels.use_kernels():
        OutermostBoxPooler(2, "basic", levels=("0", "1"))(features, boxes, valid, clips, IMAGE)


def test_many_chunks_and_blocks(device):
    """A row of 150 cells, read in chunks of 32 and written in chunks of 128; 66 planes in blocks of 64 and 32."""
    cells = torch.randn(1, 2, 33, 1, 150, device=device, requires_grad=True)
    rows = torch.tensor([[3.0, 0, 590, 4]]), torch.tensor([0]), torch.tensor([0]), torch.tensor([True])
    got = results(kernels.outermost_box, [cells], rows, (1, 3))
    for value, right in zip(got, results(pool_taps, again([cells]), rows, (1, 3)), strict=True):
        assert_close(value, right, rtol=1e-5, atol=2e-5)


def test_wide_bins(device):
    """More than 32 bins along x, of a box of one pixel and of a large one."""
    maps = pyramid(device, channels=1, frames=1)
    rows = people(device, ("one-pixel", "coarse"))
    got = results(kernels.outermost_box, maps, rows, (2, 35))
    for value, right in zip(got, results(pool_taps, again(maps), rows, (2, 35)), strict=True):
        assert_close(value, right, rtol=1e-5, atol=2e-5)


def test_half_precision_gradients_do_not_stall(device):
    """20x20 bins on one cell: ones added up in bfloat16 stop at 256."""
    cells = torch.zeros(1, 1, 1, 3, 3, device=device, dtype=torch.bfloat16, requires_grad=True)
    rows = torch.tensor([[5.99, 5.99, 6.01, 6.01]]), torch.tensor([0]), torch.tensor([0]), torch.tensor([True])
    out = kernels.outermost_box([cells], *(row.to(device) for row in rows), SCALES[:1], (20, 20), 1)
    out.sum().backward()
    assert cells.grad[0, 0, 0, 1, 1].item() == pytest.approx(400, rel=0.01)


def test_no_people(device):
    maps = pyramid(device)
    rows = [row[:0] for row in people(device)]
    out, *grads = results(kernels.outermost_box, maps, rows, (2, 2))
    assert out.shape == (0, 3, 2, 2, 2)
    assert all(grad.count_nonzero() == 0 for grad in grads)


@pytest.mark.parametrize("form", [kernels.outermost_box, pool_taps], ids=["kernel", "plain"])
def test_rows_that_name_no_map_or_clip(form, device):
    """No level, or not seen: zeros, whatever the clip. No clip: NaN and no gradient, and nothing is read there."""
    maps = [torch.full_like(m, NAN).requires_grad_() for m in pyramid(device, channels=1, frames=1)]
    boxes = torch.tensor([BOXES["inside"][2]]).expand(8, -1)
    level = torch.tensor([-1, 2, 0, 0, 1, 1, 0, 1])
    clip = torch.tensor([0, 7, -1, 2, 2**40, -(2**62), 5, 0])
    seen = torch.tensor([True] * 6 + [False] * 2)
    out, *grads = results(form, maps, (boxes, level, clip, seen), (2, 2))
    assert out[:2].count_nonzero() == out[6:].count_nonzero() == 0
    assert out[2:6].isnan().all()
    assert all(grad.count_nonzero() == 0 for grad in grads)


def test_nothing_is_read_outside_the_box(device):
    """Every cell is NaN but those between which the samples lie; a gradient of NaN stays in the box, too."""
    cells = torch.full((2, 1, 2, 10, 13), NAN)
    cells[1, :, :, 4:9, 6:12] = torch.rand(1, 2, 5, 6)
    cells = cells.to(device).requires_grad_()
    rows = torch.tensor([[26.0, 18, 46, 34]]), torch.tensor([0]), torch.tensor([1]), torch.tensor([True])
    out = kernels.outermost_box([cells], *(row.to(device) for row in rows), SCALES[:1], (4, 4), 2)
    assert out.isfinite().all()
    out.backward(torch.full_like(out, NAN))
    outside = torch.ones(cells.shape, dtype=torch.bool, device=device)
    outside[1, :, :, 4:9, 6:12] = False
    assert cells.grad[outside].count_nonzero() == 0


def test_the_border_counts_one_cell_outside_the_map(device):
    """One bin with one sample: a box's centre at pixel x is cell x / 4 - 1/2, and the map has cells 0 to 3."""
    centres = {-2.25: 0, -2: 1, 0: 1, 2: 1, 4: 1.5, 14: 4, 16: 4, 18: 4, 18.25: 0}
    cells = torch.tensor([1.0, 2, 3, 4]).expand(1, 1, 1, 4, 4)
    boxes = torch.tensor([[x - 4, 4.0, x + 4, 12] for x in centres])
    rows = [torch.zeros(len(boxes)).long(), torch.zeros(len(boxes)).long(), torch.ones(len(boxes)).bool()]
    for source, turned in ((cells, boxes), (cells.mT, boxes[:, [1, 0, 3, 2]])):
        given = [t.to(device) for t in (turned, *rows)]
        out = kernels.outermost_box([source.to(device)], *given, SCALES[:1], (1, 1), 1)
        assert out.flatten().tolist() == list(centres.values())


def test_any_strides(device):
    """Maps that are slices, or one frame expanded, and a gradient that is one number."""
    wide = torch.randn(2, 3, 4, 12, 15, device=device)
    for source in (wide[:, :2, 1:3, 1:11, :13], wide[:, :1, :2, :10, :13].expand(-1, 2, -1, -1, -1)):
        leaves = source.detach().requires_grad_(), source.detach().cpu().contiguous().requires_grad_()
        rows = people(device, ("inside", "one-pixel"))
        for call, leaf in zip((kernels.outermost_box, pool_taps), leaves, strict=True):
            call([leaf], *(row.to(leaf.device) for row in rows), SCALES[:1], (2, 2), 2).sum().backward()
        assert_close(leaves[0].grad.cpu(), leaves[1].grad, rtol=1e-5, atol=1e-5)


def test_only_the_levels_that_want_a_gradient_get_one(device):
    maps = [m.detach() for m in pyramid(device)]
    maps[1].requires_grad_()
    rows = [row.to(device) for row in people(device, ("inside", "coarse"))]
    out = kernels.outermost_box(maps, *rows, SCALES, (2, 2), 2)
    out.sum().backward()
    assert [m.grad is None for m in maps] == [True, False]


def test_second_derivatives(device):
    def twice(call, maps):
        rows = [row.to(maps[0].device) for row in people(device, ("inside", "coarse"))]
        out = call(maps, *rows, SCALES, (1, 2), 2)
        first = torch.autograd.grad(out.pow(3).sum(), maps, create_graph=True)
        return [g.cpu() for g in torch.autograd.grad(sum(g.square().sum() for g in first), maps)]

    maps = pyramid(device, channels=1, frames=1)
    for value, right in zip(twice(kernels.outermost_box, maps), twice(pool_taps, again(maps)), strict=True):
        assert_close(value, right, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_are_registered_as_torch_wants_them(device):
    maps = pyramid(device, channels=2, frames=1, last=True)
    rows = [row.to(device) for row in people(device, ("inside", "coarse"))]
    torch.library.opcheck(OPS.outermost_box, (maps, *rows, list(SCALES), [1, 2], 2))
    boxes, valid, _ = tracks()
    torch.library.opcheck(OPS.outermost_windows, (boxes.to(device), valid.to(device), 56.0, 4, 2, 2))
    grad = torch.randn(2, 2, 1, 1, 2, device=device, requires_grad=True)
    torch.library.opcheck(OPS.outermost_box_gradient, (grad, *rows, 1, SCALES[1], 2, list(maps[1].shape), True))


def test_layer_compiles_in_one_graph(device):
    torch._dynamo.reset()
    boxes, valid, clips = (t.to(device) for t in tracks())
    pooler = OutermostBoxPooler((1, 2), levels=("0", "1"), canonical_scale=56)
    compiled = torch.compile(pooler, backend="eager", fullgraph=True)
    found = []
    for module in (compiled, pooler):
        torch.manual_seed(0)
        maps = pyramid(device, channels=1)
        with kernels.use_kernels():
            out, used = module(dict(zip("01", maps)), boxes, valid, clips, IMAGE)
        out.square().sum().backward()
        found.append([out, used, *(m.grad for m in maps)])
    for value, right in zip(*found, strict=True):
        assert_close(value, right, rtol=1e-6, atol=1e-6)


def test_float64_takes_the_plain_form(device):
    maps = pyramid(device, channels=1, frames=1, dtype=torch.float64)
    rows = [row.to(device) for row in people(device, ("inside", "coarse"))]
    assert torch.equal(kernels.outermost_box(maps, *rows, SCALES, (2, 2), 2), pool_taps(maps, *rows, SCALES, (2, 2), 2))


def test_no_synchronisation(device):
    """On CUDA the layer as a whole can be captured in a graph; on the CPU no value reaches Python."""
    boxes, valid, clips = (t.to(device) for t in tracks())
    features = dict(zip("01", (m.detach() for m in pyramid(device, channels=1))))
    pooler = OutermostBoxPooler((1, 2), levels=("0", "1"))
    with kernels.use_kernels():
        want, _ = pooler(features, boxes, valid, clips, IMAGE)
        if device.type == "cuda":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out, _ = pooler(features, boxes, valid, clips, IMAGE)
            graph.replay()
            assert torch.equal(out, want)
        else:
            from benchmarks.counts import operations

            assert operations(lambda b: pooler(features, b, valid, clips, IMAGE), (boxes,))[1] == 0


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"boxes": torch.zeros(2, 5)}, ValueError, r"boxes \(N, 4\) as xyxy, got shape \(2, 5\)"),
        ({"level": torch.zeros(3).long()}, ValueError, r"one level per box, \(2,\), got \(3,\)"),
        ({"clip": torch.zeros(2, 1).long()}, ValueError, r"one clip per box, \(2,\), got \(2, 1\)"),
        ({"seen": torch.ones(1).bool()}, ValueError, r"one seen per box, \(2,\), got \(1,\)"),
        ({"maps": []}, ValueError, "one scale per map, got 1 for 0 maps"),
        ({"scales": SCALES}, ValueError, "one scale per map, got 2 for 1 maps"),
        ({"maps": [torch.zeros(1, 2, 3, 4)]}, ValueError, r"maps \(B, T, C, h, w\).*got \[\(1, 2, 3, 4\)\]"),
        ({"maps": [torch.zeros(0, 1, 2, 3, 4)]}, ValueError, "with clips and cells"),
        ({"maps": [torch.zeros(1, 1, 2, 0, 4)]}, ValueError, "with clips and cells"),
        (
            {"maps": [torch.zeros(1, 1, 2, 3, 4), torch.zeros(1, 1, 3, 3, 4)], "scales": SCALES},
            ValueError,
            "of one B, T and C",
        ),
        ({"size": (0, 2)}, ValueError, r"at least one bin and one sample, got \(0, 2\) and 2"),
        ({"samples": 0}, ValueError, r"got \(2, 2\) and 0"),
        ({"maps": [torch.zeros(1, 1, 2, 3, 4).long()]}, TypeError, "floating-point maps, got torch.int64"),
        ({"level": torch.zeros(2).int()}, TypeError, "level to be torch.int64, got torch.int32"),
        ({"seen": torch.ones(2)}, TypeError, "seen to be torch.bool, got torch.float32"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_input(wrong, error, message):
    good = {"maps": [torch.zeros(1, 1, 2, 3, 4)], "boxes": torch.zeros(2, 4), "level": torch.zeros(2).long()}
    good |= {"clip": torch.zeros(2).long(), "seen": torch.ones(2).bool(), "scales": SCALES[:1], "size": (2, 2)}
    with pytest.raises(error, match=message):
        kernels.outermost_box(**{**good, "samples": 2, **wrong})
