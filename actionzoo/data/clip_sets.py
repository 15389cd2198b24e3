"""Labelled clips on disk: class folders, or a table with a file column and scene-disjoint folds."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from .clips import read_clip
from .folders import SPLITS, ActionSamples

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".gif"})


def read_clips_folder(folder: str | os.PathLike[str]) -> ActionSamples:
    """List the labelled videos of a folder `SPLIT/CLASS/*` with the splits `train`, `test` and `val`.

    Returns:
        Classes in alphabetical order and the files of every split.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no videos so, or a split has a class that `train` has not.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}; expected train/CLASS/*.mp4 in it")
    rows = [
        (split, file, class_dir.name)
        for split in SPLITS
        for class_dir in sorted((root / split).glob("[!.]*/"))
        for file in sorted(class_dir.rglob("[!.]*"))
        if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()
    ]
    if not rows:
        raise ValueError(f"no labelled videos in {root}; expected train/CLASS/*.mp4")
    return _to_samples(rows, root)


def read_clips_table(
    table: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    label: str = "class",
    fold: int | str | None = None,
    val_fold: int | str | None = None,
) -> ActionSamples:
    """List the labelled videos of a CSV table with one row per video.

    The columns are `file`, a label, and `fold` or `split`. Folds that hold whole scenes or recordings measure
    actions; splits that cut through them measure how well a scene is remembered.

    Args:
        table: The CSV file.
        root: Folder of the videos. The table's own folder if None.
        label: The label column; rows without a label are left out.
        fold: Fold to test on; the others are for training. If None, the column `split` says what is what.
        val_fold: Fold to hold out of training, as `val`; it goes with `fold`.

    Returns:
        Classes in alphabetical order and the files of every split.

    Raises:
        FileNotFoundError: If the table, the folder or a video is not there.
        ValueError: If the table is no CSV file, lacks a column or has no rows, a fold or split is unknown, or a split
            has a class that `train` has not.
    """
    path = Path(table)
    folder = Path(root) if root is not None else path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}; give the videos' folder as root")
    if val_fold is not None and (fold is None or str(val_fold) == str(fold)):
        raise ValueError(f"val_fold {val_fold!r} goes with another fold to test on; fold is {fold!r}")
    rows = _read_rows(path, ("file", label, "split" if fold is None else "fold"))
    if fold is not None:
        folds = sorted({row["fold"] for row in rows})
        wrong = [str(name) for name in (fold, val_fold) if name is not None and str(name) not in folds]
        if wrong:
            raise ValueError(f"{path} has no fold {wrong[0]}; it has {', '.join(folds)}")
        names = {str(fold): "test", **({} if val_fold is None else {str(val_fold): "val"})}
        rows = [{**row, "split": names.get(row["fold"], "train")} for row in rows]
    labelled = [(row["split"], folder / row["file"], row[label]) for row in rows if row[label]]
    for split, file, _ in labelled:
        if split not in SPLITS:
            raise ValueError(f"{path} has a split {split!r}; expected one of {', '.join(SPLITS)}")
        if not file.is_file():
            raise FileNotFoundError(f"{path} names a video that is not there: {file}; give the videos' folder as root")
    return _to_samples(labelled, path, len(rows) - len(labelled))


def _read_rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or []), list(reader)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such table of clips: {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a CSV file: {error}") from error
    missing = [name for name in needed if name not in columns]
    if missing:
        raise ValueError(f"{path} needs the columns {', '.join(needed)}; it lacks {missing} and has {columns}")
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def _to_samples(rows: Sequence[tuple[str, Path, str]], where: Path, skipped: int = 0) -> ActionSamples:
    classes = sorted({name for split, _, name in rows if split == "train"} or {name for _, _, name in rows})
    unknown = sorted({name for _, _, name in rows} - set(classes))
    if unknown:
        raise ValueError(f"{where}: classes {unknown} are in another split but not in train, which has {classes}")
    items: dict[str, list[tuple[Path, int]]] = {}
    for split, file, name in rows:
        items.setdefault(split, []).append((file, classes.index(name)))
    return ActionSamples(tuple(classes), items, skipped)


class ActionClips(Dataset):
    """Map-style data set of (transformed clip, class index)."""

    def __init__(
        self,
        items: Sequence[tuple[Path, int]],
        frames: int,
        stride: int = 1,
        *,
        random_start: bool = False,
        pad: str = "none",
        transform: Callable[..., Any] | None = None,
    ) -> None:
        """Wrap a split.

        Args:
            items: Files and class indices, as `ActionSamples.items[split]` holds them.
            frames: Frames T of a clip.
            stride: Step from one to the next.
            random_start: Whether a clip is from anywhere in its video, for training, by torch's generator; else it is
                from the middle.
            pad: What becomes of videos that are too short, see `read_clip`.
            transform: Called with every `(3, T, H, W)` uint8 clip.
        """
        self.items, self.frames, self.stride = list(items), frames, stride
        self.random_start, self.pad, self.transform = random_start, pad, transform

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        """Decode clip `i`.

        Raises:
            RuntimeError: If nothing of the file can be decoded; the message names it.
        """
        path, target = self.items[i]
        start = "random" if self.random_start else None
        clip = read_clip(path, self.frames, self.stride, start, pad=self.pad)
        return clip if self.transform is None else self.transform(clip), target

    def class_counts(self) -> Counter[int]:
        """Clips of every class index."""
        return Counter(target for _, target in self.items)
