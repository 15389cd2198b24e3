"""Weighted mean squared error of joint heat maps, as HRNet trains with."""

import torch
from torch import Tensor


def joints_mse(pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over samples and joints of half the mean over pixels of `(w (pred - target))^2`.

    The pose loss of the HRNet code (Sun et al., "Deep High-Resolution Representation Learning for Human Pose
    Estimation", CVPR 2019), which the body-part network takes over (section 3.6). Joints of no weight still count in
    the means, as they do there, but nothing of their maps, NaN included, enters the value or the gradient.

    Args:
        pred: `(B, J, h, w)` predicted heat maps.
        target: `(B, J, h, w)` heat maps to reach.
        weight: `(B, J)` or `(B, J, 1)`, the weight of every joint; one that is not positive leaves its joint out.

    Returns:
        Scalar, computed in float32 at least.

    Raises:
        ValueError: If the maps are not `(B, J, h, w)` of one shape, nothing is in them, or the weight does not fit.
    """
    return joints_mse_per_sample(pred, target, weight).mean()


def joints_mse_per_sample(pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """`joints_mse` of every sample by itself: its mean over the batch is `joints_mse`.

    Args:
        pred: `(B, J, h, w)` predicted heat maps.
        target: `(B, J, h, w)` heat maps to reach.
        weight: `(B, J)` or `(B, J, 1)`, the weight of every joint; one that is not positive leaves its joint out.

    Returns:
        `(B,)`, in float32 at least.

    Raises:
        ValueError: If the maps are not `(B, J, h, w)` of one shape, nothing is in them, or the weight does not fit.
    """
    check_heatmaps(pred, target, weight)
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    weight = weight.reshape(*pred.shape[:2], 1, 1)
    counted = weight > 0
    # both factors are masked: the gradient of either is the other times the upstream zero
    difference = torch.where(counted, pred.to(dtype) - target.to(dtype), 0)
    weight = torch.where(counted, weight.to(dtype), 0)
    return 0.5 * (weight * difference).square().mean(dim=(1, 2, 3))


def check_heatmaps(pred: Tensor, target: Tensor, weight: Tensor) -> None:
    """Refuse heat maps, targets and weights whose shapes do not belong together.

    Args:
        pred: `(B, J, h, w)` predicted heat maps.
        target: `(B, J, h, w)` heat maps to reach.
        weight: `(B, J)` or `(B, J, 1)`.

    Raises:
        ValueError: If they have other shapes, or the maps are empty.
    """
    if pred.ndim != 4 or pred.shape != target.shape or 0 in pred.shape:
        raise ValueError(
            f"expected heat maps and targets (B, J, h, w) of one shape, got {tuple(pred.shape)} and "
            f"{tuple(target.shape)}"
        )
    batch, joints = pred.shape[:2]
    if tuple(weight.shape) not in ((batch, joints), (batch, joints, 1)):
        raise ValueError(
            f"expected a weight per joint, ({batch}, {joints}) or ({batch}, {joints}, 1), got {tuple(weight.shape)}"
        )
