import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actionzoo.metrics import box_average_precision, coco_box_ap

THRESHOLDS = np.linspace(0.5, 0.95, 10)
NONE = np.zeros((0, 4))


def naive_iou(a, b, last=0):
    """Of two boxes; `last` is 1 where x2 and y2 are the last pixel inside."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + last
    height = min(a[3], b[3]) - max(a[1], b[1]) + last
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + last) * (box[3] - box[1] + last) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def naive_voc(predictions, truth, threshold, last=0):
    """One detection after another over all images, then the area of one step of the curve after another."""
    listed = [(score, i, box) for i, (boxes, scores) in enumerate(predictions) for box, score in zip(boxes, scores)]
    taken, points, found = set(), [(0.0, 0.0)], 0
    total = sum(map(len, truth))
    for rank, (_, i, box) in enumerate(sorted(listed, key=lambda entry: -entry[0])):
        overlaps = [naive_iou(box, other, last) for other in truth[i]]
        if overlaps and max(overlaps) >= threshold:
            best = (i, overlaps.index(max(overlaps)))
            found += best not in taken
            taken.add(best)
        points.append((found / total, found / (rank + 1)))
    area = 0.0
    for k in range(1, len(points)):
        area += (points[k][0] - points[k - 1][0]) * max(precision for _, precision in points[k:])
    return area


def naive_coco(predictions, truth, most=100):
    """One threshold, one image, one detection at a time; precision at a recall is the best at that recall or above."""
    averages, recalls, total = [], [], sum(map(len, truth))
    for threshold in THRESHOLDS:
        outcomes = []
        for (boxes, scores), others in zip(predictions, truth, strict=True):
            free = list(others)
            for d in sorted(range(len(boxes)), key=lambda d, scores=scores: -scores[d])[:most]:
                values = [naive_iou(boxes[d], other) for other in free]
                hit = bool(values) and max(values) >= threshold
                if hit:
                    free.pop(max(range(len(values)), key=lambda g, values=values: (values[g], g)))
                outcomes.append((scores[d], hit))
        outcomes.sort(key=lambda outcome: -outcome[0])
        found = np.cumsum([hit for _, hit in outcomes])
        points = [(count / total, count / (i + 1)) for i, count in enumerate(found)]
        averages.append(np.mean([max([p for r, p in points if r >= at], default=0) for at in np.linspace(0, 1, 101)]))
        recalls.append(found[-1] / total if len(found) else 0)
    return {"ap": np.mean(averages), "ap50": averages[0], "ap75": averages[5], "ar": np.mean(recalls)}


def boxes_near(r, bases, count):
    """Boxes with whole corners, some of them a little off one of the others."""
    corners = r.integers(0, 12, (count, 2))
    boxes = np.concatenate([corners, corners + r.integers(1, 9, (count, 2))], 1)
    if len(bases) and count:
        close = bases[r.integers(0, len(bases), count)] + r.integers(-1, 2, (count, 4))
        close[:, 2:] = np.maximum(close[:, 2:], close[:, :2])
        boxes = np.where(r.random((count, 1)) < 0.7, close, boxes)
    return boxes.astype(float)


def random_images(counts, seed):
    r = np.random.default_rng(seed)
    predictions, truth = [], []
    for m, n in counts:
        truth.append(boxes_near(r, NONE, m))
        predictions.append((boxes_near(r, truth[-1], n), r.integers(0, 9, n) / 8))
    return predictions, truth


some_images = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=0, max_size=4).map(
    lambda counts: [(1, 2), *counts]
)


@settings(max_examples=60, deadline=None)
@given(counts=some_images, seed=st.integers(0, 9999), threshold=st.sampled_from([0.3, 0.5, 0.75, 1.0]))
def test_voc_equals_the_loop(counts, seed, threshold):
    predictions, truth = random_images(counts, seed)
    want = naive_voc(predictions, truth, threshold)
    assert box_average_precision(predictions, truth, threshold) == pytest.approx(want, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(counts=some_images, seed=st.integers(0, 9999))
def test_voc_with_1_added_to_x2_and_y2_is_the_rule_of_the_kit(counts, seed):
    predictions, truth = random_images(counts, seed)
    one = np.array([0.0, 0.0, 1.0, 1.0])
    found = box_average_precision([(boxes + one, scores) for boxes, scores in predictions], [b + one for b in truth])
    assert found == pytest.approx(naive_voc(predictions, truth, 0.5, last=1), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(counts=some_images, seed=st.integers(0, 9999), most=st.sampled_from([1, 2, 100]))
def test_coco_equals_the_loop(counts, seed, most):
    predictions, truth = random_images(counts, seed)
    assert coco_box_ap(predictions, truth, most) == pytest.approx(naive_coco(predictions, truth, most), abs=1e-12)


def sine_case():
    """Four images with 2, 3, 0 and 1 true boxes and 4, 5, 2 and 0 detections."""
    wave = iter(np.sin(1.7 * np.arange(10_000)))
    predictions, truth = [], []
    for m, n in ((2, 4), (3, 5), (0, 2), (1, 0)):
        corners, sides, shifts, scores = (
            np.array([next(wave) for _ in range(count)]) for count in (2 * m, 2 * m, 4 * n, n)
        )
        corners = 100 + 60 * corners.reshape(m, 2)
        boxes = np.concatenate([corners, corners + 50 + 20 * sides.reshape(m, 2)], 1)
        found = boxes[np.arange(n) % m] if m else np.tile([0.0, 0.0, 50.0, 50.0], (n, 1))
        size = (1 + np.arange(n))[:, None]
        predictions.append((found + 1.5 * size * shifts.reshape(n, 4), np.round(0.5 + 0.5 * scores, 1)))
        truth.append(boxes)
    return predictions, truth


def test_coco_equals_pycocotools():
    """The answer of pycocotools' COCOeval on the same boxes."""
    want = {"ap": 0.4035950023573786, "ap50": 0.7475247524752475, "ap75": 0.4158415841584158, "ar": 0.6333333333333333}
    assert coco_box_ap(*sine_case()) == pytest.approx(want, abs=1e-12)


def image(found, scores, truth):
    """Boxes of 10 by 10 pixels that start at these columns: a shift by s has the overlap (10 - s) / (10 + s)."""
    return (boxes_at(found), torch.tensor(scores)), boxes_at(truth)


def boxes_at(columns):
    return torch.tensor([[x, 0.0, x + 10, 10.0] for x in columns]).reshape(-1, 4)


def voc(*images, **options):
    return box_average_precision(*zip(*images), **options)


def coco(*images, **options):
    return coco_box_ap(*zip(*images), **options)


def test_perfect_and_useless():
    perfect = image([0.0, 100.0], [0.9, 0.8], [100.0, 0.0])
    assert voc(perfect) == 1
    assert coco(perfect) == dict.fromkeys(("ap", "ap50", "ap75", "ar"), 1.0)
    for nothing in (image([500.0], [0.9], [0.0]), image([], [], [0.0])):
        assert voc(nothing) == 0
        assert coco(nothing) == dict.fromkeys(("ap", "ap50", "ap75", "ar"), 0.0)


@pytest.mark.parametrize(
    ("found", "want"),
    [
        ([500.0, 0.0], 0.5 / 2),
        ([0.0, 500.0], 1 / 2),
        ([0.0, 500.0, 100.0], (1 + 2 / 3) / 2),
        # the area as it is would be (1/2 + 2/3) / 2
        ([500.0, 0.0, 100.0], 2 / 3),
        ([0.0, 100.0, 500.0], 1),
    ],
    ids=["miss-hit", "hit-miss", "hit-miss-hit", "miss-hit-hit", "hit-hit-miss"],
)
def test_area_under_the_monotone_curve(found, want):
    """Two true boxes; detections from the surest down."""
    assert voc(image(found, [0.9, 0.8, 0.7][: len(found)], [0.0, 100.0])) == pytest.approx(want)


def test_detections_of_all_images_are_ranked_together():
    hit, miss = image([0.0], [0.5], [0.0]), image([500.0], [0.9], [])
    assert voc(hit, miss) == voc(miss, hit) == pytest.approx(1 / 2)
    sure = image([0.0], [0.95], [0.0])
    assert voc(sure, miss) == 1
    assert coco(sure, miss)["ap"] == 1
    # with one score, as they are listed
    even = image([0.0], [0.9], [0.0])
    assert voc(even, miss) == 1
    assert voc(miss, even) == pytest.approx(1 / 2)


def test_boxes_of_other_images_are_out_of_reach():
    swapped = image([100.0], [0.9], [0.0]), image([0.0], [0.8], [100.0])
    assert voc(*swapped) == 0
    assert coco(*swapped)["ar"] == 0


def test_a_second_detection_of_a_box_is_wrong():
    twice = image([1.0, 0.0], [0.9, 0.8], [0.0, 100.0])
    assert voc(twice) == pytest.approx(1 / 2)
    assert coco(twice)["ap50"] == pytest.approx(51 / 101)


def test_voc_does_not_pass_on_to_a_free_box_and_coco_does():
    """Overlaps 9/11 and 8/12 of the first detection, 8/12 and 7/13 of the second."""
    crowd = image([1.0, 2.0], [0.9, 0.8], [0.0, -1.0])
    assert voc(crowd) == pytest.approx(1 / 2)
    assert coco(crowd)["ap50"] == pytest.approx(1)


def test_of_equally_good_boxes_voc_takes_the_first_and_coco_the_last():
    """Column 2 overlaps columns 0 and 4 alike; the second detection can only be about column 0."""
    first, last = image([2.0, 0.0], [0.9, 0.8], [0.0, 4.0]), image([2.0, 0.0], [0.9, 0.8], [4.0, 0.0])
    assert voc(first) == pytest.approx(1 / 2)
    assert voc(last) == 1
    assert coco(first)["ap50"] == pytest.approx(1)
    assert coco(last)["ap50"] == pytest.approx(51 / 101)


def test_the_threshold_itself_is_enough():
    """A box of 10 by 10 within one of 10 by 20."""
    half = (boxes_at([0.0]), torch.tensor([0.9])), torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    assert voc(half) == 1
    assert voc(half, threshold=0.5 + 1e-9) == 0
    assert coco(half) == pytest.approx({"ap": 0.1, "ap50": 1.0, "ap75": 0.0, "ar": 0.1})


def test_only_the_surest_count():
    crowded = image([500.0, 0.0], [0.9, 0.8], [0.0])
    assert coco(crowded, max_detections=1)["ar"] == 0
    assert coco(crowded, max_detections=2)["ar"] == 1


def test_a_detection_without_area_is_a_miss():
    flat = (torch.tensor([[3.0, 3.0, 3.0, 8.0], [0.0, 0.0, 10.0, 10.0]]), torch.tensor([0.9, 0.8])), boxes_at([0.0])
    assert voc(flat) == coco(flat)["ap50"] == pytest.approx(1 / 2)


def test_whole_numbers_half_precision_and_gradients_do():
    boxes = torch.tensor([[0, 0, 10, 10]])
    scores = torch.tensor([0.5], dtype=torch.float16, requires_grad=True)
    assert box_average_precision([(boxes, scores)], [boxes.numpy()]) == 1
    assert coco_box_ap([(boxes.half(), scores)], [boxes])["ap"] == 1


GOOD = image([0.0], [0.9], [0.0])


@pytest.mark.parametrize(
    ("predictions", "truth", "message"),
    [
        ([GOOD[0]], [GOOD[1], GOOD[1]], "same images, got 1 and 2"),
        ([(GOOD[0][0], torch.ones(2))], [GOOD[1]], r"\(1,\) scores.*got \(2,\)"),
        ([(GOOD[0][0], torch.tensor([torch.nan]))], [GOOD[1]], "scores without NaN"),
        ([(torch.zeros(4), torch.ones(1))], [GOOD[1]], r"predictions \(n, 4\) as xyxy.*got shape \(4,\)"),
        ([(torch.zeros(0), torch.ones(0))], [GOOD[1]], r"predictions \(n, 4\).*\(0, 4\) for none, got shape \(0,\)"),
        ([GOOD[0]], [torch.zeros(1, 5)], r"ground truth \(n, 4\) as xyxy.*got shape \(1, 5\)"),
        ([(boxes_at([torch.nan]), torch.ones(1))], [GOOD[1]], "predictions as finite xyxy boxes"),
        ([(torch.tensor([[9.0, 0, 5, 5]]), torch.ones(1))], [GOOD[1]], "predictions as finite.*x1 <= x2"),
        ([GOOD[0]], [torch.tensor([[0.0, 9, 5, 5]])], "ground truth as finite.*y1 <= y2"),
        ([GOOD[0]], [torch.tensor([[0.0, 5, 5, 5]])], "a box without area"),
        ([GOOD[0]], [boxes_at([])], "no true box in any image"),
        ([], [], "no true box in any image"),
    ],
    ids=[
        *("images", "scores", "nan-score", "one-box", "no-columns", "columns", "nan-box", "inside-out"),
        *("truth-inside-out", "truth-flat", "no-truth", "nothing"),
    ],
)
@pytest.mark.parametrize("metric", [box_average_precision, coco_box_ap])
def test_wrong_input(metric, predictions, truth, message):
    with pytest.raises(ValueError, match=message):
        metric(predictions, truth)


@pytest.mark.parametrize("threshold", [0.0, 1.1, float("nan")])
def test_wrong_threshold(threshold):
    with pytest.raises(ValueError, match=r"threshold in \(0, 1\]"):
        voc(GOOD, threshold=threshold)


def test_wrong_number_of_detections():
    with pytest.raises(ValueError, match="max_detections must be at least 1, got 0"):
        coco(GOOD, max_detections=0)
