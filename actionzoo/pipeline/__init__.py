"""Picture in, labelled action out: a model, its transform and its class names behind one call."""

from .build import pipeline as pipeline
from .build import whole_model as whole_model
from .image import ActionPipeline as ActionPipeline
from .people import PeoplePipeline as PeoplePipeline
from .persons import DetectionPipeline as DetectionPipeline
from .persons import PersonActionPipeline as PersonActionPipeline
from .result import ActionResult as ActionResult
from .result import Person as Person

__all__ = [
    "ActionPipeline",
    "ActionResult",
    "DetectionPipeline",
    "PeoplePipeline",
    "Person",
    "PersonActionPipeline",
    "pipeline",
    "whole_model",
]
