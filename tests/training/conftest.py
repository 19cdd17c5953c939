"""Spares the disk and the threads."""

import os

import pytest
import torch


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Only a power cut could tell the difference, and on a busy disk it is most of the time that these tests take."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def _torch_threads() -> None:
    """One thread, instead of the suite's two: threads that wait for each other cost these tiny networks the most."""
    torch.set_num_threads(1)
