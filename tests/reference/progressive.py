"""Progressive training of PRF-Net written out plainly: freeze by hand, one stage after another."""

import copy

import torch
import torch.nn.functional as F


def used_by_stage(model, stage):
    """Names of the parameters and buffers that the step of a stage may change."""
    stages = model.num_stages
    if stage == stages + 1:
        return {k for k in model.state_dict() if not k.startswith("stage_heads.")}
    blocks = ["conv1", "bn1", *[f"layer{i}" for i in range(1, 5)]]
    # out_indices count the stem as map 0 and layer i as map i
    deepest = model.out_indices[stage - 1]
    allowed = tuple(f"backbone.{b}." for b in blocks[: 2 + deepest])
    allowed += (f"attention.{stage - 1}.", f"stage_heads.{stage - 1}.")
    return {k for k in model.state_dict() if k.startswith(allowed)}


def mixture(losses):
    low, high, mean = min(losses), max(losses), sum(losses) / len(losses)
    return [(1 - (v - low) / (high - low) if high > low else 1.0) + mean for v in losses]


def sgd_iteration(model, images, targets, lr):
    """One iteration of S + 1 steps of plain SGD, each over a fresh backward pass; returns model and losses."""
    model = copy.deepcopy(model)
    current, losses = images, []
    for stage in range(1, model.num_stages + 2):
        model.zero_grad()
        maps = model.backbone.forward_intermediates(
            images if stage > model.num_stages else current,
            indices=list(model.out_indices[: min(stage, model.num_stages)]),
            stop_early=True,
            intermediates_only=True,
        )
        if stage <= model.num_stages:
            att = model.attention[stage - 1](maps[-1])
            loss = F.cross_entropy(model.stage_heads[stage - 1](att), targets)
            current, _ = model.focus(current, maps[-1].detach())
        else:
            atts = [block(x) for block, x in zip(model.attention, maps)]
            weights = mixture(losses)
            loss = F.cross_entropy(model.head(torch.cat([w * a for w, a in zip(weights, atts)][::-1], 1)), targets)
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= lr * p.grad
        losses.append(loss.item())
    return model, losses
