import pytest

from actionzoo.training import recipes


def test_the_papers_printed_hyper_parameters():
    paper = recipes["prfnet"]
    assert (paper.optimizer, paper.lr, paper.momentum, paper.weight_decay) == ("sgd", 0.002, 0.9, 5e-4)
    assert (paper.epochs, paper.batch_size) == (100, 32)
    assert round(256 / paper.crop_pct) == 260
    assert paper.backbone_lr_scale == 0.1


def test_override_changes_a_copy():
    recipe = recipes["scratch"]
    changed = recipe.override(epochs=3, clip_grad=None, auto_augment=None)
    assert (changed.epochs, changed.clip_grad, changed.auto_augment) == (3, None, None)
    assert (recipe.epochs, recipe.clip_grad) == (40, 5.0)
    with pytest.raises(ValueError, match=r"no field.*epoch"):
        recipe.override(epoch=3)


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("zoom", "false", "takes bool, got 'false'"),
        ("epochs", "3", "takes int"),
        ("epochs", 0, "at least 1"),
        ("lr", True, "takes float or int"),
        ("erase", 1.5, r"probability in \[0, 1\]"),
        ("optimizer", None, "takes str"),
    ],
)
def test_wrong_values_are_refused(field, value, match):
    with pytest.raises(ValueError, match=match):
        recipes["scratch"].override(**{field: value})
