"""Scoring of pose and action networks: PCK and PCKh of the joints, accuracy and mAP of every head."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..layers import decode_heatmaps
from ..metrics import mean_average_precision, pckh, pckh_groups, wilson_interval
from .evaluate import Evaluation

MPII_COUNT = 16
"""Joints of MPII's order, of which the groups of Table 2 are made."""


@dataclass(frozen=True)
class PeopleEvaluation:
    """Scores of a pose and action network."""

    actions: Evaluation | None
    """Of the concat head, over the people with one action; None where there are none."""
    metrics: dict[str, Any]
    """What they come to, see `evaluate_people`."""
    joints: Tensor
    """`(N, J, 3)` decoded joints of everybody: x and y in heat-map cells, and the maximum."""
    truth: Tensor
    """`(N, J, 3)` annotated joints as the loader gave them."""
    head_sizes: Tensor
    """`(N,)` PCKh's reference lengths in heat-map cells, NaN where unknown."""


@torch.no_grad()
def evaluate_people(
    model: Any, loader: Iterable[Any], *, device: torch.device | str = "cpu", progress: bool = False
) -> PeopleEvaluation:
    """Score a pose net or a body-part network on batches of `PersonInput` (body-part net, Tables 2 and 3).

    Args:
        model: Returns heat maps, or a `BodyPartOutput`; in eval mode meanwhile, every module back in its own mode
            afterwards.
        loader: Batches of cropped people, whose joints are in heat-map cells.
        device: Where to run; the model is moved there.
        progress: Show a progress bar.

    Returns:
        Metrics in percent. `people` counts all. Over the `posed` ones, whose joints are decoded with the quarter
        shift: `pck`, the joints within a twentieth of the heat map's height, and, where head sizes are known,
        `pckh` at half of them; for MPII's 16 joints that is MPII's mean, and `pckh_groups` has the columns of
        Table 2. Over the `actions` ones: `top1`, its 95 % interval and `map` of the concat head, and the same of
        every other head in `streams` and of their `ensemble`. People with several actions each have no `top1`.

    Raises:
        ValueError: If the loader is empty.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.to(device).eval()
    if progress:
        from tqdm import tqdm

        loader = tqdm(loader, "scoring", leave=False)
    joints, truth, heads, labels, height = [], [], [], [], 0
    scores: dict[str, list[Tensor]] = {}
    try:
        for batch in loader:
            output = model(batch[0].to(device))
            maps = output if isinstance(output, Tensor) else output.heatmaps
            height = maps.shape[2]
            joints.append(decode_heatmaps(maps.float(), quarter_shift=True).cpu())
            truth.append(batch[1])
            labels.append(batch[2])
            heads.append(batch[3])
            if not isinstance(output, Tensor):
                for name, values in _probabilities(model, output, batch[2].ndim == 2).items():
                    scores.setdefault(name, []).append(values.cpu())
    finally:
        for module, mode in modes:
            module.training = mode
    if not joints:
        raise ValueError("there is nobody to score: the loader is empty")
    pose = torch.cat(joints), torch.cat(truth), torch.cat(heads)
    metrics: dict[str, Any] = {"people": len(pose[0]), **_pose_metrics(*pose, height)}
    targets = torch.cat(labels)
    known = (targets != -1).flatten(1).any(1) if targets.ndim == 2 else targets >= 0
    if not scores or not known.any():
        return PeopleEvaluation(None, metrics, *pose)
    by_head = {name: torch.cat(values)[known] for name, values in scores.items()}
    found = {name: _action_metrics(values, targets[known]) for name, values in by_head.items()}
    metrics |= {"actions": int(known.sum()), **found.pop("concat")}
    metrics["ensemble"], metrics["streams"] = found.pop("ensemble"), found
    several = targets.ndim == 2
    actions = None if several else Evaluation(by_head["concat"], targets[known], metrics)
    return PeopleEvaluation(actions, metrics, *pose)


def _probabilities(model: Any, output: Any, multi_label: bool) -> dict[str, Tensor]:
    """`(B, K)` of every stream, the concat head and the ensemble."""
    logits = {**output.stream_logits, "concat": output.logits}
    found = {name: x.float().sigmoid() if multi_label else x.float().softmax(1) for name, x in logits.items()}
    return {**found, "ensemble": model.ensemble(output, multi_label)}


def _pose_metrics(pred: Tensor, truth: Tensor, heads: Tensor, height: int) -> dict[str, Any]:
    """PCK and PCKh@0.5 in percent over the people with a pose, and those with a head size among them."""
    posed = (truth[:, :, 2] > 0).any(1)
    if not posed.any():
        return {}
    pred, truth, heads = pred[posed, :, :2], truth[posed], heads[posed]
    visible = truth[..., 2] > 0
    share = pckh(pred, truth, visible, torch.full_like(heads, height / 10))
    metrics: dict[str, Any] = {"posed": len(truth), "pck": round(100 * share, 2)}
    sized = heads.isfinite() & (heads > 0)
    if not sized.any():
        return metrics
    known = pred[sized], truth[sized], visible[sized], heads[sized]
    if truth.shape[1] != MPII_COUNT:
        return {**metrics, "pckh": round(100 * pckh(*known), 2)}
    # JSON has no NaN, which is the column of joints that nobody shows
    groups = {name: None if v != v else round(100 * v, 2) for name, v in pckh_groups(*known).items()}
    return {**metrics, "pckh": groups["Mean"], "pckh_groups": groups}


def _action_metrics(scores: Tensor, targets: Tensor) -> dict[str, Any]:
    average = {"map": round(100 * mean_average_precision(scores, targets), 2)}
    if targets.ndim == 2:
        return average
    correct = int((scores.argmax(1) == targets).sum())
    low, high = wilson_interval(correct, len(targets))
    interval = [round(100 * low, 2), round(100 * high, 2)]
    return {"top1": round(100 * correct / len(targets), 2), "top1_interval": interval, **average}
