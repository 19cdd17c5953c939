"""Descriptors of sequences: each frame goes through the network once, and sequences are made as their frames come."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vgbench.data.encoded import on_device, reader_of
from vgbench.data.loader import image_loader
from vgbench.data.sequences import SequenceTable
from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.models.network import Network
from vgbench.models.sequences.network import SequenceNetwork
from vgbench.runtime import Inference

Rows = NDArray[np.int64]


def check_unit(network: Network, table: ImageTable) -> None:
    """Refuse a network of sequences where there are images, and the other way round.

    Raises:
        UserError: the two do not fit, or sequences are of another length.
    """
    if isinstance(network, SequenceNetwork) and not isinstance(table, SequenceTable):
        raise UserError(
            f"{table.root}: these are images, {network.name} describes sequences. Expected train.py or eval.py, which "
            "cut them into sequences, or the network without --seq_aggregation"
        )
    if isinstance(table, SequenceTable):
        length = getattr(network, "seq_length", None)
        if length != table.rules.length:
            raise UserError(
                f"{network.name}: describes {'images' if length is None else f'sequences of {length}'}, those of "
                f"{table.root} are of {table.rules.length} frames. Expected --seq_length to be the same"
            )


def describe_windows(
    network: SequenceNetwork,
    table: SequenceTable,
    rows: Rows,
    inference: Inference,
    infer: Callable[[Tensor], Tensor],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows int64 [B] on the CPU, descriptors float32 [B,D] on the device), in the order of `rows`.

    Held are the descriptors of frames that a later sequence has too: L or so where the rows ascend, as the sequences
    of a walk do. Rows in another order are described in ascending order, and all of their descriptors are held.

    Args:
        inference: its batches are both of frames and of sequences.
        infer: pixels uint8 [B,3,H,W] on the device to descriptors of frames [B,F].
    """
    order = np.argsort(rows, kind="stable")
    batches = _ascending(network, table, rows[order], inference, infer)
    if bool((np.diff(order) > 0).all()):
        yield from batches
        return
    described = torch.cat([descriptors for _, descriptors in batches])[np.argsort(order)]
    for start in range(0, len(rows), inference.batch_size):
        stop = start + inference.batch_size
        yield torch.from_numpy(rows[start:stop].copy()), described[start:stop]


def _ascending(
    network: SequenceNetwork,
    table: SequenceTable,
    rows: Rows,
    inference: Inference,
    infer: Callable[[Tensor], Tensor],
) -> Iterator[tuple[Tensor, Tensor]]:
    members, size = table.members[rows], inference.batch_size
    frames, needed, last = _plan(members)
    sequence, done, come = copy.deepcopy(network.sequence).eval(), 0, 0
    held: dict[int, Tensor] = {}
    loader = image_loader(
        table.frames, frames, size=inference.size, batch_size=size, num_workers=inference.num_workers,
        read=reader_of(inference),
    )  # fmt: skip
    for images, batch in loader:
        pixels = inference.runtime.to_device(on_device(images, inference.runtime.device))
        held.update(zip(batch.tolist(), infer(pixels).float(), strict=True))
        come += len(batch)
        while done < len(rows) and needed[min(done + size, len(rows)) - 1] < come:
            chunk = members[done : done + size]
            yield torch.from_numpy(rows[done : done + size].copy()), _aggregate(sequence, held, chunk)
            done += len(chunk)
            for frame in np.unique(chunk).tolist():
                if last[frame] < done:
                    del held[frame]


def _plan(members: Rows) -> tuple[Rows, Rows, dict[int, int]]:
    """Return the frames by first use, how many must have come for each window and those before, and last uses.

    Args:
        members: int64 [N,L].

    Returns:
        rows of frames int64 [F]; the place in them of the last that each window waits for, int64 [N]; and for each
        frame the last window that it is in.
    """
    distinct, first, inverse = np.unique(members.ravel(), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    place = np.empty(len(distinct), np.int64)
    place[order] = np.arange(len(distinct))
    windows = np.repeat(np.arange(len(members)), members.shape[1])
    last = np.zeros(len(distinct), np.int64)
    np.maximum.at(last, inverse.reshape(-1), windows)
    needed = np.maximum.accumulate(place[inverse.reshape(members.shape)].max(axis=1))
    return distinct[order], needed, dict(zip(distinct.tolist(), last.tolist(), strict=True))


@torch.no_grad()
def _aggregate(sequence: nn.Module, held: dict[int, Tensor], chunk: Rows) -> Tensor:
    frames = torch.stack([held[frame] for frame in chunk.ravel().tolist()])
    found: Tensor = sequence(frames.reshape(*chunk.shape, -1))
    return found.float()
