"""Small videos whose every frame says its own number, whatever the codec does to colours."""

from fractions import Fraction

import av
import numpy as np
import torch

BITS = 6


def picture(number, height=32, width=48):
    """`(H, W, 3)` uint8: six bars, white for the bits that are set; a dark square in the top left corner, a grey one
    in the top right.
    """
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            pixels[height // 2 :, width * bit // BITS : width * (bit + 1) // BITS] = 255
    pixels[: height // 2, width // 2 :] = 128
    return pixels


def numbers(clip):
    """Numbers of the frames of a clip `(3, T, H, W)`, read from its bars."""
    bars = clip[:, :, clip.shape[2] * 3 // 4].float().mean(0)
    width = clip.shape[3]
    centres = [(width * bit // BITS + width * (bit + 1) // BITS) // 2 for bit in range(BITS)]
    return [sum(int(row[x] > 128) << bit for bit, x in enumerate(centres)) for row in bars]


def make_video(
    path,
    count=30,
    codec="mpeg4",
    size=(32, 48),
    gop=8,
    b_frames=0,
    pix_fmt="yuv420p",
    times=None,
    options=None,
    audio=False,
    container_options=None,
    sizes=None,
):
    """Write `count` numbered pictures at 10 frames per second, or shown at `times` in tenths of a second."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = size
        stream.pix_fmt, stream.gop_size = pix_fmt, gop
        stream.codec_context.thread_count = 1
        stream.bit_rate = 2_000_000
        stream.options = options or {}
        # containers round the unit up, so it is fine enough for all of them
        stream.codec_context.time_base = Fraction(1, 10)
        if b_frames:
            stream.codec_context.max_b_frames = b_frames
        if audio:
            sound = container.add_stream("pcm_s16le", rate=8000)
            sound.layout = "mono"
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
            frame.pts = i if times is None else times[i]
            frame.time_base = Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
            samples.sample_rate = 8000
            container.mux([*sound.encode(samples), *sound.encode()])
    return path


def turned(path, target, matrix):
    """A copy of an MP4 file with another display matrix: `(a, b, c, d)` of its header, each -1, 0 or 1."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    entries = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    data[start : start + 36] = b"".join(entry.to_bytes(4, "big", signed=True) for entry in entries)
    target.write_bytes(data)
    return target


def noise(count, height, width, seed=0):
    """A smooth moving clip `(3, T, H, W)` uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, count // 4 + 2, 3, 3, generator=generator)
    clip = torch.nn.functional.interpolate(coarse, (count, height, width), mode="trilinear")
    return (255 * clip[0]).byte()
