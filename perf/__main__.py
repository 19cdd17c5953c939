"""Measure the harness beside plain references and print one markdown table.

python3 -m perf                  # everything, minutes
python3 -m perf --only search    # one part
python3 -m perf --only search_million --rounds 3    # a million descriptors: only when asked for
python3 -m perf --reference ../deep-visual-geo-localization-benchmark       # beside the Deep VG Benchmark
python3 -m perf --growth         # how time grows from 1,000 to 100,000 images
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable

import torch
from tabulate import tabulate
from tqdm import tqdm

from perf import (
    device,
    extraction,
    growth,
    mining,
    netvlad,
    rerank,
    search,
    search_million,
    search_sizes,
    training_step,
)
from perf.beside import cli as beside
from perf.measure import Pair
from vgbench.runtime import Runtime, RuntimeOptions, resolve_runtime

NETWORKS = (("efficientnet_lite0", "gem"), ("efficientnet_lite0_s16", "netvlad"), ("resnet18conv4", "netvlad"))
SIZE = (320, 320)
PARTS = ("extraction", "training", "netvlad", "mining", "search", "rerank")
# up to a gigabyte on disk, several minutes; for a GPU
HEAVY = ("search_sizes", "search_million", "rerank_large", "device")


def measurements(runtime: Runtime, rounds: int) -> dict[str, list[Callable[[], Pair | list[Pair]]]]:
    """Every measurement by its part's name, each run when it is called."""
    return {
        "extraction": [
            lambda b=b, a=a: extraction.measure(runtime, b, a, SIZE, images=48, rounds=rounds)  # type: ignore[misc]
            for b, a in NETWORKS
        ],
        "training": [
            lambda b=b, a=a: training_step.measure(runtime, b, a, SIZE, rounds=rounds)  # type: ignore[misc]
            for b, a in NETWORKS
        ],
        "netvlad": [lambda: netvlad.measure(rounds, runtime.device.type)],
        "mining": [lambda: mining.measure(1000, 10_000, 1000, 1280, runtime.device, rounds)],
        "search": [lambda: search.measure(200_000, 1000, 512, rounds)],
        "rerank": [
            lambda: rerank.measure_local(10, 20, rounds),
            lambda: rerank.measure_kreciprocal(1500, 100, 256, "dense", rounds),
        ],
        "rerank_large": [lambda: rerank.measure_kreciprocal(100_000, 1000, 256, "faiss", 1)],
        "device": [lambda: device.measure(runtime, 256, 2, rounds)],
        "search_sizes": [lambda: search_sizes.measure(rounds)],
        "search_million": [lambda: search_million.measure(1_000_000, 1000, rounds)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=(*PARTS, *HEAVY), help="these parts")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each pair (default: 5)")
    beside.add_options(parser)
    growth.add_options(parser)
    arguments = parser.parse_args()
    if arguments.reference is not None or arguments.alone:
        beside.main(arguments)
        return
    if arguments.growth:
        growth.main(arguments)
        return
    runtime = resolve_runtime(RuntimeOptions())
    parts = measurements(runtime, arguments.rounds)
    chosen = [task for name, tasks in parts.items() if name in (arguments.only or PARTS) for task in tasks]
    measured = [task() for task in tqdm(chosen, desc="perf", unit="measurement")]
    pairs = [pair for one in measured for pair in (one if isinstance(one, list) else [one])]
    precision = str(runtime.amp_dtype or torch.float32).removeprefix("torch.")
    print(
        f"{platform.machine()}, {runtime.device}, {torch.get_num_threads()} threads, {precision}, "
        f"torch {torch.__version__}; medians of {arguments.rounds} rounds taken in turn\n"
    )
    print(tabulate([_row(pair) for pair in pairs], headers=HEADERS, tablefmt="github"))


HEADERS = ("what", "unit", "ours", "reference", "times faster (min to max)", "peak memory, MB: ours / reference")


def _row(pair: Pair) -> list[str]:
    memory = f"{pair.memory[0]:.0f} / {pair.memory[1]:.0f}" if pair.memory else ""
    return [
        pair.what, pair.unit, f"{pair.ours:.3g}", f"{pair.reference:.3g}",
        f"**{pair.ratio:.2f}** ({pair.low:.2f} to {pair.high:.2f})", memory,
    ]  # fmt: skip


if __name__ == "__main__":
    main()
