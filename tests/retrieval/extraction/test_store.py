"""Descriptor files: blocks, resuming, and what a damaged one says."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from vgbench.errors import UserError
from vgbench.retrieval.extraction.store import Descriptors, stored_fingerprint
from vgbench.retrieval.extraction.writer import DescriptorWriter, write_descriptors

VALUES = torch.arange(23 * 4, dtype=torch.float32).reshape(23, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("rows", [1, 5, 23, 100])
def test_blocks_give_every_row_once(tmp_path: Path, rows: int, dtype: torch.dtype) -> None:
    with write_descriptors(tmp_path / "d.h5", VALUES.to(dtype), "f") as stored:
        assert (stored.shape, stored.dtype, len(stored), stored.fingerprint) == ((23, 4), dtype, 23, "f")
        blocks = [(start, block.clone()) for start, block in stored.blocks(rows)]
        part = torch.cat([block.clone() for _, block in stored.blocks(rows, 3, 20)])
    assert [start for start, _ in blocks] == list(range(0, 23, rows))
    torch.testing.assert_close(torch.cat([block for _, block in blocks]), VALUES.to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(part, VALUES[3:20].to(dtype), rtol=0, atol=0)


def test_read_clips_like_a_slice(tmp_path: Path) -> None:
    with write_descriptors(tmp_path / "d.h5", VALUES, "f") as stored:
        torch.testing.assert_close(stored.read(20, 99), VALUES[20:])
        assert stored.read(5, 5).shape == (0, 4)
        assert list(stored.blocks(4, 7, 7)) == []


def test_leaving_a_loop_over_blocks_early_ends_the_reader(tmp_path: Path) -> None:
    with write_descriptors(tmp_path / "d.h5", VALUES, "f") as stored:
        for _ in stored.blocks(2):
            break
        torch.testing.assert_close(stored.read(), VALUES)


def write_in_batches(path: Path, batches: int, fail_after: int | None = None, fingerprint: str = "f") -> int:
    """Write VALUES in batches of 5; return the row it began at."""
    with DescriptorWriter(path, 23, 4, "float32", fingerprint, resume_multiple=5) as writer:
        began = writer.rows_done
        for number, start in enumerate(range(began, 23, 5)):
            if number == fail_after:
                raise KeyboardInterrupt
            writer.write(VALUES[start : start + 5])
    return began


def test_an_interrupted_file_continues_to_the_same_bytes(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.h5", tmp_path / "d.h5"
    assert write_in_batches(whole, 5) == 0
    with pytest.raises(KeyboardInterrupt):
        write_in_batches(path, 5, fail_after=2)
    assert not path.exists()
    assert write_in_batches(path, 5) == 10
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.h5", "whole.h5"]


def test_a_partial_file_of_something_else_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "d.h5"
    with pytest.raises(KeyboardInterrupt):
        write_in_batches(path, 5, fail_after=2)
    assert write_in_batches(path, 5, fingerprint="other") == 0
    assert stored_fingerprint(path) == "other"


@pytest.mark.parametrize("damage", ["partial", "progress"])
def test_a_damaged_partial_file_is_started_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "d.h5"
    with pytest.raises(KeyboardInterrupt):
        write_in_batches(path, 5, fail_after=2)
    (tmp_path / f"d.h5.{damage}").write_bytes(b"noise")
    assert write_in_batches(path, 5) == 0
    with Descriptors(path) as stored:
        torch.testing.assert_close(stored.read(), VALUES)


def test_resuming_never_starts_inside_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "d.h5"
    with pytest.raises(KeyboardInterrupt):
        write_in_batches(path, 5, fail_after=3)  # 15 rows are there
    with DescriptorWriter(path, 23, 4, "float32", "f", resume_multiple=8) as writer:
        assert writer.rows_done == 8
        writer.write(VALUES[8:])
    with Descriptors(path) as stored:
        torch.testing.assert_close(stored.read(), VALUES)


def test_forgetting_rows_is_a_programming_error(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="5 of 23"),
        DescriptorWriter(tmp_path / "d.h5", 23, 4, "float32", "f") as writer,
    ):
        writer.write(VALUES[:5])
    assert not (tmp_path / "d.h5").exists()


@pytest.mark.parametrize("value", [float("nan"), 1e5])
def test_values_that_the_file_cannot_hold_are_refused(tmp_path: Path, value: float) -> None:
    rows = torch.ones(23, 4)
    rows[7, 2] = value
    with (
        pytest.raises(UserError, match="row 7 is not finite in float16"),
        DescriptorWriter(tmp_path / "d.h5", 23, 4, "float16", "f") as writer,
    ):
        writer.write(rows[:5])
        writer.write(rows[5:])


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with DescriptorWriter(tmp_path / "d.h5", 23, 4, "float32", "f") as writer:
        with pytest.raises(UserError, match=r"d\.h5\.partial: cannot be written"):
            DescriptorWriter(tmp_path / "d.h5", 23, 4, "float32", "f")
        writer.write(VALUES)


def bad_files(folder: Path) -> dict[str, Path]:
    write_descriptors(folder / "cut.h5", VALUES, "f").close()
    whole = (folder / "cut.h5").read_bytes()
    (folder / "cut.h5").write_bytes(whole[:-40])
    (folder / "noise.h5").write_bytes(b"not an HDF5 file")
    h5py.File(folder / "empty.h5", "w").close()
    with h5py.File(folder / "integers.h5", "w") as file:
        file["descriptors"] = np.zeros((3, 4), dtype=np.int64)
    return {name: folder / f"{name}.h5" for name in ("cut", "noise", "empty", "integers", "absent")}


@pytest.mark.parametrize("kind", ["cut", "noise", "empty", "integers", "absent"])
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    path = bad_files(tmp_path)[kind]
    with pytest.raises(UserError, match=path.name) as caught:
        Descriptors(path)
    assert "\n" not in str(caught.value)
    assert stored_fingerprint(path) is None
