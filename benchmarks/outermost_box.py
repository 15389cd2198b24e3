"""Time of outermost-box pooling against torchvision's RoIAlign on the CPU.

A 720p clip of 8 frames, a pyramid P2 to P5 of 256 channels, 14x14 bins. `loop` calls `roi_align` for one person and
frame at a time, `multi` is one call of `MultiScaleRoIAlign` for all of them. Runs are interleaved on one thread; what
is compared is the median of each one's process CPU time, after the values and gradients were found to be equal.

    python benchmarks/outermost_box.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from actionzoo.layers import OutermostBoxPooler, outermost_boxes

SIZE = (736, 1280)
"""720 rows, padded to a multiple of 32."""
BINS = 14
Features = dict[str, Tensor]
Pool = Callable[[Features, Tensor], Tensor]


def ours(levels: tuple[str, ...]) -> Pool:
    """The layer."""
    pooler = OutermostBoxPooler(BINS, levels=levels)

    def pool(features: Features, boxes: Tensor) -> Tensor:
        valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
        return pooler(features, boxes, valid, torch.zeros(len(boxes), dtype=torch.long), SIZE)[0]

    return pool


def loop(levels: tuple[str, ...]) -> Pool:
    """One call for every person and frame; each frame's map is cut out once."""
    pooler = OutermostBoxPooler(BINS, levels=levels)

    def pool(features: Features, boxes: Tensor) -> Tensor:
        box = outermost_boxes(boxes, torch.ones(boxes.shape[:2], dtype=torch.bool))
        area = (box[:, 2:] - box[:, :2]).prod(1)
        level = (4 + torch.log2(area.sqrt() / 224)).floor().clamp(2, 1 + len(levels)).long() - 2
        frames = {i: features[levels[i]].unbind(1) for i in set(level.tolist())}
        rows = []
        for one, i in zip(box, level.tolist()):
            scale = 1 / pooler.strides[i]
            maps = [roi_align(frame, [one[None]], BINS, scale, 2, aligned=True) for frame in frames[i]]
            rows.append(torch.cat(maps))
        return torch.stack(rows).transpose(1, 2)

    return pool


def multi(levels: tuple[str, ...]) -> Pool:
    """One call for all; it has no half-pixel alignment, so that its values are not ours."""
    pooler = MultiScaleRoIAlign(list(levels), BINS, 2)

    def pool(features: Features, boxes: Tensor) -> Tensor:
        people, frames = boxes.shape[:2]
        box = outermost_boxes(boxes, torch.ones(boxes.shape[:2], dtype=torch.bool))
        maps = {name: level.flatten(0, 1) for name, level in features.items()}
        return pooler(maps, [box] * frames, [SIZE] * frames).unflatten(0, (frames, people)).permute(1, 2, 0, 3, 4)

    return pool


def walkers(people: int, frames: int, seed: int) -> Tensor:
    """People of 250 to 450 pixels' height who walk through the picture, `(N, T, 4)`."""
    generator = torch.Generator().manual_seed(seed)
    height = 250 + 200 * torch.rand(people, 1, generator=generator)
    x = 100 + 900 * torch.rand(people, 1, generator=generator) + torch.arange(frames) * 8
    y = 20 + 230 * torch.rand(people, 1, generator=generator) + torch.zeros(frames)
    return torch.stack([x, y, x + 0.4 * height, y + height], 2)


def run(pool: Pool, features: Features, boxes: Tensor, backward: bool) -> tuple[float, Tensor, tuple[Tensor, ...]]:
    """Process CPU seconds, output, and gradients."""
    maps = tuple(features.values())
    began = time.process_time()
    with torch.set_grad_enabled(backward):
        out = pool(features, boxes)
    upstream = torch.ones(()).expand(out.shape)
    grads = torch.autograd.grad(out, maps, upstream, allow_unused=True) if backward else ()
    return time.process_time() - began, out.detach(), grads


def compare(levels: tuple[str, ...], people: int, backward: bool, channels: int, rounds: int) -> dict[str, float]:
    """Median seconds of each."""
    frames = 8
    pools = {"ours": ours(levels), "loop": loop(levels), "multi": multi(levels)}
    features = {
        name: torch.randn(1, frames, channels, SIZE[0] // (4 << i), SIZE[1] // (4 << i)).requires_grad_(backward)
        for i, name in enumerate(levels)
    }
    times: dict[str, list[float]] = {name: [] for name in pools}
    for i in range(rounds + 1):
        boxes = walkers(people, frames, seed=i)
        results = {}
        for name in sorted(pools, reverse=bool(i % 2)):
            seconds, *results[name] = run(pools[name], features, boxes, backward)
            if i:
                times[name].append(seconds)
        if i == 0:
            torch.testing.assert_close(results["ours"][0], results["loop"][0], rtol=0, atol=1e-4)
            for grad, want in zip(results["ours"][1], results["loop"][1]):
                torch.testing.assert_close(grad, torch.zeros_like(grad) if want is None else want, rtol=0, atol=1e-4)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="timed runs of each")
    parser.add_argument("--channels", type=int, default=256, help="of the maps; 256 need 3 GB with the backward pass")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for levels in (("0", "1", "2", "3"), ("0", "1")):
        for people in (2, 8):
            for backward in (False, True):
                median = compare(levels, people, backward, options.channels, options.rounds)
                what = f"{'P2-P5' if len(levels) == 4 else 'P2-P3'} {people} people {'training' if backward else ''}"
                times = "  ".join(f"{name} {seconds * 1e3:7.1f} ms" for name, seconds in median.items())
                ratios = "  ".join(f"{name}/ours {median[name] / median['ours']:.2f}" for name in ("loop", "multi"))
                print(f"{what:24} {times}  {ratios}", flush=True)


if __name__ == "__main__":
    main()
