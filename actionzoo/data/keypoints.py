"""Readers of keypoint annotations: COCO's files and HRNet's JSON form of MPII."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .people import PersonExample, check_box

# For every MPII joint the COCO joints whose mean it is; COCO annotates neither the upper neck nor the top of the head.
MPII_FROM_COCO = (
    (16,), (14,), (12,), (11,), (13,), (15,), (11, 12), (5, 6), (), (), (10,), (8,), (6,), (5,), (7,), (9,),
)  # fmt: skip


@dataclass(frozen=True)
class KeypointPeople:
    """People of an annotation file: a source of `PersonExample`s, N of them.

    Pictures are decoded as they are stored, whatever their EXIF orientation says: annotations count stored pixels.
    For another kind of label use `dataclasses.replace(people, labels=...)`.
    """

    paths: Sequence[Path]
    """N files, one for each person."""
    boxes: Tensor
    """`(N, 4)` float xyxy, half-open, in pixels."""
    joints: Tensor
    """`(N, J, 3)` float x, y in pixels and the flag, as `PersonExample` has them."""
    labels: Tensor
    """`(N,)` integer class indices, -1 if unknown, or `(N, K)` float 0, 1, or -1 where unknown."""
    head_sizes: Tensor
    """`(N,)` float in pixels, NaN if unknown."""
    ids: Sequence[int]
    """The annotation that each person comes from: COCO's id, or the position in MPII's list."""

    def __post_init__(self) -> None:
        """Check that everything is there for every person.

        Raises:
            ValueError: If lengths or shapes do not agree, or a box has no area.
        """
        count = len(self.paths)
        lengths = {name: len(getattr(self, name)) for name in ("boxes", "joints", "labels", "head_sizes", "ids")}
        if any(length != count for length in lengths.values()):
            raise ValueError(f"every person needs one of each; {count} paths, {lengths}")
        if self.joints.ndim != 3 or self.joints.shape[-1] != 3:
            raise ValueError(f"joints have shape (N, J, 3), got {tuple(self.joints.shape)}")
        if self.labels.ndim not in (1, 2):
            raise ValueError(f"labels have shape (N,) or (N, K), got {tuple(self.labels.shape)}")
        for box, path, i in zip(self.boxes, self.paths, self.ids):
            check_box(box, f"annotation {i} ({path.name})")

    def __len__(self) -> int:
        """Number of people."""
        return len(self.paths)

    def __getitem__(self, index: int) -> PersonExample:
        """Decode the picture of person `index`.

        Raises:
            RuntimeError: If the file cannot be decoded; the message names it.
        """
        image = _load_stored(self.paths[index])
        label = self.labels[index]
        return PersonExample(
            image,
            self.boxes[index],
            self.joints[index],
            label if label.ndim else int(label),
            float(self.head_sizes[index]),
        )


def _load_stored(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RuntimeError(f"{path} cannot be read as a picture: {error}") from error


def read_coco_keypoints(annotations: str | Path, images: str | Path, *, layout: str | None = "coco") -> KeypointPeople:
    """Read people from a file in COCO's keypoint format, such as `person_keypoints_train2017.json`.

    Crowds (`iscrowd`) and people without any annotated joint (`num_keypoints` 0) are left out. COCO counts points
    from the first pixel's centre and boxes from the picture's corner, as `PersonExample` does; `x, y, width, height`
    becomes xyxy. Class labels are -1 and head sizes NaN: these files have neither.

    Args:
        annotations: The JSON file.
        images: The folder that its `file_name`s lie in.
        layout: `"coco"`, COCO's 17 joints; `"mpii"`, MPII's 16 made of them: pelvis and thorax are the means of hips
            and shoulders where both are annotated, upper neck and head top are not annotated; None, whatever joints
            the file has.

    Raises:
        FileNotFoundError: If the file, the folder or a picture is not there.
        ValueError: If the layout is unknown, the file is no such JSON, a person has a wrong number of joints or a
            box of no area, or nobody is left.
    """
    if layout not in ("coco", "mpii", None):
        raise ValueError(f"layout is 'coco', 'mpii' or None, got {layout!r}")
    data = _read_json(annotations)
    try:
        files = {image["id"]: image["file_name"] for image in data["images"]}
        people = [a for a in data["annotations"] if not a.get("iscrowd") and any(v > 0 for v in a["keypoints"][2::3])]
        names = [files[a["image_id"]] for a in people]
        flat = [a["keypoints"] for a in people]
        boxes = torch.tensor([a["bbox"] for a in people], dtype=torch.float32).reshape(-1, 4)
        ids = [a["id"] for a in people]
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{annotations} is not a COCO keypoint file ({error!r}); expected images with id and file_name, and "
            "annotations with id, image_id, bbox and keypoints"
        ) from error
    if not people:
        raise ValueError(f"{annotations} has nobody with an annotated joint; is it a keypoint file?")
    count = len(flat[0]) // 3 if layout is None else 17
    for i, values in zip(ids, flat):
        if len(values) != 3 * count:
            raise ValueError(
                f"annotation {i} of {annotations} has {len(values) / 3:g} joints, expected {count}; "
                "give layout=None for joints other than COCO's"
            )
    joints = torch.tensor(flat, dtype=torch.float32).reshape(-1, count, 3)
    if layout == "mpii":
        joints = _coco_to_mpii(joints)
    boxes[:, 2:] += boxes[:, :2]
    paths = _find(names, images)
    return KeypointPeople(paths, boxes, joints, *_unlabelled(len(ids)), ids)


def _coco_to_mpii(joints: Tensor) -> Tensor:
    """`(N, 17, 3)` -> `(N, 16, 3)`; a joint is annotated where all those that it is made of are."""
    made = [
        torch.cat([joints[:, parts, :2].mean(1), joints[:, parts, 2:].amin(1)], 1)
        if parts
        else joints.new_zeros(len(joints), 3)
        for parts in MPII_FROM_COCO
    ]
    result = torch.stack(made, 1)
    return torch.where(result[..., 2:] > 0, result, 0.0)


def read_mpii(annotations: str | Path, images: str | Path) -> KeypointPeople:
    """Read people from HRNet's JSON form of MPII (`train.json`, `valid.json`; `test.json` has no joints).

    Every record has `image`, `center`, `scale` and, but for the test set, 16 `joints` with `joints_vis`. The numbers
    become ours as in HRNet's code:

    - MPII counts from 1, so joints lose 1. A joint with `joints_vis` 0 was not annotated (it reads 0, 0, 0); MPII's
      training files do not tell hidden joints from visible ones, so that the others have flag 2.
    - A person is `200 * scale` pixels tall and `center` is the middle of the body. HRNet moves the centre down by
      `15 * scale` pixels, so that feet are not cut off, and widens the window by 1.25. The box here is the square
      of `200 * scale` about the moved centre; the 1.25 is the default padding of `crop_matrix`.
    - PCKh measures errors in `0.6 *` the diagonal of the head rectangle, which these files lack. MPII made the upper
      neck and the head top from it: the segment between them is 0.8 of its diagonal. The head size is therefore
      `0.75 *` that segment, NaN where one of both is not annotated.

    Args:
        annotations: The JSON file.
        images: The folder of the pictures.

    Returns:
        Everyone in the file, in its order. Class labels are -1; without joints, joints are -1 and head sizes NaN.

    Raises:
        FileNotFoundError: If the file, the folder or a picture is not there.
        ValueError: If the file is no such JSON, is empty, a person has other than 16 joints, or a box of no area.
    """
    data = _read_json(annotations)
    try:
        names = [record["image"] for record in data]
        centers = torch.tensor([record["center"] for record in data], dtype=torch.float64).reshape(-1, 2)
        scales = torch.tensor([[record["scale"]] for record in data], dtype=torch.float64)
        joints = torch.stack([_mpii_joints(record, i) for i, record in enumerate(data)])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{annotations} is not HRNet's form of MPII ({error!r}); expected a list of objects with image, center, "
            "scale, joints and joints_vis"
        ) from error
    # 1 less, as MPII counts from 1, and half more, as a box counts from the picture's corner
    middle = centers - 0.5 + torch.cat([torch.zeros_like(scales), 15 * scales], 1)
    boxes = torch.cat([middle - 100 * scales, middle + 100 * scales], 1).float()
    neck, top = joints[:, 8], joints[:, 9]
    segment = (neck[:, :2] - top[:, :2]).norm(dim=1)
    labels, unknown = _unlabelled(len(data))
    head_sizes = torch.where((neck[:, 2] > 0) & (top[:, 2] > 0), 0.75 * segment, unknown)
    return KeypointPeople(_find(names, images), boxes, joints, labels, head_sizes, range(len(data)))


def _mpii_joints(record: dict[str, Any], index: int) -> Tensor:
    """`(16, 3)` float joints of one record."""
    if "joints" not in record:
        return torch.full((16, 3), -1.0)
    xy, flags = torch.tensor(record["joints"]).float(), torch.tensor(record["joints_vis"]).float()
    if xy.shape != (16, 2) or flags.shape != (16,):
        raise ValueError(
            f"record {index} ({record['image']}) has joints {tuple(xy.shape)} and joints_vis {tuple(flags.shape)}, "
            "expected MPII's (16, 2) and (16,)"
        )
    return torch.where(flags[:, None] > 0, torch.cat([xy - 1, torch.full((16, 1), 2.0)], 1), 0.0)


def read_keypoints(annotations: str | Path, images: str | Path, *, layout: str = "mpii") -> KeypointPeople:
    """Read a keypoint file of either kind: a list is HRNet's form of MPII (`read_mpii`), an object COCO's.

    Args:
        annotations: The JSON file.
        images: The folder of its pictures.
        layout: Order of the joints wanted: `"mpii"`, which both kinds can give, or `"coco"`.

    Raises:
        FileNotFoundError: If the file, the folder or a picture is not there.
        ValueError: If the file is neither kind, the layout is unknown, or an MPII file is to give COCO's joints.
    """
    if layout not in ("mpii", "coco"):
        raise ValueError(f"layout is 'mpii' or 'coco', got {layout!r}")
    kind = _first_character(annotations)
    if kind == "{":
        return read_coco_keypoints(annotations, images, layout=layout)
    if kind != "[":
        raise ValueError(f"{annotations} is neither a list of people, as MPII's file is, nor an object, as COCO's is")
    if layout != "mpii":
        raise ValueError(f"{annotations} holds MPII's joints, of which those of COCO's order cannot be made")
    return read_mpii(annotations, images)


def _first_character(path: str | Path) -> str:
    """The first one that is no white space: these files are too large to be parsed twice."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            return next((line.lstrip()[0] for line in file if line.strip()), "")
    except FileNotFoundError:
        raise FileNotFoundError(f"no such annotation file: {path}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error


def _unlabelled(count: int) -> tuple[Tensor, Tensor]:
    """Labels and head sizes of people that have neither."""
    return torch.full((count,), -1), torch.full((count,), float("nan"))


def _read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no such annotation file: {path}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error


def _find(names: Sequence[str], folder: str | Path) -> list[Path]:
    """Paths of pictures, each of which must be there."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of pictures: {folder}")
    missing = [name for name in dict.fromkeys(names) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {len(missing)} annotated pictures, such as {missing[0]}")
    return [folder / name for name in names]
