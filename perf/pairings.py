"""Every backbone with every aggregation that fits it: parameters, GFLOPs, dimensions, images per second, peak memory.

python3 -m perf.pairings                                             # all of them: hours on a laptop
python3 -m perf.pairings --backbones resnet18conv4 dinov2_vits14     # some of them
python3 -m perf.pairings --output docs/pairings.md                   # started again, it goes on where it stopped

Each pairing runs in a process of its own, forward and backward, at the image size of its method; images per second are
those of the fastest of several rounds, so that other work on the machine counts little. A pairing that does not fit is
left out; one that fails is a row that says why.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from perf.measure import peak_mb
from vgbench.errors import UserError, in_short
from vgbench.models import build_network, for_inference
from vgbench.models.aggregation import AGGREGATIONS
from vgbench.models.backbones import BACKBONES
from vgbench.runtime import RuntimeOptions, resolve_runtime

HEAD = """# Every backbone with every aggregation that fits it

{rows} pairings, each built, run forward and backward, then for inference, in a process of its own, by
`python3 -m perf.pairings` ({threads} threads of the machine at hand). Parameters and dimensions are the network's,
GFLOPs those of one image, images per second those of its fast form, the peak memory that of the whole process. Where
other work ran beside it, images per second are lower limits.
"""
IMAGES = 2
# One at a time, as a small machine would have to.
GIANTS = "dinov2_vitg"
SLOW_S = 2.0  # beside which warming up is nothing
# Beginnings of names, for those that do not take 320x320.
SIZES = {"cct384": 384, "vit": 224, "maxvit": 224, "dinov2": 322}
COLUMNS = {"backbone": "backbone", "aggregation": "aggregation", "size": "image", "parameters": "parameters, M",
           "gflops": "GFLOPs", "dim": "dimensions", "images_per_s": "images/s", "mb": "peak memory, MB",
           "failed": "failed"}  # fmt: skip


def measure(backbone: str, aggregation: str) -> dict[str, Any]:
    """Return one row, or {} where the two do not fit together."""
    size = next((side for start, side in SIZES.items() if backbone.startswith(start)), 320)
    runtime = resolve_runtime(RuntimeOptions())
    try:
        network = build_network(backbone, aggregation, "none", resize=(size, size))
    except UserError:
        return {}
    runtime.prepare(network)
    count = 1 if backbone.startswith(GIANTS) else IMAGES
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, device=runtime.device)
    network.requires_grad_(True).train()
    with runtime.autocast(), FlopCounterMode(display=False) as counter:
        described = network(images)
    described.square().sum().backward()
    network.zero_grad(set_to_none=True)
    network.eval()
    describe = for_inference(network, runtime)
    return {
        "size": f"{size}x{size}",
        "parameters": round(sum(p.numel() for p in network.parameters()) / 1e6, 2),
        "gflops": round(counter.get_total_flops() / len(images) / 1e9, 2),
        "dim": network.descriptors_dim,
        "images_per_s": round(_images_per_second(describe, images), 1),
        "mb": round(peak_mb()),
    }


def _images_per_second(describe: Any, images: torch.Tensor) -> float:
    seconds: list[float] = []
    while sum(seconds[1:]) < 0.3:
        start = time.perf_counter()
        describe(images)
        if images.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        if seconds[-1] >= SLOW_S:
            break
    return len(images) / min(seconds)


def measure_apart(backbone: str, aggregation: str) -> dict[str, Any]:
    """`measure` in a process of its own, forked so that it starts with everything imported."""
    forks = multiprocessing.get_context("fork")
    receiver, sender = forks.Pipe(duplex=False)
    process = forks.Process(target=_send, args=(sender, backbone, aggregation))
    process.start()
    sender.close()
    try:
        row: dict[str, Any] = receiver.recv()
    except EOFError:
        process.join()
        row = {"failed": f"stopped with status {process.exitcode}"}
    process.join()
    return row


def _send(sender: Connection, backbone: str, aggregation: str) -> None:
    try:
        sender.send(measure(backbone, aggregation))
    except Exception as error:  # the row says what went wrong, and the table goes on
        sender.send({"failed": in_short(error)[:100]})


def collect(backbones: list[str], aggregations: list[str], store: Path) -> list[dict[str, Any]]:
    """Measure what `store`, a line of JSON a pairing, does not have yet; return the rows that were asked for."""
    known = [json.loads(line) for line in store.read_text().splitlines()] if store.is_file() else []
    rows = {(row["backbone"], row["aggregation"]): row for row in known}
    wanted = [(backbone, aggregation) for backbone in backbones for aggregation in aggregations]
    for pair in tqdm([pair for pair in wanted if pair not in rows], desc="pairings", unit="pairing"):
        names = dict(zip(("backbone", "aggregation"), pair, strict=True))
        rows[pair] = names | measure_apart(*pair)
        with store.open("a") as file:
            file.write(json.dumps(rows[pair]) + "\n")
    return [rows[pair] for pair in wanted if len(rows[pair]) > 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), metavar="NAME", help="default: all")
    parser.add_argument("--aggregations", nargs="+", default=list(AGGREGATIONS), metavar="NAME", help="default: all")
    parser.add_argument(
        "--output", type=Path, default=Path("logs/pairings.md"), metavar="FILE.md", help="default: logs/pairings.md"
    )
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    rows = collect(arguments.backbones, arguments.aggregations, arguments.output.with_suffix(".jsonl"))
    columns = [key for key in COLUMNS if any(key in row for row in rows)]
    table = tabulate(
        [[row.get(key, "") for key in columns] for row in rows],
        [COLUMNS[key] for key in columns],
        tablefmt="pipe",
        numalign="right",
    )
    arguments.output.write_text(f"{HEAD.format(rows=len(rows), threads=torch.get_num_threads())}\n{table}\n")
    print(table)


if __name__ == "__main__":
    main()
