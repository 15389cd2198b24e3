"""Full systems of the papers, one file per system. Importing this package registers them."""

from .backbones import PlainClassifier as PlainClassifier
from .bodypart import BodyPartNet as BodyPartNet
from .bodypart import BodyPartOutput as BodyPartOutput
from .convit_har import ConViTHAR as ConViTHAR
from .convit_har import ViTPair as ViTPair
from .pose_hrnet import HRNetTrunk as HRNetTrunk
from .pose_hrnet import PoseHRNet as PoseHRNet
from .prfnet import FocusOutput as FocusOutput
from .prfnet import PRFNet as PRFNet
from .prfnet import StageOutput as StageOutput

__all__ = [
    "BodyPartNet",
    "BodyPartOutput",
    "ConViTHAR",
    "FocusOutput",
    "HRNetTrunk",
    "PRFNet",
    "PlainClassifier",
    "PoseHRNet",
    "StageOutput",
    "ViTPair",
]
