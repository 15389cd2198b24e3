"""Body parts looked for in the people of one frame or several: who goes through the detector together."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.figures import PARTS

Crop = tuple[Tensor, tuple[int, int]]
"""A person cut out, `(3, h, w)`, and where its first pixel lies in the frame, x and y."""

_PEOPLE_AT_A_TIME = 16


def find_parts(
    detector: nn.Module, crops: Sequence[Sequence[Crop]], frames: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """The surest box of every part of everybody.

    Args:
        detector: Its label k is the k-th of `PARTS`.
        crops: The people of every frame.
        frames: `(3, H, W)` each.

    Returns:
        For every frame `(n, 10, 4)` boxes in its pixels and `(n, 10)` scores, 0 where nothing was found.

    Raises:
        ValueError: If the detector gives a label that is none of the parts'.
    """
    results = [
        (f.new_zeros(len(own), len(PARTS), 4), f.new_zeros(len(own), len(PARTS))) for f, own in zip(frames, crops)
    ]
    for together in _batches(detector, crops):
        outputs = detector([crop for i in together for crop, _ in crops[i]])
        for i in together:
            own, outputs = outputs[: len(crops[i])], outputs[len(crops[i]) :]
            _write_surest(own, [offset for _, offset in crops[i]], *results[i])
    return results


def _batches(detector: Any, crops: Sequence[Sequence[Crop]]) -> list[list[int]]:
    """Frames whose people go through the detector together, without one that has none.

    A detector of torchvision's kind pads its pictures to the largest of them, and padding leaves traces at the
    borders of what it sees. So that nobody's parts depend on other frames, frames are taken together whose people are
    padded to the same size anyway.
    """
    batches: dict[tuple[int, int], list[list[int]]] = {}
    for i, own in enumerate(crops):
        if own:
            alike = batches.setdefault(_padded(getattr(detector, "transform", None), own), [[]])
            if alike[-1] and sum(len(crops[j]) for j in alike[-1]) + len(own) > _PEOPLE_AT_A_TIME:
                alike.append([])
            alike[-1].append(i)
    return [batch for alike in batches.values() for batch in alike]


def _padded(transform: Any, crops: Sequence[Crop]) -> tuple[int, int]:
    """Height and width to which torchvision's `GeneralizedRCNNTransform` brings some pictures."""
    if not all(hasattr(transform, name) for name in ("min_size", "max_size", "size_divisible")):
        return 0, 0
    sides = []
    for crop, _ in crops:
        size = crop.shape[1:]
        scale = min(transform.min_size[-1] / min(size), transform.max_size / max(size))
        sides.append([math.floor(side * scale) for side in size])
    height, width = (math.ceil(max(side) / transform.size_divisible) for side in zip(*sides))
    return height, width


def _write_surest(
    outputs: Sequence[dict[str, Tensor]], offsets: Sequence[tuple[int, int]], boxes: Tensor, scores: Tensor
) -> None:
    """Write what was found in the people of a frame to where it belongs; of equal scores the first counts."""
    labels = torch.cat([out["labels"] for out in outputs])
    if wrong := labels[(labels < 1) | (labels > len(PARTS))].tolist():
        raise ValueError(f"labels of the part detector are 1 to {len(PARTS)}, those of PARTS, got {wrong[0]}")
    counts = torch.tensor([len(out["labels"]) for out in outputs], device=labels.device)
    person = torch.arange(len(outputs), device=labels.device).repeat_interleave(counts, output_size=len(labels))
    order = torch.cat([out["scores"] for out in outputs]).argsort(descending=True, stable=True)
    place = (person * len(PARTS) + labels - 1)[order]
    order = order[place.argsort(stable=True)]
    place = place.sort().values
    surest = torch.ones_like(place, dtype=torch.bool)
    surest[1:] = place[1:] != place[:-1]
    place, order = place[surest], order[surest]
    shift = boxes.new_tensor(offsets).repeat(1, 2)
    found = torch.cat([out["boxes"] for out in outputs]).to(boxes)[order] + shift[person[order]]
    boxes.view(-1, 4)[place] = found
    scores.view(-1)[place] = torch.cat([out["scores"] for out in outputs]).to(scores)[order]
