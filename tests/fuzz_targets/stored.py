"""Checkpoints, descriptor files and JSON lines."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from fuzzing import broken, file_of, target
from hypothesis import strategies as st

from fuzz_targets.words import TREES


def _checkpoint() -> bytes:
    import torch

    stream = io.BytesIO()
    content = {
        "model_state_dict": {"a.weight": torch.ones(2, 3)},
        "network_config": {"backbone": "x"},
        "options": {"seed": 1},
    }
    torch.save(content, stream)
    return stream.getvalue()


@target(st.deferred(lambda: broken(_checkpoint())))
def checkpoints(value: bytes, folder: Path) -> None:
    from vgbench.models.rebuild import rebuild_network
    from vgbench.models.weights import extract_state_dict, read_checkpoint

    content = read_checkpoint(file_of(folder, "best_model.pth", value))
    rebuild_network(content.get("network_config", {}), extract_state_dict(content))


def _hdf5() -> bytes:
    import torch

    from vgbench.retrieval.extraction.writer import write_descriptors

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.h5"
        write_descriptors(path, torch.arange(12.0).view(4, 3), "f").close()
        return path.read_bytes()


@target(st.deferred(lambda: broken(_hdf5())), share=0.5)
def side_files(value: bytes, folder: Path) -> None:
    from vgbench.retrieval.extraction.store import Descriptors, is_reusable

    path = file_of(folder, "d.h5", value)
    if is_reusable(path, "f", 4, 3, "float32"):
        with Descriptors(path) as found:
            assert len(list(found.blocks(2))) == 2


@target(
    st.lists(
        st.one_of(
            broken(b'{"epoch": 1, "round": 2, "loss": 0.5, "recalls": {"5": 40.0}}'),
            TREES.map(repr).map(lambda t: t.encode("utf-8", "replace")),
        ),
        max_size=4,
    )
)
def json_lines(value: list[bytes], folder: Path) -> None:
    from vgbench.report.history import history_of, read_history
    from vgbench.training.checkpoint import Progress
    from vgbench.training.metrics_logger import rewind

    path = file_of(folder, "metrics.jsonl", b"\n".join(value))
    history_of(read_history(path)).best_epoch()
    rewind(path, Progress(epoch=1))
