from __future__ import annotations

from pathlib import Path

import pytest

from vgbench.data.options import DataOptions, dataset_root
from vgbench.errors import UserError


def test_the_dataset_folder_comes_from_the_option_then_the_environment_then_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DATASETS_FOLDER", raising=False)
    assert dataset_root(DataOptions()) == Path("datasets/pitts30k")
    monkeypatch.setenv("DATASETS_FOLDER", "/sets")
    assert dataset_root(DataOptions(dataset_name="msls")) == Path("/sets/msls")
    assert dataset_root(DataOptions(datasets_folder=Path("/mine"))) == Path("/mine/pitts30k")
    assert dataset_root(DataOptions(datasets_folder=Path("~/mine"))) == Path.home() / "mine" / "pitts30k"


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"resize": (0, 640)}, "--resize 0 640"),
        ({"num_workers": -1}, "--num_workers"),
        ({"val_positive_dist_threshold": -1.0}, "--val_positive_dist_threshold"),
        ({"train_positives_dist_threshold": float("nan")}, "--train_positives_dist_threshold"),
        ({"on_bad_image": "ignore"}, "--on_bad_image"),
    ],
)
def test_impossible_values_name_their_option(changes: dict[str, object], option: str) -> None:
    with pytest.raises(UserError, match=option):
        DataOptions(**changes)  # type: ignore[arg-type]
