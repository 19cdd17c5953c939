"""Counter-based random streams: a seed for every (purpose, epoch, round, ...) derived from the run's one seed.

Because each stream depends only on where in the run it is used, and not on what was drawn before, an interrupted run
that resumes at any round draws exactly the numbers an uninterrupted run would have drawn.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def stream_seed(seed: int, *path: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and on every element of `path`, and on nothing else."""
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_stream(seed: int, *path: str | int) -> np.random.Generator:
    """Return a NumPy generator for one step of the run."""
    return np.random.default_rng(stream_seed(seed, *path))


def torch_stream(seed: int, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator for one step of the run."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, *path))


def seed_everything(seed: int, *path: str | int) -> None:
    """Seed Python's, NumPy's and torch's global generators (all devices) for one step of the run."""
    value = stream_seed(seed, *path)
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 (the global generator is what other packages draw from)
    torch.manual_seed(value)
