"""The roofline: what it counts, and that its table says it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from perf.roofline import Reached, Roof, best, reach, roofs_of, table
from vgbench.runtime import Runtime


def test_a_share_is_operations_times_images_below_the_roof() -> None:
    one = Reached("a", gflops=2.0, images=30.0, peak=120.0, convolving=0.8)
    assert (one.rate, one.share, one.to_gain) == (60.0, 0.5, 1.25)
    assert "| a         | 2.00              | 30.0       | 60.0      | 50%" in table([one])


def test_the_best_of_the_rounds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr("perf.roofline.time.process_time", lambda: next(clock))
    calls: list[int] = []
    assert best([Roof("work", lambda: calls.append(1), 8e9)], rounds=3) == [4.0]  # 8 in the shortest, 2 seconds
    assert len(calls) == 4


def test_networks_are_measured_below_the_roof() -> None:
    torch.set_num_threads(1)
    roof = roofs_of(Runtime(), product=64)[0]
    assert roof.operations == 2 * 64**3
    found = reach(Runtime(channels_last=True), "efficientnet_lite0_s16", "gem", (64, 64), roof, rounds=1)
    assert found.gflops == pytest.approx(0.0375, rel=0.5) and found.images > 0 and found.peak > 0
    assert 0 < found.convolving <= 1


def test_convolutions_are_timed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from perf import roofline

    ticks = iter(range(100))
    monkeypatch.setattr("perf.roofline.time.process_time", lambda: float(next(ticks)))
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    watch = roofline._Stopwatch(module)
    module(torch.zeros(1, 3, 4, 4))
    assert watch.seconds == 2.0  # a tick in each of the two
