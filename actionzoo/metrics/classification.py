"""Scores of single-label classification: accuracy, Cohen's kappa, F1 and a confidence interval."""

import math

import numpy as np
import torch
from torch import Tensor

from .average_precision import one_vs_rest


def accuracy(scores: Tensor | np.ndarray, targets: Tensor | np.ndarray, k: int = 1) -> float:
    """Share of examples whose class is among the `k` highest scores.

    Equal scores rank by class index, lowest first, as `argmax` does, so a constant output cannot
    count as always right.

    Args:
        scores: (N, K) class scores; logits and probabilities both do.
        targets: (N,) integer class indices.
        k: how many guesses each example has, 1..K.

    Returns:
        Accuracy in [0, 1].

    Raises:
        ValueError: wrong ranks or sizes, no rows, NaN scores, class indices or `k` out of range.
        TypeError: class indices that are not integers.
    """
    scores, positive, _ = one_vs_rest(scores, targets)
    if torch.as_tensor(targets).ndim != 1:
        raise ValueError("accuracy takes (N,) class indices; score multi-hot targets with mAP")
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k must lie in 1..{scores.shape[1]} (the number of classes), got {k}")
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return float(positive.gather(1, order).any(1).double().mean())


def confusion_matrix(pred: Tensor | np.ndarray, target: Tensor | np.ndarray, num_classes: int) -> Tensor:
    """Count examples by true class (row) and predicted class (column), as scikit-learn does.

    Args:
        pred: (N,) predicted class indices.
        target: (N,) true class indices.
        num_classes: K.

    Returns:
        (K, K) int64 counts.

    Raises:
        ValueError: not two vectors of one length, no rows, or indices outside 0..K-1.
        TypeError: indices that are not integers.
    """
    pred = torch.as_tensor(pred).detach()
    target = torch.as_tensor(target).detach().to(pred.device)
    if pred.ndim != 1 or pred.shape != target.shape or not len(pred):
        raise ValueError(
            f"pred and target must be (N,) with N >= 1, got {tuple(pred.shape)} and {tuple(target.shape)}; "
            "take scores.argmax(1) first"
        )
    for name, index in (("pred", pred), ("target", target)):
        if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise TypeError(f"{name} must hold integer class indices, got {index.dtype}")
        if index.min() < 0 or index.max() >= num_classes:
            raise ValueError(f"{name} must lie in 0..{num_classes - 1}, got {int(index.min())}..{int(index.max())}")
    cell = target.long() * num_classes + pred.long()
    return torch.bincount(cell, minlength=num_classes**2).reshape(num_classes, num_classes)


def cohen_kappa(pred: Tensor | np.ndarray, target: Tensor | np.ndarray, num_classes: int) -> float:
    """Cohen's kappa: agreement beyond the agreement expected from the class frequencies alone.

    `kappa = (p_o - p_e) / (1 - p_e)` (Cohen, 1960). With K balanced true classes p_e is 1/K whatever
    is predicted.

    Args:
        pred: (N,) predicted class indices.
        target: (N,) true class indices.
        num_classes: K.

    Returns:
        Kappa in [-1, 1]; NaN where both vectors hold one and the same class, as in scikit-learn.

    Raises:
        ValueError: not two vectors of one length, no rows, or indices outside 0..K-1.
        TypeError: indices that are not integers.
    """
    counts = confusion_matrix(pred, target, num_classes)
    joint = counts.double() / counts.sum()
    observed = float(joint.trace())
    expected = float(joint.sum(0) @ joint.sum(1))
    # Tested on the counts: rounding may leave `expected` a hair below 1.
    if (counts.diagonal() == counts.sum()).any():
        return math.nan
    return (observed - expected) / (1 - expected)


def f1_scores(pred: Tensor | np.ndarray, target: Tensor | np.ndarray, num_classes: int) -> Tensor:
    """F1 of every class, `2 TP / (2 TP + FP + FN)`; `.nanmean()` of it is macro F1.

    Args:
        pred: (N,) predicted class indices.
        target: (N,) true class indices.
        num_classes: K.

    Returns:
        (K,) float64 in [0, 1]; NaN for a class that is neither true nor predicted anywhere.

    Raises:
        ValueError: not two vectors of one length, no rows, or indices outside 0..K-1.
        TypeError: indices that are not integers.
    """
    counts = confusion_matrix(pred, target, num_classes).double()
    return 2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))


def wilson_interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's confidence interval of a proportion such as accuracy (Wilson, 1927).

    Unlike the normal approximation it stays inside [0, 1] and is sound for few examples and for
    accuracies near 0 or 1.

    Args:
        correct: number of successes, 0..total.
        total: number of trials, at least 1.
        z: half width in standard deviations; 1.96 gives 95 %.

    Returns:
        low, high.

    Raises:
        ValueError: counts out of range, or a negative `z`.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"need total >= 1 and 0 <= correct <= total, got {correct} of {total}")
    if not z >= 0:
        raise ValueError(f"z must be at least 0, got {z}")
    p, shrink = correct / total, 1 + z * z / total
    centre = (p + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / total + (z / (2 * total)) ** 2)
    # Rounding must not push the proportion itself outside.
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))
