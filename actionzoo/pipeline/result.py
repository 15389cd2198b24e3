"""What a pipeline says of a picture."""

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .. import draw

SKELETONS = {16: draw.MPII_SKELETON, 17: draw.COCO_SKELETON}
"""Joint orders by their number."""


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
    scores: tuple[float, ...] | None = None
    """Probability of every class."""
    parts: dict[str, tuple[float, float, float, float]] | None = None
    """Boxes of the part crops by the part's name, xyxy in pixels of the picture."""


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
    crops: dict[str, Image.Image] = field(default_factory=dict, repr=False, compare=False)
    """What a body-part network looked at in the first person: the attention image and the part crops, by name."""

    @property
    def label(self) -> str:
        """The likeliest class, named as the training folder was.

        Raises:
            RuntimeError: If the model gives joints and no action.
        """
        if not self.classes:
            raise RuntimeError(f"{self.model} finds joints, not actions; see .people")
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
            "label": self.label if self.classes else None,
            "score": round(self.score, 6) if self.classes else None,
            "top": [{"label": name, "score": round(score, 6)} for name, score in self.top(k)],
            "people": [vars(person) for person in self.people],
            "focus": [[round(v, 2) for v in box] for box in self.focus],
            "size": list(self.image.size) if self.image is not None else None,
        }

    def to_json(self, k: int = 5) -> str:
        """The result as one JSON object: label, score, the `k` best, people, focus boxes, `[width, height]`."""
        return json.dumps(self.to_dict(k))

    def draw(self, k: int = 5) -> Image.Image:
        """An annotated picture: score bars beside the photograph, people with their joints, and what the model saw.

        For PRF-Net that is the chain of focus regions, for a body-part network the part crops of the first person.

        Raises:
            RuntimeError: If the result holds no picture.
        """
        if self.image is None:
            raise RuntimeError("this result holds no picture to draw on")
        picture = self._with_people()
        panels = [picture]
        if self.classes:
            labels, scores = zip(*self.top(k))
            panels = [draw.score_bars(picture, labels, scores, k=k)]
        if self.focus:
            # the chain of pictures is about as wide as the panel above it
            width, (image_w, image_h) = panels[0].width, self.image.size
            height = max(64, round(0.93 * width / (len(self.focus) + 1) * image_h / image_w))
            panels.append(draw.focus_chain(self.image, torch.tensor(self.focus), height=height))
        if self.crops:
            side = max(64, panels[0].width // len(self.crops) - 12)
            panels.append(draw.grid(list(self.crops.values()), len(self.crops), list(self.crops), cell=(side, side)))
        return draw.stack(panels, width=panels[0].width)

    def _with_people(self) -> Image.Image:
        """The picture with boxes, labels, part boxes and skeletons of the people."""
        assert self.image is not None, "the caller checks"
        picture = self.image
        boxed = [person for person in self.people if person.box is not None]
        if boxed:
            labels = [f"{p.label} {100 * (p.score or 0):.0f} %" if p.label else "" for p in boxed]
            several = len(self.people) > 1
            picture = draw.boxes(picture, [p.box for p in boxed], labels if several and any(labels) else None)
        for person in self.people:
            if person.keypoints:
                skeleton = SKELETONS[len(person.keypoints)]
                picture = draw.keypoints(picture, torch.tensor([person.keypoints]), skeleton, threshold=0.15)
        return picture

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
