"""Weights made of parts: a file leaves out the tensors that other weights hold, and names those weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Parts = Mapping[str, str | tuple[str, str]]
"""Prefix in the model -> name of bundled weights, or that name and a prefix of its tensors."""

RECORDED = {"prefix": str, "weights": str, "source_prefix": str, "sha256": str, "count": int, "unused": tuple}
"""What the metadata says of a part, see `leave_out`."""


class PartFile(NamedTuple):
    """Weights that others are completed with."""

    tensors: Mapping[str, Tensor]
    sha256: str


def leave_out(
    tensors: Mapping[str, Tensor], parts: Parts, find: Callable[[str], PartFile]
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Drop the tensors that the parts hold too.

    A tensor belongs to a part if the part's weights have one of the same name, but for the prefixes.

    Args:
        tensors: all tensors, as they would be written.
        parts: what to look for where.
        find: reads weights by name.

    Returns:
        The tensors that remain, and what `put_together` needs to know of each part: the prefixes, the weights' name
        and sha256, how many tensors were dropped (`count`), and the names of the part's tensors under its prefix
        that are no tensor of ours (`unused`). All others under the prefix were dropped.

    Raises:
        ValueError: if a tensor's bits are not those of the part, or a part has nothing to offer.
    """
    rest, recorded = dict(tensors), []
    for prefix, source in parts.items():
        name, source_prefix = (source, "") if isinstance(source, str) else source
        for text in (prefix, source_prefix):
            if text and not text.endswith("."):
                raise ValueError(f"parts: a prefix of tensor names ends in a dot, got {text!r}")
        if others := [other for other in parts if other != prefix and prefix.startswith(other)]:
            raise ValueError(f"parts: {prefix!r} lies in {others[0]!r}; a tensor is part of one of them only")
        found = find(name)
        held = _renamed(found.tensors, source_prefix, prefix)
        shared = [key for key in held if key in tensors]
        if not shared:
            raise ValueError(
                f"parts: the model has no tensor under {prefix!r} that {name} has under {source_prefix!r}; "
                f"the model's begin with {_beginnings(tensors)}, those of {name} with {_beginnings(found.tensors)}"
            )
        for key in shared:
            if not _same(rest.pop(key), held[key]):
                raise ValueError(f"{key} is not the tensor of {name}: the part was trained on; save it whole")
        unused = [source_prefix + key.removeprefix(prefix) for key in held if key not in tensors]
        values = (prefix, name, source_prefix, found.sha256, len(shared), unused)
        recorded.append(dict(zip(RECORDED, values, strict=True)))
    return rest, recorded


def put_together(
    tensors: Mapping[str, Tensor], recorded: Sequence[Mapping[str, Any]], find: Callable[[str, str], PartFile]
) -> dict[str, Tensor]:
    """Undo `leave_out`: add the tensors that the parts hold.

    Args:
        tensors: the file's own tensors.
        recorded: what `leave_out` said of the parts.
        find: reads weights by name and sha256.

    Raises:
        RuntimeError: if the record is damaged, or a part does not hold what was left out.
    """
    whole = dict(tensors)
    for part in recorded if isinstance(recorded, list | tuple) else (recorded,):
        if not (isinstance(part, Mapping) and all(isinstance(part.get(k), kind) for k, kind in RECORDED.items())):
            raise RuntimeError(f"the metadata describes a part by {', '.join(RECORDED)}; got {part!r}")
        source = find(part["weights"], part["sha256"]).tensors
        used = {key: value for key, value in source.items() if key not in part["unused"]}
        held = _renamed(used, part["source_prefix"], part["prefix"])
        if len(held) != part["count"] or held.keys() & whole.keys():
            raise RuntimeError(
                f"the metadata counts {part['count']} tensors of {part['weights']} under {part['prefix']!r}; it holds "
                f"{len(held)}, and {len(held.keys() & whole.keys())} of them are in the file too"
            )
        whole |= held
    return whole


def _renamed(tensors: Mapping[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {new + key.removeprefix(old): value for key, value in tensors.items() if key.startswith(old)}


def _beginnings(names: Mapping[str, Tensor]) -> str:
    return ", ".join(sorted({f"{name.partition('.')[0]}." for name in names})[:10])


def _same(stored: Tensor, held: Tensor) -> bool:
    """Whether a part's tensor has the bits that would be stored; the part's own type may be another."""
    if stored.shape != held.shape or stored.is_floating_point() != held.is_floating_point():
        return False
    # compared as bytes, for which NaN equals itself and 0 is not -0
    a, b = (x.contiguous().reshape(-1).view(torch.uint8) for x in (stored, held.to(stored.dtype)))
    return torch.equal(a, b)
