"""Which operations run as Triton kernels of ours, and where they can."""

import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import torch
from torch import Tensor

NAMES = ("crop_resize", "decode_heatmaps", "depthwise_conv3d", "outermost_box")
TRITON_NEEDED = (3, 3)
"""The first version with tuples as arguments and `tl.gather`."""

# what torch.compile reads and guards on
_chosen: frozenset[str] = frozenset()
_uses: Counter[str] = Counter()
_lock = threading.Lock()
# newer than torch 2.4; without it no kernel gets into any graph, for one of them may be exported
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def triton_version() -> tuple[int, int] | None:
    """Major and minor version of Triton, read without importing it; None where it is not installed."""
    for distribution in ("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-windows"):
        try:
            found = re.match(r"(\d+)\.(\d+)", metadata.version(distribution))
        except metadata.PackageNotFoundError:
            continue
        if found:
            return int(found[1]), int(found[2])
    return None


_triton_version = triton_version()
_TRITON_SERVES = _triton_version is not None and _triton_version >= TRITON_NEEDED


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU and slowly, as the tests have it."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def can_run(tensor: Tensor) -> bool:
    """Whether a kernel can run on a tensor: on CUDA with Triton 3.3 or newer, or in Triton's interpreter."""
    return (tensor.is_cuda or (tensor.device.type == "cpu" and interpreted())) and _TRITON_SERVES


def active(name: str, tensor: Tensor) -> bool:
    """Whether a layer should call the kernel: it was chosen, can run, and the graph is not being exported."""
    return name in _chosen and can_run(tensor) and not _is_exporting()


@contextmanager
def use_kernels(*names: str) -> Iterator[None]:
    """Run the layers' operations as Triton kernels inside this block, all of them or those named.

    No kernel is used otherwise: none has been timed on a GPU yet, and a kernel becomes the default only where it wins.
    The choice holds for the process, all its threads included, until the last block that names the kernel ends; a
    compiled module sees it when it is traced, so the block goes around the call, not into the compiled function. Where
    a kernel cannot run (no CUDA tensor, no Triton of version 3.3 or newer) and in an exported graph, layers compute as
    without it. `torch.func`'s transforms do not differentiate the kernels, nor any other operator of
    `torch.library.custom_op`: use them outside the block.

    Args:
        names: Of `actionzoo.kernels.NAMES`; none for all.

    Raises:
        ValueError: If a name is unknown.
    """
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise ValueError(f"no kernel is called {', '.join(map(repr, unknown))}; there are {', '.join(NAMES)}")
    wanted = set(names or NAMES)
    _count(wanted, 1)
    try:
        yield
    finally:
        _count(wanted, -1)


def _count(names: set[str], blocks: int) -> None:
    """Note that so many more blocks want these kernels: threads enter and leave in any order."""
    global _chosen
    with _lock:
        for name in names:
            _uses[name] += blocks
        _chosen = frozenset(name for name in NAMES if _uses[name])
