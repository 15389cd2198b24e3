import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops
from torch.testing import assert_close

import actionzoo
from actionzoo.cli.predict import ASSETS
from actionzoo.data import ActingFigures, FigurePeople, load_image
from actionzoo.data.top_down import crop_matrix
from actionzoo.layers import crop_resize
from actionzoo.pipeline import ActionPipeline, PeoplePipeline, Person, pipeline
from tests import people

PHOTO = ASSETS / "weightlifter_public_domain.jpg"
# heat-map cells of sixteen joints that the tests can tell apart
CELLS = [(1 + k % 6, 2 + k % 5) for k in range(16)]


def marked(size, point, colour=(255, 0, 0)):
    """A black picture with one bright pixel."""
    picture = Image.new("RGB", size)
    picture.putpixel(point, colour)
    return picture


@pytest.fixture
def pipe():
    model = people.bodypart(4)
    model.pretrained_cfg["classes"] = ["a_b", "c", "d", "e"]
    return pipeline(model)


def plant(model, cells, peak=0.9):
    """Make the pose convolution answer with one peak per joint, whatever it sees."""
    maps = torch.zeros(len(cells), 8, 8)
    for joint, (x, y) in enumerate(cells):
        maps[joint, y, x] = peak
    model.pose.register_forward_hook(lambda module, args, output: output * 0 + maps)


class TestKeypoints:
    @pytest.mark.parametrize(
        ("box", "window"),
        [
            (None, (-28.0, 0.0, 100.0)),
            ([10, 20, 50, 60], (5.0, 15.0, 50.0)),
            ([10, 20, 40, 100], (-25.0, 10.0, 100.0)),
        ],
        ids=["whole", "square", "tall"],
    )
    def test_come_back_in_pixels_of_the_picture(self, box, window):
        result = pipeline(people.PlantedPeaks(CELLS))(Image.new("RGB", (44, 100)), None if box is None else [box])
        left, top, side = window
        # the centre of a cell's first pixel in the crop of 64 pixels, as a share of the window
        expected = [[left + (4 * x + 0.5) * side / 64 - 0.5, top + (4 * y + 0.5) * side / 64 - 0.5] for x, y in CELLS]
        points = torch.tensor(result.people[0].keypoints)
        assert_close(points[:, :2], torch.tensor(expected), atol=1e-3, rtol=0)
        assert_close(points[:, 2], torch.full((16,), 0.8))

    def test_lie_where_the_network_saw_them(self):
        """A bright pixel of the picture shows up in the crop at the pixel whose heat-map cell is decoded."""
        model = people.PlantedPeaks([(5, 9)])
        x, y, _ = pipeline(model)(Image.new("RGB", (90, 90)), [[13, 17, 64, 68]]).people[0].keypoints[0]
        picture = marked((90, 90), (round(x), round(y)))
        pipeline(model)(picture, [[13, 17, 64, 68]])
        row, column = divmod(int(model.seen[-1][0, 0].argmax()), 64)
        assert abs(column - 4 * 5) <= 1
        assert abs(row - 4 * 9) <= 1

    def test_a_peak_between_two_cells_is_moved_a_quarter(self):
        model = people.PlantedPeaks([(5, 9)])
        model.heatmaps[0, 9, 6] = 0.4
        x, y, _ = pipeline(model)(Image.new("RGB", (64, 64))).people[0].keypoints[0]
        assert (x, y) == pytest.approx((4 * 5.25, 4 * 9))

    def test_of_oblong_inputs(self):
        model = people.PlantedPeaks([(3, 20)], size=(96, 64))
        x, y, _ = pipeline(model)(Image.new("RGB", (64, 96))).people[0].keypoints[0]
        assert (x, y) == pytest.approx((12, 80))
        assert model.seen[0].shape == (1, 3, 96, 64)

    def test_missing_and_spoilt_joints_stay_numbers(self):
        model = people.PlantedPeaks(CELLS[:3])
        model.heatmaps[1] = float("nan")
        model.heatmaps[2] = 0
        result = pipeline(model)(Image.new("RGB", (64, 64)))
        assert result.people[0].joints_seen == 1
        assert [score for _, _, score in result.people[0].keypoints] == pytest.approx([0.8, 0, 0])
        json.loads(result.to_json(), parse_constant=pytest.fail)
        assert result.draw().mode == "RGB"

    def test_a_pose_net_gives_no_label(self):
        result = pipeline(people.pose())(PHOTO)
        (person,) = result.people
        assert (person.label, person.score, person.parts, result.classes, result.top()) == (None, None, None, (), [])
        for name in ("label", "score"):
            with pytest.raises(RuntimeError, match="finds joints, not actions; see"):
                getattr(result, name)
        row = json.loads(result.to_json())
        assert (row["label"], row["top"], row["people"][0]["top"]) == (None, [], [])
        assert result.draw().size == load_image(PHOTO).size
        with pytest.raises(RuntimeError, match="no attention map; PRF-Net, ConViT and body-part models"):
            result.draw_attention()


class TestPeople:
    def test_every_box_is_a_person_of_its_own(self, pipe):
        boxes = torch.tensor([[60.0, 50, 300, 500], [400, 60, 820, 500], [60, 50, 300, 500]])
        result = pipe(PHOTO, boxes)
        assert [person.box for person in result.people] == [tuple(box.tolist()) for box in boxes]
        alone = [pipe(PHOTO, box[None]).people[0] for box in boxes]
        for together, single in zip(result.people, alone):
            assert together.scores == pytest.approx(single.scores, abs=1e-5)
            assert together.keypoints == [pytest.approx(joint, abs=1e-3) for joint in single.keypoints]
        assert result.people[0].scores == pytest.approx(result.people[2].scores)
        assert result.people[0].scores != pytest.approx(result.people[1].scores, abs=1e-4)
        assert result.scores == result.people[0].scores
        assert result.label == result.people[0].label

    def test_scores_are_those_of_the_ensemble(self, pipe):
        seen = []
        pipe.model.register_forward_hook(lambda module, args, output: seen.append(output))
        result = pipe(PHOTO)
        output = seen[0]
        logits = [output.logits, output.stream_logits["image"], output.stream_logits["part"]]
        expected = sum(x.softmax(1) for x in logits)[0] / 3
        assert_close(torch.tensor(result.scores), expected)
        assert result.label == pipe.classes[int(expected.argmax())]
        assert result.score == result.people[0].score == pytest.approx(float(expected.max()))

    def test_several_actions_at_once_are_scored_each_by_itself(self):
        model = people.bodypart(4)
        model.pretrained_cfg["recipe"] = {"action_loss": "bce"}
        picture = Image.new("RGB", (64, 64), (90, 120, 30))
        scores = torch.tensor(pipeline(model)(picture).people[0].scores)
        with torch.no_grad():
            seen = []
            model.register_forward_hook(lambda module, args, output: seen.append(output))
            pipeline(model)(picture)
        assert_close(scores, model.ensemble(seen[0], multi_label=True)[0])
        assert scores.sum() > 1.2

    @pytest.mark.parametrize("none", [[], torch.zeros(0, 4)], ids=["list", "tensor"])
    def test_without_people_there_is_nothing_to_label(self, pipe, none):
        picture = Image.new("RGB", (64, 48))
        result, other = pipe([picture, picture], [none, [[0, 0, 30, 40]]])
        assert (result.people, result.scores, result.top()) == ([], (), [])
        assert len(other.people) == 1
        with pytest.raises(RuntimeError, match="no people"):
            _ = result.label
        assert json.loads(result.to_json())["label"] is None
        assert result.draw().size[0] >= 64

    def test_grey_models_are_refused(self):
        with pytest.raises(ValueError, match="in_chans=3, not 1"):
            PeoplePipeline(actionzoo.create("pose_tiny", in_chans=1))

    def test_the_whole_picture_is_one_person_by_default(self, pipe):
        result = pipe(PHOTO)
        assert [person.box for person in result.people] == [(0.0, 0.0, 850.0, 567.0)]
        assert result.source == str(PHOTO)

    def test_part_boxes_are_those_of_the_crops(self, pipe):
        figure = FigurePeople(ActingFigures("pose", "test", 3, 160))[1]
        plant(pipe.model, CELLS)
        seen = []
        pipe.model.register_forward_hook(lambda module, args, output: seen.append(output))
        (person,) = pipe(figure.image, figure.box[None]).people
        assert list(person.parts) == ["head", "right", "left"]
        side = float((figure.box[2:] - figure.box[:2]).max()) * 1.25
        pixels = torch.from_numpy(np.array(figure.image)).permute(2, 0, 1) / 255
        matrix = crop_matrix(figure.box, 64)
        for p, (name, joint) in enumerate((("head", 9), ("right", 10), ("left", 15))):
            x1, y1, x2, y2 = person.parts[name]
            box = seen[0].boxes[0, p].float()
            assert x2 - x1 == pytest.approx(y2 - y1)
            assert x2 - x1 == pytest.approx(float(box[2] - box[0]) * side / 64, rel=1e-5)
            # the joint lies in the middle, up to the rounding of boxes to whole pixels of the crop
            x, y, _ = person.keypoints[joint]
            assert abs((x1 + x2) / 2 - 0.5 - x) <= 1.01 * side / 64
            assert abs((y1 + y2) / 2 - 0.5 - y) <= 1.01 * side / 64
            corner = matrix.float() @ torch.tensor([x1 - 0.5, y1 - 0.5, 1])
            assert_close(corner + 0.5, box[:2], atol=1e-3, rtol=0)
        # cut out of the picture itself, a part looks as its crop does
        x1, y1, x2, y2 = (round(v) for v in person.parts["head"])
        direct = crop_resize(pixels[None], torch.tensor([[x1, y1, x2, y2]]), torch.tensor([0]), 32)[0]
        mean, std = (torch.tensor(pipe.cfg[key])[:, None, None] for key in ("mean", "std"))
        crop = seen[0].crops[0, 0] * std + mean
        inside = (crop - 0.01 > 0).all(0) & (direct > 0.01).all(0)
        assert inside.float().mean() > 0.2
        assert (crop - direct).abs()[:, inside].mean() < 0.1

    @pytest.mark.parametrize(
        ("stream", "looked_at"), [("image", []), ("attention", ["attention"]), ("part", ["head", "right", "left"])]
    )
    def test_networks_of_one_stream(self, stream, looked_at):
        result = pipeline(people.bodypart(streams=(stream,)))(PHOTO)
        assert list(result.crops) == looked_at
        assert (result.people[0].parts is None) == (stream != "part")
        assert (result.attention is None) == (stream != "attention")
        assert result.draw().mode == "RGB"

    def test_the_top_of_a_person(self):
        person = Person(scores=(0.2, 0.5, 0.3))
        assert person.top("abc", 2) == [("b", 0.5), ("c", 0.3)]
        assert Person().top("abc") == []
        assert Person().joints_seen == 0


class TestPictures:
    def test_a_list_of_pictures_takes_a_list_of_boxes(self, pipe):
        image = load_image(PHOTO)
        boxes = [[[10, 10, 300, 400]], None]
        first, second = pipe([str(PHOTO), image], boxes)
        assert first.scores == pipe(PHOTO, boxes[0]).scores
        assert second.scores == pipe(image).scores
        assert [result.scores for result in pipe((PHOTO, image))] == [second.scores] * 2
        assert pipe([]) == []
        with pytest.raises(ValueError, match="takes boxes for each; got 2 and 1"):
            pipe([PHOTO, image], [boxes[0]])

    def test_pictures_come_in_several_forms(self, pipe):
        image = load_image(PHOTO)
        tensor = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
        results = pipe([PHOTO, image, tensor.permute(2, 0, 1)])
        assert results[0].scores == results[1].scores == results[2].scores
        assert [result.source for result in results] == [str(PHOTO), None, None]

    @pytest.mark.parametrize(
        ("boxes", "message"),
        [
            ([1.0, 2, 3, 4], r"got \(4,\)"),
            ([[5.0, 5, 5, 9]], "has no area"),
            ([[0.0, 0, float("nan"), 9]], "has no area"),
        ],
        ids=["flat", "no-area", "nan"],
    )
    def test_bad_boxes(self, pipe, boxes, message):
        with pytest.raises(ValueError, match=message):
            pipe(PHOTO, boxes)

    def test_bad_pictures(self, pipe, tmp_path):
        with pytest.raises(TypeError, match="got int"):
            pipe(3)
        with pytest.raises(FileNotFoundError, match="no such picture"):
            pipe(tmp_path / "absent.jpg")


class TestResult:
    def test_json_holds_what_was_found(self, pipe):
        row = json.loads(pipe(PHOTO, [[60, 50, 300, 500], [400, 60, 820, 500]]).to_json(2), parse_constant=pytest.fail)
        assert row["size"] == [850, 567]
        assert len(row["people"]) == 2
        person = row["people"][1]
        assert set(person) == {"box", "label", "score", "top", "keypoints", "parts", "track_id", "detection"}
        assert person["box"] == [400, 60, 820, 500]
        assert person["top"][0] == {"label": person["label"], "score": person["score"]}
        assert len(person["top"]) == 2
        assert [len(joint) for joint in person["keypoints"]] == [3] * 16
        assert {name: len(box) for name, box in person["parts"].items()} == {"head": 4, "right": 4, "left": 4}

    @pytest.mark.parametrize("count", [1, 2])
    def test_pictures_are_drawn_without_touching_the_input(self, pipe, count):
        plant(pipe.model, CELLS)
        result = pipe(PHOTO, [[60, 50, 300, 500], [400, 60, 820, 500]][:count])
        before = result.image.copy()
        drawn = result.draw(3)
        assert drawn.mode == "RGB"
        assert drawn.width > 850
        assert drawn.height > 567 + 64
        assert ImageChops.difference(before, result.image).getbbox() is None
        for box in ((0, 0, 850, 567), (850, 0, drawn.width, 567), (0, 567, *drawn.size)):
            assert np.array(drawn.crop(box)).std() > 5, "a panel is blank"
        # each person's joints are drawn near their box
        difference = ImageChops.difference(before, drawn.crop((0, 0, 850, 567)))
        assert (difference.crop((420, 60, 820, 500)).getbbox() is not None) == (count == 2)

    def test_a_whole_picture_gets_no_frame(self, pipe):
        plant(pipe.model, CELLS, peak=0.01)
        result = pipe(PHOTO)
        assert ImageChops.difference(result.image, result.draw().crop((0, 0, 850, 567))).getbbox() is None

    def test_attention_is_laid_over_the_first_persons_crop(self, pipe):
        result = pipe(PHOTO, [[100, 100, 300, 300], [500, 100, 700, 300]])
        assert result.field_of_view == pytest.approx((75, 75, 325, 325), abs=1e-3)
        assert result.attention.shape == (32, 32)
        changed = ImageChops.difference(result.image, result.draw_attention())
        assert changed.getbbox() == (75, 75, 325, 325)

    def test_attention_far_beyond_the_picture_costs_no_more(self, pipe, monkeypatch):
        picture = Image.new("RGB", (40, 40), (200, 50, 50))
        result = pipe(picture, [[-30_000, -30_000, 30_000, 30_000]])
        sizes = []
        crop = Image.Image.crop
        monkeypatch.setattr(Image.Image, "crop", lambda self, box: (sizes.append(box), crop(self, box))[1])
        assert result.draw_attention().size == (40, 40)
        assert sizes == [(0, 0, 40, 40)]

    def test_attention_of_a_whole_picture(self, pipe):
        result = pipe(PHOTO)
        assert result.field_of_view == pytest.approx((0, -141.5, 850, 708.5), abs=1e-3)
        assert result.draw_attention().size == (850, 567)

    def test_what_it_looked_at(self, pipe):
        result = pipe(PHOTO)
        assert {name: crop.size for name, crop in result.crops.items()} == {
            "attention": (32, 32),
            "head": (32, 32),
            "right": (32, 32),
            "left": (32, 32),
        }

    def test_joints_in_no_known_order_are_drawn_unconnected(self):
        result = pipeline(people.PlantedPeaks(CELLS[:5]))(PHOTO)
        assert ImageChops.difference(result.image, result.draw()).getbbox() is not None


class TestBuilding:
    def test_models_that_find_joints_are_told_from_classifiers(self, pipe):
        assert isinstance(pipe, PeoplePipeline)
        assert isinstance(pipeline(people.pose()), PeoplePipeline)
        small = {"backbone_args": {"channels": (8, 8, 16, 16), "stem_width": 4}}
        assert isinstance(pipeline(actionzoo.create("plain_tiny", num_classes=2, **small)), ActionPipeline)
        with pytest.raises(ValueError, match="is not a bodypart_"):
            PeoplePipeline(torch.nn.Linear(1, 1))

    def test_a_saved_model_by_name(self, pipe, tmp_path):
        pipe.model.save_pretrained(tmp_path / "saved")
        again = pipeline(f"local-dir:{tmp_path / 'saved'}")
        assert again(PHOTO).scores == pipe(PHOTO).scores
        assert again.classes == pipe.classes
        assert (again.name, again.model.training) == ("bodypart_tiny", False)

    def test_a_saved_pose_net_by_name(self, tmp_path):
        model = people.pose()
        model.save_pretrained(tmp_path / "saved")
        again = pipeline(f"local-dir:{tmp_path / 'saved'}")
        assert again(PHOTO).people[0].keypoints == pipeline(model)(PHOTO).people[0].keypoints

    def test_new_classifiers_do_not_speak_with_the_old_names(self, pipe):
        pipe.model.reset_classifier(2)
        assert pipeline(pipe.model).classes == ("class_0", "class_1")
        pipe.model.reset_classifier(0)
        with pytest.raises(ValueError, match="no classifier"):
            pipeline(pipe.model)

    def test_random_weights_are_refused(self):
        with pytest.raises(RuntimeError, match="labels or joints would be random"):
            pipeline("pose_hrnet_w32")
        with pytest.raises(RuntimeError, match="labels or joints would be random"):
            pipeline("bodypart")
