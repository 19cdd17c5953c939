"""What is measured: the commands of both sides, and what is read off them."""

from __future__ import annotations

import itertools
import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = ("startup", "selection", "evaluation", "small", "training")
AGGREGATIONS = {256: "gem", 16_384: "netvlad"}  # behind ResNet-18 up to its fourth stage
SIDES = ("ours", "reference")
_EPOCH_OURS = {
    "mining": "vgbench.training.modes.triplets:TripletMode.round",
    "step": "vgbench.training.optimisation.step:Stepper.update",
    "validation": "vgbench.retrieval.evaluation:evaluate",
}
_EPOCH_REFERENCE = {
    "mining": "datasets_ws:TripletsDataset.compute_triplets",
    "step": "torch.optim.adam:Adam.step",
    "validation": "test:test",
}


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        images: database images of the test split; half as many queries.
        small: images of the evaluation of many small ones.
        triplets: queries of the one round that is an epoch here, four a step.
        workers: decoding processes of either side.
        device: "cpu" or "cuda".
    """

    images: int = 96
    small: int = 2000
    triplets: int = 16
    workers: int = 2
    device: str = "cpu"


@dataclass(frozen=True)
class Row:
    """One thing that both sides are asked to do.

    Attributes:
        kind: of `KINDS`.
        size: height and width that images are resized to, where there are images.
        dim: dimensions of a descriptor.
        what: tells rows of a kind apart that are not told apart by size and dim.
    """

    kind: str
    size: tuple[int, int] = (0, 0)
    dim: int = 256
    what: str = ""

    @property
    def name(self) -> str:
        parts = [self.kind, self.what, f"{self.size[0]}x{self.size[1]}" if self.size[0] else "", str(self.dim)]
        return "-".join(part for part in parts if part)


def rows_of(kinds: Iterable[str], sizes: Iterable[tuple[int, int]], dims: Iterable[int]) -> list[Row]:
    """Return the rows of some kinds, quick ones first."""
    chosen, sizes, dims = set(kinds), list(sizes), list(dims)
    found = [Row("startup", what="help"), Row("startup", size=(64, 64), what="first_step")]
    found += [Row("selection", dim=dim) for dim in dims]
    found += [Row(kind, size, dim) for kind in ("evaluation", "training") for size in sizes for dim in dims]
    found += [Row("small", (96, 96), dim) for dim in dims if dim > 1000]
    return sorted((row for row in found if row.kind in chosen), key=lambda row: KINDS.index(row.kind))


@dataclass(frozen=True)
class Command:
    """What one side runs for a row: words after the interpreter, watched functions, and the event that ends it."""

    words: list[str]
    watched: dict[str, str]
    last: str = ""


def command_of(row: Row, side: str, scale: Scale, reference: Path, work: Path) -> Command:
    """Return what a side runs; `work` holds `datasets` and `checkpoints`, `reference` the edited copy."""
    ours = side == "ours"
    home = REPOSITORY if ours else reference
    if row.kind == "selection":
        return Command(["-m", "perf.beside.selection", side, str(reference), str(row.dim)], {})
    if row.what == "help":
        return Command([str(home / "eval.py"), "--help"], {})
    words = [
        f"--datasets_folder={work / 'datasets'}", f"--dataset_name={'small' if row.kind == 'small' else 'city'}",
        "--backbone=resnet18conv4", f"--aggregation={AGGREGATIONS[row.dim]}", "--resize", *map(str, row.size),
        f"--num_workers={scale.workers}", f"--device={scale.device}", "--save_dir=perf",
    ]  # fmt: skip
    if row.kind in ("evaluation", "small"):
        words.append(f"--resume={work / 'checkpoints' / f'{row.dim}.pth'}")
        target = "vgbench.retrieval.evaluation:evaluate" if ours else "test:test"
        return Command([str(home / "eval.py"), *words], {"test": target})
    triplets = 4 if row.kind == "startup" else scale.triplets
    words += [
        f"--queries_per_epoch={triplets}", f"--cache_refresh_rate={triplets}", "--epochs_num=1",
        f"--neg_samples_num={scale.images}", *(["--pretrain=none"] if ours else []),
    ]  # fmt: skip
    watched = _EPOCH_OURS if ours else _EPOCH_REFERENCE
    return Command([str(home / "train.py"), *words], watched, "step" if row.kind == "startup" else "validation")


@dataclass(frozen=True)
class Figure:
    """One time that a run took.

    Attributes:
        what: its name in the table.
        wall: seconds.
        processor: processor seconds.
        images: where a rate says more: the images that were done in that time.
    """

    what: str
    wall: float
    processor: float
    images: int = 0

    @property
    def unit(self) -> str:
        return "images/s" if self.images else "s"

    @property
    def value(self) -> float:
        return self.images / self.wall if self.images else self.wall


def figures(row: Row, scale: Scale, run: Mapping[str, Any]) -> list[Figure]:
    """Read the times of a row off a run; the last is the one whose peak memory the run's is."""
    place = f"{row.size[0]}x{row.size[1]}, {row.dim:,} dimensions" if row.size[0] else f"{row.dim:,} dimensions"
    events, whole = run["events"], (run["wall"], run["processor"])
    if row.what == "help":
        return [Figure("start-up: eval.py --help", *whole)]
    if row.kind == "startup":
        wall = events["step"][0][1] - run["begin"]
        return [Figure("start-up: train.py until its first step is done", wall, events["step"][0][3])]
    if row.kind == "selection":
        what = f"mining selection, 1,000 queries among 1,000, {place}"
        return [Figure(what, *_between(events["selection"], events["selection"]))]
    if row.kind in ("evaluation", "small"):
        images = scale.small if row.kind == "small" else scale.images
        images += images // 2
        describing = _between(events["test"], events["test"])
        return [
            Figure(f"extraction with search, {images:,} images, {place}", *describing, images),
            Figure(f"evaluation (eval.py), {images:,} images, {place}", *whole),
        ]
    pairs = [(b[1] - a[1], b[3] - a[3]) for a, b in itertools.pairwise(events["step"])]
    step = [statistics.median(side) for side in zip(*pairs, strict=True)]
    epoch = _between(events["mining"], events["validation"])
    return [
        Figure(f"training step, 4 triplets of 12, {place}", step[0], step[1]),
        Figure(f"epoch: mining, {len(events['step'])} steps, validation, {place}", *epoch),
    ]


def _between(first: list[list[float]], last: list[list[float]]) -> tuple[float, float]:
    """Seconds and processor seconds from the begin of the first event to the end of the first of the other."""
    return last[0][1] - first[0][0], last[0][3] - first[0][2]


def recalls_in(folder: Path, log: Path) -> dict[str, float]:
    """Return the recalls that a test printed or wrote into its run folder, "1" -> percent; {} where it did neither."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("logs/perf/*/results.json")):
        found = next(iter(json.loads(path.read_text())["recalls"].values()))
    if not found:
        found = dict(re.findall(r"R@(\d+): ([\d.]+)", log.read_text(errors="replace")))
    return {number: float(percent) for number, percent in found.items()}


def interpreter(command: Command, events: Path) -> list[str]:
    """Return the words that run a command, with the stopwatch around it where something is watched."""
    if not command.watched:
        return [sys.executable, *command.words]
    watch = str(Path(__file__).with_name("stopwatch.py"))
    return [sys.executable, watch, str(events), json.dumps(command.watched), command.last, *command.words]
