"""Train a network that tells what happens in a video, or what body parts do in a segment of it (PCF, section II-C).

The coarse stage of the part action parser labels whole videos, the fine one segments of about three seconds; both are
channel-separated networks, each trained on its own (section III-A).
"""

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .._modes import eval_mode
from ..data.folders import SPLITS
from ..data.part_videos import PartVideos
from ..models import CSN
from ..models.segments import PART_GROUPS, SegmentLabeler
from ._clip_augmentation import ClipAugmentation
from ._segment_classes import ACTION, class_names, part_groups, state_accuracy, vocabulary_of
from ._segment_samples import SegmentClips, SegmentSample, VideoSegment, few_of_each, list_segments
from .recipes import Recipe, all_but
from .tasks import BaseTask, StepTools, write_metrics

__all__ = ["SegmentScore", "SegmentTask", "segment_loss"]


def segment_loss(logits: Tensor, targets: Tensor, sizes: Sequence[int], label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of every group of classes that a classifier holds one after the other.

    Args:
        logits: `(B, K)`, K the sum of the sizes.
        targets: `(B, G)` classes, each counted from the first of its group; -100 does not count.
        sizes: Classes of each group.
        label_smoothing: As in torch.

    Returns:
        `(G,)`, each the mean over the samples whose class is known, and 0, with a graph, where none is.
    """
    losses = []
    for rows, target in zip(logits.float().split(list(sizes), 1), targets.unbind(1), strict=True):
        loss = F.cross_entropy(rows, target, label_smoothing=label_smoothing, reduction="sum")
        losses.append(loss / (target != -100).sum().clamp(min=1))
    return torch.stack(losses)


class SegmentScore(NamedTuple):
    """How well segments or videos are labelled."""

    metrics: dict[str, Any]


class SegmentTask(BaseTask):
    """Train a CSN on whole videos, for their actions, or on segments, for the states of one or several part groups.

    A network of one group is one of the paper's six; one of several groups has their classes one after the other in
    its classifier and is this library's smaller alternative. In training a clip comes from a random place, is cropped
    and scaled at random as a whole, and mirrored only where the mirrored label is known: for a part group right and
    left change places in it (the authors mirror clips and leave the labels). In scoring it comes from the middle.

    A video or segment too short for a clip: the step between frames shrinks to what fits, then the last is repeated.
    """

    unused_fields = all_but("hflip", "scale", "color_jitter", "hue", "grayscale", "label_smoothing")

    def __init__(
        self,
        splits: Mapping[str, PartVideos],
        labeler: SegmentLabeler | None = None,
        name: str = "videos",
        *,
        groups: str | Sequence[str] = ACTION,
        seconds: float = 3.0,
        segments_per_video: int | None = None,
        train_size: int | None = None,
        cache: bool = False,
        progress: bool = False,
    ) -> None:
        """Describe the data; for part groups the segments are listed now, which goes through all annotations.

        Args:
            splits: Videos of `train`, and of `val` and `test` where there are.
            labeler: Vocabulary of the part groups; that of the training segments if None.
            name: The data in words, which a resumed run must have in common with the one it goes on with.
            groups: `"action"`, a part group, several in the order of their classes, or `"all"` six.
            seconds: Length of a segment.
            segments_per_video: Segments of every training video that are learned from, always the same ones, evenly
                spread; all if None. Many videos with a few segments each teach more than a few with many, whose
                background and people a network learns by heart.
            train_size: Side of the training crops in pixels, where they are smaller than the network's input: the
                paper's authors train at 224 and score at 256.
            cache: Keep frames in memory once they are read, scaled down to what crops need: 49 kB each for crops of
                112 pixels, 6.3 GB for a thousand videos of 128. Every worker process keeps its own for as long as it
                lives, which is an epoch, so that it is of use without workers.
            progress: Show a progress bar while segments are listed.

        Raises:
            ValueError: If a split or group is unknown or named twice, a number is out of range, there are no videos, or
                there is no vocabulary and no training split to take it from.
        """
        if not splits or set(splits) - set(SPLITS):
            raise ValueError(f"videos are given by the splits {', '.join(SPLITS)}, got {sorted(splits) or 'none'}")
        self.videos, self.name, self.splits = dict(splits), name, tuple(splits)
        if segments_per_video is not None and segments_per_video < 1:
            raise ValueError(f"segments_per_video is at least 1, got {segments_per_video}")
        self.seconds, self.train_size, self.progress = seconds, train_size, progress
        self.segments_per_video = segments_per_video
        self.labeler = labeler
        self.segments: dict[str, list[VideoSegment]] = {}
        """Segments of every split; none as long as whole videos are labelled."""
        # by split and by how far frames are scaled down
        self._kept: dict[Any, dict[tuple[int, int], Tensor]] | None = {} if cache else None
        self._set_groups(groups)

    def for_groups(self, groups: str | Sequence[str]) -> "SegmentTask":
        """The same data for other part groups, or for actions; segments and frames in memory are shared.

        Args:
            groups: As in the constructor.

        Raises:
            ValueError: As there.
        """
        other = copy.copy(self)
        other._set_groups(groups)
        return other

    def _set_groups(self, groups: str | Sequence[str]) -> None:
        self.groups = part_groups(groups)
        self.headline = "state_accuracy" if self.groups else "top1"
        if not self.groups:
            self.classes = tuple(self.videos.get("train", next(iter(self.videos.values()))).classes)
            self.sizes = [len(self.classes)]
            return
        if not self.segments:
            listed = {s: list_segments(v, self.seconds, progress=self.progress) for s, v in self.videos.items()}
            if self.segments_per_video is not None and "train" in listed:
                listed["train"] = few_of_each(listed["train"], self.segments_per_video)
            # in place, for tasks that share them
            self.segments.update(listed)
        if self.labeler is None:
            if "train" not in self.segments:
                raise ValueError(
                    f"a vocabulary is a train split's, and there is only {', '.join(self.splits)}; give one"
                )
            self.labeler = SegmentLabeler.from_segments(one.segment for one in self.segments["train"])
        self._number()

    def _number(self) -> None:
        """Number the classes of the part groups as the vocabulary does."""
        assert self.labeler is not None
        self.sizes = [len(self.labeler.vocabulary[group]) for group in self.groups]
        self.classes = class_names(self.labeler, self.groups)

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Note the classes and what they stand for, and take the network's frames, step and size after `check`.

        The names of labels do not always tell which labels they are, so that the vocabulary is saved beside them.
        """
        self.recipe = recipe
        cfg["classes"] = list(self.classes)
        # whole videos are not cut
        cfg["task_args"] = {"groups": list(self.groups), **({"seconds": self.seconds} if self.groups else {})}
        if self.groups and self.labeler is not None:
            cfg["task_args"]["vocabulary"] = self.labeler.to_dict()
        self.frames, self.stride = cfg["frames"], cfg["stride"]
        for key in ("input_size", "test_input_size"):
            # another side was asked for
            if len(cfg.get(key) or ()) == 3:
                cfg[key] = (cfg[key][0], self.frames, *cfg[key][1:])
        size = (cfg.get("test_input_size") or cfg["input_size"])[-2:]
        crop = cfg["input_size"][-2:] if self.train_size is None else (self.train_size, self.train_size)
        self.transform = ClipAugmentation(size, crop, cfg["mean"], cfg["std"], recipe)

    def check(self, model: nn.Module) -> None:
        """Refuse other models than CSNs for colour clips, or one with another number of classes than the data.

        Raises:
            ValueError: If it is one.
        """
        if not isinstance(model, CSN) or model.in_chans != 3:
            raise ValueError(
                f"{type(model).__name__} labels no clips of three colours; actions and part states train an ipcsn_*"
            )
        if model.num_classes != len(self.classes):
            raise ValueError(
                f"the model has {model.num_classes} classes, the data {len(self.classes)}; create it with as many"
            )

    def rename(self, classes: Sequence[str]) -> None:
        """Number the classes as a trained model does; part groups get the vocabulary of its classes.

        Raises:
            ValueError: If the data has an action that the model does not know, or the model's classes are none of the
                part groups or may be read in several ways: give the vocabulary that the model was trained with then.
        """
        if self.groups:
            if tuple(classes) != self.classes:
                own = self.labeler.vocabulary.values() if self.labeler is not None else ()
                self.labeler = vocabulary_of(classes, self.groups, [label for labels in own for label in labels])
                self._number()
            return
        if absent := sorted({c for videos in self.videos.values() for c in videos.classes} - set(classes)):
            raise ValueError(f"the model does not know the classes {absent} of the data; it knows {list(classes)}")
        self.classes, self.sizes = tuple(classes), [len(classes)]

    def describe(self) -> str:
        """Counts of classes, segments and videos."""
        counts = ", ".join(f"{len(videos)} {split}" for split, videos in self.videos.items())
        if not self.groups:
            return f"{len(self.classes)} actions, {counts} videos"
        segments = ", ".join(f"{len(rows)} {split}" for split, rows in self.segments.items())
        return f"{len(self.classes)} states of {', '.join(self.groups)}; {segments} segments of {counts} videos"

    def identity(self) -> str:
        """The data's name, every video with its action, every segment with its labels, and how they are cut."""
        rows = [
            f"{split} {videos.name(i)} {videos.action(i)} {videos.length(i)}"
            for split, videos in sorted(self.videos.items())
            for i in range(len(videos))
        ]
        # a task of actions may share the segments of another
        for split, segments in sorted(self.segments.items()) if self.groups else ():
            rows += [f"{split} {s.video} {s.segment.start} {[*map(str, s.segment.labels.values())]}" for s in segments]
        digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
        return f"{self.name} {digest} {json.dumps([self.groups, self.seconds, self.train_size])}"

    def dataset(self, split: str, train: bool) -> Dataset:
        """Normalised clips, the classes of their groups and their numbers in the split.

        Raises:
            ValueError: If there is no such split.
        """
        if split not in self.videos:
            raise ValueError(f"the data has no {split} split; it has {', '.join(self.splits)}")
        kept = None if self._kept is None else self._kept.setdefault((split, *self.transform.bound), {})
        samples, clip = self._samples(split), (self.frames, self.stride)
        return SegmentClips(self.videos[split], samples, *clip, self.transform, train, kept)

    def _samples(self, split: str) -> list[SegmentSample]:
        videos, samples = self.videos[split], []
        if not self.groups:
            index = {name: k for k, name in enumerate(self.classes)}
            for i in range(len(videos)):
                target = torch.tensor([index.get(videos.action(i), -100)])
                samples.append(SegmentSample(i, 0, videos.length(i), target, target, {}))
            return samples
        assert self.labeler is not None
        columns = torch.tensor([list(PART_GROUPS).index(group) for group in self.groups])
        flips = [self.labeler.flip(group) for group in self.groups]
        for one in self.segments[split]:
            target = self.labeler.encode(one.segment.labels)[columns]
            mirrored = [k if k < 0 else int(flip[k]) for flip, k in zip(flips, target.tolist())]
            flipped = None if -1 in mirrored else torch.tensor(mirrored)
            samples.append(SegmentSample(one.video, one.segment.start, one.segment.stop, target, flipped, one.states))
        return samples

    def step(self, tools: StepTools, batch: Sequence[Tensor]) -> Tensor:
        """Cross-entropy of every group, and their mean, which is minimised."""
        clips, targets, _ = batch
        tools.optimizer.zero_grad(set_to_none=True)
        clips = clips.contiguous(memory_format=torch.channels_last_3d)
        losses = segment_loss(tools.model(clips), targets, self.sizes, self.recipe.label_smoothing)
        tools.update(losses.mean())
        return torch.cat([losses, losses.mean()[None]] if len(losses) > 1 else [losses]).detach()

    @torch.no_grad()
    def score(self, model: nn.Module, loader: DataLoader, device: torch.device | str, progress: bool) -> SegmentScore:
        """Accuracy of labels and, of part groups, of the states of all parts of all people in all annotated frames.

        The latter is what Table III of the paper gives: a segment's state counts for everybody in it. A label that
        the vocabulary lacks is wrong. With several groups `top1` and `state_accuracy` are means over them.
        """
        from tqdm import tqdm

        predicted, targets, numbers = [], [], []
        with eval_mode(model):
            for clips, target, number in tqdm(loader, "scoring", leave=False, disable=not progress):
                logits = model(clips.to(device)).float().cpu()
                predicted.append(torch.stack([rows.argmax(1) for rows in logits.split(self.sizes, 1)], 1))
                targets.append(target.cpu())
                numbers.append(number.cpu())
        found, hits = torch.cat(predicted), (torch.cat(predicted) == torch.cat(targets)).double().mean(0)
        if self.labeler is None or not self.groups:
            return SegmentScore({"videos": len(found), "top1": round(100 * float(hits[0]), 2)})
        samples = loader.dataset.samples  # type: ignore[attr-defined]
        metrics: dict[str, Any] = {"segments": len(found), "top1": round(100 * float(hits.mean()), 2)}
        states = [samples[i].states for i in torch.cat(numbers).tolist()]
        accuracy = {}
        for column, group in enumerate(self.groups):
            labels = [self.labeler.decode(group, k) for k in found[:, column].tolist()]
            accuracy[group] = state_accuracy(labels, states)
        counted = [value for value in accuracy.values() if not math.isnan(value)]
        if counted:
            metrics["state_accuracy"] = round(100 * sum(counted) / len(counted), 2)
        if len(self.groups) > 1:
            metrics |= {f"top1_{group}": round(100 * float(hit), 2) for group, hit in zip(self.groups, hits)}
            metrics |= {f"state_accuracy_{g}": round(100 * v, 2) for g, v in accuracy.items() if not math.isnan(v)}
        return SegmentScore(metrics)

    def report(self, score: Any, output: Path) -> None:
        """Write the figures as `segments.json`."""
        write_metrics(output / "segments.json", score.metrics)
