"""Check a method's options against the signature that declares them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vgbench.arguments import parameters_of
from vgbench.errors import UserError, did_you_mean


def own_options(method: Callable[..., Any]) -> list[str]:
    """Return the names of the options that a method's class or factory declares: its keyword-only parameters."""
    parameters = inspect.signature(method).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


def check_known(what: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise UserError if one of the names `given` is not `known`; `what` is the method in words."""
    for name in given:
        if name not in known:
            expected = ", ".join(known) or "(it has none)"
            raise UserError(f"{what}: no option {name!r}.{did_you_mean(name, known)} Expected one of: {expected}")


def call_checked(what: str, method: Callable[..., Any], positional: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Call `method(*positional, **options)` once its options are known to be its own.

    Args:
        what: the method in words, for the message.

    Raises:
        UserError: an option that the method does not have, or a missing one that it needs.
    """
    parameters = parameters_of(method)
    known = list(parameters)[len(positional) :]
    check_known(what, options, known)
    for name in known:
        if parameters[name].default is inspect.Parameter.empty and name not in options:
            raise UserError(f"{what}: its option {name!r} is missing. Expected {', '.join(known)}")
    try:
        inspect.signature(method).bind(*positional, **options)
    except TypeError as error:
        raise UserError(f"{what}: {error}. Expected ({len(positional)} value(s), then options by keyword)") from error
    return method(*positional, **options)
