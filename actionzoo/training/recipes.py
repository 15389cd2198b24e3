"""Training recipes: the papers' printed hyper-parameters, and this library's own for its tiny models."""

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
}


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one training run. `recipe.override(epochs=10)` gives a changed copy.

    Lengths are pixels; `lr` is the peak learning rate; the schedule is a linear warm-up and a cosine to zero.
    """

    source: str
    """Where the numbers come from."""
    epochs: int
    batch_size: int
    optimizer: str
    """`"sgd"` (with `momentum`) or `"adamw"`."""
    lr: float
    weight_decay: float
    momentum: float = 0.9
    backbone_lr_scale: float = 1.0
    """Factor on the learning rate of parameters under `backbone.`."""
    warmup_epochs: float = 0.0
    """Length of the linear warm-up, at most half of the run."""
    crop_pct: float = 256 / 260
    """Images are squashed to a square of `input_size / crop_pct`, then cropped, at random or centrally."""
    resize: str = "squash"
    """Training geometry: `"squash"` (as `crop_pct` says) or `"random"` (random resized crop). Scoring squashes."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Area range of the random resized crop."""
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
    label_smoothing: float = 0.0
    clip_grad: float | None = None
    """Largest norm of the gradient."""
    repeats: int = 1
    final_input: str = "original"
    concat_weight: float = 1.0
    weighted: bool = True
    zoom: bool = True
    """Whether progressive training zooms in with the region-focused generator."""

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
        for name in ("hflip", "grayscale", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"recipe field {name} is a probability in [0, 1], got {getattr(self, name)}")

    def override(self, **changes: Any) -> "Recipe":
        """A copy with the given fields changed.

        Raises:
            ValueError: If a field does not exist, or a value is of the wrong type or out of range.
        """
        unknown = set(changes) - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"a Recipe has no field {sorted(unknown)}; it has {sorted(asdict(self))}")
        return replace(self, **changes)


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
