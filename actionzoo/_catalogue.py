"""The catalogue of models: what is registered, under which names, and which weights each has."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from . import _sources, _timm
from ._sources import WeightsInfo


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a registered model without building it.

    Args:
        name: the name it is registered under.
        task: what it does, in words.
        paper: the paper it comes from.
        input_size: shape of one input without the batch, `(C, H, W)` or `(C, T, H, W)`.
        num_classes: its default number of classes.
        macs: multiply-accumulates of one input at the default number of classes.
        aliases: further names.
        description: the first line of the entry point's docstring.
        default_tag: the weights that `pretrained=True` loads.
        build: the entry point.
        config: further entries for `pretrained_cfg`.
        rename: gives the tensors of files published elsewhere the model's own names.
    """

    name: str
    task: str
    paper: str | None
    input_size: tuple[int, ...]
    num_classes: int | None
    macs: int | None
    aliases: tuple[str, ...]
    description: str
    default_tag: str | None
    build: Callable[..., nn.Module] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False, hash=False)
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = field(default=None, repr=False)
    _params: int | None = field(default=None, repr=False)
    _example_inputs: Callable[[int], Any] | None = field(default=None, repr=False)

    @cached_property
    def parameters(self) -> int:
        """Number of parameters at the default number of classes, counted on the meta device if need be."""
        if self._params is not None:
            return self._params
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.build().parameters())

    @property
    def weights(self) -> tuple[WeightsInfo, ...]:
        """The weights published for the model: the default first, whole-model ones before backbones."""
        found = _sources.weights_of(self.name)
        return tuple(sorted(found, key=lambda w: (w.tag != self.default_tag, w.covers != "model")))

    def example_inputs(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Inputs that fit the model's `forward`, by default one tensor of noise `(batch, *input_size)`."""
        if self._example_inputs is not None:
            inputs = self._example_inputs(batch)
            return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
        generator = torch.Generator().manual_seed(0)
        return (torch.randn(batch, *self.input_size, generator=generator),)


_models: dict[str, ModelInfo] = {}
_aliases: dict[str, str] = {}


def add(info: ModelInfo, weights: Sequence[WeightsInfo]) -> None:
    """Record a model, its aliases and its weights; `ValueError` if a name is taken."""
    for name in (info.name, *info.aliases):
        if name in _models or name in _aliases:
            raise ValueError(f"the name {name!r} is taken by a registered model; choose another")
        if _timm.is_taken(name):
            raise ValueError(f"the name {name!r} is taken by a model of timm's, which ours must not shadow")
    _models[info.name] = info
    _aliases.update(dict.fromkeys(info.aliases, info.name))
    _sources.publish(info.name, weights)


def remove(name: str) -> None:
    """Forget a model, for tests that register their own."""
    info = _models.pop(name)
    for alias in info.aliases:
        _aliases.pop(alias)
    _sources.withdraw(name)
    _timm.withdraw(name)


def is_model(name: str) -> bool:
    """Whether a model or alias of that name is registered; a weights tag is ignored."""
    base = name.partition(".")[0]
    return base in _models or base in _aliases


def model_info(name: str) -> ModelInfo:
    """What is known of a model, by its name, an alias, or the name of its weights.

    Raises:
        ValueError: if there is no such model; the message lists the nearest names.
    """
    base = name.partition(".")[0]
    base = _aliases.get(base, base)
    if base not in _models:
        near = difflib.get_close_matches(base, [*_models, *_aliases], n=5, cutoff=0.4)
        hint = f"the nearest names are {', '.join(near)}" if near else "actionzoo.list_models() lists all"
        raise ValueError(f"unknown model {name!r}; {hint}")
    return _models[base]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def list_models(pattern: str = "*", *, task: str | None = None, pretrained: bool = False) -> list[str]:
    """Names of the registered models in natural order.

    Args:
        pattern: shell-style pattern of the name.
        task: keep the models with this task.
        pretrained: keep the models with published weights for the whole model.
    """
    names = [
        name
        for name, info in _models.items()
        if fnmatchcase(name, pattern)
        and (task is None or info.task == task)
        and (not pretrained or any(entry.covers == "model" for entry in info.weights))
    ]
    return sorted(names, key=_natural)


def list_weights(pattern: str = "*") -> list[WeightsInfo]:
    """Published weights of the registered models.

    Args:
        pattern: shell-style pattern of the weights' name `MODEL.TAG`, or of the model's name.
    """
    found = [entry for name in sorted(_models, key=_natural) for entry in _models[name].weights]
    return [w for w in found if fnmatchcase(w.name, pattern) or fnmatchcase(w.model, pattern)]


def tags(info: ModelInfo) -> str:
    """The tags of a model's weights, for messages."""
    return ", ".join(dict.fromkeys(entry.tag for entry in info.weights)) or "none"


def tagged(info: ModelInfo, tag: str) -> list[WeightsInfo]:
    """The entries of one tag: whole-model weights, or several backbones that make one set."""
    found = [entry for entry in info.weights if entry.tag == tag]
    if not found:
        raise ValueError(f"{info.name} has no weights tagged {tag!r}; published tags: {tags(info)}")
    return found[:1] if found[0].covers == "model" else found
