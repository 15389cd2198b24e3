"""Times: providers interleaved round by round, medians with their spread, until they are known to one per cent."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Sampler = Callable[[int], float]
"""Takes the number of the round and gives microseconds."""


class Summary(NamedTuple):
    """Microseconds of one provider."""

    median: float
    p20: float
    p80: float
    error: float | None
    """Standard error of the median over the median; None for fewer than three rounds."""
    rounds: int


def quantile(samples: Sequence[float], share: float) -> float:
    """Linear between the order statistics, as numpy's."""
    ordered = sorted(samples)
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def standard_error(samples: Sequence[float]) -> float | None:
    """Of the median, relative, from the spread between p20 and p80, which outliers do not move."""
    if len(samples) < 3:
        return None
    # p80 of a normal distribution is 0.8416 deviations from its median, whose error is 1.2533 / sqrt(n) of one
    deviation = (quantile(samples, 0.8) - quantile(samples, 0.2)) / (2 * 0.8416)
    return 1.2533 * deviation / math.sqrt(len(samples)) / statistics.median(samples)


def summarize(samples: Sequence[float]) -> Summary:
    """Median, p20, p80 and how well the median is known."""
    if not samples:
        raise ValueError("there is nothing to summarize: no round was measured")
    p20, p80 = quantile(samples, 0.2), quantile(samples, 0.8)
    return Summary(statistics.median(samples), p20, p80, standard_error(samples), len(samples))


def median_ratio(samples: Sequence[float], base: Sequence[float]) -> float:
    """Median over the rounds that both have of one time over the other."""
    return statistics.median(a / b for a, b in zip(samples, base))


def interleave(
    samplers: Mapping[str, Sampler],
    cap: float = 1.0,
    least: int = 3,
    most: int = 400,
    target: float = 0.01,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Measure all of them in turn, in reverse order every other round.

    It ends when every provider that still takes part is known to `target`. One that has used up its time takes no
    further part: its rounds are the first ones of the others, so that ratios are taken within rounds.

    Args:
        samplers: By name.
        cap: Seconds by the clock that each may take.
        least: Rounds that each gets whatever they take, but for one whose first round alone takes more than `cap`.
        most: Rounds at most.
        target: Standard error of the median that is good enough.
        clock: Seconds.

    Returns:
        Microseconds of every round, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in samplers}
    spent = dict.fromkeys(samplers, 0.0)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(most):
            active = [name for name in samplers if _goes_on(times[name], spent[name], cap, least)]
            if all(_known(times[name], least, target) for name in active):
                break
            for name in reversed(active) if number % 2 else active:
                began = clock()
                times[name].append(samplers[name](number))
                spent[name] += clock() - began
    finally:
        if collecting:
            gc.enable()
    return times


def _goes_on(samples: list[float], spent: float, cap: float, least: int) -> bool:
    return spent < cap or (len(samples) < least and spent < cap * len(samples))


def _known(samples: list[float], least: int, target: float) -> bool:
    error = standard_error(samples)
    return len(samples) >= least and error is not None and error <= target


def cpu_sampler(step: Callable[[Any], Any], sets: Sequence[Any], least: float = 0.004) -> Sampler:
    """Process CPU time of one call.

    Args:
        step: Takes one set of inputs.
        sets: Sets of inputs, taken in turn.
        least: Seconds that a sample should last: fast operations are called several times.
    """
    began = time.process_time()
    step(sets[0])
    if time.process_time() - began < 100 * least:
        # a long call is warm after one
        began = time.process_time()
        step(sets[-1])
    calls = max(1, min(1000, math.ceil(least / max(time.process_time() - began, 1e-6))))

    def sample(number: int) -> float:
        began = time.process_time()
        for i in range(calls):
            step(sets[(number + i) % len(sets)])
        return (time.process_time() - began) / calls * 1e6

    return sample
