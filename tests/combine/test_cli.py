"""`python3 -m vgbench.combine`, and eval.py on what it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench.combine import main
from vgbench.combine.whitening import fit_whitening
from vgbench.data import ImageTable, read_split
from vgbench.data.augment import AugmentOptions, BatchAugment
from vgbench.data.loader import decode_batch
from vgbench.models import build_network, rebuild_network
from vgbench.models.weights import read_checkpoint
from vgbench.randomness import torch_stream

EVAL = ["--num_workers=0", "--infer_batch_size=8"]
SIZE = [64, 64]


def checkpoint(path: Path, seed: int, dataset: Path | None = None, **parts: Any) -> Path:
    torch.manual_seed(seed)
    network = build_network(**{"backbone": "resnet18conv4", "aggregation": "gem", "pretrain": "none", **parts})
    name = dataset.name if dataset else "pitts30k"
    options = {"dataset_name": name, "resize": SIZE, "val_positive_dist_threshold": 25.0, "lr": 0.1}
    torch.save({"model_state_dict": network.state_dict(), "network_config": network.config, "options": options}, path)
    return path


@pytest.fixture
def three(tmp_path: Path, pristine_dataset: Path) -> list[str]:
    return [str(checkpoint(tmp_path / f"{seed}.pth", seed, pristine_dataset)) for seed in range(3)]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def evaluated(call: Any, dataset: Path, output: Path) -> dict[str, Any]:
    run = output.with_suffix("")
    arguments = [f"--resume={output}", f"--datasets_folder={dataset.parent}", f"--run_dir={run}", *EVAL]
    status, _, err = call("eval.py", *arguments)
    assert status == 0, err
    results: dict[str, Any] = json.loads((run / "results.json").read_text())
    assert results["dataset"] == dataset.name and results["options"]["resize"] == SIZE
    return results


def test_uniform_soup_is_a_checkpoint_for_eval(
    call: Any, three: list[str], pristine_dataset: Path, tmp_path: Path
) -> None:
    output = tmp_path / "soup.pth"
    assert main(["soup", "--checkpoints", *three, "--output", str(output)]) == 0
    content = read_checkpoint(output)
    weights = [read_checkpoint(path)["model_state_dict"]["backbone.0.weight"] for path in three]
    torch.testing.assert_close(content["model_state_dict"]["backbone.0.weight"], torch.stack(weights).mean(0))
    assert content["soup"]["checkpoints"] == three
    assert evaluated(call, pristine_dataset, output)["network"]["aggregation"] == "gem"


@pytest.mark.parametrize("batch_norm", ["average", "reestimate"])
def test_greedy_soup_is_no_worse_on_val_than_the_best(
    three: list[str], pristine_dataset: Path, tmp_path: Path, batch_norm: str, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "soup.pth"
    arguments = ["soup", "--soup=greedy", f"--batch_norm={batch_norm}", "--recall=1", "--num_workers=0"]
    place = ["--datasets_folder", str(pristine_dataset.parent), "--output", str(output)]
    with caplog.at_level("INFO", logger="vgbench"):
        assert main([*arguments, "--checkpoints", *three, *place]) == 0
    told = [record.getMessage() for record in caplog.records]
    alone = [float(line.split("R@1 ")[1].split(",")[0]) for line in told if line.startswith(str(tmp_path))
             and "R@1" in line]  # fmt: skip
    content = read_checkpoint(output)
    assert len(alone) == 3 and content["soup"]["val_recall"] >= max(alone)
    assert content["soup"]["checkpoints"][0] in three
    rebuild_network(content["network_config"], content)


def test_soup_with_reestimated_statistics_differs_in_these_alone(
    three: list[str], pristine_dataset: Path, tmp_path: Path
) -> None:
    outputs = {}
    for kind in ("average", "reestimate"):
        path = tmp_path / f"{kind}.pth"
        arguments = ["--datasets_folder", str(pristine_dataset.parent), "--num_workers=0", "--output", str(path)]
        assert main(["soup", f"--batch_norm={kind}", "--checkpoints", *three, *arguments]) == 0
        outputs[kind] = read_checkpoint(path)["model_state_dict"]
    different = {key for key, value in outputs["average"].items() if not torch.equal(value, outputs["reestimate"][key])}
    assert different and all(key.split(".")[-1].startswith(("running_", "num_batches")) for key in different)


@pytest.mark.parametrize("combine", ["concat", "mean"])
def test_ensemble_is_a_checkpoint_for_eval(call: Any, pristine_dataset: Path, tmp_path: Path, combine: str) -> None:
    other = {"aggregation": "netvlad", "netvlad_clusters": 4} if combine == "concat" else {"l2": "after_pool"}
    parts = [
        checkpoint(tmp_path / "a.pth", 0, pristine_dataset),
        checkpoint(tmp_path / "b.pth", 1, pristine_dataset, **other),
    ]
    output = tmp_path / "both.pth"
    arguments = ["--checkpoints", *map(str, parts), "--output", str(output), "--weights", "1", "3"]
    assert main(["ensemble", f"--combine={combine}", *arguments]) == 0
    results = evaluated(call, pristine_dataset, output)
    assert results["network"]["backbone"] == "ensemble" and results["network"]["weights"] == [1.0, 3.0]
    assert results["descriptors_dim"] == (256 + 1024 if combine == "concat" else 256)
    assert "ensemble" in (output.with_suffix("") / "report.html").read_text()


@pytest.mark.parametrize("dim", [None, 24])
def test_whitened_is_a_checkpoint_for_eval(
    call: Any, pristine_dataset: Path, tmp_path: Path, dim: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = checkpoint(tmp_path / "a.pth", 0, pristine_dataset)
    output = tmp_path / "white.pth"
    kept = [] if dim is None else [f"--dim={dim}"]
    place = [f"--datasets_folder={pristine_dataset.parent}", "--num_workers=0", "--amp=off"]
    with caplog.at_level("INFO", logger="vgbench"):
        assert main(["whiten", "--checkpoints", str(path), "--output", str(output), *kept, *place]) == 0
    content = read_checkpoint(output)
    assert content["whitening"]["dataset"] == pristine_dataset.name and content["whitening"]["radius_m"] == 10
    assert f"{content['whitening']['pairs']} pairs of" in caplog.text
    results = evaluated(call, pristine_dataset, output)
    assert results["network"]["backbone"] == "whitened" and results["descriptors_dim"] == (dim or 256)


def test_whitening_learns_from_the_most_alike_pairs_of_train(pristine_dataset: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.pth", 0, pristine_dataset)
    content = read_checkpoint(path)
    network = rebuild_network(content["network_config"], content).eval()
    split = read_split(pristine_dataset, "train")

    def described(table: ImageTable) -> Tensor:
        with torch.no_grad():
            return F.normalize(network(decode_batch(table, np.arange(len(table)), (64, 64))), dim=1)

    queries, database = described(split.queries), described(split.database)
    near = np.linalg.norm(split.queries.utm[:, None] - split.database.utm[None], axis=2) <= 25
    alike = (queries @ database.T).masked_fill(torch.from_numpy(~near), -2)
    assert near.sum(1).min() > 2  # so that there is a choice

    def learned(chosen: list[int]) -> tuple[Tensor, Tensor]:
        """Return the layer that the two most alike database images of some queries teach."""
        images = np.flatnonzero(near[chosen].any(0)).tolist()
        pairs = [
            (number, len(chosen) + images.index(int(one)))
            for number, query in enumerate(chosen)
            for one in alike[query].topk(2).indices
        ]
        return fit_whitening(torch.cat([queries[chosen], database[images]]), torch.tensor(pairs), 0.2).layer()

    def whitened(*more: str) -> tuple[Tensor, Tensor, dict[str, Any]]:
        output = tmp_path / "white.pth"
        place = [f"--datasets_folder={pristine_dataset.parent}", "--num_workers=0", "--amp=off"]
        wanted = ["--train_positives_dist_threshold=25", "--positives=2", "--shrinkage=0.2"]
        assert main(["whiten", "--checkpoints", str(path), "--output", str(output), *wanted, *place, *more]) == 0
        found = read_checkpoint(output)
        state = found["model_state_dict"]
        return state["backbone.projection.weight"], state["backbone.projection.bias"], found["whitening"]

    weight, bias, facts = whitened()
    assert facts["pairs"] == 2 * len(queries) and facts["augmentation"] == {}
    for found, expected in zip((weight, bias), learned(list(range(len(queries)))), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert whitened("--pairs=9")[2]["pairs"] == 9
    weight, _, facts = whitened("--pairs=8")
    assert facts["pairs"] == 8
    first, _ = learned([0, 1, 2, 3])
    assert (weight - first).abs().max() > 0.02, "queries are drawn, not the first ones taken"


def test_whitening_learns_what_night_changes(pristine_dataset: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.pth", 0, pristine_dataset)
    place = [f"--datasets_folder={pristine_dataset.parent}", "--num_workers=0", "--amp=off"]
    wanted = ["--train_positives_dist_threshold=25", "--shrinkage=0.2"]
    night = ["--night=1", "--night_exposure", "0.1", "0.3"]
    networks, pairs = {}, {}
    for name, more in (("day", []), ("night", night)):
        output = tmp_path / f"{name}.pth"
        assert main(["whiten", "--checkpoints", str(path), "--output", str(output), *wanted, *place, *more]) == 0
        content = read_checkpoint(output)
        networks[name] = rebuild_network(content["network_config"], content).eval()
        pairs[name] = content["whitening"]["pairs"]
    assert content["whitening"]["augmentation"] == {"night": 1.0, "night_exposure": [0.1, 0.3]}
    assert pairs["night"] == 2 * pairs["day"]
    # By a night of another draw, queries stay nearer to their own day among all the others.
    images = decode_batch(read_split(pristine_dataset, "train").queries, np.arange(16), (64, 64))
    dark = BatchAugment(AugmentOptions(night=1, night_exposure=(0.1, 0.3))).vary(images, torch_stream(7, "test"))
    kept = {}
    for name, network in networks.items():
        with torch.no_grad():
            by_day, by_night = network(images), network(dark)
        kept[name] = float((by_day * by_night).sum(1).mean() - (by_night @ by_day.T).mean())
    assert kept["night"] > kept["day"] + 0.02, kept


def test_a_trained_run_goes_into_an_ensemble_and_a_soup(
    call: Any, trained: Path, pristine_dataset: Path, tmp_path: Path
) -> None:
    files = [str(trained / name) for name in ("best_model.pth", "last_model.pth")]
    for kind in ("soup", "ensemble"):
        output = tmp_path / f"{kind}.pth"
        assert main([kind, "--checkpoints", *files, "--output", str(output)]) == 0
        evaluated(call, pristine_dataset, output)


def test_other_sizes_are_told(tmp_path: Path, three: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="vgbench"):
        output = tmp_path / "both.pth"
        status = main(["ensemble", "--checkpoints", *three[:2], "--output", str(output), "--resize", "96", "64"])
    assert status == 0 and "was trained at 64x64 and will see images of 96x64" in caplog.text
    assert list(read_checkpoint(output)["options"]["resize"]) == [96, 64]


def test_what_cannot_be_combined_is_told_in_one_line(
    tmp_path: Path, three: list[str], pristine_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output", str(tmp_path / "x.pth")]
    other = str(checkpoint(tmp_path / "other.pth", 0, aggregation="spoc"))
    assert "--aggregation spoc" in refusal(capsys, "soup", "--checkpoints", three[0], other, *out)
    l2 = str(checkpoint(tmp_path / "l2.pth", 0, l2="none"))
    assert "--l2 none" in refusal(capsys, "soup", "--checkpoints", three[0], l2, *out)
    assert "no such file" in refusal(capsys, "soup", "--checkpoints", three[0], "absent.pth", *out)
    assert "no such file" in refusal(capsys, "ensemble", "--checkpoints", three[0], "absent.pth", *out)
    bare = tmp_path / "bare.pth"
    torch.save(read_checkpoint(three[0])["model_state_dict"], bare)
    assert "which network" in refusal(capsys, "ensemble", "--checkpoints", three[0], str(bare), *out)
    assert "one file" in refusal(capsys, "soup", "--checkpoints", three[0], *out)
    assert "--output" in refusal(capsys, "soup", "--checkpoints", *three, "--output", three[1])
    assert "no folder" in refusal(capsys, "soup", "--checkpoints", *three, "--output", str(tmp_path / "no" / "x.pth"))
    assert "--weights 1" in refusal(capsys, "ensemble", "--checkpoints", *three, "--weights", "1", *out)
    assert "256, 16384" in refusal(
        capsys, "ensemble", "--combine=mean", "--checkpoints", three[0],
        str(checkpoint(tmp_path / "wide.pth", 0, aggregation="netvlad")), *out,
    )  # fmt: skip
    assert "--recall" in refusal(capsys, "soup", "--recall=0", "--checkpoints", *three, *out)
    assert "required" in refusal(capsys, "soup", "--checkpoints", *three)
    assert "cannot describe images of 8x8" in refusal(
        capsys, "ensemble", "--checkpoints", three[0],
        str(checkpoint(tmp_path / "deep.pth", 0, backbone="alexnet")), "--resize", "8", "8", *out,
    )  # fmt: skip
    assert "3 checkpoints" in refusal(capsys, "whiten", "--checkpoints", *three, *out)
    place = f"--datasets_folder={pristine_dataset.parent}"
    one = ["whiten", "--checkpoints", three[0], place, "--num_workers=0", *out]
    for value in ("0", "1.5", "x"):
        assert "--shrinkage" in refusal(capsys, *one, f"--shrinkage={value}")
    assert "--dim" in refusal(capsys, *one, "--dim=0")
    assert "--night_gray 0.5: does nothing" in refusal(capsys, *one, "--night_gray=0.5")
    assert "--horizontal_flip" in refusal(capsys, *one, "--horizontal_flip")
    assert "--dim 257: the network gives 256" in refusal(capsys, *one, "--dim=257")
    for dim in (40, 200):  # 16 queries and 24 database images, less their mean
        assert "span at most 39 dimensions" in refusal(capsys, *one, f"--dim={dim}")
    assert "no such folder" in refusal(capsys, *one, f"--fda_folder={tmp_path / 'absent'}")
    assert "is a folder" in refusal(capsys, *one[:-2], "--output", str(tmp_path))
    assert "cannot describe images of 8x8" in refusal(
        capsys, "whiten", place, *out, "--resize", "8", "8", "--checkpoints",
        str(checkpoint(tmp_path / "alex.pth", 0, backbone="alexnet")),
    )  # fmt: skip
    far = Path(shutil.copytree(pristine_dataset, tmp_path / "far" / pristine_dataset.name))
    for image in sorted((far / "images" / "train" / "queries").iterdir()):
        _, east, rest = image.name.split("@", 2)
        image.rename(image.with_name(f"@{float(east) + 5000:.2f}@{rest}"))
    assert "within 10 m" in refusal(capsys, *one, f"--datasets_folder={far.parent}")
    assert "--dim 4096" in refusal(
        capsys, "whiten", place, *out, "--checkpoints",
        str(checkpoint(tmp_path / "huge.pth", 0, aggregation="netvlad", netvlad_clusters=128)),
    )  # fmt: skip
    without_val = Path(shutil.copytree(pristine_dataset, tmp_path / "datasets" / pristine_dataset.name))
    shutil.rmtree(without_val / "images" / "val")
    greedy = ["--soup=greedy", f"--datasets_folder={without_val.parent}"]
    assert "val" in refusal(capsys, "soup", *greedy, "--checkpoints", *three, *out)
    assert not (tmp_path / "x.pth").exists()


def test_freezing_and_first_weights_do_not_make_another_architecture(tmp_path: Path) -> None:
    files = [checkpoint(tmp_path / f"{freeze}.pth", freeze, freeze=freeze) for freeze in (0, 2)]
    assert main(["soup", "--checkpoints", *map(str, files), "--output", str(tmp_path / "x.pth")]) == 0


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "examples:" in capsys.readouterr().out
