r"""Turn a training run into a bundled checkpoint: half precision, scored as it will be loaded, with a card.

python benchmarks/bundle_weights.py runs/prfnet_tiny prfnet_tiny.sports20 --data sports20 \
    --description "20 sport classes, web photographs, not redistributed" --licence Apache-2.0 --limits "..."
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import actionzoo
from actionzoo._checkpoint import atomic_path, describe, file_sha256
from actionzoo._hub import model_card
from actionzoo._sources import CHECKPOINTS
from actionzoo.data import ActionImages, eval_transform, read_samples
from actionzoo.training import evaluate
from actionzoo.weights import save_checkpoint


def score(model: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The metrics that `actionzoo eval` prints for the data's test split."""
    samples = read_samples(args.data, args.root, args.label)
    dataset = ActionImages(samples.items["test"], eval_transform(model.pretrained_cfg))
    return evaluate(model, DataLoader(dataset, 64), progress=True).metrics


def record_checksum(path: Path) -> None:
    """Write the file's sha256 to SHA256SUMS, in place of an older one."""
    sums = CHECKPOINTS / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.exists() else []
    lines = [line for line in lines if not line.endswith(f"  {path.name}")]
    lines.append(f"{file_sha256(path)}  {path.name}")
    with atomic_path(sums) as temporary:
        temporary.write_text("\n".join(sorted(lines, key=lambda line: line.split()[1])) + "\n")


def main() -> None:
    """Bundle one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder that `actionzoo train` wrote")
    parser.add_argument("name", help="MODEL.TAG")
    parser.add_argument("--data", required=True)
    parser.add_argument("--root")
    parser.add_argument("--label")
    parser.add_argument("--description", required=True, help="what the data is")
    parser.add_argument("--licence", default="Apache-2.0")
    parser.add_argument("--limits", required=True, help="what the weights should not be used for")
    parser.add_argument("--max-mb", type=float, default=6.0, help="refuse a larger file")
    args = parser.parse_args()

    model: Any = actionzoo.create(f"local-dir:{args.run}")
    path = CHECKPOINTS / f"{args.name}.safetensors"
    card = {"licence": args.licence, "data": args.description, "limits": args.limits}
    with tempfile.TemporaryDirectory(dir=CHECKPOINTS) as folder:
        half = Path(folder) / path.name
        save_checkpoint(model, half, dtype=torch.float16)
        # the figures on the card are those of the half-precision file, not of the run
        loaded: Any = actionzoo.create(args.name.split(".")[0], weights=half)
        seconds = model.pretrained_cfg["metrics"]["train_seconds"]
        card["metrics"] = {"split": "test", **score(loaded, args), "train_seconds": seconds}
        save_checkpoint(loaded, half, dtype=torch.float16, metadata=card)
        size = half.stat().st_size / 1e6
        if size > args.max_mb:
            raise SystemExit(f"{size:.1f} MB is more than {args.max_mb} MB; nothing was written")
        os.replace(half, path)
    record_checksum(path)
    with atomic_path(path.with_suffix(".md")) as temporary:
        temporary.write_text(model_card(describe(loaded, card), args.name), encoding="utf-8")
    print(json.dumps({"file": path.name, "mb": round(size, 2), **card["metrics"]}, indent=1))


if __name__ == "__main__":
    main()
