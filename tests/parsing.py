"""Small parsers, and detectors and pose nets that find what they are told, for the tests of part-level parsing."""

import torch
from torch import nn

import actionzoo
from actionzoo.models.pose_hrnet import hrnet_config
from actionzoo.models.segments import SegmentLabeler

DETECTOR = {
    "trunk": "resnet18d",
    "trunk_args": {"channels": (8, 8, 16, 16), "stem_width": 4, "output_stride": 16},
    "out_channels": 16,
    "mid_channels": 8,
    "dilations": (1, 2),
    "anchor_scales": (1, 2, 4),
    "min_size": 64,
    "max_size": 96,
    "detections_per_img": 12,
}
POSE = {"backbone": hrnet_config((4, 8, 8, 8), stem_width=4, stage1_width=4)}
CLIPS = {"depths": (1, 1), "width": 8, "input_size": (3, 3, 32, 32), "stride": 2}
SMALL = {
    "person_detector_args": DETECTOR,
    "part_detector_args": DETECTOR,
    "pose_args": POSE,
    "video_net_args": CLIPS,
    "part_net_args": CLIPS,
    "video_clips": 2,
}
ACTIONS = ("bow", "jump", "wave")
VOCABULARY = {
    "head": [("bow", "down"), ("bow", "up"), ("jump", "up"), ("wave", "up")],
    "arm": [("bow", "hang", "hang"), ("jump", "up", "up"), ("wave", "hang", "up"), ("wave", "up", "hang")],
    "hand": [("bow", "none", "none"), ("jump", "none", "none"), ("wave", "open", "none")],
    "hip": [("bow", "bend"), ("jump", "straight")],
    "leg": [("bow", "stand", "stand"), ("jump", "bend", "bend"), ("wave", "stand", "stand")],
    "foot": [("bow", "flat", "flat"), ("jump", "air", "air"), ("wave", "flat", "flat")],
}
"""Nobody who waves shows a hip."""


def net(classes=3, **args):
    """A parser with random weights that runs in milliseconds, in eval mode, whose actions have names."""
    torch.manual_seed(0)
    args = {"vocabulary": VOCABULARY, **SMALL, **args}
    model = actionzoo.create("pcf_tiny", num_classes=classes, **args).eval()
    stir(model.video_net, model.part_nets)
    if classes == len(ACTIONS):
        model.pretrained_cfg["classes"] = list(ACTIONS)
    return model


def stir(*nets):
    """Spread logits and statistics, as in a trained network."""
    with torch.no_grad():
        for part in nets:
            for name, x in part.state_dict().items():
                if x.is_floating_point() and x.ndim == 1:
                    x.add_(0.3 * (torch.rand_like(x) if name.endswith("var") else torch.randn_like(x)))
                elif name.endswith("classifier.weight"):
                    x.mul_(15)


def labeler(**groups):
    """The vocabulary above, or another of some groups."""
    return SegmentLabeler({**VOCABULARY, **groups})


def found(*rows):
    """What a detector gives: rows of label, score and box."""
    rows = torch.tensor(rows, dtype=torch.float).reshape(-1, 6)
    return {"labels": rows[:, 0].long(), "scores": rows[:, 1], "boxes": rows[:, 2:]}


class Finds(nn.Module):
    """A detector that finds what a function of the picture says, and keeps the pictures."""

    def __init__(self, script):
        super().__init__()
        self.script, self.seen = script, []

    def forward(self, images):
        self.seen += images
        return [{k: v.to(image.device) for k, v in self.script(image.cpu()).items()} for image in images]


class Joints(nn.Module):
    """A pose net of one convolution, which finds each joint wherever its pattern fits best."""

    heatmap_stride = 2

    def __init__(self, layout="coco", size=(16, 12), sure=0.5):
        super().__init__()
        count = {"coco": 17, "mpii": 16}.get(layout, 5)
        self.pretrained_cfg = {
            "num_joints": count,
            "joints": layout,
            "input_size": (3, *size),
            "mean": (0.3, 0.4, 0.5),
            "std": (0.2, 0.25, 0.3),
        }
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("patterns", torch.randn(count, 3, 2, 2, generator=generator))
        self.sure, self.seen = sure, []

    def forward(self, images):
        self.seen.append(images)
        # each joint's scores lie about a level of its own, some below 0.3
        level = torch.linspace(-1, 1, len(self.patterns), device=images.device)[:, None, None]
        maps = nn.functional.conv2d(images, self.patterns, stride=2)
        return (self.sure + 0.4 * level + 0.05 * maps).clamp(0, 1)


def smooth(height, width, seed=0, count=None):
    """A smooth picture `(3, H, W)` in [0, 1], or `count` frames of uint8 `(3, L, H, W)`."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(3 if count is None else 3 * count, 6, 6, generator=generator)
    fine = nn.functional.interpolate(coarse[None], (height, width), mode="bicubic").clamp(0, 1)[0]
    return fine if count is None else (255 * fine).byte().reshape(3, count, height, width)
