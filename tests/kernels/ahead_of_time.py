"""Compiles every kernel for sm_90 without a GPU; run in a process of its own, where Triton does not interpret."""

import importlib
import json
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# module, kernel, types of its arguments by name ("*fp32" a pointer, "i32" a number, or a tuple of such), values of the
# constexpr ones
KERNELS: list[tuple[str, str, dict[str, Any], dict[str, object]]] = []

CROP = "actionzoo.kernels._crop_resize_triton"
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
    for flat in (True, False):
        KERNELS.append(
            (
                "actionzoo.kernels._decode_heatmaps_triton",
                "decode_kernel",
                {"heatmaps": number, "found": "*fp32", **sizes},
                {"SHIFT": flat, "FLAT": flat, "BLOCK": 4096},
            )
        )

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


def main() -> None:
    """Print `{kernel: bytes of its cubin}`."""
    sizes = {}
    for module, name, types, constants in KERNELS:
        kernel = getattr(importlib.import_module(module), name)
        signature = {**types, **dict.fromkeys(constants, "constexpr")}
        ordered = {argument: signature[argument] for argument in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=ordered, constexprs=constants)
        built = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        sizes[f"{module}.{name} {sorted(map(str, types.values()))} {constants}"] = len(built.asm["cubin"])
    json.dump(sizes, sys.stdout)


if __name__ == "__main__":
    main()
