"""One variant of a case, from the checks to the rows of the result."""

import time
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from . import checks, cuda_timing, roofline, timing
from .candidates import Candidate, Setting, Variant, candidates_of
from .cases import Problem


def measure(variant: Variant, setting: Setting) -> list[dict[str, Any]]:
    """Check every provider, time the right ones side by side, and give one row for each in each mode."""
    setting = setting._replace(cap=max(setting.cap, variant.case.cap))
    torch.manual_seed(0)
    dtype = getattr(torch, variant.dtype)
    checks.upstream.cache_clear()
    torch._dynamo.reset()
    problem = variant.case.problem(**variant.case.sizes[setting.sizes])
    state = checks.cast(dict(problem.state), setting.device, dtype)
    # other inputs every time: an answer that is remembered would be wrong
    generator = torch.Generator().manual_seed(torch.seed() % 2**31)
    inputs = checks.cast(problem.inputs(generator), setting.device, dtype)
    truth = checks.truth(problem.reference, state, inputs, variant.backward)
    candidates = []
    for provider in problem.providers:
        candidates += candidates_of(provider, variant, setting, state, truth)
    right = [c for c in candidates if c.verdict is not None and c.verdict.ok]
    sets = input_sets(problem, generator, setting.device, dtype)
    samples = time_candidates(right, sets, variant.backward, setting)
    limits = limits_of(problem, variant, setting, truth, right)
    return [row(candidate, variant, setting, samples, right, limits) for candidate in candidates]


def input_sets(problem: Problem, generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Any]:
    """Fresh inputs: two sets on the CPU; on CUDA as many as three L2 caches do not hold, further ones as copies."""
    sets = [checks.cast(problem.inputs(generator), device, dtype) for _ in range(2)]
    if device.type == "cuda":
        size = sum(x.numel() * x.element_size() for x in checks.tensors(sets[0]))
        wanted = cuda_timing.set_count(size, cuda_timing.l2_bytes())
        sets += [checks.cast(sets[i % 2], device, dtype) for i in range(wanted - 2)]
    return sets


def time_candidates(
    right: list[Candidate], sets: list[Any], backward: bool, setting: Setting
) -> dict[str, dict[str, list[float]]]:
    """Samples in microseconds by kind of time and name."""

    def prepared(candidate: Candidate) -> list[Any]:
        prepare = candidate.provider.prepare
        return sets if prepare is None else [prepare(inputs) for inputs in sets]

    work = {c.name: (c.step(backward), prepared(c)) for c in right}
    if setting.device.type == "cpu":
        samplers = {name: timing.cpu_sampler(*pair) for name, pair in work.items()}
        # processor time, so that a busy machine measures as many rounds as an idle one
        return {"cpu_us": timing.interleave(samplers, setting.cap, clock=time.process_time)}
    eager = {name: cuda_timing.eager_sampler(*pair) for name, pair in work.items()}
    found = {"eager_us": timing.interleave(eager, setting.cap)}
    found["kernel_us"] = profile(right, work)
    graphs = {}
    for candidate in right:
        if candidate.counted is not None and candidate.counted.host_syncs:
            candidate.notes.append("no CUDA graph: the host waits for the GPU")
            continue
        try:
            graphs[candidate.name] = cuda_timing.graph_sampler(*work[candidate.name])
        except RuntimeError as failure:
            candidate.notes.append(f"no CUDA graph: {str(failure).splitlines()[0]}"[:200])
    found["graph_us"] = timing.interleave(graphs, setting.cap)
    for candidate in right:
        why = cuda_timing.refuse_slow(candidate.kernels)
        if why is not None and candidate.verdict is not None:
            candidate.verdict = candidate.verdict._replace(ok=False, why=why)
    return found


def profile(right: list[Candidate], work: dict[str, Any], rounds: int = 3) -> dict[str, list[float]]:
    """Kernel times of every candidate, a few calls in turn; notes the kernels' names."""
    profiler = cuda_timing.Profiler()
    found: dict[str, list[float]] = {candidate.name: [] for candidate in right}
    for number in range(rounds):
        for candidate in reversed(right) if number % 2 else right:
            samples, candidate.kernels = profiler.measure(*work[candidate.name])
            found[candidate.name] += samples
    return found


def limits_of(
    problem: Problem, variant: Variant, setting: Setting, truth: checks.Truth, right: list[Candidate]
) -> dict[str, float]:
    """Bytes, FLOPs, the floor that they set, and the rate of the case's own matrix product."""
    dtype = getattr(torch, variant.dtype)
    ours = next((c for c in right if c.provider.kind == "ours" and c.mode == "eager"), None)
    moved = roofline.least_bytes(problem, truth.inputs, truth.outputs, dtype.itemsize, variant.backward)
    limits = {"bytes": float(moved)}
    if ours is None or ours.call is None:
        return limits
    inputs = tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, truth.inputs)
    parameters = list(ours.parameters.values())
    limits["flops"] = float(roofline.count_flops(ours.call, inputs, parameters, variant.backward))
    rates = setting.ceilings["copy_bytes_per_s"], setting.ceilings[f"{variant.dtype}_flop_per_s"]
    limits["floor_us"] = roofline.floor_us(limits["bytes"], limits["flops"], *rates)
    if problem.product is not None:
        limits["product_flop_per_s"] = roofline.product_rate(setting.device, dtype, *problem.product, budget=0.02)
    return limits


def row(
    candidate: Candidate,
    variant: Variant,
    setting: Setting,
    samples: dict[str, dict[str, list[float]]],
    right: list[Candidate],
    limits: dict[str, float],
) -> dict[str, Any]:
    """What is kept of a candidate; without a green check it has no times."""
    verdict, counted = candidate.verdict, candidate.counted
    times, ratios = {}, {}
    ours = next((c.name for c in right if c.provider.kind == "ours" and c.mode == "eager"), None)
    for kind, by_name in samples.items() if verdict is not None and verdict.ok else ():
        if by_name.get(candidate.name):
            times[kind] = timing.summarize(by_name[candidate.name])._asdict()
            if by_name.get(ours or ""):
                ratios[kind] = timing.median_ratio(by_name[candidate.name], by_name[ours or ""])
    floor = limits.get("floor_us")
    shares = {} if floor is None else {kind: floor / found["median"] for kind, found in times.items()}
    return {
        "case": variant.case.name,
        "suite": variant.case.suite,
        "sizes": dict(variant.case.sizes[setting.sizes]),
        "dtype": variant.dtype,
        "pass": "forward+backward" if variant.backward else "forward",
        "provider": candidate.provider.name,
        "kind": candidate.provider.kind,
        "mode": candidate.mode,
        "skipped": candidate.skipped,
        "check": None if verdict is None else verdict._asdict(),
        "counts": None if counted is None else counted._asdict(),
        "limits": limits,
        "times": times,
        "ratio_to_ours": ratios,
        "share_of_floor": shares,
        "kernels": candidate.kernels,
        "notes": candidate.notes,
    }
