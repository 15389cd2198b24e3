"""A small part action parser with random weights, and one that sees what a script says."""

import copy
from functools import cache

import torch

import actionzoo
from actionzoo.models.part_people import PartPeople
from actionzoo.models.segments import PART_GROUPS
from tests import persons
from tests.data import videos

CLASSES = ("sit", "walk")
STATES = ("bend", "lift", "none")
YOLOF = {
    "trunk_args": persons.TRUNK,
    "out_channels": 8,
    "mid_channels": 4,
    "dilations": (1,),
    "min_size": 32,
    "max_size": 48,
    # random weights are not sure of anybody
    "score_thresh": 0.0,
}
NET = {"width": 4, "depths": (1, 1), "input_size": (3, 4, 32, 32), "stride": 2}
VOCABULARY = {
    group: tuple((action, *[state] * len(parts)) for action in CLASSES for state in STATES)
    for group, parts in PART_GROUPS.items()
}
"""Labels 0 to 2 of every group are of the first action, 3 to 5 of the second."""


@cache
def _net():
    torch.manual_seed(0)
    model = actionzoo.create(
        "pcf_tiny",
        num_classes=len(CLASSES),
        vocabulary=VOCABULARY,
        person_detector_args=YOLOF,
        part_detector_args={**YOLOF, "detections_per_class": 1},
        video_net_args=NET,
        part_net_args=NET,
        seconds=0.8,
        every=2,
        threshold=0.0,
        max_people=2,
        video_clips=3,
    )
    model.pretrained_cfg["classes"] = list(CLASSES)
    # random classifiers would be sure of nothing
    for net in (model.video_net, model.part_nets):
        torch.nn.init.normal_(net.get_classifier().weight, std=5.0)
    return model.eval()


def net():
    """A network of clips of 4 frames, every second, and of 32 pixels, which is the shorter side of numbered frames."""
    return copy.deepcopy(_net())


def light():
    """The same, whose weights are shared with others and may not be changed."""
    model = copy.copy(_net())
    model.pretrained_cfg = model.default_cfg = dict(model.pretrained_cfg)
    return model


def people(boxes, scores=None, joints=16):
    """People of a frame whose ten parts lie one below the other in their boxes, the last of them guessed."""
    boxes = torch.tensor(boxes, dtype=torch.float).reshape(-1, 4)
    scores = torch.full((len(boxes),), 0.9) if scores is None else torch.tensor(scores)
    steps = torch.arange(10) / 10
    x1, y1, x2, y2 = (boxes[:, i, None].expand(-1, 10) for i in range(4))
    part_boxes = torch.stack([x1, y1 + steps * (y2 - y1), x2, y1 + (steps + 0.1) * (y2 - y1)], -1)
    part_scores = torch.full((len(boxes), 10), 0.8)
    part_scores[:, 9] = 0
    centres = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None].expand(-1, joints, -1)
    return PartPeople(
        boxes, scores, torch.cat([centres, torch.ones(*centres.shape[:2], 1)], -1), part_boxes, part_scores
    )


class Scripted:
    """Finds in every numbered frame whom a script says, and recognises segments by the number of their first frame."""

    def __init__(self, model, script):
        self.script = script
        self.looked_at, self.calls, self.segments, self.videos = [], [], [], []
        model.detect, model.recognise, model.recognise_video = self.detect, self.recognise, self.recognise_video

    def detect(self, frames):
        numbers = videos.numbers((frames.transpose(0, 1) * 255).round())
        self.looked_at += numbers
        self.calls.append(len(numbers))
        return [self.script(number) for number in numbers]

    def recognise(self, pixels):
        numbers = videos.numbers(pixels)
        self.segments.append(numbers)
        best = torch.tensor([0.05, 0.05, 0.1, 0.1, 0.2, 0.5]).roll(numbers[0])
        return dict.fromkeys(PART_GROUPS, best)

    def recognise_video(self, pixels):
        numbers = videos.numbers(pixels)
        self.videos.append(numbers)
        walks = sum(numbers) / len(numbers) / 64
        return torch.tensor([1 - walks, walks])
