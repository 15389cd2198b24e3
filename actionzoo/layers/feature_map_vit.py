"""Feature-map ViT of ConViT: a Vision Transformer that takes and gives a feature map, as a convolution does."""

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers import Mlp, use_fused_attn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    """Multi-head self-attention whose heads need not share out the width among themselves.

    A head's width of its own keeps attention affordable on wide maps. timm's module has had it only since some
    versions, and gives no attention weights.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.fused = use_fused_attn()
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.proj = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor, return_attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """`(B, N, dim)` tokens -> the same shape, and the weights `(B, heads, N, N)`, rows summing to 1, or None."""
        q, k, v = rearrange(self.qkv(x), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        # on a CPU the fused kernel's backward pass in half precision takes several times the unfused one's
        slow = q.device.type == "cpu" and q.dtype in (torch.bfloat16, torch.float16) and q.requires_grad
        weights = None
        if self.fused and not slow and not return_attention:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
            out = weights @ v
        out = self.proj(rearrange(out, "b h n d -> b n (h d)"))
        return out, weights if return_attention else None


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, head_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden_features=mlp_dim)

    def forward(self, x: Tensor, return_attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """`(B, N, dim)` tokens -> the same shape, and the attention weights `(B, heads, N, N)` or None."""
        attended, weights = self.attn(self.norm1(x), return_attention)
        x = x + attended
        return x + self.mlp(self.norm2(x)), weights


class FeatureMapViT(nn.Module):
    """Vision Transformer on the pixels of a feature map (ConViT section 3.3, Fig. 4).

    Every pixel is a token as it is: no projection in or out, no class token; a learned position is added first.
    Then come pre-norm blocks and a last LayerNorm. The paper gives depth and heads; widths of heads and MLP, and
    query, key and value without bias, are decisions: the defaults of the implementation whose names it uses.
    """

    def __init__(
        self,
        dim: int,
        grid: int | tuple[int, int],
        depth: int = 2,
        heads: int = 4,
        head_dim: int | None = 64,
        mlp_dim: int | None = None,
    ) -> None:
        """Build the layer.

        Args:
            dim: Channels of the feature map.
            grid: Height and width of the map in cells, one number for a square: that many positions are learned.
                Maps of other sizes work too; positions are then interpolated.
            depth: Blocks.
            heads: Attention heads.
            head_dim: Width of a head; None for `dim / heads`.
            mlp_dim: Hidden width of the MLPs; `dim` if None.

        Raises:
            ValueError: If a size is too small, or `head_dim` is None and `dim` not a multiple of `heads`.
        """
        super().__init__()
        self.grid = (grid, grid) if isinstance(grid, int) else (int(grid[0]), int(grid[1]))
        if min(dim, *self.grid, heads) < 1 or depth < 0:
            raise ValueError(
                f"dim, grid and heads are at least 1 and depth at least 0, got dim={dim}, grid={self.grid}, "
                f"heads={heads}, depth={depth}"
            )
        if head_dim is None and dim % heads:
            raise ValueError(f"without head_dim, dim must be a multiple of heads, got dim={dim}, heads={heads}")
        head_dim = dim // heads if head_dim is None else head_dim
        mlp_dim = dim if mlp_dim is None else mlp_dim
        if min(head_dim, mlp_dim) < 1:
            raise ValueError(f"head_dim and mlp_dim are at least 1, got {head_dim} and {mlp_dim}")
        self.dim = dim
        self.pos_embed = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], dim))
        self.blocks = nn.ModuleList(Block(dim, heads, head_dim, mlp_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.grad_checkpointing = False
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that optimizers should not decay, as timm asks."""
        return {"pos_embed"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass: less memory, more time."""
        self.grad_checkpointing = enable

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embedding of a grid: `(1, h * w, dim)`, row by row, bicubic with antialiasing if not its own."""
        if tuple(grid) == self.grid:
            return self.pos_embed
        table = rearrange(self.pos_embed, "b (h w) d -> b d h w", h=self.grid[0])
        # in float32, as half precision would not resolve the weights of the interpolation
        table = F.interpolate(table.float(), grid, mode="bicubic", align_corners=False, antialias=True)
        return rearrange(table, "b d h w -> b (h w) d").to(self.pos_embed.dtype)

    def forward_blocks(self, x: Tensor, return_attention: bool = False) -> tuple[Tensor, list[Tensor]]:
        """All but the last LayerNorm.

        Args:
            x: `(B, dim, H, W)` feature map.
            return_attention: Also return every block's attention, which the slower unfused path computes.

        Returns:
            `(B, H * W, dim)` tokens, row by row, and the attention of every block, `(B, heads, H * W, H * W)` each:
            row i says where token i looked. The list is empty if attention is not asked for.

        Raises:
            ValueError: If `x` is not `(B, dim, H, W)`, or has no pixels.
        """
        if x.ndim != 4 or x.shape[1] != self.dim or 0 in x.shape[2:]:
            raise ValueError(f"expected a feature map (B, {self.dim}, H, W), got shape {tuple(x.shape)}")
        # a sum with the transposed view would keep its layout, and every layer after it would go across memory
        tokens = rearrange(x, "b c h w -> b (h w) c").contiguous() + self.positions((x.shape[2], x.shape[3]))
        attention: list[Tensor] = []
        for block in self.blocks:
            if self.grad_checkpointing and self.training and not return_attention:
                tokens, weights = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens, weights = block(tokens, return_attention)
            if weights is not None:
                attention.append(weights)
        return tokens, attention

    def forward(self, x: Tensor, return_attention: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Relate all pixels: `(B, dim, H, W)` -> `(B, dim, H, W)`.

        Args:
            x: Feature map.
            return_attention: Also return the attention of every block, see `forward_blocks`.

        Raises:
            ValueError: If `x` is not `(B, dim, H, W)`, or has no pixels.
        """
        tokens, attention = self.forward_blocks(x, return_attention)
        out = rearrange(self.norm(tokens), "b (h w) c -> b c h w", h=x.shape[2])
        return (out, attention) if return_attention else out
