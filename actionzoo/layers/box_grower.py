"""Growing a person's box until it holds the joints that a pose net found outside it (PCF, section II-B)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def grow_boxes(
    boxes: Tensor,
    keypoints: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.3,
    max_growth: float = 1.5,
) -> Tensor:
    """Grow every box to include the joints of its person (PCF, section II-B, after Eq. 4).

    The smallest box that holds the given one and all joints that score at least the threshold, clipped to the
    picture. The paper sets no limit; here no side of a box moves out by more than `max_growth - 1` of the box's
    width or height, so that one wild joint cannot swallow the frame. A joint with a NaN or an infinity in it does
    not count, and a person without any keeps the box. No host synchronisation.

    Args:
        boxes: `(N, 4)` floating-point xyxy boxes of people, in pixels of the picture.
        keypoints: `(N, J, 3)` x, y in the same pixels, and score.
        image_size: `(H, W)` of the picture in pixels.
        threshold: Least score of a joint that counts.
        max_growth: What a box may grow to by one of its sides, in widths or heights; at least 1.

    Returns:
        `(N, 4)` xyxy boxes in the dtype of `boxes`; differentiable.

    Raises:
        ValueError: If a shape is wrong, or `max_growth` is below 1.
        TypeError: If the boxes or keypoints are not floating point.
    """
    _check(boxes, keypoints, max_growth)
    height, width = image_size
    # half precision rounds a pixel of a large picture
    dtype = torch.promote_types(torch.promote_types(boxes.dtype, keypoints.dtype), torch.float32)
    given, joints = boxes.to(dtype), keypoints.to(dtype)
    sure = (joints[..., 2] >= threshold) & joints.isfinite().all(-1)
    first, last = given[:, :2], given[:, 2:]
    room = (last - first).clamp(min=0) * (max_growth - 1)
    # the empty column lets a person of no joints pass
    low, high = (
        torch.cat([torch.where(sure[..., None], joints[..., :2], far), joints.new_full((len(boxes), 1, 2), far)], 1)
        for far in (torch.inf, -torch.inf)
    )
    first = torch.maximum(torch.minimum(first, low.amin(1)), first - room)
    last = torch.minimum(torch.maximum(last, high.amax(1)), last + room)
    frame = given.new_tensor([width, height])
    grown = torch.cat([torch.minimum(corner.clamp(min=0), frame) for corner in (first, last)], 1)
    return grown.to(boxes.dtype)


class BoxGrower(nn.Module):
    """Fine-tune detected boxes by the pose (PCF, section II-B): `grow_boxes`, once or until nothing moves.

    The paper grows a box "until all possible human keypoints are included". A pose net sees more of the person in the
    grown box and may find further joints; with `max_iters` above 1 and a way to estimate them, poses and boxes take
    turns. A box never shrinks on the way, and its growth over all turns has the limit of one.
    """

    def __init__(self, threshold: float = 0.3, max_growth: float = 1.5, max_iters: int = 1) -> None:
        """Choose the rules.

        Args:
            threshold: As in `grow_boxes`.
            max_growth: As in `grow_boxes`.
            max_iters: How often the boxes grow at most.

        Raises:
            ValueError: If `max_growth` or `max_iters` is below 1.
        """
        super().__init__()
        if not max_growth >= 1 or max_iters < 1:
            raise ValueError(f"expected max_growth and max_iters of at least 1, got {max_growth} and {max_iters}")
        self.threshold, self.max_growth, self.max_iters = threshold, max_growth, max_iters

    def forward(
        self,
        boxes: Tensor,
        keypoints: Tensor,
        image_size: tuple[int, int],
        estimate: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Grow the boxes of the people of one picture.

        Args:
            boxes: `(N, 4)` floating-point xyxy boxes, in pixels of the picture.
            keypoints: `(N, J, 3)` x, y and score, estimated in these boxes.
            image_size: `(H, W)` of the picture in pixels.
            estimate: `(N, 4)` boxes -> `(N, J, 3)` keypoints found in them; called `max_iters - 1` times at most.

        Returns:
            `(N, 4)` grown boxes, and the `(N, J, 3)` keypoints that were estimated last.

        Raises:
            ValueError: If a shape is wrong, or there is no `estimate` though `max_iters` is above 1.
            TypeError: If the boxes or keypoints are not floating point.
        """
        if self.max_iters > 1 and estimate is None:
            raise ValueError(f"max_iters={self.max_iters} needs estimate, which finds the joints in the grown boxes")
        grown = self._grow(boxes, keypoints, image_size)
        if estimate is None:
            return grown, keypoints
        for _ in range(self.max_iters - 1):
            keypoints = estimate(grown)
            further = self._grow(boxes, keypoints, image_size)
            first = torch.minimum(grown[:, :2], further[:, :2])
            wider = torch.cat([first, torch.maximum(grown[:, 2:], further[:, 2:])], 1)
            if torch.equal(wider, grown):
                break
            grown = wider
        return grown, keypoints

    def _grow(self, boxes: Tensor, keypoints: Tensor, image_size: tuple[int, int]) -> Tensor:
        return grow_boxes(boxes, keypoints, image_size, self.threshold, self.max_growth)

    def extra_repr(self) -> str:
        """The rules, for `print`."""
        return f"threshold={self.threshold}, max_growth={self.max_growth}, max_iters={self.max_iters}"


def _check(boxes: Tensor, keypoints: Tensor, max_growth: float) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"expected boxes (N, 4) as xyxy, got shape {tuple(boxes.shape)}")
    if keypoints.ndim != 3 or keypoints.shape[2] != 3 or keypoints.shape[0] != boxes.shape[0]:
        raise ValueError(
            f"expected keypoints ({boxes.shape[0]}, J, 3) as x, y, score, one person per box, got shape "
            f"{tuple(keypoints.shape)}"
        )
    for name, tensor in (("boxes", boxes), ("keypoints", keypoints)):
        if not tensor.is_floating_point():
            raise TypeError(f"expected floating-point {name}, got {tensor.dtype}; call .float() first")
    if not max_growth >= 1:
        raise ValueError(f"max_growth is at least 1, got {max_growth}")
