"""Sets published in the folder protocol already: Tokyo-XS, SF-XS, GSV-XS (Simple_VPR_codebase)."""

from __future__ import annotations

from datasets_vg.prepare.run import FromRaw

PREPARER = FromRaw()
