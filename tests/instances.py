"""Small networks and clips for the tests of how people in clips are labelled."""

import torch

import actionzoo
from actionzoo.data import ActingFigures, FigureClips
from actionzoo.models import Instances, People, View
from tests import persons

DETECTOR = {
    "min_size": 64,
    "max_size": 96,
    "trunk_args": persons.TRUNK,
    "out_indices": (1, 2),
    "out_channels": 8,
    "hidden": 16,
    "keypoint_layers": (8,),
    "anchor_sizes": ((16,), (24,), (32,)),
    "rpn_pre_nms_top_n_test": 30,
    "rpn_post_nms_top_n_test": 10,
    "box_detections_per_img": 3,
}
HEAD = {"bottleneck": (12, 6, 4), "depth": 2, "width": 8, "hidden": 8}
SMALL = {"detector_args": DETECTOR, "head": HEAD, "out_size": 4, "frames": 4, "stride": 2}


def net(classes=6, **args):
    """A network with random weights that runs in milliseconds."""
    torch.manual_seed(0)
    return actionzoo.create("instance_action_tiny", num_classes=classes, **{**SMALL, **args})


def detector(**args):
    """A detector like that of the network, with random weights."""
    torch.manual_seed(3)
    return actionzoo.create("keypointrcnn_tiny", **{**DETECTOR, **args})


def figures(task="motion", split="train", length=8, frames=4, stride=2):
    """Clips of figures that are drawn in milliseconds."""
    return FigureClips(ActingFigures(task, split, length, 64, frames=frames * stride), frames, stride)


def scripted(model, script):
    """Let a model's detector find what a script says.

    Args:
        model: The network, changed in place; the maps are those of its own backbone.
        script: A list of clips; each a list of frames; each a list of people `(box, score)`. A person's only joint is
            the centre of the box.

    Returns:
        The list of clips that are still to come, which gets shorter.
    """
    left, own = list(script), model.detect

    def detect(frames):
        maps, view = own(frames)[1:]
        people = []
        for frame in left.pop(0):
            boxes = torch.tensor([box for box, _ in frame]).reshape(-1, 4)
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            scores = torch.tensor([score for _, score in frame])
            keypoints = torch.cat([centres, torch.ones(len(boxes), 1)], 1)[:, None]
            people.append(People(boxes, scores, keypoints))
        return Instances(people, maps, View(*view))

    model.detect = detect
    return left
