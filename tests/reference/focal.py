"""Softmax focal loss of one row of numbers, and its gradient worked out by hand."""

import math


def focal(logits, target, gamma):
    """Loss and its derivative by every logit, for a list of K numbers.

    `L = -(1 - p)^gamma log p` with `p` the softmax of the right class. The derivative by `log p` is
    `gamma p (1 - p)^(gamma - 1) log p - (1 - p)^gamma`, and `log p` has the derivative `[j is right] - p_j` by logit j.
    """
    largest = max(logits)
    powers = [math.exp(logit - largest) for logit in logits]
    shares = [power / sum(powers) for power in powers]
    log_p = logits[target] - largest - math.log(sum(powers))
    p = shares[target]
    # as the sum of the others, so that it has digits where p is almost 1
    missing = sum(share for j, share in enumerate(shares) if j != target)
    slope = -(missing**gamma)
    if gamma > 0 and missing > 0:
        slope += gamma * p * missing ** (gamma - 1) * log_p
    gradient = [slope * ((j == target) - share) for j, share in enumerate(shares)]
    gradient[target] = slope * missing
    return -(missing**gamma) * log_p, gradient
