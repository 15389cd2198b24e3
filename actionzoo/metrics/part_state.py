"""Scores of part-level action parsing: what every body part of every person does, and what the video shows.

Both scores are those of the Kinetics-TPS challenge, which "Part-level Action Parsing via a Pose-guided Coarse-to-Fine
Framework" reports (section III-A): the part state correctness of a video, and the area under the curve of the videos
recognised over the correctness that is asked for, which the challenge calls ROC score.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ._assignment import assign
from ._part_annotations import check_names, check_parts, check_videos, entry, proposals

_PERSON_IOU, _PART_IOU = 0.5, 0.3
_STEPS = 10_000
_THRESHOLDS = np.arange(1, _STEPS) / _STEPS


def part_state_correctness(ground_truth: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, float]:
    """Part state correctness (PSC) of every video, by the rules of the public Kinetics-TPS evaluation.

    In every frame people are matched one to one with the greatest total intersection over union (IoU), and found if
    theirs is above 0.5. A part of a person who is found scores 1/N if one of the N boxes proposed for it has the
    true state and an IoU of at least 0.3, else 0. The parts of a frame are averaged, then the frames of the video. A
    frame without true people is left out, and one without true parts as well if there is a prediction for it; a frame
    that the prediction leaves out scores 0. A video without any frame to score gets 1. Predictions for frames between
    those of the ground truth are not looked at.

    Both arguments have `"parts"`, `{video: {frame: {"humans": [{"box": ..., "parts": {name: {"box": ..., "verb":
    ...}}}]}}}`: names of frames as `"img_00001.json"`; boxes as xyxy in pixels, whose last pixel counts in (a width
    is `x2 - x1 + 1`); parts by name (`"head"`, `"left_arm"`, ...). A true part has one box and one state; a predicted
    one a list of each, one per proposal, or a single one of each without lists. Other entries are ignored.

    Args:
        ground_truth: What is there.
        prediction: What was predicted for the same videos: at most 10 people per frame, 5 proposals per part.

    Returns:
        PSC in [0, 1] by video, in the order of the ground truth.

    Raises:
        ValueError: If an entry is missing or too much, a box is not four finite numbers or is predicted inside out,
            a video is on one side only, or a predicted frame or part goes by a name unlike those of the ground truth.
    """
    truth, found = entry(ground_truth, "parts", "ground truth"), entry(prediction, "parts", "prediction")
    check_videos(found, truth, "prediction['parts']", "ground_truth['parts']")
    check_parts(truth, "ground truth", proposed=False)
    check_parts(found, "prediction", proposed=True)
    check_names(truth, found)
    return {video: _video_correctness(frames, found[video]) for video, frames in truth.items()}


def part_state_roc(ground_truth: Mapping[str, Any], prediction: Mapping[str, Any]) -> float:
    """ROC score of the Kinetics-TPS challenge: recognition of videos, weighed by their part state correctness.

    A video counts at a threshold if its action is right and its correctness reaches the threshold; the score is the
    sum over the thresholds 1e-4, 2e-4 ... 0.9999 of the share of videos that count, times 1e-4. So 0.9999 is perfect,
    and the score is never above the accuracy. Counted in closed form, threshold for threshold.

    Args:
        ground_truth: `"action"`, `{video: label}`, and `"parts"` as for `part_state_correctness`.
        prediction: The same of the prediction. Labels are all names or all numbers.

    Returns:
        Score in [0, 0.9999].

    Raises:
        ValueError: If there is no video, a video lacks an action or parts, labels are names on one side and numbers
            on the other, or the parts are wrong as for `part_state_correctness`.
    """
    truth, found = entry(ground_truth, "action", "ground truth"), entry(prediction, "action", "prediction")
    parts = entry(ground_truth, "parts", "ground truth")
    if not truth:
        raise ValueError("there is no video in the ground truth, so the score is undefined")
    check_videos(parts, truth, "ground_truth['parts']", "ground_truth['action']")
    check_videos(found, truth, "prediction['action']", "ground_truth['action']")
    for video, label in truth.items():
        if isinstance(label, str) != isinstance(found[video], str):
            raise ValueError(
                f"the action of video {video!r} is {label!r} in the ground truth and {found[video]!r} in the "
                "prediction; expected names in both, or numbers in both"
            )
    correctness = part_state_correctness(ground_truth, prediction)
    recognised = [correctness[video] for video, label in truth.items() if found[video] == label]
    reached = np.searchsorted(_THRESHOLDS, recognised, side="right")
    return float(reached.sum() / (_STEPS * len(truth)))


def _video_correctness(truth: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    """PSC of one video."""
    total, frames = 0.0, 0
    for name, content in truth.items():
        people = content["humans"]
        if people and name not in found:
            frames += 1
        elif people and (parts := sum(len(person["parts"]) for person in people)):
            total += _frame_score(people, found[name]["humans"]) / parts
            frames += 1
    return total / frames if frames else 1.0


def _frame_score(people: Sequence[Any], found: Sequence[Any]) -> float:
    """Sum of the scores of all parts of the people of one frame."""
    total = 0.0
    for person, match in zip(people, _match_people(people, found)):
        if match is not None:
            # added one by one, person by person, as sum() does not: on a threshold the last bit counts
            score = 0.0
            for name, part in person["parts"].items():
                score += _part_score(part, found[match]["parts"].get(name))
            total += score
    return total


def _part_score(truth: Mapping[str, Any], found: Mapping[str, Any] | None) -> float:
    """1/N where one of N proposals has the true state at the true place, else 0."""
    if found is None:
        return 0.0
    (true_box,), (true_state,) = proposals(truth)
    boxes, states = proposals(found)
    for box, state in zip(boxes, states):
        if state == true_state and _overlap(map(float, true_box), map(float, box)) >= _PART_IOU:
            return 1 / len(boxes)
    return 0.0


def _match_people(people: Sequence[Any], found: Sequence[Any]) -> list[int | None]:
    """Number of the predicted person who is each of the true ones, None for those who are not found."""
    # single precision, and zeros for nobody, as in the public evaluation, so that near ties go the same way
    size, square = max(len(people), len(found)), len(people) == len(found)
    overlaps = np.zeros((size, size), dtype=np.float32 if square else np.float64)
    boxes = [np.array(person["box"], dtype=np.float32) for person in found]
    for row, person in enumerate(people):
        true_box = np.array(person["box"], dtype=np.float32)
        for column, box in enumerate(boxes):
            overlaps[row, column] = _overlap(true_box, box)
    columns = assign(1 - overlaps)[: len(people)]
    return [column if overlaps[row, column] > _PERSON_IOU else None for row, column in enumerate(columns)]


def _overlap(first: Iterable[float], second: Iterable[float]) -> float:
    """Intersection over union of two boxes whose last pixel counts in; -1 where they are apart."""
    left, top, right, bottom = first
    x1, y1, x2, y2 = second
    width, height = min(right, x2) - max(left, x1) + 1, min(bottom, y2) - max(top, y1) + 1
    if width <= 0 or height <= 0:
        return -1.0
    shared = width * height
    return shared / ((right - left + 1) * (bottom - top + 1) + (x2 - x1 + 1) * (y2 - y1 + 1) - shared)
