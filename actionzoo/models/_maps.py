"""What the models need to know of a timm backbone's feature maps."""

from collections.abc import Sequence
from typing import Any


def take_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Indices of some of `count` maps: all if None, the last n if a number; negative ones count from the end.

    Raises:
        ValueError: If one is out of range, or none is left.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        indices = range(count - indices, count)
    take = [i + count if i < 0 else i for i in indices]
    if not take or min(take) < 0 or max(take) >= count:
        raise ValueError(f"feature indices {list(indices)} do not fit {count} feature maps")
    return take


def select_maps(backbone: Any, name: str, stages: int, out_indices: Sequence[int] | None) -> tuple[int, ...]:
    """Indices of a backbone's last `stages` maps, or of `out_indices`, shallowest first.

    Raises:
        ValueError: If the backbone has no such maps, or cannot give them.
    """
    if not hasattr(backbone, "forward_intermediates") or not hasattr(backbone, "prune_intermediate_layers"):
        raise ValueError(f"timm model {name!r} has no forward_intermediates; choose another or update timm")
    count = len(backbone.feature_info)
    if out_indices is None:
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
