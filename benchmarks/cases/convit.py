"""ConViT's feature-map ViT beside timm's blocks and PyTorch's encoder layers with the same weights."""

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from actionzoo.layers import FeatureMapViT
from tests.reference.feature_map_vit import feature_map_vit

from ._case import Case, Problem, Provider, State, module, weights_of, with_state

HEADS, DEPTH = 4, 2


class TimmStack(nn.Module):
    """timm's heads share out the width."""

    def __init__(self, dim: int, grid: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(1, grid * grid, dim))
        blocks = [Block(dim, HEADS, mlp_ratio=1.0, qkv_bias=False, norm_layer=nn.LayerNorm) for _ in range(DEPTH)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, dim, H, W)` -> the same shape."""
        tokens = self.norm(self.blocks(x.flatten(2).transpose(1, 2) + self.pos_embed))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class EncoderStack(TimmStack):
    """PyTorch's layers have a bias for queries, keys and values, which is 0 here."""

    def __init__(self, dim: int, grid: int) -> None:
        super().__init__(dim, grid)
        layers = [
            nn.TransformerEncoderLayer(dim, HEADS, dim, 0, "gelu", batch_first=True, norm_first=True)
            for _ in range(DEPTH)
        ]
        self.blocks = nn.Sequential(*layers)


def to_encoder(state: State) -> dict[str, Tensor]:
    """Weights of the layer by the names of `EncoderStack`."""
    names = {"attn.qkv.": "self_attn.in_proj_", "attn.proj": "self_attn.out_proj"}
    names |= {"mlp.fc1": "linear1", "mlp.fc2": "linear2"}
    renamed = {}
    for name, value in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = value
        if name.endswith("in_proj_weight"):
            renamed[name.replace("weight", "bias")] = value.new_zeros(len(value))
    return renamed


def _problem(batch: int, dim: int, grid: int) -> Problem:
    def ours() -> FeatureMapViT:
        return FeatureMapViT(dim, grid, DEPTH, HEADS, head_dim=None)

    def loop(own: State, x: Tensor) -> Tensor:
        return feature_map_vit(x, own, (grid, grid), DEPTH, HEADS)[0]

    def stack(own: State, x: Tensor) -> Tensor:
        with torch.device(x.device):
            network = TimmStack(dim, grid).to(x.dtype).eval()
        return torch.func.functional_call(network, dict(own), (x,))

    providers = (
        Provider("actionzoo", "ours", module(ours)),
        Provider("loop", "naive", with_state(loop), compiles=False, sizes=("cpu", "tiny")),
        Provider("timm Block", "peer", module(lambda: TimmStack(dim, grid))),
        Provider("nn.TransformerEncoderLayer", "peer", module(lambda: EncoderStack(dim, grid), to_encoder)),
    )
    return Problem(
        inputs=lambda generator: (torch.randn(batch, dim, grid, grid, generator=generator),),
        providers=providers,
        reference=stack,
        state=weights_of(ours()),
        product=(batch * grid * grid, 3 * dim, dim),
    )


CASES = (
    Case(
        "feature_map_vit/14x14",
        "layers",
        _problem,
        {
            "cuda": {"batch": 16, "dim": 1024, "grid": 14},
            "cpu": {"batch": 2, "dim": 256, "grid": 14},
            "tiny": {"batch": 2, "dim": 8, "grid": 3},
        },
    ),
    Case(
        "feature_map_vit/7x7",
        "layers",
        _problem,
        {
            "cuda": {"batch": 16, "dim": 2048, "grid": 7},
            "cpu": {"batch": 2, "dim": 512, "grid": 7},
            "tiny": {"batch": 1, "dim": 8, "grid": 2},
        },
    ),
)
