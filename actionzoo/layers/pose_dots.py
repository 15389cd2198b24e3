"""Pose dots: the joints of a person painted into the picture as discs, a colour for each body part (PCF, Eq. 3)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

POSE_DOT_COLORS: Mapping[str, tuple[int, int, int]] = {
    "head": (0, 255, 0),
    "hip": (255, 0, 255),
    "left_arm": (255, 0, 0),
    "left_hand": (255, 255, 0),
    "left_leg": (128, 0, 0),
    "left_foot": (255, 128, 0),
    "right_arm": (0, 0, 255),
    "right_hand": (0, 255, 255),
    "right_leg": (0, 0, 128),
    "right_foot": (0, 128, 255),
}
"""Red, green, blue of every part: warm on the person's left, cold on the right."""

COCO_JOINT_PARTS: tuple[str | None, ...] = (
    *("head",) * 5, "left_arm", "right_arm", "left_arm", "right_arm", "left_hand", "right_hand", "hip", "hip",
    "left_leg", "right_leg", "left_foot", "right_foot",
)  # fmt: skip
"""The part that each of COCO's joints belongs to: shoulders and elbows arms, wrists hands, knees legs, ankles feet."""

MPII_JOINT_PARTS: tuple[str | None, ...] = (
    "right_foot", "right_leg", "hip", "hip", "left_leg", "left_foot", "hip", None, "head", "head", "right_hand",
    "right_arm", "right_arm", "left_arm", "left_arm", "left_hand",
)  # fmt: skip
"""The same for MPII's joints; the thorax belongs to none of the parts."""


class PoseDotEncoder(nn.Module):
    """Pose-guided positional embedding (PCF, section II-B, Eq. 3): coloured dots on the joints that were found.

    A detector of body parts cannot tell a left foot from a right one by its looks; a dot in the colour of the part
    can. The paper adds the dots to the picture, `X' = X + G(K)`; these are painted over it, since the colour of a sum
    depends on what lies below. Every dot is a filled disc, one colour per body part; its radius in pixels is
    `max(floor(sqrt(w h) / scale), min_radius)` for a person of w x h pixels, which is how the radius varies. A joint
    that scores less than the threshold, or has a NaN or an infinity in it, gets no dot; one outside the picture may
    reach into it. Where dots meet, the later joint lies on top, and the later person on top of the earlier.

    No gradient passes through a painted pixel, nor to the joints; all others are copied bit by bit. There is no loop
    over pictures, joints or pixels, no host synchronisation, and nothing of the size of a picture per joint.
    """

    colors: Tensor
    has_dot: Tensor

    def __init__(
        self,
        parts: Sequence[str | None] = COCO_JOINT_PARTS,
        palette: Mapping[str, Sequence[float]] | None = None,
        threshold: float = 0.3,
        scale: float = 30,
        min_radius: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        """Choose colours and sizes; the defaults are those of the authors' code, but for the palette.

        Args:
            parts: Part of every joint, in the joints' order; None for a joint without a dot. COCO's are
                `COCO_JOINT_PARTS`, MPII's `MPII_JOINT_PARTS`.
            palette: Red, green and blue in `[0, 255]` of every part; None is `POSE_DOT_COLORS`.
            threshold: Least score of a joint with a dot.
            scale: Side of a square person in pixels that makes one pixel of radius.
            min_radius: Least radius in pixels.
            mean: Mean that was subtracted from the pictures; None for pictures in `[0, 1]`.
            std: Standard deviation that they were divided by after that; None for 1.

        Raises:
            ValueError: If there is no joint, a part has no colour of three values in `[0, 255]`, or a size, mean or
                deviation is out of range.
        """
        super().__init__()
        self.parts, self.threshold, self.scale, self.min_radius = tuple(parts), threshold, scale, min_radius
        if not self.parts or not any(self.parts):
            raise ValueError(f"expected a part for at least one joint, got parts={self.parts}")
        if not scale > 0 or min_radius < 0:
            raise ValueError(f"expected scale > 0 and min_radius >= 0 pixels, got {scale} and {min_radius}")
        chosen = POSE_DOT_COLORS if palette is None else palette
        for part in dict.fromkeys(self.parts):
            color = () if part is None else tuple(chosen.get(part, ()))
            if part is not None and (len(color) != 3 or not all(0 <= value <= 255 for value in color)):
                raise ValueError(f"expected red, green, blue in [0, 255] for the part {part!r}, got {color or None}")
        shift, spread = (tuple(value) for value in (mean or (0.0,) * 3, std or (1.0,) * 3))
        if len(shift) != 3 or len(spread) != 3 or min(spread) <= 0:
            raise ValueError(f"expected mean and std of three channels, std above 0, got {mean} and {std}")
        rows = torch.tensor([[0.0] * 3 if part is None else list(chosen[part]) for part in self.parts])
        # the colours are settings, not weights: a checkpoint does not hold them
        self.register_buffer("colors", (rows / 255 - torch.tensor(shift)) / torch.tensor(spread), persistent=False)
        has_dot = torch.tensor([part is not None for part in self.parts])
        self.register_buffer("has_dot", has_dot, persistent=False)

    def forward(self, images: Tensor, keypoints: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Paint the joints of one person, or of several, into every picture.

        Args:
            images: `(B, 3, H, W)` floating-point pictures, red first.
            keypoints: `(B, J, 3)` of one person per picture, or `(B, P, J, 3)` of several: x, y in pixels of the
                picture, whose first pixel reaches from 0 to 1, and score. Rows of zeros are nobody.
            boxes: `(B, 4)` or `(B, P, 4)` xyxy boxes of the people in pixels, which say how large they are; None
                where the picture is the crop of its person.

        Returns:
            `(B, 3, H, W)` in the dtype of the pictures.

        Raises:
            ValueError: If a shape is wrong.
            TypeError: If the pictures or keypoints are not floating point.
        """
        self._check(images, keypoints, boxes)
        batch, _, height, width = images.shape
        count, joints = math.prod(keypoints.shape[1:-2]), keypoints.shape[-2]
        # half precision rounds a pixel of a large picture
        points = keypoints.detach().to(torch.promote_types(keypoints.dtype, torch.float32))
        points = points.reshape(batch, count, joints, 3)
        seen = (points[..., 2] >= self.threshold) & points.isfinite().all(-1) & self.has_dot
        largest = self._largest(height, width)
        if boxes is None:
            radius = points.new_full((batch, count), largest)
        else:
            radius = self._radius(boxes.detach().reshape(batch, count, 4), height, width)
        winner = _paint(points[..., :2], seen, radius, largest, height, width)
        # plane by plane, which is faster than a gather of whole pixels; the first colour is that of no dot
        palette = torch.cat([self.colors.new_zeros(3, 1), self.colors.T.repeat(1, count)], 1).to(images.dtype)
        planes = palette.index_select(1, winner.flatten() + 1).reshape(3, batch, height, width)
        color = planes.transpose(0, 1).contiguous()
        return torch.where(winner[:, None] >= 0, color, images)

    def _largest(self, height: int, width: int) -> int:
        return max(int(math.sqrt(height * width) / self.scale), self.min_radius)

    def _radius(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """Radius `(B, P)` from the part of every box that lies in the picture; without one, the least."""
        boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32)).nan_to_num(0.0).clamp(min=0)
        boxes = torch.minimum(boxes, boxes.new_tensor([width, height, width, height]))
        size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
        radius = (size.prod(-1).sqrt() / self.scale).floor()
        return radius.clamp(self.min_radius, self._largest(height, width))

    def _check(self, images: Tensor, keypoints: Tensor, boxes: Tensor | None) -> None:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"PoseDotEncoder expects pictures (B, 3, H, W), got shape {tuple(images.shape)}")
        for name, tensor in (("pictures", images), ("keypoints", keypoints)):
            if not tensor.is_floating_point():
                raise TypeError(f"PoseDotEncoder expects floating-point {name}, got {tensor.dtype}")
        batch, joints = images.shape[0], len(self.parts)
        lead, shape = tuple(keypoints.shape[:-2]), tuple(keypoints.shape)
        if keypoints.ndim not in (3, 4) or shape[-2:] != (joints, 3) or lead[0] != batch:
            raise ValueError(
                f"PoseDotEncoder expects keypoints ({batch}, {joints}, 3), or ({batch}, P, {joints}, 3), got {shape}"
            )
        if boxes is not None and tuple(boxes.shape) != (*lead, 4):
            raise ValueError(f"PoseDotEncoder expects boxes {(*lead, 4)} of the people, got {tuple(boxes.shape)}")

    def extra_repr(self) -> str:
        """The options, for `print`."""
        return f"{len(self.parts)} joints, threshold={self.threshold}, scale={self.scale}, min_radius={self.min_radius}"


def _paint(xy: Tensor, seen: Tensor, radius: Tensor, largest: int, height: int, width: int) -> Tensor:
    """Which dot is on top at every pixel.

    Args:
        xy: `(B, P, J, 2)` centres in pixels.
        seen: `(B, P, J)` bool, which of them are painted.
        radius: `(B, P)` in pixels,
        largest: and what none of them exceeds.
        height: Of the pictures in pixels.
        width: Of the pictures in pixels.

    Returns:
        `(B, H, W)` int64: the dot's number, counted through people and joints, or -1.
    """
    batch, people, joints = seen.shape
    # a joint further out than its disc reaches would overflow the integers
    reach = xy.new_tensor([width, height]) + largest + 1
    xy = torch.where(seen[..., None], xy, 0.0)
    xy = torch.minimum(xy.clamp(min=-largest - 1.0), reach).reshape(batch, people * joints, 2)
    steps = torch.arange(-largest, largest + 1, device=xy.device)
    pixels = xy.floor().long()[..., None] + steps  # (B, P J, 2, K), columns and rows of every window
    distance = (pixels + 0.5 - xy[..., None]) ** 2
    squared = radius[:, :, None].expand(-1, -1, joints).flatten(1)[:, :, None, None] ** 2
    inside = distance[:, :, 1, :, None] + distance[:, :, 0, None, :] <= squared
    columns, rows = pixels[:, :, 0, None, :], pixels[:, :, 1, :, None]
    inside = inside & (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    inside = inside & seen.flatten(1)[:, :, None, None]
    # pixels that are not painted go to a place of their own behind the picture
    place = torch.where(inside, rows * width + columns, height * width).flatten(1)
    number = torch.arange(people * joints, device=xy.device).repeat_interleave(len(steps) ** 2)
    winner = torch.full((batch, height * width + 1), -1, dtype=torch.long, device=xy.device)
    winner = winner.scatter_reduce(1, place, number.expand(batch, -1), "amax")
    return winner[:, :-1].reshape(batch, height, width)
