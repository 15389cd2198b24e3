"""Arguments that several commands share, and how results are printed."""

import argparse
import ast
import json
from collections.abc import Sequence
from typing import Any

DEFAULT_MODEL = "prfnet_tiny.sports20"


def add_model(sub: argparse.ArgumentParser) -> None:
    """`--model` and `--weights` of commands that use a trained model."""
    sub.add_argument("--model", help=f"name or local-dir:DIR (default {DEFAULT_MODEL})")
    sub.add_argument("--weights", help="checkpoint file or tag")


def model_name(args: argparse.Namespace) -> str:
    """The model asked for; `--weights` alone are weights of the default's architecture."""
    return args.model or (DEFAULT_MODEL.partition(".")[0] if args.weights else DEFAULT_MODEL)


def parse_pairs(items: Sequence[str], option: str) -> dict[str, Any]:
    """`KEY=VALUE` items of an option; a value that is no Python literal is a string.

    Raises:
        ValueError: If an item is no pair, or a key comes twice.
    """
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"{option} takes KEY=VALUE, got {item!r}")
        if key in pairs:
            raise ValueError(f"{option} gives {key} twice")
        try:
            pairs[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            pairs[key] = value
    return pairs


def print_metrics(metrics: dict[str, Any], as_json: bool) -> None:
    """One metric a line, or all as a JSON object."""
    if as_json:
        print(json.dumps(metrics))
        return
    for key, value in metrics.items():
        print(f"{key:<14} {value}")
