"""Region-focused image generator of PRF-Net, equation by equation (section 3.3)."""

import math
from fractions import Fraction

import torch
import torch.nn.functional as F


def attention_map(features):
    """Eqs 6-8, then the channels summed: `(B, h, w)` float64."""
    batch, channels, h, w = features.shape
    values = features.detach().cpu().double()
    scores = torch.zeros(batch, h, w, dtype=torch.float64)
    for b in range(batch):
        for c in range(channels):
            squeezed = sum(values[b, c, y, x].item() for y in range(h) for x in range(w)) / (h * w)
            for y in range(h):
                for x in range(w):
                    scaled = squeezed * values[b, c, y, x].item()
                    scores[b, y, x] += 0.0 if scaled < 0 else scaled
    return scores


def strongest_cell(scores):
    """Row and column of the largest of `(h, w)` scores, the first one where several are."""
    best, where = -1.0, (0, 0)
    for row in range(scores.shape[0]):
        for column in range(scores.shape[1]):
            if scores[row, column].item() > best:
                best, where = scores[row, column].item(), (row, column)
    return where


def eq9_as_printed(index, h, w):
    """Eq. 9 word for word: `x = id / w`, `y = id mod h`."""
    return index // w, index % h


def focus_box(scores, image_size, kappa, center_offset):
    """Eqs 10-11 for one map `(h, w)` in exact arithmetic: `[x1, y1, x2, y2]`."""
    box = []
    finite = bool(torch.isfinite(scores).all())
    for cell, cells, side in zip(strongest_cell(scores), scores.shape, image_size, strict=True):
        centre = (cell + Fraction(center_offset)) * side / cells if finite else Fraction(side, 2)
        length = max(1, round(kappa * side))
        # the nearest whole pixel, then inside the image
        start = math.floor(centre - Fraction(length, 2) + Fraction(1, 2))
        start = min(max(start, 0), side - length)
        box.append((start, start + length))
    (y1, y2), (x1, x2) = box
    return [x1, y1, x2, y2]


def region_focus(images, features, kappa, center_offset):
    """Eqs 6-13: crops `(B, C, H, W)` and boxes `(B, 4)`, on the CPU."""
    size = tuple(images.shape[2:])
    boxes = [focus_box(scores, size, kappa, center_offset) for scores in attention_map(features)]
    crops = []
    for image, (x1, y1, x2, y2) in zip(images.detach().cpu(), boxes, strict=True):
        region = image[:, y1:y2, x1:x2]
        crops.append(F.interpolate(region[None], size, mode="bilinear", align_corners=False))
    return torch.cat(crops), torch.tensor(boxes)


def chain(boxes, image_size):
    """Boxes `[x1, y1, x2, y2]`, each in its crop enlarged to `(H, W)`, in pixels of the first image."""
    height, width = image_size
    chained = []
    for depth in range(len(boxes)):
        x1, y1, x2, y2 = boxes[depth]
        for ox1, oy1, ox2, oy2 in reversed(boxes[:depth]):
            x1, x2 = (ox1 + x * (ox2 - ox1) / width for x in (x1, x2))
            y1, y2 = (oy1 + y * (oy2 - oy1) / height for y in (y1, y2))
        chained.append([x1, y1, x2, y2])
    return chained
