"""ConViT against its plain backbone over several seeds (the first two rows of the paper's Table 3, on other data).

    python benchmarks/papers/convit_table.py --convit runs/convit_mix_? --plain runs/plain_mix_?

docs/papers/convit_har.md has the commands that write those folders; `plain_tiny` is given ConViT's backbone there.

The scores are those that the runs wrote; parameters and multiply-accumulates are counted at the size of inference.
`--write PAGE.md` puts the table between the page's markers `<!-- results:begin -->` and `<!-- results:end -->`;
`--json FILE` keeps the figures.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from _page import insert

import actionzoo
from actionzoo._checkpoint import atomic_path
from actionzoo.profile import count_macs

TITLES = {"plain": "the backbone alone", "convit": "ConViT"}


def read(folder: Path) -> dict[str, Any]:
    """What a run wrote of its scores, its size and its cost."""
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    scores: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    with torch.device("meta"):
        model: Any = actionzoo.create(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
        size = model.pretrained_cfg.get("test_input_size") or config["input_size"]
        macs = count_macs(model.eval(), torch.empty(1, *size), ops="all")
    right = [max(range(len(row)), key=row.__getitem__) == k for row, k in zip(scores["scores"], scores["targets"])]
    keys = ("images", "top1", "top1_interval", "map", "kappa", "train_seconds")
    return {
        "recipe": config["recipe"],
        "backbone": _backbone_size(model),
        **{key: metrics[key] for key in keys},
        "seed": config["seed"],
        "command": config["command"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": macs,
        "size": list(size),
        "right": "".join("1" if hit else "0" for hit in right),
    }


def _backbone_size(model: Any) -> int:
    """Parameters of the backbone; a plain network's holds its classifier."""
    classifier = model.backbone.get_classifier()
    return sum(p.numel() for p in model.backbone.parameters()) - sum(p.numel() for p in classifier.parameters())


def check_pairs(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Refuse to compare runs that differ in more than the ViTs."""
    for plain, convit in zip(runs["plain"], runs["convit"]):
        for key in ("recipe", "backbone", "seed", "size", "images"):
            if plain[key] != convit[key]:
                raise SystemExit(f"the runs differ in their {key}: {plain[key]} and {convit[key]}")


def spread(values: list[float], unit: str = " %") -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.1f}{unit} ({min(values):.1f} to {max(values):.1f})"


def table(runs: dict[str, list[dict[str, Any]]], machine: str) -> str:
    """Markdown: a row for each network, and what the seeds say of the difference."""
    first, seeds = runs["convit"][0], len(runs["convit"])
    lines = [
        f"| {first['images']} test photographs, {seeds} seeds | top-1 | mAP | parameters | MACs | training time |",
        "|---|---|---|---|---|---|",
    ]
    for kind, title in TITLES.items():
        rows = runs[kind]
        top1, mean_ap = ([row[key] for row in rows] for key in ("top1", "map"))
        minutes = spread([row["train_seconds"] / 60 for row in rows], " min")
        cost = f"{rows[0]['parameters'] / 1e6:.2f} M | {rows[0]['macs'] / 1e6:.0f} M"
        lines.append(f"| {title} | {spread(top1)} | {spread(mean_ap)} | {cost} | {minutes} |")
    pairs = list(zip(runs["plain"], runs["convit"]))
    gains = {key: [b[key] - a[key] for a, b in pairs] for key in ("top1", "map")}
    only = [sum(x < y for x, y in zip(a["right"], b["right"])) for a, b in pairs]
    lost = [sum(x > y for x, y in zip(a["right"], b["right"])) for a, b in pairs]
    lines += ["", f"Mean and range over the seeds. ConViT over the backbone, seed by seed: top-1 "
              f"{_signed(gains['top1'])}, mAP {_signed(gains['map'])} points; in all it is right on {sum(only)} "
              f"photographs that the backbone has wrong, and wrong on {sum(lost)} that the backbone has right. "
              f"Trained on {machine}."]  # fmt: skip
    return "\n".join(lines)


def _signed(values: list[float]) -> str:
    return ", ".join(f"{value:+.1f}" for value in values)


def main() -> None:
    """Read the runs and print, keep or insert the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in TITLES:
        parser.add_argument(f"--{kind}", nargs="*", type=Path, default=[], help="folders of the runs, by seed")
    parser.add_argument("--json", type=Path, help="file to keep the figures in")
    parser.add_argument("--from-json", type=Path, help="such a file, to print or write its table without the runs")
    parser.add_argument("--machine", default="this machine", help="what the runs were trained on, in words")
    parser.add_argument("--write", type=Path, help="markdown page to insert the table in")
    args = parser.parse_args()
    if bool(args.convit) == bool(args.from_json) or len(args.convit) != len(args.plain):
        parser.error("give as many --convit as --plain runs, or --from-json")
    if args.from_json:
        kept = json.loads(args.from_json.read_text())
    else:
        kept = {"machine": args.machine, "runs": {kind: [read(f) for f in getattr(args, kind)] for kind in TITLES}}
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(kept, indent=1) + "\n")
    check_pairs(kept["runs"])
    text = table(kept["runs"], kept["machine"])
    print(text)
    if args.write:
        insert(args.write, text)


if __name__ == "__main__":
    main()
