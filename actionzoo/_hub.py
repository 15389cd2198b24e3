"""Where weight files come from and go to: the Hugging Face hub, torchvision's server, local folders."""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ._checkpoint import atomic_path, describe, file_sha256, stored_tensors, to_json, tuples, write_checkpoint

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"

# What the hub accepts in a model card, as far as it concerns us.
PIPELINE_TAGS = {
    "image classification": "image-classification",
    "video classification": "video-classification",
    "object detection": "object-detection",
    "person detection": "object-detection",
    "per-person image classification": "image-classification",
    "per-person video classification": "video-classification",
    "pose and action recognition": "image-classification",
    "pose estimation": "keypoint-detection",
}
HUB_LICENCES = (
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl-3.0", "agpl-3.0",
)  # fmt: skip


def _unavailable(what: str, reason: object) -> RuntimeError:
    return RuntimeError(
        f"cannot get {what}: it is not in the local cache and could not be downloaded ({reason}). "
        "Connect once to fill the cache, point cache_dir= or HF_HUB_CACHE at a cache that holds it, "
        "or pass a file of your own as weights=PATH."
    )


def _folder(cache_dir: str | os.PathLike[str] | None) -> Path | None:
    return None if cache_dir is None else Path(cache_dir)


def fetch_from_hub(
    repo: str, filename: str, revision: str | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> Path:
    """Path of a hub file in the local cache, downloaded if need be.

    Raises:
        RuntimeError: if the file is neither cached nor to be had, saying what was wanted and what to do.
        ValueError: if `repo` is not a repository name.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import HFValidationError

    what = f"{filename} of hf-hub:{repo}{'@' + revision if revision else ''}"
    try:
        return Path(hf_hub_download(repo, filename, revision=revision, cache_dir=_folder(cache_dir)))
    except HFValidationError as error:
        raise ValueError(f"{repo!r} is not a hub repository; expected ORG/NAME ({error})") from error
    # The client raises its own errors and those of whichever HTTP library its version uses.
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "no reason given")
        raise _unavailable(what, f"{type(error).__name__}: {first}") from error


def fetch_from_torchvision(name: str, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Path of a torchvision weight file such as `ResNet18_Weights.IMAGENET1K_V1`, downloaded if need be.

    Raises:
        RuntimeError: if the file is neither cached nor to be had.
        ValueError: if torchvision has no weights of that name.
    """
    url, path = _torchvision_file(name, cache_dir)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=checksum_in_name(path), progress=False)
        except (OSError, RuntimeError) as error:
            raise _unavailable(f"{name} ({url})", error) from error
    return path


def _torchvision_file(name: str, cache_dir: str | os.PathLike[str] | None) -> tuple[str, Path]:
    from torchvision.models import get_weight

    url = cast(str, get_weight(name).url)
    folder = Path(cache_dir) if cache_dir is not None else Path(torch.hub.get_dir()) / "checkpoints"
    return url, folder / url.rsplit("/", 1)[-1]


def checksum_in_name(path: Path) -> str | None:
    """The sha256, or its first digits, that a cached file's own name carries.

    The hub's cache stores large files under their sha256; torchvision's names end in its first digits.
    """
    blob = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", blob):
        return blob
    match = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    return match[1] if match else None


def cached_file(
    source: str, location: str, filename: str, revision: str | None, cache_dir: str | os.PathLike[str] | None
) -> Path | None:
    """Path of a hub or torchvision file if it is cached; touches no network."""
    if source == "torchvision":
        path = _torchvision_file(location, cache_dir)[1]
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(location, filename, cache_dir=_folder(cache_dir), revision=revision)
    return Path(found) if isinstance(found, str) else None


def read_config(path: Path) -> dict[str, Any]:
    """The `config.json` of a model folder.

    Raises:
        RuntimeError: if it is missing, not JSON, or names no architecture.
    """
    try:
        config = tuples(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RuntimeError(f"cannot read the model configuration {path} ({error})") from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise RuntimeError(f"{path} names no 'architecture'; expected a folder that save_pretrained wrote")
    return config


def _config(model: nn.Module, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """`config.json`: what we know of the model, and the part of it that timm understands."""
    from dataclasses import fields

    from timm.models import PretrainedCfg

    about = describe(model, metadata)
    known = {field.name for field in fields(PretrainedCfg)}
    shared = {key: value for key, value in about.items() if key in known - {"architecture", "url"}}
    shared |= {"license": about.get("licence"), "label_names": about.get("classes")}
    shared = {key: value for key, value in shared.items() if value is not None}
    return {**about, "pretrained_cfg": shared, "library_name": "actionzoo"}


def model_card(config: Mapping[str, Any], repo: str) -> str:
    """The model card (README.md) of a saved model."""
    lines = ["---", "library_name: actionzoo", "tags: [actionzoo, action-recognition]"]
    if tag := PIPELINE_TAGS.get(str(config.get("task"))):
        lines.append(f"pipeline_tag: {tag}")
    if licence := str(config.get("licence") or ""):
        # The hub refuses a card with a licence that is not on its list.
        known = licence.lower() in HUB_LICENCES
        lines.append(f"license: {licence.lower()}" if known else "license: other")
        lines += [] if known else [f"license_name: {json.dumps(licence)}"]
    lines += ["---", f"# {config['architecture']}", ""]
    if config.get("paper"):
        lines += [f"Paper: {config['paper']}", ""]
    lines += ["```python", "import actionzoo", "", f'model = actionzoo.create("{repo}")', "```", ""]
    for key in ("data", "licence", "limits", "command", "seed", "num_classes", "in_chans", "version", "url"):
        if (value := config.get(key)) is not None:
            lines.append(f"- {key.replace('_', ' ')}: {f'`{value}`' if key == 'command' else value}")
    for key in ("metrics", "recipe"):
        if isinstance(value := config.get(key), Mapping):
            lines += ["", f"## {key.capitalize()}", "", f"| {key} | |", "|---|---|"]
            lines += [f"| {name} | {_cell(entry)} |" for name, entry in value.items()]
        elif value:
            lines.append(f"- {key}: {value}")
    if classes := config.get("classes"):
        lines += ["", "Classes: " + ", ".join(map(str, classes))]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(entry)}" for name, entry in value.items())
    return " to ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


class HubMixin:
    """Saves a model to a folder or a Hugging Face hub repository that `actionzoo.create` reads back.

    The constructor arguments come from `pretrained_cfg["model_args"]`, which `create` fills; a model that
    is built directly may keep them in a `model_args` dict of its own.
    """

    def save_pretrained(self, directory: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None) -> Path:
        """Write `model.safetensors`, a model card and `config.json` to `directory`, each atomically.

        Args:
            directory: made if it does not exist.
            metadata: further or corrected entries, such as `licence`, `data`, `metrics`, `recipe`, `classes`.

        Returns:
            The directory, for `create("local-dir:DIRECTORY")`.

        Raises:
            ValueError: if the model does not know its architecture's name (build it with `create`).
            TypeError: if a model argument cannot be written as JSON.
        """
        # The card may be published with the folder, so it names the folder without the way there.
        return self._save(directory, f"local-dir:{Path(directory).name}", metadata)

    def _save(self, directory: str | os.PathLike[str], reference: str, metadata: Mapping[str, Any] | None) -> Path:
        model = cast(nn.Module, self)
        config = _config(model, metadata)
        if not config.get("architecture"):
            raise ValueError(
                f"this {type(model).__name__} does not know the name it is registered under: build it with "
                'actionzoo.create, or set model.pretrained_cfg["architecture"]'
            )
        to_json(config)  # an entry that cannot be written fails before the first file is
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        weights = write_checkpoint(folder / WEIGHTS_NAME, stored_tensors(model), describe(model, metadata))
        config["weights_sha256"] = file_sha256(weights)
        # config.json goes last: it names the sha256 of the weights that must already be there.
        for name, text in (("README.md", model_card(config, reference)), (CONFIG_NAME, to_json(config, indent=2))):
            with atomic_path(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return folder

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool = False,
        commit_message: str = "Upload model with actionzoo",
        metadata: Mapping[str, Any] | None = None,
        token: str | bool | None = None,
    ) -> str:
        """Upload the model to the hub repository `repo_id` (ORG/NAME), which is made if it does not exist.

        Args:
            repo_id: the repository.
            revision: a branch to upload to, made if it does not exist; the main branch by default.
            private: whether a new repository is private.
            commit_message: the first line of the commit.
            metadata: as for `save_pretrained`.
            token: a hub token; by default the one that `huggingface-cli login` stored.

        Returns:
            The commit's hash, for `create("hf-hub:ORG/NAME@HASH")`.

        Raises:
            ValueError: as `save_pretrained`.
            huggingface_hub.errors.HfHubHTTPError: if the hub refuses.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self._save(folder, f"hf-hub:{repo_id}{'@' + revision if revision else ''}", metadata)
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
            )
        return commit.oid
