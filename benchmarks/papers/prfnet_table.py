"""Rows of the results table in docs/papers/prfnet.md, from the folders that `actionzoo train` wrote.

    python benchmarks/papers/prfnet_table.py "sports20=runs/prfnet_tiny" "sports20=runs/plain_tiny" ...

Scores are those in `metrics.json`; parameters and multiply-accumulates are counted at the size of inference.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

import actionzoo
from actionzoo.profile import count_macs


def row(data: str, folder: Path) -> str:
    """One markdown row."""
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    with torch.device("meta"):
        model: Any = actionzoo.create(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
        size = config.get("test_input_size") or model.pretrained_cfg.get("test_input_size") or config["input_size"]
        macs = count_macs(model.eval(), torch.empty(1, *size), ops="all")
    parameters = sum(p.numel() for p in model.parameters())
    low, high = metrics["top1_interval"]
    cells = [data, f"`{config['architecture']}`", f"{metrics['top1']} % ({low} to {high})", f"{metrics['map']} %"]
    cells += [f"{metrics['kappa']:.3f}", f"{parameters / 1e6:.2f} M", f"{macs / 1e6:.0f} M"]
    cells.append(f"{metrics['train_seconds'] / 60:.0f} min")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a row for each `DATA=RUN_FOLDER` argument."""
    titles = ("data (test photographs)", "model", "top-1, 95 % interval", "mAP", "kappa")
    titles += ("parameters", "MACs", "training time")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for argument in sys.argv[1:]:
        data, _, folder = argument.partition("=")
        print(row(data, Path(folder)))


if __name__ == "__main__":
    main()
