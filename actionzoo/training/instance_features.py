"""Pooled features of the people in clips, kept on disk: the detector is frozen, so it runs once (section 4.2)."""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .._checkpoint import atomic_path
from .._modes import eval_mode
from ..data.labelled_clips import ClipSource, LabelledClip, flip_clip
from ..models import InstanceActionNet
from ._features_manifest import check_manifest, describe_features
from ._pooled_tracks import pool_clip

__all__ = ["ClipFeatures", "InstanceFeatures", "cache_instances"]


class ClipFeatures(NamedTuple):
    """The n tracks of a clip; n may be 0."""

    features: Tensor
    """`(n, C, T, R, R)` pooled features, float32."""
    labels: Tensor
    """`(n,)` int64 classes; -1 for a track that is none of the clip's true people."""
    score: Tensor
    """`(n,)` the detector's mean score over the frames in which the person was found."""
    area: Tensor
    """`(n,)` mean area of the boxes in those frames, in square pixels of the clip."""
    label: int
    """Class of the video."""
    people: int
    """How many true people there are; 0 where they are not known."""
    found: int
    """How many of them have a track."""


class InstanceFeatures(Dataset):
    """Map-style data set over clips of what `cache_instances` has written; items are `ClipFeatures`."""

    def __init__(
        self,
        source: ClipSource,
        folder: str | Path,
        *,
        views: int = 1,
        seed: int = 0,
        hflip: float = 0.0,
        random_view: bool = False,
    ) -> None:
        """Describe the files; nothing is read yet.

        Args:
            source: The clips that the features were made of.
            folder: The folder that they were written to.
            views: As in `cache_instances`.
            seed: As there.
            hflip: As there.
            random_view: Whether an item is any of the clip's views, for training, by torch's generator; else it is
                the clip from the middle.
        """
        self.source, self.folder, self.views, self.seed, self.hflip = source, Path(folder), views, seed, hflip
        self.random_view = random_view

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.source)

    def file(self, i: int, view: int = 0) -> Path:
        """Where the features of a view of clip `i` are, or will be."""
        how = f"-{view}-{self.seed}-{self.hflip:g}" if view else ""
        return self.folder / f"{self.source.key(i)}{how}.safetensors"

    def __getitem__(self, i: int) -> ClipFeatures:
        """Read the features of clip `i`.

        Raises:
            IndexError: If there is no such clip.
            RuntimeError: If the file is missing or damaged.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"there are {len(self)} clips, and none of number {i}")
        return self.read(i, int(torch.randint(self.views, ())) if self.random_view else 0)

    def read(self, i: int, view: int = 0) -> ClipFeatures:
        """Read a view of clip `i`.

        Raises:
            RuntimeError: If the file is missing or damaged.
        """
        path = self.file(i, view)
        try:
            with safe_open(path, framework="pt") as file:
                stored = {name: file.get_tensor(name) for name in ("features", "score", "area", "person", "labels")}
        except Exception as error:  # safetensors has errors of its own for what a file can lack
            raise RuntimeError(f"cannot read {path} ({error}); make it with cache_instances") from error
        person, labels, label = stored["person"], stored["labels"], self.source.label(i)
        known = len(labels) > 0
        own = torch.where(person >= 0, labels[person.clamp(min=0)], -1) if known else torch.full_like(person, label)
        found = len(person[person >= 0].unique()) if known else 0
        features = stored["features"].float()
        return ClipFeatures(features, own, stored["score"], stored["area"], label, len(labels), found)


def cache_instances(
    model: InstanceActionNet,
    source: ClipSource,
    folder: str | Path,
    *,
    views: int = 1,
    frames: int | None = None,
    hflip: float = 0.0,
    seed: int = 0,
    true_boxes: bool = False,
    whole_frame: bool = False,
    workers: int = 0,
    progress: bool = True,
) -> InstanceFeatures:
    """Find and follow the people of clips, pool their features and write them to a folder, a file per clip and view.

    A file that is there is not made again, so that an interrupted run goes on where it was. Files are named after
    what their clip is, so that one folder serves several splits and folds; `manifest.json` says what they were made
    with, and a folder of another detector or other settings is refused. Features are kept in half precision:
    200 kB per person of 64 channels, 8 frames and 14x14 cells, 800 kB of 256 channels. A clip that cannot be read does
    not keep the others from being made, so that after the list is put right only what is new is left to do.

    Under torchrun every process calls this. Each makes its share, then what slower ones have not come to yet, and
    returns when everything is there.

    A track of a clip whose people are known is the person whom it overlaps most, from a mean IoU of 0.5 over the
    frames in which it was found; below that it is nobody. The model is put into eval mode meanwhile.

    Args:
        model: The network, on the device that it is to run on; its head is not looked at.
        source: The clips.
        folder: Folder to write.
        views: Clips of every video: the one from the middle, then those that start anywhere (section 4.2).
        frames: Frames T of the features: longer clips are cut, shorter ones padded with zeros (section 4.2). The
            model's own if None.
        hflip: Probability that a view but the first is mirrored.
        seed: Seed of the views.
        true_boxes: Pool at the true boxes of people instead of those that the detector finds.
        whole_frame: Give a clip in which nobody is found one track, the whole frame, of score 0.
        workers: Processes that decode clips.
        progress: Show a progress bar.

    Returns:
        The features as a data set, the clip from the middle of every video.

    Raises:
        ValueError: If a number is out of range, the folder holds features that were made otherwise, or true boxes are
            asked of clips that have none.
        RuntimeError: If features are not finite in half precision or, at the end, if clips could not be read; the
            message lists those.
    """
    if views < 1 or not 0 <= hflip <= 1:
        raise ValueError(f"views is at least 1 and hflip a probability, got {views} and {hflip}")
    length = model.frames if frames is None else frames
    if length < 1:
        raise ValueError(f"frames is at least 1, got {length}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"frames": length, "true_boxes": true_boxes, "whole_frame": whole_frame}
    check_manifest(folder, {**describe_features(model), **settings})

    features = InstanceFeatures(source, folder, views=views, seed=seed, hflip=hflip)
    wanted = [(i, view) for i in range(len(source)) for view in range(views)]
    rank, processes = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    shares = [wanted[rank::processes]]
    if processes > 1:
        # no barrier, which a slow process would let time out; each in an order of its own, so that few meet
        shares.append(random.Random(rank).sample(wanted, len(wanted)))
    unreadable: dict[int, str] = {}
    with eval_mode(model):
        for share in shares:
            left = [(i, view) for i, view in share if i not in unreadable]
            unreadable |= _fill(model, features, left, settings, workers, progress)
    if unreadable:
        raise UnreadableClipsError([unreadable[i] for i in sorted(unreadable)])
    return features


class UnreadableClipsError(RuntimeError):
    """Clips that could not be read; the features of all others are there."""

    def __init__(self, messages: Sequence[str]) -> None:
        listed = "\n".join(messages)
        super().__init__(
            f"{len(messages)} clips cannot be read; mend or leave out these files, then call again, which goes on with "
            f"the features that were made of the others:\n{listed}"
        )
        self.messages = list(messages)


def _fill(
    model: InstanceActionNet,
    features: InstanceFeatures,
    share: Sequence[tuple[int, int]],
    settings: dict[str, Any],
    workers: int,
    progress: bool,
) -> dict[int, str]:
    """Write the features of some clips and views; what cannot be read is told by the clip's number."""
    todo = [(i, view) for i, view in share if not features.file(i, view).exists()]
    loader: Any = DataLoader(_Views(features, todo), batch_size=None, num_workers=workers)
    if progress and todo:
        from tqdm import tqdm

        loader = tqdm(loader, "detecting", initial=len(share) - len(todo), total=len(share), leave=False)
    unreadable: dict[int, str] = {}
    for (i, view), clip in zip(todo, loader):
        path = features.file(i, view)
        if isinstance(clip, str):
            unreadable[i] = clip
        elif clip is not None and not path.exists():
            stored = pool_clip(model, clip, settings["frames"], settings["true_boxes"], settings["whole_frame"])
            if not stored["features"].isfinite().all():
                raise RuntimeError(f"features of {path.stem} are not finite in half precision; check the detector")
            with atomic_path(path) as temporary:
                temporary.write_bytes(save(stored))
    return unreadable


class _Views(Dataset):
    """The clips that are left to do, for a loader's workers."""

    def __init__(self, features: InstanceFeatures, todo: Sequence[tuple[int, int]]) -> None:
        self.features, self.todo = features, todo

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, k: int) -> LabelledClip | str | None:
        i, view = self.todo[k]
        if self.features.file(i, view).exists():  # made by another process meanwhile
            return None
        try:
            return self.read(i, view)
        except (RuntimeError, OSError) as error:
            return f"{self.features.source.key(i)}: {error}"

    def read(self, i: int, view: int) -> LabelledClip:
        if view == 0:
            return self.features.source.read(i)
        # a generator of its own, so that a view is the same whoever makes it and in whatever order
        at, mirror = np.random.default_rng([self.features.seed, i, view]).random(2)
        clip = self.features.source.read(i, float(at))
        return flip_clip(clip) if mirror < self.features.hflip else clip
