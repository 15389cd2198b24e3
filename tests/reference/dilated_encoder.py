"""YOLOF's dilated encoder, one output pixel at a time."""

import torch


def dilated_encoder(x, state, dilations, training=False):
    """The encoded map `(B, C, H, W)` from a state dict; in training BatchNorm takes the batch's own statistics."""
    x = norm(convolve(x, state, "lateral.0"), state, "lateral.1", training)
    x = norm(convolve(x, state, "smooth.0"), state, "smooth.1", training)
    for i, dilation in enumerate(dilations):
        inner = x
        for name, step in (("reduce", 1), ("dilated", dilation), ("expand", 1)):
            inner = convolve(inner, state, f"blocks.{i}.{name}.0", step)
            inner = norm(inner, state, f"blocks.{i}.{name}.1", training)
            inner = torch.where(inner > 0, inner, torch.zeros_like(inner))
        x = x + inner
    return x


def convolve(x, state, name, dilation=1):
    """A convolution whose output has the size of its input; what lies outside the map reads 0."""
    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
    height, width = x.shape[2:]
    reach = weight.shape[2] // 2
    rows = []
    for top in range(height):
        line = []
        for left in range(width):
            pixel = x.new_zeros(x.shape[0], weight.shape[0])
            for i in range(weight.shape[2]):
                for j in range(weight.shape[3]):
                    row, column = top + (i - reach) * dilation, left + (j - reach) * dilation
                    if 0 <= row < height and 0 <= column < width:
                        pixel = pixel + x[:, :, row, column] @ weight[:, :, i, j].T
            line.append(pixel if bias is None else pixel + bias)
        rows.append(torch.stack(line, -1))
    return torch.stack(rows, -2)


def norm(x, state, name, training):
    """BatchNorm of every channel."""
    channels = []
    for c in range(x.shape[1]):
        mean, var = state[f"{name}.running_mean"][c], state[f"{name}.running_var"][c]
        if training:
            mean, var = x[:, c].mean(), x[:, c].var(unbiased=False)
        scale, shift = state[f"{name}.weight"][c], state[f"{name}.bias"][c]
        channels.append((x[:, c] - mean) / (var + 1e-5).sqrt() * scale + shift)
    return torch.stack(channels, 1)
