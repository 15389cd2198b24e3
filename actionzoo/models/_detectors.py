"""What the detectors have in common: a backbone that gives maps, and checks, as torchvision asserts or learns NaN."""

from collections import OrderedDict
from collections.abc import Sequence
from inspect import signature
from typing import Any

import timm
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from ._maps import select_maps

PERSON = 1
"""Label of a person, as in COCO and torchvision; 0 is the background."""


class MapTrunk(nn.Module):
    """A timm backbone of which a neck takes some maps; a detector's `backbone` begins with it."""

    def __init__(
        self, trunk: str, trunk_args: dict[str, Any], out_indices: Sequence[int] | None, out_channels: int
    ) -> None:
        """Build the backbone with random weights, without what comes after the last map taken.

        Args:
            trunk: Name of a timm model that has `forward_intermediates`.
            trunk_args: Its further arguments.
            out_indices: Which of its maps are taken, the finest first; the last four if None.
            out_channels: Channels of the maps that the neck will give.

        Raises:
            ValueError: If it gives no such maps.
        """
        super().__init__()
        # the attributes of a timm model are not declared, so it is typed loosely
        self.trunk: Any = timm.create_model(trunk, num_classes=0, **trunk_args)
        self.out_indices = select_maps(self.trunk, trunk, 4, out_indices)
        info = [self.trunk.feature_info[i] for i in self.out_indices]
        self.channels, self.strides = ([one[key] for one in info] for key in ("num_chs", "reduction"))
        self.trunk.prune_intermediate_layers(list(self.out_indices), prune_norm=True, prune_head=True)
        self.out_channels = out_channels
        self.levels = [str(i) for i in range(len(info))]

    def maps(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """`(B, 3, H, W)` -> the backbone's own maps by level, the finest first."""
        found = self.trunk.forward_intermediates(
            images, indices=list(self.out_indices), stop_early=True, intermediates_only=True
        )
        return OrderedDict(zip(self.levels, found))


def check_settings(kind: type[nn.Module], settings: dict[str, Any], in_chans: int) -> None:
    """Refuse settings that torchvision's detectors do not have.

    Their transform takes any keyword and looks at those it knows, so that a misspelled one would be lost.

    Args:
        kind: The detector's class, a subclass of one of torchvision's.
        settings: Keywords for torchvision.
        in_chans: Channels of the pictures.

    Raises:
        TypeError: If there is no such setting.
        ValueError: If there are not 3 channels.
    """
    check_channels(kind, in_chans)
    theirs = next(base for base in kind.__mro__ if base.__module__.startswith("torchvision."))
    known = {name for part in (theirs, FasterRCNN, GeneralizedRCNNTransform) for name in signature(part).parameters}
    if unknown := sorted(settings.keys() - known):
        raise TypeError(f"torchvision's {theirs.__name__} has no setting {unknown[0]!r}")


def check_channels(kind: type[nn.Module], in_chans: int) -> None:
    """Refuse pictures that have not 3 channels, which torchvision's transform normalises.

    Raises:
        ValueError: If they have not.
    """
    if in_chans != 3:
        raise ValueError(f"{kind.__name__} takes pictures of 3 channels, got in_chans={in_chans}")


def check_pictures(name: str, images: Sequence[Tensor] | Tensor) -> None:
    """Refuse no picture at all, or one that is not `(3, H, W)`.

    Raises:
        ValueError: If there is such.
    """
    if not len(images):
        raise ValueError(f"{name} expects at least one picture (3, H, W), got none")
    for image in images:
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"{name} expects pictures (3, H, W) in a list, or (B, 3, H, W), got {tuple(image.shape)}")


def check_targets(targets: Sequence[dict[str, Tensor]] | None, count: int, classes: int = 1) -> None:
    """Refuse targets from which torchvision would learn NaN, or which it refuses only by an assertion, or on a GPU.

    Args:
        targets: `boxes` `(n, 4)` and `labels` `(n,)` of every picture.
        count: Number of pictures.
        classes: Number of classes K, whose labels are 1 … K; of one class it is people.

    Raises:
        ValueError: If they are not such.
    """
    if targets is None or len(targets) != count:
        got = "none" if targets is None else len(targets)
        raise ValueError(f"training takes targets, boxes and labels, for each of {count} pictures, got {got}")
    for i, target in enumerate(targets):
        if not {"boxes", "labels"} <= target.keys():
            raise ValueError(f"target {i} has {sorted(target)}, expected boxes (n, 4) and labels (n,)")
        boxes, labels = target["boxes"], target["labels"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
            shapes = f"{tuple(boxes.shape)} and {tuple(labels.shape)}"
            raise ValueError(f"target {i}: expected boxes (n, 4) and labels (n,), got {shapes}")
        if wrong := boxes[~((boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1))].tolist():
            raise ValueError(f"target {i}: expected finite boxes xyxy with x2 > x1 and y2 > y1, got {wrong[0]}")
        if wrong := labels[(labels < PERSON) | (labels > classes)].tolist():
            expected = f"{PERSON}, a person" if classes == 1 else f"one of 1 … {classes}, the classes"
            raise ValueError(f"target {i}: every label is {expected}, got {wrong[0]}")
