"""Count random inputs, and the errors of another kind than UserError that leave their readers, per target.

PYTHONPATH=.:tests python tests/fuzz_count.py --seconds 100 [names yaml_files ...]
"""

from __future__ import annotations

import argparse
from collections import Counter

import fuzz_targets  # noqa: F401
from fuzzing import TARGETS, run_for


def main() -> None:
    """Count inputs and errors of another kind, per target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    typed = parser.parse_args()
    inputs = wrong = 0
    for name in typed.targets or TARGETS:
        counts: Counter[str] = Counter()
        run_for(name, typed.seconds, counts)
        inputs, wrong = inputs + counts["inputs"], wrong + counts["of another kind"]
        print(
            f"{name}: {counts.pop('inputs')} inputs, {counts.pop('of another kind', 0)} errors of another kind",
            flush=True,
        )
        for what, count in counts.most_common(12):
            print(f"{what}: {count}", flush=True)
    print(f"all: {inputs} inputs, {wrong} errors of another kind")


if __name__ == "__main__":
    main()
