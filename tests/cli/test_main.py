"""The command `vgbench`: its parts, how each ends, and what it says when it was interrupted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from calls import SMALL, TRAINING, complaint, of

import vgbench
from vgbench.cli.exits import ended
from vgbench.cli.main import COMMANDS, main
from vgbench.errors import Interrupted, UserError
from vgbench.invocation import command

REPOSITORY = Path(__file__).resolve().parents[2]


def call(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_help_lists_the_commands_without_torch(tmp_path: Path) -> None:
    code = "import sys; from vgbench.cli.main import main; main([]); assert 'torch' not in sys.modules"
    shown = call("-c", code, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert all(re.search(rf"^  {name} +\w", shown.stdout, flags=re.M) for name in COMMANDS)
    assert {"train", "eval", "benchmark", "datasets", "combine", "describe", "export"} <= set(COMMANDS)


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vgbench {vgbench.__version__}\n"


def test_a_command_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evla", "--resume=x"]) == 2
    assert "no such command. Did you mean eval?" in complaint((2, "", capsys.readouterr().err))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_that_names_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    # The command as it is called, in the usage or in an example; then every option that it has, one a line.
    assert re.search(rf"^(usage: )?{re.escape(command(name))} ", shown, flags=re.M), shown
    assert re.search(r"^ {2,4}(-h, |--|\w+ )", shown, flags=re.M)


@pytest.mark.parametrize("words", [["train", "--help", "all"], ["eval", "--help"], ["datasets", "list"], []])
def test_who_reads_only_the_first_lines_sees_no_traceback(words: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does, only sooner
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "vgbench", *words], cwd=tmp_path, env=environment, stdout=writer,
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    "words", [["train", "--bacbone=x"], ["eval", "--lr=3"], ["datasets", "preparre"], ["benchmark", "no.yaml"]]
)
def test_a_mistake_of_a_part_is_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status = main(words)
    shown = capsys.readouterr()
    complaint((status, shown.out, shown.err))
    assert not list(tmp_path.iterdir())


def test_how_work_ends(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise UserError("x.jpg: bad. Expected better")

    def stop(error: BaseException) -> Any:
        def work() -> None:
            raise error

        return work

    assert ended(lambda: None) == 0 and ended(lambda: 3) == 3
    assert ended(refuse) == 2 and capsys.readouterr().err == "error: x.jpg: bad. Expected better\n"
    assert ended(stop(KeyboardInterrupt())) == 130 and capsys.readouterr().err == "interrupted\n"
    assert ended(stop(KeyboardInterrupt()), "again") == 130 and capsys.readouterr().err == "interrupted; again\n"
    assert ended(stop(Interrupted("do this")), "again") == 130
    assert capsys.readouterr().err == "interrupted; do this\n"
    with pytest.raises(ZeroDivisionError):  # a fault of the program keeps its traceback
        ended(lambda: 1 // 0)


def test_an_interrupted_training_says_how_to_go_on_and_goes_on(
    call: Any, pristine_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vgbench.training import Checkpoints

    run, saved = tmp_path / "a run", []
    save = Checkpoints.save

    def save_and_stop(self: Any, *arguments: Any, **more: Any) -> None:
        save(self, *arguments, **more)
        saved.append(1)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", save_and_stop)
    status, _, err = call("train.py", *of(pristine_dataset), *TRAINING, f"--run_dir={run}")
    assert status == 130
    assert err.splitlines()[-1] == f"interrupted; to go on: python3 train.py --resume='{run}'"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    status, out, err = call("train.py", f"--resume={run}")
    assert status == 0, err
    assert "resumed" in out and (run / "results.json").is_file()
    # The folder of a run is what eval.py takes too: its best checkpoint.
    status, out, err = call(
        "eval.py", f"--resume={run}", *of(pristine_dataset), *SMALL[3:], f"--run_dir={tmp_path / 'e'}"
    )
    assert status == 0, err
    assert f"--resume {tmp_path}: no best_model.pth" in complaint(call("eval.py", f"--resume={tmp_path}"))


def test_interrupted_before_anything_is_saved(
    call: Any, pristine_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vgbench.runs.train_run.run_training", stop)
    status, _, err = call("train.py", *of(pristine_dataset), *TRAINING, f"--run_dir={tmp_path / 'run'}")
    assert status == 130 and "nothing was saved yet, the same command starts again" in err


def test_what_lies_in_the_current_folder_is_found(call: Any, tmp_path: Path) -> None:
    (tmp_path / "my_heads.py").write_text("class Mine:\n    pass\n")
    said = complaint(call("eval.py", "--aggregation=my_heads:Mien", "--pretrain=none", "--dataset_name=none"))
    assert "no such" in said or "has no Mien" in said
    status = ended(lambda: int(__import__("my_heads").Mine is None))
    assert status == 0
