from fractions import Fraction
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as T

from actionzoo.data import denormalize, eval_transform, keep_person_crop, train_transform
from actionzoo.training import recipes

CFG = {"input_size": (3, 32, 32), "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3), "crop_pct": 0.8}


def halves():
    """80 x 40: left half red, right half blue."""
    image = Image.new("RGB", (80, 40), (255, 0, 0))
    image.paste((0, 0, 255), (40, 0, 80, 40))
    return image


def test_eval_squashes_crops_and_normalises():
    x = eval_transform(CFG)(halves())
    assert x.shape == (3, 32, 32)
    pixels = denormalize(x, CFG)
    assert pixels[0, :, :14].min() > 0.99
    assert pixels[2, :, 18:].min() > 0.99
    torch.testing.assert_close(x[0, 0, 0], torch.tensor((1 - 0.4) / 0.2))


def test_eval_may_keep_the_aspect_ratio():
    pixels = denormalize(eval_transform({**CFG, "crop_mode": "center"})(halves()), CFG)
    # of 80 x 40 squashed to 40 x 40, a 32-wide crop sees 0.8 of the width; uncropped in aspect only 0.4
    assert (pixels[0, 16] > 0.5).sum() == 16


def test_eval_size_is_the_configurations_or_the_callers():
    cfg = {**CFG, "test_input_size": (3, 48, 48)}
    assert eval_transform(cfg)(halves()).shape == (3, 48, 48)
    assert eval_transform(cfg, 24)(halves()).shape == (3, 24, 24)


# frames of clips are left as they are
PICTURES = [name for name in recipes if name not in ("tahnet_ntu", "tahnet_nucla", "instances")]


@pytest.mark.parametrize("name", PICTURES)
def test_train_transforms_are_random_but_seeded(name):
    transform = train_transform(CFG, recipes[name])
    image = Image.effect_noise((80, 40), 90).convert("RGB")

    def draw(seed):
        import random

        import numpy as np

        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return transform(image)

    assert draw(1).shape == (3, 32, 32)
    assert torch.equal(draw(1), draw(1))
    assert any(not torch.equal(draw(1), draw(s)) for s in (2, 3, 4))


def test_colour_is_jittered_and_dropped_as_asked():
    plain = recipes["prfnet"].override(hflip=0.0)
    grey = train_transform(CFG, plain.override(grayscale=1.0))(halves())
    pixels = denormalize(grey, CFG)
    torch.testing.assert_close(pixels[0], pixels[1], atol=5e-3, rtol=0)
    jittered = denormalize(train_transform(CFG, plain.override(color_jitter=0.8, hue=0.5))(halves()), CFG)
    assert (jittered - denormalize(train_transform(CFG, plain)(halves()), CFG)).abs().max() > 0.05


def test_unknown_geometry():
    with pytest.raises(ValueError, match="'squash' or 'random'"):
        train_transform(CFG, recipes["scratch"].override(resize="stretch"))


def overlap(low, high, start, stop):
    return max(min(high, stop) - max(low, start), 0)


def allowed_offsets(image_size, crop_size, box, keep):
    """The plainest loop, in exact fractions: every (top, left) that leaves enough of the box, else most of it."""
    (height, width), (h, w) = image_size, crop_size
    x1, y1, x2, y2 = (Fraction(x) for x in box)
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    kept = {
        (top, left): overlap(top, top + h, y1, y2) * overlap(left, left + w, x1, x2)
        for top in range(height - h + 1)
        for left in range(width - w + 1)
    }
    enough = Fraction(keep) * max(x2 - x1, 0) * max(y2 - y1, 0)
    most = max(kept.values())
    return {offset for offset, area in kept.items() if area >= min(enough, most)}


# quarters of pixels and of areas, so that floats are exact
quarters = st.integers(-20, 60).map(lambda x: x / 4)
spans = st.tuples(quarters, st.integers(1, 60).map(lambda x: x / 4))
sides = st.integers(1, 10).flatmap(lambda side: st.tuples(st.just(side), st.integers(1, side)))


@settings(max_examples=150, deadline=None)
@given(rows=sides, columns=sides, x=spans, y=spans, keep=st.sampled_from([0, 0.25, 0.5, 0.75, 1]))
def test_every_crop_that_keeps_enough_of_a_person_can_be_drawn_and_no_other(rows, columns, x, y, keep):
    image_size, crop_size = (rows[0], columns[0]), (rows[1], columns[1])
    box = (x[0], y[0], x[0] + x[1], y[0] + y[1])
    expected = allowed_offsets(image_size, crop_size, box, keep)
    drawn = set()
    for k in range(len(expected)):
        with mock.patch("torch.randint", return_value=torch.tensor(k)) as draw:
            drawn.add(keep_person_crop(image_size, crop_size, torch.tensor(box), keep))
        draw.assert_called_once_with(len(expected), ())
    assert drawn == expected


numbers = st.floats(-50, 250, allow_nan=False, width=32)


@settings(max_examples=100, deadline=None)
@given(x1=numbers, y1=numbers, w=st.floats(0.5, 300, width=32), h=st.floats(0.5, 300, width=32), keep=st.floats(0, 1))
def test_a_crop_keeps_the_share_asked_for_wherever_that_is_possible(x1, y1, w, h, keep):
    box = torch.tensor([x1, y1, x1 + w, y1 + h])
    top, left = keep_person_crop((120, 200), (100, 90), box, keep)
    assert 0 <= top <= 20
    assert 0 <= left <= 110
    x1, y1, x2, y2 = box.double().tolist()
    whole = overlap(0, 200, x1, x2) * overlap(0, 120, y1, y2)
    kept = overlap(left, left + 90, x1, x2) * overlap(top, top + 100, y1, y2)
    best_rows = max(overlap(i, i + 100, max(y1, 0), min(y2, 120)) for i in range(21))
    best_columns = max(overlap(i, i + 90, max(x1, 0), min(x2, 200)) for i in range(111))
    assert kept >= min(keep * whole, best_rows * best_columns) * (1 - 1e-9)


def test_draws_are_seeded_and_evenly_spread():
    torch.manual_seed(0)
    box = torch.tensor([2.0, 2.0, 6.0, 6.0])
    draws = [keep_person_crop((8, 8), (6, 6), box, 1.0) for _ in range(900)]
    counts = [draws.count((top, left)) for top in range(3) for left in range(3)]
    assert sum(counts) == 900
    assert min(counts) > 60  # expected 100, standard deviation 9.4
    torch.manual_seed(0)
    assert [keep_person_crop((8, 8), (6, 6), box, 1.0) for _ in range(9)] == draws[:9]


@pytest.mark.parametrize(
    ("sizes", "box", "keep", "match"),
    [
        (((8, 8), (9, 8)), [0, 0, 4, 4], 0.7, r"crop of \(9, 8\) pixels does not fit"),
        (((8, 8), (8, 0)), [0, 0, 4, 4], 0.7, "does not fit"),
        (((8, 8), (6, 6)), [0, 0, 4, 4], 1.1, r"in \[0, 1\], got 1\.1"),
        (((8, 8), (6, 6)), [[0, 0, 4, 4]], 0.7, r"shape \(4,\)"),
        (((8, 8), (6, 6)), [0, 0, float("nan"), 4], 0.7, "no area"),
        (((8, 8), (6, 6)), [4, 0, 4, 4], 0.7, "no area"),
    ],
    ids=["large", "empty", "share", "rank", "nan", "line"],
)
def test_crops_that_cannot_be_drawn(sizes, box, keep, match):
    with pytest.raises(ValueError, match=match):
        keep_person_crop(*sizes, torch.tensor(box, dtype=torch.float32), keep)


PERSON = recipes["prfnet"].override(crop_pct=0.5, keep_person=0.7)
BOX = torch.tensor([[72.0, 8.0, 104.0, 24.0], [0.0, 40.0, 20.0, 60.0]])


def person():
    """128 x 64, black but for a person in red, whose box becomes 16 x 16 in the squashed picture."""
    image = Image.new("RGB", (128, 64))
    image.paste((255, 0, 0), tuple(BOX[0].int().tolist()))
    return image


def red(transform, *boxes, seed):
    torch.manual_seed(seed)
    return int((denormalize(transform(person(), *boxes), CFG)[0] > 0.5).sum())


def test_crops_keep_the_surest_person_in_the_squashed_picture():
    transform = train_transform({**CFG, "interpolation": "nearest"}, PERSON)
    kept = [red(transform, BOX, seed=s) for s in range(100)]
    assert min(kept) >= 0.7 * 256
    assert min(kept) < 0.8 * 256 < max(kept) == 256
    assert min(red(transform, BOX.flip(0), seed=s) for s in range(30)) < 0.5 * 256
    assert [red(transform, BOX.long(), seed=s) for s in range(9)] == kept[:9]


def test_pictures_without_people_get_the_plain_crop():
    transform, plain = (train_transform(CFG, PERSON.override(keep_person=share)) for share in (0.7, 0.0))
    for seed in range(5):
        drawn = []
        for f, boxes in ((plain, ()), (plain, (BOX,)), (transform, ()), (transform, (None,)), (transform, (BOX[:0],))):
            torch.manual_seed(seed)
            drawn.append(f(person(), *boxes))
        assert all(torch.equal(drawn[0], other) for other in drawn[1:])


@pytest.mark.parametrize("resize", ["squash", "random"])
def test_random_numbers_are_drawn_as_by_the_plain_steps(resize):
    recipe = recipes["scratch"].override(resize=resize, crop_pct=0.8, auto_augment=None, erase=0.0, color_jitter=0.4)
    squash = [T.Resize([40, 40]), T.RandomCrop([32, 32])]
    steps = squash if resize == "squash" else [T.RandomResizedCrop([32, 32], scale=recipe.scale)]
    jitter = [T.RandomHorizontalFlip(0.5), T.ColorJitter(0.4, 0.4, 0.4, 0.0)]
    plain = T.Compose([*steps, *jitter, T.ToTensor(), T.Normalize(CFG["mean"], CFG["std"])])
    for seed in range(3):
        torch.manual_seed(seed)
        expected = plain(halves())
        torch.manual_seed(seed)
        assert torch.equal(train_transform(CFG, recipe)(halves()), expected)
