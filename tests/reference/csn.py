"""Channel-separated networks: the bottleneck by loops, the whole network from torchvision's pieces, published names."""

import torch
from torch import nn
from torchvision.models.video.resnet import Bottleneck, VideoResNet


def bottleneck(x, state, stride=(1, 1, 1), training=False):
    """One block from its state dict, one output cell at a time (Tran et al., Fig. 2)."""
    out = rectify(unit(x, state, "convs.reduce", training=training))
    if "convs.pointwise.conv.weight" in state:
        out = unit(out, state, "convs.pointwise", training=training)
    out = rectify(unit(out, state, "convs.depthwise", stride, training))
    out = unit(out, state, "convs.expand", training=training)
    if "shortcut.conv.weight" in state:
        x = unit(x, state, "shortcut", stride, training)
    return rectify(out + x)


def unit(x, state, name, stride=(1, 1, 1), training=False):
    """Convolution padded with zeros by half its kernel, and batch normalisation or a bias."""
    weight = state[f"{name}.conv.weight"]
    kernel, depthwise = weight.shape[2:], weight.shape[1] == 1 and x.shape[1] == weight.shape[0] > 1
    clips, channels, *sizes = x.shape
    half = [k // 2 for k in kernel]
    padded = x.new_zeros(clips, channels, *(size + 2 * h for size, h in zip(sizes, half)))
    padded[:, :, half[0] : half[0] + sizes[0], half[1] : half[1] + sizes[1], half[2] : half[2] + sizes[2]] = x
    frames = []
    for t in range(0, sizes[0], stride[0]):
        rows = []
        for row in range(0, sizes[1], stride[1]):
            cells = []
            for column in range(0, sizes[2], stride[2]):
                window = padded[:, :, t : t + kernel[0], row : row + kernel[1], column : column + kernel[2]]
                if depthwise:
                    cells.append((window * weight[:, 0]).sum((2, 3, 4)))
                else:
                    cells.append((window[:, None] * weight).sum((2, 3, 4, 5)))
            rows.append(torch.stack(cells, -1))
        frames.append(torch.stack(rows, -2))
    out = torch.stack(frames, -3)
    if f"{name}.conv.bias" in state:
        return out + state[f"{name}.conv.bias"][:, None, None, None]
    normed = []
    for c in range(out.shape[1]):
        cells = out[:, c].flatten()
        mean, variance = state[f"{name}.norm.running_mean"][c], state[f"{name}.norm.running_var"][c]
        if training:
            mean = cells.sum() / len(cells)
            variance = ((cells - mean) ** 2).sum() / len(cells)
        scale = state[f"{name}.norm.weight"][c] / (variance + 1e-3) ** 0.5
        normed.append((out[:, c] - mean) * scale + state[f"{name}.norm.bias"][c])
    return torch.stack(normed, 1)


def rectify(x):
    return torch.where(x > 0, x, torch.zeros_like(x))


def stem(width):
    conv = nn.Conv3d(3, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
    pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    return nn.Sequential(conv, nn.BatchNorm3d(width), nn.ReLU(), pool)


def depthwise(channels, stride):
    return nn.Conv3d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


class Reduced(nn.Module):
    """What stands for the 3x3x3 convolution of a bottleneck in an ir network, as torchvision asks for it."""

    def __new__(cls, cin, cout, between, stride=1):
        assert cin == cout
        return depthwise(cout, stride)

    @staticmethod
    def get_downsample_stride(stride):
        return (stride, stride, stride)


class Preserved(nn.Sequential):
    """The same in an ip network."""

    def __init__(self, cin, cout, between, stride=1):
        super().__init__(nn.Conv3d(cin, cout, 1, bias=False), nn.BatchNorm3d(cout), depthwise(cout, stride))

    get_downsample_stride = staticmethod(Reduced.get_downsample_stride)


class NarrowVideoResNet(VideoResNet):
    """torchvision's video ResNet, whose first stage has another width than 64."""

    def __init__(self, maker, depths, num_classes, width):
        self.width = width
        super().__init__(Bottleneck, [maker] * 4, list(depths), lambda: stem(width), num_classes)
        self.fc = nn.Linear(8 * width * Bottleneck.expansion, num_classes)

    def _make_layer(self, block, conv_builder, planes, blocks, stride=1):
        self.inplanes = self.width if planes == 64 else self.inplanes
        return super()._make_layer(block, conv_builder, planes * self.width // 64, blocks, stride)


def video_resnet(mode, depths, num_classes, width=64):
    """torchvision's network with channel-separated bottlenecks and the published epsilon."""
    net = NarrowVideoResNet({"ip": Preserved, "ir": Reduced}[mode], depths, num_classes, width)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    return net


def mmaction2_names(mode, depths, head=True, prefix="backbone."):
    """Names of the tensors of an mmaction2 file, in the order in which torchvision's modules hold the same ones."""
    units = [f"{prefix}conv1"]
    for stage, depth in enumerate(depths, 1):
        for block in range(depth):
            inner = ["conv1", "conv2.0", *(["conv2.1"] if mode == "ip" else []), "conv3"]
            inner += ["downsample"] if block == 0 else []
            units += [f"{prefix}layer{stage}.{block}.{name}" for name in inner]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = [f"{unit}.{leaf}" for unit in units for leaf in ("conv.weight", *(f"bn.{leaf}" for leaf in norm))]
    return names + (["cls_head.fc_cls.weight", "cls_head.fc_cls.bias"] if head else [])
