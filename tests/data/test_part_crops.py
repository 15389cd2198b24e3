"""People cut out of annotated frames, against a loop over everything, and the same in a mirror."""

import math

import pytest
import torch
from torch.testing import assert_close

from actionzoo.data.figures import PARTS
from actionzoo.data.part_crops import PartCrops, crop_bounds
from actionzoo.data.part_frames import PartFrames, annotated_frames, fixed_frames
from actionzoo.data.part_pictures import PartCropTransform, TransformedCrops, collate_parts
from actionzoo.layers import BoxGrower, PoseDotEncoder
from tests.data.part_truth import SIZE, Joints, MirroredVideos, NoiseVideos
from tests.reference import box_grower, pose_dots

DOTS, GROWER = PoseDotEncoder(), BoxGrower()


def people(videos=None, estimate=None, grower=GROWER, **args):
    return PartCrops(videos or NoiseVideos(), estimate or Joints(), grower, **{"frames_per_video": 4, **args})


def naive(videos, estimate, moved=None, dots=True):
    """Every person of every annotated frame: picture, boxes and labels, one number at a time."""
    rows = []
    for i in range(len(videos)):
        annotations = videos.annotations(i)
        for name in sorted(annotations):
            frame = videos.read(i, [int(name[4:9]) - 1])[:, 0] / 255
            for human in annotations[name]["humans"]:
                x1, y1, x2, y2 = human["box"]
                box = torch.tensor([[x1, y1, x2 + 1, y2 + 1]])
                joints = estimate(frame, box)
                if moved is not None:
                    sides = torch.tensor([box[0, 2] - box[0, 0], box[0, 3] - box[0, 1]] * 2)
                    box = box + sides * moved
                ((x1, y1, x2, y2),) = box_grower.grow_boxes(box, joints, SIZE, 0.3, 1.5).tolist()
                left, top, right, bottom = math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)
                picture = frame[:, top:bottom, left:right]
                inner = joints - torch.tensor([left, top, 0.0])
                if dots:
                    args = (DOTS.colors.tolist(), DOTS.threshold, DOTS.scale, DOTS.min_radius)
                    picture = pose_dots.pose_dots(picture[None], inner[None], None, *args)[0]
                boxes, labels = [], []
                for label, part in enumerate(PARTS, 1):
                    if part in human["parts"]:
                        a, b, c, d = human["parts"][part]["box"]
                        a, b = min(max(a - left, 0), right - left), min(max(b - top, 0), bottom - top)
                        c, d = min(max(c + 1 - left, 0), right - left), min(max(d + 1 - top, 0), bottom - top)
                        if c - a >= 1 and d - b >= 1:
                            boxes.append([a, b, c, d])
                            labels.append(label)
                rows.append((picture, torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.long)))
    return rows


def equal(found, expected):
    assert found.image.shape == expected[0].shape
    assert_close(found.image, expected[0], rtol=0, atol=1e-6)
    assert_close(found.boxes, expected[1], rtol=0, atol=1e-4)
    assert found.labels.tolist() == expected[2].tolist()


class TestTruth:
    def test_every_person_against_the_loop(self):
        expected = naive(NoiseVideos(), Joints())
        found = TransformedCrops(people(), PartCropTransform(DOTS, GROWER))
        assert len(found) == len(expected) == 9
        for i, row in enumerate(expected):
            equal(found[i], row)
        counts = [len(labels) for _, _, labels in expected]
        # parts that are not annotated, lie outside or are too thin are left out
        assert max(counts) <= 10 > min(counts)

    def test_without_joints_the_true_box_is_cut_out(self):
        found = TransformedCrops(PartCrops(NoiseVideos(), frames_per_video=4), PartCropTransform(DOTS))
        truths = [truth for i in range(4) for truth in annotated_frames(NoiseVideos(), i)]
        boxes = [(truth, box) for truth in truths for box in truth.boxes]
        assert len(found) == len(boxes)
        for i, (truth, box) in enumerate(boxes):
            x1, y1, x2, y2 = box.tolist()
            frame = NoiseVideos().read(truth.video, [truth.frame])[:, 0] / 255
            cut = frame[:, math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)]
            assert torch.equal(found[i].image, cut)

    def test_a_batch_is_lists(self):
        found = TransformedCrops(people(), PartCropTransform(DOTS, GROWER))
        images, boxes, labels = collate_parts([found[0], found[1]])
        assert [image.shape for image in images] == [found[0].image.shape, found[1].image.shape]
        assert torch.equal(boxes[1], found[1].boxes)
        assert torch.equal(labels[0], found[0].labels)


class TestRandom:
    def test_a_mirrored_crop_is_the_crop_of_the_mirrored_frame(self):
        there = TransformedCrops(people(MirroredVideos(), Joints(mirrored=True)), PartCropTransform(DOTS, GROWER))
        here = TransformedCrops(people(), PartCropTransform(DOTS, GROWER, hflip=1.0))
        straight = TransformedCrops(people(), PartCropTransform(DOTS, GROWER))
        assert len(here) == len(there) == 9
        for i in range(len(here)):
            equal(here[i], there[i])
        assert any(here[i].labels.tolist() != straight[i].labels.tolist() for i in range(9))

    @pytest.mark.parametrize("jitter", [0.08, 0.3])
    def test_a_moved_box_is_cut_out_of_the_whole_frame(self, jitter):
        crops = people(jitter=jitter)
        transform, shapes = PartCropTransform(DOTS, GROWER, jitter=jitter), set()
        for seed in range(4):
            torch.manual_seed(seed)
            moved = jitter * (2 * torch.rand(4) - 1)
            for i, row in enumerate(naive(NoiseVideos(), Joints(), moved)):
                torch.manual_seed(seed)
                equal(transform(crops[i]), row)
                shapes.add((i, row[0].shape))
        assert len(shapes) > 2 * 9

    def test_colours_change_and_dots_do_not(self):
        crops = people()
        plain, dotted = PartCropTransform(None, GROWER), PartCropTransform(DOTS, GROWER)
        jittered = PartCropTransform(DOTS, GROWER, color_jitter=0.9)
        torch.manual_seed(0)
        for i in range(len(crops)):
            painted = (plain(crops[i]).image != dotted(crops[i]).image).any(0)
            found, expected = jittered(crops[i]).image, dotted(crops[i]).image
            assert painted.any()
            assert not painted.all()
            assert torch.equal(found[:, painted], expected[:, painted])
            assert not torch.isclose(found[:, ~painted], expected[:, ~painted], atol=1e-3).all()
            assert {tuple(color) for color in found[:, painted].T.tolist()} <= set(map(tuple, DOTS.colors.tolist()))

    def test_half_of_the_pictures_are_mirrored(self):
        crops, transform = people(), PartCropTransform(hflip=0.5)
        torch.manual_seed(0)
        straight = PartCropTransform()(crops[0]).image
        drawn = [transform(crops[0]).image for _ in range(40)]
        mirrored = sum(torch.equal(image, straight.flip(2)) for image in drawn)
        assert 10 < mirrored < 30
        assert mirrored + sum(torch.equal(image, straight) for image in drawn) == 40


class TestCache:
    def test_it_changes_nothing(self):
        kept, anew = people(jitter=0.1), people(jitter=0.1, cache=False)
        for i in (0, 3, 1, 8, 3):
            for a, b in zip(kept[i], anew[i]):
                assert torch.equal(a, b)
                assert a.dtype == b.dtype

    def test_the_pose_net_looks_once_at_a_frame(self):
        estimate, videos = Joints(), NoiseVideos()
        crops = people(videos, estimate)
        assert not videos.reads
        for _ in range(3):
            for i in range(len(crops)):
                crops[i]
        # seven frames show people, two of them two each
        assert estimate.calls == len(videos.reads) == 7
        estimate = Joints()
        crops = people(estimate=estimate, cache=False)
        for _ in range(2):
            crops[0]
        assert estimate.calls == 2

    def test_what_a_crop_changes_does_not_reach_the_next(self):
        crops = people()
        transform = PartCropTransform(DOTS, GROWER)
        before = transform(crops[0]).image.clone()
        transform(crops[0]).image.zero_()
        transform(crops[0]).boxes.zero_()
        assert torch.equal(transform(crops[0]).image, before)

    def test_a_grower_that_looks_again(self):
        estimate = Joints()
        grower = BoxGrower(max_iters=3)
        person = people(estimate=estimate, grower=grower)[0]
        frame, box = NoiseVideos().read(0, [0])[:, 0] / 255, annotated_frames(NoiseVideos(), 0)[0].boxes
        grown, joints = grower(box, Joints()(frame, box), SIZE, lambda boxes: Joints()(frame, boxes))
        assert estimate.calls > 1
        assert_close(person.grown - person.box, (grown - box)[0], rtol=0, atol=1e-4)
        moved = joints[0, :, :2] - box[0, :2]
        assert_close(person.keypoints[:, :2] - person.box[:2], moved, rtol=0, atol=1e-4)


class TestBounds:
    @pytest.mark.parametrize(
        ("box", "expected"),
        [
            ((3, 4, 10, 20), (3, 4, 10, 20)),
            ((3.2, 4.9, 9.1, 19.01), (3, 4, 10, 20)),
            ((-5.5, -1, 200, 100), (0, 0, 80, 60)),
            ((90, 70, 99, 80), (79, 59, 80, 60)),
            ((10, 10, 10, 10), (10, 10, 11, 11)),
            # 80 pixels long, so at least 5 high
            ((0, 30, 80, 31), (0, 30, 80, 35)),
            ((0, 58.5, 80, 59), (0, 55, 80, 60)),
        ],
        ids=["whole", "rounded", "larger", "outside", "empty", "thin", "thin-at-the-border"],
    )
    def test_whole_pixels(self, box, expected):
        assert crop_bounds(torch.tensor(box, dtype=torch.float32), SIZE) == expected


class TestFrames:
    def test_fixed_frames_are_spread(self):
        assert [fixed_frames(5, video, 1) for video in range(4)] == [[0], [2], [4], [1]]
        assert fixed_frames(10, 1, 3) == [0, 3, 7]
        assert fixed_frames(3, 2, 5) == [0, 1, 2]
        for count in range(1, 12):
            for number in range(1, 14):
                found = fixed_frames(count, 3, number)
                assert len(set(found)) == min(count, number)
                assert found == sorted(found)
                assert set(found) <= set(range(count))

    def test_scoring_shows_always_the_same(self):
        videos = NoiseVideos()
        frames = PartFrames(videos)
        # a video in which no frame is annotated is left out, a frame without people is not
        assert len(frames) == 3
        shown = [(0, 0), (1, 0), (3, 3 * (3 * 7 % 4))]
        for _ in range(2):
            videos.reads.clear()
            for i, (video, frame) in enumerate(shown):
                picture = frames[i]
                assert torch.equal(picture.image, NoiseVideos().read(video, [frame])[:, 0])
                humans = videos.annotations(video)[f"img_{frame + 1:05d}.json"]["humans"]
                assert_close(picture.boxes, torch.tensor([h["box"] for h in humans]) + torch.tensor([0.0, 0, 1, 1]))
                assert picture.keypoints.shape == (len(humans), 17, 3)
            assert [(i, (frame,)) for i, frame in shown] == videos.reads
        assert len(PartFrames(videos, frames_per_video=3)) == 7

    def test_training_shows_any_annotated_frame(self):
        videos = NoiseVideos()
        frames = PartFrames(videos).drawing(True)
        torch.manual_seed(0)
        for _ in range(40):
            frames[2]
        assert {frame for _, (frame,) in videos.reads} == {0, 3, 6, 9}
        assert not frames.drawing(False).random_frame

    def test_refusals(self):
        with pytest.raises(ValueError, match="frames_per_video is at least 1, got 0"):
            PartFrames(NoiseVideos(), frames_per_video=0)
        with pytest.raises(ValueError, match="at least 1 and jitter in"):
            people(frames_per_video=0)
        with pytest.raises(ValueError, match=r"jitter in \[0, 0.5\), got 4 and 0.5"):
            people(jitter=0.5)
        with pytest.raises(ValueError, match="a grower needs estimate"):
            PartCrops(NoiseVideos(), None, GROWER)
        with pytest.raises(IndexError):
            people()[9]
