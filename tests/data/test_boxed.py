import math
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader
from torchvision.ops import box_iou
from torchvision.transforms import functional as TF

from actionzoo.data import denormalize, eval_transform
from actionzoo.data.boxed import (
    BoxedImages,
    collate_boxed,
    detection_transform,
    jitter_boxes,
    person_transform,
)
from actionzoo.training import recipes

CFG = {"input_size": (3, 48, 64), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CFG |= {"interpolation": "bilinear", "crop_mode": "squash"}
PLAIN = recipes["human_branch"].override(color_jitter=0.0, hflip=0.0, keep_person=0.0, crop_pct=0.8)


def planted(size, box):
    """A dark picture with a red rectangle of whole pixels."""
    picture = Image.new("RGB", size, (0, 0, 40))
    picture.paste((255, 0, 0), box)
    return picture


def place_of(picture):
    """xyxy of what is red in `(3, H, W)` of [0, 1], to parts of a pixel by its mass."""
    red = picture[0]
    x, y = red.amax(0), red.amax(1)
    (columns,), (rows,) = (x > 0.5).nonzero(as_tuple=True), (y > 0.5).nonzero(as_tuple=True)
    return torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=torch.float32)


def noise(size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class TestDetectionTransform:
    @pytest.mark.parametrize("flip", [0.0, 1.0])
    def test_boxes_are_where_the_pixels_are(self, flip):
        box = (5, 7, 21, 37)
        image, boxes = detection_transform(hflip=flip)(planted((57, 43), box), torch.tensor([box]).float())
        assert image.shape == (3, 43, 57)
        assert boxes.tolist() == [[57 - 21, 7, 57 - 5, 37] if flip else list(box)]
        assert_close(place_of(image), boxes[0])

    def test_by_default_the_picture_is_as_it_was(self):
        picture, boxes = noise((30, 20)), torch.tensor([[1.5, 2.25, 9.0, 10.0]])
        image, kept = detection_transform()(picture, boxes)
        assert torch.equal(image, TF.to_tensor(picture))
        assert torch.equal(kept, boxes)

    def test_half_of_the_pictures_are_mirrored_and_their_boxes_with_them(self):
        box, transform = (3, 4, 11, 20), detection_transform(hflip=0.5)
        found = [transform(planted((40, 30), box), torch.tensor([box]).float()) for _ in range(60)]
        assert all(torch.equal(place_of(image), boxes[0]) for image, boxes in found)
        mirrored = sum(boxes[0, 0].item() != 3 for _, boxes in found)
        assert 15 <= mirrored <= 45

    def test_colours_change_and_boxes_do_not(self):
        picture, boxes = noise((30, 20)), torch.tensor([[1.0, 2, 9, 10]])
        image, kept = detection_transform(color_jitter=0.4)(picture, boxes)
        assert torch.equal(kept, boxes)
        assert image.shape == (3, 20, 30)
        assert (image - TF.to_tensor(picture)).abs().max() > 0.05

    def test_boxes_are_clipped_and_those_outside_are_left_out(self):
        boxes = [
            [-5.0, -5, 10, 10],
            [29, 2, 60, 12],  # one column is left
            [29.5, 2, 60, 12],  # half a column
            [30, 2, 60, 12],
            [-9, -9, -1, -1],
            [4, 4, 4, 9],
            [8, 8, 4, 4],
            [3, 4, 9, 4.5],
            [math.nan, 1, 5, 5],
        ]
        kept = detection_transform()(noise((30, 20)), torch.tensor(boxes))[1]
        assert kept.tolist() == [[0, 0, 10, 10], [29, 2, 30, 12]]

    def test_nobody(self):
        image, boxes = detection_transform(1.0, 0.2)(noise((30, 20)), torch.zeros(0, 4))
        assert image.shape == (3, 20, 30)
        assert boxes.shape == (0, 4)


class TestPersonTransform:
    @pytest.mark.parametrize("size", [(64, 48), (90, 61), (31, 77)], ids=str)
    @pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.9])
    def test_scored_pictures_are_those_of_a_classifier_bit_for_bit(self, crop_pct, size):
        cfg, picture = {**CFG, "crop_pct": crop_pct}, noise(size)
        image, _ = person_transform(cfg)(picture, torch.zeros(0, 4))
        assert torch.equal(image, eval_transform(cfg)(picture))

    def test_scored_pictures_have_the_size_of_inference(self):
        cfg, picture = {**CFG, "test_input_size": (3, 40, 56)}, noise((50, 50))
        image, boxes = person_transform(cfg)(picture, torch.tensor([[0.0, 0, 50, 50]]))
        assert torch.equal(image, eval_transform(cfg)(picture))
        assert boxes.tolist() == [[0, 0, 56, 40]]
        assert person_transform(cfg, PLAIN)(picture, torch.zeros(0, 4))[0].shape == (3, 48, 64)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_grey_networks(self, channels):
        cfg = {**CFG, "input_size": (channels, 48, 64)}
        assert person_transform(cfg, PLAIN)(noise((70, 50)), torch.zeros(0, 4))[0].shape == (channels, 48, 64)
        assert torch.equal(
            person_transform(cfg)(noise((70, 50)), torch.zeros(0, 4))[0], eval_transform(cfg)(noise((70, 50)))
        )

    @pytest.mark.parametrize("box", [(40, 30, 80, 110), (70, 20, 100, 60)], ids=str)
    @pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.7])
    def test_scored_boxes_are_where_the_pixels_are(self, crop_pct, box):
        picture = planted((140, 120), box)
        image, boxes = person_transform({**CFG, "crop_pct": crop_pct})(picture, torch.tensor([box]).float())
        assert_close(place_of(denormalize(image, CFG)), boxes[0], rtol=0, atol=1.0)

    @pytest.mark.parametrize("flip", [0.0, 1.0])
    @pytest.mark.parametrize("keep", [0.0, 0.7])
    def test_boxes_in_training_are_where_the_pixels_are(self, keep, flip):
        box, places = (50, 40, 80, 90), set()
        transform = person_transform(CFG, PLAIN.override(hflip=flip, keep_person=keep), jitter_iou=1.0)
        for _ in range(20):
            image, boxes = transform(planted((140, 120), box), torch.tensor([box]).float())
            assert image.shape == (3, 48, 64)
            assert_close(place_of(denormalize(image, CFG)), boxes[0], rtol=0, atol=1.0)
            places.add(tuple(boxes[0].tolist()))
        assert len(places) > 5

    def test_a_crop_keeps_most_of_the_surest_person(self):
        # narrow crops, which at random would lose the person at the left edge half of the time
        recipe = PLAIN.override(crop_pct=0.5)
        boxes = torch.tensor([[0.0, 0, 30, 50], [60, 50, 100, 100]])
        whole = 30 / 100 * 128 * 50 / 100 * 96

        def shares(keep):
            transform = person_transform(CFG, recipe.override(keep_person=keep), jitter_iou=1.0)
            for _ in range(30):
                kept = transform(noise((100, 100)), boxes)[1]
                sides = kept[:, 2:] - kept[:, :2]
                # the other person may be cut away, so that the first is the one at the edge of the picture
                yield float(sides[0].prod()) / whole if len(kept) else 0.0

        assert min(shares(0.7)) >= 0.7 - 1e-5
        assert min(shares(0.0)) < 0.6

    def test_boxes_are_moved_in_training_only(self):
        box = torch.tensor([[20.0, 20, 60, 90]])
        recipe = PLAIN.override(crop_pct=1.0)
        scaled = box * torch.tensor([64 / 100, 48 / 100] * 2)
        for _ in range(10):
            moved = person_transform(CFG, recipe)(noise((100, 100)), box)[1]
            assert 0.7 <= box_iou(moved, scaled).item() < 1
        assert_close(person_transform(CFG)(noise((100, 100)), box)[1], scaled)

    def test_colours_are_those_of_the_recipe(self):
        recipe, picture = PLAIN.override(crop_pct=1.0), noise((64, 48))
        plain = person_transform(CFG, recipe)(picture, torch.zeros(0, 4))[0]
        for changes in ({"color_jitter": 0.4}, {"hue": 0.5}, {"grayscale": 1.0}):
            image = denormalize(person_transform(CFG, recipe.override(**changes))(picture, torch.zeros(0, 4))[0], CFG)
            assert (image - denormalize(plain, CFG)).abs().max() > 0.05, changes
            if "grayscale" in changes:
                assert_close(image[0], image[1], rtol=0, atol=1e-5)

    @pytest.mark.parametrize("recipe", [None, PLAIN.override(keep_person=0.7, hflip=1.0)], ids=["scored", "training"])
    def test_boxes_outside_are_left_out_wherever_they_stand(self, recipe):
        inside = [30.0, 30, 70, 90]
        outside = [[200.0, 10, 240, 40], [5, 5, 5, 30], [9, 9, 3, 3], [-20, -20, -3, -3]]
        cfg = {**CFG, "crop_pct": 1.0}
        recipe = recipe and recipe.override(crop_pct=1.0)
        for boxes in (*([first, inside] for first in outside), [inside, *outside], outside):
            kept = person_transform(cfg, recipe)(noise((100, 100)), torch.tensor(boxes))[1]
            assert kept.shape == (inside in boxes, 4)
            assert ((kept >= 0) & (kept <= torch.tensor([64.0, 48, 64, 48]))).all()

    def test_the_central_crop_cuts_people_off(self):
        boxes = torch.tensor([[0.0, 0, 5, 100], [0, 0, 50, 100], [97, 0, 100, 100]])
        kept = person_transform({**CFG, "crop_pct": 0.8})(noise((100, 100)), boxes)[1]
        assert_close(kept, torch.tensor([[0.0, 0, 32, 48]]))

    def test_nobody(self):
        recipe = PLAIN.override(keep_person=0.7, hflip=1.0)
        for transform in (person_transform(CFG), person_transform(CFG, recipe)):
            image, boxes = transform(noise((100, 100)), torch.zeros(0, 4))
            assert image.shape == (3, 48, 64)
            assert boxes.shape == (0, 4)


boxes_of_any_size = st.tuples(*[st.floats(-1e3, 1e3, width=32)] * 2, *[st.floats(1, 1e3, width=32)] * 2)


class TestJitter:
    @settings(max_examples=60, deadline=None)
    @given(
        corners=st.lists(boxes_of_any_size, max_size=5),
        iou=st.sampled_from([0.3, 0.7, 0.9, 0.99]),
        seed=st.integers(0, 999),
    )
    def test_no_box_moves_too_far(self, corners, iou, seed):
        torch.manual_seed(seed)
        boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in corners]).reshape(-1, 4)
        before = boxes.clone()
        moved = jitter_boxes(boxes, iou)
        assert moved.shape == boxes.shape
        assert torch.equal(boxes, before)
        overlap = box_iou(moved.double(), boxes.double()).diagonal()
        assert (overlap >= iou - 1e-3).all()

    def test_boxes_move_each_on_its_own(self):
        boxes = torch.tensor([[10.0, 20, 50, 120]]).repeat(200, 1)
        moved = jitter_boxes(boxes) - boxes
        assert (moved.abs().amax(1) > 0).float().mean() > 0.98
        assert len(moved.unique(dim=0)) > 190
        # in proportion to the side, to either side alike
        assert (moved.abs() <= 0.15 * torch.tensor([40.0, 100, 40, 100]) + 1e-4).all()
        assert (moved.mean(0).abs() < torch.tensor([1.0, 2.5, 1.0, 2.5])).all()
        assert (moved.std(0) > torch.tensor([1.0, 2.5, 1.0, 2.5])).all()

    def test_an_overlap_that_is_out_of_reach_leaves_boxes_where_they_are(self):
        boxes = torch.tensor([[10.0, 20, 50, 120], [0, 0, 3, 4]])
        assert torch.equal(jitter_boxes(boxes, 1.0), boxes)


class TestBoxedImages:
    @pytest.fixture
    def files(self, tmp_path):
        paths = [tmp_path / f"{i}.png" for i in range(3)]
        for i, path in enumerate(paths):
            noise((20 + i, 30), i).save(path)
        return paths

    def test_items_and_batches(self, files):
        boxes = {files[0]: torch.tensor([[1, 2, 9, 12], [3, 4, 8, 8]]), files[2]: torch.zeros(0, 4)}
        dataset = BoxedImages([(path, 7 - i) for i, path in enumerate(files)], boxes)
        assert len(dataset) == 3
        (batch,) = DataLoader(dataset, 3, collate_fn=collate_boxed)
        images, found, targets = batch
        assert [tuple(image.shape) for image in images] == [(3, 30, 20), (3, 30, 21), (3, 30, 22)]
        assert torch.equal(images[1], TF.to_tensor(noise((21, 30), 1)))
        assert found[0].tolist() == [[1, 2, 9, 12], [3, 4, 8, 8]]
        assert [tuple(b.shape) for b in found] == [(2, 4), (0, 4), (0, 4)]
        assert {b.dtype for b in found} == {torch.float32}
        assert targets.tolist() == [7, 6, 5]

    def test_boxes_lie_in_the_upright_picture(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        planted((40, 30), (2, 3, 12, 8)).save(tmp_path / "turned.png", exif=exif)
        box = torch.tensor([[30 - 8.0, 2, 30 - 3, 12]])
        image, boxes, _ = BoxedImages([(tmp_path / "turned.png", 0)], {tmp_path / "turned.png": box})[0]
        assert image.shape == (3, 40, 30)
        assert_close(place_of(image), boxes[0])

    def test_a_damaged_file_is_named(self, tmp_path):
        (tmp_path / "torn.png").write_bytes(b"\x89PNG nothing")
        with pytest.raises(RuntimeError, match=r"torn\.png"):
            BoxedImages([(tmp_path / "torn.png", 0)], {})[0]

    @pytest.mark.parametrize(
        "transform",
        [
            detection_transform(0.5, 0.3),
            person_transform(CFG, recipes["human_branch"]),
            person_transform(CFG, PLAIN.override(hue=0.1, grayscale=0.5, hflip=0.5)),
        ],
        ids=["detection", "person", "any crop"],
    )
    def test_torchs_seed_decides_here_and_in_processes_that_are_not_forked(self, files, transform):
        boxes = {path: torch.tensor([[2.0, 3, 15, 25]]) for path in files}
        dataset = BoxedImages([(path, 0) for path in files], boxes, transform)
        sent = pickle.loads(pickle.dumps(dataset))
        others = random.getstate(), np.random.get_state()[1].tolist()

        def draw(source, seed):
            torch.manual_seed(seed)
            return [(image, found) for image, found, _ in (source[i] for i in range(3))]

        first, again, different = draw(dataset, 1), draw(sent, 1), draw(dataset, 2)
        assert all(torch.equal(a, b) and torch.equal(m, n) for (a, m), (b, n) in zip(first, again))
        assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(first, different))
        assert others == (random.getstate(), np.random.get_state()[1].tolist())
