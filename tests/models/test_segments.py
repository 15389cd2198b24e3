import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actionzoo.data.figures import PART_STATES, PARTS, ActingFigures, part_group
from actionzoo.metrics import part_state_correctness
from actionzoo.training import (
    PART_GROUPS,
    SegmentLabel,
    SegmentLabeler,
    figure_annotations,
    segment_bounds,
)

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "part_state" / "golden.json"
BOX = [0, 0, 9, 9]


def frame(*people):
    """A frame whose people are given by the states of their parts."""
    parts = [{name: {"box": BOX, "verb": state} for name, state in states.items()} for states in people]
    return {"humans": [{"box": BOX, "parts": each} for each in parts]}


def video(*frames, every=1):
    return {f"img_{every * t + 1:05d}.json": content for t, content in enumerate(frames)}


def only(frames, group, **settings):
    """The states of a group in the only segment of a video."""
    (segment,) = SegmentLabeler.segments("kick", frames, **{"fps": 10, **settings})
    return segment.labels[group].states


def test_groups_hold_all_parts_once():
    assert sorted(sum(PART_GROUPS.values(), ())) == sorted(PARTS)
    assert all(part_group(part) == group for group, parts in PART_GROUPS.items() for part in parts)
    assert set(PART_GROUPS) == set(PART_STATES)


class TestBounds:
    @pytest.mark.parametrize(
        ("frames", "fps", "bounds"),
        [
            (300, 30, [(0, 100), (100, 200), (200, 300)]),
            (100, 25, [(0, 100)]),
            (115, 25, [(0, 57), (57, 115)]),
            (10, 30, [(0, 10)]),
            (1, 30, [(0, 1)]),
            (2, 0.1, [(0, 1), (1, 2)]),
        ],
        ids=["ten_seconds", "four", "more_than_four_and_a_half", "short", "one_frame", "a_frame_in_ten_seconds"],
    )
    def test_hand_worked_cases(self, frames, fps, bounds):
        assert segment_bounds(frames, fps) == bounds

    @settings(max_examples=100, deadline=None)
    @given(st.integers(1, 2000), st.floats(0.5, 120), st.floats(0.2, 20))
    def test_cover_the_video_in_equal_parts(self, frames, fps, seconds):
        bounds = segment_bounds(frames, fps, seconds)
        assert bounds[0][0] == 0
        assert bounds[-1][1] == frames
        assert all(before[1] == after[0] for before, after in pairwise(bounds))
        lengths = [stop - start for start, stop in bounds]
        assert min(lengths) >= 1
        assert max(lengths) - min(lengths) <= 1
        assert len(bounds) == min(frames, max(1, round(frames / fps / seconds)))

    @pytest.mark.parametrize("arguments", [(0, 25), (10, 0), (10, float("nan")), (10, 25, -1)])
    def test_numbers_that_are_not_positive(self, arguments):
        with pytest.raises(ValueError, match="is a positive number"):
            segment_bounds(*arguments)


class TestLabels:
    def test_names(self):
        arms = SegmentLabel("belly_dancing", "arm", ("bend", "hang"))
        assert str(arms) == "belly_dancing_R_arm_bend_L_arm_hang"
        assert str(SegmentLabel("hurling_sport", "head", ("none",))) == "hurling_sport_head_none"
        assert arms.parts() == {"right_arm": "bend", "left_arm": "hang"}
        assert str(arms.flipped()) == "belly_dancing_R_arm_hang_L_arm_bend"

    def test_most_frequent_state(self):
        assert only(video(frame({"head": "nod"}), frame({"head": "turn"}), frame({"head": "nod"})), "head") == ("nod",)

    def test_sides_are_counted_together(self):
        """Right: bend 3 of 5; left: hang 3 of 5; but the two together only once, and another pair twice."""
        pairs = [("bend", "hang"), ("bend", "up"), ("bend", "up"), ("down", "hang"), ("out", "hang")]
        frames = video(*[frame({"right_arm": right, "left_arm": left}) for right, left in pairs])
        assert only(frames, "arm") == ("bend", "up")

    def test_all_people_vote(self):
        first = frame({"hip": "bend"}, {"hip": "straight"}, {"hip": "straight"})
        assert only(video(first), "hip") == ("straight",)
        assert only(video(first, frame({"hip": "bend"}, {"hip": "bend"}), frame()), "hip") == ("bend",)

    def test_ties_go_by_the_alphabet(self):
        assert only(video(frame({"head": "turn"}), frame({"head": "nod"})), "head") == ("nod",)
        pairs = [("bend", "up"), ("bend", "hang")]
        frames = video(*[frame({"right_arm": right, "left_arm": left}) for right, left in pairs])
        assert only(frames, "arm") == ("bend", "hang")

    def test_what_is_not_seen(self):
        frames = video(frame({"left_leg": "lift"}), frame({"head": "nod"}), frame({"head": "nod"}))
        assert only(frames, "leg") == ("none", "lift")
        assert only(frames, "head") == ("nod",)
        assert only(frames, "hip") == ("none",)
        assert only(frames, "foot") == ("none", "none")

    def test_frames_go_to_their_segments(self):
        """Every fifth frame is annotated: 1, 6 ... 36 of 40; at 40 / 6 frames a second there are two segments of 20."""
        frames = video(*[frame({"head": state}) for state in ["a"] * 4 + ["b"] * 4], every=5)
        first, second = SegmentLabeler.segments("kick", frames, fps=40 / 6, length=40)
        assert first[:2] == (0, 20)
        assert second[:2] == (20, 40)
        assert first.labels["head"] == SegmentLabel("kick", "head", ("a",))
        assert second.labels["head"].states == ("b",)

    def test_the_first_frame_of_a_segment_is_in_it(self):
        frames = {"img_00020.json": frame({"head": "a"}), "img_00021.json": frame({"head": "b"})}
        first, second = SegmentLabeler.segments("kick", frames, fps=40 / 6, length=40)
        assert (first.labels["head"].states, second.labels["head"].states) == (("a",), ("b",))

    def test_a_video_without_annotations(self):
        (segment,) = SegmentLabeler.segments("kick", {}, fps=10, length=30)
        assert segment[:2] == (0, 30)
        assert {label.states for label in segment.labels.values()} == {("none",), ("none", "none")}

    @pytest.mark.parametrize(
        ("frames", "settings", "message"),
        [
            ({}, {}, "length of the video must be given"),
            (video(frame(), frame()), {"length": 1}, "expected frames 1 to 1, got 1 to 2"),
            ({"img_0.json": frame()}, {}, "expected frames 1 to 0"),
            ({"first.json": frame()}, {}, "end in its number"),
            ({"a_1.json": frame(), "b_1.json": frame()}, {}, "same number"),
            ({"img_1.json": {}}, {}, "expected a dictionary with 'humans'"),
            (video(frame()), {"fps": 0}, "fps is a positive number"),
        ],
        ids=["empty", "beyond", "zero", "no_number", "twice", "malformed", "no_rate"],
    )
    def test_wrong_input(self, frames, settings, message):
        with pytest.raises(ValueError, match=message):
            only(frames, "head", **settings)


class TestVocabulary:
    def labeler(self):
        frames = video(
            frame({"right_arm": "bend", "left_arm": "hang"}), frame({"right_arm": "hang", "left_arm": "bend"})
        )
        segments = SegmentLabeler.segments("kick", frames, fps=1, seconds=1)
        segments += SegmentLabeler.segments("bowl", video(frame({"right_arm": "up", "head": "nod"})), fps=1)
        return SegmentLabeler.from_segments(segments), segments

    def test_is_that_of_the_segments_in_alphabetical_order(self):
        labeler, _ = self.labeler()
        assert labeler.to_dict()["arm"] == (("bowl", "up", "none"), ("kick", "bend", "hang"), ("kick", "hang", "bend"))
        assert labeler.to_dict()["head"] == (("bowl", "nod"), ("kick", "none"))
        assert len(labeler) == 3 + 5 * 2
        assert repr(labeler) == "SegmentLabeler(head=2, arm=3, hand=2, hip=2, leg=2, foot=2)"

    def test_indices_and_back(self):
        labeler, segments = self.labeler()
        for segment in segments:
            targets = labeler.encode(segment.labels)
            assert targets.dtype == torch.int64
            for group, index in zip(PART_GROUPS, targets.tolist()):
                assert labeler.decode(group, index) == segment.labels[group]
        assert labeler.encode(segments[1].labels).tolist() == [1, 2, 1, 1, 1, 1]

    def test_an_unknown_label_is_ignored_by_the_loss(self):
        labeler, segments = self.labeler()
        other = segments[0].labels | {"head": SegmentLabel("kick", "head", ("turn",))}
        assert labeler.encode(other)[0] == torch.nn.CrossEntropyLoss().ignore_index
        assert other["head"] not in labeler
        assert segments[0].labels["head"] in labeler

    def test_labels_of_an_action(self):
        labeler, _ = self.labeler()
        assert labeler.of_action("arm", "kick").tolist() == [False, True, True]
        assert labeler.of_action("arm", "jump").tolist() == [False] * 3

    def test_mirrored_labels(self):
        labeler, _ = self.labeler()
        # up on the right alone has never been seen on the left
        assert labeler.flip("arm").tolist() == [-1, 2, 1]
        assert labeler.flip("head").tolist() == [0, 1]

    def test_survives_the_metadata_of_weights(self):
        labeler, _ = self.labeler()
        assert SegmentLabeler(json.loads(json.dumps(labeler.to_dict()))).vocabulary == labeler.vocabulary

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tail": []}, "expected the groups"),
            ({"arm": [("kick", "bend")]}, "'arm' has 2 states"),
            ({"head": [("kick", "nod"), ("kick", "nod")]}, "comes twice: kick_head_nod"),
        ],
        ids=["group", "states", "twice"],
    )
    def test_wrong_vocabularies(self, change, message):
        with pytest.raises(ValueError, match=message):
            SegmentLabeler({**dict.fromkeys(PART_GROUPS, ()), **change})

    def test_nothing_to_take_it_from(self):
        with pytest.raises(ValueError, match="no segment"):
            SegmentLabeler.from_segments([])


class TestFigures:
    figures = ActingFigures("parts", length=6, size=64, frames=12)

    def test_annotations_say_what_the_truth_says(self):
        _, target = self.figures[2]
        annotations = figure_annotations(target)
        assert list(annotations)[::11] == ["img_00001.json", "img_00012.json"]
        for t, content in enumerate(annotations.values()):
            (human,) = content["humans"]
            x1, y1, x2, y2 = target["boxes"][0, t].tolist()
            assert human["box"] == [x1, y1, x2 - 1, y2 - 1]
            for k, name in enumerate(PARTS):
                part, box = human["parts"][name], target["part_boxes"][0, t, k].tolist()
                assert part["box"] == pytest.approx([box[0], box[1], max(box[2] - 1, box[0]), max(box[3] - 1, box[1])])
                assert PART_STATES[part_group(name)].index(part["verb"]) == target["part_states"][0, t, k]
        truth = {"parts": {"clip": annotations}}
        assert part_state_correctness(truth, truth) == {"clip": 1}

    def test_what_is_outside_is_left_out(self):
        _, target = self.figures[0]
        target["part_boxes"][0, 3, 1] = 0
        target["boxes"][0, 5] = 0
        annotations = figure_annotations(target)
        assert set(PARTS) - set(annotations["img_00004.json"]["humans"][0]["parts"]) == {"hip"}
        assert annotations["img_00006.json"]["humans"] == []

    def test_labels_equal_a_count_by_hand(self):
        _, target = self.figures[4]
        segments = SegmentLabeler.segments("drinking", figure_annotations(target), fps=4, seconds=1)
        assert [segment[:2] for segment in segments] == [(0, 4), (4, 8), (8, 12)]
        for segment in segments:
            for group, parts in PART_GROUPS.items():
                columns = target["part_states"][0, segment.start : segment.stop][:, [PARTS.index(p) for p in parts]]
                votes = [tuple(PART_STATES[group][state] for state in row) for row in columns.tolist()]
                most = max(votes.count(states) for states in votes)
                expected = min(states for states in votes if votes.count(states) == most)
                assert segment.labels[group] == ("drinking", group, expected)


@pytest.mark.skipif(not GOLDEN.is_file(), reason="needs ../shared/data/part_state beside the repository")
def test_ground_truth_of_the_challenge():
    segments = []
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        truth = case["ground_truth"]
        for name, frames in truth["parts"].items():
            found = SegmentLabeler.segments(truth["action"][name], frames, fps=5)
            assert [segment.start for segment in found[1:]] == [segment.stop for segment in found[:-1]]
            segments += found
    labeler = SegmentLabeler.from_segments(segments)
    for group in PART_GROUPS:
        assert {label for segment in segments for label in [segment.labels[group]]} == set(labeler.vocabulary[group])
