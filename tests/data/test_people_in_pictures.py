"""Pictures of several people for keypoint detectors: figures, boxed photographs, and their mirror images."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader
from torchvision.transforms import functional as TF

from actionzoo.data.people_in_pictures import (
    BoxedPeople,
    FigureFrames,
    PeopleInPicture,
    PeopleTransform,
    TransformedPeople,
    collate_people_in_pictures,
)
from actionzoo.layers.heatmaps import COCO_JOINTS

from .figure_scenes import figures


def opposite(name):
    side, _, rest = name.partition("_")
    return f"{'right' if side == 'left' else 'left'}_{rest}" if rest else name


OPPOSITE = [COCO_JOINTS.index(opposite(name)) for name in COCO_JOINTS]


def example(boxes=((4.0, 2.0, 14.0, 18.0), (10.0, 1.0, 19.5, 12.0)), width=24, height=20):
    """People whose joints are whole pixels, every one of a colour of its own in an otherwise black picture."""
    rng = np.random.default_rng(0)
    people = len(boxes)
    cells = rng.permutation(width * height)[: people * 17].reshape(people, 17)
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels.reshape(-1, 3)[cells.ravel()] = 1 + rng.permutation(250)[: cells.size, None]
    points = np.stack([cells % width, cells // width, np.full_like(cells, 2)], -1)
    return PeopleInPicture(Image.fromarray(pixels), torch.tensor(boxes), torch.from_numpy(points).float())


def assert_same(one, two):
    assert torch.equal(TF.pil_to_tensor(one.image), TF.pil_to_tensor(two.image))
    assert torch.equal(one.boxes, two.boxes)
    assert torch.equal(one.keypoints, two.keypoints)


class TestFigureFrames:
    @pytest.mark.parametrize("task", ["crowd", "motion", "pose"])
    def test_people_are_those_of_the_clip_in_one_of_its_frames(self, task):
        data = figures(task, size=48, frames=5)
        frames, seen = FigureFrames(data), set()
        assert len(frames) == 40
        for i in range(9):
            image, boxes, points = frames[i]
            pixels, target = data[i]
            frame = i * 7 % data.frames
            seen.add(frame)
            there = (slice(None), frame) if data.is_clip else ()
            assert_close(boxes, target["boxes"][there], rtol=0, atol=0)
            assert_close(points, target["keypoints"][there], rtol=0, atol=0)
            assert image.size == (48, 48)
            if not data.is_clip:
                assert np.array_equal(np.asarray(image), pixels.permute(1, 2, 0).numpy())
        assert seen == set(range(data.frames))

    def test_a_frame_shows_its_people(self):
        # the same bodies in the same clothes as in the clip, though what is behind them differs
        data, there, elsewhere = figures("crowd", size=64, frames=5), [], []
        for i in range(8):
            image, _, points = FigureFrames(data)[i]
            clip = data[i][0][:, i * 7 % 5].permute(1, 2, 0).float().numpy()
            pixels = np.asarray(image).astype(np.float32)
            x, y = points[points[..., 2] == 2][:, :2].round().int().T.numpy()
            there.append(np.abs(pixels[y, x] - clip[y, x]))
            elsewhere.append(np.abs(pixels[y, x] - clip[y, 63 - x]))
        # grain is that of two pictures
        assert np.concatenate(there).mean() < 12
        assert np.concatenate(elsewhere).mean() > 40

    def test_an_item_is_always_the_same_and_counts_from_the_end_too(self):
        frames = FigureFrames(figures("crowd", length=9, frames=5))
        assert_same(frames[4], frames[4])
        assert_same(frames[-5], frames[4])
        for i in (9, -10):
            with pytest.raises(IndexError, match=f"no item {i}"):
                frames[i]
        with pytest.raises(IndexError, match="no item 0"):
            FigureFrames(figures("crowd", length=0))[0]

    def test_in_training_torchs_generator_draws_the_frame(self):
        data = figures("crowd", frames=5)
        frames = FigureFrames(data, random_frame=True)

        def boxes(seed):
            torch.manual_seed(seed)
            return [frames[3].boxes for _ in range(12)]

        first = boxes(0)
        np.random.seed(1)
        assert all(map(torch.equal, first, boxes(0)))
        assert not all(map(torch.equal, first, boxes(1)))
        clip = data[3][1]["boxes"]
        shown = {next(t for t in range(5) if torch.equal(clip[:, t], one)) for one in first}
        assert len(shown) > 2

    def test_says_what_it_is(self):
        data = figures("crowd", frames=5)
        assert repr(FigureFrames(data)) == f"FigureFrames({data!r})"


class TestBoxedPeople:
    def test_photographs_have_boxes_and_unknown_joints(self, tmp_path):
        paths = [tmp_path / f"{name}.png" for name in "ab"]
        for path in paths:
            Image.new("L", (30, 20), 7).save(path)
        found = BoxedPeople([(path, 0) for path in paths], {paths[0]: torch.tensor([[1, 2, 9, 19], [3, 3, 8, 9]])})
        assert len(found) == 2
        image, boxes, points = found[0]
        assert (image.mode, image.size) == ("RGB", (30, 20))
        assert_close(boxes, torch.tensor([[1.0, 2, 9, 19], [3, 3, 8, 9]]))
        assert_close(points, torch.zeros(2, 17, 3))
        # of a file without an entry nobody is known
        assert (found[1].boxes.shape, found[1].keypoints.shape) == ((0, 4), (0, 17, 3))

    def test_a_broken_file_is_named(self, tmp_path):
        (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
        with pytest.raises(RuntimeError, match=r"broken\.jpg"):
            BoxedPeople([(tmp_path / "broken.jpg", 0)], {})[0]


class TestTransform:
    def test_without_augmentation_the_picture_is_the_same(self):
        given = example()
        out = PeopleTransform()(given)
        assert out.image.dtype == torch.float32
        assert torch.equal(out.image, TF.to_tensor(given.image))
        assert torch.equal(out.boxes, given.boxes)
        assert torch.equal(out.keypoints, given.keypoints)

    def test_in_the_mirror_left_joints_are_right_ones_where_they_are_seen(self):
        given = example()
        out = PeopleTransform(hflip=1.0)(given)
        before, after = np.asarray(given.image)[..., 0], (out.image[0] * 255).round().int().numpy()
        assert np.array_equal(after, before[:, ::-1])
        for person in range(2):
            for joint in range(17):
                x, y, flag = out.keypoints[person, joint].int().tolist()
                a, b, _ = given.keypoints[person, OPPOSITE[joint]].int().tolist()
                assert after[y, x] == before[b, a] > 0
                assert flag == 2
        assert_close(out.boxes, torch.tensor([[10.0, 2, 20, 18], [4.5, 1, 14, 12]]))

    def test_twice_in_the_mirror_is_the_picture_itself(self):
        given = example()
        given.keypoints[0, 3] = 0
        given.keypoints[1, 8, 2] = 1
        mirror = PeopleTransform(hflip=1.0)
        once = mirror(given)
        twice = mirror(once)
        assert torch.equal(twice.image, TF.to_tensor(given.image))
        assert_close(twice.boxes, given.boxes)
        assert torch.equal(twice.keypoints, given.keypoints)
        assert not torch.equal(once.keypoints, given.keypoints)

    def test_joints_that_are_not_known_stay_nought(self):
        given = example()
        given.keypoints[:, 5] = 0
        given.keypoints[1] = 0
        out = PeopleTransform(hflip=1.0)(given)
        # the left shoulder is the right one now
        assert not out.keypoints[0, 6].any()
        assert out.keypoints[0, 5].any()
        assert not out.keypoints[1].any()
        assert not PeopleTransform()(given).keypoints[1].any()

    @pytest.mark.parametrize("hflip", [0.0, 1.0])
    def test_boxes_are_clipped_and_who_is_outside_is_left_out(self, hflip):
        boxes = ((-5.0, -3.0, 10.0, 12.0), (20.0, 5.0, 40.0, 50.0), (30.0, 2.0, 40.0, 9.0), (5.0, 19.5, 9.0, 30.0))
        given = example(boxes)
        out = PeopleTransform(hflip)(given)
        kept = torch.tensor([[0.0, 0, 10, 12], [20, 5, 24, 20]])
        if hflip:
            kept = torch.tensor([[14.0, 0, 24, 12], [0, 5, 4, 20]])
        assert_close(out.boxes, kept)
        assert out.keypoints.shape == (2, 17, 3)
        assert torch.equal(out.keypoints[:, 0, 1], given.keypoints[:2, 0, 1])

    def test_half_are_mirrored_by_torchs_generator(self):
        given, transform = example(), PeopleTransform(hflip=0.5)

        def draws(seed):
            torch.manual_seed(seed)
            return [bool((transform(given).boxes != given.boxes).any()) for _ in range(60)]

        assert draws(0) == draws(0) != draws(1)
        assert 15 < sum(draws(0)) < 45

    def test_other_colours_in_the_same_place(self):
        image = Image.fromarray(np.random.default_rng(0).integers(60, 180, (20, 24, 3), dtype=np.uint8))
        given = example()._replace(image=image)
        out = PeopleTransform(color_jitter=0.4)(given)
        assert not torch.equal(out.image, TF.to_tensor(image))
        assert ((out.image >= 0) & (out.image <= 1)).all()
        assert torch.equal(out.boxes, given.boxes)
        assert torch.equal(out.keypoints, given.keypoints)


class TestTransformedPeople:
    def test_sources_follow_each_other(self):
        sources = [FigureFrames(figures(task, length=n)) for task, n in (("pose", 3), ("crowd", 2))]
        people = TransformedPeople(sources, PeopleTransform())
        assert len(people) == 5
        wanted = [PeopleTransform()(source[i]) for source in sources for i in range(len(source))]
        for i, one in enumerate(wanted):
            for found in (people[i], people[i - 5]):
                assert all(torch.equal(x, y) for x, y in zip(found, one, strict=True))
        for i in (5, -6):
            with pytest.raises(IndexError, match=f"no picture {i} among 5"):
                people[i]

    def test_batches_are_lists(self):
        people = TransformedPeople([FigureFrames(figures("crowd", length=4))], PeopleTransform())
        images, boxes, points = next(iter(DataLoader(people, 4, collate_fn=collate_people_in_pictures)))
        assert [x.shape for x in images] == [(3, 32, 32)] * 4
        assert [len(x) for x in boxes] == [len(x) for x in points] == [len(people[i].boxes) for i in range(4)]
        assert torch.equal(points[3], people[3].keypoints)
