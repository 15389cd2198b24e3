"""The parser of the command line, and what happens around every command."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from . import evaluate, listing, predict, train


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments, those of the process if None.

    Returns:
        The exit status: 0, or 1 after one line on standard error that says what went wrong.
    """
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("actionzoo: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output, such as `head`, has seen enough; nothing more may be flushed to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, RuntimeError, OSError, ImportError, FloatingPointError) as error:
        print(f"actionzoo: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; the `run` of what it parses carries the command out."""
    parser = argparse.ArgumentParser(prog="actionzoo", description="Human action recognition.")
    commands = parser.add_subparsers(title="commands", required=True)

    def command(
        name: str,
        add_arguments: Callable[[argparse.ArgumentParser], None],
        run: Callable[[argparse.Namespace], int],
        text: str,
    ) -> None:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print JSON")
        sub.set_defaults(run=run)
        add_arguments(sub)

    command("list", listing.add_list_arguments, listing.run_list, "List the models.")
    command("info", listing.add_info_arguments, listing.run_info, "Say what is known of a model.")
    command("predict", predict.add_arguments, predict.run, "Label pictures, clips or the people in them, and draw it.")
    command("train", train.add_arguments, train.run, "Train a model on pictures, clips, or people with joints.")
    command("eval", evaluate.add_arguments, evaluate.run, "Score a model on the data that it could be trained on.")
    command("verify", listing.add_verify_arguments, listing.run_verify, "Check the sha256 of weights on disk.")
    return parser
