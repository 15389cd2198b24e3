"""Picture in, labelled action out: a model, its transform and its class names behind one call."""

from .build import pipeline as pipeline
from .build import whole_model as whole_model
from .image import ActionPipeline as ActionPipeline
from .people import PeoplePipeline as PeoplePipeline
from .result import ActionResult as ActionResult
from .result import Person as Person

__all__ = ["ActionPipeline", "ActionResult", "PeoplePipeline", "Person", "pipeline", "whole_model"]
