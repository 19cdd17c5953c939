"""What is chosen for the machine: precision, and the C library's allocator."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from vgbench import runtime
from vgbench.errors import UserError
from vgbench.runtime import Runtime, RuntimeOptions, resolve_runtime

TRIM, THRESHOLD, MAPPED = -1, -3, -4


class Allocator:
    """Stands for glibc: remembers what was set, refuses what it is told to."""

    def __init__(self, refuses: dict[int, int]) -> None:
        self.refuses = refuses
        self.set: list[int] = []

    def __call__(self, parameter: int, value: int) -> int:
        if value >= self.refuses.get(parameter, 2**40):
            return 0
        self.set.append(parameter)
        return 1


def test_large_blocks_are_kept_and_the_trim_threshold_comes_last() -> None:
    glibc = Allocator(refuses={})
    assert runtime._keep_freed_blocks(glibc)
    assert glibc.set == [THRESHOLD, TRIM]


def test_an_old_glibc_that_refuses_a_large_threshold_maps_no_block_alone() -> None:
    glibc = Allocator(refuses={THRESHOLD: 32 * 2**20 + 1})
    assert runtime._keep_freed_blocks(glibc)
    assert glibc.set == [MAPPED, TRIM]


def test_an_allocator_that_refuses_everything_keeps_adapting() -> None:
    allocator = Allocator(refuses={THRESHOLD: 0, MAPPED: 0})
    assert not runtime._keep_freed_blocks(allocator)
    assert allocator.set == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
def test_freed_memory_goes_back_to_the_system_between_stages() -> None:
    code = """
import ctypes, sys
import torch
from vgbench import runtime

def resident() -> float:
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("RssAnon")).split()[1]) / 1024

if not hasattr(ctypes.CDLL(None), "malloc_trim") or not runtime._keep_freed_blocks(ctypes.CDLL(None).mallopt):
    sys.exit(0)
held = [torch.ones(2**18) for _ in range(100)]  # 100 MB
last = torch.ones(2**18)  # so that the heap's end does not come back by itself
before = resident()
del held
kept = resident()
runtime.release_freed_memory()
assert before - kept < 10 and kept - resident() > 90, (before, kept, resident())
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


FAULTS = """
import ctypes, resource, sys
import torch
from vgbench import runtime
library = ctypes.CDLL(None)
def refusing(parameter, value):
    return 0 if parameter == -3 and value > 32 * 2**20 else library.mallopt(parameter, value)
if sys.argv[1] != "default":
    assert runtime._keep_freed_blocks(library.mallopt if sys.argv[1] == "new" else refusing)
for round in range(40):
    if round == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(8 * 2**20 + 2**20)  # 36 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_blocks_are_not_faulted_in_again() -> None:
    """Counted in page faults of thirty blocks of 36 MB, above what glibc keeps by itself."""
    faults = {
        name: int(subprocess.run([sys.executable, "-c", FAULTS, name], capture_output=True, check=True).stdout)
        for name in ("default", "new", "old")
    }
    if faults["default"] < 1000:
        pytest.skip("this C library keeps large blocks by itself")
    assert faults["new"] < faults["default"] / 4
    assert faults["old"] < faults["default"] / 4


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True}, torch.bfloat16),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"architecture": "x86_64", "avx512_bf16": False, "avx512_f": True}, None),
        ({"architecture": "aarch64"}, torch.bfloat16),
    ],
)
def test_bf16_is_chosen_where_the_processor_multiplies_it(found, expected, monkeypatch) -> None:
    monkeypatch.setattr(runtime, "onednn_has_bf16", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert resolve_runtime(RuntimeOptions(device="cpu")).amp_dtype == expected


def test_bf16_is_not_chosen_where_onednn_has_none(monkeypatch) -> None:
    monkeypatch.setattr(runtime, "onednn_has_bf16", lambda: False)
    assert resolve_runtime(RuntimeOptions(device="cpu")).amp_dtype is None


def test_tf32_rounds_the_networks_products_and_no_others() -> None:
    def flags() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    usual = flags()
    runtime = Runtime(torch.device("cuda"), tf32=True)  # which only what runs asks for
    with runtime.autocast():
        assert flags() == (True, True)
    assert flags() == usual
    with pytest.raises(KeyError), runtime.products():
        raise KeyError
    assert flags() == usual
    with Runtime(torch.device("cuda")).autocast():
        assert flags() == usual
    assert runtime.backend_facts == {"float32": "tf32"} and Runtime().backend_facts == {}
    with pytest.raises(UserError, match="--amp tf32: a CPU has no such products"):
        resolve_runtime(RuntimeOptions(device="cpu", amp="tf32"))


@pytest.mark.gpu
def test_tf32_is_chosen_on_a_gpu_and_bf16_by_default() -> None:
    assert resolve_runtime(RuntimeOptions(device="cuda", amp="tf32")).tf32
    usual = resolve_runtime(RuntimeOptions(device="cuda"))
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    assert usual.amp_dtype == (torch.bfloat16 if supported else torch.float16) and not usual.tf32
    one, other = torch.randn(2, 512, 512, device="cuda")
    exact = (one.double() @ other.double()).float()
    with Runtime(torch.device("cuda"), tf32=True).autocast():
        rounded = one @ other
    plain = one @ other
    assert (plain - exact).abs().max() < 1e-3 < 1e-2 < (rounded - exact).abs().max() < 1
