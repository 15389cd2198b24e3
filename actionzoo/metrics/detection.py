"""Average precision of the boxes of one class, by the rules of PASCAL VOC and of COCO."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ._matching import check_images, coco_summary, match, monotone_precision, rank


def box_average_precision(
    predictions: Sequence[tuple[Tensor | np.ndarray, Tensor | np.ndarray]],
    ground_truth: Sequence[Tensor | np.ndarray],
    threshold: float = 0.5,
) -> float:
    """Average precision of the detections of one class, by PASCAL VOC's rule (development kit of 2012, VOCevaldet).

    Every detection takes the true box of its image that it overlaps most, and is right if their intersection over
    union reaches the threshold and no surer detection took that box: a second one is wrong, though another box be
    free. Precision over all images, the surest detection first and equals as they are listed, is made monotone; the
    result is the area under it. The kit counts the last pixel in, so that a width is `x2 - x1 + 1`; boxes here are
    half-open: add 1 to every x2 and y2 of VOC's boxes. Its difficult boxes, which count neither way, are not modelled.

    Args:
        predictions: For every image (n, 4) boxes as xyxy, half-open, in pixels, and (n,) scores. (0, 4) and (0,)
            where nothing was found.
        ground_truth: For every image, in the same order, (m, 4) boxes, (0, 4) where there is none.
        threshold: Intersection over union that finds a box, in (0, 1].

    Returns:
        Average precision in [0, 1].

    Raises:
        ValueError: If the lists differ in length, a shape is wrong, a coordinate is not finite, a box is turned
            inside out, a true box has no area, a score is NaN, the threshold is not in (0, 1], or there is no true
            box in any image.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"expected a threshold in (0, 1], got {threshold}")
    hits, scores, count = [np.zeros(0, dtype=bool)], [np.zeros(0)], 0
    for overlap, surest in _overlaps(predictions, ground_truth):
        hits.append(_take_best(overlap, threshold))
        scores.append(surest)
        count += overlap.shape[1]
    ranked = np.concatenate(hits)[np.argsort(-np.concatenate(scores), kind="stable")]
    return float(monotone_precision(ranked)[ranked].sum() / count)


def coco_box_ap(
    predictions: Sequence[tuple[Tensor | np.ndarray, Tensor | np.ndarray]],
    ground_truth: Sequence[Tensor | np.ndarray],
    max_detections: int = 100,
) -> dict[str, float]:
    """Average precision and recall of the detections of one class, by COCO's rule (cocodataset.org, detection).

    In every image the detections, surest first, take the free true box that they overlap most, if that reaches the
    threshold; then precision is read at 101 recalls from the curve over all images, made monotone. `"ap"` and `"ar"`
    are means over the thresholds 0.50, 0.55 … 0.95 of intersection over union. COCO's crowd regions and size classes
    are not modelled: for official COCO numbers use pycocotools.

    Args:
        predictions: For every image (n, 4) boxes as xyxy, half-open, in pixels, and (n,) scores. (0, 4) and (0,)
            where nothing was found.
        ground_truth: For every image, in the same order, (m, 4) boxes, (0, 4) where there is none.
        max_detections: How many detections of an image count, the surest.

    Returns:
        `"ap"`, `"ap50"`, `"ap75"` and `"ar"`, in [0, 1].

    Raises:
        ValueError: If `max_detections` is below 1, or the input is wrong as for `box_average_precision`.
    """
    if max_detections < 1:
        raise ValueError(f"max_detections must be at least 1, got {max_detections}")
    hits, scores, count = [], [], 0
    for overlap, surest in _overlaps(predictions, ground_truth):
        hits.append(match(overlap[:max_detections]))
        scores.append(surest[:max_detections])
        count += overlap.shape[1]
    return coco_summary(hits, scores, count)


def _overlaps(
    predictions: Sequence[tuple[Tensor | np.ndarray, Tensor | np.ndarray]], ground_truth: Sequence[Tensor | np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every image intersection over union (n, m) and scores (n,), the surest detection first."""
    check_images(predictions, ground_truth)
    images = []
    for (found, confidence), truth in zip(predictions, ground_truth):
        found, truth = _boxes(found, "predictions"), _boxes(truth, "ground truth")
        if (truth[:, 2:] == truth[:, :2]).any():
            raise ValueError("the ground truth holds a box without area, which nothing can find; leave it out")
        order, scores = rank(confidence, len(found))
        images.append((box_iou(found, truth).numpy()[order], scores[order]))
    if not any(overlap.shape[1] for overlap, _ in images):
        raise ValueError("there is no true box in any image, so average precision is undefined")
    return images


def _boxes(boxes: Tensor | np.ndarray, name: str) -> Tensor:
    """(n, 4) in float64 on the CPU, checked."""
    boxes = torch.as_tensor(boxes).detach().cpu().double()
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"expected {name} (n, 4) as xyxy, (0, 4) for none, got shape {tuple(boxes.shape)}")
    if not boxes.isfinite().all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(f"expected {name} as finite xyxy boxes with x1 <= x2 and y1 <= y2")
    return boxes


def _take_best(overlap: np.ndarray, threshold: float) -> np.ndarray:
    """Which of n detections, surest first, are right about m true boxes: (n,)."""
    hits = np.zeros(len(overlap), dtype=bool)
    if overlap.shape[1] == 0:
        return hits
    reached = np.flatnonzero(overlap.max(1) >= threshold)
    # the first detection of every true box, and of equally good boxes the first, as the kit takes it
    _, first = np.unique(overlap[reached].argmax(1), return_index=True)
    hits[reached[first]] = True
    return hits
