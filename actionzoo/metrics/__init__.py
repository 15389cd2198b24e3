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
from .detection import box_average_precision as box_average_precision
from .detection import coco_box_ap as coco_box_ap
from .keypoints import COCO_SIGMAS as COCO_SIGMAS
from .keypoints import keypoint_average_precision as keypoint_average_precision
from .keypoints import oks as oks
from .part_state import part_state_correctness as part_state_correctness
from .part_state import part_state_roc as part_state_roc
from .part_state_files import read_part_predictions as read_part_predictions
from .part_state_files import write_part_predictions as write_part_predictions
from .pckh import heatmap_pck as heatmap_pck
from .pckh import pckh as pckh
from .pckh import pckh_groups as pckh_groups
from .pckh import pckh_per_joint as pckh_per_joint

__all__ = [
    "COCO_SIGMAS",
    "accuracy",
    "average_precision",
    "box_average_precision",
    "coco_box_ap",
    "cohen_kappa",
    "confusion_matrix",
    "f1_scores",
    "heatmap_pck",
    "keypoint_average_precision",
    "mean_average_precision",
    "oks",
    "part_state_correctness",
    "part_state_roc",
    "pckh",
    "pckh_groups",
    "pckh_per_joint",
    "plot_curves",
    "precision_recall_curve",
    "read_part_predictions",
    "roc_auc",
    "roc_curve",
    "wilson_interval",
    "write_part_predictions",
]
