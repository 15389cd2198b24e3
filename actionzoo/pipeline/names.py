"""What a model and its classes are called."""

from typing import Any

from torch import nn


def class_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the classes that a model's classifier scores.

    Raises:
        ValueError: If the model has no classifier.
    """
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    count: Any = getattr(model, "num_classes", cfg.get("num_classes"))
    if not count:
        raise ValueError(f"{type(model).__name__} has no classifier; create it with num_classes=…")
    names = tuple(cfg.get("classes") or ())
    # a classifier that was replaced after loading does not score the classes of the old one
    return names if len(names) == count else tuple(f"class_{i}" for i in range(count))


def model_name(model: Any) -> str:
    """The name that `create` knows a model by, with its weights' tag; the class's name for any other."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    return ".".join(filter(None, (cfg.get("architecture") or type(model).__name__, cfg.get("tag"))))
