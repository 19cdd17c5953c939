"""Locks between processes: one holder at a time, freed by whatever ends it, and no file left behind."""

import multiprocessing
import time

import pytest

from vgbench.errors import UserError
from vgbench.files import alone, alone_or_refused


def hold(path, held, enough):
    with alone(path, None):
        held.set()
        enough.wait(60)


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock, and the lock's file."""
    context = multiprocessing.get_context("spawn")
    held, enough = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "x.lock", held, enough))
    process.start()
    assert held.wait(60)
    yield process, tmp_path / "x.lock", enough
    if process.is_alive():  # an event waits for whom it wakes, and a killed process does not wake
        enough.set()
    process.join(60)


def test_what_another_holds_is_refused_until_it_ends_however_it_ends(other):
    process, path, _ = other
    with pytest.raises(UserError, match="busy"), alone_or_refused(path, "busy"):
        raise AssertionError("entered")
    process.kill()
    process.join(60)
    with alone_or_refused(path, "busy"):
        assert path.exists()
    assert not path.exists()


def test_who_waits_says_so_once_and_goes_on_afterwards(other, caplog):
    _, path, enough = other
    caplog.set_level("INFO")
    start = time.monotonic()
    enough.set()
    with alone(path, "waiting for the other"):
        assert time.monotonic() >= start
    assert caplog.messages in ([], ["waiting for the other"])  # the other may have ended by then


def test_what_fails_inside_leaves_as_it_is_and_frees_the_lock(tmp_path):
    with pytest.raises(ValueError, match="mine"), alone_or_refused(tmp_path / "x.lock", "busy"):
        raise ValueError("mine")
    with alone_or_refused(tmp_path / "x.lock", "busy"):
        pass
