"""What changed between two results: FASTER or SLOWER where the times' intervals from p20 to p80 separate, else SAME.

python benchmarks/compare.py before.json after.json
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

KEY = ("case", "dtype", "pass", "provider", "mode")


class Change(NamedTuple):
    """One kind of time of one row in both results."""

    name: str
    before: float | None
    """Median in microseconds."""
    after: float | None
    verdict: str
    """FASTER, SLOWER, SAME, or what is missing."""


def verdict(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Compare two summaries; a single round has no interval and separates from nothing."""
    if min(before["rounds"], after["rounds"]) < 3:
        return "SAME"
    if after["p80"] < before["p20"]:
        return "FASTER"
    if after["p20"] > before["p80"]:
        return "SLOWER"
    return "SAME"


def rows_of(result: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows by what they measure, sizes included: other sizes are another case."""
    return {(*(row[key] for key in KEY), json.dumps(row["sizes"], sort_keys=True)): row for row in result["rows"]}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """All times that are in either result.

    Raises:
        ValueError: If they are of different devices: their times say nothing about the code.
    """
    devices = before["facts"]["device"], after["facts"]["device"]
    if devices[0] != devices[1]:
        raise ValueError(f"the results are of different devices, {devices[0]} and {devices[1]}: run both on one")
    old, new = rows_of(before), rows_of(after)
    found = []
    for key in {**old, **new}:
        one, two = (rows.get(key, {}).get("times", {}) for rows in (old, new))
        for kind in {**one, **two}:
            name = " ".join((*key[:-1], kind))
            if kind not in two:
                found.append(Change(name, one[kind]["median"], None, "NO TIME AFTER"))
            elif kind not in one:
                found.append(Change(name, None, two[kind]["median"], "NO TIME BEFORE"))
            else:
                found.append(Change(name, one[kind]["median"], two[kind]["median"], verdict(one[kind], two[kind])))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each time; 1 if one is slower or gone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args(arguments)
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (options.before, options.after))
    try:
        found = changes(before, after)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for change in found:
        old, new = ("-" if value is None else f"{value:.1f}" for value in (change.before, change.after))
        print(f"{change.verdict:14} {old:>12} -> {new:>12} us  {change.name}")
    counted = {word: sum(change.verdict == word for change in found) for word in ("FASTER", "SLOWER", "SAME")}
    print(", ".join(f"{count} {word}" for word, count in counted.items()))
    return int(any(change.verdict in ("SLOWER", "NO TIME AFTER") for change in found))


if __name__ == "__main__":
    sys.exit(main())
