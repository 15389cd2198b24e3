import json
import weakref

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import actionzoo
from actionzoo.data.clips import ClipFrame, clip_info, iter_frames, read_clip
from actionzoo.models import Instances, People
from actionzoo.pipeline import (
    ActionResult,
    ClipActionPipeline,
    ClipResult,
    DetectionPipeline,
    clips,
    pipeline,
    sliding_window,
)
from actionzoo.pipeline.clip_overlay import KeyFrames, Placed, Sighting, place_people
from actionzoo.pipeline.clip_source import open_frames
from actionzoo.pipeline.clip_tally import ClipTally
from actionzoo.pipeline.clip_window import ClipWindow, TrackAction
from actionzoo.tracking import KeypointTracker
from tests import instances, persons
from tests.data import videos

HEIGHT, WIDTH = 32, 48
CLASSES = ("sit", "stand", "walk")


def left(number):
    """Stands at the left edge with a little sway."""
    return (2.0 + number % 3, 4.0, 14.0 + number % 3, 28.0)


def right(number):
    """Walks from the right to the left."""
    return (34.0 - number / 2, 4.0, 44.0 - number / 2, 30.0)


def pose(box, arms):
    """Four joints: head, hip and two hands, which are up or down."""
    x1, y1, x2, y2 = box
    middle, hands = (x1 + x2) / 2, y1 if arms == "up" else y2
    return [[middle, y1, 0.9], [middle, (y1 + y2) / 2, 0.8], [x1, hands, 0.7], [x2, hands, 0.6]]


class Scripted:
    """A detector that reads a frame's number from its bars and finds there whom the script says.

    The maps are those of the model's own backbone.
    """

    def __init__(self, model, script, joints=True):
        self.own, self.script, self.joints = model.detect, script, joints
        self.looked_at, self.calls, self.thresholds = [], [], []
        model.detect = self

    def __call__(self, frames, threshold):
        self.thresholds.append(threshold)
        numbers = videos.numbers((frames.transpose(0, 1) * 255).round())
        self.looked_at += numbers
        self.calls.append(len(numbers))
        _, maps, view = self.own(frames, threshold)
        return Instances([self.people(number) for number in numbers], maps, view)

    def people(self, number):
        found = self.script(number)
        poses = [pose(box, arms) if self.joints else [] for box, arms, _ in found]
        return People(
            torch.tensor([box for box, _, _ in found]).reshape(-1, 4),
            torch.tensor([score for _, _, score in found]),
            torch.tensor(poses).reshape(len(found), -1 if found and self.joints else 0, 3),
        )


def two(number):
    """Two people in every frame, the surer one at the right."""
    return [(right(number), "up", 0.9), (left(number), "down", 0.75)]


def nobody(number):
    return []


def pixels(count):
    """`(3, T, H, W)` numbered frames."""
    return torch.stack([torch.from_numpy(videos.picture(i)).permute(2, 0, 1) for i in range(count)], 1)


def build(script=two, joints=True, **settings):
    """A pipeline with windows of 4 frames, 2 apart, and what its detector was shown."""
    model = instances.net(len(CLASSES))
    model.pretrained_cfg["classes"] = list(CLASSES)
    # a random classifier would be sure of nothing
    torch.nn.init.normal_(model.get_classifier().weight, std=20.0)
    detector = Scripted(model, script, joints)
    return ClipActionPipeline(model, **settings), detector


def frames(pixels):
    """A clip of one frame, as its caller makes it."""
    return iter([ClipFrame(5, 0.2, pixels)])


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """15 frames at 10 per second."""
    return videos.make_video(tmp_path_factory.mktemp("clips") / "walk.mp4", 15)


class TestWindows:
    @pytest.mark.parametrize(
        ("count", "stride", "hop", "expected"),
        [
            (8, 1, 4, [(0, 3), (4, 7)]),
            (8, 1, 2, [(0, 3), (2, 5), (4, 7)]),
            (9, 1, 4, [(0, 3), (4, 7), (5, 8)]),
            (7, 2, 1, [(0, 6)]),
            (12, 2, 1, [(0, 6), (2, 8), (4, 10)]),
            (3, 1, 2, [(0, 2)]),
            (3, 4, 2, [(0, 0)]),
            (1, 1, 1, [(0, 0)]),
        ],
    )
    def test_cover_every_frame_that_is_looked_at(self, count, stride, hop, expected):
        pipe, detector = build(stride=stride, hop=hop)
        windows = list(pipe.stream(pixels(count), fps=10))
        assert [(window.start_frame, window.end_frame) for window in windows] == expected
        assert detector.looked_at == list(range(0, count, stride))
        assert {number for window in windows for number in window.frames} == set(detector.looked_at)
        for window in windows:
            assert window.frames == tuple(range(window.start_frame, window.end_frame + 1, stride))
            assert (window.start_s, window.end_s) == (window.start_frame / 10, window.end_frame / 10)

    def test_defaults_are_the_models_stride_and_half_a_window(self):
        pipe, _ = build()
        assert (pipe.stride, pipe.hop) == (2, 2)
        assert [window.frames for window in pipe.stream(pixels(12))] == [(0, 2, 4, 6), (4, 6, 8, 10)]

    @pytest.mark.parametrize("count", [8, 5, 1], ids=["full", "short", "one-frame"])
    def test_scores_are_those_of_the_model_on_that_clip(self, count):
        pipe, _ = build(stride=1)
        (window, *_) = pipe.stream(pixels(count))
        length = min(count, 4)
        clip = pixels(count)[None, :, :length].float() / 255
        boxes = torch.tensor([[right(i) for i in range(length)], [left(i) for i in range(length)]])
        with torch.no_grad():
            expected = pipe.model(clip, boxes, clip_index=torch.zeros(2, dtype=torch.long))
        assert_close(torch.tensor([p.scores for p in window.people]), expected.logits.softmax(1), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(*expected.logits, atol=0.1)
        for person, row, box in zip(window.people, expected.logits.softmax(1), expected.windows):
            assert person.label == CLASSES[int(row.argmax())]
            assert person.score == max(person.scores)
            assert_close(torch.tensor(person.window), box)
            assert_close(person.boxes, boxes[person.track_id])
        assert [person.detection for person in window.people] == pytest.approx([0.9, 0.75])

    def test_later_windows_are_those_of_the_model_too(self):
        pipe, _ = build(stride=1, hop=3)
        window = list(pipe.stream(pixels(8)))[1]
        assert window.frames == (3, 4, 5, 6)
        boxes = torch.tensor([[right(i) for i in window.frames]])
        with torch.no_grad():
            expected = pipe.model(pixels(8)[None, :, 3:7].float() / 255, boxes)
        assert_close(torch.tensor(window.people[0].scores), expected.logits.softmax(1)[0], rtol=1e-4, atol=1e-5)

    def test_a_person_keeps_the_id_when_the_order_of_detections_changes(self):
        pipe, _ = build(lambda number: two(number)[:: 1 if number % 3 else -1], stride=1, hop=2)
        for window in pipe.stream(pixels(16)):
            by_hands = {person.track_id: float(person.keypoints[0, 2, 1]) for person in window.people}
            # arms are down in the track that was found first
            assert by_hands == {0: 28.0, 1: 4.0}

    def test_people_who_cross_keep_their_ids(self):
        def crossing(number):
            x = 2.0 + 2 * number
            return [((x, 4.0, x + 10, 28.0), "up", 0.9), ((36 - x, 4.0, 46 - x, 28.0), "down", 0.8)]

        pipe, _ = build(crossing, stride=1, hop=1)
        windows = list(pipe.stream(pixels(18)))
        assert len(windows) == 15
        for window in windows:
            assert [(p.track_id, float(p.keypoints[-1, 2, 1])) for p in window.people] == [(0, 4.0), (1, 28.0)]

    @pytest.mark.parametrize(("missed", "ids"), [(5, {0}), (6, {0, 1})])
    def test_a_person_may_be_missed_for_five_frames(self, missed, ids):
        def script(number):
            return [] if 4 <= number < 4 + missed else [(left(number), "down", 0.9)]

        windows = list(build(script, stride=1, hop=2)[0].stream(pixels(16)))
        assert {person.track_id for window in windows for person in window.people} == ids

    def test_who_is_found_too_rarely_is_left_out(self):
        def brief(number):
            return two(number) if number == 2 else two(number)[1:]

        assert [p.track_id for p in next(build(brief, stride=1, min_frames=2)[0].stream(pixels(4))).people] == [0]
        # unless it is asked for, nobody is
        (once, _) = next(build(brief, stride=1)[0].stream(pixels(4))).people[::-1]
        assert (once.frames, once.start_s, once.end_s) == ((2,), 0.08, 0.08)
        assert once.boxes.tolist() == [list(right(2))]
        # of a single frame everybody counts
        assert len(next(build(stride=1, min_frames=2)[0].stream(pixels(1))).people) == 2

    @pytest.mark.parametrize("batch", [2, 3, 16])
    @pytest.mark.parametrize("stride", [1, 2])
    def test_several_frames_at_a_time_give_the_same(self, tmp_path, batch, stride):
        results = []
        for several in (1, batch):
            pipe, detector = build(stride=stride, hop=3, batch=several)
            result = pipe.annotate(pixels(23), tmp_path / f"{several}.mp4", fps=10)
            windows = pipe(pixels(23), fps=10).windows
            results.append((result, windows, read_clip(tmp_path / f"{several}.mp4", 23)))
            assert max(detector.calls) == min(several, 23 if stride == 1 else 12)
        (one, windows, drawn), (other, others, drawn_too) = results
        assert (one.frames, one.sampled, one.num_windows) == (other.frames, other.sampled, other.num_windows)
        assert torch.equal(drawn, drawn_too)
        assert [window.frames for window in windows] == [window.frames for window in others]
        for person, person_too in zip(
            (person for window in windows for person in window.people),
            (person for window in others for person in window.people),
            strict=True,
        ):
            assert (person.track_id, person.frames) == (person_too.track_id, person_too.frames)
            assert_close(torch.tensor(person.scores), torch.tensor(person_too.scores), rtol=1e-4, atol=1e-5)

    def test_what_is_set_later_counts(self):
        pipe, detector = build()
        pipe.stride, pipe.hop, pipe.min_frames, pipe.batch, pipe.threshold = 1, 4, 2, 4, 0.25
        assert [window.frames for window in pipe.stream(pixels(8))] == [(0, 1, 2, 3), (4, 5, 6, 7)]
        assert (detector.calls, detector.thresholds) == ([4, 4], [0.25, 0.25])
        pipe.hop = 9
        with pytest.raises(ValueError, match="hop lies in 1 to 4"):
            pipe(pixels(8))

    def test_a_head_in_half_precision(self):
        scores = []
        for dtype in (torch.float32, torch.bfloat16):
            pipe, _ = build(stride=1)
            pipe.model.head.to(dtype)
            scores.append(torch.tensor([person.scores for person in next(pipe.stream(pixels(4))).people]))
        assert_close(*scores, rtol=0, atol=0.2)

    def test_a_detector_in_half_precision_is_refused(self):
        model = instances.net(3).to(torch.bfloat16)
        with pytest.raises(ValueError, match=r"found in float32, and the detector is in torch\.bfloat16"):
            ClipActionPipeline(model)

    def test_a_detector_without_joints(self):
        pipe, _ = build(joints=False, stride=1)
        window = next(pipe.stream(pixels(4)))
        assert [person.keypoints for person in window.people] == [None, None]
        assert window.to_dict()["people"][0]["keypoints"] is None

    def test_nobody(self):
        pipe, _ = build(nobody, stride=1)
        windows = list(pipe.stream(pixels(5)))
        assert [(window.frames, window.people) for window in windows] == [((0, 1, 2, 3), []), ((1, 2, 3, 4), [])]

    def test_plain_numbers(self):
        window = next(build(stride=1)[0].stream(pixels(4), fps=10))
        row = json.loads(json.dumps(window.to_dict()))
        assert (row["start_frame"], row["end_frame"], row["end_s"], row["frames"]) == (0, 3, 0.3, [0, 1, 2, 3])
        first = row["people"][0]
        assert list(first["scores"]) == list(CLASSES)
        assert sum(first["scores"].values()) == pytest.approx(1, abs=1e-5)
        assert first["scores"][first["label"]] == first["score"]
        assert first["boxes"][1] == [33.5, 4.0, 43.5, 30.0]
        assert first["keypoints"][0][2] == [34.0, 4.0, 0.7]
        top = window.people[0].top(window.classes, 2)
        assert top[0] == (window.people[0].label, window.people[0].score)
        assert len(top) == 2


class TestMemory:
    """Nothing is kept that is not needed any more: arrays behind tensors are counted while they live."""

    @staticmethod
    def counted(alive):
        """Frames that are counted for as long as anything holds their pixels."""
        for i in range(40):
            array = np.ascontiguousarray(videos.picture(i).transpose(2, 0, 1))
            alive.add(array)
            yield ClipFrame(i, i / 10, torch.from_numpy(array))
            del array

    @staticmethod
    def count_maps(detector, alive):
        own = detector.own

        def detect(frames, threshold):
            people, maps, view = own(frames, threshold)
            arrays = {name: value.numpy().copy() for name, value in maps.items()}
            alive.update(arrays.values())
            return Instances(people, {name: torch.from_numpy(array) for name, array in arrays.items()}, view)

        detector.own = detect

    def test_a_stream_keeps_the_maps_of_one_window(self):
        maps, frames, most = Alive(), Alive(), []
        pipe, detector = build(stride=1, hop=2)
        self.count_maps(detector, maps)
        for _ in pipe.stream(self.counted(frames)):
            most.append((len(maps), len(frames)))
        # two levels of four frames, and one more frame at most, the one that is read
        assert len(most) == 19
        assert max(count for count, _ in most) <= 2 * 5
        assert max(count for _, count in most) <= 2
        assert len(maps) == len(frames) == 0

    def test_an_annotated_clip_keeps_the_pixels_of_one_window(self, tmp_path, monkeypatch):
        maps, frames, most = Alive(), Alive(), []
        pipe, detector = build(stride=3, hop=2)
        self.count_maps(detector, maps)
        own = detector.script
        monkeypatch.setattr(detector, "script", lambda n: most.append((len(maps), len(frames))) or own(n))
        result = pipe.annotate(self.counted(frames), tmp_path / "a.mp4", tmp_path / "a.jsonl")
        assert result.frames == 40
        assert max(count for count, _ in most) <= 2 * 5
        assert max(count for _, count in most) <= 4 * 3 + 2
        assert result.windows == []
        assert len(result.key_frames) <= 8
        assert len(maps) == len(frames) == 0

    def test_of_a_person_a_few_numbers_are_kept(self, monkeypatch):
        alive, most = Alive(), []

        def appears(number):
            # on either side by turns, too far away to be the same
            return [((30.0 * (number % 2), 4.0, 30.0 * (number % 2) + 8, 28.0), "up", 0.9)]

        monkeypatch.setattr(sliding_window, "KeypointTracker", Strangers)
        pipe, _ = build(appears, stride=1, hop=4)
        own = ClipTally.add
        monkeypatch.setattr(
            ClipTally, "add", lambda tally, w: alive.update(w.people) or own(tally, w) or most.append(len(alive))
        )
        result = pipe.annotate(pixels(40), fps=10)
        assert [person.track_id for person in result.people] == list(range(40))
        assert [(p.start_frame, p.end_frame, p.windows) for p in result.people] == [(i, i, 1) for i in range(40)]
        # those of three windows are where labels may still be drawn, four a window, and those on kept pictures
        assert len(most) == 10
        assert max(most) <= 6 * 4 + 8
        assert len(alive) <= 8


class Strangers(KeypointTracker):
    """Takes everybody for somebody new."""

    def update(self, keypoints, boxes=None):
        self.reset()
        self.seen = getattr(self, "seen", 0) + len(keypoints)
        return torch.arange(self.seen - len(keypoints), self.seen)


class Alive:
    """Arrays that still live; they cannot be hashed."""

    def __init__(self):
        self.refs = []

    def add(self, array):
        self.refs.append(weakref.ref(array))

    def update(self, arrays):
        for array in arrays:
            self.add(array)

    def __len__(self):
        return sum(ref() is not None for ref in self.refs)


class TestSources:
    def test_all_forms_of_a_clip_give_the_same(self, video, tmp_path):
        clip, folder = read_clip(video, 15), tmp_path / "frames"
        folder.mkdir()
        for i in range(15):
            actionzoo.draw.to_image(clip[:, i]).save(folder / f"{i}.png")
        pipe, _ = build()
        with video.open("rb") as pipe_in:
            forms = {
                "file": pipe(video),
                "text": pipe(str(video)),
                "folder": pipe(folder, fps=10),
                "pixels": pipe(clip, fps=10),
                "pipe": pipe(pipe_in),
                "frames": pipe(iter_frames(video)),
            }
        expected = [window.to_dict() for window in forms["file"].windows]
        assert len(expected) == 3
        for name, result in forms.items():
            assert [window.to_dict() for window in result.windows] == expected, name
            assert result.frame_rate == pytest.approx(10, rel=1e-3), name
            assert (result.frames, result.sampled, result.num_windows) == (15, 8, 3), name
        sources = {name: result.source for name, result in forms.items()}
        same = {"file": str(video), "text": str(video), "pipe": str(video)}
        assert sources == same | {"folder": str(folder), "pixels": None, "frames": None}

    def test_a_list_gives_a_list(self, video):
        pipe, _ = build()
        first, second = pipe([video, pixels(3)])
        assert (first.frames, second.frames) == (15, 3)

    @pytest.mark.parametrize(
        ("clip", "error", "match"),
        [
            ("absent.mp4", FileNotFoundError, "absent.mp4"),
            (torch.zeros(3, 4, 8, 8), ValueError, r"\(3, T, H, W\) uint8, got \(3, 4, 8, 8\) torch.float32"),
            (torch.zeros(3, 8, 8, dtype=torch.uint8), ValueError, r"got \(3, 8, 8\)"),
            (torch.zeros(3, 0, 8, 8, dtype=torch.uint8), ValueError, r"got \(3, 0, 8, 8\)"),
            (iter([]), RuntimeError, "no frames"),
            (iter([torch.zeros(3, 8, 8)]), TypeError, "ClipFrames .* got Tensor"),
            (ClipFrame(0, 0.0, torch.zeros(3, 8, 8)), TypeError, "got ClipFrame"),
            (frames(torch.zeros(3, 8, 8)), ValueError, r"\(3, H, W\) uint8, got \(3, 8, 8\) torch.float32"),
            (frames(torch.zeros(8, 8, 3, dtype=torch.uint8)), ValueError, r"frame 5 are .* got \(8, 8, 3\)"),
            (frames(torch.zeros(3, 0, 8, dtype=torch.uint8)), ValueError, r"got \(3, 0, 8\)"),
            (frames(np.zeros((3, 8, 8), dtype=np.uint8)), ValueError, r"got \(3, 8, 8\) uint8"),
            (1.5, TypeError, "got float"),
        ],
        ids=[
            *("absent", "float", "rank", "empty", "no-frames", "tensors", "one-frame"),
            *("frame-float", "frame-rank", "frame-empty", "frame-array", "number"),
        ],
    )
    def test_what_is_no_clip_is_refused(self, clip, error, match):
        with pytest.raises(error, match=match):
            build()[0](clip)

    def test_a_picture_is_no_clip(self, tmp_path):
        actionzoo.draw.to_image(pixels(1)[:, 0]).save(tmp_path / "a.png")
        with pytest.raises(RuntimeError, match="single picture"):
            build()[0](tmp_path / "a.png")

    def test_frames_may_not_change_their_size(self):
        frames = [ClipFrame(i, i / 10, pixels(4)[:, i, :, : 48 - 8 * (i > 1)]) for i in range(4)]
        with pytest.raises(RuntimeError, match="change their size from 48 x 32 to 40 x 32"):
            build(nobody, stride=1)[0](iter(frames))
        # those that are not looked at, too
        with pytest.raises(RuntimeError, match="change their size"):
            build(nobody, stride=3)[0](iter(frames[:3]))

    def test_a_file_cut_short_is_labelled_as_far_as_it_goes(self, video, tmp_path):
        whole = videos.make_video(tmp_path / "whole.mp4", 40, container_options={"movflags": "faststart"})
        data = whole.read_bytes()
        (tmp_path / "cut.mp4").write_bytes(data[: (data.index(b"mdat") + 2 * len(data)) // 3])
        pipe, _ = build()
        with pytest.warns(RuntimeWarning, match=r"cut.mp4 is damaged") as caught:
            result = pipe.annotate(tmp_path / "cut.mp4", tmp_path / "out.mp4")
        assert len(caught) == 1
        assert 8 < result.frames < 40
        assert clip_info(tmp_path / "out.mp4").frames == result.frames
        assert len(result.people) == 2

    def test_seconds(self):
        pipe, _ = build(stride=1)
        assert pipe.annotate(pixels(20), fps=10, seconds=0.5).frames == 5
        for seconds in (0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="seconds is more than 0"):
                pipe.annotate(pixels(20), seconds=seconds)

    @pytest.mark.parametrize("end", ["seconds", "stop", "error", "stream"])
    def test_the_source_is_closed_wherever_it_ends(self, monkeypatch, end):
        state = []

        def opened(clip, fps):
            try:
                yield from open_frames(clip, fps)
            finally:
                state.append("closed")

        def script(number):
            if end == "error" and number == 4:
                raise RuntimeError("the detector broke")
            return two(number)

        monkeypatch.setattr(clips, "open_frames", opened)
        pipe, _ = build(script, stride=1)
        if end == "stream":
            stream = pipe.stream(pixels(20))
            next(stream)
            stream.close()
        elif end == "error":
            with pytest.raises(RuntimeError, match="the detector broke"):
                pipe.annotate(pixels(20))
        else:
            answers = iter([False] * 5 + [True])
            limit = {"seconds": 0.5} if end == "seconds" else {"stop": lambda: next(answers)}
            assert pipe.annotate(pixels(20), fps=10, **limit).frames == 5
        assert state == ["closed"]


class TestResult:
    def test_people_are_averaged_over_their_windows(self):
        result = build(stride=1, hop=2)[0](pixels(9), fps=10)
        assert len(result.windows) == 4
        for i, person in enumerate(result.people):
            rows = torch.tensor([window.people[i].scores for window in result.windows])
            assert_close(torch.tensor(person.scores), rows.mean(0))
            assert person.label == CLASSES[int(rows.mean(0).argmax())]
            assert (person.track_id, person.windows) == (i, 4)
            assert (person.start_frame, person.end_frame, person.start_s, person.end_s) == (0, 8, 0.0, 0.8)
        assert [p.box for p in result.people] == [(30.0, 4.0, 44.0, 30.0), (2.0, 4.0, 16.0, 28.0)]
        assert [p.area for p in result.people] == [260.0, 288.0]

    def test_somebody_who_comes_and_goes(self):
        script = lambda number: two(number)[1:] if number < 4 else two(number) if number < 9 else []  # noqa: E731
        result = build(script, stride=1, hop=2)[0](pixels(20), fps=10)
        assert [(p.start_frame, p.end_frame) for p in result.people] == [(0, 8), (4, 8)]
        assert result.windows[-1].people == []

    def test_whose_action_is_the_clips(self):
        pipe, _ = build(stride=1)
        surest, largest, mean = (pipe(pixels(6), rule=rule) for rule in ("score", "area", "mean"))
        assert pipe(pixels(6)).top(3) == surest.top(3)
        assert surest.label == surest.people[0].label
        assert surest.score == surest.people[0].score == surest.top(1)[0][1]
        assert largest.top(3) == largest.people[1].top(CLASSES, 3)
        assert largest.top(3) != surest.top(3)
        average = torch.tensor([person.scores for person in mean.people]).mean(0)
        assert (mean.label, mean.score) == (CLASSES[int(average.argmax())], pytest.approx(float(average.max())))
        assert mean.top(3) != surest.top(3)
        with pytest.raises(ValueError, match="rule is one of score, area, mean, got 'first'"):
            pipe(pixels(6), rule="first")

    def test_nobody(self, tmp_path):
        result = build(nobody)[0](pixels(6))
        assert isinstance(result, ClipResult)
        assert (result.people, result.top()) == ([], [])
        with pytest.raises(RuntimeError, match="no people in this result"):
            _ = result.label
        with pytest.raises(RuntimeError, match="no people in this result"):
            _ = result.score
        row = json.loads(result.to_json())
        assert (row["label"], row["people"], row["counts"]["windows"]) == (None, [], 1)
        assert result.draw().width > 0

    def test_json(self):
        pipe, _ = build(stride=1)
        result = pipe(pixels(6), fps=10)
        row = json.loads(result.to_json(2))
        assert row["windows"] == [json.loads(json.dumps(window.to_dict())) for window in result.windows]
        assert row["counts"] == {"frames": 6, "sampled": 6, "windows": 2, "people": 2}
        assert (row["model"], row["frame_rate"]) == ("instance_action_tiny", 10)
        assert row["fps"] > 0
        assert len(row["top"]) == len(row["people"][0]["top"]) == 2
        assert row["people"][1]["end_s"] == 0.5

    def test_the_sheet_shows_at_most_eight_frames(self):
        result = build(stride=1)[0](pixels(40), fps=10)
        times = [key.time_s for key in result.key_frames]
        assert times == pytest.approx([0, 0.8, 1.6, 2.4, 3.2])
        sheet = result.draw(columns=5)
        assert sheet.width > 5 * 480
        assert sheet.height < 2 * 320


class TestAnnotated:
    def test_size_rate_and_length_are_those_of_the_clip(self, tmp_path):
        path = videos.make_video(tmp_path / "large.mp4", 9, size=(242, 256))
        build()[0].annotate(path, tmp_path / "out.mp4")
        info = clip_info(tmp_path / "out.mp4")
        assert (info.frames, info.fps, info.width, info.height) == (9, 10, 256, 242)

    def test_small_frames_are_enlarged_by_a_whole_number(self, video, tmp_path):
        build()[0].annotate(video, tmp_path / "out.mkv")
        info = clip_info(tmp_path / "out.mkv")
        assert (info.frames, info.fps, info.width, info.height) == (15, 10, 8 * WIDTH, 8 * HEIGHT)

    def test_frames_tell_their_rate_where_nothing_else_does(self, tmp_path):
        frames = (ClipFrame(i, i / 30, pixels(16)[:, i]) for i in range(16))
        result = build()[0].annotate(frames, tmp_path / "out.mp4")
        assert result.frame_rate == pytest.approx(30)
        assert clip_info(tmp_path / "out.mp4").fps == pytest.approx(30, rel=1e-3)
        one = build()[0].annotate(iter([ClipFrame(0, 0.0, pixels(1)[:, 0])]), tmp_path / "one.mp4", fps=12)
        assert (one.frames, one.frame_rate) == (1, 12)

    def test_what_lies_outside_the_boxes_stays(self, tmp_path):
        path = videos.make_video(tmp_path / "large.mp4", 9, size=(240, 360))
        box = (150.0, 40.0, 210.0, 110.0)
        pipe, _ = build(lambda number: [(box, "up", 0.9)])
        pipe.annotate(path, tmp_path / "out.mp4")
        before, after = read_clip(path, 9).int(), read_clip(tmp_path / "out.mp4", 9).int()
        changed = (before - after).abs().amax(0).float()
        drawn = torch.zeros(240, 360, dtype=torch.bool)
        # the box, its rim, and the tag above it with what the codec smears around
        drawn[10:120, 130:320] = True
        assert changed[:, ~drawn].mean() < 3
        assert changed[:, 50:100, 150:152].mean() > 40
        assert changed[:, 50:100, 208:210].mean() > 40
        assert videos.numbers(after) == list(range(9))

    def test_writing_it_later_gives_the_same_clip(self, video, tmp_path):
        pipe, _ = build()
        pipe.annotate(video, tmp_path / "first.mp4")
        pipe(video).write_video(tmp_path / "second.mp4")
        pipe(read_clip(video, 15), fps=10).write_video(tmp_path / "third.mp4")
        first, second, third = (read_clip(tmp_path / f"{name}.mp4", 15) for name in ("first", "second", "third"))
        assert torch.equal(first, second)
        assert torch.equal(first, third)

    def test_what_cannot_be_read_again_cannot_be_written_later(self, video, tmp_path):
        pipe, _ = build()
        with pytest.raises(RuntimeError, match=r"cannot be read again; pipe.annotate"):
            pipe(iter_frames(video)).write_video(tmp_path / "a.mp4")
        with pytest.raises(RuntimeError, match="its windows were not kept"):
            pipe.annotate(video).write_video(tmp_path / "a.mp4")

    def test_lines_are_the_windows(self, video, tmp_path):
        pipe, _ = build()
        result = pipe.annotate(video, lines=tmp_path / "a.jsonl")
        rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
        assert rows == [json.loads(json.dumps(window.to_dict())) for window in pipe.stream(video)]
        assert result.num_windows == len(rows) == 3
        assert list(tmp_path.iterdir()) == [tmp_path / "a.jsonl"]

    @pytest.mark.parametrize(
        ("video", "lines", "error", "match"),
        [
            ("a.webm", None, ValueError, r"ends in .mp4, .*, got 'a.webm'"),
            ("absent/a.mp4", None, FileNotFoundError, "no such folder: .*absent"),
            (None, "absent/a.jsonl", FileNotFoundError, "no such folder: .*absent"),
            ("clip.mp4", None, ValueError, "clip.mp4 is read from or written to already"),
            (None, "folder/../clip.mp4", ValueError, "clip.mp4 is read from or written to already"),
            ("a.mp4", "a.mp4", ValueError, "a.mp4 is read from or written to already"),
        ],
        ids=["suffix", "folder", "folder-of-lines", "own-input", "own-input-for-lines", "one-file"],
    )
    def test_what_cannot_be_written_is_refused_before_a_frame_is_read(self, tmp_path, video, lines, error, match):
        (tmp_path / "folder").mkdir()
        (tmp_path / "clip.mp4").write_bytes(b"the clip")
        pipe, detector = build()
        video, lines = (name and tmp_path / name for name in (video, lines))
        with pytest.raises(error, match=match):
            pipe.annotate(tmp_path / "clip.mp4", video, lines)
        with (tmp_path / "clip.mp4").open("rb") as opened, pytest.raises(error, match=match):
            pipe.annotate(opened, video, lines)
        assert detector.looked_at == []
        assert (tmp_path / "clip.mp4").read_bytes() == b"the clip"

    def test_nothing_is_left_behind_by_a_failure(self, video, tmp_path):
        def fails(number):
            if number == 12:
                raise RuntimeError("the detector broke")
            return two(number)

        (tmp_path / "a.mp4").write_bytes(b"from before")
        with pytest.raises(RuntimeError, match="the detector broke"):
            build(fails)[0].annotate(video, tmp_path / "a.mp4", tmp_path / "a.jsonl")
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
        assert (tmp_path / "a.mp4").read_bytes() == b"from before"


class TestPlacing:
    """People on the frames between those that were looked at."""

    @staticmethod
    def frame(number):
        return ClipFrame(number, number / 10, torch.zeros(3, 4, 4, dtype=torch.uint8))

    @staticmethod
    def sighting(number, **people):
        """Tracks by the letter and the place of their box and joint."""
        ids = tuple("ab".index(name) for name in people)
        places = torch.tensor([float(place) for place in people.values()]).reshape(-1, 1)
        return Sighting(number, ids, places.expand(-1, 4), places[:, None].expand(-1, 1, 3))

    @staticmethod
    def window(*frames, **labels):
        people = [
            TrackAction("ab".index(name), label, 0.5, (), (), 0, 0, torch.zeros(0, 4), None, (0, 0, 0, 0), 1)
            for name, label in labels.items()
        ]
        return ClipWindow((), frames, 0, 0, people)

    def place(self, *events, window=2):
        """For every frame its people: letter, place and label."""
        rows = {}
        for frame, people in place_people(events, window, 5):
            for person in people:
                assert_close(person.keypoints, person.box[0].expand(1, 3))
            rows[frame.number] = [
                ("ab"[person.action.track_id], round(float(person.box[0]), 3), person.action.label) for person in people
            ]
        return rows

    def clip(self, sightings, windows, last):
        """Events in the order that a clip gives them."""
        for number in range(last + 1):
            yield self.frame(number)
            if number in sightings:
                yield self.sighting(number, **sightings[number])
            if number in windows:
                yield windows[number]

    def test_between_sightings_and_after_the_last(self):
        sightings = {0: {"a": 10}, 4: {"a": 18}, 8: {"a": 14}}
        windows = {4: self.window(0, 4, a="x"), 8: self.window(4, 8, a="x")}
        rows = self.place(*self.clip(sightings, windows, 10))
        places = [10, 12, 14, 16, 18, 17, 16, 15, 14, 14, 14]
        assert rows == {number: [("a", place, "x")] for number, place in enumerate(places)}

    def test_a_gap_is_bridged(self):
        sightings = {0: {"a": 0}, 1: {"a": 1}, 2: {}, 3: {}, 4: {"a": 4}}
        windows = {3: self.window(0, 1, 2, 3, a="x"), 4: self.window(1, 2, 3, 4, a="x")}
        rows = self.place(*self.clip(sightings, windows, 5), window=4)
        assert [row[0][1] for row in rows.values()] == [0, 1, 2, 3, 4, 4]

    def test_who_has_left_is_not_drawn_and_who_comes_not_before(self):
        sightings = {0: {"a": 0}, 2: {"a": 2}, 4: {"b": 9}, 6: {"b": 9}}
        windows = {2: self.window(0, 2, a="x"), 6: self.window(4, 6, b="y")}
        rows = self.place(*self.clip(sightings, windows, 7))
        assert rows == {
            0: [("a", 0, "x")],
            1: [("a", 1, "x")],
            2: [("a", 2, "x")],
            3: [("a", 2, "x")],
            **{number: [("b", 9, "y")] for number in range(4, 8)},
        }

    def test_the_label_is_that_of_the_nearest_window(self):
        sightings = {number: {"a": number} for number in range(8)}
        windows = {end: self.window(*range(end - 3, end + 1), a=str(end)) for end in (3, 5, 7)}
        rows = self.place(*self.clip(sightings, windows, 7), window=4)
        # middles at 1.5, 3.5 and 5.5
        assert [row[0][2] for row in rows.values()] == ["3", "3", "3", "5", "5", "7", "7", "7"]

    def test_who_has_no_action_is_left_out(self):
        sightings = {0: {"a": 0, "b": 5}, 1: {"a": 0, "b": 5}}
        rows = self.place(*self.clip(sightings, {1: self.window(0, 1, b="y")}, 1))
        assert rows == {0: [("b", 5, "y")], 1: [("b", 5, "y")]}

    def test_frames_come_in_order_one_window_late(self):
        held, read, given = [], 0, 0

        def events():
            nonlocal read
            for event in self.clip({n: {"a": 0} for n in range(0, 60, 3)}, {}, 59):
                read += isinstance(event, ClipFrame)
                yield event

        for frame, _ in place_people(events(), 4, 5):
            assert frame.number == given
            given += 1
            held.append(read - given)
        assert given == 60
        assert max(held) <= 4 * 3

    def test_key_frames_are_evenly_spread(self):
        for count in range(1, 70):
            keys = KeyFrames(most=8, side=16)
            frames = [(self.frame(number), list[Placed]()) for number in range(count)]
            assert list(keys.watch(iter(frames))) == frames
            numbers = [round(10 * key.time_s) for key in keys.kept]
            step = 1 if count == 1 else numbers[1] if len(numbers) > 1 else count
            assert numbers == list(range(0, count, step))
            assert min(count, 5) <= len(numbers) <= 8
            assert keys.kept[0].draw().size == (16, 16)


class TestBuilding:
    def test_from_a_model(self):
        model = instances.net(3)
        pipe = pipeline(model, threshold=0.25, stride=3, hop=1)
        assert isinstance(pipe, ClipActionPipeline)
        assert (pipe.threshold, pipe.stride, pipe.hop) == (0.25, 3, 1)
        assert pipe.classes == ("class_0", "class_1", "class_2")

    def test_two_pipelines_of_one_model_do_not_change_each_other(self):
        model = instances.net(3)
        detector = Scripted(model, two)
        first, second, third = pipeline(model, threshold=0.25), pipeline(model, threshold=0.75), pipeline(model)
        for pipe in (first, second, third, first):
            pipe(pixels(1))
        assert detector.thresholds == [0.25, 0.75, 0.5, 0.25]
        assert model.threshold == 0.5

    def test_from_a_saved_model(self, tmp_path):
        model = instances.net(3)
        model.pretrained_cfg["classes"] = list(CLASSES)
        model.save_pretrained(tmp_path)
        assert pipeline(f"local-dir:{tmp_path}").classes == CLASSES

    def test_random_weights_are_refused(self):
        for tag in ("", ".absent"):
            with pytest.raises(RuntimeError, match="no weights for the whole of 'instance_action_tahnet_v3'") as error:
                pipeline(f"instance_action_tahnet_v3{tag}")
            # what to do, and no models of pictures
            assert "actionzoo train --model instance_action_tahnet_v3" in str(error.value)
            assert "give local-dir:DIR" in str(error.value)
            assert "prfnet" not in str(error.value)
        with pytest.raises(RuntimeError, match=r"models of the same task that have some: .*prfnet_tiny"):
            pipeline("prfnet_resnet50")
        with pytest.raises(ValueError, match="no weights tagged 'absent'"):
            pipeline("prfnet_tiny.absent")

    @pytest.mark.parametrize(
        ("settings", "match"),
        [
            ({"threshold": 1.5}, "threshold is a score"),
            ({"stride": 0}, "stride, min_frames and batch are at least 1"),
            ({"batch": 0}, "stride, min_frames and batch are at least 1"),
            ({"hop": 0}, "hop lies in 1 to 4"),
            ({"hop": 5}, "hop lies in 1 to 4"),
            ({"min_frames": 0}, "min_frames and batch are at least 1"),
        ],
    )
    def test_numbers_out_of_range_are_refused(self, settings, match):
        model = instances.net(3)
        with pytest.raises(ValueError, match=match):
            ClipActionPipeline(model, **settings)
        assert model.training

    def test_other_models_are_refused(self):
        with pytest.raises(ValueError, match="ConViTHAR does not label people in clips"):
            ClipActionPipeline(persons.convit())
        model = instances.net(3)
        model.reset_classifier(0)
        with pytest.raises(ValueError, match="has no classifier"):
            ClipActionPipeline(model)

    def test_stride_and_hop_are_for_clips(self):
        for option in ("stride", "hop"):
            with pytest.raises(ValueError, match="stride and hop are for models of clips"):
                pipeline(persons.convit(), **{option: 2})

    def test_another_detector(self):
        model, other = instances.net(3), instances.detector()
        own, names = model.detector, model.state_dict().keys()
        pipe = pipeline(model, detector=other)
        # the model of the caller stays as it is, and shares its head
        assert model.detector is own
        assert pipe.model.head is model.head
        assert pipe.model.pretrained_cfg is not model.pretrained_cfg
        assert model.state_dict().keys() == names
        assert pipe.model.detector is other
        assert not other.training
        assert not any(parameter.requires_grad for parameter in other.parameters())
        assert pipe(pixels(2)).frames == 2

    @pytest.mark.parametrize(
        ("detector", "match"),
        [
            (False, "cannot do without one"),
            (torch.nn.Linear(1, 1), "detector of torchvision's kind, .* got Linear"),
            (lambda pictures: [], "detector of torchvision's kind, .* got function"),
        ],
        ids=["none", "module", "function"],
    )
    def test_what_has_no_pyramid_is_refused(self, detector, match):
        with pytest.raises(ValueError, match=match):
            pipeline(instances.net(3), detector=detector)

    def test_a_detector_of_other_channels_is_refused(self):
        with pytest.raises(ValueError, match="have 16 channels, and the model's head takes 8"):
            pipeline(instances.net(3), detector=instances.detector(out_channels=16))

    def test_a_detector_by_name(self, tmp_path):
        other = instances.detector()
        other.save_pretrained(tmp_path)
        pipe = pipeline(instances.net(3), detector=f"local-dir:{tmp_path}")
        assert_close(pipe.model.detector.state_dict(), other.state_dict())
        persons.convit().save_pretrained(tmp_path / "convit")
        with pytest.raises(ValueError, match="ConViTHAR and no detector"):
            pipeline(instances.net(3), detector=f"local-dir:{tmp_path / 'convit'}")


class TestKeypointDetectors:
    """On pictures they find people with joints."""

    def test_joints_of_a_picture(self):
        detector = instances.detector(box_score_thresh=0.0).eval()
        image = actionzoo.draw.to_image(pixels(8)[:, 7])
        with torch.no_grad():
            found = detector([torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255])[0]
        assert len(found["boxes"]) == 3
        threshold = float(found["scores"][1])
        pipe = pipeline(detector, threshold=threshold)
        assert isinstance(pipe, DetectionPipeline)
        result = pipe(image)
        assert isinstance(result, ActionResult)
        assert len(result.people) == 2
        for person, box, score, joints, logits in zip(
            result.people,
            *list(found.values())[:1],
            *[found[name] for name in ("scores", "keypoints", "keypoints_scores")],
        ):
            assert person.box == pytest.approx(box.tolist())
            assert person.detection == pytest.approx(float(score))
            assert_close(torch.tensor(person.keypoints)[:, :2], joints[:, :2])
            assert_close(torch.tensor(person.keypoints)[:, 2], logits.sigmoid())
        assert result.draw().size == image.size
        row = result.to_dict()["people"][0]
        assert (len(row["keypoints"]), row["label"]) == (17, None)
        with pytest.raises(RuntimeError, match="finds joints, not actions"):
            _ = result.label
