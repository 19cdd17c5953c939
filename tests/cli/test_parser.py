"""The composition of options: precedence, types, refusal of what nobody declared, and the reference's own options."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest
import yaml
from locations import CONFORMANCE

import parser
from vgbench import options as declared
from vgbench.errors import UserError

REFERENCE_OPTIONS = CONFORMANCE / "deep_vg_options.md"


def parse(*argv: str) -> parser.TrainSettings:
    given = parser.read_command_line(parser.TrainSettings, "test", argv)
    return parser.resolve(parser.TrainSettings, given, {})


def test_defaults_are_those_of_the_dataclasses() -> None:
    settings = parse()
    assert settings.training.lr == 1e-5
    assert settings.data.resize == (480, 640)
    assert settings.run.resume is None


def test_a_test_takes_the_option_of_training_that_both_scripts_share() -> None:
    given = parser.read_command_line(parser.EvalSettings, "test", ["--train_positives_dist_threshold=12"])
    assert parser.resolve(parser.EvalSettings, given, {}).data.train_positives_dist_threshold == 12


def test_every_option_name_is_declared_once() -> None:
    names = [
        field.name
        for group in typing.get_type_hints(parser.TrainSettings).values()
        for field in dataclasses.fields(group)
    ]
    assert len(names) == len(set(names))


def test_types() -> None:
    settings = parse("--resize", "240", "320", "--recall_values", "1", "5", "--lr=3e-4", "--fc_output_dim=64")
    assert settings.data.resize == (240, 320)
    assert settings.evaluation.recall_values == (1, 5)
    assert settings.training.lr == 3e-4
    assert settings.network.fc_output_dim == 64


def test_flags_can_be_switched_on_and_off() -> None:
    assert parse("--horizontal_flip").augmentation.horizontal_flip is True
    assert parse("--no-horizontal_flip").augmentation.horizontal_flip is False


def test_command_line_beats_config_beats_checkpoint_beats_default(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("lr: 0.5\nmargin: 0.25\n")
    given = parser.read_command_line(parser.TrainSettings, "test", ["--config", str(config), "--lr=0.75"])
    settings = parser.resolve(parser.TrainSettings, given, {"lr": 0.1, "margin": 0.1, "patience": 9})
    assert (settings.training.lr, settings.training.margin, settings.training.patience) == (0.75, 0.25, 9)
    assert settings.training.epochs_num == 1000


def test_config_yaml_of_a_run_reads_back_to_the_same_settings(tmp_path: Path) -> None:
    settings = parse("--resize", "240", "320", "--threshold", "5", "25", "--no-horizontal_flip", "--lr=2e-5")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(parser.flat(settings)))
    assert parse("--config", str(config)) == settings


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--bacbone=vgg16"], ["--bacbone", "did you mean --backbone"]),
        (["--optim=lion"], ["lion", "adam"]),
        (["--lr=fast"], ["--lr", "fast"]),
        (["--resize", "240"], ["--resize"]),
        (["--lr=-1"], ["--lr"]),
    ],
)
def test_what_nobody_declared_is_refused_in_one_line(argv: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse(*argv)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)


@pytest.mark.parametrize("text", ["bacbone: vgg16\n", "- a\n- b\n", "lr: [1\n", "lr: fast\n"])
def test_bad_config_names_the_file(tmp_path: Path, text: str) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        parse("--config", str(config))


def test_every_option_of_the_reference_exists_with_its_default() -> None:
    settings = parser.flat(parse())
    rows = [line for line in REFERENCE_OPTIONS.read_text().splitlines() if line.startswith("| `--")]
    assert len(rows) == 48
    for line in rows:
        name, default = (cell.strip().strip("`") for cell in line.strip("|").split("|")[:2])
        name = name.removeprefix("--")
        assert name in settings
        expected = False if default == "flag" else yaml.safe_load(default.replace("None", "null"))
        if name == "device":
            expected = "auto"
        elif name == "num_workers":
            expected = None  # as many as the cores want
        elif isinstance(expected, str) and name.startswith("lr"):
            expected = float(expected)  # to YAML 5e-3 is a word
        assert settings[name] == pytest.approx(expected) if isinstance(expected, float) else settings[name] == expected


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser.read_command_line(parser.TrainSettings, "test", ["--help", "all"])
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in parser.flat(parse()))


def test_yaml_may_say_on_and_off_without_quotes(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("amp: off\ncompile: on\nfreeze_bn: on\n")
    settings = parse("--config", str(config))
    assert (settings.runtime.amp, settings.runtime.compile, settings.training.freeze_bn) == ("off", "on", True)


@pytest.mark.parametrize("text", ["help: true", "config: other.yaml", "save_dir: [a, b]", "resize: {h: 1}"])
def test_what_no_file_of_options_can_say_is_named(tmp_path: Path, text: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(UserError, match=rf"c\.yaml: {text.split(':')[0]}: "):
        parse("--config", str(config))


@pytest.mark.parametrize(
    ("ignored", "used"),
    [
        ("--loss NTXent", "--train_mode places"),
        ("--miner none", "--train_mode places"),
        ("--place_spread 100", "--train_mode places"),
        ("--no-place_shift", "--train_mode places"),
        ("--train_mode places --mining full", "--train_mode triplets"),
        ("--train_mode classes --criterion sare_ind", "--train_mode triplets"),
        ("--train_mode classes --queries_per_epoch 100", "--train_mode geowarp"),
        ("--criterion sare_joint --margin 0.2", "--criterion triplet"),
        ("--mining random --neg_samples_num 9", "--mining partial"),
        ("--train_mode places --train_positives_dist_threshold 12", "--train_mode triplets"),
        ("--train_mode classes --train_positives_dist_threshold 12", "--train_mode geowarp"),
        ("--M 20", "--train_mode classes"),
        ("--train_mode classes --alpha 60 --partition eigenplaces", "--partition cosplace"),
        ("--train_mode classes --focal_dist 20", "--partition eigenplaces"),
        ("--geowarp_cut 0.5", "--train_mode geowarp"),
        ("--lr_classifier 0.1", "--train_mode places"),
        ("--lr_crn_net 0.1", "--aggregation crn"),
        ("--rerank dense --local_threshold 3", "--rerank local"),
        ("--rerank local --local_ratio 0.7", "--local_matcher ratio"),
        ("--netvlad_clusters 8 --aggregation gem", "--aggregation netvlad"),
        ("--l2 none", "--aggregation gem"),
        ("--night_sky 0.5", "--night 0.5"),
        ("--erasing_area 0.1 0.2", "--random_erasing 0.5"),
        ("--fda_beta 0.02", "--fda_folder x"),
        ("--translated_probability 0.1", "--translated_folder x"),
        ("--grl_weight 1", "--grl_folder x"),
        ("--rerank_topk 5", "--rerank spatial"),
        ("--rerank_topk 5", "--rerank aqe dense"),
        ("--spatial_radius 10", "--rerank aqe spatial"),
        ("--rerank spatial --local_size 640", "--rerank local"),
        ("--rerank local --dense_patch 3", "--rerank dense"),
        ("--local_iterations 7", "--rerank dense"),
        ("--hnsw_m 8 --index ivf", "--index hnsw"),
        ("--nprobe 8", "--index ivfpq"),
        ("--majority_weight 0.1", "--test_method maj_voting"),
        ("--heat_seconds 9 --heat_maps 0", "--heat_maps 3"),
        ("--pairs_format kapture", "--pairs_out pairs.txt"),
    ],
)
def test_what_would_be_ignored_is_refused_and_what_is_used_is_not(ignored: str, used: str) -> None:
    parse(*ignored.split(), *used.split())
    with pytest.raises(UserError, match=rf"^--\w+ \S.*: does nothing with .*{used.split()[0]}.*leave this out$"):
        parse(*ignored.split())


def test_what_is_needed_is_an_option_that_can_be_so() -> None:
    groups = [
        *typing.get_type_hints(parser.TrainSettings).values(),
        *typing.get_type_hints(parser.EvalSettings).values(),
    ]
    fields = {field.name: field for group in groups for field in dataclasses.fields(group)}
    needs = [need for field in fields.values() for need in field.metadata[declared.NEEDS].split(",") if need]
    assert len(needs) > 60
    for way in (way for need in needs for way in need.split(" or ")):
        needed, _, words = way.partition("=")
        known = fields[needed].metadata[declared.CHOICES] or declared.table_of(fields[needed])
        assert not words or set(words.split("|")) <= set(known), way


def test_a_users_own_mode_may_use_every_option() -> None:
    assert parse("--train_mode=some.where:mode", "--loss=NTXent", "--mining=full").places.loss == "NTXent"


def test_defaults_may_be_repeated_anywhere() -> None:
    assert parse("--loss=MultiSimilarity", "--night_sky=0.95").training.train_mode == "triplets"
    assert parse("--miner=MultiSimilarity").places.miner is None  # the default of earlier settings


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--rerank dense --dense_score rapid --local_model homography", "--local_model: --dense_score rapid fits no"),
        ("--scale_pooling max", "--scale_pooling max: there is one scale"),
        ("--no-pca_whiten", "--no-pca_whiten: there is no PCA"),
        ("--pq_bits 4", "--pq_bits: there are no product codes"),
        ("--pq_subvectors 8 --quantise binary", "--pq_subvectors: there are no product codes"),
        ("--refine 4", "--refine 4: the search is exact already"),
        ("--search_backend faiss --index hnsw", "--search_backend: is of the exact search, not of --index hnsw"),
        (
            "--efficient_ram_testing --quantise pq",
            "--efficient_ram_testing: is of the exact search, not",
        ),
    ],
)
def test_what_the_others_leave_nothing_to_do_for_is_refused(argv: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(*argv.split())
