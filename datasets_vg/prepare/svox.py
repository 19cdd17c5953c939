"""SVOX (Berton et al., 2021): in the folder protocol, but for `gallery` and an older order of the names' fields."""

from __future__ import annotations

from datasets_vg.prepare.run import FromRaw

PREPARER = FromRaw()
