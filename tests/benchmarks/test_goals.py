import json
from pathlib import Path

import pytest

from benchmarks import goals
from benchmarks.cases import all_cases

ROOT = Path(__file__).resolve().parents[2]


def row(provider, ratio, share=None, mode="eager", time="cpu_us", case="decode_heatmaps", dtype="float32", kind="peer"):
    return {
        "case": case,
        "dtype": dtype,
        "pass": "forward",
        "provider": provider,
        "mode": mode,
        "kind": kind,
        "times": {time: {"median": 1.0}},
        "ratio_to_ours": {} if ratio is None else {time: ratio},
        "share_of_floor": {} if share is None else {time: share},
    }


def found(rows, case, slower):
    findings = goals.judge({"rows": rows})
    return next(finding for finding in findings if finding.goal.case == case and finding.goal.slower == slower)


@pytest.mark.parametrize(("ratio", "met"), [(2.9, False), (3.1, True)])
def test_a_ratio_is_the_other_time_over_ours(ratio, met):
    finding = found([row("actionzoo", 1.0), row("flat maximum", ratio)], "decode_heatmaps", "flat maximum")
    assert finding.reached == pytest.approx(ratio)
    assert finding.met is met


def test_the_faster_need_not_be_the_one_that_ratios_are_taken_to():
    rows = [row("actionzoo", 1.0, case="tahnet_v1"), row(goals.OPTIMIZED, 0.4, case="tahnet_v1")]
    assert found(rows, "tahnet_v1", "actionzoo").reached == pytest.approx(2.5)


def test_a_share_of_the_floor_and_what_was_not_measured():
    rows = [row(goals.KERNEL, 1.0, 0.9, time="kernel_us", case="crop_resize", kind="ours")]
    assert found(rows, "crop_resize", "").met
    missing = found(rows, "crop_resize", "loop")
    assert missing.reached is None
    assert not missing.met
    assert "| not measured | no |" in goals.table([missing])


def test_the_best_peer_is_the_fastest_and_launches_count():
    rows = [
        row("actionzoo", 1.0, 0.9, time="kernel_us", kind="ours", case="crop_resize"),
        row(goals.KERNEL, 0.5, time="eager_us", kind="ours", case="crop_resize"),
        row("loop", 0.1, time="eager_us", kind="naive", case="crop_resize"),
        row("slow", 4.0, time="eager_us", case="crop_resize"),
        row("fast", 0.7, time="eager_us", case="crop_resize"),
        row("wrong", None, time="eager_us", case="crop_resize"),
    ]
    finding = found(rows, "crop_resize", goals.BEST)
    assert finding.reached == pytest.approx(1.4)
    assert not finding.met


def test_another_dtype_does_not_count():
    rows = [row("actionzoo", 1.0, dtype="bfloat16"), row("flat maximum", 9.0, dtype="bfloat16")]
    assert found(rows, "decode_heatmaps", "flat maximum").reached is None


@pytest.mark.parametrize(("device", "listed"), [("cpu", goals.CPU), ("cuda", goals.CUDA)])
def test_every_goal_is_of_a_case_with_these_providers(device, listed):
    cases = {case.name: case for case in all_cases()}
    for goal in listed:
        case = cases[goal.case]
        assert goal.dtype in case.dtypes, goal
        assert goal.direction == "forward" or case.backward, goal
        # models have the same providers; a tiny one is quick to build
        built = case if case.suite == "layers" else cases["convit_har_tiny"]
        names = {provider.name for provider in built.problem(**built.sizes["tiny"]).providers}
        assert {goal.faster, goal.slower or goal.faster} - {goals.BEST} <= names, goal
        assert device in case.sizes, goal


def test_the_page_has_the_goals_of_the_result_that_is_kept():
    result = json.loads((ROOT / "benchmarks" / "results" / "cpu.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    findings = goals.judge(result)
    assert f"<!-- goals_cpu:begin -->\n{goals.table(findings)}\n<!-- goals_cpu:end -->" in page
    assert [finding.goal.title() for finding in findings if not finding.met] == []
