import json
import math

from vgbench.report.history import history_of, read_history


def test_epochs_rounds_and_repeats():
    history = history_of(
        [
            {"epoch": 0, "round": 0, "loss": 4.0},
            {"epoch": 0, "round": 1, "loss": 2.0},
            {"epoch": 0, "loss": 2.5, "recalls": {"1": 10.0, "5": 20.0}},
            {"epoch": 1, "round": 0, "loss": 9.0},
            {"epoch": 1, "round": 0, "loss": 1.0},
            {"epoch": 1, "round": 1, "loss": 2.0},
            {"epoch": 1, "recalls": {"1": 12.0, "5": 18.0}},
            {"epoch": 1, "recalls": {"1": 13.0, "5": 30.0}},
            {"epoch": 2, "loss": math.nan, "recalls": {"1": None, "5": 30.0}},
            {"note": "no epoch"},
        ]
    )
    assert history.loss == {0: 2.5, 1: 1.5}
    assert history.recalls == {1: {0: 10.0, 1: 13.0}, 5: {0: 20.0, 1: 30.0, 2: 30.0}}
    assert history.best_epoch() == 1
    assert history_of([]).best_epoch() is None and not history_of([])


def test_a_file_cut_short_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_history(path) == []
    path.write_text(json.dumps({"epoch": 0, "loss": 1.0}) + '\n[1]\n{"epoch": 1, "lo')
    assert read_history(path) == [{"epoch": 0, "loss": 1.0}]
