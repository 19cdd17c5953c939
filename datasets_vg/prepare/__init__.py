"""Preparers: one file per set, or a family of sets of one format; the catalogue's row says which."""

from __future__ import annotations

import importlib
from pathlib import Path

from datasets_vg import catalog
from datasets_vg.prepare.base import Preparer, Request
from vgbench.errors import UserError


def prepare(request: Request) -> Path:
    """Make the dataset that is asked for and return its folder; what is there already is left as it is.

    Raises:
        UserError: no such dataset or part, raw files that miss, an option that is another preparer's, no space, ...
    """
    entry = catalog.entry_of(request.name)
    preparer: Preparer = importlib.import_module(f"datasets_vg.prepare.{entry.preparer}").PREPARER
    for option in request.own:
        if option not in preparer.own_options:
            raise UserError(f"--{option}: is no option of prepare {request.name}. See its --help")
    return preparer.prepare(request)
