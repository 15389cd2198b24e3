"""Picture in, labelled action out: a model, its transform and its class names behind one call."""

import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast, overload

import torch
from PIL import Image
from torch import Tensor, nn

from . import draw
from .data.folders import load_image
from .data.transforms import eval_transform
from .registry import create, list_models, model_info

Picture: TypeAlias = str | os.PathLike[str] | Image.Image | Tensor


@dataclass(frozen=True)
class Person:
    """One person of a result; what a model does not give is None."""

    box: tuple[float, float, float, float] | None = None
    """xyxy, pixels of the picture."""
    label: str | None = None
    score: float | None = None
    keypoints: list[tuple[float, float, float]] | None = None
    """x, y in pixels of the picture, and score."""
    track_id: int | None = None


@dataclass(frozen=True)
class ActionResult:
    """What a model says of one picture."""

    classes: tuple[str, ...]
    scores: tuple[float, ...]
    """Probability of every class."""
    model: str
    source: str | None = None
    """File that the picture came from."""
    people: list[Person] = field(default_factory=list)
    focus: tuple[tuple[float, float, float, float], ...] = ()
    """PRF-Net's chain of focus boxes, xyxy in pixels of the picture, each inside the one before."""
    attention: Tensor | None = field(default=None, repr=False, compare=False)
    """`(h, w)` attention over `field_of_view`, scores of Eq. 8 of PRF-Net's last stage on the whole image."""
    field_of_view: tuple[float, float, float, float] | None = None
    """xyxy, the part of the picture that the model saw."""
    image: Image.Image | None = field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The likeliest class, named as the training folder was."""
        return self.top(1)[0][0]

    @property
    def score(self) -> float:
        """Probability of `label`."""
        return self.top(1)[0][1]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` likeliest classes and their probabilities, likeliest first."""
        order = sorted(range(len(self.scores)), key=lambda i: -self.scores[i])
        return [(self.classes[i], self.scores[i]) for i in order[:k]]

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "source": self.source,
            "model": self.model,
            "label": self.label,
            "score": round(self.score, 6),
            "top": [{"label": name, "score": round(score, 6)} for name, score in self.top(k)],
            "people": [vars(person) for person in self.people],
            "focus": [[round(v, 2) for v in box] for box in self.focus],
            "size": list(self.image.size) if self.image is not None else None,
        }

    def to_json(self, k: int = 5) -> str:
        """The result as one JSON object: label, score, the `k` best, people, focus boxes, `[width, height]`."""
        return json.dumps(self.to_dict(k))

    def draw(self, k: int = 5) -> Image.Image:
        """An annotated picture: score bars beside the photograph and, for PRF-Net, the chain of focus regions.

        Raises:
            RuntimeError: If the result holds no picture.
        """
        if self.image is None:
            raise RuntimeError("this result holds no picture to draw on")
        labels, scores = zip(*self.top(k))
        panels = [draw.score_bars(self.image, labels, scores, k=k)]
        if self.focus:
            # the chain of pictures is about as wide as the panel above it
            width, (image_w, image_h) = panels[0].width, self.image.size
            height = max(64, round(0.93 * width / (len(self.focus) + 1) * image_h / image_w))
            panels.append(draw.focus_chain(self.image, torch.tensor(self.focus), height=height))
        return draw.stack(panels, width=panels[0].width)

    def draw_attention(self) -> Image.Image:
        """The photograph under a heat map of the model's attention.

        Raises:
            RuntimeError: If the model gives no attention or the result holds no picture.
        """
        if self.image is None or self.attention is None or self.field_of_view is None:
            raise RuntimeError("this result holds no attention map; PRF-Net models give one")
        left, top, right, bottom = (round(v) for v in self.field_of_view)
        canvas = self.image.copy()
        canvas.paste(draw.heat_map(self.image.crop((left, top, right, bottom)), self.attention), (left, top))
        return canvas


class ActionPipeline:
    """A model with its transform and class names; call it with pictures."""

    def __init__(self, model: nn.Module, device: str | torch.device | None = None) -> None:
        """Wrap a built model.

        Args:
            model: An image classifier with a `pretrained_cfg`.
            device: Where to run; where the model's parameters are if None.

        Raises:
            ValueError: If the model has no `pretrained_cfg` or no classes.
        """
        cfg = getattr(model, "pretrained_cfg", None)
        if not cfg:
            raise ValueError(f"{type(model).__name__} has no pretrained_cfg; build it with actionzoo.create")
        self.cfg: dict[str, Any] = dict(cfg)
        parameter = next(model.parameters())
        self.device = torch.device(device) if device is not None else parameter.device
        self.model = model.to(self.device).eval()
        self.transform = eval_transform(self.cfg)
        count: Any = getattr(model, "num_classes", self.cfg.get("num_classes"))
        if not count:
            raise ValueError(f"{type(model).__name__} has no classifier; create it with num_classes=…")
        names = tuple(self.cfg.get("classes") or ())
        # a classifier that was replaced after loading does not score the classes of the old one
        self.classes = names if len(names) == count else tuple(f"class_{i}" for i in range(count))
        tag = self.cfg.get("tag")
        self.name = f"{self.cfg.get('architecture') or type(model).__name__}{f'.{tag}' if tag else ''}"

    @overload
    def __call__(self, pictures: Picture) -> ActionResult: ...
    @overload
    def __call__(self, pictures: list[Any] | tuple[Any, ...]) -> list[ActionResult]: ...
    def __call__(self, pictures: Picture | list[Any] | tuple[Any, ...]) -> ActionResult | list[ActionResult]:
        """Label one picture, or a list of pictures one by one.

        Args:
            pictures: A file, a PIL image, a `(3, H, W)` uint8 tensor, or a list of them.

        Returns:
            One result, or a list of them.

        Raises:
            FileNotFoundError: If there is no such file.
            RuntimeError: If a file cannot be read as a picture.
            TypeError: If it is something else.
        """
        if isinstance(pictures, list | tuple):
            return [self._one(picture) for picture in pictures]
        return self._one(pictures)

    @torch.inference_mode()
    def _one(self, picture: Picture) -> ActionResult:
        image, source = _open(picture)
        batch = self.transform(image)[None].to(self.device)
        focus, attention, view = (), None, self._field_of_view(image.size)
        regions = getattr(self.model, "focus_regions", None)
        if regions is not None and len(cast(Any, self.model).stage_heads):
            out = regions(batch)
            logits = out.logits
            focus = tuple(self._to_picture(box, view, batch.shape[2:]) for box in out.boxes[0].tolist())
            attention = out.attention[0, -1].cpu()
        else:
            logits = self.model(batch)
            logits = logits[0] if isinstance(logits, tuple) else logits
        scores = tuple(logits[0].float().softmax(0).tolist())
        return ActionResult(self.classes, scores, self.name, source, [], focus, attention, view, image)

    def _field_of_view(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part of a picture that the transform's crop keeps, xyxy in pixels of the picture."""
        width, height = size
        pct = self.cfg.get("crop_pct", 1.0)
        if self.cfg.get("crop_mode", "squash") == "squash":
            view_w, view_h = width * pct, height * pct
        else:
            view_w = view_h = min(width, height) * pct
        left, top = (width - view_w) / 2, (height - view_h) / 2
        return (left, top, left + view_w, top + view_h)

    @staticmethod
    def _to_picture(
        box: Iterable[float], view: tuple[float, float, float, float], size: Iterable[int]
    ) -> tuple[float, float, float, float]:
        height, width = size
        sx, sy = (view[2] - view[0]) / width, (view[3] - view[1]) / height
        x1, y1, x2, y2 = box
        return (view[0] + x1 * sx, view[1] + y1 * sy, view[0] + x2 * sx, view[1] + y2 * sy)


def pipeline(
    model: str | nn.Module, *, device: str | torch.device | None = None, **create_args: Any
) -> ActionPipeline:
    """Build a pipeline from a model's name or a model: `pipeline("prfnet_tiny")("photo.jpg").label`.

    Args:
        model: A name as `create` takes it, whose whole-model weights are loaded, or a built model.
        device: Where to run, e.g. `"cuda"`.
        create_args: Further arguments of `create`, such as `weights=`.

    Returns:
        A callable that takes pictures.

    Raises:
        ValueError: If the name is unknown, or arguments of `create` are given with a built model.
        RuntimeError: If nothing that covers the whole model is published for the name, or the weights given leave
            a part of it random.
    """
    if isinstance(model, nn.Module):
        if create_args:
            raise ValueError(f"{sorted(create_args)} belong to create(); the model given is built already")
        return ActionPipeline(model, device)
    return ActionPipeline(whole_model(model, **create_args), device)


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
    if not pointed and not any(entry.covers == "model" for entry in model_info(name).weights):
        raise RuntimeError(
            f"no weights for the whole of {name!r} are published, so its labels would be random; "
            f"models that have some: {', '.join(list_models(pretrained=True)) or 'none'}; or pass weights=PATH"
        )
    with warnings.catch_warnings():
        # said again below, as an error
        warnings.filterwarnings("ignore", message=".*covers the backbone only")
        model: Any = create(name, not pointed, weights=weights, **create_args)
    if model.load_report.random or model.load_report.reheaded:
        parts = dict.fromkeys((*model.load_report.random, *model.load_report.reheaded))
        raise RuntimeError(f"the weights leave {', '.join(parts)} of {name!r} random, so its labels would be random")
    return model


def _open(picture: Picture) -> tuple[Image.Image, str | None]:
    if isinstance(picture, str | os.PathLike):
        return load_image(Path(picture)), str(picture)
    if isinstance(picture, Image.Image | Tensor):
        return draw.to_image(picture), None
    raise TypeError(f"a picture is a file, a PIL image or a (3, H, W) tensor; got {type(picture).__name__}")


__all__ = ["ActionPipeline", "ActionResult", "Person", "pipeline", "whole_model"]
