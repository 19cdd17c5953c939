"""How every command ends: 0, or one line on stderr and 2 (a person can mend it), 130 (Ctrl-C) or 128 + the signal."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from vgbench.errors import Interrupted, Stopped, UserError, in_short, reason_of
from vgbench.files import is_full
from vgbench.signals import ending_cleanly
from vgbench.srun import one_of_several, take_ranks

# What torch says where memory is refused, or the system has ended a process that decodes images.
_REFUSALS = ("DefaultCPUAllocator", "out of memory", "DataLoader worker", "insufficient shared memory")
_OUT_OF_MEMORY = (
    "memory: there is not enough of it. Expected smaller --infer_batch_size, --train_batch_size or --resize, or fewer "
    "--num_workers; 0 needs no shared memory"
)
_FULL = "disk: it is full. Expected space for what is written; free some, and give the same command again"
_LOST = "another rank: it has ended, or its machine is out of reach. Expected all ranks; its own output says why"
# What gloo and NCCL say where the other side of a connection is gone.
_CUT = ("closed by peer", "reset by peer", "remote process exited", "Broken pipe", "NCCL communicator was aborted")
_LOOK = "a file or folder that you may look at: see `ls -ld` of it and of the folders above; chmod, or name another"
_REFUSED = {
    errno.EACCES: _LOOK,
    errno.EPERM: _LOOK,
    errno.ENAMETOOLONG: "a name of at most 255 bytes",
    errno.ELOOP: "no links that lead to each other",
    errno.ENOTDIR: "a folder where a file is",
    errno.EROFS: "a file system that can be written",
    errno.EIO: "a disk that can be read; look at it, or copy the file elsewhere",
    errno.ESTALE: "a network disk that is there; mount it again",
}
_WORDS = {15: "terminated", 1: "hung up"}

# What commands that keep what they have made say after Ctrl-C.
AGAIN = "the same command goes on from here"


def ended(work: Callable[[], int | None], going_on: str = "") -> int:
    """Do a command's work and return its exit status.

    Args:
        work: returns a status, None for 0.
        going_on: said after Ctrl-C where `work` itself does not know better.
    """
    try:
        return _ended(work, going_on)
    except KeyboardInterrupt as stop:
        return _told_to_end(stop, going_on)


def _ended(work: Callable[[], int | None], going_on: str) -> int:
    """As `ended`; a signal that comes while an error is answered leaves as such."""
    _find_modules_here()
    _print_any_name()
    try:
        take_ranks()
        with ending_cleanly(), _all_printed():
            status = work() or 0
    except UserError as error:
        return _failed(str(error))
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return 128 + 13  # as shells say of SIGPIPE
    except (MemoryError, RuntimeError, OSError) as error:
        line = _line_of(error)
        if line is None:
            raise
        return _failed(line)
    if one_of_several():
        from vgbench import parallel  # with torch, which is slow to import

        parallel.stop()
    return status


def _told_to_end(stop: KeyboardInterrupt, going_on: str) -> int:
    """Say how an ended command goes on, which of several ranks only the first does; returns its status."""
    remedy = str(stop) if isinstance(stop, Interrupted) else going_on
    signal = _signal_of(stop)
    if not one_of_several() or os.environ["RANK"] == "0":
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(_WORDS.get(signal, "interrupted") + (f"; {remedy}" if remedy else ""), file=sys.stderr, flush=True)
    return _leave_others(128 + signal)


@contextlib.contextmanager
def _all_printed() -> Iterator[None]:
    """Print what is left as the work ends, so that a reader that has gone is noticed here and not by Python."""
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError:  # a full disk, or /dev/full: Python would try once more
            _print_nothing_more()
            raise


def _print_any_name() -> None:
    """Let no name of a file end a command because it is no text, or none that the terminal can show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_nothing_more() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(line: str) -> int:
    """Say why a command could not do its work; returns its status."""
    with contextlib.suppress(OSError):
        print(f"error: {_rank()}{line}", file=sys.stderr, flush=True)
    return _leave_others(2)


def _line_of(error: BaseException) -> str | None:
    """Return what a person can do about the machine's refusal; None where it is none."""
    remedy = _remedy(error)
    if remedy is not None:
        return f"{remedy} ({in_short(error)[:160]})"
    if isinstance(error, OSError) and error.errno in _REFUSED and error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else error.filename
        return f"{name}: {reason_of(error)}. Expected {_REFUSED[error.errno]}"
    return None


def _nobody_reads() -> bool:
    """Whether the reader of what is printed has ended, such as `| head`; then nothing more is printed."""
    try:
        print(flush=True)
    except BrokenPipeError:
        _print_nothing_more()
        return True
    return False


def _remedy(error: BaseException) -> str | None:
    """Return what to say of an error that is not of this program; None: it is one of it."""
    if _is_memory(error):
        return _OUT_OF_MEMORY
    if one_of_several() and isinstance(error, RuntimeError) and any(words in str(error) for words in _CUT):
        return _LOST
    return _FULL if is_full(error) else None


def _is_memory(error: BaseException) -> bool:
    """Whether an error is a refusal of memory: of Python, of torch on a CPU or GPU, or a decoding process that died."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _REFUSALS)


def _signal_of(stop: BaseException | None) -> int:
    """Return the signal that ended the work; that of Ctrl-C where there was none."""
    while stop is not None:
        if isinstance(stop, Stopped):
            return stop.number
        stop = stop.__cause__
    return 2


def run_script(work: Callable[[], int | None], going_on: str = "") -> None:
    """Do a command's work and end the process where it did not end well; arguments as `ended`."""
    status = ended(work, going_on)
    if status:
        sys.exit(status)


def _find_modules_here() -> None:
    """Let `package.module:Class` name a file of the current folder; what is installed comes before it."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def _rank() -> str:
    return f"rank {os.environ['RANK']}: " if one_of_several() else ""


def _leave_others(status: int) -> int:
    """Return the status; where torchrun started several processes, end this one without waiting for the others."""
    if one_of_several():
        from vgbench import parallel

        parallel.leave(status)
    return status
