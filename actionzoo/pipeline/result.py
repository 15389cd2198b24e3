"""What a pipeline says of a picture."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import draw

Box: TypeAlias = tuple[float, float, float, float]

SEEN = 0.15
"""Score from which a joint is drawn and counted."""


@dataclass(frozen=True)
class Person:
    """One person of a result; what a model does not give is None."""

    box: Box | None = None
    """xyxy, pixels of the picture."""
    label: str | None = None
    score: float | None = None
    keypoints: list[tuple[float, float, float]] | None = None
    """x, y in pixels of the picture, and score."""
    track_id: int | None = None
    scores: tuple[float, ...] | None = None
    """Probability of every class."""
    parts: dict[str, Box] | None = None
    """Boxes of the part crops by the part's name, xyxy in pixels of the picture."""
    detection: float | None = None
    """The detector's score of the person, where one found it."""

    def top(self, classes: Sequence[str], k: int = 5) -> list[tuple[str, float]]:
        """The `k` likeliest of `classes` (the result's) and their probabilities, likeliest first."""
        return best_of(classes, self.scores or (), k)

    @property
    def joints_seen(self) -> int:
        """How many joints score high enough to be drawn."""
        return sum(score >= SEEN for _, _, score in self.keypoints or ())

    def to_dict(self, classes: Sequence[str] = (), k: int = 5) -> dict[str, Any]:
        """Plain numbers and strings, for JSON: boxes and points to a hundredth of a pixel."""
        points = None if self.keypoints is None else [[*round_all((x, y)), round(s, 4)] for x, y, s in self.keypoints]
        return {
            "box": None if self.box is None else round_all(self.box),
            "label": self.label,
            "score": None if self.score is None else round(self.score, 6),
            "top": named_scores(self.top(classes, k)),
            "keypoints": points,
            "parts": None if self.parts is None else {name: round_all(box) for name, box in self.parts.items()},
            "track_id": self.track_id,
            "detection": None if self.detection is None else round(self.detection, 4),
        }


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
    focus: tuple[Box, ...] = ()
    """PRF-Net's chain of focus boxes, xyxy in pixels of the picture, each inside the one before."""
    attention: Tensor | None = field(default=None, repr=False, compare=False)
    """`(h, w)` attention over `field_of_view`: scores of Eq. 8 of PRF-Net's last stage on the whole image, or the
    body-part network's attention on the first person, mean over the colours of A in its Eq. 1."""
    field_of_view: Box | None = None
    """xyxy, the part of the picture that the model saw, of a body-part network the first person's crop; it may reach
    beyond the picture."""
    image: Image.Image | None = field(default=None, repr=False, compare=False)
    crops: dict[str, Image.Image] = field(default_factory=dict, repr=False, compare=False)
    """What a body-part network looked at in the first person: the attention image and the part crops, by name."""
    image_only: bool = False
    """True where a model that labels people found nobody to label, so that the image's own scores are all there is."""
    maps: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    """`(h, w)` maps over `field_of_view` by name, which `draw_attention(name)` draws: ConViT's `"grad_cam"` of the
    likeliest class and `"channel_mean"` of its last map (its Figs 8 and 9)."""

    @property
    def label(self) -> str:
        """The likeliest class, named as the training folder was.

        Raises:
            RuntimeError: If the model gives joints and no action, or nobody was to be labelled.
        """
        return self._best()[0]

    @property
    def score(self) -> float:
        """Probability of `label`.

        Raises:
            RuntimeError: As for `label`.
        """
        return self._best()[1]

    def _best(self) -> tuple[str, float]:
        if not self.classes:
            finds = "joints" if any(person.keypoints for person in self.people) else "people"
            raise RuntimeError(f"{self.model} finds {finds}, not actions; see .people")
        if not self.scores:
            raise RuntimeError("there are no people in this result, so that nothing was labelled")
        return self.top(1)[0]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` likeliest classes and their probabilities, likeliest first."""
        return best_of(self.classes, self.scores, k)

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "source": self.source,
            "model": self.model,
            "label": self.label if self.scores else None,
            "score": round(self.score, 6) if self.scores else None,
            "top": named_scores(self.top(k)),
            "people": [person.to_dict(self.classes, k) for person in self.people],
            "image_only": self.image_only,
            "focus": [round_all(box) for box in self.focus],
            "size": list(self.image.size) if self.image is not None else None,
        }

    def to_json(self, k: int = 5) -> str:
        """The result as one JSON object: label, score, the `k` best, people, focus boxes, `[width, height]`."""
        return json.dumps(self.to_dict(k))

    def draw(self, k: int = 5) -> Image.Image:
        """An annotated picture: score bars beside the photograph, people with their joints, and what the model saw.

        For PRF-Net that is the chain of focus regions, for a body-part network the attention image and the part
        crops of the first person, whose scores the bars are, too.

        Raises:
            RuntimeError: If the result holds no picture.
        """
        if self.image is None:
            raise RuntimeError("this result holds no picture to draw on")
        panels = [self._with_people(self.image)]
        several = len(self.people) > 1
        if self.scores:
            labels, scores = zip(*self.top(k))
            # whose scores the bars are, where it could be another's
            own = bool(self.people) and self.people[0].scores == self.scores
            title = "person 1" if own and several else "image" if self.people and not own else None
            panels = [draw.score_bars(panels[0], labels, scores, title, k=k)]
        if self.focus:
            # the chain of pictures is about as wide as the panel above it
            width, (image_w, image_h) = panels[0].width, self.image.size
            height = max(64, round(0.93 * width / (len(self.focus) + 1) * image_h / image_w))
            panels.append(draw.focus_chain(self.image, torch.tensor(self.focus), height=height))
        if self.crops:
            side = max(64, panels[0].width // len(self.crops) - 12)
            names = [f"{name}, person 1" if several else name for name in self.crops]
            panels.append(draw.grid(list(self.crops.values()), len(self.crops), names, cell=(side, side)))
        return draw.stack(panels, width=panels[0].width)

    def _with_people(self, picture: Image.Image) -> Image.Image:
        """The picture with the people's boxes, their number and label where they are several, and skeletons."""
        whole = (0.0, 0.0, float(picture.width), float(picture.height))
        boxed = [(i, person) for i, person in enumerate(self.people, 1) if person.box not in (None, whole)]
        if boxed:
            # the bars beside the picture name a single person's action
            first = self.people[0]
            shown = len(self.people) > 1 or first.detection is not None or (first.scores or ()) != self.scores
            labels = [_tag(i, person) for i, person in boxed]
            picture = draw.boxes(picture, [p.box for _, p in boxed], labels if shown else None)  # type: ignore[misc]
        for person in self.people:
            if person.keypoints:
                skeleton = draw.skeleton_of(len(person.keypoints))
                picture = draw.keypoints(picture, torch.tensor([person.keypoints]), skeleton, threshold=SEEN)
        return picture

    def draw_attention(self, name: str | None = None) -> Image.Image:
        """The photograph under a heat map of the model's attention, of a body-part network's on the first person.

        Args:
            name: One of `maps`; by default `attention`, or the first of them.

        Raises:
            RuntimeError: If the model gives no such map or the result holds no picture.
        """
        heat = self.maps.get(name) if name else next(iter(self.maps.values()), self.attention)
        if self.image is None or heat is None or self.field_of_view is None:
            named = f"no map {name!r}; it has {', '.join(self.maps) or 'none'}" if name else "no attention map"
            raise RuntimeError(f"this result holds {named}; PRF-Net, ConViT and body-part models give one")
        canvas, view = self.image.copy(), self.field_of_view
        limits = (0, 0, *self.image.size)
        # the model may have seen far beyond the picture, where there is nothing to draw on
        left, top = (round(max(low, v)) for low, v in zip(limits[:2], view[:2]))
        right, bottom = (round(min(high, v)) for high, v in zip(limits[2:], view[2:]))
        if left >= right or top >= bottom:
            return canvas
        rows, columns = heat.shape
        per_x, per_y = columns / (view[2] - view[0]), rows / (view[3] - view[1])
        seen = Image.fromarray(heat.float().numpy(), mode="F").transform(
            (right - left, bottom - top),
            Image.Transform.EXTENT,
            ((left - view[0]) * per_x, (top - view[1]) * per_y, (right - view[0]) * per_x, (bottom - view[1]) * per_y),
            Image.Resampling.BILINEAR,
        )
        shown = draw.heat_map(self.image.crop((left, top, right, bottom)), torch.from_numpy(np.array(seen)))
        canvas.paste(shown, (left, top))
        return canvas


def _tag(number: int, person: Person) -> str:
    """What stands at a person's box: number, action and its score, or how sure the detector is."""
    if person.label:
        return f"{number} {person.label} {person.score or 0:.0%}"
    return str(number) if person.detection is None else f"{number} person {person.detection:.0%}"


def best_of(classes: Sequence[str], scores: Sequence[float], k: int) -> list[tuple[str, float]]:
    """The `k` likeliest classes and their scores, likeliest first."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [(classes[i], scores[i]) for i in order[:k]]


def named_scores(top: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """Classes and scores, for JSON."""
    return [{"label": name, "score": round(score, 6)} for name, score in top]


def round_all(values: Iterable[float]) -> list[float]:
    """Pixels to a hundredth, for JSON."""
    return [round(v, 2) for v in values]
