"""vgbench: train, test and compare networks for visual geo-localization.

The names below are imported when they are first used, so that `import vgbench` takes no time: docs/python.md.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Their types are in __init__.pyi.
_PUBLIC = {
    "Described": "vgbench.api.network",
    "EvalResult": "vgbench.runs.results",
    "EvalSettings": "vgbench.runs.settings",
    "Index": "vgbench.api.index",
    "LoadedNetwork": "vgbench.api.network",
    "Match": "vgbench.api.index",
    "Matches": "vgbench.api.index",
    "TrainResult": "vgbench.runs.results",
    "TrainSettings": "vgbench.runs.settings",
    "UserError": "vgbench.errors",
    "eval_settings": "vgbench.api.settings",
    "evaluate": "vgbench.runs.eval_run",
    "load_network": "vgbench.api.network",
    "train": "vgbench.runs.train_run",
    "train_settings": "vgbench.api.settings",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
