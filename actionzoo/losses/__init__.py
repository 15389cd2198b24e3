"""Losses of the papers' training recipes, as functions and thin modules."""

from .focal import focal_loss as focal_loss
from .joints_mse import joints_mse as joints_mse
from .joints_mse import joints_mse_per_sample as joints_mse_per_sample
from .multitask_aware import MultitaskAwareLoss as MultitaskAwareLoss
from .multitask_aware import MultitaskLoss as MultitaskLoss

__all__ = [
    "MultitaskAwareLoss",
    "MultitaskLoss",
    "focal_loss",
    "joints_mse",
    "joints_mse_per_sample",
]
