"""What is written and shown while a clip is labelled."""

import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from .._checkpoint import atomic_path
from ..data.clip_writer import _FORMATS
from ..data.clips import ClipFrame
from .clip_overlay import Event
from .clip_source import Clip
from .clip_tally import ClipTally
from .clip_window import ClipWindow

Target = str | os.PathLike[str] | None


def check_targets(clip: Clip, video: Target, lines: Target) -> None:
    """Refuse files that cannot be written, or that the clip itself is in, before anything is read.

    Raises:
        ValueError: If the video's suffix is none that is written, or a file is the clip's own, or both are the same.
        FileNotFoundError: If a folder is not there.
    """
    if video is not None and Path(video).suffix.lower() not in _FORMATS:
        raise ValueError(f"a clip is written to a file that ends in {', '.join(_FORMATS)}, got {Path(video).name!r}")
    source = clip if isinstance(clip, str | os.PathLike) else getattr(clip, "name", None)
    taken = {Path(source).resolve()} if isinstance(source, str | os.PathLike) else set[Path]()
    for path in (Path(target) for target in (video, lines) if target is not None):
        if not path.parent.is_dir():
            raise FileNotFoundError(f"no such folder: {path.parent}; make it first")
        if path.resolve() in taken:
            raise ValueError(f"{path} is read from or written to already; give another file")
        taken.add(path.resolve())


@contextmanager
def open_lines(path: Target) -> Generator[TextIO | None, None, None]:
    """A file of JSON lines, under another name until it is whole; None for None."""
    if path is None:
        yield None
        return
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def record(
    events: Iterable[Event], tally: ClipTally, windows: list[ClipWindow] | None, lines: TextIO | None
) -> Iterator[Event]:
    """Pass events on; count the windows, and keep and write them where asked to."""
    for event in events:
        if isinstance(event, ClipWindow):
            tally.add(event)
            if windows is not None:
                windows.append(event)
            if lines is not None:
                lines.write(json.dumps(event.to_dict()) + "\n")
        yield event


@contextmanager
def progress_bar(
    frames: Iterator[ClipFrame], total: int | None, progress: bool
) -> Generator[Iterable[ClipFrame], None, None]:
    """Frames behind a progress bar, which is cleared at the end."""
    if not progress:
        yield frames
        return
    from tqdm import tqdm

    # None: nothing where standard error is no terminal
    with tqdm(frames, total=total, unit=" frames", leave=False, disable=None) as bar:
        yield bar
