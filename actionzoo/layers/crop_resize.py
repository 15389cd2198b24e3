"""Exact batched crop and resize: many boxes of a batch of images to one size."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import kernels
from ..kernels._crop_resize import check_crop
from ..kernels._crop_resize import crop_gather as _crop_gather


def crop_resize(images: Tensor, boxes: Tensor, index: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Cut integer boxes out of images and resize every crop to one size.

    Equal, in values and gradients, to cropping one box at a time and calling `F.interpolate(crop, size,
    mode="bilinear", align_corners=False)`: no pixel outside a box is ever read, which `roi_align` and
    `grid_sample` do at the border. Pixels outside the image read 0; a box narrower than one pixel is widened to
    one. In eager mode on the CPU the boxes are read once and cropped one by one (in one piece where all have one
    size and no gradient is wanted); compiled, exported or on an accelerator the same arithmetic runs as four
    gathers, with no host synchronisation, or inside `actionzoo.kernels.use_kernels` as a Triton kernel.

    Args:
        images: `(B, C, H, W)` floating-point images or feature maps.
        boxes: `(N, 4)` integer xyxy boxes in pixels, half-open (`x2 - x1` is the width).
        index: `(N,)` integer, the image that each box is cut from, in `[0, B)`. Where the host does not read it, a
            crop of any other index is NaN and gives no gradient.
        size: `(h, w)` of the crops returned, in pixels; one number for both.

    Returns:
        `(N, C, h, w)` crops in the dtype of `images`; differentiable with respect to `images`.

    Raises:
        ValueError: If a shape is wrong, or (eager mode on the CPU) an index is out of range.
        TypeError: If images are not floating point, or boxes or index are not integers.
    """
    height, width = (size, size) if isinstance(size, int) else size
    check_crop(images, boxes, index, height, width)
    if kernels.active("crop_resize", images):
        return kernels.crop_resize(images, boxes, index, (height, width))
    if images.device.type == "cpu" and not torch.compiler.is_compiling():
        return _crop_one_by_one(images, boxes, index, height, width)
    return _crop_gather(images, boxes, index, height, width)


def _crop_one_by_one(images: Tensor, boxes: Tensor, index: Tensor, height: int, width: int) -> Tensor:
    batch, channels, image_h, image_w = images.shape
    rows = torch.cat([boxes.long(), index.long()[:, None]], 1).tolist()
    if not rows:
        return images.new_zeros(0, channels, height, width) + images.sum() * 0
    rows = [(x1, y1, max(x2, x1 + 1), max(y2, y1 + 1), i) for x1, y1, x2, y2, i in rows]
    for row in rows:
        if not 0 <= row[4] < batch:
            raise ValueError(f"crop_resize got image index {row[4]} for a batch of {batch} images")

    inside = all(x1 >= 0 and y1 >= 0 and x2 <= image_w and y2 <= image_h for x1, y1, x2, y2, _ in rows)
    # the backward pass would allocate every window of every image
    backward = torch.is_grad_enabled() and images.requires_grad
    if inside and not backward and len({(x2 - x1, y2 - y1) for x1, y1, x2, y2, _ in rows}) == 1:
        x1, y1, x2, y2, _ = rows[0]
        windows = images.unfold(2, y2 - y1, 1).unfold(3, x2 - x1, 1)
        crops = windows[index.long(), :, boxes[:, 1].long(), boxes[:, 0].long()]
        return _resize(crops, height, width)
    # split once: the gradient of every crop is then of one image's size, not of the batch's
    pictures = images.split(1)
    return torch.cat([_resize(_crop(pictures[row[4]], row), height, width) for row in rows])


def _crop(picture: Tensor, row: tuple[int, int, int, int, int]) -> Tensor:
    x1, y1, x2, y2, _ = row
    image_h, image_w = picture.shape[2:]
    if x1 >= image_w or y1 >= image_h or x2 <= 0 or y2 <= 0:
        # the empty sum is 0 and keeps the crop in the autograd graph
        return picture.new_zeros(1, picture.shape[1], y2 - y1, x2 - x1) + picture[:0].sum()
    # negative padding cuts; one operation for both leaves one gradient of the picture's size
    return F.pad(picture, (-x1, x2 - image_w, -y1, y2 - image_h))


def _resize(crops: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(crops, (height, width), mode="bilinear", align_corners=False)
