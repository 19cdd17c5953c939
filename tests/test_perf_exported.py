"""Networks beside their ONNX files: what is measured, and its table."""

from __future__ import annotations

import pytest
import torch

from vgbench.runtime import Runtime


def test_a_network_is_compared_with_its_file_and_timed_beside_it() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    from perf.exported import measure, table

    torch.set_num_threads(1)
    found = measure(Runtime(channels_last=True), "efficientnet_lite0_s16", "gem", (64, 64), rounds=1)
    assert found.name == "efficientnet_lite0_s16 + gem" and found.dim == 112
    assert 0 <= found.difference < 1e-5
    assert min(found.ours, found.float32, found.onnx) > 0
    assert f"| {found.dim} " in table([found])


def test_rates_are_images_of_a_processor_second(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    from perf import exported

    now = [0.0]
    monkeypatch.setattr("perf.exported.time.process_time", lambda: now[0])

    def takes(spent: float) -> None:
        now[0] += spent

    assert exported._rates([lambda: takes(1.0), lambda: takes(4.0)], rounds=3) == [4.0, 1.0]
