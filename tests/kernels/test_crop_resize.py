import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from actionzoo import kernels
from actionzoo.kernels._crop_resize import crop_gather
from actionzoo.layers import PartCropper, crop_resize
from tests.reference import crop_resize as reference

pytest.importorskip("triton")

# On images of 6 x 7 pixels.
BOXES = {
    "inside": [1, 1, 6, 4],
    "whole-image": [0, 0, 7, 6],
    "past-left-and-top": [-2, -1, 3, 2],
    "past-right-and-bottom": [4, 3, 9, 8],
    "outside": [7, 0, 9, 3],
    "no-area": [3, 2, 3, 2],
    "negative-side": [5, 5, 2, 1],
}


def some(channels=1, dtype=torch.float32):
    boxes = torch.tensor(list(BOXES.values()))
    return torch.rand(2, channels, 6, 7, dtype=torch.float64).to(dtype), boxes, torch.arange(len(boxes)) % 2


def values_and_gradient(form, images, boxes, index, size, device):
    """Of a form on a device, for the same random upstream gradient every time."""
    leaf = images.detach().to(device, copy=True).requires_grad_()
    crops = form(leaf, boxes.to(device), index.to(device), size)
    torch.manual_seed(1)
    upstream = torch.rand(crops.shape, dtype=torch.float64).to(crops)
    return crops.detach().cpu(), torch.autograd.grad(crops, leaf, upstream)[0].cpu()


def check(images, boxes, index, size, device, value, slope):
    """The kernels, the four gathers and the reference loop agree."""
    crops, grad = values_and_gradient(kernels.crop_resize, images, boxes, index, size, device)
    assert crops.shape == (len(boxes), images.shape[1], *size)
    assert crops.dtype == grad.dtype == images.dtype
    plain = lambda *given: crop_gather(*given[:3], *given[3])  # noqa: E731
    for form, place in ((plain, device), (reference.crop_resize, "cpu")):
        want, want_grad = values_and_gradient(form, images, boxes, index, size, place)
        assert_close(crops, want, rtol=0, atol=value)
        assert_close(grad, want_grad, rtol=0, atol=slope * max(1, want_grad.abs().max().item()))


@pytest.mark.parametrize(
    ("dtype", "value", "slope"),
    [
        (torch.float32, 1e-6, 1e-6),
        (torch.float64, 1e-12, 1e-12),
        # half a unit in the last place, and one more for adding up the boxes' gradients
        (torch.bfloat16, 2**-8, 2**-7),
        (torch.float16, 2**-11, 2**-10),
    ],
    ids=["float32", "float64", "bfloat16", "float16"],
)
def test_equals_the_reference(dtype, value, slope, device):
    check(*some(dtype=dtype), (3, 5), device, value, slope)


@pytest.mark.parametrize("size", [(1, 1), (5, 2)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_several_tiles_and_channels(size, device, monkeypatch):
    """Tiles that the crop and the image do not fill, of which the box touches a part."""
    monkeypatch.setattr("actionzoo.kernels._crop_resize_triton._tile", lambda *given: (2, 4))
    images, boxes, index = torch.rand(1, 2, 3, 7), torch.tensor([[1, 1, 5, 4]]), torch.tensor([0])
    check(images, boxes, index, size, device, 1e-6, 1e-6)


def test_more_channels_than_a_program_takes(device):
    images = torch.rand(2, 9, 4, 5, device=device)
    boxes, index = torch.tensor([[0, 1, 3, 4]], device=device), torch.tensor([1], device=device)
    got, want = kernels.crop_resize(images, boxes, index, (2, 3)), crop_gather(images, boxes, index, 2, 3)
    assert_close(got, want, rtol=0, atol=1e-6)


def test_more_boxes_than_the_backward_pass_takes_at_once(device):
    boxes = torch.tensor([[7, 0, 9, 9]]).repeat(300, 1)
    boxes[[127, 128, 299]] = torch.tensor([[0, 0, 3, 2], [2, 2, 6, 6], [2, 1, 4, 3]])
    boxes, index = boxes.to(device), torch.zeros(300, dtype=torch.long, device=device)
    images = torch.rand(1, 1, 6, 7, device=device, requires_grad=True)
    upstream = torch.rand(300, 1, 2, 2, device=device)
    (want,) = torch.autograd.grad(crop_gather(images, boxes, index, 2, 2), images, upstream)
    got = torch.ops.actionzoo.crop_resize_backward(upstream, boxes, index, 1, 6, 7)
    assert_close(got, want, rtol=0, atol=1e-6)
    assert got.count_nonzero() >= 12


def test_any_strides_and_integer_types(device):
    images = torch.rand(3, 5, 2, 4).permute(0, 2, 3, 1)[1:, :, ::2].to(device)
    boxes = torch.tensor([[0, 1, 3, 3], [0, 0, 0, 0], [2, 0, 5, 2]], dtype=torch.int32, device=device)[::2]
    index = torch.tensor([1, 7, 0], dtype=torch.uint8, device=device)[::2]
    assert not images.is_contiguous()
    assert not boxes.is_contiguous()
    leaf = images.detach().requires_grad_()
    crops = kernels.crop_resize(leaf, boxes, index, 2)
    assert_close(crops, crop_gather(images, boxes, index, 2, 2), rtol=0, atol=1e-6)
    # a gradient without memory of its own
    crops.sum().backward()
    assert_close(leaf.grad.sum().item(), crops.numel() - leaf.shape[1] * 2.0)


@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (0, 3, 5, 6), (2, 0, 5, 6), (2, 3, 0, 6)], ids=str)
def test_nothing_to_crop(shape, device):
    images = torch.full(shape, torch.inf, device=device, requires_grad=True)
    boxes = torch.zeros(0, 4, dtype=torch.long, device=device)
    crops = kernels.crop_resize(images, boxes, boxes[:, 0], (4, 3))
    assert crops.shape == (0, shape[1], 4, 3)
    crops.sum().backward()
    assert images.grad.shape == shape
    assert images.grad.count_nonzero() == 0


FORMS = {"kernel": lambda *given: kernels.crop_resize(*given[:3], given[3:]), "plain": crop_gather}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_crop_of_an_image_that_does_not_exist_is_nan(dtype, form, device):
    images = torch.rand(2, 1, 4, 5, dtype=dtype, device=device, requires_grad=True)
    boxes = torch.tensor([[0, 0, 3, 2]] * 4, device=device)
    index = torch.tensor([-1, 2, 2**40, 1], device=device)
    crops = form(images, boxes, index, 1, 2)
    assert crops.dtype == dtype
    assert crops[:3].isnan().all()
    assert crops[3].isfinite().all()
    crops.sum().backward()
    assert images.grad[0].count_nonzero() == 0
    assert_close(images.grad.sum().item(), 2.0)
    # in eight bits 258 would be 2
    many = torch.rand(258, 1, 1, 1, dtype=dtype, device=device)
    small = torch.tensor([2], dtype=torch.uint8, device=device)
    assert form(many, torch.tensor([[0, 0, 1, 1]], device=device), small, 1, 1).item() == many[2].item()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("shape", [(2, 1, 0, 5), (2, 1, 4, 0), (0, 1, 4, 5), (2, 0, 4, 5)], ids=str)
def test_images_without_a_pixel(shape, form, device):
    images = torch.rand(shape, device=device, requires_grad=True)
    boxes = torch.tensor([[0, 0, 3, 2], [1, 1, 2, 2]], device=device)
    crops = form(images, boxes, torch.tensor([1, 7], device=device), 3, 2)
    assert crops.shape == (2, shape[1], 3, 2)
    assert crops[1].isnan().all()
    assert crops[0].isnan().all() if shape[0] == 0 else crops[0].count_nonzero() == 0
    crops.sum().backward()
    assert images.grad.shape == shape


def test_huge_boxes(device):
    images = torch.rand(1, 1, 4, 5, device=device, requires_grad=True)
    # the centre of the first is the corner of four pixels, two of them in the image
    boxes = [[-(2**20), -(2**20), 2**20, 2**20 + 4], [2**40, 0, 2**41, 4], [-(2**41), 0, -(2**40), 4]]
    boxes, index = torch.tensor(boxes, device=device), torch.zeros(3, dtype=torch.long, device=device)
    got, want = kernels.crop_resize(images, boxes, index, 1), crop_gather(images, boxes, index, 1, 1)
    assert_close(got[0].item(), images[0, 0, 1:3, 0].sum().item() / 4)
    assert_close(got, want, rtol=0, atol=1e-6)
    assert_close(*(torch.autograd.grad(crops.sum(), images)[0] for crops in (got, want)), rtol=0, atol=1e-6)


def test_reads_no_pixel_outside_a_box(device):
    images = torch.full((1, 1, 5, 6), torch.nan)
    images[:, :, 1:4, 2:5] = torch.rand(3, 3)
    images = images.to(device).requires_grad_()
    box, index = torch.tensor([[2, 1, 5, 4]], device=device), torch.zeros(1, dtype=torch.long, device=device)
    for size in ((3, 3), (2, 5)):
        crops = kernels.crop_resize(images, box, index, size)
        assert crops.isfinite().all()
        (grad,) = torch.autograd.grad(crops.sum(), images)
        assert_close(grad[:, :, 1:4, 2:5].sum().item(), float(crops.numel()))
        assert_close(grad.sum().item(), float(crops.numel()))


def test_at_its_own_size_a_box_is_copied_bit_by_bit(device):
    images = torch.randn(1, 1, 5, 6, device=device)
    images[0, 0, 2, 3] = torch.nan
    images.requires_grad_()
    box, index = torch.tensor([[1, 1, 5, 4]], device=device), torch.zeros(1, dtype=torch.long, device=device)
    crops = kernels.crop_resize(images, box, index, (3, 4))
    upstream = torch.randn_like(crops)
    upstream[0, 0, 0, 1] = torch.nan
    (grad,) = torch.autograd.grad(crops, images, upstream)
    assert torch.equal(crops.nan_to_num(7.0), images[:, :, 1:4, 1:5].nan_to_num(7.0))
    assert torch.equal(grad.nan_to_num(7.0), F.pad(upstream, (1, 1, 1, 1)).nan_to_num(7.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_gradients_do_not_stall(dtype, device):
    """Two ones added to 2048 one by one are lost in float16, and in bfloat16 long before."""
    boxes = torch.tensor([[1, 1, 2, 2]] * 3, device=device)
    upstream = torch.tensor([2048.0, 8, 8] if dtype == torch.bfloat16 else [2048.0, 1, 1], dtype=dtype, device=device)
    index = torch.zeros(3, dtype=torch.long, device=device)
    grad = torch.ops.actionzoo.crop_resize_backward(upstream[:, None, None, None], boxes, index, 1, 3, 3)
    assert grad.sum() == grad[0, 0, 1, 1] == upstream.double().sum()


def test_gradients_are_derivatives(device):
    images = torch.rand(1, 1, 3, 3, dtype=torch.float64, device=device, requires_grad=True)
    boxes, index = torch.tensor([[-1, 1, 2, 3]], device=device), torch.tensor([0], device=device)
    form = lambda x: kernels.crop_resize(x, boxes, index, (2, 2))  # noqa: E731
    assert torch.autograd.gradcheck(form, (images,), fast_mode=True)
    assert torch.autograd.gradgradcheck(form, (images,), fast_mode=True)


# opcheck itself asks non-leaf tensors for their gradients
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_is_a_well_behaved_operator(device):
    images = torch.rand(1, 1, 3, 4, device=device, requires_grad=True)
    boxes, index = torch.tensor([[0, 1, 3, 3]], device=device), torch.tensor([0], device=device)
    torch.library.opcheck(torch.ops.actionzoo.crop_resize.default, (images, boxes, index, 2, 2))
    grad = torch.rand(1, 1, 2, 2, device=device, requires_grad=True)
    torch.library.opcheck(torch.ops.actionzoo.crop_resize_backward.default, (grad, boxes, index, 1, 3, 4))


class Calls(torch.utils._python_dispatch.TorchDispatchMode):
    """Names of the operators that were called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_the_layers_use_it_where_they_are_told_to(device):
    images, joints = torch.rand(1, 1, 8, 9, device=device), torch.rand(1, 16, 3, device=device) * 8
    cropper = PartCropper(out=(2, 3))
    want = cropper(images, joints)[0]
    with kernels.use_kernels("crop_resize"), Calls() as calls:
        crops = cropper(images, joints)[0]
    assert calls.names.count("actionzoo.crop_resize.default") == 1
    # the host never waits for the device
    assert not {name for name in calls.names if "item" in name or "local_scalar" in name or "nonzero" in name}
    assert_close(crops, want, rtol=0, atol=1e-6)
    with Calls() as calls:
        cropper(images, joints)
    assert not [name for name in calls.names if name.startswith("actionzoo")]


def test_compiles_in_one_graph(device):
    torch._dynamo.reset()
    images = torch.rand(1, 1, 4, 5, device=device, requires_grad=True)
    boxes, index = torch.tensor([[0, 1, 3, 4], [-1, 0, 2, 2]], device=device), torch.tensor([0, 0], device=device)
    compiled = torch.compile(crop_resize, backend="eager", fullgraph=True, dynamic=True)
    with kernels.use_kernels():
        for count in (1, 2):
            crops = compiled(images, boxes[:count], index[:count], (2, 2))
            assert type(crops.grad_fn).__name__.startswith("Generated")
            want = crop_gather(images, boxes[:count], index[:count], 2, 2)
            assert_close(crops, want, rtol=0, atol=1e-6)
    grads = [torch.autograd.grad(out.square().sum(), images)[0] for out in (crops, want)]
    assert_close(*grads, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"images": torch.zeros(3, 8, 9)}, ValueError, r"images \(B, C, H, W\), got shape \(3, 8, 9\)"),
        ({"boxes": torch.tensor([[1, 2, 6]])}, ValueError, r"boxes \(N, 4\) as xyxy, got shape \(1, 3\)"),
        ({"index": torch.tensor([0, 1])}, ValueError, r"one image index per box, \(N,\) = \(1,\), got \(2,\)"),
        ({"size": 0}, ValueError, r"at least one pixel, got \(0, 0\)"),
        ({"images": torch.zeros(2, 3, 8, 9, dtype=torch.uint8)}, TypeError, "floating-point images, got torch.uint8"),
        ({"boxes": torch.tensor([[1.0, 2, 6, 5]])}, TypeError, "integer boxes, got torch.float32"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_input(wrong, error, message):
    good = {"images": torch.zeros(2, 3, 8, 9), "boxes": torch.tensor([[1, 2, 6, 5]]), "index": torch.tensor([1])}
    with pytest.raises(error, match=message):
        kernels.crop_resize(**{**good, "size": 4, **wrong})
