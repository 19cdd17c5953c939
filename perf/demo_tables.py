"""Run the demo variant of every table and write what came out, and how long it took, to docs/results/.

python3 -m perf.demo_tables                        # all of them: an hour on two cores
python3 -m perf.demo_tables mining losses --jobs 2 # some of them; the index keeps the others

A table that ran before on this machine, below logs/benchmarks, is not run again; its page stays as it is.
"""

from __future__ import annotations

import argparse
import datetime
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from vgbench.files import write_text

DEMOS = Path("benchmarks/demo")
RESULTS = Path("docs/results")
INDEX = """# Demo tables

Each table of [benchmarks/](../../benchmarks) at demo scale, as its own command made it: the synthetic city, images of
64x96, a small network, one epoch of few images ([city.yaml](../../benchmarks/common/city.yaml)); where rows differ in
how they are trained, with steps enough that it shows ([city_longer.yaml](../../benchmarks/common/city_longer.yaml)).
**They show that every row works, and how a table looks. They do not show which row is best**: that is little training,
and one of the 110 test queries is 0.9 points. For that, run the table itself, at full scale and with its three seeds.

| table | what it compares | jobs | seconds | of a processor |
|:------|:-----------------|-----:|--------:|---------------:|
"""


@dataclass(frozen=True)
class Run:
    """One run of `benchmark.py`: its jobs, its seconds, processor seconds of all that it started, its exit status.

    Jobs that another table had done already, `taken`, cost nothing.
    """

    jobs: int
    seconds: float
    processor: float
    status: int
    taken: int = 0


def run_table(path: Path, jobs: int) -> Run:
    """Run one matrix, which prints as it goes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.run(command(path, jobs), check=False, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(process.stdout, flush=True)
    count = sum(": done in " in line or "FAILED" in line for line in process.stdout.splitlines())
    taken = process.stdout.count(": taken over from ")
    return Run(count, time.monotonic() - began, processor, process.returncode, taken)


def command(path: Path, jobs: int) -> list[str]:
    """Return the words that run a matrix."""
    return [sys.executable, "benchmark.py", str(path), "--fork", *(["--jobs", str(jobs)] if jobs > 1 else [])]


def page(path: Path, run: Run, table: str, machine: str, words: str) -> str:
    """Return the page of one table."""
    day = datetime.date.today().isoformat()
    were = "1 job was" if run.taken == 1 else f"{run.taken} jobs were"
    taken = f", and {were} taken over from other tables" if run.taken else ""
    return (
        f"# {title(path)}\n\n{what(path)}\n\nAt demo scale: it shows that every row works, not which is best.\n\n"
        f"```\n{words}\n```\n\n{day}, {machine}: {run.jobs} jobs, {run.seconds:.0f} seconds, {run.processor:.0f} of a "
        f"processor; other work ran beside it{taken}.\n\n{table}"
    )


def title(path: Path) -> str:
    """Return a table's name in words."""
    return path.stem.removesuffix("_demo").replace("_", " ").capitalize()


def what(path: Path) -> str:
    """Return what a table compares: the first lines of its file at full scale."""
    lines = (path.parent.parent / path.name.replace("_demo", "")).read_text(encoding="utf-8").splitlines()
    words = []
    for line in lines:
        if not line.startswith("# ") or "python3" in line:
            break
        words.append(line.removeprefix("# "))
    return " ".join(words)


def index(results: Path) -> str:
    """Return the page of all tables that have one."""
    rows = []
    for path in sorted(DEMOS.glob("*.yaml")):
        own = results / f"{path.stem.removesuffix('_demo')}.md"
        if own.is_file():
            line = next(one for one in own.read_text(encoding="utf-8").splitlines() if " jobs, " in one)
            jobs, seconds, processor = (words.split()[0] for words in line.rpartition(": ")[2].split(", ")[:3])
            rows.append(f"| [{title(path)}]({own.name}) | {what(path)} | {jobs} | {seconds} | {processor} |\n")
    return INDEX + "".join(rows)


def main() -> None:
    """Run the tables that were named and write their pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help="names, such as mining (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="as of benchmark.py")
    parser.add_argument("--machine", default=f"{os.cpu_count()} CPU cores", help="what the pages say of the machine")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the pages (default: docs/results)")
    typed = parser.parse_args()
    for path in [DEMOS / f"{name}_demo.yaml" for name in typed.tables] or sorted(DEMOS.glob("*.yaml")):
        run = run_table(path, typed.jobs)
        table = (Path("logs/benchmarks") / path.stem / "table.md").read_text(encoding="utf-8")
        words = " ".join(["python3", *command(path, typed.jobs)[1:]])
        if run.jobs:
            text = page(path, run, table, typed.machine, words)
            write_text(typed.results / f"{path.stem.removesuffix('_demo')}.md", text)
        print(f"{path.stem}: status {run.status}, {run.jobs} jobs in {run.seconds:.0f} s", flush=True)
    write_text(typed.results / "README.md", index(typed.results))


if __name__ == "__main__":
    main()
