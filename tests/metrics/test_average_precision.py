import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from actionzoo.metrics import average_precision, mean_average_precision

torch.set_num_threads(1)


def naive_average_precision(scores, positive):
    """Sum, over falling thresholds, of the gain in recall times the precision there."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [p for s, p in zip(scores, positive) if s >= threshold]
        new = sum(taken) / sum(positive)
        area += (new - recall) * sum(taken) / len(taken)
        recall = new
    return area


def naive_monotone_average_precision(scores, positive):
    """VOC's way: list precision and recall, raise precision to the best from there on, add up the steps of recall."""
    recalls, precisions = [0.0], [0.0]
    for threshold in sorted(set(scores), reverse=True):
        taken = [p for s, p in zip(scores, positive) if s >= threshold]
        recalls.append(sum(taken) / sum(positive))
        precisions.append(sum(taken) / len(taken))
    for i in range(len(precisions) - 2, -1, -1):
        precisions[i] = max(precisions[i], precisions[i + 1])
    return sum((recalls[i] - recalls[i - 1]) * precisions[i] for i in range(1, len(recalls)))


@st.composite
def tables(draw):
    """Scores on a coarse scale, so that most of them tie, and multi-hot targets with gaps."""
    n, k = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    scores = draw(hnp.arrays(np.int64, (n, k), elements=st.integers(-3, 3))) / 4
    return scores, draw(hnp.arrays(np.int64, (n, k), elements=st.integers(-1, 1)))


@settings(max_examples=150, deadline=None)
@given(tables())
def test_equals_the_naive_loop_and_sklearn_with_ties_and_gaps(table):
    scores, targets = table
    ours = average_precision(torch.tensor(scores), torch.tensor(targets)).tolist()
    for k, value in enumerate(ours):
        known = targets[:, k] != -1
        positive = targets[known, k] == 1
        if not positive.any():
            assert math.isnan(value)
            continue
        assert value == pytest.approx(naive_average_precision(scores[known, k], positive), abs=1e-12)
        assert value == pytest.approx(average_precision_score(positive, scores[known, k]), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(tables())
def test_monotone_equals_the_loop_and_is_never_below(table):
    scores, targets = table
    plain = average_precision(torch.tensor(scores), torch.tensor(targets)).tolist()
    for k, value in enumerate(average_precision(torch.tensor(scores), torch.tensor(targets), monotone=True).tolist()):
        known = targets[:, k] != -1
        positive = targets[known, k] == 1
        if not positive.any():
            assert math.isnan(value)
            continue
        assert value == pytest.approx(naive_monotone_average_precision(scores[known, k], positive), abs=1e-12)
        assert plain[k] - 1e-12 <= value <= 1
        ranked_apart = scores[known, k][positive].min() > max(scores[known, k][~positive], default=-np.inf)
        assert (value == pytest.approx(1, abs=1e-12)) == ranked_apart


def test_hand_worked_monotone_values():
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6]])
    # Precisions at the hits 1/2 and 2/3: the second reaches back to the first.
    late = torch.tensor([[0], [1], [1], [0]])
    assert mean_average_precision(scores, late) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert mean_average_precision(scores, late, monotone=True) == pytest.approx(2 / 3)
    # Falling precisions stay as they are.
    falling = torch.tensor([[1], [0], [1], [0]])
    assert mean_average_precision(scores, falling, monotone=True) == pytest.approx((1 + 2 / 3) / 2)
    # A constant output still earns the share of positives.
    assert mean_average_precision(torch.ones(4, 1), falling, monotone=True) == 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_class_indices_equal_their_one_hot_form_and_sklearn(dtype):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(60, 5, generator=g).to(dtype)
    targets = torch.randint(0, 5, (60,), generator=g)
    one_hot = torch.nn.functional.one_hot(targets, 5)
    expected = average_precision_score(one_hot.numpy(), scores.float().numpy(), average=None)
    np.testing.assert_allclose(average_precision(scores, targets), expected, rtol=1e-12)
    np.testing.assert_allclose(average_precision(scores, one_hot.bool()), expected, rtol=1e-12)
    assert mean_average_precision(scores.numpy() if dtype == torch.float32 else scores, targets) == (
        pytest.approx(expected.mean(), abs=1e-12)
    )


def test_hand_computed_values():
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6]])
    # Hits at ranks 1 and 3: (1/1 + 2/3) / 2.
    assert mean_average_precision(scores, torch.tensor([[1], [0], [1], [0]])) == pytest.approx(5 / 6)
    # Without the row that is not annotated the second hit is at rank 2.
    assert mean_average_precision(scores, torch.tensor([[1], [-1], [1], [0]])) == 1.0
    # A constant output earns the share of positives, not the luck of the order.
    assert mean_average_precision(torch.ones(4, 1), torch.tensor([[1], [0], [0], [0]])) == 0.25


def test_class_without_a_positive_is_left_out_of_the_mean():
    scores = torch.eye(3)[[0, 1, 0]]
    targets = torch.tensor([0, 1, 0])
    per_class = average_precision(scores, targets)
    assert per_class[:2].tolist() == [1.0, 1.0]
    assert per_class[2].isnan()
    assert mean_average_precision(scores, targets) == 1.0


def test_monotone_change_of_scores_changes_nothing():
    g = torch.Generator().manual_seed(1)
    scores, targets = torch.randn(40, 4, generator=g), torch.randint(0, 2, (40, 4), generator=g)
    assert torch.equal(average_precision(scores, targets), average_precision(3 * scores - 7, targets))


@pytest.mark.parametrize(
    ("scores", "targets", "error", "match"),
    [
        (torch.ones(3), torch.ones(3, dtype=torch.long), ValueError, r"\(N, K\)"),
        (torch.ones(0, 2), torch.ones(0, dtype=torch.long), ValueError, "N, K >= 1"),
        (torch.ones(3, 2), torch.ones(4, dtype=torch.long), ValueError, r"\(3,\) class indices"),
        (torch.ones(3, 2), torch.ones(3, 3), ValueError, r"\(3, 2\) multi-hot"),
        (torch.ones(3, 2), torch.full((3,), 2), ValueError, r"0\.\.1"),
        (torch.ones(3, 2), torch.full((3,), -1), ValueError, r"0\.\.1"),
        (torch.ones(3, 2), torch.ones(3), TypeError, "integers"),
        (torch.ones(3, 2), torch.full((3, 2), 0.5), ValueError, "-1"),
        (torch.full((3, 2), math.nan), torch.ones(3, dtype=torch.long), ValueError, "NaN"),
        (torch.ones(3, 2), torch.zeros(3, 2), ValueError, "no class has a positive"),
    ],
    ids=["rank", "empty", "length", "columns", "index-high", "index-low", "float", "soft", "nan", "no-hit"],
)
def test_bad_input_is_refused(scores, targets, error, match):
    with pytest.raises(error, match=match):
        mean_average_precision(scores, targets)
