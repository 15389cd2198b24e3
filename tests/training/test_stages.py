import copy
import io
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from actionzoo.training import freeze, unfreeze


class Parent(nn.Module):
    """A timm backbone with BatchNorm, DropPath and Dropout, and a head, as the staged models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.trunk: Any = timm.create_model(
            "resnet18", num_classes=0, channels=(4, 4, 4, 4), stem_width=4, drop_rate=0.5, drop_path_rate=0.5
        )
        self.head = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.trunk.forward_intermediates(self.stem(x), intermediates_only=True)
        return self.head(maps[-1].mean((2, 3)))


MOVED = {f"{name}.{leaf}" for name in ("bn1", "layer4.1.bn2") for leaf in ("weight", "running_mean", "running_var")}
MOVED |= {"conv1.weight", "layer4.0.conv1.weight", "bn1.num_batches_tracked"}


@pytest.fixture
def parent() -> Parent:
    torch.manual_seed(0)
    return Parent()


def train(model: nn.Module, steps: int = 2) -> None:
    """As a training loop does it, with everything in the optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(steps):
        model.train()
        optimizer.zero_grad(set_to_none=False)
        model(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()


def values(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def in_eval(module: nn.Module) -> bool:
    return not any(part.training for part in module.modules())


def test_without_freezing_everything_changes(parent):
    before = values(parent.trunk)
    train(parent)
    assert changed(parent.trunk, before) >= MOVED


def test_a_frozen_part_stays_bit_equal_while_the_parent_trains(parent):
    frozen, rest = values(freeze(parent.trunk)), values(parent.head)
    train(parent)
    assert changed(parent.trunk, frozen) == set()
    assert changed(parent.head, rest) >= {"0.running_mean", "0.num_batches_tracked", "1.weight"}
    assert in_eval(parent.trunk)
    assert (parent.training, parent.head.training) == (True, True)
    assert all(p.grad is None and not p.requires_grad for p in parent.trunk.parameters())


def test_gradients_pass_through_a_frozen_part(parent):
    freeze(parent.trunk)
    before = values(parent.stem)
    train(parent)
    assert "weight" in changed(parent.stem, before)


def test_gradients_from_before_freezing_are_not_applied_any_more(parent):
    optimizer = torch.optim.SGD(parent.parameters(), lr=0.1, weight_decay=0.1)
    parent(torch.randn(4, 3, 32, 32)).sum().backward()
    before = values(freeze(parent.trunk))
    optimizer.step()
    assert changed(parent.trunk, before) == set()


@pytest.mark.parametrize("method", ["forward", "forward_features", "forward_intermediates"])
def test_every_method_runs_in_eval_mode(parent, method):
    x = torch.randn(2, 3, 32, 32)
    run = getattr(parent.trunk, method)
    with torch.no_grad():
        parent.eval()
        expected = run(x)
        freeze(parent.trunk)
        parent.train()
        torch.testing.assert_close(run(x), expected, rtol=0, atol=0)
        torch.testing.assert_close(run(x), run(x), rtol=0, atol=0)


def test_train_and_eval_of_the_module_itself_leave_it_in_eval(parent):
    trunk = freeze(parent.trunk)
    for call in (trunk.train, trunk.eval, lambda: trunk.train(True), lambda: trunk.train(mode=True)):
        assert call() is trunk
        assert in_eval(trunk)


def test_a_submodule_put_into_training_is_called_back(parent):
    freeze(parent.trunk).layer1.train()
    assert parent.trunk.layer1.training
    parent.train()
    assert in_eval(parent.trunk)


@pytest.mark.parametrize("times", [1, 2])
def test_unfreeze_restores_what_required_gradients(parent, times):
    parent.trunk.conv1.requires_grad_(False)
    required = {name: p.requires_grad for name, p in parent.named_parameters()}
    for _ in range(times):
        freeze(parent.trunk)
    assert unfreeze(parent.trunk) is parent.trunk
    assert {name: p.requires_grad for name, p in parent.named_parameters()} == required
    assert in_eval(parent.trunk)
    parent.train()
    assert all(part.training for part in parent.modules())
    before = values(parent.trunk)
    train(parent)
    assert changed(parent.trunk, before) & {"conv1.weight", *MOVED} == MOVED - {"conv1.weight"}


def test_freezing_again_catches_what_was_switched_on(parent):
    freeze(parent.trunk).layer2.requires_grad_(True)
    freeze(parent.trunk)
    assert not any(p.requires_grad for p in parent.trunk.parameters())


def test_unfreezing_what_is_not_frozen_changes_nothing(parent):
    parent.trunk.conv1.requires_grad_(False)
    unfreeze(parent.trunk)
    assert (parent.trunk.conv1.weight.requires_grad, parent.trunk.training) == (False, True)


@pytest.mark.parametrize("inner_first", [True, False], ids=["inner-first", "outer-first"])
def test_a_part_frozen_on_its_own_outlives_its_parents_unfreezing(parent, inner_first):
    parts = [parent.trunk, parent]
    for part in parts if inner_first else reversed(parts):
        freeze(part)
    unfreeze(parent).train()
    assert in_eval(parent.trunk)
    assert parent.head.training
    assert not any(p.requires_grad for p in parent.trunk.parameters())
    assert all(p.requires_grad for p in parent.head.parameters())
    unfreeze(parent.trunk)
    assert all(p.requires_grad for p in parent.parameters())
    assert all(part.training for part in parent.train().modules())


def by_pickle(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, by_pickle], ids=["deepcopy", "torch.save"])
def test_a_copy_is_frozen_on_its_own(parent, duplicate):
    freeze(parent.trunk)
    other = duplicate(parent)
    assert other.trunk.train() is other.trunk is not parent.trunk
    before = values(other.trunk)
    train(other)
    assert changed(other.trunk, before) == set()
    assert in_eval(other.trunk)

    unfreeze(other.trunk)
    assert all(part.training for part in other.train().modules())
    assert all(p.requires_grad for p in other.parameters())
    assert in_eval(parent.train().trunk)
    assert not any(p.requires_grad for p in parent.trunk.parameters())


def test_state_dict_names_stay(parent):
    names = list(parent.state_dict())
    freeze(parent.trunk)
    assert list(parent.state_dict()) == names


def test_a_frozen_part_compiles(parent):
    freeze(parent.trunk)
    x = torch.randn(2, 3, 32, 32)
    parent.eval()
    compiled = torch.compile(parent, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), parent(x))


@pytest.mark.parametrize("function", [freeze, unfreeze])
def test_other_things_are_refused(function):
    with pytest.raises(TypeError, match=r"takes a torch.nn.Module, got list"):
        function([nn.Linear(2, 2)])
