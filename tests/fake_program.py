"""A command that only pretends: it notes how it was called and writes the results that its options ask for."""

import sys
from pathlib import Path

PROGRAM = """
import argparse, json, os, pathlib, signal, sys, time, yaml
calls_file = pathlib.Path(__file__).with_name("calls.jsonl")
part, words = sys.argv[1], sys.argv[2:]
if part == "combine":
    output = pathlib.Path(words[words.index("--output") + 1])
    with calls_file.open("a") as calls:
        calls.write(json.dumps(words) + "\\n")
    if "--weights" in words:
        sys.exit("error: 3 weights of 2 networks")
    output.write_text("combined")
    sys.exit(0)
parser = argparse.ArgumentParser()
for flag in ("--config", "--run_dir", "--resume", "--start_from"):
    parser.add_argument(flag)
typed = parser.parse_args(words)
options = yaml.safe_load(pathlib.Path(typed.config).read_text()) or {}
run_dir = pathlib.Path(typed.run_dir)
run_dir.mkdir(parents=True, exist_ok=True)
with calls_file.open("a") as calls:
    calls.write(json.dumps([part, run_dir.parent.name, run_dir.name, typed.resume or typed.start_from]) + "\\n")
print("\\r 10%", end="\\r 50%")
name = options.get("dataset_name", "city")
if name == "missing":
    sys.exit("error: datasets/missing: no such folder")
if name == "crash":
    print("loading", flush=True)
    raise ValueError("shapes differ")
if name == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if name == "silent":
    sys.exit(3)
if name == "forgets":
    sys.exit(0)
(run_dir / "last_model.pth").write_text("last")
if name == "slow":
    print("waiting", flush=True)
    (run_dir / "waiting").touch()
    time.sleep(60)
if name == "once" and not (run_dir / "tried").exists():
    (run_dir / "tried").touch()
    sys.exit("error: the disk is full")
(run_dir / "best_model.pth").write_text("best")
recalls = {"25": {"1": options.get("lr", 50.0), "5": 80.0}}
(run_dir / "results.json").write_text(json.dumps({"dataset": name, "recalls": recalls, "descriptors_dim": 8}))
"""


def write_program(folder: Path) -> tuple[str, ...]:
    """Write the program into a folder, beside which it notes its calls; returns the words that run it."""
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    return sys.executable, str(folder / "program.py")
