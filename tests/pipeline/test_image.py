import json

import pytest
import torch
from PIL import ImageChops

import actionzoo
from actionzoo.cli.predict import ASSETS
from actionzoo.data import load_image
from actionzoo.pipeline import ActionPipeline, ActionResult, pipeline

SMALL = {"backbone_args": {"channels": (8, 8, 16, 16), "stem_width": 4}, "dim": 16, "hidden": 16}
PHOTO = ASSETS / "weightlifter_public_domain.jpg"


@pytest.fixture
def pipe():
    torch.manual_seed(0)
    model = actionzoo.create("prfnet_tiny", num_classes=6, **SMALL)
    model.pretrained_cfg["classes"] = ["a_b", "c", "d", "e", "f", "g"]
    return pipeline(model)


def test_scores_are_the_softmax_of_forward(pipe):
    result = pipe(PHOTO)
    x = pipe.transform(load_image(PHOTO))[None]
    with torch.no_grad():
        expected = pipe.model(x).softmax(1)[0]
    torch.testing.assert_close(torch.tensor(result.scores), expected)
    assert result.label == pipe.classes[int(expected.argmax())]
    assert result.score == pytest.approx(float(expected.max()))
    assert [s for _, s in result.top(6)] == sorted(result.scores, reverse=True)
    assert result.people == []
    assert not pipe.model.training


def test_pictures_come_in_several_forms(pipe):
    image = load_image(PHOTO)
    tensor = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
    results = pipe([str(PHOTO), image, tensor.permute(2, 0, 1)])
    assert results[0].scores == results[1].scores == results[2].scores
    assert results[0].source == str(PHOTO)
    assert results[1].source is None


def test_focus_boxes_are_in_pixels_of_the_picture_and_nested(pipe):
    result = pipe(PHOTO)
    width, height = result.image.size
    outer = (0, 0, width, height)
    for s, box in enumerate(result.focus, 1):
        assert outer[0] - 0.01 <= box[0] < box[2] <= outer[2] + 0.01
        assert outer[1] - 0.01 <= box[1] < box[3] <= outer[3] + 0.01
        assert (box[2] - box[0]) / width == pytest.approx(0.75**s * pipe.cfg["crop_pct"], rel=0.02)
        outer = box
    assert len(result.focus) == 3


def test_json_holds_what_was_found(pipe):
    row = json.loads(pipe(PHOTO).to_json(2))
    assert set(row) == {"source", "model", "label", "score", "top", "people", "image_only", "focus", "size"}
    assert len(row["top"]) == 2
    assert row["label"] in pipe.classes
    assert row["size"] == [850, 567]
    assert row["model"] == "prfnet_tiny"


def test_pictures_are_drawn_without_touching_the_input(pipe):
    result = pipe(PHOTO)
    before = result.image.copy()
    drawn, heat = result.draw(3), result.draw_attention()
    assert drawn.mode == heat.mode == "RGB"
    assert heat.size == before.size
    assert drawn.height > before.height or drawn.width > before.width
    assert ImageChops.difference(before, result.image).getbbox() is None
    assert ImageChops.difference(before, heat).getbbox() is not None


def test_a_plain_classifier_has_no_focus(tmp_path):
    model = actionzoo.create("plain_tiny", num_classes=3, backbone_args={"channels": (8, 8, 16, 16), "stem_width": 4})
    result = pipeline(model)(PHOTO)
    assert result.focus == ()
    assert result.classes == ("class_0", "class_1", "class_2")
    assert result.draw().mode == "RGB"
    with pytest.raises(RuntimeError, match="no attention"):
        result.draw_attention()


def test_a_pruned_model_still_labels(pipe):
    expected = pipe(PHOTO).scores
    pipe.model.prune_for_inference()
    result = pipe(PHOTO)
    assert result.scores == pytest.approx(expected, abs=1e-6)
    assert result.focus == ()


def test_a_saved_model_by_name(pipe, tmp_path):
    pipe.model.save_pretrained(tmp_path / "saved")
    again = pipeline(f"local-dir:{tmp_path / 'saved'}")
    assert again(PHOTO).scores == pipe(PHOTO).scores
    assert again.classes == pipe.classes


def test_a_pruned_model_is_saved_and_loaded_pruned(pipe, tmp_path):
    pipe.model.prune_for_inference().save_pretrained(tmp_path / "pruned")
    again = pipeline(f"local-dir:{tmp_path / 'pruned'}")
    assert len(again.model.stage_heads) == 0
    assert again(PHOTO).scores == pipe(PHOTO).scores


def test_a_new_classifier_does_not_speak_with_the_old_names(pipe):
    pipe.model.reset_classifier(2)
    assert pipeline(pipe.model).classes == ("class_0", "class_1")
    pipe.model.reset_classifier(0)
    with pytest.raises(ValueError, match="no classifier"):
        pipeline(pipe.model)


def test_random_labels_are_refused(pipe, tmp_path):
    pipe.model.save_pretrained(tmp_path / "saved")
    with pytest.raises(RuntimeError, match=r"leave .*head\.fc"):
        pipeline(f"local-dir:{tmp_path / 'saved'}", num_classes=7)


def test_refusals(pipe, tmp_path):
    with pytest.raises(RuntimeError, match="labels or joints would be random"):
        pipeline("prfnet_resnet50")
    with pytest.raises(ValueError, match="nearest names"):
        pipeline("prfnet_resnet5")
    with pytest.raises(ValueError, match="built already"):
        pipeline(pipe.model, weights="x")
    with pytest.raises(ValueError, match="pretrained_cfg"):
        ActionPipeline(torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="got int"):
        pipe(3)
    with pytest.raises(FileNotFoundError, match="no such picture"):
        pipe(tmp_path / "absent.jpg")
    with pytest.raises(RuntimeError, match="no picture"):
        ActionResult(("a",), (1.0,), "m").draw()
