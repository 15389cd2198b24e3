"""What a case is made of: an operation, its sizes, and the providers that compute it."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
Built = tuple[Callable[..., Any], dict[str, Tensor]]
"""What runs on the inputs, and its parameters by the names that `ours` gives them."""


@dataclass(frozen=True)
class Provider:
    """One implementation of a case's operation."""

    name: str
    kind: Literal["ours", "naive", "peer"]
    build: Callable[[State], Built]
    """From the shared weights, already of the device and dtype that are measured."""
    package: str | None = None
    """Third-party package that it needs; where that is missing the provider is skipped by name."""
    reference: Callable[..., Any] | None = None
    """`reference(state, *inputs)`: what it computes, where that is not what the case computes."""
    prepare: Callable[[Any], Any] | None = None
    """What is done to the inputs beforehand, outside the time: another layout."""
    compiles: bool = True
    """Whether `torch.compile` is of use; Python loops over data only take minutes to trace."""
    forward_only: bool = False
    precision: str | None = None
    """dtype that it computes in where that is less than its inputs'; it is held to that dtype's tolerance."""
    sizes: tuple[str, ...] = ("cuda", "cpu", "tiny")
    """Where it takes part: a loop over single numbers is of no use at a GPU's sizes."""

    def why_not(self) -> str | None:
        """Why it cannot run here, or None."""
        if self.package is None:
            return None
        module, _, attribute = self.package.partition(":")
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
        if attribute and not hasattr(importlib.import_module(module), attribute):
            return f"{module} has no {attribute}"
        return None


@dataclass(frozen=True)
class Problem:
    """A case at one set of sizes."""

    inputs: Callable[[torch.Generator], tuple[Any, ...]]
    """Fresh random inputs on the CPU, floating-point ones in float32."""
    providers: tuple[Provider, ...]
    reference: Callable[..., Any]
    """`reference(state, *inputs)`: the plainest correct form; it is run in float64."""
    state: State
    """Weights that all providers share, float32; buffers too."""
    reads: Callable[..., int] | None = None
    """`reads(*inputs)`: elements of the inputs that any implementation must read. None is all of them."""
    product: tuple[int, int, int] | None = None
    """Rows, columns and depth of the matrix product that does most of the work."""


@dataclass(frozen=True)
class Case:
    """An operation and the sizes at which it is measured."""

    name: str
    suite: Literal["layers", "models"]
    problem: Callable[..., Problem]
    """Called with one of `sizes`."""
    sizes: Mapping[str, Mapping[str, Any]]
    """By `cuda`, `cpu` and, for tests, `tiny`; a case without a device's sizes is not run there."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    backward: bool = True
    compiled: bool = False
    """Whether `--quick` measures our compiled form too."""
    looser: float = 1.0
    """Factor of the tolerances, for deep networks."""
    cap: float = 0.0
    """Seconds for each provider whatever the run's own cap: a long call wants three rounds, too."""


def function(call: Callable[..., Any]) -> Callable[[State], Built]:
    """Build a provider from a function of the inputs, without weights."""
    return lambda state: (call, {})


def is_parameter(name: str, value: Tensor) -> bool:
    """Whether an entry of a state dict is differentiated by; running statistics are not."""
    return value.is_floating_point() and "running_" not in name


def with_state(call: Callable[..., Any]) -> Callable[[State], Built]:
    """Build a provider from a function of the weights and the inputs."""

    def build(state: State) -> Built:
        own = {name: value.clone().requires_grad_(is_parameter(name, value)) for name, value in state.items()}
        return (lambda *inputs: call(own, *inputs)), {name: v for name, v in own.items() if v.requires_grad}

    return build


def module(
    make: Callable[[], nn.Module], rename: Callable[[State], dict[str, Tensor]] | None = None
) -> Callable[[State], Built]:
    """Build a provider from a module in eval mode, which takes the weights, renamed where its names differ.

    Gradients are compared for the weights that keep their names, and for the inputs.
    """

    def build(state: State) -> Built:
        network = make().eval()
        like = next((value for value in state.values() if value.is_floating_point()), None)
        if like is not None:
            network = network.to(like.device, like.dtype)
        network.load_state_dict(dict(state) if rename is None else rename(state))
        return network, dict(network.named_parameters())

    return build


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """State dict of a module whose normalisation statistics are drawn at random: with 0 and 1 they hide mistakes."""
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            assert layer.running_var is not None
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.8, 1.2)
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
