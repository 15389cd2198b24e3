"""The papers' printed numbers against what this library builds, and the docs against the table of numbers."""

import functools
import inspect
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn

import actionzoo
from actionzoo.data import keep_person_crop
from actionzoo.layers import AttentionImageStream, mixture_weights, part_boxes
from actionzoo.losses import MultitaskAwareLoss
from actionzoo.metrics import cohen_kappa, pckh_groups
from actionzoo.models import FUSION_WEIGHTS, PersonOutput
from actionzoo.profile import count_macs
from actionzoo.training import progressive_step, recipes

from .paper_numbers import DOCS, NUMBERS, docs_table, number, with_tables
from .studies import printed

ROOT = Path(__file__).parents[1]
CHECKS: dict[str, Callable[[], Any]] = {}


def checks(key: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    return lambda fn: CHECKS.setdefault(key, fn)


def prfnet() -> Any:
    with torch.device("meta"):
        return actionzoo.create("prfnet")


class _Counter:
    """A file that keeps nothing but its length."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any) -> int:
        length = memoryview(data).nbytes
        self.size += length
        return length

    def flush(self) -> None:
        pass


@checks("size")
def saved_megabytes() -> float:
    state = {key: torch.empty_like(value, device="cpu") for key, value in prfnet().state_dict().items()}
    file = _Counter()
    torch.save(state, file)
    assert 0 < file.size - sum(value.nbytes for value in state.values()) < 200_000
    return file.size / 1e6


@checks("parameters")
def parameters() -> int:
    return sum(parameter.numel() for parameter in prfnet().parameters())


@checks("shapes")
def shapes() -> list[int]:
    maps = prfnet().forward_intermediates(torch.empty(1, 3, 256, 256, device="meta"), intermediates_only=True)
    return [n for x in maps for n in x.shape[1:]]


@checks("macs")
def giga_macs() -> float:
    return count_macs(prfnet(), torch.empty(1, 3, 256, 256, device="meta"), ops="all") / 1e9


@checks("trunk_macs")
def trunk_giga_macs() -> float:
    return count_macs(prfnet().backbone, torch.empty(1, 3, 256, 256, device="meta")) / 1e9


@checks("stages")
def steps_per_iteration() -> int:
    torch.manual_seed(0)
    model = actionzoo.create("prfnet_tiny", num_classes=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    updates = []
    optimizer.register_step_post_hook(lambda *_: updates.append(1))
    out = progressive_step(model, torch.randn(2, 3, 64, 64), torch.tensor([0, 1]), optimizer)
    assert len(updates) == len(out.losses)
    return len(updates)


@checks("recipe")
def recipe() -> list[float]:
    r = recipes["prfnet"]
    assert r.optimizer == "sgd"
    return [r.lr, r.momentum, r.weight_decay, r.epochs, r.batch_size]


@checks("resize")
def resize() -> list[int]:
    size = prfnet().pretrained_cfg["input_size"][-1]
    return [round(size / recipes["prfnet"].crop_pct), size]


for mode, losses in (("mean", (2.0, 1.0, 0.5)), ("ratio", (2.0, 1.0, 0.5)), ("share", (2.0, 1.0, 0.5))):
    CHECKS[f"mixture_{mode}"] = lambda mode=mode, losses=losses: mixture_weights(losses, mode).tolist()
CHECKS["mixture_equal"] = lambda: mixture_weights((0.7, 0.7, 0.7)).tolist()


@checks("ppmi_images")
def ppmi_images() -> int:
    assert 2400 + 2400 == 24 * 100 * 2
    return 24 * 100 * 2


@checks("dar_images")
def dar_images() -> int:
    assert 3728 + 480 + 480 == 2164 + 2524
    return 2164 + 2524


for gap, ours, theirs in (
    ("gap_ppmi", "ppmi", "ppmi_tlhar"),
    ("gap_play", "ppmi_play", "ppmi_gspm_play"),
    ("gap_map", "ppmi_map", "ppmi_tlhar_map"),
    ("gap_vlad", "ppmi", "ppmi_vlad"),
    ("gap_rfcn", "ppmi", "ppmi_rfcn"),
    ("gap_dar", "dar", "dar_tlhar"),
    ("gap_detectron", "dar", "dar_detectron1"),
):
    CHECKS[gap] = lambda ours=ours, theirs=theirs: number(ours).value - number(theirs).value


def kappa_at(accuracy: float, classes: int) -> float:
    """Kappa of balanced classes, 10,000 each, of which `accuracy` (to four decimals) is labelled right."""
    target = torch.arange(classes).repeat_interleave(10_000)
    wrong = torch.arange(10_000).repeat(classes) >= round(accuracy * 10_000)
    return cohen_kappa(torch.where(wrong, (target + 1) % classes, target), target, classes)


@checks("kappa_ppmi")
def kappa_ppmi() -> float:
    kappa = kappa_at(0.8957, 24)
    assert kappa == pytest.approx(0.891, abs=5e-4)
    return kappa


@checks("ablation_ppmi")
def ablation_ppmi() -> list[float]:
    return [*sorted(number("ablation_ppmi").value)[:3], number("ppmi").value]


@checks("ablation_dar")
def ablation_dar() -> list[float]:
    return [*sorted(number("ablation_dar").value)[:3], number("dar").value]


HRNET_W32 = 29_305_536
"""Parameters of HRNet-W32 with all four maps (`tests/models/test_bodypart.py` counts them by themselves)."""


@functools.cache
def bodypart(**options: Any) -> Any:
    with torch.device("meta"):
        return actionzoo.create("bodypart", **options)


@functools.cache
def bodypart_output() -> Any:
    """Shapes of everything that the paper's network gives for one base image."""
    return bodypart()(torch.empty(1, 3, 512, 512, device="meta"))


def parameters_by_hand(classes: int, joints: int = 16) -> int:
    """Parameters of HRNet-W32, and of the layers that section 3.1 and Table 1 add to it."""

    def conv(kernel: int, inputs: int, outputs: int) -> int:
        return kernel * kernel * inputs * outputs + 2 * outputs  # no bias; scale and shift of the normalisation

    f_ch, widths = (32, 64, 128, 256), (64, 128, 256, 512)
    resnet = conv(7, 3, 64)
    for before, width in zip((64, *widths), widths):
        resnet += conv(3, before, width) + 3 * conv(3, width, width)
        resnet += conv(1, before, width) if before != width else 0  # the shortcut that changes channels
    transitions = sum(conv(3, width + extra, width) for width, extra in zip(widths, f_ch))
    pose, attention = 9 * f_ch[0] * joints + joints, conv(1, joints, 3)
    # the three streams' own features, and all of them together
    heads = sum((features + 1) * classes for features in (256, 512, 3 * 512, 256 + 512 + 3 * 512))
    return HRNET_W32 + pose + attention + 2 * resnet + transitions + heads


@checks("bp_parameters")
def bodypart_parameters(classes: int = 40) -> int:
    count = sum(parameter.numel() for parameter in bodypart(num_classes=classes).parameters())
    assert count == parameters_by_hand(classes)
    return count


CHECKS["bp_parameters_26"] = lambda: bodypart_parameters(26)


@checks("bp_macs")
def bodypart_giga_macs() -> float:
    return count_macs(bodypart(), torch.empty(1, 3, 512, 512, device="meta"), ops="all") / 1e9


@checks("bp_input")
def bodypart_input() -> list[int]:
    model = bodypart()
    base = model.pretrained_cfg["input_size"][-1]
    crops = bodypart_output().crops
    assert crops.shape[3] == crops.shape[4]
    return [base // model.pretrained_cfg["base_scale"], base, crops.shape[-1]]


@checks("bp_shapes")
def bodypart_shapes() -> list[int]:
    maps = bodypart().backbone(torch.empty(1, 3, 256, 256, device="meta"))
    return [n for x in maps for n in x.shape[1:]]


@checks("bp_heatmap_shapes")
def bodypart_heatmap_shapes() -> list[int]:
    return list(bodypart_output().heatmaps.shape[1:])


@checks("bp_features")
def bodypart_features() -> list[int]:
    model = bodypart()
    return [*(model.stream_features[name] for name in ("image", "attention", "part")), model.head.in_features]


@checks("bp_classes")
def bodypart_classes() -> int:
    output = bodypart_output()
    rows = {logits.shape[1] for logits in (output.logits, *output.stream_logits.values())}
    assert len(output.stream_logits) == 3
    (classes,) = rows
    return classes


@checks("bp_eq2")
def equation_2() -> list[float]:
    joints = torch.zeros(1, 16, 3)
    joints[0, 0] = torch.tensor([0.0, 0.0, 1.0])
    joints[0, 9] = torch.tensor([300.0, 400.0, 1.0])
    x1, y1, x2, y2 = part_boxes(joints, (512, 512))[0][0, 0].tolist()
    assert x2 - x1 == y2 - y1
    return [300 - x1, x2 - x1]


@checks("bp_lambda")
def bodypart_lambda() -> float:
    assert MultitaskAwareLoss().lam == recipes["bodypart"].action_weight
    return MultitaskAwareLoss().lam


@checks("bp_recipe")
def bodypart_recipe() -> list[float]:
    r = recipes["bodypart"]
    assert r.optimizer == "adam"
    return [r.lr, r.batch_size, r.epochs, *r.milestones]


@checks("bp_augment")
def bodypart_augment() -> list[float]:
    r = recipes["bodypart"]
    return [r.pose_rotation, r.action_rotation, r.rescale]


CHECKS["bp_mpii"] = lambda: 28_821 + 11_701
CHECKS["bp_vcoco"] = lambda: 2533 + 2867 + 4946


@checks("bp_pckh_drops")
def pckh_drops() -> list[float]:
    drops = [a - b for a, b in zip(number("bp_pckh_aug90").value, number("bp_pckh").value)]
    assert min(drops) > 0
    return drops


@checks("bp_table3")
def table_3() -> list[float]:
    # printed from the best stream to the worst, then concat and ensemble
    ranks = sorted(number("bp_table3").value)
    return [*ranks[2::-1], ranks[3], number("bp_table4").value[-1]]


@checks("bp_table4")
def table_4() -> list[float]:
    return [*sorted(number("bp_table4").value)[:7], number("bp_table3").value[-1]]


@checks("bp_table5")
def table_5() -> list[float]:
    low, middle, high = sorted(number("bp_table5").value)[:3]
    return [middle, high, low, number("bp_table6").value[-1]]


@checks("bp_table6")
def table_6() -> list[float]:
    return [*sorted(number("bp_table6").value)[:2], number("bp_table5").value[-1]]


@functools.cache
def convit(**options: Any) -> Any:
    """ConViT (`.convit`) and its human branch (`.human`) as the paper has them."""
    with torch.device("meta"):
        return actionzoo.create("convit_har_person_resnet50", **options).eval()


IMAGE = torch.empty(1, 3, 448, 448, device="meta")


def vits() -> list[Any]:
    """ViT 14x14, 7x7, 10x6 and 5x3."""
    return [vit for branch in (convit().convit, convit().human) for vit in (branch.vits.vit1, branch.vits.vit2)]


def count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def vit_by_hand(cells: int, dim: int = 2048, head_dim: int = 64, mlp_dim: int = 2048) -> int:
    """Parameters of two blocks of four heads, whose query, key and value have no bias, and of what is around them."""
    attention = dim * 3 * 4 * head_dim + 4 * head_dim * dim + dim
    mlp = dim * mlp_dim + mlp_dim + mlp_dim * dim + dim
    return cells * dim + 2 * (2 * dim + attention + 2 * dim + mlp) + 2 * dim


def branches_by_hand(classes: int, **widths: int) -> list[int]:
    """Parameters of ConViT, and of its human branch."""
    fc = 2048 * classes + classes
    return [base + vit_by_hand(first, **widths) + vit_by_hand(second, **widths) + fc
            for base, first, second in ((23_508_032, 14 * 14, 7 * 7), (0, 10 * 6, 5 * 3))]  # fmt: skip


def branches(classes: int = 40) -> list[int]:
    found = [count(convit(num_classes=classes).convit), count(convit(num_classes=classes).human)]
    assert found == branches_by_hand(classes)
    return found


@checks("cv_parameters")
def convit_parameters(classes: int = 40) -> int:
    with torch.device("meta"):
        alone = count(actionzoo.create("convit_har", num_classes=classes))
    assert alone == branches(classes)[0]
    return alone


CHECKS["cv_parameters_10"] = lambda: convit_parameters(10)
CHECKS["cv_human"] = lambda: [branches(classes)[1] for classes in (40, 10)]


@checks("cv_both")
def both_branches() -> list[int]:
    found = [count(convit(num_classes=classes)) for classes in (40, 10)]
    assert found == [sum(branches(classes)) for classes in (40, 10)]
    assert actionzoo.model_info("convit_har_person_resnet50").parameters == found[0]
    return found


@checks("cv_vits")
def parameters_of_the_vits() -> list[int]:
    found = [count(vit) for vit in vits()]
    assert found == [vit_by_hand(cells) for cells in (196, 49, 60, 15)]
    return found


@checks("cv_wide")
def wide_vits() -> list[int]:
    wide = convit(head_dim=None, mlp_dim=4 * 2048)
    found = [count(wide.convit), count(wide.human)]
    assert found == branches_by_hand(40, head_dim=512, mlp_dim=4 * 2048)
    return [found[0], sum(found)]


@checks("cv_detector")
def person_detector() -> int:
    with torch.device("meta"):
        found = count(actionzoo.create("person_resnet50"))
        plain = count(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2))
    assert found - plain == 3 * 2 * (3 * 3 * 256 * 256 + 256)
    return found


@checks("cv_macs")
def convit_giga_macs() -> list[float]:
    one, two = (count_macs(convit(), IMAGE, torch.empty(1, n, 4, device="meta"), ops="all") / 1e9 for n in (1, 2))
    alone = count_macs(convit().convit, IMAGE, ops="all") / 1e9
    assert alone == pytest.approx(one - (two - one))
    return [alone, two - one]


@checks("cv_depth")
def depth_and_heads() -> list[int]:
    (depth,), (heads,) = ({len(vit.blocks) for vit in vits()}, {b.attn.heads for vit in vits() for b in vit.blocks})
    return [depth, heads]


def tokens(two: list[Any]) -> list[int]:
    """How many tokens two ViTs get from maps of the size that they are made for."""
    maps = [torch.empty(1, vit.dim, *vit.grid, device="meta") for vit in two]
    found = [vit.forward_blocks(x)[0].shape[1] for vit, x in zip(two, maps)]
    assert found == [vit.pos_embed.shape[1] for vit in two]
    return found


CHECKS["cv_tokens"] = lambda: tokens(vits()[:2])
CHECKS["cv_human_tokens"] = lambda: tokens(vits()[2:])


@checks("cv_input")
def convit_input() -> int:
    model = convit().convit
    side, stride = model.pretrained_cfg["input_size"][-1], model.feature_info[-1]["reduction"]
    assert side == 14 * stride
    assert model.forward_backbone(IMAGE[..., :224, :224]).shape[2:] == (7, 7)
    return side


@checks("cv_shapes")
def convit_shapes() -> list[int]:
    model = convit().convit
    return [n for x in (model.forward_backbone(IMAGE), model.forward_features(IMAGE)) for n in x.shape[1:]]


@checks("cv_human_shapes")
def human_shapes() -> list[int]:
    maps, rois = torch.empty(1, 2048, 14, 14, device="meta"), torch.empty(1, 5, device="meta")
    human = convit().human
    return [n for x in (human.crop(maps, rois), human.forward_features(maps, rois)) for n in x.shape[1:]]


@checks("cv_heatmap")
def convit_heatmap() -> list[int]:
    model = convit().convit
    found = model.heat_map(IMAGE).shape[1:]
    assert model.class_activation_map(IMAGE).shape[1:] == found
    return list(found)


@checks("cv_classes")
def convit_classes() -> list[int]:
    rows = []
    for classes in (40, 10):
        out = convit(num_classes=classes)(IMAGE, torch.empty(1, 3, 4, device="meta"))
        assert out.logits.shape == (3, out.image_logits.shape[1])
        rows.append(out.logits.shape[1])
    return rows


@checks("cv_recipe")
def convit_recipe() -> list[float]:
    r = recipes["convit_har"]
    assert r.optimizer == "sgd"
    (interval,) = {b - a for a, b in itertools.pairwise((0, *r.milestones))}
    # none is missing at the end
    assert r.milestones[-1] >= r.epochs - interval
    return [r.lr, r.momentum, r.weight_decay, r.batch_size, interval]


@checks("cv_keep")
def convit_keep() -> float:
    assert inspect.signature(keep_person_crop).parameters["keep"].default == recipes["convit_har"].keep_person
    return recipes["convit_har"].keep_person


CHECKS["cv_mixup"] = lambda: recipes["convit_har"].mixup


def fusion(data: str) -> list[float]:
    """How much image and person weigh in a network that is built for a data set."""
    model = convit(fusion=data)
    assert sum(FUSION_WEIGHTS[data]) == pytest.approx(1)
    assert model.fusion == FUSION_WEIGHTS[data]
    # where the image is sure of the first class, and the person of the second
    image, person, zero = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]]), torch.tensor([0])
    return model.fuse(PersonOutput(person, image, image_index=zero, box_index=zero))[0].tolist()


for key, data in (("cv_fusion_stanford", "stanford40"), ("cv_fusion_voc", "voc2012")):
    CHECKS[key] = lambda data=data: fusion(data)


@checks("cv_gain_stanford")
def gain_stanford() -> float:
    convit_alone, both = number("cv_stanford").value
    return both - convit_alone


@checks("cv_gain_voc")
def gain_voc() -> list[float]:
    (convit_alone, both), (first, second) = number("cv_voc").value, number("cv_gain_voc").value
    # each from the other, since the human branch's own score is not printed
    return [both - convit_alone - second, both - convit_alone - first]


@checks("cv_human_voc")
def human_voc() -> float:
    (convit_alone, both), (first, second) = number("cv_voc").value, number("cv_gain_voc").value
    assert convit_alone + first == pytest.approx(both - second)
    return convit_alone + first


@checks("cv_table3_stanford")
def table_3_stanford() -> list[float]:
    low, middle, *_ = sorted(number("cv_table3_stanford").value)
    convit_alone, both = number("cv_stanford").value
    return [low, convit_alone, middle, both]


@checks("cv_table3_voc")
def table_3_voc() -> list[float]:
    return sorted(number("cv_table3_voc").value)


CHECKS["cv_voc_images"] = lambda: 2296 + 2292


# tests/test_paper_numbers_tahnet.py has those of the instance-guided framework, tests/test_paper_numbers_pcf.py PCF's
CHECKED = [row for row in NUMBERS if row.status in ("checked", "derived") and row.paper not in ("tahnet", "pcf")]


@pytest.mark.parametrize("row", CHECKED, ids=lambda row: row.key)
def test_number_is_reproduced(row):
    found = CHECKS[row.key]()
    assert found == pytest.approx(list(row.value) if isinstance(row.value, tuple) else row.value, abs=row.tolerance)


def test_every_check_has_its_row():
    assert set(CHECKS) == {row.key for row in CHECKED}
    assert len({row.key for row in NUMBERS}) == len(NUMBERS)


def test_parameters_exactly():
    model = prfnet()
    assert parameters() == actionzoo.model_info("prfnet").parameters == 49_505_440
    assert sum(b.numel() for b in model.buffers()) == 59_320
    assert sum(p.numel() for p in model.backbone.parameters()) == 23_508_032
    with torch.device("meta"):
        assert sum(p.numel() for p in actionzoo.create("prfnet", num_classes=4).parameters()) == 49_464_400
    pruned = model.prune_for_inference()
    assert sum(p.numel() for p in pruned.parameters()) == 47_884_888


class TestWhatIsNotAsserted:
    """The reasons given in the table hold."""

    def test_kappa_of_dar(self):
        assert kappa_at(0.602, 4) == pytest.approx(0.469, abs=5e-4)
        assert round(kappa_at(0.602, 4), 2) != number("kappa_dar").value

    def test_speedup(self):
        assert [round(t / number("runtime").value, 1) for t in (42.2, 40.5)] == [7.5, 7.2]

    @pytest.mark.parametrize(("key", "images"), [("counts_ppmi", 2400), ("counts_dar", 480)])
    def test_accuracies_are_no_counts(self, key, images):
        possible = {round(100 * k / images, 2) for k in range(images + 1)}
        assert possible.isdisjoint(number(key).value)

    def test_people_of_vcoco(self):
        assert 3932 + 4499 + 7768 == 16_199 != number("bp_vcoco_people").value

    def test_baseline_1_is_baseline_2(self):
        first, second, _ = number("bp_table6").value
        assert (first, second) == (68.08, number("bp_baseline").value)

    def test_layer_1_cannot_have_stride_2(self):
        image, heatmaps = torch.empty(1, 3, 256, 256, device="meta"), torch.empty(1, 16, 64, 64, device="meta")
        features = bodypart().backbone(image)
        with torch.device("meta"):
            resnet = timm.create_model("resnet18", num_classes=0)
            AttentionImageStream(trunk=resnet)(image, heatmaps, features)
            first = resnet.layer1[0]
            first.conv1.stride = (number("bp_stride").value,) * 2
            first.downsample = torch.nn.AvgPool2d(2)
            with pytest.raises(ValueError, match=r"shape \(1, 32, 32, 32\), got \(1, 32, 64, 64\)"):
                AttentionImageStream(trunk=resnet)(image, heatmaps, features)

    @pytest.mark.parametrize(
        ("key", "i", "most"), [("bp_pckh_w32", 0, 90.09), ("bp_pckh_aug90", 1, 90.12), ("bp_pckh", 2, 88.15)]
    )
    def test_means_of_table_2_weigh_joints_by_visibility(self, key, i, most):
        # 1000 people, all of whose joints are visible; each is right in as many as the column says, the neck always
        *columns, mean = number(key).value
        right = torch.full((16,), 1000)
        for joints, column in zip(((9,), (12, 13), (11, 14), (10, 15), (2, 3), (1, 4), (0, 5)), columns):
            right[list(joints)] = round(10 * column)
        wrong = torch.arange(1000)[:, None] >= right
        pred = torch.stack([wrong * 9.0, wrong * 0.0], 2)
        found = pckh_groups(pred, torch.zeros(1000, 16, 2), torch.ones(1000, 16), torch.ones(1000))
        assert [round(100 * value, 2) for value in found.values()] == [*columns, most]
        assert most < number("bp_mean").value[i] - 0.05 == mean - 0.05

    def test_images_of_stanford40(self):
        assert 9532 - 4000 == 5532 != number("cv_test_images").value

    def test_table_3_of_convit_has_another_split_of_voc(self):
        convit_alone, human, both = number("cv_voc_split").value
        assert (convit_alone, human, both) == number("cv_table3_voc").value[1:]
        on_test = (number("cv_voc").value[0], number("cv_human_voc").value, number("cv_voc").value[1])
        assert on_test == (87.9, 90.6, 91.5) != (convit_alone, human, both)
        gains = [round(b - a, 1) for a, b in itertools.pairwise((convit_alone, human, both))]
        assert gains == [1.4, 1.0] != list(number("cv_gain_voc").value)


def test_bold_of_table_2():
    """Bold is the best of every column."""
    rows = [number(key).value for key in ("bp_pckh_w32", "bp_pckh_aug90", "bp_pckh")]
    best = [column.index(max(column)) for column in zip(*rows)]
    assert best == [1, 1, 1, 0, 1, 0, 0, 1]


def test_ablation_rises_with_every_component():
    for key in ("ablation_ppmi", "ablation_dar"):
        assert all(a < b for a, b in itertools.pairwise(number(key).value))


@pytest.mark.parametrize("paper", sorted({row.paper for row in NUMBERS}))
def test_docs_show_the_table(paper):
    page = (DOCS / f"{paper}.md").read_text(encoding="utf-8")
    assert docs_table(paper) in page, "run: python tests/paper_numbers.py"
    assert with_tables(page) == page


def test_the_results_on_figures_keep_the_order_of_table_3(monkeypatch, capsys):
    """The page's table and the file it is made from say what the paper's Table 3 says."""
    kept_file = ROOT / "benchmarks" / "results" / "bodypart_figures.json"
    kept = json.loads(kept_file.read_text())
    assert len(kept["runs"]) == 3
    for run in kept["runs"].values():
        assert run["pckh"] >= 90
        assert all(run["map"] > stream["map"] for stream in run["streams"].values())
    shown = printed("bodypart_table.py", kept_file, monkeypatch, capsys)
    assert shown in (ROOT / "docs" / "papers" / "bodypart.md").read_text(encoding="utf-8")
