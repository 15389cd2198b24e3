"""Measure layers and models: correctness, times, share of the hardware's limit, ratio to peers.

    python benchmarks/run.py --quick --out quick.json
    python benchmarks/run.py --suite all --device cuda --minutes 8 --out h200.json

On a CPU one thread is measured by its process CPU time. Then `benchmarks/plot.py` makes tables and a picture of the
file, and `benchmarks/compare.py` says what changed between two.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # the repository instead of this folder, whose `timing` and `compare` are no top-level modules
    sys.path[0] = str(ROOT)

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from actionzoo._checkpoint import atomic_path  # noqa: E402
from benchmarks import facts, roofline  # noqa: E402
from benchmarks.candidates import Setting, Variant  # noqa: E402
from benchmarks.cases import Case, all_cases  # noqa: E402
from benchmarks.measure import measure  # noqa: E402

FORMAT = 1


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("layers", "models", "all"), default="all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--quick", action="store_true", help="float32 alone, ours compiled where it matters, less time each"
    )
    parser.add_argument("--cases", nargs="+", metavar="TEXT", help="those with one of these in their names")
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), help="all that a case has if not given")
    parser.add_argument("--eager", action="store_true", help="leave out the compiled forms")
    parser.add_argument("--sizes", choices=("cuda", "cpu", "tiny"), help="those of the device if not given")
    parser.add_argument("--seconds", type=float, help="cap for each provider and kind of time")
    parser.add_argument("--minutes", type=float, help="begin no case after so many; what is left out is listed")
    parser.add_argument("--tf32", action="store_true", help="let float32 products use TF32 on CUDA")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    return parser.parse_args(arguments)


def select(cases: list[Case], options: argparse.Namespace) -> list[Variant]:
    """What is to be measured, in order: the models last, and their backward passes after all others."""
    sizes = options.sizes or options.device
    variants = []
    for case in cases:
        if options.suite not in ("all", case.suite) or sizes not in case.sizes:
            continue
        if options.cases and not any(text in case.name for text in options.cases):
            continue
        dtypes = options.dtypes or (("float32",) if options.quick else case.dtypes)
        for dtype in (name for name in case.dtypes if name in dtypes):
            # models are trained on larger machines than those that are in a hurry
            both = case.backward and not (options.quick and case.suite == "models")
            for backward in (False, True) if both else (False,):
                compiled = (("ours",) if case.compiled else ()) if options.quick else ("ours", "peer")
                variants.append(Variant(case, dtype, backward, () if options.eager else compiled))
    models = [variant.case.suite == "models" for variant in variants]
    return [v for _, v in sorted(zip(models, variants), key=lambda pair: (pair[0], pair[0] and pair[1].backward))]


def write(path: Path, result: dict[str, Any]) -> None:
    """JSON, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def line(row: dict[str, Any]) -> str:
    """One row for the terminal."""
    what = f"{row['case']} {row['dtype']} {row['pass']}: {row['provider']} ({row['mode']})"
    if row["skipped"]:
        return f"{what}: skipped, {row['skipped']}"
    if not row["check"]["ok"]:
        return f"{what}: WRONG, no time; {row['check']['why']}, error {row['check']['error']}"
    times = "  ".join(f"{kind[:-3]} {found['median']:.1f} us" for kind, found in row["times"].items())
    ratio = next((f"  {value:.2f} of ours" for value in row["ratio_to_ours"].values()), "")
    return f"{what}: {times}{ratio}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, and tell whether something of ours was wrong."""
    options = parse(arguments)
    device, began = torch.device(options.device), time.monotonic()
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32
    result: dict[str, Any] = {"format": FORMAT, "facts": facts.collect(device)}
    result["command"] = " ".join(["benchmarks/run.py", *(sys.argv[1:] if arguments is None else arguments)])
    print(json.dumps(result["facts"], indent=1))
    result["ceilings"] = roofline.ceilings(device, ("float32", "bfloat16"), options.quick)
    result |= {"rows": [], "failed": [], "left_out": []}
    cap = options.seconds if options.seconds is not None else (0.4 if options.quick else 1.5)
    # paper-size models take long to trace; the tiny ones have the same code
    trace_models = device.type == "cpu" and not options.quick
    setting = Setting(device, options.sizes or options.device, cap, result["ceilings"], trace_models)
    for variant in (bar := tqdm(select(all_cases(), options), unit="variant")):
        bar.set_description(variant.title)
        if options.minutes is not None and time.monotonic() - began > 60 * options.minutes:
            result["left_out"].append(variant.title)
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rows = measure(variant, setting)
        except Exception as failure:
            result["failed"].append(f"{variant.title}: {type(failure).__name__}: {failure}"[:500])
            bar.write(result["failed"][-1])
            continue
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()
        result["rows"] += rows
        for row in rows:
            bar.write(line(row))
        write(options.out, result)
    result["seconds"] = round(time.monotonic() - began, 1)
    write(options.out, result)
    wrong = [row for row in result["rows"] if row["kind"] == "ours" and row["check"] and not row["check"]["ok"]]
    print(
        f"{len(result['rows'])} rows, {len(wrong)} of ours wrong, {len(result['failed'])} cases failed, "
        f"{len(result['left_out'])} left out, {result['seconds']} s; written to {options.out}"
    )
    return 1 if wrong or result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
