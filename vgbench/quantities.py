"""Seconds and bytes as people say them."""

from __future__ import annotations

import math


def duration_text(seconds: float) -> str:
    """Return "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def bytes_text(count: float) -> str:
    """Return "640 MB" or the like: three digits at most, in powers of 1000."""
    power = min(int(math.log10(max(count, 1)) // 3), 4)
    value = count / 1000**power
    return f"{value:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
