"""Two processes, one with annotated samples and one without: they must stay in step."""

import os
import time
from datetime import timedelta
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from actionzoo.layers import encode_heatmaps
from actionzoo.losses import MultitaskAwareLoss
from tests import people

SAMPLES, STEPS = 3, 3
# Seconds: a worker that waits in vain gives up after the first; the second also covers a slow start of both.
TIMEOUT, DEADLINE = 60, 180


class Output(NamedTuple):
    logits: torch.Tensor
    heatmaps: torch.Tensor
    stream_logits: dict


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.pose = nn.Linear(6, 8), nn.Linear(8, 2 * 3 * 3)
        self.image, self.part, self.concat = nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        x = self.trunk(x).tanh()
        return Output(
            self.concat(x), self.pose(x).unflatten(1, (2, 3, 3)), {"image": self.image(x), "part": self.part(x)}
        )


def build():
    torch.manual_seed(0)
    net = Net()
    return net, torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9), MultitaskAwareLoss(lam=0.5)


def batch(rank):
    """Rank 0: a pose, an action, both. Rank 1: nothing."""
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(SAMPLES, 6, generator=generator)
    heatmaps, weights = torch.full((SAMPLES, 2, 3, 3), -1.0), torch.zeros(SAMPLES, 2)
    targets = torch.full((SAMPLES,), -1)
    if rank == 0:
        heatmaps[[0, 2]] = torch.rand(2, 2, 3, 3, generator=generator)
        weights[[0, 2]] = 1
        targets[[1, 2]] = torch.tensor([3, 1])
    return images, heatmaps, weights, targets


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=TIMEOUT)
    )
    net, optimizer, criterion = build()
    wrapped = DistributedDataParallel(net)
    images, *annotations = batch(rank)
    for _ in range(STEPS):
        optimizer.zero_grad()
        criterion(wrapped(images), *annotations).total.backward()
        optimizer.step()
    torch.save(net.state_dict(), f"{folder}/{rank}.pt")
    torch.save(train_bodypart(rank).state_dict(), f"{folder}/bodypart{rank}.pt")
    dist.destroy_process_group()


def train_bodypart(rank):
    """A real network, whose heads and streams all wait for one another's gradients."""
    net = people.bodypart(4)
    wrapped, criterion = DistributedDataParallel(net), MultitaskAwareLoss(lam=0.5)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    joints, targets = torch.full((2, 16, 3), -1.0), torch.tensor([-1, -1])
    if rank == 0:
        joints, targets = 8 * torch.rand(2, 16, 3, generator=generator), torch.tensor([-1, 2])
    for _ in range(2):
        optimizer.zero_grad()
        criterion(wrapped(images), *encode_heatmaps(joints, 8), targets).total.backward()
        optimizer.step()
    return net


def run_two_processes(folder):
    context = mp.spawn(work, args=(str(folder),), nprocs=2, join=False)
    try:
        deadline = time.monotonic() + DEADLINE
        while not context.join(timeout=max(0.0, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                pytest.fail(f"the two processes did not finish in {DEADLINE} s")
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()
            process.join()
    names = ("0", "1", "bodypart0", "bodypart1")
    return [torch.load(os.path.join(folder, f"{name}.pt"), weights_only=True) for name in names]


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch was built without gloo")
def test_a_worker_without_annotations_stays_in_step(tmp_path):
    first, second, *bodyparts = run_two_processes(tmp_path)
    start = people.bodypart(4)
    for key, value in start.named_parameters():
        assert torch.equal(bodyparts[0][key], bodyparts[1][key])
        assert bodyparts[0][key].isfinite().all()
        if key.startswith(("head.", "stream_heads.", "pose.")):
            assert not torch.equal(bodyparts[0][key], value)

    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)

    net, optimizer, criterion = build()
    start = {key: value.clone() for key, value in net.state_dict().items()}
    for _ in range(STEPS):
        gradients = []
        for images, *annotations in (batch(0), batch(1)):
            net.zero_grad()
            criterion(net(images), *annotations).total.backward()
            gradients.append([p.grad.clone() for p in net.parameters()])
        assert all(grad.count_nonzero() == 0 for grad in gradients[1])
        for p, *pair in zip(net.parameters(), *gradients, strict=True):
            p.grad = sum(pair) / 2
        optimizer.step()
    for key, value in net.state_dict().items():
        assert not torch.equal(value, start[key])
        assert_close(first[key], value, rtol=1e-6, atol=1e-7)


def test_equal_shares_of_a_batch_add_up_to_the_whole_batch():
    """With Eq. 3's divisor the mean of the workers' losses is the loss of all their samples together."""
    net, _, criterion = build()
    shares = [batch(0), batch(1)]
    whole = [torch.cat(parts) for parts in zip(*shares, strict=True)]
    losses = [criterion(net(images), *annotations).total for images, *annotations in shares]
    assert losses[1] == 0
    assert_close(sum(losses) / 2, criterion(net(whole[0]), *whole[1:]).total)
