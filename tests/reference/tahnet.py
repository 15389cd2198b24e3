"""TAHNet (sections 3.3 and 4.4, Fig. 4) from its state dict, one output cell at a time."""

import torch


def channel_bottleneck(x, state, prefix="", temporal=False, training=False):
    for i in range(count(state, prefix)):
        stride = (2, 1, 1) if temporal and i == 0 else (1, 1, 1)
        x = convolution(x, state, f"{prefix}convs.{i}", stride, training)
    return x


def tahnet(x, state, temporal=False, first_stride=1, training=False):
    """Last map and logits."""
    x = channel_bottleneck(x, state, "bottleneck.", temporal, training)
    depth = count(state, "")
    for i in range(depth):
        stride = 2 if i == depth - 1 else first_stride if i == 0 else 1
        x = convolution(x, state, f"convs.{i}", (stride,) * 3, training)
    people, channels, frames, height, width = x.shape
    pooled = torch.zeros(people, channels, dtype=x.dtype)
    for t in range(frames):
        for row in range(height):
            for column in range(width):
                pooled = pooled + x[:, :, t, row, column] / (frames * height * width)
    if "fc.0.weight" in state:
        pooled = rectify(linear(pooled, state, "fc.0"))
    return x, linear(pooled, state, "classifier")


def count(state, prefix):
    return sum(key.startswith(f"{prefix}convs.") and key.endswith(".conv.weight") for key in state)


def convolution(x, state, name, stride, training):
    """Convolution padded with zeros by half its kernel, batch normalisation where there is one, ReLU."""
    weight, bias = state[f"{name}.conv.weight"], state.get(f"{name}.conv.bias")
    kernel = weight.shape[2:]
    people, channels, *sizes = x.shape
    half = [k // 2 for k in kernel]
    padded = x.new_zeros(people, channels, *(size + 2 * h for size, h in zip(sizes, half)))
    padded[:, :, half[0] : half[0] + sizes[0], half[1] : half[1] + sizes[1], half[2] : half[2] + sizes[2]] = x
    frames = []
    for t in range(0, sizes[0], stride[0]):
        rows = []
        for row in range(0, sizes[1], stride[1]):
            cells = []
            for column in range(0, sizes[2], stride[2]):
                window = padded[:, None, :, t : t + kernel[0], row : row + kernel[1], column : column + kernel[2]]
                cells.append((window * weight[None]).sum((2, 3, 4, 5)))
            rows.append(torch.stack(cells, -1))
        frames.append(torch.stack(rows, -2))
    out = torch.stack(frames, -3)
    if bias is not None:
        return rectify(out + bias[:, None, None, None])
    return rectify(batch_norm(out, state, f"{name}.norm", training))


def batch_norm(x, state, name, training):
    channels = []
    for c in range(x.shape[1]):
        cells = x[:, c].flatten()
        mean, variance = state[f"{name}.running_mean"][c], state[f"{name}.running_var"][c]
        if training:
            mean = cells.sum() / len(cells)
            variance = ((cells - mean) ** 2).sum() / len(cells)
        scale = state[f"{name}.weight"][c] / (variance + 1e-5) ** 0.5
        channels.append((x[:, c] - mean) * scale + state[f"{name}.bias"][c])
    return torch.stack(channels, 1)


def linear(x, state, name):
    return (x[:, None] * state[f"{name}.weight"]).sum(2) + state[f"{name}.bias"]


def rectify(x):
    return torch.where(x > 0, x, torch.zeros_like(x))
