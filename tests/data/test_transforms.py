import pytest
import torch
from PIL import Image

from actionzoo.data import denormalize, eval_transform, train_transform
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


@pytest.mark.parametrize("name", list(recipes))
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
