"""ConViT's human branch: every person cut out of the backbone's map, related by two ViTs, classified.

Paper: "Human Action Recognition in Still Images Using ConViT" (section 3.4, Fig. 6).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from .convit_har import ViTPair

__all__ = ["HumanBranch", "rois_of"]

Boxes = Sequence[Tensor] | Tensor


def rois_of(boxes: Boxes, images: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes of a batch as RoI operators take them, clipped to the images.

    A box of which less than a pixel in height or width lies inside the image is dropped; when the network is compiled
    or exported, or on the meta device, all are kept, since their number must not depend on their values: rows of boxes
    outside the image mean nothing then.

    Args:
        boxes: For every image `(n_i, 4)` xyxy in its pixels, or `(B, n, 4)`.
        images: `(B, C, H, W)`.

    Returns:
        `(N, 5)` index of the image and xyxy, and `(N,)` index of the box among the image's.

    Raises:
        ValueError: If the boxes are not those of the images.
    """
    count, (height, width) = images.shape[0], images.shape[-2:]
    if not isinstance(boxes, Tensor | Sequence) or isinstance(boxes, str):
        raise ValueError(f"boxes are a list with (n, 4), xyxy in pixels, for each image; got {type(boxes).__name__}")
    if isinstance(boxes, Tensor):
        if boxes.ndim != 3 or boxes.shape[0] != count or boxes.shape[2] != 4:
            raise ValueError(f"expected boxes (B, n, 4), xyxy in pixels, of {count} images, got {tuple(boxes.shape)}")
        flat = boxes.flatten(0, 1)
        image_index = torch.arange(count, device=images.device)[:, None].expand(-1, boxes.shape[1]).flatten()
        box_index = torch.arange(boxes.shape[1], device=images.device).expand(count, -1).flatten()
    else:
        boxes = [x if isinstance(x, Tensor) else _as_boxes(x) for x in boxes]
        wrong = [tuple(x.shape) for x in boxes if x.ndim != 2 or x.shape[1] != 4]
        if len(boxes) != count or wrong:
            got = f"{len(boxes)} of them" if len(boxes) != count else wrong[0]
            raise ValueError(f"expected boxes (n, 4), xyxy in pixels, for each of {count} images, got {got}")
        # each in float32 before they are joined: joined with half precision, integers would be rounded to it
        place: dict[str, Any] = {"device": images.device, "dtype": torch.float32}
        flat = torch.cat([torch.zeros(0, 4, **place), *(x.to(**place) for x in boxes)])
        # the empty ones in front are for a batch of no images
        first = torch.zeros(0, dtype=torch.long)
        image_index = torch.cat([first, *(torch.full((x.shape[0],), i) for i, x in enumerate(boxes))])
        box_index = torch.cat([first, *(torch.arange(x.shape[0]) for x in boxes)])
        image_index, box_index = image_index.to(images.device), box_index.to(images.device)
    flat = flat.to(device=images.device, dtype=torch.float32)
    x, y = flat[:, 0::2].clamp(0, width), flat[:, 1::2].clamp(0, height)
    rois = torch.stack([image_index.float(), x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)
    if torch.compiler.is_compiling() or rois.is_meta:
        return rois, box_index
    # NaN compares as False, so that a box without coordinates goes, too
    keep = ((x[:, 1] - x[:, 0]) >= 1) & ((y[:, 1] - y[:, 0]) >= 1)
    return rois[keep], box_index[keep]


def _as_boxes(rows: Any) -> Tensor:
    boxes = torch.as_tensor(rows, dtype=torch.float32)
    return boxes.reshape(0, 4) if boxes.numel() == 0 else boxes


class HumanBranch(nn.Module):
    """RoIAlign of a person to 10x6 cells, two feature-map ViTs, mean, one linear classifier (section 3.4, Fig. 6).

    The paper says "RoI pooling"; RoIAlign is a decision, since a person is few cells large.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        stride: int = 32,
        size: tuple[int, int] = (10, 6),
        roi: str = "align",
        depth: int = 2,
        heads: int = 4,
        head_dim: int | None = 64,
        mlp_dim: int | None = None,
        pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        """Build the branch.

        Args:
            dim: Channels of the backbone's map.
            num_classes: Classes K; 0 makes `forward` return the pooled features.
            stride: Pixels per cell of that map.
            size: Height and width of a person in cells.
            roi: `"align"` or `"pool"`: torchvision's `roi_align` (aligned) or `roi_pool`.
            depth: Blocks of each ViT.
            heads: Attention heads.
            head_dim: Width of a head; None for `dim / heads`.
            mlp_dim: Hidden width of the MLPs; `dim` if None.
            pool: Downsampling between the ViTs, see `ViTPair`.
            drop_rate: Dropout before the classifier.

        Raises:
            ValueError: If a setting is unknown or out of range.
        """
        super().__init__()
        if roi not in ("align", "pool"):
            raise ValueError(f"roi is 'align' or 'pool', got {roi!r}")
        self.dim, self.stride, self.size, self.roi = dim, stride, tuple(size), roi
        self.vits: Any = ViTPair(dim, size, depth, heads, head_dim, mlp_dim, pool)
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Linear(dim, num_classes) if num_classes else nn.Identity()

    def crop(self, maps: Tensor, rois: Tensor) -> Tensor:
        """`(B, C, h, w)` maps and `(N, 5)` image index and xyxy in pixels -> `(N, C, 10, 6)`."""
        # at least in float32: half precision does not resolve pixels, and the operators do not all know it
        dtype = torch.promote_types(maps.dtype, torch.float32)
        crop = roi_align if self.roi == "align" else roi_pool
        extra: dict[str, Any] = {"aligned": True, "sampling_ratio": 2} if self.roi == "align" else {}
        return crop(maps.to(dtype), rois.to(dtype), self.size, 1 / self.stride, **extra).to(maps.dtype)

    def forward_features(self, maps: Tensor, rois: Tensor) -> Tensor:
        """The second ViT's map: as `forward`, `(N, C, 5, 3)`.

        Raises:
            ValueError: If the shapes are wrong.
        """
        if maps.ndim != 4 or maps.shape[1] != self.dim:
            raise ValueError(f"expected feature maps (B, {self.dim}, h, w), got shape {tuple(maps.shape)}")
        if rois.ndim != 2 or rois.shape[1] != 5:
            raise ValueError(f"expected rois (N, 5) as image index and xyxy, got shape {tuple(rois.shape)}")
        return self.vits(self.crop(maps, rois))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Mean over cells, then the classifier: `(N, C, h, w)` -> `(N, K)` logits, or `(N, C)`."""
        x = self.drop(x.mean((2, 3)))
        return x if pre_logits else self.fc(x)

    def forward(self, maps: Tensor, rois: Tensor) -> Tensor:
        """Classify people.

        Args:
            maps: `(B, C, h, w)` the backbone's last maps.
            rois: `(N, 5)` index of the image and xyxy in its pixels, as torchvision's RoI operators take them.

        Returns:
            `(N, K)` logits.

        Raises:
            ValueError: If the shapes are wrong.
        """
        return self.forward_head(self.forward_features(maps, rois))
