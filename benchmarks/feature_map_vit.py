"""Time of the feature-map ViT against a stack of timm's blocks with the same weights, on the CPU.

Both take a feature map, add positions, run two blocks of four heads and a LayerNorm, and give a map. Runs are
interleaved on one thread; what is compared is the median of each one's process CPU time.

    python benchmarks/feature_map_vit.py
"""

import argparse
import statistics
import time
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from actionzoo.layers import FeatureMapViT

CASES = {"256x14x14": (256, 14, 8), "1024x14x14": (1024, 14, 2), "1024x7x7": (1024, 7, 8)}
"""Channels, side of the map, batch."""


class TimmStack(nn.Module):
    """The same layers from timm's blocks; timm's heads share out the width, so that ours are built with them."""

    def __init__(self, dim: int, grid: int, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(1, grid * grid, dim))
        self.blocks = nn.Sequential(
            *(Block(dim, heads, mlp_ratio=1.0, qkv_bias=False, norm_layer=nn.LayerNorm) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, dim, H, W)` -> the same shape."""
        tokens = self.norm(self.blocks(x.flatten(2).transpose(1, 2) + self.pos_embed))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


def seconds(model: nn.Module, x: Tensor, backward: bool, amp: bool) -> float:
    """Process CPU time of one pass."""
    began = time.process_time()
    with torch.set_grad_enabled(backward), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        out = model(x)
    if backward:
        out.float().square().mean().backward()
    return time.process_time() - began


def compare(dim: int, grid: int, batch: int, backward: bool, amp: bool, rounds: int) -> tuple[float, float]:
    """Median seconds of ours and of timm's, whose outputs are equal."""
    ours, theirs = FeatureMapViT(dim, grid, head_dim=None), TimmStack(dim, grid)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(batch, dim, grid, grid).contiguous(memory_format=torch.channels_last).requires_grad_(backward)
    torch.testing.assert_close(ours(x), theirs(x))
    models: dict[str, Any] = {"ours": ours, "theirs": theirs}
    times: dict[str, list[float]] = {name: [] for name in models}
    for i in range(rounds + 2):
        for name in sorted(models, reverse=bool(i % 2)):
            value = seconds(models[name], x, backward, amp)
            if i >= 2:
                times[name].append(value)
    return statistics.median(times["ours"]), statistics.median(times["theirs"])


def main() -> None:
    """Print one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="timed runs of each")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for name, (dim, grid, batch) in CASES.items():
        for backward in (False, True):
            for amp in (False, True):
                ours, theirs = compare(dim, grid, batch, backward, amp, rounds)
                what = f"{name} {'training' if backward else 'inference'} {'bf16' if amp else 'fp32'}"
                print(f"{what:32} ours {ours * 1e3:8.2f} ms  timm {theirs * 1e3:8.2f} ms  ratio {ours / theirs:.3f}")


if __name__ == "__main__":
    main()
