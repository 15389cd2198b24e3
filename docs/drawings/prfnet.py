# ruff: noqa: RUF001 (the picture's own words have multiplication signs and dashes)
"""Draws docs/assets/prfnet.svg, the architecture of PRF-Net: `python docs/drawings/prfnet.py`."""

from pathlib import Path
from xml.sax.saxutils import escape

OUTPUT = Path(__file__).parents[1] / "assets" / "prfnet.svg"
INK, QUIET, LINE = "#1f2933", "#5b6770", "#44525e"
# fill and outline of a box
BLUE, GREEN = ("#dbeafe", "#2f6fb5"), ("#d5f0e3", "#1f8a5f")
ORANGE, GREY = ("#fdeeda", "#c76a0a"), ("#eceff2", "#b6bfc8")
# left, top and side of what each step sees of a 100 x 100 picture
WHOLE, FIRST, SECOND = (0.0, 0.0, 100.0), (12.5, 0.0, 75.0), (20.0, 2.0, 56.25)


def text(x: float, y: float, words: str, size: int = 12, color: str = QUIET, anchor: str = "middle") -> str:
    """One line of text, its baseline at y; ink is bold."""
    weight = ' font-weight="600"' if color != QUIET else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" text-anchor="{anchor}"{weight}>'
        f"{escape(words)}</text>"
    )


def heading(y: float, title: str, words: str) -> str:
    """A bold title with a quiet remark behind it."""
    return (
        f'<text x="30" y="{y}" font-size="17" fill="{INK}" font-weight="600">{escape(title)}'
        f'<tspan dx="16" font-size="13" fill="{QUIET}" font-weight="400">{escape(words)}</tspan></text>'
    )


def rect(x: float, y: float, w: float, h: float, colors: tuple[str, str], radius: int = 8, dashed: bool = False) -> str:
    """A rounded rectangle."""
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{radius}" fill="{colors[0]}" '
        f'stroke="{colors[1]}" stroke-width="1.6"{dash}/>'
    )


def box(
    x: float, y: float, w: float, h: float, lines: list[str], colors: tuple[str, str], dashed: bool = False
) -> list[str]:
    """A rounded box with a bold first line and further lines below it."""
    top = y + h / 2 - 9 * (len(lines) - 1) + 5
    parts = [rect(x, y, w, h, colors, dashed=dashed), text(x + w / 2, top, lines[0], 14, INK)]
    return parts + [text(x + w / 2, top + 18 * i, words) for i, words in enumerate(lines) if i]


def arrow(points: list[tuple[float, float]], color: str = LINE, dashed: bool = False, head: bool = True) -> str:
    """A polyline with an arrow head at its end."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    marker = f' marker-end="url(#head-{color[1:]})"' if head else ""
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"{dash}{marker}/>'


def scene(x: float, y: float, size: float, view: tuple[float, float, float]) -> str:
    """A weightlifter, as seen through a square window of the picture."""
    left, top, side = view
    figure = (
        '<rect width="100" height="100" fill="#e8eef4"/><rect y="84" width="100" height="16" fill="#cfd8e0"/>'
        '<g stroke="#1f2933" stroke-width="3.4" stroke-linecap="round" fill="none">'
        '<path d="M22 20H78"/><path d="M50 34V60M50 38L36 21M50 38L64 21M50 60L42 86M50 60L58 86"/></g>'
        '<circle cx="50" cy="29" r="5.5" fill="#1f2933"/><g fill="#c76a0a">'
        '<rect x="17" y="11" width="5" height="18" rx="1.5"/><rect x="78" y="11" width="5" height="18" rx="1.5"/></g>'
    )
    window = f'x="{x}" y="{y}" width="{size}" height="{size}"'
    return (
        f'<svg {window} viewBox="{left} {top} {side} {side}">{figure}</svg>'
        f'<rect {window} fill="none" stroke="{LINE}"/>'
    )


def network() -> list[str]:
    """The upper half: the network, with its training-only parts dashed."""
    parts = [heading(42, "The network", "inference runs the solid parts, on the whole image, with every weight 1")]
    parts += [scene(40, 68, 74, WHOLE), text(77, 160, "3×256×256"), arrow([(114, 105), (148, 105)])]
    parts += box(150, 74, 140, 62, ["stem, layer 1", "256×64×64"], BLUE)
    columns = [330, 545, 760]
    maps = [("layer 2", "X₃  512×32×32"), ("layer 3", "X₄  1024×16×16"), ("layer 4", "X₅  2048×8×8")]
    pooled = ["mean-pool to 8×8 cells", "1×1 conv → 1024, BN, ReLU", "64 tokens + positions", "one encoder layer, mean"]
    for i, (x, lines) in enumerate(zip(columns, maps)):
        parts += [arrow([(x - 40 if i == 0 else x - 35, 105), (x - 2, 105)])]
        parts += [*box(x, 74, 180, 62, [*lines], BLUE), arrow([(x + 90, 136), (x + 90, 166)])]
        parts += box(x, 168, 180, 112, ["SerializedAttention", *pooled], GREEN)
        parts += [arrow([(x + 90, 280), (x + 90, 302)])]
        parts += box(x + 20, 304, 140, 30, [f"att{'₁₂₃'[i]}  1024"], GREEN)
        parts += [arrow([(x + 130, 334), (x + 130, 362)], head=False)]
        parts += [arrow([(x + 50, 334), (x + 50, 392)], ORANGE[1], dashed=True)]
        parts += box(x, 394, 180, 44, [f"stage head {i + 1}"], ORANGE, dashed=True)
    parts.append(arrow([(columns[0] + 130, 362), (978, 362)]))
    mixture = ["WeightedAttentionMixture", "[w₃·att₃, w₂·att₂, w₁·att₁]", "3072, deepest first (Eqs 3–4, 14)"]
    parts += [*box(980, 318, 250, 88, mixture, GREEN), arrow([(1105, 318), (1105, 262)])]
    parts += [*box(1010, 200, 190, 60, ["concat head", "3072 → 512 → K"], GREEN), arrow([(1105, 200), (1105, 146)])]
    return parts + box(1040, 100, 130, 44, ["K logits"], GREY)


def card(
    x: float,
    number: int,
    view: tuple[float, float, float],
    focus: tuple[float, float, float] | None,
    words: list[str],
    ran: int,
) -> list[str]:
    """One step of training: what it sees, where the next one looks, and how many layers it runs and updates."""
    parts = [rect(x, 520, 228, 196, ("#ffffff", GREY[1]), 10), text(x + 14, 545, f"step {number}", 15, INK, "start")]
    parts.append(scene(x + 14, 558, 82, view))
    if focus is not None:
        scale = 82 / view[2]
        left, top = x + 14 + (focus[0] - view[0]) * scale, 558 + (focus[1] - view[1]) * scale
        parts.append(rect(left, top, focus[2] * scale, focus[2] * scale, ("none", ORANGE[1]), 0))
    for i, line in enumerate(words):
        parts.append(text(x + 106, 574 + i * 19, line, 12, INK if i == 0 else QUIET, "start"))
    parts.append(text(x + 14, 680, "layers", anchor="start"))
    for i in range(4):
        parts.append(rect(x + 60 + i * 40, 664, 34, 22, BLUE if i < ran else GREY, 4))
        parts.append(text(x + 77 + i * 40, 680, str(i + 1)))
    remark = "grey: not run, not updated" if ran < 4 else "all run and updated"
    return [*parts, text(x + 60, 704, remark, 11, anchor="start")]


def training() -> list[str]:
    """The lower half: the four steps of one mini-batch."""
    remark = "S + 1 = 4 steps; each clears the gradients, runs only as deep as its head, and updates what it ran"
    parts = [heading(488, "One mini-batch of training", remark)]
    columns = [30, 354, 678, 1002]
    parts += card(columns[0], 1, WHOLE, FIRST, ["I₁: the original", "trains stage head 1", "loss L₁"], 2)
    parts += card(columns[1], 2, FIRST, SECOND, ["I₂ = Rfg(I₁, X₃)", "trains stage head 2", "loss L₂"], 3)
    parts += card(columns[2], 3, SECOND, None, ["I₃ = Rfg(I₂, X₄)", "trains stage head 3", "loss L₃"], 4)
    parts += card(columns[3], 4, WHOLE, None, ["I₁ again", "trains concat head", "w from L₁ L₂ L₃"], 4)
    for x in columns[:2]:
        parts += [arrow([(x + 228, 600), (x + 322, 600)], ORANGE[1]), text(x + 275, 588, "Rfg", 14, ORANGE[1])]
        parts += [text(x + 275, 622, "find, crop 0.75,", 11), text(x + 275, 637, "enlarge", 11)]
    x = columns[2]
    return [*parts, arrow([(x + 228, 600), (x + 322, 600)]), text(x + 275, 588, "losses")]


def main() -> None:
    """Write the picture."""
    heads = [
        f'<marker id="head-{color[1:]}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{color}"/></marker>'
        for color in (LINE, ORANGE[1])
    ]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1260 740" width="1260" height="740" role="img" '
        'font-family="Helvetica, Arial, sans-serif">',
        "<title>PRF-Net: the network, and the four steps of one mini-batch of training</title>",
        f"<defs>{''.join(heads)}</defs>",
        # its own background, so that it reads on light and on dark pages
        rect(1, 1, 1258, 738, ("#fbfcfd", "#c9d1d9"), 14),
        *network(),
        f'<line x1="30" y1="458" x2="1230" y2="458" stroke="{GREY[1]}"/>',
        *training(),
        "</svg>",
    ]
    OUTPUT.write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
