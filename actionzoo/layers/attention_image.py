"""Attention-image stream of the body-part / multitask net: the picture, stressed where the joints are."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LAYERS = ("layer1", "layer2", "layer3", "layer4")


class AttentionImageStream(nn.Module):
    """Features of the attended image, joined by the pose net's maps on the way (body-part net, sections 3.2, 3.5).

    `I_att = I * (1 + A)` (Eq. 1), where the attention A comes from the heat maps: conv, batch normalisation and
    ReLU to as many channels as the image has, and bilinear interpolation to the image's size. A shallow ResNet
    takes `I_att`; after each of its four layers the pose net's map of the same resolution is concatenated, and a
    transition (3x3 conv, batch normalisation, ReLU) returns to the layer's channels. The paper does not give the
    attention's kernel: 1x1 here, as it "adjusts the number of channels". Gradients reach the heat maps.

    `trunk` keeps the ResNet's own names, so that an ImageNet state dict loads into it as it is, but for the classifier.
    """

    def __init__(
        self, joints: int = 16, f_ch: Sequence[int] = (32, 64, 128, 256), trunk: nn.Module | None = None
    ) -> None:
        """Build the stream.

        Args:
            joints: Channels of the heat maps.
            f_ch: Channels of the four feature maps of the pose net, the finest first.
            trunk: ResNet in torchvision's or timm's style, whose stem and four layers become part of this module
                (not copied); its classifier is left out. The image's channels and the layers' are read from it.
                None builds torchvision's `resnet18(weights=None)`.

        Raises:
            ValueError: If there are not four feature maps.
            TypeError: If the trunk lacks a part of a ResNet.
        """
        super().__init__()
        if len(f_ch) != 4:
            raise ValueError(f"f_ch gives the channels of four feature maps, got {tuple(f_ch)}")
        if trunk is None:
            from torchvision.models import resnet18

            trunk = resnet18(weights=None)
        self.joints = joints
        self.f_ch = tuple(f_ch)
        names = {name: (name,) for name in ("conv1", "bn1", "maxpool", *_LAYERS)} | {"act1": ("relu", "act1")}
        self.trunk = nn.ModuleDict({name: _part(trunk, *choices) for name, choices in names.items()})

        self.in_ch = _in_channels(self.trunk["conv1"])
        widths = [_out_channels(layer) for layer in (self.trunk[name] for name in _LAYERS)]
        self.num_features = widths[-1]
        self.attention = _conv_bn_relu(joints, self.in_ch, 1)
        self.transitions = nn.ModuleList(
            _conv_bn_relu(width + extra, width, 3) for width, extra in zip(widths, self.f_ch, strict=True)
        )

    def attend(self, image: Tensor, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Attended image `I_att` and attention A (Eq. 1), both `(B, C, H, W)`.

        Args:
            image: `(B, C, H, W)`.
            heatmaps: `(B, J, h, w)` of any size; NaN and infinities in them count as 0.

        Raises:
            ValueError: If a shape is wrong.
        """
        if image.ndim != 4 or image.shape[1] != self.in_ch:
            raise ValueError(f"expected images (B, {self.in_ch}, H, W), got shape {tuple(image.shape)}")
        if heatmaps.ndim != 4 or heatmaps.shape[1] != self.joints or heatmaps.shape[0] != image.shape[0]:
            raise ValueError(
                f"expected heat maps (B, J, h, w) of {self.joints} joints for {image.shape[0]} images, "
                f"got shape {tuple(heatmaps.shape)}"
            )
        attention = self.attention(torch.where(heatmaps.isfinite(), heatmaps, 0.0))
        attention = F.interpolate(attention, image.shape[2:], mode="bilinear", align_corners=False)
        return image * (1 + attention), attention

    def forward(self, image: Tensor, heatmaps: Tensor, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Feature vector of the attended image.

        Args:
            image: `(B, C, H, W)`.
            heatmaps: `(B, J, h, w)`, usually a quarter of the image's size.
            features: Four feature maps of the pose net, at 1/4, 1/8, 1/16 and 1/32 of the image's size.

        Returns:
            `(B, num_features)` features and `(B, C, H, W)` attention, 0 and above.

        Raises:
            ValueError: If a shape is wrong; every feature map must have the size of the layer that it joins.
        """
        if len(features) != 4:
            raise ValueError(f"expected four feature maps, got {len(features)}")
        attended, attention = self.attend(image, heatmaps)
        trunk = self.trunk
        x = trunk["maxpool"](trunk["act1"](trunk["bn1"](trunk["conv1"](attended))))
        for i, (name, transition) in enumerate(zip(_LAYERS, self.transitions, strict=True)):
            x, extra = trunk[name](x), features[i]
            expected = (x.shape[0], self.f_ch[i], *x.shape[2:])
            if tuple(extra.shape) != expected:
                raise ValueError(f"expected feature map {i + 1} of shape {expected}, got {tuple(extra.shape)}")
            x = transition(torch.cat([x, extra], 1))
        return x.mean((2, 3)), attention


def _conv_bn_relu(in_ch: int, out_ch: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(in_ch, out_ch, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(out_ch), nn.ReLU())


def _part(trunk: nn.Module, *names: str) -> nn.Module:
    for name in names:
        part = getattr(trunk, name, None)
        if isinstance(part, nn.Module):
            return part
    raise TypeError(
        f"the trunk must be a ResNet with conv1, bn1, relu or act1, maxpool and layer1 to layer4; "
        f"{type(trunk).__name__} has no {' or '.join(names)}"
    )


def _in_channels(conv1: nn.Module) -> int:
    """Channels of the image; a deep stem is a sequence of convolutions."""
    for module in conv1.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise TypeError(f"the trunk's conv1 must hold a 2D convolution, got {type(conv1).__name__}")


def _out_channels(layer: nn.Module) -> int:
    """Channels of a layer: those of the residual branch of its last block."""
    blocks = list(layer.children())
    for name in ("conv3", "conv2"):
        conv = getattr(blocks[-1], name, None) if blocks else None
        if isinstance(conv, nn.Conv2d):
            return conv.out_channels
    raise TypeError("the trunk's layers must end in a ResNet block with conv2 (and conv3), to read the channels from")
