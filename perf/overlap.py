"""Seconds of a training step on several ranks: gradients added in buckets during backward, beside all after it.

python3 -m perf.overlap                     # two ranks of this machine
torchrun --nnodes=2 --nproc_per_node=1 --rdzv_endpoint=first:29500 --rdzv_backend=c10d -m perf.overlap   # on each
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import torch

from perf.training_step import Step
from vgbench import parallel
from vgbench.runtime import Runtime, RuntimeOptions, resolve_runtime
from vgbench.training.optimisation.shared_gradients import SharedGradients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18conv5", help="of the network (default: resnet18conv5)")
    parser.add_argument("--aggregation", default="gem", help="(default: gem)")
    parser.add_argument(
        "--resize", type=int, nargs=2, default=(160, 160), metavar=("H", "W"), help="(default: 160 160)"
    )
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each (default: 9)")
    given = parser.parse_args()
    if not parallel.launched():
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
        sys.exit(subprocess.call([sys.executable, *launcher, "-m", "perf.overlap", *sys.argv[1:]]))
    runtime = resolve_runtime(RuntimeOptions())
    parallel.start(runtime.device)
    after, during = measure(runtime, given.backbone, given.aggregation, tuple(given.resize), given.rounds)
    if parallel.is_main():
        print(
            f"{given.backbone} + {given.aggregation}, {given.resize[0]}x{given.resize[1]}, {parallel.world()} ranks: "
            f"{after:.3f} s a step with gradients added after backward, {during:.3f} s during it, "
            f"{after / during:.2f} times as fast"
        )
    parallel.stop()


def measure(
    runtime: Runtime, backbone: str, aggregation: str, size: tuple[int, int], rounds: int
) -> tuple[float, float]:
    """Return the medians of seconds a step, all gradients added after backward and in buckets during it."""
    torch.manual_seed(0)  # the same weights on all ranks
    step = Step(runtime, backbone, aggregation, size)
    ways = [SharedGradients(step.network, step.network, overlap=overlap) for overlap in (False, True)]
    times: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for way, found in zip(ways, times, strict=True):
            step.stepper.gradients = way
            parallel.barrier()
            start = time.perf_counter()
            step()
            parallel.barrier()
            found.extend([time.perf_counter() - start] if number else [])  # the first warms up
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    main()
