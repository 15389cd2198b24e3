"""Data on disk, its transforms and its labels."""

from .boxes import read_person_boxes as read_person_boxes
from .clip_sets import ActionClips as ActionClips
from .clip_sets import read_clips_folder as read_clips_folder
from .clip_sets import read_clips_table as read_clips_table
from .clips import ClipFrame as ClipFrame
from .clips import ClipInfo as ClipInfo
from .clips import clip_info as clip_info
from .clips import iter_frames as iter_frames
from .clips import read_clip as read_clip
from .clips import write_clip as write_clip
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
from .labelled_clips import ClipSource as ClipSource
from .labelled_clips import FigureClips as FigureClips
from .labelled_clips import FileClips as FileClips
from .labelled_clips import LabelledClip as LabelledClip
from .labels import DAR_4 as DAR_4
from .labels import PPMI_24 as PPMI_24
from .labels import PPMI_24_TO_12 as PPMI_24_TO_12
from .part_crops import PartCrops as PartCrops
from .part_crops import PersonCrop as PersonCrop
from .part_frames import PartFrames as PartFrames
from .part_pictures import PartCropTransform as PartCropTransform
from .part_pictures import PartPicture as PartPicture
from .part_videos import FigurePartVideos as FigurePartVideos
from .part_videos import FilePartVideos as FilePartVideos
from .part_videos import PartVideos as PartVideos
from .part_videos import figure_annotations as figure_annotations
from .part_videos import sample_frames as sample_frames
from .part_videos import true_people as true_people
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
    "ActionClips",
    "ActionImages",
    "ActionSamples",
    "ClipFrame",
    "ClipInfo",
    "ClipSource",
    "FigureClips",
    "FigurePartVideos",
    "FigurePeople",
    "FileClips",
    "FilePartVideos",
    "FolderPeople",
    "KeypointPeople",
    "LabelledClip",
    "PartCropTransform",
    "PartCrops",
    "PartFrames",
    "PartPicture",
    "PartVideos",
    "PeopleSource",
    "PersonCrop",
    "PersonExample",
    "PersonImages",
    "PersonInput",
    "TopDown",
    "apply_affine",
    "clip_info",
    "collate_figures",
    "crop_matrix",
    "crop_person",
    "denormalize",
    "eval_transform",
    "figure_annotations",
    "invert_affine",
    "iter_frames",
    "keep_person_crop",
    "load_image",
    "mix",
    "read_clip",
    "read_clips_folder",
    "read_clips_table",
    "read_coco_keypoints",
    "read_keypoints",
    "read_mpii",
    "read_person_boxes",
    "read_samples",
    "sample_frames",
    "train_transform",
    "true_people",
    "write_clip",
]
