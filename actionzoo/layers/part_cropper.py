"""Part crops of the body-part / multitask net: head and hands cut out of the picture at estimated joints."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .crop_resize import crop_resize

MPII_PARTS: Mapping[str, int | tuple[int, ...]] = {"head": 9, "right": 10, "left": 15}
"""Head top, right wrist and left wrist in MPII order."""
MPII_FALLBACK: Mapping[str, int | tuple[int, ...]] = {"right": 11, "left": 14}
"""The elbows, for hands that are not seen."""


def part_boxes(
    joints: Tensor,
    image_size: tuple[int, int],
    parts: Mapping[str, int | tuple[int, ...]] | None = None,
    fallback: Mapping[str, int | tuple[int, ...]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Square boxes round the parts of every person (body-part net, section 3.3, Eq. 2).

    `l = 1/4 sqrt((max_x - min_x)^2 + (max_y - min_y)^2)` over the visible joints; a part's box runs from
    `centre - l` to `centre + l`, both ends rounded to the nearest pixel (halves upwards), half-open, so that its
    side is `2 l` to within a pixel. A joint is visible if its score is above 0 and nothing in it is NaN or infinite.
    Ours are the rules for what the paper leaves open: l is clamped to `[side / 32, side / 2]` with the image's
    larger side; a part that is not visible is cut at its fallback, else at the image's centre; with no visible
    joint at all `l = side / 4`. No host synchronisation, and no gradient to the joints.

    Args:
        joints: `(B, J, 3)` x, y in pixels of the image, and score.
        image_size: `(H, W)` of the image in pixels.
        parts: Name of every part and the joint it is cut at, or several, whose visible ones are averaged. None is
            `MPII_PARTS`. In COCO order that would be `{"head": 0, "right": 10, "left": 9}`.
        fallback: The same for parts whose own joints are not visible. None is `MPII_FALLBACK` with the parts of
            `MPII_PARTS`, and no fallback with other parts.

    Returns:
        `(B, P, 4)` int64 xyxy boxes in pixels, which may reach past the image, and `(B, P)` bool, whether the box
        is centred on a visible joint of the part or of its fallback.

    Raises:
        ValueError: If joints is not `(B, J, 3)`, a part names a joint that is not there, or a fallback belongs to
            no part.
    """
    parts, fallback = _settle(parts, fallback)
    _check_joints(joints, parts, fallback)
    height, width = image_size
    side = max(height, width)
    joints = joints.detach()
    # in half precision a pixel of a large image is rounded
    joints = joints if joints.dtype == torch.float64 else joints.float()
    visible = (joints[..., 2] > 0) & joints.isfinite().all(2)
    # a joint further out than this would overflow the integers; its crop is empty all the same
    xy = joints[..., :2].clamp(-(2.0**24), 2.0**24)

    low = torch.where(visible[..., None], xy, torch.inf).amin(1)
    high = torch.where(visible[..., None], xy, -torch.inf).amax(1)
    length = ((high - low) ** 2).sum(1).sqrt() / 4
    length = torch.where(visible.any(1), length.clamp(side / 32, side / 2), side / 4)[:, None]

    middle = torch.stack([xy.new_full((xy.shape[0],), width / 2), xy.new_full((xy.shape[0],), height / 2)], 1)
    boxes, valid = [], []
    for name, indices in parts.items():
        centre, seen = _mean(xy, visible, indices)
        if name in fallback:
            second, second_seen = _mean(xy, visible, fallback[name])
            centre = torch.where(seen[:, None], centre, second)
            seen = seen | second_seen
        centre = torch.where(seen[:, None], centre, middle)
        boxes.append(torch.cat([centre - length, centre + length], 1))
        valid.append(seen)
    # torch.round takes halves to the even number: the side of a box would depend on where it lies
    return (torch.stack(boxes, 1) + 0.5).floor().long(), torch.stack(valid, 1)


class PartCropper(nn.Module):
    """Cut the parts of every person out of the picture and resize them (body-part net, section 3.3).

    `part_boxes` says where, `crop_resize` cuts: bilinear, 0 outside the image, gradients to the image and none to
    the joints.
    """

    def __init__(
        self,
        parts: Mapping[str, int | tuple[int, ...]] | None = None,
        fallback: Mapping[str, int | tuple[int, ...]] | None = None,
        out: int | tuple[int, int] = 256,
    ) -> None:
        """Choose the parts.

        Args:
            parts: As in `part_boxes`; None is head, right hand and left hand in MPII order.
            fallback: As in `part_boxes`; None is the elbows for the hands of MPII.
            out: `(h, w)` of the crops in pixels; one number for both.

        Raises:
            ValueError: If there is no part, or a fallback belongs to no part.
        """
        super().__init__()
        self.parts, self.fallback = _settle(parts, fallback)
        self.out = (out, out) if isinstance(out, int) else (out[0], out[1])

    def forward(self, base: Tensor, joints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crop one picture of every person.

        Args:
            base: `(B, C, H, W)` floating-point pictures to cut from.
            joints: `(B, J, 3)` x, y in pixels of `base`, and score.

        Returns:
            `(B, P, C, h, w)` crops, their `(B, P, 4)` int64 xyxy boxes in pixels of `base`, and `(B, P)` bool as
            in `part_boxes`, in the order of `parts`.

        Raises:
            ValueError: If a shape is wrong, or the batches differ.
        """
        if base.ndim != 4:
            raise ValueError(f"PartCropper expects pictures (B, C, H, W), got shape {tuple(base.shape)}")
        batch, channels, height, width = base.shape
        boxes, valid = part_boxes(joints, (height, width), self.parts, self.fallback)
        if joints.shape[0] != batch:
            raise ValueError(f"PartCropper expects one set of joints per picture, got {joints.shape[0]} for {batch}")
        index = torch.arange(batch, device=boxes.device)[:, None].expand(-1, len(self.parts))
        crops = crop_resize(base, boxes.flatten(0, 1), index.flatten(), self.out)
        return crops.reshape(batch, len(self.parts), channels, *self.out), boxes, valid

    def extra_repr(self) -> str:
        """Parts and size, for `print`."""
        return f"parts={self.parts}, fallback={self.fallback}, out={self.out}"


def _settle(
    parts: Mapping[str, int | tuple[int, ...]] | None, fallback: Mapping[str, int | tuple[int, ...]] | None
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    if fallback is None:
        fallback = MPII_FALLBACK if parts is None or parts == MPII_PARTS else {}
    parts = MPII_PARTS if parts is None else parts
    settled, second = (
        {name: (value,) if isinstance(value, int) else tuple(value) for name, value in group.items()}
        for group in (parts, fallback)
    )
    if not settled or not all((*settled.values(), *second.values())):
        raise ValueError(f"every part needs a joint, and there must be a part, got parts={parts}, fallback={fallback}")
    for name in second:
        if name not in settled:
            raise ValueError(f"fallback names the part {name!r}, which is not among the parts {list(settled)}")
    return settled, second


def _check_joints(
    joints: Tensor, parts: Mapping[str, tuple[int, ...]], fallback: Mapping[str, tuple[int, ...]]
) -> None:
    if joints.ndim != 3 or joints.shape[2] != 3:
        raise ValueError(f"expected joints (B, J, 3) as x, y, score, got shape {tuple(joints.shape)}")
    for name, indices in (*parts.items(), *fallback.items()):
        for index in indices:
            if not 0 <= index < joints.shape[1]:
                raise ValueError(f"the part {name!r} is cut at joint {index}, but there are {joints.shape[1]} joints")


def _mean(xy: Tensor, visible: Tensor, indices: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean `(B, 2)` of the visible ones among some joints, and whether there is one `(B,)`."""
    seen = torch.stack([visible[:, index] for index in indices], 1)
    chosen = torch.stack([xy[:, index] for index in indices], 1)
    total = torch.where(seen[..., None], chosen, 0.0).sum(1)
    return total / seen.sum(1, keepdim=True).clamp(min=1), seen.any(1)
