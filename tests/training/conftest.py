"""Makes the helpers beside the tests importable, and spares the disk."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Only a power cut could tell the difference, and on a busy disk it is most of the time that these tests take."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
