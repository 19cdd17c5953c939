"""The one exception that is meant for the person at the keyboard."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something outside the program is wrong and a person can mend it.

    The message is one line: it names the file or option, says what was expected and gives the remedy.
    Scripts (`train.py`, `eval.py`, ...) print it without a traceback and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run that can go on; the message says by which command."""


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def reason_of(error: OSError) -> str:
    """Return why the system refused, in its words, without the number and the file's name."""
    return error.strerror or in_short(error)


def in_short(error: BaseException) -> str:
    """Return the kind of somebody else's error and the first line of what it says, for a message of one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean <the nearest>?", or nothing where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


@contextmanager
def about(what: object) -> Iterator[None]:
    """Name what a complaint is about, a file say, in front of the UserError that the block raises."""
    try:
        yield
    except UserError as error:
        if str(error).startswith(str(what)):
            raise
        raise UserError(f"{what}: {error}") from error
