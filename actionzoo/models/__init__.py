"""Full systems of the papers, one file per system. Importing this package registers them."""

from .backbones import PlainClassifier as PlainClassifier
from .prfnet import FocusOutput as FocusOutput
from .prfnet import PRFNet as PRFNet
from .prfnet import StageOutput as StageOutput

__all__ = ["FocusOutput", "PRFNet", "PlainClassifier", "StageOutput"]
