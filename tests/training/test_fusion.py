import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actionzoo.training import fit_fusion_weights


def naive_loss(image, person, targets, w):
    """Loss of one weight, value by value."""
    terms = []
    for n in range(len(image)):
        for k in range(len(image[0])):
            p = w * float(image[n][k]) + (1 - w) * float(person[n][k])
            if targets.ndim == 1:
                if k == int(targets[n]):
                    terms.append(-math.log(max(p, 1e-12)))
            elif int(targets[n][k]) != -1:
                terms.append(-math.log(max(p if int(targets[n][k]) == 1 else 1 - p, 1e-12)))
    return math.fsum(terms) / len(terms)


def naive_fit(image, person, targets, points):
    return min(points, key=lambda w: (naive_loss(image, person, targets, w), -w))


def problem(seed, n=12, k=4, multi=False):
    """Two branches that both know something, and targets; a third of the multi-hot ones is not annotated."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, n, k, generator=generator, dtype=torch.float64)
    index = torch.randint(k, (n,), generator=generator)
    logits[:, torch.arange(n), index] += torch.rand(2, n, generator=generator, dtype=torch.float64) * 3
    if not multi:
        return *logits.softmax(-1), index
    targets = torch.randint(-1, 2, (n, k), generator=generator)
    targets[0, 0] = 1
    return *logits.sigmoid(), targets


HUNDREDTHS = [k / 100 for k in range(101)]


@pytest.mark.parametrize("multi", [False, True], ids=["index", "multi-hot"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_search_value_by_value(seed, multi):
    image, person, targets = problem(seed, multi=multi)
    w_image, w_person = fit_fusion_weights(image, person, targets)
    assert w_image == naive_fit(image, person, targets, HUNDREDTHS)
    assert 0 < w_image < 1
    assert type(w_image) is type(w_person) is float


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 6),
    k=st.integers(1, 4),
    multi=st.booleans(),
    sharp=st.sampled_from([1.0, 30.0, 1e4]),
    step=st.floats(0.02, 1),
)
def test_never_worse_than_either_branch_alone(seed, n, k, multi, sharp, step):
    image, person, targets = problem(seed, n, k, multi)
    if not multi:
        # probabilities of exactly 0, and of 0 for the truth, come from sharp logits
        image, person = ((p.log() * sharp).softmax(1) for p in (image, person))
    weights = fit_fusion_weights(image, person, targets, step)
    fused = naive_loss(image, person, targets, weights[0])
    assert fused <= min(naive_loss(image, person, targets, w) for w in (0.0, 1.0)) + 1e-9
    assert sum(weights) == 1.0
    assert all(0 <= w <= 1 for w in weights)


@pytest.mark.parametrize("multi", [False, True], ids=["index", "multi-hot"])
@pytest.mark.parametrize("noise", ["image", "person"])
def test_a_branch_of_noise_gets_no_weight(noise, multi):
    generator = torch.Generator().manual_seed(5)
    targets = torch.randint(5, (400,), generator=generator)
    truth = torch.nn.functional.one_hot(targets, 5)
    logits = torch.randn(2, 400, 5, generator=generator)
    # half the examples are seen clearly, so that a calibrated branch is far ahead of chance
    logits[0] = 0.5 * logits[0] + 4 * (truth if not multi else 2 * truth - 1)
    known, unknown = logits.sigmoid() if multi else logits.softmax(-1)
    pair = (unknown, known) if noise == "image" else (known, unknown)
    weights = dict(zip(("image", "person"), fit_fusion_weights(*pair, truth if multi else targets), strict=True))
    assert weights.pop(noise) <= 0.05
    assert weights.popitem()[1] >= 0.95


def test_unannotated_entries_are_left_out():
    image = torch.tensor([[0.9, 0.0], [0.2, 1.0]])
    person = torch.tensor([[0.6, 1.0], [0.4, 0.0]])
    assert fit_fusion_weights(image, person, torch.tensor([[1, -1], [0, -1]])) == (1.0, 0.0)
    assert fit_fusion_weights(image, person, torch.tensor([[-1, 1], [-1, 0]])) == (0.0, 1.0)


@pytest.mark.parametrize("multi", [False, True], ids=["index", "multi-hot"])
def test_ties_go_to_the_image(multi):
    image, _, targets = problem(0, n=30, multi=multi)
    assert fit_fusion_weights(image, image.clone(), targets) == (1.0, 0.0)


def experts(share, n=100):
    """Two branches, each sure and right where the other is wrong, the image on a share of the examples.

    The loss, -(share log(w) + (1 - share) log(1 - w)), is least at w = share.
    """
    image = torch.zeros(n, 2).index_fill_(1, torch.tensor(0), 1.0)
    targets = (torch.arange(n) >= round(share * n)).long()
    return image, image.flip(1), targets


@pytest.mark.parametrize(
    ("step", "points"),
    [
        (0.01, HUNDREDTHS),
        (0.25, [0, 0.25, 0.5, 0.75, 1]),
        (0.3, [0, 0.3, 0.6, 0.9, 1]),
        (1 / 3, [0, 1 / 3, 2 / 3, 1]),
        (1, [0, 1]),
    ],
    ids=lambda value: f"{value:.2f}" if isinstance(value, int | float) else "",
)
def test_the_grid_has_the_multiples_of_the_step_and_both_ends(step, points):
    found = [fit_fusion_weights(*experts(point), step)[0] for point in points]
    assert found == pytest.approx(points, abs=1e-12)


def test_between_the_points_of_the_grid_the_better_neighbour_is_taken():
    assert fit_fusion_weights(*experts(0.49), 0.3)[0] == pytest.approx(0.6)
    assert fit_fusion_weights(*experts(0.4), 0.3)[0] == pytest.approx(0.3)


def test_every_pair_of_the_grid_sums_to_exactly_one():
    assert all(k * step + (1 - k * step) == 1 for step in (0.01, 0.001, 0.03) for k in range(int(1 / step) + 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays(dtype):
    image, person, targets = problem(1)
    arrays = image.numpy().astype(dtype), person.numpy().astype(dtype), targets.numpy()
    assert fit_fusion_weights(*arrays) == fit_fusion_weights(image, person, targets)


GOOD = torch.full((3, 2), 0.5)
INDEX = torch.tensor([0, 1, 1])
NAN = torch.tensor([[0.5, 0.5], [float("nan"), 0.5], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("image", "person", "targets", "step", "match"),
    [
        (GOOD, GOOD[:2], INDEX, 0.01, r"one shape \(N, K\), got \(3, 2\) and \(2, 2\); repeat"),
        (GOOD[0], GOOD[0], INDEX, 0.01, r"image_probs must be \(N, K\) with N, K >= 1, got \(2,\)"),
        (GOOD[:0], GOOD[:0], INDEX[:0], 0.01, r"got \(0, 2\)"),
        (GOOD, GOOD, INDEX[:2], 0.01, r"targets must be \(3,\) class indices or \(3, 2\) multi-hot, got \(2,\)"),
        (GOOD, GOOD, INDEX + 1, 0.01, r"class indices must lie in 0..1, got 1..2"),
        (GOOD, GOOD, torch.full((3, 2), 2), 0.01, "multi-hot targets must be 1"),
        (GOOD, GOOD, torch.full((3, 2), -1), 0.01, "no entry of the targets is annotated"),
        (GOOD + 0.6, GOOD, INDEX, 0.01, r"image_probs has values outside \[0, 1\] \(1\.1 to 1\.1\); take softmax"),
        (GOOD, GOOD - 0.6, INDEX, 0.01, r"person_probs has values outside \[0, 1\].*take softmax"),
        (GOOD, GOOD - 0.6, torch.ones(3, 2), 0.01, r"person_probs has values outside \[0, 1\].*take sigmoid"),
        (GOOD, NAN, INDEX, 0.01, r"person_probs has values outside \[0, 1\] \(nan to nan\)"),
        (GOOD, GOOD - 0.1, INDEX, 0.01, r"rows of person_probs .*off by up to 0\.2.*look like logits; take softmax"),
        (GOOD, GOOD, INDEX, 0, r"step is .* in \(0, 1\], got 0"),
        (GOOD, GOOD, INDEX, 1.5, r"step is .* in \(0, 1\], got 1\.5"),
        (GOOD, GOOD, INDEX, float("nan"), r"step is .* in \(0, 1\], got nan"),
    ],
)
def test_wrong_input_is_refused(image, person, targets, step, match):
    with pytest.raises(ValueError, match=match):
        fit_fusion_weights(image, person, targets, step)


def test_class_indices_are_integers():
    with pytest.raises(TypeError, match="class indices must be integers"):
        fit_fusion_weights(GOOD, GOOD, INDEX.float())


def test_rows_of_multi_label_probabilities_need_not_sum_to_one():
    assert sum(fit_fusion_weights(GOOD + 0.4, GOOD - 0.4, torch.tensor([[1, 0]] * 3))) == 1
