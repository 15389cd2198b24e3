"""The cases as data, one file per group."""

from ._case import Case as Case
from ._case import Problem as Problem
from ._case import Provider as Provider


def all_cases() -> list[Case]:
    """Every case, the layers first."""
    from . import bodypart, convit, crops, instances, models, prfnet, shared

    groups = (prfnet, convit, crops, bodypart, instances, shared, models)
    return [case for group in groups for case in group.CASES]


__all__ = ["Case", "Problem", "Provider", "all_cases"]
