"""What a result depends on: the machine, the versions, the flags and the commit."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "torchvision", "timm", "triton", "kornia", "numpy")
SMI = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "temperature.gpu", "power.draw")


def output_of(*command: str) -> str | None:
    """What a command prints, or None where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else None


def version(package: str) -> str | None:
    """Installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Name of the CPU."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def clocks() -> dict[str, str] | None:
    """Driver, clocks and temperature of the first GPU at this moment; None without one."""
    line = output_of("nvidia-smi", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader", "--id=0")
    return dict(zip(SMI, (value.strip() for value in line.split(",")))) if line else None


def collect(device: torch.device) -> dict[str, Any]:
    """Everything worth knowing beside the times."""
    dirty = output_of("git", "status", "--porcelain", "--untracked-files=no")
    facts: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "kind": device.type,
        "how": (
            "CUDA: kernel_us is the sum of kernel times with a cold L2, graph_us a CUDA graph's replay, eager_us CUDA "
            "events round the call"
            if device.type == "cuda"
            else "CPU: one thread, process CPU time, providers interleaved"
        ),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": output_of("git", "rev-parse", "HEAD"),
        "changed_files": None if dirty is None else len(dirty.splitlines()),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"l2_bytes": properties.L2_cache_size, "multiprocessors": properties.multi_processor_count}
        facts |= {"gpu": clocks()}
    return facts
