import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import measure, plot, run
from benchmarks.candidates import Setting, Variant
from benchmarks.cases import Case, Problem, Provider, all_cases
from benchmarks.cases._case import function

ROOT = Path(__file__).parents[2]
CASES = {case.name: case for case in all_cases()}
TINY = [name for name, case in CASES.items() if case.suite == "layers" and "tiny" in case.sizes]
LAYERS = {"serialized_attention", "region_focus", "attention_mixture", "feature_map_vit", "attention_image"}
LAYERS |= {"part_cropper", "crop_resize", "outermost_box", "channel_bottleneck3d", "decode_heatmaps"}
LAYERS |= {"multitask_aware_loss", "link_keypoints", "depthwise_conv3d"}
CPU = torch.device("cpu")
SETTING = Setting(
    CPU, "tiny", 1e-9, {"copy_bytes_per_s": 1e10, "float32_flop_per_s": 1e10, "bfloat16_flop_per_s": 1e10}
)


@pytest.fixture(autouse=True)
def _no_tracing(monkeypatch):
    """Tracing takes seconds for each; tests/benchmarks/test_checks.py has the counting."""
    monkeypatch.setattr("benchmarks.counts.graph_breaks", lambda call, inputs: 0)


def test_named_layers_and_all_models_have_a_case():
    import actionzoo

    assert {name.partition("/")[0] for name, case in CASES.items() if case.suite == "layers"} == LAYERS
    assert {name for name, case in CASES.items() if case.suite == "models"} == set(actionzoo.list_models())
    for case in CASES.values():
        assert set(case.sizes) <= {"cuda", "cpu", "tiny"}


@pytest.mark.parametrize(
    ("name", "backward"),
    [
        pytest.param(name, backward, id=f"{name}-{'backward' if backward else 'forward'}")
        for name in TINY
        for backward in ((False, True) if CASES[name].backward else (False,))
    ],
)
def test_every_provider_is_right(name, backward):
    case = CASES[name]
    rows = measure.measure(Variant(case, "float32", backward), SETTING)
    assert {row["kind"] for row in rows} >= {"ours", "naive"}
    for row in rows:
        if row["skipped"]:
            assert row["skipped"].endswith(("is not installed", "sizes only"))
            assert not row["times"]
            continue
        assert row["check"]["ok"], row["check"]
        assert row["times"]["cpu_us"]["median"] > 0
        assert row["ratio_to_ours"]["cpu_us"] > 0
        assert row["counts"]["aten_ops"] is not None


def provider(name, kind, call, **options):
    return Provider(name, kind, function(call), **options)


def case_of(*providers):
    def problem(n):
        return Problem(lambda generator: (torch.randn(n, generator=generator),), providers, lambda state, x: x * 2, {})

    return Case("doubling", "layers", problem, {"tiny": {"n": 5}})


@pytest.fixture
def rows():
    case = case_of(
        provider("ours", "ours", lambda x: x + x),
        provider("wrong", "peer", lambda x: x * 2.01),
        provider("absent", "peer", lambda x: x * 2, package="no_such_package"),
        provider("lacking", "peer", lambda x: x * 2, package="torch:no_such_name"),
        provider("other", "peer", lambda x: x * 3, reference=lambda state, x: x * 3),
        provider("infers", "ours", lambda x: x + x, forward_only=True),
        Provider("unbuilt", "peer", lambda state: 1 / 0),
    )
    found = measure.measure(Variant(case, "float32", True), SETTING)
    return {row["provider"]: row for row in found}


def test_a_wrong_provider_gets_no_time(rows):
    assert not rows["wrong"]["check"]["ok"]
    assert rows["wrong"]["check"]["error"] == pytest.approx(0.005, rel=0.01)
    assert rows["wrong"]["times"] == rows["wrong"]["ratio_to_ours"] == rows["wrong"]["share_of_floor"] == {}
    assert rows["ours"]["times"]
    assert "WRONG, no time" in run.line(rows["wrong"])


def test_a_missing_peer_is_skipped_by_name(rows):
    assert rows["absent"]["skipped"] == "no_such_package is not installed"
    assert rows["lacking"]["skipped"] == "torch has no no_such_name"
    assert rows["infers"]["skipped"] == "for inference"
    assert rows["unbuilt"]["skipped"] == "ZeroDivisionError: division by zero"
    assert not rows["absent"]["times"]
    assert "skipped, no_such_package is not installed" in run.line(rows["absent"])


def test_a_peer_is_held_to_what_it_computes(rows):
    assert rows["other"]["check"]["ok"]
    assert rows["other"]["times"]


def test_a_provider_of_less_precision_is_held_to_that():
    def rounded(x):
        return (x.bfloat16() * 2).float()

    case = case_of(
        provider("ours", "ours", lambda x: x + x),
        provider("rounds", "peer", rounded),
        provider("bfloat16", "peer", rounded, precision="bfloat16"),
        provider("wrong", "peer", lambda x: 0.9 * rounded(x), precision="bfloat16"),
    )
    found = {row["provider"]: row for row in measure.measure(Variant(case, "float32", False), SETTING)}
    assert {name: row["check"]["ok"] for name, row in found.items()} == {
        "ours": True, "rounds": False, "bfloat16": True, "wrong": False
    }  # fmt: skip
    assert found["bfloat16"]["ratio_to_ours"]
    found = {row["provider"]: row for row in measure.measure(Variant(case, "bfloat16", False), SETTING)}
    assert found["bfloat16"]["skipped"] == "its inputs are in bfloat16 already"
    assert found["rounds"]["check"]["ok"]


def test_a_case_may_want_more_time(monkeypatch):
    caps = []

    def interleave(samplers, cap, **more):
        caps.append(cap)
        return {name: [1.0] for name in samplers}

    monkeypatch.setattr("benchmarks.timing.interleave", interleave)
    case = case_of(provider("ours", "ours", lambda x: x + x))
    for own, run_cap in ((0.0, 0.4), (1.5, 0.4), (1.5, 3.0)):
        measure.measure(Variant(replace(case, cap=own), "float32", False), SETTING._replace(cap=run_cap))
    assert caps == [0.4, 1.5, 3.0]


def test_long_calls_are_not_counted_once_more(monkeypatch):
    monkeypatch.setattr("benchmarks.candidates.SLOW", -1.0)
    row, *_ = measure.measure(Variant(case_of(provider("ours", "peer", lambda x: x + x)), "float32", False), SETTING)
    assert row["counts"] is None
    assert row["notes"] == ["operations not counted: a call takes too long"]
    assert row["times"]


@pytest.mark.parametrize("name", ["ipcsn_tiny", "bodypart_tiny", "person_tiny"])
def test_models_are_optimized_beside_the_plain_one(name):
    rows = {row["provider"]: row for row in measure.measure(Variant(CASES[name], "float32", False), SETTING)}
    half = "optimize_for_inference, bfloat16"
    assert {"actionzoo", "optimize_for_inference"} <= rows.keys()
    # where a maximum or scores decide, half precision may decide otherwise
    assert (half in rows) == (name == "ipcsn_tiny")
    assert all(row["check"]["ok"] and row["times"] for row in rows.values() if not row["skipped"])


def test_which_models_are_measured_backward():
    from benchmarks.cases.models import trains_whole

    whole = {name for name, case in CASES.items() if case.suite == "models" and case.backward}
    assert {
        "tahnet_v1",
        "ipcsn_152",
        "prfnet_resnet50",
        "bodypart_tiny",
        "pose_tiny",
        "convit_har_person_tiny",
    } <= whole
    # of several networks, or taught by targets
    assert not whole & {"pcf_tiny", "instance_action_tiny", "yolof_tiny", "person_tiny", "keypointrcnn_tiny"}
    assert all(case.backward == trains_whole(name) for name, case in CASES.items() if case.suite == "models")
    rows = {row["provider"]: row for row in measure.measure(Variant(CASES["plain_tiny"], "float32", True), SETTING)}
    assert rows["actionzoo"]["check"]["gradient_error"] < 1e-3
    assert rows["optimize_for_inference"]["skipped"] == "for inference"


def test_models_backward_come_last_and_not_in_a_hurry():
    every = ["--device", "cpu", "--out", "x.json", "--cases", "tahnet", "decode", "mixture", "--dtypes", "float32"]
    full, quick = (run.select(all_cases(), run.parse(given)) for given in (every, [*every, "--quick"]))
    kinds = [(v.case.suite, v.backward and v.case.suite == "models") for v in full]
    assert kinds == sorted(kinds)
    assert ("models", True) in kinds
    assert {v.case.name for v in full if v.case.suite == "models"} == {f"tahnet_v{i}" for i in range(1, 5)}
    assert not any(v.backward for v in quick if v.case.suite == "models")
    assert any(v.backward for v in quick)


def test_floor_of_an_elementwise_operation_is_its_bytes(rows):
    # forward: 5 numbers in, 5 out; backward: 5 in, 5 out
    assert rows["ours"]["limits"] == {"bytes": 80.0, "flops": 0.0, "floor_us": pytest.approx(80 / 1e10 * 1e6)}
    median = rows["ours"]["times"]["cpu_us"]["median"]
    assert rows["ours"]["share_of_floor"]["cpu_us"] == pytest.approx(80 / 1e10 * 1e6 / median)


def options(tmp_path, *more):
    return ["--device", "cpu", "--sizes", "tiny", "--seconds", "0", "--out", str(tmp_path / "out.json"), *more]


def test_a_tiny_run_gives_json_and_tables(tmp_path, capsys):
    more = ("--quick", "--eager", "--cases", "crop_resize", "decode", "prfnet_tiny")
    assert run.main(options(tmp_path, *more)) == 0
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert result["facts"]["threads"] == 1
    assert "process CPU time" in result["facts"]["how"]
    assert result["facts"]["versions"]["torch"]
    assert result["ceilings"]["copy_bytes_per_s"] > 1e6
    assert {row["case"] for row in result["rows"]} == {"crop_resize", "decode_heatmaps", "prfnet_tiny"}
    assert result["failed"] == result["left_out"] == []
    assert json.loads(json.dumps(result)) == result
    assert "**crop_resize**, float32, forward+backward" in plot.markdown(result)
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]
    assert "0 of ours wrong" in capsys.readouterr().out


def test_what_does_not_fit_is_listed(tmp_path):
    run.main(options(tmp_path, "--quick", "--cases", "decode", "--minutes", "0"))
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert result["left_out"] == ["decode_heatmaps float32 forward"]
    assert result["rows"] == []


def test_a_case_that_fails_does_not_end_the_run(tmp_path, monkeypatch):
    def broken():
        raise RuntimeError("out of memory")

    cases = [Case("broken", "layers", broken, {"tiny": {}}), case_of(provider("wrong", "ours", lambda x: x * 3))]
    monkeypatch.setattr(run, "all_cases", lambda: cases)
    assert run.main(options(tmp_path, "--dtypes", "float32", "--eager")) == 1
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [what.partition(":")[2] for what in result["failed"]] == [" RuntimeError: out of memory"] * 2
    assert [row["check"]["ok"] for row in result["rows"]] == [False, False]


def test_the_script_runs_from_anywhere(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
