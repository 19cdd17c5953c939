"""Checksums of HDF5 files: whatever byte of a dataset changes is seen."""

import zlib

import h5py
import numpy as np
import pytest

from vgbench.hdf5 import SEAL, add_to_checksum, blocks, checksum, is_sealed, seal


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["b"] = np.arange(12, dtype=np.float32).reshape(4, 3)
        file["a"] = np.arange(5)
        file["scalar"] = 3.5
        seal(file)
    return tmp_path / "x.h5"


def test_the_checksum_is_that_of_all_bytes_in_order_of_names(path):
    with h5py.File(path) as file:
        whole = b"".join(np.ascontiguousarray(file[name][()]).tobytes() for name in ("a", "b", "scalar"))
        assert checksum(file) == zlib.crc32(whole) and is_sealed(file)


@pytest.mark.parametrize(("name", "place"), [("a", 4), ("b", (3, 2)), ("scalar", ())])
def test_a_changed_value_breaks_the_seal(path, name, place):
    with h5py.File(path, "r+") as file:
        file[name][place] = 99
        assert not is_sealed(file)


def test_a_file_without_a_seal_is_whole_where_its_numbers_are_finite(path):
    with h5py.File(path, "r+") as file:
        del file.attrs[SEAL]
        assert is_sealed(file)
        file["b"][0, 0] = np.nan
        assert not is_sealed(file)


def test_blocks_are_the_rows_and_add_goes_on(path):
    with h5py.File(path) as file:
        assert np.array_equal(np.concatenate(list(blocks(file["b"], 2))), file["b"][:2])
    values = np.arange(10, dtype=np.float16)
    assert add_to_checksum(add_to_checksum(0, values[:3]), values[3:]) == zlib.crc32(values.tobytes())
