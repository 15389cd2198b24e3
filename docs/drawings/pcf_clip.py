"""Makes docs/assets/pcf_clip.jpg, two frames of a parsed clip: `python docs/drawings/pcf_clip.py`."""

from pathlib import Path

import actionzoo
from actionzoo import draw
from actionzoo.data import ActingFigures
from actionzoo.data.part_videos import FigurePartVideos

OUTPUT = Path(__file__).parents[1] / "assets" / "pcf_clip.jpg"
SIDE, KICKING = 240, 2


def main() -> None:
    """Write the picture: a frame of the first segment, and one of the segment whose states differ most from it."""
    videos = FigurePartVideos(ActingFigures("parts", "test", length=6, size=SIDE, seed=1, frames=128), fps=8)
    result = actionzoo.pipeline("pcf_tiny.figures")(videos.read(KICKING, range(128)), fps=8)
    first = {part: state for part, (state, _) in result.segments[0].states.items()}
    other = max(
        (segment for segment in result.segments if segment.people),
        key=lambda segment: sum(state != first[part] for part, (state, _) in segment.states.items()),
    )
    frames = [next(iter(segment.people)) for segment in (result.segments[0], other)]
    pictures = [result.draw(frame) for frame in frames]
    width = pictures[0].width * 3 // 5
    height = pictures[0].height * width // pictures[0].width
    draw.grid(pictures, 2, cell=(width, height)).save(OUTPUT, quality=85)


if __name__ == "__main__":
    main()
