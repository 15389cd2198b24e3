"""A data set that a tiny network learns in seconds: coloured shapes in class folders."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "stripes")


def shape(name, rng, size=48):
    noise = rng.integers(0, 60, (size, size, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    x, y, r = (int(v) for v in rng.integers([14, 14, 8], [size - 14, size - 14, 13]))
    if name == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(230, 60, 60))
    elif name == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=(60, 230, 60))
    else:
        for i in range(0, size, 8):
            draw.line((0, i, size, i), fill=(70, 70, 240), width=3)
    return image


def write(root, train=12, test=4, seed=0):
    """Write `root/SPLIT/CLASS/i.png` and return `root`."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        for name in CLASSES:
            folder = Path(root) / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                shape(name, rng).save(folder / f"{i}.png")
    return Path(root)
