"""People and pyramids of frames, against torchvision's own transform, forward and postprocessing."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.transform import resize_boxes

from actionzoo.models.instances import View, detect_instances, pyramid_of, select_levels
from tests import instances, persons

# (H, W); by a factor of 1, 1, 4/3, 8/9, 1/2, 16/9 and 6/5, the latter two for the longer side's sake
SIZES = [(64, 64), (64, 80), (48, 72), (100, 72), (128, 128), (36, 48), (50, 80), (40, 96)]
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"H{size[0]}-W{size[1]}")


@torch.no_grad()
def spread(detector):
    """Scores all over (0, 1), of every class, and boxes that are not just the proposals."""
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    predictor, seen = detector.eval().roi_heads.box_predictor, []
    predictor.bbox_pred.weight.mul_(10)
    hook = predictor.cls_score.register_forward_hook(lambda _m, _i, logits: seen.append(logits))
    detector(list(torch.rand(4, 3, 64, 72)))
    hook.remove()
    scale = 2 / seen[0].std(0)
    predictor.cls_score.bias.sub_(seen[0].mean(0)).mul_(scale)
    predictor.cls_score.weight.mul_(scale[:, None])
    # most of what is proposed is nobody
    predictor.cls_score.bias[0] += 3
    return detector


def several_classes():
    """People are one of three classes."""
    detector = persons.detector()
    torch.manual_seed(5)
    detector.roi_heads.box_predictor = FastRCNNPredictor(16, 4)
    return spread(detector)


KINDS = {
    "keypoints": lambda: spread(instances.detector(box_detections_per_img=6)),
    "boxes": lambda: spread(persons.detector()),
    "several-classes": several_classes,
}


@pytest.fixture(scope="module")
def built():
    """Each kind of detector once; tests change none of them for good."""
    cache = {}

    def build(kind):
        if kind not in cache:
            cache[kind] = KINDS[kind]()
        return cache[kind]

    return build


def own(detector, frames, threshold):
    """What the detector's own forward says of each frame alone: those who are people and sure enough."""
    with torch.no_grad():
        found = [detector([frame])[0] for frame in frames]
    for one in found:
        rows = [i for i, score in enumerate(one["scores"].tolist()) if score >= threshold and one["labels"][i] == 1]
        one.update({name: values[rows] for name, values in one.items()})
    return found


def assert_people(people, found, exact=False):
    assert len(people) == len(found)
    for one, other in zip(people, found, strict=True):
        tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-3, "atol": 1e-3}
        assert_close(one.boxes, other["boxes"], **tolerance)
        assert_close(one.scores, other["scores"], **tolerance)
        joints = other["keypoints"].shape[1] if "keypoints" in other else 0
        assert one.keypoints.shape == (len(one.scores), joints, 3)
        assert not (one.scores.diff() > 0).any()
        if joints:
            assert_close(one.keypoints[..., 2], 1 / (1 + (-other["keypoints_scores"]).exp()))
            # of two cells that are almost equal, either may be a heat map's highest
            moved = (one.keypoints[..., :2] - other["keypoints"][..., :2]).abs().amax(-1)
            assert not moved.any() if exact else (moved < 1e-2).float().sum() >= 0.9 * moved.numel()


def middle_score(detector, frames):
    """A person's score with surer and less sure people around it."""
    scores = torch.cat([one["scores"] for one in own(detector, frames, 0)])
    return scores.sort().values[len(scores) // 2].item()


class TestDetectInstances:
    @sizes
    @pytest.mark.parametrize("kind", KINDS)
    def test_frame_by_frame_it_is_the_detectors_own_forward(self, built, kind, size):
        detector, frames = built(kind), torch.rand(3, 3, *size)
        assert_people(detect_instances(detector, frames, threshold=0.0, chunk=1).people, own(detector, frames, 0), True)
        assert_people(detect_instances(detector, frames).people, own(detector, frames, 0.5))

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_score_of_the_threshold_itself_is_enough(self, built, kind):
        """Scores are float32: the next smaller number of Python's is the same score to them."""
        detector, frames = built(kind), torch.rand(3, 3, 48, 72)
        score = middle_score(detector, frames)
        counts = {}
        for name, threshold in (("all", 0.0), ("at", score), ("above", score + 1e-7 * 4), ("none", 1.0)):
            found = own(detector, frames, threshold)
            people = detect_instances(detector, frames, threshold=threshold, chunk=1).people
            assert_people(people, found)
            counts[name] = sum(len(one.scores) for one in people)
        assert counts["all"] > counts["at"] == counts["above"] + 1 > 1
        assert counts["none"] == 0

    def test_the_detectors_own_threshold_holds_too(self):
        detector, frames = spread(instances.detector(box_score_thresh=0.6)), torch.rand(3, 3, 64, 64)
        found = own(detector, frames, 0.0)
        assert_people(detect_instances(detector, frames, threshold=0.1).people, found)
        assert min(one["scores"].min() for one in found) > 0.6

    def test_other_classes_are_nobody(self, built):
        frames = torch.rand(3, 3, 64, 80)
        found = built("several-classes")(list(frames))
        people = detect_instances(built("several-classes"), frames, threshold=0.0).people
        labels = [one["labels"].tolist() for one in found]
        assert any(1 in row for row in labels)
        assert {2, 3} & {label for row in labels for label in row}
        assert [len(one.scores) for one in people] == [row.count(1) for row in labels]

    def test_joints_are_looked_for_where_people_are_sure_alone(self, built):
        detector, frames, seen = built("keypoints"), torch.rand(2, 3, 64, 64), []
        hook = detector.roi_heads.keypoint_head.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
        middle = middle_score(detector, frames)
        seen.clear()
        found = [detect_instances(detector, frames, threshold=threshold).people for threshold in (0.0, middle)]
        hook.remove()
        assert seen[0] == sum(len(one.scores) for one in found[0])
        assert sum(len(one.scores) for one in found[1]) <= seen[1] < seen[0]

    @pytest.mark.parametrize("fails", [False, True], ids=["done", "exception"])
    def test_the_detectors_threshold_stays_as_it_is(self, built, fails, monkeypatch):
        detector, frames = built("keypoints"), torch.rand(1, 3, 64, 64)
        heads, seen = detector.roi_heads, []

        def predict(x, own=heads.box_predictor.forward):
            # another thread could look now
            seen.append(heads.score_thresh)
            if fails:
                raise OSError("the card fell off")
            return own(x)

        monkeypatch.setattr(heads.box_predictor, "forward", predict)
        if fails:
            with pytest.raises(OSError, match="fell off"):
                detect_instances(detector, frames)
        else:
            detect_instances(detector, frames)
        assert seen == [0.05]
        assert heads.score_thresh == 0.05

    @pytest.mark.parametrize("chunk", [1, 2, 5, 8])
    def test_chunks_change_nothing(self, built, chunk):
        detector, frames = built("keypoints"), torch.rand(5, 3, 36, 48)
        whole = detect_instances(detector, frames, threshold=0.3, levels=("1", "0"), chunk=100)
        seen = []
        hook = detector.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
        found = detect_instances(detector, frames, threshold=0.3, levels=("1", "0"), chunk=chunk)
        hook.remove()
        assert seen == [min(chunk, 5 - i) for i in range(0, 5, chunk)]
        assert found.view == whole.view
        assert list(found.maps) == ["1", "0"]
        assert_close(found.maps, whole.maps, rtol=1e-4, atol=1e-4)
        names = ("boxes", "scores", "keypoints")
        assert_people(
            [one._replace(keypoints=one.keypoints[:, :0]) for one in found.people],
            [dict(zip(names[:2], one)) for one in whole.people],
        )
        assert sum(len(one.scores) for one in found.people) > 3

    def test_maps_are_those_the_people_were_found_on(self, built):
        detector, frames, seen = built("boxes"), torch.rand(2, 3, 50, 80), []
        hook = detector.roi_heads.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        found = detect_instances(detector, frames, levels=("1",))
        hook.remove()
        assert list(found.maps) == ["1"]
        assert torch.equal(found.maps["1"], seen[0]["1"])
        assert not found.maps["1"].requires_grad
        assert found.view.size == (64, 96)

    def test_nobody_in_shapes_of_nobody(self, built):
        for kind, joints in (("keypoints", 17), ("boxes", 0)):
            found = detect_instances(built(kind), torch.rand(2, 3, 64, 64), threshold=1.0)
            for one in found.people:
                assert [tuple(x.shape) for x in one] == [(0, 4), (0,), (0, joints, 3)]

    def test_frames_are_not_written_to(self, built):
        frames = torch.rand(2, 3, 64, 64)
        before = frames.clone()
        detect_instances(built("keypoints"), frames, threshold=0.0)
        assert torch.equal(frames, before)

    @pytest.mark.parametrize("bad", [torch.bfloat16, torch.float16], ids=str)
    def test_half_precision_is_refused_before_torchvision_does(self, bad):
        with pytest.raises(TypeError, match=rf"no boxes in {bad}; find people in float32, or give boxes"):
            detect_instances(instances.detector().eval().to(bad), torch.rand(1, 3, 64, 64, dtype=bad))

    @pytest.mark.parametrize("chunk", [0, -1])
    def test_chunks_of_nothing(self, built, chunk):
        with pytest.raises(ValueError, match=f"chunk is at least 1 frame, got {chunk}"):
            detect_instances(built("boxes"), torch.rand(1, 3, 64, 64), chunk=chunk)


def find(detector, frames):
    return detect_instances(detector, frames)


@pytest.mark.parametrize("run", [find, pyramid_of], ids=["people", "pyramid"])
class TestRefused:
    @pytest.mark.parametrize(
        "shape",
        [(3, 64, 64), (3, 2, 64, 64), (2, 3, 4, 64, 64), (0, 3, 64, 64), (2, 3, 0, 64), (64,), ()],
        ids=lambda shape: "x".join(map(str, shape)) or "number",
    )
    def test_shapes(self, built, run, shape):
        said = str(shape).replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(ValueError, match=rf"frames \(F, 3, H, W\), got shape {said}"):
            run(built("keypoints"), torch.rand(shape))

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool], ids=str)
    def test_pixels_of_bytes(self, built, run, dtype):
        with pytest.raises(TypeError, match=rf"frames in \[0, 1\], got {dtype}; call \.float\(\) / 255"):
            run(built("keypoints"), torch.ones(1, 3, 64, 64, dtype=dtype))

    def test_training_mode_which_would_move_its_statistics(self, run):
        detector = instances.detector().train()
        before = persons.state(detector)
        with pytest.raises(ValueError, match=r"KeypointDetector is in training mode.*call \.eval\(\)"):
            run(detector, torch.rand(1, 3, 64, 64))
        assert not persons.changed(before, detector.state_dict())


def test_a_level_that_is_not_there(built):
    with pytest.raises(ValueError, match="has the maps 0, 1, pool and no '2'"):
        detect_instances(built("keypoints"), torch.rand(1, 3, 64, 64), levels=("0", "2"))
    maps = {"0": torch.zeros(1), "1": torch.ones(1)}
    assert list(select_levels(maps, ("1", "0"))) == ["1", "0"]
    with pytest.raises(ValueError, match="has the maps 0, 1 and no 'p2'"):
        select_levels(maps, ("p2",))


class TestPyramid:
    def assert_is_torchvisions(self, detector, frames):
        with torch.no_grad():
            pictures = detector.transform(list(frames))[0]
            maps, found, size, view = pyramid_of(detector, frames)
            wanted = detector.backbone(pictures.tensors)
        assert torch.equal(found, pictures.tensors)
        assert [size] * len(frames) == pictures.image_sizes
        assert view.size == tuple(pictures.tensors.shape[2:])
        assert view.scale == (size[1] / frames.shape[3], size[0] / frames.shape[2])
        assert list(maps) == list(wanted)
        assert all(torch.equal(maps[name], wanted[name]) for name in wanted)
        return size

    @sizes
    def test_it_is_transform_and_backbone(self, built, size):
        self.assert_is_torchvisions(built("keypoints"), torch.rand(2, 3, *size))

    @pytest.mark.parametrize(
        ("settings", "size"),
        [
            ({"fixed_size": (80, 56)}, (56, 80)),
            ({"min_size": (48, 32)}, (32, 48)),
            ({"max_size": 60}, (40, 60)),
            ({"size_divisible": 16, "min_size": 40}, (40, 60)),
            ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 1.0, 2.0]}, (64, 96)),
        ],
        ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
    )
    def test_by_all_of_the_transforms_settings(self, settings, size):
        detector = instances.detector().eval()
        for name, value in settings.items():
            setattr(detector.transform, name, value if name != "min_size" or isinstance(value, tuple) else (value,))
        assert self.assert_is_torchvisions(detector, torch.rand(2, 3, 48, 72)) == size

    def test_people_of_frames_of_a_fixed_size(self):
        detector, frames = spread(instances.detector(fixed_size=(80, 56))), torch.rand(2, 3, 48, 72)
        people = detect_instances(detector, frames, threshold=0.0, chunk=1).people
        assert_people(people, own(detector, frames, 0.0), exact=True)

    def test_in_double_precision(self):
        self.assert_is_torchvisions(instances.detector().eval().double(), torch.rand(2, 3, 48, 72).double())


class TestView:
    @sizes
    def test_there_and_back_by_torchvisions_postprocessing(self, built, size):
        detector, (height, width) = built("boxes"), size
        _, _, inner, view = pyramid_of(detector, torch.rand(1, 3, *size))
        boxes = torch.rand(5, 4) * torch.tensor([width, height] * 2)
        there = view.to_network(boxes)
        assert_close(there, resize_boxes(boxes, [height, width], list(inner)))
        (back,) = detector.transform.postprocess([{"boxes": there}], [inner], [size])
        assert_close(back["boxes"], boxes)

    @sizes
    def test_a_rectangle_in_the_frame_is_where_its_box_is_in_the_picture(self, built, size):
        frame = torch.zeros(1, 3, *size)
        x1, y1, x2, y2 = (16, 8, 32, 24)
        frame[:, :, y1:y2, x1:x2] = 1
        _, pictures, inner, view = pyramid_of(built("keypoints"), frame)
        bright = pictures[0, 0, : inner[0], : inner[1]] > pictures[0, 0, : inner[0], : inner[1]].mean()
        rows, columns = bright.any(1).nonzero(), bright.any(0).nonzero()
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        expected = view.to_network(torch.tensor([[x1, y1, x2, y2]]).float())[0]
        assert (torch.stack(found) - expected).abs().max() <= 1

    def test_half_precision_does_not_round_what_it_becomes(self):
        view, box = View((1.1, 0.9), (64, 96)), [[648.0, 333.0, 1280.0, 717.0]]
        wanted = torch.tensor(box, dtype=torch.float64) * torch.tensor([1.1, 0.9, 1.1, 0.9], dtype=torch.float64)
        for dtype, result in ((torch.float16, torch.float32), (torch.float32,) * 2, (torch.float64,) * 2):
            there = view.to_network(torch.tensor(box, dtype=dtype))
            assert there.dtype == result
            assert_close(there.double(), wanted, rtol=1e-3 if dtype == torch.float16 else 1e-6, atol=0.0)
        # of these coordinates float16 is exact, and the products are not
        assert_close(view.to_network(torch.tensor(box).half())[:, :2], wanted[:, :2].float())

    def test_no_boxes(self):
        assert View((2.0, 3.0), (1, 1)).to_network(torch.zeros(0, 5, 4)).shape == (0, 5, 4)
