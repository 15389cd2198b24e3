import pytest
import torch

from actionzoo.data import ActingFigures, FigureClips, FileClips, LabelledClip, read_clip
from actionzoo.data.labelled_clips import flip_clip
from tests.data.videos import make_video, numbers


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "wave.mp4"
    make_video(path, count=30)
    return path


class TestFigureClips:
    def test_every_stridth_frame_and_the_truth_of_the_same_frames(self):
        figures = ActingFigures("crowd", "train", 3, 48, frames=12)
        clips = FigureClips(figures, frames=4, stride=3)
        pixels, target = figures[1]
        # ten of twelve frames: the middle of the three places to start
        found = clips.read(1)
        assert torch.equal(found.clip, pixels[:, [1, 4, 7, 10]])
        assert torch.equal(found.boxes, target["boxes"][:, [1, 4, 7, 10]])
        assert torch.equal(found.labels, target["labels"])
        assert found.label == clips.label(1) == target["label"]
        assert (len(clips), clips.one_label) == (3, False)

    @pytest.mark.parametrize(("at", "first"), [(0.0, 0), (0.34, 1), (0.99, 2)])
    def test_a_share_of_the_places_where_a_clip_can_start(self, at, first):
        figures = ActingFigures("motion", "test", 2, 48, frames=12)
        found = FigureClips(figures, frames=4, stride=3).read(0, at)
        assert torch.equal(found.clip, figures[0][0][:, first : first + 10 : 3])

    def test_a_clip_longer_than_the_figures(self):
        figures = ActingFigures("motion", "train", 2, 48, frames=5)
        found = FigureClips(figures, frames=4, stride=2).read(0, 0.9)
        assert torch.equal(found.clip, figures[0][0][:, ::2])
        assert found.boxes.shape[1] == 3

    def test_keys_tell_clips_apart(self):
        def clips(task="motion", split="train", size=48, seed=0, frames=8, **args):
            return FigureClips(ActingFigures(task, split, 9, size, seed, frames=frames), **args)

        kinds = [clips(), clips("crowd"), clips(split="test"), clips(size=64), clips(seed=1), clips(frames=9),
                 clips(frames=8, stride=1), clips(frames=9, stride=1)]  # fmt: skip
        kinds.append(FigureClips(kinds[0].figures, frames=4))
        keys = {source.key(i) for source in kinds for i in range(3)}
        assert len(keys) == 3 * len(kinds)
        # not the number of clips, so that a longer set takes over what a shorter one has
        assert FigureClips(ActingFigures("motion", "train", 500, 48, frames=8)).key(2) == kinds[0].key(2)
        assert all(clips(task).one_label for task in ("motion", "parts"))

    def test_images_are_refused(self):
        with pytest.raises(ValueError, match=r"'pose' shows images; clips are motion"):
            FigureClips(ActingFigures("pose"))
        for args in ({"frames": 0}, {"stride": 0}):
            with pytest.raises(ValueError, match="at least 1"):
                FigureClips(ActingFigures("motion"), **args)


class TestFileClips:
    def test_the_middle_of_a_video(self, video):
        clips = FileClips([(video, 3)], frames=4, stride=5)
        found = clips.read(0)
        assert numbers(found.clip) == [7, 12, 17, 22]
        assert torch.equal(found.clip, read_clip(video, 4, 5))
        assert (found.label, clips.label(0), found.labels, found.boxes) == (3, 3, None, None)
        assert clips.one_label

    @pytest.mark.parametrize(("at", "first"), [(0.0, 0), (0.5, 7), (0.999, 14)])
    def test_anywhere_in_it(self, video, at, first):
        assert numbers(FileClips([(video, 0)], 4, 5).read(0, at).clip) == [first + 5 * i for i in range(4)]

    def test_a_video_that_ends_before(self, video):
        assert numbers(FileClips([(video, 0)], 8, 6).read(0, 0.7).clip) == [0, 6, 12, 18, 24]

    def test_the_generator_of_torch_is_left_alone(self, video):
        before = torch.get_rng_state()
        FileClips([(video, 0)], 4).read(0, 0.3)
        assert torch.equal(torch.get_rng_state(), before)

    def test_keys_change_with_the_file_and_the_sampling(self, tmp_path):
        paths = [tmp_path / "a" / "x.mp4", tmp_path / "b" / "x.mp4"]
        for path in paths:
            path.parent.mkdir()
            path.write_bytes(b"0123")
        items = [(path, 0) for path in paths]
        keys = [FileClips(items, *how).key(i) for how in ((8, 1), (8, 2), (16, 1)) for i in range(2)]
        paths[0].write_bytes(b"01234")
        keys.append(FileClips(items, 8, 1).key(0))
        assert len(set(keys)) == 7
        # neither the label nor the place in the list matter, so that folds share what is made of a file
        assert FileClips([(paths[1], 5), items[0]], 8, 1).key(0) == keys[1]
        assert keys[1].startswith("x-")

    def test_a_file_is_looked_at_once(self, tmp_path, monkeypatch):
        path = tmp_path / "x.mp4"
        path.write_bytes(b"0123")
        clips = FileClips([(path, 0)], 8)
        key = clips.key(0)
        # touched while features are being made of it, and then gone
        path.write_bytes(b"01234")
        assert clips.key(0) == key != FileClips([(path, 0)], 8).key(0)
        path.unlink()
        assert clips.key(0) == key
        with pytest.raises(FileNotFoundError, match=r"x\.mp4"):
            FileClips([(path, 0)], 8).key(0)

    def test_bad_places(self, video):
        for at in (-0.1, 1.0):
            with pytest.raises(ValueError, match=r"share in \[0, 1\)"):
                FileClips([(video, 0)], 4).read(0, at)


class TestFlipClip:
    def test_boxes_keep_to_what_they_show(self):
        clip = torch.zeros(3, 2, 10, 20, dtype=torch.uint8)
        x1, y1, x2, y2 = 3, 2, 8, 9
        clip[:, :, y1:y2, x1:x2] = 255
        boxes = torch.tensor([[[x1, y1, x2, y2], [0, 0, 0, 0]]]).float()
        flipped = flip_clip(LabelledClip(clip, 1, torch.tensor([1]), boxes))
        a, b, c, d = (int(v) for v in flipped.boxes[0, 0])
        assert (flipped.clip[:, :, b:d, a:c] == 255).all()
        assert int((flipped.clip == 255).sum()) == int((clip == 255).sum())
        # out of the picture is out of its mirror image
        assert flipped.boxes[0, 1].tolist() == [0, 0, 0, 0]
        twice = flip_clip(flipped)
        assert torch.equal(twice.clip, clip)
        assert torch.equal(twice.boxes, boxes)

    def test_a_clip_without_boxes(self):
        clip = torch.randint(256, (3, 2, 4, 5), dtype=torch.uint8)
        assert torch.equal(flip_clip(LabelledClip(clip, 2)).clip, clip.flip(3))
