"""Readers of files, names and command lines, given random ones: a result or one line for people, nothing else."""

from __future__ import annotations

import fuzz_targets  # noqa: F401
import fuzzing
import pytest


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_only_errors_for_people_leave(name: str) -> None:
    assert fuzzing.run(name, 30) >= 15


@pytest.mark.slow
@pytest.mark.timeout(0)  # each input has its own time
@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_only_errors_for_people_leave_for_long(name: str, request: pytest.FixtureRequest) -> None:
    assert fuzzing.run_for(name, request.config.getoption("--fuzz_seconds")) > 30
