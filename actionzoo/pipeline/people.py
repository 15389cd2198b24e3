"""People in, joints and actions out: the body-part network and the pose nets on pictures."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..data.people import PersonExample
from ..data.top_down import TopDown, apply_affine, invert_affine
from ..data.transforms import denormalize
from ..draw import to_image
from ..layers import decode_heatmaps
from .image import Picture, open_picture
from .result import ActionResult, Person


class PeoplePipeline:
    """A pose or body-part network with its top-down crop; call it with a picture and the people's boxes."""

    def __init__(self, model: nn.Module, device: str | torch.device | None = None) -> None:
        """Wrap a built model.

        Args:
            model: One that predicts heat maps, with a `pretrained_cfg`.
            device: Where to run; where the model's parameters are if None.

        Raises:
            ValueError: If the model has no `pretrained_cfg` or predicts no heat maps.
        """
        cfg = getattr(model, "pretrained_cfg", None)
        if not cfg or not hasattr(model, "heatmap_stride"):
            raise ValueError(f"{type(model).__name__} is not a bodypart_* or pose_* model of actionzoo.create")
        self.cfg: dict[str, Any] = dict(cfg)
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        self.model: Any = model.to(self.device).eval()
        count = getattr(model, "num_classes", 0) or 0
        names = tuple(self.cfg.get("classes") or ())
        self.classes = names if len(names) == count else tuple(f"class_{i}" for i in range(count))
        tag = self.cfg.get("tag")
        self.name = f"{self.cfg.get('architecture') or type(model).__name__}{f'.{tag}' if tag else ''}"

    def _crop(self, padding: float) -> TopDown:
        _, height, width = self.cfg["input_size"]
        cells = height // self.model.heatmap_stride, width // self.model.heatmap_stride
        return TopDown((height, width), cells, padding=padding, mean=self.cfg["mean"], std=self.cfg["std"])

    @torch.inference_mode()
    def __call__(self, picture: Picture, boxes: Tensor | Sequence[Sequence[float]] | None = None) -> ActionResult:
        """Find the joints, and what the people do.

        Args:
            picture: A file, a PIL image or a `(3, H, W)` uint8 tensor.
            boxes: `(N, 4)` the people's boxes, xyxy in pixels; the whole picture as one person if None.

        Returns:
            `people` in the order of the boxes, with keypoints and, for a body-part network, label, scores and part
            boxes. The result's own scores, attention and crops are those of the first person.

        Raises:
            FileNotFoundError: If there is no such file.
            RuntimeError: If a file cannot be read as a picture.
            TypeError: If the picture is something else.
            ValueError: If the boxes are none, or not `(N, 4)` with an area each.
        """
        image, source = open_picture(picture)
        padding = 1.25
        if boxes is None:
            boxes, padding = [(0.0, 0.0, float(image.width), float(image.height))], 1.0
        people = torch.as_tensor(boxes, dtype=torch.float32)
        if people.ndim != 2 or people.shape[1] != 4 or len(people) == 0:
            raise ValueError(f"boxes of the people are (N, 4) xyxy with N at least 1, got {tuple(people.shape)}")
        crop, unknown = self._crop(padding), torch.full((self.cfg["num_joints"], 3), -1.0)
        inputs = [crop(PersonExample(image, box, unknown, -1)) for box in people]
        batch = torch.stack([person.image for person in inputs]).to(self.device)
        back = invert_affine(torch.stack([person.matrix for person in inputs]).double())
        output = self.model(batch)
        heatmaps = output if isinstance(output, Tensor) else output.heatmaps
        joints = decode_heatmaps(heatmaps.float(), quarter_shift=True).cpu()
        joints[..., :2] = apply_affine(joints[..., :2].double() * self.model.heatmap_stride, back).float()
        found = [Person(tuple(box.tolist()), None, None, _rows(k)) for box, k in zip(people, joints)]  # type: ignore[arg-type]
        if isinstance(output, Tensor):
            return ActionResult((), (), self.name, source, found, image=image)
        scores = self.model.ensemble(output).float().cpu()
        found = [self._act(person, p, output, i, back[i]) for i, (person, p) in enumerate(zip(found, scores))]
        crops = self._looked_at(output, batch[0].cpu())
        return ActionResult(self.classes, tuple(scores[0].tolist()), self.name, source, found, image=image, crops=crops)

    def _act(self, person: Person, scores: Tensor, output: Any, i: int, back: Tensor) -> Person:
        """A person with its action and part boxes."""
        best, parts = int(scores.argmax()), None
        if output.boxes is not None:
            # corners of the crop's pixels, half a pixel before their centres
            corners = output.boxes[i].cpu().double().reshape(-1, 2, 2) - 0.5
            points = apply_affine(corners, back) + 0.5
            ordered = torch.cat([points.amin(1), points.amax(1)], 1)
            parts = {name: tuple(box.tolist()) for name, box in zip(self.model.cropper.parts, ordered)}
        return Person(
            person.box,
            self.classes[best],
            float(scores[best]),
            person.keypoints,
            scores=tuple(scores.tolist()),
            parts=parts,  # type: ignore[arg-type]
        )

    def _looked_at(self, output: Any, base: Tensor) -> dict[str, Image.Image]:
        """The attention image of Eq. 1 and the part crops of the first person."""

        def colours(normalised: Tensor) -> Tensor:
            return denormalize(normalised.float().cpu(), self.cfg)

        looked = {}
        if output.attention is not None:
            attention = output.attention[0].float().cpu()
            image = torch.nn.functional.avg_pool2d(base[None], 2)[0]
            # the network multiplies normalised colours; shown is where, as brightness of the picture
            strength = attention.mean(0, keepdim=True)
            strength = strength / strength.amax().clamp(min=1e-6)
            looked["attention"] = to_image(colours(image) * (0.35 + 0.65 * strength))
        if output.crops is not None:
            names = self.model.cropper.parts
            looked |= {name: to_image(colours(crop)) for name, crop in zip(names, output.crops[0])}
        return looked


def _rows(joints: Tensor) -> list[tuple[float, float, float]]:
    return [(x, y, score) for x, y, score in joints.tolist()]
