"""Outermost-box pooling, one person and one frame at a time (instance-guided framework, section 3.2)."""

import math

import torch
from torchvision.ops import roi_align


def outermost_boxes(boxes, valid):
    """Boxes `(N, 4)`: the smallest and largest coordinates over the frames that count, zeros where none does."""
    rows = []
    for track, there in zip(boxes.tolist(), valid.tolist(), strict=True):
        seen = [box for box, is_there in zip(track, there, strict=True) if is_there and all(map(math.isfinite, box))]
        rows.append([f(values) for f, values in zip((min, min, max, max), zip(*seen))] if seen else [0.0] * 4)
    return torch.tensor(rows, dtype=boxes.dtype).reshape(-1, 4)


def nearest_boxes(boxes, valid):
    """Boxes `(N, T, 4)`: a frame that does not count takes the nearest that does, looking back before ahead."""
    tracks = []
    for track, there in zip(boxes.tolist(), valid.tolist(), strict=True):
        seen = [i for i, box in enumerate(track) if there[i] and all(map(math.isfinite, box))]
        steps = [i for distance in range(len(track)) for i in (-distance, distance)]
        filled = []
        for i in range(len(track)):
            found = next((i + step for step in steps if i + step in seen), None)
            filled.append([0.0] * 4 if found is None else track[found])
        tracks.append(filled)
    return torch.tensor(tracks, dtype=boxes.dtype).reshape(boxes.shape)


def level_of(box, count, canonical_scale, canonical_level, first=2):
    """Which of `count` maps a box belongs to, the first of which is P`first`."""
    x1, y1, x2, y2 = box
    level = math.floor(canonical_level + math.log2(math.sqrt((x2 - x1) * (y2 - y1)) / canonical_scale) + 1e-6)
    return min(max(level, first), first + count - 1) - first


def pool(maps, boxes, valid, clip_index, mode, size, canonical_scale=224, canonical_level=4, samples=2):
    """Pooled `(N, C, T, R_y, R_x)` and the boxes used, from the maps of P2, P3 and so on."""
    used = (outermost_boxes if mode == "outermost" else nearest_boxes)(boxes, valid)
    used[..., 2:] = torch.maximum(used[..., 2:], used[..., :2] + 1)
    seen = (valid & boxes.isfinite().all(2)).any(1)
    used[~seen] = 0
    dtype = torch.float64 if maps[0].dtype == torch.float64 else torch.float32
    sources = [level.to(dtype) for level in maps]
    frames, channels = maps[0].shape[1:3]
    people = []
    for n, clip in enumerate(clip_index.tolist()):
        pooled = []
        for t in range(frames):
            if not seen[n]:
                pooled.append(torch.zeros(1, channels, *size, dtype=dtype))
                continue
            box = used[n] if mode == "outermost" else used[n, t]
            i = level_of(box.tolist(), len(maps), canonical_scale, canonical_level)
            image = sources[i][clip, t][None]
            pooled.append(roi_align(image, [box[None].to(dtype)], size, 1 / (4 << i), samples, aligned=True))
        people.append(torch.stack(pooled, 2))
    # the empty sums keep every map in the graph
    out = torch.cat([torch.zeros(0, channels, frames, *size, dtype=dtype), *people])
    return (out + sum(level[:0].sum() for level in sources)).to(maps[0].dtype), used
