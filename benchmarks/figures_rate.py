"""How fast acting figures are drawn on one core, truth included.

    python benchmarks/figures_rate.py [--size 128] [--frames 16] [--seconds 1.5] [--rounds 5] [--json]

Prints, for every task, the median over rounds of items and of frames a second of process CPU time; wall-clock time
would count whatever else the machine does. A still image is one frame.
"""

import argparse
import json
import statistics
import time

import numpy as np
import PIL
import torch

from actionzoo.data.figures import ActingFigures

TASKS = ("fine_grained", "pose", "motion", "crowd", "parts")


def items_per_second(data: ActingFigures, seconds: float, start: int) -> float:
    """Items drawn in a second of CPU time, over whole turns of the classes from item `start` on."""
    turn, done, began = len(data.classes), 0, time.process_time()
    while (spent := time.process_time() - began) < seconds or not done:
        for i in range(start + done, start + done + turn):
            data[i]
        done += turn
    return done / spent


def measure(task: str, args: argparse.Namespace) -> dict[str, float]:
    """Median rates of a task."""
    data = ActingFigures(task, "train", 10**9, args.size, frames=args.frames)
    for i in range(len(data.classes)):
        data[i]
    rate = statistics.median(items_per_second(data, args.seconds, 10**6 * k) for k in range(args.rounds))
    return {"items_per_s": round(rate, 1), "frames_per_s": round(rate * data.frames, 1)}


def main() -> None:
    """Measure every task and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels")
    parser.add_argument("--frames", type=int, default=16, help="frames of a clip")
    parser.add_argument("--seconds", type=float, default=1.5, help="least CPU time of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rates = {task: measure(task, args) for task in TASKS}
    if args.json:
        versions = {"numpy": np.__version__, "pillow": PIL.__version__, "torch": torch.__version__}
        print(json.dumps({"size": args.size, "frames": args.frames, "versions": versions, "tasks": rates}, indent=1))
        return
    print(f"{args.size} pixels, clips of {args.frames} frames, a second of CPU time on one core")
    for task, rate in rates.items():
        print(f"{task:14}{rate['items_per_s']:9.1f} items/s{rate['frames_per_s']:9.1f} frames/s")


if __name__ == "__main__":
    main()
