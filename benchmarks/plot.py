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
    """Bars of the providers' times over ours, on a logarithmic axis, to the right where ours is faster.

    A column for either pass. Above the bars of a case stand its name, our time and its share of the floor.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
        from PIL import Image
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "actionzoo[eval]"') from error
    kind = (kinds_of(result) or ["no time"])[0]
    rows = [row for row in result["rows"] if kind in row["ratio_to_ours"]]
    passes = [name for name in ("forward", "forward+backward") if any(row["pass"] == name for row in rows)] or [""]
    places = _places(rows)
    figure = Figure(figsize=(4 + 3.6 * len(passes), 1 + 0.15 * max(len(places), 1)), layout="constrained")
    for number, (name, axes) in enumerate(zip(passes, figure.subplots(1, len(passes), squeeze=False)[0])):
        axes.set_title(name or "nothing was measured", fontsize=9)
        axes.set_ylim(len(places) - 0.4, -0.6)
        for row in (row for row in rows if row["pass"] == name):
            ratio, place = row["ratio_to_ours"][kind], places[_key(row)]
            if place == places[_group(row)]:
                share = row["share_of_floor"].get(kind)
                limit = "" if share is None else f", {share:.0%} of the limit"
                axes.text(1, place, f" {row['times'][kind]['median'] / 1000:.3g} ms{limit}", fontsize=6, va="center")
                continue
            axes.barh(place, ratio - 1, left=1, height=0.8, color=COLORS[row["kind"]])
            inside = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
            axes.text(max(ratio, 1), place, f" {inside}", fontsize=6, va="center")
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, 0.1), 3 * max(high, 3))
        axes.tick_params("x", labelsize=6)
        axes.set_yticks(list(places.values()), [label for label, *_ in places] if not number else [], fontsize=6)
        for tick, key in zip(axes.get_yticklabels(), places):
            tick.set_fontweight("bold" if len(key) == 3 else "normal")
    colors = "blue: ours, grey: other libraries, light: plain loops"
    figure.supxlabel(f"time ÷ ours, eager ({kind}), {result['facts']['device']}; {colors}", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
        # a few flat colours: a palette makes a third of the file
        Image.open(temporary).convert("RGB").quantize(64).save(temporary, format="PNG", optimize=True)


def _group(row: dict[str, Any]) -> tuple[str, ...]:
    return f"{row['case']}, {row['dtype']}", row["case"], row["dtype"]


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    """What a bar stands for in either pass; ours in eager mode, which all are compared with, is its group's heading."""
    first = row["kind"] == "ours" and row["mode"] == "eager" and set(row["ratio_to_ours"].values()) == {1.0}
    return _group(row) if first else (table_row(row, [])[0], *_group(row))


def _places(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], int]:
    """Heights of the headings and bars, from above."""
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for row in rows:
        keys = groups.setdefault(_group(row), [_group(row)])
        if _key(row) not in keys:
            keys.append(_key(row))
    return {key: place for place, key in enumerate(key for keys in groups.values() for key in keys)}


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
