"""How the replaceable parts of the part action parser were built, so that a saved one can be built again."""

from typing import Any

import torch

from ..layers import BoxGrower, PoseDotEncoder
from .part_people import JOINT_PARTS


def origin_of(name: str, *parts: Any) -> dict[str, Any]:
    """The arguments with which the parser gets such a part, or several that are alike.

    Args:
        name: Of the argument.
        parts: Networks.

    Returns:
        `{name: ..., f"{name}_args": ...}`; the name is None if `create` did not build them all in the same way.
    """
    origins = []
    for part in parts:
        config = getattr(part, "pretrained_cfg", {})
        args = dict(config.get("model_args", {}))
        # the others get their number of classes from the parser
        if name == "person_detector" and getattr(part, "num_classes", 1) != 1:
            args["num_classes"] = part.num_classes
        origins.append({name: config.get("architecture"), f"{name}_args": args})
    alike = all(origin == origins[0] for origin in origins)
    return origins[0] if alike else {**origins[0], name: None}


def grower_args_of(grower: BoxGrower) -> dict[str, Any]:
    """The arguments with which such a grower is built."""
    return {name: getattr(grower, name) for name in ("threshold", "max_growth", "max_iters")}


def is_default_dots(dots: PoseDotEncoder, layout: str | None) -> bool:
    """Whether dots are those that a parser gets whose joints are in that order."""
    if layout not in JOINT_PARTS or dots.parts != JOINT_PARTS[layout]:
        return False
    fresh = PoseDotEncoder(JOINT_PARTS[layout])
    # half precision rounds colours by less than a step of 1 / 255
    same = torch.allclose(dots.colors.float().cpu(), fresh.colors, rtol=0, atol=0.003)
    return same and dots.extra_repr() == fresh.extra_repr()
