"""Fixed bounds of what each layer asks of a machine; no clock is needed, so that a slower one cannot fail them.

That no layer breaks the compiler's graph is in the layers' own tests, which compile with `fullgraph=True`.
"""

import pytest
import torch
from torch.utils._pytree import tree_map

from benchmarks import counts
from benchmarks.cases import all_cases

CASES = {case.name: case for case in all_cases() if case.suite == "layers"}
# ATen operations and host synchronisations in eager mode on the CPU; operations without a host to read, as in a graph.
# A few more than today's, as versions of torch differ in what one operation is made of.
BOUNDS = {
    "serialized_attention": (26, 0, 41),
    "region_focus": (43, 1, 150),
    "attention_mixture": (23, 0, 23),
    "feature_map_vit/14x14": (36, 0, 66),
    "crop_resize": (8, 1, 112),
    "part_cropper": (120, 1, 216),
    "attention_image": (132, 0, 132),
    "multitask_aware_loss": (88, 0, 88),
    "outermost_box/2-people-14x14": (122, 2, 404),
    "channel_bottleneck3d": (14, 0, 14),
    "decode_heatmaps": (18, 0, 18),
}


def ours(name):
    problem = CASES[name].problem(**CASES[name].sizes["tiny"])
    provider = next(provider for provider in problem.providers if provider.kind == "ours")
    return problem, provider


@pytest.mark.parametrize("name", BOUNDS)
def test_a_layer_needs_no_more_operations_than_it_did(name):
    problem, provider = ours(name)
    inputs = problem.inputs(torch.Generator().manual_seed(0))
    most, reads, most_without_host = BOUNDS[name]

    operations, synchronisations = counts.operations(provider.build(problem.state)[0], inputs)
    assert operations <= most
    assert synchronisations <= reads

    # without values: whatever the host wanted to read would fail
    state, inputs = tree_map(lambda x: x.to("meta"), (dict(problem.state), inputs))
    operations, synchronisations = counts.operations(provider.build(state)[0], inputs)
    assert operations <= most_without_host
    assert synchronisations == 0
