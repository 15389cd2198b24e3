"""Crop and resize: the part crops of the body-part net, and `crop_resize` with boxes that reach past the image."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from actionzoo.kernels import use_kernels
from actionzoo.layers import PartCropper, crop_resize, part_boxes
from actionzoo.layers.part_cropper import MPII_FALLBACK, MPII_PARTS
from tests.reference import part_cropper as plain

from ._case import Case, Problem, Provider, function


def loop(images: Tensor, boxes: Tensor, index: Tensor, size: tuple[int, int]) -> Tensor:
    """One crop after the other, set in zeros where it leaves the image."""
    picked = [plain.crop_parts(images[i : i + 1], box[None, None], size)[0] for box, i in zip(boxes, index.tolist())]
    return torch.cat(picked)


def clamped_grid(images: Tensor, boxes: Tensor, index: Tensor, size: tuple[int, int]) -> Tensor:
    """`grid_sample` on a grid that stops at the centres of the border pixels of every box; in float32 at least."""
    real = torch.float64 if images.dtype == torch.float64 else torch.float32
    height, width = images.shape[2:]
    axes = []
    for low, high, out, side in ((0, 2, size[1], width), (1, 3, size[0], height)):
        first, last = boxes[:, low, None].to(real), boxes[:, high, None].to(real)
        centres = torch.arange(out, device=images.device, dtype=real) + 0.5
        source = first + centres * (last - first) / out
        source = torch.minimum(torch.maximum(source, first + 0.5), last - 0.5)
        axes.append(source * 2 / side - 1)
    x, y = axes
    grid = torch.stack([x[:, None, :].expand(-1, size[0], -1), y[:, :, None].expand(-1, -1, size[1])], -1)
    crops = F.grid_sample(images[index].to(real), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return crops.to(images.dtype)


def kornia_crops(images: Tensor, boxes: Tensor, index: Tensor, size: tuple[int, int]) -> Tensor:
    """Its corners are those of the outermost pixels."""
    from kornia.geometry.transform import crop_and_resize  # pyright: ignore[reportMissingImports]

    x1, y1, x2, y2 = (boxes - torch.tensor([0, 0, 1, 1], device=boxes.device)).to(images.dtype).unbind(1)
    corners = torch.stack([x1, y1, x2, y1, x2, y2, x1, y2], 1).unflatten(1, (4, 2))
    return crop_and_resize(images[index], corners, size)


def in_kernel(call: Any) -> Provider:
    """What `call` computes, with the crops from our Triton kernel."""

    def run(*inputs: Any) -> Any:
        with use_kernels("crop_resize"):
            return call(*inputs)

    return Provider("actionzoo, kernel", "ours", function(run), package="triton", compiles=False, sizes=("cuda",))


def torchvision_crops(images: Tensor, boxes: Tensor, index: Tensor, size: tuple[int, int]) -> Tensor:
    """One sample in the middle of every bin. At a box's border it reads pixels outside it, which ours does not."""
    rois = torch.cat([index[:, None], boxes], 1).to(images.dtype)
    return roi_align(images, rois, size, sampling_ratio=1, aligned=True)


def read_pixels(boxes: Tensor, channels: int, size: tuple[int, int]) -> int:
    """Values inside the boxes and the image; boxes that overlap count twice, as they do when nothing is shared."""
    height, width = size
    sides = [boxes[:, i + 2].clamp(0, n) - boxes[:, i].clamp(0, n) for i, n in ((0, width), (1, height))]
    return int((sides[0] * sides[1]).sum()) * channels


def _crop_problem(batch: int, boxes: int, side: int, out: int, channels: int = 3) -> Problem:
    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        images = torch.randn(batch, channels, side, side, generator=generator)
        # some reach past the border
        start = torch.randint(-side // 16, side // 2, (boxes, 2), generator=generator)
        length = torch.randint(side // 4, 9 * side // 16, (boxes, 2), generator=generator)
        return images, torch.cat([start, start + length], 1), torch.arange(boxes) * batch // boxes

    def sized(call: Any) -> Any:
        return lambda images, box, index: call(images, box, index, (out, out))

    providers = (
        Provider("actionzoo", "ours", function(sized(crop_resize))),
        in_kernel(sized(crop_resize)),
        Provider("loop", "naive", function(sized(loop)), compiles=False),
        Provider("grid_sample", "peer", function(sized(clamped_grid))),
        Provider(
            "roi_align",
            "peer",
            function(sized(torchvision_crops)),
            reference=lambda state, *given: sized(torchvision_crops)(*given),
            compiles=False,
        ),
        Provider("kornia", "peer", function(sized(kornia_crops)), package="kornia"),
    )

    def reads(images: Tensor, box: Tensor, index: Tensor) -> int:
        return read_pixels(box, channels, (side, side))

    return Problem(inputs, providers, lambda state, *given: sized(loop)(*given), {}, reads)


def _part_problem(batch: int, side: int, out: int) -> Problem:
    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        images = torch.randn(batch, 3, side, side, generator=generator)
        xy = side * (0.1 + 0.8 * torch.rand(batch, 16, 2, generator=generator))
        return images, torch.cat([xy, torch.ones(batch, 16, 1)], 2)

    cropper = PartCropper(out=out)

    def parts_loop(images: Tensor, joints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, valid = plain.part_boxes(joints, images.shape[2:], MPII_PARTS, MPII_FALLBACK)
        return plain.crop_parts(images, boxes, (out, out)), boxes.to(images.device), valid.to(images.device)

    def parts_grid(images: Tensor, joints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, valid = part_boxes(joints, (side, side))
        index = torch.arange(batch * boxes.shape[1], device=images.device) // boxes.shape[1]
        crops = clamped_grid(images, boxes.flatten(0, 1), index, (out, out))
        return crops.unflatten(0, (batch, boxes.shape[1])), boxes, valid

    providers = (
        Provider("actionzoo", "ours", function(lambda images, joints: cropper(images, joints))),
        in_kernel(lambda images, joints: cropper(images, joints)),
        Provider("loop", "naive", function(parts_loop), compiles=False),
        Provider("grid_sample", "peer", function(parts_grid)),
    )

    def reads(images: Tensor, joints: Tensor) -> int:
        boxes, _ = part_boxes(joints, (side, side))
        return read_pixels(boxes.flatten(0, 1), 3, (side, side))

    return Problem(inputs, providers, lambda state, *given: parts_loop(*given), {}, reads)


CASES = (
    Case(
        "crop_resize",
        "layers",
        _crop_problem,
        {
            "cuda": {"batch": 16, "boxes": 48, "side": 512, "out": 256},
            "cpu": {"batch": 4, "boxes": 12, "side": 256, "out": 128},
            "tiny": {"batch": 2, "boxes": 3, "side": 32, "out": 11},
        },
        compiled=True,
    ),
    Case(
        "part_cropper",
        "layers",
        _part_problem,
        {
            "cuda": {"batch": 16, "side": 512, "out": 256},
            "cpu": {"batch": 4, "side": 256, "out": 128},
            "tiny": {"batch": 2, "side": 32, "out": 11},
        },
    ),
)
