"""PRF-Net's layers: serialized attention, region-focused generator, weighted mixture."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actionzoo.layers import RegionFocusedGenerator, SerializedAttention, WeightedAttentionMixture, focus_boxes
from tests.reference import region_focus as plain
from tests.reference.serialized_attention import serialized_attention

from ._case import Case, Problem, Provider, State, function, module, weights_of, with_state
from .crops import clamped_grid, read_pixels


def plain_attention(state: State, x: Tensor, tokens: int, heads: int) -> Tensor:
    """The block's formulas on whole tensors, from its weights."""
    x = F.conv2d(F.adaptive_avg_pool2d(x, tokens), state["reduce.weight"])
    statistics = state["bn.running_mean"], state["bn.running_var"]
    x = torch.relu(F.batch_norm(x, *statistics, state["bn.weight"], state["bn.bias"]))
    x = x.flatten(2).transpose(1, 2) + state["pos_embed"]
    dim = x.shape[2]

    def norm(value: Tensor, name: str) -> Tensor:
        return F.layer_norm(value, (dim,), state[f"{name}.weight"], state[f"{name}.bias"])

    qkv = F.linear(norm(x, "norm1"), state["attn.qkv.weight"], state["attn.qkv.bias"])
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, 2))
    weights = (q @ k.transpose(2, 3) / math.sqrt(dim // heads)).softmax(-1)
    attended = (weights @ v).transpose(1, 2).flatten(2)
    x = x + F.linear(attended, state["attn.proj.weight"], state["attn.proj.bias"])
    hidden = F.gelu(F.linear(norm(x, "norm2"), state["mlp.fc1.weight"], state["mlp.fc1.bias"]))
    return norm(x + F.linear(hidden, state["mlp.fc2.weight"], state["mlp.fc2.bias"]), "norm").mean(1)


class Encoder(nn.Module):
    """The same block with PyTorch's encoder layer as its attention."""

    def __init__(self, in_ch: int, dim: int, tokens: int, heads: int) -> None:
        super().__init__()
        self.pool, self.reduce = nn.AdaptiveAvgPool2d(tokens), nn.Conv2d(in_ch, dim, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim)
        self.pos_embed = nn.Parameter(torch.empty(1, tokens**2, dim))
        self.layer = nn.TransformerEncoderLayer(dim, heads, dim, 0, "gelu", batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in_ch, H, W)` -> `(B, dim)`."""
        x = torch.relu(self.bn(self.reduce(self.pool(x)))).flatten(2).transpose(1, 2) + self.pos_embed
        return self.norm(self.layer(x)).mean(1)


def to_encoder(state: State) -> dict[str, Tensor]:
    """Weights of the block by the names of `Encoder`."""
    names = {
        "attn.qkv.": "layer.self_attn.in_proj_",
        "attn.proj": "layer.self_attn.out_proj",
        "mlp.fc1": "layer.linear1",
    }
    names |= {"mlp.fc2": "layer.linear2", "norm1": "layer.norm1", "norm2": "layer.norm2"}
    renamed = {}
    for name, value in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = value
    return renamed


def _attention_problem(batch: int, channels: int, side: int, dim: int, tokens: int = 8, heads: int = 8) -> Problem:
    sizes = (channels, dim, tokens, heads)
    state = weights_of(SerializedAttention(*sizes))

    def naive(own: State, x: Tensor) -> Tensor:
        return serialized_attention(x, own, tokens, heads, train=False).mean(1)

    providers = (
        Provider("actionzoo", "ours", module(lambda: SerializedAttention(*sizes))),
        Provider("loop", "naive", with_state(naive), compiles=False, sizes=("cpu", "tiny")),
        Provider("plain", "peer", with_state(lambda own, x: plain_attention(own, x, tokens, heads))),
        Provider("nn.TransformerEncoderLayer", "peer", module(lambda: Encoder(*sizes), to_encoder)),
    )
    return Problem(
        inputs=lambda generator: (torch.randn(batch, channels, side, side, generator=generator),),
        providers=providers,
        reference=lambda own, x: plain_attention(own, x, tokens, heads),
        state=state,
        product=(batch * tokens**2, dim, channels),
    )


def _focus_problem(batch: int, side: int, channels: int, grid: int) -> Problem:
    generate = RegionFocusedGenerator()

    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        images = torch.randn(batch, 3, side, side, generator=generator)
        return images, torch.randn(batch, channels, grid, grid, generator=generator)

    def loop(images: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        real = features.double()
        scores = torch.relu(real.mean((2, 3), keepdim=True) * real).sum(1).cpu()
        boxes = [plain.focus_box(score, (side, side), 0.75, 0.5) for score in scores]
        crops = []
        for image, (x1, y1, x2, y2) in zip(images, boxes):
            crops.append(F.interpolate(image[None, :, y1:y2, x1:x2], (side, side), mode="bilinear"))
        return torch.cat(crops).detach(), torch.tensor(boxes, device=images.device)

    def sampled(images: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        boxes = focus_boxes(features, (side, side))
        index = torch.arange(batch, device=images.device)
        return clamped_grid(images, boxes, index, (side, side)), boxes

    def reads(images: Tensor, features: Tensor) -> int:
        return read_pixels(focus_boxes(features, (side, side)), 3, (side, side)) + features.numel()

    providers = (
        Provider("actionzoo", "ours", function(lambda images, features: generate(images, features))),
        Provider("loop", "naive", function(loop), compiles=False),
        Provider("grid_sample", "peer", function(sampled)),
    )
    return Problem(inputs, providers, lambda state, *given: loop(*given), {}, reads)


def _mixture_problem(batch: int, dim: int, stages: int = 3) -> Problem:
    mix = WeightedAttentionMixture()

    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        vectors = [torch.randn(batch, dim, generator=generator) for _ in range(stages)]
        return vectors, 0.5 + torch.rand(stages, generator=generator)

    def loop(vectors: list[Tensor], losses: Tensor) -> Tensor:
        values = losses.detach()
        low, high = min(values.tolist()), max(values.tolist())
        weights = [1 - (loss - low) / (high - low) + values.mean() for loss in values]
        return torch.cat([weight.to(vector) * vector for weight, vector in zip(weights[::-1], vectors[::-1])], 1)

    providers = (
        Provider("actionzoo", "ours", function(lambda vectors, losses: mix(vectors, losses))),
        Provider("loop", "naive", function(loop), compiles=False),
    )
    return Problem(inputs, providers, lambda state, *given: loop(*given), {})


CASES = (
    Case(
        "serialized_attention",
        "layers",
        _attention_problem,
        {
            "cuda": {"batch": 32, "channels": 2048, "side": 8, "dim": 1024},
            "cpu": {"batch": 2, "channels": 512, "side": 16, "dim": 256, "tokens": 4},
            "tiny": {"batch": 2, "channels": 12, "side": 5, "dim": 8, "tokens": 2, "heads": 2},
        },
    ),
    Case(
        "region_focus",
        "layers",
        _focus_problem,
        {
            "cuda": {"batch": 32, "side": 256, "channels": 2048, "grid": 8},
            "cpu": {"batch": 4, "side": 256, "channels": 256, "grid": 8},
            "tiny": {"batch": 2, "side": 21, "channels": 5, "grid": 3},
        },
        backward=False,
    ),
    Case(
        "attention_mixture",
        "layers",
        _mixture_problem,
        {
            "cuda": {"batch": 32, "dim": 1024},
            "cpu": {"batch": 32, "dim": 1024},
            "tiny": {"batch": 2, "dim": 5},
        },
    ),
)
