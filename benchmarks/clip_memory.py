"""Resident memory and speed of the clip pipeline over a long video: it has to stay flat.

python benchmarks/clip_memory.py --minutes 10 --json benchmarks/results/clip_memory.json

The video is made first: people who walk about and cross, from `ActingFigures("crowd")`, over and over. It is labelled
and annotated as `actionzoo predict` does, and the resident memory is noted twice a second. Linux only.
"""

import argparse
import json
import os
import platform
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from actionzoo._checkpoint import atomic_path
from actionzoo.data import ActingFigures, write_clip
from actionzoo.pipeline import ClipActionPipeline, whole_model

FPS = 25


def resident_mb() -> float:
    """Resident memory of this process in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def watch_memory(every: float = 0.5) -> Iterator[list[float]]:
    """Notes the resident memory every so many seconds meanwhile."""
    noted, done = [resident_mb()], threading.Event()

    def note() -> None:
        while not done.wait(every):
            noted.append(resident_mb())

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    try:
        yield noted
    finally:
        done.set()
        thread.join()


def frames(count: int, size: int) -> Iterator[Tensor]:
    """Frames of a few crowds, each to and fro, again and again."""
    crowds = [ActingFigures("crowd", "test", 4, size, frames=2 * FPS)[i][0] for i in range(4)]
    for number in range(count):
        turn, at = divmod(number, 2 * FPS)
        crowd = crowds[turn // 2 % len(crowds)]
        yield crowd[:, -1 - at if turn % 2 else at]


def main() -> None:
    """Make the video, go through it, print and write what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--size", type=int, default=240, help="side of the frames in pixels")
    parser.add_argument("--model", default="instance_action_tiny")
    parser.add_argument("--stride", type=int, help="step between the frames that are looked at; the model's if none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    count = round(args.minutes * 60 * FPS)
    pipe = ClipActionPipeline(whole_model(args.model), stride=args.stride)
    with tempfile.TemporaryDirectory() as folder:
        video = write_clip(Path(folder) / "long.mp4", frames(count, args.size), FPS)
        lines, drawn = Path(folder) / "windows.jsonl", Path(folder) / "drawn.mp4"
        with watch_memory() as memory:
            result = pipe.annotate(video, drawn, lines, progress=True)
        written = sum(1 for _ in lines.open())
    fifth = max(len(memory) // 5, 1)
    facts = {
        "minutes": args.minutes,
        "frames": result.frames,
        "frame_size": args.size,
        "looked_at": result.sampled,
        "windows": written,
        "tracks": len(result.people),
        "frames_per_second": round(result.fps, 1),
        "peak_mb": round(max(memory)),
        "mean_mb_by_fifths": [round(sum(part) / len(part)) for part in _split(memory, fifth)][:5],
        "machine": f"{platform.processor() or platform.machine()}, {args.threads} thread(s), torch {torch.__version__}",
    }
    print(json.dumps(facts, indent=1))
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _split(values: list[float], length: int) -> list[list[float]]:
    return [values[i : i + length] for i in range(0, len(values), length)]


if __name__ == "__main__":
    main()
