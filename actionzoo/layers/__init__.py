"""Composable blocks, one idea of a paper each. They import torch, einops, timm and torchvision only."""

from .attention_image import AttentionImageStream as AttentionImageStream
from .attention_mixture import WeightedAttentionMixture as WeightedAttentionMixture
from .attention_mixture import mixture_weights as mixture_weights
from .box_grower import BoxGrower as BoxGrower
from .box_grower import grow_boxes as grow_boxes
from .channel_bottleneck3d import ChannelBottleneck3D as ChannelBottleneck3D
from .crop_resize import crop_resize as crop_resize
from .csn import ChannelSeparatedBottleneck as ChannelSeparatedBottleneck
from .dilated_encoder import DilatedEncoder as DilatedEncoder
from .feature_map_vit import FeatureMapViT as FeatureMapViT
from .heatmaps import COCO_FLIP_PAIRS as COCO_FLIP_PAIRS
from .heatmaps import COCO_JOINTS as COCO_JOINTS
from .heatmaps import MPII_FLIP_PAIRS as MPII_FLIP_PAIRS
from .heatmaps import MPII_JOINTS as MPII_JOINTS
from .heatmaps import decode_heatmaps as decode_heatmaps
from .heatmaps import encode_heatmaps as encode_heatmaps
from .heatmaps import flip_heatmaps as flip_heatmaps
from .heatmaps import flip_joints as flip_joints
from .outermost_box import OutermostBoxPooler as OutermostBoxPooler
from .outermost_box import outermost_boxes as outermost_boxes
from .part_cropper import MPII_FALLBACK as MPII_FALLBACK
from .part_cropper import MPII_PARTS as MPII_PARTS
from .part_cropper import PartCropper as PartCropper
from .part_cropper import part_boxes as part_boxes
from .path_aggregation import PathAggregation as PathAggregation
from .pose_dots import COCO_JOINT_PARTS as COCO_JOINT_PARTS
from .pose_dots import MPII_JOINT_PARTS as MPII_JOINT_PARTS
from .pose_dots import POSE_DOT_COLORS as POSE_DOT_COLORS
from .pose_dots import PoseDotEncoder as PoseDotEncoder
from .region_focus import RegionFocusedGenerator as RegionFocusedGenerator
from .region_focus import attention_map as attention_map
from .region_focus import chain_boxes as chain_boxes
from .region_focus import focus_boxes as focus_boxes
from .serialized_attention import SerializedAttention as SerializedAttention
from .tahnet import TAHNet as TAHNet

__all__ = [
    "COCO_FLIP_PAIRS",
    "COCO_JOINTS",
    "COCO_JOINT_PARTS",
    "MPII_FALLBACK",
    "MPII_FLIP_PAIRS",
    "MPII_JOINTS",
    "MPII_JOINT_PARTS",
    "MPII_PARTS",
    "POSE_DOT_COLORS",
    "AttentionImageStream",
    "BoxGrower",
    "ChannelBottleneck3D",
    "ChannelSeparatedBottleneck",
    "DilatedEncoder",
    "FeatureMapViT",
    "OutermostBoxPooler",
    "PartCropper",
    "PathAggregation",
    "PoseDotEncoder",
    "RegionFocusedGenerator",
    "SerializedAttention",
    "TAHNet",
    "WeightedAttentionMixture",
    "attention_map",
    "chain_boxes",
    "crop_resize",
    "decode_heatmaps",
    "encode_heatmaps",
    "flip_heatmaps",
    "flip_joints",
    "focus_boxes",
    "grow_boxes",
    "mixture_weights",
    "outermost_boxes",
    "part_boxes",
]
