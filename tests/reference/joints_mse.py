"""Weighted mean squared error of joint heat maps, one map at a time."""

import torch


def joints_mse_per_sample(pred, target, weight):
    """`(B,)` in float64 for maps `(B, J, h, w)` and weights `(B, J)`."""
    samples = []
    for b in range(len(pred)):
        total = pred.new_zeros((), dtype=torch.float64)
        for j in range(pred.shape[1]):
            if weight[b, j] > 0:
                error = weight[b, j].double() * (pred[b, j].double() - target[b, j].double())
                total = total + (error * error).sum() / error.numel() / 2
        samples.append(total / pred.shape[1])
    return torch.stack(samples)
