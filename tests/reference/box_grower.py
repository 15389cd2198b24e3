"""Boxes grown to their joints (PCF, section II-B), one person and one joint at a time."""

import math

import torch


def grow_boxes(boxes, keypoints, image_size, threshold, max_growth):
    """Grown boxes `(N, 4)`; every number stays in the autograd graph of what it was taken from."""
    height, width = image_size
    rows = []
    for box, joints in zip(boxes, keypoints, strict=True):
        x1, y1, x2, y2 = box
        low_x, high_x = x1 - (max_growth - 1) * max(x2 - x1, 0), x2 + (max_growth - 1) * max(x2 - x1, 0)
        low_y, high_y = y1 - (max_growth - 1) * max(y2 - y1, 0), y2 + (max_growth - 1) * max(y2 - y1, 0)
        for x, y, score in joints:
            if not score >= threshold or not all(map(math.isfinite, (x.item(), y.item(), score.item()))):
                continue
            x1, x2 = min(x1, max(x, low_x)), max(x2, min(x, high_x))
            y1, y2 = min(y1, max(y, low_y)), max(y2, min(y, high_y))
        zero = box.new_zeros(())
        corners = [min(max(v, zero), zero + limit) for v, limit in zip((x1, y1, x2, y2), (width, height) * 2)]
        rows.append(torch.stack(corners))
    return torch.stack(rows) if rows else boxes * 1
