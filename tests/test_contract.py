"""The contract that every registered model keeps. A new model joins by being registered."""

import copy

import pytest
import torch
from torch.utils import _pytree as pytree

import actionzoo
from actionzoo.profile import count_macs
from actionzoo.weights import load_weights, save_checkpoint

# what a detector gives has a length that depends on the picture; their contracts are test_person_detector.py,
# test_keypoint_detector.py and test_yolof.py in tests/models
DETECTION = ("object detection", "person detection", "person keypoint detection")
DETECTORS = [name for task in DETECTION for name in actionzoo.list_models(task=task)]
ALL = [name for name in actionzoo.list_models() if name not in DETECTORS]
TINY = [name for name in ALL if name.endswith("_tiny")]
CLASSES = 7


def classifies(name):
    return actionzoo.model_info(name).num_classes is not None


tiny = pytest.mark.parametrize("name", TINY)
tiny_classifier = pytest.mark.parametrize("name", [name for name in TINY if classifies(name)])
every = pytest.mark.parametrize("name", ALL)


def create(name, **args):
    return actionzoo.create(name, **({"num_classes": CLASSES} if classifies(name) else {}), **args)


@pytest.fixture(scope="module")
def built():
    """Each tiny model once, in eval mode; tests that change one copy it first."""
    cache = {}

    def build(name):
        if name not in cache:
            torch.manual_seed(0)
            cache[name] = create(name).eval()
        return cache[name]

    return build


def inputs_of(name, batch=3):
    return actionzoo.model_info(name).example_inputs(batch)


def main_of(output):
    """The logits, or the heat maps of a model without classes: the output itself, or its first field."""
    return output if isinstance(output, torch.Tensor) else output[0]


def shape_of(name, model, batch):
    """What `main_of` has to look like."""
    if classifies(name):
        return (batch, model.num_classes)
    height, width = actionzoo.model_info(name).input_size[-2:]
    return (batch, model.num_joints, height // 4, width // 4)


def floats_of(output):
    """Every floating-point tensor of an output: logits of all heads, heat maps and what else there is."""
    leaves = pytree.tree_leaves(output)
    return [x for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point()]


def scalar_of(output):
    """One number that every part of an output goes into."""
    return sum(x.float().square().sum() for x in floats_of(output))


def steps_of(model):
    """Every way of running the model that training uses: `forward` and each stage."""
    runs = [lambda x: model(*x)]
    if hasattr(model, "forward_stage"):
        runs += [lambda x, s=s: model.forward_stage(*x, s) for s in range(1, model.num_stages + 2)]
    return runs


@every
def test_recorded_facts_are_those_of_the_built_model(name):
    info = actionzoo.model_info(name)
    with torch.device("meta"):
        model = actionzoo.create(name)
        inputs = info.example_inputs(1)
        output = main_of(model.eval()(*inputs))
    assert getattr(model, "num_classes", None) == info.num_classes
    assert output.shape == shape_of(name, model, 1)
    assert info.parameters == sum(p.numel() for p in model.parameters())
    assert info.macs == count_macs(model, *inputs, ops="all")
    assert info.description
    assert tuple(model.pretrained_cfg["input_size"]) == info.input_size


@every
def test_aliases_build_the_same_model(name):
    for alias in actionzoo.model_info(name).aliases:
        assert actionzoo.model_info(alias) is actionzoo.model_info(name)


@tiny
def test_output_and_stages_have_one_finite_row_per_input(built, name):
    model = built(name)
    for run in steps_of(model):
        with torch.no_grad():
            output = run(inputs_of(name))
        assert main_of(output).shape == shape_of(name, model, 3)
        for x in floats_of(output):
            assert len(x) == 3
            assert torch.isfinite(x).all()


@tiny
def test_every_parameter_gets_a_finite_gradient(built, name):
    model = copy.deepcopy(built(name)).train()
    with torch.no_grad():  # away from zero-initialised norms, which stop gradients at the start of training
        for p in model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    sum(scalar_of(run(inputs_of(name))) for run in steps_of(model)).backward()
    # a model may come with a frozen part, such as the detector of an instance-guided one
    asking = {key: p for key, p in model.named_parameters() if p.requires_grad}
    without = [key for key, p in asking.items() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert asking
    assert not without
    zero = [key for key, p in asking.items() if not p.grad.any()]
    assert not zero, f"no gradient ever reaches {zero}"


@tiny
def test_batch_order_and_size_do_not_matter_in_eval(built, name):
    model, inputs = built(name), inputs_of(name)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        output = model(*inputs)
        permuted = model(*(x[order] for x in inputs))
        single = model(*(x[1:2] for x in inputs))
    # indices of rows count anew in every batch
    reordered = [x[order] for x in floats_of(output)]
    torch.testing.assert_close(floats_of(permuted), reordered, rtol=1e-4, atol=1e-5)
    second = [x[1:2] for x in floats_of(output)]
    torch.testing.assert_close(floats_of(single), second, rtol=1e-4, atol=1e-5)


@tiny
def test_features_and_head_make_up_forward(built, name):
    model, inputs = built(name), inputs_of(name)
    with torch.no_grad():
        features = model.forward_features(*inputs)
        torch.testing.assert_close(model.forward_head(features), main_of(model(*inputs)))
        before = model.forward_head(features, pre_logits=True)
    assert before.shape == (3, model.head_hidden_size, *shape_of(name, model, 3)[2:])
    assert features.shape[1] == model.num_features


@tiny_classifier
def test_reset_classifier(built, name):
    model = copy.deepcopy(built(name))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.reset_classifier(4)
    assert model.num_classes == 4
    assert model.get_classifier().out_features == 4
    assert all(main_of(run(inputs_of(name))).shape == (3, 4) for run in steps_of(model))
    assert all(model.get_submodule(key).out_features == 4 for key in model.classifier_names)
    after = model.state_dict()
    kept = [k for k, v in after.items() if k in before and before[k].shape == v.shape]
    assert all(torch.equal(after[k], before[k]) for k in kept)
    model.reset_classifier(0)
    assert main_of(model(*inputs_of(name))).shape == (3, model.head_hidden_size)


@tiny
def test_state_dict_round_trip_is_bit_equal(built, name, tmp_path):
    model = built(name)
    save_checkpoint(model, tmp_path / "model.safetensors")
    other = create(name).eval()
    report = load_weights(other, tmp_path / "model.safetensors")
    assert not report.random
    assert not report.unused
    with torch.no_grad():
        assert torch.equal(main_of(other(*inputs_of(name))), main_of(model(*inputs_of(name))))


@tiny
def test_save_pretrained_round_trip(built, name, tmp_path):
    model = built(name)
    model.save_pretrained(tmp_path / "saved")
    other = actionzoo.create(f"local-dir:{tmp_path / 'saved'}").eval()
    with torch.no_grad():
        assert torch.equal(main_of(other(*inputs_of(name))), main_of(model(*inputs_of(name))))


@tiny
def test_other_input_channels(name):
    if name.startswith(("instance_action", "pcf")):
        # torchvision's detectors normalise three
        with pytest.raises(ValueError, match="3 channels, got in_chans=1"):
            create(name, in_chans=1)
        return
    model = create(name, in_chans=1).eval()
    assert model.pretrained_cfg["input_size"][0] == 1
    with torch.no_grad():
        assert main_of(model(*(x[:, :1] for x in inputs_of(name)))).shape == shape_of(name, model, 3)


@tiny
def test_compiles_whole(built, name):
    model, inputs = built(name), inputs_of(name, 2)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), model(*inputs))


@tiny
def test_exports_with_a_dynamic_batch(built, name):
    model, inputs = built(name), inputs_of(name, 2)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    more = inputs_of(name, 5)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(*more), model(*more), rtol=1e-4, atol=1e-5)


@tiny
def test_the_device_gives_what_the_cpu_gives(built, name, device):
    model, inputs = copy.deepcopy(built(name)), inputs_of(name)
    runs = steps_of(model)
    expected = [main_of(run(inputs)) for run in runs]
    model.to(device)
    for run, wanted in zip(runs, expected):
        found = main_of(run(tuple(x.to(device) for x in inputs)))
        assert found.device.type == device.type
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-3, atol=1e-3)


@tiny
def test_half_precision_is_close(built, name):
    model = copy.deepcopy(built(name)).bfloat16()
    with torch.no_grad():
        half = main_of(model(*(x.bfloat16() for x in inputs_of(name)))).float()
        full = main_of(built(name)(*inputs_of(name)))
    assert torch.isfinite(half).all()
    assert (half - full).norm() < 0.1 * full.norm()


@tiny
def test_gradient_checkpointing_changes_memory_not_gradients(built, name):
    plain = copy.deepcopy(built(name)).train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    calls = {}
    for key, model in (("plain", plain), ("saving", saving)):
        calls[key] = 0

        def count(*_, key=key):
            calls[key] += 1

        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
                module.register_forward_hook(count)
        torch.manual_seed(1)  # both drop the same features
        scalar_of(model(*inputs_of(name))).backward()
    assert calls["saving"] > calls["plain"]
    own = [key for key, _ in plain.named_buffers() if not any(x.endswith("backbone") for x in key.split("."))]
    assert all(torch.equal(plain.get_buffer(key), saving.get_buffer(key)) for key in own)
    for p, q in zip(plain.parameters(), saving.parameters()):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad)


@tiny
@pytest.mark.parametrize("bad", ["rank", "channels"])
def test_wrong_inputs_get_one_clear_error(built, name, bad):
    inputs = inputs_of(name, 2)
    wrong = tuple(x[0] for x in inputs) if bad == "rank" else tuple(torch.cat([x, x], 1) for x in inputs)
    with pytest.raises(ValueError, match=rf"expects .*\(B, .*got .*{tuple(wrong[0].shape)[-1]}"):
        built(name)(*wrong)


@tiny_classifier
def test_wrong_num_classes_of_a_file_is_reheaded_and_said(built, name, tmp_path):
    save_checkpoint(built(name), tmp_path / "model.safetensors")
    other = actionzoo.create(name, weights=tmp_path / "model.safetensors", num_classes=CLASSES + 1)
    report = other.load_report
    assert report.reheaded
    assert all(key.rsplit(".", 1)[0] in other.classifier_names for key in report.reheaded)
    own, loaded = built(name).state_dict(), other.state_dict()
    body = [k for k in own if k.rsplit(".", 1)[0] not in other.classifier_names]
    assert all(torch.equal(loaded[k], own[k]) for k in body)
