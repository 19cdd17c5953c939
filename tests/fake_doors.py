"""Doors that only pretend: they note how they were called and write the results that their options ask for."""

from pathlib import Path

SCRIPT = """
import argparse, json, os, pathlib, signal, sys, time, yaml
parser = argparse.ArgumentParser()
for flag in ("--config", "--run_dir", "--resume"):
    parser.add_argument(flag)
typed = parser.parse_args()
options = yaml.safe_load(pathlib.Path(typed.config).read_text()) or {}
run_dir = pathlib.Path(typed.run_dir)
run_dir.mkdir(parents=True, exist_ok=True)
with (pathlib.Path(__file__).parent / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps([pathlib.Path(__file__).stem, run_dir.parent.name, run_dir.name, typed.resume]) + "\\n")
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

COMBINE = """
import json, pathlib, sys
words = sys.argv[1:]
output = pathlib.Path(words[words.index("--output") + 1])
with (pathlib.Path(__file__).parents[1] / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
if "--weights" in words:
    sys.exit("error: 3 weights of 2 networks")
output.write_text("combined")
"""


def write_doors(folder: Path) -> Path:
    folder.mkdir()
    (folder / "vgbench").mkdir()
    (folder / "vgbench" / "__init__.py").touch()
    (folder / "vgbench" / "combine.py").write_text(COMBINE)
    for door in ("train.py", "eval.py"):
        (folder / door).write_text(SCRIPT)
    return folder
