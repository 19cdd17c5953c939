"""SIGTERM and SIGHUP, as SLURM, Kubernetes and `docker stop` send them, end a command as Ctrl-C does."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from vgbench.errors import Stopped
from vgbench.srun import one_of_several

_NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@contextlib.contextmanager
def ending_cleanly() -> Iterator[None]:
    """Raise Stopped in the body where the process is asked to end; a second time it ends at once.

    A signal that is ignored stays so (nohup), and other than the main thread may not ask for signals. To a rank of
    several, what comes after the first says nothing new: SLURM tells torchrun and its ranks, and torchrun them again;
    both end at last, by SIGKILL, what does not end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN if one_of_several() and os.getpid() == owner else signal.SIG_DFL)
        if os.getpid() != owner:  # a process that decodes images
            os.kill(os.getpid(), number)
            return
        raise Stopped(number)

    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Asked:
    """What signals have asked of work that looks between its steps.

    Attributes:
        save: SIGUSR1 came.
        end: what is to be raised.
    """

    save: bool = False
    end: KeyboardInterrupt | None = None

    @property
    def any(self) -> bool:
        """Whether there is something to do."""
        return self.save or self.end is not None

    def answered(self) -> None:
        """Note that all is saved; raises what ends the work, where that was asked."""
        self.save = False
        if self.end is not None:
            raise self.end


@contextlib.contextmanager
def between_steps() -> Iterator[Asked]:
    """Let signals that would end the body, or SIGUSR1, wait until it looks; the second one that ends does not wait.

    A rank of several waits always: it ends with the others. Only those that somebody listens to: not what the system
    or whoever imports this package does by itself.
    """
    asked, owner = Asked(), os.getpid()
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a process that decodes images
            return
        if number == getattr(signal, "SIGUSR1", None):
            asked.save = True
            return
        again = asked.end is not None
        if again and one_of_several():
            return
        asked.end = KeyboardInterrupt() if number == signal.SIGINT else Stopped(number)
        if again:
            raise asked.end

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", *_NAMES, "SIGUSR1"):
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                before[number] = signal.signal(number, note)
    try:
        yield asked
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
    owner = os.getpid()
    before = signal.signal(number, lambda *_: say(note) if os.getpid() == owner else None)
    try:
        yield
    finally:
        signal.signal(number, before)
