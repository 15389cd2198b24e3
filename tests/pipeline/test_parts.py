import json
import weakref

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import actionzoo
from actionzoo.data.clips import ClipFrame, clip_info, iter_frames, read_clip
from actionzoo.metrics import part_state_roc, read_part_predictions
from actionzoo.models.part_people import PartPeople
from actionzoo.models.segments import segment_bounds
from actionzoo.pipeline import PartParsingPipeline, PartParsingResult, part_lengths, parts, pipeline, save_predictions
from actionzoo.pipeline.clip_source import Pace, open_frames
from actionzoo.pipeline.part_overlay import ROWS, Followed
from tests import instances
from tests.data import videos
from tests.parts import CLASSES, STATES, Scripted, light, net, people

HEIGHT, WIDTH = 32, 48


def one(number):
    """Walks to the right, half a pixel a frame."""
    return people([[4.0 + number / 2, 4.0, 16.0 + number / 2, 28.0]])


def nobody(number):
    return people([])


def pixels(count):
    """`(3, T, H, W)` numbered frames."""
    return torch.stack([torch.from_numpy(videos.picture(i)).permute(2, 0, 1) for i in range(count)], 1)


def frames(count, fps=10.0, step=1):
    """Frames one after the other, as from a camera."""
    return (ClipFrame(step * i, step * i / fps, frame) for i, frame in enumerate(pixels(count).unbind(1)))


def build(script=one, **settings):
    """A pipeline with segments of 0.8 s that looks at every second frame, and what its stages were shown."""
    model = light()
    scripted = Scripted(model, script)
    return PartParsingPipeline(model, **settings), scripted


def bounds(segments):
    return [(segment.start, segment.stop) for segment in segments]


def plain(segments):
    """What is said of segments but for the action."""
    rows = [segment.to_dict() for segment in segments]
    return [{key: row[key] for key in row if key not in ("label", "score", "top")} for row in rows]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """20 frames at 10 per second."""
    return videos.make_video(tmp_path_factory.mktemp("clips") / "walk.mp4", 20)


class TestSegments:
    @pytest.mark.parametrize("count", [1, 3, 8, 11, 12, 13, 20, 33])
    def test_a_video_of_known_length_is_cut_into_equal_ones(self, count):
        pipe, seen = build()
        result = pipe(pixels(count), fps=10)
        expected = segment_bounds(count, 10, 0.8)
        assert bounds(result.segments) == expected
        assert seen.segments == [list(range(start, stop)) for start, stop in expected]
        assert [(s.start_s, s.stop_s) for s in result.segments] == [
            (pytest.approx(start / 10), pytest.approx(stop / 10)) for start, stop in expected
        ]
        assert seen.looked_at == list(result.people) == list(range(0, count, 2))
        for segment in result.segments:
            assert list(segment.people) == [n for n in range(0, count, 2) if segment.start <= n < segment.stop]

    @pytest.mark.parametrize(("fps", "length"), [(10.0, 8), (5.0, 4), (30.0, 24), (2.0, 2)])
    def test_any_other_into_those_of_its_own_pace(self, fps, length):
        pipe, _ = build()
        result = pipe(frames(27, fps))
        starts = list(range(0, 27, length))
        assert bounds(result.segments) == [(start, min(start + length, 27)) for start in starts]
        assert result.fps == pytest.approx(fps)

    def test_frames_that_do_not_say_their_time_take_the_argument(self):
        pipe, _ = build()
        still = (frame._replace(time_s=0.0) for frame in frames(9))
        assert bounds(pipe(still, fps=5.0).segments) == [(0, 4), (4, 8), (8, 9)]

    @pytest.mark.parametrize("known", [True, False], ids=["pixels", "frames"])
    def test_a_length_in_frames(self, known):
        pipe, _ = build(frames_per_segment=6)
        for call in (lambda clip: pipe(clip).segments, pipe.stream):
            assert bounds(call(pixels(14) if known else frames(14))) == [(0, 6), (6, 12), (12, 14)]

    def test_frames_keep_their_own_numbers(self):
        result = build()[0](frames(10, step=3))
        # 10 frames a second and every third of them: 0.8 s are 3 frames, every second of which is looked at
        assert bounds(result.segments) == [(0, 7), (9, 16), (18, 25), (27, 28)]
        assert list(result.people) == [0, 6, 12, 18, 24]

    def test_is_what_the_model_says_of_the_whole(self):
        for coarse in ("independent", "conditioned"):
            model = light()
            model.coarse = coarse
            clip = videos.noise(21, 40, 56)
            expected, result = model.parse(clip, 10.0), PartParsingPipeline(model)(clip, fps=10)
            assert_close(torch.tensor(result.scores), expected.scores, rtol=0, atol=1e-5)
            assert result.label == expected.action
            assert bounds(result.segments) == bounds(expected.segments)
            for segment, other in zip(result.segments, expected.segments):
                assert {p: s.state for p, s in segment.states.items()} == {p: s.state for p, s in other.states.items()}
            assert sum(len(p.boxes) for p in expected.people.values()) > 5
            for number, found in expected.people.items():
                assert all(torch.equal(a, b) for a, b in zip(result.at(number), found))
            assert result.to_challenge() == (expected.action, expected.to_challenge())

    @pytest.mark.parametrize("batch", [2, 3, 16])
    def test_several_frames_at_a_time_give_the_same(self, batch):
        (pipe, seen), (single, _) = build(batch=batch), build()
        result, expected = pipe(pixels(23), fps=10), single(pixels(23), fps=10)
        assert result.segments[0].people.keys() == expected.segments[0].people.keys()
        assert plain(result.segments) == plain(expected.segments)
        assert max(seen.calls) == min(batch, 4)

    def test_threshold_and_step(self):
        pipe, seen = build(lambda n: people([[2, 2, 10, 30], [20, 2, 30, 30]], [0.8, 0.4]), threshold=0.5, every=5)
        result = pipe(pixels(12), fps=10)
        assert seen.looked_at == [0, 5, 10]
        assert [found.scores.tolist() for found in result.people.values()] == [[pytest.approx(0.8)]] * 3

    def test_what_is_set_later_counts(self):
        pipe, seen = build()
        pipe.every, pipe.seconds, pipe.batch = 4, 0.4, 2
        assert bounds(pipe(pixels(12), fps=10).segments) == [(0, 4), (4, 8), (8, 12)]
        assert seen.looked_at == [0, 4, 8]
        pipe.every = 0
        for call in (pipe, pipe.stream):
            with pytest.raises(ValueError, match="whole numbers of at least 1, got 0, 2 and None"):
                call(pixels(3))


class TestAction:
    def test_of_a_known_length_is_told_from_frames_all_over_it(self):
        pipe, seen = build()
        result = pipe(pixels(30), fps=10)
        own = pipe.model.view_frames(30, 3)
        assert seen.videos == [list(sample) for sample in own]
        assert result.scores[1] == pytest.approx(np.mean(own) / 64)
        # in all segments it is the whole video's
        assert {segment.scores for segment in result.segments} == {result.scores}
        assert (result.label, result.score) == (CLASSES[0], result.scores[0])
        assert result.top(2) == list(zip(CLASSES, result.scores))

    @pytest.mark.parametrize("count", [1, 2, 5, 30])
    def test_equals_that_of_the_whole_video_in_memory(self, count):
        model, clip = light(), videos.noise(count, 40, 56)
        with torch.no_grad():
            expected = model.recognise_video(clip)
        assert_close(torch.tensor(PartParsingPipeline(model)(clip, fps=10).scores), expected, rtol=0, atol=1e-5)

    def test_of_an_unknown_length_is_the_mean_over_segments_by_their_frames(self):
        pipe, seen = build()
        result = pipe(frames(20))
        assert bounds(result.segments) == [(0, 8), (8, 16), (16, 20)]
        assert seen.videos == seen.segments
        assert result.scores[1] == pytest.approx(np.mean(range(20)) / 64)

    def test_states_are_those_of_the_action_where_it_counts(self):
        # segment 0 says "walk, none", and all of the video "sit"
        states = {}
        for coarse in ("independent", "conditioned"):
            result = build(coarse=coarse)[0](pixels(8), fps=10)
            states[coarse] = result.segments[0].states
            assert set(states[coarse]) == set(actionzoo.data.figures.PARTS)
        assert {state for state, _ in states["independent"].values()} == {"none"}
        assert {score for _, score in states["independent"].values()} == {0.5}
        assert {state for state, _ in states["conditioned"].values()} == {STATES[2]}
        assert {round(score, 4) for _, score in states["conditioned"].values()} == {0.5}


class TestStream:
    @pytest.mark.parametrize("known", [True, False], ids=["pixels", "frames"])
    def test_equals_the_call(self, known):
        clips = [pixels(27) if known else frames(27) for _ in range(2)]
        result, segments = build()[0](clips[0], fps=10), list(build()[0].stream(clips[1], fps=10))
        assert plain(segments) == plain(result.segments)
        assert len(segments) == (3 if known else 4)
        if not known:
            assert segments[-1].scores == result.scores

    def test_the_action_is_that_so_far(self):
        segments = list(build()[0].stream(frames(20)))
        assert [segment.scores[1] for segment in segments] == [
            pytest.approx(np.mean(range(segment.stop)) / 64) for segment in segments
        ]
        assert segments[0].label == CLASSES[0]
        assert segments[0].score == max(segments[0].scores)

    def test_comes_as_soon_as_a_segment_is_over(self):
        read = []

        def watched():
            for frame in frames(20):
                read.append(frame.number)
                yield frame

        stops = [(segment.stop, len(read)) for segment in build()[0].stream(watched())]
        assert stops == [(8, 8), (16, 16), (20, 20)]


class TestMemory:
    """Arrays behind tensors are counted while they live."""

    @staticmethod
    def counted(alive, size, count=60):
        for i in range(count):
            array = np.zeros((3, *size), dtype=np.uint8)
            alive.append(weakref.ref(array))
            yield ClipFrame(i, i / 10, torch.from_numpy(array))
            del array

    @pytest.mark.parametrize("batch", [1, 3])
    def test_frames_are_kept_small(self, batch):
        pipe, alive, most = build(nobody, batch=batch, every=3)[0], [], []
        for _ in pipe.stream(self.counted(alive, (64, 96))):
            most.append(sum(ref() is not None for ref in alive))
        # one that is read, and those that wait for the detectors, of which there are none now
        assert len(most) == 8
        assert max(most[:-1]) <= 1

    def test_of_a_segment_no_more_than_its_frames(self):
        # as small as they are, they are kept as they are
        pipe, alive, most = build(nobody)[0], [], []
        for _ in pipe.stream(self.counted(alive, (HEIGHT, WIDTH))):
            most.append(sum(ref() is not None for ref in alive))
        assert max(most) <= 8
        assert sum(ref() is not None for ref in alive) == 0

    def test_of_a_video_those_that_its_action_is_told_from(self, monkeypatch):
        pipe, alive, most = build(nobody)[0], [], []
        monkeypatch.setattr(parts, "measure_video", lambda *_: Pace(10.0, 60))
        own = pipe.model.recognise
        pipe.model.recognise = lambda p: most.append(sum(ref() is not None for ref in alive)) or own(p)
        result = pipe(self.counted(alive, (HEIGHT, WIDTH)))
        assert result.frames == 60
        # three clips of four frames, those of a segment, and one that is read
        assert max(most) <= 3 * 4 + 9


class TestSources:
    def test_all_forms_of_a_video_give_the_same(self, video, tmp_path):
        clip, folder = read_clip(video, 20), tmp_path / "frames"
        folder.mkdir()
        for i in range(20):
            actionzoo.draw.to_image(clip[:, i]).save(folder / f"{i}.png")
        pipe, _ = build(frames_per_segment=8)
        with video.open("rb") as pipe_in:
            forms = {
                "file": pipe(video),
                "text": pipe(str(video)),
                "folder": pipe(folder, fps=10),
                "pixels": pipe(clip, fps=10),
                "pipe": pipe(pipe_in),
                "frames": pipe(iter_frames(video)),
            }
        expected = plain(forms["file"].segments)
        assert bounds(forms["file"].segments) == [(0, 8), (8, 16), (16, 20)]
        for name, result in forms.items():
            assert plain(result.segments) == expected, name
            assert (result.frames, result.fps) == (20, pytest.approx(10, rel=1e-3)), name
            told = "pipe" if name in ("pipe", "frames") else "file"
            assert result.scores == forms[told].scores, name
        named = {name: result.name for name, result in forms.items()}
        assert named == dict.fromkeys(("file", "text", "pipe"), "walk") | {
            "folder": "frames", "pixels": None, "frames": None,
        }  # fmt: skip

    def test_a_list_gives_a_list(self, video):
        first, second = build()[0]([video, pixels(3)])
        assert (first.frames, second.frames) == (20, 3)

    @pytest.mark.parametrize(
        ("clip", "error", "match"),
        [
            ("absent.mp4", FileNotFoundError, "absent.mp4"),
            (torch.zeros(3, 4, 8, 8), ValueError, r"\(3, T, H, W\) uint8, got \(3, 4, 8, 8\) torch.float32"),
            (torch.zeros(3, 0, 8, 8, dtype=torch.uint8), ValueError, r"got \(3, 0, 8, 8\)"),
            (iter([]), RuntimeError, "no frames"),
            (iter([torch.zeros(3, 8, 8)]), TypeError, "ClipFrames .* got Tensor"),
            (ClipFrame(0, 0.0, torch.zeros(3, 8, 8)), TypeError, "got ClipFrame"),
            (1.5, TypeError, "got float"),
        ],
        ids=["absent", "float", "empty", "no-frames", "tensors", "one-frame", "number"],
    )
    def test_what_is_no_video_is_refused(self, clip, error, match):
        with pytest.raises(error, match=match):
            build()[0](clip)

    def test_an_unreadable_file(self, tmp_path):
        (tmp_path / "broken.mp4").write_bytes(b"no video")
        with pytest.raises(RuntimeError, match=r"broken\.mp4 cannot be read"):
            build()[0](tmp_path / "broken.mp4")

    def test_frames_may_not_change_their_size(self):
        changing = (ClipFrame(i, i / 10, pixels(4)[:, i, :, : 48 - 8 * (i > 1)]) for i in range(4))
        with pytest.raises(RuntimeError, match="change their size from 48 x 32 to 40 x 32"):
            build()[0](changing)

    def test_a_file_without_a_frame_rate(self, video, monkeypatch):
        monkeypatch.setattr(part_lengths, "measure", lambda clip, fps: Pace(None, 20))
        with pytest.warns(RuntimeWarning, match=r"walk.mp4 does not say its frame rate; it is taken for 5 frames"):
            result = build()[0](video, fps=5)
        assert (result.fps, bounds(result.segments)) == (5, segment_bounds(20, 5, 0.8))
        with pytest.warns(RuntimeWarning, match="does not say its frame rate"):
            assert bounds(build()[0].stream(video, fps=5)) == bounds(result.segments)

    @pytest.mark.parametrize(("told", "expected"), [(40, [(0, 8), (8, 16), (16, 20)]), (10, [(0, 10), (10, 20)])])
    def test_a_file_that_is_longer_or_shorter_than_it_says(self, video, monkeypatch, told, expected):
        monkeypatch.setattr(part_lengths, "measure", lambda clip, fps: Pace(10.0, told))
        pipe, seen = build()
        result = pipe(video)
        assert (bounds(result.segments), result.frames) == (expected, 20)
        # in place of the frames that never came stands the last
        assert seen.videos == [
            [min(index, 19) for index in sample]
            for sample in dict.fromkeys(tuple(min(i, 19) for i in s) for s in pipe.model.view_frames(told, 3))
        ]

    def test_a_file_cut_short_is_parsed_as_far_as_it_goes(self, tmp_path):
        whole = videos.make_video(tmp_path / "whole.mp4", 40, container_options={"movflags": "faststart"})
        data = whole.read_bytes()
        (tmp_path / "cut.mp4").write_bytes(data[: (data.index(b"mdat") + 2 * len(data)) // 3])
        with pytest.warns(RuntimeWarning, match=r"cut.mp4 is damaged") as caught:
            result = build()[0](tmp_path / "cut.mp4")
        assert len(caught) == 1
        assert 8 < result.frames < 40
        assert result.segments[-1].stop == result.frames

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
            return one(number)

        monkeypatch.setattr(parts, "open_frames", opened)
        pipe, _ = build(script)
        if end == "stream":
            stream = pipe.stream(pixels(20), fps=10)
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
    def test_nobody(self, tmp_path):
        result = build(nobody)[0](pixels(6), fps=10)
        assert isinstance(result, PartParsingResult)
        assert [len(found.boxes) for found in result.people.values()] == [0, 0, 0]
        action, found = result.to_challenge()
        assert action == result.label
        assert found == {f"img_{n:05d}.json": {"humans": []} for n in (1, 3, 5)}
        assert json.loads(result.to_json())["counts"] == {"frames": 6, "sampled": 3, "segments": 1, "people": 0}
        assert result.draw().width > 0
        result.save_video(tmp_path / "a.mp4")
        assert clip_info(tmp_path / "a.mp4").frames == 6

    @pytest.mark.parametrize("known", [True, False], ids=["pixels", "frames"])
    def test_one_frame(self, known, tmp_path):
        clip = pixels(1) if known else frames(1)
        result = build()[0](clip, fps=10)
        assert (result.frames, result.fps, bounds(result.segments)) == (1, 10, [(0, 1)])
        assert list(result.to_challenge()[1]) == ["img_00001.json"]

    def test_at(self):
        result = build()[0](pixels(12), fps=10)
        assert result.at(4).boxes.tolist() == [[6.0, 4.0, 18.0, 28.0]]
        with pytest.raises(ValueError, match="frame 7 was not looked at; the nearest that was is 6"):
            result.at(7)

    def test_json(self):
        result = build()[0](pixels(20), fps=10)
        row = json.loads(result.to_json(1))
        assert row["counts"] == {"frames": 20, "sampled": 10, "segments": 2, "people": 10}
        assert (row["model"], row["fps"], row["label"]) == ("pcf_tiny", 10, CLASSES[0])
        assert row["speed"] > 0
        assert len(row["top"]) == len(row["segments"][0]["top"]) == 1
        segment = row["segments"][1]
        assert (segment["start"], segment["stop"], segment["start_s"], segment["stop_s"]) == (10, 20, 1.0, 2.0)
        assert segment["states"]["left_arm"]["state"] in STATES
        (person,) = segment["people"]["12"]
        assert person["box"] == [10.0, 4.0, 22.0, 28.0]
        assert person["parts"]["head"] == {
            "box": [10.0, 4.0, 22.0, 6.4], "score": 0.8, "state": segment["states"]["head"]["state"],
        }  # fmt: skip
        assert person["parts"]["right_leg"]["score"] == 0
        assert person["keypoints"][0] == [16.0, 16.0, 1.0]

    def test_parts_without_a_box_are_left_out(self):
        def script(number):
            found = one(number)
            found.part_boxes[:, 3] = 0
            return found

        result = build(script)[0](pixels(2), fps=10)
        assert "right_arm" not in json.loads(result.to_json())["segments"][0]["people"]["0"][0]["parts"]
        assert "right_arm" not in result.to_challenge()[1]["img_00001.json"]["humans"][0]["parts"]
        assert result.draw(0).width > 0

    def test_at_most_ten_people(self, tmp_path):
        crowd = people([[i, 2.0, i + 5.0, 30.0] for i in range(14)])
        result = build(lambda number: crowd)[0](pixels(4), fps=10)
        assert len(result.to_challenge()[1]["img_00001.json"]["humans"]) == 10
        result.save(tmp_path / "out", "many")
        assert list(read_part_predictions(tmp_path / "out")["action"]) == ["many"]

    def test_the_files_of_the_challenge(self, video, tmp_path):
        pipe, _ = build()
        results = [pipe(video), pipe(pixels(9), fps=10)]
        save_predictions(results, tmp_path / "both", ["a", "b"])
        found = read_part_predictions(tmp_path / "both")
        assert found["action"] == {"a": results[0].label, "b": results[1].label}
        truth = json.loads(json.dumps(found))
        for content in (c for frames in truth["parts"].values() for c in frames.values()):
            for part in (part for person in content["humans"] for part in person["parts"].values()):
                part["box"], part["verb"] = part["box"][0], part["verb"][0]
        assert part_state_roc(truth, found) == pytest.approx(0.9999)
        # a video is called by its file
        results[0].save(tmp_path / "one")
        assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
            "pred_part_result.json",
            "pred_vid_result.json",
        ]
        assert list(read_part_predictions(tmp_path / "one")["parts"]) == ["walk"]

    def test_names_that_do_not_tell_videos_apart_are_refused(self, video, tmp_path):
        pipe, _ = build()
        result, unnamed = pipe(video), pipe(pixels(2))
        with pytest.raises(ValueError, match=r"two videos are called 'walk', .* give names="):
            save_predictions([result, result], tmp_path / "out")
        with pytest.raises(ValueError, match="without a file has no name"):
            unnamed.save(tmp_path / "out")
        with pytest.raises(ValueError, match="a name for each of 2 videos, got 1"):
            save_predictions([result, unnamed], tmp_path / "out", ["a"])
        assert not (tmp_path / "out").exists()


class TestPictures:
    def test_of_a_frame(self, video):
        pipe, _ = build()
        for result in (pipe(video), pipe(read_clip(video, 20), fps=10)):
            picture = result.draw(6)
            # enlarged twelve times to be readable, with a panel below
            assert picture.width == 12 * WIDTH
            assert picture.height > 12 * HEIGHT
            assert picture != result.draw(6, threshold=0.95)
            assert picture != result.draw(6, joints=True)
            with pytest.raises(ValueError, match="frame 5 was not looked at"):
                result.draw(5)

    def test_the_default_is_the_surest_of_those_kept(self):
        def script(number):
            return people([[4, 4, 30, 28]], [0.9 if number == 4 else 0.5])

        pipe, _ = build(script)
        result, streamed = pipe(pixels(12), fps=10), pipe(frames(12))
        assert [key.number for key in result.key_pictures] == [0, 2, 4, 6, 8, 10]
        assert result.draw().tobytes() == result.draw(4).tobytes()
        # kept pictures need no second reading
        assert streamed.draw().size == result.draw().size
        with pytest.raises(RuntimeError, match="this video cannot be read again"):
            streamed.draw(4)

    def test_a_few_are_kept_of_a_long_video(self):
        result = build(nobody, every=1)[0](pixels(40), fps=10)
        assert [key.number for key in result.key_pictures] == [0, 8, 16, 24, 32]

    def test_a_part_outside_the_frame(self, tmp_path):
        far = people([[-40.0, -30.0, 100.0, 90.0], [200.0, 200.0, 220.0, 240.0]])
        result = build(lambda number: far)[0](pixels(4), fps=10)
        assert result.draw(0).width == 12 * WIDTH
        result.save_video(tmp_path / "a.mp4")
        assert result.to_challenge()[1]["img_00001.json"]["humans"][0]["box"] == [-40.0, -30.0, 99.0, 89.0]

    def test_the_panel_lists_every_part(self):
        assert sorted(ROWS) == sorted(actionzoo.data.figures.PARTS)
        assert ROWS[:4] == ("head", "hip", "right_arm", "left_arm")


class TestFollowed:
    def test_boxes_between_two_sightings(self):
        followed = Followed({0: one(0), 4: one(8), 8: one(8)}, 0.3)
        for number, x in ((0, 4.0), (1, 5.0), (2, 6.0), (4, 8.0), (6, 8.0), (9, 8.0)):
            found, ids = followed.at(number)
            assert ids == [0]
            assert found.boxes.tolist() == [[x, 4.0, x + 12, 28.0]]
            assert_close(found.part_boxes, people(found.boxes.tolist()).part_boxes)
            assert found.keypoints[0, 0].tolist() == [x + 6, 16.0, 1.0]

    def test_who_is_not_seen_again_stays_till_the_next_look(self):
        followed = Followed({0: one(0), 3: one(0), 6: nobody(6), 9: one(40)}, 0.3)
        assert [followed.at(n)[1] for n in (0, 5, 6, 8, 9, 20)] == [[0], [0], [], [], [1], [1]]

    def test_a_gap_is_bridged(self):
        followed = Followed({0: one(0), 2: nobody(2), 4: one(4)}, 0.3)
        assert followed.at(2)[0].boxes.tolist() == [[5.0, 4.0, 17.0, 28.0]]

    def test_who_scores_less_is_left_out(self):
        both = people([[2, 2, 10, 30], [20, 2, 30, 30]], [0.9, 0.2])
        assert Followed({0: both}, 0.3).at(0)[0].boxes.tolist() == [[2, 2, 10, 30]]
        assert len(Followed({0: both}, 0.1).at(0)[0].boxes) == 2

    def test_people_keep_their_parts_when_their_order_changes(self):
        there = people([[2, 2, 10, 30], [30, 2, 44, 30]])
        turned = PartPeople(*(values.flip(0) for values in there))
        found, ids = Followed({0: there, 4: turned}, 0.3).at(2)
        assert ids == [0, 1]
        assert_close(found.boxes, there.boxes)

    def test_a_part_that_is_missing_at_one_end_does_not_fly_to_the_corner(self):
        before, after = one(0), one(8)
        after.part_boxes[:, 2] = 0
        before.part_boxes[:, 5] = 0
        found, _ = Followed({0: before, 4: after}, 0.3).at(2)
        assert found.part_boxes[0, 2].tolist() == before.part_boxes[0, 2].tolist()
        assert not found.part_boxes[0, 5].any()


class TestWritten:
    def test_size_rate_and_length_are_those_of_the_video(self, tmp_path):
        path = videos.make_video(tmp_path / "large.mp4", 9, size=(362, 400))
        result = build(nobody)[0](path)
        result.save_video(tmp_path / "out.mp4")
        info = clip_info(tmp_path / "out.mp4")
        assert (info.frames, info.fps, info.height) == (9, 10, 362)
        assert info.width > 400
        clip = read_clip(tmp_path / "out.mp4", 9)
        assert videos.numbers(clip[..., :400]) == list(range(9))
        # the panel is white but for its words
        assert clip[..., 404:].float().mean() > 200

    def test_people_move_between_the_frames_that_were_looked_at(self, tmp_path):
        path = videos.make_video(tmp_path / "large.mp4", 9, size=(368, 400))

        def script(number):
            return people([[10.0 + 20 * number, 60.0, 60.0 + 20 * number, 340.0]])

        build(script, every=4)[0](path).save_video(tmp_path / "out.mp4")
        drawn, plain_clip = read_clip(tmp_path / "out.mp4", 9).int(), read_clip(path, 9).int()
        changed = (drawn[..., :400] - plain_clip).abs().amax(0)[:, 100:300]
        for t in range(9):
            columns = (changed[t] > 60).float().mean(0)
            assert abs(int(columns.argmax()) - (10 + 20 * t)) < 8 or abs(int(columns.argmax()) - (60 + 20 * t)) < 8

    def test_a_video_that_cannot_be_read_again(self, video, tmp_path):
        result = build()[0](iter_frames(video))
        with pytest.raises(RuntimeError, match=r"this video cannot be read again.*write_clip"):
            result.save_video(tmp_path / "a.mp4")
        for clip in (iter_frames(video), 0, "-", "rtsp://host/a"):
            with pytest.raises(RuntimeError, match="cannot be read again, which an annotated video takes"):
                build()[0].annotate(clip, tmp_path / "a.mp4")
        with pytest.raises(FileNotFoundError, match=r"absent\.mp4"):
            build()[0].annotate("absent.mp4", tmp_path / "a.mp4")

    def test_lines_are_the_segments(self, video, tmp_path):
        result = build()[0].annotate(video, tmp_path / "a.mp4", tmp_path / "a.jsonl")
        rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
        assert rows == [json.loads(json.dumps(segment.to_dict())) for segment in result.segments]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.mp4"]
        assert clip_info(tmp_path / "a.mp4").frames == 20

    @pytest.mark.parametrize(("seconds", "count"), [(0.5, 5), (0.55, 6), (5, 20), (0.01, 1)])
    def test_seconds(self, video, tmp_path, seconds, count):
        pipe, seen = build()
        result = pipe.annotate(video, tmp_path / "a.mp4", seconds=seconds)
        assert (result.frames, clip_info(tmp_path / "a.mp4").frames) == (count, count)
        assert max(max(sample) for sample in seen.videos) < count
        for wrong in (0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="seconds is more than 0"):
                pipe.annotate(video, seconds=wrong)

    @pytest.mark.parametrize(
        ("target", "error", "match"),
        [
            ("a.webm", ValueError, "ends in .mp4"),
            ("absent/a.mp4", FileNotFoundError, "no such folder"),
            ("clip.mp4", ValueError, "clip.mp4 is read from or written to already"),
        ],
    )
    def test_what_cannot_be_written_is_refused_before_a_frame_is_read(self, video, tmp_path, target, error, match):
        (tmp_path / "clip.mp4").write_bytes(video.read_bytes())
        pipe, seen = build()
        with pytest.raises(error, match=match):
            pipe.annotate(tmp_path / "clip.mp4", tmp_path / target)
        assert seen.looked_at == []
        if target == "clip.mp4":
            with pytest.raises(ValueError, match="is the video that is read"):
                pipe(tmp_path / "clip.mp4").save_video(tmp_path / "clip.mp4")


class TestBuild:
    def test_by_the_factory(self):
        model = light()
        pipe = pipeline(model, threshold=0.4, stride=3)
        assert isinstance(pipe, PartParsingPipeline)
        assert (pipe.threshold, pipe.every, pipe.seconds, pipe.coarse) == (0.4, 3, 0.8, "independent")
        defaults = pipeline(model)
        assert (defaults.threshold, defaults.every) == (0.0, 2)
        chosen = pipeline(model, seconds=1.5, coarse="conditioned", batch=4)
        assert (chosen.seconds, chosen.coarse, chosen.batch) == (1.5, "conditioned", 4)
        assert pipeline(model, frames_per_segment=9).frames_per_segment == 9
        with pytest.raises(ValueError, match=r"seconds, batch are for pcf_.*got InstanceActionNet"):
            pipeline(instances.net(3), seconds=1.5, batch=4)
        for wrong in ({"hop": 2}, {"detector": "person_tiny"}, {"detector": False}):
            with pytest.raises(ValueError, match="hop and detector are for instance_action"):
                pipeline(model, **wrong)

    def test_saved_and_loaded_again(self, tmp_path):
        model, clip = net(), videos.noise(9, 40, 56)
        model.save_pretrained(tmp_path / "saved")
        expected, result = pipeline(model)(clip, fps=10), pipeline(f"local-dir:{tmp_path / 'saved'}")(clip, fps=10)
        assert plain(result.segments) == plain(expected.segments)
        assert result.scores == pytest.approx(expected.scores, abs=1e-5)

    def test_networks_for_clips_in_half_precision(self):
        scores = []
        for dtype in (torch.float32, torch.bfloat16):
            model = net()
            for part in (model.video_net, model.part_nets):
                part.to(dtype)
            scores.append(torch.tensor(PartParsingPipeline(model)(videos.noise(9, 40, 56), fps=10).scores))
        assert_close(*scores, rtol=0, atol=0.2)

    def test_models_that_cannot_parse_are_refused(self):
        with pytest.raises(ValueError, match="InstanceActionNet does not parse parts in videos; give a pcf_"):
            PartParsingPipeline(instances.net(3))
        model = net()
        with pytest.raises(ValueError, match=r"found in float32, and the person_detector is in torch\.bfloat16"):
            PartParsingPipeline(model.bfloat16())
        model = light()
        del model.pretrained_cfg["classes"]
        with pytest.raises(RuntimeError, match="names of this PCF's 2 actions are not known"):
            PartParsingPipeline(model)
        model = light()
        model.labeler = None
        with pytest.raises(RuntimeError, match="has no vocabulary"):
            PartParsingPipeline(model)

    @pytest.mark.parametrize(
        ("settings", "match"),
        [
            ({"threshold": 1.5}, "threshold is a score in"),
            ({"every": 0}, "whole numbers of at least 1, got 0, 1 and None"),
            ({"batch": 0}, "got 2, 0 and None"),
            ({"frames_per_segment": 0}, "got 2, 1 and 0"),
            ({"every": 1.5}, "whole numbers"),
            ({"batch": float("inf")}, "whole numbers"),
            ({"seconds": 0.0}, "seconds of a segment are a positive number, got 0.0"),
            ({"seconds": float("nan")}, "positive number, got nan"),
            ({"coarse": "both"}, "coarse is 'independent' or 'conditioned', got 'both'"),
            ({"seconds": 2.0, "frames_per_segment": 30}, "not in both"),
        ],
    )
    def test_settings_out_of_range(self, settings, match):
        with pytest.raises(ValueError, match=match):
            PartParsingPipeline(light(), **settings)
