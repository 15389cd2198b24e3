"""Pose dots (PCF, Eq. 3), one picture, person, joint and pixel at a time."""

import math


def pose_dots(images, keypoints, boxes, colors, threshold, scale, min_radius):
    """Pictures `(B, 3, H, W)` with the dots of `(B, P, J, 3)` joints; a colour of three values or None per joint."""
    out = images.clone()
    height, width = images.shape[2:]
    for b in range(len(images)):
        for p in range(keypoints.shape[1]):
            w, h = width, height
            if boxes is not None:
                x1, y1, x2, y2 = (0.0 if math.isnan(value) else value for value in boxes[b, p].double().tolist())
                w = max(min(max(x2, 0), width) - min(max(x1, 0), width), 0)
                h = max(min(max(y2, 0), height) - min(max(y1, 0), height), 0)
            radius = max(int(math.sqrt(w * h) / scale), min_radius)
            for color, (x, y, score) in zip(colors, keypoints[b, p].double().tolist(), strict=True):
                if color is None or not score >= threshold or not all(map(math.isfinite, (x, y, score))):
                    continue
                for row in range(height):
                    for column in range(width):
                        if (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= radius**2:
                            for channel in range(3):
                                out[b, channel, row, column] = color[channel]
    return out
