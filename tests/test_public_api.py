"""What others import: explicit exports, documented and annotated, under the names that are promised."""

import ast
import importlib
import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest

import actionzoo

ROOT = Path(actionzoo.__file__).parent
PATHS = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
PUBLIC = [name for name in PATHS if not any(part.startswith("_") for part in name.split("."))]
PACKAGES = [name for name in PUBLIC if PATHS[name].name == "__init__.py"]


def exported(package):
    """Names that an `__init__` re-exports as `from .module import Name as Name`; `from . import module` is none."""
    names = []
    for node in ast.parse(PATHS[package].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            names += [alias.asname or alias.name for alias in node.names]
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_what_is_re_exported(package):
    module = importlib.import_module(package)
    names = exported(package)
    assert hasattr(module, "__all__"), f"{package} has no __all__"
    assert sorted(module.__all__) == sorted(names)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_re_export_is_explicit(package):
    """`as Name` marks a public name for type checkers; a plain import in an `__init__` is a leak."""
    for node in ast.parse(PATHS[package].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            assert [alias.asname for alias in node.names] == [alias.name for alias in node.names]


def public_objects():
    """Every public function and class: those of an `__all__`, and those that a public module defines."""
    objects = {}
    for name in PUBLIC:
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            if not (inspect.isfunction(value) or inspect.isclass(value)):
                continue
            if key in getattr(module, "__all__", ()) or (value.__module__ == name and not key.startswith("_")):
                objects[f"{value.__module__}.{value.__qualname__}"] = value
    return objects


OBJECTS = public_objects()


def methods(cls):
    """The public functions, properties and `__init__` that a class itself writes out."""
    for name, value in vars(cls).items():
        value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        value = value.fget if isinstance(value, property) else value
        value = inspect.unwrap(value) if callable(value) else value
        written = inspect.isfunction(value) and value.__module__ == cls.__module__ and not written_by_machine(value)
        if written and (not name.startswith("_") or name in ("__init__", "__call__")):
            yield name, value


def written_by_machine(function):
    """Dataclasses and named tuples compile their methods from strings."""
    return not Path(function.__code__.co_filename).is_file()


def unannotated(function):
    signature = inspect.signature(function)
    missing = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
    ]
    return missing + (["return"] if signature.return_annotation is signature.empty else [])


@pytest.mark.parametrize("name", OBJECTS)
def test_public_names_are_documented(name):
    value = OBJECTS[name]
    # own docstring, neither an inherited one nor the signature that a dataclass or named tuple makes up
    doc = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert doc, f"{name} has no docstring"
    assert not doc.startswith(f"{value.__name__}(")
    if inspect.isclass(value):
        assert not [key for key, method in methods(value) if not (method.__doc__ or key.startswith("__"))]


@pytest.mark.parametrize("name", OBJECTS)
def test_public_names_are_annotated(name):
    value = OBJECTS[name]
    functions = dict(methods(value)) if inspect.isclass(value) else {value.__name__: value}
    assert {key: unannotated(function) for key, function in functions.items() if unannotated(function)} == {}


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("actionzoo.create", "name pretrained weights num_classes in_chans cache_dir strict model_args"),
        ("actionzoo.list_models", "pattern task pretrained"),
        ("actionzoo.list_weights", "pattern"),
        ("actionzoo.model_info", "name"),
        ("actionzoo.register_model", ""),
        ("actionzoo.optimize_for_inference", "model example dtype"),
        ("actionzoo.layers.SerializedAttention", "in_ch dim tokens heads mlp_ratio"),
        ("actionzoo.layers.RegionFocusedGenerator", "kappa center_offset"),
        ("actionzoo.layers.WeightedAttentionMixture", "mode"),
        ("actionzoo.layers.mixture_weights", "losses mode"),
        ("actionzoo.layers.crop_resize", "images boxes index size"),
        ("actionzoo.layers.PartCropper", "parts out"),
        ("actionzoo.layers.part_boxes", "joints image_size parts"),
        ("actionzoo.layers.AttentionImageStream", "joints f_ch trunk"),
        ("actionzoo.layers.decode_heatmaps", "heatmaps quarter_shift"),
        ("actionzoo.layers.encode_heatmaps", "joints size sigma"),
        ("actionzoo.losses.MultitaskAwareLoss", "lam action reduce"),
        ("actionzoo.losses.focal_loss", "logits targets gamma"),
        ("actionzoo.losses.joints_mse", "pred target weight"),
        ("actionzoo.metrics.pckh", "pred target visible head_size threshold"),
        ("actionzoo.data.figures.ActingFigures", "task split length size seed"),
        ("actionzoo.pipeline.pipeline", "model"),
        ("actionzoo.training.fit", "model data recipe output"),
        ("actionzoo.training.progressive_step", "model images targets optimizer backward"),
        ("actionzoo.training.Recipe", ""),
        ("actionzoo.metrics.mean_average_precision", "scores targets"),
        ("actionzoo.metrics.part_state_correctness", "ground_truth prediction"),
        ("actionzoo.metrics.part_state_roc", "ground_truth prediction"),
        ("actionzoo.profile.count_macs", "model inputs ops"),
        ("actionzoo.tracking.link_keypoints", "keypoints boxes method"),
        ("actionzoo.data.clips.read_clip", "path frames stride start"),
        ("actionzoo.layers.outermost_boxes", "boxes valid"),
        ("actionzoo.layers.ChannelBottleneck3D", "cin channels temporal"),
    ],
)
def test_promised_names_and_arguments(path, parameters):
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    names = list(inspect.signature(value).parameters)
    assert [parameter for parameter in names if parameter in parameters.split()] == parameters.split()


def test_promised_arguments_of_the_pooler():
    from actionzoo.layers import OutermostBoxPooler

    names = list(inspect.signature(OutermostBoxPooler.forward).parameters)
    assert names == ["self", "features", "boxes", "valid", "clip_index", "image_size"]


def test_promised_defaults():
    from actionzoo import layers, losses, metrics
    from actionzoo.data import figures

    def defaults(function):
        return {
            name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.default is not parameter.empty
        }

    assert defaults(layers.SerializedAttention) == {"dim": 1024, "tokens": 8, "heads": 8, "mlp_ratio": 1.0}
    assert defaults(layers.RegionFocusedGenerator) == {"kappa": 0.75, "center_offset": 0.5}
    assert defaults(layers.WeightedAttentionMixture) == {"mode": "mean"}
    assert defaults(layers.mixture_weights) == {"mode": "mean"}
    assert defaults(layers.decode_heatmaps) == {"quarter_shift": False}
    assert defaults(layers.encode_heatmaps) == {"sigma": 2.0}
    cropper, stream = defaults(layers.PartCropper), defaults(layers.AttentionImageStream)
    assert dict(layers.PartCropper().parts) == {"head": (9,), "right": (10,), "left": (15,)}
    assert cropper["out"] == 256
    assert (stream["joints"], tuple(stream["f_ch"]), stream["trunk"]) == (16, (32, 64, 128, 256), None)
    loss = defaults(losses.MultitaskAwareLoss)
    assert (loss["lam"], loss["action"], loss["reduce"]) == (0.00075, "focal", "batch")
    assert defaults(metrics.pckh) == {"threshold": 0.5}
    assert defaults(actionzoo.optimize_for_inference) == {"example": None, "dtype": None}
    assert defaults(figures.ActingFigures)["seed"] == 0


def test_recipes_are_recipes():
    from actionzoo.training import Recipe, recipes

    assert recipes
    assert all(isinstance(recipe, Recipe) for recipe in recipes.values())


def test_create_model_is_create():
    assert actionzoo.create_model is actionzoo.create


def test_the_package_is_typed():
    assert (ROOT / "py.typed").is_file()


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|(a|b|rc)\d+)?", actionzoo.__version__)
    try:
        installed = importlib.metadata.version("actionzoo")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed, it is imported from its source folder")
    assert installed == actionzoo.__version__
