"""Makes registered models known to timm, so that `timm.create_model` builds and loads them through us."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from ._checkpoint import tuples
from ._sources import WeightsInfo

# Fields of timm's PretrainedCfg that say where weights are, or repeat what the built model says itself.
SOURCES = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "custom_load")
DERIVED = ("architecture", "tag", "num_classes")

Builder = Callable[..., nn.Module]


def is_taken(name: str) -> bool:
    """Whether timm has a model of this name, so that ours would shadow it."""
    from timm.models import is_model

    return is_model(name)


def _timm_config(config: Mapping[str, Any], entry: WeightsInfo | None) -> Any:
    """The `timm.models.PretrainedCfg` for one set of weights, or for none."""
    from timm.models import PretrainedCfg

    said = {**config, **(entry.config if entry else {})}
    known = {field.name for field in fields(PretrainedCfg)} - {*SOURCES, "architecture", "tag"}
    out = {key: value for key, value in said.items() if key in known and value is not None}
    if entry is not None:
        out |= {"license": entry.licence, "label_names": entry.classes or None}
        if entry.source == "hf-hub":
            out["hf_hub_id"] = f"{entry.location}@{entry.revision}" if entry.revision else entry.location
        else:
            out["file"] = str(entry.path)
    return PretrainedCfg(**out)


def expose(build: Builder, config: Mapping[str, Any], weights: Iterable[WeightsInfo], create: Builder) -> None:
    """Register an entry point with timm, with one tag for each set of whole-model weights.

    timm reads the tags from `default_cfgs` in the entry point's module; what a module defines there itself
    is kept.
    """
    from timm.models import generate_default_cfgs, register_model

    name = build.__name__
    configs = {entry.name: _timm_config(config, entry) for entry in weights if entry.covers == "model"}
    module = sys.modules[build.__module__]
    if not hasattr(module, "default_cfgs"):
        module.default_cfgs = {}  # pyright: ignore[reportAttributeAccessIssue]
    for key, value in generate_default_cfgs(configs or {name: _timm_config(config, None)}).items():
        module.default_cfgs.setdefault(key, value)
    register_model(_entry_point(build, configs, create))


def _entry_point(build: Builder, published: Mapping[str, Any], create: Builder) -> Builder:
    """The function that timm calls; it takes timm's arguments and builds through `create`."""
    name = build.__name__

    def entry_point(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        features_only: bool = False,
        out_indices: int | tuple[int, ...] | None = None,
        pretrained_model_args: Mapping[str, Any] | None = None,
        **model_args: Any,
    ) -> nn.Module:
        from timm.models import resolve_pretrained_cfg

        overlay = dict(pretrained_cfg_overlay or {})
        config = resolve_pretrained_cfg(name, pretrained_cfg=pretrained_cfg, pretrained_cfg_overlay=overlay)
        if pretrained_model_args:
            model_args = tuples(model_args)  # timm has read them from JSON
        if features_only:
            model_args.setdefault("num_classes", 0)
        source, weights = name, None
        if pretrained:
            source, weights = _source(name, config, published)
        elif pretrained_cfg:
            # As in timm, the config asked for sets the defaults even if its weights are not loaded.
            model_args.setdefault("num_classes", config.num_classes)
        model = create(source, pretrained, weights=weights, cache_dir=cache_dir, **model_args)
        for key, value in {**_given(pretrained_cfg), **overlay}.items():
            if key not in (*SOURCES, *DERIVED):
                model.pretrained_cfg[key] = value  # pyright: ignore[reportIndexIssue, reportArgumentType]
        return _features(model, out_indices) if features_only else model

    entry_point.__name__ = entry_point.__qualname__ = name
    entry_point.__module__ = build.__module__
    entry_point.__doc__ = build.__doc__
    return entry_point


def _given(pretrained_cfg: Any) -> dict[str, Any]:
    """The entries that the caller's own config sets; a tag sets none, its weights say them."""
    if isinstance(pretrained_cfg, Mapping):
        return dict(pretrained_cfg)
    if not pretrained_cfg or isinstance(pretrained_cfg, str):
        return {}
    values = {field.name: getattr(pretrained_cfg, field.name) for field in fields(pretrained_cfg)}
    return {f.name: values[f.name] for f in fields(pretrained_cfg) if values[f.name] != f.default}


def _source(name: str, config: Any, published: Mapping[str, Any]) -> tuple[str, Any]:
    """What a timm config's weights are called in `create`: a name, and a `weights` argument or None."""
    if config.source == "local-dir":
        return f"local-dir:{config.file}", None
    if config.state_dict:
        return name, config.state_dict
    ours = published.get(f"{name}.{config.tag}")
    if ours is not None and (ours.file, ours.hf_hub_id) == (config.file, config.hf_hub_id):
        return f"{name}.{config.tag}", None
    if config.source != "hf-hub" and config.file:
        return name, config.file
    if config.hf_hub_id:
        return f"hf-hub:{config.hf_hub_id}", None
    if config.url:
        raise ValueError(f"{name}: cannot load from a bare URL; download {config.url} and pass it as file")
    return name, None


def _features(model: nn.Module, out_indices: int | tuple[int, ...] | None) -> nn.Module:
    """Wrap a model in timm's feature extractor, which calls `forward_intermediates`."""
    from timm.models._features import FeatureGetterNet

    if not hasattr(model, "forward_intermediates"):
        raise ValueError(f"{type(model).__name__} has no forward_intermediates for features_only=True")
    if out_indices is None:
        out_indices = len(model.feature_info)  # pyright: ignore[reportArgumentType]
    net = FeatureGetterNet(model, out_indices=out_indices)
    dropped = ("num_classes", "classifier", "global_pool", "classes")
    config: Any = model.pretrained_cfg
    config = {key: value for key, value in config.items() if key not in dropped}
    for name in ("pretrained_cfg", "default_cfg"):
        setattr(net, name, config)
    net.load_report = model.load_report
    return net


def withdraw(name: str) -> None:
    """Take a model out of timm's registry again, for tests that register their own."""
    from timm.models import _registry as registry

    entry = registry._model_entrypoints.pop(name, None)
    if entry is None:
        return
    getattr(sys.modules[entry.__module__], "default_cfgs", {}).pop(name, None)
    registry._module_to_models[registry._model_to_module.pop(name)].discard(name)
    registry._model_default_cfgs.pop(name, None)
    for tagged in [*registry._model_with_tags.pop(name, []), name]:
        registry._model_pretrained_cfgs.pop(tagged, None)
        registry._model_has_pretrained.discard(tagged)
