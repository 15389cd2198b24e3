import numpy as np
import pytest
import torch
from PIL import Image

from actionzoo import draw
from actionzoo.data.figures import ActingFigures
from actionzoo.draw import contact_sheet
from actionzoo.draw.figures import spread

BLUE, WHITE = (86, 180, 233), (255, 255, 255)


class Grey:
    """A data set of plain pictures whose truth is known: item `i` is grey 10 * i; one person, one joint is hidden."""

    classes = ("raising_arms", "standing")

    def __init__(self, frames=None, length=5, size=48):
        self.frames, self.length, self.size = frames, length, size

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        if not 0 <= i < self.length:
            raise IndexError(i)
        shape = (3, *([self.frames] if self.frames else []), self.size, self.size)
        pixels = torch.full(shape, 10 * i, dtype=torch.uint8)
        times = self.frames or 1
        if self.frames:
            pixels += torch.arange(times, dtype=torch.uint8)[:, None, None]
        joints = torch.zeros(1, times, 16, 3)
        joints[:, :, 9], joints[:, :, 8] = torch.tensor([24.0, 8.0, 1.0]), torch.tensor([24.0, 30.0, 2.0])
        boxes = torch.tensor([[[4.0, 4.0, 44.0, 44.0]]]).repeat(1, times, 1)
        target = {"boxes": boxes, "joints": joints}
        if not self.frames:
            target = {name: value[:, 0] for name, value in target.items()}
        return pixels, {**target, "labels": torch.tensor([i % 2])}


def cells(sheet, data, columns, cell, captions=True):
    """Where the pictures lie on a sheet, [(left, top)]."""
    size = max(11, round(min(cell) / 17))
    gap, below = round(0.6 * size), round(1.7 * size) if captions else 0
    pitch = cell[0] + gap, cell[1] + below + gap
    columns_there, rows = (sheet.width - gap) // pitch[0], (sheet.height - gap) // pitch[1]
    assert sheet.size == (columns_there * pitch[0] + gap, rows * pitch[1] + gap)
    return [(gap + c * pitch[0], gap + r * pitch[1]) for r in range(rows) for c in range(columns_there)], below


def middle(sheet, at, cell):
    return sheet.getpixel((at[0] + cell[0] // 2, at[1] + cell[1] // 4))


class TestContactSheet:
    def test_images_lie_in_rows_with_their_labels_below(self):
        cell = (48, 48)
        sheet = contact_sheet(Grey(), columns=3, truth=False, cell=cell)
        places, below = cells(sheet, Grey(), 3, cell)
        assert len(places) == 6  # two rows, the last place is empty
        for i, at in enumerate(places[:5]):
            assert middle(sheet, at, cell) == (10 * i,) * 3
            strip = sheet.crop((at[0], at[1] + 48, at[0] + 48, at[1] + 48 + below))
            assert np.asarray(strip).min() < 128  # something is written
        assert middle(sheet, places[5], cell) == WHITE

    def test_labels_are_the_names_of_the_classes(self):
        a, b = (np.asarray(contact_sheet(Grey(), [i], truth=False)) for i in (1, 3))
        assert a.shape == b.shape
        words = a.shape[0] - 26  # the same class: the same caption below different greys
        assert np.array_equal(a[words:], b[words:])
        assert not np.array_equal(a[words:], np.asarray(contact_sheet(Grey(), [2], truth=False))[words:])

    def test_a_clip_is_one_row_of_frames_evenly_spread(self):
        cell = (48, 48)
        sheet = contact_sheet(Grey(frames=9, length=3), columns=3, truth=False, cell=cell)
        places, below = cells(sheet, Grey(), 3, cell)
        assert len(places) == 9
        for k, at in enumerate(places):
            assert middle(sheet, at, cell) == (10 * (k // 3) + (0, 4, 8)[k % 3],) * 3
            strip = sheet.crop((at[0], at[1] + 48, at[0] + 48, at[1] + 48 + below))
            assert (np.asarray(strip).min() < 128) == (k % 3 == 0)  # the label stands below the first frame

    def test_items_are_those_asked_for(self):
        cell = (48, 48)
        sheet = contact_sheet(Grey(), [3, 1], columns=2, truth=False, cell=cell)
        places, _ = cells(sheet, Grey(), 2, cell)
        assert [middle(sheet, at, cell)[0] for at in places] == [30, 10]

    def test_by_default_there_are_four_rows(self):
        cell = (48, 48)
        for data, count in ((Grey(length=40), 4 * 5), (Grey(frames=2, length=40), 4 * 5)):
            sheet = contact_sheet(data, columns=5, truth=False, cell=cell)
            assert len(cells(sheet, data, 5, cell)[0]) == count

    @pytest.mark.parametrize("frames", [None, 3])
    def test_truth_is_the_box_and_joints_whether_seen_or_hidden(self, frames):
        cell = (48, 48)
        bare, drawn = (contact_sheet(Grey(frames), [0], 1, truth=truth, cell=cell) for truth in (False, True))
        places, _ = cells(drawn, Grey(), 1, cell)
        left, top = places[0]
        changed = (np.asarray(bare).astype(int) != np.asarray(drawn)).any(-1)[top : top + 48, left : left + 48]
        assert changed[24, 4]  # the box's left side
        assert changed[8, 24]  # the hidden joint
        assert changed[30, 24]
        assert changed[18, 24]  # the bone between them
        assert not changed[24, 12]
        assert not changed[0].any()

    def test_people_outside_the_picture_are_not_drawn(self):
        data = Grey()
        pixels, target = data[0]
        target["boxes"][:] = 0
        target["joints"][:] = 0
        nobody = type("Nobody", (Grey,), {"__getitem__": lambda self, i: (pixels, target)})()
        sheets = [np.asarray(contact_sheet(nobody, [0], truth=truth)) for truth in (True, False)]
        assert np.array_equal(*sheets)

    def test_keypoints_in_cocos_order_are_drawn_too(self):
        pixels, target = ActingFigures("pose", size=64)[0]
        del target["joints"]
        coco = type(
            "Coco", (Grey,), {"classes": ActingFigures("pose").classes, "__getitem__": lambda *_: (pixels, target)}
        )
        expected = draw.keypoints(
            draw.boxes(draw.to_image(pixels), target["boxes"]), target["keypoints"], draw.COCO_SKELETON, threshold=0.5
        )
        sheet = contact_sheet(coco(), [0], cell=(64, 64))
        (left, top), *_ = cells(sheet, None, 1, (64, 64))[0]
        assert np.array_equal(np.asarray(sheet.crop((left, top, left + 64, top + 64))), np.asarray(expected))

    @pytest.mark.parametrize("task", ["fine_grained", "pose", "motion", "crowd", "parts", "parts_turned"])
    def test_every_task_of_acting_figures(self, task):
        data = ActingFigures(task, length=2, size=96, frames=3)
        sheet = contact_sheet(data, columns=2)
        assert isinstance(sheet, Image.Image)
        places, _ = cells(sheet, data, 2, (96, 96))
        assert len(places) == (4 if data.is_clip else 2)
        colours = np.asarray(sheet).reshape(-1, 3)
        assert (colours == BLUE).all(1).sum() > 20  # the first person's box
        assert not np.array_equal(np.asarray(sheet), np.asarray(contact_sheet(data, columns=2, truth=False)))

    def test_errors(self):
        with pytest.raises(ValueError, match="at least one column, got 0"):
            contact_sheet(Grey(), columns=0)
        with pytest.raises(ValueError, match="at least one item, got none"):
            contact_sheet(Grey(), [])
        with pytest.raises(ValueError, match="at least one item, got none"):
            contact_sheet(Grey(length=0))
        with pytest.raises(IndexError):
            contact_sheet(Grey(), [5])


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [(16, 1, [0]), (16, 2, [0, 15]), (9, 5, [0, 2, 4, 6, 8]), (3, 5, [0, 0, 1, 2, 2]), (1, 3, [0, 0, 0])],
)
def test_frames_are_spread_from_the_first_to_the_last(frames, count, expected):
    assert spread(frames, count) == expected
