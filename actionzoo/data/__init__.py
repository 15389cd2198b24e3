"""Data on disk, its transforms and its labels."""

from .boxes import read_person_boxes as read_person_boxes
from .figures import ActingFigures as ActingFigures
from .figures import FigurePeople as FigurePeople
from .figures import collate_figures as collate_figures
from .folders import ActionImages as ActionImages
from .folders import ActionSamples as ActionSamples
from .folders import load_image as load_image
from .folders import read_samples as read_samples
from .keypoints import KeypointPeople as KeypointPeople
from .keypoints import read_coco_keypoints as read_coco_keypoints
from .keypoints import read_keypoints as read_keypoints
from .keypoints import read_mpii as read_mpii
from .labels import DAR_4 as DAR_4
from .labels import PPMI_24 as PPMI_24
from .labels import PPMI_24_TO_12 as PPMI_24_TO_12
from .people import FolderPeople as FolderPeople
from .people import PeopleSource as PeopleSource
from .people import PersonExample as PersonExample
from .top_down import PersonImages as PersonImages
from .top_down import PersonInput as PersonInput
from .top_down import TopDown as TopDown
from .top_down import apply_affine as apply_affine
from .top_down import crop_matrix as crop_matrix
from .top_down import crop_person as crop_person
from .top_down import invert_affine as invert_affine
from .top_down import mix as mix
from .transforms import denormalize as denormalize
from .transforms import eval_transform as eval_transform
from .transforms import keep_person_crop as keep_person_crop
from .transforms import train_transform as train_transform

__all__ = [
    "DAR_4",
    "PPMI_24",
    "PPMI_24_TO_12",
    "ActingFigures",
    "ActionImages",
    "ActionSamples",
    "FigurePeople",
    "FolderPeople",
    "KeypointPeople",
    "PeopleSource",
    "PersonExample",
    "PersonImages",
    "PersonInput",
    "TopDown",
    "apply_affine",
    "collate_figures",
    "crop_matrix",
    "crop_person",
    "denormalize",
    "eval_transform",
    "invert_affine",
    "keep_person_crop",
    "load_image",
    "mix",
    "read_coco_keypoints",
    "read_keypoints",
    "read_mpii",
    "read_person_boxes",
    "read_samples",
    "train_transform",
]
