"""Acting figures as data sets: the same for a seed, in the shapes they promise, one by one and in batches."""

import pickle

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader

from actionzoo.data import ActingFigures, PersonImages, TopDown, collate_figures
from actionzoo.data._figures import drawing
from actionzoo.data._figures.scenes import TASKS
from actionzoo.data.figures import FigurePeople
from actionzoo.layers.heatmaps import COCO_FLIP_PAIRS

from .figure_scenes import figures

SHAPES = {"boxes": (4,), "joints": (16, 3), "keypoints": (17, 3), "part_boxes": (10, 4), "head_sizes": ()}
IMAGES, CLIPS = ("fine_grained", "pose"), ("motion", "crowd", "parts", "parts_turned")


def same(a, b):
    assert torch.equal(a[0], b[0])
    assert a[1].keys() == b[1].keys()
    for name, value in a[1].items():
        assert_close(value, b[1][name], rtol=0, atol=0)


class TestDeterminism:
    @pytest.mark.parametrize("task", TASKS)
    def test_an_item_depends_on_its_number_and_not_on_the_length_or_on_what_came_before(self, task):
        few, many = figures(task, length=8), figures(task, length=10_000)
        many[9]
        same(few[5], many[5])
        same(few[5], few[5])
        same(few[-3], few[5])

    @pytest.mark.parametrize("other", [{"split": "val"}, {"split": "test"}, {"seed": 1}], ids=lambda o: str(o))
    def test_another_split_or_seed_is_another_picture(self, other):
        pixels, target = figures("pose")[3]
        others, truth = figures("pose", **other)[3]
        assert not torch.equal(pixels, others)
        assert not torch.equal(target["joints"], truth["joints"])
        assert target["label"] == truth["label"]

    def test_another_task_or_number_is_another_picture(self):
        data = figures("pose")
        assert not torch.equal(data[3][0], figures("fine_grained")[3][0])
        # the same class, ten further on
        assert not torch.equal(data[3][0], data[13][0])

    @pytest.mark.parametrize("task", TASKS)
    def test_a_scene_is_the_same_at_every_size(self, task):
        small, large = (figures(task, size=size)[2][1] for size in (48, 120))
        assert small.keys() == large.keys()
        both = (small["joints"][..., 2] > 0) & (large["joints"][..., 2] > 0)
        assert both.float().mean() > 0.9
        for name in ("joints", "keypoints"):
            # from pixel centres to lengths from the picture's corner
            a, b = (target[name][..., :2] + 0.5 for target in (small, large))
            seen = (small[name][..., 2] > 0) & (large[name][..., 2] > 0)
            assert_close(a[seen] * 2.5, b[seen], rtol=0, atol=1e-3)
        for name in ("boxes", "part_boxes", "head_sizes"):
            assert_close(small[name] * 2.5, large[name], rtol=0, atol=1e-3)
        for name in ("labels", "part_states"):
            assert torch.equal(small[name], large[name])

    def test_the_smallest_size_still_shows_the_same_background(self):
        # the clutter takes as many random numbers at every size, so that light and grain are the same, too
        states = []
        for size in (48, 256):
            rng = np.random.default_rng(0)
            for _ in range(50):
                drawing._background(rng, size)
            states.append(rng.bit_generator.state)
        assert states[0] == states[1]


class TestItems:
    @pytest.mark.parametrize("task", IMAGES)
    def test_image(self, task):
        pixels, target = figures(task)[1]
        assert (pixels.shape, pixels.dtype) == ((3, 32, 32), torch.uint8)
        assert pixels.is_contiguous()
        assert set(target) == {*SHAPES, "part_states", "labels", "label", "focus"}
        for name, shape in SHAPES.items():
            assert (target[name].shape, target[name].dtype) == ((1, *shape), torch.float32)
        assert (target["part_states"].shape, target["part_states"].dtype) == ((1, 10), torch.int64)
        assert target["labels"].tolist() == [target["label"]] == [1]
        assert target["focus"] == 0

    @pytest.mark.parametrize("task", CLIPS)
    def test_clip(self, task):
        data = figures(task, frames=5)
        for i in range(len(data.classes)):
            pixels, target = data[i]
            people = len(target["labels"])
            assert (pixels.shape, pixels.dtype) == ((3, 5, 32, 32), torch.uint8)
            assert set(target) == {*SHAPES, "part_states", "labels", "label", "focus", "track_ids"}
            for name, shape in SHAPES.items():
                assert (target[name].shape, target[name].dtype) == ((people, 5, *shape), torch.float32)
            assert (target["part_states"].shape, target["part_states"].dtype) == ((people, 5, 10), torch.int64)
            assert target["track_ids"].tolist() == list(range(people))
            assert target["label"] == i
            assert target["labels"][target["focus"]] == i
            assert task == "crowd" or target["focus"] == 0

    def test_in_a_crowd_the_one_who_does_the_label_may_be_anybody(self):
        data = figures("crowd", length=10**6, frames=1)
        items = [data[i][1] for i in range(60)]
        assert {target["focus"] for target in items} == {0, 1, 2, 3}
        for target in items:
            assert target["labels"].tolist().count(target["label"]) == 1
            assert target["labels"][target["focus"]] == target["label"]

    def test_a_clip_may_be_one_frame(self):
        for task in CLIPS:
            assert figures(task, frames=1)[0][0].shape == (3, 1, 32, 32)

    def test_images_take_no_notice_of_frames(self):
        same(figures("pose", frames=1)[0], figures("pose", frames=9)[0])
        assert figures("pose", frames=9).frames == 1

    @pytest.mark.parametrize("task", TASKS)
    def test_classes_take_turns(self, task):
        data = figures(task, length=1000)
        counts = np.bincount([data.label(i) for i in range(1000)])
        assert len(counts) == len(data.classes) == len(set(data.classes))
        assert counts.max() - counts.min() <= 1

    def test_a_negative_number_counts_from_the_end(self):
        data = figures("pose", length=13)
        assert data.label(-1) == data.label(12) == 2
        assert FigurePeople(data)[-1].label == 2

    @pytest.mark.parametrize("i", [40, -41])
    def test_no_such_item(self, i):
        data = figures("pose")
        for get in (data.__getitem__, data.label, data.draw, FigurePeople(data, cache=True).__getitem__):
            with pytest.raises(IndexError, match=rf"no item {i}"):
                get(i)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"task": "poses"},
                "unknown task 'poses'; there are fine_grained, pose, motion, crowd, parts, parts_turned",
            ),
            ({"split": "training"}, "unknown split 'training'; there are train, val, test"),
            ({"length": -1}, "length is a whole number of at least 0, got -1"),
            ({"size": 23}, "size is a whole number of at least 24, got 23"),
            ({"size": 64.0}, r"size is a whole number of at least 24, got 64\.0"),
            ({"seed": -1}, "seed is a whole number of at least 0, got -1"),
            ({"frames": 0}, "frames is a whole number of at least 1, got 0"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            figures(**{"task": "pose", **arguments})

    def test_says_what_it_is(self):
        assert repr(figures("pose", "val", 7, 48, 3)) == "ActingFigures('pose', 'val', length=7, size=48, seed=3)"
        assert repr(figures("crowd", frames=6)).endswith("seed=0, frames=6)")
        assert len(figures("pose", length=0)) == 0


class TestSomeFrames:
    @pytest.mark.parametrize("task", CLIPS)
    def test_a_frame_looks_the_same_whichever_others_are_asked_for(self, task):
        data = figures(task, frames=6)
        whole = data.read(3, range(6))
        assert (whole.shape, whole.dtype) == ((3, 6, 32, 32), torch.uint8)
        assert torch.equal(data.read(3, [4])[:, 0], whole[:, 4])
        assert torch.equal(data.read(3, [5, 0, 2]), whole[:, [5, 0, 2]])
        assert torch.equal(data.read(3, [1, 1, 3, 1]), whole[:, [1, 1, 3, 1]])
        assert torch.equal(figures(task, frames=6, length=4).read(-1, (4, 2)), whole[:, [4, 2]])
        assert len({frame.numpy().tobytes() for frame in whole.unbind(1)}) == 6

    @pytest.mark.parametrize("task", CLIPS)
    def test_it_shows_the_clip_but_for_the_noise(self, task, monkeypatch):
        data = figures(task, size=48, frames=5)
        noisy = data.read(2, range(5)).float() - data[2][0].float()
        assert not torch.equal(data.read(2, range(5)), data[2][0])
        # both are noise of the same strength about the same picture
        assert noisy.mean().abs() < 0.5
        real = drawing._develop

        def silent(picture, tint, grain, rng):
            return real(picture, tint, 0.0, rng)

        monkeypatch.setattr(drawing, "_develop", silent)
        assert torch.equal(data.read(2, [4, 1]), data[2][0][:, [4, 1]])

    def test_the_noise_of_every_frame_is_its_own(self):
        data = figures("motion", size=48, frames=4)
        held = data.classes.index("hold")
        frames = data.read(held, range(4)).float()
        apart = [(frames[:, t] - frames[:, 0]).flatten() for t in range(1, 4)]
        assert all(difference.any() for difference in apart)
        assert not torch.equal(apart[0], apart[1])

    def test_only_what_is_asked_for_is_drawn(self, monkeypatch):
        real, drawn = drawing._paint, []
        monkeypatch.setattr(drawing, "_paint", lambda *args: drawn.append(1) or real(*args))
        figures("parts", frames=9).read(0, [7, 2, 7, 2])
        assert len(drawn) == 2
        figures("parts", frames=9).describe(0)
        assert len(drawn) == 2

    def test_no_frame(self):
        assert figures("crowd").read(1, []).shape == (3, 0, 32, 32)

    @pytest.mark.parametrize("frames", [[4], [-1], [0, 7]])
    def test_no_such_frame(self, frames):
        with pytest.raises(IndexError, match=f"no frame {frames[-1]}"):
            figures("parts").read(0, frames)

    @pytest.mark.parametrize("call", [lambda d: d.read(40, [0]), lambda d: d.read(40, []), lambda d: d.describe(40)])
    def test_no_such_item(self, call):
        with pytest.raises(IndexError, match="no item 40"):
            call(figures("parts"))

    @pytest.mark.parametrize("task", CLIPS)
    @pytest.mark.parametrize("frames", [1, 7])
    def test_a_description_is_the_truth_of_the_clip(self, task, frames):
        data = figures(task, frames=frames, size=40)
        for i in (0, 5, -1):
            told, (_, target) = data.describe(i), data[i]
            assert set(told) == {"boxes", "part_boxes", "part_states", "label"}
            for name, value in told.items():
                assert_close(value, target[name], rtol=0, atol=0)

    def test_drawing_some_frames_tells_the_truth_of_them(self):
        data = figures("crowd", frames=6, size=48)
        scene, rng = data._scene(3)
        some = drawing.draw_scene(scene, 48, rng, [4, 1])
        whole = data.draw(3)[1]
        assert len(some.frames) == 2
        for ours, theirs in zip(some[1:], whole[1:]):
            np.testing.assert_array_equal(ours, theirs[:, [4, 1]])


class TestFigurePeople:
    @pytest.mark.parametrize(("layout", "joints", "key"), [("mpii", 16, "joints"), ("coco", 17, "keypoints")])
    def test_a_person_is_that_of_the_figure(self, layout, joints, key):
        data = figures("pose", size=48)
        people = FigurePeople(data, layout=layout)
        assert len(people) == 40
        pixels, target = data[7]
        person = people[7]
        assert np.array_equal(np.asarray(person.image), pixels.permute(1, 2, 0).numpy())
        assert person.joints.shape == (joints, 3)
        assert_close(person.joints, target[key][0])
        assert_close(person.box, target["boxes"][0])
        assert person.label == target["label"] == 7
        assert person.head_size == pytest.approx(target["head_sizes"][0].item())

    def test_without_pose_or_action(self):
        data = figures("pose")
        assert (FigurePeople(data, pose=False, layout="coco")[0].joints == -1).all()
        assert FigurePeople(data, pose=False)[4].label == 4
        assert FigurePeople(data, action=False)[4].label == -1
        assert FigurePeople(data, action=False)[4].joints.max() > 2

    def test_kept_pictures_are_the_same(self, monkeypatch):
        data = figures("pose")
        fresh, kept = FigurePeople(data), FigurePeople(data, cache=True)
        first = kept[3]
        for one in (first, kept[3]):
            assert np.array_equal(np.asarray(one.image), np.asarray(fresh[3].image))
            assert_close(one.joints, fresh[3].joints, rtol=0, atol=0)
        assert kept[3] is first
        monkeypatch.setattr(data, "draw", None)
        assert kept[3] is first

    @pytest.mark.parametrize("cache", [False, True])
    def test_it_travels_to_workers_without_the_pictures_it_keeps(self, cache):
        people = FigurePeople(figures("pose"), cache=cache)
        before = len(pickle.dumps(people))
        first = people[3]
        data = pickle.dumps(people)
        assert len(data) == before
        copy = pickle.loads(data)
        assert np.array_equal(np.asarray(copy[3].image), np.asarray(first.image))
        assert (copy[3] is copy[3]) == cache

    def test_batches(self):
        transform = TopDown(32, 8, flip_pairs=COCO_FLIP_PAIRS, hflip=0.5)
        images = PersonImages(FigurePeople(figures("fine_grained", size=48), layout="coco"), transform)
        batch = next(iter(DataLoader(images, batch_size=4)))
        assert batch.image.shape == (4, 3, 32, 32)
        assert batch.joints.shape == (4, 17, 3)
        assert batch.label.tolist() == [0, 1, 2, 3]
        assert batch.head_size.isfinite().all()

    def test_a_crop_brings_the_joints_to_the_same_place(self):
        data = figures("pose", size=64)
        person = FigurePeople(data)[2]
        whole = person._replace(box=torch.tensor([0.0, 0.0, 64.0, 64.0]))
        cropped = TopDown(64, 64, padding=1.0)(whole)
        assert_close(cropped.joints, person.joints)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match=r"'crowd' shows clips.*fine_grained, pose"):
            FigurePeople(figures("crowd"))
        with pytest.raises(ValueError, match="layout is 'mpii' or 'coco', got 'body25'"):
            FigurePeople(figures("pose"), layout="body25")


def test_a_batch_of_images_collates():
    pixels, target = next(iter(DataLoader(figures("pose"), batch_size=3)))
    assert pixels.shape == (3, 3, 32, 32)
    assert target["joints"].shape == (3, 1, 16, 3)
    assert target["label"].tolist() == [0, 1, 2]


def test_batches_of_clips_keep_everybodys_truth():
    figures = ActingFigures("crowd", length=6, size=32, frames=4)
    clips, truth = next(iter(DataLoader(figures, 6, collate_fn=collate_figures)))
    assert clips.shape == (6, 3, 4, 32, 32)
    assert torch.equal(clips[5], figures[5][0])
    assert [len(target["labels"]) for target in truth] == [len(figures[i][1]["labels"]) for i in range(6)]
    assert len({len(target["labels"]) for target in truth}) > 1
