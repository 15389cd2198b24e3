"""Putting a table into a page of the docs."""

from pathlib import Path

from actionzoo._checkpoint import atomic_path

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def insert(page: Path, text: str) -> None:
    """Replace what stands between the page's markers.

    Raises:
        SystemExit: If the page lacks them.
    """
    old = page.read_text(encoding="utf-8")
    if old.count(BEGIN) != 1 or old.count(END) != 1:
        raise SystemExit(f"{page} lacks the markers {BEGIN} and {END}")
    head, tail = old.split(BEGIN)[0], old.split(END)[1]
    with atomic_path(page) as temporary:
        temporary.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")
