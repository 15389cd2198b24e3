# ruff: noqa: RUF001 (the picture's own words have multiplication signs)
"""Draws docs/assets/convit_har.svg, ConViT and its human branch: `python docs/drawings/convit_har.py`."""

from pathlib import Path

from prfnet import BLUE, GREEN, GREY, INK, LINE, ORANGE, QUIET, arrow, box, heading, rect, text

OUTPUT = Path(__file__).parents[1] / "assets" / "convit_har.svg"
# left, top, right and bottom of the two people, in percent of the picture
PEOPLE = ((7, 16, 47, 92), (56, 26, 90, 92))
# how strong cells of a map are, by row and column: a person, a drink and a lamp, of which the lamp is suppressed
BEFORE = {(1, 1): 0.5, (2, 1): 0.5, (3, 1): 0.3, (1, 3): 0.4, (4, 4): 0.7}
AFTER = {(1, 1): 0.8, (2, 1): 0.6, (3, 1): 0.3, (1, 2): 0.4, (1, 3): 0.9, (4, 4): 0.15}


def people(x: float, y: float, size: float, boxes: bool = False) -> str:
    """Somebody who waves beside somebody who drinks, and the boxes round them."""
    figure = (
        '<rect width="100" height="100" fill="#e8eef4"/><rect y="84" width="100" height="16" fill="#cfd8e0"/>'
        '<g stroke="#1f2933" stroke-width="3.4" stroke-linecap="round" stroke-linejoin="round" fill="none">'
        '<path d="M28 39V62M28 42L17 32L13 20M28 42L37 50L42 58M28 62L21 89M28 62L35 89"/>'
        '<path d="M72 47V66M72 50L64 57L60 64M72 50L83 55L77 41M72 66L66 89M72 66L79 89"/></g>'
        '<g fill="#1f2933"><circle cx="28" cy="31" r="6"/><circle cx="72" cy="39" r="6"/></g>'
        '<path d="M75.5 37h6.5l-1 7h-4.5z" fill="#c76a0a"/>'
    )
    if boxes:
        figure += "".join(
            f'<rect x="{x1}" y="{y1}" width="{x2 - x1}" height="{y2 - y1}" fill="none" stroke="{ORANGE[1]}" '
            'stroke-width="2"/>'
            for x1, y1, x2, y2 in PEOPLE
        )
    window = f'x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}"'
    return f'<svg {window} viewBox="0 0 100 100">{figure}</svg><rect {window} fill="none" stroke="{LINE}"/>'


def tower(y: float, first: list[str], second: list[str], scores: list[str]) -> list[str]:
    """A ViT, halving, a second ViT, mean and classifier, from left to right."""
    parts = [*box(466, y - 42, 146, 84, first, GREEN), arrow([(612, y), (636, y)])]
    parts += [*box(638, y - 26, 86, 52, ["halve", "2×2 mean"], GREEN), arrow([(724, y), (748, y)])]
    parts += [*box(750, y - 42, 146, 84, second, GREEN), arrow([(896, y), (920, y)])]
    parts += [*box(922, y - 26, 86, 52, ["mean, fc", "2048 → K"], ORANGE), arrow([(1008, y), (1040, y)])]
    return parts + box(1042, y - 26, 188, 52, scores, GREY)


def network() -> list[str]:
    """The upper half: the whole picture above, the people below, the detector at the bottom."""
    parts = [people(34, 78, 104), text(86, 200, "3×448×448"), arrow([(138, 130), (160, 130)])]
    parts += [*box(162, 96, 120, 68, ["ResNet-50", "stride 32"], BLUE), arrow([(282, 130), (310, 130)])]
    parts += [*box(312, 96, 108, 68, ["C₅", "2048×14×14"], BLUE), arrow([(420, 130), (464, 130)])]
    parts += tower(130, ["ViT 14×14", "196 tokens", "2048×14×14"], ["ViT 7×7", "49 tokens", "2048×7×7"],
                   ["P_ConViT", "one row for the picture"])  # fmt: skip
    parts += [text(823, 190, "Grad-CAM and heat maps show this map", 11)]
    # the people
    parts += [arrow([(366, 164), (366, 256)]), text(374, 216, "the same map", anchor="start")]
    parts += [*box(306, 258, 120, 84, ["RoIAlign", "a map for each box", "2048×10×6"], GREEN)]
    parts += [arrow([(426, 300), (464, 300)])]
    parts += tower(300, ["ViT 10×6", "60 tokens", "2048×10×6"], ["ViT 5×3", "15 tokens", "2048×5×3"],
                   ["P_human", "one row for each box"])  # fmt: skip
    # the detector, which may be left out
    parts += [arrow([(222, 164), (222, 391)], dashed=True), text(214, 288, "C₂ to C₅", anchor="end")]
    lines = ["PANet neck", "top-down, bottom-up"]
    parts += [*box(152, 393, 140, 60, lines, BLUE, dashed=True), arrow([(292, 423), (318, 423)], dashed=True)]
    parts += box(320, 393, 124, 60, ["Faster R-CNN", "people only"], BLUE, dashed=True)
    parts += [arrow([(444, 423), (478, 423)], dashed=True), people(480, 376, 94, boxes=True)]
    parts.append(arrow([(527, 376), (527, 361), (366, 361), (366, 344)]))
    remarks = ("boxes: found by the detector, or given;", "for VOC each given box takes the detection",
               "of best IoU, if that is at least 0.5")  # fmt: skip
    parts += [text(590, 410 + 18 * i, words, anchor="start") for i, words in enumerate(remarks)]
    return parts


def fusion() -> list[str]:
    """The scores of picture and person, and how much each of them weighs."""
    parts = [arrow([(1136, 156), (1136, 186)]), arrow([(1136, 274), (1136, 244)])]
    parts += box(1042, 188, 188, 54, ["P_final (Eq. 1)", "their weighted sum"], ORANGE)
    parts.append(text(880, 372, "fusion weights, which minimise the training loss", 12, QUIET, "start"))
    for y, name, image in ((386, "Stanford 40", 0.83), (416, "VOC 2012", 0.30)):
        width = round(262 * image)
        parts += [text(880, y + 17, name, 12, INK, "start"), rect(968, y, 262, 24, ("#ffffff", GREY[1]), 4)]
        parts += [rect(968, y, width, 24, GREEN, 4), rect(968 + width, y, 262 - width, 24, ORANGE, 4)]
        parts.append(text(968 + width / 2, y + 17, f"{image:.2f}", 12, INK))
        parts.append(text(968 + (262 + width) / 2, y + 17, f"{1 - image:.2f}", 12, INK))
    parts += [text(968, 458, "ConViT", anchor="start"), text(1230, 458, "human branch", anchor="end")]
    return parts


def grid(x: float, y: float, size: float, strong: dict[tuple[int, int], float]) -> str:
    """A feature map of 5x5 cells, some of them stronger, by row and column."""
    step = size / 5
    cells = "".join(
        f'<rect x="{x + step * j:g}" y="{y + step * i:g}" width="{step:g}" height="{step:g}" stroke="{GREEN[1]}" '
        f'fill="{GREEN[1]}" fill-opacity="{strong.get((i, j), 0.06)}" stroke-opacity="0.5"/>'
        for i in range(5)
        for j in range(5)
    )
    return cells + rect(x, y, size, size, ("none", GREEN[1]), 0)


def inside() -> list[str]:
    """Lower left: a feature-map ViT."""
    parts = [heading(512, "Inside a ViT", "a map in, a map of the same shape out"), grid(36, 566, 70, BEFORE)]
    parts += [text(71, 656, "D×h×w"), arrow([(106, 601), (128, 601)])]
    parts += [*box(130, 561, 96, 80, ["tokens", "h·w pixels,", "+ positions"], GREEN), arrow([(226, 601), (248, 601)])]
    parts += box(250, 561, 96, 80, ["2 blocks", "4 heads,", "then LayerNorm"], GREEN)
    parts += [arrow([(346, 601), (368, 601)]), grid(370, 566, 70, AFTER), text(405, 656, "D×h×w")]
    return [
        *parts,
        text(36, 700, "no projection and no class token, so that it takes a convolution's place", 12, QUIET, "start"),
    ]


def card(x: float, number: int, title: str, words: list[str], trained: set[str], frozen: set[str]) -> list[str]:
    """One stage of training: what it learns from, and which parts it trains, keeps, or has no need of."""
    parts = [
        rect(x, 532, 240, 184, ("#ffffff", GREY[1]), 10),
        text(x + 16, 558, f"{number}  {title}", 15, INK, "start"),
    ]
    parts += [text(x + 16, 582 + 19 * i, line, 12, QUIET, "start") for i, line in enumerate(words)]
    for i, name in enumerate(("ResNet-50", "ViTs, fc", "detector", "human branch")):
        left, top = x + 16 + 106 * (i % 2), 640 + 34 * (i // 2)
        colors = ORANGE if name in trained else GREY if name in frozen else ("#ffffff", GREY[1])
        parts.append(rect(left, top, 102, 26, colors, 4, dashed=name not in trained | frozen))
        parts.append(text(left + 51, top + 17, name, 12, INK if name in trained else QUIET))
    return parts


def stages() -> list[str]:
    """Lower right: what is trained, one after the other."""
    parts = [text(482, 512, "Trained in three stages", 17, INK, "start")]
    parts.append(text(686, 512, "orange: trained; grey: frozen, in eval mode; dashed: not needed", 13, QUIET, "start"))
    both = {"ResNet-50", "ViTs, fc"}
    parts += card(
        482,
        1,
        "ConViT",
        ["pictures and labels", "from ImageNet weights;", "crops keep 70 % of a person's box"],
        both,
        set(),
    )
    parts += card(
        736,
        2,
        "detector",
        ["pictures and people's boxes", "on the backbone of stage 1,", "its BatchNorm too is left as it is"],
        {"detector"},
        both,
    )
    words = ["people's boxes and labels", "boxes moved a little,", "to an IoU of 0.7 or more"]
    return parts + card(990, 3, "human branch", words, {"human branch"}, {*both, "detector"})


def main() -> None:
    """Write the picture."""
    marker = (
        f'<marker id="head-{LINE[1:]}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker>'
    )
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1260 740" width="1260" height="740" role="img" '
        'font-family="Helvetica, Arial, sans-serif">',
        "<title>ConViT and its human branch: two pairs of feature-map ViTs on one backbone, and their training</title>",
        f"<defs>{marker}</defs>",
        # its own background, so that it reads on light and on dark pages
        rect(1, 1, 1258, 738, ("#fbfcfd", "#c9d1d9"), 14),
        heading(42, "The network", "with K = 40 classes ConViT has 66.1 M parameters, 108.3 M with the human branch"),
        *network(),
        *fusion(),
        f'<line x1="30" y1="480" x2="1230" y2="480" stroke="{GREY[1]}"/>',
        *inside(),
        *stages(),
        "</svg>",
    ]
    OUTPUT.write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
