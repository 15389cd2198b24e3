"""Which operations run as Triton kernels of ours, and where they can."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

NAMES = ("crop_resize", "decode_heatmaps", "depthwise_conv3d", "outermost_box")

_chosen: frozenset[str] = frozenset()
_TRITON_INSTALLED = importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU and slowly, as the tests have it."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def can_run(tensor: Tensor) -> bool:
    """Whether a kernel can run on a tensor: on CUDA with Triton installed, or in Triton's interpreter."""
    return (tensor.is_cuda or (tensor.device.type == "cpu" and interpreted())) and _TRITON_INSTALLED


def active(name: str, tensor: Tensor) -> bool:
    """Whether a layer should call the kernel: it was chosen, can run, and the graph is not being exported."""
    return name in _chosen and can_run(tensor) and not torch.compiler.is_exporting()


@contextmanager
def use_kernels(*names: str) -> Iterator[None]:
    """Run the layers' operations as Triton kernels inside this block, all of them or those named.

    No kernel is used otherwise: none has been timed on a GPU yet, and a kernel becomes the default only where it wins.
    The choice holds for the process, all its threads included, until the block ends; a compiled module sees it when it
    is traced. Where a kernel cannot run (no CUDA tensor, no Triton) and in an exported graph, layers compute as
    without it.

    Args:
        names: Of `actionzoo.kernels.NAMES`; none for all.

    Raises:
        ValueError: If a name is unknown.
    """
    global _chosen
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise ValueError(f"no kernel is called {', '.join(map(repr, unknown))}; there are {', '.join(NAMES)}")
    before = _chosen
    _chosen = before | frozenset(names or NAMES)
    try:
        yield
    finally:
        _chosen = before
