"""People, their joints and their ten body parts in a frame: the first stage of part-level action parsing.

Paper: "Part-level Action Parsing via a Pose-guided Coarse-to-Fine Framework" (section II-B, Eqs 1-4).
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.figures import PARTS
from ..data.top_down import apply_affine, crop_matrix, invert_affine
from ..layers import BoxGrower, PoseDotEncoder, decode_heatmaps
from ..layers.pose_dots import COCO_JOINT_PARTS, MPII_JOINT_PARTS
from ._detectors import PERSON

JOINT_PARTS: dict[str, tuple[str | None, ...]] = {"coco": COCO_JOINT_PARTS, "mpii": MPII_JOINT_PARTS}
"""Part of every joint, by the order of the joints."""

_MARGIN = 12
"""A box that is guessed from joints reaches this part of the person's size beyond them."""
_THIN = 16
"""No crop is more than so many times as long as it is wide: a detector would scale it to nothing."""


class PartPeople(NamedTuple):
    """The n people of one frame, the surest first."""

    boxes: Tensor
    """`(n, 4)` xyxy in pixels of the frame, grown to hold the joints."""
    scores: Tensor
    """`(n,)` of the detector of people."""
    keypoints: Tensor
    """`(n, J, 3)` x, y and score; pixels count from the centre of the first one."""
    part_boxes: Tensor
    """`(n, 10, 4)` in the order of `PARTS`; all 0 where nothing tells of the part."""
    part_scores: Tensor
    """`(n, 10)` of the detector of parts; 0 where the box was only guessed from joints."""

    def to(self, device: torch.device | str) -> "PartPeople":
        """The same on another device."""
        return PartPeople(*(tensor.to(device) for tensor in self))


@torch.no_grad()
def pose_keypoints(pose: nn.Module, frame: Tensor, boxes: Tensor) -> Tensor:
    """Joints of people by their boxes (Eq. 2).

    A box grows to the aspect ratio of the pose net's pictures and by a quarter, as HRNet's code has it.

    Args:
        pose: A pose net that `create` built, in eval mode.
        frame: `(3, H, W)` in `[0, 1]`.
        boxes: `(n, 4)` xyxy in pixels.

    Returns:
        `(n, J, 3)` x, y in pixels of the frame, from the centre of the first pixel, and score.
    """
    cfg: dict[str, Any] = pose.pretrained_cfg  # type: ignore[assignment]
    height, width = cfg["input_size"][1:]
    if not len(boxes):
        return frame.new_zeros(0, cfg["num_joints"], 3)
    # a box without area, at the border of a frame, has no crop
    wide = torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)], 1).float().cpu()
    matrices = torch.stack([crop_matrix(box, (height, width)) for box in wide])
    back = invert_affine(matrices)
    crops = torch.cat([_warp(frame, matrix, (height, width)) for matrix in back])
    mean, std = (crops.new_tensor(cfg[name])[:, None, None] for name in ("mean", "std"))
    joints = decode_heatmaps(pose((crops - mean) / std).float(), quarter_shift=True)
    stride = getattr(pose, "heatmap_stride", 4)
    joints[..., :2] = apply_affine(joints[..., :2].double().cpu() * stride, back).to(joints)
    return joints


def _warp(frame: Tensor, back: Tensor, size: tuple[int, int]) -> Tensor:
    """The crop `(1, 3, h, w)` whose pixels lie where `back` takes them; outside the frame it is 0."""
    # where the crop shrinks the picture, several samples a pixel are averaged
    finer = max(1, math.ceil(float(back[0, :2].norm()) - 0.25))
    height, width = (side * finer for side in size)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = (torch.stack([x, y], -1).double() + 0.5) / finer - 0.5
    there = points @ back[:, :2].T + back[:, 2]
    extent = there.new_tensor([frame.shape[2], frame.shape[1]])
    grid = ((2 * there + 1) / extent - 1).to(frame)
    crop = F.grid_sample(frame[None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(crop, finer) if finer > 1 else crop


def whole_pixels(box: Tensor, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches, at least one, and no strip too thin to be scaled; within the frame.

    Args:
        box: `(4,)` xyxy.
        size: `(H, W)` of the frame.

    Returns:
        x1, y1, x2, y2, half-open.
    """
    spans = []
    for low, high, limit in ((box[0], box[2], size[1]), (box[1], box[3], size[0])):
        first = min(max(math.floor(float(low)), 0), limit - 1)
        spans.append([first, min(max(math.ceil(float(high)), first + 1), limit), limit])
    least = math.ceil(max(last - first for first, last, _ in spans) / _THIN)
    for span in spans:
        if span[1] - span[0] < least:
            span[1] = min(span[0] + least, span[2])
            span[0] = max(span[1] - least, 0)
    (x1, x2, _), (y1, y2, _) = spans
    return x1, y1, x2, y2


def dotted_crop(
    frame: Tensor, box: Tensor, keypoints: Tensor, dots: PoseDotEncoder | None
) -> tuple[Tensor, tuple[int, int]]:
    """The person cut out, with a coloured dot on every joint (Eq. 3): X'_p, in which the parts are looked for.

    Args:
        frame: `(3, H, W)` in `[0, 1]`.
        box: `(4,)` xyxy of the person.
        keypoints: `(J, 3)` as in `PartPeople`.
        dots: Paints the dots; None for none.

    Returns:
        The crop `(3, h, w)`, and where its first pixel lies in the frame, x and y.
    """
    x1, y1, x2, y2 = whole_pixels(box, (frame.shape[1], frame.shape[2]))
    crop = frame[:, y1:y2, x1:x2]
    if dots is not None:
        # joints count from the centre of the first pixel, dots from its corner
        moved = keypoints - keypoints.new_tensor([x1 - 0.5, y1 - 0.5, 0.0])
        crop = dots(crop[None], moved[None])[0]
    return crop, (x1, y1)


@torch.no_grad()
def find_part_people(
    frame: Tensor,
    found: dict[str, Tensor],
    *,
    pose: nn.Module,
    grower: BoxGrower,
    dots: PoseDotEncoder | None,
    part_detector: nn.Module,
    threshold: float,
    max_people: int,
) -> PartPeople:
    """From the boxes of people to their parts (Eqs 2-4, and the growing of boxes after them).

    Args:
        frame: `(3, H, W)` in `[0, 1]`.
        found: What the detector of people gave for it, in torchvision's form.
        pose: Finds the joints.
        grower: Grows the boxes.
        dots: Paints the joints.
        part_detector: Finds the parts; its label k is the k-th of `PARTS`.
        threshold: People score at least this.
        max_people: The surest are taken.

    Raises:
        ValueError: If the detector of parts gives a label that is none of theirs.
    """
    people = (found["labels"] == PERSON) & (found["scores"] >= threshold)
    order = found["scores"][people].argsort(descending=True, stable=True)[:max_people]
    boxes, scores = found["boxes"][people][order], found["scores"][people][order]
    corner = frame.new_tensor([0.5, 0.5, 0.0])

    def estimate(boxes: Tensor) -> Tensor:
        return pose_keypoints(pose, frame, boxes) + corner

    boxes, joints = grower(boxes, estimate(boxes), (frame.shape[1], frame.shape[2]), estimate)
    keypoints = joints - corner
    part_boxes, part_scores = frame.new_zeros(len(boxes), len(PARTS), 4), frame.new_zeros(len(boxes), len(PARTS))
    if len(boxes):
        crops = [dotted_crop(frame, box, points, dots) for box, points in zip(boxes, keypoints)]
        for p, (out, (_, offset)) in enumerate(zip(part_detector([crop for crop, _ in crops]), crops)):
            shift = frame.new_tensor([*offset, *offset])
            labels = out["labels"].tolist()
            if wrong := [label for label in labels if not 1 <= label <= len(PARTS)]:
                raise ValueError(f"labels of the part detector are 1 to {len(PARTS)}, those of PARTS, got {wrong[0]}")
            # written last to first, the surest of every class stays
            for j in reversed(out["scores"].argsort(descending=True, stable=True).tolist()):
                part_boxes[p, labels[j] - 1], part_scores[p, labels[j] - 1] = out["boxes"][j] + shift, out["scores"][j]
    layout = pose.pretrained_cfg.get("joints")  # type: ignore[operator, union-attr]
    if layout in JOINT_PARTS:
        missing = part_scores == 0
        guessed = _around_joints(joints, boxes, JOINT_PARTS[layout], grower.threshold, frame)
        part_boxes = torch.where(missing[..., None], guessed, part_boxes)
    return PartPeople(boxes, scores, keypoints, part_boxes, part_scores)


def _around_joints(
    joints: Tensor, boxes: Tensor, parts: tuple[str | None, ...], threshold: float, frame: Tensor
) -> Tensor:
    """Boxes `(n, 10, 4)` round the joints of every part, the sure ones if there are any, clipped to the frame."""
    guessed = joints.new_zeros(len(joints), len(PARTS), 4)
    reach = (boxes[:, 2:] - boxes[:, :2]).prod(1).clamp(min=1).sqrt() / _MARGIN
    extent = joints.new_tensor([frame.shape[2], frame.shape[1]])
    for k, part in enumerate(PARTS):
        own = joints[:, [j for j, name in enumerate(parts) if name == part]]
        sure = own[..., 2] >= threshold
        sure = sure | ~sure.any(1, keepdim=True)
        low, high = (torch.where(sure[..., None], own[..., :2], far) for far in (torch.inf, -torch.inf))
        first, last = low.amin(1) - reach[:, None], high.amax(1) + reach[:, None]
        box = torch.cat([torch.minimum(corner.clamp(min=0), extent) for corner in (first, last)], 1)
        inside = (box[:, 2:] > box[:, :2]).all(1, keepdim=True)
        guessed[:, k] = torch.where(inside, box, 0.0)
    return guessed
