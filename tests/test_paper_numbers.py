"""The papers' printed numbers against what this library builds, and the docs against the table of numbers."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

import actionzoo
from actionzoo.layers import mixture_weights
from actionzoo.metrics import cohen_kappa
from actionzoo.profile import count_macs
from actionzoo.training import progressive_step, recipes

from .paper_numbers import DOCS, NUMBERS, docs_table, number, with_tables

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


@pytest.mark.parametrize("row", [r for r in NUMBERS if r.status in ("checked", "derived")], ids=lambda row: row.key)
def test_number_is_reproduced(row):
    found = CHECKS[row.key]()
    assert found == pytest.approx(list(row.value) if isinstance(row.value, tuple) else row.value, abs=row.tolerance)


def test_every_check_has_its_row():
    assert set(CHECKS) == {row.key for row in NUMBERS if row.status in ("checked", "derived")}
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


def test_ablation_rises_with_every_component():
    for key in ("ablation_ppmi", "ablation_dar"):
        assert all(a < b for a, b in itertools.pairwise(number(key).value))


@pytest.mark.parametrize("paper", sorted({row.paper for row in NUMBERS}))
def test_docs_show_the_table(paper):
    page = (DOCS / f"{paper}.md").read_text(encoding="utf-8")
    assert docs_table(paper) in page, "run: python tests/paper_numbers.py"
    assert with_tables(page) == page
