import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import actionzoo
from actionzoo import draw

torch.set_num_threads(1)
SKY, ORANGE, GREEN = (86, 180, 233), (230, 159, 0), (0, 158, 115)
PHOTO = Path(actionzoo.__file__).parent / "assets" / "skier_cc_by.jpg"


def plain(width=200, height=120, colour=(90, 90, 90)):
    return Image.new("RGB", (width, height), colour)


def pixels(image):
    return np.asarray(image).astype(int)


def near(image, colour, tolerance=3):
    """Where the picture has a colour: (H, W) bool."""
    return np.abs(pixels(image) - colour).max(-1) <= tolerance


def changed(image, before):
    return (pixels(image) != pixels(before)).any(-1)


class TestToImage:
    def test_uint8_tensor_keeps_every_value(self):
        tensor = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        image = draw.to_image(tensor)
        assert (image.size, image.mode) == ((7, 5), "RGB")
        assert np.array_equal(np.asarray(image), tensor.permute(1, 2, 0).numpy())

    def test_normalised_tensor_comes_back(self):
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        values = torch.arange(0, 240, dtype=torch.uint8).reshape(3, 8, 10)
        floats = (values / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        assert np.array_equal(pixels(draw.to_image(floats, mean, std)), values.permute(1, 2, 0).numpy())
        assert pixels(draw.to_image(torch.full((3, 1, 2), 9.0), mean, std)).min() == 255
        assert pixels(draw.to_image(torch.full((3, 1, 2), float("nan")), mean, std)).max() == 0

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
    def test_any_mode_becomes_rgb(self, mode):
        assert draw.to_image(plain().convert(mode)).mode == "RGB"

    def test_a_new_picture_every_time(self):
        image = plain()
        draw.to_image(image).putpixel((0, 0), (1, 2, 3))
        assert image.getpixel((0, 0)) == (90, 90, 90)

    def test_path_is_turned_upright(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        plain(40, 20).save(tmp_path / "a.jpg", exif=exif)
        assert draw.to_image(tmp_path / "a.jpg").size == (20, 40)
        assert draw.to_image(str(PHOTO)).size == (640, 425)

    @pytest.mark.parametrize(
        ("args", "error", "match"),
        [
            ((torch.zeros(1, 3, 4, 4, dtype=torch.uint8),), ValueError, "index a batch"),
            ((torch.zeros(1, 4, 4, dtype=torch.uint8),), ValueError, r"\(3, H, W\)"),
            ((torch.zeros(3, 4, 4),), ValueError, "mean and std"),
            ((torch.zeros(3, 4, 4), (0, 0, 0)), ValueError, "mean and std"),
            ((torch.zeros(3, 4, 4, dtype=torch.uint8), (0, 0, 0), (1, 1, 1)), ValueError, "uint8"),
            ((torch.zeros(3, 4, 4, dtype=torch.int32),), TypeError, "int32"),
            ((plain(), (0, 0, 0), (1, 1, 1)), ValueError, "not one"),
            ((io.BytesIO(),), TypeError, "BytesIO"),
            (("/nowhere/a.jpg",), ValueError, "nowhere"),
        ],
        ids=["batch", "grey", "float", "no-std", "uint8-mean", "int32", "pil-mean", "bytes", "absent"],
    )
    def test_bad_input_is_refused(self, args, error, match):
        with pytest.raises(error, match=match):
            draw.to_image(*args)

    def test_unreadable_file_is_refused(self, tmp_path):
        (tmp_path / "a.png").write_text("no picture")
        with pytest.raises(ValueError, match=r"a\.png"):
            draw.to_image(tmp_path / "a.png")


class TestBoxes:
    def test_edges_have_the_colour_and_the_rest_is_untouched(self):
        before = plain(880, 440)  # large enough for a stroke of 3 pixels
        image = draw.boxes(before, [[100, 50, 300, 250]])
        for x, y in ((100, 150), (102, 150), (297, 150), (299, 150), (200, 50), (200, 52), (200, 249)):
            assert near(image, SKY)[y, x], (x, y)
        rim = 1
        mask = changed(image, before)
        assert not mask[: 50 - rim].any()
        assert not mask[250 + rim :].any()
        assert not mask[:, : 100 - rim].any()
        assert not mask[:, 300 + rim :].any()
        assert not mask[50 + 3 + rim : 250 - 3 - rim, 100 + 3 + rim : 300 - 3 - rim].any()

    def test_input_is_not_drawn_on(self):
        before = plain()
        draw.boxes(before, [[10, 10, 50, 50]], ["a"])
        assert (pixels(before) == 90).all()

    @pytest.mark.parametrize("empty", [[], torch.zeros(0, 4), np.zeros((0, 4))], ids=["list", "torch", "numpy"])
    def test_no_boxes(self, empty):
        assert not changed(draw.boxes(plain(), empty, labels=[], scores=[]), plain()).any()

    def test_colour_follows_id_then_label_then_position(self):
        def edges(image):
            row = pixels(image)[100]
            return [tuple(row[x]) for x in (20, 80, 140)]

        where = [[20, 60, 60, 110], [80, 60, 120, 110], [140, 60, 180, 110]]
        assert edges(draw.boxes(plain(), where)) == [SKY, ORANGE, GREEN]
        assert edges(draw.boxes(plain(), where, ["a", "b", "a"])) == [SKY, ORANGE, SKY]
        assert edges(draw.boxes(plain(), where, ["a", "b", "a"], ids=[2, 2, 7])) == [GREEN, GREEN, SKY]
        assert edges(draw.boxes(plain(), where, ids=torch.tensor([0, 1, 8]))) == [SKY, ORANGE, ORANGE]
        colours = ["#ff0000", (0, 255, 0), "blue"]
        assert edges(draw.boxes(plain(), where, colors=colours)) == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]

    def test_boxes_outside_are_cut_or_left_out(self):
        before = plain()
        gone = draw.boxes(before, [[300, 10, 400, 50], [-90, -90, -10, -10]], ["gone", "gone"])
        assert not changed(gone, before).any()
        cut = draw.boxes(before, [[-50, -50, 100, 60]])
        assert near(cut, SKY)[30, [0, 99]].all()
        assert not changed(cut, before)[62:].any()

    def test_a_box_under_a_pixel_is_still_seen(self):
        assert near(draw.boxes(plain(), [[50.2, 20, 50.4, 80]]), SKY, 60)[30:70, 50].all()

    def test_small_box_stays_visible_on_a_large_one(self):
        small_first = draw.boxes(plain(), [[50, 30, 100, 80], [50, 30, 180, 110]])
        assert near(small_first, SKY)[60, 50]

    @pytest.mark.parametrize(
        "box",
        [[20, 60, 90, 110], [20, 0, 90, 110], [150, 40, 199, 119], [-5, -5, 210, 130]],
        ids=["room-above", "top", "right", "everything"],
    )
    def test_tag_stays_whole_inside_the_picture(self, box):
        tagged = draw.boxes(plain(), [box], ["weight_lifting"], [0.5])
        free = draw.boxes(plain(), [[60, 60, 120, 110]], ["weight_lifting"], [0.5])
        letters = near(free, (0, 0, 0), 40).sum()  # dark on the bright tag
        assert letters > 50
        assert near(tagged, (0, 0, 0), 40).sum() == letters

    def test_tag_shows_percent_and_prettified_label(self):
        same = [[20, 60, 90, 110]]
        images = [
            draw.boxes(plain(), same, [label], [score])
            for label, score in (("weight_lifting", 0.871), ("weight lifting", 0.87), ("weight lifting", 0.12))
        ]
        assert not changed(images[0], images[1]).any()
        assert changed(images[0], images[2]).any()

    def test_long_label_is_cut_and_keeps_its_score(self):
        before, box = plain(400, 120), [[100, 60, 390, 110]]
        short = draw.boxes(before, box, ["x" * 500])
        with_score = draw.boxes(before, box, ["x" * 500], [0.87])
        for image in (short, with_score):
            columns = (changed(image, before)[40:58]).nonzero()[1]
            assert columns.min() + 1 >= 100
            assert columns.max() < 400
        assert changed(short, with_score).any()

    def test_tags_do_not_cover_one_another(self):
        boxes = [[20, 60, 90, 110], [22, 60, 95, 110]]
        one = draw.boxes(plain(), boxes, ["first", ""])
        both = draw.boxes(plain(), boxes, ["first", "second"])
        tag = (slice(42, 59), slice(22, 40))
        assert np.array_equal(pixels(one)[tag], pixels(both)[tag])

    @pytest.mark.parametrize("size", [(32, 32), (4, 4), (1, 1), (2000, 24), (20, 900)], ids=str)
    @pytest.mark.parametrize("label", ["ski", "举重 🏋 ع", "naïve café\nnew line", "", "_"], ids=ascii)
    def test_any_size_and_any_text(self, size, label):
        image = draw.boxes(plain(*size), [[0, 0, *size]], [label], [1.0], ids=[123456])
        assert image.size == size

    def test_accents_that_the_font_lacks_are_dropped(self):
        box = [[20, 60, 90, 110]]
        assert not changed(draw.boxes(plain(), box, ["café"]), draw.boxes(plain(), box, ["cafe"])).any()

    def test_tag_text_contrasts_with_every_colour(self):
        from actionzoo.draw.canvas import luminance, rgb

        for colour in draw.PALETTE:
            image = draw.boxes(plain(), [[20, 60, 90, 110]], ["MMMM"], colors=[colour])
            tag = pixels(image)[44:58, 22:60].reshape(-1, 3)
            light = [luminance(tuple(pixel)) for pixel in tag]
            background = luminance(rgb(colour))
            contrast = max((max(v, background) + 0.05) / (min(v, background) + 0.05) for v in light)
            assert contrast >= 4.5, colour

    @pytest.mark.parametrize(
        ("boxes", "options", "match"),
        [
            ([1, 2, 3, 4], {}, r"\(4,\)"),
            (torch.zeros(2, 5), {}, r"\(2, 5\)"),
            ([[0, 0, float("nan"), 5]], {}, "NaN"),
            ([[50, 60, 20, 30]], {}, "width, height"),
            ([[0, 0, 5, 5]], {"labels": []}, "labels"),
            ([[0, 0, 5, 5]], {"labels": "a"}, "labels"),
            ([[0, 0, 5, 5]], {"scores": [0.1, 0.2]}, "scores"),
            ([[0, 0, 5, 5]], {"ids": [1, 2]}, "ids"),
            ([[0, 0, 5, 5]], {"colors": ["red", "blue"]}, "colors"),
            ([[0, 0, 5, 5]], {"labels": ["a"], "font": "/nowhere.ttf"}, "nowhere"),
        ],
        ids=["rank", "columns", "nan", "xywh", "labels", "string", "scores", "ids", "colors", "font"],
    )
    def test_bad_input_is_refused(self, boxes, options, match):
        with pytest.raises(ValueError, match=match):
            draw.boxes(plain(), boxes, **options)


def bar_lengths(image, left):
    """Length of every bar and of its track in pixels, top to bottom."""
    panel = image.crop((left, 0, *image.size))
    bars = near(panel, (0, 114, 178)) | near(panel, (141, 187, 220))
    tracks = bars | near(panel, (230, 234, 238))
    rows = np.flatnonzero(tracks.sum(1) > 0.5 * panel.width)
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    middles = [group[len(group) // 2] for group in groups]
    return [int(bars[m].sum()) for m in middles], [int(tracks[m].sum()) for m in middles]


class TestScoreBars:
    labels, scores = ("rowing", "weight_lifting", "boxing", "golf"), (0.25, 0.5, 0.15, 0.0)

    def test_bars_are_sorted_and_proportional(self):
        image = draw.score_bars(plain(400, 300), self.labels, torch.tensor(self.scores))
        assert image.height == 300
        assert np.array_equal(pixels(image)[:, :400], pixels(plain(400, 300)))
        lengths, tracks = bar_lengths(image, 400)
        assert len(set(tracks)) == 1
        # The round ends blend a pixel at either side.
        assert lengths == pytest.approx([share * tracks[0] for share in (0.5, 0.25, 0.15, 0)], abs=2)

    def test_only_the_best_bar_is_dark(self):
        panel = draw.score_bars(plain(400, 300), self.labels, self.scores)
        dark, light = near(panel, (0, 114, 178)).nonzero()[0], near(panel, (141, 187, 220)).nonzero()[0]
        assert dark.max() < light.min()

    @pytest.mark.parametrize(("k", "count"), [(1, 1), (3, 3), (9, 4)])
    def test_number_of_bars(self, k, count):
        image = draw.score_bars(plain(400, 300), self.labels, self.scores, k=k)
        assert len(bar_lengths(image, 400)[1]) == count

    def test_panel_stands_below_a_wide_picture_or_where_told(self):
        wide = draw.score_bars(plain(600, 200), self.labels, self.scores)
        assert wide.width == 600
        assert np.array_equal(pixels(wide)[:200], pixels(plain(600, 200)))
        assert (pixels(wide)[-1] == 255).all()
        assert draw.score_bars(plain(600, 200), self.labels, self.scores, side="right").width > 600
        assert draw.score_bars(plain(300, 300), self.labels, self.scores, side="bottom").width == 300

    def test_title_takes_room_above_the_bars(self):
        image = [draw.score_bars(plain(300, 300), ["a"], [1.0], title, side="bottom") for title in (None, "t")]
        assert image[1].height > image[0].height

    @pytest.mark.parametrize("size", [(32, 32), (1, 1), (2000, 20), (20, 900)], ids=str)
    @pytest.mark.parametrize("side", ["right", "bottom"])
    def test_any_size_and_any_label(self, size, side):
        labels = ["a very_long label " * 20, "举重", ""]
        image = draw.score_bars(plain(*size), labels, [0.7, 0.2, 0.1], "title", side=side)
        assert near(image, (0, 114, 178)).sum(1).max() > 50
        border = pixels(image)[:, -8:]
        assert (border[~near(image, (90, 90, 90))[:, -8:]] == 255).all()  # no text runs out

    def test_tiny_picture_is_enlarged(self):
        assert draw.score_bars(plain(32, 32), ["a"], [0.5]).height == 160

    @pytest.mark.parametrize(
        ("labels", "scores", "options", "match"),
        [
            ([], [], {}, "at least one"),
            (["a"], [0.1, 0.2], {}, "as many"),
            ("ab", [0.1, 0.2], {}, "as many"),
            (["a"], [3.0], {}, "softmax"),
            (["a"], [float("nan")], {}, "softmax"),
            (["a"], [0.5], {"k": 0}, "k must"),
            (["a"], [0.5], {"side": "left"}, "left"),
        ],
        ids=["none", "length", "string", "logits", "nan", "k", "side"],
    )
    def test_bad_input_is_refused(self, labels, scores, options, match):
        with pytest.raises(ValueError, match=match):
            draw.score_bars(plain(), labels, scores, **options)


class TestFocusChain:
    def quadrants(self):
        image = plain(400, 200, (200, 0, 0))
        image.paste((0, 0, 200), (200, 100, 400, 200))
        return image

    def test_panels_show_the_regions(self):
        image = draw.focus_chain(self.quadrants(), [[200, 100, 400, 200], [200, 100, 300, 150]])
        blue = near(image, (0, 0, 200))
        # The whole picture is one quarter blue, both regions are blue throughout.
        columns = np.flatnonzero(blue.sum(0) > 150)
        panels = np.split(columns, np.flatnonzero(np.diff(columns) > 30) + 1)
        assert [len(p) for p in panels] == pytest.approx([400, 400], abs=60)
        assert near(image, (200, 0, 0)).any()

    def test_boxes_and_frames_keep_their_colours(self):
        boxes = [[100, 0, 300, 100], [150, 0, 250, 50], [180, 0, 220, 20]]
        image = draw.focus_chain(plain(400, 200), boxes, height=200)
        margin = np.flatnonzero(near(image, (90, 90, 90)).any(1)).min()
        row = margin + 14  # crosses every box
        hues = (SKY, ORANGE, GREEN)
        counts = [(np.diff(np.flatnonzero(near(image, hue)[row])) > 1).sum() + 1 for hue in hues]
        # Two sides each: in the picture, in the region before (the next box alone), and the own frame.
        assert counts == [2 + 2, 2 + 2 + 2, 2 + 2 + 2]

    @pytest.mark.parametrize(("size", "height"), [((60, 40), 160), ((300, 200), 200), ((900, 600), 480)])
    def test_default_height_is_the_pictures_within_limits(self, size, height):
        image = draw.focus_chain(plain(*size), [[size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2]])
        rows = np.flatnonzero(near(image, (90, 90, 90)).any(1))
        assert np.ptp(rows) + 1 == height
        assert draw.focus_chain(plain(*size), [[0, 0, *size]], height=height).size[1] == image.height

    def test_box_is_cut_at_the_border(self):
        inside = draw.focus_chain(self.quadrants(), [[200, 100, 400, 200]])
        assert not changed(draw.focus_chain(self.quadrants(), [[200, 100, 500, 260]]), inside).any()

    def test_captions(self):
        boxes = [[0, 0, 100, 100], [0, 0, 50, 50]]
        default = draw.focus_chain(plain(), boxes)
        assert not changed(draw.focus_chain(plain(), boxes, ["region 1", "region_2"]), default).any()
        assert not changed(draw.focus_chain(plain(), boxes, ["image", "region 1", "region 2"]), default).any()
        other = changed(draw.focus_chain(plain(), boxes, ["举重", "long " * 99]), default)
        assert other.any()
        assert not other[: default.height - 30].any()

    @pytest.mark.parametrize("size", [(32, 32), (1500, 60), (40, 600)], ids=str)
    def test_any_shape(self, size):
        image = draw.focus_chain(plain(*size), [[0, 0, size[0] / 2, size[1] / 2], [1, 1, 3, size[1] / 3]])
        assert image.height < 700
        assert (pixels(image)[:, [0, -1]] == 255).all()

    @pytest.mark.parametrize(
        ("boxes", "options", "match"),
        [
            ([], {}, "at least one"),
            ([[0, 0, 50, 50], [900, 0, 950, 50]], {}, "within"),
            ([[0, 0, 50, 50]], {"labels": ["a", "b", "c"]}, "need 1 labels"),
            ([[0, 0, 50, 50]], {"height": 3}, "height"),
            (torch.zeros(1, 1, 4), {}, r"\(N, 4\)"),
        ],
        ids=["none", "outside", "labels", "height", "rank"],
    )
    def test_bad_input_is_refused(self, boxes, options, match):
        with pytest.raises(ValueError, match=match):
            draw.focus_chain(plain(), boxes, **options)


class TestHeatMap:
    def test_blend_of_hottest_and_coldest(self):
        heat = torch.zeros(12, 20)
        heat[:, 10:] = 1
        image = pixels(draw.heat_map(plain(), heat, alpha=0.4))
        # inferno ends at (252, 255, 164) and starts at (0, 0, 4); opacity runs from 0.2 to 0.6.
        assert image[60, 190].tolist() == [round(0.4 * 90 + 0.6 * c) for c in (252, 255, 164)]
        assert image[60, 10].tolist() == [round(0.8 * 90 + 0.2 * c) for c in (0, 0, 4)]

    def test_lightness_rises_with_heat(self):
        ramp = np.linspace(-5, 7, 200)[None].repeat(2, 0)
        grey = pixels(draw.heat_map(plain(200, 20, (0, 0, 0)), ramp, alpha=1.0).convert("L"))
        assert (np.diff(grey[10]) >= 0).all()
        assert grey[10, -1] - grey[10, 0] > 200

    def test_scale_and_offset_do_not_matter(self):
        heat = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
        images = [pixels(draw.heat_map(plain(), h)) for h in (heat, 40 * heat - 3)]
        assert np.abs(images[0] - images[1]).max() <= 1

    def test_peak_lands_on_its_cell(self):
        heat = torch.zeros(4, 5)
        heat[1, 3] = 1
        light = pixels(draw.heat_map(plain(200, 120, (0, 0, 0)), heat)).sum(-1)
        y, x = np.unravel_index(light.argmax(), light.shape)
        assert 30 <= y < 60
        assert 120 <= x < 160

    @pytest.mark.parametrize("value", [0.0, 3.5, -2.0, float("nan"), float("inf")])
    def test_constant_map_is_cold_everywhere(self, value):
        image = pixels(draw.heat_map(plain(), torch.full((3, 3), value), alpha=0.4))
        assert (image == [round(0.8 * 90 + 0.2 * c) for c in (0, 0, 4)]).all()

    def test_nan_counts_as_zero(self):
        heat = torch.tensor([[0.0, 1.0], [0.0, 0.5]])
        holes = torch.tensor([[float("nan"), 1.0], [float("nan"), 0.5]])
        assert not changed(draw.heat_map(plain(), heat), draw.heat_map(plain(), holes)).any()

    def test_alpha_zero_leaves_the_picture(self):
        assert not changed(draw.heat_map(PHOTO, torch.eye(3), alpha=0), draw.to_image(PHOTO)).any()

    @pytest.mark.parametrize(
        ("heat", "alpha", "match"),
        [(torch.zeros(1, 3, 3), 0.5, r"\(1, 3, 3\)"), (torch.zeros(0, 3), 0.5, "h, w"), (torch.eye(2), 1.5, "alpha")],
        ids=["rank", "empty", "alpha"],
    )
    def test_bad_input_is_refused(self, heat, alpha, match):
        with pytest.raises(ValueError, match=match):
            draw.heat_map(plain(), heat, alpha)


class TestKeypoints:
    def person(self):
        """A COCO person whose left side stands on the right of the picture."""
        points = torch.zeros(17, 3)
        points[:, 0] = torch.tensor(
            [100, 104, 96, 108, 92] + [140, 60, 165, 35] + [165, 35] + [140, 60] * 3, dtype=torch.float
        )
        points[:, 1] = torch.tensor([20, 16, 16, 18, 18, 40, 40, 60, 60, 80, 80, 100, 100, 130, 130, 160, 160.0])
        points[:, 2] = 1
        return points[None]

    def test_sides_have_their_colours(self):
        image = draw.keypoints(plain(200, 180), self.person())
        assert near(image, SKY)[[40, 70, 115, 145, 160, 80], [140] * 5 + [165]].all()  # joints and limbs
        assert near(image, ORANGE)[[40, 70, 115, 145, 160, 80], [60] * 5 + [35]].all()
        assert near(image, (255, 255, 255))[[40, 100], 100].all()  # shoulders and hips
        assert not changed(image, plain(200, 180))[:, 175:].any()

    def test_joint_under_the_threshold_goes_with_its_limbs(self):
        person = self.person()
        person[0, 9, 2] = 0.29  # left wrist
        image = draw.keypoints(plain(200, 180), person)
        assert not changed(image, plain(200, 180))[68:94, 165].any()
        assert near(draw.keypoints(plain(200, 180), person, threshold=0.2), SKY)[[70, 80], 165].all()

    def test_non_finite_joint_is_left_out(self):
        person = self.person()
        without = person.clone()
        person[0, 9, 0], without[0, 9, 2] = float("nan"), 0
        image = draw.keypoints(plain(200, 180), person)
        assert not changed(image, draw.keypoints(plain(200, 180), without)).any()

    def test_nobody_and_outside(self):
        assert not changed(draw.keypoints(plain(), torch.zeros(0, 17, 3)), plain()).any()
        assert not changed(draw.keypoints(plain(), self.person() * 0), plain()).any()
        far = self.person() + torch.tensor([5000.0, 5000, 0])
        assert not changed(draw.keypoints(plain(), far), plain()).any()
        assert draw.keypoints(plain(32, 32), self.person() / 8).size == (32, 32)

    @pytest.mark.parametrize("skeleton", [draw.COCO_SKELETON, draw.MPII_SKELETON], ids=["coco", "mpii"])
    def test_skeletons_are_mirrored_and_connected(self, skeleton):
        swap = {"left": "right", "right": "left"}
        names = ["_".join(swap.get(w, w) for w in name.split("_")) for name in skeleton.joints]
        mirror = [skeleton.joints.index(name) for name in names]
        limbs = {frozenset(limb) for limb in skeleton.limbs}
        assert {frozenset(mirror[j] for j in limb) for limb in limbs} == limbs
        assert len(limbs) == len(skeleton.limbs)
        assert {j for limb in limbs for j in limb} == set(range(len(skeleton.joints)))

    def test_mpii_order(self):
        """Where `PartCropper` looks by default: head top 9, right wrist 10, left wrist 15."""
        joints = draw.MPII_SKELETON.joints
        assert (len(joints), joints[9], joints[10], joints[15]) == (16, "head_top", "right_wrist", "left_wrist")

    def test_wrong_shape_is_refused(self):
        with pytest.raises(ValueError, match=r"\(N, 17, 3\)"):
            draw.keypoints(plain(), torch.zeros(17, 3))
        with pytest.raises(ValueError, match=r"\(N, 16, 3\)"):
            draw.keypoints(plain(), torch.zeros(1, 17, 3), draw.MPII_SKELETON)


class TestLayout:
    def test_grid_places_pictures_row_by_row(self):
        colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
        image = draw.grid([plain(100, 60, c) for c in colours], columns=2)
        centres = [near(image, c).nonzero() for c in colours]
        assert all(len(rows) == 100 * 60 for rows, _ in centres)
        (y0, x0), (y1, x1), (y2, x2) = ((rows.mean(), columns.mean()) for rows, columns in centres)
        assert y0 == y1 < y2
        assert x0 == x2 < x1

    def test_grid_fits_and_centres(self):
        image = draw.grid([plain(50, 200, (255, 0, 0)), plain(400, 100, (0, 0, 255))], columns=2, cell=(200, 100))
        tall, wide = near(image, (255, 0, 0)).nonzero(), near(image, (0, 0, 255)).nonzero()
        assert (np.ptp(tall[0]) + 1, np.ptp(tall[1]) + 1) == (100, 25)
        assert (np.ptp(wide[0]) + 1, np.ptp(wide[1]) + 1) == (50, 200)
        assert tall[0].mean() == wide[0].mean()

    def test_captions_stand_below(self):
        bare, captioned = draw.grid([plain()] * 3), draw.grid([plain()] * 3, captions=["a_b", "举重", "long " * 99])
        assert captioned.width == bare.width
        assert captioned.height > bare.height
        assert near(captioned, (90, 90, 90)).sum() >= 3 * 200 * 120

    @pytest.mark.parametrize(("count", "columns", "shape"), [(1, None, (1, 1)), (5, None, (3, 2)), (2, 9, (2, 1))])
    def test_number_of_columns(self, count, columns, shape):
        gap = 7  # 0.6 of the smallest font, 11 pixels
        image = draw.grid([plain()] * count, columns=columns)
        assert image.size == (shape[0] * (200 + gap) + gap, shape[1] * (120 + gap) + gap)

    def test_stack(self):
        image = draw.stack([plain(200, 50), plain(100, 40, (255, 0, 0))])
        assert image.size == (200, 90)
        assert near(image, (255, 0, 0))[50:, 50:150].all()
        assert (pixels(image)[50:, :50] == 255).all()
        assert draw.stack([plain(200, 50), plain(100, 40)], width=100).size == (100, 65)
        assert draw.stack([plain(3200, 50)]).size == (1600, 25)

    @pytest.mark.parametrize(
        ("call", "match"),
        [
            (lambda: draw.grid([]), "at least one"),
            (lambda: draw.grid([plain()], captions=["a", "b"]), "captions"),
            (lambda: draw.grid([plain()], columns=0), "columns"),
            (lambda: draw.grid([plain()], cell=(0, 5)), "cell"),
            (lambda: draw.stack([]), "at least one"),
            (lambda: draw.stack([plain()], width=0), "width"),
        ],
        ids=["none", "captions", "columns", "cell", "stack-none", "stack-width"],
    )
    def test_bad_input_is_refused(self, call, match):
        with pytest.raises(ValueError, match=match):
            call()


class TestTrackedPeople:
    BOXES = ((20.0, 30.0, 80.0, 110.0), (120.0, 30.0, 180.0, 110.0))

    def test_a_track_has_one_colour_wherever_it_stands_in_the_list(self):
        first = draw.tracked_people(plain(), self.BOXES, [4, 1])
        second = draw.tracked_people(plain(), self.BOXES[::-1], [1, 4])
        assert np.array_equal(pixels(first), pixels(second))
        sides = draw.tracked_people(plain(), self.BOXES, [8, 1])
        # the seven colours go round
        assert near(sides, ORANGE)[70, 20]
        assert near(sides, ORANGE)[70, 120]

    def test_skeletons_have_the_colour_of_the_box(self):
        keypoints = torch.zeros(2, 17, 3)
        keypoints[:, 5:7] = torch.tensor([[[40.0, 60, 1], [60, 60, 1]], [[140, 60, 1], [160, 60, 0.1]]])
        image = draw.tracked_people(plain(), self.BOXES, [0, 1], keypoints=keypoints)
        assert near(image, SKY)[60, 50]
        assert near(image, ORANGE)[60, 140]
        # the other shoulder is not sure enough, and so there is no limb
        assert not near(image, ORANGE)[55:65, 145:165].any()

    def test_tags_hold_id_label_and_score(self):
        whole = draw.tracked_people(plain(400, 240), self.BOXES[:1], [3], ["weight_lifting"], [0.873])
        expected = draw.boxes(plain(400, 240), self.BOXES[:1], ["weight_lifting"], [0.873], [3])
        # the tag above the box is the same; edges are smoothed less
        assert np.array_equal(pixels(whole)[:28], pixels(expected)[:28])
        assert changed(whole, plain(400, 240))[:28].any()

    def test_nobody_and_other_joints(self):
        assert not changed(draw.tracked_people(plain(), [], [], [], [], torch.zeros(0, 17, 3)), plain()).any()
        # five joints of an unknown layout are drawn without limbs
        image = draw.tracked_people(plain(), self.BOXES[:1], [0], keypoints=torch.full((1, 5, 3), 50.0))
        assert near(image, SKY)[50, 50]
        assert [len(draw.skeleton_of(n).limbs) for n in (17, 16, 5)] == [16, 15, 0]

    @pytest.mark.parametrize("given", [{"labels": ["a"]}, {"scores": [0.5]}, {"keypoints": torch.zeros(1, 17, 3)}])
    def test_one_of_everything_for_each_box(self, given):
        with pytest.raises(ValueError, match="must be 2, one for each box, got 1"):
            draw.tracked_people(plain(), self.BOXES, [0, 1], **given)
        with pytest.raises(ValueError, match="ids must be 2"):
            draw.tracked_people(plain(), self.BOXES, [0])


def test_keypoints_take_the_colours_given():
    joints = torch.zeros(2, 16, 3)
    joints[:, 0] = torch.tensor([[30.0, 30, 1], [60, 30, 1]])
    image = draw.keypoints(plain(), joints, draw.MPII_SKELETON, colors=["#e69f00", (0, 158, 115)])
    assert near(image, ORANGE)[30, 30]
    assert near(image, GREEN)[30, 60]
    with pytest.raises(ValueError, match="colors must be a list of 2"):
        draw.keypoints(plain(), joints, draw.MPII_SKELETON, colors=["#e69f00"])
