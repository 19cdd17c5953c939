"""metrics.jsonl and TensorBoard events, over interruptions."""

import json
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vgbench.training.checkpoint import Progress
from vgbench.training.metrics_logger import MetricsLogger, rewind


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write(watch, epochs, rounds=2, start=(0, 0)):
    """Write what a loop would write from a start on."""
    for epoch in range(start[0], epochs):
        for index in range(start[1] if epoch == start[0] else 0, rounds):
            steps = 10 * (epoch * rounds + index + 1)
            watch.round(Progress(epoch, index + 1, steps), index, {"loss": steps / 100})
        if epoch != start[0] or start[1] <= rounds:
            watch.epoch(Progress(epoch, rounds, steps=10 * rounds * (epoch + 1)), 0.5, {1: 60.0 + epoch, 5: 80.0})


def test_rows(tmp_path):
    with MetricsLogger(tmp_path, tensorboard=False) as watch:
        watch.start(Progress())
        watch.round(Progress(0, 1, 7), 0, {"loss": 0.25, "seconds_mining": 3.0})
        watch.epoch(Progress(0, 1, 7, best_r5=80.0, best_epoch=0), 0.25, {1: 60.0, 5: 80.0})
    assert rows(tmp_path) == [
        {"epoch": 0, "round": 0, "steps": 7, "loss": 0.25, "seconds_mining": 3.0},
        {
            "epoch": 0,
            "steps": 7,
            "loss": 0.25,
            "recalls": {"1": 60.0, "5": 80.0},
            "best_r5": 80.0,
            "not_improved_num": 0,
        },
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("position", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)])
def test_going_on_from_any_position_gives_the_uninterrupted_rows(tmp_path, position):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        folder.mkdir()
        with MetricsLogger(folder, tensorboard=False) as watch:
            watch.start(Progress())
            write(watch, 2)
    with (resumed / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 0, "rou')  # killed while writing
    with MetricsLogger(resumed, tensorboard=False) as watch:
        watch.start(Progress(*position))
        write(watch, 2, start=position)
    assert rows(resumed) == rows(whole)


def test_rewind_drops_what_is_no_row(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"epoch": 0, "round": 0}\n[]\nx\n{"a": 1}\n{"epoch": null}\n{"epoch": 0}\n{"epoch": 0, "round": 1}'
    )
    rewind(path, Progress(1, 0))
    assert path.read_text() == '{"epoch": 0, "round": 0}\n{"epoch": 0}\n'
    rewind(tmp_path / "absent.jsonl", Progress())
    assert not (tmp_path / "absent.jsonl").exists()


def test_tensorboard_has_every_value_once(tmp_path):
    with MetricsLogger(tmp_path) as watch:
        watch.start(Progress())
        write(watch, 2)
    time.sleep(1.1)  # event files sort by the second they were opened in
    with MetricsLogger(tmp_path) as watch:
        watch.start(Progress(1, 1, steps=30))
        write(watch, 3, start=(1, 1))

    def scalars(name, tag):
        events = EventAccumulator(str(tmp_path / "tensorboard" / name))
        events.Reload()
        return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]

    assert scalars("train", "loss") == [(10 * n, 0.1 * n) for n in range(1, 7)]
    assert scalars("val", "R@1") == [(epoch, 60.0 + epoch) for epoch in range(3)]
    assert scalars("val", "R@5") == [(epoch, 80.0) for epoch in range(3)]
