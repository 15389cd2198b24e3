"""Object keypoint similarity (OKS) and the average precision that COCO's keypoint challenge builds on it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ._matching import check_images, coco_summary, match, rank

# How far annotators differ at each of the 17 COCO joints, as a share of the square root of a person's area.
COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035),
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)


def oks(
    pred: Tensor | np.ndarray,
    target: Tensor | np.ndarray,
    area: Tensor | np.ndarray,
    sigmas: Sequence[float] = COCO_SIGMAS,
) -> Tensor:
    """Object keypoint similarity of matched pairs: the mean over visible joints of `exp(-d^2 / (2 area k^2))`.

    COCO's measure (cocodataset.org, keypoint evaluation): d is the distance in pixels and `k = 2 sigma`.

    Args:
        pred: (N, J, 2) predicted x, y in pixels, or (N, J, 3) with a score that is not used. A joint that is not
            finite has similarity 0.
        target: (N, J, 3) true x, y and visibility; joints of visibility 0 or below are left out.
        area: (N,) area of every person in square pixels, in COCO that of the segmentation.
        sigmas: J constants, one per joint.

    Returns:
        (N,) float64 in [0, 1]; NaN for a person without a visible joint.

    Raises:
        ValueError: If a shape is wrong, an area or a sigma is not a number above 0, or a visible joint of the target
            is not finite.
    """
    points, people, areas = _people(pred, target, area, sigmas)
    if points.shape[0] != people.shape[0]:
        raise ValueError(f"expected one prediction per target, got {points.shape[0]} and {people.shape[0]}")
    return _similarity(points, people, areas, sigmas)


def keypoint_average_precision(
    predictions: Sequence[tuple[Tensor | np.ndarray, Tensor | np.ndarray]],
    ground_truth: Sequence[tuple[Tensor | np.ndarray, Tensor | np.ndarray]],
    sigmas: Sequence[float] = COCO_SIGMAS,
    max_people: int = 20,
) -> dict[str, float]:
    """Average precision and recall of multi-person pose, by COCO's rule.

    In every image the predictions, surest first, take the free person that they are most similar to (`oks`), if that
    reaches the threshold; then precision is read at 101 recalls from the curve over all images, made monotone.
    `"ap"` and `"ar"` are means over the thresholds 0.50, 0.55 … 0.95. People without a visible joint are left out.
    COCO's crowd regions and size classes are not modelled, nor that it forgives a prediction on somebody without
    annotated joints, which counts as wrong here: for official COCO numbers use pycocotools.

    Args:
        predictions: For every image (n, J, 2) or (n, J, 3) keypoints in pixels and (n,) scores of the people.
        ground_truth: For every image, in the same order, (m, J, 3) keypoints with visibility and (m,) areas in
            square pixels.
        sigmas: J constants, one per joint.
        max_people: How many predictions of an image count, the surest.

    Returns:
        `"ap"`, `"ap50"`, `"ap75"` and `"ar"`, in [0, 1].

    Raises:
        ValueError: If the lists differ in length, a shape or a value is wrong (see `oks`), a score is NaN,
            `max_people` is below 1 or nobody has a visible joint.
    """
    check_images(predictions, ground_truth)
    if max_people < 1:
        raise ValueError(f"max_people must be at least 1, got {max_people}")
    hits, scores, count = [], [], 0
    for (keypoints, confidence), (target, area) in zip(predictions, ground_truth):
        points, people, areas = _people(keypoints, target, area, sigmas)
        order, surest = rank(confidence, len(points))
        order = order[:max_people]
        annotated = (people[..., 2] > 0).any(1)
        people, areas = people[annotated], areas[annotated]
        similarity = _similarity(points[order][:, None], people[None], areas[None], sigmas)
        hits.append(match(similarity.numpy()))
        scores.append(surest[order])
        count += len(people)
    if count == 0:
        raise ValueError("nobody has a visible joint, so average precision is undefined")
    return coco_summary(hits, scores, count)


def _people(
    pred: Tensor | np.ndarray, target: Tensor | np.ndarray, area: Tensor | np.ndarray, sigmas: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """The three in float64 on the CPU, checked; n predictions (n, J, 2), m targets (m, J, 3), m areas."""
    pred, target, area = (torch.as_tensor(value).detach().cpu().double() for value in (pred, target, area))
    joints = len(sigmas)
    if pred.ndim != 3 or pred.shape[1] != joints or pred.shape[2] not in (2, 3):
        raise ValueError(
            f"expected predictions (N, {joints}, 2) or (N, {joints}, 3), one joint per sigma, got {tuple(pred.shape)}"
        )
    if target.ndim != 3 or target.shape[1:] != (joints, 3):
        raise ValueError(f"expected targets (N, {joints}, 3) as x, y, visibility, got {tuple(target.shape)}")
    if area.shape != target.shape[:1]:
        raise ValueError(f"expected ({target.shape[0]},) areas, one per target, got {tuple(area.shape)}")
    visible = target[..., 2] > 0
    if not target[visible].isfinite().all():
        raise ValueError("target holds NaN or infinity at a visible joint; set its visibility to 0")
    areas = area[visible.any(1)]
    if not (areas.isfinite() & (areas > 0)).all() or not all(sigma > 0 for sigma in sigmas):
        raise ValueError("areas and sigmas must be numbers above 0")
    return pred[..., :2], target, area


def _similarity(points: Tensor, people: Tensor, areas: Tensor, sigmas: Sequence[float]) -> Tensor:
    """(..., J, 2), (..., J, 3) and (...) that broadcast -> OKS (...)."""
    k = 2 * torch.tensor(sigmas, dtype=torch.float64)
    distance = (points - people[..., :2]).square().sum(-1)
    joints = torch.exp(-distance / (2 * areas[..., None] * k**2))
    visible = (people[..., 2] > 0).expand_as(joints)
    counted = torch.where(visible & ~joints.isnan(), joints, 0.0)
    return counted.sum(-1) / visible.sum(-1)
