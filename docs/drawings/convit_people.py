"""The photographs of docs/papers/convit_har.md: who does what, and where ConViT looked.

python docs/drawings/convit_people.py
"""

from pathlib import Path

import actionzoo
from actionzoo import draw

ASSETS = Path(actionzoo.__file__).parent / "assets"
OUTPUT = Path(__file__).parents[1] / "assets" / "convit_people.jpg"
MAPS = {"grad_cam": "Grad-CAM (Fig. 8)", "channel_mean": "mean over channels (Fig. 9)"}


def main() -> None:
    """Draw both photographs, one above the other."""
    pipe = actionzoo.pipeline("convit_har_person_tiny")
    rows = []
    for name in ("weightlifter_public_domain.jpg", "skier_cc_by.jpg"):
        result = pipe(ASSETS / name)
        labelled = result.draw(k=4)
        labelled.thumbnail((860, 380))
        maps = [result.draw_attention(kind) for kind in MAPS]
        rows.append(labelled)
        rows.append(draw.grid(maps, 2, list(MAPS.values()), cell=(labelled.width // 2 - 12, 250)))
    draw.stack(rows, width=max(row.width for row in rows)).save(OUTPUT, quality=85)


if __name__ == "__main__":
    main()
