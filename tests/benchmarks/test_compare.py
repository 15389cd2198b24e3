import copy
import json

import pytest

from benchmarks import compare, plot


def summary(p20, median, p80, rounds=9):
    return {"median": median, "p20": p20, "p80": p80, "error": 0.01, "rounds": rounds}


def row(provider="actionzoo", times=None, **changed):
    plain = {
        "case": "crop_resize",
        "suite": "layers",
        "sizes": {"batch": 2},
        "dtype": "float32",
        "pass": "forward",
        "provider": provider,
        "kind": "ours" if provider == "actionzoo" else "peer",
        "mode": "eager",
        "skipped": None,
        "check": {"ok": True, "error": 1e-7, "gradient_error": None, "tolerance": 1e-4, "why": None},
        "counts": {"aten_ops": 5, "host_syncs": 1, "graph_breaks": 0, "why_none": None},
        "limits": {"bytes": 10.0, "flops": 0.0, "floor_us": 2.5},
        "times": {"cpu_us": summary(9, 10, 11)} if times is None else times,
        "ratio_to_ours": {"cpu_us": 1.0},
        "share_of_floor": {"cpu_us": 0.25},
        "kernels": [],
        "notes": [],
    }
    return {**plain, **changed}


def result(*rows, device="a processor"):
    facts = {"device": device, "kind": "cpu", "how": "one thread", "versions": {"torch": "2.11"}, "cudnn": None}
    facts |= {"matmul_tf32": False, "commit": "0123456789abcdef"}
    ceilings = {"copy_bytes_per_s": 1e10, "float32_flop_per_s": 5e10}
    return {"facts": facts, "ceilings": ceilings, "rows": list(rows), "failed": [], "left_out": ["tahnet_v1 float32"]}


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (summary(6, 7, 8), "FASTER"),
        (summary(12, 13, 14), "SLOWER"),
        (summary(9, 10, 11), "SAME"),
        (summary(7, 8, 9), "SAME"),
        (summary(11, 12, 13), "SAME"),
        (summary(1, 12, 13), "SAME"),
        (summary(5, 5, 5, rounds=1), "SAME"),
    ],
    ids=["below", "above", "equal", "touches-below", "touches-above", "wide", "one-round"],
)
def test_only_separate_intervals_differ(after, verdict):
    assert compare.verdict(summary(9, 10, 11), after) == verdict


def test_rows_are_matched_by_what_they_measure():
    before = result(row(), row("timm"), row(sizes={"batch": 4}))
    after = result(row("timm", {"cpu_us": summary(1, 2, 3)}), row(times={}), row("kornia"))
    found = {(change.name, change.before): change.verdict for change in compare.changes(before, after)}
    assert found == {
        ("crop_resize float32 forward actionzoo eager cpu_us", 10): "NO TIME AFTER",
        ("crop_resize float32 forward timm eager cpu_us", 10): "FASTER",
        ("crop_resize float32 forward kornia eager cpu_us", None): "NO TIME BEFORE",
    }


@pytest.mark.parametrize(("after", "code"), [(7, 0), (10, 0), (13, 1)])
def test_command_reads_files_and_fails_on_slower(tmp_path, capsys, after, code):
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    for file, median in zip(files, (10, after)):
        file.write_text(json.dumps(result(row(times={"cpu_us": summary(median - 1, median, median + 1)}))))
    assert compare.main([str(file) for file in files]) == code
    assert ("SLOWER" if code else "SAME") in capsys.readouterr().out


def test_other_devices_are_not_compared(tmp_path, capsys):
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    for file, device in zip(files, ("a processor", "another")):
        file.write_text(json.dumps(result(row(), device=device)))
    assert compare.main([str(file) for file in files]) == 2
    assert "different devices" in capsys.readouterr().err


def test_tables_say_what_was_skipped_wrong_or_left_out():
    wrong = {"ok": False, "error": 1.8, "gradient_error": None, "tolerance": 1e-4, "why": "differs from the reference"}
    plain = {"times": {}, "ratio_to_ours": {}, "share_of_floor": {}, "counts": None}
    text = plot.markdown(
        result(
            row(),
            row("kornia", **{**plain, "check": None, "skipped": "kornia is not installed"}),
            row("grid_sample", **{**plain, "check": wrong}),
        )
    )
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert lines["actionzoo"] == "| actionzoo | 1e-07 | 10 (9 to 11) | 25% | 1.00 | 5 | 1 | 0 |"
    assert lines["kornia"] == "| kornia | skipped: kornia is not installed |  |  |  |  |  |  |"
    assert lines["grid_sample"] == "| grid_sample | wrong: differs from the reference |  |  |  |  |  |  |"
    assert "a processor" in text
    assert "- tahnet_v1 float32" in text


def test_tables_and_picture_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    kept, page = tmp_path / "result.json", tmp_path / "page.md"
    kept.write_text(json.dumps(result(row(), row("timm"))))
    page.write_text("before\n<!-- cpu:begin -->\nold\n<!-- cpu:end -->\nafter\n")
    files = [tmp_path / "tables.md", tmp_path / "bars.png"]
    plot.main([str(kept), "--markdown", str(files[0]), "--png", str(files[1]), "--page", str(page)])
    assert files[0].read_text() == plot.markdown(json.loads(kept.read_text())) + "\n"
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert page.read_text().startswith("before\n<!-- cpu:begin -->\na processor")
    assert "old" not in page.read_text()


def test_nothing_timed_still_gives_tables():
    nothing = copy.deepcopy(result(row(times={}, ratio_to_ours={}, share_of_floor={})))
    assert "| actionzoo | 1e-07 |  |  | 5 | 1 | 0 |" in plot.markdown(nothing)
