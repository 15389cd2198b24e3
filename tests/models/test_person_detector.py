"""The contract that every registered person detector keeps, and what else `PersonDetector` promises."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops import box_iou

import actionzoo
from actionzoo.models import ConViTHAR, ConViTHARPerson, PersonDetector, associate_boxes
from actionzoo.training import freeze
from actionzoo.weights import load_weights, save_checkpoint

ALL = actionzoo.list_models(task="person detection")
TINY = [name for name in ALL if name.endswith("_tiny")]
every = pytest.mark.parametrize("name", ALL)
tiny = pytest.mark.parametrize("name", TINY)

LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
SLIM = {"channels": (8, 8, 16, 16), "stem_width": 4, "output_stride": 16}
NET = {
    "trunk": "resnet18d",
    "trunk_args": SLIM,
    "out_indices": (2, 4),
    "out_channels": 16,
    "hidden": 32,
    "anchor_sizes": ((16, 24), (32, 48), (64, 96)),
    "min_size": 96,
    "max_size": 160,
    "rpn_pre_nms_top_n_train": 100,
    "rpn_post_nms_top_n_train": 50,
    "rpn_pre_nms_top_n_test": 50,
    "rpn_post_nms_top_n_test": 25,
    "box_batch_size_per_image": 32,
    "box_detections_per_img": 10,
}


def build(**args):
    """A small detector that scales pictures to a shorter side of 96 pixels."""
    torch.manual_seed(0)
    return PersonDetector(**{**NET, **args}).eval()


@pytest.fixture(scope="module")
def slim():
    return build()


@pytest.fixture(scope="module")
def built():
    """Each tiny detector once, in eval mode; tests that change one copy it first."""
    cache = {}

    def get(name):
        if name not in cache:
            torch.manual_seed(0)
            cache[name] = actionzoo.create(name).eval()
        return cache[name]

    return get


def truth(*boxes):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.long)}


def scene():
    """Three pictures of different sizes: one person, nobody, two people."""
    pictures = [torch.rand(3, 96, 128), torch.rand(3, 120, 90), torch.rand(3, 64, 64)]
    return pictures, [truth([20, 10, 70, 90]), truth(), truth([3, 4, 30, 60], [30, 20, 62, 50])]


def assert_same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key], rtol=1e-4, atol=1e-3)


class TestContract:
    @every
    def test_recorded_facts_are_those_of_the_built_model(self, name):
        info = actionzoo.model_info(name)
        with torch.device("meta"):
            model = actionzoo.create(name)
        assert info.parameters == sum(p.numel() for p in model.parameters())
        assert info.num_classes is None
        assert info.description
        assert tuple(model.pretrained_cfg["input_size"]) == info.input_size == (3, *[model.transform.min_size[0]] * 2)
        assert model.transform.image_mean == list(model.pretrained_cfg["mean"])
        assert model.transform.image_std == list(model.pretrained_cfg["std"])
        stem = model.get_submodule(model.pretrained_cfg["first_conv"])
        assert isinstance(stem, nn.Conv2d)
        assert stem.in_channels == 3
        assert model.pretrained_cfg["first_conv"] == info.config["first_conv"]

    @tiny
    def test_detections_are_boxes_in_the_picture_the_surest_first(self, built, name):
        pictures, _ = scene()
        before = [picture.clone() for picture in pictures]
        with torch.no_grad():
            found = built(name)(pictures)
        assert all(torch.equal(picture, was) for picture, was in zip(pictures, before))
        assert sum(len(one["boxes"]) for one in found)  # of a detector that knows nothing yet, some
        for one, picture in zip(found, pictures, strict=True):
            boxes, labels, scores = one["boxes"], one["labels"], one["scores"]
            height, width = picture.shape[1:]
            assert boxes.shape == (len(scores), 4)
            assert labels.shape == scores.shape
            assert boxes.dtype == scores.dtype == torch.float32
            assert labels.tolist() == [1] * len(labels)
            assert (boxes >= 0).all()
            assert (boxes[:, 0::2] <= width).all()
            assert (boxes[:, 1::2] <= height).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
            assert ((scores > 0) & (scores <= 1)).all()
            assert (scores.diff() <= 0).all()

    @tiny
    def test_losses_are_finite_and_reach_every_parameter(self, built, name):
        model = copy.deepcopy(built(name)).train()
        with torch.no_grad():  # away from zero-initialised norms, which stop gradients at the start of training
            for p in model.parameters():
                p.add_(0.02 * torch.randn_like(p))
        losses = model(*scene())
        assert losses.keys() == LOSSES
        assert all(loss.shape == () and loss.isfinite() and loss >= 0 for loss in losses.values())
        sum(losses.values()).backward()
        for key, p in model.named_parameters():
            assert p.grad is not None, key
            assert p.grad.isfinite().all(), key
            assert p.grad.any(), f"no gradient ever reaches {key}"

    @tiny
    def test_with_a_frozen_trunk_everything_else_gets_a_gradient(self, built, name):
        model = copy.deepcopy(built(name))
        freeze(model.backbone.trunk)
        sum(model.train()(*scene()).values()).backward()
        without = {key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
        assert without == {f"backbone.trunk.{key}" for key, _ in model.backbone.trunk.named_parameters()}

    @tiny
    def test_a_picture_without_people_teaches_the_background(self, built, name):
        model = copy.deepcopy(built(name)).train()
        losses = model([torch.rand(3, 96, 128), torch.rand(3, 64, 64)], [truth(), truth()])
        assert losses["loss_box_reg"] == losses["loss_rpn_box_reg"] == 0
        assert losses["loss_objectness"] > 0
        sum(losses.values()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    @tiny
    def test_order_of_pictures_does_not_matter(self, built, name):
        pictures, _ = scene()
        with torch.no_grad():
            found, turned = built(name)(pictures), built(name)(pictures[::-1])
        assert_same(turned[::-1], found)

    @tiny
    def test_a_batch_is_its_pictures_one_by_one(self, built, name):
        """Of different sizes; scaled and padded to a multiple of 32 they are of one."""
        side = built(name).transform.min_size[0]
        pictures = [torch.rand(3, side, side + x) for x in (32, 20, 9)] + [torch.rand(3, side // 2, side // 2 + 16)]
        with torch.no_grad():
            together = built(name)(pictures)
            alone = [built(name)([picture])[0] for picture in pictures]
            stacked = built(name)(torch.stack([pictures[0], pictures[0]]))
        assert_same(together, alone)
        assert_same(stacked, [alone[0]] * 2)

    @tiny
    def test_state_dict_round_trip(self, built, name, tmp_path):
        save_checkpoint(built(name), tmp_path / "model.safetensors")
        other = actionzoo.create(name).eval()
        report = load_weights(other, tmp_path / "model.safetensors")
        assert not report.random
        assert not report.unused
        self.assert_bit_equal(built(name), other)

    @tiny
    def test_save_pretrained_round_trip(self, built, name, tmp_path):
        model = actionzoo.create(name, box_detections_per_img=3, box_score_thresh=0.2).eval()
        model.load_state_dict(built(name).state_dict())
        model.save_pretrained(tmp_path / "saved")
        other = actionzoo.create(f"local-dir:{tmp_path / 'saved'}").eval()
        assert (other.roi_heads.detections_per_img, other.roi_heads.score_thresh) == (3, 0.2)
        self.assert_bit_equal(model, other)

    def assert_bit_equal(self, model, other):
        for key, value in model.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key
        picture = [torch.rand(3, 96, 128)]
        with torch.no_grad():
            pairs = list(zip(model(picture), other(picture), strict=True))
        assert all(torch.equal(one[key], two[key]) for one, two in pairs for key in one)

    @tiny
    def test_a_deep_copy_is_its_own(self, built, name):
        model = copy.deepcopy(built(name))
        nn.init.zeros_(model.roi_heads.box_predictor.cls_score.weight)
        assert built(name).roi_heads.box_predictor.cls_score.weight.any()

    @tiny
    def test_the_device_gives_what_the_cpu_gives(self, built, name, device):
        model, pictures = copy.deepcopy(built(name)), [torch.rand(3, 96, 128)]
        with torch.no_grad():
            wanted = model(pictures)[0]
            found = model.to(device)([picture.to(device) for picture in pictures])[0]
        assert {x.device.type for x in found.values()} == {device.type}
        assert_close(found["scores"].cpu(), wanted["scores"], rtol=1e-2, atol=1e-2)
        losses = model.train()([picture.to(device) for picture in pictures], [to(truth([9, 9, 60, 80]), device)])
        assert all(loss.isfinite() for loss in losses.values())

    @tiny
    @pytest.mark.parametrize(
        ("pictures", "message"),
        [
            ([torch.rand(1, 64, 64)], r"pictures \(3, H, W\) in a list.*got \(1, 64, 64\)"),
            ([torch.rand(3, 64, 64), torch.rand(64, 64)], r"got \(64, 64\)"),
            ([torch.rand(1, 3, 64, 64)], r"got \(1, 3, 64, 64\)"),
            (torch.rand(3, 64, 64), r"got \(64, 64\)"),
            (torch.rand(2, 4, 64, 64), r"got \(4, 64, 64\)"),
            ([], "at least one picture"),
            (torch.rand(0, 3, 64, 64), "at least one picture"),
        ],
        ids=["channels", "second-of-two", "batch-in-list", "no-batch", "batch-channels", "empty-list", "empty-batch"],
    )
    def test_wrong_pictures(self, built, name, pictures, message):
        with pytest.raises(ValueError, match=message):
            built(name)(pictures)

    @tiny
    @pytest.mark.parametrize(
        ("targets", "message"),
        [
            (None, "training takes targets, boxes and labels, for each of 2 pictures, got none"),
            ([], "for each of 2 pictures, got 0"),
            ([truth()], "for each of 2 pictures, got 1"),
            ([truth()] * 3, "for each of 2 pictures, got 3"),
            ([truth(), {"boxes": torch.zeros(0, 4)}], r"target 1 has \['boxes'\]"),
            ([{"labels": torch.ones(0).long()}, truth()], r"target 0 has \['labels'\]"),
            ([truth(), {**truth(), "boxes": torch.zeros(0)}], r"target 1: .*got \(0,\) and \(0,\)"),
            ([truth(), {**truth([1, 2, 3, 4]), "labels": torch.ones(2).long()}], r"got \(1, 4\) and \(2,\)"),
            ([truth(), truth([1, 1, 9, 9], [5, 5, 5, 9])], r"target 1: .*got \[5\.0, 5\.0, 5\.0, 9\.0\]"),
            ([truth(), truth([9, 9, 5, 5])], r"x2 > x1 and y2 > y1, got \[9\.0"),
            ([truth([1, 1, float("nan"), 9]), truth()], r"target 0: expected finite boxes.*nan"),
            ([truth([1, 1, float("inf"), 9]), truth()], r"target 0: expected finite boxes.*inf"),
            ([truth(), {**truth([1, 2, 3, 4]), "labels": torch.tensor([2])}], "every label is 1, a person, got 2"),
            ([truth(), {**truth([1, 2, 3, 4]), "labels": torch.tensor([0])}], "every label is 1, a person, got 0"),
        ],
        ids=[
            *("missing", "none", "too-few", "too-many", "no-labels", "no-boxes", "rank", "labels", "no-width"),
            *("inverted", "nan", "infinite", "other-class", "background"),
        ],
    )
    def test_wrong_targets(self, built, name, targets, message):
        model = copy.deepcopy(built(name)).train()
        with pytest.raises(ValueError, match=message):
            model([torch.rand(3, 64, 64)] * 2, targets)


def to(target, device):
    return {key: value.to(device) for key, value in target.items()}


def test_the_papers_detector_is_torchvisions_and_a_neck():
    with torch.device("meta"):
        ours = actionzoo.create("person_resnet50")
        # untrained, its trunk has ordinary BatchNorm; FrozenBatchNorm would hold 53,120 scales and shifts as buffers
        theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)
    count = {key: sum(p.numel() for p in model.parameters()) for key, model in (("o", ours), ("t", theirs))}
    # four maps, three ways down, each with a convolution of stride 2 and one that fuses: 3x3, 256 to 256, with bias
    convolutions = 3 * 2 * (256 * 256 * 3 * 3 + 256)
    assert count == {"o": 41_352_281 + convolutions, "t": 41_352_281}
    assert count["o"] == 44_892_761
    for part in ("rpn", "roi_heads"):
        mine, other = ours.get_submodule(part).state_dict(), theirs.get_submodule(part).state_dict()
        assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in other.items()}
    trunk = {key: value.shape for key, value in ours.backbone.trunk.state_dict().items()}
    assert trunk == {key: value.shape for key, value in theirs.backbone.body.state_dict().items()}


def test_maps_are_the_necks_and_a_coarser_one(slim):
    images = torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        maps = slim.backbone(images)
        trunk = slim.backbone.trunk.forward_intermediates(images, indices=[2, 4], intermediates_only=True)
        neck = slim.backbone.neck({"0": trunk[0], "1": trunk[1]})
    assert {key: tuple(x.shape) for key, x in maps.items()} == {
        "0": (2, 16, 12, 16),
        "1": (2, 16, 6, 8),
        "pool": (2, 16, 3, 4),
    }
    assert all(torch.equal(maps[key], neck[key]) for key in neck)
    assert torch.equal(maps["pool"], neck["1"][:, :, ::2, ::2])


def test_scales_to_the_shorter_side_but_no_longer_than_allowed(slim):
    seen = []
    hook = slim.backbone.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[2:])))
    with torch.no_grad():
        for size in ((96, 96), (48, 64), (300, 100), (300, 500)):
            slim([torch.rand(3, *size)])
    hook.remove()
    # 160 x 53 -> 160 x 64 when padded to a multiple of 32
    assert seen == [(96, 96), (96, 128), (160, 64), (96, 160)]


@pytest.mark.parametrize("anchors", [((16,), (32,)), ((16,),) * 4, ()], ids=len)
def test_anchors_of_another_number_of_maps(anchors):
    with pytest.raises(ValueError, match=rf"anchor_sizes has {len(anchors)} entries; expected 3"):
        build(anchor_sizes=anchors)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({"out_indices": (4, 2)}, ValueError, "must rise"),
        ({"out_indices": (2, 9)}, ValueError, r"\[2, 9\] do not fit 5 feature maps"),
        ({"out_indices": (1, 3), "trunk_args": {**SLIM, "output_stride": 32}}, ValueError, "once or twice the one"),
        ({"box_score_tresh": 0.3}, TypeError, "box_score_tresh"),
        ({"num_classes": 3}, ValueError, "num_classes"),
        ({"in_chans": 1}, ValueError, "pictures of 3 channels, got in_chans=1"),
    ],
    ids=["order", "range", "strides", "spelling", "classes", "channels"],
)
def test_bad_settings(args, error, message):
    with pytest.raises(error, match=message):
        build(**args)


@pytest.mark.parametrize("trunk", ["mobilenetv3_small_050", "vgg11_bn"])
def test_other_trunks(trunk):
    with torch.device("meta"):
        model = PersonDetector(trunk=trunk).eval()
        maps = model.backbone(torch.empty(1, 3, 256, 320))
        assert [256 // x.shape[2] for x in maps.values()] == [4, 8, 16, 32, 64]
        assert {x.shape[1] for x in maps.values()} == {256}


def settled(model):
    """A detector whose BatchNorm has seen something, so that its buffers are not the initial ones."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def test_a_frozen_trunk_stays_bit_equal_while_the_rest_trains():
    model = settled(build())
    freeze(model.backbone.trunk)
    model.train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(model(*scene()).values()).backward()
        optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if not key.startswith("backbone.trunk.")}
    assert any(key.endswith("running_mean") for key in before)


CONVIT = {"backbone": "resnet18d", "backbone_args": SLIM, "num_classes": 5, "head_dim": 4, "input_size": (3, 64, 64)}


class TestLoadConViT:
    def convit(self, **args):
        torch.manual_seed(1)
        return settled(ConViTHAR(**{**CONVIT, **args})).eval()

    def test_the_trunks_maps_are_convits_own(self):
        model, convit = build(), self.convit()
        heads = copy.deepcopy(model.rpn.state_dict())
        model.load_convit(convit)
        images = torch.randn(2, 3, 96, 128)
        with torch.no_grad():
            found = model.backbone.trunk.forward_intermediates(images, indices=[2, 4], intermediates_only=True)
            wanted = convit.backbone.forward_intermediates(images, indices=[2, 4], intermediates_only=True)
            c5 = convit.forward_backbone(images)
        assert all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))
        assert torch.equal(found[-1], c5)
        assert all(torch.equal(value, heads[key]) for key, value in model.rpn.state_dict().items())

    def test_it_is_a_copy(self):
        model, convit = build(), self.convit()
        model.load_convit(convit)
        nn.init.zeros_(convit.backbone.layer4[1].conv2.weight)
        assert model.backbone.trunk.layer4[1].conv2.weight.any()

    def test_a_trunk_cut_shorter_takes_what_it_has(self):
        model = build(out_indices=(1, 2))
        model.load_convit(self.convit())
        assert not any("layer4" in key or "layer3" in key for key in model.state_dict())

    def test_also_from_the_convit_of_a_person_network_or_a_bare_backbone(self):
        model = build()
        whole = ConViTHARPerson(**CONVIT)
        for source in (whole.convit, whole.convit.backbone):
            weight = nn.init.normal_(whole.convit.backbone.layer1[0].conv1.weight)
            model.load_convit(source)
            assert torch.equal(model.backbone.trunk.layer1[0].conv1.weight, weight)

    def test_the_tiny_ones_go_together(self, built):
        model = copy.deepcopy(built("person_tiny"))
        convit = settled(actionzoo.create("convit_har_tiny"))
        model.load_convit(convit)
        trunk = model.backbone.trunk.state_dict()
        assert trunk.keys() == convit.backbone.state_dict().keys()
        assert all(torch.equal(value, trunk[key]) for key, value in convit.backbone.state_dict().items())

    def test_the_papers_go_together(self):
        with torch.device("meta"):
            actionzoo.create("person_resnet50").load_convit(actionzoo.create("convit_har"))

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ({"backbone_args": {**SLIM, "channels": (8, 8, 16, 24)}}, "another shape of"),
            ({"backbone": "resnet34d"}, r"also holds .* layer1\.2"),
            ({"backbone": "resnet10t", "backbone_args": {}}, "does not fit the trunk of this PersonDetector"),
        ],
        ids=["width", "deeper", "other"],
    )
    def test_another_backbone_is_refused_and_nothing_changed(self, args, message):
        model = build()
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(ValueError, match=message):
            model.load_convit(self.convit(**args))
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_learns_two_pictures():
    """A bright rectangle on noise in each, from random weights."""
    model, pictures = build().train(), []
    targets = [truth([20, 10, 50, 80]), truth([60, 30, 110, 70])]
    torch.manual_seed(0)
    for target in targets:
        picture = 0.3 * torch.rand(3, 96, 128)
        x1, y1, x2, y2 = target["boxes"][0].int().tolist()
        picture[:, y1:y2, x1:x2] += 0.7
        pictures.append(picture)
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for _ in range(100):
        optimizer.zero_grad()
        sum(model(pictures, targets).values()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = model.eval()(pictures)
    for one, target in zip(found, targets):
        assert box_iou(one["boxes"][:1], target["boxes"]).item() >= 0.6


class TestAssociateBoxes:
    def test_the_largest_overlap_wins(self):
        given = torch.tensor([[0.0, 0, 10, 10], [50, 50, 70, 90]])
        detected = torch.tensor([[0.0, 0, 10, 6], [51, 52, 70, 90], [1, 0, 10, 10], [200, 200, 210, 210]])
        boxes, index = associate_boxes(given, detected)
        assert index.tolist() == [2, 1]
        assert torch.equal(boxes, detected[[2, 1]])

    @pytest.mark.parametrize(
        ("width", "threshold", "found"),
        [(5.0, 0.5, True), (4.99, 0.5, False), (10.0, 1.0, True), (9.99, 1.0, False), (1.0, 0.1, True)],
    )
    def test_the_threshold_itself_is_enough(self, width, threshold, found):
        given, detected = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0, 0, width, 10]])
        boxes, index = associate_boxes(given, detected, threshold)
        assert torch.equal(boxes, detected if found else given)
        assert index.tolist() == [0 if found else -1]

    def test_of_equal_overlaps_one_is_taken(self):
        given = torch.tensor([[0.0, 0, 10, 10]])
        detected = torch.tensor([[0.0, 0, 10, 8], [0, 2, 10, 10], [0, 0, 10, 8]])
        boxes, index = associate_boxes(given, detected)
        assert index.tolist() == [0]  # detections come the surest first
        assert torch.equal(boxes, detected[:1])

    def test_one_detection_may_serve_two(self):
        given = torch.tensor([[0.0, 0, 10, 10], [0, 1, 10, 10]])
        boxes, index = associate_boxes(given, given[:1] + torch.tensor([0.0, 0, 0, 1]))
        assert index.tolist() == [0, 0]
        assert boxes.tolist() == [[0, 0, 10, 11]] * 2

    @pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
    def test_none(self, n, m):
        given, detected = 40 * torch.rand(n, 4), torch.rand(m, 4)
        boxes, index = associate_boxes(given, detected)
        assert torch.equal(boxes, given)
        assert index.tolist() == [-1] * n
        assert index.dtype == torch.long
        if n:
            boxes.zero_()
            assert given.any()

    def test_boxes_without_area_or_coordinates_overlap_nothing(self):
        given = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 5], [torch.nan, 0, 9, 9]])
        detected = torch.tensor([[torch.nan] * 4, [0, 0, 10, 9], [7, 7, 7, 7]])
        boxes, index = associate_boxes(given, detected)
        assert index.tolist() == [1, -1, -1]
        assert_close(boxes, torch.stack([detected[1], given[1], given[2]]), rtol=0, atol=0, equal_nan=True)

    def test_integers_do_not_round_the_detections(self):
        given = torch.tensor([[0, 0, 10, 10], [30, 30, 40, 40]])
        boxes, index = associate_boxes(given, torch.tensor([[0.5, 0.25, 10.75, 10]]))
        assert boxes.tolist() == [[0.5, 0.25, 10.75, 10], [30, 30, 40, 40]]
        assert index.tolist() == [0, -1]
        assert associate_boxes(given, torch.zeros(0, 4))[0].dtype == torch.float32

    @settings(max_examples=60, deadline=None)
    @given(*[st.lists(st.lists(st.integers(0, 12), min_size=4, max_size=4), max_size=4)] * 2)
    def test_any_boxes_equal_the_loop(self, given, detected):
        def overlap(a, b):
            width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            both = max(width, 0) * max(height, 0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
            return both / union if union else 0.0

        given, detected = ([[x, y, x + w, y + h] for x, y, w, h in rows] for rows in (given, detected))
        boxes, index = associate_boxes(
            torch.tensor(given).reshape(-1, 4).float(), torch.tensor(detected).reshape(-1, 4).float()
        )
        for row, box, i in zip(given, boxes.tolist(), index.tolist(), strict=True):
            overlaps = [overlap(row, other) for other in detected]
            best = max(overlaps, default=0.0)
            if best < 0.5:
                assert (box, i) == (row, -1)
            else:
                assert overlaps[i] == best
                assert box == detected[i]

    @pytest.mark.parametrize(
        ("given", "detected", "threshold", "message"),
        [
            ((4,), (2, 4), 0.5, r"boxes are \(n, 4\) xyxy, got \(4,\)"),
            ((2, 4), (2, 5), 0.5, r"boxes are \(n, 4\) xyxy, got \(2, 5\)"),
            ((2, 4), (0,), 0.5, r"boxes are \(n, 4\) xyxy, got \(0,\)"),
            ((2, 4), (2, 4), 0.0, r"overlap in \(0, 1\], got 0\.0"),
            ((2, 4), (2, 4), -0.5, r"overlap in \(0, 1\]"),
            ((2, 4), (2, 4), 1.5, r"overlap in \(0, 1\], got 1\.5"),
            ((2, 4), (2, 4), float("nan"), r"overlap in \(0, 1\], got nan"),
        ],
    )
    def test_wrong_input(self, given, detected, threshold, message):
        with pytest.raises(ValueError, match=message):
            associate_boxes(torch.rand(given), torch.rand(detected), threshold)
