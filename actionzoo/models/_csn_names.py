"""Names of the tensors of published channel-separated networks, and what they are called here."""

import re
from collections.abc import Mapping

from torch import Tensor

_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(conv[123]|downsample)\.(.+)\.(\w+)")
_LAYERS = {"conv1": "convs.reduce", "conv3": "convs.expand", "downsample": "shortcut"}
_PARTS = {"0": "conv", "1": "norm", "conv": "conv", "bn": "norm"}
_CONV2 = {
    # VMZ's convolutions in torchvision's block: the last BatchNorm stands beside them
    "0.0": "pointwise.conv",
    "0.1": "pointwise.norm",
    "0.2": "depthwise.conv",
    "0": "depthwise.conv",
    "1": "depthwise.norm",
    # mmaction2's pairs of convolution and BatchNorm
    "1.conv": "depthwise.conv",
    "1.bn": "depthwise.norm",
}
_OTHERS = {
    "stem.0": "stem.conv",
    "stem.1": "stem.norm",
    "conv1.conv": "stem.conv",
    "conv1.bn": "stem.norm",
    "fc": "classifier",
    "cls_head.fc_cls": "classifier",
}


def csn_state_dict(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a published channel-separated network under the names that `CSN` gives them.

    Two families of names are known: those of facebookresearch/VMZ and moabitcoin/ig65m-pytorch, which are torchvision's
    (`stem.0.weight`, `layer1.0.conv2.0.0.weight`, `fc.weight`), and those of mmaction2 (`backbone.conv1.conv.weight`,
    `backbone.layer1.0.conv2.1.conv.weight`, `cls_head.fc_cls.weight`), with or without the leading `backbone.`, which
    its IG-65M files lack together with the classifier. Other names, ours among them, stay as they are.

    Args:
        tensors: State dict of the file, of an `ip` or an `ir` network of any depth and width.
    """
    plain = {key.removeprefix("backbone."): value for key, value in tensors.items()}
    return {_ours(key, plain): value for key, value in plain.items()}


def _ours(key: str, tensors: Mapping[str, Tensor]) -> str:
    module, _, leaf = key.rpartition(".")
    if module in _OTHERS:
        return f"{_OTHERS[module]}.{leaf}"
    if (match := _BLOCK.fullmatch(key)) is None:
        return key
    stage, block, conv, part, leaf = match.groups()
    if conv != "conv2":
        name = f"{_LAYERS[conv]}.{_PARTS[part]}" if part in _PARTS else None
    elif part in ("0.conv", "0.bn"):
        # mmaction2 counts: the first of two is the 1x1x1 convolution, the only one the depthwise
        preserved = f"layer{stage}.{block}.conv2.1.conv.weight" in tensors
        name = f"convs.{'pointwise' if preserved else 'depthwise'}.{_PARTS[part[2:]]}"
    else:
        name = f"convs.{_CONV2[part]}" if part in _CONV2 else None
    return key if name is None else f"stages.{int(stage) - 1}.{block}.{name}.{leaf}"
