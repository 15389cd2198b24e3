"""Triton kernels for the operations that PyTorch's own are slow at, each with a form in plain PyTorch.

The functions here take a kernel where it can run, on CUDA with Triton 3.3 or newer, and the plain form elsewhere. The
layers that are named after the operations use a kernel only inside `use_kernels`. `torch.func`'s transforms (`grad`,
`jvp`, ...) do not differentiate a kernel, only `torch.autograd` does.
"""

from ._crop_resize import crop_resize as crop_resize
from ._decode_heatmaps import decode_heatmaps as decode_heatmaps
from ._depthwise_conv3d import depthwise_conv3d as depthwise_conv3d
from ._outermost_box import outermost_box as outermost_box
from ._switch import NAMES as NAMES
from ._switch import active as active
from ._switch import can_run as can_run
from ._switch import use_kernels as use_kernels

__all__ = [
    "NAMES",
    "active",
    "can_run",
    "crop_resize",
    "decode_heatmaps",
    "depthwise_conv3d",
    "outermost_box",
    "use_kernels",
]
