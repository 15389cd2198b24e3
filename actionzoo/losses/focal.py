"""Softmax focal loss."""

from typing import Literal

import torch
from torch import Tensor


def focal_loss(
    logits: Tensor, targets: Tensor, gamma: float = 2.0, reduction: Literal["mean", "none", "sum"] = "mean"
) -> Tensor:
    """Cross-entropy that fades where the right class is already sure: `-(1 - p)^gamma log p`.

    `p` is the softmax probability of the right class (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017,
    Eq. 4, without the class weights alpha). `gamma=0` is the cross-entropy.

    Args:
        logits: `(B, K)` class scores before the softmax.
        targets: `(B,)` class indices in `[0, K)`. Their range is not checked here, which would stop the host until
            the device has caught up; an index outside it fails in the gather.
        gamma: How much less a sure example counts, at least 0.
        reduction: `"mean"` or `"sum"` over the batch, or `"none"`.

    Returns:
        Scalar, or `(B,)` for `"none"`; computed and returned in float32 at least.

    Raises:
        ValueError: If a shape is wrong, the batch is empty, gamma is negative or the reduction unknown.
        TypeError: If the logits are not floating point or the targets not integers.
    """
    if reduction not in ("mean", "none", "sum"):
        raise ValueError(f"unknown reduction {reduction!r}, expected 'mean', 'none' or 'sum'")
    if not gamma >= 0:
        raise ValueError(f"gamma must be at least 0, got {gamma}")
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"expected logits (B, K) with B, K >= 1, got shape {tuple(logits.shape)}")
    if targets.shape != logits.shape[:1]:
        raise ValueError(f"expected targets ({logits.shape[0]},), one class index per row, got {tuple(targets.shape)}")
    if not logits.is_floating_point():
        raise TypeError(f"expected floating-point logits, got {logits.dtype}; call .float() first")
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(f"expected integer class indices as targets, got {targets.dtype}; use .long()")

    logits = logits if logits.dtype == torch.float64 else logits.float()
    log_p = logits.log_softmax(1).gather(1, targets.long()[:, None]).squeeze(1)
    # kept above 0, where a power below 1 has an infinite slope
    missing = (1 - log_p.exp()).clamp(min=torch.finfo(logits.dtype).tiny)
    losses = -missing.pow(gamma) * log_p
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()
