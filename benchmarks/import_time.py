"""How long `import actionzoo` takes beside `import timm, torchvision`, in fresh processes, interleaved.

    python benchmarks/import_time.py [--rounds 7]

Prints the median of each in seconds of process CPU time and their ratio; exits with 1 above 1.2.
"""

import argparse
import statistics
import subprocess
import sys

CODE = "import time; began = time.process_time(); import {}; print(time.process_time() - began)"


def seconds(modules: str) -> float:
    """CPU seconds of importing the modules in a fresh process."""
    out = subprocess.run([sys.executable, "-c", CODE.format(modules)], check=True, capture_output=True, text=True)
    return float(out.stdout)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    seconds("timm, torchvision, actionzoo")  # fill the file cache and the byte-code cache
    pairs = [(seconds("timm, torchvision"), seconds("actionzoo")) for _ in range(rounds)]
    peer, ours = (statistics.median(column) for column in zip(*pairs))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"timm and torchvision {peer:.2f} s, actionzoo {ours:.2f} s, median ratio {ratio:.3f} of {rounds} pairs")
    return 0 if ratio <= 1.2 else 1


if __name__ == "__main__":
    sys.exit(main())
