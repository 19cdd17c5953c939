"""train.py, of which one rank is killed (kill -9) in its second epoch, the first time that torchrun starts it."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from vgbench.training.metrics_logger import MetricsLogger  # noqa: E402

_round = MetricsLogger.round


def _killed(self: MetricsLogger, progress: Any, *arguments: Any, **named: Any) -> None:
    _round(self, progress, *arguments, **named)
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
    if first and os.environ.get("RANK") == "1" and progress.epoch == 1:
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)


MetricsLogger.round = _killed  # type: ignore[method-assign]
runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
