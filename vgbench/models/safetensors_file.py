"""Files of tensors as Hugging Face keeps them: a header in JSON, then the numbers; nothing in them can run."""

from __future__ import annotations

import struct
from pathlib import Path

import safetensors
from safetensors.torch import load_file
from torch import Tensor

from vgbench.errors import UserError, in_short

_LONGEST_HEADER = 100_000_000  # what the format allows, bytes


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as one does, whatever it is called: the length of a header, and the header's brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and 2 <= struct.unpack("<Q", start[:8])[0] <= _LONGEST_HEADER


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return its tensors by name, on the CPU; raises UserError if it is damaged."""
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"{path}: damaged, or no safetensors file ({in_short(error)}). Expected a whole one; fetch it again"
        ) from error
