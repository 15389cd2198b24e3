"""Real clips: the video model against a single-frame model of the same size, over scene-disjoint folds.

    python benchmarks/papers/tahnet_clips.py runs/tahnet_clips --data tennis7.csv --root tennis7 \
        --detector keypointrcnn_tiny --head runs/tahnet_figures/outermost_0

For every fold four heads are trained alike: on 8 frames and on single frames, from random weights and from a head
that was trained on figures (`--head`). The table has a `file`, a `class` and a `fold` column. A finished run is not
repeated. `--json FILE` adds the figures to those that the file holds of other data; `--write PAGE.md` puts the table of
all of them between the page's markers `<!-- tahnet_clips:begin -->` and `<!-- tahnet_clips:end -->`.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from _instances import train
from _page import insert

from actionzoo._checkpoint import atomic_path
from actionzoo.data import read_clips_table
from actionzoo.data.labelled_clips import FileClips
from actionzoo.metrics import wilson_interval
from actionzoo.training import recipes

KINDS = {
    "video": "8 frames",
    "video, figures first": "8 frames, head first trained on figures",
    "frame": "single frames",
    "frame, figures first": "single frames, head first trained on figures",
}
HEAD = {"bottleneck": (96, 48, 32), "depth": 3, "width": 48, "hidden": 64, "drop_rate": 0.3}
"""The head of `instance_action_tiny`, with dropout for want of clips."""
KEYS = ("videos", "empty", "tracks", "top1", "top1_interval", "map", "train_seconds")


def run_fold(args: argparse.Namespace, fold: str, kind: str, seed: int) -> dict[str, Any]:
    """Train on the other folds, test on this one."""
    frames = 8 if kind.startswith("video") else 1
    stride = args.stride if frames > 1 else 1
    samples = read_clips_table(args.data, args.root, fold=fold)
    sources = {split: FileClips(items, frames, stride) for split, items in samples.items.items()}
    name = kind.replace(", ", "_").replace(" ", "_")
    folder = args.folder / args.data.stem
    run = train(
        folder / f"{name}_fold{fold}_{seed}",
        sources,
        samples.classes,
        recipes["instances"].override(epochs=args.epochs, hflip=args.hflip),
        detector=args.detector,
        seed=seed,
        cache=folder / f"features_{frames}",
        model_args={"frames": frames, "stride": stride, "threshold": args.threshold, "head": HEAD},
        head=args.head if kind.endswith("figures first") else None,
        views=args.views,
        rule=args.video_rule,
        whole_frame=True,
    )
    return {"fold": fold, "seed": seed, **{key: run.get(key) for key in KEYS}}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Top-1 over all folds, of every seed, and the interval of their mean."""
    seeds = sorted({row["seed"] for row in rows})
    videos = sum(row["videos"] for row in rows if row["seed"] == seeds[0])
    hits = [sum(row["top1"] * row["videos"] / 100 for row in rows if row["seed"] == seed) for seed in seeds]
    low, high = wilson_interval(round(statistics.mean(hits)), videos)
    top1 = [round(100 * hit / videos, 1) for hit in hits]
    return {"videos": videos, "top1": top1, "mean": round(statistics.mean(top1), 1),
            "interval": [round(100 * low, 1), round(100 * high, 1)]}  # fmt: skip


def table(data: dict[str, Any]) -> str:
    """A row per kind of model, a column per data set."""
    lines = [f"| top-1, % | {' | '.join(data)} |", f"|---|{'---|' * len(data)}"]
    for kind, title in KINDS.items():
        cells = []
        for facts in data.values():
            if kind not in facts["runs"]:
                cells.append("")
                continue
            found = summary(facts["runs"][kind])
            each = ", ".join(f"{value:.1f}" for value in found["top1"])
            cells.append(f"{found['mean']:.1f} ({each}); {found['interval'][0]:.0f} to {found['interval'][1]:.0f}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines.append(
        "| best of the data's crude baselines | " + " | ".join(str(f["baseline"]) for f in data.values()) + " |"
    )
    lines.append("| chance | " + " | ".join(f"{100 / f['classes']:.0f}" for f in data.values()) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where runs and features are kept")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="print the table of kept figures")
    parser.add_argument("--data", type=Path, metavar="FILE.csv")
    parser.add_argument("--root", type=Path, help="folder of the videos")
    parser.add_argument("--name", help="of the data, in the table; the file's if none")
    parser.add_argument("--baseline", type=float, help="what crude baselines reach, in percent")
    parser.add_argument("--detector", default="keypointrcnn_tiny", help="trained detector")
    parser.add_argument("--head", type=Path, help="run whose head to start from; without it, none does")
    parser.add_argument("--folds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--threshold", type=float, default=0.6)
    parser.add_argument("--hflip", type=float, default=0.0)
    parser.add_argument("--video-rule", choices=("score", "area", "mean"), default="score")
    parser.add_argument("--write", type=Path, metavar="PAGE.md")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.from_json:
        print(table(json.loads(args.from_json.read_text())))
        return
    if args.folder is None or args.data is None:
        parser.error("give the folder of the runs and --data")

    runs: dict[str, list[dict[str, Any]]] = {}
    kinds = [kind for kind in KINDS if args.head is not None or not kind.endswith("figures first")]
    for seed in args.seeds:
        for kind in kinds:
            for fold in args.folds:
                row = run_fold(args, fold, kind, seed)
                runs.setdefault(kind, []).append(row)
                print(f"{kind}, fold {fold}, seed {seed}: top-1 {row['top1']}", flush=True)
    options = ("stride", "views", "epochs", "threshold", "hflip", "video_rule", "detector")
    facts = {
        "baseline": args.baseline,
        "classes": len(read_clips_table(args.data, args.root, fold=args.folds[0]).classes),
        **{key: getattr(args, key) for key in options},
        "runs": runs,
    }
    data = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    data[args.name or args.data.stem] = facts
    text = table(data)
    print(text)
    if args.write:
        insert(args.write, text, "tahnet_clips")
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
