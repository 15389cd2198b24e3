"""YOLOF's uniform matching and losses, one anchor and one object at a time."""

import math


def uniform_match(boxes, anchors, objects, matches=4, least_overlap=0.15, ignore_overlap=0.7):
    """Object, -1 (background) or -2 (ignored) of every anchor, and the sorted list of (anchor, object) pairs."""
    claims = []
    for o, thing in enumerate(objects):
        for rows in (boxes, anchors):
            order = sorted(range(len(rows)), key=lambda a: distance(rows[a], thing))
            claims += [(a, o) for a in order[:matches]]
    pairs = sorted((a, o) for a, o in claims if overlap(anchors[a], objects[o]) >= least_overlap)
    matched = []
    for a in range(len(anchors)):
        mine = [o for b, o in pairs if a == b]
        if mine:
            matched.append(max(mine, key=lambda o: overlap(anchors[a], objects[o])))
        elif any(a == b for b, _ in claims) or any(overlap(boxes[a], thing) > ignore_overlap for thing in objects):
            matched.append(-2)
        else:
            matched.append(-1)
    return matched, pairs


def distance(one, other):
    """Sum of absolute differences in centre, width and height."""
    centre = [abs((one[i] + one[i + 2]) / 2 - (other[i] + other[i + 2]) / 2) for i in (0, 1)]
    size = [abs((one[i + 2] - one[i]) - (other[i + 2] - other[i])) for i in (0, 1)]
    return sum(centre + size)


def overlap(one, other, generalised=False):
    """Intersection over union, less the empty share of the box round both where generalised."""
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    both = max(sides[0], 0) * max(sides[1], 0)
    union = sum(area) - both
    hull = math.prod(max(one[i + 2], other[i + 2]) - min(one[i], other[i]) for i in (0, 1))
    return both / union - (hull - union) / hull * generalised


def losses(logits, boxes, anchors, objects, labels):
    """Both losses of one picture, from `A x K` logits and `A` predicted boxes, anchors, and the truth."""
    matched, pairs = uniform_match(boxes, anchors, objects)
    count = max(sum(o >= 0 for o in matched), 1)
    classifier = 0.0
    for row, o in zip(logits, matched, strict=True):
        for k, logit in enumerate(row, start=1):
            if o != -2:
                p = 1 / (1 + math.exp(-logit))
                right = o >= 0 and labels[o] == k
                q, alpha = (p, 0.25) if right else (1 - p, 0.75)
                classifier -= alpha * (1 - q) ** 2 * math.log(q)
    box = sum(1 - overlap(boxes[a], objects[o], generalised=True) for a, o in pairs)
    return classifier / count, box / count
