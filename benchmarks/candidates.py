"""Providers of a case, built, checked and counted, in the modes that are to be measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import checks, counts
from .cases import Case, Provider

SLOW = 1.0
"""Seconds of a check on the CPU after which a call is not made once more to count its operations."""


class Variant(NamedTuple):
    """A case in one dtype, with or without the backward pass."""

    case: Case
    dtype: str
    backward: bool
    compiled: tuple[str, ...] = ()
    """Kinds of providers whose compiled form is measured beside the eager one."""

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.case.name} {self.dtype} {'forward+backward' if self.backward else 'forward'}"


class Setting(NamedTuple):
    """How to measure."""

    device: torch.device
    sizes: str
    """Key into a case's sizes."""
    cap: float
    """Seconds for each provider and kind of time."""
    ceilings: dict[str, float]
    trace_models: bool = True
    """Whether graph breaks are counted in models, too, which takes seconds for each."""


@dataclass
class Candidate:
    """A provider in one mode: eager or compiled."""

    provider: Provider
    mode: str
    call: Callable[..., Any] | None = None
    parameters: dict[str, Tensor] = field(default_factory=dict)
    verdict: checks.Verdict | None = None
    counted: counts.Counts | None = None
    skipped: str | None = None
    notes: list[str] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name that no other candidate of the case has."""
        return f"{self.provider.name} ({self.mode})"

    def step(self, backward: bool) -> Callable[[Any], Any]:
        """What is timed, as a function of one set of inputs."""
        call, parameters = self.call, list(self.parameters.values())
        if call is None:
            raise ValueError(f"{self.name} was not built: {self.skipped}")
        if backward:
            return lambda inputs: checks.forward_backward(call, inputs, parameters)
        return lambda inputs: checks.forward(call, inputs)


def candidates_of(
    provider: Provider, variant: Variant, setting: Setting, state: dict[str, Tensor], truth: checks.Truth
) -> list[Candidate]:
    """A provider built and checked, eager and, where that is asked for, compiled."""
    why = provider.why_not()
    if why is None and setting.sizes not in provider.sizes:
        why = f"measured at {' and '.join(provider.sizes)} sizes only"
    if why is None and provider.forward_only and variant.backward:
        why = "for inference"
    if why is None and provider.precision == variant.dtype:
        why = f"its inputs are in {variant.dtype} already"
    eager = Candidate(provider, "eager", skipped=why)
    if why is not None:
        return [eager]
    dtype = getattr(torch, variant.dtype)
    try:
        eager.call, eager.parameters = provider.build(checks.cast(state, setting.device, dtype))
    except Exception as failure:
        eager.skipped = f"{type(failure).__name__}: {str(failure).splitlines()[0]}"[:200]
        return [eager]
    if provider.reference is not None:
        truth = checks.truth(provider.reference, state, truth.inputs, variant.backward)
    if provider.prepare is not None:
        truth = truth._replace(inputs=provider.prepare(truth.inputs))
    precision = getattr(torch, provider.precision or variant.dtype)
    arguments = (truth, precision, variant.backward, variant.case.looser)
    began = time.process_time()
    eager.verdict = checks.check(eager.call, eager.parameters, *arguments)
    slow = setting.device.type == "cpu" and time.process_time() - began > SLOW
    # once for each form of ours
    trace = provider.kind == "ours" and provider.compiles and not variant.backward and variant.dtype == "float32"
    trace = trace and (variant.case.suite == "layers" or setting.trace_models)
    if slow and not trace:
        eager.notes.append("operations not counted: a call takes too long")
    else:
        eager.counted = counts.count(eager.call, truth.inputs, trace)
    if not (provider.kind in variant.compiled and provider.compiles):
        return [eager]
    fused = torch.compile(eager.call, dynamic=False)
    compiled = Candidate(provider, "compiled", fused, eager.parameters)
    # a dispatch mode, such as poisons the outputs, would make the compiler stand aside
    compiled.verdict = checks.check(fused, compiled.parameters, *arguments, poison=False)
    return [eager, compiled]
