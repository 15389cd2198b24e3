"""`actionzoo list`, `info` and `verify`: what there is and whether it is whole."""

import argparse
import json
from typing import Any


def add_list_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of `actionzoo list`."""
    sub.add_argument("pattern", nargs="?", default="*", help="shell-style pattern of the name")
    sub.add_argument("--pretrained", action="store_true", help="only models with whole-model weights")


def run_list(args: argparse.Namespace) -> int:
    """Print one line per model."""
    from .. import list_models, model_info

    infos = [model_info(name) for name in list_models(args.pattern, pretrained=args.pretrained)]
    if args.json:
        print(json.dumps([_describe(info) for info in infos], indent=1))
        return 0
    for info in infos:
        weights = ", ".join(dict.fromkeys(f"{entry.tag} ({entry.covers})" for entry in info.weights)) or "-"
        print(f"{info.name:<28} {info.parameters / 1e6:8.2f} M  {info.task:<31} {weights}")
    return 0


def add_info_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of `actionzoo info`."""
    sub.add_argument("model")


def run_info(args: argparse.Namespace) -> int:
    """Print what the registry holds on a model and its weights."""
    from .. import model_info

    row = _describe(model_info(args.model))
    if args.json:
        print(json.dumps(row, indent=1))
        return 0
    for key, value in row.items():
        if key != "weights" and value not in (None, ()):
            print(f"{key:<12} {', '.join(map(str, value)) if isinstance(value, tuple) else value}")
    for entry in row["weights"]:
        print(f"weights      {entry['name']}: covers the {entry['covers']}, {entry['source']} {entry['location']}")
        for key in ("data", "licence", "metrics", "revision", "sha256"):
            if entry[key]:
                print(f"             {key}: {entry[key]}")
    if not row["weights"]:
        print("weights      none published")
    return 0


def _describe(info: Any) -> dict[str, Any]:
    keys = ("name", "aliases", "description", "task", "paper", "input_size", "num_classes", "parameters", "macs")
    facts = ("name", "covers", "source", "location", "licence", "data", "num_classes", "metrics", "sha256", "revision")
    row = {key: getattr(info, key) for key in keys}
    row["weights"] = [{key: getattr(entry, key) for key in facts} for entry in info.weights]
    return row


def add_verify_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of `actionzoo verify`."""
    sub.add_argument("pattern", nargs="?", default="*", help="shell-style pattern of the weights' name")


def run_verify(args: argparse.Namespace) -> int:
    """Hash bundled and cached weights again."""
    from ..weights import verify_weights

    rows = verify_weights(args.pattern)
    bad = [row for row in rows if row["status"] in ("mismatch", "missing")]
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(f"{row['status']:<10} {row['name']}  {row['path']}")
    return 1 if bad else 0
