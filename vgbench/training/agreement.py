"""What signals ask of the ranks of one run: all of them save, or end, after the same step.

torchrun and SLURM send a signal to each rank, though never in the same instant, and sometimes one rank alone is told. A
rank that left by itself would leave the others waiting in the next step, so that what it was asked travels with the
loss of its batch.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vgbench import parallel
from vgbench.errors import Stopped
from vgbench.signals import Asked

_ENDING = tuple(int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Agreement:
    """Knows what any rank of a run was asked, from the same batch on on all of them.

    Args:
        own: what this rank was asked; of a rank alone that is all, and known at once.
    """

    def __init__(self, own: Asked) -> None:
        self._own = own
        self._arriving: tuple[Tensor, torch.cuda.Event] | None = None
        self.asked = own if parallel.world() == 1 else Asked()

    def sum(self, loss: Tensor) -> Tensor:
        """Return the sum of a batch's loss [] over all ranks, and tell them what this one was asked.

        Where ranks have GPUs, what they are told is known after the next batch: none waits for its device.
        """
        if parallel.world() == 1:
            return loss
        self._arrive()
        total = parallel.all_reduce(torch.cat([loss.reshape(1), loss.new_tensor(_numbers(self._own))]))
        if not total.is_cuda:
            self._note(total[1:].tolist())
            return total[0]
        told = torch.empty_like(total, device="cpu", pin_memory=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        told.copy_(total, non_blocking=True)
        event.record()
        self._arriving = told, event
        return total[0]

    def meet(self) -> Asked:
        """Return what any rank was asked so far, be it since its last batch; all ranks must call this."""
        with self.leaving_with_others():
            self._arrive()
            if parallel.world() > 1:
                for numbers in parallel.all_gather_objects(_numbers(self._own)):
                    self._note(numbers)
        return self.asked

    @contextmanager
    def leaving_with_others(self) -> Iterator[None]:
        """End as asked where the body fails because another rank, asked the same, has left."""
        try:
            yield
        except RuntimeError as error:
            if parallel.world() > 1 and self._own.end is not None:
                raise self._own.end from error
            raise

    def answered(self) -> None:
        """Note that all is saved; raises what ends the work, where that was asked."""
        if self.asked.save:
            self._own.save = False
        self.asked.answered()

    def _arrive(self) -> None:
        if self._arriving is None:
            return
        (told, event), self._arriving = self._arriving, None
        event.synchronize()
        self._note(told[1:].tolist())

    def _note(self, numbers: list[float]) -> None:
        save, *ending = numbers
        self.asked.save |= save > 0
        for number, count in zip(_ENDING, ending, strict=True):
            if count > 0 and self.asked.end is None:
                self.asked.end = KeyboardInterrupt() if number == signal.SIGINT else Stopped(number)


def _numbers(asked: Asked) -> list[float]:
    """One number for each thing that can be asked: 1 where it was."""
    end = asked.end
    number = None if end is None else end.number if isinstance(end, Stopped) else int(signal.SIGINT)
    return [float(asked.save), *(float(number == one) for one in _ENDING)]
