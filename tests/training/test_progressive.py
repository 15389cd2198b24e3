import copy

import pytest
import torch
from torch import nn

import actionzoo
from actionzoo.layers import RegionFocusedGenerator
from actionzoo.training import progressive_step
from tests.reference import progressive as reference


@pytest.fixture
def model():
    torch.manual_seed(0)
    args = {"channels": (8, 8, 16, 16), "stem_width": 4}
    return actionzoo.create("prfnet_tiny", num_classes=4, backbone_args=args, dim=16, hidden=16).train()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(4, 3, 64, 48), torch.tensor([0, 1, 2, 3])


class Recorder(torch.optim.SGD):
    """SGD that notes the state of the model after every step."""

    def __init__(self, model, **args):
        super().__init__(model.parameters(), **args)
        self.model, self.states = model, [copy.deepcopy(model.state_dict())]

    def step(self, closure=None):
        super().step(closure)
        self.states.append(copy.deepcopy(self.model.state_dict()))


def test_each_step_changes_what_it_uses_and_nothing_else(model, batch):
    # momentum and weight decay would move any parameter whose gradient is zero rather than None
    optimizer = Recorder(model, lr=0.1, momentum=0.9, weight_decay=0.1)
    progressive_step(model, *batch, optimizer)
    optimizer.states = optimizer.states[-1:]
    progressive_step(model, *batch, optimizer)
    assert len(optimizer.states) == 5
    for step, (before, after) in enumerate(zip(optimizer.states, optimizer.states[1:]), 1):
        changed = {k for k in before if not torch.equal(before[k], after[k])}
        assert changed <= reference.used_by_stage(model, step)
        trained = {k for k, _ in model.named_parameters()} & reference.used_by_stage(model, step)
        assert trained <= changed


def test_after_step_one_deeper_layers_and_other_heads_are_bit_for_bit_unchanged(model, batch):
    optimizer = Recorder(model, lr=0.1, momentum=0.9, weight_decay=0.1)
    progressive_step(model, *batch, optimizer)
    before, after = optimizer.states[:2]
    frozen = [k for k in before if k.startswith(("backbone.layer3", "backbone.layer4", "head.", "attention.1"))]
    frozen += [k for k in before if k.startswith(("attention.2", "stage_heads.1", "stage_heads.2"))]
    assert any("running_mean" in k for k in frozen)
    assert all(torch.equal(before[k], after[k]) for k in frozen)
    assert not torch.equal(before["backbone.layer2.0.bn1.running_mean"], after["backbone.layer2.0.bn1.running_mean"])


def test_equals_the_plain_loop(model, batch):
    expected, losses = reference.sgd_iteration(model, *batch, lr=0.05)
    out = progressive_step(model, *batch, torch.optim.SGD(model.parameters(), lr=0.05))
    torch.testing.assert_close(out.losses, torch.tensor(losses), rtol=1e-5, atol=1e-6)
    for (name, p), q in zip(model.state_dict().items(), expected.state_dict().values()):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_boxes_are_the_chain_of_regions_in_original_pixels(model, batch):
    out = progressive_step(model, *batch, torch.optim.SGD(model.parameters(), lr=0.0))
    assert out.boxes.shape == (4, 3, 4)
    sides = out.boxes[..., 2:] - out.boxes[..., :2]
    expected = torch.tensor([[48 * 0.75**s, 64 * 0.75**s] for s in (1, 2, 3)])
    torch.testing.assert_close(sides, expected.expand_as(sides))
    assert (out.boxes[:, 1:, :2] >= out.boxes[:, :-1, :2] - 1e-4).all()
    assert (out.boxes[:, 1:, 2:] <= out.boxes[:, :-1, 2:] + 1e-4).all()


class Seen(nn.Module):
    """Wraps a model as DistributedDataParallel does, and keeps the images of every pass."""

    def __init__(self, module):
        super().__init__()
        self.module, self.images, self.losses = module, [], []

    def forward(self, images, **args):
        self.images.append(images)
        self.losses.append(args.get("losses"))
        return self.module(images, **args)


@pytest.mark.parametrize(("final", "index"), [("original", 0), ("region", 3)])
def test_images_of_every_step(model, batch, final, index):
    seen = Seen(model)
    images, targets = batch
    progressive_step(seen, images, targets, torch.optim.SGD(model.parameters(), lr=0.0), final_input=final, repeats=2)
    assert len(seen.images) == 8
    assert torch.equal(seen.images[0], images)
    assert torch.equal(seen.images[4], images)
    assert not torch.equal(seen.images[1], images)
    if final == "original":
        assert torch.equal(seen.images[3], images)
    else:
        assert not any(torch.equal(seen.images[3], x) for x in seen.images[:3])


def test_ablations_switch_off_regions_and_weights(model, batch):
    seen = Seen(model)
    images, targets = batch
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    out = progressive_step(seen, images, targets, optimizer, generator=None, weighted=False)
    assert all(torch.equal(x, images) for x in seen.images)
    assert seen.losses == [None] * 4
    assert out.boxes.shape == (4, 0, 4)


def test_own_generator_backward_and_hook_are_used(model, batch):
    calls = []
    out = progressive_step(
        model,
        *batch,
        torch.optim.SGD(model.parameters(), lr=0.01),
        generator=RegionFocusedGenerator(0.5),
        backward=lambda loss: (calls.append("backward"), loss.backward()),
        before_step=lambda: calls.append("hook"),
        concat_weight=2.0,
    )
    assert calls == ["backward", "hook"] * 4
    torch.testing.assert_close(out.boxes[:, 0, 2] - out.boxes[:, 0, 0], torch.full((4,), 24.0))
    assert out.logits.shape == (4, 4)
    assert not out.losses.requires_grad


def test_a_gradient_scaler_steps_in_the_optimizers_place(model, batch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38, backoff_factor=0.95)
    before = copy.deepcopy(model.state_dict())
    args = {"backward": lambda loss: scaler.scale(loss).backward()}
    args["step"] = lambda: (scaler.step(optimizer), scaler.update())
    progressive_step(model, *batch, optimizer, **args)
    moved = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}
    assert not moved, "a step whose gradients overflow is skipped"
    assert scaler.get_scale() < 3e38


def test_overfits_eight_images_within_a_hundred_iterations(model):
    torch.manual_seed(2)
    images, targets = torch.randn(8, 3, 64, 64), torch.arange(8) % 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(100):
        out = progressive_step(model, images, targets, optimizer)
        if (out.losses < 0.1).all():
            break
    assert (out.losses < 0.1).all()
    assert (out.logits.argmax(1) == targets).all()


def test_batch_of_one_trains(model):
    out = progressive_step(
        model, torch.randn(1, 3, 64, 64), torch.tensor([1]), torch.optim.SGD(model.parameters(), lr=0.01)
    )
    assert torch.isfinite(out.losses).all()


@pytest.mark.parametrize("bad", [{"final_input": "crop"}, {"repeats": 0}])
def test_bad_arguments(model, batch, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        progressive_step(model, *batch, torch.optim.SGD(model.parameters(), lr=0.1), **bad)
