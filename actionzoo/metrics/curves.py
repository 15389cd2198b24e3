"""Precision-recall and ROC curves, the area under the latter, and pictures of both."""

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .average_precision import average_precision, one_vs_rest
from .classification import confusion_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, ACCENT, LOW = "#20262e", "#b8c0cc", "#0072b2", "#d55e00"


class PrecisionRecall(NamedTuple):
    """One class's curve, ordered as scikit-learn orders it: the threshold rises, the recall falls."""

    precision: Tensor
    recall: Tensor
    thresholds: Tensor


class Roc(NamedTuple):
    """One class's ROC curve: the threshold falls from infinity, both rates rise from 0 to 1."""

    false_positive_rate: Tensor
    true_positive_rate: Tensor
    thresholds: Tensor


def _counts(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count (false positives, true positives) at every distinct score (T,), highest first."""
    ranked, order = scores.sort(descending=True)
    ends = torch.ones_like(positive)
    ends[:-1] = ranked[:-1] != ranked[1:]
    hits = positive[order].double().cumsum(0)[ends]
    seen = torch.arange(1, len(ranked) + 1, device=ranked.device, dtype=hits.dtype)[ends]
    return seen - hits, hits, ranked[ends]


def _binary_precision_recall(scores: Tensor, positive: Tensor) -> PrecisionRecall:
    fp, tp, thresholds = _counts(scores, positive)
    precision, recall = tp / (tp + fp), tp / positive.sum()
    end = torch.ones(1, dtype=tp.dtype, device=tp.device)
    return PrecisionRecall(
        torch.cat([precision.flip(0), end]), torch.cat([recall.flip(0), 0 * end]), thresholds.flip(0)
    )


def _binary_roc(scores: Tensor, positive: Tensor) -> Roc:
    fp, tp, thresholds = _counts(scores, positive)
    start = torch.zeros(1, dtype=tp.dtype, device=tp.device)
    total, hits = len(positive), positive.sum()
    false_rate = torch.cat([start, fp]) / (total - hits)
    true_rate = torch.cat([start, tp]) / hits
    infinity = torch.full((1,), math.inf, device=scores.device)
    return Roc(false_rate, true_rate, torch.cat([infinity, thresholds]))


def _columns(scores: Tensor | np.ndarray, targets: Tensor | np.ndarray) -> list[tuple[Tensor, Tensor]]:
    """Split into one (scores, positive) pair per class, without what is not annotated."""
    scores, positive, annotated = one_vs_rest(scores, targets)
    return [(s[a], p[a]) for s, p, a in zip(scores.T, positive.T, annotated.T)]


def precision_recall_curve(scores: Tensor | np.ndarray, targets: Tensor | np.ndarray) -> list[PrecisionRecall]:
    """Precision and recall of every class at each of its T distinct scores.

    Args:
        scores: (N, K) class scores, higher is surer; logits and probabilities both do.
        targets: (N,) integer class indices, or (N, K) multi-hot with 1 = present, 0 = absent and
            -1 = not annotated (that example is left out of that class).

    Returns:
        K tuples of precision (T+1,), recall (T+1,) and thresholds (T,), as scikit-learn gives them;
        the recall of a class without a positive is NaN.

    Raises:
        ValueError: wrong ranks or sizes, no rows, NaN scores, or target values outside the form.
        TypeError: class indices that are not integers.
    """
    return [_binary_precision_recall(*column) for column in _columns(scores, targets)]


def roc_curve(scores: Tensor | np.ndarray, targets: Tensor | np.ndarray) -> list[Roc]:
    """True against false positive rate of every class at each of its T distinct scores.

    Args:
        scores: (N, K) class scores, higher is surer; logits and probabilities both do.
        targets: (N,) integer class indices, or (N, K) multi-hot with 1 = present, 0 = absent and
            -1 = not annotated (that example is left out of that class).

    Returns:
        K tuples of false positive rate, true positive rate and thresholds, each (T+1,): scikit-learn's
        `roc_curve(drop_intermediate=False)`. A rate with nothing to count is NaN.

    Raises:
        ValueError: wrong ranks or sizes, no rows, NaN scores, or target values outside the form.
        TypeError: class indices that are not integers.
    """
    return [_binary_roc(*column) for column in _columns(scores, targets)]


def roc_auc(
    scores: Tensor | np.ndarray,
    targets: Tensor | np.ndarray,
    average: Literal["macro", "micro"] | None = None,
) -> Tensor:
    """Area under the ROC curve, one class against the rest.

    Args:
        scores: (N, K) class scores, higher is surer.
        targets: (N,) integer class indices, or (N, K) multi-hot with 1 = present, 0 = absent and
            -1 = not annotated (that example is left out of that class).
        average: None for every class; "macro" for the mean over the classes that have both positives
            and negatives; "micro" for one curve over all N*K decisions, which needs scores that are
            comparable between classes, such as probabilities.

    Returns:
        (K,) float64 with NaN for a class without positives or negatives; () for an average.

    Raises:
        ValueError: wrong ranks or sizes, no rows, NaN scores, target values outside the form, or an
            unknown average.
        TypeError: class indices that are not integers.
    """
    if average not in (None, "macro", "micro"):
        raise ValueError(f'average must be None, "macro" or "micro", got {average!r}')
    columns = _columns(scores, targets)
    if average == "micro":
        columns = [(torch.cat([s for s, _ in columns]), torch.cat([p for _, p in columns]))]
    curves = [_binary_roc(*column) for column in columns]
    areas = torch.stack([torch.trapezoid(c.true_positive_rate, c.false_positive_rate) for c in curves])
    if average == "micro":
        return areas[0]
    return areas.nanmean() if average == "macro" else areas


def plot_curves(
    scores: Tensor | np.ndarray,
    targets: Tensor | np.ndarray,
    classes: Sequence[str],
    out_dir: str | os.PathLike[str],
) -> list[Path]:
    """Write `pr.png`, `roc.png` and, for single-label targets, `confusion.png`.

    A curve picture shows every class as a thin line, the micro average in black and the three worst
    classes in colour, beside a sorted bar of each class's area. The confusion matrix is in percent of
    the true class. Files are written whole or not at all.

    Args:
        scores: (N, K) class scores, comparable between classes (probabilities).
        targets: (N,) integer class indices, or (N, K) multi-hot with 1 = present, 0 = absent and
            -1 = not annotated.
        classes: K names; underscores are shown as spaces.
        out_dir: folder, made if absent.

    Returns:
        The files written.

    Raises:
        ImportError: matplotlib is missing (`pip install "actionzoo[eval]"`).
        ValueError: wrong ranks or sizes, no rows, NaN scores, target values outside the form, or a
            number of names other than K.
        TypeError: class indices that are not integers.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plot_curves needs matplotlib: pip install "actionzoo[eval]"') from error
    scores, targets = torch.as_tensor(scores), torch.as_tensor(targets)
    columns = _columns(scores, targets)
    if len(classes) != len(columns):
        raise ValueError(f"scores have {len(columns)} classes but {len(classes)} names came")
    names = [name.replace("_", " ") for name in classes]
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    pooled = torch.cat([s for s, _ in columns]), torch.cat([p for _, p in columns])

    height = max(4.2, 1.1 + 0.23 * len(names))
    figures = {}
    for kind, curve in (("pr", _binary_precision_recall), ("roc", _binary_roc)):
        areas = average_precision(scores, targets) if kind == "pr" else roc_auc(scores, targets)
        figure = Figure(figsize=(6.2 + height * 0.5, height), layout="constrained")
        lines = [_line(kind, curve(*column)) for column in columns]
        _draw_curves(figure, kind, lines, _line(kind, curve(*pooled)), areas.tolist(), names)
        figures[kind] = figure
    if targets.ndim == 1:
        side = 2.4 + 0.34 * len(names)
        figure = Figure(figsize=(side, side), layout="constrained")
        counts = confusion_matrix(scores.argmax(1), targets, len(names))
        _draw_confusion(figure.add_subplot(), counts.cpu().numpy(), names)
        figures["confusion"] = figure
    return [_save(figure, out_dir / f"{stem}.png") for stem, figure in figures.items()]


def _line(kind: str, curve: PrecisionRecall | Roc) -> tuple[np.ndarray, np.ndarray]:
    first, second = curve[0].cpu().numpy(), curve[1].cpu().numpy()
    return (second, first) if kind == "pr" else (first, second)


def _draw_curves(
    figure: "Figure",
    kind: str,
    lines: list[tuple[np.ndarray, np.ndarray]],
    micro: tuple[np.ndarray, np.ndarray],
    areas: list[float],
    names: list[str],
) -> None:
    """Draw all curves on the left and the sorted area of each class on the right."""
    curve_axes, bar_axes = figure.subplots(1, 2, width_ratios=[1.35, 1])
    known = sorted((i for i, area in enumerate(areas) if not math.isnan(area)), key=lambda i: areas[i])
    worst = dict(zip(known[:3], (LOW, "#cc79a7", "#009e73")))
    style = "steps-post" if kind == "pr" else "default"  # the step function whose area is AP
    for i in reversed(known):
        curve_axes.plot(*lines[i], color=worst.get(i, MUTED), lw=1.8 if i in worst else 0.9, drawstyle=style,
                        zorder=3 if i in worst else 2, label=names[i] if i in worst else None)  # fmt: skip
    curve_axes.plot(*micro, color=INK, lw=2.2, zorder=4, drawstyle=style, label="all classes (micro)")
    if kind == "roc":
        curve_axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=":")
    x_name, y_name, area_name = {
        "pr": ("recall", "precision", "average precision"),
        "roc": ("false positive rate", "true positive rate", "area under ROC"),
    }[kind]
    curve_axes.set(xlim=(0, 1.005), ylim=(0, 1.02), xlabel=x_name, ylabel=y_name, box_aspect=1)
    curve_axes.set_anchor("N")
    curve_axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=8.5)

    mean = float(np.nanmean(areas)) if known else math.nan
    rows = range(len(known))
    bar_axes.barh(rows, [areas[i] for i in known], color=[worst.get(i, ACCENT) for i in known], height=0.66)
    bar_axes.set_yticks(rows, [names[i] for i in known], fontsize=8)
    for row, i in enumerate(known):
        bar_axes.text(areas[i] + 0.015, row, f"{areas[i]:.3f}", va="center", fontsize=7.5, color=INK)
    bar_axes.set(xlim=(0, 1.16), ylim=(-0.6, len(known) - 0.4), xticks=[0, 0.5, 1])
    bar_axes.set_title(f"{area_name}, mean {mean:.3f}", fontsize=10)
    for axes in (curve_axes, bar_axes):
        axes.spines[["top", "right"]].set_visible(False)
    bar_axes.tick_params(axis="y", length=0)


def _draw_confusion(axes: "Axes", counts: np.ndarray, names: list[str]) -> None:
    """Draw percent of the true class; cells under half a percent stay empty."""
    totals = counts.sum(1, keepdims=True)
    percent = 100 * counts / np.maximum(totals, 1)
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for row, column in zip(*np.nonzero(percent >= 0.5)):
        value = percent[row, column]
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7,
                  color="white" if value > 55 else INK)  # fmt: skip
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=90, fontsize=8)
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set_xticks(np.arange(-0.5, len(names)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(names)), minor=True)
    axes.grid(which="minor", color="white", lw=1)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted", ylabel="true")
    right = 100 * counts.trace() / counts.sum()
    axes.set_title(f"percent of the true class · accuracy {right:.1f} %", fontsize=10)


def _save(figure: "Figure", path: Path) -> Path:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".png")
    os.close(handle)
    try:
        figure.savefig(temporary, dpi=160)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path
