"""People, their joints and their ten body parts in a frame: the first stage of part-level action parsing.

Paper: "Part-level Action Parsing via a Pose-guided Coarse-to-Fine Framework" (section II-B, Eqs 1-4).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.figures import PARTS
from ..data.part_crops import crop_bounds
from ..data.top_down import apply_affine, crop_matrix, invert_affine
from ..layers import BoxGrower, PoseDotEncoder, decode_heatmaps
from ..layers.pose_dots import COCO_JOINT_PARTS, MPII_JOINT_PARTS
from ._detectors import PERSON
from ._part_search import find_parts

JOINT_PARTS: dict[str, tuple[str | None, ...]] = {"coco": COCO_JOINT_PARTS, "mpii": MPII_JOINT_PARTS}
"""Part of every joint, by the order of the joints."""

_MARGIN = 12
"""A box that is guessed from joints reaches this part of the person's size beyond them."""
_POSES_AT_A_TIME = 32
"""People who go through the pose net together."""
_SAMPLES_AT_A_TIME = 2**24
"""Points at which a frame is looked up together: some 300 MB."""


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
    return keypoints_in_frames(pose, [frame], [boxes])[0]


@torch.no_grad()
def keypoints_in_frames(pose: nn.Module, frames: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
    """Joints of the people of several frames, who go through the pose net together; otherwise as `pose_keypoints`.

    Args:
        pose: A pose net that `create` built, in eval mode.
        frames: `(3, H, W)` each.
        boxes: `(n, 4)` of the people of every frame.

    Returns:
        `(n, J, 3)` of every frame.
    """
    cfg: dict[str, Any] = pose.pretrained_cfg  # type: ignore[assignment]
    height, width = cfg["input_size"][1:]
    counts = [len(rows) for rows in boxes]
    if not sum(counts):
        return [frame.new_zeros(0, cfg["num_joints"], 3) for frame in frames]
    given = torch.cat(list(boxes)).float().cpu()
    # a box without area, at the border of a frame, has no crop
    wide = torch.cat([given[:, :2], torch.maximum(given[:, 2:], given[:, :2] + 1)], 1)
    back = invert_affine(torch.stack([crop_matrix(box, (height, width)) for box in wide]))
    crops = torch.cat(
        [person_crops(frame, own, (height, width)) for frame, own in zip(frames, back.split(counts)) if len(own)]
    )
    mean, std = (crops.new_tensor(cfg[name])[:, None, None] for name in ("mean", "std"))
    maps = torch.cat([pose((some - mean) / std).float() for some in crops.split(_POSES_AT_A_TIME)])
    joints = decode_heatmaps(maps, quarter_shift=True)
    stride = getattr(pose, "heatmap_stride", 4)
    joints[..., :2] = apply_affine(joints[..., :2].double().cpu() * stride, back).to(joints)
    return list(joints.split(counts))


def person_crops(frame: Tensor, back: Tensor, size: tuple[int, int]) -> Tensor:
    """Upright crops of a frame, bilinear; outside the frame they are 0.

    Args:
        frame: `(3, H, W)`.
        back: `(n, 2, 3)` float64 from a crop's pixels to the frame's, without rotation, on the CPU.
        size: `(h, w)` of the crops in pixels.

    Returns:
        `(n, 3, h, w)`, on the frame's device.
    """
    # where the crop shrinks the picture, several samples a pixel are averaged
    finer = (back[:, 0, :2].norm(dim=1) - 0.25).ceil().clamp(min=1).long()
    crops = frame.new_zeros(len(back), 3, *size)
    for factor in finer.unique().tolist():
        own = (finer == factor).nonzero()[:, 0]
        for some in own.split(max(1, _SAMPLES_AT_A_TIME // (size[0] * size[1] * factor**2))):
            crops[some.to(crops.device)] = _sampled(frame, back[some], size, factor)
    return crops


def _sampled(frame: Tensor, back: Tensor, size: tuple[int, int], finer: int) -> Tensor:
    """Crops `(n, 3, h, w)`, every pixel the mean of `finer` x `finer` samples."""
    count, axes = len(back), []
    # no crop is turned, so that columns and rows are placed on their own; in float64, which costs nothing here
    for axis, extent in ((0, frame.shape[2]), (1, frame.shape[1])):
        steps = (torch.arange(size[1 - axis] * finer).double() + 0.5) / finer - 0.5
        there = steps * back[:, axis, axis, None] + back[:, axis, 2, None]
        axes.append(((2 * there + 1) / extent - 1).to(frame))
    x, y = axes
    # one crop below the other, for which the frame need not be repeated
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1).flatten(0, 1)[None]
    crops = F.grid_sample(frame[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    crops = F.avg_pool2d(crops, finer) if finer > 1 else crops
    return crops[0].unflatten(1, (count, size[0])).transpose(0, 1)


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
    x1, y1, x2, y2 = crop_bounds(box, (frame.shape[1], frame.shape[2]))
    crop = frame[:, y1:y2, x1:x2]
    if dots is not None:
        # joints count from the centre of the first pixel, dots from its corner
        moved = keypoints - keypoints.new_tensor([x1 - 0.5, y1 - 0.5, 0.0])
        crop = dots(crop[None], moved[None])[0]
    return crop, (x1, y1)


@torch.no_grad()
def find_part_people(
    frames: Sequence[Tensor],
    found: Sequence[dict[str, Tensor]],
    *,
    pose: nn.Module,
    grower: BoxGrower,
    dots: PoseDotEncoder | None,
    part_detector: nn.Module,
    threshold: float,
    max_people: int,
) -> list[PartPeople]:
    """From the boxes of people to their parts (Eqs 2-4, and the growing of boxes after them).

    The people of all frames go through the pose net together, and so they do through the detector of parts where
    that changes nothing but the time it takes.

    Args:
        frames: `(3, H, W)` each, in `[0, 1]`.
        found: What the detector of people gave for each, in torchvision's form.
        pose: Finds the joints.
        grower: Grows the boxes.
        dots: Paints the joints.
        part_detector: Finds the parts; its label k is the k-th of `PARTS`.
        threshold: People score at least this.
        max_people: The surest of every frame are taken.

    Returns:
        The people of every frame.

    Raises:
        ValueError: If the detector of parts gives a label that is none of theirs.
    """
    if not frames:
        return []
    sure = [_surest(of_frame, threshold, max_people) for of_frame in found]
    # boxes count from the corner of the first pixel, joints from its centre
    corner = frames[0].new_tensor([0.5, 0.5, 0.0])
    grown, keypoints = [], []
    first = keypoints_in_frames(pose, frames, [boxes for boxes, _ in sure])
    for frame, (boxes, _), joints in zip(frames, sure, first):

        def again(rows: Tensor, frame: Tensor = frame) -> Tensor:
            return pose_keypoints(pose, frame, rows) + corner

        boxes, joints = grower(boxes, joints + corner, (frame.shape[1], frame.shape[2]), again)
        grown.append(boxes)
        keypoints.append(joints - corner)
    crops = [
        # boxes come from the device at once, not number by number
        [dotted_crop(frame, box, points, dots) for box, points in zip(boxes.cpu(), joints)]
        for frame, boxes, joints in zip(frames, grown, keypoints)
    ]
    people = []
    parts = find_parts(part_detector, crops, frames)
    layout = pose.pretrained_cfg.get("joints")  # type: ignore[operator, union-attr]
    for frame, boxes, (_, scores), joints, (part_boxes, part_scores) in zip(frames, grown, sure, keypoints, parts):
        if layout in JOINT_PARTS:
            missing = part_scores == 0
            guessed = _around_joints(joints + corner, boxes, JOINT_PARTS[layout], grower.threshold, frame)
            part_boxes = torch.where(missing[..., None], guessed, part_boxes)
        people.append(PartPeople(boxes, scores, joints, part_boxes, part_scores))
    return people


def _surest(found: dict[str, Tensor], threshold: float, most: int) -> tuple[Tensor, Tensor]:
    """Boxes and scores of the people that a detector found, the surest first."""
    people = (found["labels"] == PERSON) & (found["scores"] >= threshold)
    order = found["scores"][people].argsort(descending=True, stable=True)[:most]
    return found["boxes"][people][order], found["scores"][people][order]


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
