"""Classes of the user's own: docs/your_own.md runs, and what is wrong with one is said at the start."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from calls import complaint, of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your_own.md"
TINY = [
    "--resize", "64", "96", "--num_workers=0", "--queries_per_epoch=4", "--cache_refresh_rate=4", "--neg_samples_num=4",
    "--negs_num_per_query=2", "--train_batch_size=2", "--epochs_num=1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_module_stays(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name in ("my_heads", "broken")]:
        del sys.modules[name]


def test_the_page_runs(call: Any, pristine_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests have a module of that name, in folders that stay on the path.
    monkeypatch.delitem(sys.modules, "my_heads", raising=False)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if not (Path(one) / "my_heads.py").exists()])
    text = PAGE.read_text(encoding="utf-8")
    [module] = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    [commands] = re.findall(r"```bash\n(.*?)```", text, flags=re.S)
    (tmp_path / "my_heads.py").write_text(module)
    shutil.copytree(pristine_dataset, tmp_path / "datasets" / "my_town")
    for line in commands.strip().splitlines():
        program, script, *words = line.split()
        assert program == "python3"
        status, out, err = call(script, *words, *(TINY if script == "train.py" else ["--num_workers=0"]))
        assert status == 0, err
    assert "my_heads:WeightedMean" in out and (tmp_path / "logs" / "mine" / "results.json").is_file()


WRONG = {
    "no dimensions": ("self.other = 1", "return features.mean(dim=(2, 3))", "says no descriptors_dim"),
    "other dimensions": (
        "self.descriptors_dim = 512", "return features.mean(dim=(2, 3))",
        "gives 1280 dimensions but declares 512 as its descriptors_dim",
    ),
    "a map": ("self.descriptors_dim = c", "return features", "gives [2, 1280, 2, 3] for 2 images of 64x96"),
    "a pair": ("self.descriptors_dim = c", "return features, 1", "Expected"),
    "it fails": ("self.descriptors_dim = c", "return features @ features", "fails on an image of 64x96 (RuntimeError"),
    "not finite": ("self.descriptors_dim = c", "return features.mean(dim=(2, 3)) / 0", "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_class_is_found_at_the_start(
    kind: str, script: str, call: Any, pristine_dataset: Path, tmp_path: Path
) -> None:
    made, returned, said = WRONG[kind]
    (tmp_path / "broken.py").write_text(
        "from torch import nn\n\n\nclass Mine(nn.Module):\n    def __init__(self, c):\n        super().__init__()\n"
        f"        {made}\n\n    def forward(self, features):\n        {returned}\n"
    )
    arguments = [*of(pristine_dataset), "--backbone=efficientnet_lite0", "--pretrain=none", "--aggregation=broken:Mine"]
    told = complaint(call(script, *arguments, *(TINY if script == "train.py" else TINY[:4])))
    assert "broken:Mine" in told and said in told
    assert not (tmp_path / "logs").exists()
