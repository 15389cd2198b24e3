"""Labelled photographs on disk: class folders, or a table with a file column."""

import csv
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ActionSamples:
    """Labelled files of one data set: `items[split]` is a list of (path, class index)."""

    classes: tuple[str, ...]
    items: dict[str, list[tuple[Path, int]]]
    skipped: int = 0
    """Rows of a table without a label."""
    boxes: Mapping[Path, Tensor] = field(default_factory=dict, compare=False)
    """People in the pictures where they are known, `(n, 4)` float xyxy in pixels, the surest first (`with_boxes`)."""

    def hold_out(self, fraction: float, seed: int = 0) -> "ActionSamples":
        """Move a fraction of every class of `train` to `val`, drawn with a seed; `test` is left alone.

        Raises:
            ValueError: If the fraction is outside `[0, 1)` or holds out nothing, if there is no `train` split, or a
                `val` split already.
        """
        if not 0 <= fraction < 1:
            raise ValueError(f"the held-out fraction lies in [0, 1), got {fraction}")
        if not fraction:
            return self
        if "val" in self.items:
            raise ValueError("the data has a val split already; hold out nothing (--val-fraction 0)")
        if "train" not in self.items:
            raise ValueError(f"there is no train split to hold out of; the data has {', '.join(self.items)}")
        rng, train, val = random.Random(seed), [], []
        for k in range(len(self.classes)):
            rows = [row for row in self.items["train"] if row[1] == k]
            rng.shuffle(rows)
            count = round(fraction * len(rows))
            val += rows[:count]
            train += rows[count:]
        if not val:
            raise ValueError(f"a fraction of {fraction} of {len(train)} training images holds out none; raise it")
        return replace(self, items={**self.items, "train": sorted(train), "val": sorted(val)})

    def relabel(self, mapping: Mapping[str, str]) -> "ActionSamples":
        """Merge or rename classes: every class -> its new name.

        Raises:
            ValueError: If the mapping leaves a class out; the message names it.
            TypeError: If a new name is not a string.
        """
        missing = sorted(set(self.classes) - set(mapping))
        if missing:
            raise ValueError(f"the label map says nothing of {missing}; map every class, to itself if it stays")
        wrong = {name: mapping[name] for name in self.classes if not isinstance(mapping[name], str)}
        if wrong:
            raise TypeError(f"a label map gives names, as strings; got {wrong}")
        classes = tuple(sorted({mapping[name] for name in self.classes}))
        index = [classes.index(mapping[name]) for name in self.classes]
        items = {split: [(path, index[k]) for path, k in rows] for split, rows in self.items.items()}
        return replace(self, classes=classes, items=items)

    def with_boxes(self, boxes: Mapping[Path, Tensor]) -> "ActionSamples":
        """Add the boxes of people, as `read_person_boxes` gives them; those of other pictures are left out.

        Args:
            boxes: `(n, 4)` xyxy, half-open, in pixels of the upright picture, by the paths of `items`; the surest
                person comes first.

        Raises:
            ValueError: If no picture has an entry, or boxes have the wrong shape, are not finite or have no area.
        """
        paths = [path for rows in self.items.values() for path, _ in rows]
        known = {path: torch.as_tensor(boxes[path], dtype=torch.float32) for path in paths if path in boxes}
        if not known:
            pictures, others = next(iter(map(str, paths)), "none"), next(iter(map(str, boxes)), "none")
            raise ValueError(
                f"no picture has boxes: pictures are named like {pictures}, boxes like {others}; read both with the "
                "same root"
            )
        for path, found in known.items():
            if found.ndim != 2 or found.shape[1] != 4:
                raise ValueError(f"the boxes of a picture are (n, 4), xyxy; {path} has {tuple(found.shape)}")
            if not (found.isfinite().all() and (found[:, 2:] > found[:, :2]).all()):
                raise ValueError(f"a box of {path} has no area or is not finite: {found.tolist()}; leave it out")
        return replace(self, boxes=known)


def read_samples(data: str | Path, root: str | Path | None = None, label: str | None = None) -> ActionSamples:
    """List the labelled images of a data set.

    Args:
        data: A folder `SPLIT/CLASS/*` with the splits `train` and / or `test` (and `val`), or a CSV file with
            the columns `split` and `file` and a label column.
        root: For a CSV file: the folder that its files lie in, directly or under the split's name. The CSV
            file's own folder if None.
        label: For a CSV file: the label column.

    Returns:
        Classes in alphabetical order and the files of every split. Rows with an empty label are left out.

    Raises:
        ValueError: If the data is neither, has no images, lacks a column, or a split has a class that `train`
            has not.
        FileNotFoundError: If a path does not exist.
    """
    path = Path(data)
    if not path.exists():
        raise FileNotFoundError(f"no such data: {path}; expected a folder train/CLASS/*, test/CLASS/* or a CSV file")
    if path.is_dir():
        if label is not None or root is not None:
            raise ValueError("root and label belong to a CSV file; a folder's labels are its class folders")
        rows, skipped = _folder_rows(path), 0
    elif path.suffix.lower() == ".csv":
        rows, skipped = _table_rows(path, Path(root) if root is not None else path.parent, label)
    else:
        raise ValueError(f"data must be a folder train/CLASS/* or a .csv file, got {path}")
    if not rows:
        raise ValueError(f"no labelled images in {path}; expected train/CLASS/*.jpg, or rows with a label")
    classes = tuple(sorted({name for split, _, name in rows if split == "train"} or {name for _, _, name in rows}))
    unknown = sorted({name for _, _, name in rows} - set(classes))
    if unknown:
        raise ValueError(f"{path}: classes {unknown} are in another split but not in train, which has {list(classes)}")
    index = {name: k for k, name in enumerate(classes)}
    items: dict[str, list[tuple[Path, int]]] = {}
    for split, file, name in rows:
        items.setdefault(split, []).append((file, index[name]))
    return ActionSamples(classes, items, skipped)


def _folder_rows(folder: Path) -> list[tuple[str, Path, str]]:
    rows = []
    for split in SPLITS:
        for class_dir in sorted((folder / split).glob("[!.]*/")):
            rows += [(split, file, class_dir.name) for file in find_images(class_dir)]
    return rows


def find_images(folder: Path) -> list[Path]:
    """Picture files below a folder, in order; hidden ones are left out."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _table_rows(path: Path, root: Path, label: str | None) -> tuple[list[tuple[str, Path, str]], int]:
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}; give the images' folder as root")
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    columns = list(table[0]) if table else []
    if label is None or any(name not in columns for name in ("split", "file", label)):
        raise ValueError(f"{path} needs the columns split, file and a label; it has {columns}, label is {label!r}")
    rows = []
    for row in table:
        if row[label]:
            if row["split"] not in SPLITS:
                raise ValueError(f"{path} has a split {row['split']!r}; expected one of {', '.join(SPLITS)}")
            direct = root / row["file"]
            file_path = direct if direct.is_file() else root / row["split"] / row["file"]
            if not file_path.is_file():
                raise FileNotFoundError(f"{path} names {row['file']}, which is neither {direct} nor {file_path}")
            rows.append((row["split"], file_path, row[label]))
    return rows, len(table) - len(rows)


class ActionImages(Dataset):
    """Map-style data set of (transformed image, class index)."""

    def __init__(
        self,
        items: Sequence[tuple[Path, int]],
        transform: Callable[..., Any] | None = None,
        boxes: Mapping[Path, Tensor] | None = None,
    ) -> None:
        """Wrap a split.

        Args:
            items: Files and class indices, as `ActionSamples.items[split]` holds them.
            transform: Called with every RGB image.
            boxes: People in the pictures, as `ActionSamples.boxes` holds them. If given, the transform is called with
                the image and its `(n, 4)` boxes, or None where it has no entry; see `train_transform`.
        """
        self.items = list(items)
        self.transform = transform
        self.boxes = boxes

    def __len__(self) -> int:
        """Number of images."""
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        """Decode image `i`.

        Raises:
            RuntimeError: If the file cannot be decoded; the message names it.
        """
        path, target = self.items[i]
        image = load_image(path)
        if self.transform is None:
            return image, target
        people = () if self.boxes is None else (self.boxes.get(path),)
        return self.transform(image, *people), target

    def class_counts(self) -> Counter[int]:
        """Images of every class index."""
        return Counter(target for _, target in self.items)


def load_image(path: str | Path) -> Image.Image:
    """Decode a picture file to RGB, upright as its EXIF orientation says.

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If the file is not a picture, is damaged or is cut short.
    """
    try:
        with Image.open(path) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise FileNotFoundError(f"no such picture: {path}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RuntimeError(f"{path} cannot be read as a picture: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode without losing the picture, where Pillow's `convert` would clip or warn."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        return Image.fromarray((values.clip(0, 65535) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
