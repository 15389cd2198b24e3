"""One call that makes a copy of a model that is fast at inference."""

import copy
import functools
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ._epilogues import fuse_epilogues
from ._folding import fold_norms
from ._graph import CapturedForward, capturing
from ._layout import maps_channels_last, weights_channels_last
from ._packing import pack_weights
from ._precision import cast_model, detector_heads, detectors

Model = TypeVar("Model", bound=nn.Module)

TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest relative error that folding may make by rounding."""
_TF32 = 1e-2


@dataclass
class _Plan:
    """What the forward pass of an optimized model does beside the model's own."""

    given: torch.dtype
    """Precision of the model that the copy was made from, in which outputs come back."""
    axes: frozenset[int]
    """Numbers of axes of the maps that are laid out."""
    inner: torch.dtype | None = None
    """Precision of maps inside, None if it is not changed."""
    cast_inputs: bool = False
    graph: CapturedForward | None = None


class OptimizedModule(nn.Module):
    """What the copies that `optimize_for_inference` makes have in front of their model's own class.

    A subclass of the model's class, made for it, and not a wrapper round the model: pipelines and `isinstance` see the
    model that they know, and every attribute and method is there.
    """

    _optimized_plan: _Plan

    @property
    def captured(self) -> bool:
        """Whether calls of the example's shapes replay a CUDA graph."""
        plan = vars(self).get("_optimized_plan")
        return plan is not None and plan.graph is not None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's own, without gradients.

        Raises:
            RuntimeError: If an input asks for a gradient.
        """
        if torch.is_grad_enabled() and any(
            isinstance(x, Tensor) and x.requires_grad for x in tree_leaves((args, kwargs))
        ):
            raise RuntimeError(
                f"this {type(self).__name__} is for inference and gives no gradients; use the model that it was made "
                "from, or inputs that ask for none"
            )
        if "_optimized_plan" not in vars(self):
            # a part that the class made of itself, such as a slice of a sequence
            return super().forward(*args, **kwargs)
        graph = self._optimized_plan.graph
        with torch.no_grad():
            if graph is not None and not kwargs and not capturing() and graph.fits(args):
                return graph(*args)
            return self._optimized_forward(*args, **kwargs)

    def _optimized_forward(self, *args: Any, **kwargs: Any) -> Any:
        """The forward pass without a CUDA graph."""
        plan = self._optimized_plan
        if plan.cast_inputs:
            # boxes and joints have fewer axes: half precision would round a pixel
            args, kwargs = _cast((args, kwargs), plan.inner, lambda x: x.ndim >= 4)
        args, kwargs = maps_channels_last((args, kwargs), plan.axes)
        output = super().forward(*args, **kwargs)
        if plan.inner is not None:
            output = _cast(output, plan.given, lambda x: x.dtype == plan.inner)
        return tree_map(lambda x: x.contiguous() if isinstance(x, Tensor) else x, output)

    def train(self: Model, mode: bool = True) -> Model:
        """Stay in eval mode.

        Raises:
            RuntimeError: If training mode is asked for.
        """
        if mode:
            raise RuntimeError(
                f"this {type(self).__name__} is for inference: BatchNorm is folded into its convolutions; train the "
                "model that it was made from"
            )
        return super().train(False)  # type: ignore[misc]

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: what is saved could not be built again by its name.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            f"this {type(self).__name__} has other weights than its architecture; save the model that it was made from"
        )

    push_to_hub = save_pretrained

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """Move or cast; a CUDA graph reads the weights where they were."""
        before = self._addresses()
        moved = super()._apply(*args, **kwargs)
        self._forget_graph(before)
        return moved

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights that have BatchNorm folded in; with `assign` they lie elsewhere than a CUDA graph reads."""
        before = self._addresses()
        loaded = super().load_state_dict(*args, **kwargs)
        self._forget_graph(before)
        return loaded

    def __setattr__(self, name: str, value: Any) -> None:
        """Put another part in a place; a CUDA graph has the old one."""
        super().__setattr__(name, value)
        if isinstance(value, nn.Module | Tensor):
            self._forget_graph()

    def _addresses(self) -> list[int]:
        return [x.data_ptr() for x in (*self.parameters(), *self.buffers())] if self.captured else []

    def _forget_graph(self, before: list[int] | None = None) -> None:
        if self.captured and before != self._addresses():
            self._optimized_plan.graph = None
            warnings.warn("the model was changed and lost its CUDA graph; optimize it again", stacklevel=4)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """For `copy` and `pickle`, which know the model's own class by its name; a CUDA graph stays behind."""
        own = type(self).__bases__[1]
        return _blank, (own,), {**vars(self), "_optimized_plan": replace(self._optimized_plan, graph=None)}


def _reset_classifier(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Give the copy a fresh classifier, as the model's own method; a CUDA graph has the old one."""
    before = self._addresses()
    result = type(self).__bases__[1].reset_classifier(self, *args, **kwargs)
    self._forget_graph(before)
    return result


@functools.cache
def _optimized_class(kind: type[nn.Module]) -> type[nn.Module]:
    about: dict[str, Any] = {
        "__module__": kind.__module__,
        "__doc__": f"A `{kind.__name__}` that `optimize_for_inference` made.",
    }
    if hasattr(kind, "reset_classifier"):
        about["reset_classifier"] = _reset_classifier
    return type(f"Optimized{kind.__name__}", (OptimizedModule, kind), about)


def _blank(kind: type[nn.Module]) -> nn.Module:
    return nn.Module.__new__(_optimized_class(kind))


def optimize_for_inference(model: Model, example: Any = None, dtype: torch.dtype | None = None) -> Model:
    """A copy of a model for fast inference; the model itself stays as it is.

    The copy is in eval mode, and its results are the model's but for rounding:

    - BatchNorm is folded into the convolution or linear layer before it where nothing else takes what that gives, as
      far as sequences, `torch.fx` and this library's own layers show it. GroupNorm and LayerNorm depend on their input
      and stay.
    - Weights of convolutions, and the maps that come in, are laid out channels last; clips in float32 on a CPU only
      where convolutions are depthwise.
    - With `dtype`, parameters are cast after folding. Images, clips and maps, that is floating-point inputs of four
      axes and more, are cast on entry; boxes `(N, T, 4)` and joints `(N, J, 3)` have fewer and are not. What the
      forward pass gives in that precision comes back in the model's own. Of torchvision's detectors only the backbone
      is cast, and what a model with a detector takes stays as it is, as detectors scale pictures themselves. The layers
      cast what comes in otherwise, so that other methods work as well; what those give is as the model computes it.
    - With an example, folding is checked, and the copy made fast for inputs of the example's shapes: on CUDA by a CUDA
      graph (`copy.captured`), with the kernels of `actionzoo.kernels.use_kernels` if the call stands inside it; on the
      CPU by weights in oneDNN's layout, which take their memory once more. Other shapes, dtypes and keyword arguments
      run as without.

    The copy is of a subclass of the model's class, so that pipelines and `evaluate` take it. It gives no gradients,
    refuses training mode and is not saved by name. Weights may be changed in place, but not through `.data`, which
    packed weights do not notice; hooks and parts that are changed inside it afterwards are not in a CUDA graph. Copied
    or pickled it loses graph and packed weights, and computes as without an example.

    Args:
        model: Any module, of this library or not, on the device where it will run.
        example: The argument of the forward pass, or all of them as a tuple, on the model's device. None leaves
            folding unchecked and nothing captured or packed.
        dtype: Precision to compute in, such as `torch.bfloat16`; None is the model's own.

    Raises:
        TypeError: If the model is no module or a scripted one, or `dtype` is no floating-point one.
        ValueError: If the model is such a copy already, or does not take the example.
        RuntimeError: If folding changes the results by more than rounding, or the model cannot run in that precision or
            layout: both need an example to be seen.
    """
    _check(model, dtype)
    args = example if isinstance(example, tuple) else (example,)
    # parameters and recorded inputs must outlive an inference mode that the caller may be in
    with torch.inference_mode(False), torch.no_grad():
        made: Any = copy.deepcopy(model).eval().requires_grad_(False)
        before = None if example is None else _before(made, args)
        given = next((x.dtype for x in made.parameters() if x.is_floating_point()), torch.float32)
        inner = None if dtype in (None, given) else dtype
        fold_norms(made)
        # what stands in place of a normalisation is new
        made.eval()
        heads = detector_heads(made)
        plan = made._optimized_plan = _Plan(given, weights_channels_last(made, heads, inner or given))
        made.__class__ = _optimized_class(type(made))
        if inner is not None:
            if before is not None:
                _compare(made, args, before)
            cast_model(made, inner)
            plan.inner, plan.cast_inputs = inner, not detectors(made)
        if before is not None:
            check = _compare if inner is None else _check_range
            pack_weights(made, lambda: check(made, args, before), heads)
            fuse_epilogues(made)
            _capture(made, args)
    return made


def _check(model: Any, dtype: Any) -> None:
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a model, an nn.Module, got {kind}; actionzoo.create builds one by its name")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"{kind} is scripted and cannot be changed; give the module that it was made from")
    if "forward" in vars(model):
        raise ValueError(
            f"the forward pass of this {kind} was replaced on the object, as torch.compile does; give the module as it "
            "was, and compile the copy"
        )
    if isinstance(model, OptimizedModule):
        raise ValueError(f"this {kind} is optimized already; give the model that it was made from")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype is a floating-point one, such as torch.bfloat16, or None; got {dtype!r}")


def _fresh(args: Any) -> Any:
    """Arguments that a model may write into."""
    return tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, args)


def _cast(tree: Any, dtype: torch.dtype | None, which: Any) -> Any:
    """Cast floating-point tensors of a tree."""
    return tree_map(lambda x: x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() and which(x) else x, tree)


def _before(model: nn.Module, args: tuple[Any, ...]) -> list[Tensor]:
    """What the model gives for the example."""
    try:
        return _results(model, args)
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} does not take the example ({type(error).__name__}: {error}); an example is the "
            "argument of its forward pass, or a tuple of all of them, on the model's device"
        ) from error


def _after(made: Any, args: tuple[Any, ...]) -> list[Tensor]:
    """What the copy gives."""
    inner = made._optimized_plan.inner
    try:
        return _results(made, args)
    except Exception as error:
        raise RuntimeError(
            f"{type(made).__name__} cannot run the example channels last{'' if inner is None else f' in {inner}'}, as "
            f"it could before ({type(error).__name__}: {error}); optimize its parts one by one, or in another dtype"
        ) from error


def _compare(made: nn.Module, args: tuple[Any, ...], before: list[Tensor]) -> None:
    """Refuse a copy that gives something else."""
    after = _after(made, args)
    worst = max((_error(*pair) for pair in zip(before, after, strict=False)), default=0.0)
    if len(before) != len(after) or worst > 1:
        raise RuntimeError(
            f"folding BatchNorm changes what this {type(made).__name__} gives for the example by more than rounding "
            f"({worst:.1f} times the tolerance), so that it cannot be optimized. Either it uses what a convolution "
            "gives elsewhere than in BatchNorm, or the example stands on the edge of a decision, such as a maximum"
        )


def _check_range(made: nn.Module, args: tuple[Any, ...], before: list[Tensor]) -> None:
    """Refuse a precision in which finite numbers are not."""
    after = _after(made, args)
    if all(map(_finite, before)) and not all(map(_finite, after)):
        raise RuntimeError(
            f"{type(made).__name__} leaves the range of its new dtype with the example; use torch.bfloat16 or none"
        )


def _results(model: nn.Module, args: tuple[Any, ...]) -> list[Tensor]:
    """What a model gives, as a list; of a detector the maps from which it chooses, as rounding may change a choice."""
    kept: list[Any] = []
    own = model._modules if model in detectors(model) else {}
    parts = [part for name, part in own.items() if part is not None and name in ("backbone", "head")]
    handles = [part.register_forward_hook(lambda module, args, output: kept.append(output)) for part in parts]
    try:
        output = model(*_fresh(args))
    finally:
        for handle in handles:
            handle.remove()
    return [x for x in tree_leaves(kept if parts else output) if isinstance(x, Tensor)]


def _error(before: Tensor, after: Tensor) -> float:
    """Relative error of a tensor over what rounding may make it; infinite for another shape or other integers."""
    if before.shape != after.shape or before.dtype != after.dtype:
        return math.inf
    if not before.is_floating_point():
        return 0.0 if torch.equal(before, after) else math.inf
    tolerance = TOLERANCE.get(before.dtype, 0.1)
    if before.is_cuda and before.dtype == torch.float32 and torch.backends.cudnn.allow_tf32:
        tolerance = _TF32
    one, two = before.double(), after.double()
    same = (one == two) | (one.isnan() & two.isnan())
    difference = torch.where(same, 0.0, one - two).norm()
    # the least is for tensors that are zero but for rounding
    limit = tolerance * (one.nan_to_num(0, 0, 0).norm() + 1e-3 * math.sqrt(one.numel()))
    error = float(difference / limit) if one.numel() else 0.0
    return math.inf if math.isnan(error) else error


def _finite(x: Tensor) -> bool:
    return not x.is_floating_point() or bool(x.isfinite().all())


def _capture(made: Any, args: tuple[Any, ...]) -> None:
    """Record a CUDA graph of the example, or say why there is none."""
    if not any(isinstance(x, Tensor) and x.is_cuda for x in tree_leaves(args)):
        return
    try:
        made._optimized_plan.graph = CapturedForward(made._optimized_forward, args)
    except RuntimeError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        warnings.warn(
            f"{type(made).__name__} runs without a CUDA graph: {reason}. A model that waits for the GPU, as detectors "
            "do, cannot be captured",
            stacklevel=3,
        )
