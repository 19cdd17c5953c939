"""Runs that are killed, ended, cut off by full disks and read-only folders, and met by others in their folder.

A seed draws what happens to each run, and when. Then it goes on, as its user would let it; at its end it must have the
weights, tables and recalls of a run that nothing happened to, to the bit. `tests/soak.py` is the test; by hand:

    OMP_NUM_THREADS=1 PYTHONPATH=.:tests python tests/soaking.py --minutes 30 --seed 1
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from soak_parts import Child, Disk, WrongError, differences, rounds_done
from tiny_city import write_dataset

COMMON = [
    "--backbone=efficientnet_lite0_s16", "--aggregation=gem", "--pretrain=none", "--resize", "48", "48",
    "--num_workers=0", "--infer_batch_size=8", "--epochs_num=2", "--patience=9", "--device=cpu", "--amp=off",
    "--report_queries=2",
]  # fmt: skip
MODES = {
    "triplets": ["--queries_per_epoch=12", "--cache_refresh_rate=4", "--neg_samples_num=10", "--negs_num_per_query=2",
                 "--train_batch_size=2", "--brightness=0.2"],
    "places": ["--train_mode=places", "--place_cell=20", "--img_per_place=2", "--min_img_per_place=2",
               "--places_per_batch=4", "--ema_decay=0.9"],
    "classes": ["--train_mode=classes", "--M=20", "--N=2", "--L=1", "--min_images_per_class=2",
                "--iterations_per_epoch=3", "--images_per_batch=8"],
}  # fmt: skip
# The same command on two ranks of torchrun; and as a matrix of benchmark.py, which starts both commands itself.
MODES["ranks"] = [*MODES["places"][:-2], "--places_per_batch=2", "--ema_decay=0.9"]
MODES["matrix"] = MODES["triplets"]
RANKS = {"ranks": 2}
# Another size than the training's, so that nothing is there already.
TEST = ["--resize", "40", "40", "--num_workers=0", "--infer_batch_size=4", "--device=cpu", "--amp=off",
        "--report_queries=2"]  # fmt: skip
EVENTS = ("kill", "end", "full disk", "read-only folder", "two at once")
AT_ONCE = EVENTS[2:]  # these may also be so before the command starts
# What happens to one training, and to the test of it, before it is let be.
MOST_TO_TRAINING, MOST_TO_TEST = 6, 2
LOADED = (
    "vgbench.runs.train_run", "vgbench.runs.eval_run", "vgbench.cli.train", "vgbench.cli.eval", "h5py", "torchvision",
    "torch.utils.tensorboard", "PIL.Image", "vgbench.report.page", "torch._dynamo", "torch.distributed.launcher.api",
    "vgbench.cli.benchmark",
)  # fmt: skip


class Soak:
    """One soak: what it is drawn from, where it works, what it counted."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.counts: Counter[str] = Counter(runs=0, starts=0, differences=0, tracebacks=0, wrong=0)
        self.problems: list[str] = []
        self.dataset = write_dataset(folder / "datasets" / "tiny")
        self.data = [f"--datasets_folder={self.dataset.parent}", "--dataset_name=tiny"]
        self.seconds: dict[str, float] = {}

    def calm(self, mode: str) -> Path:
        """Train and test undisturbed, and remember how long that takes."""
        disk = Disk(self.folder / f"calm-{mode}", mounted=False)
        for script, words in self.commands(mode, disk.folder).items():
            began = time.monotonic()
            status = self.child(mode, script, words(), disk.folder).wait()
            self.seconds[f"{mode} {script}"] = time.monotonic() - began
            if status != 0:
                raise WrongError(f"{mode}: undisturbed {script} ended with {status}: {disk.folder}")
        return disk.folder

    def commands(self, mode: str, folder: Path) -> dict[str, Callable[[], list[str]]]:
        """Return the scripts of a run of some mode, and for each what makes its words."""
        if mode == "matrix":
            return {"benchmark": lambda: self.matrix(folder)}
        return {"train": lambda: self.training(mode, folder / "run"), "eval": lambda: self.test(folder)}

    def child(self, mode: str, script: str, words: list[str], folder: Path, small: int | None = None) -> Child:
        """Start a command; a training of ranks by torchrun."""
        return Child(f"{script}.py", words, folder, small, RANKS.get(mode, 1) if script == "train" else 1)

    def matrix(self, folder: Path) -> list[str]:
        """Write a matrix of one training and its test beside the folder, and return the words that run it in there."""
        path = self.folder / "matrix.yaml"
        if not path.is_file():
            train = [*self.data, *COMMON, *MODES["matrix"]]
            run = {"name": "one", "train": as_options(train), "eval": [as_options([*self.data, *TEST])]}
            path.write_text(yaml.safe_dump({"runs": [run]}))
        return [str(path), f"--logs_folder={folder}"]

    def training(self, mode: str, run: Path) -> list[str]:
        """Return the words of a training: from the start, or from where it stopped."""
        if (run / "last_model.pth").is_file():
            return [f"--resume={run}"]
        return [*self.data, *COMMON, *MODES[mode], f"--run_dir={run}"]

    def test(self, folder: Path) -> list[str]:
        return [*self.data[:1], f"--resume={folder / 'run' / 'best_model.pth'}", *TEST, f"--run_dir={folder / 'test'}"]

    def disturbed(self, mode: str, number: int, calm: Path, until: float) -> None:
        """Disturb one training and its test; compare what is left with the undisturbed one."""
        disk, before = Disk(self.folder / f"{mode}-{number}"), len(self.problems)
        try:
            for script, words in self.commands(mode, disk.folder).items():
                most = MOST_TO_TEST if script == "eval" else self.random.randint(2, MOST_TO_TRAINING)
                self.one(mode, script, disk, words, most, until)
            places = ("matrix/one/train", "matrix/one/eval-1") if mode == "matrix" else ("run", "test")
            found = differences(calm, disk.folder, *places)
            self.counts["runs"] += 1
            self.counts[f"runs of {mode}"] += 1
            self.counts["differences"] += len(found)
            self.problems += [f"{mode}-{number}: {one}" for one in found]
        except WrongError as wrong:
            self.counts["wrong"] += 1
            self.problems.append(f"{mode}-{number}: {wrong}")
        finally:
            self.counts["on a disk of its own"] += disk.mounted
            disk.close(keep=len(self.problems) > before)

    def one(self, mode: str, script: str, disk: Disk, words: Callable[[], list[str]], most: int, until: float) -> None:
        """Start a command, let something happen to it, and again, until it ends well."""
        for number in range(most + 20):
            quiet = number >= most or time.monotonic() > until
            event = None if quiet else self.random.choice(EVENTS)
            done = rounds_done(disk.folder / "run") / max(1, rounds_done(self.folder / f"calm-{mode}" / "run"))
            left = self.seconds[f"{mode} {script}"] * (max(0.3, 1 - done) if script == "train" else 1)
            delay = self.random.uniform(0, left)
            status = self.happen(event, delay, (mode, script), words, disk)
            self.counts["starts"] += 1
            if status == 0:
                return
            if event is None:
                raise WrongError(f"{script}.py ended with {status} where nothing happened to it: {disk.said()}")
        raise WrongError(f"{script}.py does not come to its end")

    def happen(
        self, event: str | None, delay: float, what: tuple[str, str], words: Callable[[], list[str]], disk: Disk
    ) -> int:
        """Start a command, let an event happen to it, at the start or after some seconds; return its status.

        Args:
            what: the mode and the script.
        """
        at_once = event in AT_ONCE and self.random.random() < 0.5
        if at_once:
            self.spoil(event, disk)
        small = int(1e5 * delay) if event == "full disk" and not disk.mounted else None
        child = self.child(*what, words(), disk.folder, small)
        if event is not None and not at_once and child.ended_within(delay):
            self.counts["too late"] += 1
        elif event is not None:
            self.counts[event] += 1
            if event == "two at once":
                return self.two(child, self.child(*what, words(), disk.folder), what, disk)
            if not at_once:
                self.spoil(event, disk, child)
        try:
            status = child.wait()
        finally:
            disk.as_before()
        self.check(status, event, disk, what)
        return status

    def spoil(self, event: str | None, disk: Disk, child: Child | None = None) -> None:
        """Do to a command, or to the disk below it, what the event says."""
        if event == "full disk":
            disk.fill(self.random.choice((0, 4096, 10**6, 9 * 10**6)))
        elif event == "read-only folder":
            disk.read_only()
        elif child is not None:
            rank = self.random.choice((None, 0, 1)) if child.ranks > 1 else None
            child.send(signal.SIGKILL if event == "kill" else signal.SIGTERM, rank)
            if child.ranks > 1:
                self.counts[f"{event} of {'torchrun' if rank is None else 'one rank'}"] += 1

    def two(self, first: Child, second: Child, what: tuple[str, str], disk: Disk) -> int:
        """Let two commands work at one place; sometimes the first is killed while the second waits or is refused."""
        killed = self.random.random() < 0.5
        if killed:
            time.sleep(self.random.uniform(0, 2))
            first.send(signal.SIGKILL)
            self.counts["kill of one of two"] += 1
        statuses = [first.wait(), second.wait()]
        for status in statuses:
            self.check(status, "kill" if killed else "two at once", disk, what)
        if killed and statuses[0] == 0:
            return 0
        if not killed and 0 not in statuses:
            raise WrongError(
                f"two at once: {what[1]} ended with {statuses}, and neither came to its end: {disk.said()}"
            )
        return 0 if 0 in statuses else max(statuses)

    def check(self, status: int, event: str | None, disk: Disk, what: tuple[str, str]) -> None:
        """Note a status or a message that no user should see."""
        fine = {0, 2, {"kill": -9, "end": 143}.get(event or "", 0)}
        if what[1] == "benchmark":
            fine.add(1)  # a run of it has failed, as its table says
        said = disk.said(whole=True)
        if event == "end" and status == -signal.SIGTERM and (not said or what[0] in RANKS):
            self.counts["ended before it began"] += 1  # while Python loads, the system ends it, and nothing is said
            fine.add(status)
        if status not in fine:
            self.counts["wrong"] += 1
            self.problems.append(f"{disk.folder.name}: {event}: status {status}: {said[-300:]!r}")
        # torch's launcher logs how its ranks ended with tracebacks of its own, each line marked.
        if any("Traceback" in line for line in said.splitlines() if not re.match(r"[EWI]\d{4} .*\] ", line)):
            self.counts["tracebacks"] += 1
            self.problems.append(f"{disk.folder.name}: {event}: a traceback: {said[-500:]!r}")
        disk.heard()


def as_options(words: list[str]) -> dict[str, object]:
    """Return a command's words as a matrix has them."""
    found: dict[str, object] = {}
    for word in " ".join(words).split("--")[1:]:
        name, *values = word.replace("=", " ").split()
        plain = [yaml.safe_load(value) if value != "off" else value for value in values]
        found[name] = plain if len(plain) > 1 else plain[0]
    return found


def soak(
    folder: Path, minutes: float, seed: int, modes: Sequence[str] = tuple(MODES), say: Callable[[str], None] = print
) -> Soak:
    """Disturb runs of some modes in turn until the minutes are over."""
    for name in LOADED:
        importlib.import_module(name)
    one = Soak(folder, seed)
    calm = {mode: one.calm(mode) for mode in modes}
    until, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < until:
        for mode in modes:
            one.disturbed(mode, number, calm[mode], until)
            say(f"{mode}-{number}: {json.dumps(one.counts)}")
            if time.monotonic() > until:
                break
        number += 1
    return one


def main() -> int:
    """Soak, print the counts and what was wrong; 1 where anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modes", nargs="+", choices=tuple(MODES), default=tuple(MODES))
    parser.add_argument("--folder", type=Path, help="kept; a temporary one where none is given")
    typed = parser.parse_args()
    folder = typed.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    done = soak(folder.resolve(), typed.minutes, typed.seed, typed.modes, lambda line: print(line, flush=True))
    print(json.dumps({"counts": done.counts, "problems": done.problems}))
    if typed.folder is None and not done.problems:
        shutil.rmtree(folder)
    return 1 if done.problems else 0


if __name__ == "__main__":
    sys.exit(main())
