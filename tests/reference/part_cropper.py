"""Part boxes and crops of the body-part net, one person and one part at a time (section 3.3, Eq. 2)."""

import math

import torch
import torch.nn.functional as F


def part_boxes(joints, image_size, parts, fallback):
    """Boxes `(B, P, 4)` and `(B, P)` whether they are real, in double precision."""
    height, width = image_size
    side = max(height, width)
    boxes, valid = [], []
    for person in joints.double().tolist():
        seen = {j: (x, y) for j, (x, y, s) in enumerate(person) if s > 0 and all(map(math.isfinite, (x, y, s)))}
        if seen:
            xs, ys = [x for x, _ in seen.values()], [y for _, y in seen.values()]
            length = math.sqrt((max(xs) - min(xs)) ** 2 + (max(ys) - min(ys)) ** 2) / 4
            length = min(max(length, side / 32), side / 2)
        else:
            length = side / 4
        for name, own in parts.items():
            centre = mean(seen, own) or mean(seen, fallback.get(name, ()))
            x, y = centre or (width / 2, height / 2)
            boxes.append([nearest(x - length), nearest(y - length), nearest(x + length), nearest(y + length)])
            valid.append(centre is not None)
    shape = (joints.shape[0], len(parts))
    boxes = torch.tensor(boxes, dtype=torch.long).reshape(*shape, 4)
    return boxes, torch.tensor(valid, dtype=torch.bool).reshape(shape)


def mean(seen, indices):
    chosen = [seen[j] for j in ((indices,) if isinstance(indices, int) else indices) if j in seen]
    return (sum(x for x, _ in chosen) / len(chosen), sum(y for _, y in chosen) / len(chosen)) if chosen else None


def nearest(value):
    return math.floor(value + 0.5)


def crop_parts(base, boxes, out):
    """Crops `(B, P, C, h, w)`: the slice out of the picture set in zeros, then `F.interpolate`."""
    crops = []
    for picture, rows in zip(base, boxes.tolist(), strict=True):
        for x1, y1, x2, y2 in rows:
            margin = max(0, -x1, -y1, x2 - picture.shape[2], y2 - picture.shape[1])
            padded = F.pad(picture, (margin,) * 4)
            crop = padded[None, :, y1 + margin : y2 + margin, x1 + margin : x2 + margin]
            crops.append(F.interpolate(crop, out, mode="bilinear", align_corners=False))
    return torch.cat(crops).reshape(*boxes.shape[:2], base.shape[1], *out)
