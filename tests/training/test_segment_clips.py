import copy
import json
from collections import Counter
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

import actionzoo
from actionzoo.data.figures import PART_STATES, PARTS, ActingFigures, part_group
from actionzoo.data.part_videos import FigurePartVideos
from actionzoo.models.segments import PART_GROUPS, SegmentLabel, SegmentLabeler
from actionzoo.training import SegmentTask, fit, recipes, score_task, segment_loss
from actionzoo.training._segment_classes import groups_of, kept_vocabulary, vocabulary_of

SMALL = {"width": 4, "depths": (1, 1), "input_size": (3, 4, 32, 32), "stride": 2}
RECIPE = recipes["segments"].override(epochs=2, batch_size=4, warmup_epochs=0)
PLAIN = RECIPE.override(hflip=0.0, color_jitter=0.0)
FRAMES = 24


@cache
def frame(split, size, i, number):
    return ActingFigures("parts", split, 8, size, frames=FRAMES).read(i, [number])[:, 0]


def videos(split="train", length=4, size=32, every=1):
    """Clips of 24 frames, three a second: eight seconds, of which a segment of two has six frames; drawn once."""
    source = FigurePartVideos(ActingFigures("parts", split, length, size, frames=FRAMES), 3.0, every)
    source.read = lambda i, frames: torch.stack([frame(split, size, i, t) for t in frames], 1)
    return source


def task(groups="all", splits=("train", "test"), labeler=None, **args):
    return SegmentTask({split: videos(split) for split in splits}, labeler, groups=groups, seconds=2.0, **args)


def net(data, **args):
    torch.manual_seed(0)
    return actionzoo.create("ipcsn_tiny", num_classes=len(data.classes), **{**SMALL, **args})


def dataset(data, split="train", train=True, recipe=PLAIN, **args):
    model = net(data, **args)
    data.check(model)
    data.configure(model.pretrained_cfg, recipe)
    return data.dataset(split, train)


@cache
def truth(split, i):
    return ActingFigures("parts", split, 8, 32, frames=FRAMES)[i][1]


def true_states(source, i, start, stop):
    """For every person and frame of a piece of a clip the state of each part that is in the picture."""
    target = truth(source.figures.split, i)
    rows = []
    for person in range(len(target["boxes"])):
        for t in range(start, stop):
            if target["boxes"][person, t].any():
                rows.append(
                    {
                        name: PART_STATES[part_group(name)][int(target["part_states"][person, t, k])]
                        for k, name in enumerate(PARTS)
                        if target["part_boxes"][person, t, k].any()
                    }
                )
    return rows


def majority(source, i, start, stop, group):
    """The most frequent states of a group, the first in the alphabet of equals."""
    votes = Counter()
    for states in true_states(source, i, start, stop):
        if any(part in states for part in PART_GROUPS[group]):
            votes[tuple(states.get(part, "none") for part in PART_GROUPS[group])] += 1
    if not votes:
        return ("none",) * len(PART_GROUPS[group])
    return sorted(votes, key=lambda states: (-votes[states], states))[0]


class TestLabels:
    def test_a_segment_is_labelled_by_what_most_people_do_in_most_frames(self):
        data, source = task(), videos()
        clips = dataset(data)
        assert len(clips) == 4 * 4
        for number in range(len(clips)):
            _, target, index = clips[number]
            video, segment = divmod(number, 4)
            start = 6 * segment
            assert index == number
            first = 0
            for group, k in zip(PART_GROUPS, target.tolist(), strict=True):
                expected = SegmentLabel(source.action(video), group, majority(source, video, start, start + 6, group))
                assert data.classes[first + k] == str(expected)
                first += data.sizes[list(PART_GROUPS).index(group)]

    def test_videos_are_labelled_by_their_action(self):
        data = task("action")
        clips = dataset(data)
        assert [data.classes[clips[i][1]] for i in range(4)] == [videos().action(i) for i in range(4)]
        assert list(data.classes) == sorted(data.classes)

    def test_a_label_that_training_does_not_show_is_none(self):
        data = task("arm", labeler=SegmentLabeler.from_segments([task().segments["train"][0].segment]))
        targets = [dataset(data)[i][1].item() for i in range(16)]
        first = task().segments["train"][0].segment.labels["arm"]
        same = [one.segment.labels["arm"] == first for one in data.segments["train"]]
        assert targets == [0 if equal else -100 for equal in same]
        assert not all(same)

    @pytest.mark.parametrize("groups", ["head", ("foot", "arm"), "all"])
    def test_the_classes_of_groups_stand_one_after_the_other(self, groups):
        data = task(groups)
        names = list(PART_GROUPS) if groups == "all" else [groups] if isinstance(groups, str) else list(groups)
        vocabulary = data.labeler.vocabulary
        assert data.classes == tuple(str(label) for group in names for label in vocabulary[group])
        assert data.sizes == [len(vocabulary[group]) for group in names]
        assert groups_of(data.classes) == tuple(names)
        assert vocabulary_of(data.classes, names).vocabulary["arm"] == (vocabulary["arm"] if "arm" in names else ())

    def test_other_groups_of_the_same_data(self):
        data = task()
        arm = data.for_groups("arm")
        assert arm.segments is data.segments
        assert arm.classes == task("arm").classes
        assert data.groups == tuple(PART_GROUPS)
        action = data.for_groups("action")
        assert action.classes == task("action").classes
        assert len(dataset(action)) == 4

    def test_some_segments_of_every_training_video(self):
        data, every = task("arm", segments_per_video=2), task("arm")
        assert [one.video for one in data.segments["train"]] == [0, 0, 1, 1, 2, 2, 3, 3]
        assert all(one in every.segments["train"] for one in data.segments["train"])
        starts = [one.segment.start for one in data.segments["train"]]
        assert all(abs(first - second) == 12 for first, second in zip(starts[::2], starts[1::2]))
        assert len(set(starts)) == 4
        assert data.segments["test"] == every.segments["test"]
        assert len(dataset(data)) == 8
        assert task("arm", segments_per_video=9).segments == every.segments
        with pytest.raises(ValueError, match="segments_per_video is at least 1, got 0"):
            task("arm", segments_per_video=0)

    def test_classes_of_a_trained_model(self):
        data = task("action")
        data.rename(["zzz", *reversed(data.classes)])
        assert [data.classes[dataset(data)[i][1]] for i in range(4)] == [videos().action(i) for i in range(4)]
        with pytest.raises(ValueError, match=r"does not know the classes \['kicking'\]"):
            data.rename([name for name in data.classes if name != "kicking"])
        states, backwards = task("arm"), tuple(reversed(task("arm").classes))
        before = [states.classes[dataset(states)[i][1]] for i in range(16)]
        states.rename(backwards)
        assert states.classes == backwards
        assert [states.classes[dataset(states)[i][1]] for i in range(16)] == before
        with pytest.raises(ValueError, match="'walk' is no label of a part group"):
            states.rename(["walk"])
        with pytest.raises(ValueError, match="states of arm, not of head"):
            task("head").rename(backwards)


class TestNames:
    """Labels and their names, of which several may be the same."""

    TWICE = SegmentLabel("bowling", "head", ("touch_head_side",))
    ONCE = SegmentLabel("bowling", "head", ("up",))

    def labeler(self, *heads):
        others = {group: [("a", *["none"] * len(parts))] for group, parts in PART_GROUPS.items()}
        return SegmentLabeler({**others, "head": [(label.action, *label.states) for label in heads]})

    def test_a_name_that_may_be_read_in_two_ways_is_refused(self):
        with pytest.raises(ValueError, match="may mean touch_head_side of 'bowling' or side of 'bowling_head_touch'"):
            vocabulary_of([str(self.ONCE), str(self.TWICE)], ["head"])
        twice = SegmentLabel("a_R_arm_b_L_arm_c", "arm", ("d", "e"))
        with pytest.raises(ValueError, match="may mean b and c_R_arm_d_L_arm_e of 'a' or"):
            vocabulary_of([str(twice)], ["arm"])
        known = vocabulary_of([str(self.ONCE), str(self.TWICE)], ["head"], [self.TWICE])
        assert known.vocabulary["head"] == (self.ONCE, self.TWICE)

    def test_the_vocabulary_is_saved_with_the_network(self, tmp_path):
        data = task("head", labeler=self.labeler(self.ONCE, self.TWICE))
        model = net(data)
        data.configure(model.pretrained_cfg, PLAIN)
        model.save_pretrained(tmp_path / "net")
        cfg = actionzoo.create(f"local-dir:{tmp_path / 'net'}").pretrained_cfg
        labeler, groups = kept_vocabulary(cfg)
        assert (labeler.to_dict(), groups) == (data.labeler.to_dict(), ("head",))
        assert cfg["task_args"]["seconds"] == 2.0
        # as a task of the same data numbers them, its own labels are told by their names
        data.rename(list(reversed(cfg["classes"])))
        assert data.labeler.vocabulary["head"] == (self.TWICE, self.ONCE)
        # nor do the names of other classes mean these labels
        assert kept_vocabulary({**cfg, "classes": ("x", "y")}) is None
        other = actionzoo.create(f"local-dir:{tmp_path / 'net'}", num_classes=5)
        assert kept_vocabulary(other.pretrained_cfg) is None

    def test_actions_have_no_vocabulary(self):
        data = task("action")
        model = net(data)
        data.configure(model.pretrained_cfg, PLAIN)
        assert model.pretrained_cfg["task_args"] == {"groups": []}
        assert kept_vocabulary(model.pretrained_cfg) is None

    def test_groups_are_told_by_names(self):
        names = [str(self.ONCE), str(self.TWICE), "bowling_R_arm_up_L_arm_to_face"]
        assert groups_of(names) == ("head", "arm")
        assert groups_of([*names, "bowling"]) == ()


class TestClips:
    def test_scoring_shows_the_middle(self):
        data, source = task(), videos("test")
        clips = dataset(data, "test", train=False)
        mean, std = (torch.tensor(net(data).pretrained_cfg[name])[:, None, None, None] for name in ("mean", "std"))
        for number in (0, 5, 15):
            video, segment = divmod(number, 4)
            # six frames have no room for four, every second, so the step is 1 and one frame is left over on each side
            frames = [6 * segment + t for t in (1, 2, 3, 4)]
            expected = (source.read(video, frames).float() / 255 - mean) / std
            torch.testing.assert_close(clips[number][0], expected)

    def test_a_piece_that_is_too_short_repeats_its_last_frame(self):
        data = SegmentTask({"train": videos()}, groups="hip", seconds=0.7)
        clip, *_ = dataset(data, train=False)[0]
        assert data.segments["train"][0].segment[:2] == (0, 2)
        assert not torch.equal(clip[:, 0], clip[:, 1])
        assert torch.equal(clip[:, 1], clip[:, 2])
        assert torch.equal(clip[:, 1], clip[:, 3])

    def test_training_takes_clips_from_anywhere_in_the_segment(self):
        data = task(splits=("train",))
        clips, seen = dataset(data), []
        own = data.videos["train"].read
        data.videos["train"].read = lambda i, frames: seen.append((i, tuple(frames))) or own(i, frames)
        for _ in range(20):
            clips[6]
        assert {video for video, _ in seen} == {1}
        assert {frames for _, frames in seen} == {tuple(range(first, first + 4)) for first in (12, 13, 14)}

    def test_large_frames_are_scaled_and_cropped(self):
        data = SegmentTask({"train": videos(size=48)}, groups="action", seconds=2.0)
        source = videos(size=48)
        clip, *_ = dataset(data, train=False)[0]
        frames = [8, 10, 12, 14]
        frames = [f + 1 for f in frames] if data._samples("train")[0].stop != FRAMES else frames
        cfg = net(data).pretrained_cfg
        mean, std = (torch.tensor(cfg[name])[:, None, None, None] for name in ("mean", "std"))
        shown = clip * std + mean
        # first to the 8/7 of the crop that frames are kept at, then to the input
        pixels = source.read(0, frames).transpose(0, 1).float() / 255
        for side in (37, 32):
            pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        assert (shown - pixels.transpose(0, 1)).abs().max() < 0.02
        # crops of training differ
        clips = dataset(data, recipe=PLAIN.override(scale=(0.3, 0.5)))
        assert clips[0][0].shape == (3, 4, 32, 32)
        assert not torch.allclose(clips[0][0], clips[0][0])

    def test_smaller_training_crops(self):
        data = task("action", train_size=24)
        assert dataset(data)[0][0].shape == (3, 4, 24, 24)
        assert dataset(data, train=False)[0][0].shape == (3, 4, 32, 32)

    def test_colours_change_for_the_whole_clip(self):
        recipe = PLAIN.override(scale=(1.0, 1.0), color_jitter=0.5)
        source = videos()
        source.read = lambda i, frames: torch.full((3, len(frames), 32, 32), 100, dtype=torch.uint8)
        clips = dataset(SegmentTask({"train": source}, groups="action"), recipe=recipe)
        assert len({round(float(clips[0][0].mean()), 3) for _ in range(8)}) > 4
        assert all(float(clips[0][0].flatten(2).std(2).max()) < 1e-5 for _ in range(3))

    def test_the_cache_changes_nothing_and_reads_every_frame_once(self):
        runs = []
        for kept in (False, True):
            data = task(cache=kept, splits=("train",))
            clips, seen = dataset(data, recipe=RECIPE), []
            own = data.videos["train"].read
            data.videos["train"].read = lambda i, frames, own=own, seen=seen: (
                seen.extend((i, f) for f in frames) or own(i, frames)
            )
            torch.manual_seed(3)
            items = [clips[i] for _ in range(3) for i in range(len(clips))]
            runs.append((items, seen))
        for (clip, target, _), (again, target_again, _) in zip(runs[0][0], runs[1][0], strict=True):
            assert torch.equal(clip, again)
            assert torch.equal(target, target_again)
        assert len(runs[0][1]) == 3 * 16 * 4
        assert len(runs[1][1]) == len(set(runs[1][1])) <= 4 * FRAMES

    def test_tasks_of_the_same_data_share_the_cache_but_workers_do_not_get_it(self):
        data = task(cache=True, splits=("train",))
        clips = dataset(data)
        clips[0]
        other = dataset(data.for_groups("action"))
        assert other._kept is clips._kept
        assert copy.copy(clips)._kept == {}

    def test_no_such_split(self):
        with pytest.raises(ValueError, match="no val split; it has train, test"):
            dataset(task(), "val")


class TestFlip:
    def flipped(self, data):
        """What each item is with and without mirroring, from the same random numbers."""
        pairs = []
        for hflip in (0.0, 1.0):
            clips, items = dataset(data, recipe=PLAIN.override(hflip=hflip)), []
            for i in range(len(clips)):
                torch.manual_seed(i)
                items.append(clips[i])
            pairs.append(items)
        return list(zip(*pairs, strict=True))

    def test_right_and_left_change_places_in_the_label(self):
        data = task(("arm", "head"))
        arms, heads = data.labeler.vocabulary["arm"], data.labeler.vocabulary["head"]
        kinds = Counter()
        for (clip, target, _), (other, mirrored, _) in self.flipped(data):
            label = arms[target[0]]
            turned = label._replace(states=(label.states[1], label.states[0]))
            known = turned in arms
            kinds[known] += 1
            assert torch.equal(other, clip.flip(3) if known else clip)
            assert arms[mirrored[0]] == (turned if known else label)
            assert heads[mirrored[1]] == heads[target[1]]
        # both kinds are there
        assert kinds[True]
        assert kinds[False]

    def test_actions_are_mirrored_freely(self):
        for (clip, target, _), (other, mirrored, _) in self.flipped(task("action")):
            assert torch.equal(other, clip.flip(3))
            assert torch.equal(target, mirrored)

    def test_a_label_that_is_not_known_does_not_stop_it(self):
        first = task().segments["train"][0].segment
        states = {**first.labels, "arm": first.labels["arm"]._replace(states=("bend", "bend"))}
        data = task("arm", labeler=SegmentLabeler.from_segments([first._replace(labels=states)]))
        unknown = 0
        for (clip, target, _), (other, mirrored, _) in self.flipped(data):
            unknown += int(target == -100)
            assert torch.equal(target, mirrored)
            assert torch.equal(other, clip.flip(3))
        assert unknown


class TestLoss:
    def test_it_is_the_mean_over_known_targets_of_every_group(self):
        logits = torch.randn(5, 7, requires_grad=True)
        targets = torch.tensor([[0, 2], [1, -100], [-100, 3], [1, 0], [0, -100]])
        for smoothing in (0.0, 0.1):
            losses = segment_loss(logits, targets, [3, 4], smoothing)
            for column, (first, last) in enumerate([(0, 3), (3, 7)]):
                terms = [
                    F.cross_entropy(logits[i, None, first:last], targets[i, column, None], label_smoothing=smoothing)
                    for i in range(5)
                    if targets[i, column] >= 0
                ]
                torch.testing.assert_close(losses[column], sum(terms) / len(terms))
        (grad,) = torch.autograd.grad(segment_loss(logits, targets, [3, 4]).sum(), logits)
        assert not grad[1, 3:].any()
        assert not grad[2, :3].any()
        expected = (logits[0, :3].softmax(0) - F.one_hot(torch.tensor(0), 3)) / 4
        torch.testing.assert_close(grad[0, :3], expected.detach())

    def test_nothing_is_known(self):
        logits = torch.zeros(2, 4, requires_grad=True)
        losses = segment_loss(logits, torch.full((2, 2), -100), [2, 2])
        losses.sum().backward()
        assert losses.tolist() == [0, 0]
        assert not logits.grad.any()


class Says(nn.Module):
    """Gives the next rows of some logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.seen = logits, 0

    def forward(self, clips):
        assert not self.training
        self.seen += len(clips)
        return self.logits[self.seen - len(clips) : self.seen]


class TestScore:
    def score(self, data, logits, split="test"):
        clips = dataset(data, split, train=False)
        model = Says(logits).train()
        score = data.score(model, DataLoader(clips, 3, collate_fn=data.collate), "cpu", False)
        assert model.training
        return score.metrics

    def test_states_count_by_part_person_and_frame(self):
        data, source = task(), videos("test")
        logits = torch.randn(16, len(data.classes))
        metrics = self.score(data, logits)
        shares, tops, first = [], [], 0
        for group, size in zip(PART_GROUPS, data.sizes, strict=True):
            vocabulary, right, total, top = data.labeler.vocabulary[group], 0, 0, 0
            for number in range(16):
                video, segment = divmod(number, 4)
                start = 6 * segment
                label = vocabulary[logits[number, first : first + size].argmax()]
                states = majority(source, video, start, start + 6, group)
                top += label == SegmentLabel(source.action(video), group, states)
                for states in true_states(source, video, start, start + 6):
                    for part, state in zip(PART_GROUPS[group], label.states, strict=True):
                        if part in states:
                            total, right = total + 1, right + (states[part] == state)
            first += size
            assert metrics[f"state_accuracy_{group}"] == round(100 * right / total, 2)
            assert metrics[f"top1_{group}"] == round(100 * top / 16, 2)
            shares.append(100 * right / total)
            tops.append(100 * top / 16)
        assert metrics["segments"] == 16
        assert metrics["state_accuracy"] == round(sum(shares) / 6, 2)
        assert metrics["top1"] == round(sum(tops) / 6, 2)

    def test_true_labels(self):
        data = task("head", splits=("train",))
        targets = torch.stack([dataset(data)[i][1] for i in range(16)])[:, 0]
        metrics = self.score(data, F.one_hot(targets, len(data.classes)).float(), "train")
        assert set(metrics) == {"segments", "top1", "state_accuracy"}
        assert metrics["top1"] == 100
        # a segment has one label, and people change what they do within it
        assert 50 < metrics["state_accuracy"] <= 100

    def test_a_label_that_is_not_known_is_wrong(self):
        labeler = SegmentLabeler.from_segments([task().segments["train"][0].segment])
        data = task("arm", labeler=labeler)
        known = sum(one.segment.labels["arm"] in labeler for one in data.segments["test"])
        assert known < 16
        assert self.score(data, torch.zeros(16, 1))["top1"] == 100 * known / 16

    def test_actions(self):
        data = task("action")
        wrong = torch.tensor([dataset(data, "test")[i][1].item() for i in range(4)])
        wrong[2] = (wrong[2] + 1) % 6
        assert self.score(data, F.one_hot(wrong, 6).float()) == {"videos": 4, "top1": 75.0}


class TestFit:
    def test_a_run_then_its_score(self, tmp_path):
        data = task(cache=True)
        metrics = fit(net(data), data, RECIPE.override(epochs=1), tmp_path / "run", progress=False)
        assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
        saved = actionzoo.create(f"local-dir:{tmp_path / 'run'}")
        assert tuple(saved.pretrained_cfg["classes"]) == data.classes
        assert saved.pretrained_cfg["input_size"] == (3, 4, 32, 32)
        found = score_task(saved, task()).metrics
        assert {**metrics, **found} == metrics
        assert json.loads((tmp_path / "run" / "segments.json").read_text()) == found
        row = json.loads((tmp_path / "run" / "history.json").read_text())[0]
        assert len(row["losses"]) == 7
        assert row["losses"][-1] == pytest.approx(sum(row["losses"][:6]) / 6, abs=1e-4)

    def test_stopped_and_resumed_ends_the_same(self, tmp_path):
        whole, parts = net(task("arm")), net(task("arm"))
        fit(whole, task("arm"), RECIPE, tmp_path / "whole", progress=False)
        fit(parts, task("arm"), RECIPE, tmp_path / "parts", progress=False, stop_after=1)
        torch.manual_seed(99)
        again = net(task("arm"))
        fit(again, task("arm", cache=True), RECIPE, tmp_path / "parts", progress=False, resume=True)
        assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))
        with pytest.raises(ValueError, match="resume with the same"):
            fit(net(task("leg")), task("leg"), RECIPE, tmp_path / "parts", progress=False, resume=True)
        other = SegmentTask({"train": videos(every=2), "test": videos("test")}, task().labeler, groups="arm")
        with pytest.raises(ValueError, match="resume with the same"):
            fit(net(other), other, RECIPE, tmp_path / "parts", progress=False, resume=True)

    def test_another_side(self, tmp_path):
        model = net(task("action"))
        fit(model, task("action"), RECIPE.override(epochs=1), tmp_path / "run", input_size=24, progress=False)
        assert actionzoo.create(f"local-dir:{tmp_path / 'run'}").pretrained_cfg["input_size"] == (3, 4, 24, 24)

    @pytest.mark.parametrize("frozen", [True, False])
    def test_batch_norm_is_left_as_the_model_has_it(self, tmp_path, frozen):
        model = net(task("action"), frozen_norm=frozen)
        before = copy.deepcopy(model.state_dict())
        fit(model, task("action"), RECIPE.override(epochs=1, lr=1e-2), tmp_path / "run", progress=False)
        after = model.state_dict()
        norms = [name for name in before if ".norm" in name or "running" in name]
        assert norms
        assert all(torch.equal(before[name], after[name]) for name in norms) == frozen
        assert not torch.equal(before["classifier.weight"], after["classifier.weight"])

    def test_it_learns(self, tmp_path):
        train, test = videos(length=8), videos("test", length=8)
        for source in (train, test):
            source.classes = ("bright", "dark")
            source.action = lambda i: ("dark", "bright")[i % 2]
            source.read = lambda i, frames: torch.full((3, len(frames), 32, 32), 60 + 120 * (i % 2), dtype=torch.uint8)
        data = SegmentTask({"train": train, "test": test}, groups="action")
        recipe = PLAIN.override(epochs=8, lr=1e-2, label_smoothing=0.0)
        assert fit(net(data), data, recipe, tmp_path / "run", progress=False)["top1"] == 100


class TestErrors:
    @pytest.mark.parametrize("groups", ["tail", ("head", "tail"), (), ("arm", "arm")])
    def test_groups(self, groups):
        with pytest.raises(ValueError, match="groups are 'action', 'all', or some of head, arm, hand"):
            task(groups)

    def test_splits_and_vocabulary(self):
        with pytest.raises(ValueError, match="splits train, val, test, got none"):
            SegmentTask({})
        with pytest.raises(ValueError, match=r"splits train, val, test, got \['all'\]"):
            SegmentTask({"all": videos()})
        with pytest.raises(ValueError, match="a vocabulary is a train split's, and there is only test; give one"):
            task(splits=("test",))

    def test_models(self):
        data = task("action")
        with pytest.raises(ValueError, match="the model has 5 classes, the data 6; create it with as many"):
            data.check(actionzoo.create("ipcsn_tiny", num_classes=5, **SMALL))
        with pytest.raises(ValueError, match="CSN labels no clips of three colours"):
            data.check(actionzoo.create("ipcsn_tiny", num_classes=6, in_chans=2, **SMALL))
        with pytest.raises(ValueError, match="Linear labels no clips"):
            data.check(nn.Linear(1, 1))


def test_descriptions():
    assert task("action").describe() == "6 actions, 4 train, 4 test videos"
    assert task("hip").describe().endswith("states of hip; 16 train, 16 test segments of 4 train, 4 test videos")
    identities = [task(groups).identity() for groups in ("action", "hip", "arm")]
    identities += [task("hip", name="others").identity(), task("hip", train_size=24).identity()]
    assert len(set(identities)) == 5
    assert task("hip").identity() == task("hip", cache=True).identity()
    assert task("action").identity() == task("hip").for_groups("action").identity()
