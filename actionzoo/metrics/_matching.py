"""What the average precisions of boxes and of poses share: ranking, COCO's matching and the curve over all images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)


def check_images(predictions: Sequence[Any], ground_truth: Sequence[Any]) -> None:
    """Refuse lists that cannot be of the same images."""
    if len(predictions) != len(ground_truth):
        raise ValueError(
            f"expected predictions and ground truth of the same images, got {len(predictions)} and {len(ground_truth)}"
        )


def rank(scores: Tensor | np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Order of the predictions of an image, the surest first, equals as they came; and all scores in float64."""
    values = torch.as_tensor(scores).detach().cpu().double().numpy()
    if values.shape != (count,) or np.isnan(values).any():
        raise ValueError(f"expected ({count},) scores without NaN, one per prediction, got {values.shape}")
    return np.argsort(-values, kind="stable"), values


def match(similarity: np.ndarray) -> np.ndarray:
    """Whether each of D predictions, surest first, finds a free one of G truths, at T thresholds: (T, D)."""
    predictions, truths = similarity.shape
    hits = np.zeros((len(THRESHOLDS), predictions), dtype=bool)
    if truths == 0:
        return hits
    free = np.ones((len(THRESHOLDS), truths), dtype=bool)
    for d, row in enumerate(similarity):
        candidates = np.where(free & (row >= THRESHOLDS[:, None]), row, -1.0)
        # of equals the last, as COCO takes it
        best = truths - 1 - candidates[:, ::-1].argmax(1)
        hits[:, d] = candidates.max(1) >= 0
        free[hits[:, d], best[hits[:, d]]] = False
    return hits


def monotone_precision(hits: np.ndarray) -> np.ndarray:
    """Best precision at this place of the ranking or any later one, for (..., D) hits, surest first."""
    precision = hits.cumsum(-1) / np.arange(1, hits.shape[-1] + 1)
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def coco_summary(hits: Sequence[np.ndarray], scores: Sequence[np.ndarray], count: int) -> dict[str, float]:
    """`"ap"`, `"ap50"`, `"ap75"` and `"ar"` of (T, D_i) hits and (D_i,) scores of every image, for `count` truths."""
    ranking = np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")
    ranked = np.concatenate([np.zeros((len(THRESHOLDS), 0), dtype=bool), *hits], 1)[:, ranking]
    recall = ranked.cumsum(1) / count
    # 0 at the recalls that are never reached
    padded = np.pad(monotone_precision(ranked), ((0, 0), (0, 1)))
    sampled = [curve[np.searchsorted(reached, _RECALLS)] for curve, reached in zip(padded, recall)]
    precision = np.stack(sampled).mean(1)
    return {
        "ap": float(precision.mean()),
        "ap50": float(precision[0]),
        "ap75": float(precision[5]),
        "ar": float((ranked.sum(1) / count).mean()),
    }
