import copy
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actionzoo.data.figures import PARTS as FIGURE_PARTS
from actionzoo.metrics import part_state_correctness, part_state_roc, read_part_predictions, write_part_predictions
from actionzoo.metrics._assignment import assign
from actionzoo.metrics._part_annotations import PARTS
from tests.reference import part_state as reference

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "part_state" / "golden.json"
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="needs ../shared/data/part_state beside the repository")
FRAME = "img_00001.json"


def person(box, **parts):
    """A person whose parts are given as (box, state)."""
    return {"box": box, "parts": {name: {"box": box, "verb": state} for name, (box, state) in parts.items()}}


def video(*people, name="v", frame=FRAME, action="kick"):
    """One frame of one video."""
    return {"action": {name: action}, "parts": {name: {frame: {"humans": list(people)}}}}


BODY = [0.0, 0.0, 99.0, 99.0]
HEAD = [10.0, 0.0, 29.0, 19.0]
TRUTH = video(person(BODY, head=(HEAD, "nod"), left_arm=([0, 20, 9, 59], "bend")))


def around(rng, box, spread):
    """A box near another one."""
    x1, y1, x2, y2 = np.asarray(box) + rng.normal(0, spread, 4)
    return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]


def some_box(rng, side=60):
    corner = rng.uniform(0, side, 2)
    return [*corner, *(corner + rng.uniform(5, side, 2))]


def random_case(seed):
    """Videos whose predictions lack frames, people and parts, and add people and proposals."""
    rng = np.random.default_rng(seed)
    truth, found = ({"action": {}, "parts": {}} for _ in range(2))
    for v in range(rng.integers(1, 4)):
        frames, predicted = {}, {}
        for f in range(rng.integers(0, 5)):
            people = [
                person(some_box(rng), **{str(p): (some_box(rng), str(rng.choice(["bend", "hold"]))) for p in parts})
                for parts in (rng.choice(PARTS, rng.integers(0, 6), replace=False) for _ in range(rng.integers(0, 4)))
            ]
            frames[f"img_{5 * f + 1:05d}.json"] = {"humans": people}
            if rng.random() < 0.8:
                predicted[f"img_{5 * f + 1:05d}.json"] = {"humans": random_people(rng, people)}
        truth["parts"][f"v{v}"], found["parts"][f"v{v}"] = frames, predicted
        truth["action"][f"v{v}"], found["action"][f"v{v}"] = "kick", str(rng.choice(["kick", "kick", "jump"]))
    return truth, found


def random_people(rng, people):
    result = [{"box": some_box(rng), "parts": {}} for _ in range(rng.integers(0, 2))]
    for known in people:
        parts = {}
        for name, part in known["parts"].items():
            n = int(rng.choice([0, 1, 1, 1, 2, 5]))
            states = [str(state) for state in rng.choice([part["verb"], part["verb"], "walk"], n)]
            if rng.random() < 0.9:
                parts[name] = {"box": [around(rng, part["box"], 4) for _ in range(n)], "verb": states}
        if rng.random() < 0.8:
            result.append({"box": around(rng, known["box"], 5), "parts": parts})
    return [result[i] for i in rng.permutation(len(result))]


cases = st.integers(0, 2**32 - 1).map(random_case)


@needs_golden
@pytest.mark.parametrize("number", range(8))
def test_equals_the_public_evaluation(number):
    case = json.loads(GOLDEN.read_text(encoding="utf-8"))[number]
    arguments, expected = (case["ground_truth"], case["prediction"]), case["expected"]
    assert part_state_correctness(*arguments) == pytest.approx(expected["psc"], rel=0, abs=1e-9)
    # one threshold of one video, if its correctness lies on it
    on_threshold = any(abs(psc * 1e4 - round(psc * 1e4)) < 1e-6 for psc in expected["psc"].values() if 0 < psc < 1)
    tolerance = 1e-9 + (1e-4 / len(expected["psc"]) if on_threshold else 0)
    assert part_state_roc(*arguments) == pytest.approx(expected["roc_score"], rel=0, abs=tolerance)


@needs_golden
def test_takes_a_tenth_of_a_second_at_most():
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        started = time.process_time()
        part_state_roc(case["ground_truth"], case["prediction"])
        assert time.process_time() - started < 0.1


@settings(max_examples=100, deadline=None)
@given(cases)
def test_equals_the_plain_loops(case):
    assert part_state_correctness(*case) == pytest.approx(reference.part_state_correctness(*case), rel=0, abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(cases)
def test_area_equals_the_sweep(case):
    assert part_state_roc(*case) == pytest.approx(reference.part_state_roc(*case), rel=0, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(cases)
def test_is_never_above_the_accuracy(case):
    truth, found = case
    accuracy = np.mean([found["action"][name] == label for name, label in truth["action"].items()])
    assert 0 <= part_state_roc(truth, found) <= accuracy
    assert all(0 <= psc <= 1 for psc in part_state_correctness(truth, found).values())


@settings(max_examples=30, deadline=None)
@given(cases)
def test_the_truth_is_perfect(case):
    truth, _ = case
    assert set(part_state_correctness(truth, truth).values()) == {1.0}
    assert part_state_roc(truth, truth) == 0.9999
    before = copy.deepcopy(truth)
    part_state_roc(truth, truth)
    assert truth == before


@settings(max_examples=30, deadline=None)
@given(cases, st.randoms())
def test_order_of_people_and_frames_does_not_matter(case, random):
    truth, found = copy.deepcopy(case)
    for side in (truth, found):
        for name, frames in side["parts"].items():
            for content in frames.values():
                random.shuffle(content["humans"])
            side["parts"][name] = dict(random.sample(list(frames.items()), len(frames)))
    expected = part_state_correctness(*case)
    assert part_state_correctness(truth, found) == pytest.approx(expected, rel=0, abs=1e-12)


class TestHandWorkedCases:
    """One person with two parts, of which one is predicted in different ways."""

    def score(self, boxes, states, body=BODY):
        parts = {"head": {"box": boxes, "verb": states}}
        return part_state_correctness(TRUTH, video({"box": body, "parts": parts}))["v"]

    @pytest.mark.parametrize(
        ("boxes", "states", "expected"),
        [
            (HEAD, "nod", 1 / 2),
            ([HEAD], ["nod"], 1 / 2),
            ([HEAD], ["turn"], 0),
            ([HEAD, HEAD], ["turn", "nod"], 1 / 4),
            ([HEAD] * 5, ["nod"] * 5, 1 / 10),
            ([HEAD, [50, 50, 60, 60]], ["turn", "nod"], 0),
            ([], [], 0),
        ],
        ids=["one", "one_in_a_list", "wrong_state", "second_of_two", "five", "right_box_or_right_state", "none"],
    )
    def test_proposals(self, boxes, states, expected):
        assert self.score(boxes, states) == expected

    @pytest.mark.parametrize(("rows", "expected"), [(6, 0.5), (5, 0)])
    def test_a_part_at_three_tenths_counts(self, rows, expected):
        """A head of 20 x 20 pixels and some of its rows: 6 of 20 are exactly 0.3, which counts."""
        assert self.score([[10, 0, 29, rows - 1]], ["nod"]) == expected

    @pytest.mark.parametrize(("rows", "expected"), [(51, 0.5), (50, 0)])
    def test_a_person_at_a_half_does_not_count(self, rows, expected):
        """A body of 100 x 100 pixels and some of its rows: 50 of 100 are exactly 0.5, which does not."""
        assert self.score([HEAD], ["nod"], body=[0, 0, 99, rows - 1]) == expected

    def test_arrays_are_boxes(self):
        assert self.score(np.array([HEAD]), ["nod"], body=np.array(BODY)) == 0.5

    @pytest.mark.parametrize("part", ["head", "right_leg"])
    def test_parts_that_are_not_there_cost_nothing(self, part):
        found = copy.deepcopy(TRUTH)
        found["parts"]["v"][FRAME]["humans"][0]["parts"].setdefault("right_leg", {"box": [], "verb": []})
        assert part_state_correctness(TRUTH, found) == {"v": 1}


def test_people_are_matched_for_the_greatest_total():
    """The second person overlaps the first prediction most, but then nobody would be left for the first person."""
    first, second = (
        person([0, 0, 9, 99], head=([0, 0, 9, 9], "nod")),
        person([0, 0, 9, 79], head=([0, 0, 9, 9], "turn")),
    )
    short, long = [0, 0, 9, 84], [0, 0, 9, 69]
    truth = video(first, second)
    found = video(person(short, head=([0, 0, 9, 9], "nod")), person(long, head=([0, 0, 9, 9], "turn")))
    # 80 / 85 > 85 / 100, though 85 / 100 + 70 / 80 > 80 / 85 + 70 / 100
    assert part_state_correctness(truth, found) == {"v": 1}


class TestFramesThatDoNotCount:
    def frames(self, **frames):
        return {"parts": {"v": {f"img_{name}.json": {"humans": people} for name, people in frames.items()}}}

    def test_nobody_there(self):
        someone = person(BODY, head=(HEAD, "nod"))
        truth, found = self.frames(a=[], b=[someone]), self.frames(a=[someone], b=[someone])
        assert part_state_correctness(truth, found) == {"v": 1}

    def test_no_prediction(self):
        someone = person(BODY, head=(HEAD, "nod"))
        truth, found = self.frames(a=[someone], b=[someone], c=[]), self.frames(b=[someone])
        assert part_state_correctness(truth, found) == {"v": 0.5}

    def test_people_without_parts_count_only_where_nothing_is_predicted(self):
        """As in the public evaluation, which looks for the prediction first."""
        truth = self.frames(a=[person(BODY)], b=[person(BODY, head=(HEAD, "nod"))])
        assert part_state_correctness(truth, truth) == {"v": 1}
        assert part_state_correctness(truth, {"parts": {"v": {"img_b.json": truth["parts"]["v"]["img_b.json"]}}}) == {
            "v": 0.5
        }

    @pytest.mark.parametrize("frames", [{}, {FRAME: {"humans": []}}], ids=["no_frame", "nobody"])
    def test_a_video_without_any_is_right(self, frames):
        truth = {"action": {"v": 3}, "parts": {"v": frames}}
        assert part_state_correctness(truth, {"parts": {"v": {}}}) == {"v": 1}
        assert part_state_roc(truth, {"action": {"v": 3}, "parts": {"v": {}}}) == 0.9999

    def test_frames_between_are_ignored(self):
        someone = person(BODY, head=(HEAD, "nod"))
        truth, found = video(someone), video(someone)
        found["parts"]["v"]["img_00002.json"] = {"humans": [person(BODY, head=(HEAD, "turn"))]}
        assert part_state_correctness(truth, found) == {"v": 1}


class TestRocScore:
    def score(self, right, parts=10, action="kick"):
        """Some of ten parts of one person are right."""
        truth = video(person(BODY, **dict.fromkeys(PARTS[:parts], (HEAD, "hold"))))
        found = video(
            person(BODY, **{name: (HEAD, "hold" if i < right else "none") for i, name in enumerate(PARTS[:parts])}),
            action=action,
        )
        return part_state_roc(truth, found)

    @pytest.mark.parametrize("right", range(10))
    def test_a_threshold_that_is_met_counts(self, right):
        """3/10 meets 3000/10000, though floor(1e4 * psc) need not say so."""
        assert self.score(right) == right / 10

    def test_between_thresholds(self):
        assert self.score(1, parts=3) == 0.3333
        assert self.score(2, parts=3) == 0.6666

    def test_perfect_and_wrong_action(self):
        assert self.score(10) == 0.9999
        assert self.score(10, action="jump") == 0


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 7), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_assignment_equals_scipy_in_ties_too(size, values, seed):
    scipy_optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    costs = rng.integers(0, values, (size, size)) / 4 if values else rng.normal(size=(size, size))
    assert assign(costs) == scipy_optimize.linear_sum_assignment(costs)[1].tolist()


def test_parts_are_those_of_the_figures():
    assert set(PARTS) == set(FIGURE_PARTS)


def changed(path, value):
    """A prediction whose entry at `path` is another, or gone if the value is `KeyError`."""
    found = copy.deepcopy(TRUTH)
    found["parts"]["v"][FRAME]["humans"][0]["parts"]["head"] = {"box": [list(HEAD)], "verb": ["nod"]}
    holder = found
    for step in path[:-1]:
        holder = holder[step]
    if value is KeyError:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return found


PEOPLE = ("parts", "v", FRAME, "humans")
IN_HEAD = (*PEOPLE, 0, "parts", "head")
WRONG = {
    "eleven_people": (PEOPLE, [person(BODY)] * 11, "at most 10 people, got 11"),
    "six_proposals": (IN_HEAD, {"box": [HEAD] * 6, "verb": ["nod"] * 6}, "'head': expected at most 5 proposals, got 6"),
    "fewer_states_than_boxes": (IN_HEAD, {"box": [HEAD] * 2, "verb": ["nod"]}, "2 boxes and 1 states"),
    "no_parts": (("parts",), KeyError, "expected a dictionary with 'parts'"),
    "no_humans": (PEOPLE, KeyError, "video 'v', frame 'img_00001.json': expected a dictionary with 'humans'"),
    "no_box": ((*PEOPLE, 0, "box"), KeyError, "person 0: expected a dictionary with 'box', got one with 'parts'"),
    "no_parts_of_a_person": ((*PEOPLE, 0, "parts"), KeyError, "person 0: expected a dictionary with 'parts'"),
    "no_state": ((*IN_HEAD, "verb"), KeyError, "'head': expected a dictionary with 'verb'"),
    "three_numbers": ((*PEOPLE, 0, "box"), [0, 0, 9], "four finite numbers"),
    "texts": ((*PEOPLE, 0, "box"), ["0", "0", "9", "9"], "four finite numbers"),
    "box_without_its_list": ((*IN_HEAD, "box"), HEAD, "4 boxes and 1 states"),
    "list_of_a_single_state": ((*IN_HEAD, "verb"), "nod", "four finite numbers"),
    "nan": ((*IN_HEAD, "box", 0, 2), float("nan"), "person 0, 'head': expected a box of four finite numbers"),
    "infinite": ((*PEOPLE, 0, "box", 3), float("inf"), "person 0: expected a box of four finite numbers"),
    "inside_out": ((*PEOPLE, 0, "box"), [50, 50, 20, 20], "with x1 <= x2 and y1 <= y2"),
    "number_for_a_state": ((*IN_HEAD, "verb"), [3], "names of states, got 3"),
    "none_for_a_box": ((*IN_HEAD, "box"), None, "expected a list of numbers as 'box', got None"),
    "people_by_name": (PEOPLE, {"0": person(BODY)}, "expected a list as 'humans'"),
    "number_for_a_frame": (("parts", "v"), {1: {"humans": []}}, "expected the name of a frame, got 1"),
    "list_of_frames": (("parts", "v"), [], "expected a dictionary by frame"),
    "number_for_a_video": (("parts", 7), {}, "names of videos, got 7"),
    "unknown_video": (("parts", "w"), {}, "has 'w', which ground_truth"),
    "missing_video": (("parts", "v"), KeyError, "has nothing for 'v'"),
    "other_spelling_of_a_frame": (("parts", "v", "img_1.json"), {"humans": []}, "frames 'img_1.json'"),
    "only_other_frames": (("parts", "v"), {"img_00002.json": {"humans": []}}, "no predicted frame"),
    "unknown_part": ((*PEOPLE, 0, "parts", "tail"), {"box": [HEAD], "verb": ["wag"]}, "has parts 'tail'"),
}


@pytest.mark.parametrize(("path", "value", "message"), WRONG.values(), ids=WRONG)
def test_malformed_predictions_are_refused(path, value, message):
    with pytest.raises(ValueError, match=message):
        part_state_correctness(TRUTH, changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((*PEOPLE, 0, "parts", "head", "box"), [[0, 0, 1, 1]] * 2, "2 boxes and 1 states"),
        ((*PEOPLE, 0, "parts", "head"), {"box": [HEAD] * 2, "verb": ["nod"] * 2}, "expected one box and one state"),
        ((*PEOPLE, 0, "parts", "head"), {"box": [], "verb": []}, "expected one box and one state, got 0"),
        ((*PEOPLE, 0, "box"), [0, 0, float("nan"), 1], "ground truth, video 'v'"),
    ],
    ids=["boxes", "two", "none", "nan"],
)
def test_malformed_truth_is_refused(path, value, message):
    with pytest.raises(ValueError, match=message):
        part_state_correctness(changed(path, value), TRUTH)


def test_truth_may_hold_more_people_and_boxes_inside_out():
    """Annotations are what they are; the limits are those of predictions."""
    truth = video(*[person(BODY, head=([9, 9, 5, 5], "nod"))] * 11)
    assert part_state_correctness(truth, video()) == {"v": 0}


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        ({"action": {}, "parts": {}}, {"action": {}, "parts": {}}, "no video"),
        (TRUTH, {"parts": TRUTH["parts"]}, "prediction: expected a dictionary with 'action'"),
        (TRUTH, {**TRUTH, "action": {}}, "has nothing for 'v'"),
        (TRUTH, {**TRUTH, "action": {"v": "kick", "w": "kick"}}, "has 'w'"),
        (TRUTH, {**TRUTH, "action": {"v": 3}}, "names in both"),
        ({**TRUTH, "action": {"v": "kick", "w": "kick"}}, TRUTH, r"ground_truth\['parts'\] has nothing for 'w'"),
        (TRUTH, [], "prediction: expected a dictionary with 'action', got"),
    ],
    ids=["empty", "no_actions", "missing", "unknown", "number", "truth_without_parts", "list"],
)
def test_wrong_actions_are_refused(truth, found, message):
    with pytest.raises(ValueError, match=message):
        part_state_roc(truth, found)


class TestFiles:
    def test_round_trip(self, tmp_path):
        for seed in range(5):
            truth, found = random_case(seed)
            write_part_predictions(tmp_path / "answer", found)
            assert sorted(path.name for path in (tmp_path / "answer").iterdir()) == [
                "pred_part_result.json",
                "pred_vid_result.json",
            ]
            read = read_part_predictions(tmp_path / "answer")
            assert read["action"] == found["action"]
            assert part_state_correctness(truth, read) == part_state_correctness(truth, found)

    def test_what_is_written(self, tmp_path):
        someone = {"box": np.array(BODY), "score": 0.9, "parts": {"head": {"box": HEAD, "verb": "nod", "score": 0.5}}}
        write_part_predictions(tmp_path, video(someone))
        written = json.loads((tmp_path / "pred_part_result.json").read_text())
        parts = {"head": {"number": 1, "box": [HEAD], "verb": ["nod"]}}
        assert written == {"v": {FRAME: {"humans": [{"number": 1, "box": BODY, "parts": parts}]}}}
        assert json.loads((tmp_path / "pred_vid_result.json").read_text()) == {"v": "kick"}

    def test_the_truth_is_read(self, tmp_path):
        (tmp_path / "gt_vid_result.json").write_text(json.dumps(TRUTH["action"]))
        (tmp_path / "gt_part_result.json").write_text(json.dumps(TRUTH["parts"]))
        assert read_part_predictions(tmp_path, "gt") == TRUTH

    def test_nothing_is_left_of_a_prediction_that_is_refused(self, tmp_path):
        write_part_predictions(tmp_path, TRUTH)
        with pytest.raises(ValueError, match="four finite numbers"):
            write_part_predictions(tmp_path, changed((*IN_HEAD, "box", 0, 0), float("nan")))
        assert len(list(tmp_path.iterdir())) == 2
        assert part_state_roc(TRUTH, read_part_predictions(tmp_path)) == 0.9999

    def test_files_that_cannot_be_read(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"pred_vid_result\.json and pred_part_result\.json"):
            read_part_predictions(tmp_path)
        (tmp_path / "pred_vid_result.json").write_text("{")
        with pytest.raises(ValueError, match=r"pred_vid_result\.json is not JSON"):
            read_part_predictions(tmp_path)
        (tmp_path / "pred_vid_result.json").write_text('{"v": "kick"}')
        (tmp_path / "pred_part_result.json").write_text('{"w": {}}')
        with pytest.raises(ValueError, match="has nothing for 'v'"):
            read_part_predictions(tmp_path)
        with pytest.raises(ValueError, match="unknown prefix 'truth'; there are 'pred', 'gt'"):
            read_part_predictions(tmp_path, "truth")

    def test_actions_that_cannot_be_written(self, tmp_path):
        with pytest.raises(ValueError, match="name or number of an action, got None"):
            write_part_predictions(tmp_path, {**TRUTH, "action": {"v": None}})
