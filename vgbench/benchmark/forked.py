"""A job as a fork of this process, which has PyTorch loaded already: seconds less for each of hundreds of jobs.

For machines without a GPU: CUDA does not survive a fork.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

Main = Callable[[Sequence[str]], int]
# What trainings, tests and combinations import when they run, and would import in each fork again.
_LOADED = (
    "vgbench.runs.train_run", "vgbench.runs.choosing", "vgbench.runs.training", "vgbench.runs.testing",
    "vgbench.runs.confidence", "vgbench.runs.eval_run", "vgbench.combine.making", "vgbench.report.outputs",
    "vgbench.models.flops", "torch.utils.tensorboard.summary", "pytorch_metric_learning.losses",
    "pytorch_metric_learning.miners", "torchvision.models",
)  # fmt: skip


def load() -> None:
    """Import what jobs need."""
    for name in _LOADED:
        importlib.import_module(name)


class Forked:
    """Runs a command in a fork; as much of `subprocess.Popen` as an executor needs.

    Args:
        main: the command: words -> exit status.
        words: without its name.
        output: descriptor that what it prints goes to.
        environment: of the job.
        begin: called first in the fork.
    """

    def __init__(
        self,
        main: Main,
        words: Sequence[str],
        output: int,
        environment: Mapping[str, str],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _be(main, words, output, environment, begin)

    def poll(self) -> int | None:
        """Return the exit status, minus the signal that ended it, None while it runs."""
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _be(
    main: Main, words: Sequence[str], output: int, environment: Mapping[str, str], begin: Callable[[], None]
) -> None:
    """Be the job, and end; nothing of what the parent was about to do is done here."""
    status = 1
    try:
        begin()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1, encoding="utf-8") for number in (1, 2))
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["vgbench", *words]
        if "OMP_NUM_THREADS" in environment:  # read by its library when that was loaded, and not again
            importlib.import_module("torch").set_num_threads(int(environment["OMP_NUM_THREADS"]))
        status = main(words)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
