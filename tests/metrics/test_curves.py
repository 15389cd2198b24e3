import builtins

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as sk

from actionzoo.metrics import average_precision, plot_curves, precision_recall_curve, roc_auc, roc_curve

torch.set_num_threads(1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=2, max_size=20))
def test_curves_equal_sklearn_with_ties(rows):
    scores = torch.tensor([[s / 2] for s, _ in rows])
    targets = torch.tensor([[int(p)] for _, p in rows])
    s, t = scores[:, 0].numpy(), targets[:, 0].numpy()
    (ours,) = precision_recall_curve(scores, targets)
    (roc,) = roc_curve(scores, targets)
    if t.any():
        for a, b in zip(ours, sk.precision_recall_curve(t, s), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        steps = -(ours.recall.diff() * ours.precision[:-1]).sum()
        assert steps == pytest.approx(average_precision(scores, targets).item(), abs=1e-12)
    else:
        assert ours.recall[:-1].isnan().all()
    if 0 < t.sum() < len(t):
        for a, b in zip(roc, sk.roc_curve(t, s, drop_intermediate=False), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        assert roc_auc(scores, targets).item() == pytest.approx(sk.roc_auc_score(t, s), abs=1e-12)
    else:
        assert roc_auc(scores, targets).isnan().all()


@pytest.fixture
def table():
    g = torch.Generator().manual_seed(3)
    targets = torch.randint(0, 4, (80,), generator=g)
    scores = torch.randn(80, 4, generator=g) + 2 * torch.nn.functional.one_hot(targets, 4)
    return scores.softmax(1), targets


def test_auc_averages_equal_sklearn(table):
    scores, targets = table
    one_hot = torch.nn.functional.one_hot(targets, 4).numpy()
    for average in (None, "macro", "micro"):
        expected = sk.roc_auc_score(one_hot, scores.double().numpy(), average=average)
        np.testing.assert_allclose(roc_auc(scores, targets, average), expected, rtol=1e-9)


def test_unannotated_rows_are_left_out(table):
    scores, targets = table
    multi = torch.nn.functional.one_hot(targets, 4)
    multi[::3, 1] = -1
    kept = multi[:, 1] != -1
    expected = sk.roc_auc_score(multi[kept, 1].numpy(), scores[kept, 1].numpy())
    assert roc_auc(scores, multi)[1].item() == pytest.approx(expected)
    everything = multi != -1
    pooled = sk.roc_auc_score(multi[everything].numpy(), scores[everything].numpy())
    assert roc_auc(scores, multi, "micro").item() == pytest.approx(pooled)


def test_macro_auc_leaves_out_an_absent_class(table):
    scores, targets = table
    wider = torch.cat([scores, torch.zeros(80, 1)], 1)
    assert roc_auc(wider, targets)[4].isnan()
    assert roc_auc(wider, targets, "macro") == pytest.approx(roc_auc(scores, targets).mean().item())


def test_unknown_average_is_refused(table):
    with pytest.raises(ValueError, match="weighted"):
        roc_auc(*table, average="weighted")


def test_pictures_are_written_whole(table, tmp_path):
    names = ["weight_lifting", "rowing", "a very long class name indeed", "kayaking"]
    paths = plot_curves(*table, names, tmp_path / "deep" / "down")
    assert [p.name for p in paths] == ["pr.png", "roc.png", "confusion.png"]
    assert sorted((tmp_path / "deep" / "down").iterdir()) == sorted(paths)
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert min(pixels.shape[:2]) > 300
        assert (pixels[0] == 255).all()
        assert pixels.std() > 10


def test_confusion_picture_darkens_where_the_examples_are(tmp_path):
    scores, targets = torch.eye(2)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1])
    *_, path = plot_curves(scores, targets, ["a", "b"], tmp_path)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    dark = (np.abs(pixels - [8, 48, 107]).sum(-1) < 10).nonzero()  # matplotlib's "Blues" at 1
    middle_row, middle_column = (axis.min() + np.ptp(axis) / 2 for axis in dark)
    upper_left = (dark[0] < middle_row) & (dark[1] < middle_column)
    lower_right = (dark[0] > middle_row) & (dark[1] > middle_column)
    assert upper_left.sum() > 500
    assert (upper_left | lower_right).mean() > 0.99


def test_multi_hot_targets_have_no_confusion_picture(tmp_path):
    targets = torch.tensor([[1, 1], [0, 1], [1, 0], [0, -1]])
    paths = plot_curves(torch.rand(4, 2, generator=torch.Generator().manual_seed(0)), targets, ["a", "b"], tmp_path)
    assert [p.name for p in paths] == ["pr.png", "roc.png"]


def test_an_absent_class_does_not_stop_the_pictures(tmp_path):
    scores = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    assert len(plot_curves(scores, torch.tensor([0, 1, 0, 1, 0, 1]), ["a", "b", "never"], tmp_path)) == 3


def test_global_matplotlib_state_is_untouched(table, tmp_path):
    import matplotlib
    from matplotlib import _pylab_helpers

    before = dict(matplotlib.rcParams)
    plot_curves(*table, list("abcd"), tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert not _pylab_helpers.Gcf.figs


def test_wrong_number_of_names_is_refused_before_writing(table, tmp_path):
    with pytest.raises(ValueError, match="4 classes but 2 names"):
        plot_curves(*table, ["a", "b"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_missing_matplotlib_names_the_extra(table, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"actionzoo\[eval\]"):
        plot_curves(*table, list("abcd"), tmp_path)
