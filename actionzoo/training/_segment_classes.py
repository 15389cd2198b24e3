"""Part groups whose labels a classifier holds one after the other, and what it is worth to know them."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from ..models.segments import PART_GROUPS, SegmentLabel, SegmentLabeler

ACTION = "action"


def part_groups(groups: str | Sequence[str]) -> tuple[str, ...]:
    """Names of part groups; none of `"action"`, six of `"all"`.

    Raises:
        ValueError: If there is none, one is unknown, or one comes twice.
    """
    if groups == ACTION:
        return ()
    names = tuple(PART_GROUPS) if groups == "all" else (groups,) if isinstance(groups, str) else tuple(groups)
    if not names or len(set(names)) < len(names) or set(names) - set(PART_GROUPS):
        raise ValueError(f"groups are 'action', 'all', or some of {', '.join(PART_GROUPS)}, each once; got {groups!r}")
    return names


def state_accuracy(labels: Sequence[SegmentLabel], states: Sequence[Mapping[str, Counter[str]]]) -> float:
    """Share of annotated parts whose state is that of their segment's label; NaN where there are none.

    Args:
        labels: What was said of the segments, all of one part group.
        states: For every segment how often each part, by name, was annotated with each state.
    """
    right = total = 0
    for label, counts in zip(labels, states, strict=True):
        for part, state in label.parts().items():
            votes = counts.get(part, Counter())
            right, total = right + votes[state], total + sum(votes.values())
    return right / total if total else math.nan


def groups_of(classes: Sequence[str]) -> tuple[str, ...]:
    """The part groups whose labels the names of classes are, in their order; none if they are not such labels."""
    parsed = [_parse(name) for name in classes]
    return tuple(dict.fromkeys(label.group for label in parsed if label is not None)) if all(parsed) else ()


def vocabulary_of(classes: Sequence[str], groups: Sequence[str]) -> SegmentLabeler:
    """The vocabulary that names of classes stand for, as `SegmentTask.classes` has them.

    Args:
        classes: Names of labels, those of each group together.
        groups: The part groups.

    Raises:
        ValueError: If a name is none of such a label, or the groups are others or in another order.
    """
    vocabulary: dict[str, list[tuple[str, ...]]] = {group: [] for group in PART_GROUPS}
    order = []
    for name in classes:
        label = _parse(name)
        if label is None:
            raise ValueError(f"{name!r} is no label of a part group, such as bowling_head_none; the model knows others")
        vocabulary[label.group].append((label.action, *label.states))
        order += [] if order and order[-1] == label.group else [label.group]
    if order != list(groups):
        raise ValueError(f"the model's classes are states of {', '.join(order)}, not of {', '.join(groups)}")
    return SegmentLabeler(vocabulary)


def _parse(name: str) -> SegmentLabel | None:
    """The label that is written so; None if there is none."""
    single = "|".join(group for group, parts in PART_GROUPS.items() if len(parts) == 1)
    double = "|".join(group for group, parts in PART_GROUPS.items() if len(parts) == 2)
    for form in (rf"(.+)_R_({double})_(.+)_L_\2_(.+)", rf"(.+)_({single})_(.+)"):
        if found := re.fullmatch(form, name):
            action, group, *states = found.groups()
            return SegmentLabel(action, group, tuple(states))
    return None
