"""Outermost against basic boxes, and a head without temporal convolution, on figures (the paper's Tables 3 and 4).

    python benchmarks/papers/tahnet_figures.py runs/tahnet_figures --detector keypointrcnn_tiny

Half an hour on one core: the detector runs once per kind of box and its features are kept; then three heads are
trained with each of three seeds. A finished run is not repeated. `--write PAGE.md` puts the table between the page's
markers `<!-- tahnet_figures:begin -->` and `<!-- tahnet_figures:end -->`; `--json FILE` keeps the figures.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from _instances import train
from _page import insert

from actionzoo._checkpoint import atomic_path
from actionzoo.data import ActingFigures
from actionzoo.data.labelled_clips import FigureClips
from actionzoo.training import recipes

VARIANTS: dict[str, dict[str, Any]] = {
    "outermost": {"mode": "outermost"},
    "basic": {"mode": "basic"},
    "frames alone": {
        "mode": "outermost",
        "head": {"bottleneck": (96, 48, 32), "depth": 3, "width": 48, "hidden": 64, "temporal_kernel": 1},
    },
}
TITLES = {
    "outermost": "outermost boxes",
    "basic": "basic boxes",
    "frames alone": "outermost boxes, head without temporal convolution",
}
PAIRS = (("walk_left", "walk_right"), ("walk_apart", "walk_towards"), ("lower", "raise"))
"""Actions that are each other run backwards, so that order alone tells them apart."""


def shares(run: dict[str, Any], clips: int) -> dict[str, float]:
    """Percent right: of all clips, of those who walk alone or with another, and between an action and its reverse.

    Args:
        run: Scores and targets of the clips in which somebody was found; the others count as wrong.
        clips: Clips of every class.
    """
    classes: list[str] = run["classes"]
    rows = list(zip(run["scores"], run["targets"]))

    def right(names: tuple[str, ...], against: tuple[str, ...]) -> int:
        among = [classes.index(name) for name in against]
        return sum(max(among, key=row.__getitem__) == k for row, k in rows if classes[k] in names)

    every = tuple(classes)
    alone, together = (right(pair, every) for pair in PAIRS[:2])
    return {
        "all": 100 * right(every, every) / (clips * len(classes)),
        "alone": 100 * alone / (2 * clips),
        "together": 100 * together / (2 * clips),
        "order": 100 * sum(right(pair, pair) for pair in PAIRS) / (2 * clips * len(PAIRS)),
    }


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Rows of means over seeds with the seeds' own figures."""
    walks = ("walk left, walk right", "walk towards each other, apart")
    titles = ("all eight classes", *walks, "an action or its reverse")
    lines = [f"| regions and head | {' | '.join(titles)} |", "|---|---|---|---|---|"]
    for name, rows in runs.items():
        cells = []
        for key in ("all", "alone", "together", "order"):
            values = [row["shares"][key] for row in rows]
            cells.append(f"{statistics.mean(values):.1f} ({', '.join(f'{v:.1f}' for v in values)})")
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    lines.append("| chance | 12.5 | | | 50.0 |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where runs and features are kept")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="print the table of kept figures")
    parser.add_argument("--detector", default="keypointrcnn_tiny", help="trained detector")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--length", type=int, default=1600, help="clips for training")
    parser.add_argument("--test-length", type=int, default=480, help="clips for testing")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--write", type=Path, metavar="PAGE.md")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.from_json:
        print(table(json.loads(args.from_json.read_text())["runs"]))
        return
    if args.folder is None:
        parser.error("give the folder of the runs")

    lengths = {"train": args.length, "test": args.test_length}
    figures = {split: ActingFigures("motion", split, count, 160) for split, count in lengths.items()}
    sources = {split: FigureClips(clips, frames=8, stride=2) for split, clips in figures.items()}
    clips, rest = divmod(args.test_length, len(figures["test"].classes))
    if rest:
        parser.error(f"--test-length is a multiple of the {len(figures['test'].classes)} classes")
    recipe = recipes["instances"].override(epochs=args.epochs)
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in args.seeds:
        for name in args.variants:
            run = train(
                args.folder / f"{name.replace(' ', '_')}_{seed}",
                sources,
                figures["train"].classes,
                recipe,
                detector=args.detector,
                seed=seed,
                cache=args.folder / f"features_{VARIANTS[name]['mode']}",
                model_args=VARIANTS[name],
            )
            keys = ("videos", "empty", "tracks", "unmatched", "people", "missed", "top1", "track_top1", "train_seconds")
            facts = {"seed": seed, **{key: run[key] for key in keys}, "shares": shares(run, clips)}
            runs.setdefault(name, []).append(facts)
            print(
                f"{name} {seed}: " + ", ".join(f"{key} {value:.1f}" for key, value in facts["shares"].items()),
                flush=True,
            )
    text = table(runs)
    print(text)
    if args.write:
        insert(args.write, text, "tahnet_figures")
    if args.json:
        facts = {
            "detector": args.detector,
            "length": args.length,
            "test_length": args.test_length,
            "epochs": args.epochs,
        }
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps({**facts, "runs": runs}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
