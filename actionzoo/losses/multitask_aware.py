"""Multitask-aware loss of the body-part network: pose and action from whatever each sample is annotated with."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .focal import focal_loss
from .joints_mse import check_heatmaps, joints_mse_per_sample

MISSING = -1


class PoseAndActionOutput(Protocol):
    """What the loss reads of a model's output; `BodyPartOutput` has it."""

    @property
    def logits(self) -> Tensor:
        """`(B, K)` scores of the concat head."""
        ...

    @property
    def heatmaps(self) -> Tensor:
        """`(B, J, h, w)` predicted joint heat maps."""
        ...

    @property
    def stream_logits(self) -> Mapping[str, Tensor]:
        """`(B, K)` scores of every stream that was built."""
        ...


class MultitaskLoss(NamedTuple):
    """The loss and its two parts, as scalars in float32 at least; all three have a graph."""

    total: Tensor
    """`pose + lam * action`, the one to minimise."""
    pose: Tensor
    action: Tensor
    """The action part before `lam`."""


class MultitaskAwareLoss(nn.Module):
    """Train pose and action on mixed data sets (body-part network, section 3.6, Eqs 3-4).

    `L = 1/N sum_i [1_p L_p + lam 1_a (L_concat + sum of the streams' losses)]`. `L_p` is HRNet's weighted mean squared
    error of one sample's heat maps (`joints_mse_per_sample`); the indicators `1_p` and `1_a` say whether a sample has
    a pose and an action. Missing annotations are -1, as in the paper:

    - pose: missing where every target heat-map entry is -1, or where no joint has a positive weight;
    - action, `"focal"`: missing where the class index is -1;
    - action, `"bce"`: missing where the whole row is -1; a single -1 leaves that class out of the row's mean.

    A sample without an annotation sends a gradient of exactly zero to the outputs concerned, even where they are NaN
    or infinite. A batch without any annotation gives an exact 0 that still has a graph, so every parameter gets a
    gradient and distributed workers stay in step. Nothing is read back to the host. For that reason only shapes and
    types are checked: a class index of `K` or more, or below -1, fails in a gather, and multi-label targets are taken
    as they are.
    """

    def __init__(
        self,
        lam: float = 0.00075,
        action: Literal["focal", "bce"] = "focal",
        reduce: Literal["batch", "valid"] = "batch",
        gamma: float = 2.0,
    ) -> None:
        """Choose the action loss and what a mean is taken over.

        Args:
            lam: Weight of the action part, the paper's lambda.
            action: `"focal"`, softmax focal loss for one class per sample (Stanford 40), or `"bce"`, binary
                cross-entropy averaged over the annotated classes for several (V-COCO).
            reduce: `"batch"` divides by the number of samples, as Eq. 3 is printed, so the weight of a task falls with
                its share of the batch; `"valid"` takes the mean of either task over the samples that have it. Both
                count within the batch at hand: distributed workers average their own means.
            gamma: Of the focal loss.

        Raises:
            ValueError: If a word is unknown, or `lam` or `gamma` negative or not a number.
        """
        super().__init__()
        if action not in ("focal", "bce"):
            raise ValueError(f"unknown action loss {action!r}, expected 'focal' or 'bce'")
        if reduce not in ("batch", "valid"):
            raise ValueError(f"unknown reduce {reduce!r}, expected 'batch' or 'valid'")
        if not lam >= 0 or not gamma >= 0:
            raise ValueError(f"lam and gamma must be at least 0, got {lam} and {gamma}")
        self.lam, self.action, self.reduce, self.gamma = lam, action, reduce, gamma

    def extra_repr(self) -> str:
        """Show the settings in `repr`."""
        return f"lam={self.lam}, action={self.action!r}, reduce={self.reduce!r}, gamma={self.gamma}"

    def forward(self, output: PoseAndActionOutput, heatmaps: Tensor, weights: Tensor, targets: Tensor) -> MultitaskLoss:
        """Predictions and annotations of one batch -> total, pose and action loss.

        Args:
            output: Model output with logits `(B, K)`, heat maps `(B, J, h, w)` and stream logits by name, `(B, K)`
                each.
            heatmaps: `(B, J, h, w)` target heat maps.
            weights: `(B, J)` or `(B, J, 1)` joint weights.
            targets: `(B,)` integer class indices for `"focal"`, `(B, K)` targets in [0, 1] for `"bce"`.

        Raises:
            ValueError: If a shape does not fit.
            TypeError: If focal targets are not integers.
        """
        heads = [*output.stream_logits.values(), output.logits]
        self._check(heads, output.heatmaps, targets)
        check_heatmaps(output.heatmaps, heatmaps, weights)
        weights = weights.flatten(1)
        posed = (weights > 0).any(1) & (heatmaps != MISSING).flatten(1).any(1)
        pose = joints_mse_per_sample(output.heatmaps, heatmaps, torch.where(posed[:, None], weights, 0))

        per_head = self._focal if self.action == "focal" else self._bce
        annotated = targets != MISSING
        acting = annotated if annotated.ndim == 1 else annotated.any(1)
        action = torch.stack([per_head(logits, targets, annotated) for logits in heads]).sum(0)

        pose_mean, action_mean = self._mean(pose, posed), self._mean(action, acting)
        return MultitaskLoss(pose_mean + self.lam * action_mean, pose_mean, action_mean)

    def _check(self, heads: list[Tensor], heatmaps: Tensor, targets: Tensor) -> None:
        shape = tuple(heads[-1].shape)
        if len(shape) != 2 or 0 in shape or any(tuple(head.shape) != shape for head in heads):
            shapes = ", ".join(str(tuple(head.shape)) for head in heads)
            raise ValueError(f"expected logits (B, K) of one shape from the concat head and every stream, got {shapes}")
        if heatmaps.shape[:1] != shape[:1]:
            raise ValueError(f"expected heat maps of the {shape[0]} samples of the logits, got {tuple(heatmaps.shape)}")
        if self.action == "focal" and tuple(targets.shape) != shape[:1]:
            raise ValueError(
                f"expected targets ({shape[0]},), class indices, got {tuple(targets.shape)}; multi-label targets need "
                'action="bce"'
            )
        if self.action == "bce" and tuple(targets.shape) != shape:
            raise ValueError(
                f"expected targets {shape}, one per class, got {tuple(targets.shape)}; class indices need "
                'action="focal"'
            )

    def _focal(self, logits: Tensor, targets: Tensor, annotated: Tensor) -> Tensor:
        # the logits are masked too: the gradient of a NaN is NaN, whatever comes from above
        logits = torch.where(annotated[:, None], logits, 0)
        losses = focal_loss(logits, torch.where(annotated, targets, 0), self.gamma, "none")
        return torch.where(annotated, losses, 0)

    def _bce(self, logits: Tensor, targets: Tensor, annotated: Tensor) -> Tensor:
        logits = logits if logits.dtype == torch.float64 else logits.float()
        logits = torch.where(annotated, logits, 0)
        losses = F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none")
        return torch.where(annotated, losses, 0).sum(1) / annotated.sum(1).clamp(min=1)

    def _mean(self, losses: Tensor, present: Tensor) -> Tensor:
        """Losses `(B,)`, 0 where absent -> their mean over the batch, or over the samples present."""
        return losses.mean() if self.reduce == "batch" else losses.sum() / present.sum().clamp(min=1)
