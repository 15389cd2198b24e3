"""A pose net that knows people from behind, for the study of pose dots."""

import json
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

import actionzoo
from actionzoo.data import ActingFigures
from actionzoo.data._figures.truth import mpii_joints
from actionzoo.data.people import PersonExample
from actionzoo.models import PoseHRNet
from actionzoo.training import PeopleSplit, PeopleTask, fit, recipes
from actionzoo.training.fit import seed_everything


class FramePeople(Dataset):
    """The people of clips of figures, one frame each, with MPII's joints."""

    def __init__(self, figures: ActingFigures) -> None:
        """Wrap clips of one person each."""
        self.figures = figures
        self.kept: dict[int, PersonExample] = {}

    def __len__(self) -> int:
        """Number of people."""
        return len(self.figures)

    def __getitem__(self, i: int) -> PersonExample:
        """Person `i` in a frame that is always the same."""
        if i not in self.kept:
            _, drawn = self.figures.draw(i, i * 7 % self.figures.frames)
            box, joints = (torch.from_numpy(x[0, 0]).float() for x in (drawn.boxes, mpii_joints(drawn)))
            self.kept[i] = PersonExample(drawn.frames[0], box, joints, -1, float(drawn.head_sizes[0, 0]))
        return self.kept[i]

    def __repr__(self) -> str:
        """What tells these people from others."""
        return f"FramePeople({self.figures!r})"


def turned_pose(start: str, output: Path, length: int, epochs: int) -> tuple[PoseHRNet, dict[str, Any]]:
    """Train a pose net on figures of whom half turn their back, or read the one that was; and its scores."""
    if not (output / "metrics.json").exists():
        seed_everything(0)
        model: Any = actionzoo.create(start)
        figures = {
            split: FramePeople(ActingFigures("parts_turned", split, count, 128, seed=1, frames=128))
            for split, count in (("train", length), ("test", 300))
        }
        task = PeopleTask({split: PeopleSplit(pose=[people]) for split, people in figures.items()}, (), "parts_turned")
        fit(model, task, recipes["people"].override(epochs=epochs, lr=1e-3), output, resume=True)
    pose: Any = actionzoo.create(f"local-dir:{output}")
    return pose, json.loads((output / "metrics.json").read_text(encoding="utf-8"))
