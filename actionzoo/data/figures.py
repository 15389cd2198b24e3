"""Acting figures: a seeded generator of people who act, in images and clips, with full truth.

Figures are drawn from a jointed body in space, so that every joint, box, part state and track is known exactly. They
are free of any licence question, always the same for a seed, and fast enough to train on without being stored.
"""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ._figures.body import turn
from ._figures.drawing import draw_scene, geometry
from ._figures.limbs import PARTS as PARTS
from ._figures.scenes import TASKS, Scene, make_scene
from ._figures.states import PART_STATES as PART_STATES
from ._figures.states import part_group as part_group
from ._figures.states import part_states
from ._figures.truth import Drawn, coco_keypoints, limb_boxes, mpii_joints
from .folders import SPLITS
from .people import PersonExample

__all__ = ["PARTS", "PART_STATES", "ActingFigures", "FigurePeople", "collate_figures", "part_group"]


class ActingFigures(Dataset):
    """A map-style data set of generated images or clips and everything that is true of them.

    Tasks, each made for one idea of the papers:

    - `"fine_grained"`: one person; the pose is the same and a small prop at the mouth or in a hand decides
      (drinking or touching the face, playing a flute or holding it).
    - `"pose"`: one person in ten kinds of pose.
    - `"motion"`: clips of one or two people that a single frame of unknown time cannot tell apart (raise or lower,
      wave or hold, walk towards each other or apart, walk through the picture to the left or to the right).
    - `"crowd"`: clips of two to four people, each doing something else, whose ways cross.
    - `"parts"`: clips in which the states of body parts change from segment to segment.
    - `"parts_turned"`: the same, but half of the people turn their back, so that where a limb is does not tell whether
      it is the left or the right one.
    """

    def __init__(
        self, task: str, split: str = "train", length: int = 1000, size: int = 128, seed: int = 0, *, frames: int = 16
    ) -> None:
        """Describe a data set; nothing is drawn yet.

        Args:
            task: One of the tasks above.
            split: `"train"`, `"val"` or `"test"`: different figures under the same seed.
            length: Number of items.
            size: Side of the pictures in pixels; a scene is the same at every size.
            seed: Seed; item `i` depends on task, split, seed, `i` and, for clips, `frames`.
            frames: Frames T of a clip; tasks of still images take no notice of it.

        Raises:
            ValueError: If the task or split is unknown, or a number is not whole or too small.
        """
        if task not in TASKS:
            raise ValueError(f"unknown task {task!r}; there are {', '.join(TASKS)}")
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)}")
        # below 24 pixels the clutter's lines cannot be told apart, and a scene would not be that of other sizes
        for name, value, least in (("length", length, 0), ("size", size, 24), ("seed", seed, 0), ("frames", frames, 1)):
            if not isinstance(value, numbers.Integral) or value < least:
                raise ValueError(f"{name} is a whole number of at least {least}, got {value!r}")
        self.task, self.split, self.length, self.size, self.seed = task, split, length, size, seed
        self.frames = frames if TASKS[task].clip else 1
        self.classes = TASKS[task].classes
        self.is_clip = TASKS[task].clip

    def __len__(self) -> int:
        """Number of items."""
        return self.length

    def __repr__(self) -> str:
        """What was asked for."""
        return (
            f"ActingFigures({self.task!r}, {self.split!r}, length={self.length}, size={self.size}, seed={self.seed}"
            + (f", frames={self.frames})" if self.is_clip else ")")
        )

    def label(self, i: int) -> int:
        """Class that item `i` is made for, without drawing it; the classes take turns.

        Raises:
            IndexError: If there is no item `i`.
        """
        return self._number(i) % len(self.classes)

    def _number(self, i: int) -> int:
        if not -self.length <= i < self.length:
            raise IndexError(f"{self!r} has no item {i}")
        return i % self.length

    def draw(self, i: int, frame: int | None = None) -> tuple[Scene, Drawn]:
        """Scene `i` and its pictures as Pillow images, with the truth as arrays.

        Args:
            i: Number of the item.
            frame: Draw this frame of a clip alone, before another background and with other noise than in the clip.

        Raises:
            IndexError: If there is no item `i`, or no such frame.
        """
        scene, rng = self._scene(i)
        if frame is not None:
            if not 0 <= frame < self.frames:
                raise IndexError(f"{self!r} has no frame {frame}")
            scene = scene.only(frame)
        return scene, draw_scene(scene, self.size, rng)

    def _scene(self, i: int) -> tuple[Scene, np.random.Generator]:
        i = self._number(i)
        entropy = [self.seed, list(TASKS).index(self.task), SPLITS.index(self.split), i]
        rng = np.random.default_rng(entropy)
        return make_scene(self.task, self.label(i), rng, self.frames), rng

    def people(self, i: int, frame: int = 0) -> tuple[Image.Image, Tensor, Tensor]:
        """One frame of item `i`, drawn alone, and the people in it.

        Returns:
            The picture, `(P, 4)` boxes and `(P, 17, 3)` keypoints as `[]` gives them.

        Raises:
            IndexError: If there is no item `i`, or no such frame.
        """
        _, drawn = self.draw(i, frame)
        boxes, points = (torch.from_numpy(x[:, 0]).float() for x in (drawn.boxes, coco_keypoints(drawn)))
        return drawn.frames[0], boxes, points

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Any]]:
        """Image or clip `i` and its truth, P people.

        Returns:
            The image `(3, H, W)` or clip `(3, T, H, W)`, uint8, and a dictionary in torchvision's manner. For an
            image: `labels (P,)`; `boxes (P, 4)` xyxy in pixels, half-open, clipped to the picture;
            `joints (P, 16, 3)` in MPII's order and `keypoints (P, 17, 3)` in COCO's, each x, y and 2 for visible,
            1 for hidden, 0 for outside (then all 0); `part_boxes (P, 10, 4)` in the order of `PARTS`, all 0 where
            outside; `part_states (P, 10)`, indices into `PART_STATES` of the part's group; `head_sizes (P,)`, the
            length of the head segment (neck to top of the head) in pixels, for PCKh; `label`, the class that the item
            is made for, and `focus`, the index of the person who does it. People come in the order in which they are
            drawn, the farthest first; in `crowd` each does something else and `focus` may be any of them, elsewhere
            all do `label` and it is 0. For a clip every entry but `labels`, `label` and `focus` has a frame axis
            after P, and `track_ids (P,)` names the people.

        Raises:
            IndexError: If there is no item `i`.
        """
        scene, drawn = self.draw(i)
        pixels = _pixels(drawn)
        truth = {
            "boxes": drawn.boxes,
            "joints": mpii_joints(drawn),
            "keypoints": coco_keypoints(drawn),
            "part_boxes": drawn.part_boxes,
            "head_sizes": drawn.head_sizes,
        }
        target: dict[str, Any] = {name: torch.from_numpy(array).float() for name, array in truth.items()}
        target["part_states"] = _states(scene, drawn.space)
        if not self.is_clip:
            pixels, target = pixels[:, 0], {name: value[:, 0] for name, value in target.items()}
        else:
            target["track_ids"] = torch.arange(len(scene.actors))
        labels, label = [actor.label for actor in scene.actors], self.label(i)
        target["labels"] = torch.tensor(labels)
        target["label"], target["focus"] = label, labels.index(label)
        return pixels.contiguous(), target

    def describe(self, i: int) -> dict[str, Any]:
        """What is true of clip `i` as far as it is known without drawing, which takes a fiftieth of the time.

        Returns:
            `boxes`, `part_boxes` and `part_states` as `[]` gives them with a clip, and `label`.

        Raises:
            IndexError: If there is no item `i`.
        """
        scene, _ = self._scene(i)
        space, _, _, outlines = geometry(scene, self.size)
        boxes, part_boxes = (torch.from_numpy(array).float() for array in limb_boxes(outlines, self.size))
        states = _states(scene, space)
        return {"boxes": boxes, "part_boxes": part_boxes, "part_states": states, "label": self.label(i)}

    def read(self, i: int, frames: Sequence[int]) -> Tensor:
        """Some frames of clip `i`.

        The people, the background and the camera are those of the clip; the noise is not, so that a frame looks the
        same whichever others are asked for.

        Args:
            i: Number of the item.
            frames: Numbers of the frames, in any order.

        Returns:
            `(3, n, H, W)` uint8.

        Raises:
            IndexError: If there is no item `i`, or no such frame.
        """
        if wrong := [frame for frame in frames if not 0 <= frame < self.frames]:
            raise IndexError(f"{self!r} has no frame {wrong[0]}")
        # what is asked for twice is drawn once
        order = sorted(set(frames))
        scene, rng = self._scene(i)
        if not order:
            return torch.zeros(3, 0, self.size, self.size, dtype=torch.uint8)
        return _pixels(draw_scene(scene, self.size, rng, order))[:, [order.index(frame) for frame in frames]]


def _pixels(drawn: Drawn) -> Tensor:
    """`(3, T, H, W)` uint8."""
    return torch.from_numpy(np.stack([np.asarray(frame) for frame in drawn.frames])).permute(3, 0, 1, 2)


def _states(scene: Scene, space: np.ndarray) -> Tensor:
    """`(P, T, 10)` states of the parts of the bodies at `(P, T, 26, 3)`."""
    # what a body does is not changed by a camera that looks down on it
    uprights = turn(space, np.asarray(-scene.pitch), (1, 2))
    held = [tuple(hand for prop in actor.props for hand in prop.hands) for actor in scene.actors]
    return torch.from_numpy(np.stack([part_states(body, hands) for body, hands in zip(uprights, held)]))


def collate_figures(items: Sequence[tuple[Tensor, dict[str, Any]]]) -> tuple[Tensor, list[dict[str, Any]]]:
    """A batch of figures, for a loader's `collate_fn`: people differ in number, so the truth stays a list.

    Args:
        items: As `ActingFigures` gives them.

    Returns:
        Images `(B, 3, H, W)` or clips `(B, 3, T, H, W)`, uint8, and the B dictionaries.
    """
    return torch.stack([pixels for pixels, _ in items]), [target for _, target in items]


class FigurePeople(Dataset):
    """The people of still figures one by one, as `PersonImages` and the training loop take them."""

    def __init__(
        self,
        figures: ActingFigures,
        *,
        layout: str = "mpii",
        pose: bool = True,
        action: bool = True,
        cache: bool = False,
    ) -> None:
        """Wrap figures of a task with one person per image.

        Args:
            figures: An image task.
            layout: Order of the joints: `"mpii"` (16) or `"coco"` (17).
            pose: Whether the joints are given; without, the set is one with action labels only.
            action: Whether the labels are given.
            cache: Keep the pictures once they are drawn, in memory, `3 * size ** 2` bytes each: 660 MB for 6,000 of 192
                pixels. Every worker process keeps its own for as long as it lives, which is an epoch unless the
                loader has `persistent_workers`.

        Raises:
            ValueError: If the task shows clips, or the layout is unknown.
        """
        if figures.is_clip:
            raise ValueError(
                f"the task {figures.task!r} shows clips; a person is cut out of images: fine_grained, pose"
            )
        if layout not in ("mpii", "coco"):
            raise ValueError(f"layout is 'mpii' or 'coco', got {layout!r}")
        self.figures, self.layout, self.pose, self.action = figures, layout, pose, action
        self._kept: dict[int, PersonExample] | None = {} if cache else None

    def __len__(self) -> int:
        """Number of people."""
        return len(self.figures)

    def _example(self, i: int) -> PersonExample:
        _, drawn = self.figures.draw(i)
        joints = mpii_joints(drawn) if self.layout == "mpii" else coco_keypoints(drawn)
        return PersonExample(
            image=drawn.frames[0],
            box=torch.from_numpy(drawn.boxes[0, 0]).float(),
            joints=torch.from_numpy(joints[0, 0]).float() if self.pose else torch.full(joints.shape[2:], -1.0),
            label=self.figures.label(i) if self.action else -1,
            head_size=float(drawn.head_sizes[0, 0]),
        )

    def __getitem__(self, i: int) -> PersonExample:
        """Person `i`: picture, box, joints and label.

        Raises:
            IndexError: If there is no such person.
        """
        if self._kept is None:
            return self._example(i)
        if i not in self._kept:
            self._kept[i] = self._example(i)
        return self._kept[i]

    def __repr__(self) -> str:
        """What tells these people from others."""
        return f"FigurePeople({self.figures!r}, layout={self.layout!r}, pose={self.pose}, action={self.action})"

    def __getstate__(self) -> dict[str, Any]:
        """Without the pictures kept so far, which would have to travel to every worker."""
        return {**self.__dict__, "_kept": None if self._kept is None else {}}
