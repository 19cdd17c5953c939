"""SIGTERM and SIGHUP, as SLURM, Kubernetes and `docker stop` send them, end a command as Ctrl-C does."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from vgbench.errors import Stopped

_NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@contextlib.contextmanager
def ending_cleanly() -> Iterator[None]:
    """Raise Stopped in the body where the process is asked to end; a second time it ends at once.

    A signal that is ignored stays so (nohup), and other than the main thread may not ask for signals. The ranks of one
    run end at once: a rank that waits for the others would not come to it, and its run is saved after each round.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:  # a process that decodes images
            os.kill(os.getpid(), number)
            return
        raise Stopped(number)

    for name in _NAMES if "RANK" not in os.environ else ():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def answering(note: str, say: Any) -> Iterator[None]:
    """Answer SIGUSR1 by saying a note, and go on; for schedulers that send it some time before the end.

    Args:
        say: called with the note.
    """
    number = getattr(signal, "SIGUSR1", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: say(note))
    try:
        yield
    finally:
        signal.signal(number, before)
