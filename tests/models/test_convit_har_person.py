import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import actionzoo
from actionzoo.models import FUSION_WEIGHTS, ConViTHAR, ConViTHARPerson, HumanBranch, PersonOutput, fuse_scores
from actionzoo.models.convit_har_person import fusion_weights
from actionzoo.models.human_branch import rois_of
from tests.reference import human_branch as reference

SLIM = {"channels": (8, 8, 16, 16), "stem_width": 4, "output_stride": 16}
NET = {
    "backbone": "resnet18d",
    "backbone_args": SLIM,
    "num_classes": 5,
    "heads": 2,
    "head_dim": 4,
    "input_size": (3, 64, 64),
}
KINDS = {"align": {"roi": "align"}, "pool": {"roi": "pool"}}
kinds = pytest.mark.parametrize("kind", KINDS)

# On images of 208 x 240 pixels (H x W), of which a stride of 16 makes 13 x 15 cells.
IMAGE = (208, 240)
BOXES = {
    "inside": [30.0, 20.0, 150.0, 190.0],
    "whole-image": [0.0, 0.0, 240.0, 208.0],
    "within-one-cell": [100.5, 70.25, 108.0, 77.0],
    "one-pixel": [7.0, 9.0, 8.0, 10.0],
    "corner": [225.0, 195.0, 240.0, 208.0],
    "one-column-of-pixels": [0.0, 0.0, 1.0, 208.0],
    "wide": [3.0, 100.0, 233.0, 131.0],
}


def shake(model):
    """Take every parameter away from its initial value, so that none is without effect."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def build(**args):
    """A small network: 64x64 images are 4x4 cells."""
    return shake(ConViTHARPerson(**{**NET, **args}))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build()


def branch(**args):
    settings = {"stride": 16, "heads": 2, "head_dim": 3, "depth": 1}
    return shake(HumanBranch(6, 3, **{**settings, **args}).double())


def count(part):
    return sum(p.numel() for p in part.parameters())


def vit_parameters(dim, cells, heads=4, head_dim=64, mlp_dim=None, depth=2):
    """Of a feature-map ViT: positions; in every block two norms, attention without bias and an MLP; a last norm."""
    mlp_dim = dim if mlp_dim is None else mlp_dim
    attention = dim * 3 * heads * head_dim + heads * head_dim * dim + dim
    mlp = dim * mlp_dim + mlp_dim + mlp_dim * dim + dim
    return cells * dim + depth * (2 * dim + attention + 2 * dim + mlp) + 2 * dim


def branch_parameters(dim, classes, **args):
    return vit_parameters(dim, 10 * 6, **args) + vit_parameters(dim, 5 * 3, **args) + (dim + 1) * classes


class TestHumanBranch:
    def test_shapes_through_the_papers_branch(self):
        seen = []
        with torch.device("meta"):
            net = HumanBranch(2048, 40).eval()
            for part in (net.vits.vit1, net.vits.down, net.vits.vit2):
                part.register_forward_hook(lambda _, inputs, output: seen.append((*inputs[0].shape, *output.shape[2:])))
            maps, rois = torch.empty(2, 2048, 14, 14), torch.empty(3, 5)
            logits = net(maps, rois)
        assert seen == [(3, 2048, 10, 6, 10, 6), (3, 2048, 10, 6, 5, 3), (3, 2048, 5, 3, 5, 3)]
        assert logits.shape == (3, 40)
        assert (net.vits.vit1.grid, net.vits.vit2.grid) == ((10, 6), (5, 3))

    @pytest.mark.parametrize(("classes", "parameters"), [(40, 42_244_136), (10, 42_182_666)])
    def test_parameters_by_hand(self, classes, parameters):
        with torch.device("meta"):
            net = HumanBranch(2048, classes)
        assert count(net) == branch_parameters(2048, classes) == parameters

    def test_parameters_with_the_width_shared_among_heads(self):
        with torch.device("meta"):
            net = HumanBranch(2048, 40, head_dim=None, mlp_dim=8192)
        assert count(net) == branch_parameters(2048, 40, head_dim=512, mlp_dim=8192)

    @kinds
    @pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
    def test_values_and_gradients_equal_the_loop(self, kind, box):
        net = branch(**KINDS[kind])
        maps = torch.randn(2, 6, 13, 15, dtype=torch.float64, requires_grad=True)
        rois = torch.tensor([[1.0, *box]], dtype=torch.float64)
        row = torch.randn(3, dtype=torch.float64)
        found = net(maps, rois)
        state = dict(net.named_parameters())
        wanted = reference.human_branch(maps[1], box, state, stride=16, size=(10, 6), roi=kind, depth=1, heads=2)
        assert_close(found, wanted[None], rtol=0, atol=1e-9)
        leaves = [maps, *net.parameters()]
        slopes = torch.autograd.grad((found[0] * row).sum(), leaves)
        expected = torch.autograd.grad((wanted * row).sum(), leaves)
        for slope, want in zip(slopes, expected):
            assert_close(slope, want, rtol=0, atol=1e-9)
        assert not slopes[0][0].any()

    @pytest.mark.parametrize(
        "args",
        [{"size": (7, 5)}, {"stride": 8}, {"depth": 2}, {"heads": 3, "head_dim": None}, {"mlp_dim": 4}],
        ids=lambda args: "-".join(args),
    )
    def test_other_settings_equal_the_loop(self, args):
        net = branch(**args)
        maps = torch.randn(1, 6, 9, 8, dtype=torch.float64)
        how = {"stride": 16, "size": (10, 6), "roi": "align", "depth": 1, "heads": 2}
        how |= {key: args[key] for key in how.keys() & args.keys()}
        box = [0.2 * 8 * how["stride"], 11.0, 0.9 * 8 * how["stride"], 65.0]
        wanted = reference.human_branch(maps[0], box, net.state_dict(), **how)
        assert_close(net(maps, torch.tensor([[0.0, *box]])), wanted[None], rtol=0, atol=1e-6)

    def test_many_rows_are_as_many_single_ones(self):
        net = branch()
        maps = torch.randn(3, 6, 13, 15, dtype=torch.float64)
        rois = torch.tensor([[float(i), *box] for box in BOXES.values() for i in (2, 0, 1)])
        assert_close(net(maps, rois), torch.cat([net(maps, roi[None]) for roi in rois]), rtol=0, atol=1e-12)

    @kinds
    def test_a_person_as_large_as_the_cells_is_copied(self, kind):
        """10x6 cells, whose outermost pixels' centres lie in them: RoIAlign averages 4 points around each centre."""
        net = branch(**KINDS[kind])
        maps = torch.arange(6 * 13 * 15, dtype=torch.float64).reshape(1, 6, 13, 15)
        right, bottom = (64 + 6 * 16, 32 + 10 * 16)
        if kind == "pool":  # its last cell is the one that the last coordinate rounds to
            right, bottom = right - 16, bottom - 16
        crops = net.crop(maps, torch.tensor([[0, 64, 32, right, bottom]], dtype=torch.float64))
        assert_close(crops, maps[:, :, 2:12, 4:10])

    def test_half_precision_maps_keep_boxes_to_the_pixel(self):
        """Pixels 1021 to 1024 are one number in bfloat16."""
        net = branch(size=(2, 2)).float()
        maps = torch.randn(1, 6, 3, 64).bfloat16()
        rois = torch.tensor([[0, 1000.0, 3, right, 40] for right in (1021, 1023)])
        crops = net.crop(maps, rois)
        assert crops.dtype == torch.bfloat16
        assert_close(crops, net.crop(maps.float(), rois).bfloat16(), rtol=0, atol=0)
        assert not torch.equal(crops[0], crops[1])

    def test_double_precision_is_kept(self):
        maps = torch.randn(1, 6, 4, 5, dtype=torch.float64, requires_grad=True)
        rois, net = torch.tensor([[0, 5.3, 8.1, 70.2, 60.7]], dtype=torch.float64), branch(size=(2, 2))
        assert torch.autograd.gradcheck(lambda x: net(x, rois), (maps,))

    def test_features_head_and_dropout(self):
        net = branch(drop_rate=0.5)
        maps, rois = torch.randn(1, 6, 13, 15, dtype=torch.float64), torch.tensor([[0, 9.0, 9, 99, 99]]).double()
        features = net.forward_features(maps, rois)
        assert features.shape == (1, 6, 5, 3)
        assert_close(net.forward_head(features, pre_logits=True), features.mean((2, 3)))
        assert_close(net.forward_head(features), net(maps, rois))
        net.train()
        ones = torch.ones(50, 6, 5, 3, dtype=torch.float64)
        assert set(net.forward_head(ones, pre_logits=True).unique().tolist()) == {0.0, 2.0}

    @pytest.mark.parametrize(
        ("maps", "rois", "message"),
        [
            ((6, 13, 15), (1, 5), r"maps \(B, 6, h, w\), got shape \(6, 13, 15\)"),
            ((1, 7, 13, 15), (1, 5), r"maps \(B, 6, h, w\), got shape \(1, 7, 13, 15\)"),
            ((1, 6, 13, 15), (1, 4), r"rois \(N, 5\).*got shape \(1, 4\)"),
            ((1, 6, 13, 15), (5,), r"rois \(N, 5\).*got shape \(5,\)"),
        ],
    )
    def test_wrong_input(self, maps, rois, message):
        with pytest.raises(ValueError, match=message):
            branch()(torch.zeros(maps).double(), torch.zeros(rois).double())

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ({"roi": "crop"}, "'align' or 'pool', got 'crop'"),
            ({"pool": "median"}, "'median'"),
            ({"heads": 4, "head_dim": None}, "dim=6, heads=4"),
            ({"size": (0, 6)}, r"grid=\(0, 6\)"),
        ],
        ids=["roi", "pool", "heads", "size"],
    )
    def test_bad_settings(self, args, message):
        with pytest.raises(ValueError, match=message):
            branch(**args)


def random_boxes(n, size=IMAGE):
    """Boxes that lie inside an image, at least 4 pixels large."""
    corner = torch.rand(n, 2) * torch.tensor([size[1] - 8.0, size[0] - 8.0])
    room = torch.tensor([size[1], size[0]]) - corner
    return torch.cat([corner, corner + 4 + torch.rand(n, 2) * (room - 4)], 1)


def assert_same(found, wanted, rtol=1e-5, atol=1e-5):
    assert torch.equal(found.image_index, wanted.image_index)
    assert torch.equal(found.box_index, wanted.box_index)
    assert_close(found.logits, wanted.logits, rtol=rtol, atol=atol)
    assert_close(found.image_logits, wanted.image_logits, rtol=rtol, atol=atol)


class TestBoxes:
    def test_rows_are_those_of_backbone_and_branch(self, model):
        images, boxes = torch.randn(2, 3, *IMAGE), [random_boxes(2), random_boxes(1)]
        output = model(images, boxes)
        maps = model.convit.backbone.forward_features(images)
        assert maps.shape[2:] == (13, 15)
        human = model.human
        how = {"stride": 16, "size": (10, 6), "roi": "align", "depth": 2, "heads": 2}
        rows = [(0, boxes[0][0]), (0, boxes[0][1]), (1, boxes[1][0])]
        for found, (i, box) in zip(output.logits, rows, strict=True):
            wanted = reference.human_branch(maps[i], box.tolist(), human.state_dict(), **how)
            assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        assert output.image_index.tolist() == [0, 0, 1]
        assert output.box_index.tolist() == [0, 1, 0]

    @pytest.mark.parametrize("size", [(64, 64), IMAGE, (50, 97)], ids=lambda size: f"{size[0]}x{size[1]}")
    def test_image_logits_are_convits_own(self, model, size):
        images = torch.randn(2, 3, *size)
        output = model(images, [random_boxes(3, size), random_boxes(1, size)])
        assert torch.equal(output.image_logits, model.convit(images))
        assert output.logits.shape == (4, 5)
        assert output.logits.isfinite().all()

    def test_order_of_boxes_is_order_of_rows_and_nothing_else(self, model):
        images, boxes = torch.randn(2, 3, *IMAGE), [random_boxes(4), random_boxes(3)]
        orders = [torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])]
        plain = model(images, boxes)
        mixed = model(images, [x[order] for x, order in zip(boxes, orders)])
        assert torch.equal(mixed.image_logits, plain.image_logits)
        assert torch.equal(mixed.image_index, plain.image_index)
        assert_close(mixed.logits, plain.logits[torch.cat([orders[0], 4 + orders[1]])], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(mixed.logits, plain.logits, atol=1e-3)

    def test_list_and_tensor_agree(self, model):
        images, boxes = torch.randn(3, 3, *IMAGE), random_boxes(6).reshape(3, 2, 4)
        assert_same(model(images, boxes), model(images, list(boxes)), 0, 0)
        assert_same(model(images, boxes.transpose(0, 1).contiguous().transpose(0, 1)), model(images, boxes), 0, 0)

    def test_every_image_has_its_own_number_of_boxes(self, model):
        images, counts = torch.randn(4, 3, 64, 64), (2, 0, 3, 1)
        boxes = [random_boxes(n, (64, 64)) for n in counts]
        output = model(images, boxes)
        assert output.image_index.tolist() == [0, 0, 2, 2, 2, 3]
        assert output.box_index.tolist() == [0, 1, 0, 1, 2, 0]
        single = [model(images[i : i + 1], boxes[i : i + 1]) for i in range(4)]
        assert_close(output.logits, torch.cat([one.logits for one in single]), rtol=1e-4, atol=1e-5)
        assert_close(output.image_logits, torch.cat([one.image_logits for one in single]), rtol=1e-4, atol=1e-5)

    def test_another_image_does_not_matter(self, model):
        images, boxes = torch.randn(2, 3, 64, 64), [random_boxes(2, (64, 64)), random_boxes(2, (64, 64))]
        wanted = model(images, boxes)
        images[1] = torch.nan
        found = model(images, boxes)
        assert_close(found.logits[:2], wanted.logits[:2])
        assert found.logits[2:].isnan().all()

    @pytest.mark.parametrize(
        "boxes",
        [[torch.zeros(0, 4)] * 2, torch.zeros(2, 0, 4), [torch.tensor([[500.0, 0, 600, 9]]), torch.zeros(0, 4)]],
        ids=["list", "tensor", "outside"],
    )
    def test_nobody_anywhere(self, model, boxes):
        net = copy.deepcopy(model)
        output = net(torch.randn(2, 3, 64, 64), boxes)
        assert output.logits.shape == net.fuse(output).shape == (0, 5)
        assert output.image_logits.shape == (2, 5)
        assert output.image_index.shape == output.box_index.shape == (0,)
        (output.logits.sum() + output.image_logits.sum()).backward()
        assert all(p.grad.isfinite().all() for p in net.convit.parameters())
        assert not any(p.grad is not None and p.grad.any() for p in net.human.parameters())

    def test_nobody_in_training(self, model):
        net = copy.deepcopy(model).train()
        net(torch.randn(2, 3, 64, 64), [torch.zeros(0, 4)] * 2).logits.sum().backward()
        assert not any(p.grad is not None and p.grad.isnan().any() for p in net.parameters())

    def test_no_images(self, model):
        output = model(torch.zeros(0, 3, 64, 64), [])
        assert output.logits.shape == output.image_logits.shape == (0, 5)

    def test_boxes_without_a_pixel_inside_are_left_out(self, model):
        good = random_boxes(3)
        bad = {
            "right": [240.0, 5, 300, 90],
            "left": [-50.0, 5, -1, 90],
            "above": [5.0, -80, 90, 0],
            "below": [5.0, 208, 90, 300],
            "less-than-a-pixel-in": [239.5, 5, 300, 90],
            "narrow": [50.0, 50, 50.9, 90],
            "flat": [50.0, 50, 90, 50.9],
            "no-area": [50.0, 50, 50, 50],
            "inverted": [90.0, 90, 50, 50],
            "inverted-in-x": [90.0, 50, 50, 90],
            "nan": [torch.nan] * 4,
            "one-nan": [50.0, 50, torch.nan, 90],
            "infinitely-far": [torch.inf, 0, torch.inf, 50],
        }
        boxes = torch.cat([torch.stack([torch.tensor(box), good[i % 3]]) for i, box in enumerate(bad.values())])
        images = torch.randn(1, 3, *IMAGE)
        output = model(images, [boxes])
        assert output.box_index.tolist() == list(range(1, 2 * len(bad), 2))
        wanted = model(images, [good]).logits[torch.arange(len(bad)) % 3]
        assert_close(output.logits, wanted, rtol=1e-5, atol=1e-5)

    def test_box_index_counts_in_its_own_image(self, model):
        outside = torch.tensor([[900.0, 0, 999, 50]])
        boxes = [torch.cat([outside, random_boxes(2)]), outside, torch.cat([random_boxes(1), outside, random_boxes(1)])]
        output = model(torch.randn(3, 3, *IMAGE), boxes)
        assert output.image_index.tolist() == [0, 0, 2, 2]
        assert output.box_index.tolist() == [1, 2, 0, 2]

    @pytest.mark.parametrize(
        ("box", "clipped"),
        [
            ([-40, -30, 60, 100], [0, 0, 60, 100]),
            ([100, 90, 999, 999], [100, 90, 240, 208]),
            ([-1e6, 20, 1e6, 60], [0, 20, 240, 60]),
            ([-torch.inf, -torch.inf, torch.inf, torch.inf], [0, 0, 240, 208]),
        ],
        ids=["left-above", "right-below", "both-sides", "infinite"],
    )
    def test_a_box_partly_outside_is_what_lies_inside(self, model, box, clipped):
        images = torch.randn(1, 3, *IMAGE)
        pair = [torch.tensor([box], dtype=torch.float32)], [torch.tensor([clipped], dtype=torch.float32)]
        assert_same(model(images, pair[0]), model(images, pair[1]), 0, 0)

    @pytest.mark.parametrize("box", [[70, 80, 71, 81], [239, 207, 240, 208], [0, 0, 1, 1]], ids=str)
    def test_one_pixel_is_a_person(self, model, box):
        net = copy.deepcopy(model)
        output = net(torch.randn(1, 3, *IMAGE), [torch.tensor([box], dtype=torch.float32)])
        assert output.logits.shape == (1, 5)
        assert output.logits.isfinite().all()
        output.logits.sum().backward()
        assert all(p.grad.isfinite().all() for p in net.human.parameters())

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float64, torch.float16], ids=str)
    def test_boxes_of_another_type(self, model, dtype):
        images, boxes = torch.randn(2, 3, *IMAGE), [random_boxes(2).round(), random_boxes(1).round()]
        wanted = model(images, boxes)
        assert_same(model(images, [x.to(dtype) for x in boxes]), wanted, 0, 0)
        assert_same(model(images[1:], boxes[1][None].to(dtype)), model(images[1:], boxes[1][None]), 0, 0)

    def test_types_do_not_mix_between_images(self):
        """2049 is no number in half precision."""
        images = torch.zeros(2, 3, 8, 4000)
        boxes = [torch.tensor([[2049, 0, 2055, 8]]), torch.tensor([[8.0, 0, 16, 8]]).half()]
        assert rois_of(boxes, images)[0].tolist() == [[0, 2049, 0, 2055, 8], [1, 8, 0, 16, 8]]

    def test_given_boxes_stay_as_they_are(self, model):
        boxes = torch.tensor([[[-5.0, -5, 900, 900], [3, 3, 2, 2]]])
        before = boxes.clone()
        model(torch.randn(1, 3, 64, 64), boxes)
        assert torch.equal(boxes, before)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.lists(st.integers(-30, 60), min_size=4, max_size=4), max_size=6), st.integers(0, 6))
    def test_rois_are_the_boxes_clipped_one_by_one(self, rows, cut):
        images = torch.zeros(2, 3, 20, 30)
        split = [rows[:cut], rows[cut:]]
        wanted, indices = [], []
        for i, part in enumerate(split):
            for j, (x1, y1, x2, y2) in enumerate(part):
                x1, x2 = (min(max(x, 0), 30) for x in (x1, x2))
                y1, y2 = (min(max(y, 0), 20) for y in (y1, y2))
                if x2 - x1 >= 1 and y2 - y1 >= 1:
                    wanted.append([i, x1, y1, x2, y2])
                    indices.append(j)
        rois, index = rois_of([torch.tensor(part).reshape(-1, 4) for part in split], images)
        assert rois.shape == (len(wanted), 5)
        assert rois.tolist() == wanted
        assert index.tolist() == indices

    @pytest.mark.parametrize(
        ("boxes", "message"),
        [
            ([torch.zeros(1, 4)], r"for each of 2 images, got 1 of them"),
            ([torch.zeros(1, 4)] * 3, r"for each of 2 images, got 3 of them"),
            ([], r"for each of 2 images, got 0 of them"),
            ([torch.zeros(1, 4), torch.zeros(4)], r"boxes \(n, 4\).*got \(4,\)"),
            ([torch.zeros(1, 5), torch.zeros(1, 4)], r"boxes \(n, 4\).*got \(1, 5\)"),
            ([torch.zeros(0), torch.zeros(1, 4)], r"boxes \(n, 4\).*got \(0,\)"),
            (torch.zeros(2, 4), r"boxes \(B, n, 4\).*of 2 images, got \(2, 4\)"),
            (torch.zeros(3, 1, 4), r"boxes \(B, n, 4\).*of 2 images, got \(3, 1, 4\)"),
            (torch.zeros(2, 1, 5), r"boxes \(B, n, 4\).*of 2 images, got \(2, 1, 5\)"),
        ],
    )
    def test_wrong_boxes(self, model, boxes, message):
        with pytest.raises(ValueError, match=message):
            model(torch.zeros(2, 3, 64, 64), boxes)

    @pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64)], ids=str)
    def test_wrong_images(self, model, shape):
        with pytest.raises(ValueError, match=r"ConViTHARPerson expects images \(B, 3, H, W\), got shape"):
            model(torch.zeros(shape), [torch.zeros(0, 4)])

    def test_the_device_gives_what_the_cpu_gives(self, model, device):
        net = copy.deepcopy(model).to(device)
        images, boxes = torch.randn(2, 3, *IMAGE), [random_boxes(2), random_boxes(1)]
        found = net(images.to(device), boxes)  # boxes may lie elsewhere
        assert {x.device.type for x in found} == {device.type}
        assert_same(PersonOutput(*(x.cpu() for x in found)), model(images, boxes), 1e-3, 1e-3)

    def test_compiled_it_keeps_every_box(self):
        """The number of rows of a compiled or exported network must not depend on where the boxes lie."""
        torch._dynamo.reset()
        compiled = torch.compile(rois_of, backend="eager", fullgraph=True)
        images, outside = torch.zeros(2, 3, *IMAGE), torch.tensor([[900.0, 0, 999, 50]])
        boxes = [random_boxes(2), torch.cat([outside, random_boxes(1)])]
        rois, index = compiled(boxes, images)
        assert index.tolist() == [0, 1, 0, 1]
        assert rois[2].tolist() == [1, 240, 0, 240, 50]
        assert_close(rois[[0, 1, 3]], rois_of(boxes, images)[0])


class TestNetwork:
    @pytest.mark.parametrize(("classes", "parameters"), [(40, 108_344_464), (10, 108_221_524)])
    def test_parameters_of_the_papers_network(self, classes, parameters):
        with torch.device("meta"):
            net = actionzoo.create("convit_har_person", num_classes=classes)
            alone = actionzoo.create("convit_har", num_classes=classes)
        assert count(net.convit) == count(alone)
        assert count(net.human) == branch_parameters(2048, classes)
        assert count(net) == count(alone) + branch_parameters(2048, classes) == parameters

    def test_both_branches_have_the_same_settings(self):
        net = ConViTHARPerson(**{**NET, "head_dim": None, "depth": 1, "mlp_dim": 12, "pool": "conv", "drop_rate": 0.3})
        for vits, cells in ((net.convit.vits, 16), (net.human.vits, 60)):
            first = vit_parameters(16, cells, heads=2, head_dim=8, mlp_dim=12, depth=1)
            assert count(vits.vit1) == first
            assert count(vits.down) == 16 * 9 + 16
        assert net.convit.drop.p == net.human.drop.p == 0.3
        assert net(torch.randn(1, 3, 64, 64), [random_boxes(2, (64, 64))]).logits.shape == (2, 5)

    def test_vgg_can_also_be_utilised(self):
        with torch.device("meta"):
            net = actionzoo.create("convit_har_person", backbone="vgg16").eval()
            alone = actionzoo.create("convit_har", backbone="vgg16")
            output = net(torch.empty(2, 3, 448, 448), torch.empty(2, 3, 4))
        convit = 14_714_688 + vit_parameters(512, 14 * 14) + vit_parameters(512, 7 * 7) + 513 * 40
        assert count(alone) == count(net.convit) == convit
        assert count(net) == convit + branch_parameters(512, 40)
        assert net.human.stride == 32
        assert output.logits.shape == (6, 40)
        assert output.image_logits.shape == (2, 40)

    @pytest.mark.parametrize(("backbone", "stride"), [("mobilenetv3_small_050", 32), ("convnext_atto", 32)])
    def test_other_backbones(self, backbone, stride):
        net = build(backbone=backbone, backbone_args={}).train()
        assert net.human.stride == stride
        output = net(torch.randn(2, 3, 64, 96), [random_boxes(1, (64, 96)), random_boxes(2, (64, 96))])
        (output.logits.square().sum() + output.image_logits.square().sum()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())

    @kinds
    def test_gradients_of_the_branch_reach_the_shared_backbone_only(self, kind):
        net = build(**KINDS[kind])
        net(torch.randn(1, 3, 64, 64), [random_boxes(2, (64, 64))]).logits.square().sum().backward()
        reached = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
        assert reached == {
            name for name, _ in net.named_parameters() if name.startswith(("human.", "convit.backbone."))
        }

    def test_reset_classifier_touches_classifiers_alone(self):
        net = build()
        before = {key: value.clone() for key, value in net.state_dict().items()}
        net.reset_classifier(7)
        output = net(torch.randn(2, 3, 64, 64), [random_boxes(1, (64, 64))] * 2)
        assert output.logits.shape == output.image_logits.shape == (2, 7)
        assert net.num_classes == net.convit.num_classes == net.get_classifier().out_features == 7
        for key, value in net.state_dict().items():
            if key.rpartition(".")[0] not in ("human.fc", "convit.fc"):
                assert torch.equal(value, before[key])
        net.reset_classifier(0)
        output = net(torch.randn(2, 3, 64, 64), [random_boxes(1, (64, 64))] * 2)
        assert output.logits.shape == output.image_logits.shape == (2, 16)

    def test_a_fresh_classifier_goes_where_the_network_is(self):
        net = build().double()
        net.reset_classifier(3)
        assert {p.dtype for p in net.parameters()} == {torch.float64}
        assert net(torch.randn(1, 3, 64, 64).double(), [random_boxes(1, (64, 64))]).logits.dtype == torch.float64

    def test_what_should_not_decay(self, model):
        vits = ("convit.vits.vit1", "convit.vits.vit2", "human.vits.vit1", "human.vits.vit2")
        assert model.no_weight_decay() == {f"{vit}.pos_embed" for vit in vits}
        assert model.no_weight_decay() <= dict(model.named_parameters()).keys()


class TestLoadConViT:
    def convit(self, **args):
        return shake(ConViTHAR(**{**NET, **args}))

    def test_copies_every_tensor(self):
        source, net = self.convit(), build()
        with torch.no_grad():
            source.backbone.bn1.running_mean.add_(0.5)
        human = copy.deepcopy(net.human.state_dict())
        net.load_convit(source)
        assert all(torch.equal(value, net.convit.state_dict()[key]) for key, value in source.state_dict().items())
        assert all(torch.equal(value, net.human.state_dict()[key]) for key, value in human.items())
        images = torch.randn(1, 3, 64, 64)
        assert torch.equal(net(images, [torch.zeros(0, 4)]).image_logits, source(images))
        with torch.no_grad():
            source.fc.bias.add_(1)
        assert not torch.equal(net.convit.fc.bias, source.fc.bias)

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ({"num_classes": 6}, r"another shape of 2 tensors, such as fc\.weight"),
            ({"num_classes": 0}, r"lacks 2 tensors, such as fc\.weight"),
            ({"backbone_args": {**SLIM, "channels": (8, 8, 16, 24)}}, "another shape of"),
            ({"mlp_dim": 8}, r"another shape of .*mlp\.fc1"),
            ({"input_size": (3, 96, 96)}, r"another shape of 2 tensors, such as vits\.vit1\.pos_embed"),
            ({"depth": 1}, r"lacks .* vits\.vit1\.blocks\.1"),
            ({"depth": 3}, r"also holds 22 tensors, such as vits\.vit1\.blocks\.2"),
            ({"pool": "conv"}, r"also holds 2 tensors, such as vits\.down\.weight"),
            ({"backbone": "resnet34d"}, r"also holds .* backbone\.layer1\.2"),
            ({"backbone": "resnet10t", "backbone_args": {}}, "ConViTHAR does not fit the ConViT of this ConViTHARP"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_another_configuration_is_refused_and_nothing_changed(self, args, message):
        net = build()
        before = copy.deepcopy(net.state_dict())
        with pytest.raises(ValueError, match=message):
            net.load_convit(self.convit(**args))
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


class TestFusion:
    @pytest.mark.parametrize("weights", [(0.83, 0.17), (0.3, 0.7), (1, 0), (0.0, 1.0), [0.5, 0.5]], ids=str)
    def test_equation_1(self, weights):
        image, person = torch.rand(3, 4), torch.rand(3, 4)
        found = fuse_scores(image, person, weights)
        for i in range(3):
            for k in range(4):
                wanted = weights[0] * image[i, k].item() + weights[1] * person[i, k].item()
                assert found[i, k].item() == pytest.approx(wanted, abs=1e-6)

    def test_one_image_for_all_its_people(self):
        image, person = torch.rand(1, 4), torch.rand(3, 4)
        assert torch.equal(fuse_scores(image, person, (0.4, 0.6)), fuse_scores(image.expand(3, 4), person, (0.4, 0.6)))
        assert fuse_scores(image, person[:0], (0.4, 0.6)).shape == (0, 4)

    def test_probabilities_stay_probabilities(self):
        image, person = torch.randn(5, 7).softmax(1), torch.randn(5, 7).softmax(1)
        assert_close(fuse_scores(image, person, FUSION_WEIGHTS["stanford40"]).sum(1), torch.ones(5))

    @pytest.mark.parametrize("name", FUSION_WEIGHTS)
    def test_the_papers_weights_by_name(self, name):
        assert sum(FUSION_WEIGHTS[name]) == 1
        image, person = torch.rand(2, 3), torch.rand(2, 3)
        assert torch.equal(fuse_scores(image, person, name), fuse_scores(image, person, FUSION_WEIGHTS[name]))
        assert ConViTHARPerson(**NET, fusion=name).fusion == FUSION_WEIGHTS[name]

    def test_what_the_paper_prints(self):
        assert FUSION_WEIGHTS == {"stanford40": (0.83, 0.17), "voc2012": (0.30, 0.70)}

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ((0.5, 0.6), r"sum to 1, got 0\.5 and 0\.6"),
            ((0.4, 0.4), r"sum to 1, got 0\.4 and 0\.4"),
            ((1.2, -0.2), r"lie in \[0, 1\]"),
            ((-0.2, 1.2), r"lie in \[0, 1\]"),
            ((float("nan"), 1.0), r"lie in \[0, 1\]"),
            ((float("inf"), -float("inf")), r"lie in \[0, 1\]"),
            ((1.0,), r"two weights, of image and person, got \(1\.0,\)"),
            ((0.2, 0.3, 0.5), r"two weights, of image and person"),
            ("stanford", "one of stanford40, voc2012 or two weights, got 'stanford'"),
        ],
        ids=str,
    )
    def test_wrong_weights(self, weights, message):
        probs = torch.full((2, 4), 0.25)
        for use in (
            lambda: fuse_scores(probs, probs, weights),
            lambda: ConViTHARPerson(**NET, fusion=weights),
            lambda: fusion_weights(weights),
        ):
            with pytest.raises(ValueError, match=message):
                use()

    @pytest.mark.parametrize(
        ("image", "person"),
        [((2, 4), (3, 4)), ((3, 1), (3, 4)), ((4,), (3, 4)), ((3, 4), (4,)), ((3, 4), (1, 4)), ((3, 5), (3, 4))],
        ids=str,
    )
    def test_wrong_shapes(self, image, person):
        with pytest.raises(ValueError, match=r"got|have"):
            fuse_scores(torch.rand(image), torch.rand(person), (0.5, 0.5))

    @pytest.mark.parametrize("multi_label", [False, True], ids=["softmax", "sigmoid"])
    def test_fuse_is_equation_1_on_probabilities(self, multi_label):
        net = build(multi_label=multi_label, fusion=(0.25, 0.75))
        output = net(torch.randn(3, 3, 64, 64), [random_boxes(n, (64, 64)) for n in (2, 0, 1)])
        found = net.fuse(output)
        assert found.shape == (3, 5)
        for row, person, i in zip(found, output.logits, (0, 0, 2)):
            image = output.image_logits[i]
            if multi_label:
                wanted = 0.25 / (1 + (-image).exp()) + 0.75 / (1 + (-person).exp())
            else:
                wanted = 0.25 * image.exp() / image.exp().sum() + 0.75 * person.exp() / person.exp().sum()
            assert_close(row, wanted)

    def test_fitted_weights_take_effect_and_are_checked(self, model):
        net = copy.deepcopy(model)
        output = net(torch.randn(1, 3, 64, 64), [random_boxes(2, (64, 64))])
        net.fusion = (1.0, 0.0)
        assert_close(net.fuse(output), output.image_logits.softmax(1).expand(2, 5))
        with pytest.raises(ValueError, match="sum to 1"):
            net.fusion = (0.9, 0.9)
        assert net.fusion == (1.0, 0.0)

    def test_what_is_set_later_is_saved(self, tmp_path):
        net = actionzoo.create("convit_har_person_tiny", num_classes=3)
        net.fusion, net.multi_label = (0.1, 0.9), True
        net.save_pretrained(tmp_path / "saved")
        again = actionzoo.create(f"local-dir:{tmp_path / 'saved'}")
        assert (again.fusion, again.multi_label) == ((0.1, 0.9), True)
        again.reset_classifier(4)
        assert again.fusion == FUSION_WEIGHTS["stanford40"]

    def test_boxes_by_hand(self, model):
        images = torch.randn(2, 3, 64, 64)
        rows = [[(4.0, 4, 40, 60)], []]
        written = model(images, rows)
        given = model(images, [torch.tensor(rows[0]), torch.zeros(0, 4)])
        assert_close(written.logits, given.logits)
        for wrong in (None, "boxes"):
            with pytest.raises(ValueError, match="boxes are a list with"):
                model(images, wrong)

    def test_saved_with_the_network(self, tmp_path):
        net = actionzoo.create("convit_har_person_tiny", num_classes=3, fusion="voc2012", multi_label=True)
        net.save_pretrained(tmp_path / "saved")
        again = actionzoo.create(f"local-dir:{tmp_path / 'saved'}")
        assert again.fusion == FUSION_WEIGHTS["voc2012"]
        assert again.multi_label
        net.fusion = net.pretrained_cfg["model_args"]["fusion"] = (0.4, 0.6)
        net.save_pretrained(tmp_path / "fitted")
        assert actionzoo.create(f"local-dir:{tmp_path / 'fitted'}").fusion == (0.4, 0.6)

    def test_half_precision_logits_give_full_precision_probabilities(self, model):
        logits = torch.randn(4, 5).bfloat16()
        assert model.probabilities(logits).dtype == torch.float32
        assert_close(model.probabilities(logits).sum(1), torch.ones(4))


def test_unknown_arguments_are_no_settings():
    with pytest.raises(TypeError, match="fusoin"):
        ConViTHARPerson(**NET, fusoin=(0.5, 0.5))


def test_modules_of_the_two_branches_are_their_own(model):
    assert isinstance(model.human.fc, nn.Linear)
    assert not {id(p) for p in model.human.parameters()} & {id(p) for p in model.convit.parameters()}
