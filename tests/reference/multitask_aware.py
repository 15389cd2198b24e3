"""Multitask-aware loss (Eqs 3-4), sample by sample, head by head and class by class, in float64."""

import torch

from .joints_mse import joints_mse_per_sample


def multitask_aware(output, heatmaps, weights, targets, *, lam, action, reduce, gamma=2.0):
    """Total, pose and action loss; the predictions of what is not annotated are never touched."""
    poses, actions = [], []
    for b in range(len(output.logits)):
        if not bool((heatmaps[b] == -1).all()) and any(weight > 0 for weight in weights[b].flatten().tolist()):
            sample = slice(b, b + 1)
            poses.append(joints_mse_per_sample(output.heatmaps[sample], heatmaps[sample], weights[sample])[0])
        heads = [output.logits[b], *(logits[b] for logits in output.stream_logits.values())]
        target = targets[b].tolist()
        if action == "focal" and target != -1:
            actions.append(sum(focal(head.double(), target, gamma) for head in heads))
        if action == "bce" and any(value != -1 for value in target):
            actions.append(sum(cross_entropy(head.double(), target) for head in heads))
    zero = torch.zeros((), dtype=torch.float64)
    samples = len(output.logits)
    pose = sum(poses, zero) / (samples if reduce == "batch" else max(len(poses), 1))
    acting = sum(actions, zero) / (samples if reduce == "batch" else max(len(actions), 1))
    return pose + lam * acting, pose, acting


def focal(logits, target, gamma):
    """One row of K logits and its class index."""
    powers = (logits - logits.max().detach()).exp()
    p = powers[target] / powers.sum()
    return -((1 - p) ** gamma) * p.log()


def cross_entropy(logits, targets):
    """Mean over the classes that are annotated, for a row of K logits and K targets."""
    losses = []
    for logit, target in zip(logits, targets, strict=True):
        if target != -1:
            p = 1 / (1 + (-logit).exp())
            losses.append(-target * p.log() - (1 - target) * (1 - p).log())
    return sum(losses) / len(losses)
