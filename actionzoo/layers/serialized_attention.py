"""Serialized attention of PRF-Net: a feature map of any size to one vector, through a few tokens."""

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers import Attention, Mlp
from torch import Tensor, nn


class _TokenPool(nn.AdaptiveAvgPool2d):
    """`nn.AdaptiveAvgPool2d` without its detours on the CPU: copying a map cell by cell, equal cells one by one."""

    def forward(self, input: Tensor) -> Tensor:
        side = self.output_size
        if torch.compiler.is_compiling() or not isinstance(side, int):
            return super().forward(input)
        cells = input.shape[-1] // side
        if not cells or input.shape[-2:] != (cells * side, cells * side):
            return super().forward(input)
        return input if cells == 1 else F.avg_pool2d(input, cells)


class SerializedAttention(nn.Module):
    """Serialization module and attention module of one stage: `att_l = G(X_l)` (PRF-Net section 3.1).

    The paper gives their purpose only: fewer parameters, and global information at a lower cost. Here
    serialization pools the map to `tokens x tokens` cells *before* a 1x1 convolution reduces its channels, so
    that a 32x32 map costs as much as an 8x8 one, and attention is one pre-norm encoder layer with a learned
    position for every token. The design is consistent with the paper's model size, not recovered from it.
    """

    def __init__(self, in_ch: int, dim: int = 1024, tokens: int = 8, heads: int = 8, mlp_ratio: float = 1.0) -> None:
        """Build the block.

        Args:
            in_ch: Channels of the feature map.
            dim: Width of the tokens and of the vector returned; a multiple of `heads`.
            tokens: Side of the token grid; `tokens ** 2` tokens attend to one another.
            heads: Attention heads.
            mlp_ratio: Hidden width of the MLP as a multiple of `dim`.

        Raises:
            ValueError: If `dim` is not a multiple of `heads`, or `tokens` is below 1.
        """
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim}, heads={heads}")
        if tokens < 1:
            raise ValueError(f"tokens is the side of the token grid, at least 1, got {tokens}")
        self.in_ch = in_ch
        self.dim = dim
        self.tokens = tokens
        self.pool = _TokenPool(tokens)
        self.reduce = nn.Conv2d(in_ch, dim, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim)
        self.act = nn.ReLU()
        self.pos_embed = nn.Parameter(torch.empty(1, tokens**2, dim))
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads=heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden_features=int(dim * mlp_ratio))
        self.norm = nn.LayerNorm(dim)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def serialize(self, x: Tensor) -> Tensor:
        """Serialization module: `(B, C, H, W)` -> `(B, tokens ** 2, dim)` tokens with positions, row by row.

        Raises:
            ValueError: If `x` is not `(B, in_ch, H, W)`.
        """
        if x.ndim != 4 or x.shape[1] != self.in_ch:
            raise ValueError(f"expected a feature map (B, {self.in_ch}, H, W), got shape {tuple(x.shape)}")
        x = self.act(self.bn(self.reduce(self.pool(x))))
        # a sum with the transposed view would keep its layout, and every layer after it would go across memory
        return rearrange(x, "b c h w -> b (h w) c").contiguous() + self.pos_embed

    def attend(self, x: Tensor) -> Tensor:
        """Attention module: `(B, tokens ** 2, dim)` -> the same shape, attended."""
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.norm(x)

    def forward_tokens(self, x: Tensor) -> Tensor:
        """Attended tokens before the mean: `(B, C, H, W)` -> `(B, tokens ** 2, dim)`, row by row.

        Raises:
            ValueError: If `x` is not `(B, in_ch, H, W)`.
        """
        return self.attend(self.serialize(x))

    def forward(self, x: Tensor) -> Tensor:
        """One vector per image: `(B, in_ch, H, W)` -> `(B, dim)`, the mean over the attended tokens.

        Raises:
            ValueError: If `x` is not `(B, in_ch, H, W)`.
        """
        return self.forward_tokens(x).mean(1)
