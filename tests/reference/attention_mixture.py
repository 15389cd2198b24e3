"""Mixture of weighted attention of PRF-Net (section 3.2), number by number."""

import math


def mixture_weights(losses, mode):
    """Eq. 3 for a list of numbers; `mode` reads the divisor of its second term."""
    if not all(math.isfinite(loss) for loss in losses):
        return [1.0] * len(losses)
    smallest, largest, total = min(losses), max(losses), 0.0
    for loss in losses:
        total += loss
    weights = []
    for loss in losses:
        first = 1.0 if largest == smallest else 1.0 - (loss - smallest) / (largest - smallest)
        second = {"mean": lambda: total / len(losses), "ratio": lambda loss=loss: total / loss, "share": lambda: 1.0}
        weights.append(first + second[mode]())
    return weights


def concatenate(atts, weights):
    """Eq. 4 for lists of S vectors of B rows of numbers: the deepest stage first."""
    rows = []
    for b in range(len(atts[0])):
        row = []
        for i in range(len(atts) - 1, -1, -1):
            for value in atts[i][b]:
                row.append(weights[i] * value)
        rows.append(row)
    return rows
