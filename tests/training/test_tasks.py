import json

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import actionzoo
from actionzoo.data import read_samples
from actionzoo.training import ImageTask, PeopleTask, StepTools, Task, fit, recipes
from tests import pictures

TINY = {"backbone_args": {"channels": (8, 8, 16, 16), "stem_width": 4}, "input_size": (3, 32, 32)}
RECIPE = recipes["scratch"].override(epochs=1, batch_size=6, auto_augment=None)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return read_samples(pictures.write(tmp_path_factory.mktemp("shapes"), train=4, test=2))


def plain(classes=3):
    return actionzoo.create("plain_tiny", num_classes=classes, test_input_size=None, **TINY)


def test_update_is_backward_then_the_hook_then_the_optimizer():
    calls, parameter = [], torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.SGD([parameter], 0.5)
    optimizer.register_step_pre_hook(lambda *_: calls.append("step"))
    model = torch.nn.Module()
    tools = StepTools(
        model, optimizer, lambda loss: (calls.append("backward"), loss.backward()), lambda: calls.append("before")
    )
    tools.update((parameter**2).sum())
    assert calls == ["backward", "before", "step"]
    assert parameter.tolist() == [0.0, 0.0]


class TestImageTask:
    def test_what_it_says_of_the_data(self, samples):
        task = ImageTask(samples)
        assert (task.classes, task.splits, task.headline) == (pictures.CLASSES, ("train", "test"), "top1")
        assert task.describe() == "3 classes, 12 train, 6 test images; 0 rows without a label"
        assert task.identity() == ImageTask(samples).identity() != ImageTask(samples.hold_out(0.25)).identity()
        assert task.identity().count("\n") == 17

    def test_classes_are_numbered_as_a_model_does(self, samples):
        task = ImageTask(samples)
        before = {path: task.classes[k] for rows in task.samples.items.values() for path, k in rows}
        task.rename(("stripes", "other", "square", "circle"))
        assert task.classes == ("stripes", "other", "square", "circle")
        assert {path: task.classes[k] for rows in task.samples.items.values() for path, k in rows} == before
        with pytest.raises(ValueError, match=r"does not know the classes \['circle'\]"):
            ImageTask(samples).rename(("stripes", "square"))

    def test_a_model_with_other_classes_is_refused(self, samples):
        ImageTask(samples).check(plain())
        with pytest.raises(ValueError, match="the model has 4 classes, the data 3"):
            ImageTask(samples).check(plain(4))

    def test_one_step_is_that_of_cross_entropy(self, samples):
        model = plain().eval()
        task = ImageTask(samples)
        task.configure(dict(model.pretrained_cfg), RECIPE.override(label_smoothing=0.2))
        images, targets = next(iter(DataLoader(task.dataset("test", train=False), 6)))
        with torch.no_grad():
            log_p = model(images).log_softmax(1)
        expected = -(0.8 * log_p[torch.arange(6), targets] + 0.2 * log_p.mean(1)).mean()
        tools = StepTools(model, torch.optim.SGD(model.parameters(), 0.0), Tensor.backward, lambda: None)
        losses = task.step(tools, (images, targets))
        torch.testing.assert_close(losses, expected[None])
        assert all(p.grad is not None for p in model.parameters())

    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_a_blended_step_is_the_blend_of_two_cross_entropies(self, samples, smoothing):
        """With Zhang et al. 2018: CE of soft targets is linear in them."""
        task, model = ImageTask(samples), plain().eval()
        task.configure(dict(model.pretrained_cfg), RECIPE.override(mixup=0.4, label_smoothing=smoothing))
        images, targets = next(iter(DataLoader(task.dataset("test", train=False), 6)))
        given = images.clone(), targets.clone()

        torch.manual_seed(3)
        lam = float(torch.distributions.Beta(0.4, 0.4).sample())
        torch.manual_seed(3)
        tools = StepTools(model, torch.optim.SGD(model.parameters(), 0.0), Tensor.backward, lambda: None)
        losses = task.step(tools, (images, targets))
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

        assert 0.02 < lam < 0.98
        assert torch.equal(images, given[0])
        assert torch.equal(targets, given[1])
        log_p = model(lam * images + (1 - lam) * images[[5, 0, 1, 2, 3, 4]]).log_softmax(1)
        others = targets[[5, 0, 1, 2, 3, 4]]
        picked = [
            -((1 - smoothing) * log_p[torch.arange(6), k] + smoothing * log_p.mean(1)).mean() for k in (targets, others)
        ]
        expected = lam * picked[0] + (1 - lam) * picked[1]
        torch.testing.assert_close(losses, expected.detach()[None])
        model.zero_grad()
        expected.backward()
        assert set(found) == {name for name, _ in model.named_parameters()}
        for name, p in model.named_parameters():
            torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-6)

    def test_zooming_into_blended_pictures_is_refused(self, samples):
        task, model = ImageTask(samples), actionzoo.create("prfnet_tiny", num_classes=3, dim=16, hidden=16, **TINY)
        task.check(model)
        with pytest.raises(ValueError, match=r"mixup=0\.4 and progressive training do not go together"):
            task.configure(dict(model.pretrained_cfg), RECIPE.override(mixup=0.4))
        task.configure(dict(model.pretrained_cfg), RECIPE)

    def test_training_crops_are_told_of_people_and_scored_ones_are_not(self, samples):
        paths = [path for path, _ in samples.items["train"]]
        # a person in the corner, whom one crop alone keeps
        task = ImageTask(samples.with_boxes({path: torch.tensor([[0.0, 0.0, 1.0, 1.0]]) for path in paths[1:]}))
        recipe = RECIPE.override(resize="squash", crop_pct=0.5, keep_person=1.0, hflip=0.0, erase=0.0)
        task.configure(dict(plain().pretrained_cfg), recipe)
        train, scored = task.dataset("train", train=True), task.dataset("train", train=False)
        corner = ImageTask(samples)
        corner.configure(dict(plain().pretrained_cfg), recipe.override(keep_person=0.0))
        assert torch.equal(scored[1][0], corner.dataset("train", train=False)[1][0])
        assert all(torch.equal(train[1][0], train[1][0]) for _ in range(5))
        assert not all(torch.equal(train[0][0], train[0][0]) for _ in range(5))

    def test_a_recipe_that_keeps_people_runs_without_boxes_and_says_so(self, samples):
        recipe = RECIPE.override(resize="squash", keep_person=0.7)
        nobody = samples.with_boxes({samples.items["train"][0][0]: torch.zeros(0, 4)})
        untrained = samples.with_boxes({samples.items["test"][0][0]: torch.tensor([[1.0, 1, 9, 9]])})
        for data in (samples, nobody, untrained):
            with pytest.warns(UserWarning, match="keep 70% of a person, but no training picture comes with boxes"):
                ImageTask(data).configure(dict(plain().pretrained_cfg), recipe)

    def test_boxes_are_part_of_the_data(self, samples):
        first, second = (path for path, _ in samples.items["train"][:2])
        a, b = torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[1.0, 2, 3, 5]])
        boxed = [samples.with_boxes(boxes) for boxes in ({first: a}, {first: b}, {second: a}, {first: a, second: a})]
        identities = [ImageTask(data).identity() for data in (samples, *boxed)]
        assert len(set(identities)) == 5
        assert ImageTask(samples.with_boxes({second: a, first: a})).identity() == identities[-1]
        assert ImageTask(boxed[-1]).describe().endswith("6 test images; boxes of people in 2; 0 rows without a label")
        task = ImageTask(boxed[-1])
        task.rename(("stripes", "other", "square", "circle"))
        assert task.samples.boxes is boxed[-1].boxes

    def test_the_configuration_is_noted(self, samples):
        cfg = dict(plain().pretrained_cfg)
        ImageTask(samples).configure(cfg, RECIPE.override(crop_pct=0.5))
        assert (cfg["classes"], cfg["crop_pct"]) == (list(pictures.CLASSES), 0.5)

    def test_a_split_that_is_not_there_is_empty(self, samples):
        task = ImageTask(samples)
        task.configure(dict(plain().pretrained_cfg), RECIPE)
        assert len(task.dataset("val", train=False)) == 0


def test_the_convit_papers_recipe_resumes_to_the_same_weights(samples, tmp_path):
    boxed = samples.with_boxes({path: torch.tensor([[2.0, 2, 20, 20]]) for path, _ in samples.items["train"]})
    recipe, found = recipes["convit_har"].override(epochs=3, batch_size=6), []
    for stops in ((2,), (1, 2)):
        torch.manual_seed(0)
        model = plain()
        for stop in stops:
            fit(model, boxed, recipe, tmp_path / str(stops), progress=False, stop_after=stop, resume=stop == 2)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*found)


def test_anything_with_the_methods_of_a_task_is_trained(samples, tmp_path):
    class Halved(ImageTask):
        """Its own loss and its own report."""

        headline = "map"

        def step(self, tools, batch):
            tools.optimizer.zero_grad()
            loss = tools.model(batch[0]).square().mean() / 2
            tools.update(loss)
            return torch.stack([loss, loss * 2]).detach()

        def report(self, score, output):
            (output / "mine.txt").write_text(str(score.metrics["map"]))

    task = Halved(samples.hold_out(0.25))
    metrics = fit(plain(), task, RECIPE, tmp_path / "run", progress=False)
    (row,) = json.loads((tmp_path / "run" / "history.json").read_text())
    assert row["losses"][1] == pytest.approx(2 * row["losses"][0], abs=2e-5)
    assert "val_map" in row
    assert (tmp_path / "run" / "mine.txt").read_text() == str(metrics["map"])
    assert not (tmp_path / "run" / "pr.png").exists()


@pytest.mark.parametrize("task", [ImageTask, PeopleTask])
def test_both_tasks_have_every_method_of_the_protocol(task):
    wanted = {name for name in vars(Task) if not name.startswith("_")}
    assert wanted >= {"configure", "check", "rename", "dataset", "step", "score", "report"}
    assert {name for name in wanted if not hasattr(task, name)} == set()
