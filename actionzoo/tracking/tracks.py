"""Tracks as tensors: what the people of every frame become once they are linked."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Tracks(NamedTuple):
    """N people followed through T frames, as `OutermostBoxPooler` takes them."""

    ids: Tensor
    """`(N,)` int64 track ids, in rising order."""
    boxes: Tensor
    """`(N, T, 4)` xyxy; zeros where a person is missing."""
    valid: Tensor
    """`(N, T)` bool, whether a person was found in a frame."""
    rows: Tensor
    """`(N, T)` int64, which of the frame's people it was, -1 where missing."""


def collect_tracks(ids: Sequence[Tensor], boxes: Sequence[Tensor], *, min_frames: int = 1) -> Tracks:
    """Turn linked people into tracks (instance-guided framework, section 3.2).

    Args:
        ids: `(n_t,)` track id of every person of each frame, as `link_keypoints` gives them.
        boxes: `(n_t, 4)` xyxy boxes of the same people, frame by frame.
        min_frames: Leave out tracks that were seen in fewer frames.

    Returns:
        The tracks; none where there are no people.

    Raises:
        ValueError: If ids and boxes are not of the same frames and people, an id comes twice in a frame, or
            `min_frames` is below 1.
    """
    if len(ids) != len(boxes):
        raise ValueError(f"expected ids and boxes of the same frames, got {len(ids)} and {len(boxes)}")
    if min_frames < 1:
        raise ValueError(f"min_frames is at least 1, got {min_frames}")
    for t, (numbers, found) in enumerate(zip(ids, boxes)):
        if numbers.ndim != 1 or tuple(found.shape) != (len(numbers), 4):
            raise ValueError(
                f"frame {t}: expected ids (n,) and boxes (n, 4), got {tuple(numbers.shape)} and {tuple(found.shape)}"
            )
        if len(numbers.unique()) < len(numbers):
            raise ValueError(f"frame {t}: a track id comes twice: {numbers.tolist()}; link people one to one")
    device = boxes[0].device if len(boxes) else torch.device("cpu")
    known = torch.cat([torch.zeros(0, dtype=torch.long), *(x.cpu() for x in ids)])
    tracks, counts = known.unique(return_counts=True)
    tracks = tracks[counts >= min_frames].to(device)
    rows = torch.full((len(tracks), len(ids)), -1, device=device)
    placed = torch.zeros(len(tracks), len(ids), 4, device=device, dtype=boxes[0].dtype if len(boxes) else None)
    for t, (numbers, found) in enumerate(zip(ids, boxes)):
        track, person = (tracks[:, None] == numbers.to(device)).nonzero(as_tuple=True)
        rows[track, t] = person
        placed[track, t] = found[person]
    return Tracks(tracks, placed, rows >= 0, rows)
