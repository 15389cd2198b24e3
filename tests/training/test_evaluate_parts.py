import copy
import json

import pytest
import torch
from torch import nn

from actionzoo.data.figures import PARTS, ActingFigures
from actionzoo.data.part_videos import FigurePartVideos, frame_number, true_people
from actionzoo.metrics import box_average_precision, part_state_correctness, part_state_roc, write_part_predictions
from actionzoo.models.parsed_video import ParsedSegment, ParsedVideo, PartState
from actionzoo.models.part_people import PartPeople
from actionzoo.models.segments import PART_GROUPS, SegmentLabeler
from actionzoo.training import evaluate_parts
from tests.data.part_truth import NoiseVideos

FRAMES, SECONDS = 20, 1.25


def videos(length=4, every=1):
    return FigurePartVideos(ActingFigures("parts", "test", length, 32, frames=FRAMES), 8.0, every)


class Oracle(nn.Module):
    """Says of every video what is true, at the frames that it looks at."""

    def __init__(self, source, every=1):
        super().__init__()
        self.every, self.seen, self.modes = every, [], []
        self.parsed = [self.truth(source, i) for i in range(len(source))]
        # a module in eval mode already, which stays in it
        self.frozen = nn.Dropout().eval()

    def truth(self, source, i):
        frames, people = source.annotations(i), {}
        cut = SegmentLabeler.segments(
            source.action(i), frames, fps=source.fps(i), length=source.length(i), seconds=SECONDS
        )
        segments = []
        for segment in cut:
            states = {part: state for label in segment.labels.values() for part, state in label.parts().items()}
            said = {part: PartState(state, 0.5) for part, state in states.items()}
            segments.append(ParsedSegment(segment.start, segment.stop, said))
        for name, content in frames.items():
            t = frame_number(name) - 1
            if t % self.every == 0:
                boxes, parts = true_people(content)
                n = len(boxes)
                people[t] = PartPeople(boxes, torch.ones(n), torch.zeros(n, 17, 3), parts, torch.ones(n, 10))
        return ParsedVideo(source.action(i), torch.zeros(2), segments, people)

    def parse(self, pixels, fps):
        self.seen.append((tuple(pixels.shape), pixels.dtype, fps))
        self.modes.append([module.training for module in self.modules()])
        return self.parsed[len(self.seen) - 1]


def by_hand(source, parsed, every=1):
    """Truth and prediction in the challenge's form."""
    numbers = range(len(source))
    scored = [
        {name: content for name, content in source.annotations(i).items() if (int(name[4:9]) - 1) % every == 0}
        for i in numbers
    ]
    return (
        {
            "action": {source.name(i): source.action(i) for i in numbers},
            "parts": {source.name(i): scored[i] for i in numbers},
        },
        {
            "action": {source.name(i): parsed[i].action for i in numbers},
            "parts": {source.name(i): parsed[i].to_challenge() for i in numbers},
        },
    )


def naive_states(source, parsed):
    """Share of parts in all annotated frames whose state is that of their segment, by group."""
    right, total = dict.fromkeys(PART_GROUPS, 0), dict.fromkeys(PART_GROUPS, 0)
    for i in range(len(source)):
        for name, content in source.annotations(i).items():
            t = int(name[4:9]) - 1
            (segment,) = [one for one in parsed[i].segments if one.start <= t < one.stop]
            for person in content["humans"]:
                for part, annotated in person["parts"].items():
                    (group,) = [group for group, parts in PART_GROUPS.items() if part in parts]
                    total[group] += 1
                    right[group] += segment.states[part].state == annotated["verb"]
    return {group: 100 * right[group] / total[group] for group in PART_GROUPS}


def damaged(model):
    """One action wrong, boxes of one video moved, people of another lost, a frame not looked at, states wrong."""
    first, second, third, fourth = model.parsed
    model.parsed[0] = first._replace(action="nothing")
    moved = {t: p._replace(boxes=p.boxes + 3, part_boxes=p.part_boxes + 4) for t, p in second.people.items()}
    model.parsed[1] = second._replace(people=moved)
    nobody = PartPeople(*(tensor[:0] for tensor in third.people[0]))
    model.parsed[2] = third._replace(people={t: p if t % 3 else nobody for t, p in third.people.items() if t != 5})
    states = {**fourth.segments[0].states, "left_arm": PartState("swim", 0.5), "head": PartState("swim", 0.5)}
    # and a part that nothing tells of
    people = fourth.people[1]
    boxes = people.part_boxes.clone()
    boxes[:, 3] = 0
    scores = torch.rand(people.part_scores.shape)
    model.parsed[3] = fourth._replace(
        segments=[fourth.segments[0]._replace(states=states), *fourth.segments[1:]],
        people={**fourth.people, 1: people._replace(part_boxes=boxes, part_scores=scores)},
    )
    return model


class TestEvaluate:
    def test_the_truth(self):
        source = videos()
        model = Oracle(source)
        result = evaluate_parts(model, source, every=1)
        metrics = result.metrics
        assert (metrics["videos"], metrics["frames"]) == (4, 4 * FRAMES)
        assert (metrics["video_accuracy"], metrics["people_ap50"], metrics["part_ap50"]) == (100, 100, 100)
        assert metrics["video_accuracy_interval"][1] == 100
        # only what changes within a segment is wrong
        expected = naive_states(source, model.parsed)
        assert {g: metrics[f"state_accuracy_{g}"] for g in PART_GROUPS} == {g: round(v, 2) for g, v in expected.items()}
        assert metrics["state_accuracy"] == round(sum(expected.values()) / 6, 2)
        assert 80 < metrics["state_accuracy"] < 100
        truth, prediction = by_hand(source, model.parsed)
        assert metrics["roc"] == round(100 * part_state_roc(truth, prediction), 2)
        assert metrics["psc"] == round(100 * sum(part_state_correctness(truth, prediction).values()) / 4, 2)
        assert metrics["roc"] > 75
        assert model.seen == [((3, FRAMES, 32, 32), torch.uint8, 8.0)] * 4

    def test_a_segment_a_frame_is_perfect(self):
        source = videos(2)
        source.rate = 0.5
        metrics = evaluate_parts(Oracle(source), source, every=1).metrics
        assert (metrics["roc"], metrics["psc"], metrics["state_accuracy"]) == (99.99, 100, 100)

    def test_damage_scores_as_by_hand(self):
        source = videos()
        model = damaged(Oracle(source))
        result = evaluate_parts(model, source, every=1)
        truth, prediction = by_hand(source, model.parsed)
        assert result.prediction == prediction
        assert result.correctness == part_state_correctness(truth, prediction)
        assert result.metrics["roc"] == round(100 * part_state_roc(truth, prediction), 2)
        assert result.metrics["psc"] == round(25 * sum(result.correctness.values()), 2)
        assert result.metrics["video_accuracy"] == 75
        expected = naive_states(source, model.parsed)
        for group in PART_GROUPS:
            assert result.metrics[f"state_accuracy_{group}"] == round(expected[group], 2)
        # less than the truth in every respect
        best = evaluate_parts(Oracle(source), source, every=1).metrics
        for key in ("roc", "psc", "state_accuracy_arm", "state_accuracy_head", "people_ap50", "part_ap50"):
            assert result.metrics[key] < best[key]
        assert result.metrics["roc"] <= result.metrics["video_accuracy"]

    def test_average_precision_of_people_and_parts(self):
        source = videos()
        model = damaged(Oracle(source))
        metrics = evaluate_parts(model, source, every=1).metrics
        none, people, by_part = torch.zeros(0, 4), ([], []), {part: ([], []) for part in PARTS}
        for i in range(4):
            for name, content in source.annotations(i).items():
                found = model.parsed[i].people.get(int(name[4:9]) - 1)
                boxes = [person["box"] for person in content["humans"]]
                one = torch.tensor([0.0, 0, 1, 1])
                people[1].append(torch.tensor(boxes) + one if boxes else none)
                people[0].append((none, none[:, 0]) if found is None else (found.boxes, found.scores))
                for k, part in enumerate(PARTS):
                    true = [p["parts"][part]["box"] for p in content["humans"] if part in p["parts"]]
                    by_part[part][1].append(torch.tensor(true) + one if true else none)
                    rows = [] if found is None else [p for p in range(len(found.boxes)) if found.part_boxes[p, k].any()]
                    there = (found.part_boxes[rows, k], found.part_scores[rows, k]) if rows else (none, none[:, 0])
                    by_part[part][0].append(there)
        assert metrics["people_ap50"] == round(100 * box_average_precision(*people), 2)
        aps = [box_average_precision(*rows) for rows in by_part.values()]
        assert metrics["part_ap50"] == round(100 * sum(aps) / 10, 2)

    @pytest.mark.parametrize(
        ("looks", "asked", "scored"), [(5, None, 5), (1, None, 5), (4, None, 5), (5, 1, 1), (2, 4, 4)]
    )
    def test_which_frames_are_scored(self, looks, asked, scored):
        source = videos()
        model = Oracle(source, every=looks)
        metrics = evaluate_parts(model, source, **({} if asked is None else {"every": asked})).metrics
        truth, prediction = by_hand(source, model.parsed, scored)
        assert metrics["frames"] == 4 * FRAMES // scored
        assert metrics["psc"] == round(25 * sum(part_state_correctness(truth, prediction).values()), 2)
        # what is not looked at is lost
        assert (metrics["psc"] < 60) == (scored % looks > 0)
        assert (metrics["people_ap50"] < 60) == (scored % looks > 0)
        # states of segments count in all annotated frames
        assert metrics["state_accuracy"] == evaluate_parts(Oracle(source), source).metrics["state_accuracy"]

    def test_frames_without_people_and_videos_without_frames(self):
        source = NoiseVideos(((0, 2), (0,), ()))
        source.length = lambda i: 6
        model = Oracle(source, every=3)
        metrics = evaluate_parts(model, source, every=3).metrics
        assert (metrics["videos"], metrics["frames"], metrics["roc"], metrics["people_ap50"]) == (3, 3, 99.99, 100)
        empty = NoiseVideos(((0,),))
        metrics = evaluate_parts(Oracle(empty, every=3), empty, every=3).metrics
        assert set(metrics) == {"videos", "frames", "roc", "video_accuracy", "video_accuracy_interval", "psc"}
        assert json.loads(json.dumps(metrics)) == metrics

    def test_modes_are_put_back(self):
        source = videos(1)
        model = Oracle(source).train()
        model.frozen.eval()
        evaluate_parts(model, source)
        assert model.modes == [[False, False]]
        assert [module.training for module in model.modules()] == [True, False]

    def test_the_prediction_can_be_written(self, tmp_path):
        source = videos(2)
        result = evaluate_parts(Oracle(source), source)
        before = copy.deepcopy(result.prediction)
        write_part_predictions(tmp_path / "pred", result.prediction)
        actions = json.loads((tmp_path / "pred" / "pred_vid_result.json").read_text())
        assert actions == before["action"]

    @pytest.mark.parametrize("number", [False, True], ids=["names", "numbers"])
    def test_actions_are_answered_as_the_annotations_give_them(self, number, tmp_path):
        source = videos(3)
        labels = [3, 11, 3] if number else ["3", "11", "3"]
        source.truth = {"action": {source.name(i): label for i, label in enumerate(labels)}}
        source.action = lambda i: str(labels[i])
        model = Oracle(source)
        # one that is wrong, and none of these videos'
        model.parsed[2] = model.parsed[2]._replace(action="7")
        result = evaluate_parts(model, source)
        assert list(result.prediction["action"].values()) == ([3, 11, 7] if number else ["3", "11", "7"])
        assert result.metrics["video_accuracy"] == 66.67
        write_part_predictions(tmp_path / "pred", result.prediction)
        read = json.loads((tmp_path / "pred" / "pred_vid_result.json").read_text())
        assert read == {**source.truth["action"], source.name(2): 7 if number else "7"}

    def test_a_name_where_there_are_numbers(self):
        source = videos(1)
        source.truth, source.action = {"action": {source.name(0): 3}}, lambda i: "3"
        model = Oracle(source)
        model.parsed[0] = model.parsed[0]._replace(action="bowing")
        with pytest.raises(ValueError, match="actions are numbers in the annotations, and the model says 'bowing'"):
            evaluate_parts(model, source)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda frames: frames["img_00001.json"].pop("humans"), "expected a dictionary with 'humans'"),
            (lambda frames: frames.update({"img_1.json": {"humans": []}}), r"img_00001.json and so on, got 'img_1"),
            (lambda frames: frames.update({"first": {"humans": []}}), "name of a frame to end in its number"),
        ],
        ids=["people", "spelling", "no-number"],
    )
    def test_annotations_are_checked_before_anything_is_parsed(self, damage, message):
        source = videos(3)
        model, own = Oracle(source), source.annotations

        def annotations(i):
            frames = copy.deepcopy(own(i))
            if i == 2:
                damage(frames)
            return frames

        source.annotations = annotations
        with pytest.raises(ValueError, match=message):
            evaluate_parts(model, source)
        assert model.seen == []

    def test_two_videos_of_one_name(self):
        source = videos(2)
        model = Oracle(source)
        source.name = lambda i: "same"
        with pytest.raises(ValueError, match="2 videos have 1 names"):
            evaluate_parts(model, source)
        assert model.seen == []

    def test_errors(self):
        with pytest.raises(ValueError, match="there is no video to score"):
            evaluate_parts(Oracle(videos(0)), videos(0))
        with pytest.raises(ValueError, match="every is at least 1, got 0"):
            evaluate_parts(Oracle(videos(1)), videos(1), every=0)
