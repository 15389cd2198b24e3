"""How the models are trained: paper-specific steps as plain functions, recipes, and one short loop."""

from ..data.part_videos import figure_annotations as figure_annotations
from ..models.segments import PART_GROUPS as PART_GROUPS
from ..models.segments import Segment as Segment
from ..models.segments import SegmentLabel as SegmentLabel
from ..models.segments import SegmentLabeler as SegmentLabeler
from ..models.segments import segment_bounds as segment_bounds
from .convit import fit_in_stages as fit_in_stages
from .detection import DetectionTask as DetectionTask
from .evaluate import Evaluation as Evaluation
from .evaluate import evaluate as evaluate
from .evaluate_instances import InstanceEvaluation as InstanceEvaluation
from .evaluate_instances import evaluate_instances as evaluate_instances
from .evaluate_instances import video_scores as video_scores
from .evaluate_parts import PartEvaluation as PartEvaluation
from .evaluate_parts import evaluate_parts as evaluate_parts
from .evaluate_people import PeopleEvaluation as PeopleEvaluation
from .evaluate_people import evaluate_people as evaluate_people
from .fit import fit as fit
from .frame_people import FramePeopleTask as FramePeopleTask
from .fusion import fit_fusion_weights as fit_fusion_weights
from .human_branch import HumanBranchTask as HumanBranchTask
from .instance_features import ClipFeatures as ClipFeatures
from .instance_features import InstanceFeatures as InstanceFeatures
from .instance_features import cache_instances as cache_instances
from .instances import InstanceActionTask as InstanceActionTask
from .instances import instance_figures_task as instance_figures_task
from .instances import instance_loss as instance_loss
from .instances import instance_videos_task as instance_videos_task
from .keypoint_detection import KeypointDetectionTask as KeypointDetectionTask
from .keypoint_detection import keypoint_figures_task as keypoint_figures_task
from .part_detection import PartDetectionTask as PartDetectionTask
from .pcf import PCF_STAGES as PCF_STAGES
from .pcf import pcf_recipes as pcf_recipes
from .pcf import train_pcf as train_pcf
from .people import PeopleSplit as PeopleSplit
from .people import PeopleTask as PeopleTask
from .people import annotated_task as annotated_task
from .people import figures_task as figures_task
from .progressive import ProgressiveOutput as ProgressiveOutput
from .progressive import progressive_step as progressive_step
from .recipes import Recipe as Recipe
from .recipes import recipes as recipes
from .segment_clips import SegmentScore as SegmentScore
from .segment_clips import SegmentTask as SegmentTask
from .segment_clips import segment_loss as segment_loss
from .stages import freeze as freeze
from .stages import unfreeze as unfreeze
from .tasks import ImageTask as ImageTask
from .tasks import StepTools as StepTools
from .tasks import Task as Task
from .tasks import score_task as score_task

__all__ = [
    "PART_GROUPS",
    "PCF_STAGES",
    "ClipFeatures",
    "DetectionTask",
    "Evaluation",
    "FramePeopleTask",
    "HumanBranchTask",
    "ImageTask",
    "InstanceActionTask",
    "InstanceEvaluation",
    "InstanceFeatures",
    "KeypointDetectionTask",
    "PartDetectionTask",
    "PartEvaluation",
    "PeopleEvaluation",
    "PeopleSplit",
    "PeopleTask",
    "ProgressiveOutput",
    "Recipe",
    "Segment",
    "SegmentLabel",
    "SegmentLabeler",
    "SegmentScore",
    "SegmentTask",
    "StepTools",
    "Task",
    "annotated_task",
    "cache_instances",
    "evaluate",
    "evaluate_instances",
    "evaluate_parts",
    "evaluate_people",
    "figure_annotations",
    "figures_task",
    "fit",
    "fit_fusion_weights",
    "fit_in_stages",
    "freeze",
    "instance_figures_task",
    "instance_loss",
    "instance_videos_task",
    "keypoint_figures_task",
    "pcf_recipes",
    "progressive_step",
    "recipes",
    "score_task",
    "segment_bounds",
    "segment_loss",
    "train_pcf",
    "unfreeze",
    "video_scores",
]
