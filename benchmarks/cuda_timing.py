"""The three times on CUDA: kernels alone, replay of a CUDA graph, eager calls with their launches."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from .timing import Sampler

SLOW_KERNELS = ("slow_conv_dilated3d", "vol2col")
"""cuDNN was passed by: such a row is refused."""
Step = Callable[[Any], Any]


class Kernel(NamedTuple):
    """One kernel, copy or fill of a profile, in microseconds."""

    start: float
    duration: float
    name: str


def split_calls(kernels: Sequence[Kernel], flush: set[str]) -> list[list[Kernel]]:
    """The kernels of every call: a kernel that clears the cache comes before each, and is left out."""
    calls: list[list[Kernel]] = []
    for kernel in sorted(kernels):
        if kernel.name in flush:
            calls.append([])
        elif calls:
            calls[-1].append(kernel)
    return calls


def refuse_slow(names: Sequence[str]) -> str | None:
    """Why a row is refused for the kernels that ran, or None."""
    found = sorted({slow for slow in SLOW_KERNELS for name in names if slow in name})
    return f"ran the slow kernels {', '.join(found)}" if found else None


def set_count(bytes_of_a_set: int, cache: int, most: int = 64) -> int:
    """Sets of inputs that together are larger than three times the L2 cache."""
    return max(2, min(most, 1 + math.ceil(3 * cache / max(bytes_of_a_set, 1))))


def l2_bytes() -> int:
    """Size of the GPU's L2 cache."""
    return torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size


class Profiler:
    """Kernel times from `torch.profiler`, with a cold L2 cache before every call."""

    def __init__(self) -> None:
        # copysign is the name of a kernel that nothing measured here uses
        self._buffer = torch.ones(3 * l2_bytes() // 4, device="cuda")
        self._flush()
        self._marks = {kernel.name for kernel in self._profile(lambda _: self._flush(), [None], 1, flush=False)}

    def _flush(self) -> None:
        self._buffer.copysign_(-1.0)

    def _profile(self, step: Step, sets: Sequence[Any], calls: int, flush: bool = True) -> list[Kernel]:
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=activities) as profile:
            for i in range(calls):
                if flush:
                    self._flush()
                step(sets[i % len(sets)])
            torch.cuda.synchronize()
        events = [event for event in profile.events() or [] if event.device_type == torch.autograd.DeviceType.CUDA]
        return [Kernel(event.time_range.start, event.time_range.elapsed_us(), event.name) for event in events]

    def measure(self, step: Step, sets: Sequence[Any], calls: int = 5) -> tuple[list[float], list[str]]:
        """Sum of the kernels' times of each call, and the names of the kernels of one call in order."""
        found = split_calls(self._profile(step, sets, calls), self._marks)
        return [sum(kernel.duration for kernel in call) for call in found], [kernel.name for kernel in found[-1]]


def eager_sampler(step: Step, sets: Sequence[Any]) -> Sampler:
    """CUDA events round one call that finds an idle GPU, so that its launches count."""
    for inputs in sets[:3]:
        step(inputs)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def sample(number: int) -> float:
        torch.cuda.synchronize()
        start.record()
        step(sets[number % len(sets)])
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3

    return sample


def graph_sampler(step: Step, sets: Sequence[Any]) -> Sampler:
    """Replay of one CUDA graph that goes through all sets of inputs, per set.

    Raises:
        RuntimeError: If the calls cannot be captured.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(sets[0])
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for inputs in sets:
            step(inputs)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()

    def sample(number: int) -> float:
        torch.cuda.synchronize()
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3 / len(sets)

    return sample
