"""What the scripts in `benchmarks/papers` print of results that are kept."""

import runpy
import sys
from pathlib import Path

PAPERS = Path(__file__).parents[1] / "benchmarks" / "papers"


def printed(script, kept_file, monkeypatch, capsys):
    """Run `script --from-json kept_file` in this process, which has torch imported already."""
    monkeypatch.syspath_prepend(str(PAPERS))
    monkeypatch.setattr(sys, "argv", [script, "--from-json", str(kept_file)])
    capsys.readouterr()
    runpy.run_path(str(PAPERS / script), run_name="__main__")
    return capsys.readouterr().out.strip()
