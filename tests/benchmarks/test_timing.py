import random

import numpy as np
import pytest

from benchmarks import cuda_timing, roofline, timing
from benchmarks.cuda_timing import Kernel


class Clock:
    """Time passes when a sampler says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sampler(self, seconds, values, log=None):
        def sample(number):
            self.now += seconds
            if log is not None:
                log.append(number)
            return values(number)

        return sample


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_quantile_is_numpys(share, count):
    samples = [random.random() for _ in range(count)]
    assert timing.quantile(samples, share) == pytest.approx(np.quantile(samples, share))


def test_standard_error_of_the_median_is_that_of_repeated_experiments():
    generator = np.random.default_rng(0)
    experiments = generator.normal(100, 5, (2000, 101))
    expected = np.median(experiments, 1).std() / 100
    found = np.mean([timing.standard_error(list(samples)) for samples in experiments])
    assert found == pytest.approx(expected, rel=0.1)


def test_one_outlier_moves_neither_median_nor_error():
    samples = [100.0 + i % 5 for i in range(50)]
    plain, disturbed = timing.summarize(samples), timing.summarize([*samples[:-1], 1e6])
    assert disturbed.median == pytest.approx(plain.median, rel=0.01)
    assert disturbed.error == pytest.approx(plain.error, rel=0.2)


def test_too_few_rounds_have_no_error():
    assert timing.summarize([3.0, 5.0]) == (4.0, pytest.approx(3.4), pytest.approx(4.6), None, 2)
    with pytest.raises(ValueError, match="no round"):
        timing.summarize([])


def test_ratio_is_taken_within_rounds():
    # the machine slows down: the ratio of the medians would be off
    base = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert timing.median_ratio([3 * value for value in base[:2]], base) == 3


def test_rounds_alternate_and_end_at_one_per_cent():
    clock, log = Clock(), []
    samplers = {
        name: clock.sampler(0.001, lambda number, name=name: log.append(name) or 100 + 10 * (number % 3))
        for name in "abc"
    }
    times = timing.interleave(samplers, cap=100, clock=clock)
    assert log[:6] == ["a", "b", "c", "c", "b", "a"]
    assert {len(samples) for samples in times.values()} == {len(times["a"])}
    assert timing.standard_error(times["a"]) <= 0.01
    assert timing.standard_error(times["a"][:-1]) > 0.01


def test_noise_ends_at_the_cap():
    clock = Clock()
    times = timing.interleave({"a": clock.sampler(0.01, lambda number: 1 + 99 * (number % 2))}, cap=1.0, clock=clock)
    assert len(times["a"]) == pytest.approx(100, abs=1)


def test_a_slow_one_drops_out_and_the_others_go_on():
    clock, rounds = Clock(), []
    noisy = clock.sampler(0.001, lambda number: 1 + number % 7, rounds)
    times = timing.interleave({"slow": clock.sampler(0.4, float), "fast": noisy}, cap=1.0, most=40, clock=clock)
    assert len(times["slow"]) == 3
    assert rounds == list(range(40))


def test_one_that_takes_longer_than_its_time_is_measured_once():
    clock = Clock()
    assert timing.interleave({"a": clock.sampler(30, lambda _: 7.0)}, cap=1.0, clock=clock) == {"a": [7.0]}


def test_cpu_time_is_per_call_and_inputs_take_turns():
    seen = []

    def work(amount):
        seen.append(amount)
        sum(range(20000))

    sample = timing.cpu_sampler(work, [1, 2], least=0.02)
    first, second = sample(0), sample(1)
    assert 0.2 < first / second < 5
    assert {1, 2} == set(seen[2:])
    assert len(seen) > 12


def test_kernels_belong_to_the_call_after_the_flush():
    kernels = [(9, 4, "gemm"), (0, 1, "warm-up"), (2, 50, "flush"), (5, 3, "gemm"), (6, 2, "relu"), (8, 50, "flush")]
    calls = cuda_timing.split_calls([Kernel(*kernel) for kernel in kernels], {"flush"})
    assert [[kernel.name for kernel in call] for call in calls] == [["gemm", "relu"], ["gemm"]]
    assert [sum(kernel.duration for kernel in call) for call in calls] == [5, 4]


def test_slow_kernels_are_refused():
    assert cuda_timing.refuse_slow(["sm90_gemm", "void at::native::vol2col_kernel<float>"]) == (
        "ran the slow kernels vol2col"
    )
    assert cuda_timing.refuse_slow(["sm90_gemm", "cudnn::conv3d"]) is None


@pytest.mark.parametrize(("size", "sets"), [(1, 64), (10_000_000, 19), (60_000_000, 4), (10**9, 2)])
def test_input_sets_exceed_three_caches_where_they_can(size, sets):
    assert cuda_timing.set_count(size, 60_000_000) == sets


def test_floor_is_the_larger_limit():
    assert roofline.floor_us(4e9, 1e9, copy=4e12, product=1e14) == pytest.approx(1000)
    assert roofline.floor_us(4e6, 1e12, copy=4e12, product=1e14) == pytest.approx(10000)
