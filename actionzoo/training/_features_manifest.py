"""What pooled features of clips were made with, written beside them, so that others are not taken for them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from .._checkpoint import atomic_path, describe
from ..models import InstanceActionNet

MANIFEST = "manifest.json"

_CODER = ("weights", "bbox_xform_clip")
_POOL = ("featmap_names", "output_size", "sampling_ratio", "canonical_scale", "canonical_level")
# what a detector's people and maps depend on besides its tensors and its arguments
_SETTINGS = {
    "transform": (
        "min_size", "max_size", "image_mean", "image_std", "size_divisible", "fixed_size", "_skip_resize"
    ),
    "rpn": ("nms_thresh", "score_thresh", "min_size", "_pre_nms_top_n", "_post_nms_top_n"),
    "rpn.anchor_generator": ("sizes", "aspect_ratios"),
    "rpn.box_coder": _CODER,
    "roi_heads": ("score_thresh", "nms_thresh", "detections_per_img"),
    "roi_heads.box_coder": _CODER,
    "roi_heads.box_roi_pool": _POOL,
    "roi_heads.keypoint_roi_pool": _POOL,
}  # fmt: skip


def describe_features(model: InstanceActionNet) -> dict[str, Any]:
    """What features depend on: the detector's tensors and settings, and how people are pooled."""
    digest, detector = hashlib.sha256(), model.detector
    for name, value in sorted(detector.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    found: dict[str, Any] = {}
    for part, names in _SETTINGS.items():
        module: Any = detector
        for name in part.split("."):
            module = getattr(module, name, None)
        found[part] = {name: getattr(module, name, None) for name in names}
    pooler = {name: getattr(model.pooler, name) for name in (
        "out_size", "mode", "levels", "strides", "canonical_scale", "canonical_level", "sampling_ratio"
    )}  # fmt: skip
    return {
        "detector": f"{type(detector).__name__} {digest.hexdigest()}",
        "detector_args": describe(detector)["model_args"],
        "settings": found,
        "threshold": model.threshold,
        "pooler": pooler,
        "version": describe(detector)["version"],
    }


def check_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write what the features are made with, or refuse a folder that was made otherwise."""
    path, facts = folder / MANIFEST, json.loads(json.dumps(facts, default=str))
    # looked for first: another process that begins just now writes its manifest before its files
    files = any(folder.glob("*.safetensors"))
    if not path.exists():
        if files:
            raise ValueError(f"{folder} holds files of something else, as it has no {MANIFEST}; choose another folder")
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete {folder} or choose another folder") from error
    other = sorted(key for key in facts if before.get(key) != facts[key])
    if other:
        said = "; ".join(f"{key} was {before.get(key)}, is {facts[key]}" for key in other)
        raise ValueError(f"the features in {folder} are stale: {said}. Delete the folder or choose another")
