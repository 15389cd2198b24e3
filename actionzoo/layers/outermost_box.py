"""Outermost-box pooling: the features of a tracked person in every frame of a clip (instance-guided, Eqs 4-9)."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .. import kernels
from ..kernels._outermost_box import outermost_windows, pool_taps
from ._roi_products import in_graph, pool_frames, pool_windows


def outermost_boxes(boxes: Tensor, valid: Tensor) -> Tensor:
    """The box that encloses a track over a whole clip (instance-guided framework, section 3.2, Eq. 6).

    Frames in which the person is missing, and boxes with a NaN or an infinity in them, do not count. A track with no
    frame left gets the empty box `(0, 0, 0, 0)`: a batch keeps its rows, and nothing downstream meets a NaN.

    Args:
        boxes: `(N, T, 4)` floating-point xyxy boxes of N tracks in T frames, in pixels.
        valid: `(N, T)` bool, the frames in which the person was found.

    Returns:
        `(N, 4)` xyxy boxes in pixels, in the dtype of `boxes`.

    Raises:
        ValueError: If a shape is wrong, or there is no frame.
        TypeError: If boxes are not floating point, or valid is not bool.
    """
    _check_tracks(boxes, valid)
    return _enclose(boxes, _found(boxes, valid))


class OutermostBoxPooler(nn.Module):
    """Pool the feature pyramid of a clip at tracked people (instance-guided framework, section 3.2).

    `mode="outermost"` (Eqs 6, 7, 9) takes the box that encloses a track over the clip and pools every frame there,
    those in which the person is missing too: the person moves inside a window that stands still. `mode="basic"`
    (Eqs 5, 8) takes each frame's own box; a frame without one takes that of the nearest frame that has one, the
    earlier of two. Both are RoIAlign with half-pixel alignment and equal `torchvision.ops.roi_align(aligned=True)` of
    one person and frame at a time; the level of a box is that of `torchvision.ops.MultiScaleRoIAlign`,
    `floor(canonical_level + log2(sqrt(w h) / canonical_scale))` clamped to the levels there are.

    Ours are the rules for what the paper leaves open: a box narrower than one pixel is widened to one; a box is not
    clipped to the image, what lies outside reads 0; a track that is seen in no frame pools to zeros, with no
    gradient, at the box `(0, 0, 0, 0)`.

    A window that stands still makes RoIAlign a pair of matrix products, `A_y X A_x^T` with the same two small
    matrices for all frames and channels: deterministic, in any floating-point dtype (half precision is computed in
    float32, under autocast too), and nothing but the matrices is kept for the backward pass. In eager mode the
    boxes are read once by the host, and only the cells that a box covers take part; compiled or exported, the same
    arithmetic gathers each bin's taps, with no host synchronisation, or runs as a Triton kernel inside
    `actionzoo.kernels.use_kernels`, compiled or not. A NaN or an infinity inside a box can spread
    over that channel's pooled map; outside the boxes it is never read. Basic mode calls torchvision.
    """

    def __init__(
        self,
        out_size: int | tuple[int, int] = 14,
        mode: Literal["outermost", "basic"] = "outermost",
        levels: Sequence[str] = ("0", "1", "2", "3"),
        strides: Sequence[int] | None = None,
        canonical_scale: float = 224,
        canonical_level: int = 4,
        sampling_ratio: int = 2,
    ) -> None:
        """Choose the levels and the size of the pooled maps.

        Args:
            out_size: `(R_y, R_x)` bins of the pooled maps; one number for both. The paper has 14, TAHNet-v4 28.
            mode: `"outermost"` or `"basic"`.
            levels: Names of the pyramid's maps, the finest first. All four are P2 to P5; P2 and P3 alone, `("0", "1")`,
                do best in Table 6 and serve TAHNet-v3 and v4.
            strides: Image pixels per cell of every level, each twice the one before. None is 4, 8, 16, 32.
            canonical_scale: Side in pixels of the square box that belongs to the canonical level.
            canonical_level: That level; level k has the stride `2**k`.
            sampling_ratio: Samples per bin along each axis, at least 1.

        Raises:
            ValueError: If an option is out of range, or strides do not fit the levels.
        """
        super().__init__()
        self.out_size = (out_size, out_size) if isinstance(out_size, int) else (out_size[0], out_size[1])
        self.mode = mode
        self.levels = (levels,) if isinstance(levels, str) else tuple(levels)
        self.strides = tuple(4 << i for i in range(len(self.levels))) if strides is None else tuple(strides)
        self.canonical_scale = canonical_scale
        self.canonical_level = canonical_level
        self.sampling_ratio = sampling_ratio
        if mode not in ("outermost", "basic"):
            raise ValueError(f"expected mode 'outermost' or 'basic', got {mode!r}")
        if min(self.out_size) < 1 or sampling_ratio < 1 or canonical_scale <= 0:
            raise ValueError(
                "expected out_size and sampling_ratio of at least 1 and a positive canonical_scale, got "
                f"{self.out_size}, {sampling_ratio} and {canonical_scale}"
            )
        if not self.levels or len(set(self.levels)) != len(self.levels):
            raise ValueError(f"expected one or more different level names, got {self.levels}")
        first = self.strides[0] if self.strides else 0
        doubled = tuple(first << i for i in range(len(self.levels)))
        if first < 1 or first & (first - 1) or self.strides != doubled:
            raise ValueError(
                f"expected one stride per level of {self.levels}, a power of two and then twice the one before, "
                f"got {self.strides}"
            )

    def forward(
        self,
        features: Mapping[str, Tensor],
        boxes: Tensor,
        valid: Tensor,
        clip_index: Tensor,
        image_size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Pool every person of every clip.

        Args:
            features: `(B, T, C, h, w)` floating-point maps by name; those of other names are left alone.
            boxes: `(N, T, 4)` floating-point xyxy boxes of N tracks, in pixels.
            valid: `(N, T)` bool, the frames in which the person was found.
            clip_index: `(N,)` integer, the clip of each track, in `[0, B)`.
            image_size: `(H, W)` of the frames in pixels, with or without the padding that the network adds. Serves
                to check that the maps have the strides they should.

        Returns:
            `(N, C, T, R_y, R_x)` pooled maps in the dtype of the features, differentiable with respect to them, and
            the boxes used, `(N, 4)` in outermost and `(N, T, 4)` in basic mode, float32 or float64.

        Raises:
            ValueError: If a level is missing, a shape is wrong, or (eager mode) a clip index is out of range; compiled
                and with the kernel, where the host does not read it, that person gets NaN.
            TypeError: If a dtype is wrong.
        """
        _check_tracks(boxes, valid)
        maps = self._maps(features, boxes, clip_index, image_size)
        # half precision rounds a pixel of a large image
        boxes = boxes.detach() if boxes.dtype == torch.float64 else boxes.detach().float()
        kernel = self.mode == "outermost" and kernels.active("outermost_box", maps[0])
        if kernel and boxes.dtype == torch.float32:
            used, level, seen = outermost_windows(
                boxes, valid, self.canonical_scale, self.canonical_level, self._first_level, len(self.levels)
            )
        else:
            used, seen = self._windows(boxes, valid)
            level = self._level(used)
        clip = clip_index.long()
        scales = [1 / stride for stride in self.strides]
        if not (kernel or in_graph(boxes)):
            _check_clips(clip, maps[0].shape[0])
        if self.mode == "basic":
            pool = pool_frames
        elif kernel:
            pool = kernels.outermost_box
        else:
            pool = pool_taps if in_graph(boxes) else pool_windows
        pooled = pool(maps, used, level, clip, seen, scales, self.out_size, self.sampling_ratio)
        return pooled, used

    def _windows(self, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """The box or boxes of each track that are pooled, and whether it was seen."""
        found = _found(boxes, valid)
        seen = found.any(1)
        used = _enclose(boxes, found) if self.mode == "outermost" else _fill_gaps(boxes, found)
        wide = torch.cat([used[..., :2], torch.maximum(used[..., 2:], used[..., :2] + 1)], -1)
        return torch.where(seen.reshape(-1, *[1] * (used.ndim - 1)), wide, 0.0), seen

    @property
    def _first_level(self) -> int:
        return int(math.log2(self.strides[0]))

    def _level(self, boxes: Tensor) -> Tensor:
        """Index into the levels of every box, torchvision's order of operations and its 1e-6 included."""
        area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        level = torch.floor(self.canonical_level + torch.log2(area.sqrt() / self.canonical_scale) + 1e-6)
        first = self._first_level
        return level.clamp(first, first + len(self.levels) - 1).long() - first

    def _maps(
        self, features: Mapping[str, Tensor], boxes: Tensor, clip_index: Tensor, image_size: tuple[int, int]
    ) -> list[Tensor]:
        missing = [name for name in self.levels if name not in features]
        if missing:
            raise ValueError(f"expected the levels {self.levels}, got {list(features)} without {missing}")
        maps = [features[name] for name in self.levels]
        lead = maps[0].shape[:3]
        for name, stride, level in zip(self.levels, self.strides, maps):
            if level.ndim != 5 or level.shape[:3] != lead:
                raise ValueError(
                    "expected maps (B, T, C, h, w) with one B, T and C, got "
                    f"{ {name: tuple(features[name].shape) for name in self.levels} }"
                )
            if not level.is_floating_point():
                raise TypeError(f"expected floating-point maps, got {level.dtype} at level {name!r}")
            if not torch.compiler.is_compiling():
                _check_stride(name, stride, level, image_size)
        if boxes.shape[1] != lead[1]:
            raise ValueError(f"expected boxes (N, T, 4) in the features' {lead[1]} frames, got {tuple(boxes.shape)}")
        if clip_index.ndim != 1 or clip_index.shape[0] != boxes.shape[0]:
            raise ValueError(
                f"expected one clip index per track, (N,) = ({boxes.shape[0]},), got {tuple(clip_index.shape)}"
            )
        if clip_index.is_floating_point() or clip_index.is_complex() or clip_index.dtype == torch.bool:
            raise TypeError(f"expected an integer clip_index, got {clip_index.dtype}")
        return maps

    def extra_repr(self) -> str:
        """The options, for `print`."""
        return (
            f"out_size={self.out_size}, mode={self.mode!r}, levels={self.levels}, strides={self.strides}, "
            f"sampling_ratio={self.sampling_ratio}"
        )


def _check_tracks(boxes: Tensor, valid: Tensor) -> None:
    if boxes.ndim != 3 or boxes.shape[2] != 4 or boxes.shape[1] < 1:
        raise ValueError(f"expected boxes (N, T, 4) as xyxy with at least one frame, got shape {tuple(boxes.shape)}")
    if valid.shape != boxes.shape[:2]:
        raise ValueError(f"expected valid (N, T) = {tuple(boxes.shape[:2])}, got shape {tuple(valid.shape)}")
    if not boxes.is_floating_point():
        raise TypeError(f"expected floating-point boxes, got {boxes.dtype}; call .float() first")
    if valid.dtype != torch.bool:
        raise TypeError(f"expected valid to be bool, got {valid.dtype}; use valid > 0")


def _check_clips(clip: Tensor, batch: int) -> None:
    if clip.numel() and not bool(((clip >= 0) & (clip < batch)).all()):
        raise ValueError(f"expected clip indices in [0, {batch}), the number of clips, got {clip.tolist()}")


def _check_stride(name: str, stride: int, level: Tensor, image_size: tuple[int, int]) -> None:
    """A map may be larger than the image: detectors pad to a multiple of 32 and to the largest of a batch."""
    for cells, side in zip(level.shape[3:], image_size, strict=True):
        if not side // stride <= cells <= 1.5 * side / stride + 32 / stride + 1:
            raise ValueError(
                f"level {name!r} should have a stride of {stride} pixels, but has {tuple(level.shape[3:])} cells for "
                f"an image of {tuple(image_size)}; give the strides of your levels, or the (H, W) of the frames"
            )


def _found(boxes: Tensor, valid: Tensor) -> Tensor:
    return valid & boxes.isfinite().all(-1)


def _enclose(boxes: Tensor, found: Tensor) -> Tensor:
    first = torch.where(found[..., None], boxes[..., :2], torch.inf).amin(1)
    last = torch.where(found[..., None], boxes[..., 2:], -torch.inf).amax(1)
    return torch.where(found.any(1)[:, None], torch.cat([first, last], 1), 0.0)


def _fill_gaps(boxes: Tensor, found: Tensor) -> Tensor:
    """Give a frame without a box that of the nearest frame with one, the earlier of two."""
    frames = torch.arange(boxes.shape[1], device=boxes.device)
    distance = (frames[:, None] - frames).abs()
    # argmin takes the first of equals
    nearest = torch.where(found[:, None, :], distance, boxes.shape[1]).argmin(2)
    return boxes.gather(1, nearest[..., None].expand(-1, -1, 4))
