import pytest
import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn
from torch.testing import assert_close
from torchvision.models import resnet18

from actionzoo.layers import AttentionImageStream
from tests.reference import attention_image as reference

F_CH = (3, 4, 5, 6)


def slim_trunk(block=BasicBlock, **arguments):
    return ResNet(block, (2, 1, 1, 1), channels=(4, 6, 8, 10), num_classes=7, **arguments)


def build(joints=5, trunk=None, train=False):
    """A stream whose every tensor, the running statistics too, differs from its initial value."""
    stream = AttentionImageStream(joints, F_CH, trunk or slim_trunk())
    with torch.no_grad():
        for name, tensor in stream.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor) if name.endswith("var") else 0.1 * torch.randn_like(tensor))
    return stream.train(train)


def inputs(batch=2, size=(64, 96), joints=5, heat_size=None):
    """Image, heat maps and feature maps of a pose net."""
    levels = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
    heatmaps = torch.rand(batch, joints, *(heat_size or levels[0]))
    features = [torch.randn(batch, ch, *level) for ch, level in zip(F_CH, levels, strict=True)]
    return torch.randn(batch, 3, *size), heatmaps, features


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("size", "heat_size"),
    [((64, 96), None), ((45, 71), None), ((37, 33), (7, 13)), ((33, 65), (1, 2))],
    ids=["64x96", "45x71", "37x33-heat-7x13", "33x65-heat-1x2"],
)
def test_equals_the_reference(size, heat_size, train, device):
    stream = build(train=train).double()
    image, heatmaps, features = (x for x in inputs(3, size, heat_size=heat_size))
    state = {name: tensor.detach().clone() for name, tensor in stream.state_dict().items()}
    for name, _ in stream.named_parameters():
        state[name].requires_grad_()

    def leaves(place):
        return [x.double().to(place).requires_grad_() for x in (image, heatmaps, *features)]

    plain, ours = leaves("cpu"), leaves(device)
    want, want_attention, _ = reference.attention_image(plain[0], plain[1], plain[2:], state, train)
    vector, attention = stream.to(device)(ours[0], ours[1], ours[2:])
    assert vector.shape == (3, 10)
    assert attention.shape == (3, 3, *size)
    upstream = torch.randn_like(want), torch.randn_like(want_attention)
    torch.autograd.backward((want, want_attention), upstream)
    torch.autograd.backward((vector, attention), tuple(x.to(device) for x in upstream))

    def close(value, expected):
        scale = max(1.0, expected.abs().max().item())
        assert_close(value.detach().cpu(), expected.detach(), rtol=0, atol=1e-9 * scale)

    close(vector, want)
    close(attention, want_attention)
    for ours_leaf, plain_leaf in zip(ours, plain, strict=True):
        assert plain_leaf.grad.count_nonzero() > 0
        close(ours_leaf.grad, plain_leaf.grad)
    for name, parameter in stream.named_parameters():
        close(parameter.grad, state[name].grad)


def test_float32_and_bfloat16_stay_near_float64(device):
    stream, (image, heatmaps, features) = build(), inputs()
    want, want_attention = stream.double()(image.double(), heatmaps.double(), [f.double() for f in features])
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 5e-2)):
        moved = [x.to(device, dtype) for x in (image, heatmaps, *features)]
        vector, attention = stream.to(device, dtype)(moved[0], moved[1], moved[2:])
        assert vector.dtype == attention.dtype == dtype
        for value, expected in ((vector, want), (attention, want_attention)):
            scale = max(1.0, expected.abs().max().item())
            assert_close(value.detach().cpu().double(), expected.detach(), rtol=0, atol=tolerance * scale)


def test_the_image_is_left_alone_where_attention_is_0(device):
    stream = build().to(device)
    image, heatmaps, _ = (x.to(device) if torch.is_tensor(x) else x for x in inputs())
    with torch.no_grad():
        # before the ReLU every cell is the first joint's value less one half
        stream.attention[0].weight.zero_()[:, 0] = 1
        stream.attention[1].reset_parameters()
        stream.attention[1].reset_running_stats()
        stream.attention[1].bias.fill_(-0.5)
        heatmaps[:, 0] = 0
        heatmaps[:, 0, 3:6, 4:9] = 1
        attended, attention = stream.attend(image, heatmaps)
    off = attention == 0
    assert 0.5 < off.float().mean() < 1
    assert torch.equal(attended[off], image[off])
    # the middle of the square: A is one half, but for the batch normalisation's epsilon
    assert_close(attended[..., 16:20, 24:28], image[..., 16:20, 24:28] * 1.5, rtol=1e-4, atol=0)


def test_the_trunk_sees_the_attended_image():
    stream, seen = build(), []
    stream.trunk["conv1"].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image, heatmaps, features = inputs()
    _, attention = stream(image, heatmaps, features)
    assert attention.min() >= 0
    assert attention.max() > 0
    assert_close(seen[0], image * (1 + attention))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf], ids=str)
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_heat_maps_that_are_not_finite_count_as_0(train, bad, device):
    stream, (image, heatmaps, features) = build(train=train).to(device), inputs()
    image, features = image.to(device), [f.to(device) for f in features]
    zeroed = heatmaps.clone()
    heatmaps[0, 1], heatmaps[1, 2, 3, 4] = bad, bad
    zeroed[0, 1], zeroed[1, 2, 3, 4] = 0, 0
    heatmaps = heatmaps.to(device).requires_grad_()
    vector, attention = stream(image, heatmaps, features)
    want, want_attention = stream(image, zeroed.to(device), features)
    assert_close(vector, want)
    assert_close(attention, want_attention)
    vector.sum().backward()
    assert heatmaps.grad.isfinite().all()
    assert heatmaps.grad[0, 1].count_nonzero() == 0
    assert heatmaps.grad[1, 3].count_nonzero() > 0


def test_parameters_of_the_paper():
    with torch.device("meta"):
        stream = AttentionImageStream()
        trunk = resnet18(weights=None)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in stream.named_children()}
    assert counts.pop("attention") == 54
    assert counts.pop("transitions") == 4_702_080
    assert sum(counts.values()) == 11_176_512
    assert sum(counts.values()) == sum(p.numel() for name, p in trunk.named_parameters() if not name.startswith("fc"))
    assert stream.num_features == 512


def test_shapes_of_the_paper():
    with torch.device("meta"):
        stream, shapes = AttentionImageStream(), []
        for transition in stream.transitions:
            transition.register_forward_hook(lambda m, args, out: shapes.append((args[0].shape[1:], out.shape[1:])))
        features = [torch.zeros(2, ch, side, side) for ch, side in ((32, 64), (64, 32), (128, 16), (256, 8))]
        vector, attention = stream(torch.zeros(2, 3, 256, 256), torch.zeros(2, 16, 64, 64), features)
    assert shapes == [
        ((96, 64, 64), (64, 64, 64)),
        ((192, 32, 32), (128, 32, 32)),
        ((384, 16, 16), (256, 16, 16)),
        ((768, 8, 8), (512, 8, 8)),
    ]
    assert vector.shape == (2, 512)
    assert attention.shape == (2, 3, 256, 256)


@pytest.mark.parametrize("trunk", [slim_trunk, lambda: resnet18(weights=None)], ids=["timm", "torchvision"])
def test_a_state_dict_of_the_trunk_loads(trunk):
    stream, state = AttentionImageStream(5, F_CH, trunk()), trunk().state_dict()
    report = stream.trunk.load_state_dict(state, strict=False)
    assert report.unexpected_keys == ["fc.weight", "fc.bias"]
    assert not report.missing_keys
    assert torch.equal(stream.trunk["layer4"][0].conv1.weight, state["layer4.0.conv1.weight"])


@pytest.mark.parametrize(
    ("trunk", "channels", "width"),
    [
        (lambda: slim_trunk(Bottleneck), 3, 40),
        (lambda: slim_trunk(Bottleneck, cardinality=2, base_width=256), 3, 40),
        (lambda: slim_trunk(stem_type="deep", stem_width=8, avg_down=True), 3, 10),
        (lambda: slim_trunk(block_args={"attn_layer": "cbam"}), 3, 10),
        (lambda: slim_trunk(in_chans=1), 1, 10),
    ],
    ids=["bottleneck", "wide-bottleneck", "deep-stem", "attention-block", "grey"],
)
def test_other_trunks(trunk, channels, width):
    stream = build(trunk=trunk(), train=True)
    image, heatmaps, features = inputs()
    vector, attention = stream(image[:, :channels], heatmaps, features)
    assert stream.num_features == width
    assert vector.shape == (2, width)
    assert attention.shape == (2, channels, 64, 96)
    vector.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in stream.parameters())


def test_the_order_of_a_batch_does_not_matter():
    stream, (image, heatmaps, features) = build(), inputs(3)
    vector, _ = stream(image, heatmaps, features)
    alone, _ = stream(image[1:2], heatmaps[1:2], [f[1:2] for f in features])
    assert_close(alone, vector[1:2])


def test_trains_on_one_image():
    stream, (image, heatmaps, features) = build(train=True), inputs(1)
    vector, _ = stream(image, heatmaps, features)
    vector.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in stream.parameters())


def test_compiles_in_one_graph(device):
    stream, (image, heatmaps, features) = build().to(device), inputs()
    given = image.to(device), heatmaps.to(device), [f.to(device) for f in features]
    assert_close(torch.compile(stream, backend="eager", fullgraph=True)(*given), stream(*given))


def test_exports_with_any_batch():
    stream, batch = build(), {0: torch.export.Dim("batch", max=64)}
    exported = torch.export.export(stream, inputs(), dynamic_shapes=(batch, batch, [batch] * 4)).module()
    for count in (1, 3):
        given = inputs(count)
        assert_close(exported(*given), stream(*given))


class TestWrongInput:
    @pytest.mark.parametrize(
        ("position", "wrong", "message"),
        [
            (0, torch.zeros(2, 1, 64, 96), r"images \(B, 3, H, W\), got shape \(2, 1, 64, 96\)"),
            (0, torch.zeros(3, 64, 96), r"images \(B, 3, H, W\), got shape \(3, 64, 96\)"),
            (1, torch.zeros(2, 4, 16, 24), r"of 5 joints for 2 images, got shape \(2, 4, 16, 24\)"),
            (1, torch.zeros(1, 5, 16, 24), r"of 5 joints for 2 images, got shape \(1, 5, 16, 24\)"),
            (2, [], "four feature maps, got 0"),
            (2, [torch.zeros(2, 3, 16, 24)] * 4, r"feature map 2 of shape \(2, 4, 8, 12\), got \(2, 3, 16, 24\)"),
        ],
        ids=["image-channels", "image-rank", "joints", "batch", "no-features", "feature-shape"],
    )
    def test_of_forward(self, position, wrong, message):
        given = list(inputs())
        given[position] = wrong
        with pytest.raises(ValueError, match=message):
            build()(*given)

    def test_three_feature_maps(self):
        with pytest.raises(ValueError, match=r"four feature maps, got \(1, 2, 3\)"):
            AttentionImageStream(5, (1, 2, 3), slim_trunk())

    def test_a_trunk_that_is_no_resnet(self):
        with pytest.raises(TypeError, match="Linear has no conv1"):
            AttentionImageStream(5, F_CH, nn.Linear(2, 2))
        trunk = slim_trunk()
        trunk.layer3 = nn.Sequential(nn.Identity())
        with pytest.raises(TypeError, match="must end in a ResNet block with conv2"):
            AttentionImageStream(5, F_CH, trunk)
        trunk = slim_trunk()
        trunk.conv1 = nn.Identity()
        with pytest.raises(TypeError, match="conv1 must hold a 2D convolution, got Identity"):
            AttentionImageStream(5, F_CH, trunk)
