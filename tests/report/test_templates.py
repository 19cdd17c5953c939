"""Whatever a template is given is text, unless this package made it."""

import pytest
from jinja2 import UndefinedError

from vgbench.report.templates import as_html, section


def test_text_is_escaped_and_drawings_are_not():
    page = section("training", charts=["<script>", as_html("<svg/>")])
    assert "&lt;script&gt;" in page and "<svg/>" in page and "<script>" not in page


def test_what_is_forgotten_is_an_error_and_not_a_gap():
    with pytest.raises(UndefinedError):
        section("recall", threshold="25 m")
