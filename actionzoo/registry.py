"""The model registry: models by name, and the one function that builds a model with its weights."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast, overload

from torch import Tensor, nn

from . import _catalogue, _timm
from ._catalogue import ModelInfo as ModelInfo
from ._catalogue import is_model as is_model
from ._catalogue import list_models as list_models
from ._catalogue import list_weights as list_weights
from ._catalogue import model_info as model_info
from ._catalogue import tagged, tags
from ._sources import Weights, WeightsInfo, open_weights
from .weights import LoadReport, load_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# What weights say of the pictures they take, of how they were made, and of themselves.
STORED_CONFIG = (
    "input_size", "test_input_size", "mean", "std", "crop_pct", "test_crop_pct", "crop_mode", "interpolation",
    "detector", "limits", "task_args", "seed", "command",
)  # fmt: skip
DESCRIPTION = ("tag", "licence", "data", "classes", "metrics", "recipe", "url")

EntryPoint = TypeVar("EntryPoint", bound=Callable[..., nn.Module])
WeightsArgument = str | os.PathLike[str] | Mapping[str, Tensor] | WeightsInfo


@overload
def register_model(fn: EntryPoint) -> EntryPoint: ...
@overload
def register_model(
    fn: None = None,
    *,
    task: str = ...,
    paper: str | None = ...,
    input_size: Sequence[int] = ...,
    num_classes: int | None = ...,
    params: int | None = ...,
    macs: int | None = ...,
    aliases: Sequence[str] = ...,
    weights: Sequence[WeightsInfo] = ...,
    default_tag: str | None = ...,
    example_inputs: Callable[[int], Any] | None = ...,
    config: Mapping[str, Any] | None = ...,
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = ...,
    timm: bool = ...,
) -> Callable[[EntryPoint], EntryPoint]: ...
def register_model(
    fn: Callable[..., nn.Module] | None = None,
    *,
    task: str = "image classification",
    paper: str | None = None,
    input_size: Sequence[int] = (3, 256, 256),
    num_classes: int | None = None,
    params: int | None = None,
    macs: int | None = None,
    aliases: Sequence[str] = (),
    weights: Sequence[WeightsInfo] = (),
    default_tag: str | None = None,
    example_inputs: Callable[[int], Any] | None = None,
    config: Mapping[str, Any] | None = None,
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
    timm: bool = False,
) -> Any:
    """Register a function that builds a model under the function's name; use it as a decorator.

    Args:
        fn: takes `num_classes`, `in_chans` and the model's arguments as keywords, returns the model.
        task: what the model does, in words.
        paper: the paper it comes from.
        input_size: shape of one input without the batch, `(C, H, W)` or `(C, T, H, W)`.
        num_classes: the default number of classes.
        params: number of parameters at the default number of classes; counted on demand if not given.
        macs: multiply-accumulates of one input at the default number of classes.
        aliases: further names.
        weights: published weights that are not bundled; bundled ones are found by their file names.
        default_tag: the weights that `pretrained=True` loads; by default the first whole-model weights.
        example_inputs: `example_inputs(batch)` gives a tensor or a tuple of tensors for `forward`.
        config: further entries for `pretrained_cfg`, such as `classifier`, `first_conv`, `pool_size`.
        rename: gives the tensors of a file without a description, published elsewhere, the model's own names, and
            leaves those that have them as they are. Such a file may lack the classifiers, which stay random then.
        timm: also register the model with timm, for `timm.create_model`.

    Returns:
        The function itself.

    Raises:
        ValueError: if a name or alias is taken, here or by a model of timm's.
    """

    def register(function: EntryPoint) -> EntryPoint:
        info = ModelInfo(
            name=function.__name__,
            task=task,
            paper=paper,
            input_size=tuple(input_size),
            num_classes=num_classes,
            macs=macs,
            aliases=tuple(aliases),
            description=(inspect.getdoc(function) or "").split("\n", 1)[0],
            default_tag=default_tag,
            build=function,
            config=dict(config or {}),
            rename=rename,
            _params=params,
            _example_inputs=example_inputs,
        )
        _catalogue.add(info, weights)
        if timm:
            _timm.expose(function, _default_config(info), info.weights, create)
        return function

    return register if fn is None else register(fn)


def _best(info: ModelInfo) -> list[WeightsInfo]:
    """What `pretrained=True` loads: the default tag, else the first that covers most."""
    published = info.weights
    if published and info.default_tag in (None, published[0].tag):
        return tagged(info, published[0].tag)
    what = info.name if info.default_tag is None else f"{info.name} as its default, {info.default_tag!r}"
    others = list_models(pretrained=True)
    raise RuntimeError(
        f"no weights are published for {what} (its tags: {tags(info)}). "
        f"Models with weights: {', '.join(others) or 'none'}. Name one of these, pass a checkpoint of your "
        "own as weights=PATH, or leave pretrained=False for random initialisation."
    )


def _requested(info: ModelInfo, weights: WeightsArgument) -> Sequence[WeightsArgument]:
    """What the `weights` argument means: a tag, a path, a state dict or an entry of `list_weights`."""
    if not isinstance(weights, str):
        return [weights]
    base, _, tag = weights.partition(".")
    if tag and base in (info.name, *info.aliases):
        return tagged(info, tag)
    if any(entry.tag == weights for entry in info.weights):
        return tagged(info, weights)
    if Path(weights).is_file():
        return [weights]
    raise ValueError(f"weights={weights!r} is neither a file nor a tag of {info.name} (tags: {tags(info)})")


def _open(
    name: str, pretrained: bool, weights: WeightsArgument | None, cache_dir: str | os.PathLike[str] | None
) -> tuple[ModelInfo, list[Weights]]:
    """Resolve a name and its weights, and read them; no weights is an empty list."""
    scheme, colon, rest = name.partition(":")
    if not colon:
        info, (_, dot, tag) = model_info(name), name.partition(".")
        if dot and weights is not None:
            raise ValueError(f"two sources of weights: the name {name!r} and weights=; give one")
        chosen: Sequence[WeightsArgument] = []
        if weights is not None:
            chosen = _requested(info, weights)
        elif dot or pretrained:
            chosen = tagged(info, tag) if dot else _best(info)
        return info, [_renamed(info, open_weights(item, cache_dir)) for item in chosen]
    if scheme not in ("local-dir", "hf-hub") or not rest:
        raise ValueError(f"{name!r}: expected NAME, NAME.TAG, local-dir:DIR or hf-hub:ORG/NAME@REVISION")
    if weights is not None:
        raise ValueError(f"two sources of weights: the name {name!r} and weights=; give one")
    location, _, revision = rest.partition("@") if scheme == "hf-hub" else (rest, "", "")
    source = WeightsInfo(source=cast(Any, scheme), location=location, revision=revision or None)
    opened = open_weights(source, cache_dir)
    if not is_model(opened.info.model):
        raise ValueError(f"{name} holds a {opened.info.model!r}, which is not a registered model")
    return model_info(opened.info.model), [opened]


def _renamed(info: ModelInfo, opened: Weights) -> Weights:
    """Weights from elsewhere under the model's own names; without a classifier they are those of a backbone."""
    if info.rename is None or "architecture" in opened.info.config:
        return opened
    tensors = info.rename(opened.tensors)
    names = info.config.get("classifier") or ()
    heads = (names,) if isinstance(names, str) else names
    known = any(f"{name}.weight" in tensors for name in heads)
    found = opened.info if known else replace(opened.info, covers="backbone")
    return opened._replace(tensors=tensors, info=found)


def _default_config(info: ModelInfo) -> dict[str, Any]:
    """The `pretrained_cfg` of a model before weights are known."""
    config: dict[str, Any] = {
        "architecture": info.name,
        "task": info.task,
        "input_size": info.input_size,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }
    if info.paper:
        config["paper"] = info.paper
    if info.num_classes is not None:
        config["num_classes"] = info.num_classes
    return {**config, **info.config}


def _check_architecture(info: ModelInfo, found: WeightsInfo) -> None:
    """Refuse a file that says that it was written for another model."""
    written_for = found.config.get("architecture", info.name)
    if written_for not in (info.name, *info.aliases):
        raise ValueError(
            f"{found} holds weights of {written_for!r}, not of {info.name!r}; create that model, or pass the "
            "tensors alone as a state dict"
        )


def _build(
    info: ModelInfo,
    stored: Weights | None,
    num_classes: int | None,
    in_chans: int | None,
    model_args: Mapping[str, Any],
) -> nn.Module:
    """Build a model and set its `pretrained_cfg`: the registry's, then the model's, then the weights'."""
    sizes = {"num_classes": num_classes, "in_chans": in_chans}
    model = info.build(**{key: size for key, size in sizes.items() if size is not None}, **model_args)
    config = {**_default_config(info), **(getattr(model, "pretrained_cfg", None) or {})}
    if stored is not None:
        said = stored.info
        config |= {key: said.config[key] for key in STORED_CONFIG if key in said.config}
        config |= {key: value for key in DESCRIPTION if (value := getattr(said, key))}
    config |= {"architecture": info.name, "model_args": dict(model_args)}
    for key, size in sizes.items():
        value = getattr(model, key, size)
        if isinstance(value, int):
            config[key] = value
    config.setdefault("in_chans", config["input_size"][0])
    for key in ("input_size", "test_input_size"):
        if config.get(key):
            config[key] = (config["in_chans"], *config[key][1:])
    told = stored.info.num_classes if stored is not None else None
    if told is not None and told != config.get("num_classes"):
        # Scores and class names of the weights' own classifier say nothing of a new one.
        config.pop("classes", None)
        config.pop("metrics", None)
    if config.get("licence"):
        config["license"] = config["licence"]
    for name in ("pretrained_cfg", "default_cfg"):  # timm's helpers read either
        setattr(model, name, config)
    return model


def _file_classes(model: nn.Module, tensors: Mapping[str, Tensor]) -> int | None:
    """Number of classes of a file that does not say, from the shape of its first known classifier."""
    names = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    for name in (names,) if isinstance(names, str) else names:
        if (weight := tensors.get(f"{name}.weight")) is not None:
            return weight.shape[0]
    return None


def create(
    name: str,
    pretrained: bool = False,
    *,
    weights: WeightsArgument | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    strict: bool = True,
    **model_args: Any,
) -> nn.Module:
    """Build a model, with weights if the name, `weights` or `pretrained` asks for them.

    Args:
        name: a model or alias (`prfnet`), a model with a weights tag (`prfnet_tiny.sports20`), a folder
            that `save_pretrained` wrote (`local-dir:DIRECTORY`) or a hub repository
            (`hf-hub:ORG/NAME@REVISION`). All but the first always load their weights.
        pretrained: load the best weights published for the model. If they cover the backbone alone, one
            warning names the parts that stay random.
        weights: a checkpoint file, a tag of the model's, a state dict or an entry of `list_weights`, which
            is always loaded. A tag wins over a file of the same name; write `./NAME` for the file.
        num_classes: number of classes; that of the loaded weights, or the model's own, if None. Another
            number than the weights' leaves the classifiers random; 0 removes them.
        in_chans: number of input channels; likewise. Another number adapts the first convolution.
        cache_dir: where downloads are cached.
        strict: with False, load what fits and warn about the rest.
        model_args: passed to the model; they win over arguments stored with the weights.

    Returns:
        The model, with `pretrained_cfg` (what it is) and `load_report` (what was loaded).

    Raises:
        ValueError: for an unknown name or tag (nearest names are listed), or two sources of weights.
        RuntimeError: if nothing is published, or the weights cannot be had, read or fitted.
    """
    info, opened = _open(name, pretrained, weights, cache_dir)
    stored = opened[0] if opened and opened[0].info.covers == "model" else None
    if stored is not None:
        _check_architecture(info, stored.info)
        model_args = {**stored.info.model_args, **model_args}
        num_classes = stored.info.num_classes if num_classes is None else num_classes
        in_chans = stored.info.in_chans if in_chans is None else in_chans
    model = _build(info, stored, num_classes, in_chans, model_args)
    if stored is not None and num_classes is None:
        found = _file_classes(model, stored.tensors)
        if found not in (None, getattr(model, "num_classes", found)):
            model = _build(info, stored, found, in_chans, model_args)
    if opened:
        report = load_weights(model, opened, strict=strict)
    else:
        parts = tuple(name for name, child in model.named_children() if child.state_dict())
        report = LoadReport(source="random initialisation", random=parts)
    setattr(model, "load_report", report)  # noqa: B010
    return model


create_model = create
