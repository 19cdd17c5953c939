"""SPED, the test set of VPR-Bench (Zaffar et al., 2021): two images of each static camera."""

from __future__ import annotations

from datasets_vg.prepare.pairs import Pairs
from datasets_vg.prepare.run import FromRaw

PREPARER = FromRaw(Pairs({"database": "ref", "queries": "query"}, "SPEDTEST"))
