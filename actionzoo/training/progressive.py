"""Progressive attention training of PRF-Net, as one function that fits anyone's loop."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import RegionFocusedGenerator, chain_boxes


class ProgressiveOutput(NamedTuple):
    """What one progressive iteration did."""

    losses: Tensor
    """`(S + 1,)` detached losses of the last round: stages 1 … S, then the concat head."""
    logits: Tensor
    """`(B, K)` detached logits of the concat head, before its update."""
    boxes: Tensor
    """`(B, S, 4)` focus boxes in pixels of the original images; empty `(B, 0, 4)` without a generator."""


def progressive_step(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    generator: RegionFocusedGenerator | Literal["model"] | None = "model",
    weighted: bool = True,
    repeats: int = 1,
    final_input: str = "original",
    concat_weight: float = 1.0,
    backward: Callable[[Tensor], Any] | None = None,
    before_step: Callable[[], Any] | None = None,
    step: Callable[[], Any] | None = None,
) -> ProgressiveOutput:
    """Train PRF-Net on one mini-batch in S + 1 steps (PRF-Net section 3.1, Fig. 3).

    Each step clears the gradients, runs the network only as deep as its head needs, and updates only what it
    used: deeper stages and the other heads keep their values, their BatchNorm statistics and their optimizer
    state (gradients are None, so neither weight decay nor momentum reaches them). Step s trains the head of
    stage s on image `I_s`; `I_1` is the original and `I_{s+1}` the region that the generator cuts out of `I_s`
    with the features of step s. Step S + 1 trains the concat head with the mixture weights of Eq. 3.

    Args:
        model: A `PRFNet`, or a wrapper such as `DistributedDataParallel(..., find_unused_parameters=True)`.
        images: `(B, C, H, W)` normalised images.
        targets: What `criterion` takes, usually `(B,)` class indices.
        optimizer: Optimizer over the model's parameters.
        criterion: `(logits, targets) -> scalar loss`.
        generator: `"model"` for the model's own, another generator, or None for no zooming (an ablation of
            Table 5).
        weighted: Whether the mixture uses the losses; False concatenates unweighted (an ablation of Table 5).
        repeats: Rounds of S + 1 steps on this mini-batch, each beginning with the original (Q of Fig. 3).
        final_input: Image of step S + 1: `"original"`, as at inference, or `"region"`, the last crop.
        concat_weight: Factor on the loss of step S + 1.
        backward: Called with the loss instead of `loss.backward()`, e.g. `accelerator.backward`.
        before_step: Called between the backward pass and the optimizer's step, e.g. to clip gradients.
        step: Called instead of `optimizer.step()`, e.g. `lambda: (scaler.step(optimizer), scaler.update())`.

    Returns:
        Losses, logits and boxes of the last round.

    Raises:
        ValueError: If `final_input` is unknown or `repeats` is below 1.
    """
    if final_input not in ("original", "region"):
        raise ValueError(f"final_input is 'original' or 'region', got {final_input!r}")
    if repeats < 1:
        raise ValueError(f"repeats is the number of rounds, at least 1, got {repeats}")
    network: Any = getattr(model, "module", model)
    focus: Callable[[Tensor, Tensor], Any] | None = network.focus if isinstance(generator, str) else generator

    def update(logits: Tensor, weight: float = 1.0) -> Tensor:
        loss = criterion(logits, targets)
        (backward or Tensor.backward)(loss * weight if weight != 1 else loss)
        if before_step is not None:
            before_step()
        (step or optimizer.step)()
        return loss.detach()

    stages, losses, boxes, logits = network.num_stages, [], [], images.new_empty(0)
    for _ in range(repeats):
        current, losses, boxes = images, [], []
        for stage in range(1, stages + 1):
            optimizer.zero_grad(set_to_none=True)
            out = model(current, stage=stage, return_features=True)
            if focus is not None:
                # the crop is made before the update, from the very features that the head has seen
                current, box = focus(current, out.features.detach())
                boxes.append(box)
            losses.append(update(out.logits))
        optimizer.zero_grad(set_to_none=True)
        final = images if final_input == "original" else current
        logits = model(final, stage=stages + 1, losses=torch.stack(losses) if weighted else None)
        losses.append(update(logits, concat_weight))
    size = (images.shape[2], images.shape[3])
    chained = chain_boxes(boxes, size) if boxes else images.new_empty(images.shape[0], 0, 4)
    return ProgressiveOutput(torch.stack(losses), logits.detach(), chained)
