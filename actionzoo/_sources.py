"""Published weights: what each set covers, where it comes from, and reading it with its checksum."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from ._checkpoint import file_sha256, read_checkpoint, read_metadata
from ._hub import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    cached_file,
    checksum_in_name,
    fetch_from_hub,
    fetch_from_torchvision,
    read_config,
)
from ._parts import PartFile, put_together

CHECKPOINTS = Path(__file__).parent / "checkpoints"
SHA256SUMS = "SHA256SUMS"

StateDict = Mapping[str, Tensor]

_RENAMED = (
    (re.compile(r"(fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)$"), r"\1.0.0.\2"),
)
"""Names in torchvision's detection files, and in its layers since version 0.13, which renames them as it loads."""

# Fields of `WeightsInfo` that a file may fill in.
DESCRIPTIVE = (
    "tag", "licence", "data", "classes", "num_classes", "in_chans", "model_args", "metrics", "recipe", "url",
)  # fmt: skip


@dataclass(frozen=True)
class WeightsInfo:
    """One published set of weights.

    Args:
        model: name of the model they belong to; `register_model` fills it in.
        tag: what tells them from other weights of the model; by default what follows the first dot in
            `location` (`tv_in1k` in `timm/resnet50.tv_in1k`).
        covers: `"model"` (every tensor) or `"backbone"` (every tensor under `prefix`, and no other).
        source: where `location` is to be looked up.
        location: file name (bundled), repository (hf-hub), path (file, local-dir) or the name of a
            torchvision weights entry (`ResNet18_Weights.IMAGENET1K_V1`).
        filename: name of the file inside a hub repository.
        prefix: put before the names of the file's tensors to get their names in the model.
        exclude: patterns of the file's tensors that the entry does not claim, such as `("fc.*",)`.
        revision: branch, tag or commit of a hub repository.
        sha256: checksum of the file, checked before it is read.
        licence: SPDX identifier of the weights' licence.
        data: what they were trained on.
        classes: class names in the order of the logits.
        num_classes: number of classes of the file's classifier.
        in_chans: number of input channels of the file's first convolution.
        model_args: constructor arguments that the weights need.
        metrics: scores, by name.
        recipe: the training recipe, its name or its fields.
        url: page or file they come from.
        config: whatever else the file says about its model, such as mean and std.
    """

    model: str = ""
    tag: str = ""
    covers: Literal["model", "backbone"] = "model"
    source: Literal["bundled", "hf-hub", "local-dir", "file", "state_dict", "torchvision"] = "bundled"
    location: str = ""
    filename: str = WEIGHTS_NAME
    prefix: str = ""
    exclude: tuple[str, ...] = ()
    revision: str | None = None
    sha256: str | None = None
    licence: str | None = None
    data: str | None = None
    classes: tuple[str, ...] = ()
    num_classes: int | None = None
    in_chans: int | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict, hash=False)
    metrics: Mapping[str, Any] = field(default_factory=dict, hash=False)
    recipe: str | Mapping[str, Any] | None = field(default=None, hash=False)
    url: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        if self.covers not in ("model", "backbone"):
            raise ValueError(f'covers={self.covers!r}: expected "model" or "backbone"')
        if not self.tag and self.source in ("hf-hub", "torchvision"):
            last = self.location.rsplit("/", 1)[-1]
            object.__setattr__(self, "tag", last.partition(".")[2].lower())

    @property
    def name(self) -> str:
        """`MODEL.TAG`, as `create` takes it."""
        return f"{self.model}.{self.tag}" if self.tag else self.model

    @property
    def path(self) -> Path | None:
        """The local file, for sources that are one."""
        if self.source == "bundled":
            return CHECKPOINTS / self.location
        return Path(self.location) if self.source == "file" else None

    def __str__(self) -> str:
        where = f"{self.source} {self.location}" if self.location else self.source
        return f"{self.name} ({where})" if self.name else where

    def described_by(self, metadata: Mapping[str, Any]) -> "WeightsInfo":
        """This entry with what a file says about itself wherever the entry says nothing."""
        said = {key: metadata[key] for key in DESCRIPTIVE if key in metadata and not getattr(self, key)}
        model = self.model or metadata.get("architecture", "")
        return replace(self, **said, model=model, config={**metadata, **self.config})


class Weights(NamedTuple):
    """Tensors that have been read, and what is known of them."""

    tensors: StateDict
    info: WeightsInfo
    pinned: str
    parts: tuple[str, ...] = ()
    """Names of the bundled weights that hold some of the tensors."""

    @property
    def origin(self) -> str:
        """Which weights these are and where they came from, in words."""
        return f"{self.info}, with {' and '.join(self.parts)}" if self.parts else str(self.info)


def bundled_checksums() -> dict[str, str]:
    """sha256 of the bundled files by name, as `checkpoints/SHA256SUMS` records them."""
    path = CHECKPOINTS / SHA256SUMS
    if not path.is_file():
        return {}
    rows = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {name.strip().lstrip("*"): digest.lower() for digest, name in rows}


def bundled_weights(pattern: str = "*") -> list[WeightsInfo]:
    """The weights that ship with the package as `checkpoints/MODEL.TAG.safetensors`.

    Only the headers are read. A damaged file is listed without its description, so that the others can be
    used; loading it raises, and `verify_weights` reports it.

    Args:
        pattern: shell-style pattern of `MODEL.TAG`.
    """
    checksums, found = bundled_checksums(), []
    for path in sorted(CHECKPOINTS.glob("*.safetensors")):
        if fnmatchcase(path.stem, pattern):
            model, _, tag = path.stem.partition(".")
            entry = WeightsInfo(model=model, tag=tag, location=path.name, sha256=checksums.get(path.name))
            try:
                found.append(entry.described_by(read_metadata(path)))
            except RuntimeError:
                found.append(entry)
    return found


_published: dict[str, tuple[WeightsInfo, ...]] = {}


def publish(model: str, entries: Iterable[WeightsInfo]) -> None:
    """Record weights of a model that are not bundled."""
    _published[model] = tuple(replace(entry, model=model) for entry in entries)


def withdraw(model: str) -> None:
    """Forget what `publish` recorded."""
    _published.pop(model, None)


def weights_of(model: str) -> list[WeightsInfo]:
    """All weights of one model, the bundled ones first."""
    return [*bundled_weights(f"{model}.*"), *_published.get(model, ())]


def verify_weights(pattern: str = "*", cache_dir: str | os.PathLike[str] | None = None) -> list[dict[str, str | None]]:
    """Hash the bundled files, and the cached files of the published weights, again; touches no network.

    Args:
        pattern: shell-style pattern of the weights' names `MODEL.TAG`.
        cache_dir: where downloads are cached; by default where huggingface_hub and torch.hub cache.

    Returns:
        One row per file: `name`, `source`, `path`, `sha256`, `expected` (the recorded checksum, else the
        one in the cached file's name, else None) and `status`: `"ok"`, `"mismatch"`, `"unrecorded"` (no
        checksum to compare with), `"missing"` (recorded as bundled, but absent) or `"not cached"`.
    """
    entries = [*bundled_weights(), *(entry for group in _published.values() for entry in group)]
    present = {entry.location for entry in entries if entry.source == "bundled"}
    for file, digest in bundled_checksums().items():
        if file not in present:
            model, _, tag = Path(file).stem.partition(".")
            entries.append(WeightsInfo(model=model, tag=tag, location=file, sha256=digest))
    return [_verify(entry, cache_dir) for entry in entries if fnmatchcase(entry.name, pattern)]


def _verify(entry: WeightsInfo, cache_dir: str | os.PathLike[str] | None) -> dict[str, str | None]:
    path = entry.path
    if path is None:
        path = cached_file(entry.source, entry.location, entry.filename, entry.revision, cache_dir)
    expected = entry.sha256.lower() if entry.sha256 else None
    found = None
    if path is None or not path.is_file():
        status = "missing" if entry.source == "bundled" else "not cached"
    else:
        found = file_sha256(path)
        expected = expected or (checksum_in_name(path) if entry.source != "bundled" else None)
        status = "unrecorded" if expected is None else "ok" if found.startswith(expected) else "mismatch"
    row = {"name": entry.name, "source": entry.source, "path": str(path) if path else None}
    return {**row, "sha256": found, "expected": expected, "status": status}


def bundled_part(name: str, sha256: str | None = None) -> PartFile:
    """The bundled weights of that name, whole, for a file that is completed with them.

    Args:
        name: `MODEL.TAG`.
        sha256: what their checksum must be; by default the one that is recorded of them, if any.

    Raises:
        RuntimeError: if there are none of that name, or they are others.
    """
    # Only what lies in the package's own folder is ever opened, whatever the name says.
    paths = {path.stem: path for path in sorted(CHECKPOINTS.glob("*.safetensors"))}
    if path := paths.get(name):
        found = file_sha256(path)
        if found == (sha256 or bundled_checksums().get(path.name, found)):
            return PartFile(_read_whole(path)[0], found)
        there = f"{path} is another file, with sha256 {found}"
    else:
        there = f"{CHECKPOINTS} holds {', '.join(paths) or 'none'}"
    raise RuntimeError(
        f"needs {name}{f' (sha256 {sha256})' if sha256 else ''}, looked for among the bundled weights: {there}. "
        "Install the version of actionzoo that bundles them, or have the weights saved without parts."
    )


def _read_whole(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], tuple[str, ...]]:
    """A checkpoint's tensors with those of its parts, its metadata, and the parts' names."""
    tensors, metadata = read_checkpoint(path)
    if not (recorded := metadata.get("parts", ())):
        return tensors, metadata, ()
    try:
        whole = put_together(tensors, recorded, bundled_part)
    except RuntimeError as error:
        raise RuntimeError(f"{path}: {error}") from error
    listed = recorded if isinstance(recorded, list | tuple) else (recorded,)
    return whole, metadata, tuple(dict.fromkeys(part["weights"] for part in listed))


def _checked(path: Path, info: WeightsInfo) -> str:
    """Check a file's sha256 against the entry's, and say what pins it."""
    said = [f"revision {info.revision}"] if info.revision else []
    if info.sha256:
        if (found := file_sha256(path)) != info.sha256.lower():
            raise RuntimeError(
                f"{path} is not the file that was published as {info}: its sha256 is {found}, "
                f"expected {info.sha256}. Delete it and fetch it again."
            )
        said.append("sha256 checked")
    return ", ".join(said) or "unpinned"


def open_weights(
    source: WeightsInfo | str | os.PathLike[str] | StateDict, cache_dir: str | os.PathLike[str] | None = None
) -> Weights:
    """Read weights into memory, downloading and checking them as their entry says.

    Args:
        source: an entry, the path of a checkpoint file, or a state dict.
        cache_dir: where downloads are cached; by default where huggingface_hub and torch.hub cache.

    Raises:
        RuntimeError: if the file cannot be had or read, or is not the one that was published.
        TypeError: if `source` is none of these.
    """
    if isinstance(source, Mapping):
        if wrong := [str(key) for key, value in source.items() if not isinstance(value, Tensor)]:
            raise TypeError(f"a state dict maps names to tensors; not tensors: {', '.join(wrong[:10])}")
        return Weights(source, WeightsInfo(source="state_dict"), "unpinned")
    if isinstance(source, str | os.PathLike):
        source = WeightsInfo(source="file", location=os.fspath(source))
    if not isinstance(source, WeightsInfo):
        raise TypeError(f"weights are a WeightsInfo, a path or a state dict; got {type(source).__name__}")
    if source.source == "local-dir" or (source.source == "hf-hub" and source.covers == "model"):
        return _open_folder(source, cache_dir)
    if source.source == "hf-hub":
        path = fetch_from_hub(source.location, source.filename, source.revision, cache_dir)
    elif source.source == "torchvision":
        path = fetch_from_torchvision(source.location, cache_dir)
    elif (path := source.path) is None:
        raise ValueError(f"{source} holds no tensors of its own; pass the state dict itself")
    pinned = _checked(path, source)
    tensors, metadata, parts = _read_whole(path)
    if source.source == "torchvision":
        for old, new in _RENAMED:
            tensors = {old.sub(new, key): value for key, value in tensors.items()}
    # A backbone file describes the network that it was cut from, not our model.
    return Weights(tensors, source.described_by(metadata) if source.covers == "model" else source, pinned, parts)


def _open_folder(info: WeightsInfo, cache_dir: str | os.PathLike[str] | None) -> Weights:
    """Read a folder or a hub repository of ours: `config.json` and `model.safetensors`."""
    if info.source == "hf-hub":
        config_path = fetch_from_hub(info.location, CONFIG_NAME, info.revision, cache_dir)
        # The weights come from the commit that the configuration came from, even if the branch moves on.
        path = fetch_from_hub(info.location, info.filename, config_path.parent.name, cache_dir)
    else:
        if not (folder := Path(info.location)).is_dir():
            raise RuntimeError(f"local-dir:{folder} is not a folder; expected one that save_pretrained wrote")
        config_path, path = folder / CONFIG_NAME, folder / info.filename
    config = read_config(config_path)
    if not path.is_file():
        raise RuntimeError(f"{path} is missing; save_pretrained writes it beside {CONFIG_NAME}")
    own_checksum = info.sha256
    info = replace(info, sha256=own_checksum or config.get("weights_sha256") or None)
    pinned = _checked(path, info)
    if info.source == "hf-hub" and not (info.revision or own_checksum):
        # The checksum came from the same moving branch: it guards against damage, and pins nothing.
        pinned = f"unpinned (commit {config_path.parent.name[:12]})"
    # What the repository says of itself names the weights better than the repository's own name.
    info = replace(info, tag=str(config.get("tag") or info.tag))
    tensors, _, parts = _read_whole(path)
    return Weights(tensors, info.described_by(config), pinned, parts)
