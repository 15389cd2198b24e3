"""The files of the Kinetics-TPS challenge: actions of videos, and people, parts and states of their frames."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._checkpoint import atomic_path
from ._part_annotations import check_parts, check_videos, entry, proposals

_FILES = {"action": "{}_vid_result.json", "parts": "{}_part_result.json"}
_PREFIXES = {"pred": "prediction", "gt": "ground truth"}


def read_part_predictions(path: str | os.PathLike[str], prefix: str = "pred") -> dict[str, Any]:
    """Read a prediction or a ground truth from the challenge's two files.

    Args:
        path: Folder of `pred_vid_result.json`, the action of every video, and `pred_part_result.json`, everything
            else.
        prefix: `"pred"`, or `"gt"` for the ground truth, in `gt_vid_result.json` and `gt_part_result.json`.

    Returns:
        `"action"` and `"parts"` as `part_state_correctness` and `part_state_roc` take them.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If the prefix is unknown, a file is not JSON, or its content not in the form of the challenge.
    """
    source = _source(prefix)
    content = {}
    for key, name in _FILES.items():
        file = Path(path) / name.format(prefix)
        try:
            content[key] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"no such file: {file}; the challenge's files are {_names(prefix)}") from error
        except ValueError as error:
            raise ValueError(f"{file} is not JSON in UTF-8 ({error})") from error
    _check(content, source, proposed=prefix == "pred")
    return content


def write_part_predictions(path: str | os.PathLike[str], prediction: Mapping[str, Any]) -> Path:
    """Write a prediction as the challenge's two files, both under other names until they are whole.

    People and proposals are numbered, every part gets a list of boxes and one of states, and boxes may be arrays. Only
    what the challenge asks for is written: other entries, scores for instance, are left out.

    Args:
        path: Folder for `pred_vid_result.json` and `pred_part_result.json`; it is made if its parent is there.
        prediction: `"action"` and `"parts"` as `part_state_roc` takes them.

    Returns:
        The folder.

    Raises:
        ValueError: If the prediction is not in the form of the challenge.
        FileNotFoundError: If the folder above is not there.
    """
    actions, parts = _check(prediction, "prediction", proposed=True)
    labels = {video: label if isinstance(label, str) else int(label) for video, label in actions.items()}
    frames = {
        video: {
            frame: {"humans": [_person(number, person) for number, person in enumerate(content["humans"], 1)]}
            for frame, content in frames.items()
        }
        for video, frames in parts.items()
    }
    texts = [json.dumps(content) for content in (labels, frames)]
    folder = Path(path)
    folder.mkdir(exist_ok=True)
    files = [folder / name.format("pred") for name in _FILES.values()]
    with atomic_path(files[0]) as actions_file, atomic_path(files[1]) as parts_file:
        actions_file.write_text(texts[0], encoding="utf-8")
        parts_file.write_text(texts[1], encoding="utf-8")
    return folder


def _source(prefix: str) -> str:
    if prefix not in _PREFIXES:
        raise ValueError(f"unknown prefix {prefix!r}; there are {', '.join(map(repr, _PREFIXES))}")
    return _PREFIXES[prefix]


def _names(prefix: str) -> str:
    return " and ".join(name.format(prefix) for name in _FILES.values())


def _check(content: Mapping[str, Any], source: str, *, proposed: bool) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Actions and parts of the same videos, in the form of the challenge."""
    actions, parts = entry(content, "action", source), entry(content, "parts", source)
    check_videos(parts, actions, f"{source}: 'parts'", "'action'")
    for video, label in actions.items():
        if not isinstance(label, str | int | np.integer):
            raise ValueError(f"{source}, video {video!r}: expected the name or number of an action, got {label!r}")
    check_parts(parts, source, proposed=proposed)
    return actions, parts


def _person(number: int, person: Mapping[str, Any]) -> dict[str, Any]:
    parts = {}
    for name, part in person["parts"].items():
        boxes, states = proposals(part)
        parts[name] = {"number": len(states), "box": [_numbers(box) for box in boxes], "verb": list(states)}
    return {"number": number, "box": _numbers(person["box"]), "parts": parts}


def _numbers(box: Any) -> list[float]:
    return np.asarray(box).tolist()
