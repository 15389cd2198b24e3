"""People in, joints and actions out: the body-part network and the pose nets on pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast, overload

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ..data.people import PersonExample
from ..data.top_down import TopDown, apply_affine, invert_affine
from ..data.transforms import denormalize
from ..draw import to_image
from ..layers import decode_heatmaps
from .image import Picture, open_picture
from .names import class_names, model_name
from .result import ActionResult, Box, Person

Boxes: TypeAlias = Tensor | Sequence[Sequence[float]]

MARGIN = 1.25
"""Side of the crop over that of a person's box, as in training."""


class PeoplePipeline:
    """A pose or body-part network with its top-down crop; call it with a picture and the people's boxes."""

    def __init__(self, model: nn.Module, device: str | torch.device | None = None) -> None:
        """Wrap a built model.

        Args:
            model: One that predicts heat maps, with a `pretrained_cfg`.
            device: Where to run; where the model's parameters are if None.

        Raises:
            ValueError: If the model has no `pretrained_cfg`, predicts no heat maps, takes other than colour images,
                or has lost its classifiers.
        """
        cfg = getattr(model, "pretrained_cfg", None)
        if not cfg or not hasattr(model, "heatmap_stride"):
            raise ValueError(f"{type(model).__name__} is not a bodypart_* or pose_* model of actionzoo.create")
        self.cfg: dict[str, Any] = dict(cfg)
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        self.model: Any = model.to(self.device).eval()
        if getattr(model, "in_chans", 3) != 3:
            raise ValueError(f"people are cropped in colour; create the model with in_chans=3, not {model.in_chans}")
        recipe = self.cfg.get("recipe")
        # whether a person may do several things at once is said by the loss that the model was trained with
        self.multi_label = isinstance(recipe, Mapping) and recipe.get("action_loss") == "bce"
        # pose nets say nothing of actions
        self.classes = class_names(model) if getattr(model, "num_classes", None) is not None else ()
        self.name = model_name(model)

    @overload
    def __call__(self, pictures: Picture, boxes: Boxes | None = None) -> ActionResult: ...
    @overload
    def __call__(
        self, pictures: list[Any] | tuple[Any, ...], boxes: Sequence[Boxes | None] | None = None
    ) -> list[ActionResult]: ...
    def __call__(
        self, pictures: Picture | list[Any] | tuple[Any, ...], boxes: Any = None
    ) -> ActionResult | list[ActionResult]:
        """Find the joints, and what the people do, in one picture, or in a list of pictures one by one.

        Args:
            pictures: A file, a PIL image, a `(3, H, W)` uint8 tensor, or a list of them.
            boxes: `(N, 4)` the people's boxes, xyxy in pixels; the whole picture as one person if None. For a list
                of pictures a list of as many.

        Returns:
            One result, or a list of them, with `people` in the order of the boxes: keypoints and, for a body-part
            network, label, scores and part boxes. The scores are those of the paper's ensemble (section 4.4). A
            result's own scores, attention and crops are those of the first person; without any box it has no people
            and no scores.

        Raises:
            FileNotFoundError: If there is no such file.
            RuntimeError: If a file cannot be read as a picture.
            TypeError: If a picture is something else.
            ValueError: If the boxes are not `(N, 4)` with an area each, or not those of every picture.
        """
        if not isinstance(pictures, list | tuple):
            return self._one(cast(Picture, pictures), boxes)
        if boxes is None:
            boxes = [None] * len(pictures)
        if len(boxes) != len(pictures):
            raise ValueError(f"a list of pictures takes boxes for each; got {len(pictures)} and {len(boxes)}")
        return [self._one(picture, of_picture) for picture, of_picture in zip(pictures, boxes)]

    @torch.inference_mode()
    def _one(self, picture: Picture, boxes: Boxes | None) -> ActionResult:
        image, source = open_picture(picture)
        # around the whole picture there is nothing to see
        crop = self._crop(1.0 if boxes is None else MARGIN)
        given = [(0, 0, image.width, image.height)] if boxes is None else boxes
        people = torch.as_tensor(given, dtype=torch.float32)
        if people.numel() == 0 and people.ndim <= 2:
            return ActionResult(self.classes, (), self.name, source, [], image=image)
        if people.ndim != 2 or people.shape[1] != 4:
            raise ValueError(f"boxes of the people are (N, 4) xyxy, got {tuple(people.shape)}")
        unknown = torch.full((self.cfg["num_joints"], 3), -1.0)
        inputs = [crop(PersonExample(image, box, unknown, -1)) for box in people]
        batch = torch.stack([person.image for person in inputs]).to(self.device)
        back = invert_affine(torch.stack([person.matrix for person in inputs]).double())
        output = self.model(batch)
        heatmaps = output if isinstance(output, Tensor) else output.heatmaps
        joints = decode_heatmaps(heatmaps.float(), quarter_shift=True).cpu()
        joints[..., :2] = apply_affine(joints[..., :2].double() * self.model.heatmap_stride, back).float()
        found = [Person(_box(box), keypoints=_rows(points)) for box, points in zip(people, joints)]
        if isinstance(output, Tensor):
            return ActionResult((), (), self.name, source, found, image=image)
        scores = self.model.ensemble(output, self.multi_label).float().cpu()
        found = [self._act(person, p, output, i, back[i]) for i, (person, p) in enumerate(zip(found, scores))]
        height, width = batch.shape[2:]
        return ActionResult(
            self.classes,
            tuple(scores[0].tolist()),
            self.name,
            source,
            found,
            attention=None if output.attention is None else output.attention[0].float().mean(0).cpu(),
            field_of_view=_box(_to_picture(torch.tensor([[0, 0, width, height]]), back[0])[0]),
            image=image,
            crops=self._looked_at(output, batch[0].cpu()),
        )

    def _crop(self, margin: float) -> TopDown:
        _, height, width = self.cfg["input_size"]
        cells = height // self.model.heatmap_stride, width // self.model.heatmap_stride
        return TopDown((height, width), cells, padding=margin, mean=self.cfg["mean"], std=self.cfg["std"])

    def _act(self, person: Person, scores: Tensor, output: Any, i: int, back: Tensor) -> Person:
        """A person with its action and part boxes."""
        best, parts = int(scores.argmax()), None
        if output.boxes is not None:
            boxes = _to_picture(output.boxes[i].cpu(), back)
            parts = {name: _box(box) for name, box in zip(self.model.cropper.parts, boxes)}
        label, score = self.classes[best], float(scores[best])
        return Person(person.box, label, score, person.keypoints, scores=tuple(scores.tolist()), parts=parts)

    def _looked_at(self, output: Any, base: Tensor) -> dict[str, Image.Image]:
        """The attention image of Eq. 1 and the part crops of the first person."""
        mean, std = self.cfg["mean"], self.cfg["std"]
        looked = {}
        if output.attention is not None:
            attention = output.attention[0].float().cpu()
            colours = denormalize(F.avg_pool2d(base[None], 2)[0], self.cfg)
            # the network multiplies normalised colours; shown is where, as brightness of the picture
            strength = attention.mean(0, keepdim=True)
            strength = strength / strength.amax().clamp(min=1e-6)
            looked["attention"] = to_image(colours * (0.35 + 0.65 * strength), (0, 0, 0), (1, 1, 1))
        if output.crops is not None:
            crops = zip(self.model.cropper.parts, output.crops[0])
            looked |= {name: to_image(crop.float(), mean, std) for name, crop in crops}
        return looked


def _to_picture(boxes: Tensor, back: Tensor) -> Tensor:
    """Boxes `(N, 4)` of a crop that is not turned -> of the picture; `back` leads from pixel to pixel."""
    # corners of the crop's pixels, half a pixel before their centres
    corners = boxes.double().reshape(-1, 2, 2) - 0.5
    return (apply_affine(corners, back) + 0.5).flatten(1)


def _box(box: Tensor) -> Box:
    x1, y1, x2, y2 = box.tolist()
    return (x1, y1, x2, y2)


def _rows(joints: Tensor) -> list[tuple[float, float, float]]:
    return [(x, y, score) for x, y, score in joints.tolist()]
