"""People linked through the frames of a clip: by their keypoints, or by the overlap of their boxes."""

from .box_overlap import link_boxes as link_boxes
from .keypoints import KeypointTracker as KeypointTracker
from .keypoints import link_keypoints as link_keypoints
from .tracks import Tracks as Tracks
from .tracks import collect_tracks as collect_tracks

__all__ = ["KeypointTracker", "Tracks", "collect_tracks", "link_boxes", "link_keypoints"]
