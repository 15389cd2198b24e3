"""Compiles every kernel for sm_90 without a GPU; run in a process of its own, where Triton does not interpret."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# module, kernel, types of its arguments by name ("*fp32" a pointer, "i32" a number, or a tuple of such), values of the
# constexpr ones
KERNELS: list[tuple[str, str, dict[str, Any], dict[str, object]]] = []
# what kernels are launched with, where it is not Triton's four warps and three stages
LAUNCH = {
    "decode_kernel": {"num_warps": 8},
    "window_kernel": {"num_warps": 1},
    "pool_kernel": {"num_stages": 1},
    "gradient_kernel": {"num_stages": 1},
}

CROP = "actionzoo.kernels._crop_resize_triton"
DECODE = "actionzoo.kernels._decode_heatmaps_triton"
CROP_SIZES = ("channels", "image_h", "image_w", "height", "width")
for number in ("*fp32", "*bf16"):
    sizes = dict.fromkeys(("batch", *CROP_SIZES, "stride_b", "stride_c", "stride_y", "stride_x"), "i32")
    pointers = {"images": number, "boxes": "*i64", "index": "*i64", "crops": number}
    KERNELS.append((CROP, "crop_kernel", {**pointers, **sizes}, {"CHANNELS": 4, "BLOCK_H": 4, "BLOCK_W": 128}))
    sizes = dict.fromkeys(("count", *CROP_SIZES), "i32")
    pointers = {"grad": number, "boxes": "*i64", "index": "*i64", "grad_images": number}
    blocks = {"BOXES": 128, "BLOCK_H": 16, "BLOCK_W": 64}
    KERNELS.append((CROP, "crop_backward_kernel", {**pointers, **sizes}, blocks))
    sizes = dict.fromkeys(("joints", "height", "width", "stride_b", "stride_j", "stride_y", "stride_x"), "i32")
    types, flat = {"heatmaps": number, "found": "*fp32", **sizes}, number == "*fp32"
    KERNELS.append((DECODE, "decode_kernel", types, {"SHIFT": True, "FLAT": flat, "BLOCK": 4096}))

BOX = "actionzoo.kernels._outermost_box_triton"
DEPTHWISE = "actionzoo.kernels._depthwise_conv3d_triton"
types = {"boxes": "*fp32", "valid": "*i1", "used": "*fp32", "level": "*i64", "seen": "*i1", "frames": "i32"}
types |= {"canonical_scale": "fp32", "canonical_level": "fp32", "first_level": "i32", "levels": "i32"}
KERNELS.append((BOX, "window_kernel", types, {"BLOCK": 32}))
for number, last in (("*fp32", False), ("*bf16", True)):
    person = {"boxes": "*fp32", "level": "*i64", "clip": "*i64", "seen": "*i1", "out": number}
    person |= dict.fromkeys(("frames", "channels"), "i32")
    levels = {"maps": (number,) * 4, "heights": ("i32",) * 4, "widths": ("i32",) * 4, "scales": ("fp32",) * 4}
    bins = {"BINS_Y": 14, "BINS_X": 14, "SAMPLES": 2, "LAST": last, "BLOCK_X": 16}
    KERNELS.append((BOX, "pool_kernel", {**levels, **person, "clips": "i32"}, {**bins, "BLOCK_P": 64, "BLOCK_W": 32}))
    sizes = dict.fromkeys(("number", "people", "height", "width"), "i32")
    types = {"grad": number, "scale": "fp32", **person, **sizes}
    KERNELS.append((BOX, "gradient_kernel", types, {**bins, "BLOCK_P": 32, "BLOCK_W": 128}))

    pointers = {"x": number, "weight": number, "out": number, "channels": "i32"}
    layout = {"size": ("i32",) * 3, "strides": ("i32",) * 5}
    stride = dict.fromkeys(("STRIDE_T", "STRIDE_H", "STRIDE_W"), 1 if last else 2)
    tile = {**stride, "BLOCK_W": 4 if last else 64, "BLOCK_C": 64 if last else 4}
    bias = {"bias": None} if last else {}
    types = {
        **pointers,
        **({} if last else {"bias": number}),
        **layout,
        "out_size": ("i32",) * 3,
        "out_strides": ("i32",) * 5,
    }
    KERNELS.append(
        (DEPTHWISE, "convolve_kernel", types, {**bias, **tile, "FLIPPED": last, "STRIP": 16, "ROWS": 2 if last else 1})
    )
    upstream = {"grad": number, "grad_size": ("i32",) * 3, "grad_strides": ("i32",) * 5}
    types = {"weight": number, "out": number, "channels": "i32", **layout, **upstream}
    KERNELS.append((DEPTHWISE, "input_gradient_kernel", types, {**tile, "STRIDE_T": 2}))
    types = {"x": number, "sums": "*fp32", **dict.fromkeys(("channels", "walks", "strip"), "i32"), **layout, **upstream}
    KERNELS.append((DEPTHWISE, "weight_gradient_kernel", types, tile))


def cubin(module: str, name: str, types: dict[str, Any], constants: dict[str, object]) -> bytes:
    """The machine code of one kernel, for the warps and stages that it is launched with."""
    kernel = getattr(importlib.import_module(module), name)
    signature = {**types, **dict.fromkeys(constants, "constexpr")}
    ordered = {argument: signature[argument] for argument in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=ordered, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=LAUNCH.get(name)).asm["cubin"]


def only_the_kernels() -> None:
    """Make `actionzoo.kernels` importable without the rest of the package, which takes seconds."""
    package = ModuleType("actionzoo")
    package.__path__ = [str(Path(__file__).resolve().parents[2] / "actionzoo")]
    sys.modules["actionzoo"] = package


def main() -> None:
    """Print a list: kernel, whether in bfloat16, bytes of its cubin, and what the cubin's header says of itself."""
    only_the_kernels()
    found = []
    for module, name, types, constants in KERNELS:
        code = cubin(module, name, types, constants)
        machine, flags = int.from_bytes(code[18:20], "little"), int.from_bytes(code[48:52], "little")
        found.append(
            {
                "kernel": f"{module}.{name}",
                "half": "*bf16" in str(types),
                "bytes": len(code),
                "elf": code.startswith(b"\x7fELF") and machine == 190,
                # CUDA 13 moved the architecture up by a byte
                "sm": flags >> 8 & 0xFF if code[8] >= 8 else flags & 0xFF,
            }
        )
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
