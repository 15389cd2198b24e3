"""Training recipes: the papers' printed hyper-parameters, and this library's own for its tiny models."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

__all__ = ["Recipe", "recipes"]

# what each annotation admits; an int is a float, but a bool is not a number and a string not a switch
_KINDS: dict[str, tuple[type, ...]] = {
    "<class 'str'>": (str,),
    "<class 'int'>": (int,),
    "<class 'float'>": (float, int),
    "<class 'bool'>": (bool,),
    "str | None": (str, type(None)),
    "float | None": (float, int, type(None)),
    "tuple[float, float]": (tuple,),
    "tuple[int, ...]": (tuple,),
}


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one training run. `recipe.override(epochs=10)` gives a changed copy.

    Lengths are pixels; `lr` is the peak learning rate; the schedule is a linear warm-up, then a cosine to zero, steps
    or nothing. A task takes no notice of fields that it has no use for: how people are cropped and turned
    means nothing to a classifier of whole images, `scale` or `erase` nothing to a pose net.
    """

    source: str
    """Where the numbers come from."""
    epochs: int
    batch_size: int
    optimizer: str
    """`"sgd"` (with `momentum`), `"adam"` or `"adamw"`."""
    lr: float
    weight_decay: float
    momentum: float = 0.9
    nesterov: bool = False
    """Whether the momentum of `"sgd"` is Nesterov's."""
    backbone_lr_scale: float = 1.0
    """Factor on the learning rate of parameters under `backbone.`, of a detector those under `backbone.trunk.`."""
    warmup_epochs: float = 0.0
    """Length of the linear warm-up, at most half of the run."""
    warmup_iterations: int = 0
    """The same in batches, as papers count; it goes without `warmup_epochs`."""
    milestones: tuple[int, ...] = ()
    """Epochs after which the learning rate drops to a tenth; between them it stays the same, and there is no cosine."""
    schedule: str = "cosine"
    """`"cosine"` or `"constant"`: the learning rate after the warm-up. `"constant"` goes without `milestones`, which
    take the place of the cosine."""
    crop_pct: float = 256 / 260
    """Images are squashed to a square of `input_size / crop_pct`, then cropped, at random or centrally."""
    resize: str = "squash"
    """Training geometry: `"squash"` (as `crop_pct` says) or `"random"` (random resized crop). Scoring squashes."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Area range of the random resized crop."""
    keep_person: float = 0.0
    """Share of the person's box that a training crop keeps, where the box is known (`keep_person_crop`); 0: any crop.
    It goes with `resize="squash"`."""
    hflip: float = 0.5
    color_jitter: float = 0.0
    """Largest relative change of brightness, contrast and saturation."""
    hue: float = 0.0
    """Largest turn of the hue, in turns of the colour circle, up to 0.5."""
    grayscale: float = 0.0
    """Probability of a picture without colour."""
    auto_augment: str | None = None
    """timm's augmentation string, e.g. `"rand-m7-n2-mstd0.5-inc1"`."""
    erase: float = 0.0
    """Probability of random erasing."""
    mixup: float = 0.0
    """Alpha of mixup's Beta(alpha, alpha), by which the pictures of a batch are blended in pairs; 0: not at all."""
    label_smoothing: float = 0.0
    clip_grad: float | None = None
    """Largest norm of the gradient."""
    repeats: int = 1
    final_input: str = "original"
    concat_weight: float = 1.0
    weighted: bool = True
    zoom: bool = True
    """Whether progressive training zooms in with the region-focused generator."""
    pose_rotation: float = 0.0
    """Standard deviation, in degrees, of the turn of people from pose sets (`TopDown`)."""
    action_rotation: float = 0.0
    """Likewise of people from action sets."""
    rescale: float = 0.0
    """Standard deviation and largest relative change of the window around a person."""
    action_loss: str = "focal"
    """`"focal"` for one action per person, `"bce"` for several (`MultitaskAwareLoss`)."""
    action_weight: float = 0.00075
    """Lambda of the multitask-aware loss."""
    sigma: float = 2.0
    """Standard deviation of a joint's target, in heat-map cells."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(getattr(self, field.name))
            allowed = _KINDS[str(field.type)]
            if kind not in allowed:
                expected = " or ".join(cls.__name__ for cls in allowed)
                raise ValueError(f"recipe field {field.name} takes {expected}, got {value!r}")
        for name in ("epochs", "batch_size", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"recipe field {name} is at least 1, got {getattr(self, name)}")
        if any(type(epoch) is not int or epoch < 1 for epoch in self.milestones):
            raise ValueError(f"recipe field milestones takes whole epochs from 1 up, got {self.milestones!r}")
        for name in ("hflip", "grayscale", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"recipe field {name} is a probability in [0, 1], got {getattr(self, name)}")
        for name in ("lr", "warmup_epochs", "warmup_iterations", "pose_rotation", "action_rotation", "action_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"recipe field {name} is at least 0, got {getattr(self, name)}")
        self._check_crop_and_mixup()
        self._check_optimizer()
        if not 0 <= self.rescale < 1 or not self.sigma > 0:
            raise ValueError(f"rescale lies in [0, 1) and sigma is above 0, got {self.rescale} and {self.sigma}")
        words_of = {
            "optimizer": ("sgd", "adam", "adamw"),
            "schedule": ("cosine", "constant"),
            "action_loss": ("focal", "bce"),
        }
        for name, words in words_of.items():
            if getattr(self, name) not in words:
                raise ValueError(f"recipe field {name} is one of {', '.join(words)}, got {getattr(self, name)!r}")
        if self.schedule == "constant" and self.milestones:
            raise ValueError(
                f"schedule='constant' has no drops, got milestones={self.milestones}; leave one of the two out"
            )

    def _check_optimizer(self) -> None:
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum > 0):
            raise ValueError(
                f"nesterov=True is for optimizer='sgd' with momentum above 0, got {self.optimizer!r} and "
                f"{self.momentum}"
            )
        if self.warmup_epochs and self.warmup_iterations:
            raise ValueError(
                f"the warm-up lasts warmup_epochs or warmup_iterations, got {self.warmup_epochs} and "
                f"{self.warmup_iterations}; leave one of the two at 0"
            )

    def _check_crop_and_mixup(self) -> None:
        if not 0 <= self.mixup < math.inf:
            raise ValueError(f"recipe field mixup is finite and at least 0, got {self.mixup}")
        if not 0 <= self.keep_person <= 1:
            raise ValueError(f"recipe field keep_person is a share of a box in [0, 1], got {self.keep_person}")
        if self.keep_person and self.resize == "random":
            raise ValueError(
                f"keep_person={self.keep_person} goes with resize='squash', got resize='random', whose crops have any "
                "size; set keep_person=0 or resize='squash'"
            )

    def override(self, **changes: Any) -> "Recipe":
        """A copy with the given fields changed.

        Raises:
            ValueError: If a field does not exist, or a value is of the wrong type or out of range.
        """
        unknown = set(changes) - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"a Recipe has no field {sorted(unknown)}; it has {sorted(asdict(self))}")
        return replace(self, **changes)

    def lasting(self, iterations: int, samples: int, drops: Sequence[int] = ()) -> "Recipe":
        """A copy that lasts so many iterations, as papers count, on a training set of so many samples.

        A run has whole epochs, and a batch that is not full is left out, so that it lasts `iterations` but for half
        an epoch.

        Args:
            iterations: Batches of `batch_size`, on all devices together.
            samples: Samples of the training set.
            drops: Iterations after which the learning rate drops to a tenth.

        Raises:
            ValueError: If a number is below 1, there are fewer samples than a batch holds, or a drop falls on the
                same epoch as another or on none of the run's.
        """
        if iterations < 1 or samples < self.batch_size:
            raise ValueError(
                f"expected at least one iteration and one batch of {self.batch_size} samples, got {iterations} "
                f"iterations and {samples} samples"
            )
        steps = samples // self.batch_size
        epochs, *milestones = (round(count / steps) for count in (iterations, *drops))
        if sorted({0, *milestones, epochs}) != [0, *milestones, epochs]:
            raise ValueError(
                f"{iterations} iterations with drops at {list(drops)} are {epochs} epochs of {steps} with drops after "
                f"{milestones}; those must be different whole epochs of the run"
            )
        return self.override(epochs=epochs, milestones=tuple(milestones))


_COMMON = frozenset(
    ("source", "epochs", "batch_size", "optimizer", "lr", "weight_decay", "momentum", "nesterov", "backbone_lr_scale",
     "warmup_epochs", "warmup_iterations", "milestones", "schedule", "clip_grad")
)  # fmt: skip
"""What every task takes notice of: the optimizer and its schedule."""


def all_but(*names: str) -> frozenset[str]:
    """Fields of a recipe that a task takes no notice of which uses those named besides optimizer and schedule."""
    return frozenset(field.name for field in fields(Recipe)) - _COMMON - set(names)


recipes: dict[str, Recipe] = {
    "prfnet": Recipe(
        source="PRF-Net section 4.2; the backbone's tenfold smaller rate is this library's decision",
        epochs=100,
        batch_size=32,
        optimizer="sgd",
        lr=0.002,
        weight_decay=5e-4,
        backbone_lr_scale=0.1,
    ),
    "convit_har": Recipe(
        source="ConViT-HAR section 4.2; epochs, sizes and RandAugment's strength are this library's decisions",
        epochs=30,
        batch_size=16,
        optimizer="sgd",
        lr=0.001,
        weight_decay=3e-5,
        milestones=(10, 20),
        crop_pct=448 / 512,
        keep_person=0.7,
        auto_augment="rand-m9-n2",
        mixup=0.4,
    ),
    "detector": Recipe(
        source="actionzoo: a small person detector on a frozen backbone",
        epochs=8,
        batch_size=16,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.02,
        warmup_epochs=0.5,
        color_jitter=0.2,
        clip_grad=5.0,
    ),
    "human_branch": Recipe(
        source="actionzoo: a small human branch beside a frozen network",
        epochs=12,
        batch_size=64,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.05,
        warmup_epochs=1,
        crop_pct=1.0,
        color_jitter=0.3,
        label_smoothing=0.1,
        clip_grad=5.0,
    ),
    "bodypart": Recipe(
        source="Body-part and multitask net sections 4.1 and 3.6: Adam, 210 epochs, drops at 170 and 200",
        epochs=210,
        batch_size=16,
        optimizer="adam",
        lr=1e-5,
        weight_decay=0.0,
        milestones=(170, 200),
        pose_rotation=90.0,
        action_rotation=10.0,
        rescale=0.25,
    ),
    "tahnet_ntu": Recipe(
        source="Instance-guided framework section 4.2: 120,000 iterations, drops at 80,000 and 100,000, which are "
        "11.9, 7.9 and 9.9 epochs of NTU RGB+D's 40,320 cross-subject training clips, here rounded (`Recipe.lasting` "
        "for other sets); momentum and weight decay are this library's decisions",
        epochs=12,
        batch_size=4,
        optimizer="sgd",
        lr=0.001,
        weight_decay=1e-4,
        milestones=(8, 10),
        hflip=0.0,
    ),
    "tahnet_nucla": Recipe(
        source="Instance-guided framework section 4.2: 10,000 iterations from NTU's weights, which are 40.7 epochs of "
        "983 clips, two thirds of N-UCLA's 1,475, here rounded (`Recipe.lasting` for other sets); momentum and weight "
        "decay are this library's decisions",
        epochs=41,
        batch_size=4,
        optimizer="sgd",
        lr=0.001,
        weight_decay=1e-4,
        schedule="constant",
        hflip=0.0,
    ),
    "instances": Recipe(
        source="actionzoo: a small temporal action head on a frozen detector",
        epochs=12,
        batch_size=16,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.05,
        warmup_epochs=1,
        label_smoothing=0.1,
        clip_grad=5.0,
        # left and right may be what tells actions apart
        hflip=0.0,
    ),
    "pcf_people": Recipe(
        source="PCF section III-A: SGD with Nesterov momentum, 24 epochs with drops after 16 and 22, a warm-up of "
        "1,800 iterations, batches of 6 on each of 4 GPUs; the backbone's rate is a third in the authors' "
        "configuration, which otherwise begins at 0.012; mirroring is this library's decision",
        epochs=24,
        batch_size=24,
        optimizer="sgd",
        lr=0.01,
        weight_decay=1e-4,
        nesterov=True,
        backbone_lr_scale=1 / 3,
        warmup_iterations=1800,
        milestones=(16, 22),
    ),
    "pcf_parts": Recipe(
        source="PCF section III-A, the same numbers for both detectors: SGD with Nesterov momentum, 24 epochs with "
        "drops after 16 and 22, a warm-up of 1,800 iterations, batches of 6 on each of 4 GPUs; the backbone's rate "
        "is a third in the authors' configuration, which otherwise begins at 0.016 after 4,000 iterations; "
        "mirroring, by which left and right change places, is this library's decision",
        epochs=24,
        batch_size=24,
        optimizer="sgd",
        lr=0.01,
        weight_decay=1e-4,
        nesterov=True,
        backbone_lr_scale=1 / 3,
        warmup_iterations=1800,
        milestones=(16, 22),
    ),
    "pcf_csn": Recipe(
        source="PCF section III-A: SGD with Nesterov momentum, 58 epochs with drops after 32 and 48, batches of 4 on "
        "each of 4 GPUs; clipping and the warm-up of 16 epochs are the authors' configuration's (the paper says 16 "
        "iterations), where it begins at a tenth of the rate and not near 0",
        epochs=58,
        batch_size=16,
        optimizer="sgd",
        lr=8e-5,
        weight_decay=1e-4,
        nesterov=True,
        warmup_epochs=16,
        milestones=(32, 48),
        resize="random",
        scale=(0.08, 1.0),
        clip_grad=40.0,
    ),
    "segments": Recipe(
        source="actionzoo: small networks from random weights on short clips of generated figures",
        epochs=12,
        batch_size=16,
        optimizer="adamw",
        lr=2e-3,
        weight_decay=0.05,
        warmup_epochs=1,
        resize="random",
        # a crop keeps head and feet of most people
        scale=(0.7, 1.0),
        color_jitter=0.2,
        label_smoothing=0.1,
        clip_grad=5.0,
    ),
    "people": Recipe(
        source="actionzoo: small pose and action networks from random weights on generated figures",
        epochs=10,
        batch_size=32,
        optimizer="adamw",
        lr=2e-3,
        weight_decay=0.02,
        warmup_epochs=1,
        pose_rotation=15.0,
        action_rotation=10.0,
        rescale=0.2,
        clip_grad=5.0,
    ),
    "scratch": Recipe(
        source="actionzoo: small networks from random weights on a few thousand images",
        epochs=40,
        batch_size=64,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.05,
        warmup_epochs=3,
        crop_pct=1.0,
        resize="random",
        auto_augment="rand-m6-n2-mstd0.5-inc1",
        erase=0.2,
        label_smoothing=0.1,
        clip_grad=5.0,
    ),
}
