"""Feature-map ViT of ConViT (section 3.3), from the tensors of its state dict."""

import math

import torch
from torch.nn import functional as F


def feature_map_vit(x, state, grid, depth, heads):
    """`(B, C, H, W)` -> the same shape, and the attention of every block, `(B, heads, N, N)` each."""
    height, width = x.shape[2:]
    embedding = positions(state["pos_embed"], grid, (height, width))
    maps, attentions = [], []
    for b in range(x.shape[0]):
        sequence = torch.stack([x[b, :, row, column] for row in range(height) for column in range(width)])
        sequence = sequence + embedding
        weights = []
        for i in range(depth):
            attended, weight = attention(layer_norm(sequence, state, f"blocks.{i}.norm1"), state, i, heads)
            sequence = sequence + attended
            sequence = sequence + mlp(layer_norm(sequence, state, f"blocks.{i}.norm2"), state, i)
            weights.append(weight)
        sequence = layer_norm(sequence, state, "norm")
        rows = [torch.stack([sequence[y * width + c] for c in range(width)], -1) for y in range(height)]
        maps.append(torch.stack(rows, -2))
        attentions.append(weights)
    return torch.stack(maps), [torch.stack([weights[i] for weights in attentions]) for i in range(depth)]


def positions(embedding, grid, size):
    """`(1, h * w, C)` of one grid -> `(H * W, C)` of another: a picture of C channels, resized."""
    if tuple(size) == tuple(grid):
        return embedding[0]
    picture = embedding[0].T.reshape(1, -1, *grid)
    return F.interpolate(picture, size, mode="bicubic", antialias=True)[0].flatten(1).T


def layer_norm(sequence, state, name):
    mean = sequence.sum(1, keepdim=True) / sequence.shape[1]
    variance = ((sequence - mean) ** 2).sum(1, keepdim=True) / sequence.shape[1]
    return (sequence - mean) / torch.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention(sequence, state, block, heads):
    """Softmax attention, head by head and token by token; queries, keys and values have no bias."""
    weight = state[f"blocks.{block}.attn.qkv.weight"]
    width = weight.shape[0] // 3 // heads
    queries, keys, values = (sequence @ part.T for part in weight.chunk(3))
    outputs, weights = [], []
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        rows = []
        for query in queries[:, columns]:
            scores = torch.exp(keys[:, columns] @ query / math.sqrt(width))
            rows.append(scores / scores.sum())
        weights.append(torch.stack(rows))
        outputs.append(torch.stack([row @ values[:, columns] for row in rows]))
    name = f"blocks.{block}.attn.proj"
    return torch.cat(outputs, 1) @ state[f"{name}.weight"].T + state[f"{name}.bias"], torch.stack(weights)


def mlp(sequence, state, block):
    name = f"blocks.{block}.mlp"
    hidden = sequence @ state[f"{name}.fc1.weight"].T + state[f"{name}.fc1.bias"]
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return hidden @ state[f"{name}.fc2.weight"].T + state[f"{name}.fc2.bias"]
