"""One picture in, one action out: a classifier of whole images, its transform and its class names."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias, cast, overload

import torch
from PIL import Image
from torch import Tensor, nn

from .. import draw
from ..data.folders import load_image
from ..data.transforms import eval_transform
from .names import class_names, model_name
from .result import ActionResult

Picture: TypeAlias = str | os.PathLike[str] | Image.Image | Tensor


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
        self.classes, self.name = class_names(model), model_name(model)

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
        image, source = open_picture(picture)
        batch = self.transform(image)[None].to(self.device)
        focus, attention, view = (), None, self.field_of_view(image.size)
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
        maps = self.maps_of(batch)
        return ActionResult(self.classes, scores, self.name, source, [], focus, attention, view, image, maps=maps)

    def maps_of(self, batch: Tensor) -> dict[str, Tensor]:
        """What ConViT looked at in a picture `(1, 3, H, W)`: `(h, w)` maps by name; none of other models."""
        convit: Any = getattr(self.model, "convit", self.model)
        if not hasattr(convit, "visualize"):
            return {}
        maps = {name: x[0].float().cpu() for name, x in convit.visualize(batch).items()}
        # Grad-CAM shows what speaks for a class
        return {"grad_cam": maps["class_activation"].relu(), "channel_mean": maps["channel_mean"]}

    def field_of_view(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
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


def open_picture(picture: Picture) -> tuple[Image.Image, str | None]:
    """A picture in any of its forms as an RGB image, and the file it came from.

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If a file cannot be read as a picture.
        TypeError: If it is something else.
    """
    if isinstance(picture, str | os.PathLike):
        return load_image(Path(picture)), str(picture)
    if isinstance(picture, Image.Image | Tensor):
        return draw.to_image(picture), None
    raise TypeError(f"a picture is a file, a PIL image or a (3, H, W) tensor; got {type(picture).__name__}")
