"""Imports go one way, extras stay inside functions, and importing the package touches no network."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import actionzoo

ROOT = Path(actionzoo.__file__).parent
# Every part may import the floors before its own; the parts of one floor do not import one another.
FLOORS = (
    ("registry", "weights", "kernels"),
    ("layers",),
    ("losses", "metrics", "tracking", "data", "draw", "profile"),
    ("models",),
    ("training", "pipeline", "export", "optimize"),
    ("cli",),
    ("__main__",),
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
CORE = {"torch", "torchvision", "timm", "einops", "safetensors", "huggingface_hub", "numpy", "PIL"}
EXTRAS = {"av", "scipy", "accelerate", "tqdm", "sklearn", "matplotlib", "onnx", "onnxscript", "onnxruntime"}
LAYERS_MAY_IMPORT = ("torch", "einops", "timm.layers", "torchvision.ops")
# The default trunk of the attention-image stream.
LAYERS_EXCEPTIONS = {"actionzoo.layers.attention_image": ("torchvision.models.resnet18",)}
TRITON_FILE = re.compile(r"actionzoo\.kernels\._\w+_triton")


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


class Import(NamedTuple):
    target: str
    """Dotted name of the module, or of the name in it."""
    line: int
    at_import: bool
    """Whether importing the module runs it: outside functions and `if TYPE_CHECKING`."""


def find_imports(module, source, is_package):
    """Every import statement of a module, relative ones made absolute."""
    package = module if is_package else module.rpartition(".")[0]
    found = []

    def visit(node, at_import):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found.extend(Import(f"{base}.{alias.name}", node.lineno, at_import) for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            at_import = False
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                visit(child, False)
            for child in node.orelse:
                visit(child, at_import)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, at_import)

    visit(ast.parse(source), True)
    return found


def part_of(name):
    """`layers` for `actionzoo.layers.crop_resize`, `""` for the package itself and the names in its `__init__`."""
    first = name.split(".")[1] if "." in name else ""
    return first if first in FLOOR or f"actionzoo.{first}" in SOURCES else ""


def inside_complaint(module, target):
    """Why `module` may not import `target` of our own, or None."""
    here, there = part_of(module), part_of(target)
    if here == there:
        return None
    if here == "":
        return None if there not in ("cli", "__main__") else "the package imports its command line"
    if there == "":
        return None if here in ("cli", "__main__") else f"{here} imports the package above it"
    if there not in FLOOR:
        # private modules of the root belong to the registry and the weights, and know neither of them
        return f"{here} imports {there}" if here == "kernels" else None
    if here not in FLOOR:
        return f"{here} imports {there}"
    if (here, there) == ("registry", "weights") or FLOOR[there] < FLOOR[here]:
        return None
    return f"{here} imports {there}, which does not stand below it"


def outside_complaint(module, found):
    """Why `module` may not import something that is not ours, or None."""
    top = found.target.split(".")[0]
    if top in sys.stdlib_module_names:
        return None
    if part_of(module) == "layers":
        allowed = (*LAYERS_MAY_IMPORT, *LAYERS_EXCEPTIONS.get(module, ()))
        if not any(f"{found.target}.".startswith(f"{prefix}.") for prefix in allowed):
            return f"a layer imports {found.target}"
    if top == "triton" and TRITON_FILE.fullmatch(module):
        # it comes with torch where there is CUDA, and these files are imported when a kernel runs
        return None
    if top in EXTRAS:
        return f"the extra {top} is imported at module level" if found.at_import else None
    return None if top in CORE else f"{top} is neither a dependency nor an extra"


def complaints(module, source, is_package=False):
    result = []
    for found in find_imports(module, source, is_package):
        ours = found.target.split(".")[0] == "actionzoo"
        complaint = inside_complaint(module, found.target) if ours else outside_complaint(module, found)
        if complaint:
            result.append(f"{module}:{found.line}: {complaint}")
    return result


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_one_way(module):
    path = SOURCES[module]
    assert complaints(module, path.read_text(encoding="utf-8"), path.name == "__init__.py") == []


def test_every_part_has_a_floor():
    parts = {part_of(module) for module in SOURCES} - {""}
    assert {part for part in parts if not part.startswith("_")} <= FLOOR.keys()
    assert {"layers", "metrics", "models", "training"} <= parts


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("actionzoo.layers.x", "from ..models import PRFNet"),
        ("actionzoo.layers.x", "from ..metrics.curves import roc_curve"),
        ("actionzoo.layers.x", "from .. import create"),
        ("actionzoo.layers.x", "import actionzoo.models.prfnet"),
        ("actionzoo.layers.x", "def f():\n    from actionzoo import training"),
        ("actionzoo.layers.x", "import timm"),
        ("actionzoo.layers.x", "from timm.models import create_model"),
        ("actionzoo.layers.x", "from torchvision.models import resnet18"),
        ("actionzoo.layers.x", "import numpy as np"),
        ("actionzoo.layers.x", "def f():\n    import scipy"),
        ("actionzoo.metrics.x", "from ..draw import boxes"),
        ("actionzoo.metrics.x", "from ..models import PRFNet"),
        ("actionzoo.models.x", "from ..training import Recipe"),
        ("actionzoo.training.x", "from ..pipeline import pipeline"),
        ("actionzoo.optimize.x", "from ..pipeline import pipeline"),
        ("actionzoo.pipeline.x", "from .. import optimize"),
        ("actionzoo.models.x", "def f():\n    from ..optimize import optimize_for_inference"),
        ("actionzoo.training.x", "from .. import cli"),
        ("actionzoo.registry", "from . import models"),
        ("actionzoo.registry", "from .layers import crop_resize"),
        ("actionzoo.weights", "from .registry import create"),
        ("actionzoo.kernels.x", "from .. import weights"),
        ("actionzoo.kernels.x", "import triton.language as tl"),
        ("actionzoo.kernels.x", "from .._hub import HubMixin"),
        ("actionzoo._hub", "from .weights import load_weights"),
        ("actionzoo.training.x", "import accelerate"),
        ("actionzoo.training.x", "try:\n    from tqdm import tqdm\nexcept ImportError:\n    tqdm = None"),
        ("actionzoo.training.x", "class A:\n    import sklearn.metrics"),
        ("actionzoo.training.x", "if TYPE_CHECKING:\n    pass\nelse:\n    import matplotlib"),
        ("actionzoo.training.x", "def f():\n    import pandas"),
    ],
)
def test_a_wrong_import_is_seen(module, source):
    assert len(complaints(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("actionzoo.layers.x", "import math\nimport torch.nn.functional as F\nfrom torch import nn\nimport einops"),
        ("actionzoo.layers.x", "from timm.layers import Mlp\nfrom torchvision.ops import roi_align"),
        ("actionzoo.layers.x", "from timm import layers\nfrom .crop_resize import crop_resize"),
        ("actionzoo.layers.attention_image", "def f():\n    from torchvision.models import resnet18"),
        ("actionzoo.models.x", "import timm\nfrom ..layers import crop_resize\nfrom ..registry import register_model"),
        ("actionzoo.pipeline", "from . import draw\nfrom .data.folders import load_image"),
        ("actionzoo.optimize.x", "from .. import kernels\nfrom ..layers import TAHNet\nfrom ..models import PCF"),
        ("actionzoo.kernels._x_triton", "import triton"),
        ("actionzoo.metrics.x", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
        ("actionzoo.metrics.x", "def f():\n    from matplotlib.figure import Figure"),
        ("actionzoo.registry", "from .weights import load_weights\nfrom . import _timm"),
        ("actionzoo.cli", "def f():\n    from . import create\n    from .training import fit"),
    ],
)
def test_a_right_import_is_let_through(module, source):
    assert complaints(module, source) == []


IMPORT_WITHOUT_NETWORK = """
import json, socket, sys

attempts = []

def audit(event, args):
    if event.startswith("socket."):
        attempts.append(event)

class NoSocket(socket.socket):
    def __init__(self, *args, **kwargs):
        attempts.append("socket.socket")
        raise OSError("no network here")

sys.addaudithook(audit)
socket.socket = NoSocket
import actionzoo
print(json.dumps([attempts, sorted(name for name in sys.modules if "." not in name), actionzoo.list_models()]))
"""


@pytest.fixture(scope="module")
def fresh_import(tmp_path_factory):
    """Sockets asked for, modules loaded and models registered by `import actionzoo` in a new interpreter."""
    env = {**os.environ, "PYTHONPATH": str(ROOT.parent), "HF_HOME": str(tmp_path_factory.mktemp("empty"))}
    command = [sys.executable, "-c", IMPORT_WITHOUT_NETWORK]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_opens_no_socket(fresh_import):
    attempts, _, models = fresh_import
    assert attempts == []
    assert "prfnet_tiny" in models


def test_importing_the_package_loads_no_extra(fresh_import):
    # huggingface_hub itself loads tqdm
    assert (EXTRAS - {"tqdm"}).isdisjoint(fresh_import[1])
    assert "torch" in fresh_import[1]
