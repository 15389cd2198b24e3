"""Who does what in a clip: a frozen detector, a tracker, outermost-box pooling and a temporal action head.

Paper: "An efficient human instance-guided framework for video action recognition" (section 3, Fig. 1).
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from ..layers import OutermostBoxPooler, TAHNet, outermost_boxes
from ..registry import create, register_model
from ..tracking import Tracks, collect_tracks, link_keypoints
from ..weights import HubMixin, WeightsInfo
from ._followed import Followed, found_people, given_people
from .instances import Instances, People, View, detect_instances, pyramid_of, select_levels
from .tahnet import TAHNET_VARIANTS

__all__ = [
    "InstanceActionNet",
    "InstanceActionOutput",
    "instance_action_tahnet_v1",
    "instance_action_tahnet_v2",
    "instance_action_tahnet_v3",
    "instance_action_tahnet_v4",
    "instance_action_tiny",
]


class InstanceActionOutput(NamedTuple):
    """What N tracked people of a batch of clips do."""

    logits: Tensor
    """`(N, K)`; softmax over K is Eqs 12 and 14."""
    clip_index: Tensor
    """`(N,)` int64, the clip of each person."""
    track_ids: Tensor
    """`(N,)` int64, unique within a clip."""
    boxes: Tensor
    """`(N, T, 4)` xyxy in pixels of the clips, zeros where a person is missing."""
    valid: Tensor
    """`(N, T)` bool, the frames in which a person was found."""
    windows: Tensor
    """`(N, 4)` outermost boxes in pixels of the clips (Eq. 6)."""
    detection: Tensor
    """`(N,)` the detector's mean score of a person; 1 for people who were given."""


class InstanceActionNet(HubMixin, nn.Module):
    """Human instance-guided action recognition: one action per tracked person (section 3, Fig. 1).

    The detector is frozen (section 4.2): it stays in eval mode whoever calls `train()`, its parameters ask for no
    gradient, and none flows through it. Any of torchvision's detectors with a feature pyramid of the same channels
    and strides can take its place, and is frozen then: `model.detector = ...`.
    """

    def __init__(
        self,
        *,
        num_classes: int = 60,
        detector: str = "keypointrcnn_resnet50_fpn",
        detector_args: dict[str, Any] | None = None,
        head: dict[str, Any] | None = None,
        mode: Literal["outermost", "basic"] = "outermost",
        levels: Sequence[str] = ("0", "1", "2", "3"),
        strides: Sequence[int] | None = None,
        out_size: int = 14,
        frames: int = 8,
        stride: int = 4,
        threshold: float = 0.5,
        in_chans: int = 3,
        input_size: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Build the network with random weights.

        Args:
            num_classes: Classes K.
            detector: Name of a detector of this library with a feature pyramid.
            detector_args: Its arguments, such as `min_size`.
            head: Arguments of `TAHNet`; those of TAHNet-v1 if None.
            mode: Pooling of a person's features: `"outermost"` or `"basic"` boxes, see `OutermostBoxPooler`.
            levels: Names of the pyramid's maps to pool from, the finest first: `"0"` to `"3"` are P2 to P5.
            strides: Pixels per cell of these maps; None is 4, 8, 16, 32.
            out_size: Side of the pooled maps in cells.
            frames: Frames T of a clip, 8 or 16 in the paper. Pooled features of a shorter clip are padded with zeros.
            stride: Step between the frames of a clip in frames of the video, for who samples clips; a decision, as
                the paper names none.
            threshold: Least score of a detected person.
            in_chans: Channels of the frames, which the detector wants to be 3.
            input_size: `(3, T, H, W)` that the configuration is meant for; any size works.

        Raises:
            ValueError: If a setting is unknown or out of range, or the detector is no R-CNN.
        """
        super().__init__()
        if min(frames, stride) < 1 or not 0 <= threshold <= 1:
            raise ValueError(
                f"frames and stride are at least 1 and threshold lies in [0, 1], got {frames}, {stride} and {threshold}"
            )
        self.detector: Any = create(detector, **{"in_chans": in_chans, **(detector_args or {})})
        self.pooler = OutermostBoxPooler(out_size, mode, levels, strides)
        channels = self.detector.backbone.out_channels
        self.head = TAHNet(
            num_classes=num_classes,
            in_chans=channels,
            input_size=(channels, frames, out_size, out_size),
            **{k: v for k, v in (TAHNET_VARIANTS["v1"] if head is None else head).items() if k != "input_size"},
        )
        self.in_chans, self.frames, self.stride, self.threshold = in_chans, frames, stride, threshold
        height, width = self.detector.pretrained_cfg["input_size"][1:]
        self.pretrained_cfg = self.default_cfg = {
            "input_size": input_size or (3, frames, height, width),
            "num_classes": num_classes,
            "classifier": "head.classifier",
            # the detector subtracts its mean itself
            "mean": (0.0, 0.0, 0.0),
            "std": (1.0, 1.0, 1.0),
            "frames": frames,
            "stride": stride,
        }

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "detector" and isinstance(value, nn.Module):
            self._check_detector(value)
            value.requires_grad_(False).eval()
        super().__setattr__(name, value)
        config = self.__dict__.get("pretrained_cfg")
        # what is set later is saved, too
        if config is not None and name in ("stride", "threshold"):
            config["model_args"] = {**config.get("model_args", {}), name: value}
        elif config is not None and name == "detector":
            config["model_args"] = {**config.get("model_args", {}), **_origin(value)}

    def _check_detector(self, detector: nn.Module) -> None:
        """Refuse a detector without a pyramid, or one whose maps the head does not take.

        Raises:
            ValueError: If it is such.
        """
        kind, channels = type(detector).__name__, getattr(getattr(detector, "backbone", None), "out_channels", None)
        if not isinstance(detector, GeneralizedRCNN) or channels is None:
            raise ValueError(f"{kind} is no R-CNN with a feature pyramid; expected a keypointrcnn_* or person_* model")
        wanted = self.head.in_chans if "head" in self._modules else channels
        if channels != wanted:
            raise ValueError(f"the maps of this {kind} have {channels} channels, and the head takes {wanted}")

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """As every model's; a detector from elsewhere cannot be named in a file, so that saving is refused.

        Raises:
            ValueError: If the detector was not built by `create`.
        """
        if "detector" in self.pretrained_cfg.get("model_args", {}) and not _origin(self.detector)["detector"]:
            raise ValueError(
                f"this model's detector, a {type(self.detector).__name__}, was not built by actionzoo.create, so that "
                "what is saved could not be built again; save the state dict of model.head instead"
            )
        return super().save_pretrained(*args, **kwargs)

    @property
    def num_classes(self) -> int:
        """Classes K of the classifier; 0 without one."""
        return self.head.num_classes

    @property
    def num_features(self) -> int:
        """Channels of the head's last map."""
        return self.head.num_features

    @property
    def head_hidden_size(self) -> int:
        """Width of what the classifier takes."""
        return self.head.head_hidden_size

    @property
    def classifier_names(self) -> tuple[str, ...]:
        """Dotted name of the linear classifier."""
        return ("head.classifier",)

    def get_classifier(self) -> nn.Module:
        """The linear classifier."""
        return self.head.get_classifier()

    def reset_classifier(self, num_classes: int) -> None:
        """Give the head a fresh classifier of `num_classes` rows, as for N-UCLA after NTU; 0 removes it."""
        self.head.reset_classifier(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the head's convolutions in the backward pass: less memory, more time."""
        self.head.set_grad_checkpointing(enable)

    def train(self, mode: bool = True) -> "InstanceActionNet":
        """Put the head in training mode; the detector stays in eval mode."""
        super().train(mode)
        self.detector.eval()
        return self

    def detect(self, frames: Tensor, threshold: float | None = None) -> Instances:
        """Find the people of frames, and keep the maps to pool from (section 3.1).

        Args:
            frames: `(F, 3, H, W)` in `[0, 1]`.
            threshold: Least score of a person; the model's if None.

        Raises:
            ValueError: If the frames are not `(F, 3, H, W)`, or the detector lacks a map.
            TypeError: If they are not floating point, or of a precision that torchvision finds no boxes in.
        """
        threshold = self.threshold if threshold is None else threshold
        return detect_instances(self.detector, frames, threshold=threshold, levels=self.pooler.levels)

    def link(self, people: Sequence[People]) -> Tracks:
        """Follow the people of a clip's frames by their keypoints (section 3.1.3, Eq. 3).

        Raises:
            ImportError: If scipy is missing (`pip install "actionzoo[video]"`).
        """
        ids = link_keypoints([frame.keypoints for frame in people], [frame.boxes for frame in people])
        return collect_tracks(ids, [frame.boxes for frame in people])

    def pool(self, maps: dict[str, Tensor], boxes: Tensor, valid: Tensor, clip_index: Tensor, view: View) -> Tensor:
        """Features of tracked people (Eqs 6-9), padded with zeros to the head's frames where the clip is shorter.

        Args:
            maps: `(B, T, C, h, w)` maps by the name of their level.
            boxes: `(N, T, 4)` xyxy in pixels of the clips.
            valid: `(N, T)` bool, the frames in which a person was found.
            clip_index: `(N,)` the clip of each person.
            view: How the frames became the network's pictures.

        Returns:
            `(N, C, T, R, R)`, at least `frames` long, in the head's dtype.
        """
        pooled, _ = self.pooler(maps, view.to_network(boxes), valid, clip_index, view.size)
        pooled = pooled.to(next(self.head.parameters()).dtype)
        # zeros of features and not black pictures, which would have features of their own
        return F.pad(pooled, (0, 0, 0, 0, 0, max(self.frames - pooled.shape[2], 0)))

    def forward_features(
        self,
        clips: Tensor,
        boxes: Tensor | None = None,
        valid: Tensor | None = None,
        clip_index: Tensor | None = None,
    ) -> Tensor:
        """The head's last map of everybody: as `forward`, `(N, D, T, h, w)`."""
        return self.head.forward_features(self._pooled(clips, boxes, valid, clip_index)[0])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The head's last map -> `(N, K)` logits, or what the classifier takes. `head(x)` takes pooled features."""
        return self.head.forward_head(x, pre_logits)

    def forward(
        self,
        clips: Tensor | None = None,
        boxes: Tensor | None = None,
        valid: Tensor | None = None,
        clip_index: Tensor | None = None,
        *,
        features: Tensor | None = None,
    ) -> Any:
        """Say what everybody in a batch of clips does.

        Args:
            clips: `(B, 3, T, H, W)` in `[0, 1]`.
            boxes: `(N, T, 4)` xyxy boxes of people who are tracked already, in pixels; nobody is detected then. The
                detector and the tracker find them if None.
            valid: `(N, T)` bool, the frames in which they were found; all if None.
            clip_index: `(N,)` the clip of each of them; may be left out for one person per clip.
            features: Instead of all these, `(N, C, T, R, R)` features that were pooled before. The head is trained so,
                through `forward`, which alone a wrapper for several devices sees.

        Returns:
            An `InstanceActionOutput`, whose N is 0 where nobody is found; of pooled features the `(N, K)` logits.

        Raises:
            ValueError: If a shape is wrong, not one of clips and features is given, or boxes come with features.
            TypeError: If a dtype is wrong.
        """
        if features is not None and all(x is None for x in (clips, boxes, valid, clip_index)):
            return self.head(features)
        if features is not None or clips is None:
            raise ValueError("InstanceActionNet takes either clips or features that were pooled before")
        x, (clip_index, ids, boxes, valid, scores) = self._pooled(clips, boxes, valid, clip_index)
        return InstanceActionOutput(self.head(x), clip_index, ids, boxes, valid, outermost_boxes(boxes, valid), scores)

    def _pooled(
        self, clips: Tensor, boxes: Tensor | None, valid: Tensor | None, clip_index: Tensor | None
    ) -> tuple[Tensor, Followed]:
        """Pooled features of everybody, and who they are."""
        if clips.ndim != 5 or clips.shape[1] != self.in_chans or 0 in clips.shape:
            raise ValueError(
                f"InstanceActionNet expects clips (B, {self.in_chans}, T, H, W) in [0, 1], got shape "
                f"{tuple(clips.shape)}; give a single clip a batch dimension with [None]"
            )
        count, length = clips.shape[0], clips.shape[2]
        frames = clips.transpose(1, 2).flatten(0, 1)
        if boxes is None:
            if valid is not None or clip_index is not None:
                raise ValueError("valid and clip_index say something of boxes, which are not given")
            found = self.detect(frames)
            maps, view = found.maps, found.view
            people = [found.people[i : i + length] for i in range(0, len(found.people), length)]
            followed = found_people([self.link(frames) for frames in people], people)
        else:
            # no gradient is ever asked of the detector
            with torch.no_grad():
                pyramid = pyramid_of(self.detector, frames)
            view = pyramid.view
            maps = select_levels(pyramid.maps, self.pooler.levels)
            followed = given_people(boxes, valid, clip_index, clips)
        maps = {name: x.unflatten(0, (count, length)) for name, x in maps.items()}
        return self.pool(maps, followed.boxes, followed.valid, followed.clip_index, view), followed


def _origin(detector: Any) -> dict[str, Any]:
    """The arguments with which a network gets such a detector; its name is None if `create` did not build it."""
    config = getattr(detector, "pretrained_cfg", {})
    return {"detector": config.get("architecture"), "detector_args": dict(config.get("model_args", {}))}


_TASK = "per-person video action recognition"
_PAPER = "An efficient human instance-guided framework for video action recognition"
_COCO = WeightsInfo(
    covers="backbone",
    source="torchvision",
    location="KeypointRCNN_ResNet50_FPN_Weights.COCO_V1",
    tag="coco_v1",
    prefix="detector.",
    data="COCO keypoints",
)


def _example(frames: int, height: int, width: int) -> Any:
    """Clips with one person each, who moves from left to right."""

    def inputs(batch: int) -> tuple[Tensor, Tensor]:
        clips = torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(0))
        box = torch.tensor([0.2 * width, 0.2 * height, 0.5 * width, 0.8 * height])
        way = torch.linspace(0, 0.3 * width, frames)[:, None] * torch.tensor([1.0, 0.0, 1.0, 0.0])
        return clips, (box + way).expand(batch, -1, -1).contiguous()

    return inputs


_ENTRY: dict[str, Any] = {
    "task": _TASK,
    "paper": _PAPER,
    "num_classes": 60,
    "config": {"classifier": "head.classifier", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
}
_FULL: dict[str, Any] = {
    **_ENTRY, "input_size": (3, 8, 720, 1280), "weights": (_COCO,), "example_inputs": _example(8, 720, 1280)
}  # fmt: skip


@register_model(**_FULL, aliases=("instance_action",), params=177_603_622, macs=1_185_962_192_896)
def instance_action_tahnet_v1(**kwargs: Any) -> InstanceActionNet:
    """Keypoint R-CNN, keypoint tracker, outermost boxes on P2 to P5, TAHNet-v1."""
    return InstanceActionNet(**{"head": TAHNET_VARIANTS["v1"], **kwargs})


@register_model(**_FULL, params=149_290_022, macs=1_141_569_679_360)
def instance_action_tahnet_v2(**kwargs: Any) -> InstanceActionNet:
    """The same with TAHNet-v2."""
    return InstanceActionNet(**{"head": TAHNET_VARIANTS["v2"], **kwargs})


@register_model(**_FULL, params=82_052_774, macs=1_066_088_394_752)
def instance_action_tahnet_v3(**kwargs: Any) -> InstanceActionNet:
    """The same with TAHNet-v3 on P2 and P3."""
    return InstanceActionNet(**{"head": TAHNET_VARIANTS["v3"], "levels": ("0", "1"), **kwargs})


@register_model(**_FULL, params=75_573_030, macs=1_046_149_101_568)
def instance_action_tahnet_v4(**kwargs: Any) -> InstanceActionNet:
    """The same with TAHNet-v4 on 28x28 cells of P2 and P3."""
    return InstanceActionNet(**{"head": TAHNET_VARIANTS["v4"], "levels": ("0", "1"), "out_size": 28, **kwargs})


@register_model(
    **_ENTRY,
    input_size=(3, 8, 160, 160),
    example_inputs=_example(8, 160, 160),
    params=2_119_333,
    macs=3_021_833_984,
)
def instance_action_tiny(**kwargs: Any) -> InstanceActionNet:
    """A small keypoint R-CNN and a small TAHNet: trains on a CPU."""
    settings: dict[str, Any] = {
        "detector": "keypointrcnn_tiny",
        "head": {"bottleneck": (96, 48, 32), "depth": 3, "width": 48, "hidden": 64},
        "levels": ("0", "1"),
        "stride": 2,
    }
    return InstanceActionNet(**{**settings, **kwargs})
