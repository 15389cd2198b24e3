"""The instance-guided framework's layers: outermost-box pooling and the channel bottleneck."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from actionzoo.kernels import use_kernels
from actionzoo.layers import ChannelBottleneck3D, OutermostBoxPooler, outermost_boxes
from tests.reference.outermost_box import pool
from tests.reference.tahnet import channel_bottleneck

from ._case import Case, Problem, Provider, State, function, module, weights_of, with_state


def _pool_problem(people: int, frames: int, bins: int, channels: int, height: int, width: int) -> Problem:
    levels = ("0", "1", "2", "3")
    pooler = OutermostBoxPooler(bins)
    padded = tuple(32 * math.ceil(side / 32) for side in (height, width))

    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        maps = [
            torch.randn(1, frames, channels, padded[0] >> i, padded[1] >> i, generator=generator) for i in range(2, 6)
        ]
        tall = height * (0.35 + 0.3 * torch.rand(people, 1, generator=generator))
        x = 0.7 * width * torch.rand(people, 1, generator=generator) + torch.arange(frames) * width / 160
        y = 0.35 * height * torch.rand(people, 1, generator=generator) + torch.zeros(frames)
        # whole pixels up to 256 alone survive half precision; all providers are given the same ones
        boxes = torch.stack([x, y, x + 0.4 * tall, y + tall], 2)
        return maps, boxes, torch.ones(people, frames, dtype=torch.bool), torch.zeros(people, dtype=torch.long)

    def ours(maps: list[Tensor], boxes: Tensor, valid: Tensor, clip: Tensor) -> Tensor:
        return pooler(dict(zip(levels, maps)), boxes, valid, clip, padded)[0]

    def loop(maps: list[Tensor], boxes: Tensor, valid: Tensor, clip: Tensor) -> Tensor:
        return pool(maps, boxes.float().cpu(), valid.cpu(), clip.cpu(), "outermost", (bins, bins))[0]

    return Problem(inputs, _poolers(ours, loop, people, frames, bins), lambda state, *given: loop(*given), {}, _covered)


def _poolers(ours: Any, loop: Any, people: int, frames: int, bins: int) -> tuple[Provider, ...]:
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], bins, 2)

    def arranged(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (frames, people)).permute(1, 2, 0, 3, 4)

    def in_kernel(*given: Any) -> Tensor:
        with use_kernels("outermost_box"):
            return ours(*given)

    def multi(maps: list[Tensor], boxes: Tensor, valid: Tensor, clip: Tensor) -> Tensor:
        height, width = (side * 4 for side in maps[0].shape[3:])
        box = outermost_boxes(boxes, valid)
        named = {str(i): level.flatten(0, 1) for i, level in enumerate(maps)}
        return arranged(pooler(named, [box] * frames, [(height, width)] * frames))

    def unaligned(state: State, maps: list[Tensor], boxes: Tensor, valid: Tensor, clip: Tensor) -> Tensor:
        """The class has no half-pixel alignment; one person and frame at a time."""
        box, rows = outermost_boxes(boxes, valid), []
        level = (4 + torch.log2((box[:, 2:] - box[:, :2]).prod(1).sqrt() / 224) + 1e-6).floor().clamp(2, 5).long() - 2
        for t in range(frames):
            for one, i in zip(box, level.tolist()):
                rows.append(roi_align(maps[i][:1, t], [one[None].to(maps[i])], bins, 0.25 / (1 << i), 2))
        return arranged(torch.cat(rows))

    kernel = Provider(
        "actionzoo, kernel", "ours", function(in_kernel), package="triton", compiles=False, sizes=("cuda",)
    )
    return (
        Provider("actionzoo", "ours", function(ours)),
        kernel,
        Provider("persons x frames", "naive", function(loop), compiles=False),
        Provider("MultiScaleRoIAlign", "peer", function(multi), reference=unaligned, compiles=False),
    )


def _covered(maps: list[Tensor], boxes: Tensor, valid: Tensor, clip: Tensor) -> int:
    """Cells under the boxes, of the one level that each belongs to; boxes that overlap count twice."""
    box = outermost_boxes(boxes.float().cpu(), valid.cpu())
    side = box[:, 2:] - box[:, :2]
    level = (4 + torch.log2(side.prod(1).sqrt() / 224) + 1e-6).floor().clamp(2, 5)
    cells = (side / 2 ** level[:, None]).ceil().prod(1).sum()
    return int(cells) * maps[0].shape[1] * maps[0].shape[2]


def plain_bottleneck(own: State, x: Tensor) -> Tensor:
    """Convolution, normalisation, ReLU, three times."""
    for i in range(3):
        weight, name = own[f"convs.{i}.conv.weight"], f"convs.{i}.norm"
        mean, var, scale, shift = (own[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        x = torch.relu(F.batch_norm(F.conv3d(x, weight), mean, var, scale, shift))
    return x


def _bottleneck_problem(people: int, frames: int, side: int, cin: int, channels: tuple[int, ...]) -> Problem:
    def make() -> ChannelBottleneck3D:
        return ChannelBottleneck3D(cin, channels)

    providers = (
        Provider("actionzoo", "ours", module(make)),
        Provider(
            "cell by cell",
            "naive",
            with_state(lambda own, x: channel_bottleneck(x, own)),
            compiles=False,
            sizes=("cpu", "tiny"),
        ),
        Provider("conv3d", "peer", with_state(plain_bottleneck)),
    )
    return Problem(
        inputs=lambda generator: (torch.randn(people, cin, frames, side, side, generator=generator),),
        providers=providers,
        reference=plain_bottleneck,
        state=weights_of(make()),
        product=(people * frames * side * side, channels[0], cin),
    )


def _pool_case(people: int, bins: int) -> Case:
    return Case(
        f"outermost_box/{people}-people-{bins}x{bins}",
        "layers",
        _pool_problem,
        {
            "cuda": {"people": people, "frames": 8, "bins": bins, "channels": 256, "height": 720, "width": 1280},
            "cpu": {"people": people, "frames": 8, "bins": bins, "channels": 64, "height": 720, "width": 1280},
            "tiny": {"people": 2, "frames": 2, "bins": 3, "channels": 2, "height": 128, "width": 192},
        },
    )


CASES = (
    _pool_case(2, 14),
    _pool_case(8, 14),
    _pool_case(2, 28),
    Case(
        "channel_bottleneck3d",
        "layers",
        _bottleneck_problem,
        {
            "cuda": {"people": 8, "frames": 8, "side": 14, "cin": 256, "channels": (1024, 256, 128)},
            "cpu": {"people": 1, "frames": 4, "side": 7, "cin": 256, "channels": (1024, 256, 128)},
            "tiny": {"people": 2, "frames": 2, "side": 3, "cin": 3, "channels": (7, 5, 2)},
        },
    ),
)
