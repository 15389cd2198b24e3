"""Scores of classification, pose and part-state predictions."""

from .average_precision import average_precision as average_precision
from .average_precision import mean_average_precision as mean_average_precision
from .classification import accuracy as accuracy
from .classification import cohen_kappa as cohen_kappa
from .classification import confusion_matrix as confusion_matrix
from .classification import f1_scores as f1_scores
from .classification import wilson_interval as wilson_interval
from .curves import plot_curves as plot_curves
from .curves import precision_recall_curve as precision_recall_curve
from .curves import roc_auc as roc_auc
from .curves import roc_curve as roc_curve

__all__ = [
    "accuracy",
    "average_precision",
    "cohen_kappa",
    "confusion_matrix",
    "f1_scores",
    "mean_average_precision",
    "plot_curves",
    "precision_recall_curve",
    "roc_auc",
    "roc_curve",
    "wilson_interval",
]
