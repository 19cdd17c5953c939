"""What is left of a run."""

import logging

from tiny_training import run_tiny

from vgbench.training.remaining import Remaining


def test_left_by_the_pace_since_the_start():
    now = [100.0]
    remaining = Remaining(10, 2.5, clock=lambda: now[0])
    assert remaining.seconds(2.5) is None and remaining.text(2.5) == "8 epochs"
    now[0] += 60.0
    assert remaining.seconds(3.0) == 60 / 0.5 * 7
    assert remaining.text(3.0) == "at most 0:14:00 for 7 epochs"
    now[0] += 30.0
    assert remaining.text(9.75).endswith("for 1 epoch")
    assert remaining.seconds(10) == 0 and remaining.text(10) == "nothing"


def test_each_epoch_says_what_is_left(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="vgbench"):
        run_tiny(tmp_path)
    said = [record.getMessage().partition("left: ")[2] for record in caplog.records if "left: " in record.getMessage()]
    assert [text.partition("for ")[2] for text in said] == ["2 epochs", "1 epoch", ""] and said[-1] == "nothing"
