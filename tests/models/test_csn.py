import copy
from functools import cache

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import actionzoo
from actionzoo.models import CSN, csn_state_dict
from actionzoo.profile import count_macs
from tests.reference import csn as reference

NAMES = {"ipcsn_152": ("ip", (3, 8, 36, 3)), "ipcsn_50": ("ip", (3, 4, 6, 3)), "ircsn_152": ("ir", (3, 8, 36, 3))}
every = pytest.mark.parametrize("name", NAMES)
modes = pytest.mark.parametrize("mode", ["ip", "ir"])
layouts = pytest.mark.parametrize("layout", ["vmz", "mmaction2", "mmaction2-unprefixed"])
DEPTHS = (1, 2, 1, 1)
NARROW = {"depths": DEPTHS, "width": 8}
SIZE = (2, 3, 5, 18, 22)


@cache
def full(name):
    """The network of that name at full size, without values."""
    with torch.device("meta"):
        return actionzoo.create(name).eval()


def stir(net):
    """Make every tensor differ from its initial value, with activations of about their size."""
    with torch.no_grad():
        for name, x in net.state_dict().items():
            if x.is_floating_point() and x.ndim == 1:
                x.add_(0.3 * (torch.rand_like(x) if name.endswith("var") else torch.randn_like(x)))
    return net


def small(**settings):
    """Four blocks in two stages, seven classes."""
    return stir(CSN(**{"num_classes": 7, "depths": (1, 3), "width": 4, "expansion": 2, "drop_rate": 0.0, **settings}))


def pair(mode):
    """The same tensors in torchvision's pieces and in ours, put across one by one in their order."""
    theirs = stir(reference.video_resnet(mode, DEPTHS, 7, 8))
    ours = CSN(num_classes=7, **NARROW, mode=mode, drop_rate=0.0)
    tensors = list(theirs.state_dict().values())
    ours.load_state_dict(dict(zip(ours.state_dict(), tensors, strict=True)))
    return theirs, ours


def gradients(net, x):
    out = net(x)
    out.square().sum().backward()
    return [out.detach(), *(p.grad for p in net.parameters())]


def last(x):
    return x.to(memory_format=torch.channels_last_3d)


class TestTorchvision:
    """The network against `torchvision.models.video.resnet.VideoResNet` with blocks of its kind."""

    @modes
    def test_values_are_torchvisions(self, mode):
        theirs, ours = pair(mode)
        x = torch.randn(SIZE)
        with torch.no_grad():
            want = theirs.eval()(x)
            assert want.std() > 0.1
            assert_close(ours.eval()(x), want, rtol=0, atol=1e-5)

    @modes
    def test_training_is_torchvisions(self, mode):
        """In float64: in float32 a ReLU at zero may fall to either side by rounding."""
        theirs, ours = (net.double().train() for net in pair(mode))
        x = torch.randn(SIZE).double()
        for value, want in zip(gradients(ours, x), gradients(theirs, x), strict=True):
            assert_close(value, want, rtol=1e-9, atol=1e-9 * max(1.0, want.abs().max().item()))
        for value, want in zip(ours.buffers(), theirs.buffers(), strict=True):
            assert_close(value, want, rtol=1e-9, atol=1e-9)

    @every
    def test_names_and_shapes_of_full_size(self, name):
        mode, depths = NAMES[name]
        ours = full(name).state_dict()
        with torch.device("meta"):
            theirs = reference.video_resnet(mode, depths, 400).state_dict()
        shapes = {key: value.shape for key, value in ours.items()}
        assert {key: value.shape for key, value in csn_state_dict(theirs).items()} == shapes
        for prefix in ("backbone.", ""):
            names = reference.mmaction2_names(mode, depths, prefix=prefix)
            filed = dict(zip(names, theirs.values(), strict=True))
            assert {key: value.shape for key, value in csn_state_dict(filed).items()} == shapes
        # of the published mmaction2 file
        assert name != "ircsn_152" or len(shapes) == 932


class TestSizes:
    """Parameters as mmaction2 publishes them, and what follows from its convolutions."""

    def test_parameters(self):
        net = copy.deepcopy(full("ipcsn_152"))
        assert sum(p.numel() for p in net.parameters()) == 33_016_592
        assert sum(p.numel() for p in full("ircsn_152").parameters()) == 29_703_568
        net.reset_classifier(24)
        assert sum(p.numel() for p in net.parameters()) == 32_246_168
        net.reset_classifier(0)
        assert sum(p.numel() for p in net.parameters()) == 32_196_992

    @pytest.mark.parametrize(("side", "giga"), [(256, 108.79), (224, 83.29)])
    def test_multiply_accumulates(self, side, giga):
        macs = count_macs(full("ipcsn_152"), torch.empty(1, 3, 32, side, side, device="meta"), ops="conv")
        assert macs / 1e9 == pytest.approx(giga, rel=1e-3)

    @pytest.mark.parametrize(
        ("size", "map_size"), [((32, 224, 224), (4, 7, 7)), ((9, 65, 33), (2, 3, 2)), ((1, 1, 1), (1, 1, 1))], ids=str
    )
    def test_maps(self, size, map_size):
        features = full("ipcsn_50").forward_features(torch.empty(2, 3, *size, device="meta"))
        assert features.shape == (2, 2048, *map_size)

    def test_four_blocks_of_sixteen_channels(self):
        net = CSN(depths=(1, 1, 1, 1), width=16, num_classes=24, input_size=(3, 16, 96, 96), stride=1).eval()
        features = net.forward_features(torch.randn(1, 3, 16, 32, 32))
        assert features.shape == (1, 512, 2, 1, 1)
        assert (net.num_features, net.frames, net.pretrained_cfg["input_size"]) == (512, 16, (3, 16, 96, 96))


class TestProtocol:
    @every
    def test_registered(self, name):
        info = actionzoo.model_info(name)
        assert (info.task, info.num_classes, info.input_size) == ("video classification", 400, (3, 32, 256, 256))
        net = full(name)
        assert isinstance(net, CSN)
        assert (net.pretrained_cfg["architecture"], net.pretrained_cfg["first_conv"]) == (name, "stem.conv")
        assert (net.frames, net.stride, net.pretrained_cfg["frames"], net.pretrained_cfg["stride"]) == (32, 2, 32, 2)
        assert (net.drop.p, net.frozen_norm) == (0.5, False)
        assert [len(stage) for stage in net.stages] == list(NAMES[name][1])

    def test_the_small_one(self):
        """Four stages of the same kind, counted by hand; of clips of four frames at 112 pixels."""
        info, net = actionzoo.model_info("ipcsn_tiny"), actionzoo.create("ipcsn_tiny")
        wanted = 16 * 3 * 3 * 7 * 7 + 2 * 16
        cin = 16
        for i, depth in enumerate((1, 2, 3, 1)):
            width = 16 * 2**i
            for j in range(depth):
                # in, across channels, depthwise, out; each with a scale and a shift
                wanted += cin * width + width * width + 27 * width + width * 2 * width + 2 * (3 * width + 2 * width)
                wanted += (cin * 2 * width + 2 * 2 * width) if j == 0 else 0
                cin = 2 * width
        assert sum(p.numel() for p in net.parameters()) == wanted + 257 * 400 == info.parameters
        assert net.pretrained_cfg["input_size"] == info.input_size == (3, net.frames, 112, 112)
        assert (net.pretrained_cfg["frames"], net.pretrained_cfg["stride"]) == (net.frames, net.stride)
        assert net.forward_features(torch.randn(1, 3, 4, 112, 112)).shape == (1, 256, 1, 4, 4)
        assert not info.weights
        short = actionzoo.create("ipcsn_tiny", input_size=(3, 8, 64, 64), stride=2, num_classes=3)
        assert short.pretrained_cfg["frames"] == 8
        assert short(torch.randn(2, 3, 8, 64, 64)).shape == (2, 3)

    def test_nothing_is_published(self):
        with pytest.raises(RuntimeError, match="no weights are published for ipcsn_50"):
            actionzoo.create("ipcsn_50", pretrained=True)

    def test_features_head_and_classifier_make_up_forward(self):
        net, x = small().eval(), torch.randn(SIZE)
        features = net.forward_features(x)
        assert features.shape[1] == net.num_features == net.head_hidden_size == 16
        before = net.forward_head(features, pre_logits=True)
        assert_close(before, features.mean((2, 3, 4)))
        assert_close(net.get_classifier()(before), net(x))
        assert [net.get_submodule(name) for name in net.classifier_names] == [net.get_classifier()]

    def test_reset_classifier(self):
        net, x = small().double().eval(), torch.randn(SIZE).double()
        body = {key: value.clone() for key, value in net.state_dict().items() if not key.startswith("classifier.")}
        net.reset_classifier(4)
        assert (net(x).shape, net(x).dtype, net.num_classes) == ((2, 4), torch.float64, 4)
        assert all(torch.equal(net.state_dict()[key], value) for key, value in body.items())
        net.reset_classifier(0)
        assert_close(net(x), net.forward_head(net.forward_features(x), pre_logits=True))
        net.reset_classifier(3, global_pool="")
        assert_close(net(x), net.forward_features(x))
        with pytest.raises(ValueError, match="global_pool is 'avg' or ''"):
            net.reset_classifier(3, global_pool="max")

    def test_dropout_stands_before_the_classifier(self):
        net, x = small(drop_rate=0.5).double(), torch.randn(SIZE).double()
        features = net.eval().forward_features(x).detach()
        kept = net.forward_head(features, pre_logits=True)
        dropped = net.train().forward_head(features, pre_logits=True)
        assert ((dropped == 0) | torch.isclose(dropped, 2 * kept)).all()
        assert 0 < (dropped != 0).sum() < (kept != 0).sum()

    def test_clips_of_a_batch_do_not_influence_one_another(self):
        net, x = small().double().eval(), torch.randn(4, *SIZE[1:]).double()
        order = torch.tensor([2, 0, 3, 1])
        assert_close(net(x[order]), net(x)[order], rtol=0, atol=1e-12)
        assert_close(net(x[1:2]), net(x)[1:2], rtol=0, atol=1e-12)

    def test_learns_which_way_something_moves(self):
        """A bright square that moves left or right, the same frames in another order: only motion tells them apart."""
        generator = torch.Generator().manual_seed(0)
        net = CSN(num_classes=2, in_chans=1, depths=(1, 1), width=8, drop_rate=0.0)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for step in range(40):
            labels = torch.randint(2, (16,), generator=generator)
            rows = torch.randint(3, (16,), generator=generator)
            x = 0.1 * torch.randn(16, 1, 4, 16, 16, generator=generator)
            for i, (label, row) in enumerate(zip(labels, rows)):
                for t in range(4):
                    column = 4 * (t if label else 3 - t)
                    x[i, 0, t, 4 * row : 4 * row + 4, column : column + 4] += 1
            logits = net.train(step < 39)(x)
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()
        assert (logits.argmax(1) == labels).all()

    @pytest.mark.parametrize("shape", [(3, 5, 9, 9), (2, 4, 5, 9, 9), (2, 3, 0, 9, 9), (2, 3, 5, 9, 0)], ids=str)
    def test_wrong_clips(self, shape):
        with pytest.raises(
            ValueError, match=rf"CSN expects clips \(B, 3, T, H, W\), got shape \({shape[0]}, {shape[1]}"
        ):
            small()(torch.zeros(shape))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"depths": ()}, r"depths=\(\)"),
            ({"depths": (1, 0)}, r"depths=\(1, 0\)"),
            ({"width": 0}, "width=0"),
            ({"in_chans": 0}, "in_chans=0"),
            ({"stride": 0}, "stride=0"),
            ({"num_classes": -1}, "num_classes=-1"),
            ({"mode": "3d"}, "got '3d'"),
            ({"norm": "gn"}, "got 'gn'"),
            ({"norm": "none", "frozen_norm": True}, "needs a normalisation to freeze"),
            ({"global_pool": "max"}, "got 'max'"),
        ],
        ids=str,
    )
    def test_wrong_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            small(**settings)


class TestFrozenNorm:
    """PCF, section III-A: "we freeze the Batch Normalization (BN) layers in the backbone during fine-tuning"."""

    def build(self, way):
        if way == "argument":
            return small(frozen_norm=True)
        net = small()
        net.freeze_norm()
        return net

    @pytest.mark.parametrize("way", ["argument", "method"])
    def test_training_leaves_it_as_it_is(self, way):
        net = self.build(way).train()
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm3d)]
        held = {f"{i}.{key}": x.clone() for i, m in enumerate(norms) for key, x in m.state_dict().items()}
        weights = {key: p.detach().clone() for key, p in net.named_parameters() if p.requires_grad}
        assert len(weights) == sum(isinstance(m, nn.Conv3d) for m in net.modules()) + 2
        optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
        net(torch.randn(SIZE)).square().sum().backward()
        optimizer.step()
        assert net.training
        assert net.drop.training
        after = {f"{i}.{key}": x for i, m in enumerate(norms) for key, x in m.state_dict().items()}
        assert all(torch.equal(after[key], value) for key, value in held.items())
        assert not any(torch.equal(dict(net.named_parameters())[key], value) for key, value in weights.items())

    def test_outputs_in_training_are_those_in_eval(self):
        net, x = small(frozen_norm=True), torch.randn(SIZE)
        assert torch.equal(net.train()(x), net.eval()(x))
        assert not torch.allclose(small().train()(x), small().eval()(x))

    def test_inside_another_network(self):
        outer = nn.Sequential(small(frozen_norm=True)).eval().train()
        assert not any(m.training for m in outer.modules() if isinstance(m, nn.BatchNorm3d))
        assert outer[0].training

    def test_learns_again(self):
        net = small(frozen_norm=True).train()
        net.freeze_norm(False)
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm3d)]
        assert all(m.training and m.weight.requires_grad and m.bias.requires_grad for m in norms)
        net.eval().freeze_norm(False)
        assert not any(m.training for m in norms)

    def test_fused(self):
        net, x = small(frozen_norm=True).eval(), torch.randn(SIZE)
        fused = net.fuse_for_inference()
        assert not fused.frozen_norm
        assert_close(fused(x), net(x), rtol=1e-4, atol=1e-5)


class TestSpeed:
    """Memory layouts, half precision, folding, recomputing, compiling: the same values."""

    @pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
    @modes
    def test_channels_last_gives_the_same(self, mode, training, device):
        net, x = small(mode=mode).double().to(device).train(training), torch.randn(SIZE, device=device).double()
        swept = last(copy.deepcopy(net))
        for value, want in zip(gradients(swept, last(x)), gradients(net, x), strict=True):
            assert_close(value, want, rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("fused", [False, True], ids=["as-built", "fused"])
    def test_channels_last_weights_keep_maps_channels_last(self, fused, device):
        """In bfloat16: on one thread of a CPU torch may take a float32 convolution to the default layout."""
        net, x = small().eval(), torch.randn(SIZE, device=device, dtype=torch.bfloat16)
        net = last(net.fuse_for_inference() if fused else net).to(x)
        maps = []
        for module in (net.pool, *net.stages.modules()):
            module.register_forward_hook(lambda module, args, out: maps.append(out))
        net(x)
        net(last(x))
        assert len(maps) > 2 * 4 * 5
        assert all(x.is_contiguous(memory_format=torch.channels_last_3d) for x in maps)

    @pytest.mark.parametrize("fused", [False, True], ids=["as-built", "fused"])
    @modes
    def test_bfloat16_is_close(self, mode, fused, device):
        net, x = small(mode=mode, width=16).to(device).eval(), torch.randn(SIZE, device=device).bfloat16()
        half = net.fuse_for_inference() if fused else copy.deepcopy(net)
        half.to(torch.bfloat16, memory_format=torch.channels_last_3d)
        with torch.no_grad():
            want, out = net(x.float()), half(last(x))
        assert out.dtype == torch.bfloat16
        assert (out.float() - want).norm() < 0.05 * want.norm()

    def test_autocast_trains_float32_weights(self, device):
        net, x = small(width=16).to(device), torch.randn(SIZE, device=device)
        with torch.autocast(device.type, torch.bfloat16):
            out = net(x)
        assert out.dtype == torch.bfloat16
        out.float().square().sum().backward()
        assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())

    @modes
    def test_fusing_changes_no_value(self, mode, device):
        net, x = small(mode=mode).to(device).eval(), torch.randn(SIZE, device=device)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        fused = net.fuse_for_inference()
        assert_close(fused(x), net(x), rtol=1e-4, atol=1e-5)
        assert not any(isinstance(module, nn.BatchNorm3d) for module in fused.modules())
        assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())
        other = small(mode=mode, norm="none").to(device).eval()
        other.load_state_dict(fused.state_dict())
        assert torch.equal(other(x), fused(x))

    def test_fusing_is_refused_in_training_mode(self):
        with pytest.raises(RuntimeError, match=r"CSN is in training mode.*call .eval\(\)"):
            small().fuse_for_inference()

    @pytest.mark.parametrize("frozen", [False, True], ids=["learning", "frozen"])
    def test_gradient_checkpointing_changes_memory_not_gradients(self, frozen, device):
        plain, x = small(frozen_norm=frozen).to(device), torch.randn(SIZE, device=device)
        saving, kept = copy.deepcopy(plain), {}
        saving.set_grad_checkpointing()
        for name, net in (("plain", plain), ("saving", saving)):
            sizes = []
            with torch.autograd.graph.saved_tensors_hooks(
                lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
            ):
                out = net(x)
            kept[name] = sum(sizes)
            out.square().sum().backward()
        assert kept["saving"] < 0.5 * kept["plain"]
        for key, value in plain.state_dict().items():
            assert torch.equal(saving.state_dict()[key], value), key
        for p, q in zip(plain.parameters(), saving.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None) == (not p.requires_grad)
            if p.requires_grad:
                assert_close(p.grad, q.grad)

    def test_compiles_in_one_graph(self, device):
        torch._dynamo.reset()
        net, x = small(depths=(1,)).to(device).eval(), torch.randn(SIZE, device=device)
        assert_close(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))

    def test_exports_with_any_number_of_clips_and_frames(self):
        net = small(depths=(1,)).eval()
        sizes = {0: torch.export.Dim("clips"), 2: torch.export.Dim("frames", min=3)}
        program = torch.export.export(net, (torch.randn(SIZE),), dynamic_shapes=(sizes,))
        for clips, frames in ((1, 3), (5, 16)):
            x = torch.randn(clips, 3, frames, *SIZE[3:])
            assert_close(program.module()(x), net(x), rtol=1e-4, atol=1e-5)


def published(net, mode, layout, head=True):
    """The state dict of a torchvision-built network as a file of that kind holds it."""
    tensors = net.state_dict()
    if layout != "vmz":
        names = reference.mmaction2_names(mode, DEPTHS, prefix="" if layout.endswith("unprefixed") else "backbone.")
        tensors = dict(zip(names, tensors.values(), strict=True))
    return {key: value for key, value in tensors.items() if head or not key.startswith(("fc.", "cls_head."))}


class TestPublishedFiles:
    @layouts
    @modes
    def test_names_find_their_tensors(self, mode, layout):
        theirs, ours = pair(mode)
        found, state = csn_state_dict(published(theirs, mode, layout)), ours.state_dict()
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], value) for key, value in state.items())
        assert csn_state_dict(state).keys() == state.keys()

    @layouts
    def test_loading_a_file(self, layout, tmp_path):
        theirs, _ = pair("ip")
        tensors = published(theirs, "ip", layout)
        # as mmcv writes them; files from Caffe2 hold no batch counters
        kept = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
        torch.save({"meta": {"epoch": 58}, "state_dict": kept} if layout != "vmz" else kept, tmp_path / "csn.pth")
        net = CSN(num_classes=7, **NARROW).eval()
        report = net.load_published(tmp_path / "csn.pth")
        assert (report.random, report.unused, report.reheaded) == ((), (), ())
        assert report is net.load_report
        assert "csn.pth" in report.source
        x = torch.randn(SIZE)
        assert_close(net(x), theirs.eval()(x), rtol=0, atol=1e-5)

    @layouts
    def test_through_create(self, layout):
        theirs, ours = pair("ir")
        net = actionzoo.create("ircsn_152", weights=published(theirs, "ir", layout), **NARROW).eval()
        assert net.num_classes == 7
        x = torch.randn(SIZE)
        assert torch.equal(net(x), ours.eval()(x))

    @layouts
    def test_through_create_from_a_file_without_a_classifier(self, layout, tmp_path):
        theirs, ours = pair("ip")
        torch.save(published(theirs, "ip", layout, head=False), tmp_path / "csn.pth")
        with pytest.warns(UserWarning, match="left at random initialisation: classifier"):
            net = actionzoo.create("ipcsn_152", weights=tmp_path / "csn.pth", num_classes=5, **NARROW).eval()
        assert net.load_report.random == ("classifier",)
        x = torch.randn(SIZE)
        assert torch.equal(net.forward_features(x), ours.eval().forward_features(x))

    def test_through_create_what_is_saved_here_is_not_renamed(self, tmp_path):
        actionzoo.create("ipcsn_tiny", num_classes=3).save_pretrained(tmp_path)
        assert actionzoo.create("ipcsn_tiny", weights=tmp_path / "model.safetensors").load_report.random == ()

    @layouts
    def test_other_classes_keep_their_classifier(self, layout):
        theirs, ours = pair("ip")
        net = CSN(num_classes=4, **NARROW).eval()
        mine = net.classifier.weight.clone()
        report = net.load_published(published(theirs, "ip", layout))
        assert set(report.reheaded) == {"classifier.weight", "classifier.bias"}
        assert torch.equal(net.classifier.weight, mine)
        x = torch.randn(SIZE)
        assert torch.equal(net.forward_features(x), ours.eval().forward_features(x))

    @layouts
    def test_other_channels_adapt_the_stem(self, layout):
        theirs, ours = pair("ip")
        net = CSN(num_classes=7, in_chans=1, **NARROW).eval()
        report = net.load_published(published(theirs, "ip", layout))
        assert report.adapted == ("stem.conv.weight",)
        x = torch.randn(2, 1, *SIZE[2:])
        assert_close(net(x), ours.eval()(x.expand(-1, 3, -1, -1, -1)), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("num_classes", [0, 4])
    @layouts
    def test_without_a_classifier(self, layout, num_classes, recwarn):
        theirs, ours = pair("ip")
        net = CSN(num_classes=num_classes, **NARROW).eval()
        report = net.load_published(published(theirs, "ip", layout, head=False))
        assert report.random == (("classifier",) if num_classes else ())
        said = [str(warning.message) for warning in recwarn]
        assert len(said) == bool(num_classes)
        assert all("left at random initialisation: classifier" in text for text in said)
        x = torch.randn(SIZE)
        assert torch.equal(net.forward_features(x), ours.eval().forward_features(x))

    @layouts
    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ({"mode": "ir"}, r"pointwise\.conv\.weight"),
            ({"depths": (1, 3, 1, 1)}, r"stages\.1\.2\."),
            ({"norm": "none"}, r"norm\.weight"),
        ],
        ids=["ir", "deeper", "fused"],
    )
    def test_of_another_network_is_refused(self, settings, name, layout):
        theirs, _ = pair("ip")
        net = CSN(**{"num_classes": 7, **NARROW, **settings})
        before = {key: value.clone() for key, value in net.state_dict().items()}
        with pytest.raises(RuntimeError, match=rf"does not fit this CSN: .*{name}"):
            net.load_published(published(theirs, "ip", layout))
        assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())

    def test_unknown_names_stay_and_are_refused(self):
        odd = ("layer1.0.conv2.7.weight", "layer1.0.conv1.pool.weight", "head.weight", "layer1.0.conv2.2.conv.weight")
        tensors = {key: torch.zeros(1) for key in odd}
        assert csn_state_dict(tensors) == tensors
        theirs, _ = pair("ip")
        net = CSN(num_classes=7, **NARROW)
        with pytest.raises(RuntimeError, match=r"1 in the file but not in the model: layer1\.0\.conv2\.7\.weight"):
            net.load_published({**theirs.state_dict(), odd[0]: tensors[odd[0]]})


class TestSaving:
    @pytest.mark.parametrize("fused", [False, True], ids=["as-built", "fused"])
    @pytest.mark.parametrize("frozen", [False, True], ids=["learning", "frozen"])
    @every
    def test_saving_and_loading(self, name, frozen, fused, tmp_path):
        tiny = {"depths": (1, 1), "width": 4, "expansion": 2, "num_classes": 7}
        net = stir(actionzoo.create(name, **tiny, frozen_norm=frozen)).eval()
        saved, x = net.fuse_for_inference() if fused else net, torch.randn(SIZE)
        saved.save_pretrained(tmp_path / "saved")
        loaded = actionzoo.create(f"local-dir:{tmp_path / 'saved'}").eval()
        assert isinstance(loaded, CSN)
        assert not loaded.load_report.random
        assert loaded.frozen_norm == (frozen and not fused)
        assert torch.equal(loaded(x), saved(x))

    def test_fine_tuning_and_other_channels(self, tmp_path):
        tiny = {"depths": (1, 1), "width": 4, "expansion": 2}
        net = stir(actionzoo.create("ipcsn_50", **tiny, num_classes=7)).eval()
        net.save_pretrained(tmp_path / "saved")
        other = actionzoo.create(f"local-dir:{tmp_path / 'saved'}", num_classes=4).eval()
        assert set(other.load_report.reheaded) == {"classifier.weight", "classifier.bias"}
        x = torch.randn(SIZE)
        assert torch.equal(other.forward_features(x), net.forward_features(x))
        grey = actionzoo.create(f"local-dir:{tmp_path / 'saved'}", in_chans=1).eval()
        assert grey.load_report.adapted == ("stem.conv.weight",)
        assert_close(grey(x[:, :1]), net(x[:, :1].expand(-1, 3, -1, -1, -1)), rtol=1e-4, atol=1e-5)
