"""Scoring of per-person video models: by track, and by video with one track each (section 4.2)."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._modes import eval_mode
from ..metrics import accuracy, mean_average_precision, wilson_interval
from .evaluate import Evaluation
from .instance_features import ClipFeatures

__all__ = [
    "VIDEO_RULES",
    "InstanceBatch",
    "InstanceEvaluation",
    "collate_instances",
    "evaluate_instances",
    "video_scores",
]

VIDEO_RULES = ("score", "area", "mean")


class InstanceBatch(NamedTuple):
    """The N tracks of B clips."""

    features: Tensor
    """`(N, C, T, R, R)` pooled features."""
    labels: Tensor
    """`(N,)` int64, -1 where not known."""
    clip_index: Tensor
    """`(N,)` int64, the clip of the batch that each track is in."""
    score: Tensor
    """`(N,)` the detector's mean score."""
    area: Tensor
    """`(N,)` mean area of the boxes in square pixels."""
    targets: Tensor
    """`(B,)` int64, classes of the videos."""
    people: Tensor
    """`(B, 2)` int64, how many true people there are, and how many of them have a track."""


def collate_instances(clips: Sequence[ClipFeatures]) -> InstanceBatch:
    """Join the tracks of clips, which differ in number."""
    counts = torch.tensor([len(clip.labels) for clip in clips])
    return InstanceBatch(
        features=torch.cat([clip.features for clip in clips]),
        labels=torch.cat([clip.labels for clip in clips]),
        clip_index=torch.arange(len(clips)).repeat_interleave(counts),
        score=torch.cat([clip.score for clip in clips]),
        area=torch.cat([clip.area for clip in clips]),
        targets=torch.tensor([clip.label for clip in clips]),
        people=torch.tensor([(clip.people, clip.found) for clip in clips]),
    )


def video_scores(
    scores: Tensor, clip_index: Tensor, score: Tensor, area: Tensor, clips: int, rule: str = "score"
) -> tuple[Tensor, Tensor]:
    """Score videos by their tracks, one each as the benchmarks do (section 4.2).

    Args:
        scores: `(N, K)` probabilities of the tracks.
        clip_index: `(N,)` the video of each.
        score: `(N,)` the detector's score of each.
        area: `(N,)` mean area of its boxes.
        clips: Number of videos B.
        rule: `"score"`: the track of highest score, as on NTU RGB+D; `"area"`: that of the largest box, as on N-UCLA;
            `"mean"`: the mean of all tracks.

    Returns:
        `(B, K)` probabilities, and `(B,)` bool, whether a video has a track; the probabilities of others are 0.

    Raises:
        ValueError: If the rule is unknown.
    """
    if rule not in VIDEO_RULES:
        raise ValueError(f"a video's rule is one of {', '.join(VIDEO_RULES)}, got {rule!r}")
    videos, known = scores.new_zeros(clips, scores.shape[1]), torch.zeros(clips, dtype=torch.bool, device=scores.device)
    for i in clip_index.unique().tolist():
        rows, known[i] = clip_index == i, True
        if rule == "mean":
            videos[i] = scores[rows].mean(0)
        else:
            # the first of equals
            videos[i] = scores[rows][(score if rule == "score" else area)[rows].argmax()]
    return videos, known


class InstanceEvaluation(NamedTuple):
    """How well tracks and videos are labelled."""

    metrics: dict[str, Any]
    evaluation: Evaluation | None
    """Of the videos that have tracks or, where people of a video differ, of the tracks; None where there are none."""


@torch.no_grad()
def evaluate_instances(
    model: nn.Module,
    loader: Iterable[InstanceBatch],
    *,
    rule: str = "score",
    one_label: bool = True,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> InstanceEvaluation:
    """Score a model on the pooled features of clips.

    Args:
        model: An `InstanceActionNet` or its like, which gives logits `(N, K)` of `features=`; in eval mode meanwhile.
        loader: Batches, as `collate_instances` makes them.
        rule: How a video is scored by its tracks, see `video_scores`.
        one_label: Whether everybody in a video does what it is labelled with; if not, tracks alone are scored.
        device: Where to run; the model is moved there.
        progress: Show a progress bar.

    Returns:
        `videos` and `tracks`, their numbers, and `empty`, the number of videos without a track, which count as wrong.
        Of videos `top1` with its 95 % Wilson interval, `top5` and `map`, in percent; of tracks whose label is known
        `track_top1` with its interval. `unmatched` tracks are none of the true people, `missed` people have no track.

    Raises:
        ValueError: If the loader is empty or the rule is unknown.
    """
    if progress:
        from tqdm import tqdm

        loader = tqdm(loader, "scoring", leave=False)
    tracks, videos, people = [], [], torch.zeros(2, dtype=torch.long)
    with eval_mode(model.to(device)):
        for batch in loader:
            scores = model(features=batch.features.to(device)).float().softmax(1).cpu()
            clip, score, area = (x.cpu() for x in (batch.clip_index, batch.score, batch.area))
            tracks.append((scores, batch.labels.cpu()))
            videos.append((*video_scores(scores, clip, score, area, len(batch.targets), rule), batch.targets.cpu()))
            people += batch.people.cpu().sum(0)
    if not videos:
        raise ValueError("there is nothing to score: the loader is empty")
    (scores, labels), (of_videos, known, targets) = (tuple(map(torch.cat, zip(*rows))) for rows in (tracks, videos))
    metrics: dict[str, Any] = {"videos": len(targets), "empty": int((~known).sum())}
    if one_label:
        metrics |= _accuracies(of_videos, torch.where(known, targets, -1), targets)
    metrics |= {"tracks": len(labels), "unmatched": int((labels < 0).sum())}
    if people[0]:
        metrics |= {"people": int(people[0]), "missed": int(people[0] - people[1])}
    metrics |= _interval("track_top1", scores[labels >= 0].argmax(1) == labels[labels >= 0])
    rows, truth = (of_videos[known], targets[known]) if one_label else (scores[labels >= 0], labels[labels >= 0])
    return InstanceEvaluation(metrics, Evaluation(rows, truth, metrics) if len(truth) else None)


def _accuracies(scores: Tensor, known: Tensor, targets: Tensor) -> dict[str, Any]:
    """Metrics of videos; `known` are their targets, -1 for those without a track, which nothing can hit."""
    seen, count = known >= 0, len(known)
    top5 = accuracy(scores[seen], known[seen], k=min(5, scores.shape[1])) * int(seen.sum()) / count if seen.any() else 0
    return {
        **_interval("top1", scores.argmax(1) == known),
        "top5": round(100 * top5, 2),
        "map": round(100 * mean_average_precision(scores, targets), 2),
    }


def _interval(name: str, correct: Tensor) -> dict[str, Any]:
    """Share of true values in percent with its 95 % interval; nothing of no values."""
    count, hits = len(correct), int(correct.sum())
    if not count:
        return {}
    bounds = [round(100 * bound, 2) for bound in wilson_interval(hits, count)]
    return {name: round(100 * hits / count, 2), f"{name}_interval": bounds}
