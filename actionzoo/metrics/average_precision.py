"""Average precision per class and its mean over classes (mAP)."""

import numpy as np
import torch
from torch import Tensor


def one_vs_rest(scores: Tensor | np.ndarray, targets: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Turn class targets of either form into K yes/no questions.

    Args:
        scores: (N, K) class scores, higher is surer; logits and probabilities both do.
        targets: (N,) integer class indices, or (N, K) multi-hot with 1 = present, 0 = absent and
            -1 = not annotated.

    Returns:
        scores (N, K), positive (N, K) bool and annotated (N, K) bool, all on the device of `scores`.

    Raises:
        ValueError: wrong ranks or sizes, no rows, NaN scores, or target values outside the form.
        TypeError: class indices that are not integers.
    """
    scores = torch.as_tensor(scores).detach()
    targets = torch.as_tensor(targets).detach().to(scores.device)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores must be (N, K) with N, K >= 1, got {tuple(scores.shape)}")
    if torch.isnan(scores).any():
        raise ValueError("scores contain NaN; rank statistics need comparable numbers")
    n, k = scores.shape
    if tuple(targets.shape) not in ((n,), (n, k)):
        raise ValueError(f"targets must be ({n},) class indices or ({n}, {k}) multi-hot, got {tuple(targets.shape)}")
    if targets.ndim == 2:
        if not torch.isin(targets.float(), torch.tensor([-1.0, 0.0, 1.0], device=targets.device)).all():
            raise ValueError("multi-hot targets must be 1 (present), 0 (absent) or -1 (not annotated)")
        return scores, targets == 1, targets != -1
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(f"class indices must be integers, got {targets.dtype}")
    if targets.min() < 0 or targets.max() >= k:
        raise ValueError(f"class indices must lie in 0..{k - 1}, got {int(targets.min())}..{int(targets.max())}")
    positive = targets[:, None] == torch.arange(k, device=targets.device)
    return scores, positive, torch.ones_like(positive)


def average_precision(scores: Tensor | np.ndarray, targets: Tensor | np.ndarray, *, monotone: bool = False) -> Tensor:
    """Area under the precision-recall curve of every class.

    `AP = sum_n (R_n - R_{n-1}) P_n` over the distinct score values, as in scikit-learn's
    `average_precision_score`: examples with the same score enter together. With `monotone`, P_n is first
    raised to the best precision at this recall or any higher one: so PASCAL VOC 2012 defines it
    (development kit, VOCap), and results on Stanford 40 are reported in the same way as VOC's. The kit lets
    examples with the same score enter one by one, as they are listed; without such ties the two agree.

    Args:
        scores: (N, K) class scores, higher is surer; logits and probabilities both do.
        targets: (N,) integer class indices, or (N, K) multi-hot with 1 = present, 0 = absent and
            -1 = not annotated (that example is left out of that class).
        monotone: Area under the precision made monotone; never below the area as it is.

    Returns:
        (K,) float64 in [0, 1]; NaN for a class without a positive.

    Raises:
        ValueError: wrong ranks or sizes, no rows, NaN scores, or target values outside the form.
        TypeError: class indices that are not integers.
    """
    scores, positive, annotated = one_vs_rest(scores, targets)
    ranked, order = scores.sort(dim=0, descending=True)
    positive, annotated = positive.gather(0, order), annotated.gather(0, order)
    hits, seen = positive.cumsum(0), annotated.cumsum(0)

    # Every row reads its precision at the last row of its tie: the next row at which the score changes.
    n = len(ranked)
    row = torch.arange(n, device=scores.device)[:, None].expand_as(ranked)
    ends = torch.ones_like(positive)
    ends[:-1] = ranked[:-1] != ranked[1:]
    last = torch.where(ends, row, n).flip(0).cummin(0).values.flip(0)
    precision = hits.gather(0, last).double() / seen.gather(0, last).clamp(min=1)
    if monotone:
        precision = precision.flip(0).cummax(0).values.flip(0)
    return torch.where(positive, precision, 0.0).sum(0) / hits[-1]


def mean_average_precision(
    scores: Tensor | np.ndarray, targets: Tensor | np.ndarray, *, monotone: bool = False
) -> float:
    """Mean of `average_precision` over the classes that have a positive (mAP).

    Args:
        scores: (N, K) class scores, higher is surer; logits and probabilities both do.
        targets: (N,) integer class indices, or (N, K) multi-hot with 1 = present, 0 = absent and
            -1 = not annotated (that example is left out of that class).
        monotone: Area under the precision made monotone, as PASCAL VOC 2012 defines it.

    Returns:
        mAP in [0, 1].

    Raises:
        ValueError: wrong ranks or sizes, no rows, NaN scores, target values outside the form, or
            no positive in any class.
        TypeError: class indices that are not integers.
    """
    per_class = average_precision(scores, targets, monotone=monotone)
    if per_class.isnan().all():
        raise ValueError("no class has a positive example, so mAP is undefined")
    return float(per_class.nanmean())
