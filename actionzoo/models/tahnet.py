"""TAHNets by name: the configurations of the paper that classify one person's features.

Paper: "An efficient human instance-guided framework for video action recognition" (sections 4.3
and 4.4, Tables 1, 2 and 7).
"""

from typing import Any

from ..layers import TAHNet
from ..registry import register_model
from ..weights import HubMixin

__all__ = [
    "TAHNET_TABLE7",
    "TAHNET_VARIANTS",
    "TAHNetClassifier",
    "tahnet_v1",
    "tahnet_v2",
    "tahnet_v2_nocb",
    "tahnet_v3",
    "tahnet_v4",
]


class TAHNetClassifier(HubMixin, TAHNet):
    """A `TAHNet` that saves itself to a folder or to the hub."""


_BLOCKS: dict[str, dict[str, Any]] = {
    "dim1024": {"bottleneck": (1024, 256, 128), "width": 1024},
    "dim512": {"bottleneck": (512, 128, 64), "width": 512},
    "dim512_temporal": {"bottleneck": (512, 128, 128), "width": 512, "temporal_bottleneck": True},
    "dim512_temporal_28": {
        "bottleneck": (512, 128, 128),
        "width": 512,
        "temporal_bottleneck": True,
        "first_stride": 2,
        "hidden": None,
        "input_size": (256, 8, 28, 28),
    },
}

TAHNET_TABLE7: dict[str, dict[str, Any]] = {
    f"{name}_conv{depth}": {**settings, "depth": depth} for name, settings in _BLOCKS.items() for depth in (3, 4, 5, 6)
}
"""Arguments of `TAHNet` for every row of Table 7, from `dim1024_conv3` to `dim512_temporal_28_conv6`.

The bottleneck's channels are printed for the first block only; the others follow from the multiply-accumulates.
"""

TAHNET_VARIANTS: dict[str, dict[str, Any]] = {
    "v1": TAHNET_TABLE7["dim1024_conv5"],
    "v2": TAHNET_TABLE7["dim1024_conv4"],
    "v2_nocb": {**TAHNET_TABLE7["dim1024_conv4"], "bottleneck": None},
    "v3": TAHNET_TABLE7["dim512_conv4"],
    "v4": TAHNET_TABLE7["dim512_temporal_28_conv3"],
}
"""Arguments of `TAHNet` for the networks of Tables 1 and 2; `v2_nocb` is v2 "w/o CB"."""

_ENTRY: dict[str, Any] = {
    "task": "per-person video classification",
    "paper": "An efficient human instance-guided framework for video action recognition",
    "num_classes": 60,
    "config": {"classifier": "classifier", "mean": None, "std": None},
}


@register_model(**_ENTRY, input_size=(256, 8, 14, 14), params=118_466_364, macs=145_150_242_816)
def tahnet_v1(**kwargs: Any) -> TAHNetClassifier:
    """TAHNet-v1, the paper's choice for NTU RGB+D: five convolutions of 1024 channels."""
    return TAHNetClassifier(**{**TAHNET_VARIANTS["v1"], **kwargs})


@register_model(**_ENTRY, input_size=(256, 8, 14, 14), params=90_152_764, macs=100_757_729_280)
def tahnet_v2(**kwargs: Any) -> TAHNetClassifier:
    """TAHNet-v2, the paper's choice for N-UCLA: four convolutions of 1024 channels."""
    return TAHNetClassifier(**{**TAHNET_VARIANTS["v2"], **kwargs})


@register_model(**_ENTRY, input_size=(256, 8, 14, 14), params=93_131_836, macs=105_433_329_664)
def tahnet_v2_nocb(**kwargs: Any) -> TAHNetClassifier:
    """TAHNet-v2 without the channel bottleneck, to compare."""
    return TAHNetClassifier(**{**TAHNET_VARIANTS["v2_nocb"], **kwargs})


@register_model(**_ENTRY, input_size=(256, 8, 14, 14), params=22_915_516, macs=25_292_500_992)
def tahnet_v3(**kwargs: Any) -> TAHNetClassifier:
    """TAHNet-v3, a quarter of v2's work: four convolutions of 512 channels."""
    return TAHNetClassifier(**{**TAHNET_VARIANTS["v3"], **kwargs})


@register_model(**_ENTRY, input_size=(256, 8, 28, 28), params=16_435_772, macs=5_305_038_848)
def tahnet_v4(**kwargs: Any) -> TAHNetClassifier:
    """TAHNet-v4, the lightest: finer cells, time and space halved early, three convolutions, no linear layer."""
    return TAHNetClassifier(**{**TAHNET_VARIANTS["v4"], **kwargs})
