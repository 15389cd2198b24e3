import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from actionzoo.layers import crop_resize
from actionzoo.layers.crop_resize import _crop_gather
from tests.reference import crop_resize as reference

# On images of 13 x 17 pixels.
BOXES = {
    "inside": [3, 2, 12, 7],
    "whole-image": [0, 0, 17, 13],
    "one-pixel": [4, 9, 5, 10],
    "one-column": [16, 0, 17, 13],
    "past-left-and-top": [-3, -2, 6, 4],
    "past-right-and-bottom": [11, 8, 21, 18],
    "past-all-sides": [-2, -1, 19, 15],
    "outside-left": [-9, 2, -4, 8],
    "outside-below": [2, 13, 7, 20],
    "no-width": [6, 3, 6, 9],
    "no-area": [6, 3, 6, 3],
    "negative-side": [9, 8, 4, 3],
}
FORMS = {"public": crop_resize, "gather": lambda images, boxes, index, size: _crop_gather(images, boxes, index, *size)}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def both(form, images, boxes, index, size, device):
    """Values and gradients of a form and of the reference loop, all on the CPU, for one random upstream gradient."""
    results = []
    for function, place in ((form, device), (reference.crop_resize, torch.device("cpu"))):
        leaf = images.detach().clone(memory_format=torch.preserve_format).to(place).requires_grad_()
        crops = function(leaf, boxes.to(place), index.to(place), size)
        torch.manual_seed(1)
        crops.backward(torch.rand(crops.shape, dtype=torch.float64).to(crops))
        results.append((crops.detach().cpu(), leaf.grad.cpu()))
    return results


def check(form, images, boxes, index, size, device):
    (crops, grad), (want, want_grad) = both(form, images, boxes, index, size, device)
    assert crops.shape == (len(boxes), images.shape[1], *size)
    value, slope = {
        torch.float64: (1e-12, 1e-12),
        torch.float32: (1e-6, 1e-6),
        # half a unit in the last place, and one more for adding up the boxes' gradients
        torch.bfloat16: (2**-8, 2**-7),
    }[images.dtype]
    assert_close(crops, want, rtol=0, atol=value)
    assert_close(grad, want_grad, rtol=0, atol=slope * max(1, want_grad.abs().max().item()))


@forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (19, 4)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_equals_the_reference(form, dtype, size, device):
    images = torch.rand(3, 3, 13, 17, dtype=torch.float64).to(dtype)
    boxes = torch.tensor(list(BOXES.values()))
    check(form, images, boxes, torch.arange(len(boxes)) % 3, size, device)


coordinates = st.tuples(*[st.integers(-5, 13)] * 4)


@forms
@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(coordinates, st.integers(0, 1)), min_size=0, max_size=3),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_any_boxes_equal_the_reference(form, rows, size, device):
    images = torch.rand(2, 2, 7, 9)
    boxes = torch.tensor([box for box, _ in rows], dtype=torch.long).reshape(-1, 4)
    index = torch.tensor([i for _, i in rows], dtype=torch.long)
    check(form, images, boxes, index, size, device)


@forms
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_equals_interpolate_of_the_padded_crop(form, box, device):
    images = torch.rand(1, 3, 13, 17)
    x1, y1, x2, y2 = box
    padded = F.pad(images, (20, 20, 20, 20))
    crop = padded[:, :, y1 + 20 : max(y2, y1 + 1) + 20, x1 + 20 : max(x2, x1 + 1) + 20]
    want = F.interpolate(crop, (6, 9), mode="bilinear", align_corners=False)
    boxes, index = torch.tensor([box], device=device), torch.zeros(1, dtype=torch.long, device=device)
    assert_close(form(images.to(device), boxes, index, (6, 9)).cpu(), want, rtol=0, atol=1e-6)


@forms
def test_boxes_of_one_size(form, device):
    """Without a gradient these are cropped in one piece, and the values stay the same."""
    images = torch.rand(2, 3, 11, 14)
    boxes = torch.tensor([[0, 0, 5, 7], [9, 4, 14, 11], [3, 2, 8, 9], [3, 2, 8, 9]])
    index = torch.tensor([1, 0, 1, 1])
    check(form, images, boxes, index, (9, 6), device)
    crops = form(images.to(device), boxes.to(device), index.to(device), (9, 6)).cpu()
    assert_close(crops, reference.crop_resize(images, boxes, index, (9, 6)), rtol=0, atol=1e-6)
    assert torch.equal(crops[2], crops[3])


@forms
@pytest.mark.parametrize("requires_grad", [False, True])
def test_no_boxes(form, requires_grad, device):
    images = torch.full((2, 3, 5, 6), torch.inf, device=device, requires_grad=requires_grad)
    boxes = torch.zeros(0, 4, dtype=torch.long, device=device)
    crops = form(images, boxes, torch.zeros(0, dtype=torch.long, device=device), (4, 3))
    assert crops.shape == (0, 3, 4, 3)
    assert crops.dtype == images.dtype
    if requires_grad:
        crops.sum().backward()
        assert images.grad.count_nonzero() == 0
        assert images.grad.isfinite().all()


@forms
def test_only_boxes_outside_still_have_a_gradient_of_zero(form, device):
    images = torch.full((1, 2, 5, 6), torch.nan, device=device, requires_grad=True)
    boxes = torch.tensor([[6, 0, 9, 4], [-4, -4, 0, 0]], device=device)
    crops = form(images, boxes, torch.zeros(2, dtype=torch.long, device=device), (3, 3))
    assert crops.count_nonzero() == 0
    crops.sum().backward()
    assert images.grad.count_nonzero() == 0


@forms
@pytest.mark.parametrize("size", [(4, 5), (3, 9), (9, 2), (1, 1)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_reads_no_pixel_outside_a_box(form, size, device):
    images = torch.full((1, 2, 9, 11), torch.nan)
    images[:, :, 3:7, 2:7] = torch.rand(2, 4, 5)
    images = images.to(device).requires_grad_()
    box, index = torch.tensor([[2, 3, 7, 7]], device=device), torch.zeros(1, dtype=torch.long, device=device)
    crops = form(images, box, index, size)
    assert crops.isfinite().all()
    crops.sum().backward()
    inside = torch.zeros(9, 11, dtype=torch.bool, device=device)
    inside[3:7, 2:7] = True
    assert images.grad[:, :, ~inside].count_nonzero() == 0
    assert_close(images.grad.sum(), crops.new_tensor(2.0 * size[0] * size[1]))


@forms
def test_at_its_own_size_a_box_is_copied_bit_by_bit(form, device):
    images = torch.randn(1, 2, 7, 9, device=device)
    images[0, 0, 3, 4] = torch.nan
    box, index = torch.tensor([[1, 2, 8, 6]], device=device), torch.zeros(1, dtype=torch.long, device=device)
    assert torch.equal(form(images, box, index, (4, 7)).nan_to_num(7.0), images[:, :, 2:6, 1:8].nan_to_num(7.0))


@forms
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_gradients_do_not_stall(form, dtype, device):
    """4096 ones added up in bfloat16 stop at 256, in float16 at 2048."""
    images = torch.rand(1, 1, 5, 6, device=device).to(dtype).requires_grad_()
    boxes = torch.tensor([[3, 3, 4, 4]], device=device)
    form(images, boxes, torch.zeros(1, dtype=torch.long, device=device), (64, 64)).sum().backward()
    assert images.grad[0, 0, 3, 3] == 4096
    assert images.grad.sum() == 4096


@forms
def test_channels_last_input(form, device):
    images = torch.rand(2, 4, 13, 17)
    boxes = torch.tensor(list(BOXES.values()))
    index = torch.arange(len(boxes)) % 2
    last = images.to(memory_format=torch.channels_last)
    assert last.stride() != images.stride()
    check(form, last, boxes, index, (5, 7), device)


@forms
def test_gradient_is_the_derivative(form):
    images = torch.rand(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    boxes, index = torch.tensor([[1, 0, 4, 3], [-1, 2, 3, 6], [9, 9, 9, 9]]), torch.tensor([1, 0, 0])
    assert torch.autograd.gradcheck(lambda x: form(x, boxes, index, (3, 2)), (images,))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8], ids=str)
def test_any_integer_type_and_one_number_as_size(dtype, device):
    images = torch.rand(2, 3, 8, 9, device=device)
    boxes, index = torch.tensor([[1, 2, 6, 5], [0, 0, 9, 8]], device=device), torch.tensor([1, 0], device=device)
    assert torch.equal(
        crop_resize(images, boxes.to(dtype), index.to(dtype), 4), crop_resize(images, boxes, index, (4, 4))
    )


class LargestTensor(TorchDispatchMode):
    """Elements of the largest storage that any operation returns, the backward pass included."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.elements = max(self.elements, leaf.untyped_storage().nbytes() // leaf.element_size())
        return out


@forms
@pytest.mark.parametrize("box", [24, 32], ids=["same-sizes", "whole-images"])
def test_needs_no_more_memory_than_images_and_crops(form, box):
    """Same-size boxes once went back through every window of every image."""
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    start = (32 - box) // 2
    boxes = torch.tensor([[0, 0, box, box], [start, start, start + box, start + box]])
    with LargestTensor() as largest:
        form(images, boxes, torch.tensor([0, 1]), (32, 32)).sum().backward()
    assert largest.elements == images.numel()


class Crop(nn.Module):
    def forward(self, images, boxes, index):
        return crop_resize(images, boxes, index, (5, 7))


def some_boxes(count):
    boxes = torch.tensor(list(BOXES.values()))[torch.arange(count) % len(BOXES)]
    return boxes, torch.arange(count) % 2


def test_compiles_in_one_graph_for_any_number_of_boxes(device):
    torch._dynamo.reset()
    compiled = torch.compile(crop_resize, backend="eager", fullgraph=True, dynamic=True)
    images = torch.rand(2, 3, 13, 17)
    for count in (4, 11, 0):
        boxes, index = some_boxes(count)
        check(compiled, images, boxes, index, (5, 7), device)


def test_exports_with_a_dynamic_number_of_boxes(device):
    images = torch.rand(2, 3, 13, 17, device=device)
    n = torch.export.Dim("n")
    example = (images, *(tensor.to(device) for tensor in some_boxes(4)))
    program = torch.export.export(Crop(), example, dynamic_shapes=({}, {0: n}, {0: n}))
    operators = [str(node.target) for node in program.graph.nodes]
    assert operators.count("aten.index.Tensor") == 4
    assert not [name for name in operators if "item" in name.split(".") or "scalar_dense" in name]
    for count in (12, 1, 0):
        boxes, index = some_boxes(count)
        crops = program.module()(images, boxes.to(device), index.to(device))
        assert_close(crops.cpu(), reference.crop_resize(images, boxes, index, (5, 7)), rtol=0, atol=1e-6)


GOOD = {
    "images": torch.zeros(2, 3, 8, 9),
    "boxes": torch.tensor([[1, 2, 6, 5]]),
    "index": torch.tensor([1]),
    "size": (4, 4),
}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"images": torch.zeros(3, 8, 9)}, ValueError, r"images \(B, C, H, W\), got shape \(3, 8, 9\)"),
        ({"boxes": torch.tensor([1, 2, 6, 5])}, ValueError, r"boxes \(N, 4\) as xyxy, got shape \(4,\)"),
        ({"boxes": torch.tensor([[1, 2, 6]])}, ValueError, r"boxes \(N, 4\) as xyxy, got shape \(1, 3\)"),
        ({"index": torch.tensor([0, 1])}, ValueError, r"one image index per box, \(N,\) = \(1,\), got \(2,\)"),
        ({"index": torch.tensor([[0]])}, ValueError, r"one image index per box.*got \(1, 1\)"),
        ({"index": torch.tensor(0)}, ValueError, r"one image index per box.*got \(\)"),
        ({"index": torch.tensor([2])}, ValueError, "image index 2 for a batch of 2 images"),
        ({"index": torch.tensor([-1])}, ValueError, "image index -1 for a batch of 2 images"),
        ({"size": 0}, ValueError, r"at least one pixel, got \(0, 0\)"),
        ({"size": (4, -1)}, ValueError, r"at least one pixel, got \(4, -1\)"),
        ({"images": torch.zeros(2, 3, 8, 9, dtype=torch.uint8)}, TypeError, "floating-point images, got torch.uint8"),
        ({"boxes": torch.tensor([[1.0, 2, 6, 5]])}, TypeError, "integer boxes, got torch.float32"),
        ({"boxes": torch.ones(1, 4, dtype=torch.bool)}, TypeError, "integer boxes, got torch.bool"),
        ({"index": torch.tensor([1.0])}, TypeError, "integer index, got torch.float32"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_input(wrong, error, message):
    with pytest.raises(error, match=message):
        crop_resize(**{**GOOD, **wrong})
