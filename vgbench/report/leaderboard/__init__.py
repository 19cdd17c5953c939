"""A page of every result below a folder: recall against what it costs."""

from vgbench.report.leaderboard.page import write_leaderboard

__all__ = ["write_leaderboard"]
