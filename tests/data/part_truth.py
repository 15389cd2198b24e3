"""Small annotated videos of noise, and joints that depend on nothing but the boxes, for the tests of part detection."""

import numpy as np
import torch

from actionzoo.data.figures import PARTS
from actionzoo.layers import COCO_FLIP_PAIRS

SIZE = (60, 80)


class NoiseVideos:
    """Videos of noise; people have boxes of any kind, and some of their parts."""

    classes = ("a", "b")

    def __init__(self, people=((1, 2, 0), (2,), (), (1, 1, 1, 1)), seed=0):
        """Numbers of people in the annotated frames of every video, each third frame from the first."""
        self.people, self.seed, self.reads = people, seed, []

    def __len__(self):
        return len(self.people)

    def name(self, i):
        return f"noise_{i}"

    def action(self, i):
        return self.classes[i % 2]

    def length(self, i):
        return 3 * len(self.people[i])

    def fps(self, i):
        return 25.0

    def annotations(self, i):
        rng, height, width = np.random.default_rng([self.seed, i]), *SIZE
        frames = {}
        for k, count in enumerate(self.people[i]):
            humans = []
            for number in range(count):
                x, y = rng.uniform(0, width - 30), rng.uniform(0, height - 35)
                box = [x, y, x + rng.uniform(12, 29), y + rng.uniform(18, 34)]
                # many a part reaches out of the person's box, or lies beside it
                first = rng.uniform((x - 12, y - 12), (x + 28, y + 28), (10, 2))
                boxes = np.concatenate([first, first + rng.uniform(0.2, 12, (10, 2))], 1).clip(0, width - 1)
                parts = {
                    name: {"box": part.tolist(), "verb": "none"}
                    for name, part in zip(PARTS, boxes)
                    if rng.random() < 0.8
                }
                humans.append({"number": number + 1, "box": box, "parts": parts})
            frames[f"img_{3 * k + 1:05d}.json"] = {"humans": humans}
        # the last first: the order of a file's entries says nothing
        return dict(reversed(frames.items()))

    def read(self, i, frames):
        self.reads.append((i, tuple(frames)))
        pictures = []
        for frame in frames:
            generator = torch.Generator().manual_seed(self.seed * 10_000 + 100 * i + frame)
            pictures.append(torch.randint(256, (3, *SIZE), generator=generator, dtype=torch.uint8))
        return torch.stack(pictures, 1)


class MirroredVideos(NoiseVideos):
    """The same, seen in a mirror: left parts are right ones."""

    def annotations(self, i):
        def turned(box):
            # boxes count their last pixel in
            return [SIZE[1] - 1 - box[2], box[1], SIZE[1] - 1 - box[0], box[3]]

        def other(name):
            side, _, part = name.partition("_")
            return f"{ {'left': 'right', 'right': 'left'}[side] }_{part}" if part else name

        frames = super().annotations(i)
        for content in frames.values():
            for person in content["humans"]:
                person["box"] = turned(person["box"])
                person["parts"] = {
                    other(name): {**part, "box": turned(part["box"])} for name, part in person["parts"].items()
                }
        return frames

    def read(self, i, frames):
        return super().read(i, frames).flip(3)


class Joints:
    """Seventeen joints at places of their own in and around a box, of which some are unsure."""

    def __init__(self, mirrored=False):
        self.mirrored, self.calls = mirrored, 0
        rng = np.random.default_rng(5)
        self.place = torch.from_numpy(rng.uniform((-0.3, -0.2), (1.2, 1.6), (17, 2))).float()
        self.score = torch.from_numpy(rng.uniform(0.2, 1, 17)).float()

    def __call__(self, frame, boxes):
        assert frame.shape == (3, *SIZE)
        assert frame.dtype == torch.float32
        assert 0 <= float(frame.min()) < 0.1
        assert 0.9 < float(frame.max()) <= 1
        self.calls += 1
        if self.mirrored:
            boxes = torch.stack([SIZE[1] - boxes[:, 2], boxes[:, 1], SIZE[1] - boxes[:, 0], boxes[:, 3]], 1)
        xy = boxes[:, None, :2] + self.place * (boxes[:, None, 2:] - boxes[:, None, :2])
        joints = torch.cat([xy, self.score[:, None].expand(len(boxes), 17, 1)], -1)
        if self.mirrored:
            order = list(range(17))
            for left, right in COCO_FLIP_PAIRS:
                order[left], order[right] = right, left
            joints = joints[:, order]
            joints[..., 0] = SIZE[1] - joints[..., 0]
        return joints
