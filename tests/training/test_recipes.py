import pytest

from actionzoo.training import recipes


def test_the_papers_printed_hyper_parameters():
    paper = recipes["prfnet"]
    assert (paper.optimizer, paper.lr, paper.momentum, paper.weight_decay) == ("sgd", 0.002, 0.9, 5e-4)
    assert (paper.epochs, paper.batch_size) == (100, 32)
    assert round(256 / paper.crop_pct) == 260
    assert paper.backbone_lr_scale == 0.1


def test_override_changes_a_copy_and_ignores_none():
    recipe = recipes["prfnet"]
    changed = recipe.override(epochs=3, lr=None)
    assert (changed.epochs, changed.lr, recipe.epochs) == (3, 0.002, 100)
    with pytest.raises(ValueError, match=r"no field.*epoch"):
        recipe.override(epoch=3)
