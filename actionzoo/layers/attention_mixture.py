"""Mixture of weighted attention of PRF-Net: stage vectors weighted by their stages' losses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MODES = ("mean", "ratio", "share")


def mixture_weights(losses: Tensor | Sequence[Tensor | float], mode: str = "mean") -> Tensor:
    """Weight of every stage from the losses of this iteration's steps (PRF-Net section 3.2, Eq. 3).

    `w[i] = 1 - (L_i - min L) / (max L - min L) + second`. The divisor of the paper's second term is printed as
    the list `L` itself, which leaves its meaning open, hence the modes:

    - `"mean"`: `sum(L) / S`, the mean loss (the list's bars read as lost); bounded, the default;
    - `"ratio"`: `sum(L) / L_i`, which grows without bound as one loss goes to zero;
    - `"share"`: `sum(L) / sum(L) = 1`.

    Equal losses make the first term 1 for every stage; a loss that is not finite makes every weight 1.

    Args:
        losses: `(S,)` losses, one per stage, the shallowest first. No gradient passes through them.
        mode: How to read the second term.

    Returns:
        `(S,)` weights in the order of the losses, at least in float32.

    Raises:
        ValueError: If the mode is unknown or `losses` is not one-dimensional with at least one entry.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}, expected one of {', '.join(MODES)}")
    if isinstance(losses, Tensor):
        values = losses.detach()
    else:
        values = torch.stack([torch.as_tensor(loss).detach() for loss in losses]) if losses else torch.empty(0)
    if values.ndim != 1 or values.numel() == 0:
        raise ValueError(f"losses must be one-dimensional with one loss per stage, got shape {tuple(values.shape)}")
    values = values.double() if values.dtype == torch.float64 else values.float()

    low, high = values.aminmax()
    spread = high - low
    # where all losses are equal the quotient is 0/0; the divisor is replaced before dividing
    first = 1 - (values - low) / torch.where(spread > 0, spread, 1.0)
    if mode == "mean":
        second = values.mean()
    elif mode == "ratio":
        second = values.sum() / values.clamp(min=torch.finfo(values.dtype).eps)
    else:
        second = 1.0
    weights = first + second
    # a loss that is not finite leaves a weight that is not
    return torch.where(weights.isfinite().all(), weights, 1.0)


class WeightedAttentionMixture(nn.Module):
    """Concatenate the stages' attention vectors, weighted by their losses (PRF-Net section 3.2, Eqs 3-4 and 14).

    Training passes the losses of the iteration's steps (Eq. 4); inference passes none and every weight is 1
    (Eq. 14). It has no parameters and works with any number of stages.
    """

    def __init__(self, mode: str = "mean") -> None:
        """Choose how Eq. 3 is read.

        Args:
            mode: `"mean"`, `"ratio"` or `"share"`, see `mixture_weights`.

        Raises:
            ValueError: If the mode is unknown.
        """
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}, expected one of {', '.join(MODES)}")
        self.mode = mode

    def extra_repr(self) -> str:
        """Show the settings in `repr`."""
        return f"mode={self.mode!r}"

    def forward(self, atts: Sequence[Tensor], losses: Tensor | Sequence[Tensor | float] | None = None) -> Tensor:
        """S vectors `(B, d)`, shallowest stage first [, S losses] -> `(B, S * d)`, deepest stage first (Eq. 4).

        Raises:
            ValueError: If there are no vectors, or not as many losses as vectors.
        """
        if len(atts) == 0:
            raise ValueError("expected at least one attention vector (B, d), got none")
        if losses is not None:
            if len(losses) != len(atts):
                raise ValueError(f"expected one loss per stage, got {len(losses)} losses for {len(atts)} stages")
            weights = mixture_weights(losses, self.mode).to(atts[0])
            atts = [weight * att for weight, att in zip(weights, atts)]
        return torch.cat([*reversed(atts)], dim=1)
