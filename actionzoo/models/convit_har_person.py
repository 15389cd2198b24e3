"""Who does what in a photograph: ConViT on the whole image, and a human branch on every person.

Paper: "Human Action Recognition in Still Images Using ConViT" (sections 3.4 and 3.5, Fig. 6). The person detector is
not a part of the network: boxes are an input, from `PersonDetector`, any other detector, or annotations.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from ..registry import register_model
from ..weights import HubMixin, WeightsInfo
from ._share import copy_state
from .convit_har import TINY, ConViTHAR, ViTPair

__all__ = [
    "FUSION_WEIGHTS",
    "ConViTHARPerson",
    "HumanBranch",
    "PersonOutput",
    "convit_har_person_resnet50",
    "convit_har_person_tiny",
    "fuse_scores",
]

FUSION_WEIGHTS = {"stanford40": (0.83, 0.17), "voc2012": (0.30, 0.70)}
"""W_ConViT and W_human as printed in section 4.3 (Eqs 2 and 3)."""

Boxes = Sequence[Tensor] | Tensor


class PersonOutput(NamedTuple):
    """What the network says of N people in B images."""

    logits: Tensor
    """`(N, K)` of the human branch, a row for every person, image after image."""
    image_logits: Tensor
    """`(B, K)` of ConViT."""
    image_index: Tensor
    """`(N,)` which image a row belongs to."""
    box_index: Tensor
    """`(N,)` which of the image's boxes a row belongs to; boxes that lie outside the image have none."""


def fuse_scores(image_probs: Tensor, person_probs: Tensor, weights: Sequence[float] | str) -> Tensor:
    """`W_ConViT P_ConViT + W_human P_human` (Eq. 1).

    Args:
        image_probs: `(N, K)` probabilities of ConViT for each person's image, or `(1, K)` for all.
        person_probs: `(N, K)` probabilities of the human branch.
        weights: The two weights, at least 0, which sum to 1, as `fit_fusion_weights` finds them, or a name of
            `FUSION_WEIGHTS`.

    Returns:
        `(N, K)` probabilities.

    Raises:
        ValueError: If the name is unknown, the weights lie outside `[0, 1]` or do not sum to 1, or the shapes do not
            go together.
    """
    image, person = fusion_weights(weights)
    if image_probs.ndim != 2 or person_probs.ndim != 2 or image_probs.shape[0] not in (1, person_probs.shape[0]):
        raise ValueError(
            "expected probabilities (N, K) or (1, K) of the image and (N, K) of the people, got "
            f"{tuple(image_probs.shape)} and {tuple(person_probs.shape)}"
        )
    if image_probs.shape[1] != person_probs.shape[1]:
        raise ValueError(f"image and people have {image_probs.shape[1]} and {person_probs.shape[1]} classes")
    return image * image_probs + person * person_probs


def rois_of(boxes: Boxes, images: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes of a batch as RoI operators take them, clipped to the images.

    A box of which less than a pixel in height or width lies inside the image is dropped; when the network is compiled
    or exported, or on the meta device, all are kept, since their number must not depend on their values: rows of boxes
    outside the image mean nothing then.

    Args:
        boxes: For every image `(n_i, 4)` xyxy in its pixels, or `(B, n, 4)`.
        images: `(B, C, H, W)`.

    Returns:
        `(N, 5)` index of the image and xyxy, and `(N,)` index of the box among the image's.

    Raises:
        ValueError: If the boxes are not those of the images.
    """
    count, (height, width) = images.shape[0], images.shape[-2:]
    if not isinstance(boxes, Tensor | Sequence) or isinstance(boxes, str):
        raise ValueError(f"boxes are a list with (n, 4), xyxy in pixels, for each image; got {type(boxes).__name__}")
    if isinstance(boxes, Tensor):
        if boxes.ndim != 3 or boxes.shape[0] != count or boxes.shape[2] != 4:
            raise ValueError(f"expected boxes (B, n, 4), xyxy in pixels, of {count} images, got {tuple(boxes.shape)}")
        flat = boxes.flatten(0, 1)
        image_index = torch.arange(count, device=images.device)[:, None].expand(-1, boxes.shape[1]).flatten()
        box_index = torch.arange(boxes.shape[1], device=images.device).expand(count, -1).flatten()
    else:
        boxes = [x if isinstance(x, Tensor) else _as_boxes(x) for x in boxes]
        wrong = [tuple(x.shape) for x in boxes if x.ndim != 2 or x.shape[1] != 4]
        if len(boxes) != count or wrong:
            got = f"{len(boxes)} of them" if len(boxes) != count else wrong[0]
            raise ValueError(f"expected boxes (n, 4), xyxy in pixels, for each of {count} images, got {got}")
        # each in float32 before they are joined: joined with half precision, integers would be rounded to it
        place: dict[str, Any] = {"device": images.device, "dtype": torch.float32}
        flat = torch.cat([torch.zeros(0, 4, **place), *(x.to(**place) for x in boxes)])
        # the empty ones in front are for a batch of no images
        first = torch.zeros(0, dtype=torch.long)
        image_index = torch.cat([first, *(torch.full((x.shape[0],), i) for i, x in enumerate(boxes))])
        box_index = torch.cat([first, *(torch.arange(x.shape[0]) for x in boxes)])
        image_index, box_index = image_index.to(images.device), box_index.to(images.device)
    flat = flat.to(device=images.device, dtype=torch.float32)
    x, y = flat[:, 0::2].clamp(0, width), flat[:, 1::2].clamp(0, height)
    rois = torch.stack([image_index.float(), x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)
    if torch.compiler.is_compiling() or rois.is_meta:
        return rois, box_index
    # NaN compares as False, so that a box without coordinates goes, too
    keep = ((x[:, 1] - x[:, 0]) >= 1) & ((y[:, 1] - y[:, 0]) >= 1)
    return rois[keep], box_index[keep]


def _as_boxes(rows: Any) -> Tensor:
    boxes = torch.as_tensor(rows, dtype=torch.float32)
    return boxes.reshape(0, 4) if boxes.numel() == 0 else boxes


class HumanBranch(nn.Module):
    """RoIAlign of a person to 10x6 cells, two feature-map ViTs, mean, one linear classifier (section 3.4, Fig. 6).

    The paper says "RoI pooling"; RoIAlign is a decision, since a person is few cells large.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        stride: int = 32,
        size: tuple[int, int] = (10, 6),
        roi: str = "align",
        depth: int = 2,
        heads: int = 4,
        head_dim: int | None = 64,
        mlp_dim: int | None = None,
        pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        """Build the branch.

        Args:
            dim: Channels of the backbone's map.
            num_classes: Classes K; 0 makes `forward` return the pooled features.
            stride: Pixels per cell of that map.
            size: Height and width of a person in cells.
            roi: `"align"` or `"pool"`: torchvision's `roi_align` (aligned) or `roi_pool`.
            depth: Blocks of each ViT.
            heads: Attention heads.
            head_dim: Width of a head; None for `dim / heads`.
            mlp_dim: Hidden width of the MLPs; `dim` if None.
            pool: Downsampling between the ViTs, see `ViTPair`.
            drop_rate: Dropout before the classifier.

        Raises:
            ValueError: If a setting is unknown or out of range.
        """
        super().__init__()
        if roi not in ("align", "pool"):
            raise ValueError(f"roi is 'align' or 'pool', got {roi!r}")
        self.dim, self.stride, self.size, self.roi = dim, stride, tuple(size), roi
        self.vits: Any = ViTPair(dim, size, depth, heads, head_dim, mlp_dim, pool)
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Linear(dim, num_classes) if num_classes else nn.Identity()

    def crop(self, maps: Tensor, rois: Tensor) -> Tensor:
        """`(B, C, h, w)` maps and `(N, 5)` image index and xyxy in pixels -> `(N, C, 10, 6)`."""
        # at least in float32: half precision does not resolve pixels, and the operators do not all know it
        dtype = torch.promote_types(maps.dtype, torch.float32)
        crop = roi_align if self.roi == "align" else roi_pool
        extra: dict[str, Any] = {"aligned": True, "sampling_ratio": 2} if self.roi == "align" else {}
        return crop(maps.to(dtype), rois.to(dtype), self.size, 1 / self.stride, **extra).to(maps.dtype)

    def forward_features(self, maps: Tensor, rois: Tensor) -> Tensor:
        """The second ViT's map: as `forward`, `(N, C, 5, 3)`.

        Raises:
            ValueError: If the shapes are wrong.
        """
        if maps.ndim != 4 or maps.shape[1] != self.dim:
            raise ValueError(f"expected feature maps (B, {self.dim}, h, w), got shape {tuple(maps.shape)}")
        if rois.ndim != 2 or rois.shape[1] != 5:
            raise ValueError(f"expected rois (N, 5) as image index and xyxy, got shape {tuple(rois.shape)}")
        return self.vits(self.crop(maps, rois))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Mean over cells, then the classifier: `(N, C, h, w)` -> `(N, K)` logits, or `(N, C)`."""
        x = self.drop(x.mean((2, 3)))
        return x if pre_logits else self.fc(x)

    def forward(self, maps: Tensor, rois: Tensor) -> Tensor:
        """Classify people.

        Args:
            maps: `(B, C, h, w)` the backbone's last maps.
            rois: `(N, 5)` index of the image and xyxy in its pixels, as torchvision's RoI operators take them.

        Returns:
            `(N, K)` logits.

        Raises:
            ValueError: If the shapes are wrong.
        """
        return self.forward_head(self.forward_features(maps, rois))


class ConViTHARPerson(HubMixin, nn.Module):
    """ConViT and its human branch, which share the backbone (sections 3.4 and 3.5)."""

    def __init__(
        self,
        *,
        num_classes: int = 40,
        in_chans: int = 3,
        depth: int = 2,
        heads: int = 4,
        head_dim: int | None = 64,
        mlp_dim: int | None = None,
        pool: str = "avg",
        drop_rate: float = 0.0,
        roi: str = "align",
        fusion: tuple[float, float] | str = "stanford40",
        multi_label: bool = False,
        **convit: Any,
    ) -> None:
        """Build the network with random weights.

        Args:
            num_classes: Classes K; 0 makes the classifiers give the pooled features.
            in_chans: Channels of the images.
            depth: Blocks of each ViT.
            heads: Attention heads.
            head_dim: Width of a head; None for the backbone's channels divided by `heads`.
            mlp_dim: Hidden width of the ViTs' MLPs; by default the backbone's channels.
            pool: Downsampling between the ViTs, see `ViTPair`.
            drop_rate: Dropout before the classifiers.
            roi: How people are cut out of the map, see `HumanBranch`.
            fusion: `(W_ConViT, W_human)`, or a name of `FUSION_WEIGHTS`.
            multi_label: Whether a person may do several things at once: probabilities are then sigmoids.
            convit: Further arguments of `ConViTHAR`: `backbone`, `backbone_args`, `input_size`, `test_input_size`.

        Raises:
            ValueError: If a setting is unknown or out of range.
        """
        super().__init__()
        if "global_pool" in convit:
            raise ValueError("the images' scores take the mean over cells; leave global_pool out")
        vits: dict[str, Any] = {"depth": depth, "heads": heads, "head_dim": head_dim, "mlp_dim": mlp_dim, "pool": pool}
        sizes: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans, "drop_rate": drop_rate}
        self.convit: Any = ConViTHAR(**sizes, **vits, **convit)
        dim, stride = self.convit.num_features, self.convit.feature_info[-1]["reduction"]
        self.human: Any = HumanBranch(dim, num_classes, stride=stride, roi=roi, drop_rate=drop_rate, **vits)
        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features = self.head_hidden_size = dim
        self._multi_label, self._fusion = multi_label, fusion_weights(fusion)
        own = self.convit.pretrained_cfg
        first = own["first_conv"]
        self.pretrained_cfg = self.default_cfg = {
            **own,
            "first_conv": first and f"convit.{first}",
            "classifier": self.classifier_names,
        }

    @property
    def classifier_names(self) -> tuple[str, ...]:
        """Dotted names of the two linear classifiers."""
        return ("human.fc", "convit.fc")

    @property
    def fusion(self) -> tuple[float, float]:
        """`(W_ConViT, W_human)` of Eq. 1; may be set, also by a name of `FUSION_WEIGHTS`, and is saved."""
        return self._fusion

    @fusion.setter
    def fusion(self, weights: Sequence[float] | str) -> None:
        self._fusion = fusion_weights(weights)
        self._remember("fusion", self._fusion)

    @property
    def multi_label(self) -> bool:
        """Whether a person may do several things at once; may be set, and is saved."""
        return self._multi_label

    @multi_label.setter
    def multi_label(self, value: bool) -> None:
        self._multi_label = bool(value)
        self._remember("multi_label", self._multi_label)

    def _remember(self, name: str, value: Any) -> None:
        """Have a saved model built with an argument that was changed since."""
        cfg = self.pretrained_cfg
        cfg["model_args"] = {**cfg.get("model_args", {}), name: value}

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that optimizers should not decay: positions, and the backbone's own."""
        return {f"convit.{name}" for name in self.convit.no_weight_decay()} | {
            f"human.vits.{name}" for name in self.human.vits.no_weight_decay()
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them: less memory, more time."""
        self.convit.set_grad_checkpointing(enable)
        self.human.vits.set_grad_checkpointing(enable)

    def get_classifier(self) -> nn.Module:
        """The human branch's linear classifier; ConViT's is `convit.get_classifier()`."""
        return self.human.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give both branches a fresh classifier of `num_classes` rows; 0 removes them.

        The weights of `fusion` become the paper's for Stanford 40 again: what was fitted spoke of other classifiers.

        Raises:
            ValueError: If `global_pool` is another than `"avg"`.
        """
        if global_pool not in (None, "avg"):
            raise ValueError(f"global_pool is 'avg', the mean over cells, got {global_pool!r}")
        self.num_classes = num_classes
        self.fusion = "stanford40"
        self.convit.reset_classifier(num_classes)
        reference = next(self.parameters())
        fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.human.fc = fc.to(device=reference.device, dtype=reference.dtype)

    def load_convit(self, convit: nn.Module) -> None:
        """Take over a trained ConViT, classifier included (section 4.2).

        Raises:
            ValueError: If it is not one of this configuration and number of classes.
        """
        copy_state(convit, self.convit, f"the ConViT of this {type(self).__name__}")

    def forward_features(self, images: Tensor, boxes: Boxes) -> Tensor:
        """The human branch's last map of every person: `(N, D, 5, 3)`."""
        maps = self.convit.forward_backbone(images)
        return self.human.forward_features(maps, rois_of(boxes, images)[0])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Mean over cells, then the human branch's classifier: `(N, D, h, w)` -> `(N, K)`, or `(N, D)`."""
        return self.human.forward_head(x, pre_logits)

    def forward(self, images: Tensor, boxes: Boxes) -> PersonOutput:
        """Classify images and the people in them.

        Args:
            images: `(B, C, H, W)`, normalised.
            boxes: For every image `(n_i, 4)` xyxy in its pixels, n_i of 0 and more; or `(B, n, 4)`.

        Raises:
            ValueError: If the images' rank or channels are wrong, or the boxes are not those of the images.
        """
        if images.ndim != 4 or images.shape[1] != self.in_chans:
            raise ValueError(
                f"ConViTHARPerson expects images (B, {self.in_chans}, H, W), got shape {tuple(images.shape)}; "
                "give a single image a batch dimension with [None], or build with in_chans=…"
            )
        rois, box_index = rois_of(boxes, images)
        maps = self.convit.forward_backbone(images)
        image_logits = self.convit.forward_head(self.convit.vits(maps))
        return PersonOutput(self.human(maps, rois), image_logits, rois[:, 0].long(), box_index)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax of logits, or their sigmoid where a person may do several things."""
        return logits.float().sigmoid() if self.multi_label else logits.float().softmax(-1)

    def fuse(self, output: PersonOutput) -> Tensor:
        """Probabilities of every person's actions by `fusion` (Eq. 1): `(N, K)`.

        Raises:
            ValueError: If there are no classes.
        """
        if not self.num_classes:
            raise ValueError("scores need classes, and this network has none (num_classes=0)")
        image = self.probabilities(output.image_logits)[output.image_index]
        return fuse_scores(image, self.probabilities(output.logits), self.fusion)


def fusion_weights(weights: Sequence[float] | str) -> tuple[float, float]:
    """Weights by the name of the data set they are printed for, or as given.

    Raises:
        ValueError: If the name is unknown, or the weights lie outside `[0, 1]` or do not sum to 1.
    """
    if isinstance(weights, str):
        if weights not in FUSION_WEIGHTS:
            raise ValueError(f"fusion is one of {', '.join(FUSION_WEIGHTS)} or two weights, got {weights!r}")
        return FUSION_WEIGHTS[weights]
    if not isinstance(weights, Sequence) or len(weights) != 2:
        raise ValueError(f"fusion takes two weights, of image and person, got {weights!r}")
    image, person = float(weights[0]), float(weights[1])
    if not (0 <= image <= 1 and 0 <= person <= 1 and abs(image + person - 1) < 1e-6):
        raise ValueError(f"the weights of image and person lie in [0, 1] and sum to 1, got {image} and {person}")
    return image, person


def _example_inputs(side: int) -> Any:
    """Images and one box in each, where the person of a photograph often is."""

    def inputs(batch: int = 1) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch, 3, side, side, generator=generator)
        box = torch.tensor([0.25, 0.125, 0.75, 0.875]) * side
        return images, box.expand(batch, 1, 4).contiguous()

    return inputs


_PAPER = "Human action recognition in still images using ConViT"
_TASK = "per-person image classification"
_CONFIG = {"crop_pct": 448 / 512, "crop_mode": "squash", "interpolation": "bilinear"}


@register_model(
    task=_TASK,
    paper=_PAPER,
    num_classes=40,
    input_size=(3, 448, 448),
    params=108_344_464,
    macs=23_105_308_672,
    aliases=("convit_har_person",),
    example_inputs=_example_inputs(448),
    config={**_CONFIG, "first_conv": "convit.backbone.conv1", "classifier": ("human.fc", "convit.fc")},
    weights=(
        WeightsInfo(
            covers="backbone",
            source="hf-hub",
            location="timm/resnet50.tv_in1k",
            prefix="convit.backbone.",
            exclude=("fc.*",),
            data="ImageNet-1k",
        ),
    ),
)
def convit_har_person_resnet50(**kwargs: Any) -> ConViTHARPerson:
    """ConViT on ResNet-50 with the human branch: the paper's configuration, 448x448 images."""
    return ConViTHARPerson(**kwargs)


@register_model(
    task=_TASK,
    paper=_PAPER,
    num_classes=40,
    input_size=(3, 128, 128),
    params=2_117_504,
    macs=207_358_464,
    example_inputs=_example_inputs(128),
    config={**_CONFIG, "first_conv": "convit.backbone.conv1.0", "classifier": ("human.fc", "convit.fc")},
)
def convit_har_person_tiny(**kwargs: Any) -> ConViTHARPerson:
    """ConViT with the human branch on a slim ResNet-18-D, 128x128 images: trains on a CPU."""
    return ConViTHARPerson(**{**TINY, "head_dim": 32, **kwargs})
