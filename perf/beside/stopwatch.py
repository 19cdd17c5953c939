"""Run a script and note when chosen functions of it run, without a change of its code: one JSON file.

    python3 stopwatch.py OUT.json '{"step": "torch.optim.adam:Adam.step"}' LAST_EVENT script.py arguments...

It imports nothing but the standard library, so that both sides start as they would alone. A function is wrapped when
its module is imported. Every call is noted as [begin, end, processor at begin, processor at end]: seconds of the clock
that all processes share, and processor seconds of this process and of the workers that ended. After the first
LAST_EVENT ("" for none) the process ends.
"""

from __future__ import annotations

import atexit
import functools
import importlib.abc
import importlib.machinery
import inspect
import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

Events = dict[str, list[list[float]]]


def now() -> tuple[float, float]:
    """Return (seconds of the clock, processor seconds so far), once a GPU has done what it was given."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        cuda.synchronize()
    return time.time(), sum(os.times()[:4])


class Stopwatch(importlib.abc.MetaPathFinder):
    """Wraps functions when their modules are imported.

    Args:
        watched: event -> "module:function" or "module:Class.method".
        last: the event after whose first end `done` is called.
    """

    def __init__(self, watched: dict[str, str], last: str = "", done: Callable[[], None] | None = None) -> None:
        self.events: Events = {name: [] for name in watched}
        self._by_module: dict[str, list[tuple[str, str]]] = {}
        for name, target in watched.items():
            module, _, attribute = target.partition(":")
            self._by_module.setdefault(module, []).append((name, attribute))
        self._last, self._done = last, done

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a watched module as usual, and wrap its functions once it has run."""
        if fullname not in self._by_module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_wrap(module: ModuleType) -> None:
            run(module)
            for name, attribute in self._by_module[fullname]:
                self._wrap(module, name, attribute)

        spec.loader.exec_module = run_and_wrap  # type: ignore[method-assign]
        return spec

    def _wrap(self, module: ModuleType, name: str, attribute: str) -> None:
        *parents, last = attribute.split(".")
        owner = functools.reduce(getattr, parents, module)
        found = inspect.getattr_static(owner, last)
        if isinstance(found, staticmethod):
            setattr(owner, last, staticmethod(self._timed(name, found.__func__)))
        else:
            setattr(owner, last, self._timed(name, found))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **keywords: Any) -> Any:
            begin, processor = now()
            result = function(*arguments, **keywords)
            end, processor_end = now()
            self.events[name].append([begin, end, processor, processor_end])
            if name == self._last and self._done:
                self._done()
            return result

        return timed


def main() -> None:
    """Run the script of the command line."""
    out, watched, last, script = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
    owner = os.getpid()

    def write() -> None:
        if os.getpid() == owner:  # forked workers inherit this
            Path(out).write_text(json.dumps(watch.events))

    def stop() -> None:
        write()
        sys.stdout.flush()
        os._exit(0)

    watch = Stopwatch(watched, last, stop)
    sys.meta_path.insert(0, watch)
    atexit.register(write)
    sys.argv = sys.argv[4:]
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
