"""The memory layout that `fit` gives to a network's convolutions."""

import copy

import pytest
import torch
from torch import nn

import actionzoo
from actionzoo.training.fit import _channels_last
from tests import instances, persons

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def convit():
    return actionzoo.create("convit_har_tiny", num_classes=3), torch.randn(2, 3, 64, 64)


def prfnet():
    return actionzoo.create("prfnet_tiny", num_classes=3), torch.randn(2, 3, 64, 64)


def tahnet():
    return instances.net(3).head, torch.randn(3, 8, 4, 4, 4)


def logits_and_gradients(model, inputs):
    torch.manual_seed(1)
    output = model(inputs)
    logits = output[0] if isinstance(output, tuple) else output
    logits.square().sum().backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("build", [tahnet, convit, prfnet])
def test_training_has_the_same_values(build):
    torch.manual_seed(0)
    plain, inputs = build()
    laid = copy.deepcopy(plain)
    _channels_last(laid)
    for name, value in laid.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name
    (expected, gradients), (found, others) = (logits_and_gradients(net.train(), inputs) for net in (plain, laid))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-3 * scale + 1e-5, msg=name)


def test_images_and_clips_in_one_network():
    model = instances.net(3)
    parameters = dict(model.named_parameters())
    _channels_last(model)
    assert {p.ndim for p in parameters.values()} >= {4, 5}
    for name, parameter in model.named_parameters():
        # the very parameters, which an optimizer or another module may hold
        assert parameter is parameters[name]
        if parameter.ndim in FORMATS:
            assert parameter.is_contiguous(memory_format=FORMATS[parameter.ndim]), name
    kernel = next(m.weight for m in model.detector.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1)
    assert not kernel.is_contiguous()


def test_detectors_find_the_same():
    plain = persons.detector().eval()
    laid = copy.deepcopy(plain)
    _channels_last(laid)
    with torch.no_grad():
        (expected,), (found,) = (net([torch.linspace(0, 1, 3 * 64 * 64).reshape(3, 64, 64)]) for net in (plain, laid))
    torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=1e-3, atol=1e-2)
