"""Parsed videos in the challenge's form: frame by frame as worked out by hand, and the truth scores all there is."""

import json

import pytest
import torch

from actionzoo.data.figures import PARTS, ActingFigures
from actionzoo.data.part_videos import FigurePartVideos, frame_number, true_people
from actionzoo.metrics import (
    part_state_correctness,
    part_state_roc,
    read_part_predictions,
    write_part_predictions,
)
from actionzoo.models import ParsedSegment, ParsedVideo, PartPeople, PartState

STATES = {part: PartState(f"{part}_still", 0.5) for part in PARTS}
MOVING = {part: PartState(f"{part}_moves", 0.5) for part in PARTS}


def people(*rows, joints=17):
    """People whose ten parts have the person's box, moved by the part's number."""
    boxes = torch.tensor(rows, dtype=torch.float).reshape(-1, 4)
    parts = boxes[:, None] + torch.arange(10.0)[:, None]
    return PartPeople(boxes, torch.ones(len(boxes)), torch.zeros(len(boxes), joints, 3), parts, parts[..., 0])


def parsed(frames, *segments):
    return ParsedVideo("jump", torch.tensor([0.3, 0.7]), list(segments), frames)


def of_truth(videos, i, every=1, segment=1):
    """A video parsed without a mistake, in segments of so many frames that have the states of their first."""
    annotations = videos.annotations(i)
    frames = {frame_number(name) - 1: content for name, content in annotations.items()}
    segments = []
    for start in range(0, videos.length(i), segment):
        states = dict.fromkeys(PARTS, "none")
        if start in frames:
            states |= {name: part["verb"] for name, part in frames[start]["humans"][0]["parts"].items()}
        states = {name: PartState(state, 1.0) for name, state in states.items()}
        segments.append(ParsedSegment(start, min(start + segment, videos.length(i)), states))
    looked = {}
    for t, content in frames.items():
        if t % every == 0:
            boxes, parts = true_people(content)
            looked[t] = PartPeople(boxes, torch.ones(len(boxes)), torch.zeros(len(boxes), 17, 3), parts, parts[..., 0])
    return ParsedVideo(videos.action(i), torch.ones(1), segments, looked)


class TestFrames:
    def test_hand_worked(self):
        video = parsed({0: people((2, 3, 12, 33.5))}, ParsedSegment(0, 5, STATES))
        assert list(video.to_challenge()) == ["img_00001.json"]
        (human,) = video.to_challenge()["img_00001.json"]["humans"]
        assert (human["number"], human["box"]) == (1, [2, 3, 11, 32.5])
        assert list(human["parts"]) == list(PARTS)
        for k, name in enumerate(PARTS):
            box = [2 + k, 3 + k, 11 + k, 32.5 + k]
            assert human["parts"][name] == {"number": 1, "box": [box], "verb": [f"{name}_still"]}

    def test_states_are_those_of_the_frames_segment(self):
        segments = ParsedSegment(0, 4, STATES), ParsedSegment(4, 5, MOVING), ParsedSegment(5, 11, STATES)
        frames = video_states(parsed({t: people((0, 0, 9, 9)) for t in (10, 5, 0, 4, 3)}, *segments))
        assert frames == {1: "still", 4: "still", 5: "moves", 6: "still", 11: "still"}

    def test_segments_in_which_no_frame_was_looked_at(self):
        segments = [ParsedSegment(t, t + 1, MOVING if t == 6 else STATES) for t in range(9)]
        assert video_states(parsed({0: people((0, 0, 9, 9)), 6: people((0, 0, 9, 9))}, *segments)) == {
            1: "still",
            7: "moves",
        }

    def test_names_count_from_one(self):
        video = parsed({t: people() for t in (0, 5, 99_999)}, ParsedSegment(0, 100_000, STATES))
        assert list(video.to_challenge()) == ["img_00001.json", "img_00006.json", "img_100000.json"]
        assert all(content == {"humans": []} for content in video.to_challenge().values())

    def test_no_more_than_ten_people_the_surest_first(self):
        video = parsed({0: people(*[(k, 0, k + 5, 5) for k in range(13)])}, ParsedSegment(0, 1, STATES))
        humans = video.to_challenge()["img_00001.json"]["humans"]
        assert [human["number"] for human in humans] == list(range(1, 11))
        assert [human["box"][0] for human in humans] == list(range(10))

    def test_a_part_of_which_nothing_is_known_is_left_out(self):
        frame = people((2, 3, 12, 33))
        frame.part_boxes[0, 3] = 0
        (human,) = parsed({0: frame}, ParsedSegment(0, 1, STATES)).to_challenge()["img_00001.json"]["humans"]
        assert set(PARTS) - set(human["parts"]) == {PARTS[3]}

    def test_a_box_thinner_than_a_pixel_is_not_turned_inside_out(self):
        video = parsed({0: people((7.25, 3, 7.5, 3.5))}, ParsedSegment(0, 1, STATES))
        (human,) = video.to_challenge()["img_00001.json"]["humans"]
        assert human["box"] == [7.25, 3, 7.25, 3]

    def test_a_video_of_which_no_frame_was_looked_at(self):
        assert parsed({}, ParsedSegment(0, 1, STATES)).to_challenge() == {}

    def test_it_is_json_and_the_challenges_files(self, tmp_path):
        frames = {0: people((2, 3, 12, 33.5), (5, 5, 5.5, 6)), 5: people()}
        content = parsed(frames, ParsedSegment(0, 9, STATES)).to_challenge()
        assert json.loads(json.dumps(content)) == content
        prediction = {"action": {"clip": "jump"}, "parts": {"clip": content}}
        write_part_predictions(tmp_path, prediction)
        assert read_part_predictions(tmp_path) == prediction


def video_states(video):
    """State of everybody's head by the number of the frame, from 1."""
    found = {}
    for name, content in video.to_challenge().items():
        states = {part["verb"][0] for human in content["humans"] for part in human["parts"].values()}
        assert len({state.rpartition("_")[2] for state in states}) == 1
        found[frame_number(name)] = states.pop().rpartition("_")[2]
    return found


class TestScore:
    def truth(self, videos):
        return {
            "action": {videos.name(i): videos.action(i) for i in range(len(videos))},
            "parts": {videos.name(i): videos.annotations(i) for i in range(len(videos))},
        }

    def prediction(self, videos, parses):
        return {
            "action": {videos.name(i): video.action for i, video in enumerate(parses)},
            "parts": {videos.name(i): video.to_challenge() for i, video in enumerate(parses)},
        }

    @pytest.mark.parametrize("every", [1, 5], ids=lambda every: f"every-{every}")
    def test_the_truth_scores_all_there_is(self, every):
        videos = FigurePartVideos(ActingFigures("parts", "test", 6, 64, frames=13), every=every)
        parses = [of_truth(videos, i, every) for i in range(6)]
        truth, prediction = self.truth(videos), self.prediction(videos, parses)
        assert set(part_state_correctness(truth, prediction).values()) == {1.0}
        assert part_state_roc(truth, prediction) == pytest.approx(0.9999, abs=1e-12)

    def test_mistakes_cost_what_they_should(self):
        """One wrong state of ten in a quarter of the frames, and every other frame not looked at."""
        videos = FigurePartVideos(ActingFigures("parts", "test", 1, 64, frames=8))
        video = of_truth(videos, 0)
        wrong = [
            segment._replace(states=segment.states | {"head": PartState("gone", 1.0)}) if segment.start < 2 else segment
            for segment in video.segments
        ]
        assert all(len(h["parts"]) == 10 for c in videos.annotations(0).values() for h in c["humans"])
        truth = self.truth(videos)
        found = part_state_correctness(truth, self.prediction(videos, [video._replace(segments=wrong)]))
        assert found[videos.name(0)] == pytest.approx((2 * 0.9 + 6) / 8)
        half = video._replace(people={t: people for t, people in video.people.items() if t % 2 == 0})
        found = part_state_correctness(truth, self.prediction(videos, [half]))
        assert found[videos.name(0)] == pytest.approx(0.5)
        prediction = self.prediction(videos, [video._replace(action="none")])
        assert part_state_roc(truth, prediction) == 0

    def test_frames_between_the_annotated_ones_do_not_matter(self):
        figures = ActingFigures("parts", "test", 2, 64, frames=12)
        sparse, dense = FigurePartVideos(figures, every=5), FigurePartVideos(figures)
        prediction = self.prediction(dense, [of_truth(dense, i) for i in range(2)])
        assert part_state_roc(self.truth(sparse), prediction) == pytest.approx(0.9999, abs=1e-12)


def test_people_move_to_another_device_as_a_whole(device):
    frame = people((1, 2, 3, 4)).to(device)
    assert {values.device.type for values in frame} == {device.type}
    assert isinstance(frame, PartPeople)
    assert torch.equal(frame.to("cpu").part_boxes, people((1, 2, 3, 4)).part_boxes)
