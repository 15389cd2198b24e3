"""Body parts found with and without pose dots, on figures of whom half turn their back (the paper's Table II).

    python benchmarks/papers/pcf_dots.py runs/pcf_dots

First a small pose net learns these figures; then, for each number of clips, two detectors are trained with each of
three seeds, in all about an hour and a half on one core. A finished run is not repeated. Both see the same crops, grown
to hold the joints that the pose net finds; in one's the joints are painted as dots. With fewer clips they are seen more
often, so that every detector has looked at as many crops. `--write PAGE.md` puts the table between the page's markers
`<!-- pcf_dots:begin -->` and `<!-- pcf_dots:end -->`; `--json FILE` keeps the figures.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from _page import insert
from _turned import turned_pose

import actionzoo
from actionzoo._checkpoint import atomic_path
from actionzoo.data import ActingFigures
from actionzoo.data.figures import PARTS
from actionzoo.data.part_videos import FigurePartVideos
from actionzoo.models import PoseHRNet
from actionzoo.models.pcf import PARTS_TINY
from actionzoo.training import PartDetectionTask, fit, recipes
from actionzoo.training.fit import seed_everything

TITLES = {"dots": "with", "no dots": "without"}


def train(name: str, length: int, seed: int, pose: PoseHRNet, args: argparse.Namespace) -> dict[str, Any]:
    """Train one detector on the first `length` clips, or read what an earlier run found."""
    output = args.folder / f"{name.replace(' ', '_')}_{length}_{seed}"
    if not (output / "metrics.json").exists():
        seed_everything(seed)
        model: Any = actionzoo.create("yolof_tiny", num_classes=len(PARTS), **PARTS_TINY)
        model.load_convit(actionzoo.create(args.convit))
        videos = {
            split: FigurePartVideos(ActingFigures(args.task, split, count, args.size, frames=128), fps=8, every=8)
            for split, count in (("train", length), ("test", args.test))
        }
        task = PartDetectionTask(
            videos,
            f"figures:{args.task}",
            pose=pose,
            dots=None if name == "dots" else False,
            frames_per_video=args.frames_per_video,
            freeze_trunk=not args.train_trunk,
        )
        recipe = recipes["detector"].override(epochs=round(args.crops / (length * args.frames_per_video)))
        fit(model, task, recipe, output, seed=seed, amp=args.amp, resume=True)
    found = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    return {"seed": seed, **found}


def table(runs: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Rows of means over seeds with the seeds' own figures."""
    groups = {
        "head, hip": ("head", "hip"),
        **{f"{name}s": (f"left_{name}", f"right_{name}") for name in ("arm", "leg", "hand")},
        "feet": ("left_foot", "right_foot"),
    }
    lines = [f"| labelled crops | dots | found | AP | AP50 | {' | '.join(groups)} |", f"|{'---|' * (len(groups) + 5)}"]
    for crops, name, rows in ((crops, name, rows) for crops, pair in runs.items() for name, rows in pair.items()):
        columns = [[row[key] for row in rows] for key in ("part_found", "part_coco_ap", "part_ap50")]
        columns += [
            [statistics.mean(row[f"ap50_{part}"] for part in parts) for row in rows] for parts in groups.values()
        ]
        cells = [f"{statistics.mean(values):.1f} ({', '.join(f'{v:.1f}' for v in values)})" for values in columns[:3]]
        cells += [f"{statistics.mean(values):.1f}" for values in columns[3:]]
        lines.append(f"| {int(crops):,} | {TITLES[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--task", default="parts_turned", help="task of the figures; in parts everybody faces us")
    parser.add_argument("--convit", default="convit_har_tiny.sports20", help="whose backbone detectors have, frozen")
    parser.add_argument("--pose", default="pose_tiny.figures", help="what the pose net starts from")
    parser.add_argument("--pose-length", type=int, default=3000, help="people that the pose net learns from")
    parser.add_argument("--pose-epochs", type=int, default=6)
    parser.add_argument("--lengths", type=int, nargs="+", default=[150, 1500], help="clips for training")
    parser.add_argument("--crops", type=int, default=24000, help="that a detector sees in training, repeats included")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels")
    parser.add_argument("--train-trunk", action="store_true", help="train the detectors' backbone, too")
    parser.add_argument("--test", type=int, default=300, help="clips for testing")
    parser.add_argument("--frames-per-video", type=int, default=2, help="frames of a clip that are looked at")
    parser.add_argument("--amp", choices=("no", "bf16"), default="bf16", help="of the detectors' training")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--write", type=Path, help="page of the docs to put the table in")
    args = parser.parse_args()
    pose, scores = turned_pose(args.pose, args.folder / "pose", args.pose_length, args.pose_epochs)
    print(f"pose net: {scores}")
    runs = {
        str(length * args.frames_per_video): {
            name: [train(name, length, seed, pose, args) for seed in args.seeds] for name in TITLES
        }
        for length in args.lengths
    }
    text = table(runs)
    print(text)
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps({"pose": scores, "runs": runs}, indent=1) + "\n", encoding="utf-8")
    if args.write is not None:
        insert(args.write, text, "pcf_dots")


if __name__ == "__main__":
    main()
