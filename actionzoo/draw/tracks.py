"""People who are followed through a clip, on one of its frames."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from .canvas import PathLike, Sheet, as_boxes, cycle, pretty, rgb
from .overlays import outline, tag
from .picture import ImageLike, to_image
from .skeletons import as_people, skeleton_of, skeletons


def tracked_people(
    image: ImageLike,
    boxes: Tensor | np.ndarray | Sequence[Sequence[float]],
    ids: Sequence[int],
    labels: Sequence[str | None] | None = None,
    scores: Sequence[float] | None = None,
    keypoints: Tensor | np.ndarray | None = None,
    *,
    threshold: float = 0.3,
    font: PathLike | None = None,
) -> Image.Image:
    """Draw tracked people: box, skeleton and a tag with id, label and score, all in the colour of the track's id.

    The colour of an id is the same on every frame. Edges are smoothed less than those of `boxes` and `keypoints`,
    for the sake of speed: a clip has many frames.

    Args:
        image: picture, as `to_image` takes it.
        boxes: (N, 4) xyxy in pixels; N may be 0.
        ids: N track ids.
        labels: N names; underscores are shown as spaces.
        scores: N probabilities, shown in percent.
        keypoints: (N, J, 3) x, y in pixels and score: COCO's 17 joints, MPII's 16, or others without limbs.
        threshold: joints that score less are left out.
        font: TrueType file for other scripts than Latin.

    Raises:
        ValueError: wrong shapes or lengths, non-finite boxes, or x2 < x1 or y2 < y1.
    """
    picture, corners = to_image(image), as_boxes(boxes)
    for name, given in (("ids", ids), ("labels", labels), ("scores", scores), ("keypoints", keypoints)):
        if given is not None and len(given) != len(corners):
            raise ValueError(f"{name} must be {len(corners)}, one for each box, got {len(given)}")
    hues = [rgb(cycle(number)) for number in ids]
    sheet = Sheet(picture.size, smooth=2)
    if keypoints is not None and len(keypoints):
        skeleton = skeleton_of(keypoints.shape[1])
        skeletons(sheet, as_people(keypoints, skeleton), skeleton, threshold, hues)
    outline(sheet, corners, hues)
    tags = [
        (f"#{number}", pretty(labels[i]) if labels else "", f"{scores[i]:.0%}" if scores else "")
        for i, number in enumerate(ids)
    ]
    return tag(sheet.over(picture), corners, tags, hues, font)
