"""Annotated videos: of figures, and of files and folders on disk."""

import copy
import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from actionzoo.data import part_videos, write_clip
from actionzoo.data.figures import PARTS, ActingFigures
from actionzoo.data.part_videos import (
    FigurePartVideos,
    FilePartVideos,
    figure_annotations,
    frame_name,
    frame_number,
    sample_frames,
    true_people,
)
from actionzoo.metrics import read_part_predictions

from .videos import make_video, numbers, picture

BOX = [2, 3, 11, 13]
FRAMES = {"img_00001.json": {"humans": [{"number": 1, "box": BOX, "parts": {"hip": {"box": BOX, "verb": "bend"}}}]}}


def truth_of(*names, **more):
    """Annotations of one frame of every video."""
    return {"action": {**dict.fromkeys(names, "jump"), **more}, "parts": dict.fromkeys([*names, *more], FRAMES)}


def folder_of(path, count=12, name="img_{:05d}.png", first=1, size=(32, 48)):
    """A folder of numbered pictures."""
    path.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(picture(i, *size)).save(path / name.format(i + first))
    return path


class TestSampleFrames:
    @settings(max_examples=120, deadline=None)
    @given(
        st.integers(1, 200), st.integers(1, 40), st.integers(1, 9), st.one_of(st.none(), st.floats(0, 1))
    )  # fmt: skip
    def test_frames_of_the_part_in_equal_steps(self, length, frames, stride, at):
        found = sample_frames(length, frames, stride, at)
        assert len(found) == frames
        assert 0 <= found[0] <= found[-1] < length
        steps = [after - before for before, after in pairwise(found)]
        if length >= frames:
            assert len(set(steps)) <= 1
            assert not steps or 1 <= steps[0] <= stride
            # the widest step that fits
            assert not steps or steps[0] == stride or (steps[0] + 1) * (frames - 1) > length - 1
        else:
            assert found == [*range(length), *[length - 1] * (frames - length)]

    @settings(max_examples=100, deadline=None)
    @given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 9))
    def test_the_places_go_from_the_first_frame_to_the_last(self, length, frames, stride):
        assert sample_frames(length, frames, stride, 0.0)[0] == 0
        assert sample_frames(length, frames, stride, 1.0)[-1] == length - 1
        middle = sample_frames(length, frames, stride)
        before, after = middle[0], length - 1 - middle[-1]
        assert abs(before - after) <= 1
        assert middle == sample_frames(length, frames, stride, 0.5)

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ((10, 4, 2), [2, 4, 6, 8]),
            ((10, 4, 2, 0.0), [0, 2, 4, 6]),
            ((10, 4, 2, 1.0), [3, 5, 7, 9]),
            ((7, 4, 2), [0, 2, 4, 6]),
            ((6, 4, 2), [1, 2, 3, 4]),
            ((4, 4, 5), [0, 1, 2, 3]),
            ((3, 4, 2), [0, 1, 2, 2]),
            ((1, 4, 2), [0, 0, 0, 0]),
            ((9, 1, 5), [4]),
            ((1, 1, 1, 1.0), [0]),
            ((1000, 32, 2, 0.0), list(range(0, 64, 2))),
        ],
        ids=str,
    )
    def test_hand_worked_cases(self, arguments, expected):
        assert sample_frames(*arguments) == expected

    @pytest.mark.parametrize(
        "arguments", [(0, 4, 2), (9, 0, 2), (9, 4, 0), (9, 4, 2, -0.1), (9, 4, 2, 1.01), (9, 4, 2, float("nan"))]
    )
    def test_out_of_range(self, arguments):
        with pytest.raises(ValueError, match=r"are at least 1 and at lies in \[0, 1\], got"):
            sample_frames(*arguments)


class TestNames:
    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 10**7))
    def test_there_and_back(self, frame):
        assert frame_number(frame_name(frame)) == frame + 1
        assert frame_number(f"{frame_name(frame)}.json") == frame + 1

    @pytest.mark.parametrize(
        ("name", "number"),
        [
            ("img_00001.json", 1),
            ("img_00012.jpg", 12),
            ("7", 7),
            ("v2_frame0030.png", 30),
            ("img_100000.json", 100_000),
        ],
    )
    def test_numbers(self, name, number):
        assert frame_number(name) == number

    @pytest.mark.parametrize("name", ["img.json", "", "00012_a.json", "img_¹.json"])
    def test_no_number(self, name):
        with pytest.raises(ValueError, match="end in its number"):
            frame_number(name)


class TestTruePeople:
    def test_boxes_are_half_open_and_parts_in_order(self):
        hand, head = [5, 6, 7.5, 8], [0, 0, 0, 0]
        first = {"box": BOX, "parts": {"left_hand": {"box": hand, "verb": "open"}, "head": {"box": head, "verb": "up"}}}
        boxes, parts = true_people({"humans": [first, {"box": [0, 0, 4, 4], "parts": {}}]})
        assert boxes.tolist() == [[2, 3, 12, 14], [0, 0, 5, 5]]
        assert boxes.dtype == parts.dtype == torch.float32
        expected = torch.zeros(2, 10, 4)
        expected[0, PARTS.index("left_hand")] = torch.tensor([5, 6, 8.5, 9])
        expected[0, PARTS.index("head")] = torch.tensor([0, 0, 1.0, 1])
        assert torch.equal(parts, expected)

    def test_a_box_may_stand_in_a_list(self):
        """As `part_state_correctness` takes it, too."""
        human = {"box": BOX, "parts": {"hip": {"box": [BOX], "verb": ["bend"]}}}
        assert true_people({"humans": [human]})[1][0, 1].tolist() == [2, 3, 12, 14]

    def test_nobody(self):
        boxes, parts = true_people({"humans": []})
        assert boxes.shape == (0, 4)
        assert parts.shape == (0, 10, 4)

    def test_undoes_the_annotations_of_figures(self):
        _, target = ActingFigures("crowd", length=3, size=96, frames=3)[1]
        for t, content in enumerate(figure_annotations(target).values()):
            boxes, parts = true_people(content)
            wide = (target["part_boxes"][:, t, :, 2:] - target["part_boxes"][:, t, :, :2] >= 1).all(-1)
            assert torch.allclose(boxes, target["boxes"][:, t], atol=1e-4)
            assert wide.float().mean() > 0.9
            assert torch.allclose(parts[wide], target["part_boxes"][:, t][wide], atol=1e-4)


class TestFigures:
    figures = ActingFigures("parts", "val", 7, 48, frames=11)

    def test_says_what_the_figures_say(self):
        videos = FigurePartVideos(self.figures, 12.5, 5)
        assert len(videos) == 7
        assert videos.classes == tuple(sorted(self.figures.classes))
        assert [videos.name(i) for i in (0, 6, -1)] == ["val_00000", "val_00006", "val_00006"]
        assert [videos.action(i) for i in range(7)] == [self.figures.classes[self.figures.label(i)] for i in range(7)]
        assert (videos.length(3), videos.fps(3)) == (11, 12.5)
        assert list(videos.annotations(2)) == ["img_00001.json", "img_00006.json", "img_00011.json"]
        assert "fps=12.5, every=5" in repr(videos)

    @pytest.mark.parametrize("every", [1, 4, 11, 50])
    def test_annotations_are_those_of_the_drawn_clip(self, every):
        videos = FigurePartVideos(self.figures, every=every)
        for i in (0, 3):
            assert videos.annotations(i) == figure_annotations(self.figures[i][1], every)

    def test_frames(self):
        videos = FigurePartVideos(self.figures)
        assert torch.equal(videos.read(2, [7, 0, 7]), self.figures.read(2, [7, 0, 7]))
        assert videos.read(2, range(videos.length(2))).shape == (3, 11, 48, 48)

    @pytest.mark.parametrize(
        ("call", "error"),
        [
            (lambda v: v.read(0, [11]), "no frame 11"),
            (lambda v: v.read(0, [-1]), "no frame -1"),
            (lambda v: v.read(7, [0]), "no item 7"),
            (lambda v: v.annotations(7), "no item 7"),
            (lambda v: v.action(-8), "no item -8"),
            (lambda v: v.name(7), "out of range"),
        ],
    )
    def test_no_such_video_or_frame(self, call, error):
        with pytest.raises(IndexError, match=error):
            call(FigurePartVideos(self.figures))

    @pytest.mark.parametrize("settings", [{"fps": 0}, {"fps": float("nan")}, {"fps": -2}, {"every": 0}])
    def test_bad_numbers(self, settings):
        with pytest.raises(ValueError, match="fps is positive and every at least 1"):
            FigurePartVideos(self.figures, **settings)

    def test_images_are_refused(self):
        with pytest.raises(ValueError, match="'pose' shows images"):
            FigurePartVideos(ActingFigures("pose"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two folders of frames, two videos, and what is neither."""
    root = tmp_path_factory.mktemp("videos")
    folder_of(root / "frames")
    folder_of(root / "others", 5, "f{}.jpg")
    make_video(root / "film.mp4", 20)
    make_video(root / "Other.AVI", 9)
    (root / "notes.txt").write_text("none")
    return root


class TestFiles:
    def test_what_there_is(self, root):
        names = ("frames", "film.mp4", "Other", "others")
        videos = FilePartVideos(root, truth_of(*names, film="bow"), 12.0)
        assert [videos.name(i) for i in range(5)] == ["Other", "film", "film.mp4", "frames", "others"]
        assert [videos.action(i) for i in range(5)] == ["jump", "bow", "jump", "jump", "jump"]
        assert videos.classes == ("bow", "jump")
        assert [videos.length(i) for i in range(5)] == [9, 20, 20, 12, 5]
        assert [videos.fps(i) for i in range(5)] == [10, 10, 10, 12, 12]
        assert videos.annotations(1) == FRAMES
        assert "5 videos" in repr(videos)

    @pytest.mark.parametrize("name", ["frames", "film", "Other", "others"])
    @pytest.mark.parametrize(
        "frames",
        [range(5), [3, 0, 4], [2], [1, 1, 3, 1], [4, 2, 0], [0, 1, 3]],
        ids=["all", "mixed", "one", "twice", "back", "uneven"],
    )
    def test_the_frames_asked_for_in_their_order(self, root, name, frames):
        videos = FilePartVideos(root, truth_of(name))
        pixels = videos.read(0, frames)
        assert pixels.dtype == torch.uint8
        assert pixels.shape == (3, len(frames), 32, 48)
        assert numbers(pixels) == list(frames)

    def test_far_into_a_video(self, root):
        videos = FilePartVideos(root, truth_of("film"))
        assert numbers(videos.read(0, [19, 3, 12])) == [19, 3, 12]
        assert numbers(videos.read(0, range(1, 20, 6))) == [1, 7, 13, 19]

    @pytest.mark.parametrize("name", ["frames", "film"])
    def test_no_frame(self, root, name):
        assert FilePartVideos(root, truth_of(name)).read(0, []).shape == (3, 0, 32, 48)

    def test_a_folder_gives_its_pixels(self, root):
        pixels = FilePartVideos(root, truth_of("frames")).read(0, [5, 2])
        assert torch.equal(pixels[:, 0].permute(1, 2, 0), torch.from_numpy(picture(5)))

    def test_what_was_written_comes_back(self, tmp_path):
        clip = ActingFigures("parts", length=1, size=64, frames=6)[0][0]
        write_clip(tmp_path / "clip.mkv", clip, 8, quality=0)
        videos = FilePartVideos(tmp_path, truth_of("clip"))
        assert (videos.length(0), videos.fps(0)) == (6, 8)
        # the codec keeps a quarter of the colour, and all of the brightness but for rounding
        grey = torch.tensor([0.299, 0.587, 0.114])[:, None, None, None]
        apart = ((videos.read(0, range(6)).float() - clip.float()) * grey).sum(0).abs()
        assert apart.mean() < 1.5
        assert apart.quantile(0.99) < 4

    def test_from_the_challenges_files(self, root, tmp_path):
        truth = truth_of("film", "frames")
        (tmp_path / "gt_vid_result.json").write_text(json.dumps(truth["action"]))
        (tmp_path / "gt_part_result.json").write_text(json.dumps(truth["parts"]))
        videos = FilePartVideos(root, read_part_predictions(tmp_path, "gt"))
        assert videos.annotations(0) == FRAMES
        boxes, _ = true_people(videos.annotations(0)["img_00001.json"])
        assert boxes.tolist() == [[2, 3, 12, 14]]

    def test_classes_may_be_numbers(self, root):
        videos = FilePartVideos(root, truth_of(film=3, frames=11))
        assert videos.classes == ("11", "3")
        assert videos.action(0) == "3"

    def test_a_video_without_annotations(self, root):
        assert FilePartVideos(root, {"action": {"film": "jump"}, "parts": {}}).annotations(0) == {}

    @pytest.mark.parametrize(("name", "count"), [("film", 20), ("frames", 12)])
    def test_out_of_range(self, root, name, count):
        videos = FilePartVideos(root, truth_of(name))
        for frame in (count, -1):
            with pytest.raises(IndexError, match=rf"{name}.* has {count} frames and no frame {frame}"):
                videos.read(0, [0, frame])
        with pytest.raises(IndexError):
            videos.length(1)

    def test_missing_videos(self, root):
        with pytest.raises(FileNotFoundError, match=r"neither a folder of frames nor a file for.*'gone'$"):
            FilePartVideos(root, truth_of("film", "gone"))
        with pytest.raises(FileNotFoundError, match="'gone' and 1 others"):
            FilePartVideos(root, truth_of("lost", "gone"))

    def test_a_name_with_a_dot_is_no_other_video(self, tmp_path):
        make_video(tmp_path / "a.mp4", 2)
        with pytest.raises(FileNotFoundError, match=r"'a\.b'"):
            FilePartVideos(tmp_path, truth_of("a.b"))
        make_video(tmp_path / "a.b.mp4", 3)
        assert FilePartVideos(tmp_path, truth_of("a.b")).length(0) == 3

    def test_a_name_with_its_suffix_is_that_file(self, tmp_path):
        make_video(tmp_path / "a.avi", 2)
        make_video(tmp_path / "a.mp4", 3)
        videos = FilePartVideos(tmp_path, truth_of("a.avi", "a.mp4", "a.mkv"))
        # of one that was converted any other
        assert [videos.length(i) for i in range(3)] == [2, 3, 3]

    def test_a_folder_goes_before_a_file(self, tmp_path):
        make_video(tmp_path / "a.mp4", 3)
        folder_of(tmp_path / "a", 4)
        assert FilePartVideos(tmp_path, truth_of("a")).length(0) == 4

    def test_no_video(self, root):
        with pytest.raises(ValueError, match="name no video"):
            FilePartVideos(root, {"action": {}, "parts": {}})

    @pytest.mark.parametrize("fps", [0, -1.0, float("nan"), float("inf")])
    def test_a_frame_rate_that_is_none(self, root, fps):
        with pytest.raises(ValueError, match="fps is a positive number"):
            FilePartVideos(root, truth_of("film"), fps)

    def test_a_file_that_does_not_say_its_frame_rate(self, root, monkeypatch):
        real = part_videos.clip_info
        for rate in (0.0, float("nan"), float("inf")):
            monkeypatch.setattr(part_videos, "clip_info", lambda path, rate=rate: real(path)._replace(fps=rate))
            videos = FilePartVideos(root, truth_of("film"), 7.5)
            assert videos.length(0) == 20
            with pytest.warns(
                RuntimeWarning, match=r"film\.mp4 does not say its frame rate; it is taken for 7\.5 frames"
            ):
                assert videos.fps(0) == 7.5

    def test_files_are_measured_once(self, root, monkeypatch):
        real, calls = part_videos.clip_info, []
        monkeypatch.setattr(part_videos, "clip_info", lambda path: calls.append(path) or real(path))
        videos = FilePartVideos(root, truth_of("film", "Other"))
        for i in (0, 1, -1, 0):
            videos.length(i), videos.fps(i), videos.read(i, [0])
        assert sorted(path.name for path in calls) == ["Other.AVI", "film.mp4"]

    def test_another_folder_of_the_same_name_is_measured_anew(self, tmp_path, monkeypatch):
        for k, count in enumerate((3, 5)):
            folder_of(tmp_path / str(k) / "clip", count)
            monkeypatch.chdir(tmp_path / str(k))
            assert FilePartVideos(".", truth_of("clip")).length(0) == count

    def test_frames_are_ordered_by_number(self, tmp_path):
        folder_of(tmp_path / "clip", 12, "img_{}.png")
        videos = FilePartVideos(tmp_path, truth_of("clip"))
        assert numbers(videos.read(0, range(12))) == list(range(12))

    @pytest.mark.parametrize(
        ("gone", "message"),
        [((3,), "holds frame 2 and then 4"), ((1, 2, 3, 4, 5), "begins with frame 6"), ((2, 3, 4, 5), "1 and then 6")],
    )
    def test_a_folder_with_gaps_would_show_other_frames(self, tmp_path, gone, message):
        folder = folder_of(tmp_path / "clip")
        for number in gone:
            (folder / f"img_{number:05d}.png").unlink()
        with pytest.raises(ValueError, match=f"clip {message}|holds frame {message}"):
            FilePartVideos(tmp_path, truth_of("clip")).length(0)

    def test_a_folder_that_counts_from_zero_would_show_the_next_frames(self, tmp_path):
        folder_of(tmp_path / "clip", 3, "img_{:05d}.png", 0)
        with pytest.raises(ValueError, match=r"clip begins with frame 0; expected .* img_00001\.jpg first"):
            FilePartVideos(tmp_path, truth_of("clip")).read(0, [0])

    @pytest.mark.parametrize(
        ("frames", "runs"),
        [
            (range(20), [(0, 1, 20)]),
            ([1, 7, 13, 19], [(1, 6, 4)]),
            ([0, 1, 2, 10, 11, 12], [(0, 1, 3), (10, 1, 3)]),
            ([0, 4, 8, 9, 10, 11, 15, 19], [(0, 4, 3), (9, 1, 3), (15, 4, 2)]),
            ([3], [(3, 1, 1)]),
            ([3, 9, 10], [(3, 6, 2), (10, 1, 1)]),
        ],
        ids=["all", "steps", "two-pieces", "mixed", "one", "left-over"],
    )
    def test_a_file_is_opened_once_for_every_run_of_equal_steps(self, root, monkeypatch, frames, runs):
        real, calls = part_videos.read_clip, []

        def reading(path, count, step, first):
            calls.append((first, step, count))
            return real(path, count, step, first)

        monkeypatch.setattr(part_videos, "read_clip", reading)
        assert numbers(FilePartVideos(root, truth_of("film")).read(0, frames)) == list(frames)
        assert calls == runs

    def test_frames_in_order_are_not_copied_again(self, root, monkeypatch):
        pixels = torch.zeros(3, 4, 8, 8).byte()
        monkeypatch.setattr(part_videos, "read_clip", lambda *_: pixels)
        assert FilePartVideos(root, truth_of("film")).read(0, range(2, 6)).data_ptr() == pixels.data_ptr()

    def test_pictures_without_numbers(self, tmp_path):
        folder_of(tmp_path / "clip", 1, "picture.png")
        with pytest.raises(ValueError, match="end in its number"):
            FilePartVideos(tmp_path, truth_of("clip")).read(0, [0])

    def test_an_empty_folder(self, tmp_path):
        (tmp_path / "clip").mkdir()
        with pytest.raises(ValueError, match="clip has no pictures"):
            FilePartVideos(tmp_path, truth_of("clip")).length(0)

    def test_pictures_of_different_sizes(self, tmp_path):
        folder = folder_of(tmp_path / "clip", 2)
        Image.fromarray(picture(2, 40, 48)).save(folder / "img_00003.png")
        videos = FilePartVideos(tmp_path, truth_of("clip"))
        with pytest.raises(RuntimeError, match="clip differ in size: 48 x 32, 48 x 40"):
            videos.read(0, [0, 2])
        assert numbers(videos.read(0, [2])) == [2]

    def test_a_damaged_picture(self, tmp_path):
        folder = folder_of(tmp_path / "clip", 3)
        data = (folder / "img_00002.png").read_bytes()
        (folder / "img_00002.png").write_bytes(data[: len(data) // 2])
        videos = FilePartVideos(tmp_path, truth_of("clip"))
        assert numbers(videos.read(0, [0, 2])) == [0, 2]
        with pytest.raises(RuntimeError, match=r"img_00002\.png cannot be read"):
            videos.read(0, [1])

    def test_what_is_no_video(self, tmp_path):
        (tmp_path / "clip.mp4").write_bytes(b"no video" * 100)
        with pytest.raises(RuntimeError, match=r"clip\.mp4"):
            FilePartVideos(tmp_path, truth_of("clip")).length(0)

    def test_a_file_that_was_cut_short(self, tmp_path):
        """Its packets are counted, and what is missing of them is said when frames are read."""
        write_clip(tmp_path / "whole.avi", torch.randint(256, (3, 12, 64, 64), dtype=torch.uint8), 10)
        data = (tmp_path / "whole.avi").read_bytes()
        (tmp_path / "clip.avi").write_bytes(data[: int(0.6 * len(data))])
        videos = FilePartVideos(tmp_path, truth_of("clip"))
        count = videos.length(0)
        assert 4 < count < 12
        with pytest.warns(RuntimeWarning, match=r"clip\.avi is"):
            assert videos.read(0, [0, 2]).shape == (3, 2, 64, 64)
        with pytest.raises(IndexError, match="no frame 11"):
            videos.read(0, [11])

    def test_frames_that_cannot_be_decoded_are_not_replaced_by_others(self, root, monkeypatch):
        monkeypatch.setattr(part_videos, "read_clip", lambda path, count, *_: torch.zeros(3, count - 1, 8, 8).byte())
        with pytest.raises(RuntimeError, match=r"film\.mp4 is damaged: 2 of 3 frames"):
            FilePartVideos(root, truth_of("film")).read(0, [0, 1, 2])


@pytest.mark.parametrize("kind", ["figures", "files"])
def test_it_travels_to_workers(kind, tmp_path):
    if kind == "figures":
        videos = FigurePartVideos(ActingFigures("parts", length=3, size=32, frames=4))
    else:
        folder_of(tmp_path / "clip", 4)
        videos = FilePartVideos(tmp_path, truth_of("clip"))
    for other in (pickle.loads(pickle.dumps(videos)), copy.deepcopy(videos)):
        assert torch.equal(other.read(0, [1, 3]), videos.read(0, [1, 3]))
        assert other.annotations(0) == videos.annotations(0)


def test_frames_of_figures_collate():
    videos = FigurePartVideos(ActingFigures("parts", length=4, size=32, frames=6))
    clips = [videos.read(i, sample_frames(videos.length(i), 3, 2)) for i in range(4)]
    assert next(iter(DataLoader(clips, 4))).shape == (4, 3, 3, 32, 32)
    assert len({np.asarray(clip).tobytes() for clip in clips}) == 4
