"""Full systems of the papers, one file per system. Importing this package registers them."""

from .backbones import PlainClassifier as PlainClassifier
from .bodypart import BodyPartNet as BodyPartNet
from .bodypart import BodyPartOutput as BodyPartOutput
from .convit_har import ConViTHAR as ConViTHAR
from .convit_har import ViTPair as ViTPair
from .convit_har_person import FUSION_WEIGHTS as FUSION_WEIGHTS
from .convit_har_person import ConViTHARPerson as ConViTHARPerson
from .convit_har_person import PersonOutput as PersonOutput
from .convit_har_person import fuse_scores as fuse_scores
from .csn import CSN as CSN
from .csn import csn_state_dict as csn_state_dict
from .human_branch import HumanBranch as HumanBranch
from .instance_action import InstanceActionNet as InstanceActionNet
from .instance_action import InstanceActionOutput as InstanceActionOutput
from .instances import Instances as Instances
from .instances import People as People
from .instances import View as View
from .instances import detect_instances as detect_instances
from .keypoint_detector import KeypointDetector as KeypointDetector
from .parsed_video import ParsedSegment as ParsedSegment
from .parsed_video import ParsedVideo as ParsedVideo
from .parsed_video import PartState as PartState
from .part_people import PartPeople as PartPeople
from .part_people import pose_keypoints as pose_keypoints
from .pcf import PCF as PCF
from .pcf import PCFOutput as PCFOutput
from .person_detector import PersonDetector as PersonDetector
from .person_detector import associate_boxes as associate_boxes
from .pose_hrnet import HRNetTrunk as HRNetTrunk
from .pose_hrnet import PoseHRNet as PoseHRNet
from .prfnet import FocusOutput as FocusOutput
from .prfnet import PRFNet as PRFNet
from .prfnet import StageOutput as StageOutput
from .segments import SegmentLabeler as SegmentLabeler
from .tahnet import TAHNET_TABLE7 as TAHNET_TABLE7
from .tahnet import TAHNET_VARIANTS as TAHNET_VARIANTS
from .tahnet import TAHNetClassifier as TAHNetClassifier
from .yolof import YOLOF as YOLOF
from .yolof_head import UniformMatch as UniformMatch
from .yolof_head import uniform_match as uniform_match

__all__ = [
    "CSN",
    "FUSION_WEIGHTS",
    "PCF",
    "TAHNET_TABLE7",
    "TAHNET_VARIANTS",
    "YOLOF",
    "BodyPartNet",
    "BodyPartOutput",
    "ConViTHAR",
    "ConViTHARPerson",
    "FocusOutput",
    "HRNetTrunk",
    "HumanBranch",
    "InstanceActionNet",
    "InstanceActionOutput",
    "Instances",
    "KeypointDetector",
    "PCFOutput",
    "PRFNet",
    "ParsedSegment",
    "ParsedVideo",
    "PartPeople",
    "PartState",
    "People",
    "PersonDetector",
    "PersonOutput",
    "PlainClassifier",
    "PoseHRNet",
    "SegmentLabeler",
    "StageOutput",
    "TAHNetClassifier",
    "UniformMatch",
    "ViTPair",
    "View",
    "associate_boxes",
    "csn_state_dict",
    "detect_instances",
    "fuse_scores",
    "pose_keypoints",
    "uniform_match",
]
