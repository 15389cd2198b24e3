"""Every full model at the size of its own configuration, the tiny ones on a CPU too."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import actionzoo
from tests.reference.csn import video_resnet

from ._case import Built, Case, Problem, Provider, State, module, weights_of

BATCHES = {"tahnet": 8, "prfnet": 16, "convit_har_resnet50": 16, "pose": 16}
"""By the beginning of a name; the batch of paper-size models on a GPU is 1 where none is given."""
ON_A_CPU = ("_tiny", "tahnet_v4")


def build(name: str) -> nn.Module:
    """The model with random weights, always the same ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return actionzoo.create(name).eval()


def optimized(name: str, example: Any) -> Any:
    """Provider's builder: folded, laid out and captured by `optimize_for_inference`."""

    def make(state: State) -> Built:
        network = build(name)
        network.load_state_dict(dict(state))
        like = next(value for value in state.values() if value.is_floating_point())
        inputs = tree_map(
            lambda x: x.to(like.device, like.dtype) if x.is_floating_point() else x.to(like.device), example
        )
        network = network.to(like.device, like.dtype)
        return actionzoo.optimize_for_inference(network, inputs), {}  # pyright: ignore[reportAttributeAccessIssue]

    return make


def torchvision_csn(name: str, state: State) -> Built:
    """The video ResNet of torchvision with channel-separated bottlenecks; its tensors stand in the same order."""
    depths = {"ipcsn_50": (3, 4, 6, 3), "ipcsn_152": (3, 8, 36, 3), "ircsn_152": (3, 8, 36, 3)}[name]
    network = video_resnet(name[:2], depths, actionzoo.model_info(name).num_classes)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    like = next(iter(state.values()))
    return network.eval().to(like.device, like.dtype), {}


def _problem(name: str, batch: int) -> Problem:
    example = tuple(actionzoo.model_info(name).example_inputs(batch))

    def fresh(generator: torch.Generator) -> tuple[Any, ...]:
        # pictures and features anew, boxes and masks as they are: random ones are none
        def draw(x: Any) -> Any:
            drawn = isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 3
            return torch.randn(x.shape, generator=generator) if drawn else x

        return tree_map(draw, example)

    def run(own: State, *inputs: Any) -> Any:
        network = build(name)
        like = next(value for value in own.values() if value.is_floating_point())
        return torch.func.functional_call(network.to(like.device, like.dtype), dict(own), inputs)

    providers = [
        Provider("actionzoo", "ours", module(partial(build, name))),
        Provider(
            "optimize_for_inference",
            "ours",
            optimized(name, example),
            package="actionzoo:optimize_for_inference",
            compiles=False,
            forward_only=True,
        ),
    ]
    if name in ("ipcsn_50", "ipcsn_152", "ircsn_152"):
        providers.append(Provider("torchvision", "peer", partial(torchvision_csn, name)))
    return Problem(fresh, tuple(providers), run, weights_of(build(name)))


def _case(name: str) -> Case:
    batch = next((size for start, size in BATCHES.items() if name.startswith(start)), 1)
    sizes = {"cuda": {"name": name, "batch": batch}}
    if name.endswith(ON_A_CPU):
        sizes |= {"cpu": {"name": name, "batch": 1}}
    if name.endswith("_tiny"):
        sizes |= {"tiny": {"name": name, "batch": 1}}
    return Case(name, "models", _problem, sizes, backward=False, looser=30.0)


CASES = tuple(_case(name) for name in actionzoo.list_models())
