import ast
import threading
from importlib import metadata
from pathlib import Path

import pytest
import torch

from actionzoo import kernels
from actionzoo.kernels import _switch
from actionzoo.layers import crop_resize

SOURCES = sorted(Path(kernels.__file__).parent.glob("*.py"))


def custom_operators():
    """`(name, schema)` of every operator as the sources have it, the schema None where it is left to torch."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("custom_op"):
                options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
                yield ast.literal_eval(node.args[0]), options.get("schema")


OPERATORS = dict(custom_operators())


def test_every_operator_is_known():
    assert len(OPERATORS) == 9
    assert {name.removeprefix("actionzoo::") for name in OPERATORS} >= set(kernels.NAMES)


@pytest.mark.parametrize("name", OPERATORS)
def test_schemas_are_written_out(name):
    """torch 2.4 reads no `list[int]`, and newer ones read the same from the annotations as the schema says."""
    from torch._library.custom_ops import OPDEFS

    assert OPERATORS[name] is not None
    if hasattr(torch.library, "infer_schema"):
        assert torch.library.infer_schema(OPDEFS[name]._init_fn, mutates_args=()) == OPERATORS[name]


@pytest.mark.parametrize(
    ("installed", "version"),
    [
        ({"triton": "3.3.0"}, (3, 3)),
        ({"triton": "3.10.1+git1234"}, (3, 10)),
        ({"triton": "3.0.0"}, (3, 0)),
        ({"pytorch-triton": "3.4.0+gitf7888497"}, (3, 4)),
        ({}, None),
    ],
    ids=str,
)
def test_version_of_triton(installed, version, monkeypatch):
    def find(name):
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", find)
    assert _switch.triton_version() == version


def test_the_installed_triton():
    triton = pytest.importorskip("triton")
    assert ".".join(map(str, _switch.triton_version())) == ".".join(triton.__version__.split(".")[:2])
    assert (_switch.triton_version() >= (3, 3)) is _switch._TRITON_SERVES


def test_an_old_triton_leaves_the_plain_form(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(_switch, "_TRITON_SERVES", True)
    images = torch.rand(1, 1, 4, 5)
    assert kernels.can_run(images)
    monkeypatch.setattr(_switch, "_TRITON_SERVES", False)
    monkeypatch.setattr("actionzoo.kernels._crop_resize._crop_kernel", None)
    boxes, index = torch.tensor([[0, 1, 3, 4]]), torch.tensor([0])
    with kernels.use_kernels():
        assert not kernels.active("crop_resize", images)
    assert torch.equal(kernels.crop_resize(images, boxes, index, 3), images[:, :, 1:4, :3])


def test_no_kernel_in_an_exported_graph(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(_switch, "_TRITON_SERVES", True)

    class Crop(torch.nn.Module):
        def forward(self, images, boxes, index):
            return crop_resize(images, boxes, index, 2)

    given = torch.rand(1, 1, 4, 5), torch.tensor([[0, 1, 3, 4]]), torch.tensor([0])
    for strict in (False, True):
        with kernels.use_kernels():
            program = torch.export.export(Crop(), given, strict=strict)
        assert "actionzoo" not in str(program.graph)


def test_blocks_inside_blocks():
    with kernels.use_kernels("crop_resize", "crop_resize"):
        with kernels.use_kernels("crop_resize"):
            with kernels.use_kernels():
                assert _switch._chosen == set(kernels.NAMES)
            assert _switch._chosen == {"crop_resize"}
        assert _switch._chosen == {"crop_resize"}
    assert not _switch._chosen


def test_an_error_ends_the_block():
    with pytest.raises(RuntimeError), kernels.use_kernels():
        raise RuntimeError
    assert not _switch._chosen


def test_threads_leave_in_any_order():
    """The first to enter is the first to leave, and what the second wants stays until it leaves."""
    first, second = kernels.use_kernels("crop_resize", "outermost_box"), kernels.use_kernels("crop_resize")
    for step in (first.__enter__, second.__enter__, lambda: first.__exit__(None, None, None)):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert _switch._chosen == {"crop_resize"}
    second.__exit__(None, None, None)
    assert not _switch._chosen


def test_unknown_name():
    with (
        pytest.raises(ValueError, match=r"no kernel is called 'crop'; there are crop_resize, "),
        kernels.use_kernels("crop"),
    ):
        pass
    assert not _switch._chosen
