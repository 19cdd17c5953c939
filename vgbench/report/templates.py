"""HTML from the templates of this package; whatever a template is given is text, unless it is marked as HTML."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Return a template's text with its values, each escaped if it is a plain string."""
    return _environment().get_template(template).render(**values)


def section(name: str, **values: Any) -> Markup:
    """Return what a macro of `sections.html` makes of its values, as HTML."""
    macro: Any = getattr(_environment().get_template("sections.html").module, name)
    return Markup(macro(**values))  # the macro has escaped what it was given


def as_html(text: str) -> Markup:
    """Mark text that this package made, such as SVG, as HTML that is not escaped."""
    return Markup(text)


def read(name: str) -> Markup:
    """Return a file of this folder, as it stands."""
    return Markup((_HERE / name).read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
