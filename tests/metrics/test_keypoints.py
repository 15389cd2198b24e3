import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actionzoo.metrics import COCO_SIGMAS, keypoint_average_precision, oks

THRESHOLDS = np.linspace(0.5, 0.95, 10)
ONE = [0.05]


def test_sigmas_are_those_of_coco():
    per_mille = [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
    assert [round(1000 * sigma) for sigma in COCO_SIGMAS] == per_mille


def test_hand_worked_similarity():
    """k = 0.1, area 10000: distance 10 is one standard deviation, exp(-1/2)."""
    target = torch.tensor([[[0.0, 0.0, 2.0], [50.0, 50.0, 1.0], [7.0, 7.0, 0.0]]])
    pred = torch.tensor([[[6.0, 8.0], [50.0, 50.0], [999.0, 0.0]]])
    value = oks(pred, target, torch.tensor([10_000.0]), [0.05] * 3)
    assert value.tolist() == pytest.approx([(math.exp(-0.5) + 1) / 2])
    # a joint twice as loose: exp(-1/8)
    assert oks(pred, target, torch.tensor([1e4]), [0.1, 0.05, 0.05]).item() == pytest.approx((math.exp(-1 / 8) + 1) / 2)
    assert oks(pred.numpy(), target.numpy(), np.array([1e4]), [0.05] * 3).dtype == torch.float64


def test_similarity_of_edge_cases():
    target = torch.rand(4, 17, 3) * 100
    target[..., 2] = 2
    target[1, :, 2] = 0
    pred = target.clone()
    pred[2, 3, 0] = torch.nan
    pred[3, :, :2] = torch.inf
    values = oks(pred, target, torch.tensor([500.0, 0.0, 500.0, 500.0]))
    assert values[0] == 1
    assert values[1].isnan()
    assert values[2].item() == pytest.approx(16 / 17)
    assert values[3] == 0


def sine_case():
    """Three images with 2, 3 and 1 people, one of them without joints, and 3, 4 and 2 predictions."""
    wave = iter(np.sin(1.7 * np.arange(10_000)))

    def draw(*shape):
        return np.array([next(wave) for _ in range(math.prod(shape))]).reshape(shape)

    predictions, truth = [], []
    for m, n in ((2, 3), (3, 4), (1, 2)):
        target = np.concatenate([100 + 80 * draw(m, 17, 2), (draw(m, 17, 1) > -0.5) * 2.0], 2)
        pred = target[np.arange(n) % m, :, :2] + (np.arange(n) + 1)[:, None, None] * 2 * draw(n, 17, 2)
        predictions.append((pred, np.round(0.5 + 0.5 * draw(n), 1)))
        truth.append((target, 3000 + 2000 * draw(m)))
    truth[1][0][2, :, 2] = 0
    return predictions, truth


def test_equals_pycocotools():
    """The answer of pycocotools' COCOeval on the same people, the one without joints taken out."""
    want = {"ap": 0.6110953952538111, "ap50": 0.7931793179317931, "ap75": 0.7931793179317931, "ar": 0.8}
    assert keypoint_average_precision(*sine_case()) == pytest.approx(want, abs=1e-12)


def naive_average_precision(predictions, truth):
    """One threshold, one image, one prediction at a time; precision at a recall is the best at that recall or above."""
    total = sum(bool((person[:, 2] > 0).any()) for target, _ in truth for person in target)
    averages, recalls = [], []
    for threshold in THRESHOLDS:
        outcomes = []
        for (pred, scores), (target, area) in zip(predictions, truth, strict=True):
            free = [g for g in range(len(target)) if (target[g, :, 2] > 0).any()]
            for d in sorted(range(len(pred)), key=lambda d, scores=scores: -scores[d])[:20]:
                values = [oks(pred[d : d + 1], target[g : g + 1], area[g : g + 1]).item() for g in free]
                hit = bool(values) and max(values) >= threshold
                if hit:
                    free.pop(max(range(len(values)), key=lambda g, values=values: (values[g], g)))
                outcomes.append((scores[d], hit))
        outcomes.sort(key=lambda outcome: -outcome[0])
        found = np.cumsum([hit for _, hit in outcomes])
        points = [(count / total, count / (i + 1)) for i, count in enumerate(found)]
        best = [max([p for r, p in points if r >= recall], default=0) for recall in np.linspace(0, 1, 101)]
        averages.append(np.mean(best))
        recalls.append(found[-1] / total if len(found) else 0)
    return {"ap": np.mean(averages), "ap50": averages[0], "ap75": averages[5], "ar": np.mean(recalls)}


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=3),
    seed=st.integers(0, 999),
)
def test_equals_the_loop(counts, seed):
    r = np.random.default_rng(seed)
    predictions, truth = [], []
    for m, n in [(1, 1), *counts]:
        target = np.concatenate([r.uniform(0, 200, (m, 17, 2)), r.integers(0, 2, (m, 17, 1))], 2)
        target[:, 0, 2] = r.random(m) < 0.8
        base = target[r.integers(0, m, n), :, :2] if m else r.uniform(0, 200, (n, 17, 2))
        predictions.append(
            (base + r.normal(0, 1, (n, 17, 2)) * r.choice([0, 3, 9, 30], (n, 1, 1)), r.random(n).round(1))
        )
        truth.append((target, r.uniform(500, 20_000, m)))
    truth[0][0][0, :, 2] = 2
    assert keypoint_average_precision(predictions, truth) == pytest.approx(naive_average_precision(predictions, truth))


def person(x, visibility=2.0):
    return [[x, 0.0, visibility]]


def image(found, scores, truth):
    """People of one joint on a line, with an area at which k times its root is 10 pixels."""
    predictions = torch.tensor([[[x, 0.0]] for x in found]).reshape(-1, 1, 2), torch.tensor(scores)
    targets = torch.tensor([person(x) for x in truth]).reshape(-1, 1, 3), torch.full((len(truth),), 1e4)
    return predictions, targets


def score(*images, **options):
    predictions, truth = zip(*images)
    return keypoint_average_precision(predictions, truth, ONE, **options)


def test_perfect_and_useless():
    assert score(image([0.0, 100.0], [0.9, 0.8], [0.0, 100.0])) == dict.fromkeys(("ap", "ap50", "ap75", "ar"), 1.0)
    for nothing in (image([500.0], [0.9], [0.0]), image([], [], [0.0])):
        assert score(nothing) == dict.fromkeys(("ap", "ap50", "ap75", "ar"), 0.0)


def test_a_miss_before_a_hit_halves_the_precision():
    assert score(image([500.0, 0.0], [0.9, 0.8], [0.0]))["ap50"] == pytest.approx(0.5)
    assert score(image([500.0, 0.0], [0.8, 0.9], [0.0]))["ap50"] == 1
    # one of two people found: recalls 0 … 0.50 of 101
    assert score(image([0.0], [0.9], [0.0, 100.0]))["ap50"] == pytest.approx(51 / 101)
    assert score(image([0.0], [0.9], [0.0, 100.0]))["ar"] == 0.5


def test_a_person_is_found_once():
    """The surer of the two takes the person though the other is nearer."""
    result = score(image([3.0, 0.0], [0.9, 0.8], [0.0, 100.0]))
    assert result["ap50"] == pytest.approx(51 / 101)
    assert result["ar"] == 0.5


def test_distance_decides_at_which_thresholds_a_person_is_found():
    """8 pixels: exp(-0.32) = 0.726, so 0.50 … 0.70 are reached: 5 of 10."""
    result = score(image([8.0], [0.9], [0.0]))
    assert result == pytest.approx({"ap": 0.5, "ap50": 1.0, "ap75": 0.0, "ar": 0.5})


def test_people_of_other_images_are_out_of_reach():
    result = score(image([100.0], [0.9], [0.0]), image([0.0], [0.8], [100.0]))
    assert result["ap"] == 0


def test_only_the_surest_count():
    crowded = image([500.0, 0.0], [0.9, 0.8], [0.0])
    assert score(crowded, max_people=1)["ar"] == 0
    assert score(crowded, max_people=2)["ar"] == 1


def test_people_without_a_visible_joint_are_left_out():
    predictions = torch.zeros(1, 1, 2), torch.tensor([0.9])
    truth = torch.tensor([person(0.0), person(50.0, 0.0)]), torch.tensor([1e4, 0.0])
    assert keypoint_average_precision([predictions], [truth], ONE)["ar"] == 1
    hidden = torch.tensor([person(0.0, 0.0)]), torch.tensor([1e4])
    with pytest.raises(ValueError, match="nobody has a visible joint"):
        keypoint_average_precision([predictions], [hidden], ONE)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pred": torch.zeros(2, 16, 2)}, r"predictions \(N, 17, 2\) or \(N, 17, 3\).*got \(2, 16, 2\)"),
        ({"pred": torch.zeros(17, 2)}, r"got \(17, 2\)"),
        ({"pred": torch.zeros(3, 17, 2)}, "one prediction per target, got 3 and 2"),
        ({"target": torch.zeros(2, 17, 2)}, r"targets \(N, 17, 3\).*got \(2, 17, 2\)"),
        ({"area": torch.ones(3)}, r"\(2,\) areas, one per target, got \(3,\)"),
        ({"area": torch.tensor([1.0, 0.0])}, "areas and sigmas must be numbers above 0"),
        ({"area": torch.tensor([1.0, torch.nan])}, "areas and sigmas must be numbers above 0"),
        ({"sigmas": [0.0] * 17}, "areas and sigmas must be numbers above 0"),
        ({"target": torch.full((2, 17, 3), torch.inf)}, "target holds NaN or infinity"),
    ],
    ids=["joints", "rank", "pairs", "visibility", "areas", "area-0", "area-nan", "sigma", "target"],
)
def test_wrong_pairs(wrong, message):
    good = {"pred": torch.zeros(2, 17, 2), "target": torch.ones(2, 17, 3), "area": torch.ones(2)}
    with pytest.raises(ValueError, match=message):
        oks(**{**good, **wrong})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, t: (p, [*t, t[0]], {}), "same images, got 1 and 2"),
        (lambda p, t: ([(p[0][0], torch.ones(2))], t, {}), r"\(1,\) scores"),
        (lambda p, t: ([(p[0][0], torch.tensor([torch.nan]))], t, {}), "scores without NaN"),
        (lambda p, t: (p, t, {"max_people": 0}), "max_people must be at least 1, got 0"),
        (lambda p, t: ([], [], {}), "nobody has a visible joint"),
    ],
    ids=["images", "scores", "nan", "max_people", "nothing"],
)
def test_wrong_images(change, message):
    prediction, target = image([0.0], [0.9], [0.0])
    predictions, truth, options = change([prediction], [target])
    with pytest.raises(ValueError, match=message):
        keypoint_average_precision(predictions, truth, ONE, **options)
