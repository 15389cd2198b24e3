"""YOLOF: its matching and losses against plain loops, and the contract that its registered models keep."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from torchvision.ops import box_iou, nms

import actionzoo
from actionzoo.data.figures import PARTS
from actionzoo.models import YOLOF, uniform_match
from actionzoo.models.yolof_head import CentreClampCoder, YOLOFHead
from actionzoo.training import freeze
from actionzoo.weights import load_weights, save_checkpoint
from tests.reference import yolof as reference

NAMES = ["yolof_resnet101", "yolof_resnet50", "yolof_tiny"]
LOSSES = {"loss_classifier", "loss_box_reg"}
SLIM = {"channels": (8, 8, 16, 16), "stem_width": 4, "output_stride": 16}
NET = {
    "trunk": "resnet18d",
    "trunk_args": SLIM,
    "out_channels": 16,
    "mid_channels": 8,
    "dilations": (1, 2),
    "anchor_scales": (1, 2, 4),
    "min_size": 96,
    "max_size": 160,
}


def build(**args):
    """A small detector of stride 16 that scales pictures to a shorter side of 96 pixels."""
    torch.manual_seed(0)
    return YOLOF(**{**NET, **args}).eval()


@pytest.fixture(scope="module")
def tiny():
    """In eval mode; tests that change it copy it first."""
    torch.manual_seed(0)
    return actionzoo.create("yolof_tiny", num_classes=3, score_thresh=0.0).eval()


def truth(*rows):
    """Boxes, each with its label in front."""
    rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return {"boxes": rows[:, 1:], "labels": rows[:, 0].long()}


def scene():
    """Three pictures of different sizes: one object, none, two."""
    pictures = [torch.rand(3, 96, 128), torch.rand(3, 120, 90), torch.rand(3, 64, 64)]
    return pictures, [truth([2, 20, 10, 70, 90]), truth(), truth([1, 3, 4, 30, 60], [3, 30, 20, 62, 50])]


def boxes_of(count, low=4.0, high=60.0):
    centre, side = torch.rand(count, 2) * 100, low + torch.rand(count, 2) * (high - low)
    return torch.cat([centre - side / 2, centre + side / 2], 1)


def grid_anchors(model, height, width):
    """What torchvision's generator makes of a map: rows, columns, then sizes."""
    stride = model.backbone.stride
    sides = [scale * stride / 2 for scale in (1, 2, 4)]
    cells = [(x * stride, y * stride) for y in range(height) for x in range(width)]
    return torch.tensor([[x - s, y - s, x + s, y + s] for x, y in cells for s in sides])


class TestUniformMatch:
    @pytest.mark.parametrize(("anchors", "objects"), [(40, 5), (7, 3), (3, 2), (30, 1), (12, 0)])
    @pytest.mark.parametrize("near", [0.0, 0.1, 1.0], ids=["predicted-as-anchored", "near", "anywhere"])
    def test_equals_the_reference(self, anchors, objects, near, device):
        rows, things = boxes_of(anchors).double(), boxes_of(objects).double()
        boxes = rows + near * (boxes_of(anchors) - rows) if near else rows.clone()
        if objects:
            boxes[1] = things[0] + 0.5  # found already, by an anchor that may be far
        want, pairs = reference.uniform_match(boxes.tolist(), rows.tolist(), things.tolist())
        found = uniform_match(boxes.to(device), rows.to(device), things.to(device))
        assert found.objects.tolist() == want
        assert sorted(map(tuple, found.pairs.tolist())) == pairs
        assert found.objects.dtype == found.pairs.dtype == torch.int64
        assert found.pairs.shape == (len(pairs), 2)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**31), st.integers(1, 20), st.integers(0, 5), st.integers(1, 6))
    def test_invariants(self, seed, anchors, objects, matches):
        torch.manual_seed(seed)
        rows, things, boxes = boxes_of(anchors), boxes_of(objects), boxes_of(anchors)
        found = uniform_match(boxes, rows, things, matches)
        overlap = box_iou(rows, things)
        for anchor, thing in found.pairs.tolist():
            assert overlap[anchor, thing] >= 0.15
            assert overlap[anchor, found.objects[anchor]] >= overlap[anchor, thing]
        learners = set(found.pairs[:, 0].tolist())
        assert learners == set((found.objects >= 0).nonzero()[:, 0].tolist())
        assert len(found.pairs) <= 2 * matches * objects
        order = torch.randperm(objects)
        other = uniform_match(boxes, rows, things[order], matches)
        known = found.objects >= 0
        assert torch.equal(known, other.objects >= 0)
        assert torch.equal(order[other.objects[known]], found.objects[known])
        assert torch.equal(found.objects[~known], other.objects[~known])

    def test_large_and_small_objects_get_equally_many(self):
        """Where plain overlap with a threshold would give nearly all anchors to the large one."""
        anchors = grid_anchors(build(), 8, 8)
        things = torch.tensor([[8.0, 8, 72, 72], [78, 78, 98, 98]])
        found = uniform_match(anchors, anchors, things)
        assert [(found.objects == i).sum().item() for i in (0, 1)] == [4, 4]
        over = (box_iou(anchors, things) > 0.3).sum(0)
        assert over[0] > 2 * over[1]

    def test_thresholds(self):
        anchors = torch.tensor([[0.0, 0, 10, 10], [100, 0, 110, 10], [200, 0, 210, 10], [300, 0, 310, 10]])
        thing = torch.tensor([[0.0, 0, 10, 1.5]])
        boxes = torch.cat([anchors[:2], torch.tensor([[0, 0, 10, 1.4], [0, 0, 10, 1.0]])])
        found = uniform_match(boxes, anchors, thing, matches=1)
        # the anchor overlaps by exactly 0.15; the predicted box of the third is the nearest, but its anchor far away
        assert found.objects.tolist() == [0, -1, -2, -1]
        assert found.pairs.tolist() == [[0, 0]]
        assert uniform_match(boxes, anchors, thing, 1, least_overlap=0.16).objects.tolist() == [-2, -1, -2, -1]
        assert uniform_match(boxes, anchors, thing, 1, ignore_overlap=0.6).objects.tolist() == [0, -1, -2, -2]

    def test_of_equally_near_anchors_the_first_is_claimed(self, device):
        anchors = torch.tensor([[0.0, 0, 8, 8], [4, 0, 12, 8], [0, 4, 8, 12], [4, 4, 12, 12]] * 20, device=device)
        thing = torch.tensor([[2.0, 2, 10, 10]], device=device)
        found = uniform_match(anchors, anchors, thing, matches=3)
        assert (found.objects >= 0).nonzero()[:, 0].tolist() == [0, 1, 2]

    def test_no_gradient_and_any_shape_of_nothing(self):
        boxes = boxes_of(4).requires_grad_()
        assert not uniform_match(boxes, boxes, boxes_of(2)).pairs.requires_grad
        found = uniform_match(boxes, boxes, torch.zeros(0, 4))
        assert found.objects.tolist() == [-1] * 4
        assert found.pairs.shape == (0, 2)

    @pytest.mark.parametrize(
        ("boxes", "anchors", "objects", "message"),
        [
            ((3, 4), (4, 4), (1, 4), r"boxes \(n, 4\) xyxy, one box per anchor, got \(3, 4\)"),
            ((3, 4), (3, 5), (1, 4), "boxes"),
            ((4,), (4,), (1, 4), r"boxes .* got \(4,\)"),
            ((3, 4), (3, 4), (4,), r"objects .* got \(4,\)"),
        ],
    )
    def test_wrong_input(self, boxes, anchors, objects, message):
        with pytest.raises(ValueError, match=message):
            uniform_match(torch.zeros(boxes), torch.zeros(anchors), torch.zeros(objects))


class TestHead:
    def test_joint_logits_are_those_of_the_product_of_probabilities(self):
        head = YOLOFHead(4, 2, 3).double().eval()
        for conv in (head.class_logits, head.objectness):
            nn.init.normal_(conv.weight, 0, 2)
            nn.init.normal_(conv.bias, 0, 3)
        x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
        with torch.no_grad():
            logits, deltas = head(x)
            classes, boxes = head.class_logits(head.class_convs(x)), head.box_convs(x)
            objectness, codes = head.objectness(boxes), head.box_deltas(boxes)
        assert (logits.shape, deltas.shape) == ((2, 45, 2), (2, 45, 4))
        for row, column, anchor in ((0, 0, 0), (2, 4, 2), (1, 3, 1)):
            i = (row * 5 + column) * 3 + anchor
            product = classes[:, 2 * anchor : 2 * anchor + 2, row, column].sigmoid()
            product = product * objectness[:, anchor : anchor + 1, row, column].sigmoid()
            assert_close(logits[:, i].sigmoid(), product)
            assert_close(deltas[:, i], codes[:, 4 * anchor : 4 * anchor + 4, row, column])

    @pytest.mark.parametrize("large", [200.0, -200.0])
    def test_extreme_logits_stay_finite(self, large):
        head = YOLOFHead(4, 2, 3).eval()
        nn.init.constant_(head.class_logits.bias, large)
        nn.init.constant_(head.objectness.bias, 300.0)
        x = torch.randn(1, 4, 2, 2, requires_grad=True)
        logits, _ = head(x)
        logits.sum().backward()
        assert_close(logits, torch.full_like(logits, large), rtol=0, atol=1)
        assert x.grad.isfinite().all()

    def test_every_score_starts_low(self, tiny):
        with torch.no_grad():
            scores = torch.cat([one["scores"] for one in tiny(scene()[0])])
        assert scores.max() < 0.02
        assert scores.mean().item() == pytest.approx(0.005, rel=0.2)

    def test_half_precision_comes_out_as_float32(self):
        head = YOLOFHead(4, 2, 3).bfloat16()
        assert {x.dtype for x in head(torch.randn(1, 4, 2, 2).bfloat16())} == {torch.float32}


class TestCoder:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**31))
    def test_round_trip(self, seed):
        """Where the centre moves less than the limit, and a side grows less than torchvision's."""
        torch.manual_seed(seed)
        anchors, coder = boxes_of(20), CentreClampCoder(16)
        centre = (anchors[:, :2] + anchors[:, 2:]) / 2 + (torch.rand(20, 2) - 0.5) * 31.9
        side = 4 + 60 * torch.rand(20, 2)
        boxes = torch.cat([centre - side / 2, centre + side / 2], 1)
        deltas = coder.encode_single(boxes, anchors)
        assert_close(coder.decode_single(deltas, anchors), boxes, rtol=1e-4, atol=1e-3)
        assert_close(coder.encode_single(coder.decode_single(deltas, anchors), anchors), deltas, rtol=1e-3, atol=1e-4)

    def test_a_centre_goes_no_further_than_the_limit(self):
        anchors = torch.tensor([[0.0, 0, 10, 20]] * 3)
        deltas = torch.tensor([[5.0, -5, 0, 0], [1, 1, 0, 0], [9, 0, 100, 0]], requires_grad=True)
        boxes = CentreClampCoder(16).decode_single(deltas, anchors)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2 - torch.tensor([5.0, 10])
        assert_close(centre[:2].detach(), torch.tensor([[16.0, -16], [10, 16]]))
        assert boxes.isfinite().all()
        boxes.sum().backward()
        assert (deltas.grad[0, :2] == 0).all()
        assert deltas.grad[1, 0] != 0

    def test_anchors_are_squares_round_the_cells_corners(self):
        model = build()
        pictures, _ = model.transform([torch.rand(3, 96, 128)])
        (anchors,) = model.anchor_generator(pictures, [torch.zeros(1, 16, 6, 8)])
        assert torch.equal(anchors, grid_anchors(model, 6, 8))

    def test_the_papers_anchors(self):
        with torch.device("meta"):
            model = actionzoo.create("yolof_resnet101")
        assert model.anchor_generator.sizes == ((32, 64, 128, 256, 512),)
        assert model.box_coder.clamp == 32


class TestLosses:
    def test_equal_the_reference(self):
        """On pictures of the size that the network looks at, so that boxes stay as they are."""
        model = build(num_classes=3).double().train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        nn.init.normal_(model.head.class_logits.bias, -1, 1)
        pictures = [torch.rand(3, 96, 128, dtype=torch.float64) for _ in range(2)]
        # in the middle between cells, where the fourth anchor and the fifth are not equally near
        objects = [2, 16.1, 3.2, 66.1, 83.2], [3, 27.9, 5.2, 76.8, 79.7], [1, 90.3, 43.1, 110.9, 63.6]
        targets = [truth(*objects), truth()]
        with torch.no_grad():
            found = model(pictures, targets)
            batch, _ = model.transform(pictures)
            logits, deltas = model.head(model.backbone(batch.tensors))
        anchors = grid_anchors(model, 6, 8).double()
        sums, count = torch.zeros(2, dtype=torch.float64), 0
        for logit, delta, target in zip(logits, deltas, targets, strict=True):
            boxes = model.box_coder.decode_single(delta, anchors).tolist()
            things = target["boxes"].tolist(), target["labels"].tolist()
            matched, _ = reference.uniform_match(boxes, anchors.tolist(), things[0])
            one = reference.losses(logit.tolist(), boxes, anchors.tolist(), *things)
            positives = sum(o >= 0 for o in matched)
            sums += torch.tensor(one, dtype=torch.float64) * max(positives, 1)
            count += positives
        assert count > 4
        want = sums / count
        assert_close(torch.stack([found["loss_classifier"], found["loss_box_reg"]]), want)

    def test_are_finite_and_reach_every_parameter(self, tiny):
        model = copy.deepcopy(tiny).train()
        with torch.no_grad():  # away from zero-initialised norms, which stop gradients at the start of training
            for p in model.parameters():
                p.add_(0.02 * torch.randn_like(p))
        losses = model(*scene())
        assert losses.keys() == LOSSES
        assert all(loss.shape == () and loss.isfinite() and loss > 0 for loss in losses.values())
        sum(losses.values()).backward()
        assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not [key for key, p in model.named_parameters() if not p.grad.any()]

    def test_pictures_of_nothing_teach_the_classes_alone(self):
        model = build().train()
        losses = model([torch.rand(3, 96, 128), torch.rand(3, 64, 64)], [truth(), truth()])
        assert losses["loss_box_reg"] == 0
        assert losses["loss_classifier"] > 0
        sum(losses.values()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        assert not model.head.box_deltas.weight.grad.any()
        assert model.head.objectness.weight.grad.any()

    def test_targets_are_scaled_as_their_pictures_and_not_changed(self):
        model = build().double().train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        picture, target = torch.rand(3, 96, 128, dtype=torch.float64), truth([1, 20, 10, 70, 90])
        small = nn.functional.interpolate(picture[None], scale_factor=0.5, mode="area")[0]
        large = nn.functional.interpolate(small[None], (96, 128), mode="bilinear")[0]
        half = {"boxes": target["boxes"] / 2, "labels": target["labels"]}
        with torch.no_grad():
            assert_close(model([small], [half]), model([large], [target]))
        assert half["boxes"].tolist() == [[10, 5, 35, 45]]

    def test_fall_over_twenty_steps_on_two_pictures_and_find_what_is_there_after_fifty(self):
        model, pictures = build(num_classes=2).train(), []
        targets = [truth([1, 20, 10, 50, 80]), truth([2, 60, 30, 110, 70])]
        torch.manual_seed(0)
        for target, level in zip(targets, (0.7, -0.3)):
            picture = 0.3 * torch.rand(3, 96, 128) + 0.3
            x1, y1, x2, y2 = target["boxes"][0].int().tolist()
            picture[:, y1:y2, x1:x2] += level
            pictures.append(picture)
        optimizer, history = torch.optim.Adam(model.parameters(), 4e-3), []
        for _ in range(20):
            optimizer.zero_grad()
            losses = model(pictures, targets)
            history.append({key: loss.item() for key, loss in losses.items()})
            sum(losses.values()).backward()
            optimizer.step()
        for key in LOSSES:
            values = [row[key] for row in history]
            assert all(0 <= value < 10 for value in values)
            assert sum(values[-3:]) < 0.6 * sum(values[:3]), key
        for _ in range(30):
            optimizer.zero_grad()
            sum(model(pictures, targets).values()).backward()
            optimizer.step()
        with torch.no_grad():
            found = model.eval()(pictures)
        for one, target in zip(found, targets):
            assert one["labels"][0] == target["labels"][0]
            assert box_iou(one["boxes"][:1], target["boxes"]).item() >= 0.6

    def test_with_a_frozen_trunk_everything_else_trains_and_it_stays_bit_equal(self):
        model = build(num_classes=3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
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


class Planted(nn.Module):
    """A head that finds the same boxes in every picture, whatever the map."""

    def __init__(self, model, rows, classes):
        super().__init__()
        self.num_classes = classes
        anchors = grid_anchors(model, 6, 8)
        self.logits = torch.full((1, len(anchors), classes), -20.0)
        self.deltas = torch.zeros(1, len(anchors), 4)
        for i, (label, score, *box) in enumerate(rows):
            box = torch.tensor([box])
            centre = (box[:, :2] + box[:, 2:]) / 2
            free = (self.logits.amax(2)[0] < -10) & ((anchors[:, :2] + anchors[:, 2:]) / 2 - centre).abs().le(16).all(1)
            place = int(free.nonzero()[i % int(free.sum())])
            self.logits[0, place, label - 1] = torch.tensor(score).logit()
            self.deltas[0, place] = model.box_coder.encode_single(box, anchors[place : place + 1])[0]

    def forward(self, x):
        return self.logits.expand(len(x), -1, -1), self.deltas.expand(len(x), -1, -1)


ROWS = [
    (1, 0.9, 20.0, 10, 60, 80),
    (1, 0.8, 22.0, 12, 62, 82),  # the same object again
    (1, 0.7, 70.0, 20, 100, 60),
    (2, 0.6, 21.0, 11, 61, 81),  # another class at the same place
    (2, 0.5, 70.0, 50, 120, 90),
    (3, 0.04, 30.0, 30, 50, 50),  # not sure enough
    (2, 0.4, 100.0, 70, 140, 110),  # reaches past the picture
]


class TestDetections:
    def planted(self, rows=ROWS, **args):
        model = build(num_classes=3, **args)
        model.head = Planted(model, rows, 3)
        return model

    def found(self, **args):
        with torch.no_grad():
            (one,) = self.planted(**args)([torch.rand(3, 96, 128)])
        return [(label, round(score, 3), *map(round, box)) for label, score, box in
                zip(one["labels"].tolist(), one["scores"].tolist(), one["boxes"].tolist())]  # fmt: skip

    def test_the_surest_of_every_place_and_class_in_the_picture(self):
        assert self.found() == [ROWS[i] for i in (0, 2, 3, 4)] + [(2, 0.4, 100, 70, 128, 96)]

    def test_suppression_is_torchvisions_class_by_class(self):
        torch.manual_seed(3)
        rows = [
            (int(1 + i % 3), 0.95 - 0.02 * i, *row) for i, row in enumerate(boxes_of(24, 20, 60).clamp(2, 94).tolist())
        ]
        rows = [row for row in rows if row[4] > row[2] + 4 and row[5] > row[3] + 4]
        boxes, scores = torch.tensor([row[2:] for row in rows]), torch.tensor([row[1] for row in rows])
        labels = torch.tensor([row[0] for row in rows])
        keep = []
        for label in (1, 2, 3):
            own = (labels == label).nonzero()[:, 0]
            keep += own[nms(boxes[own], scores[own], 0.3)].tolist()
        keep.sort(key=lambda i: -scores[i])
        assert 3 < len(keep) < len(rows)
        with torch.no_grad():
            (one,) = self.planted(rows, nms_thresh=0.3)([torch.rand(3, 96, 128)])
        assert_close(one["boxes"], boxes[keep], rtol=0, atol=1e-3)
        assert_close(one["scores"], scores[keep])
        assert one["labels"].tolist() == labels[keep].tolist()

    def test_one_of_each_class(self):
        assert self.found(detections_per_class=1) == [ROWS[0], ROWS[3]]
        assert self.found(detections_per_class=2) == [ROWS[i] for i in (0, 2, 3, 4)]
        assert self.found(detections_per_class=1, score_thresh=0.03) == [ROWS[0], ROWS[3], ROWS[5]]

    def test_one_of_each_class_may_be_asked_for_later(self):
        model = self.planted()
        model.detections_per_class = 1
        with torch.no_grad():
            assert model([torch.rand(3, 96, 128)])[0]["labels"].tolist() == [1, 2]

    def test_a_class_is_not_crowded_out_by_the_candidates_of_another(self):
        assert self.found(topk_candidates=1) == [ROWS[0], ROWS[3]]

    def test_limits(self):
        assert self.found(detections_per_img=2) == [ROWS[0], ROWS[2]]
        assert [row[1] for row in self.found(score_thresh=0.55)] == [0.9, 0.7, 0.6]
        assert [row[1] for row in self.found(nms_thresh=0.95)] == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]

    def test_boxes_are_in_pixels_of_the_picture_given(self):
        with torch.no_grad():
            (one,) = self.planted(nms_thresh=0.5)([torch.rand(3, 48, 64)])
        assert_close(one["boxes"][0], torch.tensor([10.0, 5, 30, 40]))

    def test_nothing_is_found_in_shapes_of_nothing(self):
        with torch.no_grad():
            found = build(score_thresh=1.0, detections_per_class=1)([torch.rand(3, 96, 128)] * 2)
        assert [{key: tuple(x.shape) for key, x in one.items()} for one in found] == [
            {"boxes": (0, 4), "labels": (0,), "scores": (0,)}
        ] * 2

    def test_of_real_maps_are_in_the_picture_the_surest_first(self, tiny):
        pictures, _ = scene()
        before = [picture.clone() for picture in pictures]
        with torch.no_grad():
            found = tiny(pictures)
        assert all(torch.equal(picture, was) for picture, was in zip(pictures, before))
        for one, picture in zip(found, pictures, strict=True):
            height, width = picture.shape[1:]
            assert one["boxes"].shape == (30, 4)
            assert ((one["boxes"] >= 0) & (one["boxes"] <= torch.tensor([width, height] * 2) + 1e-3)).all()
            assert (one["boxes"][:, 2:] > one["boxes"][:, :2]).all()
            assert (one["scores"].diff() <= 0).all()
            assert set(one["labels"].tolist()) <= {1, 2, 3}

    def test_a_batch_is_its_pictures_one_by_one(self, tiny):
        """Of different sizes; scaled and padded to a multiple of 32 they are of one."""
        model = copy.deepcopy(tiny).double()
        nn.init.normal_(model.head.class_logits.weight, 0, 0.2)
        pictures = [torch.rand(3, *size, dtype=torch.float64) for size in ((192, 224), (192, 210), (96, 112))]
        with torch.no_grad():
            together, alone = model(pictures), [model([picture])[0] for picture in pictures]
            stacked = model(torch.stack([pictures[0]] * 2))
        assert_close(together, alone)
        assert_close(stacked, [alone[0]] * 2)


class TestContract:
    @pytest.mark.parametrize("name", NAMES)
    def test_recorded_facts_are_those_of_the_built_model(self, name):
        info = actionzoo.model_info(name)
        with torch.device("meta"):
            model = actionzoo.create(name)
        assert info.parameters == sum(p.numel() for p in model.parameters())
        assert info.num_classes == model.num_classes == model.pretrained_cfg["num_classes"] == 1
        assert info.description
        assert tuple(model.pretrained_cfg["input_size"]) == info.input_size == (3, *[model.transform.min_size[0]] * 2)
        assert model.transform.image_mean == list(model.pretrained_cfg["mean"])
        assert model.transform.image_std == list(model.pretrained_cfg["std"])
        stem = model.get_submodule(model.pretrained_cfg["first_conv"])
        assert isinstance(stem, nn.Conv2d)
        assert stem.in_channels == 3
        assert model.pretrained_cfg["first_conv"] == info.config["first_conv"]

    @pytest.mark.parametrize(
        ("name", "classes", "parameters"),
        [("yolof_resnet101", 1, 61_331_550), ("yolof_resnet101", 10, 61_538_955), ("yolof_resnet50", 80, 44_159_977)],
    )
    def test_parameters_are_mmdetections(self, name, classes, parameters):
        with torch.device("meta"):
            model = actionzoo.create(name, num_classes=classes)
        assert sum(p.numel() for p in model.parameters()) == parameters

    def test_they_are_listed(self):
        assert set(NAMES) <= set(actionzoo.list_models(task="object detection"))
        assert {"yolof_resnet50", "yolof_resnet101"} <= {info.model for info in actionzoo.list_weights("yolof_*")}

    def test_a_new_classifier(self, tiny):
        model = copy.deepcopy(tiny)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        model.reset_classifier(len(PARTS))
        assert model.num_classes == model.head.num_classes == 10
        assert model.get_classifier().out_channels == 50
        assert [model.get_submodule(name) for name in model.classifier_names] == [model.get_classifier()]
        kept = {key for key, value in model.state_dict().items() if not key.startswith("head.class_logits.")}
        assert all(torch.equal(model.state_dict()[key], before[key]) for key in kept)
        with torch.no_grad():
            assert max(one["labels"].max() for one in model(scene()[0])) > 3
        with pytest.raises(ValueError, match="at least one class, got num_classes=0"):
            model.reset_classifier(0)

    def test_state_dict_round_trip(self, tiny, tmp_path):
        save_checkpoint(tiny, tmp_path / "model.safetensors")
        other = actionzoo.create("yolof_tiny", num_classes=3, score_thresh=0.0).eval()
        report = load_weights(other, tmp_path / "model.safetensors")
        assert not report.random
        assert not report.unused
        self.assert_bit_equal(tiny, other)

    def test_save_pretrained_round_trip(self, tiny, tmp_path):
        model = actionzoo.create("yolof_tiny", num_classes=3, detections_per_class=2, score_thresh=0.002).eval()
        model.load_state_dict(tiny.state_dict())
        model.save_pretrained(tmp_path / "saved")
        other = actionzoo.create(f"local-dir:{tmp_path / 'saved'}").eval()
        assert (other.num_classes, other.detections_per_class, other.score_thresh) == (3, 2, 0.002)
        assert len(other([torch.rand(3, 96, 128)])[0]["labels"]) == 6
        self.assert_bit_equal(model, other)

    def test_weights_of_other_classes_are_reheaded_and_said(self, tiny, tmp_path):
        save_checkpoint(tiny, tmp_path / "model.safetensors")
        same = actionzoo.create("yolof_tiny", weights=tmp_path / "model.safetensors")
        assert same.num_classes == 3
        other = actionzoo.create("yolof_tiny", weights=tmp_path / "model.safetensors", num_classes=10)
        assert set(other.load_report.reheaded) == {"head.class_logits.weight", "head.class_logits.bias"}
        body = [key for key in tiny.state_dict() if not key.startswith("head.class_logits.")]
        assert all(torch.equal(other.state_dict()[key], tiny.state_dict()[key]) for key in body)

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
        assert_close(found["scores"].cpu(), wanted["scores"], rtol=1e-2, atol=1e-3)
        there = [{key: value.to(device) for key, value in target.items()} for target in targets]
        losses = model.train()([picture.to(device) for picture in pictures], there)
        assert all(loss.isfinite() for loss in losses.values())

    @pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
    def test_autocast_gives_nearly_the_same(self, tiny, training):
        """Anchors and boxes stay in float32, where bfloat16 would round a pixel of a large picture."""
        model, (pictures, targets) = copy.deepcopy(tiny).train(training), scene()
        with torch.no_grad():
            want = model(pictures, targets)
            with torch.autocast("cpu", torch.bfloat16):
                found = model(pictures, targets)
        if training:
            assert_close(found, want, rtol=0.03, atol=0)
        for one, other in () if training else zip(found, want, strict=True):
            assert one["boxes"].dtype == one["scores"].dtype == torch.float32
            assert_close(one["scores"], other["scores"], rtol=0.05, atol=1e-4)


class TestRefusals:
    @pytest.mark.parametrize(
        ("pictures", "message"),
        [
            ([torch.rand(1, 64, 64)], r"pictures \(3, H, W\) in a list.*got \(1, 64, 64\)"),
            (torch.rand(3, 64, 64), r"got \(64, 64\)"),
            (torch.rand(2, 4, 64, 64), r"got \(4, 64, 64\)"),
            ([], "at least one picture"),
        ],
        ids=["channels", "no-batch", "batch-channels", "empty"],
    )
    def test_wrong_pictures(self, tiny, pictures, message):
        with pytest.raises(ValueError, match=f"YOLOF expects.*{message}"):
            tiny(pictures)

    @pytest.mark.parametrize(
        ("classes", "targets", "message"),
        [
            (3, None, "training takes targets.*for each of 1 pictures, got none"),
            (3, [truth(), truth()], "for each of 1 pictures, got 2"),
            (3, [truth([4, 1, 1, 9, 9])], "every label is one of 1 … 3, the classes, got 4"),
            (3, [truth([0, 1, 1, 9, 9])], "every label is one of 1 … 3, the classes, got 0"),
            (1, [truth([2, 1, 1, 9, 9])], "every label is 1, a person, got 2"),
            (3, [truth([1, 9, 9, 5, 5])], "x2 > x1 and y2 > y1"),
            (3, [{"boxes": torch.zeros(0, 4)}], r"target 0 has \['boxes'\]"),
        ],
        ids=["none", "too-many", "beyond", "background", "person", "inverted", "no-labels"],
    )
    def test_wrong_targets(self, classes, targets, message):
        with pytest.raises(ValueError, match=message):
            build(num_classes=classes).train()([torch.rand(3, 64, 64)], targets)

    @pytest.mark.parametrize(
        ("args", "error", "message"),
        [
            ({"in_chans": 1}, ValueError, "YOLOF takes pictures of 3 channels, got in_chans=1"),
            ({"num_classes": 0}, ValueError, "at least one class, got num_classes=0"),
            ({"anchor_scales": ()}, ValueError, r"anchor_scales above 0, got \(\)"),
            ({"anchor_scales": (1, -2)}, ValueError, r"got \(1, -2\)"),
            ({"dilations": (0,)}, ValueError, r"dilations=\(0,\)"),
            ({"score_tresh": 0.3}, TypeError, "score_tresh"),
        ],
        ids=["channels", "classes", "no-anchors", "anchors", "dilation", "spelling"],
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
        model.load_convit(convit)
        trunk, source = model.backbone.trunk.state_dict(), convit.backbone.state_dict()
        assert trunk.keys() == source.keys()
        assert all(torch.equal(value, source[key]) for key, value in trunk.items())
        images = torch.rand(1, 3, 96, 96)
        with torch.no_grad():
            c5 = convit.eval().forward_backbone(images)
            assert torch.equal(model.backbone(images), model.backbone.neck(c5))

    def test_another_backbone_is_refused(self):
        with pytest.raises(ValueError, match="does not fit the trunk of this YOLOF"):
            build().load_convit(actionzoo.create("convit_har_tiny"))
