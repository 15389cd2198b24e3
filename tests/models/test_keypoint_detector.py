"""The keypoint detectors: torchvision's layers, names and values, and the contract that the tiny one keeps."""

import copy
import re

import pytest
import torch
import torchvision
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import KeypointRCNN, keypointrcnn_resnet50_fpn
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

import actionzoo
from actionzoo.models import KeypointDetector
from actionzoo.training import freeze
from actionzoo.weights import load_weights, save_checkpoint

NAMES = ["keypointrcnn_resnet50_fpn", "keypointrcnn_tiny"]
LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg", "loss_keypoint"}
SLIM = {"channels": (8, 8, 16, 16), "stem_width": 4, "output_stride": 16}
NET = {
    "trunk": "resnet18d",
    "trunk_args": SLIM,
    "out_indices": (2, 4),
    "out_channels": 16,
    "hidden": 32,
    "keypoint_layers": (8,),
    "anchor_sizes": ((16, 24), (32, 48), (64, 96)),
    "min_size": 96,
    "max_size": 160,
}


def build(**args):
    """A small detector that scales pictures to a shorter side of 96 pixels."""
    torch.manual_seed(0)
    return KeypointDetector(**{**NET, **args}).eval()


@pytest.fixture(scope="module")
def tiny():
    """In eval mode; tests that change it copy it first."""
    torch.manual_seed(0)
    return actionzoo.create("keypointrcnn_tiny").eval()


def truth(*boxes):
    """People in boxes with visible joints spread over them."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    share = torch.linspace(0.1, 0.9, 17)[:, None]
    points = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])
    keypoints = torch.cat([points, torch.full((len(boxes), 17, 1), 2.0)], -1)
    return {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.long), "keypoints": keypoints}


def scene():
    """Three pictures of different sizes: one person, nobody, two people."""
    pictures = [torch.rand(3, 96, 128), torch.rand(3, 120, 90), torch.rand(3, 64, 64)]
    return pictures, [truth([20, 10, 70, 90]), truth(), truth([3, 4, 30, 60], [30, 20, 62, 50])]


class TestResNet50:
    def test_names_and_shapes_are_torchvisions(self):
        with torch.device("meta"):
            ours = actionzoo.create("keypointrcnn_resnet50_fpn")
            theirs = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        shapes = {k: v.shape for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
        assert {k: v.shape for k, v in ours.state_dict().items()} == shapes
        published = torchvision.models.get_weight("KeypointRCNN_ResNet50_FPN_Weights.COCO_V1").meta
        assert sum(p.numel() for p in ours.parameters()) == published["num_params"] == 59_137_258
        assert ours.num_keypoints == len(published["keypoint_names"])

    def test_values_are_torchvisions(self):
        sizes = {
            "min_size": 96,
            "max_size": 160,
            "rpn_post_nms_top_n_test": 20,
            "box_detections_per_img": 3,
            "box_score_thresh": 0.0,
        }
        ours = actionzoo.create("keypointrcnn_resnet50_fpn", **sizes).eval()
        for module in ours.modules():
            if isinstance(module, FrozenBatchNorm2d):
                # as small as the epsilon that torchvision leaves out for its published weights
                module.running_var.uniform_(5e-6, 2e-5)
                module.weight.fill_(3e-3)
                module.running_mean.normal_(0, 1e-3)
        trunk = resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=5
        )
        theirs = KeypointRCNN(trunk, num_classes=2, **sizes).eval()
        overwrite_eps(theirs, 0.0)
        theirs.load_state_dict(ours.state_dict())
        pictures = [torch.rand(3, 96, 128), torch.rand(3, 80, 70)]
        with torch.no_grad():
            pairs = list(zip(ours(pictures), theirs(pictures), strict=True))
            maps = [model.backbone(torch.ones(1, 3, 64, 64)) for model in (ours, theirs)]
            overwrite_eps(theirs, 1e-5)
            other = theirs.backbone(torch.ones(1, 3, 64, 64))
        for one, two in pairs:
            assert one.keys() == two.keys() == {"boxes", "labels", "scores", "keypoints", "keypoints_scores"}
            assert one["keypoints"].shape == (3, 17, 3)
            assert_close(one, two, rtol=0, atol=0)
        assert_close(*maps, rtol=0, atol=0)
        assert not torch.allclose(maps[0]["0"], other["0"], rtol=0.01)

    @pytest.mark.parametrize("names", ["of-2020", "of-today"])
    def test_published_weights_load(self, tmp_path, names):
        with torch.device("meta"):
            shapes = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
        named = [name for name in shapes if not name.endswith("num_batches_tracked")]
        # every tensor is one number of its own, so that the file is small
        numbers = {name: torch.tensor(i / 512).expand(shapes[name].shape) for i, name in enumerate(named)}
        # the published file is older than these layers' names
        old = (
            {re.sub(r"(_blocks\.\d|head\.conv)\.(0\.)+", r"\1.", name): x for name, x in numbers.items()}
            if names == "of-2020"
            else numbers
        )
        assert len(old.keys() - numbers.keys()) == (18 if names == "of-2020" else 0)
        url = torchvision.models.get_weight("KeypointRCNN_ResNet50_FPN_Weights.COCO_V1").url
        torch.save(old, tmp_path / url.rsplit("/", 1)[1])
        model = actionzoo.create("keypointrcnn_resnet50_fpn", pretrained=True, cache_dir=tmp_path)
        state = model.state_dict()
        assert state.keys() == numbers.keys()
        assert all(torch.equal(state[name], value) for name, value in numbers.items())
        assert set(model.load_report.loaded) == set(named)
        assert not model.load_report.random
        assert not model.load_report.unused


class TestContract:
    @pytest.mark.parametrize("name", NAMES)
    def test_recorded_facts_are_those_of_the_built_model(self, name):
        info = actionzoo.model_info(name)
        with torch.device("meta"):
            model = actionzoo.create(name)
        assert info.parameters == sum(p.numel() for p in model.parameters())
        assert info.num_classes is None
        assert info.description
        assert tuple(model.pretrained_cfg["input_size"]) == info.input_size
        assert model.transform.min_size[0] == info.input_size[1]
        assert model.transform.image_mean == list(model.pretrained_cfg["mean"])
        assert model.transform.image_std == list(model.pretrained_cfg["std"])
        assert (model.pretrained_cfg["num_joints"], model.pretrained_cfg["joints"]) == (17, "coco")
        stem = model.get_submodule(model.pretrained_cfg["first_conv"])
        assert isinstance(stem, nn.Conv2d)
        assert stem.in_channels == 3
        assert model.pretrained_cfg["first_conv"] == info.config["first_conv"]

    def test_they_are_listed(self):
        assert set(NAMES) <= set(actionzoo.list_models(task="person keypoint detection"))
        assert set(NAMES) <= set(actionzoo.list_models("keypointrcnn_*"))
        assert "keypointrcnn_resnet50_fpn" in actionzoo.list_models(pretrained=True)
        assert "keypointrcnn_resnet50_fpn.coco_v1" in {info.name for info in actionzoo.list_weights()}

    def test_people_are_boxes_and_joints_in_the_picture_the_surest_first(self, tiny):
        pictures, _ = scene()
        before = [picture.clone() for picture in pictures]
        with torch.no_grad():
            found = tiny(pictures)
        assert all(torch.equal(picture, was) for picture, was in zip(pictures, before))
        for one, picture in zip(found, pictures, strict=True):
            boxes, scores, points = one["boxes"], one["scores"], one["keypoints"]
            count, (height, width) = len(scores), picture.shape[1:]
            assert 0 < count <= 20  # of a detector that knows nothing yet, some
            assert (boxes.shape, points.shape) == ((count, 4), (count, 17, 3))
            assert one["keypoints_scores"].shape == (count, 17)
            assert one["labels"].tolist() == [1] * count
            assert ((boxes >= 0) & (boxes <= torch.tensor([width, height] * 2) + 1e-3)).all()
            assert ((scores > 0) & (scores <= 1)).all()
            assert (scores.diff() <= 0).all()
            assert (points[..., 2] == 1).all()
            inside = (points[..., :2] >= boxes[:, None, :2] - 1) & (points[..., :2] <= boxes[:, None, 2:] + 1)
            assert inside.all()

    def test_nobody_is_found_in_shapes_of_nobody(self):
        with torch.no_grad():
            (found,) = build(box_score_thresh=1.0)([torch.rand(3, 96, 128)])
        shapes = {name: tuple(x.shape) for name, x in found.items()}
        assert shapes == {
            "boxes": (0, 4),
            "labels": (0,),
            "scores": (0,),
            "keypoints": (0, 17, 3),
            "keypoints_scores": (0, 17),
        }

    def test_a_batch_is_its_pictures_one_by_one(self, tiny):
        """Of different sizes; scaled and padded to a multiple of 32 they are of one."""
        pictures = [torch.rand(3, 160, 192), torch.rand(3, 160, 175), torch.rand(3, 80, 96)]
        with torch.no_grad():
            together, alone = tiny(pictures), [tiny([picture])[0] for picture in pictures]
            stacked = tiny(torch.stack([pictures[0]] * 2))
        for found, wanted in ((together, alone), (stacked, [alone[0]] * 2)):
            for one, other in zip(found, wanted, strict=True):
                # a heat map's highest cell may be another where two are almost equal
                for name in ("boxes", "scores", "keypoints_scores"):
                    assert_close(one[name], other[name], rtol=1e-3, atol=1e-3)

    def test_losses_are_finite_and_reach_every_parameter(self, tiny):
        model = copy.deepcopy(tiny).train()
        with torch.no_grad():  # away from zero-initialised norms, which stop gradients at the start of training
            for p in model.parameters():
                p.add_(0.02 * torch.randn_like(p))
        losses = model(*scene())
        assert losses.keys() == LOSSES
        assert all(loss.shape == () and loss.isfinite() and loss >= 0 for loss in losses.values())
        sum(losses.values()).backward()
        assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not [key for key, p in model.named_parameters() if not p.grad.any()]

    def test_with_a_frozen_trunk_everything_else_gets_a_gradient(self, tiny):
        model = copy.deepcopy(tiny)
        freeze(model.backbone.trunk)
        sum(model.train()(*scene()).values()).backward()
        without = {key for key, p in model.named_parameters() if p.grad is None}
        assert without == {f"backbone.trunk.{key}" for key, _ in model.backbone.trunk.named_parameters()}
        for part in ("backbone.fpn", "rpn.head", "roi_heads.box_head", "roi_heads.box_predictor"):
            assert all(p.grad.any() for p in model.get_submodule(part).parameters()), part
        for part in ("roi_heads.keypoint_head", "roi_heads.keypoint_predictor"):
            assert all(p.grad.any() for p in model.get_submodule(part).parameters()), part

    def test_a_joint_that_is_not_visible_teaches_nothing(self):
        model, (pictures, targets) = build().train(), scene()
        losses = []
        for change in (0.0, 13.0, -50.0):
            moved = copy.deepcopy(targets)
            for target in moved:
                target["keypoints"][:, 3] += torch.tensor([change, change, 0])
                target["keypoints"][:, 3, 2] = 0
            torch.manual_seed(1)
            losses.append(model(pictures, moved)["loss_keypoint"])
        assert losses[0] == losses[1] == losses[2] > 0
        torch.manual_seed(1)
        assert model(pictures, targets)["loss_keypoint"] != losses[0]

    def test_pictures_without_people_or_joints_teach_the_rest(self):
        model = build().train()
        losses = model([torch.rand(3, 96, 128), torch.rand(3, 64, 64)], [truth(), truth()])
        assert losses["loss_keypoint"] == losses["loss_box_reg"] == losses["loss_rpn_box_reg"] == 0
        assert losses["loss_objectness"] > 0
        sum(losses.values()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    def test_channels_last_trains_alike(self):
        # in double precision, in which the order of a sum changes no proposal
        model, (pictures, targets) = build().double().train(), scene()
        pictures = [picture.double() for picture in pictures]
        other = copy.deepcopy(model).to(memory_format=torch.channels_last)
        assert other.roi_heads.keypoint_head[0].weight.is_contiguous(memory_format=torch.channels_last)
        found = []
        for net in (model, other):
            torch.manual_seed(1)
            losses = net(pictures, targets)
            sum(losses.values()).backward()
            found.append((losses, {name: p.grad for name, p in net.named_parameters()}))
        assert_close(*found, rtol=1e-5, atol=1e-8)

    def test_state_dict_round_trip(self, tiny, tmp_path):
        save_checkpoint(tiny, tmp_path / "model.safetensors")
        other = actionzoo.create("keypointrcnn_tiny").eval()
        report = load_weights(other, tmp_path / "model.safetensors")
        assert not report.random
        assert not report.unused
        self.assert_bit_equal(tiny, other)

    def test_save_pretrained_round_trip(self, tiny, tmp_path):
        model = actionzoo.create("keypointrcnn_tiny", box_detections_per_img=3, box_score_thresh=0.2).eval()
        model.load_state_dict(tiny.state_dict())
        model.save_pretrained(tmp_path / "saved")
        other = actionzoo.create(f"local-dir:{tmp_path / 'saved'}").eval()
        assert (other.roi_heads.detections_per_img, other.roi_heads.score_thresh) == (3, 0.2)
        self.assert_bit_equal(model, other)

    def assert_bit_equal(self, model, other):
        assert_close(dict(model.state_dict()), dict(other.state_dict()), rtol=0, atol=0)
        picture = [torch.rand(3, 96, 128)]
        with torch.no_grad():
            assert_close(model(picture), other(picture), rtol=0, atol=0)

    def test_the_device_gives_what_the_cpu_gives(self, tiny, device):
        model, (pictures, targets) = copy.deepcopy(tiny), scene()
        with torch.no_grad():
            wanted = model(pictures[:1])[0]
            found = model.to(device)([pictures[0].to(device)])[0]
        assert {x.device.type for x in found.values()} == {device.type}
        assert_close(found["scores"].cpu(), wanted["scores"], rtol=1e-2, atol=1e-2)
        there = [{key: value.to(device) for key, value in target.items()} for target in targets]
        losses = model.train()([picture.to(device) for picture in pictures], there)
        assert all(loss.isfinite() for loss in losses.values())


def test_maps_are_those_of_the_trunk_mixed_and_a_coarser_one():
    model, images = build(), torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        maps = model.backbone(images)
        trunk = model.backbone.trunk.forward_intermediates(images, indices=[2, 4], intermediates_only=True)
        fine, coarse = (model.backbone.fpn.inner_blocks[i](x) for i, x in enumerate(trunk))
        wanted = model.backbone.fpn.layer_blocks[0](fine + nn.functional.interpolate(coarse, size=fine.shape[2:]))
    sizes = {key: tuple(x.shape) for key, x in maps.items()}
    assert sizes == {"0": (2, 16, 12, 16), "1": (2, 16, 6, 8), "pool": (2, 16, 3, 4)}
    assert_close(maps["0"], wanted)
    assert torch.equal(maps["pool"], maps["1"][:, :, ::2, ::2])


class TestRefusals:
    @pytest.mark.parametrize(
        ("pictures", "message"),
        [
            ([torch.rand(1, 64, 64)], r"pictures \(3, H, W\) in a list.*got \(1, 64, 64\)"),
            ([torch.rand(3, 64, 64), torch.rand(64, 64)], r"got \(64, 64\)"),
            (torch.rand(3, 64, 64), r"got \(64, 64\)"),
            (torch.rand(2, 4, 64, 64), r"got \(4, 64, 64\)"),
            ([], "at least one picture"),
        ],
        ids=["channels", "second-of-two", "no-batch", "batch-channels", "empty"],
    )
    def test_wrong_pictures(self, tiny, pictures, message):
        with pytest.raises(ValueError, match=f"KeypointDetector expects.*{message}"):
            tiny(pictures)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda target: None, "training takes targets.*for each of 1 pictures, got none"),
            (lambda target: [target] * 2, "for each of 1 pictures, got 2"),
            (lambda target: [{**target, "labels": torch.tensor([2])}], "every label is 1, a person, got 2"),
            (lambda target: [truth([9, 9, 5, 5])], "x2 > x1 and y2 > y1"),
            (
                lambda target: [{k: v for k, v in target.items() if k != "keypoints"}],
                r"target 0: expected keypoints \(1, 17, 3\) of its people, got none",
            ),
            (
                lambda target: [{**target, "keypoints": torch.zeros(2, 17, 3)}],
                r"keypoints \(1, 17, 3\).*\(2, 17, 3\)",
            ),
            (
                lambda target: [{**target, "keypoints": torch.zeros(1, 16, 3)}],
                r"keypoints \(1, 17, 3\).*\(1, 16, 3\)",
            ),
            (lambda target: [{**target, "keypoints": torch.zeros(1, 17, 2)}], r"got \(1, 17, 2\)"),
        ],
        ids=["none", "too-many", "label", "inverted", "no-keypoints", "people", "joints", "no-visibility"],
    )
    def test_wrong_targets(self, change, message):
        with pytest.raises(ValueError, match=message):
            build().train()([torch.rand(3, 64, 64)], change(truth([10, 10, 40, 50])))

    @pytest.mark.parametrize(
        ("args", "error", "message"),
        [
            ({"out_indices": (4, 2)}, ValueError, "must rise"),
            ({"out_indices": (2, 9)}, ValueError, r"\[2, 9\] do not fit 5 feature maps"),
            ({"anchor_sizes": ((16,), (32,))}, ValueError, "anchor_sizes has 2 entries; expected 3"),
            ({"box_score_tresh": 0.3}, TypeError, "KeypointRCNN has no setting 'box_score_tresh'"),
            ({"num_classes": 3}, ValueError, "num_classes"),
            ({"in_chans": 1}, ValueError, "pictures of 3 channels, got in_chans=1"),
            ({"keypoint_layers": ()}, ValueError, "names no convolution"),
            ({"trunk": None}, ValueError, "are those of a timm trunk"),
        ],
        ids=["order", "range", "anchors", "spelling", "classes", "channels", "layers", "no-trunk"],
    )
    def test_bad_settings(self, args, error, message):
        with pytest.raises(error, match=message):
            build(**args)


class TestLoadConViT:
    def test_the_trunk_is_convits_backbone_bit_for_bit(self, tiny):
        model, convit = copy.deepcopy(tiny), actionzoo.create("convit_har_tiny")
        for buffer in convit.backbone.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2)
        heads = {key: value.clone() for key, value in model.state_dict().items() if "trunk" not in key}
        model.load_convit(convit)
        trunk, source = model.backbone.trunk.state_dict(), convit.backbone.state_dict()
        assert trunk.keys() == source.keys()
        assert all(torch.equal(value, source[key]) for key, value in trunk.items())
        assert all(torch.equal(model.state_dict()[key], value) for key, value in heads.items())
        images = torch.rand(1, 3, 96, 96)
        with torch.no_grad():
            maps = model.backbone.trunk.eval().forward_intermediates(images, indices=[4], intermediates_only=True)
            assert torch.equal(maps[0], convit.eval().forward_backbone(images))
        nn.init.zeros_(convit.backbone.conv1[0].weight)
        assert model.backbone.trunk.conv1[0].weight.any()

    def test_another_backbone_is_refused(self, tiny):
        with pytest.raises(ValueError, match="does not fit the trunk of this KeypointDetector"):
            build().load_convit(actionzoo.create("convit_har_tiny"))
        with torch.device("meta"):
            model = actionzoo.create("keypointrcnn_resnet50_fpn")
        with pytest.raises(ValueError, match=re.escape("built on torchvision's ResNet-50; create it with trunk=…")):
            model.load_convit(tiny)
