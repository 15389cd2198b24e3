"""Attention-image stream of the body-part net, written out from a state dict (sections 3.2 and 3.5)."""

import torch
import torch.nn.functional as F


def attention_image(image, heatmaps, features, state, train):
    """Feature vector `(B, N)`, attention and attended image for a trunk of basic blocks."""
    attention = upsample(conv_bn_relu(heatmaps, state, "attention", train), image.shape[2:])
    attended = image + image * attention
    x = F.conv2d(attended, state["trunk.conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(F.relu(norm(x, state, "trunk.bn1", train)), 3, stride=2, padding=1)
    for i, extra in enumerate(features):
        for block in range(count(state, f"trunk.layer{i + 1}.")):
            x = basic_block(x, state, f"trunk.layer{i + 1}.{block}", train, stride=2 if i and not block else 1)
        x = conv_bn_relu(torch.cat([x, extra], 1), state, f"transitions.{i}", train)
    return x.sum((2, 3)) / (x.shape[2] * x.shape[3]), attention, attended


def count(state, prefix):
    return len({name.split(".")[2] for name in state if name.startswith(prefix)})


def basic_block(x, state, name, train, stride):
    y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
    y = F.relu(norm(y, state, f"{name}.bn1", train))
    y = norm(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1), state, f"{name}.bn2", train)
    if f"{name}.downsample.0.weight" in state:
        x = norm(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride), state, f"{name}.downsample.1", train)
    return F.relu(y + x)


def conv_bn_relu(x, state, name, train):
    weight = state[f"{name}.0.weight"]
    return F.relu(norm(F.conv2d(x, weight, padding=weight.shape[2] // 2), state, f"{name}.1", train))


def norm(x, state, name, train):
    if train:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    else:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / (var + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][:, None, None]


def upsample(x, size):
    """Bilinear, half-pixel centres, as two matrix products."""
    rows, columns = (weights(length, out).to(x) for length, out in zip(x.shape[2:], size, strict=True))
    return rows @ x @ columns.T


def weights(length, out):
    matrix = torch.zeros(out, length, dtype=torch.float64)
    for i in range(out):
        source = max((i + 0.5) * length / out - 0.5, 0)
        low = min(int(source), length - 1)
        matrix[i, low] += 1 - (source - low)
        matrix[i, min(low + 1, length - 1)] += source - low
    return matrix
