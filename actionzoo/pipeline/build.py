"""A pipeline from a model or its name."""

import copy
import warnings
from typing import Any, Literal

import torch
from torch import nn

from ..models import YOLOF, ConViTHARPerson, InstanceActionNet, KeypointDetector, PersonDetector
from ..models._part_settings import Coarse
from ..models.pcf import PCF
from ..registry import create, list_models, model_info
from .clips import ClipActionPipeline
from .image import ActionPipeline
from .parts import PartParsingPipeline
from .people import PeoplePipeline
from .persons import DetectionPipeline, Detector, PersonActionPipeline


def pipeline(
    model: str | nn.Module,
    *,
    device: str | torch.device | None = None,
    detector: str | nn.Module | Detector | Literal[False] | None = None,
    threshold: float | None = None,
    stride: int | None = None,
    hop: int | None = None,
    seconds: float | None = None,
    frames_per_segment: int | None = None,
    coarse: Coarse | None = None,
    batch: int | None = None,
    **create_args: Any,
) -> (
    ActionPipeline
    | PeoplePipeline
    | PersonActionPipeline
    | DetectionPipeline
    | ClipActionPipeline
    | PartParsingPipeline
):
    """Build a pipeline from a model's name or a model: `pipeline("prfnet_tiny")("photo.jpg").label`.

    Classifiers give an `ActionPipeline`; models that find joints (`bodypart_*`, `pose_*`) a `PeoplePipeline`, which
    also takes the people's boxes; models with a human branch (`convit_har_person_*`) a `PersonActionPipeline`, which
    finds the people with a detector; detectors of people (`person_*`, `keypointrcnn_*`, `yolof_*`) a
    `DetectionPipeline`; models of clips (`instance_action_*`) a `ClipActionPipeline`; those that parse body parts
    (`pcf_*`) a `PartParsingPipeline`.

    Args:
        model: A name as `create` takes it, whose whole-model weights are loaded, or a built model.
        device: Where to run, e.g. `"cuda"`.
        detector: For a model with a human branch: a detector's name, or any that gives torchvision's `boxes`,
            `labels` and `scores`. By default the one that the model's weights name; with False none, so that people
            are given by their boxes, which stay as they are. For a model of clips: a detector's name, or any of
            torchvision's kind with a feature pyramid, which is frozen and takes the place of the model's own in the
            pipeline; a built model that was given keeps its own.
        threshold: Least score of a detected person; 0.5 if None, and of a model of clips its own. Detectors give nobody
            below their own threshold (0.05 unless built otherwise), so that less changes nothing.
        stride: For a model of clips: step between the frames that are looked at; the model's if None. A
            `PartParsingPipeline` calls it `every`.
        hop: For a model of clips: looked-at frames from one window to the next; half a window if None.
        seconds: For a model that parses body parts, as the next three: length of a segment; the model's if None.
        frames_per_segment: Its length in frames, in place of seconds.
        coarse: Whether part states are read from the labels of all actions or of the recognised one; as the model
            has it if None.
        batch: Looked-at frames that go through the detectors at a time; one by one if None.
        create_args: Further arguments of `create`, such as `weights=`.

    Returns:
        A callable that takes a picture or a clip, or a list of them.

    Raises:
        ValueError: If a name is unknown or a detector's of another model, arguments of `create` are given with a
            built model, or a detector, stride, hop or setting of segments with a model that has no use for it.
        RuntimeError: If nothing that covers the whole model is published for the name, or the weights given leave
            a part of it random.
    """
    if isinstance(model, nn.Module):
        if create_args:
            raise ValueError(f"{sorted(create_args)} belong to create(); the model given is built already")
        built = model
    else:
        built = whole_model(model, **create_args)
    settings = {"seconds": seconds, "frames_per_segment": frames_per_segment, "coarse": coarse, "batch": batch}
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    if given and not isinstance(built, PCF):
        raise ValueError(f"{', '.join(given)} are for pcf_*, which parse body parts; got {type(built).__name__}")
    if isinstance(built, InstanceActionNet):
        if detector is not None:
            device = next(built.parameters()).device if device is None else device
            built = _with_detector(built, _pyramid_detector(detector, built))
        return ClipActionPipeline(built, device, threshold, stride, hop)
    if isinstance(built, PCF):
        if hop is not None or detector is not None:
            raise ValueError(
                "hop and detector are for instance_action_*; a PCF cuts clips into segments, and its detectors are "
                "replaced by assignment: model.person_detector = …"
            )
        return PartParsingPipeline(built, device, threshold, stride, **given)
    kind, threshold = type(built).__name__, 0.5 if threshold is None else threshold
    if stride is not None or hop is not None:
        raise ValueError(f"{kind} takes pictures; stride and hop are for models of clips")
    if isinstance(built, ConViTHARPerson):
        detector = built.pretrained_cfg.get("detector") if detector is None else detector
        found = _detector(detector) if isinstance(detector, str) else None if detector is False else detector
        return PersonActionPipeline(built, device, found, threshold)
    if detector is not None and detector is not False:
        raise ValueError(
            f"{kind} labels no people one by one; a detector is for convit_har_person_* and instance_action_*"
        )
    if isinstance(built, PersonDetector | KeypointDetector | YOLOF):
        return DetectionPipeline(built, device, threshold)
    return (PeoplePipeline if hasattr(built, "heatmap_stride") else ActionPipeline)(built, device)


def _detector(name: str) -> nn.Module:
    model = whole_model(name)
    if not isinstance(model, PersonDetector | KeypointDetector | YOLOF):
        raise ValueError(
            f"{name} is a {type(model).__name__} and no detector; give a person_*, keypointrcnn_* or yolof_* model"
        )
    return model


def _pyramid_detector(detector: str | nn.Module | Detector | Literal[False], model: InstanceActionNet) -> nn.Module:
    """A detector whose maps the model can pool from."""
    if detector is False:
        raise ValueError("a model of clips pools features from its detector's maps and cannot do without one")
    found: Any = _detector(detector) if isinstance(detector, str) else detector
    parts = ("transform", "backbone", "rpn", "roi_heads")
    if not (isinstance(found, nn.Module) and all(hasattr(found, part) for part in parts)):
        raise ValueError(
            f"a model of clips takes a detector of torchvision's kind, with {', '.join(parts)}, such as "
            f"keypointrcnn_resnet50_fpn(); got {type(found).__name__}"
        )
    backbone: Any = found.backbone
    channels = backbone.out_channels
    if channels != model.head.in_chans:
        raise ValueError(
            f"the maps of this {type(found).__name__} have {channels} channels, and the model's head takes "
            f"{model.head.in_chans}"
        )
    return found


def _with_detector(model: InstanceActionNet, detector: nn.Module) -> InstanceActionNet:
    """A model of the same parts with another detector; the one given keeps its own."""
    changed = copy.copy(model)
    # a shallow copy shares the very dictionary of its parts
    changed._modules = dict(model._modules)
    changed.pretrained_cfg = changed.default_cfg = dict(model.pretrained_cfg)
    changed.detector = detector
    return changed


def whole_model(name: str, *, weights: Any = None, **create_args: Any) -> nn.Module:
    """Create a model with weights for all of it.

    Args:
        name: As `create` takes it; without a tag, the published whole-model weights are loaded.
        weights: As `create` takes it.
        create_args: Further arguments of `create`.

    Raises:
        ValueError: If the name is unknown.
        RuntimeError: If the weights leave a part of the model random, or none are published.
    """
    pointed = ":" in name or "." in name or weights is not None
    if ":" not in name and weights is None:
        _refuse_unpublished(name)
    with warnings.catch_warnings():
        # said again below, as an error
        warnings.filterwarnings("ignore", message=".*covers the backbone only")
        model: Any = create(name, not pointed, weights=weights, **create_args)
    if model.load_report.random or model.load_report.reheaded:
        parts = dict.fromkeys((*model.load_report.random, *model.load_report.reheaded))
        raise RuntimeError(
            f"the weights leave {', '.join(parts)} of {name!r} random, so its labels or joints would be random"
        )
    return model


def _refuse_unpublished(name: str) -> None:
    """Refuse a model none of whose published weights cover it, unless the name's tag says which are meant."""
    info = model_info(name)
    if any(entry.covers == "model" or name.endswith(f".{entry.tag}") for entry in info.weights):
        return
    others = ", ".join(list_models(task=info.task, pretrained=True)) or "none"
    raise RuntimeError(
        f"no weights for the whole of {info.name!r} are published, so its labels or joints would be random; train one "
        f"(actionzoo train --model {info.name} --data … --output DIR) and give local-dir:DIR as the model, or pass "
        f"weights=PATH; models of the same task that have some: {others}"
    )
