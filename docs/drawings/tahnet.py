# ruff: noqa: RUF001 (the picture's own words have multiplication signs)
"""Draws docs/assets/tahnet.svg, the instance-guided framework and its heads: `python docs/drawings/tahnet.py`."""

from math import cos, radians, sin
from pathlib import Path

from prfnet import BLUE, GREEN, GREY, INK, LINE, ORANGE, QUIET, arrow, box, heading, rect, text

OUTPUT = Path(__file__).parents[1] / "assets" / "tahnet.svg"
Box = tuple[float, float, float, float]
# left, top, width and height of what is seen of a 160 x 100 frame
WHOLE: Box = (0, 0, 160, 100)
# a person who goes to the right and raises an arm: place, angle of the arm and stride in four frames
STEPS = ((38, 20, 9), (56, 70, 4), (74, 120, 9), (92, 165, 5))
STANDING: Box = (123.5, 25.5, 18, 66)


def joints(x: float, arm: float, stride: float) -> dict[str, tuple[float, float]]:
    """Joints of a person at x, one arm turned upwards by an angle in degrees."""
    return {
        "head": (x, 32), "neck": (x, 42), "hip": (x, 64),
        "elbow": (x + 10 * sin(radians(arm)), 44 + 10 * cos(radians(arm))),
        "hand": (x + 21 * sin(radians(arm)), 44 + 21 * cos(radians(arm))),
        "other hand": (x - 6, 62), "foot": (x + stride, 90), "other foot": (x - stride, 90),
    }  # fmt: skip


def bounds(x: float, arm: float, stride: float) -> Box:
    """The box round that person."""
    across, down = zip(*joints(x, arm, stride).values())
    left, top = min(across) - 4, min(25.5, min(down) - 3)
    return (left, top, max(across) + 4 - left, 92 - top)


def enclosing(boxes: list[Box]) -> Box:
    """The outermost box."""
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    return (left, top, max(b[0] + b[2] for b in boxes) - left, max(b[1] + b[3] for b in boxes) - top)


OWN = [bounds(*step) for step in STEPS]
OUTERMOST = enclosing(OWN)


def figure(x: float, arm: float, stride: float, color: str = INK) -> str:
    """That person as strokes."""
    at = joints(x, arm, stride)
    limbs = (("neck", "hip"), ("neck", "elbow", "hand"), ("neck", "other hand"), ("hip", "foot"), ("hip", "other foot"))
    path = "".join("M" + "L".join(f"{at[joint][0]:.1f} {at[joint][1]:.1f}" for joint in limb) for limb in limbs)
    return (
        f'<path d="{path}" fill="none" stroke="{color}" stroke-width="3.2" stroke-linecap="round" '
        f'stroke-linejoin="round"/><circle cx="{x}" cy="31" r="5.5" fill="{color}"/>'
    )


def outline(area: Box, color: str, width: float = 2, dashed: bool = False) -> str:
    """A box in the frame."""
    x, y, w, h = area
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="none" stroke="{color}" '
        f'stroke-width="{width}"{dash}/>'
    )


def window(x: float, y: float, size: tuple[float, float], content: str, view: Box = WHOLE) -> str:
    """Part of a frame, stretched to a rectangle as RoIAlign stretches it."""
    place = f'x="{x:g}" y="{y:g}" width="{size[0]:g}" height="{size[1]:g}"'
    seen = " ".join(f"{value:.1f}" for value in view)
    back = (
        '<rect x="-40" y="-40" width="240" height="180" fill="#e8eef4"/>'
        '<rect x="-40" y="84" width="240" height="60" fill="#cfd8e0"/>'
        '<path d="M64 84V52" stroke="#8fa3b3" stroke-width="4"/><circle cx="64" cy="44" r="11" fill="#b9cabb"/>'
    )
    return (
        f'<svg {place} viewBox="{seen}" preserveAspectRatio="none">{back}{content}</svg>'
        f'<rect {place} fill="none" stroke="{LINE}"/>'
    )


def two(step: int, first: str = INK, second: str = INK) -> str:
    """Two people in a frame."""
    return figure(*STEPS[step], color=first) + figure(133, 12, 4, color=second)


def found() -> list[str]:
    """From frames to people who are tracked: the left of the upper half."""
    parts = [window(30 + 9 * i, 96 + 9 * i, (112, 70), two(i)) for i in range(3)]
    parts += [text(95, 204, "T = 8 frames"), text(95, 221, "3×720×1280"), arrow([(160, 140), (184, 140)])]
    parts += [*box(186, 104, 128, 72, ["ResNet-50-FPN", "frame by frame"], BLUE), arrow([(314, 140), (338, 140)])]
    parts += box(340, 104, 128, 72, ["P2, P3, P4, P5", "256 channels,", "strides 4 to 32"], BLUE)
    parts += [arrow([(404, 176), (404, 294)]), arrow([(468, 140), (618, 140)])]
    parts += [*box(330, 296, 148, 84, ["keypoint head", "boxes and joints,", "score 0.5 or more"], BLUE)]
    parts += [text(258, 330, "the detector is frozen:"), text(258, 348, "no gradient reaches it")]
    parts += [arrow([(478, 338), (500, 338)])]
    return parts + box(502, 296, 112, 84, ["link", "by the joints'", "distance (Eq. 3)"], GREEN)


def classified() -> list[str]:
    """From tracks to actions: the middle and right of the upper half."""
    parts = [arrow([(614, 338), (636, 338)])]
    parts += box(638, 296, 112, 84, ["outermost box", "of the clip", "(Eq. 6)"], GREEN)
    parts += [
        arrow([(694, 296), (694, 186)]),
        *box(620, 96, 148, 88, ["RoIAlign", "the same box in", "every frame (Eq. 7)"], GREEN),
    ]
    parts += [arrow([(768, 140), (792, 140)])]
    for i in range(4):
        parts.append(rect(794 + 7 * i, 100 + 7 * i, 62, 62, ("#ffffff", GREEN[1]), 3))
    parts += [text(846, 204, "a person's features"), text(846, 221, "256×8×14×14"), arrow([(877, 140), (904, 140)])]
    parts += box(906, 98, 148, 84, ["channel bottleneck", "three 1×1×1: 1024,", "256, 128 channels"], ORANGE)
    parts += [arrow([(1054, 140), (1078, 140)])]
    parts += box(1080, 98, 150, 84, ["5 × Conv3D", "3×3×3, 1024 channels,", "the last has stride 2"], ORANGE)
    parts += [arrow([(1155, 182), (1155, 294)]), text(1147, 242, "1024×4×7×7", anchor="end")]
    parts += [*box(1080, 296, 150, 84, ["mean, FC 1024", "over time and cells,", "then a classifier"], ORANGE)]
    parts += [arrow([(1080, 338), (1056, 338)]), *box(946, 304, 108, 68, ["K logits", "per person"], GREY)]
    parts += [arrow([(946, 338), (922, 338)])]
    labels = (
        outline(OWN[3], ORANGE[1]) + outline(STANDING, BLUE[1]) + f'<g font-size="11" font-weight="600">'
        f'<text x="72" y="18" fill="{ORANGE[1]}" text-anchor="middle">raises an arm</text>'
        f'<text x="134" y="18" fill="{BLUE[1]}" text-anchor="middle">stands</text></g>'
    )
    parts.append(window(776, 293, (144, 90), two(3) + labels))
    return [*parts, text(1068, 82, "TAHNet-v1, the part that learns", 13, ORANGE[1])]


def regions() -> list[str]:
    """Lower left: basic and outermost regions of the same four frames."""
    parts = [heading(476, "Regions", "what RoIAlign makes of each frame's own box, and of the outermost one")]
    names = (("frames", ""), ("basic", "Eq. 5"), ("outermost", "Eq. 7"))
    for i, (name, equation) in enumerate(names):
        y = 530 + 76 * i
        parts += [text(30, y, name, 13, INK, "start"), text(30, y + 17, equation, 12, QUIET, "start")]
    for i, step in enumerate(STEPS):
        x = 118 + 110 * i
        boxes = outline(OWN[i], QUIET, 1.8) + outline(OUTERMOST, "#e0a800", 2.6)
        parts.append(window(x, 496, (100, 62.5), figure(*step) + boxes))
        parts.append(window(x + 18, 572, (64, 64), figure(*step), OWN[i]))
        parts.append(window(x + 18, 648, (64, 64), figure(*step), OUTERMOST))
    return parts


def linking() -> list[str]:
    """Lower middle: the joints of one frame and of the next."""
    parts = [text(590, 476, "Linking", 17, INK, "start")]
    before, after = ((52, 25, 9), (108, 160, 5)), ((64, 70, 4), (94, 135, 9))
    content = "".join(figure(*person, color="#9aa7b2") for person in before)
    content += "".join(figure(*person) for person in after)
    for first, second in zip(before, after):
        ends = zip(joints(*first).values(), joints(*second).values())
        path = "".join(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for (a, b), (c, d) in ends)
        content += f'<path d="{path}" stroke="{ORANGE[1]}" stroke-width="2" stroke-linecap="round"/>'
    parts.append(window(590, 496, (208, 130), content, (20, 21, 120, 75)))
    remarks = ("mean over joints seen in both frames;", "one to one, least in total (Hungarian);",
               "never further than half a box diagonal;", "a lost person is waited for 5 frames")  # fmt: skip
    return parts + [text(590, 650 + 18 * i, words, 12, QUIET, "start") for i, words in enumerate(remarks)]


def heads() -> list[str]:
    """Lower right: the four heads."""
    parts = [text(850, 476, "Four heads", 17, INK, "start")]
    columns = ((850, "", "start"), (884, "cells", "start"), (930, "bottleneck", "start"), (1026, "Conv3D", "start"),
               (1096, "last map", "start"), (1156, "GMACs", "start"))  # fmt: skip
    parts += [text(x, 506, words, 12, QUIET, anchor) for x, words, anchor in columns]
    rows = (
        ("v1", "14²", "1024, 256, 128", "5 × 1024", "4×7×7", 145.1),
        ("v2", "14²", "1024, 256, 128", "4 × 1024", "4×7×7", 100.8),
        ("v3", "14²", "512, 128, 64", "4 × 512", "4×7×7", 25.3),
        ("v4", "28²", "512, 128, 128", "3 × 512", "1×7×7", 5.3),
    )
    for i, (name, *words, macs) in enumerate(rows):
        y = 536 + 38 * i
        parts.append(text(850, y, name, 14, INK, "start"))
        parts += [text(x, y, word, 12, QUIET, "start") for (x, *_), word in zip(columns[1:5], words)]
        parts.append(rect(1156, y - 13, 0.25 * macs, 18, ORANGE, 2))
        parts.append(text(1162 + 0.25 * macs, y, f"{macs}", 12, INK, "start"))
    remarks = ("v1 and v2 pool from P2 to P5, v3 and v4 from P2 and P3;",
               "v4: first Conv3D with stride 2, its bottleneck halves time, no FC")  # fmt: skip
    return parts + [text(850, 686 + 18 * i, words, 12, QUIET, "start") for i, words in enumerate(remarks)]


def main() -> None:
    """Write the picture."""
    marker = (
        f'<marker id="head-{LINE[1:]}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker>'
    )
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1260 740" width="1260" height="740" role="img" '
        'font-family="Helvetica, Arial, sans-serif">',
        "<title>The instance-guided framework: detector, tracker, outermost-box pooling and TAHNet</title>",
        f"<defs>{marker}</defs>",
        # its own background, so that it reads on light and on dark pages
        rect(1, 1, 1258, 738, ("#fbfcfd", "#c9d1d9"), 14),
        heading(42, "The framework", "who does what in a clip: detector, tracker, pooling, temporal action head"),
        *found(),
        *classified(),
        f'<line x1="30" y1="440" x2="1230" y2="440" stroke="{GREY[1]}"/>',
        *regions(),
        *linking(),
        *heads(),
        "</svg>",
    ]
    OUTPUT.write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
