"""Makes docs/assets/pcf_dots.jpg, what a detector of parts sees of people: `python docs/drawings/pcf_dots.py`."""

from pathlib import Path

import torch
from PIL import Image

import actionzoo
from actionzoo import draw
from actionzoo.data import ActingFigures
from actionzoo.data.part_videos import FigurePartVideos, true_people
from actionzoo.layers import MPII_JOINT_PARTS, BoxGrower, PoseDotEncoder
from actionzoo.models import pose_keypoints
from actionzoo.models.part_people import dotted_crop

OUTPUT = Path(__file__).parents[1] / "assets" / "pcf_dots.jpg"
SIDE, FRAME = 240, 10


def main() -> None:
    """Write the picture: a figure of each action, without dots and with them."""
    figures = ActingFigures("parts", "test", length=6, size=SIDE, frames=16)
    videos = FigurePartVideos(figures)
    pose, dots = actionzoo.create("pose_tiny.figures").eval(), PoseDotEncoder(MPII_JOINT_PARTS)
    pictures, captions = [], []
    for i in range(len(videos)):
        frame = videos.read(i, [FRAME])[:, 0] / 255
        boxes, _ = true_people(videos.annotations(i)[f"img_{FRAME + 1:05d}.json"])
        joints = pose_keypoints(pose, frame, boxes)
        boxes, _ = BoxGrower()(boxes, joints + torch.tensor([0.5, 0.5, 0.0]), (SIDE, SIDE))
        crops = [dotted_crop(frame, boxes[0], joints[0], encoder)[0] for encoder in (None, dots)]
        pair = [draw.to_image((255 * crop).round().byte()) for crop in crops]
        both = Image.new("RGB", (2 * pair[0].width + 4, pair[0].height), "white")
        both.paste(pair[0], (0, 0))
        both.paste(pair[1], (pair[0].width + 4, 0))
        pictures.append(both)
        captions.append(videos.action(i))
    draw.grid(pictures, 6, captions, cell=(200, 210)).save(OUTPUT, quality=85)


if __name__ == "__main__":
    main()
