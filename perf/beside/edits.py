"""What a checkout of the Deep VG Benchmark (Berton et al., CVPR 2022) needs before it runs with today's packages.

None of its code is here: an edit is a regular expression and what takes its place, made in a temporary copy.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from vgbench.errors import UserError


@dataclass(frozen=True)
class Edit:
    """One change of one file.

    Attributes:
        file: path in the checkout.
        pattern: regular expression, line by line; it must match somewhere.
        instead: what takes its place.
        why: for perf/README.md.
        absent: a package; the edit is made only where it is not installed.
    """

    file: str
    pattern: str
    instead: str
    why: str
    absent: str = ""

    @property
    def is_needed(self) -> bool:
        return not self.absent or importlib.util.find_spec(self.absent) is None


_LOAD = r"torch\.load\(((?:[^()]|\([^()]*\))*)\)"
_LOADING = "torch.load() refuses what is not weights, numpy's recalls in a checkpoint say"
_EACH = "min(100, (args.resize[0] // 16) * (args.resize[1] // 16))"
_DOWNLOADER = "google_drive_downloader is not published any more"
EDITS = (
    Edit("eval.py", r"^from google_drive_downloader .*$", "", _DOWNLOADER, "google_drive_downloader"),
    Edit("model/network.py", r"^from google_drive_downloader .*$", "", _DOWNLOADER, "google_drive_downloader"),
    Edit(
        "model/network.py", r"^from transformers .*$", "",
        "only its ViT needs transformers; without it its start-up is shorter", "transformers",
    ),
    Edit("model/network.py", r"pretrained=True", "weights=None", "torchvision says `weights` now; none are fetched"),
    Edit("test.py", r"np\.in1d\(", "np.isin(", "numpy 2.4 has no in1d"),
    Edit(
        "datasets_ws.py", r"np\.delete\(", "_without(",
        "positives are lists of different lengths, of which today's numpy makes no array",
    ),
    Edit(
        "datasets_ws.py", r"\Z",
        "\n\ndef _without(items, rows):\n"
        "    left_out = set(rows.tolist())\n"
        "    return [item for row, item in enumerate(items) if row not in left_out]\n",
        "what takes the place of np.delete",
    ),
    Edit("util.py", r"^import torchscan$", "", "torchscan is not maintained; FLOPs are a line of the log", "torchscan"),
    Edit("train.py", r"util\.get_flops\([^()]*\)", "'FLOPs not counted'", "the same"),
    Edit("util.py", _LOAD, r"torch.load(\1, weights_only=False)", _LOADING),
    Edit("train.py", _LOAD, r"torch.load(\1, weights_only=False)", _LOADING),
    Edit(
        "model/aggregation.py", r"descriptors_num = 50000$", f"descriptors_num = {_EACH} * min(500, len(cluster_ds))",
        "NetVLAD's start wants 500 training images",
    ),
    Edit(
        "model/aggregation.py", r"descs_num_per_image = 100$", f"descs_num_per_image = {_EACH}",
        "NetVLAD's start wants 100 places of the feature map, so images of 160x160 at least",
    ),
)  # fmt: skip


def edited_copy(checkout: Path, copy: Path) -> Path:
    """Copy a checkout's Python files to `copy` (made) and edit them; return `copy`.

    Raises:
        UserError: it is no checkout of the Deep VG Benchmark, or of a version that the edits do not fit.
    """
    if not (checkout / "datasets_ws.py").is_file():
        raise UserError(
            f"{checkout}: no datasets_ws.py. Expected a checkout of the Deep VG Benchmark; "
            "git clone https://github.com/gmberton/deep-visual-geo-localization-benchmark"
        )
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git", "logs", "test", "data", "__pycache__"))
    for edit in EDITS:
        if edit.is_needed:
            _make(edit, copy)
    return copy


def _make(edit: Edit, copy: Path) -> None:
    path = copy / edit.file
    text = path.read_text("utf-8") if path.is_file() else ""
    changed, made = re.subn(edit.pattern, edit.instead, text, flags=re.MULTILINE)
    if not made:
        raise UserError(
            f"{edit.file}: nothing like {edit.pattern}. Expected the Deep VG Benchmark, commit e974667 say; "
            "give --reference a checkout of that"
        )
    path.write_text(changed, "utf-8")


def edits_table() -> list[tuple[str, str, str, str]]:
    """Return (file, what is found, what takes its place, why) of each edit, for perf/README.md."""
    return [(edit.file, edit.pattern, " ".join(edit.instead.split()), edit.why) for edit in EDITS]
