"""Checkpoint files: safetensors with one JSON object of metadata, read safely and written atomically."""

import hashlib
import json
import os
import pickle
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

METADATA_KEY = "actionzoo"

# What a checkpoint says about its model, taken from `model.pretrained_cfg`.
DESCRIBED = (
    "architecture", "tag", "task", "paper", "model_args", "num_classes", "in_chans", "classes",
    "input_size", "test_input_size", "mean", "std", "crop_pct", "test_crop_pct", "crop_mode", "interpolation",
    "classifier", "first_conv", "pool_size", "detector",
    "licence", "data", "limits", "metrics", "recipe", "task_args", "seed", "command", "url",
)  # fmt: skip


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` when the block ends without an error."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file, in lower-case hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tuples(value: Any) -> Any:
    """JSON knows only lists; model arguments and configs are tuples by convention, and hashable."""
    if isinstance(value, list | tuple):
        return tuple(tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return value


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of a safetensors file, from its header alone; `{}` if the file has none of ours.

    Raises:
        RuntimeError: if the file is missing, truncated or not safetensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
        metadata = tuples(json.loads(text)) if text else {}
    except (OSError, SafetensorError, ValueError) as error:
        raise RuntimeError(f"cannot read {path} as a safetensors file ({error}); is it truncated?") from error
    if not isinstance(metadata, dict):
        raise RuntimeError(f"the metadata of {path} under {METADATA_KEY!r} is not a JSON object")
    return metadata


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint file without running any code that it may hold.

    A file that ends in `.safetensors` is read as such; any other goes through
    `torch.load(weights_only=True)`, which refuses pickles of anything but tensors and plain containers.
    A pickle may wrap its tensors in `"state_dict"` or `"model"`, and its names in DDP's `module.`.

    Returns:
        The tensors by name, on the CPU, and the metadata (`{}` for files that carry none of ours).

    Raises:
        RuntimeError: if the file is missing, corrupt, refused as unsafe, or holds no tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        metadata = read_metadata(path)
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RuntimeError(
            f"refused to load {path}: it is corrupt, or a pickle that holds more than tensors and could run "
            "code. Save its state dict as safetensors where you trust it."
        ) from error
    except Exception as error:  # damaged bytes make the unpickler fail in any way
        raise RuntimeError(f"cannot read {path} as a PyTorch checkpoint ({error})") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise RuntimeError(f"{path} holds a {type(content).__name__}, expected a state dict of tensors")
    if wrong := [key for key, value in content.items() if not isinstance(value, Tensor)]:
        raise RuntimeError(f"{path} holds values that are not tensors: {', '.join(map(str, wrong[:10]))}")
    wrapped = all(key.startswith("module.") for key in content)
    return {key.removeprefix("module.") if wrapped else key: value for key, value in content.items()}, {}


def describe(model: nn.Module, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a file should say about `model`: its `pretrained_cfg`, as it is now, updated with `metadata`."""
    config = getattr(model, "pretrained_cfg", None) or {}
    out = {key: config[key] for key in DESCRIBED if config.get(key) is not None}
    if "model_args" not in out:
        out["model_args"] = dict(getattr(model, "model_args", None) or {})
    for key in ("num_classes", "in_chans"):
        if isinstance(value := getattr(model, key, None), int):
            out[key] = value
    # A re-headed model no longer scores the classes that it was loaded with.
    if "num_classes" in out and len(out.get("classes", ())) != out["num_classes"]:
        out.pop("classes", None)
    if names := tuple(getattr(model, "classifier_names", ())):
        out["classifiers"] = names
    out["version"] = getattr(sys.modules[__package__ or "actionzoo"], "__version__", "unknown")
    return {**out, **(metadata or {})}


def to_json(value: Mapping[str, Any], **options: Any) -> str:
    """`json.dumps` with an error that names the entry that cannot be stored."""
    try:
        return json.dumps(value, **options)
    except (TypeError, ValueError):
        flat = {**value, **{f"model_args[{k!r}]": v for k, v in dict(value.get("model_args", {})).items()}}
        for key, item in flat.items():
            if key == "model_args":
                continue
            try:
                json.dumps(item)
            except (TypeError, ValueError):
                raise TypeError(
                    f"{key} is a {type(item).__name__}, which JSON metadata cannot hold; "
                    "pass metadata={...} with a value that it can"
                ) from None
        raise


def stored_tensors(model: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Copies of a model's tensors on the CPU, as a file holds them.

    Tensors that share memory are copied once per name, so that every name is found when loading.

    Args:
        model: the model.
        dtype: cast floating tensors to this type.

    Raises:
        ValueError: if a cast tensor is not finite.
        TypeError: if the state dict holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{key} in the state dict is a {type(value).__name__}, not a tensor")
        tensor = value.detach().to("cpu", copy=True).contiguous()
        if dtype is not None and tensor.is_floating_point():
            cast = tensor.to(dtype)
            if not torch.isfinite(cast).all():
                raise ValueError(f"{key} is not finite as {dtype} (largest value {tensor.abs().max():.3g})")
            tensor = cast
        tensors[key] = tensor
    return tensors


def write_checkpoint(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
    """Write tensors and metadata to a safetensors file, atomically.

    Returns:
        The path written.

    Raises:
        TypeError: if an entry of the metadata cannot be written as JSON.
    """
    text = to_json(metadata)
    with atomic_path(path) as temporary:
        # save_file would leave a file that only its owner may read
        temporary.write_bytes(save(dict(tensors), metadata={METADATA_KEY: text, "format": "pt"}))
    return Path(path)
