import copy
import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, default_collate

import actionzoo
from actionzoo.data import (
    ActingFigures,
    ActionSamples,
    FigurePeople,
    FolderPeople,
    PersonExample,
    TopDown,
    read_keypoints,
    read_samples,
)
from actionzoo.layers import encode_heatmaps
from actionzoo.metrics import mean_average_precision, pckh
from actionzoo.models import BodyPartNet
from actionzoo.pipeline import PeoplePipeline
from actionzoo.training import (
    PeopleSplit,
    PeopleTask,
    StepTools,
    annotated_task,
    evaluate_people,
    figures_task,
    fit,
    recipes,
)
from tests import people, pictures

RECIPE = recipes["people"].override(epochs=2, batch_size=6, lr=1e-3)
ACTIONS = ("a", "b", "c")


def small_task(count=12, size=64, classes=True, name="people", **extra):
    """Figures with a pose alone and figures with an action alone; the test figures have both."""

    def source(kind, split, n, **args):
        return FigurePeople(ActingFigures(kind, split, n, size), **args)

    splits = {
        "train": PeopleSplit(
            pose=[source("pose", "train", count, action=False)],
            action=[source("fine_grained", "train", count, pose=False)] if classes else [],
        ),
        "test": PeopleSplit(action=[source("fine_grained", "test", 12, action=classes)]),
    }
    actions = ActingFigures("fine_grained", "test", 1).classes if classes else ()
    return PeopleTask({**splits, **extra}, actions, name)


def configured(task, model, recipe=RECIPE):
    task.check(model)
    task.configure(dict(model.pretrained_cfg), recipe)
    return task


def batch_of(*examples, size=64):
    transform = TopDown(size, size // 8)
    return default_collate([tuple(transform(example)) for example in examples])


def step_with(model, batch, recipe=RECIPE, lr=0.0):
    task = PeopleTask({}, ACTIONS if getattr(model, "num_classes", None) else ())
    task.check(model)
    task.configure(dict(model.pretrained_cfg), recipe)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    return task.step(StepTools(model, optimizer, Tensor.backward, lambda: None), batch)


class TestStep:
    def test_people_with_poses_alone_send_no_gradient_to_the_action_heads(self):
        model = people.bodypart().train()
        losses = step_with(model, batch_of(people.figure(), people.figure()))
        heads = [model.head, *model.stream_heads.values(), model.attention, model.part_backbone]
        gradients = [p.grad for head in heads for p in head.parameters()]
        assert all(gradient.eq(0).all() for gradient in gradients)
        assert model.pose.weight.grad.abs().sum() > 0
        assert losses[1] == 0
        assert losses[0] == losses[2] > 0

    def test_people_with_actions_alone_send_no_gradient_to_the_heat_maps(self):
        model = people.bodypart(streams=("image",)).train()
        losses = step_with(model, batch_of(people.figure(1, posed=False), people.figure(2, posed=False)))
        assert model.pose.weight.grad.eq(0).all()
        assert model.pose.bias.grad.eq(0).all()
        assert model.head.weight.grad.abs().sum() > 0
        assert losses[0] == 0
        assert_close(losses[2], RECIPE.action_weight * losses[1])

    def test_losses_of_a_mixed_batch(self):
        model, lam, sigma = people.bodypart().eval(), 0.01, 1.5
        batch = batch_of(people.figure(), people.figure(2, posed=False), people.figure(1))
        losses = step_with(model, batch, RECIPE.override(action_weight=lam, sigma=sigma))
        output = model(batch[0])
        maps, weights = encode_heatmaps(batch[1], 8, sigma)
        pose = sum(
            0.5 * (w[:, None, None] * (o - t)).square().mean() for o, t, w in zip(output.heatmaps, maps, weights)
        )
        action = 0.0
        for logits in (output.logits, *output.stream_logits.values()):
            for i, label in ((1, 2), (2, 1)):
                log_p = F.log_softmax(logits[i], 0)[label]
                action = action - (1 - log_p.exp()) ** 2 * log_p
        assert weights[1].eq(0).all()
        assert_close(losses, torch.stack([pose / 3, action / 3, pose / 3 + lam * action / 3]).detach())

    def test_the_optimizer_takes_one_step_along_the_gradient(self):
        model = people.bodypart().eval()
        before, lr = copy.deepcopy(model), 0.1
        step_with(model, batch_of(people.figure(), people.figure(2, posed=False)), lr=lr)
        for old, new in zip(before.parameters(), model.parameters()):
            assert_close(new, old - lr * new.grad)

    def test_a_pose_net_learns_from_the_poses_alone(self):
        model = people.pose().train()
        batch = default_collate([tuple(TopDown(64, 16)(people.figure(label))) for label in (0, 1)])
        losses = step_with(model, batch)
        assert losses.shape == (1,)
        assert losses[0] > 0
        assert model.head.weight.grad.abs().sum() > 0

    def test_several_actions_a_person(self):
        model = people.bodypart().eval()
        labels = torch.tensor([[1.0, 0, 1], [-1, -1, -1], [0, 1, -1]])
        batch = batch_of(*(people.figure(label) for label in labels))
        losses = step_with(model, batch, RECIPE.override(action_loss="bce"))
        output, expected = model(batch[0]), 0.0
        for logits in (output.logits, *output.stream_logits.values()):
            for i, known in ((0, [0, 1, 2]), (2, [0, 1])):
                expected += F.binary_cross_entropy_with_logits(logits[i, known], labels[i, known])
        assert_close(losses[1], (expected / 3).detach())


class Scripted(nn.Module):
    """Answers with prepared heat maps, and logits if any, batch by batch."""

    ensemble = staticmethod(BodyPartNet.ensemble)

    def __init__(self, maps, logits=None, streams=None):
        super().__init__()
        self.inner = nn.BatchNorm2d(3)
        self.maps, self.logits, self.streams = maps, logits, streams or {}

    def forward(self, images):
        rows = images[:, 0, 0, 0].long()
        assert not self.training
        if self.logits is None:
            return self.maps[rows]
        streams = {name: logits[rows] for name, logits in self.streams.items()}
        return SimpleNamespace(heatmaps=self.maps[rows], logits=self.logits[rows], stream_logits=streams)


def loader_of(joints, labels, heads, batch=2):
    rows = torch.arange(len(joints)).float()[:, None, None, None].expand(-1, 3, 2, 2)
    whole = rows, joints, labels, heads
    return [tuple(x[i : i + batch] for x in whole) for i in range(0, len(joints), batch)]


def peaks(cells, size=(20, 16)):
    """Heat maps with a single cell above zero each, so that the quarter shift changes nothing."""
    maps = torch.zeros(*cells.shape[:2], *size)
    for i, person in enumerate(cells.tolist()):
        for j, (x, y) in enumerate(person):
            maps[i, j, y, x] = 0.7
    return maps


def random_people(count=7, joints=16):
    torch.manual_seed(3)
    cells = torch.stack([torch.randint(0, 16, (count, joints)), torch.randint(0, 20, (count, joints))], 2)
    truth = torch.cat([cells + 4 * torch.randn(count, joints, 2), torch.randint(0, 3, (count, joints, 1))], 2)
    heads = torch.rand(count) * 8 + 4
    truth[1], heads[2], heads[3] = -1.0, float("nan"), 0.0
    return cells, truth, heads


class TestEvaluate:
    @pytest.mark.parametrize("joints", [16, 17])
    def test_pckh_of_hand_made_heat_maps(self, joints):
        cells, truth, heads = random_people(joints=joints)
        labels = torch.full((7,), -1)
        metrics = evaluate_people(Scripted(peaks(cells)), loader_of(truth, labels, heads)).metrics
        sized, posed = [0, 4, 5, 6], [0, 2, 3, 4, 5, 6]
        counted = [j for j in range(joints) if joints == 17 or j not in (6, 7)]  # not pelvis and thorax
        near = (cells - truth[..., :2]).norm(dim=2)
        right = total = 0
        for i in sized:
            for j in counted:
                if truth[i, j, 2] > 0:
                    total += 1
                    right += int(near[i, j] <= heads[i] / 2)
        assert 0 < right < total
        assert metrics["pckh"] == round(100 * right / total, 2)
        seen = truth[posed][..., 2] > 0
        assert metrics["pck"] == round(100 * float((near[posed][seen] <= 20 / 20).float().mean()), 2)
        assert (metrics["people"], metrics["posed"]) == (7, 6)
        if joints == 16:
            share = pckh(cells[sized][:, [9]], truth[sized][:, [9], :2], seen[[0, 3, 4, 5]][:, [9]], heads[sized])
            assert metrics["pckh_groups"]["Head"] == round(100 * share, 2)
        else:
            assert "pckh_groups" not in metrics
        assert "top1" not in metrics

    def test_columns_that_nobody_shows_are_null_in_json(self):
        cells, truth, heads = random_people()
        truth[..., 2] = 0
        truth[4, 9, 2] = 2
        metrics = evaluate_people(Scripted(peaks(cells)), loader_of(truth, torch.full((7,), -1), heads)).metrics
        groups = metrics["pckh_groups"]
        assert (groups["Wrist"], groups["Head"], metrics["posed"]) == (None, metrics["pckh"], 1)
        json.dumps(metrics, allow_nan=False)

    def test_actions_of_every_head(self):
        cells, truth, heads = random_people()
        labels = torch.tensor([0, 1, 2, -1, 2, -1, 0])
        torch.manual_seed(0)
        logits = {name: torch.randn(7, 3) for name in ("image", "attention", "part", "concat")}
        streams = {name: logits[name] for name in ("image", "attention", "part")}
        result = evaluate_people(Scripted(peaks(cells), logits["concat"], streams), loader_of(truth, labels, heads))
        metrics, known = result.metrics, labels >= 0
        mean = sum(logits[name].softmax(1) for name in ("image", "part", "concat")) / 3
        found = {**metrics["streams"], "concat": metrics, "ensemble": metrics["ensemble"]}
        for name, scores in {**logits, "ensemble": mean}.items():
            scores = scores[known].softmax(1) if name != "ensemble" else scores[known]
            assert found[name]["top1"] == round(100 * float((scores.argmax(1) == labels[known]).float().mean()), 2)
            assert found[name]["map"] == round(100 * mean_average_precision(scores, labels[known]), 2)
        assert (metrics["actions"], metrics["people"]) == (5, 7)
        assert_close(result.actions.scores, logits["concat"][known].softmax(1))
        assert_close(result.actions.targets, labels[known])

    def test_several_actions_a_person_have_a_map_alone(self):
        cells, truth, heads = random_people()
        torch.manual_seed(0)
        logits, labels = torch.randn(7, 3), torch.randint(0, 2, (7, 3)).float()
        labels[2], labels[4, 1] = -1, -1
        result = evaluate_people(Scripted(peaks(cells), logits, {"image": logits}), loader_of(truth, labels, heads))
        rows = [0, 1, 3, 4, 5, 6]
        assert result.metrics["map"] == round(100 * mean_average_precision(logits[rows], labels[rows]), 2)
        assert result.metrics["actions"] == 6
        assert "top1" not in result.metrics
        assert result.actions is None

    def test_modes_are_put_back(self):
        cells, truth, heads = random_people()
        model = Scripted(peaks(cells)).train()
        model.inner.eval()
        evaluate_people(model, loader_of(truth, torch.full((7,), -1), heads))
        assert (model.training, model.inner.training) == (True, False)
        with pytest.raises(ValueError, match="nobody to score"):
            evaluate_people(model, [])
        assert (model.training, model.inner.training) == (True, False)

    def test_people_without_poses(self):
        cells, truth, heads = random_people()
        metrics = evaluate_people(
            Scripted(peaks(cells), torch.randn(7, 2)), loader_of(truth * 0 - 1, torch.zeros(7).long(), heads)
        ).metrics
        assert {"pckh", "pck", "posed"}.isdisjoint(metrics)
        assert metrics["actions"] == 7


class TestFiguresTask:
    def test_a_mix_trains_each_set_for_one_thing_and_scores_both(self):
        task = figures_task("pose+fine_grained", length=6, size=32, val=True)
        assert task.splits == ("train", "val", "test")
        assert task.classes == ActingFigures("fine_grained", "train", 1).classes
        (pose,), (action,) = task.sources["train"]
        assert (len(pose), len(action)) == (6, 6)
        assert (pose[0].label, action[1].label) == (-1, 1)
        assert (pose[0].joints[:, 2] > 0).any()
        assert action[0].joints.eq(-1).all()
        (pose,), (action,) = task.sources["test"]
        assert (len(pose), len(action)) == (100, 100)
        assert (pose[1].label, action[1].label) == (-1, 1)
        assert all((source[0].joints[:, 2] > 0).any() for source in (pose, action))

    @pytest.mark.parametrize("name", ["pose", "fine_grained"])
    def test_one_set_gives_both(self, name):
        (source,) = figures_task(name, length=3, size=32, layout="coco").sources["train"].action
        assert source[2].label == 2
        assert source[2].joints.shape == (17, 3)
        assert (source[2].joints[:, 2] > 0).any()

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ("pose+pose", "give one set, or pose and one other"),
            ("fine_grained+fine_grained", "give one set"),
            ("fine_grained+motion", "give one set"),
            ("motion", "shows clips"),
            ("", "unknown task ''"),
            ("pose+", "unknown task ''"),
            ("posing", "unknown task 'posing'"),
        ],
    )
    def test_refusals(self, names, message):
        with pytest.raises(ValueError, match=message):
            figures_task(names, length=3, size=32)


class TestTask:
    def test_models_that_do_not_fit_are_refused(self):
        task = small_task()
        with pytest.raises(ValueError, match="the model has 3 classes, the data 8; create it with as many"):
            task.check(people.bodypart(3))
        with pytest.raises(ValueError, match="predicts no heat maps; people need"):
            task.check(actionzoo.create("plain_tiny", num_classes=8))
        with pytest.raises(ValueError, match="the data has no actions, which a BodyPartNet learns besides poses"):
            PeopleTask(task.sources).check(people.bodypart(3))
        model = people.bodypart(8, num_joints=5, parts={"head": 4})
        task.check(model)
        with pytest.raises(ValueError, match="flip pairs are known for"):
            task.configure(dict(model.pretrained_cfg), RECIPE)

    def test_one_task_serves_networks_of_both_kinds(self):
        task, cfg = small_task(), {}
        task.check(people.pose())
        assert task.classes == ()
        task.configure(cfg := dict(people.pose().pretrained_cfg), RECIPE)
        assert "classes" not in cfg
        assert task.headline == "pckh"
        task.check(people.bodypart(8))
        task.configure(cfg := dict(people.bodypart(8).pretrained_cfg), RECIPE)
        assert cfg["classes"] == list(task.actions)
        assert task.headline == "top1"

    def test_headlines(self):
        model = people.bodypart(8)
        assert configured(small_task(), model, RECIPE.override(action_loss="bce")).headline == "map"
        assert configured(small_task(classes=False), people.pose(num_joints=17)).headline == "pck"

    def test_actions_of_another_model(self):
        task = small_task()
        task.rename(task.actions)
        with pytest.raises(ValueError, match="the model knows the actions"):
            task.rename(task.actions[::-1])
        small_task(classes=False).rename(["anything"])

    def test_a_split_that_is_not_there(self):
        task = configured(small_task(), people.bodypart(8))
        with pytest.raises(ValueError, match="has no val split; it has train, test"):
            task.dataset("val", train=False)

    def test_sets_are_turned_by_angles_of_their_own_and_only_in_training(self):
        source = people.Alone(people.figure(0))
        task = PeopleTask({"train": PeopleSplit(pose=[source], action=[source])}, ACTIONS)
        recipe = RECIPE.override(pose_rotation=0.0, action_rotation=60.0, rescale=0.0, hflip=0.0)
        configured(task, people.bodypart(), recipe)
        train, test = task.dataset("train", train=True), task.dataset("train", train=False)
        torch.manual_seed(0)
        turned = [not torch.equal(train[i].image, test[i].image) for i in range(8)]
        assert turned[:4] == [False] * 4
        assert sum(turned[4:]) >= 1
        assert all(torch.equal(test[i].image, test[0].image) for i in range(8))

    def test_whole_pictures_are_cropped_as_by_the_pipeline(self, tmp_path):
        path = tmp_path / "a.png"
        people.figure(size=80).image.crop((0, 0, 80, 60)).save(path)
        model = people.bodypart()
        samples = ActionSamples(ACTIONS, {"test": [(path, 1)]})
        item = configured(annotated_task(samples), model).dataset("test", train=False)[0]
        seen = []
        model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        PeoplePipeline(model)(path)
        assert torch.equal(item.image, seen[0][0])
        assert item.label == 1

    def test_identity_tells_data_apart(self, tmp_path):
        a, b = (read_keypoints(*people.write_mpii(tmp_path / name, 2)) for name in "ab")
        folder = read_samples(pictures.write(tmp_path / "shapes", 2, 1))
        tasks = [
            annotated_task(pose={"train": a}),
            annotated_task(pose={"train": b}),
            annotated_task(pose={"test": a}),
            annotated_task(folder, pose={"train": a}),
            annotated_task(folder.hold_out(0.5), pose={"train": a}),
            annotated_task(folder),
            small_task(),
            small_task(11),
            small_task(name="others"),
        ]
        assert len({task.identity() for task in tasks}) == len(tasks)
        again = annotated_task(
            pose={"train": read_keypoints(tmp_path / "a" / "people.json", tmp_path / "a" / "images")}
        )
        assert again.identity() == tasks[0].identity()
        assert str(tmp_path) not in tasks[0].identity()

    @pytest.mark.parametrize(
        "other",
        [
            {"figures": ActingFigures("pose", "train", 6, 64, seed=1)},
            {"figures": ActingFigures("pose", "train", 6, 96)},
            {"figures": ActingFigures("fine_grained", "train", 6, 64)},
            {"pose": False},
            {"action": False},
        ],
        ids=["seed", "size", "task", "pose", "action"],
    )
    def test_identity_tells_figures_apart(self, other):
        arguments = {"figures": ActingFigures("pose", "train", 6, 64), "pose": True, "action": True}

        def identity(**changes):
            source = FigurePeople(**{**arguments, **changes})
            return PeopleTask({"train": PeopleSplit(action=[source])}, ACTIONS).identity()

        assert identity() == identity()
        assert identity() != identity(**other)

    def test_splits_of_other_names_are_refused(self, tmp_path):
        poses = read_keypoints(*people.write_mpii(tmp_path, 2))
        with pytest.raises(ValueError, match=r"splits train, val, test, got \['validation'\]"):
            annotated_task(pose={"train": poses, "validation": poses})

    @pytest.mark.parametrize("side", [0, 100])
    def test_sizes_that_the_model_cannot_take_are_refused_at_once(self, side):
        model, task = people.bodypart(8), small_task()
        task.check(model)
        with pytest.raises(ValueError, match=rf"{side}x{side} pixels \(--img-size\).*multiples of 64"):
            task.configure({**model.pretrained_cfg, "input_size": (3, side, side)}, RECIPE)

    def test_grey_models_are_refused(self):
        with pytest.raises(ValueError, match="in_chans=3, not 1"):
            small_task().check(actionzoo.create("bodypart_tiny", in_chans=1))

    def test_describe(self):
        assert small_task(5).describe() == "8 actions; people of pose and action sets: 5 + 5 train, 0 + 12 test"

    def test_annotated_sets_are_mixed(self, tmp_path):
        pose = read_keypoints(*people.write_mpii(tmp_path, 2))
        samples = read_samples(pictures.write(tmp_path / "shapes", 2, 1))
        task = configured(annotated_task(samples, pose={"train": pose}), people.bodypart())
        images, joints, labels, heads, _ = next(iter(DataLoader(task.dataset("train", train=True), 8)))
        assert images.shape == (8, 3, 64, 64)
        assert labels.tolist() == [-1, -1, 0, 0, 1, 1, 2, 2]
        assert [bool((person[:, 2] > 0).any()) for person in joints] == [True, True] + [False] * 6
        assert joints[2:].eq(-1).all()
        assert heads.isfinite().tolist() == [True, True] + [False] * 6
        assert task.splits == ("train", "test")

    def test_annotated_refusals(self):
        with pytest.raises(ValueError, match="nothing to train on"):
            annotated_task()
        with pytest.raises(ValueError, match="layout is one of coco, mpii, got 'lsp'"):
            annotated_task(ActionSamples(ACTIONS, {}), layout="lsp")

    def test_action_pictures_have_as_many_joints_as_the_layout(self, tmp_path):
        Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
        samples = ActionSamples(ACTIONS, {"train": [(tmp_path / "a.png", 0)]})
        for layout, count in (("mpii", 16), ("coco", 17)):
            (source,) = annotated_task(samples, layout=layout).sources["train"].action
            assert isinstance(source, FolderPeople)
            assert source[0].joints.shape == (count, 3)


def weights(folder):
    return actionzoo.create(f"local-dir:{folder}").state_dict()


def run(task, output, model=None, recipe=RECIPE, **args):
    return fit(model or people.bodypart(8), task, recipe, output, progress=False, **args)


class TestFit:
    def test_a_run_leaves_a_folder_that_create_and_pipeline_load(self, tmp_path):
        metrics = run(small_task(val=PeopleSplit(action=[people.Alone(people.figure(0))])), tmp_path / "run")
        model = actionzoo.create(f"local-dir:{tmp_path / 'run'}")
        assert model.load_report.random == ()
        assert model.pretrained_cfg["classes"] == small_task().actions
        assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert (metrics["split"], metrics["people"], metrics["actions"], metrics["posed"]) == ("test", 12, 12, 12)
        assert set(metrics["streams"]) == {"image", "attention", "part"}
        history = json.loads((tmp_path / "run" / "history.json").read_text())
        assert [len(row["losses"]) for row in history] == [3, 3]
        assert all(row["val_top1"] in (0, 100) for row in history)
        for file in ("pr.png", "roc.png", "confusion.png", "README.md", "scores.json", "pose.json"):
            assert (tmp_path / "run" / file).stat().st_size > 0
        example = people.figure()
        result = actionzoo.pipeline(f"local-dir:{tmp_path / 'run'}")(example.image, example.box[None])
        assert result.label in small_task().actions
        assert len(result.people[0].keypoints) == 16

    def test_stopped_and_resumed_ends_the_same(self, tmp_path):
        run(small_task(), tmp_path / "whole")
        run(small_task(), tmp_path / "parts", stop_after=1)
        assert not (tmp_path / "parts" / "model.safetensors").exists()
        torch.manual_seed(99)
        run(small_task(), tmp_path / "parts", resume=True)
        whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
        assert all(torch.equal(whole[key], parts[key]) for key in whole)
        rows = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "parts")]
        assert [r["losses"] for r in rows[0]] == [r["losses"] for r in rows[1]]

    def test_refusals(self, tmp_path):
        with pytest.raises(ValueError, match="the model has 3 classes, the data 8"):
            run(small_task(), tmp_path / "a", people.bodypart(3))
        with pytest.raises(ValueError, match="predicts no heat maps"):
            run(small_task(), tmp_path / "a", actionzoo.create("plain_tiny", num_classes=8))
        with pytest.raises(ValueError, match="24 training images do not fill one batch of 25"):
            run(small_task(), tmp_path / "a", recipe=RECIPE.override(batch_size=25))
        with pytest.raises(ValueError, match="has no train split; it has test"):
            run(PeopleTask({"test": small_task().sources["test"]}, small_task().actions), tmp_path / "a")
        assert not (tmp_path / "a").exists()
        run(small_task(), tmp_path / "b", stop_after=1)
        with pytest.raises(FileExistsError, match="--resume"):
            run(small_task(), tmp_path / "b")
        with pytest.raises(ValueError, match="was written with files"):
            run(small_task(count=13), tmp_path / "b", resume=True)
        with pytest.raises(ValueError, match="was written with recipe"):
            run(small_task(), tmp_path / "b", recipe=RECIPE.override(sigma=1.0), resume=True)

    def test_mixed_precision_saves_full_precision(self, tmp_path):
        metrics = run(small_task(), tmp_path / "run", amp="bf16")
        (first, last) = json.loads((tmp_path / "run" / "history.json").read_text())
        assert last["losses"][2] < first["losses"][2]
        assert 0 <= metrics["pckh"] <= 100
        saved = actionzoo.create(f"local-dir:{tmp_path / 'run'}").state_dict()
        assert {value.dtype for value in saved.values()} == {torch.float32, torch.int64}
        assert all(value.isfinite().all() for value in saved.values())

    def test_a_pose_net_learns_a_pose(self, tmp_path):
        source = people.Alone(people.figure(), 16)
        split = PeopleSplit(pose=[source])
        recipe = recipes["people"].override(
            epochs=24, batch_size=8, lr=5e-3, warmup_epochs=0, pose_rotation=0.0, rescale=0.0, hflip=0.0
        )
        metrics = run(PeopleTask({"train": split, "val": split}), tmp_path / "run", people.pose(), recipe)
        history = json.loads((tmp_path / "run" / "history.json").read_text())
        assert len(history[0]["losses"]) == 1
        assert history[-1]["losses"][0] < 0.5 * history[0]["losses"][0]
        assert metrics["split"] == "val"
        assert metrics["pckh"] == history[-1]["val_pckh"] > 60
        assert json.loads((tmp_path / "run" / "pose.json").read_text())["pckh"] == metrics["pckh"]
        assert not (tmp_path / "run" / "pr.png").exists()
        assert "classes" not in json.loads((tmp_path / "run" / "config.json").read_text())

    def test_joints_in_cocos_order_without_head_sizes(self, tmp_path):
        example = people.figure(joints=17)
        example = PersonExample(example.image, example.box, example.joints, -1)
        split = PeopleSplit(pose=[people.Alone(example, 6)])
        model = people.pose(num_joints=17)
        metrics = run(PeopleTask({"train": split, "val": split}), tmp_path / "run", model, RECIPE.override(epochs=1))
        assert "pckh" not in metrics
        assert metrics["pck"] == json.loads((tmp_path / "run" / "history.json").read_text())[0]["val_pck"]

    def test_a_split_without_what_the_progress_line_shows(self, tmp_path):
        val = PeopleSplit(pose=[people.Alone(people.figure())])
        run(small_task(val=val), tmp_path / "run", recipe=RECIPE.override(epochs=1))
        assert json.loads((tmp_path / "run" / "history.json").read_text())[0]["val_top1"] is None

    def test_several_actions_a_person(self, tmp_path):
        labels = torch.tensor([[1.0, 0, 1], [0, 1, -1], [-1, -1, -1]])
        split = PeopleSplit(action=[people.Alone(people.figure(label), 4) for label in labels])
        recipe = RECIPE.override(action_loss="bce", epochs=1)
        task = PeopleTask({"train": split, "test": split}, ACTIONS)
        metrics = run(task, tmp_path / "run", people.bodypart(3), recipe)
        assert (metrics["people"], metrics["actions"]) == (12, 8)
        assert 0 <= metrics["map"] <= 100
