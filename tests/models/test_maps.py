"""What PRF-Net and ConViT have in common: networks on the feature maps of a timm model."""

import pytest
import torch
from torch import nn

from actionzoo.models import ConViTHAR, PRFNet
from actionzoo.models._maps import select_maps

BACKBONE = {"backbone": "resnet18d", "backbone_args": {"channels": (8, 12, 16, 20), "stem_width": 8}}
SIZES = {"ConViTHAR": [16, 8, 12, 16, 20], "PRFNet": [12, 16, 20]}


@pytest.fixture(params=["PRFNet", "ConViTHAR"])
def model(request):
    torch.manual_seed(0)
    if request.param == "PRFNet":
        return PRFNet(**BACKBONE, num_classes=3, dim=16, tokens=2, num_heads=2, hidden=8).eval()
    return ConViTHAR(**BACKBONE, num_classes=3, heads=2, head_dim=4, input_size=(3, 64, 64)).eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64)


def channels(maps):
    return [x.shape[1] for x in maps]


@pytest.mark.parametrize("indices", [None, 2, [0], [1, 2], [-1, 0], [2, 2, 1]], ids=str)
@torch.no_grad()
def test_maps_come_in_the_order_asked_for(model, images, indices):
    sizes = SIZES[type(model).__name__]
    wanted = sizes if indices is None else sizes[-2:] if indices == 2 else [sizes[i] for i in indices]
    final, between = model.forward_intermediates(images, indices)
    alone = model.forward_intermediates(images, indices, intermediates_only=True)
    assert channels(between) == channels(alone) == wanted
    torch.testing.assert_close(alone, between)
    torch.testing.assert_close(final, model.forward_features(images))


@pytest.mark.parametrize("prune_head", [True, False])
@torch.no_grad()
def test_pruned_layers_leave_the_maps_that_remain(model, images, prune_head):
    sizes = SIZES[type(model).__name__][:2]
    wanted = model.forward_intermediates(images, [0, 1], intermediates_only=True)
    assert model.prune_intermediate_layers([-len(model.out_indices), 1], prune_head=prune_head) == [0, 1]
    for indices in (None, 2, [0, 1], [-2, -1]):
        maps = model.forward_intermediates(images, indices, intermediates_only=True)
        assert channels(maps) == sizes
        torch.testing.assert_close(maps, wanted)
    heads = [name for name, _ in model.named_parameters() if not name.startswith("backbone.")]
    assert bool(heads) != prune_head
    assert not any("layer4" in name for name in model.state_dict())


@pytest.mark.parametrize("indices", [[], [5], [-6], 0, -1, 6, 9])
@pytest.mark.parametrize("method", ["forward_intermediates", "prune_intermediate_layers"])
def test_maps_that_there_are_not(model, images, method, indices):
    arguments = (images, indices) if method == "forward_intermediates" else (indices,)
    with pytest.raises(ValueError, match=r"feature indices .* do not fit [35] feature maps"):
        getattr(model, method)(*arguments)


def test_refusals_name_the_network(model, images):
    with pytest.raises(ValueError, match=rf"{type(model).__name__} expects images \(B, 3, H, W\), got shape \(3, 64"):
        model(images[0])
    with pytest.raises(ValueError, match="output_fmt is 'NCHW', got 'NHWC'"):
        model.forward_intermediates(images, output_fmt="NHWC")


def test_a_backbone_that_gives_no_maps_is_refused():
    with pytest.raises(ValueError, match="'plain' has no forward_intermediates"):
        select_maps(nn.Identity(), "plain", None, None)
