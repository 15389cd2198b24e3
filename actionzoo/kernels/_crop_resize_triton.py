"""The Triton kernels of `crop_resize`: both gather, and both read the boxes on the device."""

# Triton has types of its own, and launch options that no kernel declares
# ruff: noqa: ANN001
# pyright: reportCallIssue=false, reportAssignmentType=false, reportAttributeAccessIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _box(boxes, n):
    """Corner, width and height of box n in int32: coordinates count as 2^30 pixels at most, of either sign."""
    corner = boxes + 4 * n.to(tl.int64)
    x1, y1 = _coordinate(tl.load(corner)), _coordinate(tl.load(corner + 1))
    x2, y2 = _coordinate(tl.load(corner + 2)), _coordinate(tl.load(corner + 3))
    return x1, y1, tl.maximum(x2 - x1, 1), tl.maximum(y2 - y1, 1)


@triton.jit
def _coordinate(x):
    return tl.minimum(tl.maximum(x.to(tl.int64), -(2**30)), 2**30 - 1).to(tl.int32)


@triton.jit
def _tap(position, length, out, real: tl.constexpr):
    """The two pixels of a box on either side of an output pixel's centre, and the weight of the second.

    `F.interpolate`'s rule, operation by operation as the plain form has it: see there.
    """
    if real == tl.float32:
        # the division of `/` is approximate in float32
        scale = tl.div_rn(length.to(real), out.to(real))
    else:
        scale = length.to(real) / out.to(real)
    source = tl.maximum(scale * (position.to(real) + 0.5) - 0.5, 0.0)
    low = tl.minimum(source.to(tl.int32), length - 1)
    high = tl.minimum(low + tl.where(length != out, 1, 0), length - 1)
    return low, high, source - low.to(real)


@triton.jit
def _readers(position, length, out, real: tl.constexpr):
    """The first output pixel that may read a pixel of a box, and how many from there on may.

    They are those whose centre falls less than one pixel from it, and a quarter of an output pixel more on either
    side: float32 rounds a centre by less in crops of up to 2^19 pixels a side.
    """
    scale = out.to(real) / length.to(real)
    first = tl.ceil((position.to(real) - 0.5) * scale - 0.75)
    return tl.maximum(first, 0.0).to(tl.int32), tl.minimum((2 * scale + 0.5).to(tl.int32) + 1, out)


@triton.jit
def _share(position, reader, length, out, real: tl.constexpr):
    """The weight that an output pixel gives to a pixel of a box, and whether it reads it at all."""
    low, high, weight = _tap(reader, length, out, real)
    share = tl.where(low == position, 1 - weight, 0.0) + tl.where(high == position, weight, 0.0)
    return share, (reader < out) & (share > 0)


# unspecialised sizes: one binary for all, and one pixel per lane instead of four, so that a warp's gathers stay close
@triton.jit(do_not_specialize=["batch", "channels", "image_h", "image_w", "height", "width"])
def crop_kernel(
    images,
    boxes,
    index,
    crops,
    batch,
    channels,
    image_h,
    image_w,
    height,
    width,
    stride_b,
    stride_c,
    stride_y,
    stride_x,
    CHANNELS: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """One tile of a crop in up to `CHANNELS` channels. Grid: boxes x channel groups x tiles, the tiles fastest."""
    real: tl.constexpr = tl.float64 if crops.dtype.element_ty == tl.float64 else tl.float32
    tiles_y, tiles_x = tl.cdiv(height, BLOCK_H), tl.cdiv(width, BLOCK_W)
    rest, tile_x = tl.program_id(0) // tiles_x, tl.program_id(0) % tiles_x
    rest, tile_y = rest // tiles_y, rest % tiles_y
    groups = tl.cdiv(channels, CHANNELS)
    n, first = (rest // groups).to(tl.int64), (rest % groups).to(tl.int64) * CHANNELS

    image = tl.load(index + n).to(tl.int64)
    x1, y1, box_w, box_h = _box(boxes, n)
    row = tile_y * BLOCK_H + tl.arange(0, BLOCK_H)[:, None]
    column = tile_x * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
    top, bottom, wy = _tap(row, box_h, height, real)
    left, right, wx = _tap(column, box_w, width, real)
    top, bottom, left, right = top + y1, bottom + y1, left + x1, right + x1
    # an image that does not exist has no rows, and its weights mark the crop
    known = (image >= 0) & (image < batch)
    seen_h, wy = tl.where(known, image_h, 0), tl.where(known, wy, float("nan"))
    top_in, bottom_in = (top >= 0) & (top < seen_h), (bottom >= 0) & (bottom < seen_h)
    left_in, right_in = (left >= 0) & (left < image_w), (right >= 0) & (right < image_w)
    left, right = left.to(tl.int64) * stride_x, right.to(tl.int64) * stride_x
    for channel in range(first, tl.minimum(first + CHANNELS, channels)):
        plane = images + image * stride_b + channel * stride_c
        upper_line, lower_line = plane + top.to(tl.int64) * stride_y, plane + bottom.to(tl.int64) * stride_y
        upper = tl.load(upper_line + left, top_in & left_in, 0.0).to(real) * (1 - wx)
        upper += tl.load(upper_line + right, top_in & right_in, 0.0).to(real) * wx
        lower = tl.load(lower_line + left, bottom_in & left_in, 0.0).to(real) * (1 - wx)
        lower += tl.load(lower_line + right, bottom_in & right_in, 0.0).to(real) * wx
        out_line = crops + ((n * channels + channel) * height + row) * width
        tl.store(out_line + column, upper * (1 - wy) + lower * wy, (row < height) & (column < width))


@triton.jit(do_not_specialize=["count", "channels", "image_h", "image_w", "height", "width"])
def crop_backward_kernel(
    grad,
    boxes,
    index,
    grad_images,
    count,
    channels,
    image_h,
    image_w,
    height,
    width,
    BOXES: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """The gradient of one tile of an image in one channel. Grid: images x channels x tiles, the tiles fastest.

    It goes through the boxes that touch the tile and, for every pixel, through the output pixels that read it.
    """
    real: tl.constexpr = tl.float64 if grad_images.dtype.element_ty == tl.float64 else tl.float32
    tiles_y, tiles_x = tl.cdiv(image_h, BLOCK_H), tl.cdiv(image_w, BLOCK_W)
    rest, tile_x = tl.program_id(0) // tiles_x, tl.program_id(0) % tiles_x
    plane, tile_y = (rest // tiles_y).to(tl.int64), rest % tiles_y
    image, channel = plane // channels, plane % channels
    up, left = tile_y * BLOCK_H, tile_x * BLOCK_W
    y, x = up + tl.arange(0, BLOCK_H)[:, None], left + tl.arange(0, BLOCK_W)[None, :]

    total = tl.zeros([BLOCK_H, BLOCK_W], real)
    for start in range(0, count, BOXES):
        numbers = start + tl.arange(0, BOXES)
        listed = numbers < count
        box = boxes + 4 * numbers.to(tl.int64)
        x1, x2 = tl.load(box, listed, 0).to(tl.int64), tl.load(box + 2, listed, 0).to(tl.int64)
        y1, y2 = tl.load(box + 1, listed, 0).to(tl.int64), tl.load(box + 3, listed, 0).to(tl.int64)
        touches = listed & (tl.load(index + numbers, listed, 0).to(tl.int64) == image)
        touches &= (x1 < tl.minimum(left + BLOCK_W, image_w)) & (tl.maximum(x2, x1 + 1) > left)
        touches &= (y1 < tl.minimum(up + BLOCK_H, image_h)) & (tl.maximum(y2, y1 + 1) > up)
        n = tl.min(tl.where(touches, numbers, count))
        while n < count:
            box_x, box_y, box_w, box_h = _box(boxes, n)
            in_x, in_y = x - box_x, y - box_y
            crop = grad + (n.to(tl.int64) * channels + channel) * height * width
            first_row, rows = _readers(in_y, box_h, height, real)
            first_column, columns = _readers(in_x, box_w, width, real)
            for j in range(rows):
                row = first_row + j
                share_y, reads_y = _share(in_y, row, box_h, height, real)
                crop_line = crop + row.to(tl.int64) * width
                line = tl.zeros([BLOCK_H, BLOCK_W], real)
                for k in range(columns):
                    column = first_column + k
                    share_x, reads_x = _share(in_x, column, box_w, width, real)
                    line += tl.load(crop_line + column, reads_y & reads_x, 0.0).to(real) * share_x
                total += line * share_y
            n = tl.min(tl.where(touches & (numbers > n), numbers, count))
    out_line = grad_images + (plane * image_h + y) * image_w
    tl.store(out_line + x, total, (y < image_h) & (x < image_w))


def crop(images: Tensor, boxes: Tensor, index: Tensor, height: int, width: int) -> Tensor:
    """Crops `(N, C, height, width)` of images `(B, C, H, W)`, boxes `(N, 4)` and index `(N,)` of integers."""
    batch, channels, image_h, image_w = images.shape
    crops = images.new_empty(boxes.shape[0], channels, height, width)
    if crops.numel() == 0:
        return crops
    block_h, block_w = _tile(height, width, 512, 128)
    group = 4
    tiles = triton.cdiv(height, block_h) * triton.cdiv(width, block_w)
    with torch.cuda.device_of(images):
        crop_kernel[(boxes.shape[0] * triton.cdiv(channels, group) * tiles,)](
            images,
            boxes.contiguous(),
            index.contiguous(),
            crops,
            batch,
            channels,
            image_h,
            image_w,
            height,
            width,
            *images.stride(),
            CHANNELS=group,
            BLOCK_H=block_h,
            BLOCK_W=block_w,
            num_warps=_warps(block_h * block_w),
            # as PyTorch rounds, product by product
            enable_fp_fusion=False,
        )
    return crops


def crop_backward(grad: Tensor, boxes: Tensor, index: Tensor, batch: int, image_h: int, image_w: int) -> Tensor:
    """Gradient `(batch, C, image_h, image_w)` of the images from that of the crops `(N, C, h, w)`."""
    count, channels, height, width = grad.shape
    grad_images = grad.new_empty(batch, channels, image_h, image_w)
    if grad_images.numel() == 0:
        return grad_images
    block_h, block_w = _tile(image_h, image_w, 1024, 64)
    tiles = triton.cdiv(image_h, block_h) * triton.cdiv(image_w, block_w)
    with torch.cuda.device_of(grad):
        crop_backward_kernel[(batch * channels * tiles,)](
            grad.contiguous(),
            boxes.contiguous(),
            index.contiguous(),
            grad_images,
            count,
            channels,
            image_h,
            image_w,
            height,
            width,
            BOXES=128,
            BLOCK_H=block_h,
            BLOCK_W=block_w,
            num_warps=_warps(block_h * block_w),
            enable_fp_fusion=False,
        )
    return grad_images


def _tile(height: int, width: int, pixels: int, widest: int) -> tuple[int, int]:
    """Rows and columns of a tile of at most so many pixels, not much larger than the plane."""
    columns = min(triton.next_power_of_2(width), widest)
    return min(triton.next_power_of_2(height), pixels // columns), columns


def _warps(pixels: int) -> int:
    return max(1, min(4, pixels // 128))
