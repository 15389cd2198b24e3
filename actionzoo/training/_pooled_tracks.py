"""Pooled features of the people of one clip, found by the detector or given."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from ..data.labelled_clips import LabelledClip
from ..models import InstanceActionNet, View
from ..models._followed import mean_scores
from ..models.instances import pyramid_of


class _Tracks(NamedTuple):
    """Pooled features of the tracks of a clip, where and how surely they were found, and who they are."""

    features: Tensor
    boxes: Tensor
    valid: Tensor
    score: Tensor
    person: Tensor


@torch.no_grad()
def pool_clip(
    model: InstanceActionNet, found: LabelledClip, length: int, true_boxes: bool, whole_frame: bool
) -> dict[str, Tensor]:
    """Pool the features of the people of a clip.

    Args:
        model: The network.
        found: The clip and what is known of it.
        length: Frames T of the features.
        true_boxes: Whether to pool at the true boxes, see `cache_instances`.
        whole_frame: Whether the whole frame stands for people who are not found, see there.

    Returns:
        What a file holds of a clip: `features` `(n, C, T, R, R)` in half precision, `score`, `area` and `person`
        `(n,)`, and `labels` `(P,)` of the true people, where they are known.

    Raises:
        ValueError: If true boxes are asked of a clip that has none.
    """
    device = next(model.parameters()).device
    clip = found.clip[:, :length].to(device).float() / 255
    truth = None if found.boxes is None else found.boxes[:, :length].to(device)
    if true_boxes and truth is None:
        raise ValueError("these clips have no true boxes; leave true_boxes out, so that the detector finds people")
    tracks = _given(model, clip, truth, whole_frame) if true_boxes else _followed(model, clip, truth, whole_frame)
    features, boxes, valid, score, person = tracks
    features = F.pad(features, (0, 0, 0, 0, 0, max(length - features.shape[2], 0)))[:, :, :length]
    area = torch.where(valid, _area(boxes), 0.0).sum(1) / valid.sum(1).clamp(min=1)
    labels = torch.zeros(0, dtype=torch.long) if found.labels is None else found.labels
    stored = {"features": features.half(), "score": score.float(), "area": area.float()}
    return {n: x.cpu().contiguous() for n, x in {**stored, "person": person, "labels": labels}.items()}


def _followed(model: InstanceActionNet, clip: Tensor, truth: Tensor | None, whole_frame: bool) -> _Tracks:
    """The people whom the detector and the tracker find."""
    people, maps, view = model.detect(clip.transpose(0, 1))
    tracks = model.link(people)
    boxes, valid = tracks.boxes, tracks.valid
    score = mean_scores(tracks, people)
    if whole_frame and not len(boxes):
        boxes, valid, score = _frame(clip)
    person = torch.zeros(len(boxes), dtype=torch.long) if truth is None else match_people(boxes, valid, truth)
    return _Tracks(_pool(model, maps, boxes, valid, view), boxes, valid, score, person)


def _given(model: InstanceActionNet, clip: Tensor, truth: Tensor | None, whole_frame: bool) -> _Tracks:
    """The true people who are in the picture at all."""
    assert truth is not None, "the caller checks"
    person = (_area(truth) > 0).any(1).nonzero()[:, 0]
    boxes, valid, score = truth[person], _area(truth[person]) > 0, torch.ones(len(person), device=clip.device)
    if whole_frame and not len(boxes):
        boxes, valid, score = _frame(clip)
        person = torch.full((1,), -1)
    pyramid = pyramid_of(model.detector, clip.transpose(0, 1))
    return _Tracks(_pool(model, pyramid.maps, boxes, valid, pyramid.view), boxes, valid, score, person)


def _pool(model: InstanceActionNet, maps: dict[str, Tensor], boxes: Tensor, valid: Tensor, view: View) -> Tensor:
    """Pooled features of the people of one clip, whose frames the maps are of."""
    clips = {name: maps[name][None] for name in model.pooler.levels}
    return model.pool(clips, boxes, valid, torch.zeros(len(boxes), dtype=torch.long, device=boxes.device), view)


def _frame(clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A track that is the whole frame: boxes, presence, and a score of 0, since nobody was found."""
    _, frames, height, width = clip.shape
    boxes = clip.new_tensor([0.0, 0, width, height]).expand(1, frames, 4)
    return boxes, torch.ones_like(boxes[..., 0], dtype=torch.bool), clip.new_zeros(1)


def match_people(boxes: Tensor, valid: Tensor, people: Tensor, iou: float = 0.5) -> Tensor:
    """Say who of the true people of a clip each track is.

    Args:
        boxes: `(N, T, 4)` xyxy boxes of tracks.
        valid: `(N, T)` bool, the frames in which they were found.
        people: `(P, T, 4)` boxes of the people; all 0 where a person is out of the picture.
        iou: Smallest mean intersection over union, over the frames in which the track was found.

    Returns:
        `(N,)` int64, the person with whom a track overlaps most, -1 where that is not enough.
    """
    if not len(boxes) or not len(people):
        return torch.full((len(boxes),), -1, device=boxes.device)
    overlap = torch.stack([box_iou(tracks, true) for tracks, true in zip(boxes.unbind(1), people.unbind(1))], 1)
    # where a track is missing its box has no area, and what its overlap is does not matter
    overlap = torch.where(valid[..., None], overlap, 0.0).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)
    best, person = overlap.max(1)
    return torch.where(best >= iou, person, -1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)
