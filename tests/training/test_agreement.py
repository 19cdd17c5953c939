"""Two ranks that are told to end, or one of them, end after the same step and go on from there to the same bits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_ranks import on_ranks
from tiny_training import TinyMode, run_tiny

from vgbench.models.weights import read_checkpoint
from vgbench.signals import Asked, answering
from vgbench.training.agreement import Agreement
from vgbench.training.checkpoint import PART

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
LAST = "last_model.pth"
Place = tuple[int, int, int]


def trained(folder: Path, tell: dict[int, tuple[Place, int]], *, resume: bool = False) -> tuple[list[int], str]:
    """Train on two ranks whose global generators stand elsewhere; `tell` sends a rank a signal within a step."""

    def work(rank: int) -> None:
        def on_loss(*place: int) -> None:
            torch.rand(rank)  # dropout draws more on the one than on the other
            at, number = tell.get(rank, (None, 0))
            if place == at:
                os.kill(os.getpid(), number)

        with answering("between rounds", print):
            run_tiny(folder, mode=TinyMode(on_loss), resume=resume)

    folder.mkdir(exist_ok=True)
    return on_ranks(2, work, folder)


def assert_same(one: Path, other: Path) -> None:
    for name in (LAST, "best_model.pth"):
        left, right = read_checkpoint(one / name), read_checkpoint(other / name)
        left["progress"].pop("seconds"), right["progress"].pop("seconds")
        assert equal(left, right) and PART not in left


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert trained(folder, {})[0] == [0, 0]
    return folder


TOLD: list[tuple[dict[int, tuple[Place, int]], int, int]] = [
    ({0: ((1, 1, 1), signal.SIGTERM), 1: ((1, 1, 1), signal.SIGTERM)}, 143, 18),  # as torchrun and srun do
    ({0: ((1, 1, 1), signal.SIGTERM)}, 143, 18),
    ({1: ((0, 0, 0), signal.SIGHUP)}, 129, 1),
    ({0: ((1, 0, 0), signal.SIGINT), 1: ((1, 0, 1), signal.SIGINT)}, 130, 13),
    ({1: ((0, 2, 3), signal.SIGTERM)}, 143, 12),  # within the last step of a round
    ({0: ((0, 1, 0), signal.SIGTERM), 1: ((0, 1, 0), signal.SIGHUP)}, 143, 5),  # the same on both
]


@pytest.mark.parametrize(("tell", "status", "steps"), TOLD)
def test_ranks_end_after_the_same_step_and_go_on_to_the_same_bits(
    tell: dict[int, tuple[Place, int]], status: int, steps: int, whole: Path, tmp_path: Path
) -> None:
    statuses, said = trained(tmp_path / "run", tell)
    word = {143: "terminated", 129: "hung up", 130: "interrupted"}[status]
    assert statuses == [status, status], said
    assert said.splitlines() == [word]  # once, and nothing else
    stored = read_checkpoint(tmp_path / "run" / LAST)
    assert stored["progress"]["steps"] == steps
    assert (PART in stored) == (steps % TinyMode.steps > 0)
    if PART in stored:
        states = [state["torch"] for state in stored[PART]["generators"]]
        assert len(states) == 2 and not torch.equal(*states)
    assert trained(tmp_path / "run", {}, resume=True)[0] == [0, 0]
    assert_same(tmp_path / "run", whole)


def test_sigusr1_to_one_rank_saves_and_all_go_on(whole: Path, tmp_path: Path) -> None:
    def work(rank: int) -> None:
        def on_loss(*place: int) -> None:
            torch.rand(rank)
            if rank == 1 and place == (1, 0, 1):
                os.kill(os.getpid(), signal.SIGUSR1)
            if place == (1, 0, 3):
                os._exit(9)  # abruptly, one step after

        with answering("between rounds", print):
            run_tiny(tmp_path, mode=TinyMode(on_loss))

    assert on_ranks(2, work, tmp_path)[0] == [9, 9]
    assert read_checkpoint(tmp_path / LAST)["progress"]["steps"] == 14
    assert trained(tmp_path, {}, resume=True)[0] == [0, 0]
    assert_same(tmp_path, whole)


def test_a_rank_that_is_told_while_it_mines_ends_and_so_do_the_others(tmp_path: Path) -> None:
    class Mining(TinyMode):
        told: Callable[[], None]

        def round(self, network: torch.nn.Module, epoch: int, index: int) -> Any:
            if (epoch, index) == (1, 0):
                self.told()
            return super().round(network, epoch, index)

    def work(rank: int) -> None:
        mode = Mining()
        # The other is told while it waits in its first step for the one that has left.
        mode.told = lambda: os.kill(os.getpid(), signal.SIGTERM) if rank == 0 else None
        mode.on_loss = lambda *place: os.kill(os.getpid(), signal.SIGTERM) if rank == 1 and place == (1, 0, 0) else None
        run_tiny(tmp_path, mode=mode)

    statuses, said = on_ranks(2, work, tmp_path)
    assert statuses == [143, 143] and said.splitlines() == ["terminated"], said
    assert read_checkpoint(tmp_path / LAST)["progress"]["steps"] == 12


def test_a_lost_rank_that_nobody_told_is_named(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        run_tiny(tmp_path, mode=TinyMode(lambda *place: os._exit(9) if rank == 0 and place == (1, 0, 1) else None))

    statuses, said = on_ranks(2, work, tmp_path)
    assert statuses == [9, 2] and "error: rank 1: another rank: it has ended" in said


def test_a_rank_alone_knows_at_once() -> None:
    own, loss = Asked(), torch.tensor(2.0)
    agreement = Agreement(own)
    own.save = True
    assert agreement.sum(loss) is loss and agreement.asked.save and agreement.meet().save
    agreement.answered()
    assert not agreement.asked.any
    own.end = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        agreement.answered()
