"""Composable blocks, one idea of a paper each. They import torch, einops, timm and torchvision only."""

from .attention_mixture import WeightedAttentionMixture as WeightedAttentionMixture
from .attention_mixture import mixture_weights as mixture_weights
from .crop_resize import crop_resize as crop_resize
from .region_focus import RegionFocusedGenerator as RegionFocusedGenerator
from .region_focus import attention_map as attention_map
from .region_focus import chain_boxes as chain_boxes
from .region_focus import focus_boxes as focus_boxes
from .serialized_attention import SerializedAttention as SerializedAttention

__all__ = [
    "RegionFocusedGenerator",
    "SerializedAttention",
    "WeightedAttentionMixture",
    "attention_map",
    "chain_boxes",
    "crop_resize",
    "focus_boxes",
    "mixture_weights",
]
