"""README and docs: their snippets run, their commands parse, their links lead somewhere, their table is true."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import actionzoo
from actionzoo.cli import DEFAULT_PICTURE, build_parser
from actionzoo.profile import count_macs

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """(line, source) of every block in a language."""
    text = page.read_text(encoding="utf-8")
    found = ((text[: match.start()].count("\n") + 2, match) for match in BLOCK.finditer(text))
    return [(line, match[2]) for line, match in found if match[1] == language]


def refuse(*_):
    raise OSError("a snippet of the docs opened a connection")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder such as a reader has: a picture, and labelled pictures to train and test on."""
    shutil.copy(DEFAULT_PICTURE, tmp_path / "photo.jpg")
    pictures = sorted(DEFAULT_PICTURE.parent.glob("*.jpg"))
    for split in ("train", "test"):
        for label, picture in zip(("skiing", "weight_lifting"), pictures):
            target = tmp_path / "photos" / split / label
            target.mkdir(parents=True)
            for i in range(4):
                shutil.copy(picture, target / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", refuse)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_snippets_run(page):
    torch.set_num_threads(1)
    namespace = {}
    for line, source in blocks(page, "python"):
        # blank lines before it, so that a traceback names the page's own line
        exec(compile("\n" * (line - 1) + source, str(page), "exec"), namespace)


COMMANDS = [
    pytest.param(line, id=f"{name(page)}-{number + i}")
    for page in PAGES
    for language in ("bash", "console")
    for number, source in blocks(page, language)
    for i, line in enumerate(source.splitlines())
    if "actionzoo " in line and "pip install" not in line
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line):
    program, *arguments = shlex.split(line)
    assert program == "actionzoo"
    build_parser().parse_args(arguments)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    targets = [link.partition("#")[0] for link in LINK.findall(text) if not re.match(r"https?:|mailto:|#", link)]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_readme_opens_with_the_two_commands():
    lines = README.splitlines()
    assert [line for line in lines if line.startswith("pip install")][:2] == [
        "pip install . && actionzoo predict",
        'pip install ".[test]" && pytest -n auto',
    ]
    assert len(lines) < 200


def table():
    rows = re.findall(r"^\| `(\w+)`.*?\| ([\dx]+) \| ([\d.]+) M \| ([\d.]+) G \| (.+?) \|$", README, re.MULTILINE)
    # a side of pictures, their height x width, or channels x frames x height x width of features
    sizes = [[int(side) for side in row[1].split("x")] for row in rows]
    shapes = [tuple(size) if len(size) > 2 else (3, size[0], size[-1]) for size in sizes]
    return [(row[0], shape, *row[2:]) for row, shape in zip(rows, shapes)]


def test_model_table_lists_every_model():
    assert sorted(row[0] for row in table()) == sorted(actionzoo.list_models())


@pytest.mark.parametrize(("model", "size", "parameters", "macs", "_"), table(), ids=[row[0] for row in table()])
def test_model_table_has_the_right_sizes(model, size, parameters, macs, _):
    with torch.device("meta"):
        network = actionzoo.create(model)
        # the boxes of networks that look at people
        inputs = (torch.empty(1, *size), *actionzoo.model_info(model).example_inputs(1)[1:])
    assert f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f}" == parameters
    # what comes after a detector's neck depends on what it finds
    counted = network.backbone if "detection" in actionzoo.model_info(model).task else network
    assert f"{count_macs(counted, *inputs, ops='all') / 1e9:.2f}" == macs


@pytest.mark.parametrize(("model", "weights"), [(row[0], row[4]) for row in table()], ids=[row[0] for row in table()])
def test_model_table_tells_the_truth_about_weights(model, weights):
    published = actionzoo.model_info(model).weights
    bundled = [entry.tag for entry in published if entry.covers == "model" and entry.source == "bundled"]
    assert ("bundled" in weights) == bool(bundled)
    assert all(f"`{tag}`" in weights for tag in bundled)
    assert ("backbone only" in weights) == (bool(published) and all(entry.covers == "backbone" for entry in published))
    assert ("none" in weights) == (not published)


def test_pictures_of_the_docs_are_small():
    sizes = {file.name: file.stat().st_size for file in (ROOT / "docs" / "assets").iterdir()}
    assert {file: size for file, size in sizes.items() if size > 200_000} == {}
