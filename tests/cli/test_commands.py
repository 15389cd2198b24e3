import json
import subprocess
import sys

import pytest
from PIL import Image

import actionzoo
from actionzoo.cli import main
from actionzoo.cli.predict import ASSETS
from actionzoo.data import load_image
from actionzoo.weights import save_checkpoint
from tests import pictures

SMALL = {"backbone_args": {"channels": (8, 8, 16, 16), "stem_width": 4}, "test_input_size": None}
MODEL_ARGS = ["--model-args", "backbone_args={'channels':(8,8,16,16),'stem_width':4}", "test_input_size=None"]
PHOTO = ASSETS / "weightlifter_public_domain.jpg"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved model with random weights and class names."""
    folder = tmp_path_factory.mktemp("saved")
    model = actionzoo.create("prfnet_tiny", num_classes=3, **SMALL, dim=16, hidden=16)
    model.pretrained_cfg["classes"] = list(pictures.CLASSES)
    model.save_pretrained(folder)
    return f"local-dir:{folder}"


@pytest.fixture
def photos(tmp_path):
    """Two readable pictures of one name in two folders, one broken one."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        load_image(PHOTO).resize((120, 80)).save(tmp_path / name / "same.jpg")
    (tmp_path / "b" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    return tmp_path


def fails(capsys, *argv, match):
    """The command exits with 1 and one line on standard error."""
    assert main(argv) == 1
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("actionzoo: ")
    assert match in lines[0]


def test_list(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in actionzoo.list_models())
    assert main(["list", "prfnet_r*", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["prfnet_resnet18", "prfnet_resnet50"]
    assert rows[1]["parameters"] == 49_505_440


def test_info(capsys):
    assert main(["info", "prfnet"]) == 0
    text = capsys.readouterr().out
    assert "49505440" in text
    assert "covers the backbone" in text
    assert main(["info", "prfnet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"][0]["location"] == "timm/resnet50.tv_in1k"
    fails(capsys, "info", "prfnet_resnet5", match="prfnet_resnet50")


def test_predict_writes_annotated_copies(saved, photos, capsys):
    out = photos / "out"
    argv = ["predict", str(photos / "a" / "same.jpg"), "--model", saved, "--output", str(out), "--attention"]
    argv += ["--top", "2"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert printed.count(" %") == 2
    assert sorted(p.name for p in out.iterdir()) == ["same_actionzoo.jpg", "same_attention.jpg"]
    with Image.open(out / "same_attention.jpg") as image:
        assert image.size == (120, 80)


def test_predict_keeps_going_past_an_unreadable_file_and_reports_it(saved, photos, capsys):
    out = photos / "out"
    argv = ["predict", str(photos / "a"), str(photos / "*" / "*.jpg"), str(photos / "none.jpg")]
    assert main([*argv, "--model", saved, "--output", str(out), "--json"]) == 1
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert [row["source"] for row in rows] == [str(photos / name / "same.jpg") for name in "ab"]
    assert [row["written"] for row in rows] == [[str(out / f"same{n}_actionzoo.jpg")] for n in ("", "_2")]
    assert all(row["label"] in pictures.CLASSES for row in rows)
    errors = captured.err.strip().splitlines()
    assert len(errors) == 2
    assert any("broken.jpg cannot be read" in line for line in errors)
    assert any("none.jpg: no such file" in line for line in errors)


def test_predict_can_write_nothing(saved, photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    before = set(photos.rglob("*"))
    assert main(["predict", str(photos / "a"), "--model", saved, "--no-draw"]) == 0
    assert set(photos.rglob("*")) == before


def test_predict_leaves_its_own_copies_out_and_takes_weights_of_the_default_model(photos, capsys):
    model = actionzoo.create("prfnet_tiny", num_classes=3, **SMALL, dim=16, hidden=16)
    model.pretrained_cfg["classes"] = list(pictures.CLASSES)
    save_checkpoint(model, photos / "mine.safetensors")
    argv = ["predict", str(photos / "a"), "--weights", str(photos / "mine.safetensors"), "--output", str(photos / "a")]
    for _ in range(2):
        assert main([*argv, "--attention"]) == 0
    assert sorted(p.name for p in (photos / "a").iterdir()) == [
        "same.jpg",
        "same_actionzoo.jpg",
        "same_attention.jpg",
    ]


def test_predict_errors(saved, photos, capsys):
    fails(capsys, "predict", "--model", "prfnet_resnet50", match="labels or joints would be random")
    fails(capsys, "predict", "--model", saved, "--top", "0", match="--top is at least 1")
    fails(capsys, "predict", "--model", saved, "--no-draw", "--attention", match="give one of them")
    fails(capsys, "predict", "--model", f"local-dir:{photos}", match="config.json")


def test_train_then_eval_then_predict(tmp_path, capsys):
    data, run = pictures.write(tmp_path / "shapes"), tmp_path / "run"
    train = ["train", "--model", "prfnet_tiny", *MODEL_ARGS, "dim=16", "hidden=16", "--data", str(data)]
    train += ["--img-size", "32"]
    train += ["--output", str(run), "--epochs", "1", "--batch-size", "12", "--set", "erase=0.0", "--json"]
    assert main(train) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["images"] == 12
    argv = ["eval", "--model", f"local-dir:{run}", "--data", str(data), "--json", "--output", str(tmp_path / "report")]
    assert main(argv) == 0
    scored = json.loads(capsys.readouterr().out)
    assert {k: scored[k] for k in ("top1", "map", "kappa")} == {k: metrics[k] for k in ("top1", "map", "kappa")}
    assert (tmp_path / "report" / "confusion.png").exists()
    config = json.loads((run / "config.json").read_text())
    assert config["input_size"] == [3, 32, 32]
    assert config["seed"] == 0
    fails(capsys, *train, match="--resume")
    image = str(data / "test" / "circle" / "0.png")
    assert main(["predict", image, "--model", f"local-dir:{run}", "--no-draw", "--json"]) == 0


def test_label_map_merges_classes(tmp_path, capsys):
    data, mapping = pictures.write(tmp_path / "shapes", train=6), tmp_path / "map.json"
    mapping.write_text(json.dumps({"circle": "shape", "square": "shape", "stripes": "lines"}))
    train = ["train", "--model", "plain_tiny", *MODEL_ARGS, "--data", str(data), "--img-size", "32", "--epochs", "1"]
    assert main([*train, "--batch-size", "6", "--output", str(tmp_path / "r"), "--label-map", str(mapping)]) == 0
    assert json.loads((tmp_path / "r" / "config.json").read_text())["classes"] == ["lines", "shape"]
    mapping.write_text("[]")
    capsys.readouterr()
    fails(capsys, *train, "--output", str(tmp_path / "s"), "--label-map", str(mapping), match="holds a list")


def test_train_errors(tmp_path, capsys):
    data = pictures.write(tmp_path / "shapes", train=2, test=1)
    base = ["train", "--data", str(data), "--output", str(tmp_path / "run")]
    fails(capsys, *base, "--recipe", "sratch", match="unknown recipe")
    fails(capsys, *base, "--set", "epoch=3", match="no field")
    fails(capsys, *base, "--set", "epochs", match="KEY=VALUE")
    fails(capsys, *base, "--set", "zoom=false", match="takes bool")
    fails(capsys, *base, "--set", "erase=0.1", "erase=0.2", match="twice")
    fails(capsys, *base, "--epochs", "2", "--set", "epochs=3", match="give one")
    fails(capsys, *base, "--model-args", "num_classes=3", match="leave num_classes out")
    fails(capsys, *base, "--val-fraction", "0.1", match="holds out none")
    fails(capsys, *base, "--model", "prfnet_tny", match="prfnet_tiny")
    fails(capsys, *base[:2], str(tmp_path / "none"), *base[3:], match="no such data")
    assert not (tmp_path / "run").exists()


def test_eval_scores_data_with_some_of_the_classes(tmp_path, capsys):
    known = actionzoo.list_weights("prfnet_tiny.sports20")[0].classes
    names = [known[3], known[11]]
    for i, name in enumerate(names):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), (90 * i, 30, 60)).save(tmp_path / "test" / name / "a.png")
    assert main(["eval", "--model", "prfnet_tiny.sports20", "--data", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2


def test_eval_errors(saved, tmp_path, capsys):
    data = pictures.write(tmp_path / "shapes", train=1, test=1)
    fails(capsys, "eval", "--model", saved, "--data", str(data), "--split", "val", match="no split 'val'")
    (data / "train" / "circle").rename(data / "train" / "disc")
    (data / "test" / "circle").rename(data / "test" / "disc")
    fails(capsys, "eval", "--model", saved, "--data", str(data), match="does not know the classes ['disc']")


def test_verify(capsys):
    assert main(["verify", "--json"]) == 0
    assert all(row["status"] in ("ok", "not cached", "unrecorded") for row in json.loads(capsys.readouterr().out))


def test_module_and_usage_error():
    argv = [sys.executable, "-m", "actionzoo", "list", "--json"]
    run = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert len(json.loads(run.stdout)) == len(actionzoo.list_models())
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--nonsense"])
    assert stop.value.code == 2


def test_the_bundled_weightlifter_is_labelled(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["predict"]) == 0
    out = capsys.readouterr().out
    assert "1  weight_lifting" in out
    assert out.count(" %") == 5
    assert [p.name for p in tmp_path.iterdir()] == ["weightlifter_public_domain_actionzoo.jpg"]
