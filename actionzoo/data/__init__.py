"""Data on disk, its transforms and its labels."""

from .folders import ActionImages as ActionImages
from .folders import ActionSamples as ActionSamples
from .folders import load_image as load_image
from .folders import read_samples as read_samples
from .labels import DAR_4 as DAR_4
from .labels import PPMI_24 as PPMI_24
from .labels import PPMI_24_TO_12 as PPMI_24_TO_12
from .transforms import denormalize as denormalize
from .transforms import eval_transform as eval_transform
from .transforms import train_transform as train_transform

__all__ = [
    "DAR_4",
    "PPMI_24",
    "PPMI_24_TO_12",
    "ActionImages",
    "ActionSamples",
    "denormalize",
    "eval_transform",
    "load_image",
    "read_samples",
    "train_transform",
]
