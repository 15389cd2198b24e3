"""Results of the body-part network on held-out acting figures, over several seeds (the paper's Tables 2 and 3).

    actionzoo train --model bodypart_tiny --data figures:pose+fine_grained --amp bf16 --seed 0 --output runs/bodypart_0
    ... (seeds 1 and 2)
    python benchmarks/papers/bodypart_table.py runs/bodypart_0 runs/bodypart_1 runs/bodypart_2

Every run is scored on the same test figures, which no run has seen. `--write PAGE.md` puts the tables between the
page's markers `<!-- results:begin -->` and `<!-- results:end -->`; `--json FILE` keeps the figures.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from _page import insert

import actionzoo
from actionzoo._checkpoint import atomic_path
from actionzoo.metrics import pckh_groups
from actionzoo.training import figures_task, score_task

DATA = "pose+fine_grained"
PAPER_MAP = {"image": 85.57, "attention": 85.38, "part": 84.27, "concat": 91.76, "ensemble": 91.91}
"""Table 3, Stanford 40 Actions."""
HEADS = {
    "image": "image stream",
    "attention": "attention stream",
    "part": "part stream",
    "concat": "concat head",
    "ensemble": "ensemble of image, part and concat",
}


def score(run: str, length: int) -> dict[str, Any]:
    """Metrics of one run on the test figures, a tenth of `length` of each task."""
    model: Any = actionzoo.create(f"local-dir:{run}")
    cfg = model.pretrained_cfg
    task = figures_task(DATA, length=length, size=cfg["input_size"][-1], layout=cfg["joints"])
    result: Any = score_task(model, task, batch_size=50, progress=True)
    found, visible = result.metrics, result.truth[..., 2] > 0
    # MPII's own reference length is 0.6 of the head box's diagonal, 0.75 of the segment from neck to head top
    strict = pckh_groups(result.joints[..., :2], result.truth[..., :2], visible, 0.75 * result.head_sizes)
    found["pckh_mpii"] = round(100 * strict["Mean"], 2)
    found["train_seconds"] = cfg["metrics"]["train_seconds"]
    return found


def heads_of(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Top-1 and mAP of every head."""
    concat = {key: metrics[key] for key in ("top1", "map")}
    return {**metrics["streams"], "concat": concat, "ensemble": metrics["ensemble"]}


def spread(values: list[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def tables(runs: list[dict[str, Any]], machine: str) -> str:
    """Markdown of both tables."""
    seeds, by_head = len(runs), [heads_of(run) for run in runs]
    lines = [
        f"| action, {runs[0]['actions']} test figures, {seeds} seeds | mAP | top-1 | mAP in the paper |",
        "|---|---|---|---|",
    ]
    for name, title in HEADS.items():
        found = [[heads[name][key] for heads in by_head] for key in ("map", "top1")]
        lines.append(f"| {title} | {spread(found[0])} | {spread(found[1])} | {PAPER_MAP[name]} |")
    groups = list(runs[0]["pckh_groups"])
    lines += [
        "",
        f"| PCKh@0.5, {runs[0]['posed']} test figures | {' | '.join(groups)} |",
        "|---|" + "---|" * len(groups),
    ]
    cells = [spread([run["pckh_groups"][name] for run in runs]) for name in groups]
    lines.append(f"| `bodypart_tiny` | {' | '.join(cells)} |")
    minutes = [run["train_seconds"] / 60 for run in runs]
    best = [heads["concat"]["map"] - max(heads[name]["map"] for name in runs[0]["streams"]) for heads in by_head]
    lines += ["", "All in percent, mean and range over the seeds. "
              "PCKh counts joints within half of the head segment, from the neck to the top of the head; by MPII's own "
              f"reference length, 0.75 of that, the mean is {spread([run['pckh_mpii'] for run in runs])}. "
              f"The concat head's mAP over the best single stream's: {spread(best)} points. "
              f"Training took {spread(minutes)} minutes a seed on {machine}. "
              "The seeds differ in initial weights and order; the figures are the same."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Score the runs and print, keep or insert the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="folders that `actionzoo train` wrote, one a seed")
    parser.add_argument("--length", type=int, default=20_000, help="ten times the test figures of each task")
    parser.add_argument("--json", type=Path, help="file to keep the figures in")
    parser.add_argument("--from-json", type=Path, help="such a file, to print or write its tables without scoring")
    parser.add_argument("--machine", default="this machine", help="what the runs were trained on, in words")
    parser.add_argument("--write", type=Path, help="markdown page to insert the tables in")
    args = parser.parse_args()
    if bool(args.runs) == bool(args.from_json):
        parser.error("give either runs to score, or --from-json")
    if args.from_json:
        kept = json.loads(args.from_json.read_text())
    else:
        kept = {"machine": args.machine, "length": args.length, "runs": {r: score(r, args.length) for r in args.runs}}
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(kept, indent=1) + "\n")
    text = tables(list(kept["runs"].values()), kept["machine"])
    print(text)
    if args.write:
        insert(args.write, text)


if __name__ == "__main__":
    main()
