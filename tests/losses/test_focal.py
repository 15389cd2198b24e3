import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from actionzoo.losses import focal_loss
from tests.reference.focal import focal

GAMMAS = [0.0, 0.5, 1.0, 2.0, 3.7]


def with_gradient(logits, targets, gamma, reduction="none"):
    leaf = logits.detach().clone().requires_grad_()
    losses = focal_loss(leaf, targets, gamma, reduction)
    losses.sum().backward()
    return losses.detach().cpu(), leaf.grad.cpu()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.floats(-30, 30), min_size=3, max_size=3), min_size=1, max_size=3),
    target=st.integers(0, 2),
    gamma=st.sampled_from(GAMMAS),
)
def test_values_and_gradients_equal_the_reference(rows, target, gamma):
    losses, grad = with_gradient(torch.tensor(rows, dtype=torch.float64), torch.tensor([target] * len(rows)), gamma)
    for row, loss, slopes in zip(rows, losses.tolist(), grad.tolist(), strict=True):
        want, want_slopes = focal(row, target, gamma)
        assert loss == pytest.approx(want, rel=1e-9, abs=1e-12)
        # log_softmax keeps p but not 1 - p near p = 1, and a small gamma makes much of it
        assert slopes == pytest.approx(want_slopes, rel=1e-6, abs=1e-6 if 0 < gamma < 1 else 1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_in_single(dtype, gamma, device):
    logits = (3 * torch.randn(16, 7)).to(dtype)
    targets = torch.randint(7, (16,))
    losses, grad = with_gradient(logits.to(device), targets.to(device), gamma)
    want = [focal(row, target, gamma) for row, target in zip(logits.tolist(), targets.tolist(), strict=True)]
    assert losses.dtype == torch.float32
    assert grad.dtype == dtype
    assert_close(losses, torch.tensor([loss for loss, _ in want]), rtol=2e-5, atol=1e-6)
    tolerance = {torch.float32: 2e-5, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    assert_close(grad.float(), torch.tensor([slopes for _, slopes in want]), rtol=tolerance, atol=2e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gamma_zero_is_the_cross_entropy(reduction, device):
    logits = 5 * torch.randn(8, 5, dtype=torch.float64, device=device)
    targets = torch.randint(5, (8,), device=device)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = focal_loss(ours, targets, gamma=0, reduction=reduction)
    want = F.cross_entropy(theirs, targets, reduction=reduction)
    assert loss.shape == want.shape
    assert_close(loss, want, rtol=1e-12, atol=1e-12)
    loss.sum().backward()
    want.sum().backward()
    assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_hand_worked_value():
    """p = 3/4: (1/4)^2 log(4/3)."""
    logits = torch.tensor([[math.log(3), 0.0]])
    assert focal_loss(logits, torch.tensor([0])).item() == pytest.approx(math.log(4 / 3) / 16)
    assert focal_loss(logits, torch.tensor([1])).item() == pytest.approx(9 / 16 * math.log(4))


def test_reductions():
    logits, targets = torch.randn(6, 4), torch.randint(4, (6,))
    rows = focal_loss(logits, targets, reduction="none")
    assert_close(focal_loss(logits, targets), rows.mean())
    assert_close(focal_loss(logits, targets, reduction="sum"), rows.sum())


@pytest.mark.parametrize("gamma", [*GAMMAS, 0.01])
@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (torch.float16, 6e4),
        (torch.bfloat16, 1e30),
        (torch.float32, 1e30),
        (torch.float32, 20.0),
        (torch.float64, 1e300),
    ],
    ids=str,
)
def test_extreme_logits_stay_finite(dtype, size, gamma, device):
    """Surely right, surely wrong, undecided."""
    logits = torch.tensor([[size, -size, -size], [-size, size, size], [size, size, size]], dtype=dtype, device=device)
    losses, grad = with_gradient(logits, torch.zeros(3, dtype=torch.long, device=device), gamma)
    assert losses.isfinite().all()
    assert grad.isfinite().all()
    assert losses[0] < 1e-8
    assert losses[1].item() == pytest.approx(2 * logits[0, 0].item() + math.log(2), rel=1e-6)
    assert losses[2].item() == pytest.approx((2 / 3) ** gamma * math.log(3), rel=1e-6)


def test_an_index_out_of_range_is_refused():
    for target in (3, -1):
        with pytest.raises(RuntimeError, match=f"index {target} is out of bounds"):
            focal_loss(torch.zeros(1, 3), torch.tensor([target]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8], ids=str)
def test_any_integer_type(dtype):
    logits, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    assert focal_loss(logits, targets.to(dtype)) == focal_loss(logits, targets)


def test_compiles_in_one_graph():
    torch._dynamo.reset()
    compiled = torch.compile(focal_loss, backend="eager", fullgraph=True)
    logits, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    assert_close(compiled(logits, targets), focal_loss(logits, targets))


@pytest.mark.parametrize(
    ("logits", "targets", "options", "error", "message"),
    [
        (torch.zeros(4), torch.zeros(4).long(), {}, ValueError, r"logits \(B, K\).*got shape \(4,\)"),
        (torch.zeros(0, 3), torch.zeros(0).long(), {}, ValueError, r"B, K >= 1, got shape \(0, 3\)"),
        (torch.zeros(4, 3), torch.zeros(3).long(), {}, ValueError, r"targets \(4,\).*got \(3,\)"),
        (torch.zeros(4, 3), torch.zeros(4, 3).long(), {}, ValueError, r"targets \(4,\).*got \(4, 3\)"),
        (torch.zeros(4, 3), torch.zeros(4), {}, TypeError, "integer class indices as targets, got torch.float32"),
        (torch.zeros(4, 3).long(), torch.zeros(4).long(), {}, TypeError, "floating-point logits, got torch.int64"),
        (torch.zeros(4, 3), torch.zeros(4).long(), {"gamma": -1.0}, ValueError, "gamma must be at least 0, got -1"),
        (torch.zeros(4, 3), torch.zeros(4).long(), {"gamma": math.nan}, ValueError, "gamma.*nan"),
        (torch.zeros(4, 3), torch.zeros(4).long(), {"reduction": "max"}, ValueError, "unknown reduction 'max'"),
    ],
    ids=["rank", "empty", "length", "one-hot", "float", "int-logits", "gamma", "gamma-nan", "reduction"],
)
def test_wrong_input(logits, targets, options, error, message):
    with pytest.raises(error, match=message):
        focal_loss(logits, targets, **options)
