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

import actionzoo
from actionzoo._checkpoint import atomic_path, describe, file_sha256
from actionzoo._hub import model_card
from actionzoo._sources import CHECKPOINTS
from actionzoo.cli.data import FIGURES, add_data, read_task
from actionzoo.cli.parts import part_videos
from actionzoo.models import PCF
from actionzoo.training import evaluate_parts, score_task
from actionzoo.weights import save_checkpoint


def score(model: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The metrics that `actionzoo eval` prints for the data's test split."""
    if isinstance(model, PCF):
        splits, _ = part_videos(args, only="test")
        return evaluate_parts(model, splits["test"], progress=True).metrics
    if args.data.startswith(FIGURES) and args.length is None:
        args.length = 20_000  # a tenth of which is scored
    return score_task(model, read_task(args, model), batch_size=50, progress=True).metrics


def parse_part(text: str) -> tuple[str, tuple[str, str]]:
    """`PREFIX=MODEL.TAG` or `PREFIX=MODEL.TAG:SOURCE_PREFIX` as an entry of `save_checkpoint`'s `parts`."""
    prefix, equals, source = text.partition("=")
    name, _, source_prefix = source.partition(":")
    if not (prefix and equals and name):
        raise argparse.ArgumentTypeError(f"expected PREFIX=MODEL.TAG[:SOURCE_PREFIX], got {text!r}")
    return prefix, (name, source_prefix)


def train_seconds(metrics: dict[str, Any]) -> float:
    """What a run took; of a model whose stages are trained one by one, what they took together."""
    if "train_seconds" in metrics:
        return metrics["train_seconds"]
    return sum(train_seconds(stage) for stage in metrics.values() if isinstance(stage, dict))


def average(model: torch.nn.Module, start: torch.nn.Module) -> None:
    """Set a fine-tuned model half-way to the weights it started from, which keeps more of what those knew.

    Wortsman et al., "Robust fine-tuning of zero-shot models" (2022), with their default of one half.
    """
    with torch.no_grad():
        for mine, theirs in zip(model.state_dict().values(), start.state_dict().values()):
            if mine.is_floating_point():
                mine.lerp_(theirs, 0.5)


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
    parser.add_argument("--started-from", type=Path, help="folder of the run whose weights this one started from")
    parser.add_argument("--average", action="store_true", help="average the weights with those of --started-from")
    parser.add_argument("--score-only", action="store_true", help="print the scores and write nothing")
    parser.add_argument("--test-size", type=int, help="side of the pictures at inference in pixels; the run's if none")
    add_data(parser)
    parser.add_argument(
        "--part",
        action="append",
        default=[],
        type=parse_part,
        metavar="PREFIX=MODEL.TAG[:SOURCE_PREFIX]",
        help="bundled weights that hold the tensors under a prefix already, which are left out of the file",
    )
    parser.add_argument("--detector", help="MODEL.TAG of the detector that a pipeline puts before the model")
    parser.add_argument("--description", required=True, help="what the data is")
    parser.add_argument("--licence", default="Apache-2.0")
    parser.add_argument("--limits", required=True, help="what the weights should not be used for")
    parser.add_argument("--max-mb", type=float, default=6.0, help="refuse a larger file")
    # clips are looked through behind a progress bar, unless the command line prints JSON
    parser.set_defaults(json=False)
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data, as `actionzoo eval` takes it")
    if args.average and args.started_from is None:
        parser.error("--average needs --started-from")

    model: Any = actionzoo.create(f"local-dir:{args.run}")
    if args.average:
        average(model, actionzoo.create(f"local-dir:{args.started_from}"))
    if args.test_size is not None:
        model.pretrained_cfg["test_input_size"] = (model.in_chans, args.test_size, args.test_size)
    path = CHECKPOINTS / f"{args.name}.safetensors"
    card: dict[str, Any] = {"licence": args.licence, "data": args.description, "limits": args.limits}
    if args.detector is not None:
        card["detector"] = args.detector
    runs = [run for run in (args.started_from, args.run) if run is not None]
    configs = [json.loads((run / "config.json").read_text()) for run in runs]
    card["command"] = " && ".join(config["command"] for config in configs)
    if args.average:
        card["command"] += ", then the mean of the two runs' weights"
    card["seed"] = configs[-1]["seed"]
    seconds = round(sum(train_seconds(config["metrics"]) for config in configs), 1)
    with tempfile.TemporaryDirectory(dir=CHECKPOINTS) as folder:
        half = Path(folder) / path.name
        save_checkpoint(model, half, dtype=torch.float16)
        # the figures on the card are those of the half-precision file, not of the run
        loaded: Any = actionzoo.create(args.name.split(".")[0], weights=half)
        card["metrics"] = {"split": "test", **score(loaded, args), "train_seconds": seconds}
        if args.score_only:
            print(json.dumps(card["metrics"], indent=1))
            return
        save_checkpoint(loaded, half, dtype=torch.float16, metadata=card, parts=dict(args.part))
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
