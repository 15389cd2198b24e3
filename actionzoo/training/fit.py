"""One short training loop on Hugging Face accelerate, for every model of the library."""

import hashlib
import json
import math
import random
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from .._checkpoint import atomic_path
from ..data.folders import ActionSamples
from ..models._detectors import MapTrunk
from ..weights import HubMixin
from .recipes import Recipe
from .tasks import ImageTask, StepTools, Task

FACTS = ("tag", "data", "licence", "license", "limits", "url", "metrics", "command", "task_args")
"""What is said of weights that is not true of others, which go on from them."""


def fit(
    model: nn.Module,
    data: ActionSamples | Task,
    recipe: Recipe,
    output: str | Path,
    *,
    input_size: int | None = None,
    seed: int = 0,
    amp: str = "no",
    workers: int = 0,
    resume: bool = False,
    card: dict[str, Any] | None = None,
    progress: bool = True,
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Train a model and leave a folder that `create("local-dir:…")` loads.

    Labelled files train a classifier: a model with `forward_stage` by `progressive_step`, any other with plain
    cross-entropy. A `PeopleTask` trains pose and action of the people in pictures. The state is written after every
    epoch, and every epoch draws its random numbers from `(seed, epoch)` alone, so that a run that was stopped and
    resumed ends as it would have. The last epoch's weights are kept: `test` chooses nothing. Under
    `accelerate launch` or `torchrun` it runs on all their devices.

    Args:
        model: The network; `pretrained_cfg` gives its input size, mean and std.
        data: Labelled files or another task, with a `train` split; `val` is scored every epoch, `test` once at the
            end.
        recipe: Hyper-parameters.
        output: Folder to write: `state.pt`, `history.json`, then `model.safetensors`, `config.json`, `README.md`,
            `metrics.json` and the task's report: `pr.png`, `roc.png`, `confusion.png` and `scores.json` of a
            classifier, `pose.json` of a pose net.
        input_size: Side of the crops in pixels, in training and scoring; the model's own if None.
        seed: Seed of initial order, augmentation and dropout (not of the weights the model came with).
        amp: `"no"`, `"bf16"` or `"fp16"`: accelerate's mixed precision.
        workers: Processes that decode images.
        resume: Go on from `output/state.pt` where there is one.
        card: Facts for the model card: data, licence, command and the like.
        progress: Show a progress bar.
        stop_after: Stop (resumably) after this many epochs of the schedule.

    Returns:
        The metrics written to `metrics.json`, or those of the last epoch where the run was stopped early.

    Raises:
        ImportError: If the extra `train` or `eval` is not installed.
        ValueError: If there are fewer training images than a batch holds, if the model does not fit the data, such
            as one with another number of classes, or if a resumed run was begun with other data or settings.
        FileExistsError: If `output` holds another run and `resume` is False.
        FloatingPointError: If a loss is not finite.
    """
    task = ImageTask(data) if isinstance(data, ActionSamples) else data
    run = _Run(model, task, recipe, Path(output), input_size, seed, amp, workers, progress)
    start = run.restore() if resume else run.refuse_overwrite()
    run.output.mkdir(parents=True, exist_ok=True)
    for epoch in range(start, recipe.epochs):
        run.train_epoch(epoch)
        if stop_after is not None and epoch + 1 >= stop_after:
            return run.history[-1]
    return run.finish(card or {})


class _Run:
    """The state of one run: model, optimizer, schedule, data and history."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        recipe: Recipe,
        output: Path,
        input_size: int | None,
        seed: int,
        amp: str,
        workers: int,
        progress: bool,
    ) -> None:
        try:
            import matplotlib as matplotlib  # the report at the end needs it
            import tqdm as tqdm
            from accelerate import Accelerator, DistributedDataParallelKwargs
            from accelerate.state import AcceleratorState
        except ImportError as error:
            raise ImportError(f'training needs {error.name}: pip install "actionzoo[train,eval]"') from error
        task.check(model)
        task.prepare(model)
        # a partial pass uses a part of the parameters only
        handlers: list[Any] = [DistributedDataParallelKwargs(find_unused_parameters=hasattr(model, "forward_stage"))]
        if AcceleratorState._shared_state and AcceleratorState().mixed_precision != amp:
            # accelerate keeps its settings for the life of the process; a second run may want another precision
            AcceleratorState._reset_state()
        self.accelerator = Accelerator(mixed_precision=amp, kwargs_handlers=handlers)
        self.recipe, self.output, self.seed, self.progress = recipe, output, seed, progress
        self.task, self.workers = task, workers
        self.cfg: dict[str, Any] = cast(Any, model).pretrained_cfg
        if input_size is not None:
            size = (self.cfg["input_size"][0], input_size, input_size)
            # both, since the architecture may have a size for inference of its own
            self.cfg["input_size"] = self.cfg["test_input_size"] = size
        # what was known of the weights that the run starts from is not true of those it ends with
        for key in (*FACTS, "seed"):
            self.cfg.pop(key, None)
        task.configure(self.cfg, recipe)

        self.order = torch.Generator()
        dataset: Any = task.dataset("train", train=True)
        needed = recipe.batch_size * self.accelerator.num_processes
        if len(dataset) < needed:
            raise ValueError(f"{len(dataset)} training images do not fill one batch of {needed}; lower the batch size")
        loader = DataLoader(
            dataset,
            recipe.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            generator=self.order,
            collate_fn=task.collate,
            worker_init_fn=partial(_seed_worker, self.accelerator.process_index),
        )
        self.identity = {**identify(model, task, recipe, seed, amp), "processes": self.accelerator.num_processes}
        _channels_last(model)
        optimizer = _optimizer(model, recipe)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader)
        self.steps = len(self.loader)
        # of how many epochs so many iterations are, only the run knows
        warmup = recipe.warmup_epochs or recipe.warmup_iterations / self.steps
        self.schedule = recipe.override(warmup_epochs=warmup, warmup_iterations=0)
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.history: list[dict[str, Any]] = []
        self.tools = StepTools(self.model, self.optimizer, self.accelerator.backward, self._clip)

    @property
    def state_file(self) -> Path:
        return self.output / "state.pt"

    def refuse_overwrite(self) -> int:
        if self.state_file.exists():
            raise FileExistsError(f"{self.output} holds a run already; resume it (--resume) or choose another folder")
        return 0

    def restore(self) -> int:
        if not self.state_file.exists():
            return 0
        try:
            state = torch.load(self.state_file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes make the unpickler fail in any way
            raise RuntimeError(f"{self.state_file} is damaged ({error}); begin again in another folder") from error
        other = {key: value for key, value in self.identity.items() if state["identity"][key] != value}
        if other:
            said = ", ".join(f"{key} {state['identity'][key]}" for key in other)
            raise ValueError(f"{self.state_file} was written with {said}; resume with the same, not {other}")
        self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.history = json.loads(state["history"])
        return state["epoch"] + 1

    def _save(self, epoch: int) -> None:
        if not self.accelerator.is_main_process:
            return
        state = {
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": epoch,
            "identity": self.identity,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "history": json.dumps(self.history),
        }
        with atomic_path(self.state_file) as temporary:
            torch.save(state, temporary)
        _write_json(self.output / "history.json", self.history)

    def _clip(self) -> None:
        if self.recipe.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)

    def train_epoch(self, epoch: int) -> None:
        from tqdm import tqdm

        seed_everything(self.seed * 100_003 + epoch + self.accelerator.process_index * 7919)
        self.order.manual_seed(self.seed * 100_003 + epoch)
        if hasattr(self.loader, "set_epoch"):
            self.loader.set_epoch(epoch)
        self.model.train()
        began, sums = time.perf_counter(), None
        hidden = not (self.progress and self.accelerator.is_local_main_process)
        bar = tqdm(self.loader, f"epoch {epoch + 1}/{self.recipe.epochs}", self.steps, leave=False, disable=hidden)
        for i, batch in enumerate(bar):
            factor = learning_rate_factor(self.schedule, epoch + i / self.steps)
            for group, lr in zip(self.optimizer.param_groups, self.base_lrs):
                group["lr"] = lr * factor
            losses = self.task.step(self.tools, batch)
            sums = losses if sums is None else sums + losses
            # not every batch, since reading a loss waits for the device; at the end, before anything is saved
            if i % 10 == 0 or i == self.steps - 1:
                if not bool(torch.isfinite(sums).all()):
                    raise FloatingPointError(
                        f"loss {losses.tolist()} by epoch {epoch + 1}, batch {i + 1}; lower the learning rate"
                    )
                bar.set_postfix(loss=f"{losses[-1].item():.3f}")
        assert sums is not None, "the constructor checks that there is a batch"
        row: dict[str, Any] = {"epoch": epoch + 1, "losses": [round(v / self.steps, 5) for v in sums.tolist()]}
        row["train_seconds"] = round(time.perf_counter() - began, 1)
        if "val" in self.task.splits:
            # none where a split lacks what it is measured by, such as head sizes
            row[f"val_{self.task.headline}"] = self.score("val").get(self.task.headline)
        self.history.append(row)
        if not hidden:
            tqdm.write("  ".join(f"{key} {value}" for key, value in row.items()))
        self._save(epoch)
        self.accelerator.wait_for_everyone()

    def score(self, split: str, report: bool = False) -> dict[str, Any]:
        """Score a split on the main process, whose BatchNorm statistics are the ones saved, and tell the others."""
        found: list[dict[str, Any] | None] = [None]
        if self.accelerator.is_main_process:
            dataset = self.task.dataset(split, train=False)
            loader = DataLoader(dataset, self.recipe.batch_size, num_workers=self.workers, collate_fn=self.task.collate)
            # the report is in full precision, as the saved weights will be run
            network = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=not report)
            result = self.task.score(network, loader, self.accelerator.device, report and self.progress)
            if report:
                self.task.report(result, self.output)
            found[0] = result.metrics
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(found)
        return cast(dict[str, Any], found[0])

    def finish(self, card: dict[str, Any]) -> dict[str, Any]:
        used = {key: value for key, value in asdict(self.recipe).items() if key not in self.task.unused_fields}
        self.cfg.update({**card, "recipe": used, "seed": self.seed})
        if self.accelerator.is_main_process:
            # in full precision, as the saved weights will be run
            network = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
            self.task.complete(network, self.accelerator.device, self.progress)
        self._save_trained()  # before the report, whose failure should not cost the weights
        split = next(name for name in ("test", "val", "train") if name in self.task.splits)
        metrics = {"split": split, **self.score(split, report=True)}
        metrics["train_seconds"] = round(sum(row["train_seconds"] for row in self.history), 1)
        self.cfg["metrics"] = metrics
        self._save_trained()
        if self.accelerator.is_main_process:
            _write_json(self.output / "metrics.json", metrics)
        self.accelerator.wait_for_everyone()
        return metrics

    def _save_trained(self) -> None:
        if self.accelerator.is_main_process:
            cast(HubMixin, self.accelerator.unwrap_model(self.model)).save_pretrained(self.output)


def identify(model: nn.Module, task: Task, recipe: Recipe, seed: int, amp: str) -> dict[str, Any]:
    """What a resumed run must have in common with the one it goes on with; `task.configure` comes first."""
    cfg: dict[str, Any] = cast(Any, model).pretrained_cfg
    return {
        "recipe": repr(recipe),
        "seed": seed,
        "model": f"{cfg.get('architecture', type(model).__name__)} {cfg.get('model_args', {})!r}",
        "input size": repr(tuple(cfg["input_size"])),
        "classes": repr(list(task.classes)),
        "files": hashlib.sha256(task.identity().encode()).hexdigest(),
        "amp": amp,
    }


def learning_rate_factor(recipe: Recipe, epoch: float) -> float:
    """What the learning rate is multiplied by, `epoch` epochs into a run: warm-up, then cosine, steps or nothing."""
    progress, warmup = epoch / recipe.epochs, min(recipe.warmup_epochs / recipe.epochs, 0.5)
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    if recipe.milestones:
        return 0.1 ** sum(epoch >= milestone for milestone in recipe.milestones)
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators, which the augmentations draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _seed_worker(process: int, worker: int) -> None:
    """Seed a worker that decodes images; `worker` is the loader's number for it.

    The loader seeds its workers from the order that all processes share, so each adds its own. A plain function,
    since workers that are not forked receive it pickled.
    """
    seed_everything(torch.initial_seed() + 7919 * process)


def _channels_last(model: nn.Module) -> None:
    """Lay out convolutions of images and clips with their channels last: the same values, and faster on every device.

    Each by its own dimensions, as a network may have both and `.to(memory_format=…)` refuses one kind.
    """
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim in layouts:
            tensor.data = tensor.data.contiguous(memory_format=layouts[tensor.ndim])


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    skip = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()  # type: ignore[operator]
    # a detector's backbone goes on with a neck, which is as new as its head
    slow = "backbone.trunk." if isinstance(getattr(model, "backbone", None), MapTrunk) else "backbone."
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and name not in skip
            groups.setdefault((decays, name.startswith(slow)), []).append(parameter)
    params = [
        {
            "params": members,
            "weight_decay": recipe.weight_decay if decays else 0.0,
            "lr": recipe.lr * (recipe.backbone_lr_scale if backbone else 1.0),
        }
        for (decays, backbone), members in groups.items()
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(params, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)
    return (torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW)(params, lr=recipe.lr)


def _write_json(path: Path, value: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
