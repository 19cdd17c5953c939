"""A folder's digest changes with names and sizes of files, and with nothing else."""

from vgbench.data.digest import folder_digest


def fresh(folder):
    folder_digest.cache_clear()
    return folder_digest(folder)


def test_names_and_sizes_count_and_order_and_time_do_not(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, order in ((one, "ab"), (two, "ba")):
        for name in order:
            (folder / name).mkdir(parents=True)
            (folder / name / "x.jpg").write_bytes(name.encode())
    assert len(fresh(one)) == 16 and fresh(one) == fresh(two)
    (two / "b" / "x.jpg").write_bytes(b"z")  # the same size
    assert fresh(one) == fresh(two)
    (two / "b" / "x.jpg").write_bytes(b"longer")
    assert fresh(one) != fresh(two)
    (two / "b" / "x.jpg").write_bytes(b"b")
    (two / "b" / "x.jpg").rename(two / "b" / "y.jpg")
    assert fresh(one) != fresh(two)


def test_no_folder_has_no_digest(tmp_path):
    assert fresh(tmp_path / "nowhere") == ""
