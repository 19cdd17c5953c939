"""faiss is asked for where it is needed, and does not talk."""

import os
import sys

import pytest

from vgbench.errors import UserError
from vgbench.retrieval.searching.faiss_library import load_faiss, silenced


def test_without_faiss_the_option_that_wants_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"--index: faiss cannot be imported .* install one, or use --index exact"):
        load_faiss("--index")


def test_what_c_prints_is_not_seen_and_what_comes_after_is(capfd):
    with silenced():
        os.write(1, b"chatter")
    print("said", flush=True)
    assert capfd.readouterr().out == "said\n"
