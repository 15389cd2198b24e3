"""The attention-image stream of the body-part net, and its multitask-aware loss."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from actionzoo.layers import AttentionImageStream
from actionzoo.losses import MultitaskAwareLoss
from tests.reference.attention_image import attention_image
from tests.reference.multitask_aware import multitask_aware

from ._case import Case, Problem, Provider, State, function, module, weights_of, with_state

WIDTHS = (32, 64, 128, 256)


def _stream_problem(batch: int, side: int, joints: int = 16) -> Problem:
    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        def draw(channels: int, stride: int) -> Tensor:
            return torch.randn(batch, channels, side // stride, side // stride, generator=generator)

        return draw(3, 1), draw(joints, 4), [draw(width, 4 << i) for i, width in enumerate(WIDTHS)]

    def plain(own: State, image: Tensor, heatmaps: Tensor, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        return attention_image(image, heatmaps, features, own, train=False)[:2]

    providers = (
        Provider("actionzoo", "ours", module(lambda: AttentionImageStream(joints, WIDTHS))),
        Provider("formulas", "naive", with_state(plain)),
    )
    return Problem(inputs, providers, plain, weights_of(AttentionImageStream(joints, WIDTHS)))


def _loss_problem(batch: int, side: int, joints: int, classes: int) -> Problem:
    loss = MultitaskAwareLoss()

    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        wanted = torch.rand(batch, joints, side, side, generator=generator)
        targets = torch.randint(classes, (batch,), generator=generator)
        # a third has no pose, another third no action
        wanted[::3], targets[1::3] = -1, -1
        predictions = [draw(batch, classes) for _ in range(4)], draw(batch, joints, side, side)
        return *predictions, wanted, torch.ones(batch, joints), targets

    def output(logits: list[Tensor], heatmaps: Tensor) -> Any:
        streams = {str(i): head for i, head in enumerate(logits[1:])}
        return SimpleNamespace(logits=logits[0], heatmaps=heatmaps, stream_logits=streams)

    def ours(logits: list[Tensor], heatmaps: Tensor, *targets: Tensor) -> tuple[Tensor, ...]:
        return tuple(loss(output(logits, heatmaps), *targets))

    def loop(logits: list[Tensor], heatmaps: Tensor, *targets: Tensor) -> tuple[Tensor, ...]:
        return multitask_aware(output(logits, heatmaps), *targets, lam=loss.lam, action="focal", reduce="batch")

    providers = (
        Provider("actionzoo", "ours", function(ours)),
        Provider("per sample", "naive", function(loop), compiles=False),
    )
    return Problem(inputs, providers, lambda state, *given: loop(*given), {})


CASES = (
    Case(
        "attention_image",
        "layers",
        _stream_problem,
        {"cuda": {"batch": 16, "side": 512}, "cpu": {"batch": 1, "side": 192}, "tiny": {"batch": 1, "side": 32}},
        looser=2.0,
    ),
    Case(
        "multitask_aware_loss",
        "layers",
        _loss_problem,
        {
            "cuda": {"batch": 32, "side": 64, "joints": 16, "classes": 40},
            "cpu": {"batch": 32, "side": 48, "joints": 16, "classes": 40},
            "tiny": {"batch": 3, "side": 4, "joints": 2, "classes": 5},
        },
        compiled=True,
    ),
)
