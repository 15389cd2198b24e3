import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops
from torch.testing import assert_close

import actionzoo
from actionzoo.cli.predict import ASSETS
from actionzoo.data import denormalize, eval_transform, load_image
from actionzoo.pipeline import (
    ActionPipeline,
    ActionResult,
    DetectionPipeline,
    Person,
    PersonActionPipeline,
    pipeline,
)
from tests import people, persons

PHOTO = ASSETS / "weightlifter_public_domain.jpg"
SIZE = (850, 567)


class Planted:
    """A detector that finds the same boxes in every picture, and remembers what it saw."""

    def __init__(self, *found):
        """Rows of box, label and score."""
        self.found, self.seen = found, []

    def __call__(self, pictures):
        self.seen.append(pictures)
        boxes, labels, scores = zip(*self.found) if self.found else ((), (), ())
        row = {"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)}
        return [{**row, "labels": torch.tensor(labels, dtype=torch.long), "scores": torch.tensor(scores)}]


def watch(model):
    """The inputs and outputs of every call of a model, as they come."""
    calls = []
    model.register_forward_hook(lambda module, args, output: calls.append((args, output)))
    return calls


def human(**args):
    model = persons.human(**args)
    model.pretrained_cfg["classes"] = list(persons.CLASSES)
    # random classifiers would be sure of nothing
    for fc in (model.convit.fc, model.human.fc):
        torch.nn.init.normal_(fc.weight, std=1.0)
    return model


BOXES = ((100.0, 50.0, 300.0, 500.0), (420.5, 60.25, 820.0, 500.0))
TWO = Planted((BOXES[0], 1, 0.75), (BOXES[1], 1, 0.875))


class TestDetectedPeople:
    def test_boxes_are_in_pixels_of_the_picture_the_surest_first(self):
        detector = Planted((BOXES[0], 1, 0.75), (BOXES[1], 1, 0.875), ((5, 5, 90, 90), 2, 0.99), ((0, 0, 9, 9), 1, 0.4))
        result = pipeline(human(), detector=detector)(PHOTO)
        assert [person.box for person in result.people] == [BOXES[1], BOXES[0]]
        assert [person.detection for person in result.people] == [0.875, 0.75]
        assert all(person.label in persons.CLASSES for person in result.people)
        assert not result.image_only
        ((picture,),) = detector.seen
        assert picture.shape == (3, SIZE[1], SIZE[0])
        assert_close(picture, torch.from_numpy(np.array(load_image(PHOTO))).permute(2, 0, 1) / 255)

    @pytest.mark.parametrize(("threshold", "count"), [(0.0, 4), (0.5, 3), (0.6, 2), (0.9, 0), (1.0, 0)])
    def test_a_score_at_the_threshold_is_enough(self, threshold, count):
        detector = Planted(*[((i, 1, 90 + i, 90), 1, score) for i, score in enumerate((0.1, 0.5, 0.75, 0.8))])
        pipe = PersonActionPipeline(human(), detector=detector, threshold=threshold)
        assert len(pipe(PHOTO).people) == count

    def test_nobody_leaves_the_image_alone(self):
        model = human()
        with_person = pipeline(model, detector=TWO)(PHOTO)
        result = pipeline(model, detector=Planted((BOXES[0], 3, 0.99)))(PHOTO)
        assert result.people == []
        assert result.image_only
        assert result.scores == pytest.approx(with_person.scores)
        assert result.label == with_person.label
        assert json.loads(result.to_json())["image_only"] is True
        assert result.draw().width > SIZE[0]

    def test_a_module_is_put_into_eval_mode(self):
        detector = persons.detector().train()
        pipe = pipeline(human(), detector=detector)
        assert isinstance(pipe, PersonActionPipeline)
        assert not detector.training
        assert pipe.detector.detector is detector
        assert pipe(PHOTO).source == str(PHOTO)


class TestYOLOF:
    """Its output has torchvision's form."""

    def detector(self, **args):
        torch.manual_seed(0)
        sizes = {"out_channels": 8, "mid_channels": 8, "dilations": (1, 2), "min_size": 64, "max_size": 96}
        model = actionzoo.create("yolof_tiny", **{"trunk_args": persons.TRUNK, **sizes, **args})
        # random class logits would be sure of nothing
        torch.nn.init.normal_(model.head.class_logits.weight, std=1.0)
        torch.nn.init.constant_(model.head.class_logits.bias, 4.0)
        return model

    def test_people_are_what_the_model_finds(self):
        model = self.detector()
        result = pipeline(model, threshold=0.3)(PHOTO)
        with torch.no_grad():
            (found,) = model([torch.from_numpy(np.array(load_image(PHOTO))).permute(2, 0, 1) / 255])
        sure = found["scores"] >= 0.3
        assert 0 < sure.sum() == len(result.people)
        assert_close(torch.tensor([person.box for person in result.people]), found["boxes"][sure])
        assert_close(torch.tensor([person.detection for person in result.people]), found["scores"][sure])
        assert all(person.label is None and person.keypoints is None for person in result.people)

    def test_by_the_name_of_trained_weights(self, tmp_path):
        self.detector().save_pretrained(tmp_path)
        pipe = pipeline(f"local-dir:{tmp_path}", threshold=0.3)
        assert isinstance(pipe, DetectionPipeline)
        finder = pipeline(human(), detector=f"local-dir:{tmp_path}", threshold=0.3)
        assert [person.box for person in finder(PHOTO).people] == [person.box for person in pipe(PHOTO).people]

    def test_one_of_body_parts_is_refused(self):
        for build in (DetectionPipeline, pipeline, lambda model: pipeline(human(), detector=model)):
            with pytest.raises(ValueError, match="this YOLOF finds 10 classes, of which none need be people"):
                build(self.detector(num_classes=10))


class TestScores:
    @pytest.mark.parametrize("fusion", [(0.83, 0.17), (0.3, 0.7), (1.0, 0.0), (0.0, 1.0)], ids=str)
    def test_people_are_scored_by_both_branches(self, fusion):
        model = human(fusion=fusion)
        calls = watch(model)
        result = pipeline(model)(PHOTO, BOXES)
        ((batch, boxes), output) = calls[0]
        with torch.no_grad():
            image = model.convit(batch).softmax(1)
            person = model(batch, boxes).logits.softmax(1)
        assert_close(torch.tensor(result.scores), image[0])
        expected = fusion[0] * image + fusion[1] * person
        assert_close(torch.tensor([person.scores for person in result.people]), expected)
        for person, row in zip(result.people, expected):
            assert person.label == persons.CLASSES[int(row.argmax())]
            assert person.score == pytest.approx(float(row.max()))
            assert person.top(result.classes, 1) == [(person.label, person.score)]
        assert result.score == pytest.approx(float(image.max()))
        assert len(output.logits) == 2

    def test_several_actions_at_once(self):
        model = human(multi_label=True, fusion="voc2012")
        calls = watch(model)
        result = pipeline(model)(PHOTO, BOXES[:1])
        output = calls[0][1]
        assert_close(torch.tensor(result.scores), output.image_logits.sigmoid()[0])
        expected = 0.3 * output.image_logits.sigmoid()[0] + 0.7 * output.logits.sigmoid()[0]
        assert_close(torch.tensor(result.people[0].scores), expected)

    def test_scores_are_convits_own(self):
        model = human()
        alone = persons.convit()
        alone.load_state_dict(model.convit.state_dict())
        assert pipeline(model)(PHOTO, BOXES).scores == pytest.approx(pipeline(alone)(PHOTO).scores)

    def test_people_are_looked_at_one_by_one(self):
        pipe = pipeline(human())
        together = pipe(PHOTO, [*BOXES, BOXES[0]])
        for person, box in zip(together.people, [*BOXES, BOXES[0]]):
            assert person.scores == pytest.approx(pipe(PHOTO, [box]).people[0].scores, abs=1e-5)
        assert together.people[0].scores != pytest.approx(together.people[1].scores, abs=1e-4)


class TestViews:
    @pytest.mark.parametrize("size", [(240, 160), (97, 211)], ids=str)
    @pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.6])
    def test_a_persons_pixels_reach_the_model_where_the_box_is(self, crop_pct, size):
        model = human()
        model.pretrained_cfg["crop_pct"] = crop_pct
        box = [round(share * side) for share, side in zip((0.4, 0.3, 0.6, 0.65), size * 2)]
        picture = Image.new("RGB", size, (0, 0, 40))
        picture.paste((255, 0, 0), tuple(box))
        calls = watch(model)
        result = pipeline(model)(picture, [box])
        (batch, (seen,)), _ = calls[0]
        assert_close(batch[0], eval_transform(model.pretrained_cfg)(picture))
        red = denormalize(batch, model.pretrained_cfg)[0, 0] > 0.5
        rows, columns = red.any(1).nonzero(), red.any(0).nonzero()
        place = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]).float()
        assert_close(seen, place, rtol=0, atol=1.2)
        assert result.people[0].box == tuple(box)
        width, height = size
        margin = (1 - crop_pct) / 2
        view = (width * margin, height * margin, width * (1 - margin), height * (1 - margin))
        assert result.field_of_view == pytest.approx(view)

    def test_people_beyond_the_crop_have_no_label_and_keep_their_place(self):
        model = human()
        model.pretrained_cfg["crop_pct"] = 0.5
        edge = (0, 0, 200, 567)
        detector = Planted((BOXES[0], 1, 0.9), (edge, 1, 0.8), ((300, 200, 500, 400), 1, 0.7))
        first, second, third = pipeline(model, detector=detector)(PHOTO).people
        assert second == Person(edge, detection=pytest.approx(0.8))
        assert first.scores
        assert third.scores


class TestGivenBoxes:
    def test_need_no_detector(self):
        result = pipeline(human())(PHOTO, torch.tensor(BOXES))
        assert [person.box for person in result.people] == list(BOXES)
        assert [person.detection for person in result.people] == [None, None]

    @pytest.mark.parametrize("form", [torch.tensor, np.array, list], ids=["tensor", "array", "list"])
    def test_come_in_several_forms(self, form):
        pipe = pipeline(human())
        given = [[int(v) for v in box] for box in BOXES]
        assert pipe(PHOTO, form(given)).people == pipe(PHOTO, torch.tensor(given).float()).people

    def test_give_way_to_detections_that_overlap_half_of_them(self):
        given = [[100.0, 100, 200, 200], [400, 100, 500, 200], [600, 100, 700, 200]]
        detector = Planted(
            ((100, 100, 200, 160), 1, 0.6),  # 0.6 of the first
            ((100, 100, 200, 180), 1, 0.55),  # 0.8 of it, though less sure
            ((400, 100, 500, 150), 1, 0.9),  # just half of the second
            ((600, 100, 700, 149), 1, 0.9),  # not quite half of the third
            ((600, 100, 700, 200), 2, 0.9),  # not a person
            ((600, 100, 700, 200), 1, 0.3),  # hardly one
        )
        found = pipeline(human(), detector=detector)(PHOTO, given).people
        assert [person.box for person in found] == [(100, 100, 200, 180), (400, 100, 500, 150), (600, 100, 700, 200)]
        assert [person.detection for person in found] == [pytest.approx(0.55), pytest.approx(0.9), None]
        assert all(person.label for person in found)

    def test_outside_the_picture_keep_their_place_without_a_label(self):
        boxes = [(900.0, 10.0, 950.0, 80.0), BOXES[0], (30.0, 40.0, 30.0, 90.0), (-50.0, -50.0, -1.0, 60.0), BOXES[1]]
        result = pipeline(human())(PHOTO, boxes)
        assert [person.box for person in result.people] == boxes
        assert [person.label is None for person in result.people] == [True, False, True, True, False]
        alone = pipeline(human())(PHOTO, [BOXES[1]])
        assert result.people[4].scores == pytest.approx(alone.people[0].scores, abs=1e-5)
        assert not result.image_only
        rows = json.loads(result.to_json(), parse_constant=pytest.fail)["people"]
        assert (rows[0]["label"], rows[0]["score"], rows[0]["top"]) == (None, None, [])
        assert result.draw().mode == "RGB"

    def test_all_outside_is_nobody(self):
        result = pipeline(human())(PHOTO, [[900, 10, 950, 80]])
        assert result.image_only
        assert len(result.people) == 1
        assert result.label in persons.CLASSES
        assert result.draw().mode == "RGB"

    @pytest.mark.parametrize("none", [[], torch.zeros(0, 4)], ids=["list", "tensor"])
    def test_none_is_nobody_whatever_a_detector_finds(self, none):
        for detector in (None, TWO):
            result = pipeline(human(), detector=detector)(PHOTO, none)
            assert (result.people, result.image_only) == ([], True)

    @pytest.mark.parametrize(
        "boxes", [[1.0, 2, 3, 4], [[1.0, 2, 3]], [[1, 2, 3, float("nan")]], [[1, 2, 3, float("inf")]], [[[1, 2, 3, 4]]]]
    )
    def test_of_other_shapes_are_refused(self, boxes):
        with pytest.raises(ValueError, match=r"boxes of the people are \(N, 4\) finite xyxy"):
            pipeline(human())(PHOTO, boxes)

    def test_without_boxes_and_detector_there_is_nobody_to_find(self):
        pipe = pipeline(human())
        with pytest.raises(ValueError, match="convit_har_person_tiny labels people and finds none: give their boxes"):
            pipe(PHOTO)
        with pytest.raises(ValueError, match="finds none"):
            pipe([PHOTO, PHOTO], [BOXES, None])


class TestPictures:
    def test_a_list_of_pictures_takes_a_list_of_boxes(self):
        pipe, image = pipeline(human(), detector=TWO), load_image(PHOTO)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        first, second, third = pipe([str(PHOTO), image, tensor], [BOXES[:1], None, None])
        # as the detector sees them
        assert [person.box for person in first.people] == [BOXES[0]]
        assert first.people[0].detection == 0.75
        assert [person.box for person in second.people] == [BOXES[1], BOXES[0]]
        assert second.people == third.people
        assert [result.source for result in (first, second, third)] == [str(PHOTO), None, None]
        assert [len(result.people) for result in pipe((image, image))] == [2, 2]
        assert pipe([]) == []
        with pytest.raises(ValueError, match="takes boxes for each; got 2 and 1"):
            pipe([PHOTO, image], [BOXES])
        with pytest.raises(ValueError, match=r"\(N, 4\)"):
            pipe([PHOTO, image], BOXES)

    def test_bad_pictures(self, tmp_path):
        pipe = pipeline(human(), detector=TWO)
        with pytest.raises(TypeError, match="got int"):
            pipe(3)
        with pytest.raises(FileNotFoundError, match="no such picture"):
            pipe(tmp_path / "absent.jpg")


class TestResult:
    def test_json_holds_what_was_found(self):
        result = pipeline(human(), detector=TWO)(PHOTO)
        row = json.loads(result.to_json(2), parse_constant=pytest.fail)
        assert (row["size"], row["model"], row["image_only"]) == (list(SIZE), "convit_har_person_tiny", False)
        assert row["label"] == result.label
        assert [person["box"] for person in row["people"]] == [list(BOXES[1]), list(BOXES[0])]
        assert [person["detection"] for person in row["people"]] == [0.875, 0.75]
        for person in row["people"]:
            assert person["top"][0] == {"label": person["label"], "score": person["score"]}
            assert len(person["top"]) == 2

    def test_pictures_are_drawn_without_touching_the_input(self):
        result = pipeline(human(), detector=TWO)(PHOTO)
        before = result.image.copy()
        drawn = result.draw(3)
        assert drawn.mode == "RGB"
        assert drawn.width > SIZE[0]
        assert drawn.height >= SIZE[1]
        assert ImageChops.difference(before, result.image).getbbox() is None
        left, top, right, bottom = ImageChops.difference(before, drawn.crop((0, 0, *SIZE))).getbbox()
        assert left == pytest.approx(100, abs=6)
        assert right == pytest.approx(820, abs=6)
        assert bottom == pytest.approx(500, abs=6)
        assert top < 60

    def test_maps_are_what_convit_looked_at(self):
        model = human()
        result = pipeline(model, detector=TWO)(PHOTO)
        batch = eval_transform(model.pretrained_cfg)(load_image(PHOTO))[None]
        with torch.no_grad():
            cam, logits = model.convit.class_activation_map(batch), model.convit(batch)[0]
            mean = model.convit.heat_map(batch)[0]
        best = int(logits.argmax())
        assert persons.CLASSES[best] == result.label
        assert_close(cam.sum() + model.convit.fc.bias[best].detach(), logits[best])
        assert set(result.maps) == {"grad_cam", "channel_mean"}
        assert_close(result.maps["grad_cam"], cam[0].relu())
        assert_close(result.maps["channel_mean"], mean)

    def test_maps_are_laid_over_what_the_model_saw(self):
        model = human()
        model.pretrained_cfg["crop_pct"] = 0.5
        result = pipeline(model, detector=TWO)(PHOTO)
        grad_cam, mean = result.draw_attention("grad_cam"), result.draw_attention("channel_mean")
        assert grad_cam.size == mean.size == SIZE
        assert ImageChops.difference(grad_cam, mean).getbbox() is not None
        assert ImageChops.difference(grad_cam, result.draw_attention()).getbbox() is None
        box = ImageChops.difference(mean, result.image).getbbox()
        assert box == pytest.approx((212.5, 141.75, 637.5, 425.25), abs=3)

    def test_a_map_lies_the_right_way_round(self):
        result = pipeline(human(), detector=TWO)(PHOTO)
        heat = torch.zeros(2, 2)
        heat[0, 1] = 1  # above to the right
        result.maps["mine"] = heat
        changed = np.abs(np.array(result.draw_attention("mine"), float) - np.array(result.image, float)).sum(2)
        plain = result.maps | {"mine": torch.zeros(2, 2)}
        result.maps.update(plain)
        base = np.abs(np.array(result.draw_attention("mine"), float) - np.array(result.image, float)).sum(2)
        gain = np.abs(changed - base)
        quarters = [gain[:280, :420].mean(), gain[:280, 430:].mean(), gain[290:, :420].mean(), gain[290:, 430:].mean()]
        assert max(quarters) == quarters[1]

    def test_unknown_maps(self):
        result = pipeline(human(), detector=TWO)(PHOTO)
        with pytest.raises(RuntimeError, match="no map 'gradcam'; it has grad_cam, channel_mean"):
            result.draw_attention("gradcam")
        small = {"backbone_args": persons.TRUNK, "dim": 16, "hidden": 16}
        other = pipeline(actionzoo.create("prfnet_tiny", num_classes=3, **small))(PHOTO)
        assert other.maps == {}
        assert other.draw_attention().size == SIZE
        with pytest.raises(RuntimeError, match="no map 'grad_cam'; it has none"):
            other.draw_attention("grad_cam")
        with pytest.raises(RuntimeError, match="no attention map"):
            ActionResult((), (), "m", image=load_image(PHOTO)).draw_attention()

    def test_convit_alone_has_maps_too(self):
        pipe = pipeline(persons.convit())
        assert isinstance(pipe, ActionPipeline)
        result = pipe(PHOTO)
        assert {name: tuple(heat.shape) for name, heat in result.maps.items()} == {
            "grad_cam": (2, 2),
            "channel_mean": (2, 2),
        }
        assert result.draw_attention("channel_mean").size == SIZE
        assert not result.image_only


class TestDetectionPipeline:
    def test_finds_people_and_labels_none(self):
        found = Planted((BOXES[0], 1, 0.75), (BOXES[1], 1, 0.875), ((1, 1, 50, 50), 17, 0.9), ((1, 1, 50, 50), 1, 0.1))
        result = DetectionPipeline(found)(PHOTO)
        assert result.people == [Person(BOXES[1], detection=0.875), Person(BOXES[0], detection=0.75)]
        assert (result.classes, result.scores, result.top(), result.maps) == ((), (), [], {})
        assert not result.image_only
        with pytest.raises(RuntimeError, match=r"see \.people"):
            _ = result.label
        row = json.loads(result.to_json(), parse_constant=pytest.fail)
        assert (row["label"], row["score"], row["top"], row["size"]) == (None, None, [], list(SIZE))
        assert row["people"][0]["detection"] == 0.875
        drawn = result.draw()
        assert drawn.size == SIZE
        assert ImageChops.difference(drawn, result.image).getbbox() is not None
        with pytest.raises(RuntimeError, match="no attention map"):
            result.draw_attention()

    def test_one_person_is_drawn_with_the_detectors_score(self):
        drawn = [DetectionPipeline(Planted((BOXES[0], 1, score)))(PHOTO).draw() for score in (0.6, 0.9)]
        assert ImageChops.difference(*drawn).getbbox() is not None

    def test_nobody(self):
        result = DetectionPipeline(Planted())(PHOTO)
        assert result.people == []
        assert result.draw().size == SIZE

    def test_a_network_by_name(self, tmp_path):
        model = persons.detector(box_score_thresh=0.0)
        model.save_pretrained(tmp_path / "saved")
        pipe = pipeline(f"local-dir:{tmp_path / 'saved'}")
        assert isinstance(pipe, DetectionPipeline)
        assert pipe.name == "person_tiny"
        assert not pipe.detector.training
        pipe.threshold = 0.0
        results = pipe([PHOTO, load_image(PHOTO)])
        assert results[0].people == results[1].people
        with torch.no_grad():
            (out,) = model.eval()([torch.from_numpy(np.array(load_image(PHOTO))).permute(2, 0, 1) / 255])
        assert len(out["boxes"]) == len(results[0].people) > 0
        for person, box, score in zip(results[0].people, out["boxes"], out["scores"]):
            assert person.box == pytest.approx(tuple(box.tolist()), abs=1e-3)
            assert person.detection == pytest.approx(score.item(), abs=1e-5)

    def test_refusals(self, tmp_path):
        pipe = DetectionPipeline(Planted())
        for threshold in (-0.1, 1.5, float("nan")):
            with pytest.raises(ValueError, match="a score in"):
                DetectionPipeline(Planted(), threshold=threshold)
        with pytest.raises(TypeError, match="got int"):
            pipe(3)
        with pytest.raises(FileNotFoundError, match="no such picture"):
            pipe(tmp_path / "absent.jpg")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    human().save_pretrained(folder / "human")
    persons.detector().save_pretrained(folder / "detector")
    return {name: f"local-dir:{folder / name}" for name in ("human", "detector")}


class TestBuilding:
    def test_by_name(self, saved):
        pipe = pipeline(saved["human"], detector=saved["detector"])
        assert isinstance(pipe, PersonActionPipeline)
        assert pipe.classes == persons.CLASSES
        assert pipe.detector.name == "person_tiny"
        alone = pipeline(saved["human"])
        assert alone.detector is None
        assert alone(PHOTO, BOXES).people == pipeline(human())(PHOTO, BOXES).people

    def test_the_detector_that_the_weights_name(self, saved):
        model = human()
        model.pretrained_cfg["detector"] = saved["detector"]
        assert pipeline(model).detector.name == "person_tiny"
        assert pipeline(model, detector=TWO).detector.detector is TWO
        # a module of no parts counts as false
        given = torch.nn.Sequential()
        assert pipeline(model, detector=given).detector.detector is given

    def test_no_detector_leaves_given_boxes_where_they_are(self, saved):
        model = human()
        model.pretrained_cfg["detector"] = saved["detector"]
        pipe = pipeline(model, detector=False)
        assert pipe.detector is None
        result = pipe(PHOTO, BOXES)
        assert [list(person.box) for person in result.people] == [list(map(float, box)) for box in BOXES]
        assert {person.detection for person in result.people} == {None}

    def test_the_threshold_reaches_the_detector(self, saved):
        assert pipeline(human(), detector=TWO, threshold=0.3).detector.threshold == 0.3
        assert pipeline(saved["detector"], threshold=0.2).threshold == 0.2
        with pytest.raises(ValueError, match=r"threshold is a score in \[0, 1\], got 2"):
            pipeline(human(), detector=TWO, threshold=2)

    @pytest.mark.parametrize(
        "make",
        [
            persons.convit,
            persons.detector,
            people.bodypart,
            lambda: actionzoo.create("plain_tiny", num_classes=2, backbone_args=persons.TRUNK),
        ],
        ids=["convit", "detector", "bodypart", "plain"],
    )
    def test_a_detector_for_other_models_is_refused(self, make):
        with pytest.raises(ValueError, match="labels no people one by one; a detector is for convit_har_person_"):
            pipeline(make(), detector=TWO)

    def test_refusals(self, tmp_path):
        with pytest.raises(ValueError, match="ConViTHAR labels no people; give a convit_har_person_"):
            PersonActionPipeline(persons.convit())
        with pytest.raises(ValueError, match="threshold is a score"):
            PersonActionPipeline(human(), detector=TWO, threshold=2.0)
        model = human()
        model.reset_classifier(0)
        with pytest.raises(ValueError, match="no classifier"):
            pipeline(model)
        with pytest.raises(RuntimeError, match="labels or joints would be random"):
            pipeline(human(), detector="person_resnet50")
        persons.convit().save_pretrained(tmp_path / "convit")
        with pytest.raises(ValueError, match="is a ConViTHAR and no detector; give a person_"):
            pipeline(human(), detector=f"local-dir:{tmp_path / 'convit'}")

    def test_new_classifiers_do_not_speak_with_the_old_names(self):
        model = human()
        model.reset_classifier(2)
        result = pipeline(model)(PHOTO, BOXES)
        assert result.classes == ("class_0", "class_1")
        assert len(result.people[0].scores) == 2
