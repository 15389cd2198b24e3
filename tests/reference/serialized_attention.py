"""Serialized attention of PRF-Net (section 3.1), from the tensors of its state dict."""

import math

import torch


def serialized_attention(x, state, tokens, heads, train):
    """`(B, C, H, W)` -> tokens `(B, tokens ** 2, dim)` before their mean."""
    x = reduce_channels(average_pool(x, tokens), state["reduce.weight"])
    x = torch.relu(batch_norm(x, state, train))
    sequences = []
    for b in range(x.shape[0]):
        sequence = torch.stack([x[b, :, row, column] for row in range(tokens) for column in range(tokens)])
        sequence = sequence + state["pos_embed"][0]
        sequence = sequence + attention(layer_norm(sequence, state, "norm1"), state, heads)
        sequence = sequence + mlp(layer_norm(sequence, state, "norm2"), state)
        sequences.append(layer_norm(sequence, state, "norm"))
    return torch.stack(sequences)


def average_pool(x, tokens):
    """Cell i covers the pixels from `floor(i * side / tokens)` up to `ceil((i + 1) * side / tokens)`."""
    spans = []
    for side in x.shape[2:]:
        spans.append([(i * side // tokens, math.ceil((i + 1) * side / tokens)) for i in range(tokens)])
    rows = []
    for top, bottom in spans[0]:
        cells = []
        for left, right in spans[1]:
            pixels = [x[:, :, y, x_] for y in range(top, bottom) for x_ in range(left, right)]
            cells.append(sum(pixels) / len(pixels))
        rows.append(torch.stack(cells, -1))
    return torch.stack(rows, -2)


def reduce_channels(x, weight):
    """A 1x1 convolution is one matrix product at every pixel."""
    rows = []
    for y in range(x.shape[2]):
        rows.append(torch.stack([x[:, :, y, column] @ weight[:, :, 0, 0].T for column in range(x.shape[3])], -1))
    return torch.stack(rows, -2)


def batch_norm(x, state, train):
    channels = []
    for c in range(x.shape[1]):
        values = x[:, c]
        mean, variance = state["bn.running_mean"][c], state["bn.running_var"][c]
        if train:
            mean = values.sum() / values.numel()
            variance = ((values - mean) ** 2).sum() / values.numel()
        scaled = (values - mean) / torch.sqrt(variance + 1e-5)
        channels.append(scaled * state["bn.weight"][c] + state["bn.bias"][c])
    return torch.stack(channels, 1)


def layer_norm(sequence, state, name):
    rows = []
    for token in sequence:
        mean = token.sum() / token.numel()
        variance = ((token - mean) ** 2).sum() / token.numel()
        rows.append((token - mean) / torch.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"])
    return torch.stack(rows)


def attention(sequence, state, heads):
    """Softmax attention, head by head and token by token."""
    dim = sequence.shape[1]
    width = dim // heads
    joint = sequence @ state["attn.qkv.weight"].T + state["attn.qkv.bias"]
    queries, keys, values = joint[:, :dim], joint[:, dim : 2 * dim], joint[:, 2 * dim :]
    outputs = []
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        rows = []
        for query in queries[:, columns]:
            scores = torch.stack([(query * key).sum() / math.sqrt(width) for key in keys[:, columns]])
            weights = torch.exp(scores - scores.max())
            weights = weights / weights.sum()
            rows.append(sum(weight * value for weight, value in zip(weights, values[:, columns], strict=True)))
        outputs.append(torch.stack(rows))
    return torch.cat(outputs, 1) @ state["attn.proj.weight"].T + state["attn.proj.bias"]


def mlp(sequence, state):
    hidden = sequence @ state["mlp.fc1.weight"].T + state["mlp.fc1.bias"]
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return hidden @ state["mlp.fc2.weight"].T + state["mlp.fc2.bias"]
