"""People, parts and states of video frames in the form of the Kinetics-TPS challenge, and what is wrong with them."""

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np

PARTS = (
    "head", "hip", "left_arm", "right_arm", "left_foot", "right_foot", "left_hand", "right_hand", "left_leg",
    "right_leg",
)  # fmt: skip
MAX_PEOPLE, MAX_PROPOSALS = 10, 5

_DIGITS = str.maketrans("123456789", "000000000")
_Place = tuple[object, ...]
# the usual type first: abstract ones are slow to ask, and there is an answer for every part of every frame
_DICT, _LIST, _TEXTS, _BOX = (dict, Mapping), (list, Sequence), (list, str, Sequence), (list, Sized)
_KINDS = {_DICT: "a dictionary", _LIST: "a list", _TEXTS: "a name or a list of names", _BOX: "a list of numbers"}


def proposals(part: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[str]]:
    """Boxes and states proposed for a part; a single one of each may stand without its list."""
    boxes, states = part["box"], part["verb"]
    return ([boxes], [states]) if isinstance(states, str) else (boxes, states)


def entry(holder: Any, key: str, source: str) -> Mapping[str, Any]:
    """A dictionary by video, of those that a prediction or a ground truth consists of."""
    value = _get(holder, key, _DICT, (source,))
    if wrong := [video for video in value if not isinstance(video, str)]:
        raise ValueError(f"{source}[{key!r}]: expected the names of videos, got {_short(wrong[0])}")
    return value


def check_parts(parts: Mapping[str, Any], source: str, *, proposed: bool) -> None:
    """Refuse people and parts that are not in the form of the challenge.

    Args:
        parts: By video, frame and `"humans"`.
        source: What errors call them.
        proposed: Whether they are predicted: then people and proposals are limited in number and no box is turned
            inside out. Else every part has one box.

    Raises:
        ValueError: If anything is missing, too much, of another type or shape, or not finite.
    """
    for video, frames in parts.items():
        boxes: list[Any] = []
        places: list[_Place] = []
        if not isinstance(frames, _DICT):
            raise ValueError(f"{_at((source, video))}: expected a dictionary by frame, got {_short(frames)}")
        for frame, content in frames.items():
            place = (source, video, frame)
            if not isinstance(frame, str):
                raise ValueError(f"{_at(place)}: expected the name of a frame, got {_short(frame)}")
            people = _get(content, "humans", _LIST, place)
            if proposed and len(people) > MAX_PEOPLE:
                raise ValueError(f"{_at(place)}: expected at most {MAX_PEOPLE} people, got {len(people)}")
            for number, person in enumerate(people):
                for box, where in _boxes(person, (*place, number), MAX_PROPOSALS if proposed else 1):
                    boxes.append(box)
                    places.append(where)
        _check_boxes(boxes, places, ordered=proposed)


def _boxes(person: Any, place: _Place, most: int) -> Iterator[tuple[Any, _Place]]:
    """All boxes of a person and where they stand, once everything else about them is checked."""
    yield _get(person, "box", _BOX, place), place
    for name, part in _get(person, "parts", _DICT, place).items():
        where = (*place, name)
        _get(part, "box", _BOX, where)
        _get(part, "verb", _TEXTS, where)
        boxes, states = proposals(part)
        if len(boxes) != len(states):
            raise ValueError(
                f"{_at(where)}: expected a box and a state for every proposal, got {len(boxes)} boxes and "
                f"{len(states)} states"
            )
        if len(boxes) > most or (most == 1 and len(boxes) == 0):
            expected = f"at most {most} proposals" if most > 1 else "one box and one state"
            raise ValueError(f"{_at(where)}: expected {expected}, got {len(boxes)}")
        if wrong := [state for state in states if not isinstance(state, str)]:
            raise ValueError(f"{_at(where)}: expected the names of states, got {_short(wrong[0])}")
        for box in boxes:
            yield box, where


def _check_boxes(boxes: Sequence[Any], places: Sequence[_Place], *, ordered: bool) -> None:
    """Refuse boxes that are not four finite numbers each; looks at them one by one only to find the wrong one."""
    if not boxes or _are_boxes(boxes, ordered):
        return
    for box, place in zip(boxes, places):
        if not _are_boxes([box], ordered):
            turned = "with x1 <= x2 and y1 <= y2, " if ordered else ""
            raise ValueError(f"{_at(place)}: expected a box of four finite numbers x1, y1, x2, y2, {turned}got {box!r}")


def _are_boxes(boxes: Sequence[Any], ordered: bool) -> bool:
    try:
        array = np.array(boxes)
    except ValueError:  # of different lengths
        return False
    if array.dtype.kind not in "iuf" or array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        return False
    return not ordered or bool((array[:, :2] <= array[:, 2:]).all())


def check_videos(names: Iterable[str], known: Iterable[str], source: str, other: str) -> None:
    """Refuse videos that only one of two sources has.

    Raises:
        ValueError: If there is such a video.
    """
    names, known = dict.fromkeys(names), dict.fromkeys(known)
    if missing := [name for name in known if name not in names]:
        raise ValueError(f"{source} has nothing for {_some(missing)} of {other}; where nobody was found, give {{}}")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{source} has {_some(unknown)}, which {other} does not")


def check_names(truth: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse predictions whose frames or parts go by other names than the ground truth's.

    The challenge samples every fifth frame and takes no notice of predictions for those between, so that a frame may
    be unknown as long as its name is spelt as the known ones.

    Raises:
        ValueError: If a name is spelt differently, or no predicted frame is one of the ground truth's.
    """
    frames = {frame for video in truth.values() for frame in video}
    spellings = {frame.translate(_DIGITS) for frame in frames}
    predicted = {frame for video in found.values() for frame in video}
    if wrong := sorted(frame for frame in predicted if frame.translate(_DIGITS) not in spellings):
        raise ValueError(f"prediction has frames {_some(wrong)}, the ground truth spells them {_some(sorted(frames))}")
    if predicted and not any(frame in truth[video] for video in found for frame in found[video]):
        raise ValueError(
            f"no predicted frame is one of the ground truth: it has {_some(sorted(frames))}, the prediction "
            f"{_some(sorted(predicted))}"
        )
    known = {*PARTS, *_part_names(truth)}
    if wrong := sorted(set(_part_names(found)) - known):
        raise ValueError(f"prediction has parts {_some(wrong)}; there are {', '.join(sorted(known))}")


def _part_names(parts: Mapping[str, Any]) -> Iterator[str]:
    people = (person for frames in parts.values() for content in frames.values() for person in content["humans"])
    return (name for person in people for name in person["parts"])


def _get(holder: Any, key: str, kind: tuple[type, ...], place: _Place) -> Any:
    """An entry of a dictionary, which must be there and of a kind; a text is no list."""
    if not isinstance(holder, _DICT) or key not in holder:
        raise ValueError(f"{_at(place)}: expected a dictionary with {key!r}, got {_short(holder)}")
    value = holder[key]
    if not isinstance(value, kind) or (kind is not _TEXTS and isinstance(value, str)):
        raise ValueError(f"{_at(place)}: expected {_KINDS[kind]} as {key!r}, got {_short(value)}")
    return value


def _at(place: _Place) -> str:
    """`prediction, video 'v', frame 'f', person 0, 'head'`."""
    words = ("{}", "video {!r}", "frame {!r}", "person {}", "{!r}")
    return ", ".join(word.format(step) for word, step in zip(words, place))


def _short(value: Any) -> str:
    return f"one with {_some(list(value))}" if isinstance(value, Mapping) else reprlib.repr(value)


def _some(names: Sequence[Any]) -> str:
    """The first few of some names."""
    return ", ".join(repr(name) for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
