import numpy as np
import pytest
import torch
from PIL import Image

from actionzoo import draw
from actionzoo.data.figures import PARTS
from actionzoo.draw.canvas import stroke_width
from actionzoo.layers.pose_dots import POSE_DOT_COLORS

STATES = {part: (f"state_{i}", i / 10) for i, part in enumerate(PARTS)}
TWO = ("head", "right_leg")


def plain(width=200, height=160, colour=(90, 90, 90)):
    return Image.new("RGB", (width, height), colour)


def near(image, colour, tolerance=3):
    """Where the picture has a colour: (H, W) bool."""
    return np.abs(np.asarray(image).astype(int) - colour).max(-1) <= tolerance


def extent(mask):
    """x1, y1, x2, y2 of what is set."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


class TestBodyParts:
    def test_parts_are_outlined_in_their_colours(self):
        before = plain()
        parts = torch.tensor([[[40, 20, 90, 60], [100, 80, 150, 150]]])
        image = draw.body_parts(before, [[20, 10, 180, 155]], parts, TWO)
        for part, box in zip(TWO, parts[0].tolist()):
            mask = near(image, POSE_DOT_COLORS[part])
            assert extent(mask) == box
            # an outline, and nothing inside
            assert mask.sum() == (box[2] - box[0]) * (box[3] - box[1]) - (box[2] - box[0] - 4) * (box[3] - box[1] - 4)
        assert extent(near(image, (255, 255, 255))) == [20, 10, 180, 155]
        assert near(image, (90, 90, 90))[62:78, 42:98].all()
        assert before.getpixel((40, 20)) == (90, 90, 90)

    def test_a_guess_is_thinner(self):
        parts = torch.tensor([[[40, 20, 90, 60], [100, 80, 150, 150]]])
        image = draw.body_parts(plain(), [[20, 10, 180, 155]], parts, TWO, torch.tensor([[0.0, 0.4]]))
        guess, found = (near(image, POSE_DOT_COLORS[part]) for part in TWO)
        assert guess[40].sum() == 2
        assert found[100].sum() == 2 * max(2, stroke_width((200, 160)))

    def test_dark_colours_have_a_light_rim(self):
        parts = torch.tensor([[[40, 20, 90, 60], [100, 80, 150, 150]]])
        image = np.asarray(draw.body_parts(plain(), [[20, 10, 180, 155]], parts, TWO)).astype(int)
        assert image[40, 39].sum() < 3 * 80
        assert image[100, 99].sum() > 3 * 110

    @pytest.mark.parametrize("box", [[0, 0, 0, 0], [60, 20, 60, 50], [300, 20, 320, 60], [-50, -40, -10, -5]])
    def test_what_is_empty_or_outside_is_not_drawn(self, box):
        parts = torch.tensor([[[40, 20, 90, 60], box]])
        image = draw.body_parts(plain(), [[20, 10, 180, 155]], parts, TWO)
        assert near(image, POSE_DOT_COLORS["head"]).any()
        assert not near(image, POSE_DOT_COLORS["right_leg"]).any()

    def test_a_part_that_reaches_out_is_cut(self):
        image = draw.body_parts(plain(), [[20, 10, 180, 155]], torch.tensor([[[150, -30, 260, 60]]]), ("head",))
        assert extent(near(image, POSE_DOT_COLORS["head"])) == [150, 0, 200, 60]

    def test_a_small_part_lies_on_a_large_one(self):
        parts = torch.tensor([[[40, 40, 60, 60], [40, 40, 140, 140]]])
        image = draw.body_parts(plain(), [[20, 10, 180, 155]], parts, TWO)
        assert near(image, POSE_DOT_COLORS["head"])[40, 42:58].all()

    def test_people_joints_tags_and_own_colours(self):
        parts = torch.tensor([[[40, 20, 90, 60]], [[100, 80, 150, 150]]])
        boxes = [[30, 15, 95, 70], [95, 75, 160, 155]]
        joints = torch.tensor([[[65.0, 40.0, 0.9]], [[120.0, 110.0, 0.1]]])
        image = draw.body_parts(
            plain(), boxes, parts, ("tail",), keypoints=joints, labels=["#1", "#2"], colors={"tail": "#ff00ff"}
        )
        assert near(image, (255, 0, 255))[40, 40:42].all()
        assert near(image, (255, 0, 255))[100, 100:102].all()
        bare = draw.body_parts(plain(), boxes, parts, ("tail",), colors={"tail": "#ff00ff"})
        changed = (np.asarray(image) != np.asarray(bare)).any(-1)
        assert changed[40, 65]
        assert not changed[105:115, 115:125].any()
        # tags are written on white
        assert (changed & near(image, (255, 255, 255))).sum() > 100

    def test_nobody(self):
        image = draw.body_parts(plain(), torch.zeros(0, 4), torch.zeros(0, 2, 4), TWO, torch.zeros(0, 2), labels=[])
        assert image.tobytes() == plain().tobytes()

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            (([[1, 2, 9, 9]], torch.zeros(2, 2, 4), TWO), r"part_boxes must be \(1, 2, 4\), .* got \(2, 2, 4\)"),
            (([[1, 2, 9, 9]], torch.zeros(1, 3, 4), TWO), r"got \(1, 3, 4\)"),
            (([[1, 2, 9, 9]], torch.zeros(1, 2, 4), TWO, torch.zeros(2, 2)), "part_scores must be 1"),
            (([[9, 2, 1, 9]], torch.zeros(1, 2, 4), TWO), "x2 >= x1"),
            (([[1, 2, 9, 9]], torch.full((1, 2, 4), torch.nan), TWO), "NaN"),
            (([[1, 2, 9, 9]], torch.zeros(1, 1, 4), ("tail",)), "no colour for the part 'tail'; there are head"),
        ],
        ids=["people", "parts", "scores", "turned", "nan", "colour"],
    )
    def test_what_does_not_fit_is_refused(self, arguments, match):
        with pytest.raises(ValueError, match=match):
            draw.body_parts(plain(), *arguments)


class TestPartPanel:
    @pytest.mark.parametrize(("size", "right"), [((300, 300), True), ((301, 333), True), ((640, 360), False)])
    def test_stands_beside_the_picture(self, size, right):
        picture = plain(*size)
        image = draw.part_panel(picture, STATES, "weight_lifting", 0.5, "segment 1 of 2")
        assert image.width % 2 == image.height % 2 == 0
        assert (image.width > size[0] + 100) == right
        assert (image.height > size[1] + 100) == (not right)
        assert np.array_equal(np.asarray(image)[: size[1], : size[0]], np.asarray(picture))

    @pytest.mark.parametrize("side", ["right", "bottom"])
    def test_every_part_has_its_colour_and_the_order_is_kept(self, side):
        image = draw.part_panel(plain(400, 400), STATES, "walk", side=side)
        panel = np.asarray(image)[:, 400:] if side == "right" else np.asarray(image)[400:]
        corners = [extent(near(Image.fromarray(panel), POSE_DOT_COLORS[part]))[:2] for part in PARTS]
        order = sorted(corners, key=lambda corner: (corner[1], corner[0]))
        assert corners == order
        columns = {corner[0] for corner in corners}
        assert len(columns) == (1 if side == "right" else 2)

    def test_its_size_does_not_depend_on_the_words(self):
        long = dict.fromkeys(PARTS, ("a very long state that does not fit in the panel " * 3, 1.0))
        first = draw.part_panel(plain(300, 300), STATES, "walk", 0.5)
        second = draw.part_panel(plain(300, 300), long, "a title that is far too long " * 9, 1.0, "caption " * 40)
        assert first.size == second.size
        # nothing is written beyond the margin
        assert (np.asarray(second)[:, -4:] == 255).all()
        assert (np.asarray(first) != np.asarray(second)).any()

    def test_small_pictures_grow_with_the_panel(self):
        image = draw.part_panel(plain(40, 40), STATES, "walk")
        assert image.height > 180
        assert near(image, (90, 90, 90)).sum() == 1600

    def test_wrong_arguments(self):
        with pytest.raises(ValueError, match='side must be "right", "bottom" or None, got \'left\''):
            draw.part_panel(plain(), STATES, "walk", side="left")
        with pytest.raises(ValueError, match="no colour for the part 'tail'"):
            draw.part_panel(plain(), {"tail": ("wags", 0.5)}, "walk")
        assert draw.part_panel(plain(), {"tail": ("wags", 0.5)}, "walk", colors={"tail": "red"}).width > 200
