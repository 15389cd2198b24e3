"""Who does what in a photograph: ConViT on the whole image, and a human branch on every person.

Paper: "Human Action Recognition in Still Images Using ConViT" (sections 3.4 and 3.5, Fig. 6). The person detector is
not a part of the network: boxes are an input, from `PersonDetector`, any other detector, or annotations.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..registry import register_model
from ..weights import HubMixin, WeightsInfo
from ._share import copy_state
from .convit_har import TINY, ConViTHAR
from .human_branch import Boxes, HumanBranch, rois_of

__all__ = [
    "FUSION_WEIGHTS",
    "ConViTHARPerson",
    "PersonOutput",
    "convit_har_person_resnet50",
    "convit_har_person_tiny",
    "fuse_scores",
]

FUSION_WEIGHTS = {"stanford40": (0.83, 0.17), "voc2012": (0.30, 0.70)}
"""W_ConViT and W_human as printed in section 4.3 (Eqs 2 and 3)."""


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
