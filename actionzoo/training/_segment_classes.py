"""Part groups whose labels a classifier holds one after the other, and what it is worth to know them."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

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
    groups = [{label.group for label in _readings(name)} for name in classes]
    if not all(len(each) == 1 for each in groups):
        return ()
    return tuple(dict.fromkeys(group for each in groups for group in each))


def class_names(labeler: SegmentLabeler, groups: Sequence[str]) -> tuple[str, ...]:
    """Names of the labels of some part groups, one group after the other."""
    return tuple(str(label) for group in groups for label in labeler.vocabulary[group])


def kept_vocabulary(cfg: Mapping[str, Any]) -> tuple[SegmentLabeler, tuple[str, ...]] | None:
    """The vocabulary that a network was trained with and its part groups, as `SegmentTask.configure` noted them.

    None where there are none, or where they are not those of the network's classes any more.
    """
    args = cfg.get("task_args") or {}
    if not args.get("vocabulary"):
        return None
    labeler, groups = SegmentLabeler(args["vocabulary"]), tuple(args["groups"])
    return (labeler, groups) if class_names(labeler, groups) == tuple(cfg.get("classes") or ()) else None


def vocabulary_of(classes: Sequence[str], groups: Sequence[str], labels: Iterable[SegmentLabel] = ()) -> SegmentLabeler:
    """The vocabulary that names of classes stand for, as `SegmentTask.classes` has them.

    Args:
        classes: Names of labels, those of each group together.
        groups: The part groups.
        labels: Labels that some names may be of; others are made out of the name.

    Raises:
        ValueError: If a name is none of such a label or may be of several, or the groups are others or in another
            order.
    """
    known: dict[str, set[SegmentLabel]] = {}
    for label in labels:
        known.setdefault(str(label), set()).add(label)
    vocabulary: dict[str, list[tuple[str, ...]]] = {group: [] for group in PART_GROUPS}
    order = []
    for name in classes:
        found = sorted(known.get(name) or _readings(name))
        if not found:
            raise ValueError(f"{name!r} is no label of a part group, such as bowling_head_none; the model knows others")
        if len(found) > 1:
            first, second = (f"{' and '.join(label.states)} of {label.action!r}" for label in found[:2])
            raise ValueError(
                f"{name!r} may mean {first} or {second}, and the model was saved without its vocabulary; train it again"
            )
        label = found[0]
        vocabulary[label.group].append((label.action, *label.states))
        order += [] if order and order[-1] == label.group else [label.group]
    if order != list(groups):
        raise ValueError(f"the model's classes are states of {', '.join(order)}, not of {', '.join(groups)}")
    return SegmentLabeler(vocabulary)


def _readings(name: str) -> set[SegmentLabel]:
    """All labels that are written so."""
    found = set()
    for group, parts in PART_GROUPS.items():
        marks = [f"_{group}_"] if len(parts) == 1 else [f"_R_{group}_", f"_L_{group}_"]
        for pieces in _cuts(name, marks):
            found.add(SegmentLabel(pieces[0], group, tuple(pieces[1:])))
    return found


def _cuts(text: str, marks: Sequence[str]) -> Iterator[list[str]]:
    """Every way to cut a text into pieces that are not empty at marks, each mark once and in their order."""
    if not marks:
        yield [text]
        return
    for at in range(1, len(text) - len(marks[0])):
        if text.startswith(marks[0], at):
            yield from ([text[:at], *rest] for rest in _cuts(text[at + len(marks[0]) :], marks[1:]))
