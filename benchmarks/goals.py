"""How fast things have to be, and whether a result of `benchmarks/run.py` shows it.

python benchmarks/goals.py RESULT.json
python benchmarks/goals.py RESULT.json --page docs/benchmarks.md --marker goals_cpu
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

OPTIMIZED = "optimize_for_inference, bfloat16"
KERNEL = "actionzoo, kernel"
BEST = "the best peer"


class Goal(NamedTuple):
    """One case's demand: a ratio of times, or a share of the floor.

    On CUDA ratios are of eager times, launches included, as users feel them, and shares of kernel times.
    """

    case: str
    least: float
    """Smallest ratio, `slower`'s time over `faster`'s, or smallest share of the floor where there is no `slower`."""
    slower: str = ""
    """Provider, or `BEST`: the fastest peer."""
    faster: str = "actionzoo"
    direction: str = "forward"
    mode: str = "eager"
    """`faster`'s; what it is compared with is eager."""
    dtype: str = "float32"

    def title(self) -> str:
        """What is compared, in a line."""
        faster = f"{self.faster}, compiled" if self.mode == "compiled" else self.faster
        return f"{self.case}, {self.dtype}, {self.direction}: {faster} against " + (self.slower or "the floor")


BOTH = ("forward", "forward+backward")
CPU = (
    *(Goal(case, 0.95, "loop", direction=way) for case in ("crop_resize", "part_cropper") for way in BOTH),
    *(
        Goal(case, least, peer, direction=way)
        for case, peers in (
            ("outermost_box/2-people-14x14", {"persons x frames": 2, "MultiScaleRoIAlign": 1.3}),
            ("outermost_box/2-people-28x28", {"persons x frames": 2, "MultiScaleRoIAlign": 1.3}),
            ("outermost_box/8-people-14x14", {"persons x frames": 2, "MultiScaleRoIAlign": 1}),
        )
        for peer, least in peers.items()
        for way in BOTH
    ),
    *(Goal(f"tahnet_{version}", 2, "actionzoo", OPTIMIZED) for version in ("v1", "v2", "v3", "v4")),
    Goal("ipcsn_152", 3.5, "actionzoo", OPTIMIZED),
    Goal("multitask_aware_loss", 5, "per sample", direction="forward+backward", mode="compiled"),
    Goal("decode_heatmaps", 3, "flat maximum"),
    Goal("link_keypoints", 50, "nested loops over tensors"),
    *(Goal(f"feature_map_vit/{size}", 0.97, "timm Block", direction=way) for size in ("14x14", "7x7") for way in BOTH),
)
CUDA = (
    *(
        Goal(case, least, peer, KERNEL)
        for case in ("crop_resize", "part_cropper")
        for peer, least in (("", 0.85), ("loop", 15), (BEST, 1.5))
    ),
    *(
        Goal(f"feature_map_vit/{size}", least, peer, dtype="bfloat16")
        for size in ("14x14", "7x7")
        for peer, least in (("", 0.75), ("timm Block", 1.1))
    ),
    *(
        Goal(f"outermost_box/2-people-{bins}", least, peer, KERNEL)
        for bins in ("14x14", "28x28")
        for peer, least in (("", 0.6), ("MultiScaleRoIAlign", 5))
    ),
    *(Goal(f"tahnet_{version}", 2, "actionzoo", OPTIMIZED) for version in ("v1", "v2", "v3", "v4")),
    *(
        Goal(f"tahnet_{version}", 0.75, "", "optimize_for_inference", dtype="bfloat16")
        for version in ("v1", "v2", "v3", "v4")
    ),
    Goal("ipcsn_152", 3, "actionzoo", OPTIMIZED),
    Goal("depthwise_conv3d", 0.75, "", KERNEL),
    Goal("depthwise_conv3d", 5, "conv3d NCDHW", KERNEL),
)


class Finding(NamedTuple):
    """A goal beside what was measured."""

    goal: Goal
    reached: float | None
    """None where the result has no such time."""

    @property
    def met(self) -> bool:
        """Whether it was measured and is enough."""
        return self.reached is not None and self.reached >= self.goal.least


def judge(result: dict[str, Any]) -> list[Finding]:
    """Every goal of the result's device."""
    on_cuda = any("kernel_us" in row["times"] for row in result["rows"])
    ratios, shares = ("eager_us", "kernel_us") if on_cuda else ("cpu_us", "cpu_us")
    return [
        Finding(goal, _ratio(goal, result["rows"], ratios) if goal.slower else _share(goal, result["rows"], shares))
        for goal in (CUDA if on_cuda else CPU)
    ]


def _of(goal: Goal, rows: list[dict[str, Any]], mode: str) -> list[dict[str, Any]]:
    wanted = goal.case, goal.dtype, goal.direction, mode
    return [row for row in rows if (row["case"], row["dtype"], row["pass"], row["mode"]) == wanted]


def _share(goal: Goal, rows: list[dict[str, Any]], kind: str) -> float | None:
    found = [row["share_of_floor"].get(kind) for row in _of(goal, rows, goal.mode) if row["provider"] == goal.faster]
    return found[0] if found else None


def _ratio(goal: Goal, rows: list[dict[str, Any]], kind: str) -> float | None:
    ours = [row for row in _of(goal, rows, goal.mode) if row["provider"] == goal.faster]
    others = [
        row
        for row in _of(goal, rows, "eager")
        if (row["kind"] == "peer" if goal.slower == BEST else row["provider"] == goal.slower)
    ]
    times = [row["ratio_to_ours"][kind] for row in others if kind in row["ratio_to_ours"]]
    if not ours or not times or kind not in ours[0]["ratio_to_ours"]:
        return None
    return min(times) / ours[0]["ratio_to_ours"][kind]


def table(findings: list[Finding]) -> str:
    """Goal, what is wanted, what was measured."""
    lines = ["| case | at least | measured | reached |", "|---|---|---|---|"]
    for goal, reached in ((finding.goal, finding.reached) for finding in findings):
        least = f"{goal.least:g} times" if goal.slower else f"{goal.least:.0%}"
        shown = "not measured" if reached is None else f"{reached:.2f} times" if goal.slower else f"{reached:.0%}"
        lines.append(f"| {goal.title()} | {least} | {shown} | {'yes' if Finding(goal, reached).met else 'no'} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; the exit code says whether every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--page", type=Path, metavar="PAGE.md", help="page whose markers the table is put between")
    parser.add_argument("--marker", default="goals_cpu")
    options = parser.parse_args(arguments)
    findings = judge(json.loads(options.result.read_text(encoding="utf-8")))
    print(table(findings))
    if options.page is not None:
        from benchmarks.papers._page import insert

        insert(options.page, table(findings), options.marker)
    return 0 if all(finding.met for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
