import json
import os
import pickle
import random
import subprocess
import sys
import textwrap

import pytest
import torch

import actionzoo
from actionzoo.data import read_samples
from actionzoo.training import ImageTask, fit, recipes
from actionzoo.training.fit import seed_everything
from tests import pictures

TINY = {"backbone_args": {"channels": (8, 8, 16, 16), "stem_width": 4}, "input_size": (3, 32, 32)}
TINY["test_input_size"] = None
PRF = {**TINY, "dim": 16, "tokens": 2, "hidden": 16}
RECIPE = recipes["scratch"].override(epochs=3, batch_size=12, warmup_epochs=1, lr=3e-3, auto_augment="rand-m3-n1")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return read_samples(pictures.write(tmp_path_factory.mktemp("shapes")))


def make(name="prfnet_tiny"):
    seed_everything(0)
    return actionzoo.create(name, num_classes=3, **(PRF if name == "prfnet_tiny" else TINY))


def run(samples, output, name="prfnet_tiny", recipe=RECIPE, **args):
    return fit(make(name), samples, recipe, output, progress=False, **args)


def weights(folder):
    model = actionzoo.create(f"local-dir:{folder}")
    return model.state_dict()


@pytest.mark.parametrize("name", ["prfnet_tiny", "plain_tiny"])
def test_a_run_leaves_a_folder_that_create_loads(samples, tmp_path, name):
    metrics = run(samples, tmp_path / "run", name, card={"data": "shapes"})
    model = actionzoo.create(f"local-dir:{tmp_path / 'run'}").eval()
    assert model.pretrained_cfg["classes"] == pictures.CLASSES
    assert model.load_report.random == ()
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["images"] == 12
    for file in ("pr.png", "roc.png", "confusion.png", "README.md", "history.json", "scores.json"):
        assert (tmp_path / "run" / file).stat().st_size > 0
    assert not list((tmp_path / "run").glob("*.tmp"))
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert len(history[0]["losses"]) == (4 if name == "prfnet_tiny" else 1)


def test_stopped_and_resumed_ends_the_same(samples, tmp_path):
    held = samples.hold_out(0.25)
    run(held, tmp_path / "whole")
    early = run(held, tmp_path / "parts", stop_after=1)
    assert early["epoch"] == 1
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    run(held, tmp_path / "parts", resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    rows = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "parts")]
    assert [r["losses"] for r in rows[0]] == [r["losses"] for r in rows[1]]
    assert all("val_top1" in r for r in rows[0])


def test_learning_rate_warms_up_and_falls_to_zero(samples, tmp_path, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1]
    )
    run(samples, tmp_path / "run", "plain_tiny", RECIPE.override(epochs=4, batch_size=9, warmup_epochs=2, lr=1.0))
    assert rates[0] == pytest.approx(1e-3)
    assert rates[: len(rates) // 2] == sorted(rates[: len(rates) // 2])
    assert rates[len(rates) // 2 :] == sorted(rates[len(rates) // 2 :], reverse=True)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.05
    short = run(samples, tmp_path / "short", "plain_tiny", RECIPE.override(epochs=1, warmup_epochs=3, lr=1e-3))
    assert short["images"] == 12


def test_the_seed_decides(samples, tmp_path):
    one = RECIPE.override(epochs=1)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(samples, tmp_path / name, recipe=one, seed=seed)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)


def test_it_learns(samples, tmp_path):
    recipe = RECIPE.override(epochs=12, auto_augment="", erase=0.0, scale=(0.8, 1.0))
    assert run(samples, tmp_path / "run", "plain_tiny", recipe)["top1"] >= 80


def test_bfloat16_mixed_precision(samples, tmp_path):
    metrics = run(samples, tmp_path / "run", recipe=RECIPE.override(epochs=1), amp="bf16")
    assert 0 <= metrics["top1"] <= 100
    assert all(v.dtype != torch.bfloat16 for v in weights(tmp_path / "run").values())


def test_sgd_recipe_with_a_slower_backbone(samples, tmp_path):
    recipe = recipes["prfnet"].override(epochs=1, batch_size=12)
    assert run(samples, tmp_path / "run", recipe=recipe)["images"] == 12


def test_refusals(samples, tmp_path):
    with pytest.raises(ValueError, match="do not fill one batch of 99"):
        run(samples, tmp_path / "a", recipe=RECIPE.override(batch_size=99))
    with pytest.raises(ValueError, match="one of sgd, adam, adamw"):
        run(samples, tmp_path / "b", recipe=RECIPE.override(optimizer="lion"))
    run(samples, tmp_path / "c", stop_after=1)
    with pytest.raises(FileExistsError, match="--resume"):
        run(samples, tmp_path / "c")
    with pytest.raises(ValueError, match="written with seed 0"):
        run(samples, tmp_path / "c", resume=True, seed=1)
    with pytest.raises(ValueError, match="files"):  # other images would leak what was held out
        run(samples.hold_out(0.25), tmp_path / "c", resume=True)
    (tmp_path / "c" / "state.pt").write_bytes(b"torn")
    with pytest.raises(RuntimeError, match=r"state\.pt is damaged"):
        run(samples, tmp_path / "c", resume=True)
    with pytest.raises(ValueError, match="5 classes, the data 3"):
        fit(actionzoo.create("prfnet_tiny", num_classes=5, **PRF), samples, RECIPE, tmp_path / "e")
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        run(samples, tmp_path / "d", recipe=RECIPE.override(lr=1e18, clip_grad=1e18, warmup_epochs=0.0))


def test_not_a_number_is_never_saved(samples, tmp_path, monkeypatch):
    step, calls = torch.optim.AdamW.step, []

    def spoil(self, *args):
        calls.append(1)
        if len(calls) == 2:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("nan"))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    with pytest.raises(FloatingPointError, match="batch 3"):
        run(samples, tmp_path / "run", "plain_tiny")
    assert not (tmp_path / "run" / "state.pt").exists()


def test_a_failing_report_does_not_cost_the_weights(samples, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no pictures today")

    monkeypatch.setattr(ImageTask, "report", fail)
    with pytest.raises(RuntimeError, match="no pictures"):
        run(samples, tmp_path / "run", recipe=RECIPE.override(epochs=1))
    assert weights(tmp_path / "run")


def test_fine_tuning_does_not_inherit_what_was_said_of_the_start(samples, tmp_path):
    start = make("plain_tiny")
    start.pretrained_cfg.update(tag="sports20", data="elsewhere", licence="mit", limits="none", metrics={"top1": 99})
    fit(start, samples, RECIPE.override(epochs=1), tmp_path / "run", progress=False, card={"data": "shapes"})
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"] == "shapes"
    assert not {"tag", "licence", "limits"} & set(config)
    assert config["metrics"]["images"] == 12


def test_one_channel_and_uneven_sizes(samples, tmp_path):
    seed_everything(0)
    model = actionzoo.create("plain_tiny", num_classes=3, in_chans=1, **{**TINY, "input_size": (3, 32, 48)})
    metrics = fit(model, samples, RECIPE.override(epochs=1), tmp_path / "run", progress=False)
    assert metrics["images"] == 12
    assert json.loads((tmp_path / "run" / "config.json").read_text())["input_size"] == [1, 32, 48]


def test_two_processes_of_the_command_make_one_run(tmp_path):
    data = pictures.write(tmp_path / "shapes", train=8, test=2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "actionzoo", "train", "--data", str(data), "--output", str(tmp_path / "run"), "--json"]
    command += ["--epochs", "1", "--batch-size", "6", "--img-size", "32", "--workers", "1", "--model-args"]
    command += ["backbone_args={'channels':(8,8,16,16),'stem_width':4}", "test_input_size=None", "dim=16", "hidden=16"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads(done.stdout)
    assert metrics["images"] == 6
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert weights(tmp_path / "run")


def test_workers_are_seeded_apart_in_every_process_however_they_start(samples, tmp_path, monkeypatch):
    made = []
    loader = sys.modules[seed_everything.__module__].DataLoader
    monkeypatch.setattr(
        sys.modules[seed_everything.__module__], "DataLoader", lambda *a, **k: (made.append(k), loader(*a, **k))[1]
    )
    run(samples, tmp_path / "run", recipe=RECIPE.override(epochs=1), stop_after=1)
    sent = pickle.loads(pickle.dumps(made[0]["worker_init_fn"]))  # as spawn and forkserver send it

    def draw(process):
        torch.manual_seed(5)
        sent.func(process, 0)
        return torch.rand(1).item(), random.random()

    assert sent.args == (0,)
    assert draw(0) == draw(0)
    assert draw(0)[0] != draw(1)[0]
    assert draw(0)[1] != draw(1)[1]


def test_two_processes_end_with_the_same_weights(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, torch, torch.distributed as dist, torch.multiprocessing as mp
            from torch.nn.parallel import DistributedDataParallel
            import actionzoo
            from actionzoo.training import progressive_step

            def rank_main(rank, folder):
                torch.set_num_threads(1)
                store = dist.FileStore(f"{folder}/store", 2)
                dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
                torch.manual_seed(0)
                args = dict(backbone_args={"channels": (8, 8, 16, 16), "stem_width": 4}, dim=16, hidden=16)
                model = actionzoo.create("prfnet_tiny", num_classes=3, **args)
                wrapped = DistributedDataParallel(model, find_unused_parameters=True)
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
                torch.manual_seed(rank)
                for _ in range(2):
                    images, targets = torch.randn(2, 3, 32, 32), torch.randint(3, (2,))
                    progressive_step(wrapped, images, targets, optimizer)
                torch.save({k: v for k, v in model.named_parameters()}, f"{folder}/{rank}.pt")
                dist.destroy_process_group()

            if __name__ == "__main__":
                mp.spawn(rank_main, (sys.argv[1],), nprocs=2)
            """
        )
    )
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=300, capture_output=True)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[k], second[k]) for k in first)
