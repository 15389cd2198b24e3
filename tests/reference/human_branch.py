"""ConViT's human branch (section 3.4, Fig. 6) for one person of one image, from the tensors of its state dict."""

import math

import torch

from .feature_map_vit import feature_map_vit


def human_branch(feature_map, box, state, *, stride, size, roi, depth, heads):
    """`(C, h, w)` map of an image and one box xyxy in its pixels -> `(K,)` logits."""
    crop = {"align": roi_align, "pool": roi_pool}[roi](feature_map, box, stride, size)
    first = feature_map_vit(crop[None], part(state, "vits.vit1."), size, depth, heads)[0]
    half = (math.ceil(size[0] / 2), math.ceil(size[1] / 2))
    second = feature_map_vit(halve(first[0], half)[None], part(state, "vits.vit2."), half, depth, heads)[0][0]
    mean = sum(second[:, row, column] for row in range(half[0]) for column in range(half[1])) / (half[0] * half[1])
    return state["fc.weight"] @ mean + state["fc.bias"]


def part(state, prefix):
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def halve(x, size):
    """Mean over 2x2 cells, at an odd side over those that there are."""
    rows = []
    for row in range(size[0]):
        windows = [x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] for column in range(size[1])]
        rows.append(torch.stack([window.flatten(1).mean(1) for window in windows], -1))
    return torch.stack(rows, -2)


def roi_align(x, box, stride, size):
    """The mean of 2x2 points of every bin, each read bilinearly; cell i of the map lies at i + 0.5 (He et al. 2017)."""
    left, top, right, bottom = (coordinate / stride - 0.5 for coordinate in box)
    height, width = (bottom - top) / size[0], (right - left) / size[1]
    rows = []
    for i in range(size[0]):
        row = []
        for j in range(size[1]):
            points = [(top + (i + a) * height, left + (j + b) * width) for a in (0.25, 0.75) for b in (0.25, 0.75)]
            row.append(sum(bilinear(x, *point) for point in points) / 4)
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def bilinear(x, row, column):
    """A point between cells; past the outermost cells' centres, their own value."""
    row = min(max(row, 0), x.shape[1] - 1)
    column = min(max(column, 0), x.shape[2] - 1)
    above, before = math.floor(row), math.floor(column)
    below, after = min(above + 1, x.shape[1] - 1), min(before + 1, x.shape[2] - 1)
    down, along = row - above, column - before
    upper = x[:, above, before] * (1 - along) + x[:, above, after] * along
    lower = x[:, below, before] * (1 - along) + x[:, below, after] * along
    return upper * (1 - down) + lower * down


def roi_pool(x, box, stride, size):
    """The maximum of every bin of whole cells, from the rounded first cell to the rounded last (Girshick 2015)."""
    left, top, right, bottom = (math.floor(coordinate / stride + 0.5) for coordinate in box)
    height, width = max(bottom - top + 1, 1) / size[0], max(right - left + 1, 1) / size[1]
    rows = []
    for i in range(size[0]):
        row = []
        for j in range(size[1]):
            y = range(top + math.floor(i * height), top + math.ceil((i + 1) * height))
            z = range(left + math.floor(j * width), left + math.ceil((j + 1) * width))
            cells = [x[:, r, c] for r in y for c in z if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]]
            row.append(torch.stack(cells).amax(0) if cells else torch.zeros_like(x[:, 0, 0]))
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)
