"""Scoring of an image classifier: accuracy with its interval, mAP, Cohen's kappa, curves as pictures."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._checkpoint import atomic_path
from .._modes import eval_mode
from ..metrics import accuracy, cohen_kappa, mean_average_precision, wilson_interval


@dataclass(frozen=True)
class Evaluation:
    """Scores of every image and what they come to."""

    scores: Tensor
    """`(N, K)` softmax probabilities."""
    targets: Tensor
    """`(N,)` class indices."""
    metrics: dict[str, Any]
    """`images`, `top1` and `top5` in percent, `top1_interval` (95 %), `map` in percent, `kappa`."""


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Evaluation:
    """Score a classifier on batches of images.

    Args:
        model: Returns `(B, K)` logits, alone or first in a tuple; in eval mode meanwhile, every module back in its
            own mode afterwards.
        loader: Batches of images and class indices.
        device: Where to run; the model is moved there.
        progress: Show a progress bar.

    Returns:
        Probabilities, targets and metrics: top-1 and top-5 accuracy with the 95 % Wilson interval of the former,
        mean average precision, Cohen's kappa (PRF-Net section 4.3 reports accuracy, mAP and kappa).

    Raises:
        ValueError: If the loader is empty.
    """
    scores, targets = [], []
    if progress:
        from tqdm import tqdm

        loader = tqdm(loader, "scoring", leave=False)
    with eval_mode(model.to(device)):
        for images, target in loader:
            output = model(images.to(device))
            logits = output[0] if isinstance(output, tuple) else output
            scores.append(logits.float().softmax(1).cpu())
            targets.append(target.cpu())
    if not scores:
        raise ValueError("there is nothing to score: the loader is empty")
    probabilities, truth = torch.cat(scores), torch.cat(targets)
    return Evaluation(probabilities, truth, classification_metrics(probabilities, truth))


def classification_metrics(scores: Tensor, targets: Tensor) -> dict[str, Any]:
    """The metrics of `evaluate` from probabilities `(N, K)` and targets `(N,)`."""
    count, classes = scores.shape
    correct = int((scores.argmax(1) == targets).sum())
    low, high = wilson_interval(correct, count)
    kappa = cohen_kappa(scores.argmax(1), targets, classes)
    return {
        "images": count,
        "top1": round(100 * correct / count, 2),
        "top1_interval": [round(100 * low, 2), round(100 * high, 2)],
        "top5": round(100 * accuracy(scores, targets, k=min(5, classes)), 2),
        "map": round(100 * mean_average_precision(scores, targets), 2),
        # undefined where only one class occurs, and JSON has no NaN
        "kappa": None if math.isnan(kappa) else round(kappa, 4),
    }


def write_report(result: Evaluation, classes: Sequence[str], output: str | Path) -> list[Path]:
    """Write `pr.png`, `roc.png` and `confusion.png`, and the scores as `scores.json`, to a folder.

    Raises:
        ImportError: If the extra `eval` is not installed.
    """
    from ..metrics import plot_curves

    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    file = output / "scores.json"
    rows = {"classes": list(classes), "targets": result.targets.tolist()}
    rows["scores"] = [[round(p, 6) for p in row] for row in result.scores.tolist()]
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    return [file, *plot_curves(result.scores, result.targets, classes, output)]
