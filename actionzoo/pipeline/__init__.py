"""Picture or clip in, labelled action out: a model, its transform and its class names behind one call."""

from .build import pipeline as pipeline
from .build import whole_model as whole_model
from .clip_result import ClipResult as ClipResult
from .clip_result import TrackedPerson as TrackedPerson
from .clip_window import ClipWindow as ClipWindow
from .clip_window import TrackAction as TrackAction
from .clips import ClipActionPipeline as ClipActionPipeline
from .image import ActionPipeline as ActionPipeline
from .part_result import PartParsingResult as PartParsingResult
from .part_result import save_predictions as save_predictions
from .part_segment import PartSegment as PartSegment
from .parts import PartParsingPipeline as PartParsingPipeline
from .people import PeoplePipeline as PeoplePipeline
from .persons import DetectionPipeline as DetectionPipeline
from .persons import PersonActionPipeline as PersonActionPipeline
from .result import ActionResult as ActionResult
from .result import Person as Person

__all__ = [
    "ActionPipeline",
    "ActionResult",
    "ClipActionPipeline",
    "ClipResult",
    "ClipWindow",
    "DetectionPipeline",
    "PartParsingPipeline",
    "PartParsingResult",
    "PartSegment",
    "PeoplePipeline",
    "Person",
    "PersonActionPipeline",
    "TrackAction",
    "TrackedPerson",
    "pipeline",
    "save_predictions",
    "whole_model",
]
