from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from actionzoo.losses import joints_mse, joints_mse_per_sample
from tests.reference import joints_mse as reference

GOLDEN = Path(__file__).parents[3] / "shared" / "data" / "pose" / "golden" / "heatmaps.npz"


def example(dtype=torch.float32):
    pred, target = torch.randn(3, 4, 5, 7).to(dtype), torch.rand(3, 4, 5, 7).to(dtype)
    weight = torch.tensor([[1, 1, 0, 1], [0.5, 0, 2, 1], [0, 0, 0, 0]])
    return pred, target, weight


@pytest.mark.skipif(not GOLDEN.is_file(), reason="needs ../shared/data/pose/golden beside the repository")
def test_equals_the_hrnet_code(device):
    with np.load(GOLDEN) as golden:
        pred, target, weight = (torch.from_numpy(golden[k]).to(device) for k in ("heatmaps", "targets", "weights"))
        want = float(golden["joints_mse"])
    assert weight.shape == (3, 16, 1)
    assert joints_mse(pred, target, weight).item() == pytest.approx(want, abs=1e-6)
    assert joints_mse(pred, target, weight.squeeze(2)).item() == pytest.approx(want, abs=1e-6)
    assert joints_mse(pred, target, torch.ones_like(weight)).item() != pytest.approx(want, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_values_and_gradients_equal_the_reference(dtype, device):
    pred, target, weight = example(dtype)
    ours, theirs = pred.clone().to(device).requires_grad_(), pred.clone().requires_grad_()
    losses = joints_mse_per_sample(ours, target.to(device), weight.to(device))
    want = reference.joints_mse_per_sample(theirs, target, weight)
    assert losses.shape == (3,)
    assert losses.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    value, slope = {
        torch.float32: (1e-6, 1e-6),
        torch.float64: (1e-14, 1e-14),
        torch.bfloat16: (1e-6, 2**-8),
        torch.float16: (1e-6, 2**-11),
    }[dtype]
    assert_close(losses.double().cpu(), want, rtol=value, atol=0)
    mean = joints_mse(ours, target.to(device), weight.to(device))
    assert mean.item() == pytest.approx(want.mean().item(), rel=value)
    mean.backward()
    want.mean().backward()
    # the smallest float16 gradients are subnormal
    assert_close(ours.grad.cpu(), theirs.grad, rtol=slope, atol=6e-8 if dtype == torch.float16 else 1e-9)


def test_hand_worked_value():
    """Two joints of two pixels: ((2 * 3)^2 + (2 * 1)^2) / 2 / 2 = 10, the other of no weight, so 10 / 2 joints."""
    pred, target = torch.tensor([[[[4.0, 1.0]], [[9.0, 9.0]]]]), torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]]])
    assert joints_mse(pred, target, torch.tensor([[2.0, 0.0]])).item() == 5


def test_weights_of_one_halve_the_mean_squared_error():
    pred, target, _ = example()
    assert_close(joints_mse(pred, target, torch.ones(3, 4)), F.mse_loss(pred, target) / 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["pred", "target", "both"])
@pytest.mark.parametrize("absent", [0.0, -1.0, float("nan")], ids=["weight-0", "weight--1", "weight-nan"])
def test_a_joint_of_no_weight_enters_neither_value_nor_gradient(value, where, absent, device):
    pred, target, weight = example()
    want = joints_mse(pred, target, weight)
    absent_joints = weight == 0
    if where != "target":
        pred[absent_joints] = value
    if where != "pred":
        target[absent_joints] = value
    weight[absent_joints] = absent
    pred = pred.to(device).requires_grad_()
    loss = joints_mse(pred, target.to(device), weight.to(device))
    loss.backward()
    assert_close(loss.detach().cpu(), want)
    assert pred.grad.isfinite().all()
    assert pred.grad[absent_joints].count_nonzero() == 0
    assert pred.grad[~absent_joints].count_nonzero() == 6 * 35


def test_a_counted_nan_is_not_hidden():
    pred, target, weight = example()
    pred[0, 0, 0, 0] = torch.nan
    losses = joints_mse_per_sample(pred, target, weight)
    assert losses.isnan().tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64], ids=str)
def test_weights_of_any_type(dtype):
    pred, target, _ = example()
    weight = torch.tensor([[1, 0, 1, 1]] * 3)
    assert joints_mse(pred, target, weight.to(dtype)) == joints_mse(pred, target, weight.float())


@pytest.mark.parametrize(
    ("pred", "target", "weight", "message"),
    [
        ((3, 4, 5), (3, 4, 5), (3, 4), r"\(B, J, h, w\) of one shape, got \(3, 4, 5\)"),
        ((3, 4, 5, 7), (3, 4, 7, 5), (3, 4), r"one shape, got \(3, 4, 5, 7\) and \(3, 4, 7, 5\)"),
        ((0, 4, 5, 7), (0, 4, 5, 7), (0, 4), r"\(0, 4, 5, 7\)"),
        ((3, 4, 5, 7), (3, 4, 5, 7), (4, 3), r"\(3, 4\) or \(3, 4, 1\), got \(4, 3\)"),
        ((3, 4, 5, 7), (3, 4, 5, 7), (3,), r"weight per joint.*got \(3,\)"),
        ((3, 4, 5, 7), (3, 4, 5, 7), (3, 4, 2), r"weight per joint.*got \(3, 4, 2\)"),
    ],
    ids=["rank", "size", "empty", "weight-order", "weight-rank", "weight-size"],
)
def test_wrong_shapes(pred, target, weight, message):
    with pytest.raises(ValueError, match=message):
        joints_mse(torch.zeros(pred), torch.zeros(target), torch.zeros(weight))
