"""The people of video frames and the feature pyramid that they were found on (instance-guided, section 3.1)."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList

from ._detectors import PERSON

__all__ = ["Instances", "People", "Pyramid", "View", "detect_instances", "pyramid_of", "select_levels"]


class People(NamedTuple):
    """The n people of one frame, the surest first."""

    boxes: Tensor
    """`(n, 4)` xyxy in pixels of the frame."""
    scores: Tensor
    """`(n,)` the detector's scores."""
    keypoints: Tensor
    """`(n, J, 3)` x, y in pixels of the frame, and a score in [0, 1]; J is 0 for a detector that finds no joints."""


class View(NamedTuple):
    """How frames became the network's pictures."""

    scale: tuple[float, float]
    """Network pixels per frame pixel, in x and y."""
    size: tuple[int, int]
    """`(H, W)` of the network's pictures with their padding."""

    def to_network(self, boxes: Tensor) -> Tensor:
        """`(..., 4)` xyxy boxes in pixels of the frame -> in pixels of the network's pictures, at least in float32."""
        # half precision rounds a pixel of a large picture
        dtype = torch.promote_types(boxes.dtype, torch.float32)
        return boxes * boxes.new_tensor(self.scale, dtype=dtype).repeat(2)


class Instances(NamedTuple):
    """The people of F frames, and the pyramid that they were found on."""

    people: list[People]
    """Of every frame."""
    maps: dict[str, Tensor]
    """`(F, C, h, w)` maps by the name of their level."""
    view: View


class Pyramid(NamedTuple):
    """What the heads of a detector take."""

    maps: dict[str, Tensor]
    """`(F, C, h, w)` maps by name."""
    pictures: Tensor
    """`(F, 3, H, W)` normalised, scaled and padded frames."""
    size: tuple[int, int]
    """`(H, W)` of the pictures without their padding."""
    view: View


def pyramid_of(detector: GeneralizedRCNN, frames: Tensor) -> Pyramid:
    """The detector's feature pyramid of frames (Eq. 1).

    Frames are made pictures all at once, with the values of the detector's own transform, which goes picture by
    picture and reads numbers from tensors: that cannot be compiled or exported.

    Args:
        detector: Any of torchvision's detectors with a pyramid, in eval mode.
        frames: `(F, 3, H, W)` in `[0, 1]`.

    Raises:
        ValueError: If the frames are not `(F, 3, H, W)`, or the detector is in training mode.
        TypeError: If the frames are not floating point.
    """
    if detector.training:
        raise ValueError(f"{type(detector).__name__} is in training mode, in which it gives losses; call .eval() first")
    if frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise ValueError(f"expected frames (F, 3, H, W), got shape {tuple(frames.shape)}")
    if not frames.is_floating_point():
        raise TypeError(f"expected frames in [0, 1], got {frames.dtype}; call .float() / 255 first")
    settings: Any = detector.transform
    mean, std = (frames.new_tensor(x)[:, None, None] for x in (settings.image_mean, settings.image_std))
    height, width = frames.shape[2:]
    if settings.fixed_size is None:
        scale = min(settings.min_size[-1] / min(height, width), settings.max_size / max(height, width))
        wanted: dict[str, Any] = {"scale_factor": scale, "recompute_scale_factor": True}
    else:
        # torchvision's is width and height
        wanted = {"size": tuple(settings.fixed_size)[::-1]}
    # without antialiasing, as torchvision's detectors scale
    pictures = F.interpolate((frames - mean) / std, mode="bilinear", **wanted)
    size = (pictures.shape[2], pictures.shape[3])
    bottom, right = (-side % settings.size_divisible for side in size)
    pictures = F.pad(pictures, (0, right, 0, bottom))
    view = View((size[1] / width, size[0] / height), (pictures.shape[2], pictures.shape[3]))
    return Pyramid(detector.backbone(pictures), pictures, size, view)


def select_levels(maps: Mapping[str, Tensor], levels: Sequence[str]) -> dict[str, Tensor]:
    """The maps of those names.

    Raises:
        ValueError: If there is none of a name.
    """
    if missing := [name for name in levels if name not in maps]:
        raise ValueError(f"the detector's pyramid has the maps {', '.join(maps)} and no {missing[0]!r}")
    return {name: maps[name] for name in levels}


@torch.no_grad()
def detect_instances(
    detector: GeneralizedRCNN,
    frames: Tensor,
    *,
    threshold: float = 0.5,
    levels: Sequence[str] = ("0", "1"),
    chunk: int = 8,
) -> Instances:
    """Find the people of frames, and keep the maps that they were found on.

    Args:
        detector: Any of torchvision's detectors with a feature pyramid, such as a `KeypointDetector`, in eval mode;
            people have label 1.
        frames: `(F, 3, H, W)` in `[0, 1]`.
        threshold: Least score of a person; the paper's is 0.5.
        levels: Names of the maps to keep. All four are P2 to P5.
        chunk: Frames that go through the detector at a time.

    Returns:
        People, maps and geometry. The score of a joint is the sigmoid of its heat map's logit.

    Raises:
        ValueError: If the frames are not `(F, 3, H, W)`, the detector is in training mode or has no such map, or
            `chunk` is below 1.
        TypeError: If the frames are not floating point, or of a precision that torchvision finds no boxes in.
    """
    if chunk < 1:
        raise ValueError(f"chunk is at least 1 frame, got {chunk}")
    if frames.dtype == torch.bfloat16 or (frames.dtype == torch.float16 and not frames.is_cuda):
        raise TypeError(f"torchvision suppresses no boxes in {frames.dtype}; find people in float32, or give boxes")
    people, kept, view = [], [], None
    # what is wrong is refused as a whole
    for part in frames.split(chunk) if frames.ndim == 4 and len(frames) else (frames,):
        maps, pictures, inner, view = pyramid_of(detector, part)
        kept.append(select_levels(maps, levels))
        sizes, size = [inner] * len(part), (part.shape[2], part.shape[3])
        proposals, _ = detector.rpn(ImageList(pictures, sizes), maps)
        found, _ = _surer_heads(detector.roi_heads, threshold)(maps, proposals, sizes)
        outputs: Any = detector.transform.postprocess(found, sizes, [size] * len(part))  # type: ignore[operator]
        people += [_people(output, threshold) for output in outputs]
    assert view is not None, "a split of frames has at least one part"
    return Instances(people, {name: torch.cat([maps[name] for maps in kept]) for name in levels}, view)


def _surer_heads(heads: Any, threshold: float) -> Any:
    """The detector's heads, which drop unsure boxes before their joints are looked for, as that costs most.

    The modules are shared, and the detector's own threshold stays as it is for whoever else uses it.
    """
    heads = copy.copy(heads)
    # torchvision keeps what is above its threshold, this library what reaches it: `_people` draws the exact line
    heads.score_thresh = max(heads.score_thresh, threshold - 0.01)
    return heads


def _people(found: dict[str, Tensor], threshold: float) -> People:
    """One frame of a detector's output: those who are people and sure enough."""
    keep = (found["labels"] == PERSON) & (found["scores"] >= threshold)
    keep = keep.nonzero()[:, 0][found["scores"][keep].argsort(descending=True, stable=True)]
    if "keypoints" in found:
        points, scores = found["keypoints"][keep][..., :2], found["keypoints_scores"][keep].sigmoid()
        keypoints = torch.cat([points, scores[..., None]], -1)
    else:
        keypoints = found["boxes"].new_zeros(len(keep), 0, 3)
    return People(found["boxes"][keep], found["scores"][keep], keypoints)
