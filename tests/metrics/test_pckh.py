from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actionzoo.layers.heatmaps import MPII_JOINTS, encode_heatmaps
from actionzoo.metrics import heatmap_pck, pckh, pckh_groups, pckh_per_joint
from actionzoo.metrics.pckh import MPII_GROUPS, MPII_MEAN_JOINTS

GOLDEN = Path(__file__).parents[3] / "shared" / "data" / "pose" / "golden" / "heatmaps.npz"
COLUMNS = ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Mean"]


def offsets(*distances):
    """Predictions (N, J, 2) that far from targets at 0, alternately right and down."""
    distances = torch.tensor(distances)
    pred = torch.zeros(*distances.shape, 2)
    pred[:, ::2, 0], pred[:, 1::2, 1] = distances[:, ::2], distances[:, 1::2]
    return pred


def test_hand_worked_case():
    """Head sizes 10 and 20: within 5 and 10 pixels. The third joint is seen in the second person alone."""
    pred = offsets([5.0, 5.1, 99.0], [10.0, 9.0, 11.0])
    visible = torch.tensor([[1, 1, 0], [1, 1, 1]])
    arguments = pred, torch.zeros(2, 3, 2), visible, torch.tensor([10.0, 20.0])
    assert pckh(*arguments) == 3 / 5
    assert pckh_per_joint(*arguments).tolist() == [1, 0.5, 0]
    assert pckh(*arguments, threshold=0.55) == 1
    assert pckh(*arguments, threshold=0.45) == 1 / 5
    assert pckh(*(value.numpy() for value in arguments)) == 3 / 5


def test_the_threshold_itself_counts():
    """As in the HRNet code, though the paper writes "less than"."""
    arguments = torch.tensor([[[3.0, 4.0]]]), torch.zeros(1, 1, 2), torch.ones(1, 1)
    assert pckh(*arguments, torch.tensor([10.0])) == 1
    assert pckh(*arguments, torch.tensor([9.999])) == 0


def people(count, seed):
    """Random predictions near and far, partly visible, as numpy arrays."""
    r = np.random.default_rng(seed)
    target = r.uniform(0, 200, (count, 16, 2))
    pred = target + r.normal(0, 12, (count, 16, 2))
    visible = (r.random((count, 16)) < 0.7).astype(int)
    visible[:, 9] = 1
    return pred, target, visible, r.uniform(15, 60, count)


def mpii_table(pred, target, visible, head_size):
    """HRNet's way: a score per joint, then weighted by the joint's share of all that are visible."""
    scores, counts = [], []
    for j in range(16):
        seen = [n for n in range(len(pred)) if visible[n, j]]
        right = [n for n in seen if np.hypot(*(pred[n, j] - target[n, j])) <= 0.5 * head_size[n]]
        scores.append(len(right) / len(seen) if seen else np.nan)
        counts.append(0 if j in (6, 7) else len(seen))
    mean = sum(score * count for score, count in zip(scores, counts) if count) / sum(counts)
    pairs = [(12, 13), (11, 14), (10, 15), (2, 3), (1, 4), (0, 5)]
    return [scores[9], *(np.nanmean([scores[a], scores[b]]) for a, b in pairs), mean]


@pytest.mark.parametrize("count", [6, 40])
@pytest.mark.parametrize("seed", range(4))
def test_columns_equal_the_hrnet_table(count, seed):
    arguments = people(count, seed)
    columns = pckh_groups(*arguments)
    assert list(columns) == COLUMNS
    assert list(columns.values()) == pytest.approx(mpii_table(*arguments), abs=1e-12)
    assert 0.2 < columns["Mean"] < 0.95
    pred, target, visible, head_size = (torch.from_numpy(value) for value in arguments)
    without = visible.clone()
    without[:, 6:8] = 0
    assert columns["Mean"] == pytest.approx(pckh(pred, target, without, head_size))
    assert columns["Mean"] != pytest.approx(pckh(pred, target, visible, head_size), abs=1e-6)


def test_columns_name_the_joints_of_mpii():
    for column, joints in MPII_GROUPS.items():
        assert all(MPII_JOINTS[joint].endswith(column.lower()) or column == "Head" for joint in joints)
    assert MPII_JOINTS[MPII_GROUPS["Head"][0]] == "head_top"
    left_out = {MPII_JOINTS[joint] for joint in range(16)} - {MPII_JOINTS[joint] for joint in MPII_MEAN_JOINTS}
    assert left_out == {"pelvis", "thorax"}


def test_columns_without_a_visible_joint():
    visible = torch.zeros(1, 16)
    visible[0, [9, 12]] = 1
    pred = torch.zeros(1, 16, 2)
    pred[0, 9] = 100
    columns = pckh_groups(pred, torch.zeros(1, 16, 2), visible, torch.ones(1))
    assert (columns["Head"], columns["Shoulder"], columns["Mean"]) == (0, 1, 0.5)
    assert all(np.isnan(columns[name]) for name in ("Elbow", "Wrist", "Hip", "Knee", "Ankle"))
    pelvis = torch.zeros(1, 16)
    pelvis[0, 6] = 1
    assert np.isnan(pckh_groups(pred, torch.zeros(1, 16, 2), pelvis, torch.ones(1))["Mean"])


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 10), st.floats(-500, 500), st.integers(0, 99))
def test_moving_and_scaling_everything_changes_nothing(scale, shift, seed):
    pred, target, visible, head_size = people(5, seed)
    moved = scale * pred + shift, scale * target + shift, visible, scale * head_size
    assert pckh(*moved) == pckh(pred, target, visible, head_size)


def test_invisible_joints_may_hold_anything():
    pred, target, visible, head_size = people(8, 0)
    want = pckh(pred, target, visible, head_size)
    target[visible == 0] = np.nan
    pred[visible == 0] = np.inf
    assert pckh(pred, target, visible, head_size) == want


def test_a_prediction_that_is_not_finite_is_wrong():
    pred, target = torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)
    pred[0, 0, 0], pred[0, 1, 1] = torch.nan, torch.inf
    assert pckh(pred, target, torch.ones(1, 3), torch.ones(1)) == pytest.approx(1 / 3)


def test_a_score_in_the_third_place_is_not_a_coordinate():
    pred, target, visible, head_size = people(8, 1)
    scored = np.concatenate([pred, np.full((8, 16, 1), 1e6)], 2)
    assert pckh(scored, target, visible, head_size) == pckh(pred, target, visible, head_size)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pred": torch.zeros(2, 16)}, r"\(N, J, 2\) or \(N, J, 3\).*got \(2, 16\) as pred"),
        ({"pred": torch.zeros(2, 16, 4)}, r"got \(2, 16, 4\) as pred"),
        ({"pred": torch.zeros(3, 16, 2)}, r"got \(3, 16, 2\) as pred, with a target \(2, 16, 2\)"),
        ({"visible": torch.ones(2, 16, 1)}, r"visible must be \(2, 16\).*got \(2, 16, 1\)"),
        ({"head_size": torch.ones(2, 1)}, r"head_size \(2,\), got .*\(2, 1\)"),
        ({"visible": torch.zeros(2, 16)}, "no joint is visible"),
        ({"head_size": torch.tensor([1.0, 0.0])}, "head_size must be positive"),
        ({"head_size": torch.tensor([torch.nan, 1.0])}, "head_size must be positive"),
        ({"target": torch.full((2, 16, 2), torch.nan)}, "target holds NaN"),
        ({"threshold": -0.5}, "threshold must be at least 0, got -0.5"),
    ],
    ids=["rank", "columns", "people", "visible", "head", "nothing", "zero", "nan", "target", "threshold"],
)
@pytest.mark.parametrize("metric", [pckh, pckh_per_joint, pckh_groups])
def test_wrong_input(metric, wrong, message):
    good = {"pred": torch.zeros(2, 16, 2), "target": torch.zeros(2, 16, 2), "visible": torch.ones(2, 16)}
    with pytest.raises(ValueError, match=message):
        metric(**{**good, "head_size": torch.ones(2), **wrong})


def test_columns_need_the_joints_of_mpii():
    with pytest.raises(ValueError, match="16 joints, got 17; use pckh_per_joint"):
        pckh_groups(torch.zeros(1, 17, 2), torch.zeros(1, 17, 2), torch.ones(1, 17), torch.ones(1))


@pytest.mark.skipif(not GOLDEN.is_file(), reason="needs ../shared/data/pose/golden beside the repository")
def test_heatmap_pck_equals_the_hrnet_code():
    with np.load(GOLDEN) as golden:
        maps, targets = (torch.from_numpy(golden[key]) for key in ("heatmaps", "targets"))
        want = golden["pck"]
    assert heatmap_pck(maps, targets).tolist() == pytest.approx(want.tolist(), abs=1e-12)


def test_heatmap_pck_of_a_hand_worked_case():
    """Maps of 40 rows and 20 columns: half a tenth is 2 cells along x and 1 along y, and must not be reached."""
    truth = torch.tensor([[[10.0, 20.0], [10, 20], [10, 20], [10, 20], [1, 20], [10, 20]]])
    found = truth + torch.tensor([[[1.0, 0], [2, 0], [0, 0], [0, 1], [0, 0], [1, 0]]])
    targets, _ = encode_heatmaps(truth, (40, 20), sigma=1.0)
    maps, _ = encode_heatmaps(found, (40, 20), sigma=1.0)
    targets[0, 5] = 0
    scores = heatmap_pck(maps, targets)
    # the fifth lies in column 1 and the sixth is empty
    assert scores[1:5].tolist() == [1, 0, 1, 0]
    assert scores[5:].isnan().all()
    assert scores[0] == 0.5
    assert heatmap_pck(maps, targets, threshold=0.51)[1:5].tolist() == [1, 1, 1, 1]


def test_heatmap_pck_averages_joints_not_samples():
    truth = torch.full((3, 2, 2), 8.0)
    found = truth.clone()
    found[0, 0] += 6
    targets, _ = encode_heatmaps(truth, 16, sigma=1.0)
    maps, _ = encode_heatmaps(found, 16, sigma=1.0)
    targets[1:, 1] = 0
    assert heatmap_pck(maps, targets).tolist() == pytest.approx([(2 / 3 + 1) / 2, 2 / 3, 1])


def test_heatmap_pck_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"one shape, got \(1, 2, 4, 4\) and \(1, 3, 4, 4\)"):
        heatmap_pck(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4))
