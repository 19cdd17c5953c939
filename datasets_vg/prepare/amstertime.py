"""AmsterTime (Yildiz et al., 2022): a photograph of today for each of an archive."""

from __future__ import annotations

from datasets_vg.prepare.pairs import Pairs
from datasets_vg.prepare.run import FromRaw

PREPARER = FromRaw(Pairs({"database": "new", "queries": "old"}, "AmsterTime-v1.0"))
