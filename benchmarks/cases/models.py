"""Every full model at the size of its own configuration, the tiny ones and a few others on a CPU too."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import actionzoo
from actionzoo.kernels import use_kernels
from tests.reference.csn import video_resnet

from ._case import Built, Case, Problem, Provider, State, module, weights_of

BATCHES = {"tahnet": 8, "prfnet": 16, "convit_har_resnet50": 16, "pose": 16}
"""By the beginning of a name; the batch of paper-size models on a GPU is 1 where none is given."""
ON_A_CPU: dict[str, dict[str, Any]] = {
    # half of the frames of their configuration, and of ip-CSN-152 a quarter: several seconds a call are too long
    "tahnet_v1": {"shape": (256, 4, 14, 14)},
    "tahnet_v2": {"shape": (256, 4, 14, 14)},
    "tahnet_v3": {},
    "tahnet_v4": {},
    "ipcsn_152": {"shape": (3, 8, 256, 256)},
}
"""Models that are not tiny, and the shape of their input where that is not their configuration's."""


def build(name: str) -> nn.Module:
    """The model with random weights, always the same ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return actionzoo.create(name).eval()


def trains_whole(name: str) -> bool:
    """Whether a loss on what `forward` gives trains the model.

    Detectors learn from targets, and what is made of several networks is trained one by one: for these the backward
    pass of the whole has no use.
    """
    return "detection" not in actionzoo.model_info(name).task and not name.startswith(("instance_action", "pcf"))


def decides(name: str) -> bool:
    """Whether a model chooses boxes by a maximum, or by scores: half precision may choose others, as right as these."""
    return "detection" in actionzoo.model_info(name).task or name.startswith("bodypart")


def optimized(network: nn.Module, example: Any, dtype: torch.dtype | None = None, kernels: bool = False) -> Any:
    """Provider's builder: folded, laid out, and captured or packed by `optimize_for_inference`."""

    def inside() -> Any:
        return use_kernels() if kernels else nullcontext()

    def make(state: State) -> Built:
        own = copy.deepcopy(network)
        own.load_state_dict(dict(state))
        like = next(value for value in state.values() if value.is_floating_point())
        inputs = tree_map(
            lambda x: x.to(like.device, like.dtype) if x.is_floating_point() else x.to(like.device), example
        )
        with inside():
            fast = actionzoo.optimize_for_inference(own.to(like.device, like.dtype), inputs, dtype)

        def run(*given: Any) -> Any:
            with inside():
                return fast(*given)

        return run if kernels else fast, {}

    return make


def torchvision_csn(name: str, state: State) -> Built:
    """The video ResNet of torchvision with channel-separated bottlenecks; its tensors stand in the same order."""
    depths = {"ipcsn_50": (3, 4, 6, 3), "ipcsn_152": (3, 8, 36, 3), "ircsn_152": (3, 8, 36, 3)}[name]
    network = video_resnet(name[:2], depths, actionzoo.model_info(name).num_classes)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    like = next(iter(state.values()))
    return network.eval().to(like.device, like.dtype), {}


def _providers(name: str, network: nn.Module, example: Any) -> tuple[Provider, ...]:
    def fast(title: str, dtype: torch.dtype | None = None, kernels: bool = False, **options: Any) -> Provider:
        made = optimized(network, example, dtype, kernels)
        return Provider(title, "ours", made, compiles=False, forward_only=True, **options)

    half: dict[str, Any] = {"dtype": torch.bfloat16, "precision": "bfloat16"}
    providers = [
        Provider("actionzoo", "ours", module(partial(copy.deepcopy, network))),
        fast("optimize_for_inference"),
    ]
    if not decides(name):
        providers.append(fast("optimize_for_inference, bfloat16", **half))
    if name in ("ipcsn_50", "ipcsn_152", "ircsn_152"):
        title = "optimize_for_inference, bfloat16, kernels"
        providers.append(fast(title, kernels=True, package="triton", sizes=("cuda",), **half))
        providers.append(Provider("torchvision", "peer", partial(torchvision_csn, name)))
    return tuple(providers)


def _problem(name: str, batch: int, shape: Sequence[int] | None = None) -> Problem:
    network = build(name)
    example = tuple(actionzoo.model_info(name).example_inputs(batch))
    if shape is not None:
        example = (torch.randn(batch, *shape),)

    def fresh(generator: torch.Generator) -> tuple[Any, ...]:
        # pictures and features anew, boxes and masks as they are: random ones are none
        def draw(x: Any) -> Any:
            drawn = isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 3
            return torch.randn(x.shape, generator=generator) if drawn else x

        return tree_map(draw, example)

    def run(own: State, *inputs: Any) -> Any:
        like = next(value for value in own.values() if value.is_floating_point())
        return torch.func.functional_call(network.to(like.device, like.dtype), dict(own), inputs)

    return Problem(fresh, _providers(name, network, example), run, weights_of(network))


def _case(name: str) -> Case:
    batch = next((size for start, size in BATCHES.items() if name.startswith(start)), 1)
    sizes = {"cuda": {"name": name, "batch": batch}}
    if name.endswith("_tiny") or name in ON_A_CPU:
        sizes |= {"cpu": {"name": name, "batch": 1, **ON_A_CPU.get(name, {})}}
    if name.endswith("_tiny"):
        sizes |= {"tiny": {"name": name, "batch": 1}}
    cap = 1.5 if name in ON_A_CPU else 0.0
    return Case(name, "models", _problem, sizes, backward=trains_whole(name), looser=30.0, cap=cap)


CASES = tuple(_case(name) for name in actionzoo.list_models())
