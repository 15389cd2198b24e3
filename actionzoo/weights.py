"""Weights: what is published for each model, and strict loading that says what it did.

A `WeightsInfo` names one set of tensors, where they come from and which part of the model they cover.
`load_weights` checks that coverage before it writes anything, so that a model is never half-loaded, and
returns a `LoadReport`.
"""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ._checkpoint import describe, stored_tensors, to_json, write_checkpoint
from ._checkpoint import read_checkpoint as read_checkpoint
from ._hub import HubMixin as HubMixin
from ._parts import Parts, leave_out
from ._sources import StateDict, Weights, bundled_part, open_weights
from ._sources import WeightsInfo as WeightsInfo
from ._sources import bundled_weights as bundled_weights
from ._sources import verify_weights as verify_weights


def save_checkpoint(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    parts: Parts | None = None,
) -> Path:
    """Write a model's tensors and what is known of it to a safetensors file, atomically.

    Tensors that share memory are written once per name, so that every name is found when loading.

    A network that was trained on top of a frozen one need not repeat it: `parts={"convit.": "convit_har_tiny.NAME"}`
    leaves out every tensor under `convit.` that those bundled weights hold with the same bits (after the cast), and
    `parts={"trunk.": ("convit_har_tiny.NAME", "backbone.")}` those that they hold under `backbone.`. Tensors that
    they lack stay in the file. Loading puts everything together again, and needs those very weights.

    Args:
        model: the model; its `pretrained_cfg` gives architecture, arguments, classes, mean and std.
        path: the file to write; its folder must exist.
        metadata: further or corrected entries, such as `licence`, `data`, `metrics`, `recipe`, `classes`.
        dtype: cast floating tensors to this type, e.g. `torch.float16` to halve the file.
        parts: what bundled weights hold already, by prefix of the model's tensors.

    Returns:
        The path written.

    Raises:
        ValueError: if the name does not end in `.safetensors`, a cast tensor is not finite, a part has nothing in
            common with the model, a tensor differs from the part's, or the metadata has an entry `parts`.
        RuntimeError: if a part is not among the bundled weights, or damaged.
        TypeError: if an entry of the metadata cannot be written as JSON.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"checkpoints are safetensors files: got {path.name!r}, expected NAME.safetensors")
    if "parts" in (metadata or {}):
        raise ValueError("metadata: 'parts' says how a file was saved and is written by parts=...; leave it out")
    about = describe(model, metadata)
    to_json(about)  # an entry that cannot be written fails before the tensors are copied
    tensors = stored_tensors(model, dtype)
    if parts:
        tensors, about["parts"] = leave_out(tensors, parts, bundled_part)
    return write_checkpoint(path, tensors, about)


def _some(names: Iterable[str], limit: int = 10) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


@dataclass(frozen=True)
class LoadReport:
    """What loading did to a model; `print(model.load_report)` says it in words.

    Args:
        source: which weights, and where they came from.
        loaded: names of the tensors that were loaded.
        reheaded: names of the classifier tensors left out because the number of classes differs.
        adapted: names of the tensors that were adapted to another number of input channels.
        random: names of the modules and parameters left at their random initialisation.
        unused: names of the file's tensors that were not used, other than those the entry excludes.
        pinned: the revision and checksum that were checked, or `"unpinned"`.
    """

    source: str
    loaded: tuple[str, ...] = ()
    reheaded: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    pinned: str = "unpinned"

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} tensors loaded, {self.pinned}"]
        for label, names in (
            ("re-headed (another number of classes)", self.reheaded),
            ("adapted (another number of input channels)", self.adapted),
            ("left at random initialisation", self.random),
            ("in the file but not used", self.unused),
        ):
            if names:
                lines.append(f"{label}: {_some(names)}")
        return "\n  ".join(lines)


@dataclass
class _Plan:
    """What would be loaded, and everything that speaks against it."""

    new: dict[str, Tensor] = field(default_factory=dict)
    reheaded: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)


def _named(model: nn.Module, info: WeightsInfo, key: str) -> set[str]:
    """Names of modules or parameters that a config entry lists as a string or a tuple of strings."""
    names: set[str] = set()
    for config in (getattr(model, "pretrained_cfg", None) or {}, info.config):
        value = config.get(key) or ()
        names |= {value} if isinstance(value, str) else set(value)
    return names


def _classifiers(model: nn.Module, info: WeightsInfo) -> set[str]:
    own = set(getattr(model, "classifier_names", ()))
    return own | _named(model, info, "classifier") | _named(model, info, "classifiers")


def _adapt(value: Tensor, want: Tensor) -> Tensor | None:
    """A first convolution's weight for another number of input channels, or None if it cannot be had."""
    from timm.models import adapt_input_conv

    # timm's rule is written for pictures with three channels; clips have time as a further kernel axis.
    if value.ndim < 4 or value.shape[1] != 3 or value.shape[0] != want.shape[0]:
        return None
    if value.shape[2:] != want.shape[2:]:
        return None
    flat = value.flatten(2, -2) if value.ndim > 4 else value
    return adapt_input_conv(want.shape[1], flat.float()).reshape(want.shape)


def _plan(model: nn.Module, target: StateDict, tensors: StateDict, info: WeightsInfo) -> _Plan:
    """Match the file's tensors with the model's, without writing any."""
    plan = _Plan()
    kept = {k: v for k, v in tensors.items() if not any(fnmatchcase(k, pattern) for pattern in info.exclude)}
    claimed = {info.prefix + key: value for key, value in kept.items()}
    heads, stems = _classifiers(model, info), {f"{name}.weight" for name in _named(model, info, "first_conv")}
    resized = {
        name
        for name in heads
        if (key := f"{name}.weight") in claimed
        and key in target
        and claimed[key].shape != target[key].shape
        and claimed[key].shape[1:] == target[key].shape[1:]
    }
    removed = {name for name in heads if not any(key.startswith(f"{name}.") for key in target)}
    for key, value in claimed.items():
        module, want = key.rpartition(".")[0], target.get(key)
        if module in resized or (module in removed and want is None):
            plan.reheaded.append(key)
        elif want is None:
            plan.unexpected.append(key)
        elif value.is_floating_point() != want.is_floating_point() or value.is_complex() != want.is_complex():
            plan.mismatched.append(f"{key}: file {value.dtype}, model {want.dtype}")
        elif value.shape == want.shape:
            plan.new[key] = value
        elif key in stems and (adapted := _adapt(value, want)) is not None:
            plan.new[key] = adapted
            plan.adapted.append(key)
        else:
            plan.mismatched.append(f"{key}: file {tuple(value.shape)}, model {tuple(want.shape)}")
    for key in target:
        if key in claimed or not key.startswith(info.prefix if info.covers == "backbone" else ""):
            continue
        module, _, leaf = key.rpartition(".")
        # A backbone's file brings no classes of ours; a file saved without a classifier says so.
        if module in heads and (module in resized or info.num_classes == 0 or info.covers == "backbone"):
            plan.reheaded.append(key)
        # Files from before PyTorch 0.4.1 have no batch counters, which only matter for momentum=None.
        elif leaf != "num_batches_tracked":
            plan.missing.append(key)
    return plan


def _random_parts(target: StateDict, loaded: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The largest modules of which nothing was loaded, and single parameters of the others."""
    parts: dict[str, None] = {}
    for key in target:
        if key in loaded or key.endswith(".num_batches_tracked"):
            continue
        pieces = key.split(".")
        names = [".".join(pieces[: depth + 1]) for depth in range(len(pieces))]
        parts[next((n for n in names[:-1] if not any(k.startswith(f"{n}.") for k in loaded)), key)] = None
    return tuple(parts)


def _refusal(model: nn.Module, source: str, plans: Sequence[_Plan]) -> str:
    """The problems of all plans in words, or "" if there are none."""
    parts = []
    for label, attribute in (
        ("missing from the file", "missing"),
        ("in the file but not in the model", "unexpected"),
        ("of another shape or kind", "mismatched"),
    ):
        if names := [name for plan in plans for name in getattr(plan, attribute)]:
            parts.append(f"{len(names)} {label}: {_some(names)}")
    return f"{source} does not fit this {type(model).__name__}: " + "; ".join(parts) if parts else ""


def load_weights(
    model: nn.Module,
    source: WeightsInfo | Weights | str | os.PathLike[str] | StateDict | Sequence[WeightsInfo | Weights],
    *,
    strict: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
) -> LoadReport:
    """Load weights into a model and report what was done; nothing is written unless everything fits.

    Every tensor that an entry claims must be in the model with its shape, and every tensor of the model
    (of `prefix`, for a backbone) must be in the file; batch counters (`num_batches_tracked`) may be
    missing. Two differences are handled: another number of classes leaves the classifiers at their random
    initialisation, and another number of input channels adapts the first convolution as timm does.
    Classifiers are the modules named in `model.pretrained_cfg["classifier"]` and
    `model.classifier_names`; the first convolution is `model.pretrained_cfg["first_conv"]`.

    Args:
        model: the model; not on the meta device.
        source: an entry, the path of a checkpoint, a state dict, or several entries that together make a set.
        strict: with False, load what fits and warn once about the rest.
        cache_dir: where downloads are cached.

    Raises:
        RuntimeError: if the weights do not fit, or cannot be had or read.
    """
    single = isinstance(source, WeightsInfo | Weights | str | os.PathLike | Mapping)
    sources = [source] if single else list(source)
    opened = [item if isinstance(item, Weights) else open_weights(item, cache_dir) for item in sources]
    target: dict[str, Tensor] = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    if any(value.is_meta for value in target.values()):
        raise RuntimeError("the model is on the meta device, which holds no values; build it on another")
    plans = [_plan(model, target, item.tensors, item.info) for item in opened]
    name = " + ".join(dict.fromkeys(item.origin for item in opened))
    refusal = _refusal(model, name, plans)
    if refusal and strict:
        raise RuntimeError(
            f"{refusal}. Nothing was loaded. Check the model's name and arguments, or pass strict=False to "
            "load what fits."
        )
    new = {key: value for plan in plans for key, value in plan.new.items()}
    merged = {**model.state_dict(), **new}
    with torch.no_grad():
        model.load_state_dict(merged, strict=True)
    report = _report(name, plans, _random_parts(target, new), [item.pinned for item in opened])
    if refusal:
        warnings.warn(f"{refusal}. Loaded the other {len(new)} tensors (strict=False).", stacklevel=2)
    elif report.random and any(item.info.covers == "backbone" for item in opened):
        parts = ", ".join(report.random)
        warnings.warn(f"{name} covers the backbone only; left at random initialisation: {parts}", stacklevel=2)
    return report


def _report(source: str, plans: Sequence[_Plan], random: tuple[str, ...], pinned: Iterable[str]) -> LoadReport:
    unused = [key for plan in plans for key in plan.unexpected]
    unused += [text.partition(":")[0] for plan in plans for text in plan.mismatched]
    return LoadReport(
        source=source,
        loaded=tuple(key for plan in plans for key in plan.new),
        reheaded=tuple(dict.fromkeys(key for plan in plans for key in plan.reheaded)),
        adapted=tuple(key for plan in plans for key in plan.adapted),
        random=random,
        unused=tuple(unused),
        pinned="; ".join(dict.fromkeys(pinned)),
    )
