"""Small networks and sets of people for the tests of training, pipeline and command line."""

import json
from pathlib import Path

import torch
from torch import nn

import actionzoo
from actionzoo.data import FigurePeople, PersonExample
from actionzoo.models.pose_hrnet import hrnet_config

HRNET = hrnet_config((8, 8, 16, 16), stem_width=8, stage1_width=4)
TRUNK = {"channels": (8, 8, 16, 24), "stem_width": 8}
BODYPART = {"backbone": HRNET, "trunk_args": TRUNK, "part_size": 32, "input_size": (3, 64, 64)}
POSE = {"backbone": HRNET, "input_size": (3, 64, 64)}


def bodypart(classes=3, **args):
    """A body-part network with random weights that runs in milliseconds."""
    torch.manual_seed(0)
    return actionzoo.create("bodypart_tiny", num_classes=classes, **{**BODYPART, **args})


def pose(**args):
    """A pose net of the same kind."""
    torch.manual_seed(0)
    return actionzoo.create("pose_tiny", **{**POSE, **args})


def model_args(settings):
    """Settings as `--model-args` takes them."""
    return ["--model-args", *(f"{key}={value!r}" for key, value in settings.items())]


class PlantedPeaks(nn.Module):
    """A pose net whose heat maps have one peak each, at the same cells whatever it sees."""

    heatmap_stride = 4

    def __init__(self, cells, size=(64, 64), peak=0.8):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.pretrained_cfg = {"input_size": (3, *size), "num_joints": len(cells), "architecture": "planted"}
        self.pretrained_cfg |= {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
        self.heatmaps = torch.zeros(len(cells), size[0] // 4, size[1] // 4)
        for joint, (x, y) in enumerate(cells):
            self.heatmaps[joint, y, x] = peak
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return self.heatmaps.expand(len(images), -1, -1, -1)


class Alone:
    """A source of one person, again and again."""

    def __init__(self, example, count=4):
        self.example, self.count = example, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.example


def figure(label=-1, posed=True, size=64, joints=16):
    """One acting figure as a person."""
    from actionzoo.data import ActingFigures

    layout = {16: "mpii", 17: "coco"}[joints]
    example = FigurePeople(ActingFigures("pose", "test", 3, size), layout=layout, pose=posed)[1]
    return PersonExample(example.image, example.box, example.joints, label, example.head_size)


def write_mpii(folder, count=6, size=64):
    """Write figures as HRNet's form of MPII: the annotation file and the folder of its pictures."""
    from actionzoo.data import ActingFigures

    people = FigurePeople(ActingFigures("pose", "train", count, size))
    images, records = Path(folder) / "images", []
    images.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        example = people[i]
        example.image.save(images / f"{i}.png")
        x1, y1, x2, y2 = example.box.tolist()
        scale = max(x2 - x1, y2 - y1) / 200
        records.append(
            {
                "image": f"{i}.png",
                "center": [(x1 + x2 + 1) / 2, (y1 + y2 + 1) / 2 - 15 * scale],
                "scale": scale,
                "joints": (example.joints[:, :2] + 1).tolist(),
                "joints_vis": (example.joints[:, 2] > 0).int().tolist(),
            }
        )
    file = Path(folder) / "people.json"
    file.write_text(json.dumps(records))
    return file, images
