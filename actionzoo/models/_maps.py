"""What the models need to know of a timm backbone's feature maps, and networks that are built on them."""

from collections.abc import Sequence
from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from ..weights import HubMixin


def take_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Indices of some of `count` maps: all if None, the last n if a number; negative ones count from the end.

    Raises:
        ValueError: If one is out of range, or none is left.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        # more than there are would wrap round to the end
        indices = range(count - indices, count) if indices <= count else [indices]
    take = [i + count if i < 0 else i for i in indices]
    if not take or min(take) < 0 or max(take) >= count:
        raise ValueError(f"feature indices {list(indices)} do not fit {count} feature maps")
    return take


def select_maps(backbone: Any, name: str, stages: int | None, out_indices: Sequence[int] | None) -> tuple[int, ...]:
    """Indices of a backbone's last `stages` maps (all if None), or of `out_indices`, shallowest first.

    Raises:
        ValueError: If the backbone has no such maps, or cannot give them.
    """
    if not hasattr(backbone, "forward_intermediates") or not hasattr(backbone, "prune_intermediate_layers"):
        raise ValueError(f"timm model {name!r} has no forward_intermediates; choose another or update timm")
    count = len(backbone.feature_info)
    if out_indices is None:
        stages = count if stages is None else stages
        if not 1 <= stages <= count:
            raise ValueError(f"stages is 1 … {count} for {name!r}, which has {count} feature maps; got {stages}")
        return tuple(range(count - stages, count))
    take = take_indices(count, out_indices)
    if take != sorted(set(take)):
        raise ValueError(f"out_indices must rise, shallowest map first, got {list(out_indices)}")
    return tuple(take)


def prefixed(names: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    """Names inside a timm model -> names inside ours, which holds it as `backbone`."""
    if names is None or isinstance(names, str):
        return names and f"backbone.{names}"
    return tuple(f"backbone.{name}" for name in names)


class FeatureMapNet(HubMixin, nn.Module):
    """A network on the feature maps of a timm model, which it holds as `backbone`.

    A subclass says in `_final` what it makes of the maps, and in `_drop_head` what is not needed to get at them.
    """

    def __init__(
        self,
        backbone: str,
        in_chans: int,
        backbone_args: dict[str, Any] | None,
        stages: int | None = None,
        out_indices: Sequence[int] | None = None,
    ) -> None:
        """Build the backbone with random weights, cut off behind the deepest map that is used.

        Args:
            backbone: Name of a timm model that has `forward_intermediates`.
            in_chans: Channels of the images.
            backbone_args: Further arguments of the timm model.
            stages: How many of its last maps are used; all if None.
            out_indices: Which of its maps are used, shallowest first, instead of the last ones.

        Raises:
            ValueError: If the backbone has no such maps, or cannot give them.
        """
        super().__init__()
        # the attributes of a timm model are not declared, so it is typed loosely
        self.backbone: Any = timm.create_model(backbone, num_classes=0, in_chans=in_chans, **(backbone_args or {}))
        self.out_indices = select_maps(self.backbone, backbone, stages, out_indices)
        maps = [self.backbone.feature_info[i] for i in self.out_indices]
        self.feature_info = [{**info, "module": f"backbone.{info['module']}"} for info in maps]
        self.backbone.prune_intermediate_layers(list(self.out_indices), prune_norm=True, prune_head=True)
        self.in_chans = in_chans
        self.global_pool = "avg"

    def _final(self, maps: list[Tensor]) -> Tensor:
        """What `forward_features` returns, from all maps."""
        raise NotImplementedError

    def _drop_head(self) -> None:
        """Remove everything but the backbone."""
        raise NotImplementedError

    def _configuration(
        self, input_size: Sequence[int], test_input_size: Sequence[int] | None, **entries: Any
    ) -> dict[str, Any]:
        """The model's `pretrained_cfg`: `(C, H, W)` that it is meant for, and entries that differ between models."""
        config = {
            "input_size": (self.in_chans, *input_size[1:]),
            "crop_mode": "squash",
            "interpolation": "bilinear",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": prefixed(self.backbone.default_cfg.get("first_conv")),
            **entries,
        }
        if test_input_size is not None:
            config["test_input_size"] = (self.in_chans, *test_input_size[1:])
        return config

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that optimizers should not decay, as timm asks: the backbone's own."""
        own = self.backbone.no_weight_decay() if hasattr(self.backbone, "no_weight_decay") else set()
        return {f"backbone.{name}" for name in own}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them: less memory, more time.

        The backbone's BatchNorm layers see a recomputed batch twice, as in timm.
        """
        if hasattr(self.backbone, "set_grad_checkpointing"):
            self.backbone.set_grad_checkpointing(enable)

    def _set_global_pool(self, global_pool: str) -> None:
        if global_pool not in ("avg", ""):
            raise ValueError(f"global_pool is 'avg' or '' (none), got {global_pool!r}")
        self.global_pool = global_pool

    def _maps(self, images: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Some of the backbone's maps by the backbone's own indices, running it no deeper than they lie."""
        if images.ndim != 4 or images.shape[1] != self.in_chans:
            raise ValueError(
                f"{type(self).__name__} expects images (B, {self.in_chans}, H, W), got shape {tuple(images.shape)}; "
                "give a single image a batch dimension with [None], or build with in_chans=…"
            )
        return self.backbone.forward_intermediates(
            images, indices=list(indices), stop_early=True, intermediates_only=True
        )

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The backbone's maps that the network uses, as timm returns them.

        Args:
            x: `(B, C, H, W)` images.
            indices: Which of the maps, 0 being the shallowest: all if None, the last n if a number.
            norm: Accepted for timm's sake; the maps have no norm of their own.
            stop_early: Accepted for timm's sake; with `intermediates_only` the backbone always stops early.
            output_fmt: `"NCHW"` only.
            intermediates_only: Leave out what the network makes of the maps.

        Returns:
            List of maps in the order of `indices`, or `(forward_features(x), list of maps)`.

        Raises:
            ValueError: If `output_fmt` is not `"NCHW"`, or an index is out of range.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt is 'NCHW', got {output_fmt!r}")
        take = take_indices(len(self.out_indices), indices)
        maps = self._maps(x, self.out_indices[: max(take) + 1] if intermediates_only else self.out_indices)
        taken = [maps[i] for i in take]
        return taken if intermediates_only else (self._final(maps), taken)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Keep only what `forward_intermediates` needs, as timm's feature extraction asks for.

        Raises:
            ValueError: If an index is out of range.
        """
        take = take_indices(len(self.out_indices), indices)
        self.out_indices = self.out_indices[: max(take) + 1]
        self.backbone.prune_intermediate_layers(list(self.out_indices), prune_norm=True, prune_head=True)
        if prune_head:
            self._drop_head()
        return take
