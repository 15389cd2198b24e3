"""Part states segment by segment against frame by frame, on figures (the paper's Table III).

    python benchmarks/papers/pcf_segments.py pcf_tiny.figures

Frame by frame, the network sees the clip around every frame and its label counts for that frame alone; segment by
segment, the clips of a segment and its label counts for all its frames. A few minutes on one core. `--write PAGE.md`
puts the table between the page's markers `<!-- pcf_segments:begin -->` and `<!-- pcf_segments:end -->`; `--json FILE`
keeps the figures.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from _page import insert
from torch import Tensor
from tqdm import tqdm

from actionzoo._checkpoint import atomic_path
from actionzoo.data import ActingFigures
from actionzoo.data.figures import PART_STATES, PARTS, part_group
from actionzoo.data.part_videos import FigurePartVideos
from actionzoo.models import PCF
from actionzoo.models.segments import PART_GROUPS, segment_bounds
from actionzoo.pipeline.build import whole_model
from actionzoo.profile import count_macs

Cut = list[tuple[int, int, int, int]]
"""Frames that are looked at, and those that the label counts for: both first and after the last."""


def cuts(length: int, fps: float, window: float, durations: list[float]) -> dict[str, Cut]:
    """Every way of cutting a video, by its name."""
    half = max(round(window * fps) // 2, 1)
    ways: dict[str, Cut] = {
        f"frame, {window:g} s around it": [
            (max(t - half, 0), min(max(t - half, 0) + 2 * half, length), t, t + 1) for t in range(length)
        ]
    }
    for seconds in durations:
        ways[f"segment, {seconds:g} s"] = [(a, b, a, b) for a, b in segment_bounds(length, fps, seconds)]
    return ways


def right(model: PCF, pixels: Tensor, states: Tensor, cut: Cut) -> tuple[dict[str, list[bool]], int]:
    """Whether each part of each frame got its state, by group, and how many clips the network saw.

    Args:
        model: Whose part networks are asked.
        pixels: `(3, L, H, W)` uint8.
        states: `(L, 10)` true ones, indices into `PART_STATES`.
        cut: Frames to look at, and those that the label counts for.
    """
    hits, clips = defaultdict(list), 0
    for first, last, start, stop in cut:
        batches = list(model.view_batches(pixels[:, first:last]))
        clips += sum(len(views) for views, _ in batches)
        with torch.no_grad():
            averaged = model.averaged(model.part_logits, batches)
        found = model.decide(dict(zip(PART_GROUPS, averaged)))
        for k, part in enumerate(PARTS):
            names = PART_STATES[part_group(part)]
            hits[part_group(part)] += [names[state] == found[part].state for state in states[start:stop, k].tolist()]
    return hits, clips


def videos(args: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels and states of the test clips."""
    figures = ActingFigures("parts", "test", args.videos, 128, seed=args.seed, frames=128)
    source = FigurePartVideos(figures, fps=args.fps)
    for i in tqdm(range(len(source)), "videos"):
        yield source.read(i, range(figures.frames)), figures.describe(i)["part_states"][0]


def measure(model: PCF, args: argparse.Namespace) -> dict[str, Any]:
    """Accuracy by group, the mean over the groups, and multiply-adds per second of video, of every way of cutting."""
    size = (1, *model.pretrained_cfg["input_size"])  # type: ignore[misc]
    networks = [model.part_nets] if model.shared else list(model.part_nets.values())
    macs = sum(count_macs(net, torch.zeros(size)) for net in networks)
    by_video: dict[str, list[dict[str, float]]] = defaultdict(list)
    clips, seconds = defaultdict(int), 0.0
    for pixels, states in videos(args):
        seconds += pixels.shape[1] / args.fps
        for way, cut in cuts(pixels.shape[1], args.fps, args.window, args.durations).items():
            hits, count = right(model, pixels, states, cut)
            clips[way] += count
            by_video[way].append({group: statistics.mean(hits[group]) for group in PART_GROUPS})
    rows = {}
    for way, found in by_video.items():
        groups = {group: 100 * statistics.mean(row[group] for row in found) for group in PART_GROUPS}
        rows[way] = {
            **{group: round(value, 2) for group, value in groups.items()},
            "mean": round(statistics.mean(groups.values()), 2),
            "gmacs_per_second": round(clips[way] * macs / seconds / 1e9, 4),
        }
    first, *others = by_video
    for way in others:
        # videos are what is independent; pairs, since both ways see the same ones
        lost = [
            100 * (statistics.mean(a.values()) - statistics.mean(b.values()))
            for a, b in zip(by_video[first], by_video[way])
        ]
        error = statistics.stdev(lost) / len(lost) ** 0.5
        rows[way] |= {"lost": round(statistics.mean(lost), 2), "lost_error": round(error, 2)}
        rows[way]["cost"] = round(rows[way]["gmacs_per_second"] / rows[first]["gmacs_per_second"], 4)
    return {"videos": args.videos, "fps": args.fps, "rows": rows}


def table(rows: dict[str, dict[str, float]]) -> str:
    """One row for every way of cutting."""
    titles = (*PART_GROUPS, "mean", "lost", "GMACs per second of video", "cost")
    lines = [f"| label for each | {' | '.join(titles)} |", f"|{'---|' * (len(titles) + 1)}"]
    for way, row in rows.items():
        cells = [f"{row[key]:.2f}" for key in (*PART_GROUPS, "mean")]
        cells.append(f"{row['lost']:.2f} ± {row['lost_error']:.2f}" if "lost" in row else "")
        cells += [f"{row['gmacs_per_second']:.3f}", f"{row['cost']:.3f}" if "cost" in row else "1"]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a trained pcf_* model, as `actionzoo predict` takes it")
    parser.add_argument("--videos", type=int, default=100, help="clips for testing")
    parser.add_argument("--seed", type=int, default=1, help="of the figures; those of training have 0")
    parser.add_argument("--fps", type=float, default=8.0, help="frames per second that the figures are said to have")
    parser.add_argument("--window", type=float, default=0.75, help="seconds around a frame")
    parser.add_argument("--durations", type=float, nargs="*", default=[0.75, 1.5, 3.0], help="seconds of a segment")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--write", type=Path, help="page of the docs to put the table in")
    args = parser.parse_args()
    model: Any = whole_model(args.model).eval()
    found = {"model": args.model, **measure(model, args)}
    text = table(found["rows"])
    print(text)
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if args.write is not None:
        insert(args.write, text, "pcf_segments")


if __name__ == "__main__":
    main()
