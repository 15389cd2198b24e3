"""The part action parser: its stages against plain loops, its parts, and what is kept when it is saved."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

import actionzoo
from actionzoo.data.figures import PART_STATES, PARTS, ActingFigures, part_group
from actionzoo.data.part_videos import FigurePartVideos
from actionzoo.layers import BoxGrower, PoseDotEncoder
from actionzoo.layers.pose_dots import COCO_JOINT_PARTS, MPII_JOINT_PARTS
from actionzoo.metrics import part_state_correctness
from actionzoo.models import CSN, PCF, ParsedVideo, PCFOutput, pcf
from actionzoo.models.segments import PART_GROUPS, SegmentLabeler, segment_bounds
from tests.parsing import (
    ACTIONS,
    CLIPS,
    DETECTOR,
    POSE,
    SMALL,
    VOCABULARY,
    Finds,
    Joints,
    found,
    labeler,
    net,
    smooth,
    stir,
)
from tests.reference import part_parsing as reference

SIZES = {group: len(labels) for group, labels in VOCABULARY.items()}
FROZEN = ("person_detector", "part_detector", "pose")
either = pytest.mark.parametrize("shared", [True, False], ids=["one-net", "six-nets"])


@pytest.fixture(scope="module")
def model():
    """Tests that change it copy it first."""
    return net()


def with_people(model, device="cpu"):
    """A copy that finds two people and some parts, without a look at more than the crop's size."""
    model = copy.deepcopy(model).to(device)
    model.person_detector = Finds(lambda image: found([1, 0.9, 4, 5, 40, 44], [1, 0.4, 30, 8, 60, 50]))
    model.part_detector = Finds(lambda image: found([1, 0.7, 1, 1, 0.5 * image.shape[2], 6], [4, 0.6, 2, 3, 9, 11]))
    model.pose = Joints("mpii").to(device)
    return model


def built(name, **args):
    """A part that `create` built, with weights of its own."""
    torch.manual_seed(9)
    return actionzoo.create(name, **args)


def reloaded(model, folder, **args):
    model.save_pretrained(folder)
    return actionzoo.create(f"local-dir:{folder}", **args)


def same_weights(a, b):
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


class TestForward:
    @either
    def test_logits_of_the_action_and_of_every_group(self, shared, device):
        model = net(shared=shared).to(device)
        clips = torch.randn(2, 3, 3, 32, 32, device=device)
        with torch.no_grad():
            out = model(clips)
            assert isinstance(out, PCFOutput)
            assert out._fields == ("logits", *PART_GROUPS)
            assert torch.equal(out.logits, model.video_net(clips))
            together = model.part_nets(clips) if shared else None
        assert [tuple(x.shape) for x in out] == [(2, 3), *[(2, SIZES[group]) for group in PART_GROUPS]]
        first = 0
        for group in PART_GROUPS:
            if shared:
                assert torch.equal(getattr(out, group), together[:, first : first + SIZES[group]])
                first += SIZES[group]
            else:
                with torch.no_grad():
                    assert torch.equal(getattr(out, group), model.part_nets[group](clips))

    def test_the_papers_settings_without_a_vocabulary(self):
        """24 actions and as many labels as in the authors' lists, in six networks."""
        kinds = {"person_detector": "yolof_tiny", "part_detector": "yolof_tiny", "pose": "pose_tiny"}
        model = PCF(**kinds, video_net="ipcsn_tiny", part_net="ipcsn_tiny", **{**SMALL, "video_clips": 8})
        rows = {group: part.num_classes for group, part in model.part_nets.items()}
        assert rows == {"head": 55, "arm": 334, "hand": 276, "hip": 78, "leg": 315, "foot": 173}
        assert model.num_classes == 24
        # seven ip-CSN-152 with a classifier of 2048 channels each
        assert 7 * 32_196_992 + sum(2049 * count for count in (24, *rows.values())) == 227_950_439
        assert (model.clips, model.video_clips, model.crops, model.every, model.seconds) == (7, 8, 3, 5, 3.0)
        assert (model.max_people, model.coarse, model.shared) == (10, "independent", False)

    def test_autocast_is_close(self, device):
        model, clips = net().to(device), torch.randn(2, 3, 3, 32, 32, device=device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            half = model(clips)
        with torch.no_grad():
            full = model(clips)
        for ours, theirs in zip(half, full):
            assert (ours.float() - theirs).norm() < 0.1 * theirs.norm()


@pytest.fixture(scope="module")
def sampler():
    """A parser whose settings a test may change."""
    model = net()

    def setting(**settings):
        for name, value in {"clips": 3, "crops": 3, **settings}.items():
            setattr(model, name, value)
        return model

    return setting


class TestViews:
    @pytest.mark.parametrize("length", [1, 2, 3, 5, 11, 40])
    @pytest.mark.parametrize(
        "size", [(32, 32), (32, 57), (80, 48), (24, 64), (101, 37)], ids=lambda s: f"H{s[0]}-W{s[1]}"
    )
    @pytest.mark.parametrize("crops", [1, 3])
    def test_equals_a_naive_sampler(self, sampler, length, size, crops):
        """Frames scaled by Pillow one by one; what is looked at twice counts twice."""
        model, pixels = sampler(crops=crops, clips=4), smooth(*size, count=length)
        views, weights = model.views(pixels)
        expected = reference.views(length, size, 3, 2, 4, crops, 32)
        assert views.shape == (len(set(expected)), 3, 3, 32, 32)
        assert weights.sum().item() == pytest.approx(1)
        scale = 32 / min(size)
        scaled = [max(32, round(side * scale)) for side in size]
        for view, weight, key in zip(views, weights, dict.fromkeys(expected)):
            numbers, top, left = key
            assert weight.item() == pytest.approx(expected.count(key) / len(expected))
            for t, number in enumerate(numbers):
                picture = Image.fromarray(pixels[:, number].permute(1, 2, 0).numpy())
                if list(size) != scaled:
                    picture = picture.resize(scaled[::-1], Image.Resampling.BILINEAR)
                crop = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[:, top : top + 32, left : left + 32] / 255
                mean, std = (torch.tensor(model.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
                # Pillow rounds twice, after either axis
                assert_close(view[:, t] * std + mean, crop, rtol=0, atol=1.51 / 255)

    def test_crops_reach_both_ends_of_the_longer_side(self, sampler):
        model = sampler(clips=1)
        for pixels in (smooth(32, 75, count=1), smooth(75, 32, count=1)):
            views, _ = model.views(pixels)
            mean, std = (torch.tensor(model.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
            shown = [((view[:, 0] * std + mean) * 255).round().byte() for view in views]
            wide = pixels[:, 0] if pixels.shape[3] > 32 else pixels[:, 0].mT
            shown = shown if pixels.shape[3] > 32 else [view.mT for view in shown]
            assert torch.equal(shown[0], wide[:, :, :32])
            assert torch.equal(shown[1], wide[:, :, 21:53])
            assert torch.equal(shown[2], wide[:, :, 43:])

    def test_a_clip_alone_has_the_views_that_come_from_it(self, sampler):
        model, pixels = sampler(clips=3), smooth(40, 64, count=20)
        views, weights = model.views(pixels)
        frames = model.view_frames(20)
        assert len(frames) == 3
        alone = [model.views(pixels[:, list(numbers)], 1) for numbers in frames]
        assert_close(torch.cat([each[0] for each in alone]), views, rtol=0, atol=0)
        assert_close(torch.cat([each[1] for each in alone]) / 3, weights)

    def test_the_number_of_clips(self, sampler):
        model = sampler(clips=5, crops=1)
        pixels = smooth(32, 32, count=60)
        assert len(model.views(pixels)[0]) == 5
        assert len(model.views(pixels, 2)[0]) == 2
        with pytest.raises(ValueError, match="clips is at least 1, got 0"):
            model.views(pixels, 0)

    def test_follow_the_network_of_actions(self):
        model = net()
        model.video_net.double()
        assert model.views(smooth(32, 32, count=4))[0].dtype == torch.float64

    @pytest.mark.parametrize(
        ("pixels", "error", "message"),
        [
            (torch.zeros(3, 0, 8, 8).byte(), ValueError, r"pixels of a video \(3, L, H, W\), got shape \(3, 0, 8, 8\)"),
            (torch.zeros(4, 3, 8, 8).byte(), ValueError, r"got shape \(4, 3, 8, 8\)"),
            (torch.zeros(3, 8, 8).byte(), ValueError, r"got shape \(3, 8, 8\)"),
            (torch.zeros(3, 2, 8, 8), TypeError, "uint8 pixels of a video, got torch.float32"),
        ],
        ids=["no-frame", "channels", "one-frame", "float"],
    )
    def test_wrong_pixels(self, model, pixels, error, message):
        for call in (model.views, model.recognise, model.recognise_video, lambda x: model.parse(x, 8)):
            with pytest.raises(error, match=message):
                call(pixels)


class TestRecognise:
    @either
    @pytest.mark.parametrize("length", [1, 4, 30])
    def test_equals_the_mean_of_softmax_over_all_views(self, shared, length, device):
        """One view after the other, also those that are the same."""
        model, pixels = net(shared=shared).to(device), smooth(32, 50, count=length)
        wanted = reference.views(length, (32, 50), 3, 2, model.clips, 3, 32)
        views, _ = model.views(pixels)
        of = dict(zip(dict.fromkeys(wanted), views))
        sums = {group: torch.zeros(SIZES[group]) for group in PART_GROUPS}
        with torch.no_grad():
            for key in wanted:
                out = model(of[key][None])
                for group in PART_GROUPS:
                    sums[group] += getattr(out, group)[0].softmax(0).cpu() / len(wanted)
        probabilities = model.recognise(pixels.to(device))
        assert list(probabilities) == list(PART_GROUPS)
        for group, p in probabilities.items():
            assert p.device.type == device.type
            assert p.sum().item() == pytest.approx(1, abs=1e-5)
            assert_close(p.cpu(), sums[group], rtol=1e-4, atol=1e-5)

    def test_the_action_of_a_video_has_clips_of_its_own(self, device):
        model, pixels = net().to(device), smooth(32, 32, count=30)
        with torch.no_grad():
            views, weights = model.views(pixels, model.video_clips)
            expected = (model(views).logits.softmax(1) * weights[:, None]).sum(0)
        assert len(views) == 2
        assert_close(model.recognise_video(pixels), expected)

    def test_nothing_changes_and_nothing_learns(self, model):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        p = model.recognise(smooth(32, 40, count=9))
        assert not any(value.requires_grad for value in p.values())
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    @pytest.mark.parametrize("which", ["all", "video_net", "part_nets"])
    def test_in_training_mode_it_is_refused(self, which):
        """Also where only a network that was put in later is."""
        model, pixels = net(), smooth(32, 40, count=9)
        (model if which == "all" else getattr(model, which)).train()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        for call in (model.recognise, model.recognise_video, lambda x: model.parse(x, 8)):
            with pytest.raises(RuntimeError, match=r"training mode.*call \.eval\(\) first"):
                call(pixels)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_half_precision_of_the_networks(self):
        model, pixels = net(), smooth(32, 40, count=9)
        full = model.recognise(pixels)
        model.video_net.bfloat16()
        model.part_nets.bfloat16()
        for group, p in model.recognise(pixels).items():
            assert p.dtype == torch.float32
            assert_close(p, full[group], rtol=0, atol=0.1)


class TestDecide:
    def random(self, seed):
        generator = torch.Generator().manual_seed(seed)
        return {group: torch.rand(size, generator=generator).softmax(0) for group, size in SIZES.items()}

    @pytest.mark.parametrize("action", [None, *ACTIONS, "swim"])
    def test_equals_the_reference(self, model, action, device):
        for seed in range(20):
            p = self.random(seed)
            expected = reference.decide(p, VOCABULARY, PART_GROUPS, action)
            states = model.decide({group: x.to(device) for group, x in p.items()}, action)
            assert set(states) == set(PARTS)
            for part, (state, score) in expected.items():
                assert states[part].state == state
                assert states[part].score == pytest.approx(score, rel=1e-5)

    def test_both_sides_come_from_one_label(self, model):
        p = {"arm": torch.tensor([0.1, 0.2, 0.4, 0.3])}
        assert model.decide(p) == {"right_arm": ("hang", pytest.approx(0.4)), "left_arm": ("up", pytest.approx(0.4))}
        states = model.decide(p, "wave")
        assert states["right_arm"] == ("hang", pytest.approx(0.4 / 0.7))

    def test_the_action_rules_out_the_likelier_labels_of_others(self, model):
        p = {"head": torch.tensor([0.04, 0.06, 0.5, 0.4])}
        assert model.decide(p)["head"] == ("up", 0.5)
        assert model.decide(p, "bow")["head"] == ("up", pytest.approx(0.6))

    def test_a_group_without_a_label_of_the_action_is_read_as_if_it_were_unknown(self, model):
        p = {"hip": torch.tensor([0.3, 0.7])}
        for action in ("wave", "swim", None):
            assert model.decide(p, action) == {"hip": ("straight", pytest.approx(0.7))}

    def test_labels_of_the_action_without_any_probability(self, model):
        p = {"head": torch.tensor([1.0, 0.0, 0.0, 0.0])}
        assert model.decide(p, "wave")["head"] == ("up", 0.0)
        p = {"arm": torch.tensor([1.0, 0.0, 0.0, 0.0])}
        assert model.decide(p, "wave")["right_arm"] == ("hang", 0.0)

    def test_of_equal_labels_the_first(self, model):
        assert model.decide({"head": torch.full((4,), 0.25)})["head"] == ("down", 0.25)
        assert model.decide({"arm": torch.full((4,), 0.25)}, "wave")["right_arm"] == ("hang", 0.5)

    def test_a_model_without_a_vocabulary(self):
        model = net(vocabulary=None)
        with pytest.raises(RuntimeError, match=r"no vocabulary.*set_vocabulary"):
            model.decide({"hip": torch.ones(78)})
        with pytest.raises(RuntimeError, match="no vocabulary"):
            model.parse(smooth(32, 32, count=3), 8)


class TestDetect:
    def test_equals_the_reference_frame_by_frame(self, model, device):
        model = with_people(model, device)
        frames = torch.stack([smooth(48, 64, seed) for seed in range(2)])
        colors = [
            None if p is None else c.tolist() for p, c in zip(MPII_JOINT_PARTS, PoseDotEncoder(MPII_JOINT_PARTS).colors)
        ]
        found = model.detect(frames.to(device))
        for frame, people in zip(frames, found):
            expected = reference.find_people(
                frame, model.person_detector.script(frame), Joints("mpii"), MPII_JOINT_PARTS, colors,
                Finds(model.part_detector.script), 0.05, 10,
            )  # fmt: skip
            for ours, theirs in zip(people, expected):
                assert ours.device.type == device.type
                assert_close(ours.cpu(), theirs, rtol=0, atol=4e-3)

    def test_one_frame_does_not_influence_another(self):
        """By its own detectors, which look at people in batches."""
        model, frames = net(), torch.stack([smooth(96, 128, seed) for seed in range(3)])
        model.threshold, model.max_people = 0.0, 3
        model.person_detector.score_thresh = model.part_detector.score_thresh = 0.0
        for part in (model.person_detector.head.class_logits, model.part_detector.head.class_logits, model.pose.head):
            nn.init.normal_(part.weight)  # no two of almost the same score
        together = model.detect(frames)
        assert [len(people.boxes) for people in together] == [3, 3, 3]
        assert all((people.part_scores > 0).any() for people in together)
        for frame, people in zip(frames, together):
            for ours, theirs in zip(model.detect(frame[None])[0], people):
                assert_close(ours, theirs, rtol=1e-3, atol=1e-3)

    def test_settings_may_be_changed(self, model):
        model, frame = with_people(model), smooth(48, 64)[None]
        assert model.detect(frame)[0].scores.tolist() == pytest.approx([0.9, 0.4])
        model.threshold = 0.5
        assert model.detect(frame)[0].scores.tolist() == pytest.approx([0.9])
        model.threshold, model.max_people = 0.0, 1
        assert model.detect(frame)[0].scores.tolist() == pytest.approx([0.9])

    def test_torchvisions_detectors(self):
        """Of which people are the first of many classes."""
        model = net()
        model.person_detector = built("person_tiny", min_size=64, max_size=96, box_score_thresh=0.0)
        people = model.detect(smooth(48, 64)[None])[0]
        assert people.boxes.shape[1:] == (4,)
        assert len(people.boxes) <= 10

    def test_no_frame_and_nobody(self, model):
        assert model.detect(torch.zeros(0, 3, 48, 64)) == []
        model = with_people(model)
        model.person_detector = Finds(lambda image: found())
        (people,) = model.detect(smooth(48, 64)[None])
        assert [tuple(x.shape) for x in people] == [(0, 4), (0,), (0, 16, 3), (0, 10, 4), (0, 10)]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64])
    def test_frames_of_another_type(self, model, dtype):
        with pytest.raises(TypeError, match=f"float32 frames in .* got {dtype}; call .float"):
            model.detect(smooth(48, 64)[None].to(dtype))

    @pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (2, 3, 4, 8, 8)], ids=str)
    def test_wrong_frames(self, model, shape):
        with pytest.raises(ValueError, match=r"frames \(F, 3, H, W\) in \[0, 1\], got shape"):
            model.detect(torch.zeros(shape))

    def test_autocast_keeps_coordinates(self, model):
        model = with_people(model)
        with torch.autocast("cpu", torch.bfloat16):
            (people,) = model.detect(smooth(48, 64)[None])
        assert {x.dtype for x in people} == {torch.float32}
        assert_close(people.part_boxes, model.detect(smooth(48, 64)[None])[0].part_boxes, rtol=0, atol=6.0)

    def test_the_crop_that_the_parts_are_looked_for_in(self, model):
        frame, box = smooth(48, 64), torch.tensor([4.5, 3.0, 30.0, 40.0])
        joints = torch.rand(16, 3) * torch.tensor([60.0, 44.0, 1.0])
        colors = PoseDotEncoder(MPII_JOINT_PARTS).colors
        expected = reference.dotted_crop(
            frame, box, joints, [None if p is None else c.tolist() for p, c in zip(MPII_JOINT_PARTS, colors)]
        )
        crop, offset = model.dotted_crop(frame, box, joints)
        assert offset == expected[1] == (4, 3)
        assert_close(crop, expected[0], rtol=0, atol=0)
        model = copy.deepcopy(model)
        model.dots = None
        assert torch.equal(model.dotted_crop(frame, box, joints)[0], frame[:, 3:40, 4:30])


class TestParse:
    def test_equals_its_stages_called_by_hand(self, model, device):
        """A clip of figures: 11 frames at 5.5 a second in segments of 0.75 seconds."""
        model = with_people(model, device)
        model.every = 4
        videos = FigurePartVideos(ActingFigures("parts", "test", 1, 64, frames=11), fps=5.5)
        pixels = videos.read(0, range(11))
        video = model.parse(pixels, videos.fps(0))
        assert isinstance(video, ParsedVideo)
        scores = model.recognise_video(pixels).cpu()
        assert_close(video.scores, scores)
        assert video.action == ACTIONS[int(scores.argmax())]
        assert [(segment.start, segment.stop) for segment in video.segments] == segment_bounds(11, 5.5, 0.75)
        assert len(video.segments) == 3
        for start, stop, states in video.segments:
            expected = model.decide(model.recognise(pixels[:, start:stop]))
            assert states.keys() == expected.keys()
            for part, (state, score) in expected.items():
                assert states[part].state == state
                assert states[part].score == pytest.approx(score, rel=1e-4)
        assert list(video.people) == [0, 4, 8]
        for t, people in video.people.items():
            (expected,) = model.detect(pixels[:, t][None].to(device).float() / 255)
            for ours, theirs in zip(people, expected):
                assert ours.device.type == "cpu"
                assert_close(ours, theirs.cpu())

    def test_conditioned_states_are_those_of_the_action(self):
        model = with_people(net(coarse="conditioned"))
        pixels = smooth(48, 64, count=12)
        for action in range(3):
            with torch.no_grad():
                model.video_net.classifier.bias.copy_(1000 * torch.eye(3)[action])
            video = model.parse(pixels, 8)
            assert video.action == ACTIONS[action]
            for segment in video.segments:
                expected = model.decide(model.recognise(pixels[:, segment.start : segment.stop]), video.action)
                assert segment.states.keys() == expected.keys()
                allowed = {state for label in VOCABULARY["arm"] if label[0] == video.action for state in [label[1:]]}
                arms = segment.states["right_arm"].state, segment.states["left_arm"].state
                assert arms == (expected["right_arm"].state, expected["left_arm"].state)
                assert arms in allowed

    @pytest.mark.parametrize("length", [1, 2, 7])
    @pytest.mark.parametrize("fps", [1.0, 30.0, 1000.0])
    def test_videos_of_any_length(self, model, length, fps):
        model = with_people(model)
        video = model.parse(smooth(48, 64, count=length), fps)
        assert video.segments[0].start == 0
        assert video.segments[-1].stop == length
        assert list(video.people) == list(range(0, length, 5))
        frames = video.to_challenge()
        truth = {"parts": {"v": frames}}
        # what the challenge takes for a prediction it takes for truth, too, and it equals itself
        single = {
            name: {
                "humans": [
                    {**h, "parts": {k: {"box": p["box"][0], "verb": p["verb"][0]} for k, p in h["parts"].items()}}
                    for h in content["humans"]
                ]
            }
            for name, content in frames.items()
        }
        assert part_state_correctness({"parts": {"v": single}}, truth) == {"v": 1.0}

    @pytest.mark.parametrize("fps", [0, -1.0, float("nan"), float("inf")])
    def test_a_frame_rate_that_is_none(self, model, fps):
        with pytest.raises(ValueError, match="fps is a positive number"):
            model.parse(smooth(32, 32, count=3), fps)

    def test_actions_without_names(self):
        model = net()
        for names in (None, (), ["one"], ["a", "b", "c", "d"]):
            model.pretrained_cfg["classes"] = names
            with pytest.raises(RuntimeError, match="names of this PCF's 3 actions are not known"):
                model.parse(smooth(32, 32, count=3), 8)
        assert net().action_names() == list(ACTIONS)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"threshold": 1.2}, {"threshold": float("nan")}, {"max_people": 0}, {"max_people": 11}, {"every": 0},
            {"every": 2.5}, {"seconds": 0.0}, {"seconds": float("inf")}, {"max_people": 2.0}, {"clips": 1.5},
            {"clips": 0}, {"video_clips": 0}, {"crops": 2}, {"coarse": "fine"},
        ],
        ids=str,
    )  # fmt: skip
    def test_wrong_settings(self, wrong):
        ((name, value),) = wrong.items()
        with pytest.raises(ValueError, match=name):
            net(**wrong)
        model = net()
        setattr(model, name, value)
        with pytest.raises(ValueError, match=name):
            model.parse(smooth(32, 32, count=3), 8)


class TestFrozen:
    def test_training_leaves_the_first_stage_as_it_is(self):
        model = net(part_net_args={**CLIPS, "drop_rate": 0.0}).train()
        parts = [getattr(model, name) for name in FROZEN]
        before = [{key: value.clone() for key, value in part.state_dict().items()} for part in parts]
        learning = {key: value.clone() for key, value in model.named_parameters() if value.requires_grad}
        assert {key.split(".")[0] for key in learning} == {"video_net", "part_nets"}
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            sum(logits.square().mean() for logits in model(torch.randn(2, 3, 3, 32, 32))).backward()
            optimizer.step()
        for part, old in zip(parts, before):
            assert not any(module.training for module in part.modules())
            assert not any(p.requires_grad for p in part.parameters())
            assert all(torch.equal(value, old[key]) for key, value in part.state_dict().items())
        assert not any(torch.equal(value, learning[key]) for key, value in model.named_parameters() if key in learning)
        assert model.video_net.training
        assert model.part_nets.training

    @pytest.mark.parametrize("name", FROZEN)
    def test_so_are_parts_that_come_later(self, name):
        model = net().train()
        part = built("pose_tiny", **POSE) if name == "pose" else built("yolof_tiny", num_classes=10, **DETECTOR)
        part.train()
        setattr(model, name, part)
        assert getattr(model, name) is part
        for mode in (None, True, False, True):
            if mode is not None:
                model.train(mode)
            assert not any(module.training for module in part.modules())
        assert not any(p.requires_grad for p in part.parameters())

    def test_detecting_in_training_mode_is_detecting(self):
        model, frame = with_people(net()), smooth(48, 64)[None]
        expected = model.detect(frame)[0]
        for ours, theirs in zip(model.train().detect(frame)[0], expected):
            assert torch.equal(ours, theirs)

    def test_gradient_checkpointing_reaches_all_networks(self):
        for shared in (True, False):
            model = net(shared=shared)
            model.set_grad_checkpointing()
            csns = [module for module in model.modules() if isinstance(module, CSN)]
            assert sum(csn.grad_checkpointing for csn in csns) == (2 if shared else 7)


class TestVocabulary:
    @either
    def test_another_one(self, shared):
        model = net(shared=shared)
        video = copy.deepcopy(model.video_net)
        other = labeler(head=[("bow", "down"), ("wave", "up")], foot=[("bow", "flat", "none")])
        model.set_vocabulary(other)
        with torch.no_grad():
            out = model(torch.randn(2, 3, 3, 32, 32))
        assert [x.shape[1] for x in out] == [3, 2, 4, 3, 2, 3, 1]
        assert same_weights(model.video_net, video)
        assert model.labeler is other
        model.set_vocabulary(other.to_dict())
        assert model.labeler.to_dict() == other.to_dict()
        assert set(model.decide(model.recognise(smooth(32, 32, count=3)))) == set(PARTS)

    @either
    def test_it_is_kept_with_the_weights(self, shared, tmp_path):
        model = net(shared=shared, vocabulary=None)
        assert model.labeler is None
        model.set_vocabulary(labeler(hip=[("bow", "bend"), ("bow", "none"), ("jump", "bend")]))
        other = reloaded(model, tmp_path).eval()
        assert other.labeler.to_dict() == model.labeler.to_dict()
        assert same_weights(other, model)
        assert other.action_names() == list(ACTIONS)
        pixels = smooth(32, 44, count=9)
        assert other.decide(other.recognise(pixels)) == model.decide(model.recognise(pixels))

    def test_a_group_without_a_label(self):
        empty = {**VOCABULARY, "hip": []}
        with pytest.raises(ValueError, match="no label of hip"):
            net(vocabulary=empty)
        model = net()
        with pytest.raises(ValueError, match="no label of hip"):
            model.set_vocabulary(SegmentLabeler(empty))
        assert model.labeler.to_dict() == labeler().to_dict()

    def test_a_malformed_one(self):
        with pytest.raises(ValueError, match="expected the groups"):
            net(vocabulary={"head": []})

    def test_of_figures(self):
        """Learned from annotations, and read back as states that figures have."""
        videos = FigurePartVideos(ActingFigures("parts", length=8, size=32, frames=12))
        segments = [
            segment
            for i in range(8)
            for segment in SegmentLabeler.segments(videos.action(i), videos.annotations(i), fps=8, seconds=0.75)
        ]
        model = net()
        model.set_vocabulary(SegmentLabeler.from_segments(segments))
        for part, (state, score) in model.decide(model.recognise(smooth(32, 32, count=6))).items():
            assert state in PART_STATES[part_group(part)]
            assert 0 < score <= 1


class TestClassifier:
    def test_a_fresh_one(self, model):
        model = copy.deepcopy(model)
        parts = copy.deepcopy(model.part_nets)
        model.reset_classifier(5)
        assert model.num_classes == model.get_classifier().out_features == 5
        assert model(torch.randn(1, 3, 3, 32, 32)).logits.shape == (1, 5)
        assert same_weights(model.part_nets, parts)
        for cfg in (model.pretrained_cfg, model.video_net.pretrained_cfg):
            assert cfg["num_classes"] == 5
            assert "classes" not in cfg
        with pytest.raises(RuntimeError, match="names of this PCF's 5 actions"):
            model.action_names()
        model.reset_classifier(3)
        with pytest.raises(RuntimeError, match="names of this PCF's 3 actions"):
            model.action_names()
        model.reset_classifier(0)
        with torch.no_grad():
            assert model(torch.randn(1, 3, 3, 32, 32)).logits.shape == (1, model.head_hidden_size)

    def test_another_number_of_actions_on_saved_weights(self, model, tmp_path):
        other = reloaded(model, tmp_path, num_classes=5)
        assert other.num_classes == 5
        assert set(other.load_report.reheaded) == {"video_net.classifier.weight", "video_net.classifier.bias"}
        assert same_weights(other.part_nets, model.part_nets)
        assert same_weights(other.part_detector, model.part_detector)
        assert other.labeler.to_dict() == model.labeler.to_dict()
        assert not other.pretrained_cfg.get("classes")
        with pytest.raises(RuntimeError, match="not known"):
            other.action_names()


class TestReplacing:
    def parts(self):
        """Parts that differ from those of the network in their settings."""
        return {
            "person_detector": built("yolof_tiny", **{**DETECTOR, "min_size": 80, "score_thresh": 0.2}),
            "part_detector": built("yolof_tiny", num_classes=10, **DETECTOR, detections_per_class=1),
            "pose": built("pose_tiny", **POSE, input_size=(3, 64, 64)),
            "video_net": built("ipcsn_tiny", num_classes=3, **{**CLIPS, "width": 4}),
            "grower": BoxGrower(0.4, 1.2, 2),
            "dots": None,
        }

    @pytest.mark.parametrize("name", ["person_detector", "part_detector", "pose", "video_net", "grower", "dots"])
    def test_what_is_put_in_is_saved_and_built_again(self, name, tmp_path):
        model, part = net(), self.parts()[name]
        setattr(model, name, part)
        other = reloaded(model.eval(), tmp_path).eval()
        assert same_weights(other, model)
        assert str(getattr(other, name)) == str(part)
        assert other.pretrained_cfg["input_size"] == model.pretrained_cfg["input_size"]
        if part is not None and name != "grower":
            assert getattr(other, name).pretrained_cfg["input_size"] == part.pretrained_cfg["input_size"]
        pixels = smooth(48, 64, count=9)
        assert_close(other.recognise_video(pixels), model.recognise_video(pixels), rtol=0, atol=0)

    @either
    @pytest.mark.parametrize("before", [True, False], ids=["was-one", "were-six"])
    def test_networks_of_parts(self, before, shared, tmp_path):
        model = net(shared=before)
        args = {**CLIPS, "width": 4}
        if shared:
            part = built("ipcsn_tiny", num_classes=sum(SIZES.values()), **args)
        else:
            # their order does not matter
            groups = reversed(PART_GROUPS)
            part = nn.ModuleDict({group: built("ipcsn_tiny", num_classes=SIZES[group], **args) for group in groups})
        stir(part)
        model.part_nets = part.eval()
        assert model.shared is shared
        clips = torch.randn(1, 3, 3, 32, 32)
        with torch.no_grad():
            out = model(clips)
            for group in () if shared else PART_GROUPS:
                assert torch.equal(getattr(out, group), part[group](clips))
        other = reloaded(model, tmp_path).eval()
        assert other.shared is shared
        with torch.no_grad():
            for ours, theirs in zip(other(clips), out):
                assert torch.equal(ours, theirs)
        other.set_vocabulary(labeler(hip=[("bow", "bend")]))
        assert other(clips).hip.shape == (1, 1)

    def test_clips_are_those_of_the_new_networks(self, tmp_path):
        model, other = net(), {**CLIPS, "input_size": (3, 5, 24, 24)}
        parts = built("ipcsn_tiny", num_classes=sum(SIZES.values()), **other)
        model.replace_networks(built("ipcsn_tiny", num_classes=3, **other), parts)
        assert model.part_nets is parts
        assert model.eval().views(smooth(48, 64, count=9))[0].shape[1:] == (3, 5, 24, 24)
        loaded = reloaded(model, tmp_path).eval()
        assert same_weights(loaded, model)
        pixels = smooth(48, 64, count=9)
        assert_close(loaded.recognise(pixels), model.recognise(pixels), rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("key", "changed"),
        [
            ("input_size", {"input_size": (3, 3, 24, 24)}),
            ("input_size", {"input_size": (3, 5, 32, 32)}),
            ("stride", {"stride": 1}),
        ],
        ids=["pixels", "frames", "stride"],
    )
    def test_networks_that_take_different_clips_are_refused(self, model, key, changed):
        """They would be shown the same ones, other than those that they were trained with."""
        args = {**CLIPS, **changed}
        parts = built("ipcsn_tiny", num_classes=sum(SIZES.values()), **args)
        six = {group: built("ipcsn_tiny", num_classes=n, **CLIPS) for group, n in SIZES.items()}
        six["hip"] = built("ipcsn_tiny", num_classes=SIZES["hip"], **args)
        video, message = built("ipcsn_tiny", num_classes=3, **args), f"shown the same clips, but video_net has {key}="
        before = model.video_net, model.part_nets
        for call in (
            lambda: net(part_net_args=args),
            lambda: setattr(model, "video_net", video),
            lambda: setattr(model, "part_nets", parts),
            lambda: setattr(model, "part_nets", nn.ModuleDict(six)),
            lambda: model.replace_networks(video, model.part_nets),
        ):
            with pytest.raises(ValueError, match=message):
                call()
        assert (model.video_net, model.part_nets) == before

    @pytest.mark.parametrize("key", ["mean", "std"])
    def test_so_are_those_of_another_normalisation(self, model, key):
        other = built("ipcsn_tiny", num_classes=sum(SIZES.values()), **CLIPS)
        other.pretrained_cfg[key] = [float(value) for value in other.pretrained_cfg[key]]
        copy.deepcopy(model).part_nets = other  # a list, as it comes from a file
        other.pretrained_cfg[key] = (0.4, 0.4, 0.4)
        with pytest.raises(ValueError, match=f"video_net has {key}="):
            model.part_nets = other

    def test_networks_of_clips_that_are_not_square(self):
        wide = {**CLIPS, "input_size": (3, 3, 32, 48)}
        with pytest.raises(ValueError, match=r"video_net is shown square crops, got .* 32 x 48 pixels"):
            net(video_net_args=wide, part_net_args=wide)

    @pytest.mark.parametrize("changed", [{"drop_rate": 0.1}, {"width": 4}], ids=str)
    def test_one_of_six_that_was_replaced_in_its_place(self, changed, tmp_path):
        """Which the network does not see: what it would save could not be loaded."""
        model = net(shared=False)
        model.part_nets["arm"] = built("ipcsn_tiny", num_classes=SIZES["arm"], **{**CLIPS, **changed})
        with pytest.raises(ValueError, match=r"part_net was not built .* in the same way"):
            model.save_pretrained(tmp_path / "saved")
        model.part_nets["arm"] = built("ipcsn_tiny", num_classes=SIZES["arm"] + 1, **CLIPS)
        with pytest.raises(ValueError, match="arm is a channel-separated network of"):
            model.save_pretrained(tmp_path / "saved")
        assert not (tmp_path / "saved").exists()
        for group, count in SIZES.items():
            model.part_nets[group] = built("ipcsn_tiny", num_classes=count, **{**CLIPS, **changed})
        assert same_weights(reloaded(model, tmp_path), model)

    def test_settings_are_saved(self, tmp_path):
        model = net()
        chosen = {
            "threshold": 0.4, "max_people": 3, "every": 2, "seconds": 1.5, "clips": 2, "video_clips": 5, "crops": 1,
            "coarse": "conditioned",
        }  # fmt: skip
        for name, value in chosen.items():
            setattr(model, name, value)
        model.grower.max_iters = 4
        other = reloaded(model, tmp_path)
        assert {name: getattr(other, name) for name in chosen} == chosen
        assert other.grower.max_iters == 4

    def test_a_detector_of_several_classes(self, tmp_path):
        model = net()
        model.person_detector = built("yolof_tiny", num_classes=3, **DETECTOR)
        assert reloaded(model, tmp_path).person_detector.num_classes == 3

    def test_a_pose_net_of_other_joints_brings_its_dots(self, tmp_path):
        model = net()
        assert model.dots.parts == MPII_JOINT_PARTS
        model.pose = built("pose_tiny", **POSE, num_joints=17)
        assert model.dots.parts == COCO_JOINT_PARTS
        model.person_detector = Finds(lambda image: found([1, 0.9, 4, 5, 40, 44]))
        assert model.detect(smooth(48, 64)[None])[0].keypoints.shape == (1, 17, 3)
        model.person_detector = built("yolof_tiny", **DETECTOR)
        assert reloaded(model, tmp_path).dots.parts == COCO_JOINT_PARTS

    def test_one_of_the_same_joints_keeps_the_dots(self):
        model = net()
        model.dots = dots = PoseDotEncoder(MPII_JOINT_PARTS, min_radius=5)
        model.pose = built("pose_tiny", **POSE)
        assert model.dots is dots

    @pytest.mark.parametrize("name", [*FROZEN, "part_nets", "video_net"])
    def test_parts_from_elsewhere_cannot_be_saved(self, name, tmp_path):
        model = net()
        if name in ("part_nets", "video_net"):
            rows = 3 if name == "video_net" else sum(SIZES.values())
            part = type(model.video_net)(num_classes=rows, **CLIPS)
        else:
            part = Joints("mpii") if name == "pose" else Finds(lambda image: found())
        setattr(model, name, part)
        with pytest.raises(
            ValueError, match=f"{'part_net' if name == 'part_nets' else name} was not built by actionzoo"
        ):
            model.save_pretrained(tmp_path / "saved")
        assert not (tmp_path / "saved").exists()

    def test_six_networks_of_different_kinds_cannot_be_saved(self, tmp_path):
        model = net()
        nets = {group: built("ipcsn_tiny", num_classes=size, **CLIPS) for group, size in SIZES.items()}
        nets["leg"] = built("ipcsn_tiny", num_classes=SIZES["leg"], **{**CLIPS, "drop_rate": 0.1})
        model.part_nets = nn.ModuleDict(nets)
        assert model(torch.randn(1, 3, 3, 32, 32)).leg.shape == (1, SIZES["leg"])
        with pytest.raises(ValueError, match=r"part_net was not built .* in the same way"):
            model.save_pretrained(tmp_path / "saved")

    @pytest.mark.parametrize("settings", [{"threshold": 0.2}, {"palette": dict.fromkeys(PARTS, (9, 9, 9))}], ids=str)
    def test_other_dots_cannot_be_saved(self, settings, tmp_path):
        model = net()
        model.dots = PoseDotEncoder(MPII_JOINT_PARTS, **settings)
        with pytest.raises(ValueError, match="dots of other settings"):
            model.save_pretrained(tmp_path / "saved")

    def test_dots_in_half_precision_are_the_same(self, tmp_path):
        reloaded(net().bfloat16(), tmp_path)

    @pytest.mark.parametrize(
        ("name", "part", "message"),
        [
            (
                "video_net",
                lambda: built("ipcsn_tiny", num_classes=4, **CLIPS),
                "video_net is a .* of 3 classes, got a CSN of 4",
            ),
            ("video_net", lambda: nn.Linear(3, 3), "got a Linear of no classes"),
            ("part_nets", lambda: built("ipcsn_tiny", num_classes=18, **CLIPS), "of 19 classes, got a CSN of 18"),
            ("part_nets", lambda: nn.ModuleDict({"head": nn.Identity()}), "part_nets are those of head, arm"),
            (
                "part_nets",
                lambda: nn.ModuleDict({group: built("ipcsn_tiny", num_classes=4, **CLIPS) for group in PART_GROUPS}),
                "hand is a .* of 3 classes, got a CSN of 4",
            ),
            ("part_detector", lambda: built("yolof_tiny", **DETECTOR), "10 classes of PARTS, got 1"),
            ("pose", lambda: built("pose_tiny", **POSE, num_joints=5), "neither COCO's nor MPII's order"),
            ("pose", nn.Identity, "neither COCO's nor MPII's order"),
            ("dots", PoseDotEncoder, "gives 16 joints, got dots for 17"),
            ("dots", nn.Identity, "dots is a PoseDotEncoder, got a Identity"),
            ("grower", nn.Identity, "grower is a BoxGrower"),
        ],
    )
    def test_parts_that_do_not_fit(self, model, name, part, message):
        before = getattr(model, name)
        with pytest.raises(ValueError, match=message):
            setattr(model, name, part())
        assert getattr(model, name) is before

    def test_without_dots_any_pose_net_will_do(self):
        model = net(dots=False)
        assert model.dots is None
        model.pose = built("pose_tiny", **POSE, num_joints=5)
        with pytest.raises(ValueError, match="give dots=False"):
            net(pose_args={**POSE, "num_joints": 5})
        assert net(pose_args={**POSE, "num_joints": 5}, dots=False).dots is None

    def test_pictures_have_three_channels(self):
        with pytest.raises(ValueError, match="3 channels, got in_chans=1"):
            net(in_chans=1)

    def test_a_copy_is_its_own(self, model):
        other = copy.deepcopy(model)
        other.every = 3
        other.pretrained_cfg["classes"] = ["x", "y", "z"]
        assert model.every == 5
        assert model.pretrained_cfg["classes"] == list(ACTIONS)
        assert "every" not in model.pretrained_cfg["model_args"]


def test_the_papers_part_detector_gives_one_of_each(monkeypatch):
    monkeypatch.setattr(pcf, "PCF", lambda **settings: settings)
    one = {"detections_per_class": 1}
    assert pcf.pcf_ipcsn152() == {"part_detector_args": one}
    assert pcf.pcf_ipcsn152(part_detector_args=DETECTOR) == {"part_detector_args": {**DETECTOR, **one}}
    assert pcf.pcf_ipcsn152(part_detector_args={"detections_per_class": 2})["part_detector_args"] != one
    # of another kind it may know no such argument
    assert pcf.pcf_ipcsn152(part_detector="person_tiny") == {"part_detector": "person_tiny"}


def test_names():
    assert actionzoo.model_info("pcf").name == "pcf_ipcsn152"
    info = actionzoo.model_info("pcf_tiny")
    assert info.task == "part-level action parsing"
    assert isinstance(info.build(), PCF)
    model = actionzoo.create("pcf_tiny")
    assert tuple(model.pretrained_cfg["input_size"]) == model.video_net.pretrained_cfg["input_size"] == info.input_size
    assert model.pretrained_cfg["frames"] == info.input_size[1]
    # segments of six frames at the eight a second of figures
    assert segment_bounds(24, 8, model.seconds) == [(0, 6), (6, 12), (12, 18), (18, 24)]
