import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from benchmarks import checks, counts, roofline
from benchmarks.cases import Problem
from benchmarks.cases._case import weights_of

NAN = math.nan


def square(state, x):
    return (x * state["scale"]) ** 2


@pytest.fixture
def expected():
    return checks.truth(square, {"scale": torch.tensor([1.0, 2.0])}, (torch.randn(5, 2),), backward=True)


def verdict(call, expected, scale=None, backward=True, dtype=torch.float32):
    parameters = {} if scale is None else {"scale": scale}
    return checks.check(call, parameters, expected, dtype, backward)


@pytest.fixture
def scale():
    return torch.tensor([1.0, 2.0], requires_grad=True)


def test_the_right_answer_is_right(expected, scale):
    found = verdict(lambda x: (x * scale).square(), expected, scale)
    assert found.ok, found
    assert max(found.error, found.gradient_error) < 1e-6


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda x, scale: (x * scale).square() + 1e-3, "differs"),
        (lambda x, scale: (x * scale).detach().square() + 0 * x.sum(), "differs"),
        (lambda x, scale: (x * scale.detach()).square() + 0 * scale.sum(), "differs"),
        (lambda x, scale: torch.where(x > 0, (x * scale).square(), NAN), "differs"),
        (lambda x, scale: (x * scale).square()[:4], "differs"),
        (lambda x, scale: ((x * scale).square(), x), "gives 2 tensors instead of 1"),
        (lambda x, scale: (x @ scale[None]).square(), "RuntimeError: "),
    ],
    ids=["values", "gradient-of-input", "gradient-of-weights", "nan", "shape", "number", "raises"],
)
def test_a_wrong_answer_is_caught(expected, scale, wrong, why):
    found = verdict(lambda x: wrong(x, scale), expected, scale)
    assert not found.ok
    assert found.why.startswith(why)


def test_what_is_not_written_is_seen(expected, scale):
    def forgets(x):
        out = torch.empty_like(x)
        out[:-1] = (x[:-1] * 1.0 * scale.detach()) ** 2
        return out

    # without gradients, as the output has none
    forward = checks.truth(square, {"scale": scale.detach()}, expected.inputs, backward=False)
    assert verdict(forgets, forward, backward=False).error == math.inf


@pytest.mark.parametrize("make", [torch.empty, lambda *shape: torch.ones(1).new_empty(shape)])
def test_empty_memory_is_poisoned(make):
    with checks.Poison():
        assert make(3, 2).isnan().all()
        assert torch.empty(2, dtype=torch.int32).eq(2**31 - 1).all()
        assert_close(torch.zeros(3), torch.zeros(3))


def test_integers_have_to_be_equal():
    boxes = torch.tensor([[1, 2, 3, 4]])
    assert checks.relative_error([boxes], [boxes.int()]) == 0
    assert checks.relative_error([boxes + 1], [boxes]) == math.inf


def test_a_gradient_without_influence_is_rounding():
    large, tiny = torch.ones(4, dtype=torch.float64), torch.full((4,), 1e-12, dtype=torch.float64)
    assert checks.relative_error([large, 3 * tiny], [large, tiny]) < 1e-8
    assert checks.relative_error([large, None], [large, tiny]) < 1e-8
    assert checks.relative_error([None], [large]) == 1


def test_half_precision_may_err_as_the_reference_does():
    def cancels(state, x):
        return (x + 16.0) - 16.0

    inputs = (torch.rand(50).bfloat16(),)
    expected = checks.truth(cancels, {}, inputs, backward=False)
    assert 0.03 < expected.rounding < 0.3
    assert verdict(lambda x: (x + 16.0) - 16.0, expected, backward=False, dtype=torch.bfloat16).ok
    assert not verdict(lambda x: x * 0, expected, backward=False, dtype=torch.bfloat16).ok


def test_no_factor_makes_a_tolerance_wider_than_a_tenth():
    expected = checks.truth(lambda state, x: x * 2, {}, (torch.rand(50),), backward=False)
    found = checks.check(lambda x: 1.8 * x, {}, expected, torch.bfloat16, False, looser=30.0)
    assert found.tolerance == checks.WIDEST
    assert checks.check(lambda x: 1.82 * x, {}, expected, torch.bfloat16, False, looser=30.0).ok
    assert not checks.check(lambda x: 1.78 * x, {}, expected, torch.bfloat16, False, looser=30.0).ok


def test_operations_are_counted_without_views():
    found = counts.operations(lambda x: (x.T.reshape(-1)[None] + 1).relu(), (torch.ones(3, 1),))
    assert found == (2, 0)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: torch.masked_select(x, x > 0),
    ],
    ids=["item", "bool", "tolist", "numpy", "nonzero", "mask", "masked_select"],
)
def test_synchronisations_are_counted(read):
    assert counts.operations(read, (torch.ones(3),))[1] >= 1


def test_indexing_with_integers_does_not_synchronise():
    assert counts.operations(lambda x: x[torch.tensor([0, 2])], (torch.ones(3),))[1] == 0


def test_graph_breaks_are_counted():
    def breaks(x):
        x = x * 2
        torch._dynamo.graph_break()
        return x + 1

    assert counts.graph_breaks(breaks, (torch.ones(2),)) == 1
    assert counts.graph_breaks(lambda x: x + 1, (torch.ones(2),)) == 0


def test_what_cannot_be_counted_has_its_reason():
    found = counts.count(lambda x: x @ x, (torch.ones(2, 3),), trace=True)
    assert found[:3] == (None, None, None)
    assert found.why_none.startswith("RuntimeError")


@pytest.mark.parametrize("backward", [False, True])
def test_floor_counts_bytes_and_flops_of_a_linear_layer(backward):
    layer, x = nn.Linear(8, 4), torch.randn(16, 8)
    problem = Problem(lambda _: (x,), (), lambda state, x: x, weights_of(layer))
    weights, inputs, outputs = 8 * 4 + 4, 16 * 8, 16 * 4
    moved = weights + inputs + outputs
    moved += (outputs + inputs + weights) if backward else 0
    assert roofline.least_bytes(problem, (x,), [layer(x)], 2, backward) == 2 * moved
    flops = roofline.count_flops(layer, (x.clone(),), list(layer.parameters()), backward)
    assert flops == 2 * 16 * 8 * 4 * (3 if backward else 1)
    assert all(parameter.grad is None for parameter in layer.parameters())
