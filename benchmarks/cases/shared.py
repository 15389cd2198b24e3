"""Operations that several models share: heat-map decoding, keypoint linking, depthwise 3x3x3 convolution."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from actionzoo.kernels import depthwise_conv3d, use_kernels
from actionzoo.layers import decode_heatmaps
from actionzoo.tracking import link_keypoints
from tests.reference import heatmaps as plain
from tests.reference.tracking import link_keypoints as link_by_loops

from ._case import Built, Case, Problem, Provider, State, function, with_state


def flat_maximum(heatmaps: Tensor) -> Tensor:
    """The maximum over the flattened map, as HRNet's code takes it."""
    peak, index = heatmaps.flatten(2).max(2)
    width = heatmaps.shape[3]
    real = torch.float64 if heatmaps.dtype == torch.float64 else torch.float32
    xy = torch.stack([index % width, index // width], 2).to(real)
    peak = peak.to(real)[..., None]
    return torch.cat([torch.where(peak > 0, xy, 0.0), peak], 2)


def _decode_problem(batch: int, joints: int, height: int, width: int) -> Problem:
    def loop(heatmaps: Tensor) -> Tensor:
        return torch.from_numpy(plain.decode(heatmaps.cpu(), quarter_shift=False)).to(heatmaps.device)

    def in_kernel(heatmaps: Tensor) -> Tensor:
        with use_kernels("decode_heatmaps"):
            return decode_heatmaps(heatmaps)

    kernel = Provider(
        "actionzoo, kernel", "ours", function(in_kernel), package="triton", compiles=False, sizes=("cuda",)
    )
    providers = (
        Provider("actionzoo", "ours", function(decode_heatmaps)),
        kernel,
        Provider("cell by cell", "naive", function(loop), compiles=False, sizes=("tiny",)),
        Provider("flat maximum", "peer", function(flat_maximum)),
    )
    return Problem(
        inputs=lambda generator: (torch.randn(batch, joints, height, width, generator=generator),),
        providers=providers,
        reference=lambda state, heatmaps: flat_maximum(heatmaps),
        state={},
    )


def linked_joint_by_joint(frames: list[Tensor]) -> Tensor:
    """The nearest pair first, joint by joint in PyTorch; for people who are all there and near in every frame."""
    ids = [torch.arange(len(frames[0]))]
    for before, found in pairwise(frames):
        costs = {}
        for m, old in enumerate(before):
            for n, new in enumerate(found):
                joints = [torch.dist(a[:2], b[:2]) for a, b in zip(old, new)]
                costs[m, n] = sum(joints, torch.zeros(())).item() / len(joints)
        linked: dict[int, int] = {}
        for m, n in sorted(costs, key=lambda pair: costs[pair]):
            if n not in linked and m not in linked.values():
                linked[n] = m
        ids.append(torch.stack([ids[-1][linked[n]] for n in range(len(found))]))
    return torch.stack(ids)


def _link_problem(people: int, frames: int, joints: int = 17) -> Problem:
    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        pose = 120 * torch.rand(people, joints, 2, generator=generator)
        pose = pose + torch.stack([300.0 * torch.arange(people), torch.zeros(people)], 1)[:, None]
        steps = 6 * torch.randn(frames, people, joints, 2, generator=generator)
        found = torch.cat([pose + steps, torch.ones(frames, people, joints, 1)], 3)
        return ([frame[torch.randperm(people, generator=generator)] for frame in found],)

    def linked(method: str) -> Any:
        return lambda frames: torch.stack(link_keypoints(frames, method=method))

    def loop(frames: list[Tensor]) -> Tensor:
        return torch.tensor(link_by_loops(frames, method="greedy"))

    providers = (
        Provider("actionzoo", "ours", function(linked("greedy")), compiles=False),
        Provider("actionzoo, hungarian", "ours", function(linked("hungarian")), compiles=False),
        Provider("nested loops over tensors", "naive", function(linked_joint_by_joint), compiles=False),
        Provider("nested loops over floats", "naive", function(loop), compiles=False),
    )
    return Problem(inputs, providers, lambda state, *given: loop(*given), {})


def _depthwise_problem(batch: int, channels: int, frames: int, side: int) -> Problem:
    def convolve(own: State, x: Tensor) -> Tensor:
        return F.conv3d(x, own["weight"], padding=1, groups=channels)

    def shifted(own: State, x: Tensor) -> Tensor:
        """27 products of the padded map with one weight per channel."""
        padded, out = F.pad(x, (1,) * 6), torch.zeros_like(x)
        for t in range(3):
            for i in range(3):
                for j in range(3):
                    window = padded[:, :, t : t + frames, i : i + side, j : j + side]
                    out = out + window * own["weight"][:, 0, t, i, j, None, None, None]
        return out

    def channels_last(state: State) -> Built:
        weight = state["weight"].clone(memory_format=torch.channels_last_3d).requires_grad_()
        return (lambda x: convolve({"weight": weight}, x)), {"weight": weight}

    def in_kernel(state: State) -> Built:
        weight = state["weight"].clone().requires_grad_()
        return (lambda x: depthwise_conv3d(x, weight)), {"weight": weight}

    def in_layout(inputs: Any) -> Any:
        return tuple(x.contiguous(memory_format=torch.channels_last_3d) for x in inputs)

    weight = torch.randn(channels, 1, 3, 3, 3) / 5
    kernel = Provider(
        "actionzoo, kernel", "ours", in_kernel, package="triton", prepare=in_layout, compiles=False, sizes=("cuda",)
    )
    providers = (
        Provider("conv3d NCDHW", "ours", with_state(convolve)),
        kernel,
        Provider("27 products", "naive", with_state(shifted)),
        # a network has its maps in this layout already; on CPUs with AVX-512 the bfloat16 weight gradient of fewer
        # frames than the kernel has, two here, is wrong (torch 2.15, oneDNN 3.13)
        Provider("conv3d channels_last_3d", "peer", channels_last, prepare=in_layout),
    )
    return Problem(
        inputs=lambda generator: (torch.randn(batch, channels, frames, side, side, generator=generator),),
        providers=providers,
        reference=shifted,
        state={"weight": weight},
    )


CASES = (
    Case(
        "decode_heatmaps",
        "layers",
        _decode_problem,
        {
            "cuda": {"batch": 32, "joints": 16, "height": 64, "width": 64},
            "cpu": {"batch": 32, "joints": 16, "height": 64, "width": 64},
            "tiny": {"batch": 2, "joints": 2, "height": 5, "width": 7},
        },
        backward=False,
        compiled=True,
    ),
    Case(
        "link_keypoints",
        "layers",
        _link_problem,
        {"cpu": {"people": 10, "frames": 32}, "tiny": {"people": 3, "frames": 3}},
        dtypes=("float32",),
        backward=False,
    ),
    Case(
        "depthwise_conv3d",
        "layers",
        _depthwise_problem,
        {
            "cuda": {"batch": 1, "channels": 64, "frames": 32, "side": 56},
            "cpu": {"batch": 1, "channels": 32, "frames": 8, "side": 28},
            "tiny": {"batch": 2, "channels": 3, "frames": 2, "side": 4},
        },
    ),
)
