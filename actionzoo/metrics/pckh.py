"""Share of correct keypoints: normalised by the head (PCKh, MPII) or by the heat map."""

import numpy as np
import torch
from torch import Tensor

from ..layers.heatmaps import decode_heatmaps

# Joints of the columns of MPII's table, in MPII order; pelvis (6) and thorax (7) are in none and not in the mean.
MPII_GROUPS = {
    "Head": (9,),
    "Shoulder": (12, 13),
    "Elbow": (11, 14),
    "Wrist": (10, 15),
    "Hip": (2, 3),
    "Knee": (1, 4),
    "Ankle": (0, 5),
}
MPII_MEAN_JOINTS = (0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15)


def pckh(
    pred: Tensor | np.ndarray,
    target: Tensor | np.ndarray,
    visible: Tensor | np.ndarray,
    head_size: Tensor | np.ndarray,
    threshold: float = 0.5,
) -> float:
    """Share of visible joints that are predicted within `threshold` head sizes (Andriluka et al., CVPR 2014).

    All visible joints of all people count alike. MPII's own mean leaves pelvis and thorax out; it is the `"Mean"` of
    `pckh_groups`. A distance of exactly `threshold` counts as correct, as in the HRNet code.

    Args:
        pred: (N, J, 2) predicted x, y in pixels, or (N, J, 3) with a score that is not used. A joint that is not
            finite is wrong.
        target: (N, J, 2) true x, y in the same pixels, or (N, J, 3).
        visible: (N, J), above 0 for a joint that is annotated.
        head_size: (N,) length of the head segment in the same pixels; MPII takes 0.6 times the diagonal of the head
            box.
        threshold: Largest distance of a correct joint, in head sizes.

    Returns:
        PCKh in [0, 1].

    Raises:
        ValueError: wrong shapes, no visible joint, a head size that is not positive, a threshold that is negative or
            a visible target that is not finite.
    """
    correct, seen = _correct(pred, target, visible, head_size, threshold)
    return float(correct.sum().double() / seen.sum())


def pckh_per_joint(
    pred: Tensor | np.ndarray,
    target: Tensor | np.ndarray,
    visible: Tensor | np.ndarray,
    head_size: Tensor | np.ndarray,
    threshold: float = 0.5,
) -> Tensor:
    """`pckh` of every joint by itself.

    Args:
        pred: (N, J, 2) predicted x, y in pixels, or (N, J, 3) with a score that is not used.
        target: (N, J, 2) true x, y in the same pixels, or (N, J, 3).
        visible: (N, J), above 0 for a joint that is annotated.
        head_size: (N,) length of the head segment in the same pixels.
        threshold: Largest distance of a correct joint, in head sizes.

    Returns:
        (J,) float64 in [0, 1]; NaN for a joint that is visible nowhere.

    Raises:
        ValueError: as `pckh`.
    """
    correct, seen = _correct(pred, target, visible, head_size, threshold)
    return correct.sum(0).double() / seen.sum(0)


def pckh_groups(
    pred: Tensor | np.ndarray,
    target: Tensor | np.ndarray,
    visible: Tensor | np.ndarray,
    head_size: Tensor | np.ndarray,
    threshold: float = 0.5,
) -> dict[str, float]:
    """The columns of MPII's table, as in Table 2 of the body-part network and in the HRNet code.

    A column is the mean of its left and its right joint, `"Head"` the head top alone; where only one of the two is
    visible anywhere it stands alone. `"Mean"` counts every visible joint but pelvis and thorax alike, which is the
    HRNet code's mean over joints weighted by how often each is visible.

    Args:
        pred: (N, 16, 2) predicted x, y in pixels, or (N, 16, 3) with a score that is not used; joints in MPII order.
        target: (N, 16, 2) true x, y in the same pixels, or (N, 16, 3).
        visible: (N, 16), above 0 for a joint that is annotated.
        head_size: (N,) length of the head segment in the same pixels.
        threshold: Largest distance of a correct joint, in head sizes.

    Returns:
        Head, Shoulder, Elbow, Wrist, Hip, Knee, Ankle and Mean in [0, 1]; NaN where no joint of it is visible.

    Raises:
        ValueError: as `pckh`, or not 16 joints.
    """
    correct, seen = _correct(pred, target, visible, head_size, threshold)
    if seen.shape[1] != 16:
        raise ValueError(f"the columns are those of MPII's 16 joints, got {seen.shape[1]}; use pckh_per_joint")
    joints = correct.sum(0).double() / seen.sum(0)
    columns = {name: float(joints[list(group)].nanmean()) for name, group in MPII_GROUPS.items()}
    counted = list(MPII_MEAN_JOINTS)
    columns["Mean"] = float(correct[:, counted].sum().double() / seen[:, counted].sum())
    return columns


def heatmap_pck(pred: Tensor, target: Tensor, threshold: float = 0.5) -> Tensor:
    """How many heat-map maxima lie near the target's, for watching a training run (`accuracy` of the HRNet code).

    A joint is correct where its distance from the target's maximum is below `threshold` tenths of the map, x measured
    in tenths of the height and y in tenths of the width, as there. A target whose maximum lies in the first two rows
    or columns does not count, nor does an empty one.

    Args:
        pred: (B, J, h, w) predicted heat maps.
        target: (B, J, h, w) target heat maps.
        threshold: In tenths of the map.

    Returns:
        (1 + J,) float64 in [0, 1]: the mean over the joints that have a target, then every joint, NaN where it has
        none (the HRNet code writes -1).

    Raises:
        ValueError: If the maps are not (B, J, h, w) of one shape.
    """
    if pred.ndim != 4 or pred.shape != target.shape:
        raise ValueError(
            f"expected heat maps and targets (B, J, h, w) of one shape, got {tuple(pred.shape)} and "
            f"{tuple(target.shape)}"
        )
    found, wanted = (decode_heatmaps(maps)[..., :2].double().cpu() for maps in (pred, target))
    counted = (wanted > 1).all(2)
    tenths = wanted.new_tensor(pred.shape[2:]) / 10
    correct = ((found - wanted) / tenths).norm(dim=2) < threshold
    joints = (correct & counted).sum(0).double() / counted.sum(0)
    return torch.cat([joints.nanmean().reshape(1), joints])


def _correct(
    pred: Tensor | np.ndarray,
    target: Tensor | np.ndarray,
    visible: Tensor | np.ndarray,
    head_size: Tensor | np.ndarray,
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Which joints are visible and right, and which are visible: (N, J) bool each, on the CPU."""
    pred, target, visible, head_size = (
        torch.as_tensor(value).detach().cpu().double() for value in (pred, target, visible, head_size)
    )
    for name, points in (("pred", pred), ("target", target)):
        if points.ndim != 3 or points.shape[2] not in (2, 3) or points.shape[:2] != target.shape[:2]:
            raise ValueError(
                f"pred and target must be (N, J, 2) or (N, J, 3) of the same N and J, got {tuple(points.shape)} as "
                f"{name}, with a target {tuple(target.shape)}"
            )
    n, joints = target.shape[:2]
    if tuple(visible.shape) != (n, joints) or tuple(head_size.shape) != (n,):
        raise ValueError(
            f"visible must be ({n}, {joints}) and head_size ({n},), got {tuple(visible.shape)} and "
            f"{tuple(head_size.shape)}"
        )
    if not threshold >= 0:
        raise ValueError(f"threshold must be at least 0, got {threshold}")
    seen = visible > 0
    if not seen.any():
        raise ValueError("no joint is visible, so PCKh is undefined")
    if not target[..., :2][seen].isfinite().all():
        raise ValueError("target holds NaN or infinity at a visible joint; set its visibility to 0")
    sizes = head_size[seen.any(1)]
    if not (sizes.isfinite() & (sizes > 0)).all():
        raise ValueError("head_size must be positive for everyone with a visible joint")
    distance = (pred[..., :2] - target[..., :2]).norm(dim=2) / head_size[:, None]
    return (distance <= threshold) & seen, seen
