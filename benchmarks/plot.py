"""Tables and a picture of a result of `benchmarks/run.py`.

python benchmarks/plot.py h200.json --markdown h200.md --png h200.png
python benchmarks/plot.py h200.json --page docs/benchmarks.md --marker cuda
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from actionzoo._checkpoint import atomic_path  # noqa: E402

COLORS = {"ours": "#3f51b5", "peer": "#9e9e9e", "naive": "#d7ccc8"}


def machine(result: dict[str, Any]) -> str:
    """Who measured, in a sentence or two."""
    facts, rates = result["facts"], result["ceilings"]
    versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items() if value)
    flops = ", ".join(f"{key.split('_')[0]} {rates[key] / 1e12:.3g} TFLOP/s" for key in rates if "flop" in key)
    return (
        f"{facts['device']}; {facts['how']}; {versions}; cuDNN {facts['cudnn']}, TF32 "
        f"{'on' if facts['matmul_tf32'] else 'off'}; commit {(facts['commit'] or 'unknown')[:12]}. "
        f"Measured ceilings: copy {rates['copy_bytes_per_s'] / 1e9:.4g} GB/s, products {flops}."
    )


def cell(row: dict[str, Any], kind: str) -> str:
    """Median with its interval, in microseconds."""
    found = row["times"].get(kind)
    return "" if found is None else f"{found['median']:.4g} ({found['p20']:.4g} to {found['p80']:.4g})"


def kinds_of(result: dict[str, Any]) -> list[str]:
    """The kinds of time in a result, always in the same order."""
    present = {kind for row in result["rows"] for kind in row["times"]}
    return [kind for kind in ("cpu_us", "kernel_us", "graph_us", "eager_us") if kind in present]


def table_row(row: dict[str, Any], kinds: list[str]) -> list[str]:
    """The cells of a row; why it has no time stands in place of its check."""
    check = row["check"]
    if row["skipped"]:
        right = f"skipped: {row['skipped']}"
    elif not check["ok"]:
        right = f"wrong: {check['why']}"
    else:
        errors = [check["error"], check["gradient_error"]]
        right = " / ".join(f"{error:.0e}" for error in errors if error is not None)
    lead = kinds[0] if kinds else ""
    share, ratio = row["share_of_floor"].get(lead), row["ratio_to_ours"].get(lead)
    counts = row["counts"] or {}
    counted = [
        "" if counts.get(key) is None else str(counts[key]) for key in ("aten_ops", "host_syncs", "graph_breaks")
    ]
    return [
        f"{row['provider']}{', compiled' if row['mode'] == 'compiled' else ''}",
        right.replace("|", "\\|"),
        *(cell(row, kind) for kind in kinds),
        "" if share is None else f"{share:.0%}",
        "" if ratio is None else f"{ratio:.2f}",
        *counted,
    ]


def markdown(result: dict[str, Any]) -> str:
    """One table for each case, dtype and pass."""
    kinds, parts, titles = kinds_of(result), [machine(result)], {}
    for row in result["rows"]:
        titles.setdefault((row["case"], row["dtype"], row["pass"]), []).append(row)
    head = ["provider", "error", *(f"{kind[:-3]}, µs" for kind in kinds), "floor ÷ time", "time ÷ ours"]
    head += ["ATen ops", "host syncs", "graph breaks"]
    for (case, dtype, direction), rows in titles.items():
        sizes = ", ".join(f"{key} {value}" for key, value in rows[0]["sizes"].items())
        floor = rows[0]["limits"].get("floor_us")
        parts.append(
            f"**{case}**, {dtype}, {direction} ({sizes})" + ("" if floor is None else f"; floor {floor:.3g} µs")
        )
        lines = [head, ["---"] * len(head), *(table_row(row, kinds) for row in rows)]
        parts.append("\n".join("| " + " | ".join(cells) + " |" for cells in lines))
    for name in ("failed", "left_out"):
        if result[name]:
            parts.append(
                f"{name.replace('_', ' ').capitalize()}:\n\n" + "\n".join(f"- {what}" for what in result[name])
            )
    return "\n\n".join(parts)


def draw(result: dict[str, Any], path: Path) -> None:
    """Bars of every provider's time over ours, on a logarithmic axis, and ours' share of the floor beside its name.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "actionzoo[eval]"') from error
    kinds = kinds_of(result)
    rows = [row for row in result["rows"] if kinds and kinds[0] in row["ratio_to_ours"]]
    figure = Figure(figsize=(9, 1.2 + 0.16 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    labels = []
    for row in rows:
        share = row["share_of_floor"].get(kinds[0])
        suffix = "" if row["kind"] != "ours" or share is None else f"  [{share:.0%} of the limit]"
        backward = " +backward" if "backward" in row["pass"] else ""
        mode = "" if row["mode"] == "eager" else f", {row['mode']}"
        labels.append(f"{row['case']} {row['dtype']}{backward}: {row['provider']}{mode}{suffix}")
    axes.barh(
        range(len(rows)), [row["ratio_to_ours"][kinds[0]] for row in rows], color=[COLORS[r["kind"]] for r in rows]
    )
    axes.set_yticks(range(len(rows)), labels, fontsize=6)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    if rows:
        axes.set_xscale("log")
    axes.set_xlabel(f"time ÷ ours, eager ({(kinds or ['no time'])[0]}), {result['facts']['device']}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def main(arguments: list[str] | None = None) -> int:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--markdown", type=Path, metavar="FILE.md")
    parser.add_argument("--png", type=Path, metavar="FILE.png")
    parser.add_argument("--page", type=Path, metavar="PAGE.md", help="page whose markers the tables are put between")
    parser.add_argument("--marker", default="cpu", help="name of the markers <!-- NAME:begin --> and <!-- NAME:end -->")
    options = parser.parse_args(arguments)
    result = json.loads(options.result.read_text(encoding="utf-8"))
    text = markdown(result)
    if options.markdown is not None:
        with atomic_path(options.markdown) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    if options.png is not None:
        draw(result, options.png)
    if options.page is not None:
        from benchmarks.papers._page import insert

        insert(options.page, text, options.marker)
    if not (options.markdown or options.png or options.page):
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
