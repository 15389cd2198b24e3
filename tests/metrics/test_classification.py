import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from actionzoo.metrics import accuracy, cohen_kappa, confusion_matrix, f1_scores, wilson_interval

torch.set_num_threads(1)
labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(labels)
def test_counts_kappa_and_f1_equal_sklearn(pairs):
    pred, target = torch.tensor(pairs).T
    p, t, classes = pred.numpy(), target.numpy(), range(4)
    assert np.array_equal(confusion_matrix(pred, target, 4), sk.confusion_matrix(t, p, labels=classes))
    if len(set(p) | set(t)) == 1:
        assert math.isnan(cohen_kappa(pred, target, 4))
    else:
        assert cohen_kappa(pred, target, 4) == pytest.approx(sk.cohen_kappa_score(t, p), abs=1e-12)
    expected = sk.f1_score(t, p, labels=classes, average=None, zero_division=np.nan)
    np.testing.assert_allclose(f1_scores(pred, target, 4), expected, rtol=1e-12)


def test_matrix_rows_are_true_classes():
    counts = confusion_matrix(torch.tensor([1, 1, 2]), torch.tensor([0, 0, 2]), 3)
    assert counts.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_kappa_of_the_papers_row():
    """PRF-Net prints accuracy 89.57 % and kappa 0.89 on PPMI's 24 balanced classes."""
    target = torch.arange(24).repeat_interleave(10_000)
    right = torch.rand(240_000, generator=torch.Generator().manual_seed(0)).argsort() < round(0.8957 * 240_000)
    pred = torch.where(right, target, (target + 1) % 24)
    assert cohen_kappa(pred, target, 24) == pytest.approx(0.891, abs=5e-4)
    assert cohen_kappa(pred, target, 24) == pytest.approx((0.8957 - 1 / 24) / (1 - 1 / 24), abs=1e-9)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_accuracy_equals_sklearn(k):
    g = torch.Generator().manual_seed(k)
    scores, targets = torch.randn(50, 6, generator=g), torch.randint(0, 6, (50,), generator=g)
    expected = sk.top_k_accuracy_score(targets.numpy(), scores.numpy(), k=k, labels=range(6))
    assert accuracy(scores, targets, k) == pytest.approx(expected)
    if k == 1:
        assert accuracy(scores, targets) == (scores.argmax(1) == targets).double().mean()


def test_constant_output_is_not_always_right():
    assert accuracy(torch.zeros(4, 4), torch.arange(4)) == 0.25
    assert accuracy(torch.zeros(4, 4), torch.arange(4), k=3) == 0.75


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_equals_scipy(counts):
    expected = binomtest(*counts).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(*counts, z=1.959963984540054)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: accuracy(torch.zeros(2, 3), torch.tensor([0, 1]), k=4), ValueError, r"1\.\.3"),
        (lambda: accuracy(torch.zeros(2, 3), torch.zeros(2, 3)), ValueError, "mAP"),
        (lambda: confusion_matrix(torch.zeros(2, 3), torch.zeros(2), 3), ValueError, "argmax"),
        (lambda: confusion_matrix(torch.zeros(2), torch.zeros(2).long(), 3), TypeError, "pred"),
        (lambda: cohen_kappa(torch.tensor([0]), torch.tensor([3]), 3), ValueError, r"target.*0\.\.2"),
        (lambda: wilson_interval(3, 2), ValueError, "3 of 2"),
        (lambda: wilson_interval(0, 0), ValueError, "total >= 1"),
        (lambda: wilson_interval(1, 2, z=-1), ValueError, "z must"),
    ],
    ids=["k", "multi-hot", "scores", "float", "range", "too-many", "none", "z"],
)
def test_bad_input_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()
