"""Boxes of people in pictures, read from a table."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

COLUMN = "person_boxes_xyxy_score"


def read_person_boxes(
    table: str | Path, root: str | Path | None = None, *, min_score: float = 0.0
) -> dict[Path, Tensor]:
    """Read the boxes of people from a CSV table with one row per picture.

    The columns are `file` and `person_boxes_xyxy_score`, a JSON list of `[x1, y1, x2, y2, score]` in pixels of the
    upright picture, and where there are: `split` and `class`, the folders that the picture may lie in, and `width` and
    `height`, at which boxes are clipped, as they are at 0. An empty cell says nothing of its picture, `[]` that nobody
    is in it.

    Args:
        table: The CSV file.
        root: Folder of the pictures, which lie at `SPLIT/CLASS/FILE`, `FILE` or `SPLIT/FILE` below it: the paths that
            `read_samples` gives for the same folder. The table's own folder if None.
        min_score: Boxes of a lower score are left out.

    Returns:
        `(n, 4)` float xyxy boxes of every picture, the surest first. Boxes without an area are left out, and so are
        pictures that are not on disk: a table may cover more than the part of a data set that is there.

    Raises:
        FileNotFoundError: If the table, the folder or every picture of the table is not there.
        ValueError: If the table lacks a column or is no CSV file, a cell does not hold finite numbers as above, or a
            picture has two rows; the message names the line.
    """
    path, folder = Path(table), Path(root) if root is not None else Path(table).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}; give the pictures' folder as root")
    rows = _read_rows(path)
    found: dict[Path, Tensor] = {}
    lines: dict[Path, int] = {}
    for line, row in rows:
        where = f"{path} line {line}"
        boxes = _parse(row, min_score, where)
        picture = next((candidate for candidate in _candidates(folder, row, where) if candidate.is_file()), None)
        if picture is None:
            continue
        if picture in lines:
            raise ValueError(f"{path} has two rows of {picture}, lines {lines[picture]} and {line}; keep one")
        lines[picture] = line
        if boxes is not None:
            found[picture] = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    if rows and not lines:
        example = _candidates(folder, rows[0][1], "")[0]
        raise FileNotFoundError(f"{path} names {len(rows)} pictures, none of which is there: no {example}, say")
    return found


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows of a table with the lines that they end on."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise FileNotFoundError(f"no such table of boxes: {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a CSV file: {error}") from error
    missing = [name for name in ("file", COLUMN) if name not in columns]
    if missing:
        raise ValueError(f"{path} needs the columns file and {COLUMN}; it lacks {missing} and has {list(columns)}")
    return rows


def _candidates(folder: Path, row: dict[str, str], where: str) -> list[Path]:
    """Where a row's picture may lie, the likeliest first."""
    name, split, kind = row["file"], row.get("split"), row.get("class")
    if not name:
        raise ValueError(f"{where} names no file")
    paths = [folder / split / kind / name] if split and kind else []
    return [*paths, folder / name, *([folder / split / name] if split else [])]


def _parse(row: dict[str, str], min_score: float, where: str) -> list[list[float]] | None:
    """Boxes of one row, the surest first; None for an empty cell."""
    if row[COLUMN] == "":
        return None
    try:
        boxes = json.loads(row[COLUMN])
        right, bottom = (float(row[side]) if side in row else math.inf for side in ("width", "height"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}; expected [[x1, y1, x2, y2, score], ...] and sizes in pixels") from error
    if not (isinstance(boxes, list) and all(_is_box(box) for box in boxes)):
        raise ValueError(f"{where}: boxes are a list of finite [x1, y1, x2, y2, score], got {row[COLUMN][:80]}")
    if not (right > 0 and bottom > 0):
        raise ValueError(f"{where}: a picture has a width and a height in pixels, got {right:g} x {bottom:g}")
    # a stable sort: boxes of equal scores stay in the table's order
    sure = sorted((box for box in boxes if box[4] >= min_score), key=lambda box: -box[4])
    clipped = [[max(x1, 0.0), max(y1, 0.0), min(x2, right), min(y2, bottom)] for x1, y1, x2, y2, _ in sure]
    return [box for box in clipped if box[2] > box[0] and box[3] > box[1]]


def _is_box(box: Any) -> bool:
    """Whether it is a list of five finite numbers."""
    return isinstance(box, list) and len(box) == 5 and all(type(x) in (int, float) and math.isfinite(x) for x in box)
