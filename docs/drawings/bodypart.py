# ruff: noqa: RUF001 (the picture's own words have multiplication signs and dashes)
"""Draws docs/assets/bodypart.svg, the architecture of the body-part network: `python docs/drawings/bodypart.py`."""

from pathlib import Path

from prfnet import BLUE, GREEN, GREY, INK, LINE, ORANGE, QUIET, arrow, box, heading, rect, text

OUTPUT = Path(__file__).parents[1] / "assets" / "bodypart.svg"
View = tuple[float, float, float]
WHOLE: View = (0.0, 0.0, 100.0)
# joints of the drawn person, of whom l = 19 in the same unit; the parts' windows have the side 2 l
JOINTS = (
    (42, 92), (44, 73), (45, 57), (55, 57), (57, 73), (58, 92), (50, 57), (50, 32), (50, 29), (50, 16), (33, 53),
    (36, 42), (42, 33), (58, 33), (65, 43), (54, 27),
)  # fmt: skip
PARTS: dict[str, View] = {"head": (31, -3, 38), "right hand": (14, 34, 38), "left hand": (35, 8, 38)}
COLORS = dict(zip(PARTS, (BLUE[1], ORANGE[1], GREEN[1])))


def person(x: float, y: float, size: float, view: View = WHOLE, glow: bool = False, dots: bool = False) -> str:
    """Somebody who drinks, as seen through a square window of the picture; with joints, or bright where they are."""
    left, top, side = view
    wall = "#9fb0c0" if glow else "#e8eef4"
    figure = f'<rect width="100" height="100" fill="{wall}"/>'
    if glow:
        figure += "".join(f'<circle cx="{u}" cy="{v}" r="9" fill="#ffffff" opacity="0.28"/>' for u, v in JOINTS)
    figure += (
        '<g stroke="#1f2933" stroke-width="4" stroke-linecap="round" stroke-linejoin="round" fill="none">'
        '<path d="M50 31V57M42 33H58M42 33L36 42L33 53M58 33L65 43L54 28M45 57H55M45 57L44 73L42 92'
        'M55 57L57 73L58 92"/>'
        '</g><circle cx="50" cy="22" r="6.5" fill="#1f2933"/>'
        '<path d="M49.5 22.5h7l-1 7.5h-5z" fill="#c76a0a"/>'
    )
    if dots:
        figure += "".join(f'<circle cx="{u}" cy="{v}" r="2.6" fill="#c0392b"/>' for u, v in JOINTS)
    window = f'x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}"'
    return (
        f'<svg {window} viewBox="{left:g} {top:g} {side:g} {side:g}">'
        f'<rect x="-99" y="-99" width="299" height="299" fill="#000000"/>{figure}</svg>'
        f'<rect {window} fill="none" stroke="{LINE}"/>'
    )


def trunk() -> list[str]:
    """The left of the network: two images, the HRNet and its four maps, the heat maps."""
    parts = [person(34, 322, 112), text(90, 452, "base image"), text(90, 468, "3×512×512")]
    parts += [arrow([(90, 322), (90, 208)]), text(98, 270, "2×2 mean", anchor="start")]
    parts += [person(58, 142, 64), text(90, 132, "I  3×256×256")]
    parts += [arrow([(122, 174), (154, 174)]), *box(156, 118, 118, 112, ["HRNet-W32", "all four maps", "shared"], BLUE)]
    for i, (name, y) in enumerate(zip(("F₄  256×8²", "F₃  128×16²", "F₂  64×32²", "F₁  32×64²"), (72, 130, 188, 246))):
        parts.append(arrow([(274, 174), (302, 174), (302, y + 19), (328, y + 19)]))
        parts += box(330, y, 122, 38, [name], BLUE)
        if i:
            parts.append(arrow([(452, y + 19), (468, y + 19)], head=False))
    parts += [arrow([(452, 91), (520, 91)]), arrow([(468, 91), (468, 265)], head=False)]
    parts.append(arrow([(468, 212), (774, 212)]))
    parts += [arrow([(391, 284), (391, 322)]), *box(330, 324, 122, 44, ["conv 3×3 → 16"], BLUE)]
    parts += [arrow([(391, 368), (391, 396)]), *box(326, 398, 130, 50, ["heat maps", "16×64×64"], GREY)]
    return parts


def streams() -> list[str]:
    """The middle: what each stream sees, and its features."""
    parts = [*box(522, 68, 180, 46, ["image stream", "mean over 8×8 cells"], GREEN)]
    parts += [arrow([(702, 91), (958, 91)]), *box(960, 72, 96, 38, ["f_img  256"], GREEN)]
    # attention: from the heat maps to the attended image
    parts += [arrow([(430, 398), (430, 388), (496, 388), (496, 290), (520, 290)])]
    parts += box(522, 252, 132, 76, ["A", "1×1 conv, BN, ReLU", "×4 bilinear, 3×256²"], GREEN)
    parts += [arrow([(654, 290), (678, 290)]), person(680, 256, 68, glow=True)]
    parts += [text(714, 246, "I ∘ (1 + A)", color=INK), arrow([(748, 290), (774, 290)])]
    lines = ["attention stream", "ResNet-18; each layer's", "output joins a map of F:", "concat, 3×3 conv, BN, ReLU"]
    parts += [*box(776, 178, 166, 130, lines, GREEN), arrow([(942, 243), (958, 243)])]
    parts += box(960, 224, 96, 38, ["f_att  512"], GREEN)
    # parts: joints, boxes, crops
    parts.append(arrow([(456, 423), (520, 423)]))
    parts += box(522, 386, 132, 74, ["joints", "argmax, × 8 pixels", "no gradient"], GREEN)
    parts += [arrow([(654, 423), (676, 423)])]
    parts += [person(678, 371, 104, dots=True)]
    for name, (left, top, side) in PARTS.items():
        x, y = 678 + 1.04 * max(left, 0), 371 + 1.04 * max(top, 0)
        height = 1.04 * (side + min(top, 0))
        parts.append(rect(x, y, 1.04 * side, height, ("none", COLORS[name]), 0))
    parts += [text(730, 493, "side 2 l (Eq. 2)"), arrow([(782, 423), (796, 423)])]
    for i, (name, view) in enumerate(PARTS.items()):
        y = 344 + 54 * i
        parts += [person(796, y, 48, view), rect(796, y, 48, 48, ("none", COLORS[name]), 0)]
    parts += [text(820, 519, "3 crops, 256²"), arrow([(844, 423), (862, 423)])]
    parts += [*box(862, 384, 86, 78, ["part stream", "ResNet-18,", "shared"], GREEN), arrow([(948, 423), (966, 423)])]
    parts += box(966, 400, 90, 46, ["f_part", "3·512"], GREEN)
    # the crops are cut from the base image
    parts.append(arrow([(146, 400), (220, 400), (220, 512), (616, 512), (616, 470), (676, 470)]))
    return [*parts, text(418, 505, "cut from the base image")]


def heads() -> list[str]:
    """The right: a head per stream, and one on all."""
    parts = []
    for y, loss in ((91, "L_img"), (243, "L_att"), (423, "L_part")):
        parts += [arrow([(1056, y), (1086, y)]), *box(1088, y - 17, 62, 34, ["fc → K"], ORANGE)]
        parts += [text(1119, y + 34, loss, 13, ORANGE[1])]
    parts += [arrow([(1070, y), (1070, 333)], head=False) for y in (91, 423)]
    parts += [arrow([(1070, 333), (1086, 333)]), *box(1088, 306, 136, 54, ["concat head", "2304 → K logits"], ORANGE)]
    parts += [text(1190, 380, "L_concat", 13, ORANGE[1]), text(391, 466, "L_p", 13, ORANGE[1])]
    remark = ("prediction: the concat head, or the mean", "probability of image, part and concat")
    return [*parts, *(text(1230, 492 + 17 * i, words, anchor="end") for i, words in enumerate(remark))]


def card(x: float, title: str, known: list[str], losses: list[tuple[str, bool]]) -> list[str]:
    """One kind of training sample: what it is annotated with, and which losses it has."""
    parts = [rect(x, 596, 372, 118, ("#ffffff", GREY[1]), 10), person(x + 14, 612, 86, dots="joints" in known[0])]
    parts.append(text(x + 116, 626, title, 14, INK, "start"))
    parts += [text(x + 116, 646 + 18 * i, line, 12, QUIET, "start") for i, line in enumerate(known)]
    for i, (name, counts) in enumerate(losses):
        left = x + 116 + 124 * i
        parts.append(rect(left, 680, 112, 24, ORANGE if counts else GREY, 4, dashed=not counts))
        words = (name, 12, INK) if counts else ("no loss, no gradient", 10, QUIET)
        parts.append(text(left + 56, 696, *words))
    return parts


def training() -> list[str]:
    """The lower half: the multitask-aware loss on mixed data."""
    remark = "L = mean over the batch of 1_p·L_p + λ·1_a·(L_img + L_att + L_part + L_concat),  λ = 0.00075 (Eqs 3–4)"
    pose, action = "L_p: heat maps", "λ·(four losses)"
    parts = [heading(572, "One mini-batch of mixed sets", remark)]
    parts += card(30, "a pose, no action", ["joints p; y = −1", "MPII"], [(pose, True), (action, False)])
    known = ["label y; p all −1", "Stanford 40 Actions, V-COCO"]
    parts += card(444, "an action, no pose", known, [(pose, False), (action, True)])
    return parts + card(858, "both", ["joints p and label y", "where a set has them"], [(pose, True), (action, True)])


def main() -> None:
    """Write the picture."""
    marker = (
        f'<marker id="head-{LINE[1:]}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker>'
    )
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1260 740" width="1260" height="740" role="img" '
        'font-family="Helvetica, Arial, sans-serif">',
        "<title>The body-part network: three streams on one HRNet, and the losses of mixed data</title>",
        f"<defs>{marker}</defs>",
        # its own background, so that it reads on light and on dark pages
        rect(1, 1, 1258, 738, ("#fbfcfd", "#c9d1d9"), 14),
        heading(
            42,
            "The network",
            "pose and action of one person in one pass; with K = 40 classes 56.5 M parameters, 20.7 GMACs",
        ),
        *trunk(),
        *streams(),
        *heads(),
        f'<line x1="30" y1="542" x2="1230" y2="542" stroke="{GREY[1]}"/>',
        *training(),
        "</svg>",
    ]
    OUTPUT.write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
