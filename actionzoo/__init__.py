"""Human action recognition in PyTorch: layers, models, training and scoring of five papers."""

from . import models as models
from .optimize import optimize_for_inference as optimize_for_inference
from .pipeline import pipeline as pipeline
from .registry import create as create
from .registry import create_model as create_model
from .registry import list_models as list_models
from .registry import list_weights as list_weights
from .registry import model_info as model_info
from .registry import register_model as register_model

__version__ = "0.1.0"
__all__ = [
    "create",
    "create_model",
    "list_models",
    "list_weights",
    "model_info",
    "optimize_for_inference",
    "pipeline",
    "register_model",
]
