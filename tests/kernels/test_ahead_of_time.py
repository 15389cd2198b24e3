import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).resolve().parents[2]


def kernels():
    """Dotted names of the functions that are kernels, not parts of one."""
    for path in sorted((ROOT / "actionzoo/kernels").glob("_*_triton.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.endswith("_kernel"):
                assert any("triton.jit" in ast.unparse(decorator) for decorator in node.decorator_list), node.name
                yield f"actionzoo.kernels.{path.stem}.{node.name}"


def test_every_kernel_compiles_for_sm_90(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.kernels.ahead_of_time"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout)
    forms = {(name, half) for name in kernels() for half in (False, True)}
    # boxes are float32 always
    forms.remove(("actionzoo.kernels._outermost_box_triton.window_kernel", True))
    assert {(row["kernel"], row["half"]) for row in found} == forms
    for row in found:
        assert row["elf"], row
        assert row["sm"] == 90, row
        assert row["bytes"] > 500, row
