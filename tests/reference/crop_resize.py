"""Crop integer boxes and resize them bilinearly, one output pixel at a time."""

import numpy as np
import torch


def crop_resize(images, boxes, index, size):
    """Crops `(N, C, h, w)` on the CPU, in the precision that `F.interpolate` uses for `images`."""
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    source = images.cpu().to(dtype)
    crops = [
        crop_one(source[i], box, size) for box, i in zip(boxes.tolist(), index.flatten().tolist(), strict=True)
    ]
    if not crops:
        return (source.new_zeros(0, source.shape[1], *size) + source[:0].sum()).to(images.dtype)
    return torch.stack(crops).to(images.dtype)


def crop_one(image, box, size):
    """One crop `(C, h, w)` of an image `(C, H, W)`."""
    x1, y1, x2, y2 = box
    box_w, box_h = max(x2 - x1, 1), max(y2 - y1, 1)
    lines = []
    for row in range(size[0]):
        y_low, y_high, fraction_y = neighbours(row, box_h, size[0], image.dtype)
        line = []
        for column in range(size[1]):
            x_low, x_high, fraction_x = neighbours(column, box_w, size[1], image.dtype)
            upper = (1 - fraction_x) * pixel(image, y1 + y_low, x1 + x_low)
            upper = upper + fraction_x * pixel(image, y1 + y_low, x1 + x_high)
            lower = (1 - fraction_x) * pixel(image, y1 + y_high, x1 + x_low)
            lower = lower + fraction_x * pixel(image, y1 + y_high, x1 + x_high)
            line.append((1 - fraction_y) * upper + fraction_y * lower)
        lines.append(torch.stack(line, -1))
    return torch.stack(lines, -2)


def neighbours(position, length, out, dtype):
    """The two box pixels on either side of an output pixel's centre, and how far it lies from the first.

    Centre to centre (`align_corners=False`): output centre `position + 0.5` of `out` pixels is box coordinate
    `(position + 0.5) * length / out`, and box pixel k has its centre at `k + 0.5`. Before the first centre and
    after the last one the border pixel counts alone.
    """
    real = np.float64 if dtype == torch.float64 else np.float32
    centre = real(length) / real(out) * (real(position) + real(0.5)) - real(0.5)
    centre = max(centre, real(0))
    low = min(int(centre), length - 1)
    high = min(low + 1, length - 1)
    return low, high, float(centre - real(low))


def pixel(image, y, x):
    """`(C,)` values of one pixel, 0 outside the image."""
    if 0 <= y < image.shape[1] and 0 <= x < image.shape[2]:
        return image[:, y, x]
    return image[:, :0, :0].sum((1, 2))
