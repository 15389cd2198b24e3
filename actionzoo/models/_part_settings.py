"""Settings of part-level action parsing that a model and a pipeline have in common."""

import math
from numbers import Integral
from typing import Literal, get_args

Coarse = Literal["independent", "conditioned"]
"""Whether part states are read from the labels of all actions, or from those of the action that was recognised."""


def check_part_settings(threshold: float, seconds: float, coarse: str, **counts: int | None) -> None:
    """Refuse settings that are out of range.

    Args:
        threshold: Least score of a person.
        seconds: Length of a segment.
        coarse: One of `Coarse`.
        counts: By name, whole numbers from 1; None is not looked at.

    Raises:
        ValueError: If one is.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a score in [0, 1], got {threshold}")
    if any(count is not None and (not isinstance(count, Integral) or count < 1) for count in counts.values()):
        names, values = (f"{', '.join(map(str, row[:-1]))} and {row[-1]}" for row in zip(*counts.items()))
        raise ValueError(f"{names} are whole numbers of at least 1, got {values}")
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds of a segment are a positive number, got {seconds}")
    if coarse not in get_args(Coarse):
        raise ValueError(f"coarse is {' or '.join(map(repr, get_args(Coarse)))}, got {coarse!r}")
