import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from actionzoo.layers import RegionFocusedGenerator, attention_map, chain_boxes, focus_boxes
from tests.reference import region_focus as reference


def peak(h, w, row, column, channels=3):
    """`(1, C, h, w)` features that are 0 but for one cell."""
    features = torch.zeros(1, channels, h, w)
    features[:, :, row, column] = 1
    return features


def blob_image(size, centre, sigma=4.0):
    """`(1, 3, H, W)` black but for one bright blob at `(y, x)`."""
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    blob = torch.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * sigma**2))
    return blob.expand(1, 3, *size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 7, 11), (1, 1, 3, 2), (3, 4, 1, 1)], ids=str)
def test_attention_map_equals_the_reference(dtype, shape, device):
    features = torch.randn(shape).to(dtype)
    scores = attention_map(features.to(device))
    assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    assert_close(scores.cpu().double(), reference.attention_map(features), rtol=tolerance, atol=tolerance)


def test_attention_map_of_numbers_worked_by_hand():
    first, second = [[1.0, 3.0]], [[-4.0, 2.0]]  # means 2 and -1
    assert attention_map(torch.tensor([[first, second]])).tolist() == [[[2.0 + 4.0, 6.0 + 0.0]]]


def test_channels_are_summed_before_the_argmax():
    """The strongest single value lies elsewhere than the strongest sum."""
    features = torch.zeros(1, 3, 2, 3)
    features[0, 0, 0, 1] = 4.0
    features[0, :, 1, 2] = 3.0
    assert attention_map(features)[0].flatten().argmax() == 5


def test_a_peak_is_found_where_the_printed_equation_swaps_the_axes(device):
    """SPEC's example: on an 8 x 12 map cell 41 is row 3, column 5, which Eq. 9 as printed takes for (3, 1)."""
    features = peak(8, 12, 3, 5).to(device)
    assert attention_map(features).flatten(1).argmax(1).item() == 41
    assert reference.eq9_as_printed(41, 8, 12) == (3, 1)
    # cells of 10 x 10 pixels, a window of 40 x 60
    assert focus_boxes(features, (80, 120), kappa=0.5).tolist() == [[25, 15, 85, 55]]
    # on a square map the printed equation gives row and column
    assert all(reference.eq9_as_printed(i, 7, 7) == divmod(i, 7) for i in range(49))


@pytest.mark.parametrize("kappa", [0.75, 0.3], ids=lambda k: f"kappa{k}")
def test_every_peak_of_a_non_square_map_is_in_the_middle_or_at_the_border(kappa, device):
    h, w, size = 5, 9, (61, 133)
    cells = list(itertools.product(range(h), range(w)))
    features = torch.cat([peak(h, w, *cell) for cell in cells]).to(device)
    boxes = focus_boxes(features, size, kappa).cpu()
    for (row, column), box in zip(cells, boxes.tolist(), strict=True):
        for centre, start, stop, side in (
            ((row + 0.5) * size[0] / h, box[1], box[3], size[0]),
            ((column + 0.5) * size[1] / w, box[0], box[2], size[1]),
        ):
            assert 0 <= start <= centre <= stop <= side
            assert stop - start == round(kappa * side)
            assert abs((start + stop) / 2 - centre) <= 0.5 or start == 0 or stop == side


@settings(max_examples=60, deadline=None)
@given(
    cells=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    size=st.tuples(st.integers(1, 520), st.integers(1, 520)),
    kappa=st.one_of(st.sampled_from([0.5, 0.75, 1.0]), st.floats(0.01, 1)),
    center_offset=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    position=st.floats(0, 1, exclude_max=True),
)
def test_boxes_equal_exact_arithmetic(cells, size, kappa, center_offset, position):
    cell = divmod(int(position * cells[0] * cells[1]), cells[1])
    features = peak(*cells, *cell, channels=1)
    want = reference.focus_box(features[0, 0], size, kappa, center_offset)
    assert focus_boxes(features, size, kappa, center_offset).tolist() == [want]
    assert 0 <= want[0] < want[2] <= size[1]
    assert 0 <= want[1] < want[3] <= size[0]


def test_a_window_at_half_a_pixel_is_not_lost_to_rounding():
    """Row 10 of 14 in 510 pixels is centred on 382.5, which `10.5 * (510 / 14)` misses in float32."""
    assert focus_boxes(peak(14, 1, 10, 0), (510, 8), kappa=0.2).tolist() == [[3, 332, 5, 434]]


def test_center_offset_zero_is_equation_10_as_printed():
    """y = H * row / h is the cell's corner."""
    (box,) = focus_boxes(peak(8, 12, 3, 5), (80, 120), kappa=0.25, center_offset=0).tolist()
    assert [(box[1] + box[3]) / 2, (box[0] + box[2]) / 2] == [80 * 3 / 8, 120 * 5 / 12]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("kappa", "center_offset"), [(0.75, 0.5), (0.4, 0.0)])
def test_equals_the_reference(dtype, kappa, center_offset, device):
    images, features = torch.rand(3, 3, 29, 41).to(dtype), torch.randn(3, 6, 5, 7).to(dtype)
    crops, boxes = RegionFocusedGenerator(kappa, center_offset)(images.to(device), features.to(device))
    want, want_boxes = reference.region_focus(images, features, kappa, center_offset)
    assert boxes.dtype == torch.int64
    assert torch.equal(boxes.cpu(), want_boxes)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-12, torch.bfloat16: 2**-8}[dtype]
    assert_close(crops.cpu(), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("centre", [(20.0, 100.0), (70.0, 30.0), (94.0, 2.0), (48.0, 64.0)], ids=str)
def test_three_crops_zoom_in_on_a_planted_blob(centre, device):
    size = (96, 128)
    generator = RegionFocusedGenerator(kappa=0.75)
    images, boxes = blob_image(size, centre).to(device), []
    brightness = [images.mean().item()]
    for _ in range(3):
        images, box = generator(images, F.avg_pool2d(images, 8))
        boxes.append(box)
        brightness.append(images.mean().item())
    chain = chain_boxes(boxes, size)[0].cpu()
    outer = torch.tensor([0.0, 0.0, 128.0, 96.0])
    for depth, box in enumerate(chain, 1):
        assert (box[:2] >= outer[:2]).all()
        assert (box[2:] <= outer[2:]).all()
        assert box[0] <= centre[1] <= box[2]
        assert box[1] <= centre[0] <= box[3]
        assert_close(box[2:] - box[:2], torch.tensor([128.0, 96.0]) * 0.75**depth)
        outer = box
    # a window of 9/16 of the area that keeps the blob is 16/9 as bright; at a corner some of it is cut off
    assert all(after > 1.2 * before for before, after in itertools.pairwise(brightness))
    if centre == (48.0, 64.0):
        assert brightness[3] == pytest.approx(brightness[0] * (16 / 9) ** 3, rel=0.02)


@pytest.mark.parametrize(
    ("cell", "box"),
    [((0, 0), [0, 0, 30, 15]), ((0, 9), [10, 0, 40, 15]), ((4, 0), [0, 5, 30, 20]), ((4, 9), [10, 5, 40, 20])],
    ids=["top-left", "top-right", "bottom-left", "bottom-right"],
)
def test_at_the_border_the_window_is_shifted_not_clipped(cell, box):
    images = torch.rand(1, 3, 20, 40)
    crops, boxes = RegionFocusedGenerator(0.75)(images, peak(5, 10, *cell))
    assert boxes.tolist() == [box]
    assert crops.shape == images.shape


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
def test_features_that_are_not_finite_give_the_centre_crop(value, device):
    """Of the spoilt image alone: its neighbour in the batch keeps its own window."""
    features = torch.cat([peak(4, 4, 0, 0), peak(4, 4, 0, 0)])
    features[0, 1, 2, 3] = value
    images = torch.rand(2, 3, 40, 60)
    crops, boxes = RegionFocusedGenerator(0.5)(images.to(device), features.to(device))
    assert boxes.tolist() == [[15, 10, 45, 30], [0, 0, 30, 20]]
    assert crops.isfinite().all()
    want = F.interpolate(images[:1, :, 10:30, 15:45], (40, 60), mode="bilinear", align_corners=False)
    assert_close(crops[:1].cpu(), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_a_flat_map_gives_the_first_window(value):
    images = torch.rand(1, 3, 20, 40)
    crops, boxes = RegionFocusedGenerator(0.75)(images, torch.full((1, 4, 5, 10), value))
    assert boxes.tolist() == [[0, 0, 30, 15]]
    assert crops.isfinite().all()


def test_a_map_of_one_cell_gives_the_centre_crop():
    assert focus_boxes(torch.ones(1, 4, 1, 1), (20, 40), kappa=0.5).tolist() == [[10, 5, 30, 15]]


def test_a_tiny_window_is_at_least_one_pixel():
    assert focus_boxes(peak(2, 2, 1, 0), (4, 6), kappa=0.01).tolist() == [[1, 3, 2, 4]]


def test_kappa_one_is_the_identity(device):
    images = torch.randn(2, 3, 19, 23, device=device)
    crops, boxes = RegionFocusedGenerator(kappa=1)(images, torch.randn(2, 5, 3, 4, device=device))
    assert torch.equal(crops, images)
    assert boxes.tolist() == [[0, 0, 23, 19]] * 2


def test_no_gradient_passes():
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    features = torch.rand(1, 3, 4, 4, requires_grad=True)
    crops, boxes = RegionFocusedGenerator()(images, features)
    assert not crops.requires_grad
    assert not boxes.requires_grad
    weight = torch.ones(1, requires_grad=True)
    (crops * weight).sum().backward()
    assert weight.grad.item() == pytest.approx(crops.sum().item())
    assert images.grad is None
    assert features.grad is None


def test_it_has_no_parameters_and_shows_its_settings():
    generator = RegionFocusedGenerator(0.6, 0.25)
    assert not generator.state_dict()
    assert repr(generator) == "RegionFocusedGenerator(kappa=0.6, center_offset=0.25)"


def test_images_of_a_batch_do_not_influence_one_another(device):
    images, features = torch.rand(5, 3, 21, 33, device=device), torch.randn(5, 4, 6, 5, device=device)
    order = torch.tensor([3, 0, 4, 2, 1], device=device)
    generator = RegionFocusedGenerator()
    crops, boxes = generator(images, features)
    permuted, permuted_boxes = generator(images[order], features[order])
    assert torch.equal(permuted, crops[order])
    assert torch.equal(permuted_boxes, boxes[order])
    alone, _ = generator(images[2:3], features[2:3])
    assert torch.equal(alone, crops[2:3])


def test_an_empty_batch(device):
    images, features = torch.rand(0, 3, 8, 9, device=device), torch.rand(0, 4, 2, 3, device=device)
    crops, boxes = RegionFocusedGenerator()(images, features)
    assert crops.shape == (0, 3, 8, 9)
    assert boxes.shape == (0, 4)


def test_chain_boxes_worked_by_hand():
    """Half of a half: pixel k of the second crop is a quarter pixel of the first image."""
    first, second = torch.tensor([[20, 10, 60, 40]]), torch.tensor([[40, 15, 80, 45]])
    chain = chain_boxes([first, second], (60, 80))
    assert chain.dtype == torch.float32
    assert chain.tolist() == [[[20, 10, 60, 40], [40, 17.5, 60, 32.5]]]


@settings(max_examples=50, deadline=None)
@given(
    size=st.tuples(st.integers(4, 300), st.integers(4, 300)),
    cells=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=5),
    kappa=st.floats(0.3, 1),
)
def test_chained_boxes_are_nested_and_equal_the_composition(size, cells, kappa):
    boxes = [focus_boxes(peak(5, 7, *cell), size, kappa) for cell in cells]
    chain = chain_boxes([torch.cat([box, box]) for box in boxes], size)
    assert torch.equal(chain[0], chain[1])
    want = reference.chain([box[0].tolist() for box in boxes], size)
    assert_close(chain[0].double(), torch.tensor(want, dtype=torch.float64), rtol=1e-5, atol=1e-3)
    outer = torch.tensor([0.0, 0.0, size[1], size[0]])
    for box in chain[0]:
        assert (box[:2] >= outer[:2] - 1e-3).all()
        assert (box[2:] <= outer[2:] + 1e-3).all()
        outer = box


class Focus(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = RegionFocusedGenerator()

    def forward(self, images, features):
        return self.generator(images, features)


def test_compiles_in_one_graph(device):
    torch._dynamo.reset()
    images, features = torch.rand(3, 3, 29, 41, device=device), torch.randn(3, 6, 5, 7, device=device)
    crops, boxes = torch.compile(Focus(), backend="eager", fullgraph=True)(images, features)
    want, want_boxes = RegionFocusedGenerator()(images, features)
    assert torch.equal(boxes, want_boxes)
    assert_close(crops, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kappa", [0, -0.5, 1.01, float("nan")])
def test_wrong_kappa(kappa):
    for build in (RegionFocusedGenerator, lambda kappa: focus_boxes(torch.ones(1, 1, 2, 2), (8, 8), kappa)):
        with pytest.raises(ValueError, match=r"kappa is a fraction of the image's side in \(0, 1\], got "):
            build(kappa=kappa)


@pytest.mark.parametrize("center_offset", [-0.1, 1.5])
def test_wrong_center_offset(center_offset):
    for build in (RegionFocusedGenerator, lambda **how: focus_boxes(torch.ones(1, 1, 2, 2), (8, 8), **how)):
        with pytest.raises(ValueError, match=r"center_offset is a fraction of a cell in \[0, 1\], got "):
            build(center_offset=center_offset)


@pytest.mark.parametrize(
    ("images", "features"),
    [((3, 8, 8), (1, 4, 2, 2)), ((1, 3, 8, 8), (4, 2, 2)), ((2, 3, 8, 8), (3, 4, 2, 2))],
    ids=["images", "features", "batch"],
)
def test_wrong_shapes(images, features):
    with pytest.raises(ValueError, match=r"images \(B, C, H, W\) and features \(B, C', h, w\) of one batch, got "):
        RegionFocusedGenerator()(torch.zeros(images), torch.zeros(features))


def test_wrong_rank_of_features_and_empty_chain():
    with pytest.raises(ValueError, match=r"features \(B, C, h, w\), got shape \(4, 2, 2\)"):
        attention_map(torch.zeros(4, 2, 2))
    with pytest.raises(ValueError, match=r"features \(B, C, h, w\), got shape \(4, 2, 2\)"):
        focus_boxes(torch.zeros(4, 2, 2), (8, 8))
    with pytest.raises(ValueError, match="at least one tensor of boxes"):
        chain_boxes([], (8, 8))
