"""Scoring of part-level action parsing by the rules of the Kinetics-TPS challenge (PCF, section III)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._modes import eval_mode
from ..data.figures import PARTS
from ..data.part_videos import PartVideos, frame_name, frame_number, true_people
from ..metrics import box_average_precision, part_state_correctness, part_state_roc, wilson_interval
from ..metrics._part_annotations import check_parts
from ..models.parsed_video import ParsedVideo
from ..models.segments import PART_GROUPS
from ._segment_samples import count_states

__all__ = ["PartEvaluation", "evaluate_parts"]

CHALLENGE_STEP = 5
"""Frames 1, 6, 11 ... are scored in the challenge."""


class PartEvaluation(NamedTuple):
    """How well videos are parsed."""

    metrics: dict[str, Any]
    """What it comes to, see `evaluate_parts`."""
    correctness: dict[str, float]
    """Part state correctness of every video, in [0, 1]."""
    prediction: dict[str, Any]
    """`"action"` and `"parts"` as `write_part_predictions` takes them."""


class _Found(NamedTuple):
    """Boxes of some frames with their scores, and the true ones."""

    found: list[tuple[Tensor, Tensor]]
    truth: list[Tensor]

    def ap50(self) -> float | None:
        """Average precision in percent; None where there is no true box."""
        return 100 * box_average_precision(self.found, self.truth) if any(map(len, self.truth)) else None


@torch.no_grad()
def evaluate_parts(
    model: nn.Module,
    videos: PartVideos,
    *,
    every: int = CHALLENGE_STEP,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> PartEvaluation:
    """Parse annotated videos and score what comes out (Tables I to III of the paper).

    Args:
        model: A `PCF` with a vocabulary and the names of its classes; in eval mode meanwhile.
        videos: The videos.
        every: Of the annotated frames, 1, 1 + every ... are scored, and the others left out; every fifth, as in the
            challenge, by default. A scored frame that the model does not look at (`PCF.every`) counts 0.
        device: Where to run; the model is moved there.
        progress: Show a progress bar.

    Returns:
        Metrics, shares in percent. `videos` and `frames`, the numbers of those scored. `roc`, the challenge's score,
        and what it is made of: `video_accuracy` with its 95 % Wilson interval, and `psc`, the mean part state
        correctness. `state_accuracy`, the mean over the part groups of `state_accuracy_head` and so on: the share of
        annotated parts, in all annotated frames, whose state is that of their segment, wherever they were found
        (Table III). `people_ap50` and `part_ap50`, average precision of the boxes in the scored frames by VOC's rule,
        of parts the mean over those that there are; unlike in Table II parts are looked for in people who were found,
        and ranked by their own score times the person's.

    Raises:
        ValueError: If there is no video, `every` is below 1, annotations are not in the challenge's form, or actions
            are numbers in them and names in the model.
    """
    from tqdm import tqdm

    if not len(videos):
        raise ValueError("there is no video to score")
    if every < 1:
        raise ValueError(f"every is at least 1, got {every}")
    annotated = _annotations(videos)
    labels = [_label(videos, i) for i in range(len(videos))]
    truth: dict[str, Any] = {"action": {}, "parts": {}}
    prediction: dict[str, Any] = {"action": {}, "parts": {}}
    states: dict[str, Counter[bool]] = {group: Counter() for group in PART_GROUPS}
    boxes = {name: _Found([], []) for name in ("people", *PARTS)}
    model.to(device)
    with eval_mode(model):
        for i in tqdm(range(len(videos)), "parsing", leave=False, disable=not progress):
            pixels = videos.read(i, range(videos.length(i)))
            parsed: ParsedVideo = model.parse(pixels, videos.fps(i))  # type: ignore[operator]
            name = videos.name(i)
            frames = annotated[name]
            scored = {key: content for key, content in frames.items() if (frame_number(key) - 1) % every == 0}
            truth["action"][name], truth["parts"][name] = labels[i], scored
            prediction["action"][name], prediction["parts"][name] = _like(parsed.action, labels), parsed.to_challenge()
            _count_states(parsed, frames, states)
            _add_boxes(parsed, scored, boxes)
    correctness = part_state_correctness(truth, prediction)
    right = sum(prediction["action"][name] == action for name, action in truth["action"].items())
    metrics: dict[str, Any] = {
        "videos": len(videos),
        "frames": sum(map(len, truth["parts"].values())),
        "roc": 100 * part_state_roc(truth, prediction),
        "video_accuracy": 100 * right / len(videos),
        "video_accuracy_interval": [round(100 * bound, 2) for bound in wilson_interval(right, len(videos))],
        "psc": 100 * sum(correctness.values()) / len(correctness),
        **_state_accuracies(states),
        "people_ap50": boxes["people"].ap50(),
        "part_ap50": _mean([boxes[part].ap50() for part in PARTS]),
    }
    rounded = {key: round(value, 2) if isinstance(value, float) else value for key, value in metrics.items()}
    return PartEvaluation({k: v for k, v in rounded.items() if v is not None}, correctness, prediction)


def _annotations(videos: PartVideos) -> dict[str, dict[str, Any]]:
    """What is known of every video, by its name, checked before the first is parsed.

    Raises:
        ValueError: If two videos have the same name, or annotations are not in the challenge's form.
    """
    annotated = {videos.name(i): videos.annotations(i) for i in range(len(videos))}
    if len(annotated) < len(videos):
        raise ValueError(f"{len(videos)} videos have {len(annotated)} names, and a score is by name; rename some")
    check_parts(annotated, "ground truth", proposed=False)
    for name, frames in annotated.items():
        if wrong := [frame for frame in frames if frame != f"{frame_name(frame_number(frame) - 1)}.json"]:
            raise ValueError(f"the frames of {name!r} are called img_00001.json and so on, got {wrong[0]!r}")
    return annotated


def _label(videos: PartVideos, i: int) -> str | int:
    """The action of a video as its annotations have it: a number, too, which `PartVideos` gives as its digits."""
    given = getattr(videos, "truth", None)
    label = given["action"].get(videos.name(i)) if isinstance(given, Mapping) else None
    return label if label is not None and str(label) == videos.action(i) else videos.action(i)


def _like(action: str, labels: Sequence[str | int]) -> str | int:
    """An action as the annotations would have it.

    Raises:
        ValueError: If they have numbers, and it is none.
    """
    if isinstance(labels[0], str):
        return action
    try:
        return int(action)
    except ValueError as error:
        raise ValueError(f"actions are numbers in the annotations, and the model says {action!r}") from error


def _count_states(parsed: ParsedVideo, frames: Mapping[str, Any], states: dict[str, Counter[bool]]) -> None:
    """Count right and wrong states of all annotated parts, by group."""
    for segment in parsed.segments:
        for part, votes in count_states(frames, segment.start, segment.stop).items():
            group = next((group for group, parts in PART_GROUPS.items() if part in parts), None)
            if group is not None:
                for state, count in votes.items():
                    states[group][segment.states[part].state == state] += count


def _state_accuracies(states: Mapping[str, Counter[bool]]) -> dict[str, float | None]:
    by_group = {group: 100 * votes[True] / votes.total() for group, votes in states.items() if votes.total()}
    each = {f"state_accuracy_{group}": share for group, share in by_group.items()}
    return {"state_accuracy": _mean(list(by_group.values())), **each}


def _add_boxes(parsed: ParsedVideo, scored: Mapping[str, Any], boxes: dict[str, _Found]) -> None:
    """Boxes of people and of each part in the scored frames; in those not looked at nothing was found."""
    for name, content in scored.items():
        people, parts = true_people(content)
        found = parsed.people.get(frame_number(name) - 1)
        none = people.new_zeros(0, 4), people.new_zeros(0)
        boxes["people"].found.append(none if found is None else (found.boxes, found.scores))
        # what is outside the picture was cut to nothing
        boxes["people"].truth.append(_with_area(people))
        for k, part in enumerate(PARTS):
            there = none
            if found is not None:
                own = found.part_boxes[:, k].any(1)
                # a part is no surer than that there is somebody
                there = found.part_boxes[own, k], found.part_scores[own, k] * found.scores[own]
            boxes[part].found.append(there)
            boxes[part].truth.append(_with_area(parts[:, k]))


def _with_area(boxes: Tensor) -> Tensor:
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
