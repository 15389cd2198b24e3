import pytest

from actionzoo.training import recipes
from actionzoo.training.fit import learning_rate_factor


def test_the_papers_printed_hyper_parameters():
    paper = recipes["prfnet"]
    assert (paper.optimizer, paper.lr, paper.momentum, paper.weight_decay) == ("sgd", 0.002, 0.9, 5e-4)
    assert (paper.epochs, paper.batch_size) == (100, 32)
    assert round(256 / paper.crop_pct) == 260
    assert paper.backbone_lr_scale == 0.1


def test_the_body_part_papers_printed_hyper_parameters():
    paper = recipes["bodypart"]
    assert (paper.optimizer, paper.lr, paper.batch_size) == ("adam", 1e-5, 16)
    assert (paper.epochs, paper.milestones, paper.warmup_epochs) == (210, (170, 200), 0)
    assert (paper.pose_rotation, paper.action_rotation, paper.rescale, paper.hflip) == (90, 10, 0.25, 0.5)
    assert (paper.action_loss, paper.action_weight, paper.sigma) == ("focal", 0.00075, 2)
    assert (paper.weight_decay, paper.color_jitter, paper.clip_grad) == (0, 0, None)


def test_the_convit_papers_printed_hyper_parameters():
    paper = recipes["convit_har"]
    assert (paper.optimizer, paper.lr, paper.momentum, paper.weight_decay) == ("sgd", 0.001, 0.9, 3e-5)
    assert (paper.batch_size, paper.keep_person, paper.mixup, paper.hflip) == (16, 0.7, 0.4, 0.5)
    assert (paper.epochs, paper.resize, round(448 / paper.crop_pct)) == (30, "squash", 512)
    assert paper.auto_augment == "rand-m9-n2"
    factors = [learning_rate_factor(paper, epoch) for epoch in (0, 9.9, 10, 19.9, 20, 29.9)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_rate_drops_to_a_tenth_at_epochs_170_and_200_of_the_paper():
    recipe, steps = recipes["bodypart"], 7
    factors = [learning_rate_factor(recipe, epoch + i / steps) for epoch in range(210) for i in range(steps)]
    expected = [1.0] * 170 * steps + [0.1] * 30 * steps + [0.01] * 10 * steps
    assert factors == pytest.approx(expected)


def test_steps_come_after_a_warm_up():
    recipe = recipes["bodypart"].override(epochs=10, milestones=(5,), warmup_epochs=2)
    factors = [learning_rate_factor(recipe, epoch) for epoch in (0, 0.5, 1, 2, 4.9, 5, 9)]
    assert factors == pytest.approx([1e-3, 0.25, 0.5, 1, 1, 0.1, 0.1])


def test_without_steps_the_rate_falls_as_half_a_cosine():
    recipe = recipes["scratch"].override(epochs=8, warmup_epochs=0)
    factors = [learning_rate_factor(recipe, epoch) for epoch in (0, 2, 4, 6)]
    assert factors == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])


def test_the_instance_guided_papers_printed_hyper_parameters():
    ntu, nucla = recipes["tahnet_ntu"], recipes["tahnet_nucla"]
    for paper in (ntu, nucla):
        assert (paper.optimizer, paper.lr, paper.momentum, paper.batch_size) == ("sgd", 0.001, 0.9, 4)
        # random temporal clips are all the augmentation that it names
        assert (paper.hflip, paper.label_smoothing, paper.warmup_epochs, paper.clip_grad) == (0, 0, 0, None)
    steps = 40_320 // 4
    for printed, epochs in zip((120_000, 80_000, 100_000), (ntu.epochs, *ntu.milestones)):
        assert epochs * steps == pytest.approx(printed, rel=0.01)
    assert nucla.epochs * (983 // 4) == pytest.approx(10_000, rel=0.01)
    assert {learning_rate_factor(nucla, epoch) for epoch in (0, 1, 20, 40.9)} == {1.0}
    assert ntu.lasting(120_000, 40_320, (80_000, 100_000)) == ntu
    assert nucla.lasting(10_000, 983) == nucla


@pytest.mark.parametrize("name", ["pcf_people", "pcf_parts"])
def test_the_part_action_papers_printed_hyper_parameters(name):
    paper = recipes[name]
    assert (paper.optimizer, paper.lr, paper.momentum, paper.nesterov) == ("sgd", 0.01, 0.9, True)
    assert (paper.weight_decay, paper.epochs, paper.milestones) == (1e-4, 24, (16, 22))
    assert (paper.warmup_iterations, paper.warmup_epochs, paper.batch_size) == (1800, 0, 6 * 4)
    assert paper.backbone_lr_scale == pytest.approx(1 / 3)


def test_a_warm_up_has_one_length():
    recipe = recipes["pcf_people"]
    with pytest.raises(ValueError, match="warmup_epochs or warmup_iterations, got 1 and 1800; leave one"):
        recipe.override(warmup_epochs=1)
    with pytest.raises(ValueError, match="warmup_iterations is at least 0, got -1"):
        recipe.override(warmup_iterations=-1)


def test_nesterov_needs_a_momentum():
    for changes in ({"optimizer": "adamw"}, {"momentum": 0.0}):
        with pytest.raises(ValueError, match="nesterov=True is for optimizer='sgd' with momentum above 0"):
            recipes["pcf_people"].override(**changes)


def test_a_constant_rate_comes_after_a_warm_up():
    recipe = recipes["scratch"].override(epochs=8, warmup_epochs=2, schedule="constant")
    assert [learning_rate_factor(recipe, epoch) for epoch in (0, 1, 2, 7.9)] == pytest.approx([1e-3, 0.5, 1, 1])
    with pytest.raises(ValueError, match=r"'constant' has no drops, got milestones=\(4,\); leave one"):
        recipe.override(milestones=(4,))


def test_clips_of_people_are_not_mirrored_unasked():
    assert {recipes[name].hflip for name in ("instances", "tahnet_ntu", "tahnet_nucla")} == {0.0}


def test_iterations_become_epochs():
    recipe = recipes["tahnet_ntu"].lasting(100, 43, (51, 79))
    # ten full batches of four an epoch
    assert (recipe.epochs, recipe.milestones) == (10, (5, 8))
    assert recipe.lasting(94, 43).milestones == ()
    for iterations, samples, drops in ((0, 43, ()), (100, 3, ())):
        with pytest.raises(ValueError, match="at least one iteration and one batch of 4"):
            recipe.lasting(iterations, samples, drops)
    for iterations, drops in ((100, (80, 50)), (100, (50, 52)), (100, (98,)), (100, (2,)), (3, ())):
        with pytest.raises(ValueError, match="different whole epochs of the run"):
            recipe.lasting(iterations, 43, drops)


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
        ("optimizer", "lion", "one of sgd, adam, adamw, got 'lion'"),
        ("schedule", "steps", "one of cosine, constant, got 'steps'"),
        ("milestones", [3], "takes tuple"),
        ("milestones", (3, 4.5), "whole epochs"),
        ("milestones", (0, 4), "from 1 up"),
        ("pose_rotation", -1.0, "at least 0"),
        ("action_weight", -0.1, "at least 0"),
        ("action_weight", float("nan"), "at least 0"),
        ("rescale", 1.0, r"rescale lies in \[0, 1\)"),
        ("sigma", 0.0, "sigma is above 0"),
        ("mixup", -0.1, "finite and at least 0"),
        ("mixup", float("inf"), "finite and at least 0"),
        ("mixup", float("nan"), "finite and at least 0"),
        ("keep_person", 1.1, r"share of a box in \[0, 1\], got 1\.1"),
        ("keep_person", float("nan"), "share of a box"),
        ("keep_person", 0.7, "goes with resize='squash', got resize='random'"),
        ("action_loss", "hinge", "one of focal, bce, got 'hinge'"),
    ],
)
def test_wrong_values_are_refused(field, value, match):
    with pytest.raises(ValueError, match=match):
        recipes["scratch"].override(**{field: value})
