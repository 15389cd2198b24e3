"""The command line on person detectors and on models that label people."""

import json

import pytest
import torch
from PIL import Image

import actionzoo
from actionzoo.cli import build_parser, main
from actionzoo.cli.data import read_task
from actionzoo.data import load_image
from actionzoo.training import recipes
from tests import persons, pictures

from .test_commands import PHOTO, fails

FAST = ["--epochs", "1", "--batch-size", "6", "--json"]
HUMAN = ["--model", "convit_har_person_tiny"]
DETECTOR = ["--model", "person_tiny", *persons.model_args(persons.DETECTOR)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Arguments that give boxed pictures."""
    folder = persons.write(tmp_path_factory.mktemp("people"))
    return ["--data", str(folder), "--person-boxes", str(folder / "boxes.csv")]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Networks with random weights."""
    folder = tmp_path_factory.mktemp("saved")
    made = {"convit": persons.convit(), "human": persons.human(), "five": persons.convit(5)}
    for name, model in made.items():
        model.pretrained_cfg["classes"] = list(persons.CLASSES) if name != "five" else list("abcde")
    made["detector"] = persons.detector(box_score_thresh=0.0)
    small = {"backbone_args": persons.TRUNK}
    made["plain"] = actionzoo.create("plain_tiny", num_classes=3, **small)
    made["prfnet"] = actionzoo.create("prfnet_tiny", num_classes=3, **small, dim=16, hidden=16)
    for name, model in made.items():
        model.save_pretrained(folder / name)
    return {name: f"local-dir:{folder / name}" for name in made}


@pytest.fixture(scope="module", autouse=True)
def no_curves():
    """Leave out the reports' pictures, which take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actionzoo.training.human_branch.write_report", lambda *_: [])
        yield


def state(name):
    return actionzoo.create(name).state_dict()


class TestTrain:
    def test_a_detector_then_eval_then_predict(self, data, saved, tmp_path, capsys):
        run = tmp_path / "run"
        assert main(["train", *DETECTOR, "--convit", saved["convit"], *data, "--output", str(run), *FAST]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert (metrics["split"], metrics["images"], metrics["people"]) == ("test", 6, 7)
        config = json.loads((run / "config.json").read_text())
        assert config["recipe"]["source"] == recipes["detector"].source
        # the ConViT's backbone, which is another than the tiny detector's own
        trunk = persons.TRUNK | {"channels": list(persons.TRUNK["channels"])}
        assert config["model_args"]["trunk_args"] == trunk
        trained = state(f"local-dir:{run}")
        for name, value in state(saved["convit"]).items():
            if name.startswith("backbone."):
                assert torch.equal(trained[f"backbone.trunk.{name.removeprefix('backbone.')}"], value)

        report = ["--output", str(tmp_path / "report")]
        assert main(["eval", "--model", f"local-dir:{run}", *data, "--json", *report]) == 0
        scored = json.loads(capsys.readouterr().out)
        assert {key: scored[key] for key in ("ap50", "coco_ap")} == {key: metrics[key] for key in ("ap50", "coco_ap")}
        assert json.loads((tmp_path / "report" / "detection.json").read_text())["ap50"] == metrics["ap50"]

        out = ["--output", str(tmp_path / "out")]
        assert main(["predict", str(PHOTO), "--model", f"local-dir:{run}", *out]) == 0
        assert capsys.readouterr().out.splitlines()[0] == PHOTO.name
        with Image.open(tmp_path / "out" / f"{PHOTO.stem}_actionzoo.jpg") as image:
            assert image.size == load_image(PHOTO).size

    def test_a_human_branch_then_eval_then_predict(self, data, saved, tmp_path, capsys):
        run = tmp_path / "run"
        train = ["train", *HUMAN, "--convit", saved["convit"], *data, "--output", str(run), *FAST]
        assert main([*train, "--val-fraction", "0.25"]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert (metrics["images"], metrics["with_people"]) == (6, 5)
        config = json.loads((run / "config.json").read_text())
        assert config["recipe"]["source"] == recipes["human_branch"].source
        assert config["classes"] == list(persons.CLASSES)
        assert config["input_size"] == [3, 64, 64]
        assert config["model_args"]["fusion"] == metrics["fusion"]
        trained = state(f"local-dir:{run}")
        for name, value in state(saved["convit"]).items():
            assert torch.equal(trained[f"convit.{name}"], value), name
        (row,) = json.loads((run / "history.json").read_text())
        assert "val_top1" in row

        assert main(["eval", "--model", f"local-dir:{run}", *data, "--json"]) == 0
        scored = json.loads(capsys.readouterr().out)
        same = ("top1", "map", "kappa", "branches", "fusion", "with_people")
        assert {key: scored[key] for key in same} == {key: metrics[key] for key in same}

        predict = ["predict", str(PHOTO), "--model", f"local-dir:{run}", "--no-draw", "--json"]
        assert main([*predict, "--boxes", "60,50,300,500", "900,1,950,9"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["label"] in persons.CLASSES
        assert [person["box"] for person in row["people"]] == [[60, 50, 300, 500], [900, 1, 950, 9]]
        assert row["people"][0]["label"] in persons.CLASSES
        assert row["people"][1]["label"] is None

    def test_the_size_that_the_convit_was_trained_at_is_kept(self, data, tmp_path, capsys):
        convit = persons.convit()
        convit.pretrained_cfg.update(input_size=(3, 32, 32), test_input_size=(3, 48, 48), mean=(0.5, 0.5, 0.5))
        convit.save_pretrained(tmp_path / "convit")
        train = ["train", *HUMAN, "--convit", f"local-dir:{tmp_path / 'convit'}", *data, *FAST]
        for name, size, expected in (
            ("own", [], [[3, 32, 32], [3, 48, 48]]),
            ("asked", ["--img-size", "48"], [[3, 48, 48]] * 2),
            ("argument", ["--model-args", "input_size=(3,62,62)"], [[3, 62, 62], None]),
        ):
            assert main([*train, *size, "--output", str(tmp_path / name)]) == 0
            capsys.readouterr()
            config = json.loads((tmp_path / name / "config.json").read_text())
            assert [config["input_size"], config.get("test_input_size")] == expected
            assert config["mean"] == [0.5, 0.5, 0.5]

    def test_classes_are_numbered_as_the_convit_does(self, data, tmp_path, capsys):
        convit = persons.convit()
        # its classifier calls everything the class that is its last, and the data's first
        convit.pretrained_cfg["classes"] = [*reversed(persons.CLASSES)]
        torch.nn.init.zeros_(convit.fc.weight)
        convit.fc.bias.data = torch.tensor([0.0, 0, 9])
        convit.save_pretrained(tmp_path / "convit")
        train = ["train", *HUMAN, "--convit", f"local-dir:{tmp_path / 'convit'}", *data]
        assert main([*train, *FAST, "--output", str(tmp_path / "run")]) == 0
        capsys.readouterr()
        assert json.loads((tmp_path / "run" / "config.json").read_text())["classes"] == ["walk", "sit", "jump"]
        assert (
            main(["predict", "--model", f"local-dir:{tmp_path / 'run'}", "--no-draw", "--json", "--boxes", "1,1,90,90"])
            == 0
        )
        assert json.loads(capsys.readouterr().out)[0]["label"] == "jump"

    def test_whole_weights_instead_of_a_convit(self, data, saved, tmp_path, capsys):
        for name in ("human", "detector"):
            run = tmp_path / name
            assert main(["train", "--model", saved[name], *data, "--output", str(run), *FAST]) == 0
            capsys.readouterr()
            moved = persons.changed(state(saved[name]), state(f"local-dir:{run}"))
            assert moved
            assert not any(key.startswith(("convit.", "backbone.trunk.")) for key in moved)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([*HUMAN], "would be random; give a trained one as --convit"),
            ([*DETECTOR], "would be random; give a trained one as --convit"),
            (
                ["--model", "plain_tiny", "--convit", "CONVIT"],
                "--convit is for --model person_*, keypointrcnn_tiny and convit_har_person_*",
            ),
            (["--model", "convit_har_tiny", "--convit", "CONVIT"], "--convit is for --model person_*"),
            ([*HUMAN, "--convit", "PLAIN"], "takes a trained convit_har_* model"),
            ([*HUMAN, "--convit", "PRFNET"], "is a PRFNet"),
            ([*HUMAN, "--convit", "HUMAN"], "is a ConViTHARPerson"),
            ([*DETECTOR, "--convit", "PLAIN"], "takes a trained convit_har_* model"),
            ([*HUMAN, "--convit", "convit_har_resnet50"], "no weights for the whole of 'convit_har_resnet50'"),
            ([*HUMAN, "--convit", "local-dir:absent"], "absent"),
            ([*HUMAN, "--convit", "FIVE"], "does not know the classes ['jump', 'sit', 'walk'] of the data"),
            ([*HUMAN, "--convit", "CONVIT", "--model-args", "backbone='resnet10t'"], "does not fit the ConViT"),
            ([*DETECTOR, "trunk='resnet10t'", "--convit", "CONVIT"], "does not fit the trunk"),
            ([*DETECTOR, "--convit", "CONVIT", "--img-size", "32"], "scales pictures itself"),
            ([*DETECTOR, "--convit", "CONVIT", "--set", "mixup=0.4"], "takes no notice of mixup"),
            ([*HUMAN, "--convit", "CONVIT", "--set", "mixup=0.4"], "takes no notice of mixup"),
            ([*HUMAN, "--convit", "CONVIT", "--model-args", "multi_label=True"], "multi_label=False"),
        ],
    )
    def test_refusals(self, data, saved, tmp_path, capsys, arguments, message):
        arguments = [saved.get(argument.lower(), argument) for argument in arguments]
        fails(capsys, "train", *arguments, *data, "--output", str(tmp_path / "run"), *FAST, match=message)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(("model", "kind"), [(HUMAN, "ConViTHARPerson"), (DETECTOR, "PersonDetector")])
    def test_boxes_are_needed(self, data, saved, tmp_path, capsys, model, kind):
        train = ["train", *model, "--convit", saved["convit"], "--output", str(tmp_path / "run"), *FAST]
        fails(capsys, *train, *data[:2], match=f"{kind} learns from the boxes of people, which --person-boxes gives")
        fails(capsys, *train, "--data", "figures:pose", match=f"{kind} finds no joints")
        fails(capsys, *train, match="no data: give --data")
        assert not (tmp_path / "run").exists()

    def test_a_part_that_would_be_frozen_at_random_is_refused(self, data, saved, tmp_path, capsys):
        # weights of other classes: the frozen classifier would be a new one
        human = persons.human(5)
        human.save_pretrained(tmp_path / "five")
        weights = str(tmp_path / "five" / "model.safetensors")
        for source in (["--model", f"local-dir:{tmp_path / 'five'}"], [*HUMAN, "--weights", weights]):
            run = ["--output", str(tmp_path / "run"), *FAST]
            fails(capsys, "train", *source, *data, *run, match="convit.fc of this ConViTHARPerson would be frozen at")
        assert not (tmp_path / "run").exists()

    def test_eval_needs_boxes_too(self, data, saved, capsys):
        for name in ("human", "detector"):
            fails(capsys, "eval", "--model", saved[name], *data[:2], match="which --person-boxes gives")


class TestPredict:
    def test_people_are_printed_and_drawn(self, saved, tmp_path, capsys):
        argv = [
            "predict",
            str(PHOTO),
            "--model",
            saved["human"],
            "--output",
            str(tmp_path),
            "--attention",
            "--top",
            "2",
        ]
        assert main([*argv, "--boxes", "60,50,300,500", "400,60,820.5,500"]) == 0
        out = capsys.readouterr().out
        lines = out.splitlines()
        assert [line for line in lines if line.startswith("  person")] == ["  person 1", "  person 2"]
        assert out.count(" %") == 4
        for name in ("actionzoo", "attention"):
            with Image.open(tmp_path / f"{PHOTO.stem}_{name}.jpg") as image:
                assert image.width >= load_image(PHOTO).width

    def test_a_detector_finds_them(self, saved, capsys, monkeypatch):
        from actionzoo.models import PersonDetector

        found = {
            "boxes": torch.tensor([[60.0, 50, 300, 500]]),
            "labels": torch.tensor([1]),
            "scores": torch.tensor([0.9]),
        }
        monkeypatch.setattr(PersonDetector, "forward", lambda self, pictures: [found])
        predict = ["predict", "--model", saved["human"], "--detector", saved["detector"], "--no-draw"]
        assert main(predict) == 0
        assert "  person 1: found with 90% at 60, 50, 300, 500" in capsys.readouterr().out.splitlines()
        # a given box gives way to it
        assert main([*predict, "--json", "--boxes", "70,50,300,500"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["people"][0]["box"], row["people"][0]["detection"]) == ([60, 50, 300, 500], 0.9)
        assert row["image_only"] is False

    def test_a_detector_that_finds_nobody_says_so(self, saved, capsys):
        assert main(["predict", "--model", saved["detector"], "--threshold", "1", "--no-draw"]) == 0
        assert capsys.readouterr().out.splitlines()[1:] == ["  nobody found"]

    def test_without_a_detector_boxes_stay(self, saved, capsys):
        command = ["predict", "--model", saved["human"], "--detector", "none", "--no-draw", "--json"]
        assert main([*command, "--boxes", "100,50,300,400"]) == 0
        (person,) = json.loads(capsys.readouterr().out)[0]["people"]
        assert (person["box"], person["detection"]) == ([100, 50, 300, 400], None)

    def test_nobody_is_said_to_be_nobody(self, saved, capsys, monkeypatch):
        from actionzoo.models import PersonDetector

        none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)}
        monkeypatch.setattr(PersonDetector, "forward", lambda self, pictures: [none])
        predict = ["predict", "--model", saved["human"], "--detector", saved["detector"], "--no-draw"]
        assert main([*predict, "--top", "3"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1] == "  nobody to label; the image as a whole:"
        assert len(lines) == 5
        assert main([*predict, "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["people"], row["image_only"]) == ([], True)
        assert row["label"] in persons.CLASSES

    def test_pictures_of_a_folder(self, data, saved, capsys):
        argv = ["predict", data[1] + "/test", "--model", saved["human"], "--detector", saved["detector"]]
        assert main([*argv, "--no-draw", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 6

    @pytest.mark.parametrize(
        ("model", "arguments", "message"),
        [
            ("human", [], "labels people and finds none: give --boxes, or a --detector such as person_tiny"),
            ("human", ["--boxes", "1,2,3"], "a box is X1,Y1,X2,Y2"),
            ("human", ["--boxes", "1,2,3,nan"], "finite xyxy"),
            ("human", ["--detector", "CONVIT", "--boxes", "1,2,30,40"], "is a ConViTHAR and no detector"),
            ("human", ["--detector", "person_resnet50"], "labels or joints would be random"),
            ("human", [str(PHOTO.parent), "--boxes", "1,2,3,4"], "those of one picture, and there are"),
            ("convit", ["--boxes", "1,2,3,4"], "takes whole pictures; --boxes are for models that find joints"),
            ("convit", ["--detector", "DETECTOR"], "ConViTHAR labels no people one by one"),
            ("detector", ["--detector", "DETECTOR"], "PersonDetector labels no people one by one"),
            ("detector", ["--boxes", "1,2,3,4"], "takes whole pictures"),
            ("detector", ["--attention"], "no attention map"),
        ],
    )
    def test_refusals(self, saved, tmp_path, capsys, model, arguments, message):
        arguments = [saved.get(argument.lower(), argument) for argument in arguments]
        out = ["--output", str(tmp_path / "out")]
        fails(capsys, "predict", *arguments, "--model", saved[model], *out, match=message)
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def model():
    return actionzoo.create("plain_tiny", num_classes=3, test_input_size=None, backbone_args=persons.TRUNK)


class TestPersonBoxes:
    @pytest.fixture
    def folder(self, tmp_path):
        return pictures.write(tmp_path / "shapes", train=2, test=1)

    def read(self, model, *argv):
        return read_task(build_parser().parse_args(["train", "--output", "x", *map(str, argv)]), model)

    def test_of_class_folders(self, folder, tmp_path, model):
        table = tmp_path / "boxes.csv"
        table.write_text('split,class,file,person_boxes_xyxy_score\ntrain,circle,0.png,"[[1,2,30,40,0.9]]"\n')
        found = self.read(model, "--data", folder, "--person-boxes", table).samples.boxes
        assert {path: boxes.tolist() for path, boxes in found.items()} == {
            folder / "train/circle/0.png": [[1, 2, 30, 40]]
        }

    @pytest.mark.parametrize("root", [True, False])
    def test_of_a_table_of_pictures_lie_at_its_root_or_beside_it(self, folder, tmp_path, model, root):
        labels = folder / "labels.csv"
        labels.write_text("split,file,kind\ntrain,circle/0.png,x\ntrain,circle/1.png,y\n")
        boxes = tmp_path / "boxes.csv"
        boxes.write_text('split,file,person_boxes_xyxy_score\ntrain,circle/1.png,"[[1,2,30,40,0.9]]"\n')
        argv = ["--data", labels, "--label", "kind", "--person-boxes", boxes, *(["--root", folder] if root else [])]
        assert list(self.read(model, *argv).samples.boxes) == [folder / "train/circle/1.png"]

    def test_say_nothing_of_people_with_joints(self, folder):
        from tests import people

        model = people.bodypart(3)
        for argv, message in (
            (["--data", "figures:pose"], "--person-boxes says something of labelled pictures"),
            (["--pose-data", "a.json", "--pose-images", "a"], "--person-boxes says something of labelled pictures"),
            (["--data", folder], "takes every picture as one person"),
        ):
            with pytest.raises(ValueError, match=message):
                self.read(model, *argv, "--person-boxes", "boxes.csv")
