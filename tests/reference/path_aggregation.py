"""PANet's neck (Liu et al. 2018, section 3.1) over a feature pyramid, one output pixel at a time."""

import torch


def path_aggregation(maps, state, steps):
    """Maps, the finest first, from a state dict; `steps` say how many times coarser each is than the one before."""
    laterals = [convolve(x, state, f"top_down.inner_blocks.{i}.0", 1, 0) for i, x in enumerate(maps)]
    merged = [laterals[-1]]
    for lateral in reversed(laterals[:-1]):
        merged.insert(0, lateral + nearest(merged[0], lateral.shape[2:]))
    pyramid = [convolve(x, state, f"top_down.layer_blocks.{i}.0", 1, 1) for i, x in enumerate(merged)]
    path = pyramid[:1]
    for i, step in enumerate(steps):
        carried = rectify(convolve(path[i], state, f"down.{i}", step, 1))
        path.append(rectify(convolve(carried + pyramid[i + 1], state, f"fuse.{i}", 1, 1)))
    return path


def convolve(x, state, name, stride, padding):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    batch, channels, height, width = x.shape
    padded = x.new_zeros(batch, channels, height + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = x
    side = weight.shape[2]
    rows = []
    for top in range(0, height + 2 * padding - side + 1, stride):
        line = []
        for left in range(0, width + 2 * padding - side + 1, stride):
            window = padded[:, None, :, top : top + side, left : left + side]
            line.append((window * weight[None]).sum((2, 3, 4)) + bias)
        rows.append(torch.stack(line, -1))
    return torch.stack(rows, -2)


def nearest(x, size):
    """Output pixel i of n reads pixel `floor(i * side / n)`."""
    rows = [i * x.shape[2] // size[0] for i in range(size[0])]
    columns = [i * x.shape[3] // size[1] for i in range(size[1])]
    return torch.stack([torch.stack([x[:, :, row, column] for column in columns], -1) for row in rows], -2)


def rectify(x):
    return torch.where(x > 0, x, torch.zeros_like(x))
