"""YOLOF's head, how its anchors are matched with objects, and how its boxes are decoded."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_convert, box_iou

BACKGROUND, IGNORED = -1, -2
"""What an anchor without an object is matched with: nothing, or nothing that it should learn."""


class YOLOFHead(nn.Module):
    """Classes, boxes and implicit objectness at every anchor of one map (YOLOF).

    Two 3x3 convolutions lead to the classes and four to the boxes. Objectness is no output and has no target: its
    logit o joins the class's c to the logit of the product of their probabilities, `c + o - log(1 + e^c + e^o)`.
    """

    def __init__(self, channels: int, num_classes: int, anchors: int, class_convs: int = 2, box_convs: int = 4) -> None:
        """Build the head, initialised as the authors': every score starts at 0.5 %.

        Args:
            channels: Channels of the map.
            num_classes: Classes K, the background not counted.
            anchors: Anchors A at every cell.
            class_convs: Convolutions before the class logits.
            box_convs: Convolutions before the boxes and objectness.

        Raises:
            ValueError: If there is no class.
        """
        super().__init__()
        self.channels, self.anchors = channels, anchors
        self.class_convs = nn.Sequential(*(_conv3x3(channels) for _ in range(class_convs)))
        self.box_convs = nn.Sequential(*(_conv3x3(channels) for _ in range(box_convs)))
        self.box_deltas = nn.Conv2d(channels, anchors * 4, 3, padding=1)
        self.objectness = nn.Conv2d(channels, anchors, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Fresh class logits of `num_classes` classes; at least 1, else `ValueError`."""
        if num_classes < 1:
            raise ValueError(f"a detector finds at least one class, got num_classes={num_classes}")
        self.num_classes = num_classes
        self.class_logits = nn.Conv2d(self.channels, self.anchors * num_classes, 3, padding=1)
        nn.init.normal_(self.class_logits.weight, std=0.01)
        nn.init.constant_(self.class_logits.bias, -math.log((1 - 0.01) / 0.01))  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, H, W)` -> class logits `(B, H W A, K)` and box deltas `(B, H W A, 4)`, float32 at least.

        Anchors count through rows, columns, and the anchors of a cell, as torchvision's `AnchorGenerator` does.
        """
        boxes = self.box_convs(x)
        classes = _per_anchor(self.class_logits(self.class_convs(x)), self.num_classes)
        objectness = _per_anchor(self.objectness(boxes), 1)
        either = torch.logaddexp(classes, objectness)
        logits = classes + objectness - torch.logaddexp(either, torch.zeros_like(either))
        return logits, _per_anchor(self.box_deltas(boxes), 4)


class CentreClampCoder(BoxCoder):
    """torchvision's box coder whose boxes stay near their anchors: no centre moves further than some pixels."""

    def __init__(self, clamp: float) -> None:
        """Choose the limit.

        Args:
            clamp: Pixels that a centre may move along each axis.
        """
        super().__init__(weights=(1.0, 1.0, 1.0, 1.0))
        self.clamp = clamp

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Deltas `(N, 4)` and their anchors `(N, 4)` -> boxes `(N, 4)` xyxy in pixels."""
        limit = self.clamp / (boxes[:, 2:] - boxes[:, :2])
        shift = torch.maximum(torch.minimum(rel_codes[:, :2], limit), -limit)
        return super().decode_single(torch.cat([shift, rel_codes[:, 2:]], 1), boxes)


class UniformMatch(NamedTuple):
    """What the anchors of one picture learn."""

    objects: Tensor
    """`(A,)` int64, the object whose class an anchor learns, or `BACKGROUND` or `IGNORED`."""
    pairs: Tensor
    """`(M, 2)` int64, an anchor and the object whose box it learns in every row; a row may come twice."""


def uniform_match(
    boxes: Tensor,
    anchors: Tensor,
    objects: Tensor,
    matches: int = 4,
    least_overlap: float = 0.15,
    ignore_overlap: float = 0.7,
) -> UniformMatch:
    """Match anchors with objects so that large and small objects get equally many (YOLOF's uniform matching).

    Every object claims its nearest anchors and as many anchors whose predicted boxes are nearest, by the sum of
    absolute differences in centre, width and height. A claimed anchor that overlaps the object too little is ignored,
    and so is an unclaimed one whose predicted box has an object already; the rest is background. An anchor that
    several claim learns the class of the one it overlaps most, where the authors' code takes the one written last.

    Args:
        boxes: `(A, 4)` predicted boxes, xyxy in pixels.
        anchors: `(A, 4)` their anchors.
        objects: `(N, 4)` boxes of the objects.
        matches: How many anchors an object claims by each of the two rules.
        least_overlap: Least intersection over union of an object and an anchor that learns it.
        ignore_overlap: Predicted boxes that overlap an object by more than this are no background.

    Returns:
        The object of every anchor, and the pairs for the box loss, in which an anchor that was claimed in both ways
        counts twice.

    Raises:
        ValueError: If a shape is wrong.
    """
    for name, rows in (("boxes", boxes), ("anchors", anchors), ("objects", objects)):
        if rows.ndim != 2 or rows.shape[1] != 4 or (name == "boxes" and rows.shape != anchors.shape):
            raise ValueError(f"expected {name} (n, 4) xyxy, one box per anchor, got {tuple(rows.shape)}")
    if not len(objects):
        empty = objects.new_zeros((0, 2), dtype=torch.long)
        return UniformMatch(empty.new_full((len(anchors),), BACKGROUND), empty)
    boxes, anchors, objects = (rows.detach() for rows in (boxes, anchors, objects))
    # on a grid many anchors are equally near: a stable sort takes the same ones on every device
    claims = torch.cat([_distance(rows, objects).argsort(dim=0, stable=True)[:matches] for rows in (boxes, anchors)])
    owner = torch.arange(len(objects), device=claims.device).expand_as(claims)
    overlap = box_iou(anchors, objects)
    good = overlap[claims, owner] >= least_overlap

    claimed = torch.zeros_like(overlap, dtype=torch.bool)
    claimed[claims, owner] = True
    share, best = torch.where(claimed & (overlap >= least_overlap), overlap, -1.0).max(1)
    other = claimed.any(1) | (box_iou(boxes, objects) > ignore_overlap).any(1)
    matched = torch.where(share >= 0, best, torch.where(other, IGNORED, BACKGROUND))
    return UniformMatch(matched, torch.stack([claims[good], owner[good]], 1))


def _distance(boxes: Tensor, objects: Tensor) -> Tensor:
    """Sums `(A, N)` of absolute differences in centre, width and height."""
    return torch.cdist(*(box_convert(rows, "xyxy", "cxcywh") for rows in (boxes, objects)), p=1)


def _per_anchor(x: Tensor, values: int) -> Tensor:
    """`(B, A values, H, W)` -> `(B, H W A, values)` in float32 at least: half precision rounds a pixel of a box."""
    batch, channels, height, width = x.shape
    x = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(batch, channels // values, values, height, width)
    return x.permute(0, 3, 4, 1, 2).reshape(batch, -1, values)


def _conv3x3(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
