from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from actionzoo.losses import MultitaskAwareLoss, focal_loss, joints_mse
from tests.reference import multitask_aware as reference

JOINTS, HEIGHT, WIDTH, CLASSES = 3, 4, 5, 6
STREAMS = ("image", "attention", "part")

actions = pytest.mark.parametrize("action", ["focal", "bce"])
reduces = pytest.mark.parametrize("reduce", ["batch", "valid"])


class Output(NamedTuple):
    logits: torch.Tensor
    heatmaps: torch.Tensor
    stream_logits: dict


def predict(batch, streams=STREAMS, dtype=torch.float32, device="cpu"):
    """A random output whose tensors are leaves that take gradients."""

    def leaf(*shape):
        return torch.randn(batch, *shape).to(device, dtype).requires_grad_()

    return Output(leaf(CLASSES), leaf(JOINTS, HEIGHT, WIDTH), {name: leaf(CLASSES) for name in streams})


def leaves(output):
    return [output.logits, output.heatmaps, *output.stream_logits.values()]


def like(output, device="cpu"):
    """The same values as new leaves."""
    new = [leaf.detach().clone().to(device).requires_grad_() for leaf in leaves(output)]
    return Output(new[0], new[1], dict(zip(output.stream_logits, new[2:], strict=True)))


def annotate(kinds, action):
    """Targets of samples of these kinds: `p` has a pose, `a` an action, `q` a pose or an action in part."""
    batch = len(kinds)
    heatmaps, weights = torch.rand(batch, JOINTS, HEIGHT, WIDTH), torch.ones(batch, JOINTS)
    targets = torch.randint(CLASSES, (batch,))
    if action == "bce":
        targets = torch.randint(2, (batch, CLASSES)).float()
    for b, kind in enumerate(kinds):
        if "p" not in kind:
            heatmaps[b] = -1
            weights[b] = 1 if b % 2 else -1
        if "a" not in kind:
            targets[b] = -1
        if "q" in kind:
            weights[b, 0] = 0
            if action == "bce":
                targets[b, [1, 4]] = -1
    return heatmaps, weights, targets


def on(device, *tensors):
    return [tensor.to(device) for tensor in tensors]


def check_against_the_reference(kinds, action, reduce, lam, dtype, streams, device):
    ours = predict(len(kinds), streams, dtype, device)
    theirs = like(ours)
    annotations = annotate(kinds, action)
    loss = MultitaskAwareLoss(lam, action, reduce)(ours, *on(device, *annotations))
    want = reference.multitask_aware(theirs, *annotations, lam=lam, action=action, reduce=reduce)
    for value, wanted in zip(loss, want, strict=True):
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-7)
    loss.total.backward()
    (want[0] + 0 * sum(leaf.sum() for leaf in leaves(theirs))).backward()
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2**-8}[dtype]
    for leaf, wanted in zip(leaves(ours), leaves(theirs), strict=True):
        assert leaf.grad.dtype == dtype
        assert_close(leaf.grad.cpu(), wanted.grad, rtol=tolerance, atol=1e-7)


@actions
@reduces
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kinds", ["pa|pa", "p|a", "paq|pq|aq||a", "|p||", "|", "a"], ids=lambda k: f"kinds-{k}")
def test_equals_the_loop(kinds, action, reduce, dtype, device):
    check_against_the_reference(kinds.split("|"), action, reduce, 0.3, dtype, STREAMS, device)


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["", "p", "a", "pa", "pq", "aq", "paq"]), min_size=1, max_size=5),
    action=st.sampled_from(["focal", "bce"]),
    reduce=st.sampled_from(["batch", "valid"]),
    lam=st.sampled_from([0.0, 0.00075, 2.0]),
    streams=st.sampled_from([STREAMS, ("image", "part"), ()]),
)
def test_any_mixture_equals_the_loop(kinds, action, reduce, lam, streams):
    check_against_the_reference(kinds, action, reduce, lam, torch.float32, streams, "cpu")


@reduces
def test_a_fully_annotated_batch_is_the_sum_of_the_plain_losses(reduce):
    output = predict(4)
    heatmaps, weights, targets = annotate(["pa"] * 4, "focal")
    loss = MultitaskAwareLoss(reduce=reduce)(output, heatmaps, weights[..., None], targets)
    assert_close(loss.pose, joints_mse(output.heatmaps, heatmaps, weights))
    heads = [output.logits, *output.stream_logits.values()]
    assert_close(loss.action, sum(focal_loss(head, targets) for head in heads))
    assert_close(loss.total, loss.pose + 0.00075 * loss.action)


@actions
def test_doubling_a_batch_with_unannotated_samples(action, device):
    """Eq. 3 divides by the whole batch: half the samples annotated, half the loss."""
    output, annotations = predict(3, device=device), on(device, *annotate(["pa", "p", "a"], action))
    blank = on(device, *annotate(["", "", ""], action))
    doubled = Output(
        torch.cat([output.logits] * 2),
        torch.cat([output.heatmaps] * 2),
        {name: torch.cat([logits] * 2) for name, logits in output.stream_logits.items()},
    )
    both = [torch.cat(pair) for pair in zip(annotations, blank, strict=True)]
    for reduce, factor in (("batch", 0.5), ("valid", 1.0)):
        criterion = MultitaskAwareLoss(0.5, action, reduce)
        for value, once in zip(criterion(doubled, *both), criterion(output, *annotations), strict=True):
            assert once > 0.1
            assert_close(value, factor * once)


@actions
@reduces
@pytest.mark.parametrize("value", [None, float("nan"), float("inf")], ids=["finite", "nan", "inf"])
def test_an_unannotated_batch_is_an_exact_zero_with_a_graph(action, reduce, value, device):
    output = predict(4, device=device)
    if value is not None:
        with torch.no_grad():
            for leaf in leaves(output):
                leaf.fill_(value)
    loss = MultitaskAwareLoss(action=action, reduce=reduce)(output, *on(device, *annotate([""] * 4, action)))
    assert [part.item() for part in loss] == [0, 0, 0]
    assert all(part.requires_grad for part in loss)
    loss.total.backward()
    for leaf in leaves(output):
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))


@actions
@reduces
def test_every_parameter_gets_a_gradient_of_zero(action, reduce, device):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.pose = nn.Linear(7, 8), nn.Linear(8, JOINTS * HEIGHT * WIDTH)
            self.heads = nn.ModuleDict({name: nn.Linear(8, CLASSES) for name in (*STREAMS, "concat")})

        def forward(self, x):
            x = self.trunk(x).relu()
            scores = {name: head(x) for name, head in self.heads.items()}
            return Output(scores.pop("concat"), self.pose(x).unflatten(1, (JOINTS, HEIGHT, WIDTH)), scores)

    net = Net().to(device)
    criterion = MultitaskAwareLoss(action=action, reduce=reduce)
    criterion(net(torch.randn(3, 7, device=device)), *on(device, *annotate([""] * 3, action))).total.backward()
    assert all(p.grad is not None and p.grad.count_nonzero() == 0 for p in net.parameters())
    criterion(net(torch.randn(3, 7, device=device)), *on(device, *annotate(["pa"] * 3, action))).total.backward()
    assert all(p.grad.count_nonzero() > 0 for p in net.parameters())


@actions
@reduces
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_unannotated_predictions_may_be_anything(action, reduce, value, device):
    """NaN in a sample without a pose, or a class without a label, reaches neither the others nor itself."""
    output, kinds = predict(4, device=device), ["paq", "p", "a", ""]
    annotations = on(device, *annotate(kinds, action))
    criterion = MultitaskAwareLoss(1.0, action, reduce)
    want = criterion(output, *annotations)
    spoilt = like(output, device)
    with torch.no_grad():
        spoilt.heatmaps[2:] = value
        for logits in (spoilt.logits, *spoilt.stream_logits.values()):
            logits[[1, 3]] = value
            if action == "bce":
                logits[0, [1, 4]] = value
    loss = criterion(spoilt, *annotations)
    assert [part.item() for part in loss] == [part.item() for part in want]
    want.total.backward()
    loss.total.backward()
    for leaf, wanted in zip(leaves(spoilt), leaves(output), strict=True):
        assert torch.equal(leaf.grad, wanted.grad)
    assert spoilt.heatmaps.grad[2:].count_nonzero() == 0
    assert spoilt.logits.grad[[1, 3]].count_nonzero() == 0


@actions
def test_an_annotated_nan_is_not_hidden(action):
    output = predict(2)
    annotations = annotate(["pa", "pa"], action)
    for leaf, spoilt in ((output.heatmaps, "pose"), (output.logits, "action")):
        with torch.no_grad():
            kept = leaf[0].clone()
            leaf[0] = torch.nan
        loss = MultitaskAwareLoss(action=action)(output, *annotations)
        assert {name for name, part in loss._asdict().items() if part.isnan()} == {"total", spoilt}
        with torch.no_grad():
            leaf[0] = kept


def test_a_pose_needs_a_weight_and_a_heat_map():
    output = predict(1)
    heatmaps, weights, targets = annotate(["p"], "focal")
    criterion = MultitaskAwareLoss()
    assert criterion(output, heatmaps, weights, targets).pose > 0
    assert criterion(output, torch.full_like(heatmaps, -1), weights, targets).pose == 0
    assert criterion(output, heatmaps, torch.zeros_like(weights), targets).pose == 0
    assert criterion(output, heatmaps, torch.full_like(weights, -1), targets).pose == 0
    one_joint = torch.tensor([[0.0, 1.0, 0.0]])
    assert_close(criterion(output, heatmaps, one_joint, targets).pose, joints_mse(output.heatmaps, heatmaps, one_joint))


def test_one_missing_label_does_not_silence_the_row():
    """Two of three classes, both undecided: log 2 for each of the four heads."""
    scores = torch.zeros(1, 3)
    output = Output(scores, torch.zeros(1, 1, 2, 2), dict.fromkeys(STREAMS, scores))
    maps, weights = torch.full((1, 1, 2, 2), -1.0), torch.zeros(1, 1)
    criterion = MultitaskAwareLoss(action="bce")
    for targets in (torch.tensor([[1, -1, 0]]), torch.tensor([[1.0, -1.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.5]])):
        assert criterion(output, maps, weights, targets).action.item() == pytest.approx(4 * 0.6931472)
    assert criterion(output, maps, weights, torch.tensor([[-1, -1, -1]])).action == 0


def test_gamma_reaches_every_head():
    output = predict(3)
    heatmaps, weights, targets = annotate(["a"] * 3, "focal")
    heads = [output.logits, *output.stream_logits.values()]
    loss = MultitaskAwareLoss(gamma=0.0)(output, heatmaps, weights, targets)
    assert_close(loss.action, sum(nn.functional.cross_entropy(head, targets) for head in heads))


class Operators(TorchDispatchMode):
    """Names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._schema.name)
        return func(*args, **(kwargs or {}))


@actions
@reduces
def test_nothing_is_read_back_to_the_host(action, reduce, device):
    output = predict(4, device=device)
    annotations = on(device, *annotate(["pa", "p", "a", ""], action))
    with Operators() as operators:
        MultitaskAwareLoss(action=action, reduce=reduce)(output, *annotations).total.backward()
    assert "aten::where" in operators.names
    waiting = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero", "aten::index"}
    assert not operators.names & waiting


@actions
@reduces
def test_compiles_in_one_graph(action, reduce):
    criterion = MultitaskAwareLoss(action=action, reduce=reduce)
    output, annotations = predict(4), annotate(["pa", "p", "a", "q"], action)
    torch._dynamo.reset()
    explained = torch._dynamo.explain(criterion)(output, *annotations)
    assert explained.graph_break_count == 0
    assert explained.graph_count == 1
    torch._dynamo.reset()
    compiled, eager = like(output), like(output)
    loss = torch.compile(criterion, backend="eager", fullgraph=True)(compiled, *annotations)
    want = criterion(eager, *annotations)
    assert_close(tuple(loss), tuple(want))
    loss.total.backward()
    want.total.backward()
    for leaf, wanted in zip(leaves(compiled), leaves(eager), strict=True):
        assert_close(leaf.grad, wanted.grad)


def test_shows_its_settings():
    assert repr(MultitaskAwareLoss(action="bce")) == (
        "MultitaskAwareLoss(lam=0.00075, action='bce', reduce='batch', gamma=2.0)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": "ce"}, "unknown action loss 'ce', expected 'focal' or 'bce'"),
        ({"reduce": "mean"}, "unknown reduce 'mean', expected 'batch' or 'valid'"),
        ({"lam": -1.0}, "at least 0, got -1.0"),
        ({"gamma": float("nan")}, "at least 0.*nan"),
    ],
    ids=["action", "reduce", "lam", "gamma"],
)
def test_unknown_settings(options, message):
    with pytest.raises(ValueError, match=message):
        MultitaskAwareLoss(**options)


GOOD = {"logits": (2, 6), "stream": (2, 6), "maps": (2, 3, 4, 5), "heatmaps": (2, 3, 4, 5), "weights": (2, 3)}


@pytest.mark.parametrize(
    ("action", "targets", "wrong", "message"),
    [
        ("focal", (2,), {"logits": (2,)}, r"logits \(B, K\) of one shape"),
        ("focal", (2,), {"stream": (2, 5)}, r"of one shape.*got \(2, 5\), \(2, 6\)"),
        ("focal", (2,), {"maps": (3, 3, 4, 5)}, r"the 2 samples of the logits, got \(3, 3, 4, 5\)"),
        ("focal", (2,), {"heatmaps": (2, 3, 8, 5)}, r"one shape, got \(2, 3, 4, 5\) and \(2, 3, 8, 5\)"),
        ("focal", (2,), {"weights": (2,)}, r"weight per joint.*got \(2,\)"),
        ("focal", (2,), {"logits": (0, 6), "stream": (0, 6)}, r"got \(0, 6\)"),
        ("focal", (3,), {}, r"targets \(2,\), class indices, got \(3,\)"),
        ("focal", (2, 6), {}, r'got \(2, 6\); multi-label targets need action="bce"'),
        ("bce", (2,), {}, r'targets \(2, 6\).*got \(2,\); class indices need action="focal"'),
    ],
    ids=["rank", "stream", "maps", "target-maps", "weights", "empty", "targets", "multi-label", "indices"],
)
def test_wrong_shapes(action, targets, wrong, message):
    shapes = {**GOOD, **wrong}
    output = Output(
        torch.zeros(shapes["logits"]), torch.zeros(shapes["maps"]), {"image": torch.zeros(shapes["stream"])}
    )
    with pytest.raises(ValueError, match=message):
        MultitaskAwareLoss(action=action)(
            output, torch.zeros(shapes["heatmaps"]), torch.ones(shapes["weights"]), torch.zeros(targets).long()
        )


def test_class_indices_are_integers_in_range():
    output, (heatmaps, weights, _) = predict(2), annotate(["a"] * 2, "focal")
    with pytest.raises(TypeError, match=r"integer class indices as targets, got torch.float32"):
        MultitaskAwareLoss()(output, heatmaps, weights, torch.zeros(2))
    for index in (CLASSES, -2):
        with pytest.raises(RuntimeError, match=f"index {index} is out of bounds"):
            MultitaskAwareLoss()(output, heatmaps, weights, torch.tensor([0, index]))
