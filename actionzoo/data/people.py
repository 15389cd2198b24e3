"""People in pictures: what one example of pose and action training holds, and folders of action pictures as such."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor

from .folders import load_image


class PersonExample(NamedTuple):
    """One person in one picture, as annotated.

    Points count pixels from the centre of the first one, which is (0, 0), as annotation files do. Boxes count from
    its outer corner: (0, 0, W, H) is the whole picture.
    """

    image: Image.Image
    """RGB picture that the person stands in."""
    box: Tensor
    """`(4,)` float xyxy, half-open, in pixels."""
    joints: Tensor
    """`(J, 3)` float x, y in pixels and COCO's flag: 0 not annotated, 1 hidden, 2 visible. All -1: no pose known."""
    label: int | Tensor
    """Class index, -1 if unknown; of a multi-label set `(K,)` float 0 or 1, with -1 where unknown."""
    head_size: float = math.nan
    """PCKh's reference length in pixels, NaN if unknown."""


class PeopleSource(Protocol):
    """Anything with a length whose items are `PersonExample`s."""

    def __len__(self) -> int:
        """Number of people."""
        ...

    def __getitem__(self, index: int, /) -> PersonExample:
        """Person `index`."""
        ...


class FolderPeople:
    """Labelled action pictures as people whose pose nobody annotated, such as Stanford 40 Actions."""

    def __init__(
        self,
        items: Sequence[tuple[Path, int]],
        num_joints: int = 16,
        boxes: Mapping[Path, Tensor] | Mapping[str, Tensor] | None = None,
    ) -> None:
        """Wrap a split.

        Args:
            items: Files and class indices, as `ActionSamples.items[split]` holds them.
            num_joints: J, the joints of the pose sets that this one is to be mixed with.
            boxes: Person box of a file, `(4,)` xyxy half-open in pixels of the upright picture. The keys are the
                paths of `items`, all as `Path` or all as `str`. A picture without an entry counts whole.

        Raises:
            ValueError: If `num_joints` is below 1, a box has the wrong shape or no area, or no picture of `items`
                has an entry in `boxes`.
        """
        if num_joints < 1:
            raise ValueError(f"a person has at least one joint, got num_joints={num_joints}")
        self.items = list(items)
        self.num_joints = num_joints
        known = {str(path): torch.as_tensor(box, dtype=torch.float32) for path, box in (boxes or {}).items()}
        self.boxes = {str(path): known[str(path)] for path, _ in self.items if str(path) in known}
        if known and self.items and not self.boxes:
            raise ValueError(
                f"no picture has a box: pictures are named like {str(self.items[0][0])!r}, boxes like "
                f"{next(iter(known))!r}; key the boxes by the pictures' paths"
            )
        for path, box in self.boxes.items():
            check_box(box, path)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.items)

    def __getitem__(self, index: int) -> PersonExample:
        """Decode picture `index`.

        Raises:
            RuntimeError: If the file cannot be decoded; the message names it.
        """
        path, label = self.items[index]
        image = load_image(path)
        box = self.boxes.get(str(path))
        if box is None:
            box = torch.tensor([0.0, 0.0, image.width, image.height])
        return PersonExample(image, box, torch.full((self.num_joints, 3), -1.0), label)


def check_box(box: Tensor, owner: object) -> None:
    """Refuse what is not one finite xyxy box `(4,)` with an area.

    Raises:
        ValueError: Naming `owner`, whose box it is.
    """
    if box.shape != (4,):
        raise ValueError(f"a person's box has shape (4,), xyxy; that of {owner} has {tuple(box.shape)}")
    x1, y1, x2, y2 = box.tolist()
    if not (math.isfinite(x1 + y1 + x2 + y2) and x2 > x1 and y2 > y1):
        raise ValueError(f"the box of {owner} has no area: {[x1, y1, x2, y2]}; expected x1, y1, x2, y2 in pixels")
