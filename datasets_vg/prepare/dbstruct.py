"""The lists of images and positions that NetVLAD's authors publish as MATLAB files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from vgbench.errors import UserError, in_short

KEY = "dbStruct"


@dataclass(frozen=True)
class Listed:
    """Relative paths of images and where they were taken: UTM float64 [N,2], metres."""

    names: list[str]
    utm: NDArray[np.float64]


def read_db_struct(file: Path) -> tuple[Listed, Listed]:
    """Return database and queries of a `dbStruct`: its second to fifth fields, which no version names alike.

    Raises:
        UserError: no such structure in it, or lists of unequal length.
    """
    try:
        fields = loadmat(file)[KEY].item()
        database = Listed(_strings(fields[1]), np.asarray(fields[2], np.float64).T)
        queries = Listed(_strings(fields[3]), np.asarray(fields[4], np.float64).T)
        counts = [int(np.asarray(field).item()) for field in fields[5:7]]
    except (OSError, KeyError, IndexError, ValueError, TypeError, NotImplementedError) as error:
        raise UserError(
            f"{file}: cannot be read ({in_short(error)}). Expected a MATLAB file with a {KEY}, of "
            "netvlad_v100_datasets.tar.gz"
        ) from error
    for listed, count in zip((database, queries), counts or [len(database.names), len(queries.names)], strict=True):
        if not len(listed.names) == len(listed.utm) == count:
            raise UserError(
                f"{file}: {len(listed.names)} names, {len(listed.utm)} positions and a count of {count}. Expected as "
                "many of each; fetch it again"
            )
    return database, queries


def _strings(cells: NDArray[np.object_]) -> list[str]:
    return [str(np.asarray(cell).item()).strip() for cell in np.asarray(cells).ravel()]
