"""Small networks and pictures of boxed people for the tests of ConViT's detector and human branch."""

import csv
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import actionzoo
from actionzoo.data import read_person_boxes, read_samples

CLASSES = ("jump", "sit", "walk")
COLOURS = ((230, 60, 60), (60, 230, 60), (70, 70, 240))
TRUNK = {"channels": (8, 8, 16, 16), "stem_width": 4, "output_stride": 16}
CONVIT = {"backbone_args": TRUNK, "input_size": (3, 64, 64), "head_dim": 8}
DETECTOR = {
    "min_size": 64,
    "max_size": 96,
    "out_channels": 8,
    "hidden": 16,
    "anchor_sizes": ((16,), (24,), (32,)),
    "rpn_pre_nms_top_n_train": 60,
    "rpn_pre_nms_top_n_test": 60,
    "rpn_post_nms_top_n_train": 30,
    "rpn_post_nms_top_n_test": 20,
    # few, so that the people among them count
    "rpn_batch_size_per_image": 8,
    "box_batch_size_per_image": 8,
    "box_detections_per_img": 10,
}


def model_args(settings):
    """Settings as `--model-args` takes them."""
    return ["--model-args", *(f"{key}={value!r}" for key, value in settings.items())]


def convit(classes=3, **args):
    """A ConViT with random weights that runs in milliseconds."""
    torch.manual_seed(0)
    return actionzoo.create("convit_har_tiny", num_classes=classes, **{**CONVIT, **args})


def human(classes=3, **args):
    """One with a human branch beside it."""
    torch.manual_seed(0)
    return actionzoo.create("convit_har_person_tiny", num_classes=classes, **{**CONVIT, **args})


def detector(**args):
    """A detector on the same backbone."""
    torch.manual_seed(0)
    return actionzoo.create("person_tiny", **{"trunk_args": TRUNK, **DETECTOR, **args})


def picture(kind, rng, people=1):
    """Noise of some size with rectangles in the colour of a class, and their boxes."""
    width, height = (int(side) for side in rng.integers(48, 72, 2))
    pixels, boxes = rng.integers(0, 60, (height, width, 3), dtype=np.uint8), []
    for i in range(people):
        x1, y1 = 2 + i * width // 2, int(rng.integers(2, height // 3))
        box = [x1, y1, x1 + int(rng.integers(12, width // 2 - 3)), y1 + int(rng.integers(20, height // 2))]
        pixels[box[1] : box[3], box[0] : box[2]] = COLOURS[kind]
        boxes.append(box)
    return Image.fromarray(pixels), boxes


def write(root, train=4, test=2, seed=0):
    """Write `root/SPLIT/CLASS/i.png` and `root/boxes.csv`: one and two people by turns, nobody in the last picture."""
    rng, rows = np.random.default_rng(seed), [("split", "class", "file", "person_boxes_xyxy_score")]
    for split, count in (("train", train), ("test", test)):
        for kind, name in enumerate(CLASSES):
            folder = Path(root) / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                last = kind == len(CLASSES) - 1 and i == count - 1
                image, boxes = picture(kind, rng, 0 if last else 1 + i % 2)
                image.save(folder / f"{i}.png")
                found = [[*box, 0.9 - 0.1 * k] for k, box in enumerate(boxes)]
                rows.append((split, name, f"{i}.png", json.dumps(found)))
    with (Path(root) / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return Path(root)


def samples(root):
    """What `write` wrote."""
    return read_samples(root).with_boxes(read_person_boxes(Path(root) / "boxes.csv", root))


def changed(before, after):
    """Names of the tensors of a state that differ from those of another."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def state(model):
    """A copy of a model's parameters and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}
