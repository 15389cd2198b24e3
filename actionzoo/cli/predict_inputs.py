"""What `actionzoo predict` is given, and the names of what it writes."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ..data.clip_sets import VIDEO_SUFFIXES
from ..data.folders import IMAGE_SUFFIXES, find_images

WRITTEN = ("_actionzoo", "_attention")
"""What the names of annotated copies end in."""


class Input(NamedTuple):
    """One picture or clip."""

    source: Path | str | int
    """A file or folder; the number of a camera, `"-"` or an address."""
    kind: Literal["picture", "clip"] | None
    """None for a file whose suffix does not say."""
    named: bool
    """Whether it was asked for by name, not found in a folder."""


def expand(items: Sequence[str], frames_folder: bool = False) -> tuple[list[Input], list[str]]:
    """Pictures and clips of the given files, folders, patterns and streams.

    Annotated copies that an earlier call left in a folder or beside a pattern's files are passed over, and so are those
    that are named together with what they are copies of, as a pattern that the shell expands does.

    Args:
        items: As given on the command line.
        frames_folder: Whether a folder is one clip of frames, and not a place to look for pictures and clips.

    Returns:
        Each of them once, and what matched nothing.
    """
    found, missing = [], []
    for item in items:
        path, here = Path(item), []
        if path.exists():
            here = _at(path, frames_folder)
        elif item == "-" or "://" in item:
            here = [Input(item, "clip", True)]
        elif item.isdecimal():
            here = [Input(int(item), "clip", True)]
        else:
            for name in sorted(glob.glob(item, recursive=True)):
                here += [one for one in _at(Path(name), frames_folder) if not _copied(one.source)]
        found += here
        if not here:
            missing.append(item)
    once: dict[Path | str | int, Input] = {}
    for one in found:
        if one.named or one.source not in once:
            once[one.source] = one
    originals = {source.with_suffix("") for source in once if isinstance(source, Path)}
    return [one for one in once.values() if not originals & _copied(one.source)], missing


def _copied(source: Path | str | int) -> set[Path]:
    """What an annotated copy may be a copy of, without the suffix; nothing for other inputs."""
    stem = source.stem if isinstance(source, Path) else ""
    for ending in WRITTEN:
        if isinstance(source, Path) and stem.endswith(ending):
            stem = stem.removesuffix(ending)
            # several of one name are numbered
            return {source.with_name(name) for name in (stem, re.sub(r"_\d+$", "", stem)) if name}
    return set()


def _at(path: Path, frames_folder: bool) -> list[Input]:
    if not path.is_dir():
        suffix = path.suffix.lower()
        kind = "clip" if suffix in VIDEO_SUFFIXES else "picture" if suffix in IMAGE_SUFFIXES else None
        return [Input(path, kind, True)]
    if frames_folder:
        pictures = any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.glob("[!.]*"))
        return [Input(path, "clip", True)] if pictures else []
    videos = sorted(file for file in path.rglob("[!.]*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
    both = [Input(file, "picture", False) for file in find_images(path)]
    both += [Input(file, "clip", False) for file in videos]
    return [one for one in both if not _copied(one.source)]


def free_paths(folder: Path, stem: str, endings: Sequence[str], used: set[Path]) -> list[Path]:
    """Files of a folder, which is made, named after an input; another of that name from elsewhere gets a number."""
    paths, number = [folder / f"{stem}{ending}" for ending in endings], 1
    while used & set(paths):
        number += 1
        paths = [folder / f"{stem}_{number}{ending}" for ending in endings]
    used.update(paths)
    folder.mkdir(parents=True, exist_ok=True)
    return paths
