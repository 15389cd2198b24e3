"""Who does what in a clip: against torchvision's RoIAlign, one person and frame at a time, and its frozen detector."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import keypointrcnn_resnet50_fpn

import actionzoo
from actionzoo.layers import OutermostBoxPooler
from actionzoo.models import InstanceActionNet, InstanceActionOutput, Instances, People
from actionzoo.models.instances import detect_instances
from actionzoo.tracking import collect_tracks, link_boxes, link_keypoints
from tests import instances, persons
from tests.reference import outermost_box as reference

UP = torch.tensor([[0.2, 0.0], [0.8, 0.0], [0.5, 0.3], [0.5, 0.6], [0.5, 0.9]])
"""Joints of somebody with the arms up, in shares of the box."""
DOWN = UP.flip(0) * torch.tensor([1.0, 0.8]) + torch.tensor([0.0, 0.2])


def net(**args):
    """In eval mode, of two frames of 64 pixels, with large maps for larger people."""
    model = instances.net(**{"frames": 2, **args}).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    # of the sides that people here have, some belong to P2 and some to P3
    model.pooler = OutermostBoxPooler(4, model.pooler.mode, model.pooler.levels, canonical_scale=60)
    return model


@pytest.fixture(scope="module")
def model():
    """Tests that change it copy it first."""
    return net()


def person(box, score=0.9, pose=UP):
    """A box, its score and joints."""
    box = torch.tensor(box, dtype=torch.float32)
    return box, score, torch.cat([box[:2] + pose * (box[2:] - box[:2]), torch.ones(len(pose), 1)], 1)


def finds(model, clips):
    """A copy of a model whose detector finds people: clips of frames of `person`s; the maps are its own."""
    model = copy.deepcopy(model)
    own, frames = model.detect, [frame for clip in clips for frame in clip]

    def detect(pictures):
        assert len(pictures) == len(frames)
        people = []
        for frame in frames:
            boxes, joints = (torch.stack([one[i] for one in frame]) if frame else torch.zeros(0) for i in (0, 2))
            scores = torch.tensor([one[1] for one in frame])
            people.append(People(boxes.reshape(-1, 4), scores, joints.reshape(-1, 5, 3)))
        return Instances(people, *own(pictures)[1:])

    model.detect = detect
    return model


def features_of(model, *args, **kwargs):
    """The head's input, and what comes out in the end."""
    seen = []
    hook = model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    out = model(*args, **kwargs)
    hook.remove()
    return seen[0], out


@torch.no_grad()
def pooled_one_by_one(model, clips, boxes, valid, clip_index):
    """Features of N people by torchvision alone, transform, backbone, resized boxes, RoIAlign; and the boxes used."""
    detector, pooler, inputs, levels = model.detector, model.pooler, [], []
    for clip in clips:
        pictures, targets = detector.transform(list(clip.unbind(1)))
        assert targets is None
        levels.append(detector.backbone(pictures.tensors))
        inputs.append(pictures.image_sizes[0])
    maps = [torch.stack([level[name] for level in levels]) for name in pooler.levels]
    height, width = clips.shape[3:]
    ratio = torch.tensor([inputs[0][1] / width, inputs[0][0] / height] * 2)
    size, scale = pooler.out_size, pooler.canonical_scale
    return reference.pool(maps, boxes * ratio, valid, clip_index, pooler.mode, size, scale)


def some_people(n=5, frames=3, size=(64, 64)):
    """Boxes, presence in at least one frame, and clips of which the second of three has nobody."""
    generator = torch.Generator().manual_seed(7)
    height, width = size
    low = torch.rand(n, frames, 2, generator=generator) * torch.tensor([width / 2, height / 2])
    side = torch.rand(n, frames, 2, generator=generator) * torch.tensor([0.7 * width, 0.7 * height]) + 2
    valid = torch.rand(n, frames, generator=generator) > 0.4
    valid[torch.arange(n), torch.arange(n) % frames] = True
    boxes = torch.where(valid[..., None], torch.cat([low, low + side], -1), 0.0)
    return boxes, valid, torch.tensor([2, 0, 2, 2, 0])[:n]


class TestPooledFeatures:
    @pytest.mark.parametrize("mode", ["outermost", "basic"])
    @pytest.mark.parametrize("size", [(64, 64), (48, 72), (100, 72), (64, 80)], ids=lambda s: f"H{s[0]}-W{s[1]}")
    def test_they_are_roi_align_of_one_person_and_frame_at_a_time(self, size, mode):
        model, clips, people = net(mode=mode, frames=3), torch.rand(3, 3, 3, *size), some_people(size=size)
        with torch.no_grad():
            found, out = features_of(model, clips, *people)
        wanted, used = pooled_one_by_one(model, clips, *people)
        assert found.shape == (5, 8, 3, 4, 4)
        assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert_close(out.logits, model.head(wanted), rtol=1e-4, atol=1e-5)
        assert_close(out.windows, reference.outermost_boxes(*people[:2]))
        assert {reference.level_of(box, 2, 60, 4) for box in used.reshape(-1, 4).tolist()} == {0, 1}

    @pytest.mark.parametrize("frames", [1, 2, 3])
    def test_a_short_clip_is_padded_with_zeros_after_pooling(self, frames):
        model, clips, people = net(frames=4), torch.rand(3, 3, frames, 64, 64), some_people(frames=frames)
        with torch.no_grad():
            found, out = features_of(model, clips, *people)
            black = torch.cat([clips, torch.zeros(3, 3, 4 - frames, 64, 64)], 2)
            windows = out.windows[:, None].expand(-1, 4, -1)
            other = features_of(model, black, windows, None, people[2])[0]
        assert found.shape == (5, 8, 4, 4, 4)
        assert_close(found[:, :, :frames], pooled_one_by_one(model, clips, *people)[0], rtol=1e-4, atol=1e-5)
        assert not found[:, :, frames:].any()
        assert out.boxes.shape == (5, frames, 4)
        assert out.valid.shape == (5, frames)
        # black frames have features of their own
        assert_close(other[:, :, :frames], found[:, :, :frames], rtol=1e-4, atol=1e-5)
        assert other[:, :, frames:].abs().mean() > 0.01

    def test_a_long_clip_is_whole(self, model):
        clips, people = torch.rand(3, 3, 5, 64, 64), some_people(frames=5)
        with torch.no_grad():
            found = features_of(model, clips, *people)[0]
        assert_close(found, pooled_one_by_one(model, clips, *people)[0], rtol=1e-4, atol=1e-5)

    def test_of_a_detector_that_finds_people_itself(self):
        """Frame by frame its own forward, linked, pooled one by one: nothing of the network's but its parts."""
        model = net(frames=3)
        clips = torch.rand(2, 3, 3, 48, 72)
        with torch.no_grad():
            scores = [model.detector([frame])[0]["scores"] for clip in clips for frame in clip.unbind(1)]
            # between two scores, since those of a batch may be rounded otherwise
            scores = torch.cat(scores).sort().values
            middle = len(scores) // 2
            model.threshold = scores[middle : middle + 2].mean().item()
            features, out = features_of(model, clips)
            tracks = []
            for i, clip in enumerate(clips):
                frames = []
                for frame in clip.unbind(1):
                    found = model.detector([frame])[0]
                    rows = found["scores"] >= model.threshold
                    points = torch.cat([found["keypoints"][..., :2], found["keypoints_scores"].sigmoid()[..., None]], 2)
                    frames.append(People(found["boxes"][rows], found["scores"][rows], points[rows]))
                ids = link_keypoints([one.keypoints for one in frames], [one.boxes for one in frames])
                tracks.append((i, ids, frames))
            rows = []
            for i, ids, frames in tracks:
                for track in torch.cat(ids).unique().tolist():
                    here = [(one, (numbers == track).nonzero()[:, 0]) for numbers, one in zip(ids, frames)]
                    boxes = [one.boxes[row[0]] if len(row) else torch.zeros(4) for one, row in here]
                    sure = [one.scores[row[0]].item() for one, row in here if len(row)]
                    rows.append(
                        (i, track, torch.stack(boxes), [len(row) > 0 for _, row in here], sum(sure) / len(sure))
                    )
            clip_index, ids, boxes, valid, sure = zip(*rows)
            wanted, _ = pooled_one_by_one(
                model, clips, torch.stack(boxes), torch.tensor(valid), torch.tensor(clip_index)
            )
        assert out.clip_index.tolist() == list(clip_index)
        assert out.track_ids.tolist() == list(ids)
        assert out.valid.tolist() == [list(row) for row in valid]
        assert_close(out.boxes, torch.stack(boxes), rtol=1e-3, atol=1e-3)
        assert_close(out.detection, torch.tensor(sure), rtol=1e-3, atol=1e-3)
        assert_close(features, wanted, rtol=1e-3, atol=1e-3)
        assert len(set(clip_index)) == 2
        assert not out.valid.all()


A, B = (4.0, 6.0, 30.0, 60.0), (34.0, 4.0, 60.0, 58.0)


class TestPeopleFound:
    def test_logits_are_those_of_the_same_boxes_given(self, model):
        script = [[[person(A), person(B, 0.6)], [person(B, 0.7)]], [[], []], [[person(B)], [person(A)]]]
        clips = torch.rand(3, 3, 2, 64, 64)
        with torch.no_grad():
            found = finds(model, script)(clips)
            given = model(clips, found.boxes, found.valid, found.clip_index)
        assert found.clip_index.tolist() == [0, 0, 2, 2]
        assert found.valid.tolist() == [[True, False], [True, True], [True, False], [False, True]]
        assert_close(given._replace(detection=found.detection), found, rtol=1e-5, atol=1e-5)
        assert given.detection.tolist() == [1, 1, 1, 1]

    def test_nobody_is_detected_where_boxes_are_given(self, model, monkeypatch):
        copied = copy.deepcopy(model)
        monkeypatch.setattr(copied, "detect", lambda _: pytest.fail("looked for people"))
        monkeypatch.setattr(copied.detector.rpn, "forward", lambda *_: pytest.fail("proposed boxes"))
        copied(torch.rand(1, 3, 2, 64, 64), torch.tensor([[A, A]]))

    def test_fields(self, model):
        found = finds(model, [[[person(A, 0.8), person(B)], [person(A, 0.5)]], [[person(B)], []]])
        with torch.no_grad():
            out = found(torch.rand(2, 3, 2, 64, 64))
        assert isinstance(out, InstanceActionOutput)
        logits, clip_index, track_ids, boxes, valid, windows, detection = out
        assert logits is out[0] is out.logits
        assert logits.shape == (3, 6)
        assert (clip_index.dtype, track_ids.dtype, valid.dtype) == (torch.int64, torch.int64, torch.bool)
        assert clip_index.tolist() == [0, 0, 1]
        assert track_ids.tolist() == [0, 1, 0]
        assert valid.tolist() == [[True, True], [True, False], [True, False]]
        zeros = [0.0] * 4
        assert_close(boxes, torch.tensor([[A, A], [B, zeros], [B, zeros]]))
        assert_close(windows, torch.tensor([A, B, B]))
        # means over the frames in which somebody was found
        assert_close(detection, torch.tensor([0.65, 0.9, 0.9]))

    @pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
    @pytest.mark.parametrize("given", [False, True], ids=["found", "given"])
    def test_nobody_in_any_frame(self, model, training, given):
        found, clips = finds(model, [[[], []], [[], []]]).train(training), torch.rand(2, 3, 2, 64, 64)
        none = (torch.zeros(0, 2, 4), torch.zeros(0, 2).bool(), torch.zeros(0).long()) if given else ()
        out = found(clips, *none)
        shapes = [tuple(x.shape) for x in out]
        assert shapes == [(0, 6), (0,), (0,), (0, 2, 4), (0, 2), (0, 4), (0,)]
        assert [x.dtype for x in out[1:3]] == [torch.int64] * 2
        out.logits.sum().backward()
        asking = [p for p in found.parameters() if p.requires_grad]
        assert asking
        assert all(p.grad is not None and not p.grad.any() for p in asking)
        assert found.forward_features(clips, *none).shape[:2] == (0, 8)

    def test_nobody_of_a_detector_that_is_never_sure(self, model):
        unsure = copy.deepcopy(model)
        unsure.threshold = 1.0
        with torch.no_grad():
            out = unsure(torch.rand(2, 3, 2, 64, 64))
        assert out.logits.shape == (0, 6)

    def test_one_frame(self, model):
        with torch.no_grad():
            out = finds(model, [[[person(A), person(B)]]])(torch.rand(1, 3, 1, 64, 64))
        assert out.logits.shape == (2, 6)
        assert out.logits.isfinite().all()
        assert torch.equal(out.boxes[:, 0], out.windows)
        assert not torch.equal(out.logits[0], out.logits[1])

    def test_a_track_in_one_frame_only_is_pooled_in_all(self):
        model, clips = net(frames=3), torch.rand(1, 3, 3, 64, 64)
        with torch.no_grad():
            found, out = features_of(finds(model, [[[], [person(A)], []]]), clips)
        assert out.valid.tolist() == [[False, True, False]]
        box = torch.tensor([[A] * 3])
        wanted, _ = pooled_one_by_one(model, clips, box, torch.ones(1, 3).bool(), torch.zeros(1).long())
        assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert found[:, :, 0].any()

    def test_permuted_clips_have_permuted_rows(self, model):
        script = [[[person(A), person(B)], [person(A)]], [[], []], [[person(B)], [person(B)]]]
        clips, order = torch.rand(3, 3, 2, 64, 64), [2, 0, 1]
        with torch.no_grad():
            out = finds(model, script)(clips)
            other = finds(model, [script[i] for i in order])(clips[order])
        rows = [2, 0, 1]
        assert other.clip_index.tolist() == [0, 1, 1]
        assert [order[i] for i in other.clip_index.tolist()] == out.clip_index[rows].tolist()
        kept = [name for name in out._fields if name != "clip_index"]
        assert_close([getattr(other, n) for n in kept], [getattr(out, n)[rows] for n in kept], rtol=1e-4, atol=1e-5)

    def test_people_who_cross_keep_their_ids_by_their_poses(self):
        """Both boxes are the same in the middle; then whoever was left is right, and comes first in the list."""
        way = [(4.0, 24.0), (8.0, 20.0), (14.0, 14.0), (20.0, 8.0)]
        spans = [[(x, 10.0, x + 30, 60.0) for x in pair] for pair in way]
        script = [[person(left, 0.8, UP), person(right, 0.7, DOWN)] for left, right in spans]
        script[2].reverse()
        script[3].reverse()
        model = net(frames=4)
        with torch.no_grad():
            out = finds(model, [script])(torch.rand(1, 3, 4, 64, 64))
        assert out.track_ids.tolist() == [0, 1]
        assert_close(out.boxes, torch.tensor(spans).transpose(0, 1))
        assert_close(out.detection, torch.tensor([0.8, 0.7]))
        boxes = [torch.stack([one[0] for one in frame]) for frame in script]
        by_overlap = collect_tracks(link_boxes(boxes), boxes).boxes
        assert by_overlap.shape == out.boxes.shape
        assert not torch.equal(by_overlap, out.boxes)

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf, 0.0], ids=["nan", "infinite", "score-0"])
    def test_joints_that_are_not_seen_do_not_count(self, model, bad):
        near = [list(person(A)), list(person(B, pose=DOWN))]
        far = [list(person(B, pose=DOWN)), list(person(A))]
        for frame in (near, far):
            for one in frame:
                joints = one[2]
                if bad == 0.0:
                    # where the joint would tip the scale
                    joints[1] = torch.tensor([5000.0 if frame is near else -5000.0, 0, 0])
                else:
                    joints[1, :2] = bad
        with torch.no_grad():
            out = finds(model, [[near, far]])(torch.rand(1, 3, 2, 64, 64))
        assert_close(out.boxes, torch.tensor([[A, A], [B, B]]))
        assert out.logits.isfinite().all()

    def test_without_any_joint_the_centres_of_boxes_link(self, model):
        blind = torch.full((5, 2), torch.nan)
        script = [[[person(A, pose=blind), person(B, pose=blind)], [person(B, pose=blind), person(A, pose=blind)]]]
        with torch.no_grad():
            out = finds(model, script)(torch.rand(1, 3, 2, 64, 64))
        assert_close(out.boxes, torch.tensor([[A, A], [B, B]]))

    @pytest.mark.parametrize(
        "box",
        [(20.0, 8.0, 20.0, 50.0), (8.0, 20.0, 50.0, 20.0), (9.0, 9.0, 9.0, 9.0), (-30.0, -9.0, 90.0, 99.0)],
        ids=["no-width", "no-height", "point", "larger-than-the-frame"],
    )
    def test_odd_boxes(self, model, box):
        clips = torch.rand(1, 3, 2, 48, 72)
        with torch.no_grad():
            found, out = features_of(finds(model, [[[person(box)], [person(box)]]]), clips)
        assert_close(out.windows, torch.tensor([box]))
        wanted, _ = pooled_one_by_one(model, clips, out.boxes, out.valid, out.clip_index)
        assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert found.any()
        assert out.logits.isfinite().all()

    def test_a_box_outside_has_features_of_nothing(self, model):
        box = (200.0, 200.0, 230.0, 260.0)
        with torch.no_grad():
            found, out = features_of(finds(model, [[[person(box)], [person(box)]]]), torch.rand(1, 3, 2, 64, 64))
            assert not found.any()
            assert_close(out.logits, model.head(torch.zeros(1, 8, 2, 4, 4)))


class TestBoxesGiven:
    def test_ids_are_unique_within_a_clip(self, model):
        clips, index = torch.rand(3, 3, 2, 64, 64), torch.tensor([2, 0, 2, 2, 0], dtype=torch.int32)
        with torch.no_grad():
            out = model(clips, torch.tensor([[A, B]]).expand(5, -1, -1), clip_index=index)
        assert out.clip_index.dtype == torch.int64
        assert out.clip_index.tolist() == index.tolist()
        assert out.track_ids.tolist() == [0, 0, 1, 2, 1]

    def test_one_person_per_clip_needs_no_index_and_everybody_is_there(self, model):
        clips, boxes = torch.rand(3, 3, 2, 64, 64), torch.tensor([[A, B], [B, B], [A, A]])
        with torch.no_grad():
            out = model(clips, boxes)
            said = model(clips, boxes, torch.ones(3, 2).bool(), torch.arange(3))
        assert_close(out, said, rtol=0, atol=0)

    def test_what_lies_in_a_missing_frame_does_not_count(self, model):
        clips, boxes, valid = torch.rand(1, 3, 2, 64, 64), torch.tensor([[A, B]]), torch.tensor([[True, False]])
        outs = []
        for value in (0.0, 5.0, torch.nan):
            boxes[:, 1] = value
            with torch.no_grad():
                outs.append(model(clips, boxes, valid))
        assert_close(outs[0], outs[1], rtol=0, atol=0)
        assert_close(outs[0], outs[2], rtol=0, atol=0)
        assert not outs[0].boxes[:, 1].any()

    def test_a_box_that_is_not_finite_is_a_missing_one(self, model):
        clips, boxes = torch.rand(1, 3, 2, 64, 64), torch.tensor([[A, (torch.nan, 1, 2, torch.inf)]])
        with torch.no_grad():
            out = model(clips, boxes)
            without = model(clips, boxes, torch.tensor([[True, False]]))
        assert_close(out.logits, without.logits, rtol=0, atol=0)
        assert_close(out.windows, torch.tensor([A]))

    def test_the_window_encloses_a_track_in_any_order_of_frames(self):
        model, clips, order = net(frames=4), torch.rand(3, 3, 4, 64, 64), torch.tensor([2, 0, 3, 1])
        boxes, valid, index = some_people(frames=4)
        with torch.no_grad():
            pooled, out = features_of(model, clips, boxes, valid, index)
            turned, other = features_of(model, clips[:, :, order], boxes[:, order], valid[:, order], index)
        assert_close(other.windows, out.windows, rtol=0, atol=0)
        assert_close(turned, pooled[:, :, order], rtol=1e-4, atol=1e-5)
        for window, track, there in zip(out.windows.tolist(), boxes.tolist(), valid.tolist()):
            seen = [box for box, is_there in zip(track, there) if is_there]
            assert window == [f(values) for f, values in zip((min, min, max, max), zip(*seen))]

    def test_basic_is_outermost_where_boxes_are_constant(self, model):
        basic = copy.deepcopy(model)
        basic.pooler.mode = "basic"
        clips, boxes = torch.rand(3, 3, 2, 48, 72), some_people(frames=1)[0].expand(-1, 2, -1)
        index, valid = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([[True, False]] * 3 + [[True, True]] * 2)
        moving = boxes + torch.tensor([[[0.0], [9.0]]])
        with torch.no_grad():
            outs = [m(clips, boxes, valid, index) for m in (model, basic)]
            moved = [m(clips, moving, None, index).logits for m in (model, basic)]
        assert_close(*outs, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(*moved, rtol=1e-3, atol=1e-3)

    def test_pooled_features_alone(self, model):
        clips, people = torch.rand(3, 3, 2, 64, 64), some_people(frames=2)
        with torch.no_grad():
            pooled, out = features_of(model, clips, *people)
            assert torch.equal(model(features=pooled), out.logits)
            assert torch.equal(model.forward_head(model.forward_features(clips, *people)), out.logits)

    def test_compiles_whole_with_more_people_than_clips(self, model):
        inputs = (torch.rand(3, 3, 2, 64, 64), *some_people(frames=2))
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        with torch.no_grad():
            assert_close(tuple(compiled(*inputs)), tuple(model(*inputs)), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"boxes": (2, 3, 4)}, ValueError, r"in the clips' 2 frames, got shape \(2, 3, 4\)"),
            ({"boxes": (2, 2, 5)}, ValueError, r"boxes \(N, T, 4\).*got shape \(2, 2, 5\)"),
            ({"boxes": (2, 4)}, ValueError, r"boxes \(N, T, 4\).*got shape \(2, 4\)"),
            ({"boxes": (3, 2, 4)}, ValueError, r"3 people in 2 clips: say by clip_index"),
            ({"boxes": torch.ones(2, 2, 4).int()}, TypeError, r"floating-point boxes, got torch\.int32"),
            ({"valid": (2, 3)}, ValueError, r"valid \(N, T\) = \(2, 2\), got shape \(2, 3\)"),
            ({"valid": (1, 2)}, ValueError, r"valid \(N, T\) = \(2, 2\), got shape \(1, 2\)"),
            ({"valid": torch.ones(2, 2)}, TypeError, r"valid to be bool, got torch\.float32"),
            ({"clip_index": torch.zeros(3).long()}, ValueError, r"clip_index \(N,\) = \(2,\), got shape \(3,\)"),
            ({"clip_index": torch.zeros(()).long()}, ValueError, r"clip_index \(N,\) = \(2,\), got shape \(\)"),
            ({"clip_index": torch.tensor([0.0, 0.7])}, TypeError, r"integer clip_index, got torch\.float32"),
            ({"clip_index": torch.tensor([True, False])}, TypeError, r"integer clip_index, got torch\.bool"),
            ({"clip_index": torch.tensor([0, 2])}, ValueError, r"clip indices in \[0, 2\).*got \[0, 2\]"),
            ({"clip_index": torch.tensor([-1, 0])}, ValueError, r"clip indices in \[0, 2\).*got \[-1, 0\]"),
            ({"boxes": None, "valid": torch.ones(2, 2).bool()}, ValueError, "say something of boxes"),
            ({"boxes": None, "clip_index": torch.arange(2)}, ValueError, "say something of boxes"),
            ({"clips": torch.ones(2, 3, 2, 64, 64).byte()}, TypeError, r"frames in \[0, 1\], got torch\.uint8"),
            ({"clips": (3, 2, 64, 64)}, ValueError, r"expects clips \(B, 3, T, H, W\).*got shape \(3, 2, 64, 64\)"),
            ({"clips": (2, 3, 0, 64, 64)}, ValueError, r"got shape \(2, 3, 0, 64, 64\)"),
            ({"clips": None}, ValueError, "either clips or features"),
            ({"features": (2, 8, 2, 4, 4)}, ValueError, "either clips or features"),
            ({"features": (2, 8, 2, 4, 4), "clips": None}, ValueError, "either clips or features"),
        ],
        ids=lambda x: next(reversed(x)) if isinstance(x, dict) else "",
    )
    def test_bad_inputs(self, model, change, error, message):
        inputs = {"clips": (2, 3, 2, 64, 64), "boxes": torch.tensor([[A, B], [B, A]]), **change}
        if isinstance(inputs.get("valid"), tuple):
            inputs["valid"] = torch.ones(inputs["valid"]).bool()
        inputs = {name: torch.rand(x) if isinstance(x, tuple) else x for name, x in inputs.items()}
        with pytest.raises(error, match=message):
            model(**inputs)

    def test_a_level_that_the_detector_lacks(self, model):
        other = copy.deepcopy(model)
        other.pooler.levels = ("0", "2")
        for boxes in (torch.tensor([[A, B]]), None):
            with pytest.raises(ValueError, match="has the maps 0, 1, pool and no '2'"):
                other(torch.rand(1, 3, 2, 64, 64), boxes)


def is_frozen(detector):
    return not any(module.training for module in detector.modules()) and not any(
        p.requires_grad for p in detector.parameters()
    )


class TestFrozenDetector:
    def test_train_is_for_the_head_alone(self, model):
        whole = nn.Sequential(copy.deepcopy(model))
        for _ in range(2):
            whole.train()
            assert is_frozen(whole[0].detector)
            assert all(module.training for module in whole[0].head.modules())
            assert whole[0].training
        assert not whole.eval()[0].head.training
        assert is_frozen(instances.net().detector)

    @pytest.mark.parametrize(
        ("form", "found"),
        # torchvision finds nobody in bf16
        [("bf16", False), *((form, found) for form in ("plain", "channels_last_3d", "autocast") for found in (0, 1))],
        ids=lambda x: x if isinstance(x, str) else "found" if x else "given",
    )
    def test_it_stays_bit_for_bit_while_the_head_trains(self, model, form, found):
        trained = copy.deepcopy(model).train()
        if form == "channels_last_3d":
            trained.head.to(memory_format=torch.channels_last_3d)
        dtype = torch.bfloat16 if form == "bf16" else torch.float32
        trained.to(dtype)
        trained.threshold = 0.0
        before = persons.state(trained)
        asking = [p for p in trained.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(asking, 0.1, momentum=0.9, weight_decay=0.1)
        for _ in range(3):
            clips, boxes, valid, index = torch.rand(3, 3, 2, 64, 64), *some_people(frames=2)
            with torch.autocast("cpu", torch.bfloat16, enabled=form == "autocast"):
                logits = trained(clips.to(dtype), *(() if found else (boxes.to(dtype), valid, index))).logits
            assert len(logits) > 2
            optimizer.zero_grad()
            logits.float().square().sum().backward()
            optimizer.step()
        after = trained.state_dict()
        heads = {name for name in before if name.startswith("head.")}
        assert persons.changed(before, after) == heads
        assert {f"head.{name}" for name, _ in model.head.named_buffers()} <= heads
        assert any(name.startswith("detector.") and "running_mean" in name for name in before)
        assert all(value.isfinite().all() for value in after.values())

    def test_no_gradient_flows_through_it(self, model):
        clips = torch.rand(3, 3, 2, 64, 64, requires_grad=True)
        model(clips, *some_people(frames=2)).logits.sum().backward()
        assert clips.grad is None
        pooled = torch.rand(2, 8, 2, 4, 4, requires_grad=True)
        model(features=pooled).sum().backward()
        assert pooled.grad.any()
        model.zero_grad(set_to_none=True)

    @pytest.mark.parametrize("given", [True, False], ids=["given", "found"])
    def test_one_that_was_put_in_training_mode_by_hand_is_refused(self, model, given):
        other = copy.deepcopy(model)
        other.detector.train()
        before = persons.state(other)
        with pytest.raises(ValueError, match=r"KeypointDetector is in training mode.*call \.eval\(\)"):
            other(torch.rand(1, 3, 2, 64, 64), torch.tensor([[A, B]]) if given else None)
        assert not persons.changed(before, other.state_dict())


class TestAnotherDetector:
    def test_of_the_same_strides(self, model):
        """It finds boxes and no joints: people are linked by where they are."""
        other, clips = copy.deepcopy(model), torch.rand(2, 3, 2, 48, 72)
        detector = persons.detector(out_indices=(1, 2)).train()
        other.detector = detector
        assert other.detector is detector
        assert is_frozen(detector)
        assert "detector" in dict(other.named_children())
        other.threshold = 0.0
        with torch.no_grad():
            features, out = features_of(other.train(), clips)
            people = [detector([frame])[0]["boxes"] for frame in clips.transpose(1, 2).flatten(0, 1)]
        assert is_frozen(detector)
        assert sum(map(len, people)) == out.valid.sum() > 2
        wanted, _ = pooled_one_by_one(other, clips, out.boxes, out.valid, out.clip_index)
        assert_close(features, wanted, rtol=1e-3, atol=1e-3)

    def test_of_other_strides_and_a_pooler_for_them(self, model):
        other, clips = copy.deepcopy(model), torch.rand(1, 3, 2, 64, 64)
        other.detector = persons.detector()
        boxes = torch.tensor([[A, B]])
        with pytest.raises(ValueError, match=r"level '0' should have a stride of 4 pixels.*give the strides"):
            other(clips, boxes)
        other.pooler = OutermostBoxPooler(4, levels=("0", "1"), strides=(8, 16), canonical_scale=40)
        with torch.no_grad():
            features, out = features_of(other, clips, boxes)
            maps = other.detector.backbone(other.detector.transform(list(clips[0].unbind(1)))[0].tensors)
        x1, y1, x2, y2 = out.windows[0].tolist()
        assert ((x2 - x1) * (y2 - y1)) ** 0.5 > 40
        align = torchvision.ops.roi_align(maps["1"], [out.windows] * 2, 4, 1 / 16, 2, aligned=True)
        assert_close(features[0].transpose(0, 1), align, rtol=1e-4, atol=1e-5)

    def test_by_name_with_its_strides(self, tmp_path):
        args = {"trunk_args": persons.TRUNK, **persons.DETECTOR}
        model = instances.net(detector="person_tiny", detector_args=args, strides=(8, 16)).eval()
        assert model.pooler.strides == (8, 16)
        model.save_pretrained(tmp_path / "saved")
        loaded = actionzoo.create(f"local-dir:{tmp_path / 'saved'}").eval()
        clips, boxes = torch.rand(1, 3, 4, 64, 64), torch.tensor([[A] * 4])
        with torch.no_grad():
            assert torch.equal(loaded(clips, boxes).logits, model(clips, boxes).logits)

    def test_the_tiny_ones_go_together(self):
        model = actionzoo.create("instance_action_tiny").eval()
        model.detector = actionzoo.create("person_tiny", out_indices=(1, 2), min_size=64, max_size=96)
        with torch.no_grad():
            assert model(torch.rand(1, 3, 2, 64, 64), torch.tensor([[A, B]])).logits.shape == (1, 60)

    def test_of_other_channels(self, model):
        other, before = copy.deepcopy(model), model.detector
        with pytest.raises(ValueError, match="maps of this PersonDetector have 12 channels, and the head takes 8"):
            other.detector = persons.detector(out_indices=(1, 2), out_channels=12)
        assert type(other.detector) is type(before)

    def test_what_is_set_later_is_saved(self, tmp_path):
        model = actionzoo.create("instance_action_tiny").eval()
        model.detector = actionzoo.create("keypointrcnn_tiny", min_size=96)
        model.threshold = 0.9
        model.save_pretrained(tmp_path / "saved")
        loaded = actionzoo.create(f"local-dir:{tmp_path / 'saved'}")
        assert loaded.detector.transform.min_size == (96,)
        assert loaded.threshold == 0.9

    def test_one_that_cannot_be_named_is_not_saved(self, tmp_path):
        model = actionzoo.create("instance_action_tiny")
        model.detector = type(model.detector)(**model.detector.pretrained_cfg["model_args"], trunk="resnet18d",
                                              out_indices=(1, 2, 3), out_channels=64,
                                              anchor_sizes=((16,), (32,), (64,), (128,)))  # fmt: skip
        with pytest.raises(ValueError, match=r"KeypointDetector, was not built by actionzoo\.create"):
            model.save_pretrained(tmp_path / "saved")
        assert not (tmp_path / "saved").exists()

    def test_boxes_on_another_device_follow_the_clips(self, model):
        clips, boxes = torch.rand(1, 3, 2, 64, 64), torch.tensor([[A, B]])
        with torch.device("meta"):
            meta = copy.deepcopy(model).to("meta")
            assert meta(clips.to("meta"), boxes).logits.shape == (1, model.num_classes)

    def test_a_head_in_half_precision(self, model):
        half = copy.deepcopy(model)
        half.head.bfloat16()
        clips, boxes = torch.rand(1, 3, 2, 64, 64), torch.tensor([[A, B]])
        with torch.no_grad():
            assert half(clips, boxes).logits.dtype == torch.bfloat16
            assert_close(half(clips, boxes).logits.float(), model(clips, boxes).logits, rtol=0.1, atol=0.1)

    @pytest.mark.parametrize("name", ["prfnet_tiny", "pose_tiny"])
    def test_what_is_no_detector(self, name):
        with pytest.raises(ValueError, match=r"is no R-CNN with a feature pyramid; expected a keypointrcnn_"):
            InstanceActionNet(detector=name)


class TestCreate:
    def test_fine_tuning_from_60_classes_to_10(self, model, tmp_path):
        """As the paper goes from NTU RGB+D to N-UCLA (section 4.3)."""
        ntu = copy.deepcopy(model)
        ntu.reset_classifier(60)
        assert (ntu.num_classes, ntu.get_classifier().out_features) == (60, 60)
        ntu.save_pretrained(tmp_path / "ntu")
        ucla = actionzoo.create(f"local-dir:{tmp_path / 'ntu'}", num_classes=10).eval()
        # the pooler's scale is this file's own
        ucla.pooler = model.pooler
        assert set(ucla.load_report.reheaded) == {"head.classifier.weight", "head.classifier.bias"}
        assert ucla.load_report.random == ("head.classifier",)
        assert ucla.pretrained_cfg["num_classes"] == ucla.num_classes == 10
        body = {k: v for k, v in ntu.state_dict().items() if not k.startswith("head.classifier")}
        assert all(torch.equal(ucla.state_dict()[k], v) for k, v in body.items())
        assert len(body) == len(ucla.state_dict()) - 2
        clips, people = torch.rand(3, 3, 2, 64, 64), some_people(frames=2)
        with torch.no_grad():
            wanted = ntu.forward_features(clips, *people)
            assert torch.equal(ucla.forward_features(clips, *people), wanted)
            assert ucla(clips, *people).logits.shape == (5, 10)
            assert torch.equal(ucla.forward_head(wanted, pre_logits=True), ntu.forward_head(wanted, pre_logits=True))

    def test_no_classifier(self, model):
        bare, clips, people = copy.deepcopy(model), torch.rand(3, 3, 2, 64, 64), some_people(frames=2)
        bare.reset_classifier(0)
        with torch.no_grad():
            wanted = model.forward_head(model.forward_features(clips, *people), pre_logits=True)
            assert torch.equal(bare(clips, *people).logits, wanted)
        assert bare.num_classes == 0

    def test_configuration(self):
        model = instances.net(3, frames=5, stride=7, threshold=0.25)
        cfg = model.pretrained_cfg
        assert (cfg["architecture"], cfg["num_classes"], cfg["in_chans"]) == ("instance_action_tiny", 3, 3)
        assert (cfg["frames"], cfg["stride"]) == (model.frames, model.stride) == (5, 7)
        assert tuple(cfg["mean"]) == (0, 0, 0)
        assert tuple(cfg["std"]) == (1, 1, 1)
        # of the frames and the detector that were asked for
        assert tuple(cfg["input_size"]) == (3, 5, 64, 64)
        assert model.threshold == 0.25

    @pytest.mark.parametrize("variant", ["v1", "v2", "v3", "v4"])
    def test_parameters_are_those_of_the_detector_and_the_head(self, variant):
        name = f"instance_action_tahnet_{variant}"
        with torch.device("meta"):
            model = actionzoo.create(name)
        count = {key: sum(p.numel() for p in part.parameters()) for key, part in model.named_children()}
        theirs = torchvision.models.get_weight("KeypointRCNN_ResNet50_FPN_Weights.COCO_V1").meta["num_params"]
        head = actionzoo.model_info(f"tahnet_{variant}").parameters
        assert count == {"detector": theirs, "pooler": 0, "head": head}
        assert actionzoo.model_info(name).parameters == theirs + head
        assert model.pooler.levels == (("0", "1", "2", "3") if variant in ("v1", "v2") else ("0", "1"))
        assert model.pooler.out_size == ((28, 28) if variant == "v4" else (14, 14))
        assert tuple(model.pretrained_cfg["input_size"]) == (3, 8, 720, 1280)
        assert not any(p.requires_grad for p in model.detector.parameters())
        if variant == "v1":
            assert actionzoo.model_info("instance_action").name == name

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ({"frames": 0}, "frames and stride are at least 1.*got 0, 2 and 0.5"),
            ({"stride": 0}, "got 4, 0 and 0.5"),
            ({"threshold": 1.5}, r"threshold lies in \[0, 1\], got 4, 2 and 1.5"),
            ({"threshold": float("nan")}, "got 4, 2 and nan"),
            ({"mode": "middle"}, "'outermost' or 'basic', got 'middle'"),
            ({"strides": (4, 16)}, "twice the one before"),
            ({"in_chans": 4}, "3 channels, got in_chans=4"),
        ],
        ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
    )
    def test_bad_settings(self, args, message):
        with pytest.raises(ValueError, match=message):
            instances.net(**args)


SLIGHT = {"bottleneck": None, "depth": 1, "width": 4, "hidden": None}


class TestPublishedWeights:
    """Those of COCO, which cover the detector: torchvision's own file."""

    def test_they_are_the_detectors_and_the_head_stays_random(self, tmp_path):
        with torch.device("meta"):
            shapes = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
        names = [name for name in shapes if not name.endswith("num_batches_tracked")]
        # every tensor is one number of its own, so that the file is small
        numbers = {name: torch.tensor(i / 512).expand(shapes[name].shape) for i, name in enumerate(names)}
        url = torchvision.models.get_weight("KeypointRCNN_ResNet50_FPN_Weights.COCO_V1").url
        torch.save(numbers, tmp_path / url.rsplit("/", 1)[1])
        with pytest.warns(UserWarning, match=r"covers the backbone only; .*random initialisation: head$") as caught:
            model = actionzoo.create("instance_action_tahnet_v3", pretrained=True, cache_dir=tmp_path, head=SLIGHT)
        assert len(caught) == 1
        assert model.load_report.random == ("head",)
        assert set(model.load_report.loaded) == {f"detector.{name}" for name in names}
        state = model.detector.state_dict()
        assert all(torch.equal(state[name], value) for name, value in numbers.items())
        assert is_frozen(model.detector)

    def test_without_the_file_and_a_network(self, tmp_path, monkeypatch):
        def unplugged(*_args, **_kwargs):
            raise OSError("no route to host")

        monkeypatch.setattr(torch.hub, "download_url_to_file", unplugged)
        with pytest.raises(RuntimeError, match=r"KeypointRCNN_ResNet50_FPN_Weights\.COCO_V1.*no route to host"):
            actionzoo.create("instance_action_tahnet_v3", pretrained=True, cache_dir=tmp_path, head=SLIGHT)

    def test_what_is_said_of_them(self):
        for variant in ("v1", "v2", "v3", "v4"):
            (entry,) = actionzoo.model_info(f"instance_action_tahnet_{variant}").weights
            assert (entry.covers, entry.prefix, entry.data) == ("backbone", "detector.", "COCO keypoints")
            assert f"instance_action_tahnet_{variant}" not in actionzoo.list_models(pretrained=True)


def test_detect_is_detect_instances_with_the_models_settings(model):
    frames = torch.rand(3, 3, 48, 72)
    found = model.detect(frames)
    wanted = detect_instances(model.detector, frames, threshold=0.5, levels=("0", "1"))
    assert_close(found, wanted, rtol=0, atol=0)
    assert not any(x.requires_grad for x in (*found.maps.values(), *(y for one in found.people for y in one)))
