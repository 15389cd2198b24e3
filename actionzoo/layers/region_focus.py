"""Region-focused image generator of PRF-Net: find the strongest point of a feature map and zoom in on it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .crop_resize import crop_resize


def attention_map(features: Tensor) -> Tensor:
    """Score every cell of a feature map (PRF-Net section 3.3, Eqs 6-8).

    Each channel is weighted by its own spatial mean `s_c` (Eqs 6-7), passed through a ReLU (Eq. 8), and the
    channels are summed, so that the argmax of Eq. 9 is a position rather than a channel.

    Args:
        features: `(B, C, h, w)` feature map.

    Returns:
        `(B, h, w)` scores >= 0 (NaN where the features are), at least in float32.

    Raises:
        ValueError: If the features are not four-dimensional.
    """
    if features.ndim != 4:
        raise ValueError(f"attention_map expects features (B, C, h, w), got shape {tuple(features.shape)}")
    features = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
    weights = features.mean((2, 3), keepdim=True)
    return torch.relu(weights * features).sum(1)


def _check_window(kappa: float, center_offset: float) -> None:
    if not 0 < kappa <= 1:
        raise ValueError(f"kappa is a fraction of the image's side in (0, 1], got {kappa}")
    if not 0 <= center_offset <= 1:
        raise ValueError(f"center_offset is a fraction of a cell in [0, 1], got {center_offset}")


def focus_boxes(
    features: Tensor, image_size: tuple[int, int], kappa: float = 0.75, center_offset: float = 0.5
) -> Tensor:
    """The window of an image round the strongest cell of its feature map (PRF-Net section 3.3, Eqs 9-11).

    Eq. 9 as printed swaps the axes and is right on square maps only; here the row is `index // w` and the column
    `index % w`. The window keeps its size at the border: it is shifted inside, not clipped. Where the scores are
    not finite it is centred.

    Args:
        features: `(B, C, h, w)` feature map.
        image_size: `(H, W)` of the images in pixels.
        kappa: Side of the window as a fraction of the image's side, in `(0, 1]`.
        center_offset: Where in its cell the strongest point lies: 0.5 is the middle, 0 is Eq. 10 as printed.

    Returns:
        `(B, 4)` int64 xyxy boxes in image pixels, half-open, all of one size and inside the image.

    Raises:
        ValueError: If the features are not four-dimensional, `kappa` is outside `(0, 1]` or `center_offset`
            outside `[0, 1]`.
    """
    _check_window(kappa, center_offset)
    scores = attention_map(features)
    h, w = scores.shape[1:]
    height, width = image_size
    box_h, box_w = max(1, round(kappa * height)), max(1, round(kappa * width))
    flat = scores.flatten(1)
    strongest = flat.argmax(1)
    # multiplied first: a rounded quotient moves some windows by one pixel
    y = (strongest // w + center_offset) * height / h
    x = (strongest % w + center_offset) * width / w
    finite = torch.isfinite(flat).all(1)
    y = torch.where(finite, y, height / 2)
    x = torch.where(finite, x, width / 2)
    top = (y - box_h / 2 + 0.5).floor().long().clamp(0, height - box_h)
    left = (x - box_w / 2 + 0.5).floor().long().clamp(0, width - box_w)
    return torch.stack([left, top, left + box_w, top + box_h], 1)


def chain_boxes(boxes: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """Express a chain of focus boxes, each in pixels of the crop before it, in pixels of the first image.

    Args:
        boxes: S tensors `(B, 4)` xyxy; box s lies in image s, which is crop s - 1 enlarged to `image_size`.
        image_size: `(H, W)` of the images in pixels.

    Returns:
        `(B, S, 4)` float xyxy boxes in pixels of the first image, nested in one another.

    Raises:
        ValueError: If the chain is empty.
    """
    if not boxes:
        raise ValueError("chain_boxes expects at least one tensor of boxes (B, 4), got none")
    height, width = image_size
    scale = boxes[0].new_tensor([width, height, width, height], dtype=torch.float32)
    outer = torch.cat([torch.zeros_like(scale[:2]), scale[:2]]).expand(boxes[0].shape[0], 4)
    chained = []
    for box in boxes:
        origin, side = outer[:, :2].repeat(1, 2), (outer[:, 2:] - outer[:, :2]).repeat(1, 2)
        outer = origin + box.float() / scale * side
        chained.append(outer)
    return torch.stack(chained, 1)


class RegionFocusedGenerator(nn.Module):
    """Region-focused image generator, "Rfg" (PRF-Net section 3.3, Eqs 6-13).

    Localises the strongest point of a feature map, cuts a window round it out of the image and enlarges the
    window to the image's size by bilinear interpolation. It has no parameters and passes no gradient: its
    output is new training data for the next step. The paper's "dimensionality-increasing layer" before Eq. 7 has
    no equation and is left out, and its threshold kappa has no value: 0.75 is this library's.
    """

    def __init__(self, kappa: float = 0.75, center_offset: float = 0.5) -> None:
        """Set the window.

        Args:
            kappa: Side of the window as a fraction of the image's side, in `(0, 1]`; 1 is the identity.
            center_offset: Where in its cell the strongest point lies: 0.5 is the middle, 0 is Eq. 10 as printed.

        Raises:
            ValueError: If `kappa` is outside `(0, 1]` or `center_offset` outside `[0, 1]`.
        """
        super().__init__()
        _check_window(kappa, center_offset)
        self.kappa = kappa
        self.center_offset = center_offset

    def extra_repr(self) -> str:
        """Show the settings in `repr`."""
        return f"kappa={self.kappa}, center_offset={self.center_offset}"

    @torch.no_grad()
    def forward(self, images: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Zoom in: `(B, 3, H, W)` images, `(B, C, h, w)` features -> `(B, 3, H, W)` images, `(B, 4)` int64 boxes.

        Raises:
            ValueError: If either is not four-dimensional or their batch sizes differ.
        """
        if images.ndim != 4 or features.ndim != 4 or images.shape[0] != features.shape[0]:
            raise ValueError(
                "RegionFocusedGenerator expects images (B, C, H, W) and features (B, C', h, w) of one batch, got "
                f"{tuple(images.shape)} and {tuple(features.shape)}"
            )
        size = (images.shape[2], images.shape[3])
        boxes = focus_boxes(features, size, self.kappa, self.center_offset)
        index = torch.arange(images.shape[0], device=images.device)
        return crop_resize(images, boxes, index, size), boxes
