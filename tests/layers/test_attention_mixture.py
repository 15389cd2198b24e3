import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from actionzoo.layers import WeightedAttentionMixture, mixture_weights
from tests.reference import attention_mixture as reference

MODES = ["mean", "ratio", "share"]
modes = pytest.mark.parametrize("mode", MODES)


@pytest.mark.parametrize(
    ("mode", "want"),
    [
        # first terms 0, 2/3 and 1; sum 3.5
        ("mean", [7 / 6, 11 / 6, 13 / 6]),
        ("ratio", [1.75, 25 / 6, 8.0]),
        ("share", [1.0, 5 / 3, 2.0]),
    ],
)
def test_weights_of_losses_worked_by_hand(mode, want, device):
    weights = mixture_weights(torch.tensor([2.0, 1.0, 0.5], device=device), mode)
    assert weights.device.type == device.type
    assert_close(weights.cpu(), torch.tensor(want), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("mode", "want"), [("mean", 1.7), ("ratio", 4.0), ("share", 2.0)])
def test_equal_losses(mode, want):
    assert mixture_weights([0.7, 0.7, 0.7], mode).tolist() == pytest.approx([want] * 3)


def test_mean_is_the_default():
    assert mixture_weights([2.0, 1.0, 0.5]).tolist() == mixture_weights([2.0, 1.0, 0.5], mode="mean").tolist()
    assert WeightedAttentionMixture().mode == "mean"


positive = st.floats(1e-3, 1e3)


@modes
@settings(max_examples=60, deadline=None)
@given(losses=st.lists(positive, min_size=1, max_size=5))
def test_equals_the_reference(mode, losses):
    weights = mixture_weights(torch.tensor(losses, dtype=torch.float64), mode)
    assert weights.dtype == torch.float64
    assert weights.tolist() == pytest.approx(reference.mixture_weights(losses, mode), rel=1e-12)
    single = [torch.tensor(loss).item() for loss in losses]
    assert mixture_weights(single, mode).tolist() == pytest.approx(reference.mixture_weights(single, mode), rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(losses=st.lists(st.floats(0, 1e6), min_size=1, max_size=5))
def test_mean_weights_lie_between_the_mean_and_one_more(losses):
    weights = mixture_weights(torch.tensor(losses, dtype=torch.float64))
    mean = math.fsum(losses) / len(losses)
    slack = 1e-9 * (1 + mean)
    assert all(mean - slack <= weight <= 1 + mean + slack for weight in weights.tolist())
    assert weights.max().item() == pytest.approx(1 + mean)
    if max(losses) > min(losses):
        assert weights.min().item() == pytest.approx(mean)


@modes
@settings(max_examples=60, deadline=None)
@given(losses=st.lists(positive, min_size=2, max_size=5))
def test_a_smaller_loss_has_a_larger_weight(mode, losses):
    weights = mixture_weights(torch.tensor(losses, dtype=torch.float64), mode).tolist()
    for loss, weight in zip(losses, weights, strict=True):
        for other, other_weight in zip(losses, weights, strict=True):
            assert loss >= other or weight >= other_weight
            assert loss != other or weight == other_weight


@modes
@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_switches_the_weighting_off(mode, loss, device):
    losses = torch.tensor([0.5, loss, 2.0], device=device)
    assert mixture_weights(losses, mode).tolist() == [1, 1, 1]
    assert mixture_weights([math.inf] * 2, mode).tolist() == [1, 1]


@modes
def test_a_loss_of_zero_stays_finite(mode):
    weights = mixture_weights([0.0, 1.0], mode)
    assert weights.isfinite().all()
    assert weights[0] > weights[1]
    assert mixture_weights([0.0, 0.0], mode).isfinite().all()


@modes
@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
def test_any_number_of_stages(mode, stages, device):
    losses = torch.rand(stages, dtype=torch.float64) + 0.1
    atts = [torch.randn(2, 3, dtype=torch.float64) for _ in range(stages)]
    fused = WeightedAttentionMixture(mode)([att.to(device) for att in atts], losses.to(device))
    weights = reference.mixture_weights(losses.tolist(), mode)
    want = reference.concatenate([att.tolist() for att in atts], weights)
    assert_close(fused.cpu(), torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_values_and_gradients(dtype, device):
    atts = [torch.randn(3, 5).to(dtype) for _ in range(3)]
    upstream = torch.randn(3, 15).to(dtype)
    losses = [2.0, 1.0, 0.5]
    leaves = [att.clone().to(device).requires_grad_() for att in atts]
    fused = WeightedAttentionMixture()(leaves, torch.tensor(losses, device=device))
    fused.backward(upstream.to(device))
    assert fused.dtype == dtype
    weights = reference.mixture_weights(losses, "mean")
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-6, torch.bfloat16: 2**-7}[dtype]
    want = torch.tensor(reference.concatenate([att.tolist() for att in atts], weights))
    assert_close(fused.detach().cpu().float(), want, rtol=tolerance, atol=0)
    # stage i lies at the place of S - 1 - i, and its gradient carries the same weight
    for i, leaf in enumerate(leaves):
        part = upstream[:, 5 * (2 - i) : 5 * (3 - i)].double()
        assert_close(leaf.grad.cpu().double(), weights[i] * part, rtol=tolerance, atol=0)


def test_without_losses_the_deepest_stage_comes_first_unweighted(device):
    """Eq. 14."""
    atts = [torch.full((2, 2), float(stage), device=device, requires_grad=True) for stage in (1, 2, 3)]
    fused = WeightedAttentionMixture("ratio")(atts)
    assert fused.tolist() == [[3, 3, 2, 2, 1, 1]] * 2
    fused.sum().backward()
    assert all(att.grad.eq(1).all() for att in atts)


def test_each_weight_meets_its_own_stage():
    """Eq. 4: w[0] goes with the shallowest vector, which comes last."""
    atts = [torch.ones(1, 1)] * 3
    fused = WeightedAttentionMixture()(atts, [2.0, 1.0, 0.5])
    assert fused[0].tolist() == pytest.approx([13 / 6, 11 / 6, 7 / 6])


def test_the_vectors_given_are_left_alone():
    atts = [torch.ones(1, 2), torch.ones(1, 2)]
    WeightedAttentionMixture()(atts, [3.0, 1.0])
    assert [att.tolist() for att in atts] == [[[1, 1]], [[1, 1]]]


@modes
def test_no_gradient_flows_into_the_losses(mode):
    losses = torch.tensor([2.0, 1.0, 0.5], requires_grad=True)
    assert not mixture_weights(losses, mode).requires_grad
    assert not mixture_weights(list(losses), mode).requires_grad
    atts = [torch.randn(2, 3, requires_grad=True) for _ in range(3)]
    WeightedAttentionMixture(mode)(atts, losses).sum().backward()
    assert losses.grad is None
    assert all(att.grad is not None for att in atts)


def test_losses_may_be_numbers_scalars_or_one_tensor():
    want = mixture_weights(torch.tensor([2.0, 1.0, 0.5])).tolist()
    assert mixture_weights([2.0, 1.0, 0.5]).tolist() == want
    assert mixture_weights((2, 1, 0.5)).tolist() == want
    assert mixture_weights([torch.tensor(2.0), torch.tensor(1.0), torch.tensor(0.5)]).tolist() == want


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_losses_are_weighted_in_single_precision(dtype):
    losses = torch.tensor([2.0, 1.0, 0.5], dtype=dtype)
    weights = mixture_weights(losses)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([7 / 6, 11 / 6, 13 / 6], rel=1e-6)


def test_compiles_in_one_graph():
    torch._dynamo.reset()
    mixture = WeightedAttentionMixture()
    atts, losses = [torch.randn(2, 3) for _ in range(3)], torch.tensor([2.0, 1.0, 0.5])
    compiled = torch.compile(mixture, backend="eager", fullgraph=True)
    assert_close(compiled(atts, losses), mixture(atts, losses))


def test_it_has_no_parameters_and_shows_its_mode():
    mixture = WeightedAttentionMixture("share")
    assert not mixture.state_dict()
    assert repr(mixture) == "WeightedAttentionMixture(mode='share')"


def test_wrong_input():
    for build in (WeightedAttentionMixture, lambda mode: mixture_weights([1.0], mode)):
        with pytest.raises(ValueError, match="unknown mode 'max', expected one of mean, ratio, share"):
            build("max")
    for losses, shape in ((torch.ones(2, 2), r"\(2, 2\)"), (torch.tensor(1.0), r"\(\)"), ([], r"\(0,\)")):
        with pytest.raises(ValueError, match=f"one-dimensional with one loss per stage, got shape {shape}"):
            mixture_weights(losses)
    mixture = WeightedAttentionMixture()
    with pytest.raises(ValueError, match="at least one attention vector"):
        mixture([])
    with pytest.raises(ValueError, match="one loss per stage, got 3 losses for 2 stages"):
        mixture([torch.ones(1, 2)] * 2, [1.0, 2.0, 3.0])
