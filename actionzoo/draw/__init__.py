"""Predictions on pictures: boxes, score bars, focus regions, heat maps and keypoints, with Pillow alone.

Every function returns a new RGB picture and leaves its input untouched. Pictures may be Pillow images,
paths, or uint8 tensors (3, H, W); a normalised float tensor goes through `to_image` first. The colours
are those of Okabe and Ito (2008), which colour-blind readers can tell apart. Pillow's built-in font knows
unaccented Latin letters only; give `font`, a TrueType file, for other scripts.
"""

from .canvas import PALETTE as PALETTE
from .figures import contact_sheet as contact_sheet
from .layout import grid as grid
from .layout import stack as stack
from .overlays import boxes as boxes
from .overlays import heat_map as heat_map
from .panels import focus_chain as focus_chain
from .panels import score_bars as score_bars
from .parts import body_parts as body_parts
from .parts import part_panel as part_panel
from .picture import to_image as to_image
from .skeletons import COCO_SKELETON as COCO_SKELETON
from .skeletons import MPII_SKELETON as MPII_SKELETON
from .skeletons import Skeleton as Skeleton
from .skeletons import keypoints as keypoints
from .skeletons import skeleton_of as skeleton_of
from .tracks import tracked_people as tracked_people

__all__ = [
    "COCO_SKELETON",
    "MPII_SKELETON",
    "PALETTE",
    "Skeleton",
    "body_parts",
    "boxes",
    "contact_sheet",
    "focus_chain",
    "grid",
    "heat_map",
    "keypoints",
    "part_panel",
    "score_bars",
    "skeleton_of",
    "stack",
    "to_image",
    "tracked_people",
]
