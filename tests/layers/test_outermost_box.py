from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks
from torch.testing import assert_close
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from actionzoo.layers import OutermostBoxPooler, _roi_products, outermost_box, outermost_boxes
from tests.reference import outermost_box as reference

NAN, INF = torch.nan, torch.inf
IMAGE = (75, 101)
MODES = ("outermost", "basic")
modes = pytest.mark.parametrize("mode", MODES)

# Three frames of an image of 75 x 101 pixels. The levels' canonical side is 28 pixels, P4.
TRACKS = {
    "walks": [[10, 8, 30, 50], [14, 9, 33, 52], [19, 8, 41, 50]],
    "small": [[40, 30, 44, 36], [41, 30, 45, 36], [42, 31, 46, 37]],
    "large": [[1, 2, 90, 70], [3, 2, 95, 71], [0, 0, 100, 74]],
    "past-left-and-top": [[-20, -15, 20, 30], [-22, -15, 18, 30], [-24, -15, 16, 30]],
    "past-all-sides": [[-30, -30, 140, 120], [-31, -30, 141, 121], [-29, -30, 139, 121]],
    "outside-right": [[300, 10, 330, 60], [303, 10, 333, 60], [306, 10, 336, 60]],
    "outside-above": [[10, -90, 40, -50], [10, -91, 40, -50], [10, -92, 40, -50]],
    "no-area": [[33, 21, 33, 21]] * 3,
    "no-width": [[33, 21, 33, 61]] * 3,
    "negative-side": [[60, 50, 55, 41]] * 3,
    "missing-in-the-middle": [[20, 10, 40, 60], [NAN] * 4, [50, 12, 70, 62]],
    "found-once": [[0, 0, 0, 0], [0, 0, 0, 0], [25, 14, 63, 70]],
    "one-corner-nan": [[20, 10, 40, 60], [-500, NAN, 400, 600], [22, 10, 42, 60]],
    "never-found": [[5, 5, 50, 60]] * 3,
    "all-nan": [[NAN] * 4] * 3,
}
MISSING = {"missing-in-the-middle": [1], "found-once": [0, 1], "never-found": [0, 1, 2]}


@pytest.fixture(params=["host", "graph"])
def form(request, monkeypatch):
    """The eager form, and that of compiled and exported programs."""
    if request.param == "graph":
        monkeypatch.setattr(outermost_box, "in_graph", lambda tensor: True)
        monkeypatch.setattr(_roi_products, "in_graph", lambda tensor: True)
    return request.param


def pyramid(clips, frames, channels, image=IMAGE, levels=4, dtype=torch.float32):
    height, width = image
    return [
        torch.randn(clips, frames, channels, -(-height // s), -(-width // s), dtype=torch.float64).to(dtype)
        for s in (4 << i for i in range(levels))
    ]


def tracks(names=tuple(TRACKS)):
    boxes = torch.tensor([TRACKS[name] for name in names], dtype=torch.float32)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    for row, name in zip(valid, names):
        row[MISSING.get(name, [])] = False
    return boxes, valid


def both(pooler, maps, boxes, valid, clips, image=IMAGE, device="cpu", context=nullcontext):
    """Output, boxes and gradients of the layer and of the reference, for one random upstream gradient."""
    results = []
    for ours in (True, False):
        place = torch.device(device if ours else "cpu")
        leaves = [m.detach().to(place).requires_grad_() for m in maps]
        if ours:
            features = dict(zip(pooler.levels, leaves, strict=True))
            with context():
                out, used = pooler(features, boxes.to(place), valid.to(place), clips.to(place), image)
        else:
            scale, samples = pooler.canonical_scale, pooler.sampling_ratio
            out, used = reference.pool(
                leaves, boxes, valid, clips, pooler.mode, pooler.out_size, scale, pooler.canonical_level, samples
            )
        torch.manual_seed(1)
        out.backward(torch.randn(out.shape, dtype=torch.float64).to(out))
        results.append((out.detach().cpu(), used.cpu(), [leaf.grad.cpu() for leaf in leaves]))
    return results


def check(pooler, maps, boxes, valid, clips, image=IMAGE, device="cpu", context=nullcontext):
    (out, used, grads), (want, want_used, want_grads) = both(pooler, maps, boxes, valid, clips, image, device, context)
    assert out.shape == (len(boxes), maps[0].shape[2], maps[0].shape[1], *pooler.out_size)
    assert out.dtype == maps[0].dtype
    assert torch.equal(used, want_used.to(used.dtype))
    # half precision: one unit in the last place of what is computed in float32
    unit = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}[out.dtype]
    for got, expected in zip((out, *grads), (want, *want_grads), strict=True):
        assert_close(got, expected, rtol=unit, atol=unit)


@modes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("size", "samples"), [((5, 7), 2), ((14, 14), 2), ((1, 3), 3)], ids=["5x7", "14x14", "1x3-s3"])
def test_equals_roi_align_of_every_person_and_frame(form, mode, dtype, size, samples, device):
    boxes, valid = tracks()
    maps = pyramid(2, 3, 3, dtype=dtype)
    pooler = OutermostBoxPooler(size, mode, canonical_scale=28, sampling_ratio=samples)
    check(pooler, maps, boxes, valid, torch.arange(len(boxes)) % 2, device=device)


@modes
def test_clips_with_different_numbers_of_people(form, mode, device):
    """Three people in the last clip, one in the first, none in the second, in no order."""
    boxes, valid = tracks(("walks", "large", "small", "missing-in-the-middle"))
    pooler = OutermostBoxPooler(4, mode, canonical_scale=28)
    check(pooler, pyramid(3, 3, 2), boxes, valid, torch.tensor([2, 0, 2, 2]), device=device)


@modes
def test_one_frame(form, mode, device):
    boxes, valid = tracks(("walks", "outside-right", "no-area", "never-found"))
    pooler = OutermostBoxPooler(4, mode, canonical_scale=28)
    check(pooler, pyramid(2, 1, 3), boxes[:, :1], valid[:, :1], torch.tensor([0, 1, 1, 0]), device=device)


@modes
def test_no_people(form, mode, device):
    maps = [m.to(device).requires_grad_() for m in pyramid(1, 3, 2)]
    none = torch.zeros(0, dtype=torch.long, device=device)
    boxes, valid = torch.zeros(0, 3, 4, device=device), torch.zeros(0, 3, dtype=torch.bool, device=device)
    out, used = OutermostBoxPooler(4, mode)(dict(zip("0123", maps)), boxes, valid, none, IMAGE)
    assert out.shape == (0, 2, 3, 4, 4)
    assert used.shape == ((0, 4) if mode == "outermost" else (0, 3, 4))
    out.sum().backward()
    assert all(m.grad is not None and m.grad.count_nonzero() == 0 for m in maps)


@modes
def test_a_track_that_is_never_found_pools_to_zeros(form, mode, device):
    boxes, valid = tracks(("never-found", "all-nan"))
    maps = [torch.full_like(m, NAN, device=device).requires_grad_() for m in pyramid(1, 3, 2)]
    clips = torch.zeros(2, dtype=torch.long, device=device)
    out, used = OutermostBoxPooler(4, mode)(dict(zip("0123", maps)), boxes.to(device), valid.to(device), clips, IMAGE)
    assert out.count_nonzero() == 0
    assert used.count_nonzero() == 0
    out.sum().backward()
    assert all(m.grad.count_nonzero() == 0 for m in maps)


@pytest.mark.parametrize("levels", [4, 2, 1])
@modes
def test_fewer_levels(form, mode, levels, device):
    boxes, valid = tracks()
    pooler = OutermostBoxPooler(4, mode, levels=[str(i) for i in range(levels)], canonical_scale=28)
    check(
        pooler, pyramid(1, 3, 2, levels=levels), boxes, valid, torch.zeros(len(boxes), dtype=torch.long), device=device
    )


def test_channels_last_and_expanded_maps(device):
    """Gradients of maps that share memory between frames must not."""
    boxes, valid = tracks(("walks", "large", "small"))
    maps = pyramid(2, 3, 4)
    last = [m.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (2, 3)) for m in maps]
    still = [m[:, :1].expand(-1, 3, -1, -1, -1) for m in maps]
    for source in (last, still):
        assert not source[0].is_contiguous()
        check(OutermostBoxPooler(4, canonical_scale=28), source, boxes, valid, torch.tensor([0, 1, 1]), device=device)


corners = st.tuples(*[st.integers(-40, 140)] * 4)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    rows=st.lists(
        st.tuples(st.lists(corners, min_size=2, max_size=2), st.lists(st.booleans(), min_size=2, max_size=2)),
        max_size=3,
    ),
)
def test_any_boxes_equal_the_reference(mode, rows):
    """Bins that are powers of two: where a sample lies on the border itself, rounding must not decide."""
    boxes = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 2, 4)
    valid = torch.tensor([row[1] for row in rows], dtype=torch.bool).reshape(-1, 2)
    pooler = OutermostBoxPooler((4, 2), mode, canonical_scale=28)
    check(pooler, pyramid(2, 2, 2), boxes, valid, torch.arange(len(rows)) % 2)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(3)))
def test_the_order_of_frames_does_not_matter(order):
    boxes, valid = tracks()
    maps = pyramid(1, 3, 2)
    clips, pooler = torch.zeros(len(boxes), dtype=torch.long), OutermostBoxPooler(4, canonical_scale=28)
    out, used = pooler(dict(zip("0123", maps)), boxes, valid, clips, IMAGE)
    order = list(order)
    shuffled = {name: m[:, order] for name, m in zip("0123", maps)}
    again, used_again = pooler(shuffled, boxes[:, order], valid[:, order], clips, IMAGE)
    assert torch.equal(used, used_again)
    assert_close(again, out[:, :, order], rtol=0, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(box=st.tuples(*[st.floats(-50, 150, width=32)] * 4), seen=st.lists(st.booleans(), min_size=3, max_size=3))
def test_basic_is_outermost_where_a_box_does_not_move(box, seen):
    boxes, valid = torch.tensor(box).expand(1, 3, 4), torch.tensor([seen])
    features, clips = dict(zip("0123", pyramid(1, 3, 2))), torch.zeros(1, dtype=torch.long)
    # where a sample lies on the border of the map itself, rounding must not decide
    boxes = (boxes * 8).round() / 8
    (out, used), (basic, basic_used) = (
        OutermostBoxPooler(4, mode, canonical_scale=28)(features, boxes, valid, clips, IMAGE) for mode in MODES
    )
    assert torch.equal(used[:, None].expand(-1, 3, -1), basic_used)
    assert_close(out, basic, rtol=0, atol=1e-5)


def test_frames_without_the_person_are_pooled_too():
    boxes, valid = tracks(("found-once",))
    maps = pyramid(1, 3, 2)
    out, used = OutermostBoxPooler(4)(dict(zip("0123", maps)), boxes, valid, torch.tensor([0]), IMAGE)
    assert used.tolist() == [[25, 14, 63, 70]]
    alone, _ = OutermostBoxPooler(4)(
        {name: m[:, :1] for name, m in zip("0123", maps)}, boxes[:, 2:], valid[:, 2:], torch.tensor([0]), IMAGE
    )
    assert_close(out[:, :, :1], alone)
    assert alone.abs().min() > 0


def test_union_by_hand():
    boxes = torch.tensor(
        [[[10.0, 20, 30, 40], [5, 25, 28, 60], [90, 0, 99, 9]], [[1, 2, 3, 4], [NAN] * 4, [0, 0, INF, 1]]]
    )
    valid = torch.tensor([[True, True, False], [True, True, True]])
    assert outermost_boxes(boxes, valid).tolist() == [[5, 20, 30, 60], [1, 2, 3, 4]]
    assert outermost_boxes(boxes, ~valid).tolist() == [[90, 0, 99, 9], [0, 0, 0, 0]]
    assert outermost_boxes(boxes[:0], valid[:0]).shape == (0, 4)
    assert outermost_boxes(boxes.double(), valid).dtype == torch.float64


coordinate = st.one_of(st.floats(-1e3, 1e3, width=32), st.sampled_from([NAN, INF, -INF]))


@given(
    track=st.lists(st.tuples(st.tuples(*[coordinate] * 4), st.booleans()), min_size=1, max_size=5),
    seed=st.randoms(use_true_random=False),
)
def test_union_of_any_boxes(track, seed):
    boxes, valid = torch.tensor([[box for box, _ in track]]), torch.tensor([[there for _, there in track]])
    union = outermost_boxes(boxes, valid)
    assert torch.equal(union, reference.outermost_boxes(boxes, valid))
    order = seed.sample(range(len(track)), len(track))
    assert torch.equal(outermost_boxes(boxes[:, order], valid[:, order]), union)


def test_gaps_take_the_nearest_frame_and_the_earlier_of_two():
    boxes = torch.arange(7.0)[None, :, None] + torch.tensor([0.0, 0, 2, 2])
    seen = {
        (0, 6): [0, 0, 0, 0, 6, 6, 6],
        (3,): [3] * 7,
        (1, 3): [1, 1, 1, 3, 3, 3, 3],
        (6,): [6] * 7,
        (): [0] * 7,
    }
    for frames, want in seen.items():
        valid = torch.zeros(1, 7, dtype=torch.bool)
        valid[0, list(frames)] = True
        maps = {str(i): torch.zeros(1, 7, 1, 75, 75)[..., : 80 >> i + 2, : 80 >> i + 2] for i in range(4)}
        _, used = OutermostBoxPooler(2, "basic")(maps, boxes, valid, torch.tensor([0]), (75, 75))
        assert used[0, :, 0].tolist() == want


@pytest.mark.parametrize("levels", [4, 3, 2], ids=lambda n: f"P2-P{n + 1}")
def test_levels_are_those_of_torchvision(levels):
    side = torch.tensor([0.5, 1, 56, 111.99, 112, 112.01, 223.9, 223.9999, 224, 447.9, 448, 449, 896, 5000])
    boxes = torch.cat([torch.stack([side * 0, side * 0, side, side], 1), torch.rand(400, 4) * 500])
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2])
    want = LevelMapper(2, levels + 1)([boxes])
    pooler = OutermostBoxPooler(levels=[str(i) for i in range(levels)])
    assert torch.equal(pooler._level(boxes), want)
    assert set(want.tolist()) == set(range(levels))


@modes
@pytest.mark.parametrize("levels", [4, 2], ids=lambda n: f"P2-P{n + 1}")
def test_equals_multi_scale_roi_align_moved_by_half_a_cell(mode, levels):
    """Torchvision's module has no half-pixel alignment; the images are padded as its detectors do."""
    image, padded = (90, 120), (96, 128)
    maps = pyramid(1, 2, 3, padded, levels)
    names = [str(i) for i in range(levels)]
    boxes = torch.tensor([[9.0, 8, 50, 86], [30, 20, 44, 34], [4, 5, 116, 88], [20, 30, 52, 62]])
    scale = 40
    module = MultiScaleRoIAlign(names, 3, 2, canonical_scale=scale)
    features = {name: m[0] for name, m in zip(names, maps)}
    want = module(features, [boxes, boxes], [image, image]).unflatten(0, (2, 4)).permute(1, 2, 0, 3, 4)

    pooler = OutermostBoxPooler(3, mode, levels=names, canonical_scale=scale)
    half = torch.tensor(pooler.strides)[pooler._level(boxes)] / 2
    assert len(set(half.tolist())) == levels
    moved = (boxes + half[:, None])[:, None].expand(-1, 2, -1)
    clips, valid = torch.zeros(4, dtype=torch.long), torch.ones(4, 2, dtype=torch.bool)
    out, _ = pooler(dict(zip(names, maps)), moved, valid, clips, image)
    assert_close(out, want, rtol=0, atol=1e-5)


def test_a_track_has_one_level_in_outermost_mode_and_one_per_frame_in_basic_mode():
    """A person of 100 pixels' side who walks 200: the outermost box belongs to P3, the person's own to P2."""
    boxes = torch.tensor([[[0.0, 0, 100, 100], [200, 0, 300, 100]]])
    image, valid, clips = (320, 320), torch.ones(1, 2, dtype=torch.bool), torch.tensor([0])
    maps = {str(i): torch.full((1, 2, 1, 80 >> i, 80 >> i), float(i + 2)) for i in range(4)}
    assert OutermostBoxPooler(2)(maps, boxes, valid, clips, image)[0].unique().tolist() == [3]
    assert OutermostBoxPooler(2, "basic")(maps, boxes, valid, clips, image)[0].unique().tolist() == [2]


def test_a_degenerate_box_is_widened_to_one_pixel():
    boxes, valid = tracks(("no-area", "no-width", "negative-side"))
    features, clips = dict(zip("0123", pyramid(1, 3, 1))), torch.zeros(3, dtype=torch.long)
    want = [[33, 21, 34, 22], [33, 21, 34, 61], [60, 50, 61, 51]]
    assert OutermostBoxPooler(2)(features, boxes, valid, clips, IMAGE)[1].tolist() == want
    assert OutermostBoxPooler(2, "basic")(features, boxes, valid, clips, IMAGE)[1][:, 1].tolist() == want


def test_nothing_is_read_outside_the_boxes(form, device):
    maps = [torch.full_like(m, NAN) for m in pyramid(2, 3, 2)]
    maps[0][1, :, :, 4:9, 6:12] = torch.rand(3, 2, 5, 6)
    maps = [m.to(device).requires_grad_() for m in maps]
    # on P2 the samples of this box lie between cells 6 and 11, and 4 and 8
    boxes, valid = (
        torch.tensor([[[26.0, 18, 46, 34]] * 3], device=device),
        torch.ones(1, 3, dtype=torch.bool, device=device),
    )
    out, _ = OutermostBoxPooler(4)(dict(zip("0123", maps)), boxes, valid, torch.tensor([1], device=device), IMAGE)
    assert out.isfinite().all()
    out.sum().backward()
    outside = torch.ones(maps[0].shape, dtype=torch.bool, device=device)
    outside[1, :, :, 4:9, 6:12] = False
    assert maps[0].grad[outside].count_nonzero() == 0
    assert_close(maps[0].grad.sum(), torch.tensor(3 * 2 * 16.0, device=device))
    assert all(m.grad.count_nonzero() == 0 for m in maps[1:])


@modes
def test_the_border_counts_one_cell_outside_the_map(form, mode):
    """One bin with one sample: a box's centre at pixel x is cell x / 4 - 1/2, and the map has cells 0 to 3."""
    features = {"0": torch.tensor([1.0, 2, 3, 4]).expand(1, 1, 1, 4, 4)}
    centres = {-2.25: 0, -2: 1, 0: 1, 2: 1, 4: 1.5, 14: 4, 16: 4, 18: 4, 18.25: 0}
    boxes = torch.tensor([[[x - 4, 4.0, x + 4, 12]] for x in centres])
    valid, clips = torch.ones(len(boxes), 1, dtype=torch.bool), torch.zeros(len(boxes), dtype=torch.long)
    for axes in ([0, 1, 2, 3], [1, 0, 3, 2]):
        maps = features if axes[0] == 0 else {"0": features["0"].mT}
        pooler = OutermostBoxPooler(1, mode, levels=["0"], sampling_ratio=1)
        out, _ = pooler(maps, boxes[..., axes], valid, clips, (16, 16))
        assert out.flatten().tolist() == list(centres.values())


@modes
def test_autocast_does_not_lower_the_precision(form, mode, device):
    boxes, valid = tracks()
    clips = torch.zeros(len(boxes), dtype=torch.long)
    pooler = OutermostBoxPooler(4, mode, canonical_scale=28)
    for dtype in (torch.float32, torch.bfloat16):
        maps = pyramid(1, 3, 2, dtype=dtype)
        context = partial(torch.autocast, device.type, torch.bfloat16)
        check(pooler, maps, boxes, valid, clips, device=device, context=context)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_gradients_do_not_stall(form, dtype, device):
    """4096 people on one cell: ones added up in bfloat16 stop at 256, in float16 at 2048."""
    count = 4096
    features = {"0": torch.zeros(1, 1, 1, 3, 3, device=device, dtype=dtype, requires_grad=True)}
    boxes = torch.tensor([[[5.0, 5, 7, 7]]], device=device).expand(count, -1, -1)
    valid = torch.ones(count, 1, dtype=torch.bool, device=device)
    clips = torch.zeros(count, dtype=torch.long, device=device)
    out, _ = OutermostBoxPooler(1, levels=["0"], sampling_ratio=1)(features, boxes, valid, clips, (12, 12))
    out.sum().backward()
    assert features["0"].grad[0, 0, 0, 1, 1] == count


def test_deterministic(device):
    boxes, valid = tracks()
    clips, pooler = torch.arange(len(boxes)) % 2, OutermostBoxPooler(14, canonical_scale=28)
    maps = pyramid(2, 3, 8)
    torch.use_deterministic_algorithms(True)
    try:
        (first, _, grads), (second, _, again) = (
            both(pooler, maps, boxes, valid, clips, device=device)[0] for _ in range(2)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first, second)
    assert all(map(torch.equal, grads, again))


def test_gradient_is_the_derivative(form):
    boxes, valid = tracks(("walks", "past-left-and-top"))
    maps = [m.requires_grad_() for m in pyramid(1, 3, 1, (12, 16), 2, torch.float64)]
    pooler, clips = OutermostBoxPooler(2, levels=("0", "1"), canonical_scale=56), torch.zeros(2, dtype=torch.long)

    def pool(*maps):
        return pooler(dict(zip("01", maps)), boxes / 5, valid, clips, (12, 16))[0]

    assert torch.autograd.gradcheck(pool, maps)
    assert torch.autograd.gradgradcheck(pool, maps)


def test_only_the_matrices_are_kept_for_the_backward_pass():
    boxes, valid = tracks()
    maps = pyramid(1, 3, 16)
    features = {name: m.requires_grad_() for name, m in zip("0123", maps)}
    kept = []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor.shape), lambda _: None):
        OutermostBoxPooler(4, canonical_scale=28)(
            features, boxes, valid, torch.zeros(len(boxes), dtype=torch.long), IMAGE
        )
    assert kept
    assert all(len(shape) == 3 and shape[:2] == (len(boxes), 4) for shape in kept)


def test_no_gradient_to_the_boxes_or_to_maps_that_want_none():
    boxes, valid = tracks(("walks", "small"))
    boxes.requires_grad_()
    maps = pyramid(1, 3, 2)
    maps[2].requires_grad_()
    out, used = OutermostBoxPooler(4, canonical_scale=28)(
        dict(zip("0123", maps)), boxes, valid, torch.tensor([0, 0]), IMAGE
    )
    assert not used.requires_grad
    out.sum().backward()
    assert boxes.grad is None
    assert [m.grad is not None for m in maps] == [False, False, True, False]


@modes
def test_compiles_in_one_graph_for_any_number_of_people(mode, device):
    torch._dynamo.reset()
    pooler = OutermostBoxPooler((4, 3), mode, levels=("0", "1"), canonical_scale=56)
    compiled = torch.compile(pooler, backend="eager", fullgraph=True, dynamic=True)
    boxes, valid = tracks()
    maps = [m.to(device) for m in pyramid(2, 3, 2, levels=2)]
    for count in (4, len(boxes)):
        inputs = boxes[:count].to(device), valid[:count].to(device), (torch.arange(count) % 2).to(device), IMAGE
        leaves = [[m.clone().requires_grad_() for m in maps] for _ in range(2)]
        (out, used), (want, want_used) = (
            module(dict(zip("01", m)), *inputs) for module, m in zip((compiled, pooler), leaves)
        )
        assert torch.equal(used, want_used)
        assert_close(out, want, rtol=0, atol=1e-5)
        out.square().sum().backward()
        want.square().sum().backward()
        for leaf, want_leaf in zip(*leaves):
            assert_close(leaf.grad, want_leaf.grad, rtol=1e-5, atol=1e-5)


@modes
def test_exports_with_a_dynamic_number_of_people(mode, device):
    pooler = OutermostBoxPooler(4, mode, levels=("0", "1"), canonical_scale=56)
    boxes, valid = tracks()
    features = {name: m.to(device) for name, m in zip("01", pyramid(2, 3, 2, levels=2))}
    n = torch.export.Dim("n")

    def inputs(count):
        clips = torch.arange(count, device=device) % 2
        return features, boxes[:count].to(device), valid[:count].to(device), clips, IMAGE

    shapes = ({name: {} for name in features}, {0: n}, {0: n}, {0: n}, (None, None))
    program = torch.export.export(pooler, inputs(4), dynamic_shapes=shapes)
    names = [part for node in program.graph.nodes for part in str(node.target).split(".")]
    assert not {"item", "_local_scalar_dense", "nonzero"} & set(names)
    for count in (len(boxes), 1, 0):
        assert_close(program.module()(*inputs(count)), pooler(*inputs(count)), rtol=0, atol=1e-5)


@modes
def test_shapes_on_meta(mode):
    with torch.device("meta"):
        features = dict(zip("0123", (torch.empty(1, 8, 256, 184 >> i, 320 >> i) for i in range(4))))
        boxes, valid = torch.empty(3, 8, 4), torch.empty(3, 8, dtype=torch.bool)
        out, used = OutermostBoxPooler(28, mode)(features, boxes, valid, torch.empty(3, dtype=torch.long), (720, 1280))
    assert out.shape == (3, 256, 8, 28, 28)
    assert used.shape[-1] == 4


def test_levels_by_name():
    """Other maps are left alone, and the order is that of `levels`."""
    boxes, valid = tracks(("walks", "large"))
    maps = pyramid(1, 3, 2)
    clips = torch.zeros(2, dtype=torch.long)
    want, _ = OutermostBoxPooler(4, levels=("1", "2"), strides=(8, 16), canonical_scale=28)(
        dict(zip("0123", maps)), boxes, valid, clips, IMAGE
    )
    named = {"pool": torch.zeros(1), "P4": maps[2], "P3": maps[1]}
    out, _ = OutermostBoxPooler(4, levels=("P3", "P4"), strides=(8, 16), canonical_scale=28)(
        named, boxes, valid, clips, IMAGE
    )
    assert torch.equal(out, want)
    assert_close(out, reference.pool(maps[1:3], boxes / 2, valid, clips, "outermost", (4, 4), 14, 4)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "inner"}, "mode 'outermost' or 'basic', got 'inner'"),
        ({"out_size": 0}, r"at least 1.*\(0, 0\)"),
        ({"sampling_ratio": 0}, "at least 1.* 0 "),
        ({"canonical_scale": 0}, "positive canonical_scale"),
        ({"levels": ()}, "one or more different level names"),
        ({"levels": ("0", "0")}, "one or more different level names"),
        ({"strides": (4, 8)}, "one stride per level"),
        ({"strides": (4, 8, 16, 64)}, "twice the one before"),
        ({"strides": (3, 6, 12, 24)}, "a power of two"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        OutermostBoxPooler(**options)


GOOD = {
    "features": {str(i): torch.zeros(2, 3, 1, 80 >> i + 2, 96 >> i + 2) for i in range(4)},
    "boxes": torch.tensor([[[1.0, 2, 30, 40]] * 3]),
    "valid": torch.ones(1, 3, dtype=torch.bool),
    "clip_index": torch.tensor([1]),
    "image_size": (75, 90),
}
FEATURES = GOOD["features"]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"boxes": torch.zeros(3, 4)}, ValueError, r"boxes \(N, T, 4\).*got shape \(3, 4\)"),
        ({"boxes": torch.zeros(1, 3, 5)}, ValueError, r"boxes \(N, T, 4\).*got shape \(1, 3, 5\)"),
        ({"boxes": torch.zeros(1, 0, 4), "valid": torch.ones(1, 0).bool()}, ValueError, "at least one frame"),
        ({"boxes": torch.zeros(1, 3, 4).long()}, TypeError, "floating-point boxes, got torch.int64"),
        ({"valid": torch.ones(1, 2).bool()}, ValueError, r"valid \(N, T\) = \(1, 3\), got shape \(1, 2\)"),
        ({"valid": torch.ones(1, 3)}, TypeError, "valid to be bool, got torch.float32"),
        ({"clip_index": torch.tensor([0, 1])}, ValueError, r"one clip index per track, \(N,\) = \(1,\), got \(2,\)"),
        ({"clip_index": torch.tensor([0.0])}, TypeError, "integer clip_index, got torch.float32"),
        ({"clip_index": torch.tensor([2])}, ValueError, r"clip indices in \[0, 2\).*got \[2\]"),
        ({"clip_index": torch.tensor([-1])}, ValueError, r"clip indices in \[0, 2\).*got \[-1\]"),
        ({"features": {"0": FEATURES["0"]}}, ValueError, r"got \['0'\] without \['1', '2', '3'\]"),
        ({"features": FEATURES | {"1": torch.zeros(3, 1, 10, 12)}}, ValueError, r"maps \(B, T, C, h, w\).*10, 12"),
        ({"features": FEATURES | {"2": torch.zeros(2, 3, 5, 5, 6)}}, ValueError, r"one B, T and C.*\(2, 3, 5, 5, 6\)"),
        ({"features": FEATURES | {"3": torch.zeros(2, 3, 1, 2, 3).long()}}, TypeError, "torch.int64 at level '3'"),
        ({"features": FEATURES | {"0": FEATURES["1"]}}, ValueError, "level '0' should have a stride of 4 pixels"),
        ({"image_size": (750, 900)}, ValueError, "give the strides of your levels"),
        ({"boxes": torch.zeros(1, 4, 4), "valid": torch.ones(1, 4).bool()}, ValueError, "the features' 3 frames"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_input(wrong, error, message):
    OutermostBoxPooler(2)(**GOOD)
    with pytest.raises(error, match=message):
        OutermostBoxPooler(2)(**{**GOOD, **wrong})
