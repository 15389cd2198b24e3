import json

import pytest
import torch

import actionzoo
from actionzoo.data import ActionSamples
from actionzoo.training import fit_in_stages, recipes
from actionzoo.training.convit import STAGES, stage_recipes
from tests import persons

FAST = {"epochs": 1, "batch_size": 4, "warmup_epochs": 0}
QUICK = {
    "convit": recipes["scratch"].override(**FAST, auto_augment=None),
    "detector": recipes["detector"].override(**{**FAST, "epochs": 2}),
    "human": recipes["human_branch"].override(**FAST),
}
NAME = "convit_har_person_tiny"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return persons.samples(persons.write(tmp_path_factory.mktemp("people")))


@pytest.fixture(scope="module", autouse=True)
def no_curves():
    """Leave out the reports' pictures, which take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("tasks", "human_branch"):
            patch.setattr(f"actionzoo.training.{module}.write_report", lambda *_: [])
        yield


def run(samples, output, **args):
    options = {"stages": QUICK, "detector_args": persons.DETECTOR, **persons.CONVIT, **args}
    return fit_in_stages(NAME, samples, output, progress=False, **options)


@pytest.fixture(scope="module")
def finished(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return run(samples, folder), folder


def loaded(folder):
    return [actionzoo.create(f"local-dir:{folder / stage}") for stage in STAGES]


def test_every_stage_leaves_a_folder_that_create_loads(finished):
    metrics, folder = finished
    assert list(metrics) == list(STAGES)
    for stage, model in zip(STAGES, loaded(folder)):
        assert model.load_report.random == ()
        assert metrics[stage] == json.loads((folder / stage / "metrics.json").read_text())
    assert "top1" in metrics["convit"]
    assert "ap50" in metrics["detector"]
    assert set(metrics["human"]["branches"]) == {"image", "person"}


def test_later_stages_hold_the_first_bit_for_bit(finished):
    convit, detector, human = loaded(finished[1])
    assert persons.changed(convit.state_dict(), human.convit.state_dict()) == set()
    assert persons.changed(convit.backbone.state_dict(), detector.backbone.trunk.state_dict()) == set()
    fresh = persons.convit()
    assert "backbone.bn1.running_mean" in persons.changed(fresh.state_dict(), convit.state_dict())


def test_the_three_work_together(finished, samples):
    folder = finished[1]
    pipe = actionzoo.pipeline(f"local-dir:{folder / 'human'}", detector=f"local-dir:{folder / 'detector'}")
    path = samples.items["test"][0][0]
    result = pipe(path, samples.boxes[path])
    assert result.label in persons.CLASSES
    alone = actionzoo.pipeline(f"local-dir:{folder / 'convit'}")(path)
    # both look at the whole picture, without a crop
    assert alone.scores == pytest.approx(result.scores, abs=1e-5)


@pytest.mark.parametrize("epochs", [None, 1], ids=["between two stages", "within a stage"])
def test_resumed_ends_the_same_wherever_it_was_stopped(finished, samples, tmp_path, monkeypatch, epochs):
    from actionzoo.training import convit

    real = convit.fit

    def stop(model, data, recipe, output, **options):
        if output.name == "detector":
            if epochs:
                real(model, data, recipe, output, **options, stop_after=epochs)
            raise KeyboardInterrupt
        return real(model, data, recipe, output, **options)

    monkeypatch.setattr(convit, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        run(samples, tmp_path / "run")
    assert (tmp_path / "run" / "detector" / "state.pt").exists() == bool(epochs)
    monkeypatch.setattr(convit, "fit", real)

    with pytest.raises(FileExistsError, match="holds a run already"):
        run(samples, tmp_path / "run")
    torch.manual_seed(99)
    metrics = run(samples, tmp_path / "run", resume=True)
    for stage, whole, parts in zip(STAGES, loaded(finished[1]), loaded(tmp_path / "run")):
        assert persons.changed(whole.state_dict(), parts.state_dict()) == set(), stage
        assert {**metrics[stage], "train_seconds": 0} == {**finished[0][stage], "train_seconds": 0}


def test_another_seed_is_another_run(finished, samples, tmp_path):
    run(samples, tmp_path / "run", seed=1)
    for first, second in zip(loaded(finished[1]), loaded(tmp_path / "run")):
        names = persons.changed(first.state_dict(), second.state_dict())
        assert any(name.startswith(("vits.", "backbone.neck.", "human.")) for name in names)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("convit_har_tiny", "expected convit_har_person_resnet50 or convit_har_person_tiny, got 'convit_har_tiny'"),
        ("person_tiny", "expected convit_har_person_resnet50"),
        ("convit_har_person_tiny.photos", "expected convit_har_person_resnet50"),
        ("local-dir:runs", "expected convit_har_person_resnet50"),
        ("convit_har_person_small", "unknown model 'convit_har_person_small'"),
    ],
)
def test_wrong_names(samples, tmp_path, name, said):
    with pytest.raises(ValueError, match=said):
        fit_in_stages(name, samples, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_refusals_come_before_anything_is_written(samples, tmp_path):
    bare = ActionSamples(samples.classes, samples.items)
    test = samples.with_boxes({path: samples.boxes[path] for path, _ in samples.items["test"]})
    for wrong, args, said in (
        (bare, {}, "the data has none"),
        (test, {}, "no training picture has boxes"),
        (samples, {"stages": {"pose": recipes["scratch"]}}, r"the stages are convit, detector, human, got \['pose'\]"),
        (samples, {"in_chans": 1}, "has another shape of"),
        (samples, {"multi_label": True}, "multi_label"),
        (samples, {"detector_args": {**persons.DETECTOR, "trunk": "resnet10t"}}, "does not fit the trunk"),
        (samples, {"backbone": "resnet10t", "detector_args": {"out_indices": (9,)}}, "do not fit 5 feature maps"),
    ):
        with pytest.raises((ValueError, TypeError), match=said):
            run(wrong, tmp_path / "run", **args)
    assert not (tmp_path / "run").exists()


def test_recipes_of_the_stages():
    own, paper = stage_recipes("convit_har_person_tiny"), stage_recipes("convit_har_person_resnet50")
    assert own == {
        "convit": recipes["scratch"],
        "detector": recipes["detector"],
        "human": recipes["human_branch"],
    }
    # section 4.2 for all three, but that blended pictures have no one person at a place
    assert paper["convit"] == paper["detector"] == recipes["convit_har"]
    assert paper["human"] == recipes["convit_har"].override(mixup=0.0)
    assert tuple(own) == tuple(paper) == STAGES


def test_recipes_that_are_not_given_are_the_stages_own(samples, tmp_path, monkeypatch):
    from actionzoo.training import convit

    seen = []
    monkeypatch.setattr(convit, "fit", lambda model, data, recipe, output, **_: seen.append((output.name, recipe)))
    run(samples, tmp_path / "run", stages={"detector": QUICK["detector"]})
    own = {**stage_recipes(NAME), "detector": QUICK["detector"]}
    assert dict(seen) == own
