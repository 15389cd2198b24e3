"""The four stages of a part action parser: their tasks, their networks, and how these become one model."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from .._checkpoint import read_checkpoint
from ..data.part_videos import FigurePartVideos, PartVideos
from ..models import CSN, PCF, csn_state_dict
from ..models.segments import PART_GROUPS, SegmentLabeler
from ..registry import create
from ._segment_classes import kept_vocabulary, vocabulary_of
from .evaluate_parts import evaluate_parts
from .fit import FACTS, fit, identify
from .frame_people import FramePeopleTask
from .part_detection import PartDetectionTask
from .recipes import Recipe
from .segment_clips import SegmentTask
from .tasks import Task, local_device, write_metrics

PCF_STAGES = ("people", "parts", "video", "states")
"""The detector of people, that of body parts, the network of actions, the network or networks of part states."""

PLACES = {"people": "person_detector", "parts": "part_detector", "video": "video_net", "states": "part_nets"}
"""Where a stage's network stands in the model."""

SETTINGS = "settings.json"
"""File of what all stages have in common."""


class StageTrainer:
    """The networks and tasks of the stages."""

    def __init__(
        self,
        model: PCF,
        splits: dict[str, PartVideos],
        output: Path,
        name: str,
        stages: Sequence[str],
        given: Collection[str],
        seed: int,
        device: torch.device | str | None,
        progress: bool,
    ) -> None:
        self.model, self.splits, self.output, self.name = model, splits, output, name
        self.stages, self.given, self.seed = set(stages), set(given), seed
        self.device = local_device() if device is None else device
        self.progress = progress
        self.tasks: dict[str, dict[str, Any]] = {}
        self.nets: dict[str, dict[str, nn.Module]] = {}
        self.metrics: dict[str, Any] = {}
        self.recipes: dict[str, Any] = {}
        self.commands: list[str | None] = []
        self.keep_pose = False
        self.main = int(os.environ.get("RANK", "0")) == 0  # under torchrun, one of many writes

    def place_pose(self) -> None:
        """Take the pose net that an earlier call kept; one that is given has to be the same.

        Raises:
            ValueError: If it is another, or there is none and body parts are to be learned.
        """
        folder = self.output / "pose"
        if kept := (folder / "config.json").exists():
            pose: Any = create(f"local-dir:{folder}")
            if "pose" not in self.given:
                self.model.pose = pose
                self.given.add("pose")
            elif not _same(pose, self.model.pose):
                raise ValueError(
                    f"{folder} holds another pose net than the one that is given, and stages were trained with it; "
                    "give the same one or none, or choose another folder"
                )
        elif "parts" in self.stages and "pose" not in self.given:
            raise ValueError(
                "parts are looked for in people with pose dots, and the pose net is random; give a trained one, and "
                "name it among what is given"
            )
        self.keep_pose = "pose" in self.given and not kept

    def check_settings(self) -> None:
        """Refuse a parser of other settings than those with which an earlier call began.

        Raises:
            ValueError: If it is one.
        """
        if not (file := self.output / SETTINGS).exists():
            return
        own, kept = _settings(self.model), json.loads(file.read_text(encoding="utf-8"))
        if other := [name for name in own if own[name] != kept.get(name, own[name])]:
            said = ", ".join(f"{name} {kept[name]!r} and not {own[name]!r}" for name in other)
            raise ValueError(f"{self.output} was begun with {said}; give the same, or choose another folder")

    def keep(self) -> None:
        """Write down what later calls must have in common with this one: settings, and the pose net."""
        if not self.main:
            return
        if self.keep_pose:
            self.model.pose.save_pretrained(self.output / "pose")
        if not (self.output / SETTINGS).exists():
            write_metrics(self.output / SETTINGS, _settings(self.model))

    def describe_tasks(
        self, freeze_trunks: bool, frames: int, segments: int | None, train_size: int | None, cache: bool | None
    ) -> None:
        """Say what every stage learns, each network of it by its place below the stage's folder."""
        model, splits, bar = self.model, self.splits, {"progress": self.progress and self.main}
        if "people" in self.stages:
            people = FramePeopleTask(splits, self.name, frames_per_video=frames, freeze_trunk=freeze_trunks)
            self.tasks["people"] = {"": people}
        if "parts" in self.stages:
            model.pose.to(self.device)
            seen: dict[str, Any] = {"pose": model.pose, "dots": model.dots or False, "grower": model.grower}
            # kept in any case: joints are found once, and before there are workers
            rules: dict[str, Any] = {"frames_per_video": frames, "freeze_trunk": freeze_trunks, **bar}
            self.tasks["parts"] = {"": PartDetectionTask(splits, self.name, **seen, **rules)}
        if cache is None:
            cache = all(isinstance(videos, FigurePartVideos) for videos in splits.values())
        how: dict[str, Any] = {"seconds": model.seconds, "train_size": train_size, "cache": cache, **bar}
        videos = SegmentTask(splits, None, self.name, segments_per_video=segments, **how)
        if "states" in self.stages:
            # before the actions, which take over no vocabulary, but the frames in memory
            videos = videos.for_groups("all")
            groups = {"": videos} if model.shared else {group: videos.for_groups(group) for group in PART_GROUPS}
            self.tasks["states"] = groups
            assert videos.labeler is not None, "there are part groups"
            if model.labeler is None or model.labeler.to_dict() != videos.labeler.to_dict():
                model.set_vocabulary(videos.labeler)
        if "video" in self.stages:
            self.tasks["video"] = {"": videos.for_groups("action")}

    def build(self, pretrained: bool, csn_weights: Any) -> None:
        """Make a network for every task, on its own and not frozen as parts of the model are."""
        for stage in PCF_STAGES:
            if stage not in self.stages:
                continue
            part = getattr(self.model, PLACES[stage])
            parts = dict(part.items()) if isinstance(part, nn.ModuleDict) else {"": part}
            self.nets[stage] = {}
            for key, own in parts.items():
                csn = isinstance(own, CSN)
                weights = csn_weights if csn else None
                net = _like(own, PLACES[stage], pretrained and not csn, weights)
                self.tasks[stage][key].check(net)
                self.nets[stage][key] = net

    def run(self, stage: str, recipe: Recipe, options: dict[str, Any]) -> None:
        """Train a stage, or take it from its folder where it is finished, and put it into the model."""
        if stage in self.given:
            return
        metrics: dict[str, Any] = {}
        if stage in self.stages:
            for key, net in self.nets[stage].items():
                folder, task = self.output / stage / key, self.tasks[stage][key]
                if options["resume"] and (folder / "metrics.json").exists():
                    _check_finished(folder, net, task, recipe, self.seed, options["amp"])
                    self.nets[stage][key] = create(f"local-dir:{folder}")
                    metrics[key] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
                else:
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    metrics[key] = fit(net, task, recipe, folder, **options)
        else:
            keys = list(PART_GROUPS) if stage == "states" and not self.model.shared else [""]
            files = {key: self.output / stage / key / "metrics.json" for key in keys}
            if not all(file.exists() for file in files.values()):
                return
            self.nets[stage] = {key: create(f"local-dir:{file.parent}") for key, file in files.items()}
            metrics = {key: json.loads(file.read_text(encoding="utf-8")) for key, file in files.items()}
            self._take_vocabulary(stage)
        self.metrics[stage] = metrics.get("", metrics)
        first: Any = next(iter(self.nets[stage].values()))
        self.recipes[stage] = first.pretrained_cfg.get("recipe")
        self.commands.append(first.pretrained_cfg.get("command"))
        self._place(stage)

    def _take_vocabulary(self, stage: str) -> None:
        """Check that networks of an earlier call know the data's actions, and take over their part states."""
        cfgs: dict[str, Any] = {key: cast(Any, net).pretrained_cfg for key, net in self.nets[stage].items()}
        names = {key: list(cfg.get("classes") or ()) for key, cfg in cfgs.items()}
        if stage == "video" and names[""] != list(self.splits["train"].classes):
            raise ValueError(f"{self.output / stage} knows other actions than the data; train it again elsewhere")
        if stage == "states":
            vocabulary: dict[str, Any] = {}
            for key, cfg in cfgs.items():
                groups = [key] if key else list(PART_GROUPS)
                known = kept_vocabulary(cfg)
                labeler = vocabulary_of(names[key], groups) if known is None else known[0]
                vocabulary |= {group: labeler.to_dict()[group] for group in groups}
            self.model.set_vocabulary(SegmentLabeler(vocabulary))

    def _place(self, stage: str) -> None:
        nets, attribute = self.nets.pop(stage), PLACES[stage]
        device = next(getattr(self.model, attribute).parameters()).device
        for net in nets.values():
            net.to(device)
        setattr(self.model, attribute, nets[""] if "" in nets else nn.ModuleDict(nets))

    def finish(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """Save the whole and score it, if everything is there."""
        there = {*self.metrics, *self.given}
        if missing := [part for part in (*PCF_STAGES, "pose") if part not in there]:
            return {**self.metrics, "missing": missing}
        cfg: dict[str, Any] = self.model.pretrained_cfg
        for key in FACTS:
            cfg.pop(key, None)
        cfg.update({**card, "classes": list(self.splits["train"].classes), "recipe": self.recipes})
        if commands := [command for command in dict.fromkeys(self.commands) if command]:
            # that of an earlier call for a stage that it trained
            cfg["command"] = " && ".join(commands)
        if not self.main:
            return self.metrics
        # before it is scored, whose failure should not cost the weights
        self.model.save_pretrained(self.output)
        split = next(name for name in ("test", "val", "train") if name in self.splits)
        result = evaluate_parts(self.model, self.splits[split], device=self.device, progress=self.progress)
        metrics = {**self.metrics, "split": split, **result.metrics}
        cfg["metrics"] = metrics
        self.model.save_pretrained(self.output)
        write_metrics(self.output / "metrics.json", metrics)
        return metrics


def _settings(model: PCF) -> dict[str, Any]:
    """What is said of the whole and of no network of it, as JSON holds it."""
    names = ("threshold", "max_people", "every", "seconds", "clips", "video_clips", "crops", "coarse", "shared")
    grower = {name: getattr(model.grower, name) for name in ("threshold", "max_growth", "max_iters")}
    return {**{name: getattr(model, name) for name in names}, "dots": model.dots is not None, "grower_args": grower}


def _same(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks have the same tensors, wherever they are."""
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key].cpu(), other[key].cpu()) for key in one)


def _like(part: Any, name: str, pretrained: bool, csn_weights: Any) -> nn.Module:
    """A network of its own like a part of the model: with its weights, or with published ones."""
    cfg = getattr(part, "pretrained_cfg", {})
    if "architecture" not in cfg:
        raise ValueError(f"{name} was not built by actionzoo.create, so that no other like it can be trained; give it")
    args = dict(cfg.get("model_args", {}))
    if hasattr(part, "num_classes"):
        args["num_classes"] = part.num_classes
    start = csn_weights
    if start is not None:
        start = start if isinstance(start, Mapping) else read_checkpoint(start)[0]
        # files under others' names are the large pretraining that is fine-tuned so; ours are a run to go on with
        args["frozen_norm"] = csn_state_dict(start).keys() != start.keys()
    net = create(cfg["architecture"], pretrained, **args)
    if start is not None:
        cast(CSN, net).load_published(start)
    elif not pretrained:
        net.load_state_dict(part.state_dict())
    return net


def _check_finished(folder: Path, net: nn.Module, task: Task, recipe: Recipe, seed: int, amp: str) -> None:
    """Refuse a finished run of other data or with other settings; on how many processes it was does not matter now.

    Raises:
        ValueError: If it is one.
    """
    # the weights stay on disk
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True, mmap=True)
    task.configure(cast(Any, net).pretrained_cfg, recipe)
    wanted = identify(net, task, recipe, seed, amp)
    if other := [key for key, value in wanted.items() if state["identity"][key] != value]:
        raise ValueError(
            f"{folder} was trained with another {', another '.join(other)}; resume with the same, or choose another "
            "folder"
        )
