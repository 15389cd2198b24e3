"""Arguments that several commands share, and how results are printed."""

import argparse
import ast
import json
from collections.abc import Sequence
from typing import Any

DEFAULT_MODEL = "prfnet_tiny.sports20"
DEFAULT_CLIP_MODEL = "instance_action_tiny.motion"


def add_model(sub: argparse.ArgumentParser, clips: bool = False) -> None:
    """`--model` and `--weights` of commands that use a trained model; `clips`: which may be one of clips."""
    of_clips = f", for clips {DEFAULT_CLIP_MODEL}" if clips else ""
    sub.add_argument("--model", help=f"name or local-dir:DIR (default {DEFAULT_MODEL}{of_clips})")
    sub.add_argument("--weights", help="checkpoint file or tag")


def model_name(args: argparse.Namespace, clips: bool = False) -> str:
    """The model asked for, else the default for pictures or clips; `--weights` alone are of its architecture."""
    default = DEFAULT_CLIP_MODEL if clips else DEFAULT_MODEL
    return args.model or (default.partition(".")[0] if args.weights else default)


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


def print_top(top: Sequence[tuple[str, float]], indent: str) -> None:
    """Classes and their probabilities, one a line."""
    for rank, (label, score) in enumerate(top, 1):
        print(f"{indent}{rank}  {label:<24} {100 * score:5.1f} %")
