"""The command line on models that find joints."""

import json

import pytest
from PIL import Image

import actionzoo
from actionzoo.cli import main
from actionzoo.data import load_image, read_samples
from actionzoo.training import recipes
from tests import people, pictures

from .test_commands import PHOTO, fails

BODYPART = ["--model", "bodypart_tiny", *people.model_args(people.BODYPART)]
POSE = ["--model", "pose_tiny", *people.model_args(people.POSE)]
FAST = ["--epochs", "1", "--batch-size", "6", "--json"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Labelled pictures, and people with joints as MPII's files have them."""
    folder = tmp_path_factory.mktemp("data")
    pictures.write(folder / "shapes", train=4, test=2)
    people.write_mpii(folder, 6)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A body-part network and a pose net with random weights."""
    folder = tmp_path_factory.mktemp("saved")
    model = people.bodypart(3)
    model.pretrained_cfg["classes"] = list(pictures.CLASSES)
    model.save_pretrained(folder / "bodypart")
    people.pose().save_pretrained(folder / "pose")
    small = {"backbone_args": {"channels": (8, 8, 16, 16), "stem_width": 4}}
    actionzoo.create("plain_tiny", num_classes=3, **small).save_pretrained(folder / "plain")
    return {name: f"local-dir:{folder / name}" for name in ("bodypart", "pose", "plain")}


def poses(data, *splits):
    options = [value for split in splits for value in (f"--pose-{split}", str(data / "people.json"))]
    return [*options, "--pose-images", str(data / "images")]


class TestTrain:
    def test_a_mix_of_files_then_eval_then_predict(self, data, tmp_path, capsys):
        run, shapes = tmp_path / "run", ["--data", str(data / "shapes")]
        train = ["train", *BODYPART, *shapes, *poses(data, "data", "test"), "--output", str(run), *FAST]
        assert main([*train, "--val-fraction", "0.25", "--set", "sigma=1.5"]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert (metrics["people"], metrics["posed"], metrics["actions"]) == (12, 6, 6)
        config = json.loads((run / "config.json").read_text())
        assert config["classes"] == list(pictures.CLASSES)
        assert config["recipe"]["sigma"] == 1.5
        assert config["recipe"]["source"] == recipes["people"].source
        (row,) = json.loads((run / "history.json").read_text())
        assert len(row["losses"]) == 3
        assert "val_top1" in row

        trained = ["--model", f"local-dir:{run}", "--json"]
        assert main(["eval", *trained, *shapes, *poses(data, "test"), "--output", str(tmp_path / "report")]) == 0
        scored = json.loads(capsys.readouterr().out)
        assert {key: scored[key] for key in ("pckh", "top1", "map", "streams")} == {
            key: metrics[key] for key in ("pckh", "top1", "map", "streams")
        }
        assert (tmp_path / "report" / "confusion.png").exists()

        right = 0
        for path, label in read_samples(data / "shapes").items["test"]:
            assert main(["predict", str(path), *trained, "--no-draw"]) == 0
            right += json.loads(capsys.readouterr().out)[0]["label"] == pictures.CLASSES[label]
        assert scored["ensemble"]["top1"] == round(100 * right / 6, 2)

    def test_actions_are_scored_without_poses_and_poses_without_actions(self, saved, data, capsys):
        assert main(["eval", "--model", saved["bodypart"], "--data", str(data / "shapes"), "--json"]) == 0
        actions = json.loads(capsys.readouterr().out)
        assert actions["actions"] == 6
        assert "pckh" not in actions
        assert main(["eval", "--model", saved["bodypart"], *poses(data, "test"), "--json"]) == 0
        pose = json.loads(capsys.readouterr().out)
        assert pose["posed"] == 6
        assert "top1" not in pose

    def test_a_pose_net_on_poses_alone(self, data, tmp_path, capsys):
        assert main(["train", *POSE, *poses(data, "data"), "--output", str(tmp_path / "run"), *FAST]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert (metrics["split"], metrics["people"]) == ("train", 6)
        assert 0 <= metrics["pckh"] <= 100
        assert main(["eval", "--model", f"local-dir:{tmp_path / 'run'}", *poses(data, "test"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["pckh"] == metrics["pckh"]

    def test_figures(self, tmp_path, capsys):
        train = ["train", *BODYPART, "--data", "figures:pose+fine_grained", "--length", "6"]
        assert main([*train, "--output", str(tmp_path / "run"), "--epochs", "1", "--batch-size", "6"]) == 0
        printed = capsys.readouterr().out
        assert "8 actions; people of pose and action sets: 6 + 6 train, 100 + 100 test" in printed
        assert "pckh" in printed
        figures = ["--data", "figures:pose+fine_grained", "--length", "6"]
        assert main(["eval", "--model", f"local-dir:{tmp_path / 'run'}", *figures, "--json"]) == 0
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
        scored = json.loads(capsys.readouterr().out)
        assert {key: scored[key] for key in ("pckh", "top1", "map")} == {
            key: metrics[key] for key in ("pckh", "top1", "map")
        }
        trained = f"local-dir:{tmp_path / 'run'}"
        fails(capsys, "eval", "--model", trained, "--data", "figures:pose", match="the data has")

    def test_a_pose_net_on_figures_in_cocos_order(self, tmp_path, capsys):
        train = ["train", *POSE, "num_joints=17", "--data", "figures:pose", "--length", "6", "--img-size", "32"]
        assert main([*train, "--output", str(tmp_path / "run"), *FAST]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert metrics["posed"] == 100
        assert "pckh_groups" not in metrics
        config = actionzoo.create(f"local-dir:{tmp_path / 'run'}").pretrained_cfg
        assert (config["joints"], config["input_size"]) == ("coco", (3, 32, 32))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([*BODYPART], "no data: give --data, --pose-data or --pose-test"),
            ([*BODYPART, "--data", "SHAPES", "--length", "9"], "--length is a number of figures"),
            ([*BODYPART, "--data", "SHAPES", "--pose-images", "DIR"], "go with --pose-images"),
            ([*BODYPART, "--data", "SHAPES", "--pose-data", "JSON"], "go with --pose-images"),
            ([*BODYPART, "--data", "figures:pose", "--pose-data", "JSON"], "figures have joints of their own"),
            ([*BODYPART, "--data", "figures:pose", "--pose-images", "DIR"], "figures have joints of their own"),
            ([*BODYPART, "--data", "figures:pose", "--root", "DIR"], "--root says something of labelled pictures"),
            ([*BODYPART, "--data", "figures:pose", "--label-map", "x"], "--label-map says something of labelled"),
            ([*BODYPART, "--data", "figures:posing"], "unknown task 'posing'"),
            ([*BODYPART, "--data", "figures:crowd"], "shows clips"),
            ([*BODYPART, "--data", "figures:pose", "--length", "5"], "do not fill one batch"),
            ([*BODYPART, "--pose-data", "JSON", "--pose-images", "DIR"], "no actions, which a BodyPartNet learns"),
            ([*BODYPART, "--data", "SHAPES", "--pose-test", "JSON", "--pose-images", "NONE"], "no such folder"),
            ([*BODYPART, "--data", "SHAPES", "--img-size", "100", "--json"], "multiples of 64"),
            ([*POSE, "--data", "SHAPES"], "PoseHRNet learns poses alone, of which labelled pictures have none"),
            ([*POSE, "--data", "figures:pose+fine_grained"], "PoseHRNet learns poses alone; give one set"),
            ([*POSE, "--pose-test", "JSON", "--pose-images", "DIR"], "no train split"),
            ([*POSE, "--pose-data", "JSON", "--pose-images", "DIR", "--label", "x"], "--label says something"),
            ([*POSE, "--pose-data", "JSON", "--pose-images", "DIR", "--val-fraction", "0.5"], "--val-fraction holds"),
            ([*POSE, "num_joints=17", "--pose-data", "JSON", "--pose-images", "DIR"], "holds MPII's joints"),
            ([*POSE, "num_joints=5", "--pose-data", "JSON", "--pose-images", "DIR"], "in neither MPII's order"),
            ([*POSE, "num_joints=5", "--data", "figures:pose"], "in neither MPII's order"),
            (["--data", "figures:pose"], "PRFNet finds no joints"),
            (["--data", "SHAPES", "--pose-data", "JSON", "--pose-images", "DIR"], "PRFNet finds no joints"),
            ([*BODYPART, "--data", "SHAPES", "--recipe", "bodyparts"], "unknown recipe"),
            ([*BODYPART, "--data", "SHAPES", "--set", "action_loss=hinge"], "one of focal, bce"),
        ],
    )
    def test_wrong_combinations(self, data, tmp_path, capsys, arguments, message):
        real = {
            "SHAPES": data / "shapes",
            "JSON": data / "people.json",
            "DIR": data / "images",
            "NONE": data / "none",
        }
        arguments = [str(real.get(argument, argument)) for argument in arguments]
        run = ["--output", str(tmp_path / "run"), "--epochs", "1", "--batch-size", "6"]
        fails(capsys, "train", *arguments, *run, match=message)
        assert not (tmp_path / "run" / "state.pt").exists()

    def test_eval_refusals(self, saved, data, capsys):
        model = ["eval", "--model", saved["bodypart"]]
        fails(capsys, *model, *poses(data, "data"), match="the pose data has no split 'test'; it has train")
        fails(capsys, *model, "--data", "figures:fine_grained", match="the model knows the actions")
        fails(capsys, "eval", "--model", saved["plain"], *poses(data, "test"), match="finds no joints")


class TestPredict:
    def test_every_person_is_printed_and_drawn(self, saved, tmp_path, capsys):
        argv = ["predict", str(PHOTO), "--model", saved["bodypart"], "--output", str(tmp_path), "--attention"]
        assert main([*argv, "--top", "2", "--boxes", "60,50,300,500", "400,60,820.5,500"]) == 0
        out = capsys.readouterr().out
        lines = out.splitlines()
        assert [line for line in lines if line.startswith("  person")] == [lines[1], lines[4]]
        assert " of 16 joints, mean score " in lines[1]
        assert out.count(" %") == 4
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == [f"{PHOTO.stem}_actionzoo.jpg", f"{PHOTO.stem}_attention.jpg"]
        with Image.open(tmp_path / names[1]) as image:
            assert image.size == load_image(PHOTO).size

    def test_json_of_every_person(self, saved, capsys):
        argv = ["predict", str(PHOTO), "--model", saved["bodypart"], "--no-draw", "--json", "--boxes", "60,50,300,500"]
        assert main(argv) == 0
        (row,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        (person,) = row["people"]
        assert person["box"] == [60, 50, 300, 500]
        assert person["label"] == row["label"]
        assert row["label"] in pictures.CLASSES
        assert len(person["keypoints"]) == 16
        assert set(person["parts"]) == {"head", "right", "left"}

    def test_a_pose_net_prints_its_joints(self, saved, tmp_path, capsys):
        assert main(["predict", "--model", saved["pose"], "--output", str(tmp_path)]) == 0
        name, person, wrote = capsys.readouterr().out.splitlines()
        assert name == PHOTO.name
        assert person.startswith("  person 1: ")
        assert " of 16 joints, mean score -0.0" in person or " of 16 joints, mean score 0.0" in person
        assert wrote.startswith("  wrote ")

    def test_whole_pictures_of_a_folder(self, saved, data, capsys):
        assert main(["predict", str(data / "images"), "--model", saved["bodypart"], "--no-draw", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["people"][0]["box"] for row in rows] == [[0, 0, 64, 64]] * 6

    @pytest.mark.parametrize(
        ("model", "arguments", "message"),
        [
            ("plain", ["--boxes", "1,2,3,4"], "takes whole pictures; --boxes are for models"),
            ("bodypart", ["--boxes", "1,2,3"], "a box is X1,Y1,X2,Y2 in pixels without spaces, got '1,2,3'"),
            ("bodypart", ["--boxes", "1,2,3,x"], "a box is X1,Y1,X2,Y2"),
            ("bodypart", ["--boxes", "9,2,3,4"], "has no area"),
            (
                "bodypart",
                [str(PHOTO.parent), "--boxes", "1,2,3,4"],
                "those of one picture, and there are 2",
            ),
            ("pose", ["--attention"], "no attention map; PRF-Net, ConViT and body-part models give one"),
        ],
    )
    def test_refusals(self, saved, tmp_path, capsys, model, arguments, message):
        out = ["--output", str(tmp_path / "out")]
        fails(capsys, "predict", *arguments, "--model", saved[model], *out, match=message)
        assert not (tmp_path / "out").exists()


def test_figures_take_a_fraction_for_validation(tmp_path, capsys):
    argv = ["train", *BODYPART, "--data", "figures:fine_grained", "--output", str(tmp_path / "run")]
    fails(capsys, *argv, "--val-fraction", "7", match="at least 0 and below 1, got 7")
    assert not (tmp_path / "run").exists()


def test_recipe_fields_of_other_tasks_are_refused(data, tmp_path, capsys):
    output = ["--output", str(tmp_path / "run")]
    argv = ["train", *BODYPART, "--data", "figures:fine_grained", "--set", "erase=0.5", "sigma=1.5", "zoom=False"]
    fails(capsys, *argv, *output, match="training a BodyPartNet takes no notice of erase, zoom")
    argv = ["train", "--model", "plain_tiny", "--data", str(data / "shapes"), "--set", "sigma=1.5"]
    fails(capsys, *argv, *output, match="training a PlainClassifier takes no notice of sigma")
    assert not (tmp_path / "run").exists()


def test_actions_without_joints_are_remarked_on(data, tmp_path, capsys):
    shapes = ["--data", str(data / "shapes"), "--epochs", "1", "--batch-size", "6"]
    assert main(["train", *BODYPART, *shapes, "--output", str(tmp_path / "a")]) == 0
    assert "nobody in the training data has joints" in capsys.readouterr().err
    assert main(["train", *BODYPART, *shapes, *poses(data, "data"), "--output", str(tmp_path / "b")]) == 0
    assert "joints" not in capsys.readouterr().err
