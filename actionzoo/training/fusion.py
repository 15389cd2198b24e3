"""How much to trust the whole image and how much the person in it: the weights of ConViT-HAR's score fusion."""

import numpy as np
import torch
from torch import Tensor

from ..metrics.average_precision import one_vs_rest

EPSILON = 1e-12
"""Smallest probability of the truth that the loss sees: one example costs at most -log(1e-12) = 27.6."""


def fit_fusion_weights(
    image_probs: Tensor | np.ndarray,
    person_probs: Tensor | np.ndarray,
    targets: Tensor | np.ndarray,
    step: float = 0.01,
) -> tuple[float, float]:
    """Weights of the fused score `w_image * image_probs + w_person * person_probs` that minimise its loss.

    ConViT-HAR section 4.3, Eqs 1-3: the two weights sum to 1 and are those of the least training loss, 0.83 and 0.17
    on Stanford 40, 0.30 and 0.70 on VOC 2012. Here they are found on a grid of `w_image` from 0 to 1, both included,
    so that the fused score is never worse than either branch alone. The loss is the mean negative log-likelihood for
    class indices, and the mean binary cross-entropy over the annotated entries for multi-hot targets; either takes
    the logarithm of the probability that is given to the truth, raised to 1e-12 where it lies below. It is computed
    in float64. Among equal losses the largest `w_image` wins, since the image's branch needs no detector.

    Args:
        image_probs: (N, K) probabilities of the whole-image branch, repeated for every person of an image.
        person_probs: (N, K) probabilities of the human branch, one row per person.
        targets: (N,) integer class indices, or (N, K) multi-hot with 1 = present, 0 = absent and -1 = not annotated
            (left out).
        step: distance of the grid's points, in (0, 1]; where it does not divide 1, the last one is shorter.

    Returns:
        `(w_image, w_person)`, which sum to exactly 1.

    Raises:
        ValueError: wrong shapes, values that are no probabilities, targets outside their form, nothing annotated, or
            `step` outside (0, 1].
        TypeError: class indices that are not integers.
    """
    if not 0 < step <= 1:
        raise ValueError(f"step is the distance of the grid's points, in (0, 1], got {step}")
    images = torch.as_tensor(image_probs).detach()
    people = torch.as_tensor(person_probs).detach().to(images.device)
    if images.shape != people.shape:
        raise ValueError(
            f"image_probs and person_probs must have one shape (N, K), got {tuple(images.shape)} and "
            f"{tuple(people.shape)}; repeat an image's row for each of its people"
        )
    single = torch.as_tensor(targets).ndim == 1
    _check_probabilities("image_probs", images, single)
    _check_probabilities("person_probs", people, single)
    _, positive, annotated = one_vs_rest(images, targets)
    # An index says which class the score of interest belongs to; the others follow from it.
    counts = positive if single else annotated
    if not counts.any():
        raise ValueError("no entry of the targets is annotated (all are -1), so there is no loss to minimise")
    of_truth = [torch.where(positive, p, 1 - p)[counts] for p in (images.double(), people.double())]

    def loss(w_image: float) -> float:
        # lerp is exact at both ends, and where the branches agree, so that ties are ties
        return -torch.lerp(of_truth[1], of_truth[0], w_image).clamp(min=EPSILON).log().mean().item()

    w_image = min(_grid(step), key=loss)
    return w_image, 1 - w_image


def _grid(step: float) -> list[float]:
    """Points of [0, 1] from 1 down: the multiples of `step`, and 1."""
    steps = round(1 / step)
    if abs(steps * step - 1) < 1e-9:
        return [k / steps for k in range(steps, -1, -1)]
    return [1.0, *(k * step for k in range(int(1 / step), -1, -1))]


def _check_probabilities(name: str, probs: Tensor, single: bool) -> None:
    """Refuse what is no probability; rows must sum to 1 if the classes exclude one another."""
    if probs.ndim != 2 or 0 in probs.shape:
        raise ValueError(f"{name} must be (N, K) with N, K >= 1, got {tuple(probs.shape)}")
    if not ((probs >= 0) & (probs <= 1)).all():  # NaN fails both
        least, most = probs.min().item(), probs.max().item()
        take = "softmax" if single else "sigmoid"
        raise ValueError(f"{name} has values outside [0, 1] ({least:.4g} to {most:.4g}); take {take} of logits first")
    if single and (error := (probs.double().sum(1) - 1).abs().max().item()) > 1e-3:
        raise ValueError(
            f"rows of {name} do not sum to 1 (off by up to {error:.3g}): these look like logits; take softmax first"
        )
