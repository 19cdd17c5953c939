"""Files of Hugging Face's format: read whatever they are called, and refused in one line when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vgbench.errors import UserError
from vgbench.models.safetensors_file import is_safetensors
from vgbench.models.weights import read_checkpoint

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}


@pytest.mark.parametrize("name", ["model.safetensors", "weights.pth"])
def test_the_tensors_come_back(name: str, tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / name, metadata={"format": "pt"})
    found = read_checkpoint(tmp_path / name)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in TENSORS.items())


def test_a_checkpoint_of_torch_is_not_one(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "w.pth")
    assert not is_safetensors(tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth").keys() == TENSORS.keys()


def test_a_damaged_one_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    whole = path.read_bytes()
    for content in (whole[:-3], whole[:30], whole[:8] + b"{" + b"}" * (len(whole) - 9), whole + b"more"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.safetensors: .*Expected") as told:
            read_checkpoint(path)
        assert "\n" not in str(told.value)
