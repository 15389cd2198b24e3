# ruff: noqa: RUF001 (the picture's own words have multiplication signs and dashes)
"""Draws docs/assets/pcf.svg, the three stages of PCF: `python docs/drawings/pcf.py`."""

from pathlib import Path

from prfnet import BLUE, GREEN, GREY, INK, LINE, ORANGE, QUIET, arrow, box, heading, rect, text
from tahnet import outline

from actionzoo.layers.pose_dots import POSE_DOT_COLORS

OUTPUT = Path(__file__).parents[1] / "assets" / "pcf.svg"
Point = tuple[float, float]
Box = tuple[float, float, float, float]
COLORS = {part: "#{:02x}{:02x}{:02x}".format(*rgb) for part, rgb in POSE_DOT_COLORS.items()}
# left, top, width and height of a 160 x 120 frame
WHOLE: Box = (0, 0, 160, 120)
# of somebody who faces us, with the left side on our right: place of every joint, its part first
KICK: dict[str, Point] = {
    "head": (60, 24), "right_arm shoulder": (51, 42), "left_arm shoulder": (69, 42), "right_arm elbow": (42, 55),
    "left_arm elbow": (80, 52), "right_hand wrist": (41, 70), "left_hand wrist": (91, 44), "hip right": (54, 68),
    "hip left": (66, 68), "right_leg knee": (52, 87), "left_leg knee": (82, 72), "right_foot ankle": (52, 107),
    "left_foot ankle": (103, 80),
}  # fmt: skip
STAND: dict[str, Point] = {
    "head": (60, 24), "right_arm shoulder": (51, 42), "left_arm shoulder": (69, 42), "right_arm elbow": (47, 57),
    "left_arm elbow": (73, 57), "right_hand wrist": (48, 71), "left_hand wrist": (72, 71), "hip right": (54, 68),
    "hip left": (66, 68), "right_leg knee": (53, 87), "left_leg knee": (67, 87), "right_foot ankle": (52, 107),
    "left_foot ankle": (68, 107),
}  # fmt: skip
LIMBS = (
    ("hip right", "right_arm shoulder", "right_arm elbow", "right_hand wrist"),
    ("hip left", "left_arm shoulder", "left_arm elbow", "left_hand wrist"),
    ("right_arm shoulder", "left_arm shoulder"),
    ("right_foot ankle", "right_leg knee", "hip right", "hip left", "left_leg knee", "left_foot ankle"),
)
# what a detector of people might say of the one who kicks: a foot and a hand are outside
FOUND: Box = (36, 14, 50, 98)
GROWN: Box = (36, 14, 72, 98)


def figure(at: dict[str, Point], color: str = "#52616d", shift: float = 0) -> str:
    """A person as strokes; both sides look alike."""
    place = {joint: (x + shift, y) for joint, (x, y) in at.items()}
    path = "".join("M" + "L".join(f"{place[j][0]:g} {place[j][1]:g}" for j in limb) for limb in LIMBS)
    x, y = place["head"]
    return (
        f'<path d="{path}" fill="none" stroke="{color}" stroke-width="7" stroke-linecap="round" '
        f'stroke-linejoin="round"/><circle cx="{x:g}" cy="{y:g}" r="8.5" fill="{color}"/>'
    )


def part_of(joint: str) -> str:
    """The body part that a joint belongs to."""
    return joint.partition(" ")[0]


def dots(at: dict[str, Point], radius: float = 3.4) -> str:
    """A dot on every joint."""
    return "".join(
        f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{COLORS[part_of(joint)]}"/>'
        for joint, (x, y) in at.items()
    )


def part_boxes(at: dict[str, Point]) -> str:
    """A box round every part."""
    boxes = ""
    for part, color in COLORS.items():
        side, _, limb = part.rpartition("_")
        ends = {"arm": f"{side}_hand wrist", "leg": f"{side}_foot ankle"}
        more = [at[ends[limb]]] if limb in ends else []
        more += [at[f"hip {side}"]] if limb == "leg" else []
        own = [place for joint, place in at.items() if part_of(joint) == part] + more
        margin = {"head": 11, "hand": 7, "foot": 7}.get(limb, 5)
        (left, top), (right, bottom) = ([f(values) for values in zip(*own)] for f in (min, max))
        area = (left - margin, top - margin, right - left + 2 * margin, bottom - top + 2 * margin)
        boxes += outline(area, color, 1.6)
    return boxes


def window(x: float, y: float, size: tuple[float, float], content: str, view: Box = WHOLE) -> str:
    """Part of a frame."""
    place = f'x="{x:g}" y="{y:g}" width="{size[0]:g}" height="{size[1]:g}"'
    seen = " ".join(f"{value:g}" for value in view)
    back = (
        '<rect x="-40" y="-40" width="240" height="200" fill="#e8eef4"/>'
        '<rect x="-40" y="98" width="240" height="60" fill="#cfd8e0"/>'
    )
    return (
        f'<svg {place} viewBox="{seen}" preserveAspectRatio="none">{back}{content}</svg>'
        f'<rect {place} fill="none" stroke="{LINE}"/>'
    )


def people_and_parts() -> list[str]:
    """The first stage, from frames to the parts of people."""
    parts = [
        heading(
            40, "1  People and parts", "in every fifth frame; all networks of the three stages are trained one by one"
        )
    ]
    parts += [window(30 + 8 * i, 72 + 8 * i, (104, 78), figure(KICK) + figure(STAND, "#97a4ae", 66)) for i in range(3)]
    parts += [text(90, 188, "frames 1, 6, 11 …"), arrow([(152, 124), (172, 124)])]
    parts += [*box(174, 88, 122, 72, ["YOLOF-R101", "people, the 10", "surest (Eq. 1)"], BLUE)]
    parts += [
        arrow([(296, 124), (316, 124)]),
        *box(318, 88, 122, 72, ["HRNet-W48", "17 joints of", "each (Eq. 2)"], BLUE),
    ]
    parts += [arrow([(440, 124), (460, 124)])]
    parts += [
        *box(462, 88, 122, 72, ["grow the box", "to the joints", "outside it"], GREEN),
        arrow([(584, 124), (604, 124)]),
    ]
    parts += [*box(606, 88, 122, 72, ["pose dots", "a colour for each", "part (Eq. 3)"], GREEN)]
    parts += [arrow([(728, 124), (748, 124)])]
    parts += [window(750, 71, (80, 106), figure(KICK) + dots(KICK), (31, 9, 80, 106)), text(790, 194, "X′, the crop")]
    parts += [arrow([(830, 124), (850, 124)])]
    parts += [*box(852, 88, 122, 72, ["YOLOF-R101", "10 parts, one box", "of each (Eq. 4)"], BLUE)]
    parts += [arrow([(974, 124), (994, 124)])]
    return [*parts, window(996, 71, (80, 106), figure(KICK) + part_boxes(KICK), (31, 9, 80, 106))]


def film(x: float, y: float, poses: list[dict[str, Point]]) -> list[str]:
    """Frames of a video, side by side."""
    return [window(x + 34 * i, y, (32, 36), figure(pose), (22, 8, 96, 108)) for i, pose in enumerate(poses)]


VIDEO = [STAND, STAND, STAND, STAND, KICK, KICK, KICK, STAND, KICK, STAND]
"""What the one in front does in ten moments."""


def action() -> list[str]:
    """The second stage, from the video to its action."""
    parts = [heading(246, "2  The action", "of the whole video")]
    parts += [*film(30, 276, VIDEO), arrow([(374, 294), (396, 294)])]
    parts += box(398, 262, 138, 64, ["8 clips × 3 crops", "32 frames, every", "second, 256×256"], GREEN)
    parts += [arrow([(536, 294), (556, 294)]), *box(558, 262, 122, 64, ["ip-CSN-152", "24 actions"], ORANGE)]
    parts += [
        arrow([(680, 294), (700, 294)]),
        *box(702, 262, 122, 64, ["mean", "of the softmax of", "the 24 views"], GREEN),
    ]
    parts += [arrow([(824, 294), (846, 294)])]
    return [*parts, *box(848, 264, 126, 60, ["kicking", "one of 24"], GREY)]


def states() -> list[str]:
    """The third stage, from segments to the states of parts."""
    parts = [heading(374, "3  What the parts do", "segment by segment, for everybody and every frame of it")]
    for i, (first, last) in enumerate(((0, 3), (3, 7), (7, 10))):
        left, right = 30 + 34 * first, 28 + 34 * last
        parts += [*film(left, 424, VIDEO[first:last]), text((left + right) / 2, 479, f"segment {i + 1}, 3 s")]
        bar = f"{left:g},416 {left:g},410 {right:g},410 {right:g},416"
        parts.append(f'<polyline points="{bar}" fill="none" stroke="{LINE}" stroke-width="1.6"/>')
    parts += [arrow([(374, 442), (396, 442)])]
    parts += box(398, 410, 138, 64, ["7 clips × 3 crops", "of every segment,", "likewise"], GREEN)
    parts += [arrow([(536, 442), (556, 442)])]
    for i in reversed(range(6)):
        parts.append(rect(558 + 6 * i, 408 + 6 * i, 122, 40, ORANGE))
    parts += [text(619, 425, "ip-CSN-152", 14, INK), text(619, 441, "one per part group")]
    parts += [arrow([(710, 442), (728, 442)]), *box(730, 410, 94, 64, ["mean", "likewise"], GREEN)]
    parts += [arrow([(824, 442), (846, 442)])]
    rows = ("head: upright", "arm: R bend, L stretch", "hand: R empty, L empty", "hip: straight",
            "leg: R straight, L lift", "foot: R ground, L lift")  # fmt: skip
    parts.append(rect(848, 392, 194, 116, GREY))
    parts += [
        text(860, 410 + 18 * i, f"kicking, {row}", 12, INK if i == 4 else QUIET, "start") for i, row in enumerate(rows)
    ]
    return parts


def joined() -> list[str]:
    """The right side: what comes out."""
    ends = [arrow([(1076, 124), (1098, 124)]), arrow([(974, 294), (1098, 294)]), arrow([(1042, 450), (1098, 450)])]
    parts = [*ends, rect(1100, 56, 132, 452, ("#ffffff", GREY[1]))]
    parts += [text(1166, 82, "the video parsed", 14, INK)]
    parts += [
        window(
            1112, 96, (108, 81), figure(KICK) + figure(STAND, "#97a4ae", 66) + outline(GROWN, INK) + part_boxes(KICK)
        )
    ]
    parts += [text(1166, 200, "people and their"), text(1166, 217, "parts in a frame")]
    parts += [text(1166, 290, "the action of"), text(1166, 307, "the video")]
    parts += [text(1166, 446, "a state of every"), text(1166, 463, "part in a segment")]
    return parts


def growing() -> list[str]:
    """Lower left: a box grows."""
    parts = [text(30, 572, "Growing", 17, INK, "start")]
    inside = outline(FOUND, INK, 1.8, dashed=True) + outline(GROWN, GREEN[1], 2.4)
    parts.append(window(30, 590, (150, 112), figure(KICK) + dots(KICK, 2.4) + inside))
    remarks = ("a sure joint outside", "the box (dashed) moves", "its side, by half the", "box at most")
    return parts + [text(192, 612 + 18 * i, words, 12, QUIET, "start") for i, words in enumerate(remarks)]


def sides() -> list[str]:
    """Lower middle: which foot is which."""
    parts = [text(352, 572, "Dots", 17, INK, "start")]
    view = (40, 64, 68, 51)
    parts += [window(352, 590, (150, 112), figure(KICK), view)]
    parts += [window(512, 590, (150, 112), figure(KICK) + dots(KICK), view)]
    parts += [text(427, 720, "which foot is the left one?"), text(587, 720, "the orange one")]
    for i, (part, color) in enumerate(COLORS.items()):
        x, y = 676, 600 + 12.4 * i
        parts.append(f'<circle cx="{x}" cy="{y - 4:g}" r="4.6" fill="{color}" stroke="{LINE}" stroke-width="0.5"/>')
        parts.append(text(x + 9, y, part.replace("_", " "), 11, QUIET, "start"))
    return parts


def labels() -> list[str]:
    """Lower right: how a segment gets its label."""
    parts = [text(784, 572, "Labels", 17, INK, "start")]
    rows = {"right leg": ["straight"] * 5, "left leg": ["straight", "lift", "lift", "lift", "straight"]}
    for i, (name, verbs) in enumerate(rows.items()):
        y = 606 + 26 * i
        parts.append(text(784, y, name, 12, INK, "start"))
        for k, verb in enumerate(verbs):
            parts.append(rect(852 + 70 * k, y - 15, 66, 22, ORANGE if verb == "lift" else GREY, 4))
            parts.append(text(885 + 70 * k, y, verb))
    parts += [text(885 + 70 * k, 652, f"frame {1 + 5 * k}", 11) for k in range(5)]
    remarks = ("both sides together: (straight, lift) three times, (straight, straight) twice;",
               "the most frequent pair is the label of the segment: kicking, leg, straight, lift.",
               "The network learns to tell it from all labels of legs in the training videos.")  # fmt: skip
    return parts + [text(784, 682 + 18 * i, words, 12, QUIET, "start") for i, words in enumerate(remarks)]


def main() -> None:
    """Write the picture."""
    marker = (
        f'<marker id="head-{LINE[1:]}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker>'
    )
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1260 750" width="1260" height="750" role="img" '
        'font-family="Helvetica, Arial, sans-serif">',
        "<title>PCF: people and parts, the action of the video, and the states of the parts by segment</title>",
        f"<defs>{marker}</defs>",
        # its own background, so that it reads on light and on dark pages
        rect(1, 1, 1258, 748, ("#fbfcfd", "#c9d1d9"), 14),
        *people_and_parts(),
        *action(),
        *states(),
        *joined(),
        f'<line x1="30" y1="536" x2="1230" y2="536" stroke="{GREY[1]}"/>',
        *growing(),
        *sides(),
        *labels(),
        "</svg>",
    ]
    OUTPUT.write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
