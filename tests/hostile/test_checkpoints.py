"""Checkpoints that somebody hostile, or a bad disk, wrote: each ends in one line, and runs nothing."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import SMALL, TRAINING, complaint, of, run_here

from vgbench.combine import main as combine
from vgbench.models import build_network

Content = dict[str, Any]
Change = Callable[[Content], Any]

# What a file must not get called: programs, deletions, pickles, a module that lies beside it.
CODE = (
    "os:system", "os:_exit", "os:abort", "shutil:rmtree", "torch:load", "builtins:exec", "builtins:eval",
    "subprocess:Popen", "subprocess:getoutput", "beside:Network", "pathlib:Path", "runpy:run_path", "pickle:load",
    "timm:hf-hub:somebody/else", "timm:local-dir:.", "timm:../beside", "timm.models:create_model",
)  # fmt: skip
# What stands where a word, a number or a list is expected.
WRONG: dict[str, Any] = {
    "None": None, "7": 7, "-1": -1, "10**400": 10**400, "2**62": 2**62, "nan": float("nan"), "inf": float("inf"),
    "1e308": 1e308, "True": True, "no text": "", "a zero byte": "\0", "long text": "x" * 10_000, "no items": [],
    "a list of lists": [[]], "no keys": {}, "a mapping": {"a": 1}, "a mapping of numbers": {3: 4}, "a list": ["gem"],
    "bytes": b"gem", "a tensor": torch.zeros(2), "a long tensor": torch.zeros(10**4),
}  # fmt: skip


def nested(depth: int) -> Content:
    config: Content = {"backbone": "resnet18conv4", "aggregation": "gem"}
    for _ in range(depth):
        config = {"backbone": "ensemble", "aggregation": "concat", "weights": [1.0, 1.0], "members": [config] * 2}
    return config


def put(*path: str) -> Callable[[Any], Change]:
    """Return a maker of changes that set one place of a checkpoint."""

    def make(value: Any) -> Change:
        def change(content: Content) -> None:
            for name in path[:-1]:
                content = content[name]
            content[path[-1]] = value

        return change

    return make


def wrong(*path: str, but: Sequence[str] = ()) -> dict[str, Change]:
    """Return changes that put every wrong value in one place, but for those that are not wrong there."""
    place = ".".join(path)
    return {f"{place} is {name}": put(*path)(value) for name, value in WRONG.items() if name not in but}


def codes(*path: str, among: Sequence[str] = CODE, listed: bool = False) -> dict[str, Change]:
    """Return changes that put every piece of code in one place."""
    return {f"{'.'.join(path)} is {code}": put(*path)([code] if listed else code) for code in among}


def changed_config(**values: Any) -> Change:
    return lambda content: content["network_config"].update(values)


def replaced(name: str, value: Any) -> Change:
    return lambda content: content.update({name: value})


def weight(change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    def spoil(content: Content) -> None:
        state = content["model_state_dict"]
        state["backbone._conv_stem.weight"] = change(state["backbone._conv_stem.weight"])

    return spoil


def poked(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[3] = value
        return tensor

    return change


def inside(code: str, part: str = "backbone") -> Content:
    """Return an ensemble with a network that names code among its members."""
    members = [PLAIN, {**PLAIN, part: code}]
    return {"backbone": "ensemble", "aggregation": "concat", "weights": [1, 1], "members": members}


def whitened(code: str) -> Content:
    return {"backbone": "whitened", "aggregation": "gem", "dim": 4, "members": [{**PLAIN, "aggregation": code}]}


PLAIN = {"backbone": "efficientnet_lite0", "aggregation": "gem", "cut": 1}
ARGUMENTS = {"command": "touch ran", "path": "none", "f": "evil.pt", "weights_only": False}
CODES: dict[str, Change] = {
    **codes("network_config", "backbone"),
    **codes("network_config", "aggregation"),
    **{f"{code} with arguments": changed_config(backbone=code, **ARGUMENTS) for code in CODE[:6]},
    **{f"a member is {code}": replaced("network_config", inside(code)) for code in CODE},
    **{f"a member's head is {code}": replaced("network_config", inside(code, "aggregation")) for code in CODE[:6]},
    **{f"a whitened head is {code}": replaced("network_config", whitened(code)) for code in CODE[:6]},
}
NETWORKS: dict[str, Change] = {
    **CODES,
    **wrong("network_config"),
    **wrong("network_config", "backbone"),
    **wrong("network_config", "aggregation"),
    **wrong("network_config", "method"),
    **wrong("network_config", "members"),
    **wrong("network_config", "fc_output_dim", but=("None", "7")),
    **wrong("network_config", "l2", but=("None",)),
    **wrong("network_config", "freeze", but=("None", "7")),
    **wrong("network_config", "non_local", but=("None", "True")),
    **wrong("network_config", "geowarp", but=("True",)),
    **wrong("network_config", "surprise", but=("None",)),
    **{
        f"an ensemble's weights are {name}": replaced("network_config", {**nested(1), "weights": value})
        for name, value in WRONG.items()
    },
    **wrong("options", but=("no keys", "a mapping", "a mapping of numbers")),
    **wrong("options", "dataset_name"),
    **wrong("options", "resize"),
    **wrong("options", "val_positive_dist_threshold", but=("7", "1e308", "inf")),
    **wrong("model_state_dict"),
    "an ensemble of nothing": replaced("network_config", {"backbone": "ensemble", "members": []}),
    "an ensemble without weights": replaced("network_config", {"backbone": "ensemble", "members": [PLAIN, PLAIN]}),
    "whitened without dim": replaced("network_config", {"backbone": "whitened", "members": [PLAIN]}),
    "whitened to no dimensions": replaced("network_config", {"backbone": "whitened", "dim": 0, "members": [PLAIN]}),
    "networks in networks": replaced("network_config", nested(30)),
    "a million blocks": changed_config(non_local=True, num_non_local=10**6),
    "a huge layer": changed_config(fc_output_dim=2**40),
    "a network of 2**30 clusters": changed_config(aggregation="netvlad", netvlad_clusters=2**30),
    "names that are no text": replaced("network_config", {7: 8, "backbone": "resnet18conv4", "aggregation": "gem"}),
    "an empty configuration": replaced("network_config", {}),
    "cut of no stages": changed_config(cut=0),
    "weights with NaN": weight(poked(float("nan"))),
    "weights with infinity": weight(poked(float("inf"))),
    "weights that are integers": weight(lambda tensor: tensor.to(torch.int32)),
    "weights that are bits": weight(lambda tensor: tensor > 0),
    "weights that are complex": weight(lambda tensor: tensor.to(torch.complex64)),
    "weights that are sparse": weight(lambda tensor: tensor.to_sparse()),
    "weights that are quantised": weight(lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)),
    "weights of another shape": weight(lambda tensor: tensor[:1]),
    "weights of a size that is only claimed": weight(lambda tensor: torch.zeros(1).expand(2**40)),
    "weights that are text": replaced("model_state_dict", {"backbone._conv_stem.weight": "zeros"}),
    "no weights": replaced("model_state_dict", {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = build_network("efficientnet_lite0", "gem", "none", cut=1)
    content = {"model_state_dict": network.state_dict(), "network_config": network.config}
    path = tmp_path_factory.mktemp("plain") / "plain.pth"
    torch.save(content | {"options": {"dataset_name": "tiny", "resize": [64, 64]}}, path)
    return path


@pytest.fixture
def spoilt(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], Path]:
    """Return a maker of spoilt checkpoints, in a folder with what hostile ones would like to run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as `python3 -m` and torch.hub look in the folder that one stands in
    (tmp_path / "none").mkdir()
    (tmp_path / "beside.py").write_text("open('ran', 'w')\n\n\nclass Network: pass\n")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Evil()))

    def make(change: Change) -> Path:
        content = torch.load(plain, weights_only=True)
        change(content)
        torch.save(content, tmp_path / "hostile.pth")
        return tmp_path / "hostile.pth"

    return make


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("ran", "w")


def unharmed(folder: Path) -> bool:
    return not (folder / "ran").exists() and (folder / "none").is_dir()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_hostile_network_is_refused(
    name: str, spoilt: Any, pristine_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spoilt(NETWORKS[name])
    status = run_here("eval.py", f"--resume={path}", f"--datasets_folder={pristine_dataset.parent}", "--num_workers=0")
    line = complaint((status, *capsys.readouterr()))
    assert unharmed(tmp_path)
    assert "hostile.pth" in line or "--" in line, line


@pytest.mark.parametrize("name", list(CODES)[::4])
def test_other_readers_refuse_it_too(
    name: str, spoilt: Any, plain: Path, pristine_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import hubconf
    from vgbench.errors import UserError

    path = spoilt(NETWORKS[name])
    with pytest.raises(UserError):
        hubconf.trained(str(path))
    with pytest.raises(UserError):
        hubconf.trained(path.as_uri())
    for command in (["ensemble"], ["soup"]):
        for files in ([path, plain], [plain, path]):
            assert (
                combine([*command, "--checkpoints", *map(str, files), "--output", "out.pth", "--resize", "64", "64"])
                == 2
            )
    assert combine(["whiten", "--checkpoints", str(path), "--output", "out.pth"]) == 2
    assert run_here("train.py", *of(pristine_dataset), *SMALL, f"--start_from={path}") == 2
    assert unharmed(tmp_path) and not (tmp_path / "out.pth").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_code_runs_where_its_name_was_typed(spoilt: Any, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "my_heads.py").write_text("from vgbench.models.aggregation.gem import GeM as Mine\n")
    import hubconf
    from vgbench.errors import UserError

    made = build_network("resnet18conv4", "my_heads:Mine", "none")
    path = tmp_path / "own.pth"
    torch.save({"model_state_dict": made.state_dict(), "network_config": made.config}, path)
    with pytest.raises(UserError, match="own_code my_heads:Mine"):
        hubconf.trained(str(path))
    assert hubconf.trained(str(path), own=["my_heads:Mine"]).descriptors_dim == made.descriptors_dim
    words = ["ensemble", "--checkpoints", str(path), str(plain), "--output", "both.pth", "--resize", "64", "64"]
    assert combine(words) == 2
    assert combine([*words, "--own_code", "my_heads:Mine"]) == 0
    with pytest.raises(UserError, match="own_code"):
        hubconf.trained("both.pth")
    assert hubconf.trained("both.pth", own=["my_heads:Mine"]).descriptors_dim == made.descriptors_dim + 16


def test_soups_of_nan_are_not_written(spoilt: Any, plain: Path, tmp_path: Path) -> None:
    path = spoilt(weight(poked(float("nan"))))
    assert combine(["soup", "--checkpoints", str(plain), str(path), "--output", "soup.pth"]) == 2
    assert not (tmp_path / "soup.pth").exists()


def test_an_archive_that_unpacks_to_more_is_refused(plain: Path, tmp_path: Path, call: Any) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
        target.writestr("archive/data/99999", bytes(10**8))
    assert "unpacks to" in complaint(call("eval.py", f"--resume={path}"))


@pytest.fixture(scope="module")
def small_run(pristine_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "run"
    arguments = [
        "--backbone=efficientnet_lite0",
        "--cut=1",
        "--aggregation=gem",
        "--epochs_num=1",
        f"--run_dir={folder}",
    ]
    usual = [word for word in TRAINING if "clusters" not in word]
    assert run_here("train.py", *of(pristine_dataset), *usual, *arguments) == 0
    return folder


def remembered(content: Content) -> Any:
    return next(iter(content["optimizer_state_dict"]["state"].values()))


# What a run's last_model.pth holds beside its network; each is put in its place in turn.
NAMED = (
    "mining", "criterion", "loss", "miner", "margin_loss", "test_method", "train_mode", "search_backend", "index",
    "quantise", "backbone", "aggregation",
)  # fmt: skip
RUNS: dict[str, Change] = {
    **{name: change for option in NAMED for name, change in codes("options", option, among=CODE[:6]).items()},
    **codes("options", "rerank", listed=True),
    **codes("options", "local_features", listed=True),
    **wrong("options", but=("no keys", "a mapping", "a mapping of numbers")),
    **wrong("options", "lr", but=("7", "1e308")),
    **wrong("options", "epochs_num", but=("7",)),
    **wrong("options", "mining"),
    **wrong("options", "train_batch_size", but=("7",)),
    **wrong("options", "recall_values"),
    **wrong("options", "freeze_bn", but=("True",)),
    **wrong("options", "num_workers", but=("None", "7")),
    **wrong("options", "grl_folder", but=("None",)),
    **wrong("progress", but=("no keys",)),
    **wrong("progress", "epoch", but=("7",)),
    **wrong("progress", "steps", but=("7",)),
    **wrong("progress", "best_r5", but=("7", "-1", "1e308")),
    **wrong("recalls", but=("no keys", "a mapping of numbers")),
    **wrong("optimizer_state_dict"),
    **wrong("mode_state"),
    "an unknown progress": put("progress", "surprise")(3),
    "an optimiser of NaN": lambda content: remembered(content).update(exp_avg=torch.full((3, 3), float("nan"))),
    "an optimiser of another shape": lambda content: remembered(content).update(exp_avg=torch.zeros(3, 3)),
    "an optimiser of text": lambda content: remembered(content).update(exp_avg="zeros"),
    "weights with NaN": lambda content: content["model_state_dict"]["backbone._conv_stem.weight"].fill_(float("nan")),
    "no scaler": lambda content: content.pop("scaler"),
    "no recalls": lambda content: content.pop("recalls"),
    "no options": lambda content: content.pop("options"),
    "no mode": lambda content: content.pop("mode_state"),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_hostile_run_is_not_resumed(
    name: str, small_run: Path, pristine_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run" / "last_model.pth"
    path.parent.mkdir()
    content = torch.load(small_run / "last_model.pth", weights_only=True)
    RUNS[name](content)
    torch.save(content, path)
    capsys.readouterr()
    status = run_here("train.py", f"--resume={path}", f"--datasets_folder={pristine_dataset.parent}")
    shown = capsys.readouterr()
    assert status == 2 and "Traceback" not in shown.err, shown.err[-2000:]
    assert len([line for line in shown.err.splitlines() if line.startswith("error: ")]) == 1


def test_a_checkpoint_says_nowhere_to_write(
    trained: Path,
    pristine_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = trained / "last_model.pth"
    content = torch.load(path, weights_only=True)
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    content["options"] |= {
        "pairs_out": str(precious), "run_dir": str(tmp_path / "elsewhere"), "save_dir": "../../elsewhere",
        "epochs_num": 3,
    }  # fmt: skip
    (tmp_path / "other").mkdir()
    torch.save(content, tmp_path / "other" / "last_model.pth")
    assert run_here("train.py", "--resume=other/last_model.pth", *of(pristine_dataset)) == 0, capsys.readouterr().err
    assert precious.read_text() == "mine"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["logs", "other", "precious.txt", "run"]
    assert [one.name for one in (tmp_path / "logs").iterdir()] == ["default"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x80\x04garbage", "save its state_dict"),
        (b"PK\x03\x04" + b"\0" * 100, "is cut off or damaged"),
    ],
)
def test_what_is_no_checkpoint_is_called_what_it_is(content: bytes, said: str, call: Any, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pth"
    path.write_bytes(content)
    line = complaint(call("eval.py", f"--resume={path}"))
    assert said in line and "weights_only" not in line and "checkpoint ()" not in line
