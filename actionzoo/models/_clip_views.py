"""Clips of a part of a video that the part action parser looks at, and square crops of them (PCF, section III-A)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_VIEWS_AT_A_TIME = 4


def check_pixels(pixels: Tensor) -> None:
    """Refuse what is no video in memory, `(3, L, H, W)` uint8.

    Raises:
        ValueError: If the shape is another, or there is no frame.
        TypeError: If the pixels are not uint8.
    """
    if pixels.ndim != 4 or pixels.shape[0] != 3 or 0 in pixels.shape:
        raise ValueError(f"PCF expects pixels of a video (3, L, H, W), got shape {tuple(pixels.shape)}")
    if pixels.dtype != torch.uint8:
        raise TypeError(f"PCF expects uint8 pixels of a video, got {pixels.dtype}")


def scale_frames(pixels: Tensor, side: int) -> Tensor:
    """Scale frames `(3, L, H, W)` uint8 to a shorter side, antialiased; frames that have it stay as they are."""
    height, width = pixels.shape[2:]
    if min(height, width) == side:
        return pixels
    factor = side / min(height, width)
    size = (max(side, round(height * factor)), max(side, round(width * factor)))
    frames = F.interpolate(pixels.transpose(0, 1).float(), size, mode="bilinear", antialias=True)
    return frames.round().clamp(0, 255).byte().transpose(0, 1)


def clip_views(
    pixels: Tensor, samples: Sequence[Sequence[int]], crops: int, cfg: Mapping[str, Any], like: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of a part of a video, a few at a time: square crops along the longer side of clips.

    Args:
        pixels: `(3, L, H, W)` uint8, all frames of the part.
        samples: Numbers of the T frames of every clip.
        crops: Of each clip: 3 along the longer side, or 1 from the middle.
        cfg: Of the network: `input_size`, `mean` and `std`.
        like: Views have its device, to which only the frames that are wanted go, and as bytes; and its dtype.

    Yields:
        `(v, 3, T, S, S)` normalised views, and `(v,)` how much every one counts, in sum over all of them 1. Views
        that are the same come once.
    """
    side = cfg["input_size"][-1]
    wanted = sorted({frame for sample in samples for frame in sample})
    place = {frame: i for i, frame in enumerate(wanted)}
    scaled = scale_frames(pixels[:, wanted].to(like.device), side)
    height, width = scaled.shape[2:]
    corners = [((height - side) * k // 2, (width - side) * k // 2) for k in ((1,) if crops == 1 else (0, 1, 2))]
    chosen = [(tuple(sample), corner) for sample in samples for corner in corners]
    views = list(dict.fromkeys(chosen))
    mean, std = (torch.tensor(cfg[name], device=like.device)[:, None, None, None] for name in ("mean", "std"))
    for start in range(0, len(views), _VIEWS_AT_A_TIME):
        some = views[start : start + _VIEWS_AT_A_TIME]
        clips = torch.stack(
            [
                scaled[:, [place[frame] for frame in sample], top : top + side, left : left + side]
                for sample, (top, left) in some
            ]
        )
        weights = torch.tensor([chosen.count(view) / len(chosen) for view in some], device=like.device)
        yield ((clips.float() / 255 - mean) / std).to(like), weights
