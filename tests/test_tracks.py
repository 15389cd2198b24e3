"""Linked people as tensors, against the plainest loop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actionzoo.layers import OutermostBoxPooler
from actionzoo.tracking import collect_tracks, link_boxes


def loop(ids, boxes, min_frames):
    """Every track by hand: id -> [(frame, row, box), ...]."""
    found = {}
    for t, (numbers, rows) in enumerate(zip(ids, boxes)):
        for row, (number, box) in enumerate(zip(numbers.tolist(), rows.tolist())):
            found.setdefault(number, []).append((t, row, box))
    return {number: seen for number, seen in sorted(found.items()) if len(seen) >= min_frames}


frames = st.lists(st.lists(st.integers(0, 6), max_size=4, unique=True), max_size=6)


@settings(deadline=None, max_examples=60)
@given(frames, st.integers(1, 3))
def test_equals_the_loop(numbers, min_frames):
    ids = [torch.tensor(row, dtype=torch.long) for row in numbers]
    boxes = [torch.rand(len(row), 4) for row in numbers]
    tracks, wanted = collect_tracks(ids, boxes, min_frames=min_frames), loop(ids, boxes, min_frames)
    assert tracks.ids.tolist() == list(wanted)
    assert tracks.boxes.shape == (len(wanted), len(ids), 4)
    for n, seen in enumerate(wanted.values()):
        rows, placed = [-1] * len(ids), torch.zeros(len(ids), 4)
        for t, row, box in seen:
            rows[t], placed[t] = row, torch.tensor(box)
        assert tracks.rows[n].tolist() == rows
        assert tracks.valid[n].tolist() == [row >= 0 for row in rows]
        torch.testing.assert_close(tracks.boxes[n], placed)


def test_what_is_linked_can_be_pooled():
    people = [torch.tensor([[8.0 + t, 8, 40 + t, 60], [80, 10, 110 - t, 60]]) for t in range(3)]
    boxes = [people[0], people[1].flip(0), people[2]]
    tracks = collect_tracks(link_boxes(boxes), boxes)
    assert tracks.valid.all()
    assert tracks.boxes[0, :, 0].tolist() == [8, 9, 10]
    assert tracks.rows.tolist() == [[0, 1, 0], [1, 0, 1]]
    features = {name: torch.rand(1, 3, 4, 64 // stride, 128 // stride) for name, stride in zip("01", (4, 8))}
    pooler = OutermostBoxPooler(7, levels=("0", "1"))
    pooled, used = pooler(features, tracks.boxes, tracks.valid, torch.zeros(2, dtype=torch.long), (64, 128))
    assert pooled.shape == (2, 4, 3, 7, 7)
    assert used[0].tolist() == [8, 8, 42, 60]


@pytest.mark.parametrize(
    ("ids", "boxes", "options", "said"),
    [
        ([[0]], [], {}, "the same frames, got 1 and 0"),
        ([[0, 1]], [(1, 4)], {}, r"frame 0: expected ids \(n,\) and boxes \(n, 4\), got \(2,\) and \(1, 4\)"),
        ([[0], [1, 1]], [(1, 4), (2, 4)], {}, "frame 1: a track id comes twice: .*; link people one to one"),
        ([[0]], [(1, 4)], {"min_frames": 0}, "min_frames is at least 1, got 0"),
    ],
    ids=["frames", "people", "twice", "min_frames"],
)
def test_refusals(ids, boxes, options, said):
    with pytest.raises(ValueError, match=said):
        collect_tracks([torch.tensor(row) for row in ids], [torch.rand(shape) for shape in boxes], **options)
