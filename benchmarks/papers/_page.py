"""Putting a table into a page of the docs."""

from pathlib import Path

from actionzoo._checkpoint import atomic_path


def insert(page: Path, text: str, name: str = "results") -> None:
    """Replace what stands between the page's markers `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

    Raises:
        SystemExit: If the page lacks them.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    old = page.read_text(encoding="utf-8")
    if old.count(begin) != 1 or old.count(end) != 1:
        raise SystemExit(f"{page} lacks the markers {begin} and {end}")
    head, tail = old.split(begin)[0], old.split(end)[1]
    with atomic_path(page) as temporary:
        temporary.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
