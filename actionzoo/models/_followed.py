"""The people of a batch of clips, found and linked, or given."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tracking import Tracks
from .instances import People


class Followed(NamedTuple):
    """N people of all clips, each followed through T frames."""

    clip_index: Tensor
    """`(N,)` int64, the clip of each."""
    ids: Tensor
    """`(N,)` int64, unique within a clip."""
    boxes: Tensor
    """`(N, T, 4)` xyxy in pixels, zeros where a person is missing."""
    valid: Tensor
    """`(N, T)` bool, the frames in which a person was found."""
    scores: Tensor
    """`(N,)` the detector's mean score over these frames."""


def mean_scores(tracks: Tracks, people: Sequence[People]) -> Tensor:
    """The detector's mean score of every track, over the frames in which the person was found: `(N,)`."""
    # row -1, where a person is missing, is the 0 at the end
    found = [F.pad(frame.scores, (0, 1))[rows] for frame, rows in zip(people, tracks.rows.unbind(1))]
    return torch.stack(found, 1).sum(1) / tracks.valid.sum(1).clamp(min=1)


def found_people(tracks: Sequence[Tracks], people: Sequence[Sequence[People]]) -> Followed:
    """The linked people of every clip, one clip after the other.

    Args:
        tracks: Of every clip.
        people: Of every clip, the people of its frames.
    """
    parts = [
        (torch.full_like(found.ids, i), found.ids, found.boxes, found.valid, mean_scores(found, frames))
        for i, (found, frames) in enumerate(zip(tracks, people))
    ]
    return Followed(*(torch.cat(x) for x in zip(*parts)))


def given_people(boxes: Tensor, valid: Tensor | None, clip_index: Tensor | None, clips: Tensor) -> Followed:
    """People who are known already, on the device of the clips; each has a score of 1.

    Args:
        boxes: `(N, T, 4)` xyxy in pixels.
        valid: `(N, T)` bool, the frames in which they were found; all if None.
        clip_index: `(N,)` the clip of each; may be None for one person per clip.
        clips: `(B, C, T, H, W)`.

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If a dtype is wrong.
    """
    count, length = clips.shape[0], clips.shape[2]
    if boxes.ndim != 3 or boxes.shape[1:] != (length, 4):
        raise ValueError(f"expected boxes (N, T, 4) in the clips' {length} frames, got shape {tuple(boxes.shape)}")
    if not boxes.is_floating_point():
        raise TypeError(f"expected floating-point boxes, got {boxes.dtype}; call .float() first")
    people = boxes.shape[0]
    boxes = boxes.to(clips.device)
    valid, clip_index = (x if x is None else x.to(clips.device) for x in (valid, clip_index))
    if clip_index is None:
        if people != count:
            raise ValueError(f"{people} people in {count} clips: say by clip_index (N,) which clip each is in")
        clip_index = torch.arange(count, device=boxes.device)
    if clip_index.shape != (people,):
        raise ValueError(f"expected clip_index (N,) = ({people},), got shape {tuple(clip_index.shape)}")
    if clip_index.is_floating_point() or clip_index.is_complex() or clip_index.dtype == torch.bool:
        raise TypeError(f"expected an integer clip_index, got {clip_index.dtype}")
    if valid is None:
        valid = torch.ones(people, length, dtype=torch.bool, device=boxes.device)
    if valid.shape != boxes.shape[:2]:
        raise ValueError(f"expected valid (N, T) = {tuple(boxes.shape[:2])}, got shape {tuple(valid.shape)}")
    if valid.dtype != torch.bool:
        raise TypeError(f"expected valid to be bool, got {valid.dtype}; use valid > 0")
    clip_index = clip_index.long()
    same = clip_index[:, None] == clip_index
    ids = torch.tril(same, -1).sum(1)
    return Followed(clip_index, ids, torch.where(valid[..., None], boxes, 0.0), valid, torch.ones_like(boxes[:, 0, 0]))
