import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from actionzoo.data import FileClips, write_clip
from actionzoo.data.labelled_clips import flip_clip
from actionzoo.training import cache_instances
from actionzoo.training._pooled_tracks import match_people
from tests import instances

BOXES = [(8.0, 10.0, 30.0, 60.0), (36.0, 8.0, 60.0, 58.0)]


@pytest.fixture
def model():
    return instances.net().eval()


def cached(model, source, folder, **args):
    return cache_instances(model, source, folder, progress=False, **args)


def pooled(model, clip, boxes, valid=None):
    """Features of people of one clip, by the network itself."""
    seen = []
    handle = model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(clip[None].float() / 255, boxes, valid, torch.zeros(len(boxes), dtype=torch.long))
    handle.remove()
    return seen[0]


class TestTrueBoxes:
    @pytest.mark.parametrize("mode", ["outermost", "basic"])
    def test_features_are_those_that_the_network_pools(self, tmp_path, mode):
        model, source = instances.net(mode=mode).eval(), instances.figures("crowd", length=2)
        found = cached(model, source, tmp_path, true_boxes=True)
        assert len(found) == 2
        for i in range(2):
            clip, item = source.read(i), found[i]
            expected = pooled(model, clip.clip, clip.boxes)
            assert item.features.dtype == torch.float32
            torch.testing.assert_close(item.features, expected, rtol=1e-3, atol=1e-4)
            assert torch.equal(item.labels, clip.labels)
            assert item.score.tolist() == [1.0] * len(clip.labels)
            sides = clip.boxes[..., 2:] - clip.boxes[..., :2]
            torch.testing.assert_close(item.area, sides.prod(-1).mean(1))
            assert (item.label, item.people, item.found) == (clip.label, len(clip.labels), len(clip.labels))

    def test_clips_without_boxes_have_none(self, model, tmp_path):
        path = write_clip(tmp_path / "a.mp4", torch.zeros(3, 6, 64, 64, dtype=torch.uint8))
        with pytest.raises(ValueError, match="no true boxes"):
            cached(model, FileClips([(path, 0)], 4), tmp_path / "cache", true_boxes=True)


class TestDetection:
    def test_tracks_scores_and_areas(self, model, tmp_path):
        # the second person is missing in two frames, the first is found less surely by and by
        frames = [[(BOXES[0], 0.9 - 0.1 * t), *([(BOXES[1], 0.6)] if t % 2 == 0 else [])] for t in range(4)]
        instances.scripted(model, [frames])
        source = instances.figures(length=1)
        item = cached(model, source, tmp_path)[0]
        boxes = torch.tensor(BOXES)[:, None].expand(-1, 4, 4)
        valid = torch.tensor([[True] * 4, [True, False] * 2])
        expected = pooled(model, source.read(0).clip, torch.where(valid[..., None], boxes, 0.0), valid)
        torch.testing.assert_close(item.features, expected, rtol=1e-3, atol=1e-4)
        assert item.score.tolist() == pytest.approx([0.75, 0.6])
        assert item.area.tolist() == [22 * 50, 24 * 50]

    def test_everybody_in_a_video_has_its_label(self, model, tmp_path):
        path = write_clip(tmp_path / "a.mp4", torch.zeros(3, 6, 64, 64, dtype=torch.uint8))
        instances.scripted(model, [[[(box, 0.9) for box in BOXES]] * 4])
        source = FileClips([(path, 2)], 4)
        found = cached(model, source, tmp_path / "cache")
        assert found[0].labels.tolist() == [2, 2]
        assert (found[0].label, found[0].people, found[0].found) == (2, 0, 0)
        # labels are not kept, so that classes may be numbered anew
        source.items = [(path, 4)]
        assert found[0].labels.tolist() == [4, 4]

    def test_a_figure_has_the_label_of_the_person_it_is(self, model, tmp_path):
        source = instances.figures("crowd", length=1)
        truth = source.read(0)
        last = truth.boxes[-1]
        frames = [[(tuple(last[t].tolist()), 0.9), ((0.0, 0.0, 5.0, 5.0), 0.8)] for t in range(4)]
        instances.scripted(model, [frames])
        item = cached(model, source, tmp_path)[0]
        assert item.labels.tolist() == [int(truth.labels[-1]), -1]
        assert (item.people, item.found) == (len(truth.labels), 1)

    def test_nobody(self, model, tmp_path):
        source = instances.figures(length=1)
        instances.scripted(model, [[[]] * 4] * 2)
        item = cached(model, source, tmp_path / "none")[0]
        assert item.features.shape == (0, 8, 4, 4, 4)
        assert [len(x) for x in item[:4]] == [0] * 4
        item = cached(model, source, tmp_path / "frame", whole_frame=True)[0]
        expected = pooled(model, source.read(0).clip, torch.tensor([0.0, 0, 64, 64]).expand(1, 4, 4))
        torch.testing.assert_close(item.features, expected, rtol=1e-3, atol=1e-4)
        assert (item.score.tolist(), item.area.tolist()) == ([0.0], [64.0 * 64])

    def test_short_clips_are_padded_with_zeros_and_long_ones_cut(self, model, tmp_path):
        source = instances.figures(length=1, frames=3)
        short = cached(model, source, tmp_path / "3", true_boxes=True)[0].features
        assert short.shape[2] == 4
        assert (short[:, :, 3] == 0).all()
        assert (short[:, :, 2] != 0).any()
        longer = cached(model, source, tmp_path / "6", true_boxes=True, frames=6)[0].features
        assert longer.shape[2] == 6
        torch.testing.assert_close(longer[:, :, :4], short)
        cut = cached(model, source, tmp_path / "2", true_boxes=True, frames=2)[0].features
        assert cut.shape[2] == 2


class TestViews:
    def test_a_view_is_another_part_of_the_video_and_always_the_same(self, model, tmp_path):
        source = instances.figures(length=2, frames=2, stride=4)
        source.frames = 1  # eight places to start
        first = cached(model, source, tmp_path / "a", views=3, true_boxes=True, hflip=0.5)
        again = cached(model, source, tmp_path / "b", views=3, true_boxes=True, hflip=0.5)
        for i in range(2):
            every = [first.read(i, view).features for view in range(3)]
            for view, features in enumerate(every):
                assert torch.equal(features, again.read(i, view).features)
            assert not torch.equal(every[0], every[1])
        other = cached(model, source, tmp_path / "a", views=2, true_boxes=True, seed=1)
        assert other.file(0) == first.file(0)
        assert other.file(0, 1) != first.file(0, 1)
        assert len(list((tmp_path / "a").glob("*.safetensors"))) == 2 * 3 + 2

    def test_mirrored_views(self, model, tmp_path):
        source = instances.figures(length=1, frames=4, stride=2)
        found = cached(model, source, tmp_path, views=2, true_boxes=True, hflip=1.0).read(0, 1)
        places = [flip_clip(source.read(0, at)) for at in (0.0, 0.99)]
        close = [torch.allclose(pooled(model, p.clip, p.boxes), found.features, rtol=1e-3, atol=1e-4) for p in places]
        assert any(close)

    def test_an_item_in_training_is_any_view(self, model, tmp_path):
        source = instances.figures(length=1, frames=1, stride=8)
        found = cached(model, source, tmp_path, views=2, true_boxes=True, seed=1)
        found.random_view = True
        views = [found.read(0, view).features for view in range(2)]
        drawn = [found[0].features for _ in range(20)]
        assert {tuple(torch.equal(one, x) for x in views) for one in drawn} == {(True, False), (False, True)}


class TestFolder:
    def test_what_is_there_is_not_made_again(self, model, tmp_path, monkeypatch):
        source, read = instances.figures(length=4), []
        monkeypatch.setattr(source, "read", lambda i, at=None: read.append(i) or type(source).read(source, i, at))

        class Stop(Exception):
            pass

        def stops(*args):
            if len(read) == 3:
                raise Stop
            return own(*args)

        own = model.pool
        monkeypatch.setattr(model, "pool", stops)
        with pytest.raises(Stop):
            cached(model, source, tmp_path, true_boxes=True)
        assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == [
            f"{source.key(i)}.safetensors" for i in (0, 1)
        ]
        monkeypatch.setattr(model, "pool", own)
        found = cached(model, source, tmp_path, true_boxes=True)
        assert read == [0, 1, 2, 2, 3]
        whole = cached(model, source, tmp_path / "whole", true_boxes=True)
        for i in range(4):
            assert torch.equal(found[i].features, whole[i].features)
        assert not list(tmp_path.glob(".*"))

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda m: next(m.detector.parameters()).data.add_(1), "detector was"),
            (lambda m: m.detector.backbone.trunk.bn1.running_mean.add_(1), "detector was"),
            (lambda m: setattr(m.pooler, "mode", "basic"), "pooler was .*outermost.*, is .*basic"),
            (lambda m: setattr(m, "threshold", 0.7), "threshold was 0.5, is 0.7"),
            (lambda m: setattr(m.detector.roi_heads, "nms_thresh", 0.9), "settings was"),
            (lambda m: setattr(m.detector.transform, "min_size", (96,)), "settings was"),
            (lambda m: setattr(m.detector.transform, "fixed_size", (64, 96)), "settings was"),
            (lambda m: setattr(m.detector.transform, "_skip_resize", True), "settings was"),
            (lambda m: setattr(m.detector.rpn.anchor_generator, "aspect_ratios", ((1.0,),) * 3), "settings was"),
            (lambda m: setattr(m.detector.roi_heads.box_roi_pool, "sampling_ratio", 1), "settings was"),
            (lambda m: setattr(m.detector.roi_heads.keypoint_roi_pool, "canonical_scale", 100), "settings was"),
            (lambda m: setattr(m.detector.rpn.box_coder, "weights", (2.0, 1.0, 1.0, 1.0)), "settings was"),
        ],
        ids=["weight", "statistic", "mode", "threshold", "suppression", "size", "fixed-size", "no-resize", "ratios",
             "box-pool", "joint-pool", "coder"],
    )  # fmt: skip
    def test_features_of_another_detector_are_refused(self, model, tmp_path, change, said):
        cached(model, instances.figures(length=0), tmp_path)
        change(model)
        with pytest.raises(ValueError, match=f"stale: {said}.*Delete the folder or choose another"):
            cached(model, instances.figures(length=0), tmp_path)

    def test_equal_weights_with_other_anchors_are_another_detector(self, model, tmp_path):
        settings = {"anchor_sizes": ((8,), (16,), (48,))}
        other = instances.net(detector_args={**instances.DETECTOR, **settings}).eval()
        other.detector.load_state_dict(model.detector.state_dict())
        cached(model, instances.figures(length=0), tmp_path)
        with pytest.raises(ValueError, match=r"stale: detector_args was .*settings was .*\[\[16\].*, is .*\[\[8\]"):
            cached(other, instances.figures(length=0), tmp_path)

    def test_a_folder_that_another_process_begins_just_now(self, model, tmp_path, monkeypatch):
        source, own = instances.figures(length=1), Path.exists

        def exists(path):
            found = own(path)
            if path == tmp_path / "manifest.json" and not found:
                # right after this look the other one writes its manifest and a file
                monkeypatch.setattr(Path, "exists", own)
                cached(model, source, tmp_path, true_boxes=True)
            return found

        monkeypatch.setattr(Path, "exists", exists)
        assert len(cached(model, source, tmp_path, true_boxes=True)) == 1

    @pytest.mark.parametrize("change", [{"frames": 5}, {"true_boxes": True}, {"whole_frame": True}], ids=str)
    def test_features_made_in_another_way_are_refused(self, model, tmp_path, change):
        cached(model, instances.figures(length=0), tmp_path)
        with pytest.raises(ValueError, match=f"stale: {next(iter(change))} was"):
            cached(model, instances.figures(length=0), tmp_path, **change)

    def test_the_head_does_not_matter(self, model, tmp_path):
        cached(model, instances.figures(length=0), tmp_path)
        before = json.loads((tmp_path / "manifest.json").read_text())
        cached(instances.net(3, head={**instances.HEAD, "width": 5}), instances.figures(length=0), tmp_path)
        assert json.loads((tmp_path / "manifest.json").read_text()) == before

    def test_a_folder_of_something_else(self, model, tmp_path):
        (tmp_path / "model.safetensors").touch()
        with pytest.raises(ValueError, match=r"no manifest\.json"):
            cached(model, instances.figures(length=1), tmp_path)
        (tmp_path / "manifest.json").write_text("{")
        with pytest.raises(ValueError, match="damaged"):
            cached(model, instances.figures(length=1), tmp_path)

    def test_missing_and_damaged_files(self, model, tmp_path):
        found = cached(model, instances.figures(length=2), tmp_path, true_boxes=True)
        found.file(0).write_bytes(b"nothing")
        found.file(1).unlink()
        for i in range(2):
            with pytest.raises(RuntimeError, match=r"cannot read .*cache_instances"):
                found[i]
        with pytest.raises(IndexError, match="2 clips"):
            found[2]

    def test_modes_are_put_back_and_statistics_stay(self, tmp_path):
        model = instances.net().train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        modes = {name: module.training for name, module in model.named_modules()}
        cached(model, instances.figures(length=1), tmp_path, true_boxes=True)
        assert {name: module.training for name, module in model.named_modules()} == modes
        assert modes["head"]
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_processes_share_the_work(self, model, tmp_path, monkeypatch):
        source, read = instances.figures(length=5), []
        monkeypatch.setattr(source, "read", lambda i, at=None: read.append(i) or type(source).read(source, i, at))
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        cached(model, source, tmp_path, true_boxes=True)
        assert read[:2] == [1, 3]
        assert sorted(read[2:]) == [0, 2, 4]

    def test_what_another_process_makes_meanwhile_is_left_to_it(self, model, tmp_path, monkeypatch):
        whole = cached(model, instances.figures(length=5), tmp_path / "whole", true_boxes=True)
        source, pools, own = instances.figures(length=5), [], model.pool
        read = []
        monkeypatch.setattr(source, "read", lambda i, at=None: read.append(i) or type(source).read(source, i, at))

        def pool(*args):
            pools.append(1)
            if len(pools) == 1:
                # while the first of our share is pooled, the other process finishes everything else
                for i in range(1, 5):
                    shutil.copy(whole.file(i), tmp_path / "shared")
            return own(*args)

        monkeypatch.setattr(model, "pool", pool)
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "0")
        found = cached(model, source, tmp_path / "shared", true_boxes=True)
        assert (read, len(pools)) == ([0], 1)
        assert all(torch.equal(found[i].features, whole[i].features) for i in range(5))

    @pytest.mark.parametrize("workers", [0, 1])
    @pytest.mark.parametrize("processes", [1, 2])
    def test_clips_that_cannot_be_read_are_told_at_the_end(self, model, tmp_path, monkeypatch, workers, processes):
        paths = [tmp_path / f"{name}.mp4" for name in "abcd"]
        for path in paths:
            write_clip(path, torch.zeros(3, 6, 64, 64, dtype=torch.uint8))
        for path in (paths[0], paths[2]):
            path.write_bytes(b"no video")
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        monkeypatch.setenv("RANK", str(processes - 1))
        source, cache = FileClips([(path, 0) for path in paths], 4), tmp_path / "cache"
        with pytest.raises(RuntimeError, match=r"(?s)2 clips cannot be read.*\na-.*a\.mp4.*\nc-.*c\.mp4") as caught:
            cached(model, source, cache, whole_frame=True, workers=workers, views=2)
        assert not any(path in str(caught.value) for path in ("b.mp4", "d.mp4"))
        assert len(list(cache.glob("*.safetensors"))) == 2 * 2
        # the list without them: nothing is left to do
        source.items = [source.items[i] for i in (1, 3)]
        monkeypatch.setattr(model, "pool", None)
        assert len(cached(model, source, cache, whole_frame=True, views=2)) == 2

    @pytest.mark.parametrize("change", [{"views": 0}, {"hflip": 1.5}, {"frames": 0}], ids=str)
    def test_bad_numbers(self, model, tmp_path, change):
        with pytest.raises(ValueError, match=f"{next(iter(change))} "):
            cached(model, instances.figures(length=1), tmp_path, **change)

    def test_features_that_half_precision_does_not_hold(self, model, tmp_path, monkeypatch):
        monkeypatch.setattr(model, "pool", lambda *_: torch.full((2, 8, 4, 4, 4), 1e6))
        with pytest.raises(RuntimeError, match="not finite in half precision"):
            cached(model, instances.figures(length=1), tmp_path)

    def test_workers_read_the_same(self, model, tmp_path):
        source = instances.figures(length=2)
        here = cached(model, source, tmp_path / "a", true_boxes=True, views=2)
        there = cached(model, source, tmp_path / "b", true_boxes=True, views=2, workers=1)
        rows = zip(*(list(DataLoader(x, batch_size=None)) for x in (here, there)))
        assert all(torch.equal(a.features, b.features) for a, b in rows)
        assert torch.equal(here.read(1, 1).features, there.read(1, 1).features)


class TestMatchPeople:
    def test_by_the_mean_overlap_over_the_frames_in_which_a_track_was_found(self):
        person = torch.tensor([0.0, 0, 10, 10]).expand(4, 4)
        people = torch.stack([person, person + torch.tensor([20.0, 0, 20, 0])])
        tracks = torch.stack([
            people[1],
            # of half the width: just enough
            people[0] * torch.tensor([1, 1, 0.5, 1]),
            people[0] * torch.tensor([1, 1, 0.45, 1]),
            # found in one frame, and there right
            torch.cat([people[1, :1], torch.zeros(3, 4)]),
            # right in one of the two frames in which it was found
            torch.cat([people[0, :1], people[0, :1] + 100, torch.zeros(2, 4)]),
            people[0] + 100,
        ])  # fmt: skip
        valid = torch.tensor([[1, 1, 1, 1]] * 3 + [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
        assert match_people(tracks, valid, people).tolist() == [1, 0, -1, 1, 0, -1]
        assert match_people(tracks, valid, people, iou=0.4).tolist() == [1, 0, 0, 1, 0, -1]

    def test_a_person_out_of_the_picture_is_nobody(self):
        people = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 0, 0], [0, 0, 0, 0]]])
        track = torch.tensor([[[0.0, 0, 4, 4]] * 3])
        assert match_people(track, torch.ones(1, 3).bool(), people).tolist() == [-1]

    def test_nobody(self):
        some, valid = torch.rand(2, 3, 4), torch.ones(2, 3).bool()
        assert match_people(some[:0], valid[:0], some).tolist() == []
        assert match_people(some, valid, some[:0]).tolist() == [-1, -1]
