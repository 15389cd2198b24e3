"""A forward pass recorded as a CUDA graph: one launch instead of hundreds."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

Run = Callable[..., Any]


class CapturedForward:
    """A recorded forward pass with its own inputs, which calls of the same shapes are copied into."""

    def __init__(self, run: Run, args: tuple[Any, ...]) -> None:
        """Record it.

        Args:
            run: The forward pass; it must not wait for the GPU, nor take another way for other values.
            args: Its arguments, tensors on CUDA among them.

        Raises:
            RuntimeError: If it waits for the GPU, or takes tensors on the CPU, whose values a graph would not see
                again, or cannot be captured.
        """
        if any(isinstance(x, Tensor) and not x.is_cuda for x in tree_flatten(args)[0]):
            raise RuntimeError("some of its arguments are tensors on the CPU")
        self.lock, self.done = threading.Lock(), torch.cuda.Event()
        self.args = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, args)
        self.graph, self.outputs = record(run, self.args)

    def fits(self, args: tuple[Any, ...]) -> bool:
        """Whether these arguments are the recorded ones but for the tensors' values."""
        (mine, known), (leaves, spec) = tree_flatten(self.args), tree_flatten(args)
        return spec == known and all(_alike(x, y) for x, y in zip(mine, leaves, strict=True))

    def __call__(self, *args: Any) -> Any:
        """Compute from arguments that fit. The outputs are copies: the next call does not change them."""
        # threads and streams share the recorded inputs and outputs, and have them one after the other
        with self.lock:
            self.done.wait()
            for mine, given in zip(tree_flatten(self.args)[0], tree_flatten(args)[0], strict=True):
                if isinstance(mine, Tensor):
                    mine.copy_(given)
            self.graph.replay()
            outputs = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, self.outputs)
            self.done.record()
        return outputs


def _alike(mine: Any, given: Any) -> bool:
    if isinstance(mine, Tensor) and isinstance(given, Tensor):
        return (mine.shape, mine.dtype, mine.device) == (given.shape, given.dtype, given.device)
    return mine is given or (isinstance(mine, int | float | str | None) and type(mine) is type(given) and mine == given)


def record(run: Run, args: tuple[Any, ...]) -> tuple[Any, Any]:
    """Warm up on a side stream, as CUDA graphs want it, then capture.

    Returns:
        The graph and its outputs.

    Raises:
        RuntimeError: See `CapturedForward`.
    """
    device = next(x.device for x in tree_flatten(args)[0] if isinstance(x, Tensor) and x.is_cuda)
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                run(*args)
            # a failed capture is harder to recover from than this error
            before = torch.cuda.get_sync_debug_mode()
            torch.cuda.set_sync_debug_mode("error")
            try:
                run(*args)
            finally:
                torch.cuda.set_sync_debug_mode(before)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = run(*args)
    return graph, outputs


def capturing() -> bool:
    """Whether somebody is recording a graph now, into which no other can be replayed."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
