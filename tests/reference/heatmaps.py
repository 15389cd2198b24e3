"""HRNet's heat-map targets and decoding, one joint and one cell at a time."""

import math

import numpy as np


def encode(joints, size, sigma):
    """Targets `(B, J, h, w)` and weights `(B, J)` float64 for finite `(B, J, 2 or 3)` joints and whole `3 sigma`."""
    height, width = size
    batch, count = joints.shape[:2]
    heatmaps, weights = np.zeros((batch, count, height, width)), np.zeros((batch, count))
    reach = round(3 * sigma)
    for b in range(batch):
        for j in range(count):
            x, y, *score = joints[b, j].tolist()
            if score and score[0] <= 0:
                continue
            mean_x, mean_y = int(x + 0.5), int(y + 0.5)
            left, right, top, bottom = mean_x - reach, mean_x + reach + 1, mean_y - reach, mean_y + reach + 1
            if left >= width or top >= height or right < 0 or bottom < 0:
                continue
            weights[b, j] = 1
            for row in range(max(top, 0), min(bottom, height)):
                for column in range(max(left, 0), min(right, width)):
                    distance = (row - mean_y) ** 2 + (column - mean_x) ** 2
                    heatmaps[b, j, row, column] = math.exp(-distance / (2 * sigma**2))
    return heatmaps, weights


def decode(heatmaps, quarter_shift):
    """Joints `(B, J, 3)` float64."""
    batch, count, height, width = heatmaps.shape
    joints = np.zeros((batch, count, 3))
    for b in range(batch):
        for j in range(count):
            cells = heatmaps[b, j].tolist()
            if any(math.isnan(value) for row in cells for value in row):
                continue
            best, x, y = -math.inf, 0, 0
            for row in range(height):
                for column in range(width):
                    if cells[row][column] > best:
                        best, x, y = cells[row][column], column, row
            if math.isinf(best):
                continue
            joints[b, j, 2] = best
            if best <= 0:
                continue
            joints[b, j, :2] = x, y
            if quarter_shift and 1 < x < width - 1 and 1 < y < height - 1:
                joints[b, j, 0] += 0.25 * sign(cells[y][x + 1], cells[y][x - 1])
                joints[b, j, 1] += 0.25 * sign(cells[y + 1][x], cells[y - 1][x])
    return joints


def sign(after, before):
    return 1 if after > before else -1 if after < before else 0
