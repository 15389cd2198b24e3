"""Find body parts in pictures of people with pose dots: the second detector of part-level action parsing."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torchvision.ops import box_iou

from ..data.figures import PARTS
from ..data.part_crops import PartCrops
from ..data.part_pictures import PartCropTransform, TransformedCrops, collate_parts
from ..data.part_videos import PartVideos
from ..layers import BoxGrower, PoseDotEncoder
from ..metrics import box_average_precision, coco_box_ap
from ..models import YOLOF, PoseHRNet
from ..models.part_people import JOINT_PARTS, pose_keypoints
from ._part_identity import digest_videos
from .detection import DetectionScore, check_scale, detect, prepare_trunk, train_detector, write_detection
from .recipes import Recipe, all_but
from .tasks import BaseTask, StepTools

FOUND_IOU = 0.3
"""Overlap from which on the Kinetics-TPS challenge counts a part as found."""
JITTER = 0.08
"""How far a side of a training box moves, as a share of the box's width or height."""


class PartDetectionTask(BaseTask):
    """Train a YOLOF of the ten body parts on people cut out of annotated frames (PCF section II-B, Eqs 1 to 4).

    A frozen pose net finds the joints in the true box of a person, the box grows to hold them, and in the crop of it
    the joints are painted as dots. In training the box moves at random before it grows, each side by up to 8 % of
    the box's width or height, as a detector's would lie; the joints stay those of the true box, and are found once.
    """

    headline = "part_ap50"
    classes: tuple[str, ...] = ()
    unused_fields = all_but("hflip", "color_jitter")
    collate = staticmethod(collate_parts)

    def __init__(
        self,
        splits: Mapping[str, PartVideos],
        name: str,
        *,
        pose: PoseHRNet | None = None,
        dots: PoseDotEncoder | Literal[False] | None = None,
        grower: BoxGrower | None = None,
        frames_per_video: int = 1,
        jitter: float = JITTER,
        cache: bool = True,
        freeze_trunk: bool = False,
        progress: bool = False,
    ) -> None:
        """Describe the data.

        Args:
            splits: Videos of `train`, and of `val` and `test` where there are.
            name: The data in one string, which a resumed run must have in common with the one it goes on with.
            pose: Finds the joints, and is put into eval mode. Without it there are no dots and boxes do not grow, as
                in the paper's Table II without its pose estimator.
            dots: Paints them; by default one for the order of the pose net's joints, with False none.
            grower: Grows the boxes; `BoxGrower()` if None.
            frames_per_video: Annotated frames of every video whose people are shown, always the same ones.
            jitter: Largest move of a side of a training box, as a share of the box's width or height.
            cache: Keep the people's pictures and joints in memory; they are then loaded before training begins. Without
                it the pose net looks at them again in every epoch, and not in worker processes if it is on a GPU.
            freeze_trunk: Leave the trunk as it is; otherwise see `prepare_trunk`.
            progress: Show a progress bar while the people are loaded.

        Raises:
            ValueError: If there are dots or a grower and no pose net, the order of its joints is not known, or a
                number is out of range.
        """
        if pose is None and (dots or grower is not None):
            raise ValueError("dots and a grower need joints: give the pose net that finds them, pose=…")
        self.videos, self.name, self.splits = dict(splits), name, tuple(splits)
        self.pose, self.freeze_trunk, self.progress, self.cache = pose, freeze_trunk, progress, cache
        self.frames_per_video, self.jitter = frames_per_video, jitter
        self.dots, self.grower, self.flip_pairs = None, None, ()
        if pose is not None:
            layout = pose.pretrained_cfg.get("joints")
            if layout not in JOINT_PARTS:
                raise ValueError(
                    f"the order of the pose net's joints is {layout!r}, and joints are painted and mirrored by that of "
                    f"{' or '.join(JOINT_PARTS)}; take a pose net of these"
                )
            pose.eval()
            self.flip_pairs = pose.flip_pairs
            self.dots = PoseDotEncoder(JOINT_PARTS[layout]) if dots is None else dots or None
            self.grower = BoxGrower() if grower is None else grower
        self.sides: tuple[int, ...] = ()
        self._people = {
            split: PartCrops(
                videos,
                None if pose is None else partial(estimate_joints, pose),
                self.grower,
                frames_per_video=frames_per_video,
                jitter=jitter if split == "train" else 0.0,
                cache=cache,
            )
            for split, videos in splits.items()
        }

    def configure(self, cfg: dict[str, Any], recipe: Recipe) -> None:
        """Mirror pictures and change their colours as the recipe says; the detector scales them itself.

        Whether people were found with joints and marked with dots is noted, since a detector has to see the same.

        Raises:
            ValueError: If another input size is asked for than the detector scales pictures to; `check` comes first.
        """
        check_scale(cfg["input_size"][-1], self.sides)
        cfg["task_args"] = {"pose": self.pose is not None, "dots": self.dots is not None}
        self.recipe = recipe

    def check(self, model: nn.Module) -> None:
        """Refuse other models than a YOLOF of the ten parts.

        Raises:
            ValueError: If it is one.
        """
        if not isinstance(model, YOLOF) or model.num_classes != len(PARTS):
            count = f" of {model.num_classes} classes" if isinstance(model, YOLOF) else ""
            raise ValueError(
                f"{type(model).__name__}{count} does not find the {len(PARTS)} body parts; create a yolof_* model with "
                f"num_classes={len(PARTS)}"
            )
        self.sides = tuple(cast(Any, model).transform.min_size)

    def prepare(self, model: nn.Module) -> None:
        """Freeze the trunk or a part of it, see `prepare_trunk`."""
        prepare_trunk(model, self.freeze_trunk)

    def rename(self, classes: Sequence[str]) -> None:
        """Do nothing: the parts are always the same."""

    def describe(self) -> str:
        """Counts of videos and frames, and whether there are dots."""
        counts = ", ".join(f"{len(videos)} {split}" for split, videos in self.videos.items())
        dots = "with" if self.dots is not None else "without"
        return f"body parts: {counts} videos, {self.frames_per_video} frames of each, {dots} pose dots"

    def identity(self) -> str:
        """The data's name, every video with its action and annotations, and where the dots come from."""
        digest = hashlib.sha256()
        for key, value in sorted(self.pose.state_dict().items() if self.pose is not None else ()):
            digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        rules = f"{self.dots} {self.grower} {self.jitter} pose {digest.hexdigest()[:16]}"
        return f"{self.name} {self.describe()} {rules} {digest_videos(self.videos)}"

    def dataset(self, split: str, train: bool) -> Dataset:
        """People in `[0, 1]`, boxes of their parts and the parts' labels; loads the people of a split the first time.

        Raises:
            ValueError: If there is no such split.
        """
        from tqdm import tqdm

        if split not in self._people:
            raise ValueError(f"the data has no {split} split; it has {', '.join(self.splits) or 'none'}")
        people = self._people[split]
        if self.cache:
            for i in tqdm(range(len(people)), f"people of {split}", leave=False, disable=not self.progress):
                people[i]
        random: dict[str, Any] = {}
        if train:
            random = {"jitter": self.jitter, "hflip": self.recipe.hflip, "color_jitter": self.recipe.color_jitter}
        transform = PartCropTransform(self.dots, self.grower, flip_pairs=self.flip_pairs, **random)
        return TransformedCrops(people, transform)

    def step(self, tools: StepTools, batch: Sequence[Any]) -> Tensor:
        """Train on one batch: the two losses of YOLOF, and their sum, which is minimised."""
        images, boxes, labels = batch
        return train_detector(tools, images, [{"boxes": b, "labels": k} for b, k in zip(boxes, labels)])

    def score(self, model: nn.Module, loader: DataLoader, device: torch.device | str, progress: bool) -> DetectionScore:
        """Average precision of every part by VOC's rule at IoU 0.5, and means over the parts, also by COCO's rule.

        `part_ap50` and `part_coco_ap` are what the paper's Table II calls AP@50 and AP. All that the model gives
        counts; that of PCF gives one box for each part (`detections_per_class=1`). `part_found` goes by the rule of
        the challenge, to which a part is right or wrong: the share of parts of which the surest box overlaps the true
        one by 0.3. A part that no picture shows is left out.
        """
        from tqdm import tqdm

        truth: list[tuple[Tensor, Tensor]] = []

        def pictures() -> Iterator[Sequence[Tensor]]:
            for images, boxes, labels in tqdm(loader, "scoring", leave=False, disable=not progress):
                truth.extend(zip(boxes, labels))
                yield images

        found = detect(model, pictures(), device)
        metrics: dict[str, Any] = {"images": len(truth), "parts": sum(len(boxes) for boxes, _ in truth)}
        ap50, coco, right = {}, [], []
        for label, part in enumerate(PARTS, 1):
            wanted = [boxes[labels == label].cpu() for boxes, labels in truth]
            if not any(map(len, wanted)):
                continue
            of_part = [out["labels"] == label for out in found]
            boxes = [(out["boxes"][here], out["scores"][here]) for out, here in zip(found, of_part)]
            ap50[part] = box_average_precision(boxes, wanted)
            coco.append(coco_box_ap(boxes, wanted)["ap"])
            right.append(_share_found(boxes, wanted))
        if ap50:
            metrics["part_ap50"] = round(100 * sum(ap50.values()) / len(ap50), 2)
            metrics["part_coco_ap"] = round(100 * sum(coco) / len(coco), 2)
            metrics["part_found"] = round(100 * sum(right) / len(right), 2)
            metrics |= {f"ap50_{part}": round(100 * value, 2) for part, value in ap50.items()}
        return DetectionScore(metrics)

    def report(self, score: Any, output: Any) -> None:
        """Write the figures as `detection.json`."""
        write_detection(score, output)


def _share_found(found: Sequence[tuple[Tensor, Tensor]], truth: Sequence[Tensor]) -> float:
    """Share of true boxes of one part that the surest box of their picture overlaps by at least 0.3."""
    hits = 0
    for (boxes, scores), wanted in zip(found, truth, strict=True):
        if len(boxes) and len(wanted):
            surest = boxes[scores.argmax()][None]
            hits += int((box_iou(wanted.to(surest), surest) >= FOUND_IOU).sum())
    return hits / sum(map(len, truth))


def estimate_joints(pose: PoseHRNet, frame: Tensor, boxes: Tensor) -> Tensor:
    """Joints `(n, J, 3)` of the people of a frame `(3, H, W)`, found on the pose net's device.

    They count from the corner of the first pixel, as boxes and dots do.

    Raises:
        RuntimeError: If the pose net is on a GPU and this is a worker process, which cannot use it.
    """
    device = next(pose.parameters()).device
    if device.type != "cpu" and get_worker_info() is not None:
        raise RuntimeError(
            f"the pose net is on {device}, and people are looked for in worker processes, which cannot use it; keep "
            "them in memory (cache=True), take no workers, or move the pose net to the CPU"
        )
    joints = pose_keypoints(pose, frame.to(device), boxes.to(device)).to(frame.device)
    return joints + joints.new_tensor([0.5, 0.5, 0.0])
