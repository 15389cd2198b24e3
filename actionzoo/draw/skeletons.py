"""Joints and the limbs between them, laid over a picture of unchanged size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..layers.heatmaps import COCO_JOINTS, MPII_JOINTS
from .canvas import HALO, LEFT, MIDDLE, RIGHT, Colour, Sheet, rgb
from .picture import ImageLike, to_image


class Skeleton(NamedTuple):
    """Joint names in keypoint order, and the pairs of joints that a limb connects."""

    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]


COCO_SKELETON = Skeleton(
    COCO_JOINTS,
    ((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12),
     (11, 13), (13, 15), (12, 14), (14, 16)),
)  # fmt: skip
MPII_SKELETON = Skeleton(
    MPII_JOINTS,
    ((0, 1), (1, 2), (2, 6), (3, 6), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12), (12, 7),
     (13, 7), (13, 14), (14, 15)),
)  # fmt: skip


def skeleton_of(joints: int) -> Skeleton:
    """The layout that has so many joints: COCO's 17 or MPII's 16; of any other number joints without limbs."""
    known = {len(skeleton.joints): skeleton for skeleton in (COCO_SKELETON, MPII_SKELETON)}
    return known.get(joints) or Skeleton(tuple(f"joint_{i}" for i in range(joints)), ())


def keypoints(
    image: ImageLike,
    keypoints: Tensor | np.ndarray,
    skeleton: Skeleton = COCO_SKELETON,
    threshold: float = 0.3,
    colors: Sequence[str | Colour] | None = None,
) -> Image.Image:
    """Draw joints and limbs: the person's left blue, the right orange, the middle white.

    Args:
        image: picture, as `to_image` takes it.
        keypoints: (N, J, 3) x, y in pixels and score; N may be 0.
        skeleton: the J joints and the limbs between them.
        threshold: joints that score less are left out, with their limbs; so are non-finite ones.
        colors: N colours, one for each person, instead of those of the sides.

    Raises:
        ValueError: not (N, J, 3) with the skeleton's J, or another number of colours.
    """
    picture = to_image(image)
    people = as_people(keypoints, skeleton)
    if colors is not None and (isinstance(colors, str) or len(colors) != len(people)):
        raise ValueError(f"colors must be a list of {len(people)}, one for each person, got {colors!r}")
    sheet = Sheet(picture.size)
    skeletons(sheet, people, skeleton, threshold, None if colors is None else [rgb(c) for c in colors])
    return sheet.over(picture)


def as_people(keypoints: Tensor | np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Check keypoints and return them as float64 (N, J, 3)."""
    people = torch.as_tensor(keypoints).detach().cpu().double().numpy()
    count = len(skeleton.joints)
    if people.ndim != 3 or people.shape[1:] != (count, 3):
        raise ValueError(f"keypoints must be (N, {count}, 3) for this skeleton, got {people.shape}")
    return people


def skeletons(
    sheet: Sheet, people: np.ndarray, skeleton: Skeleton, threshold: float, hues: Sequence[Colour] | None
) -> None:
    """Draw the people `(N, J, 3)` on a sheet, each in one colour, or in those of the sides."""
    sides = [rgb(LEFT if "left" in name else RIGHT if "right" in name else MIDDLE) for name in skeleton.joints]
    # Five joints lie close together on a face, and large discs would hide it.
    face = [name.endswith(("nose", "eye", "ear")) for name in skeleton.joints]
    for i, person in enumerate(people):
        seen = np.isfinite(person).all(1) & (person[:, 2] >= threshold)
        if not seen.any():
            continue
        points, joints = person[:, :2], sides if hues is None else [hues[i]] * len(sides)
        extent = float(np.hypot(*np.ptp(points[seen], axis=0)))
        width = min(max(1.2, extent / 85), max(1.2, max(sheet.size) / 60))
        limbs = [(a, b) for a, b in skeleton.limbs if seen[a] and seen[b]]
        for halo in (True, False):
            for a, b in limbs:
                hue = joints[a] if joints[a] == joints[b] else rgb(MIDDLE)
                stroke = width * (0.6 if face[a] and face[b] else 1)
                sheet.line(points[a], points[b], stroke + 1.6 * halo, HALO if halo else hue)
            for joint in np.flatnonzero(seen):
                radius = width * (0.75 if face[joint] else 1.25)
                sheet.disc(points[joint], radius + 0.8 * halo, HALO if halo else joints[joint])
