"""Keywords for a part that a registry names: `--aggregation_args p=2.5 eps=1e-6`, checked against its signature."""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vgbench.errors import UserError, did_you_mean

_WORDS = {"true": True, "on": True, "false": False, "off": False}
_SAID = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    tuple: "a list",
    list: "a list",
}
_GATHERING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def as_words(keywords: Mapping[str, Any]) -> list[str]:
    """Return keywords that stand as a mapping in a YAML file, `{topk: 3}`, as the words of a command line: topk=3."""
    return [f"{name}={value}" for name, value in keywords.items()]


def parameters_of(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class or function by name.

    Where a class hands further keywords on (`**kwargs`), those of the classes that it derives from are its own too.
    """
    if not inspect.isclass(make):
        return _named(inspect.signature(make).parameters.values())
    found: dict[str, inspect.Parameter] = {}
    for base in inspect.getmro(make):
        # A framework's own base class declares nothing of the part.
        if "__init__" not in vars(base) or base is object or base.__module__.partition(".")[0] == "torch":
            continue
        own = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        found |= {name: value for name, value in _named(own).items() if name not in found}
        if not any(parameter.kind in _GATHERING for parameter in own):
            break
    return found or _named(inspect.signature(make).parameters.values())


def read_arguments(
    flag: str, name: str, make: Callable[..., Any], words: Sequence[str] | None, taken: Collection[str] = ()
) -> dict[str, Any]:
    """Return the keywords that `words` give to what a registry calls `name`.

    Args:
        flag: the option that named it, "--aggregation", for messages; its keywords' option ends in `_args`.
        name: as the user named it.
        make: the class or function.
        words: "name=value" each; a value is a Python literal, or else a word.
        taken: parameters that the caller itself fills in.

    Raises:
        UserError: it has no such keyword, or the value is of another type than its annotation or its default.
    """
    if not words:
        return {}
    parameters = parameters_of(make)
    own = [key for key in parameters if key not in taken]
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip()
        if not equals or key not in own:
            known = f"Expected NAME=VALUE of: {', '.join(own)}" if own else "It takes none; leave them out"
            hint = did_you_mean(key, own)
            raise UserError(f"{flag}_args {word}: {name} takes no such argument.{hint} {known}")
        if key in values:
            raise UserError(f"{flag}_args {word}: {key} is there twice. Expected each once")
        values[key] = _typed(f"{flag}_args {word}", text, _hint_of(make, parameters[key]))
    return values


def read_arguments_of_several(
    flag: str, makes: Mapping[str, tuple[Callable[..., Any], Collection[str]]], words: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """Share out the keywords of several parts that one option names: `topk=5`, or `dense.topk=5` for one of them.

    Args:
        makes: name -> (class or function, parameters that the caller fills in).

    Raises:
        UserError: as `read_arguments`; none of them has the keyword; several have it, and the word does not say which;
            there is no part.
    """
    if words and not makes:
        raise UserError(f"{flag}_args {words[0]}: does nothing without {flag}. Expected {flag} beside it; leave it out")
    found: dict[str, list[str]] = {name: [] for name in makes}
    for word in words or ():
        key = word.partition("=")[0]
        named = [name for name in makes if key.startswith(f"{name}.")]
        if named:
            found[named[0]].append(word[len(named[0]) + 1 :])
            continue
        users = [name for name, (make, taken) in makes.items() if key in parameters_of(make) and key not in taken]
        if len(users) > 1:
            raise UserError(
                f"{flag}_args {word}: {' and '.join(users)} both take {key}. Expected {users[0]}.{word} to say which"
            )
        found[users[0] if users else next(iter(makes))].append(word)
    return {name: read_arguments(flag, name, make, found[name], taken) for name, (make, taken) in makes.items()}


def _named(parameters: Iterable[inspect.Parameter]) -> dict[str, inspect.Parameter]:
    return {parameter.name: parameter for parameter in parameters if parameter.kind not in _GATHERING}


def _hint_of(make: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the type that a parameter declares, else that of its default; Any where neither says anything."""
    hint = parameter.annotation
    if isinstance(hint, str):  # annotations that are not evaluated
        declaring = next((base for base in inspect.getmro(make) if _declares(base, parameter)), None) if (
            inspect.isclass(make)
        ) else None  # fmt: skip
        function = getattr(declaring, "__init__", make) if declaring is not None else make
        try:
            hint = typing.get_type_hints(getattr(function, "func", function)).get(parameter.name, Any)
        except Exception:  # names that exist for type checkers alone
            hint = Any
    if hint is not parameter.empty:
        return hint
    kind = type(parameter.default)
    # 2 may well stand for 2.0 where nothing is annotated.
    return {bool: bool, int: float | int, float: float, str: str}.get(kind, Any)


def _declares(base: type, parameter: inspect.Parameter) -> bool:
    return "__init__" in vars(base) and parameter.name in inspect.signature(vars(base)["__init__"]).parameters


def _typed(where: str, text: str, hint: Any) -> Any:
    """Return a value read from text, as the type that a signature asks for; raises UserError where it is none."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for one in sorted(options, key=lambda kind: kind is not type(None)):
        fits, converted = _as(value, text, one)
        if fits:
            return converted
    said = " or ".join(dict.fromkeys(_said(one) for one in options if one is not type(None)))
    raise UserError(f"{where}: the value is of another type. Expected {said}")


def _as(value: Any, text: str, hint: Any) -> tuple[bool, Any]:
    """Return whether a value is of a type, and the value as that type."""
    origin = typing.get_origin(hint) or hint
    if origin is typing.Literal:
        chosen = [one for one in typing.get_args(hint) if one == value or str(one) == text]
        return bool(chosen), chosen[0] if chosen else None
    if hint is None or origin is type(None):
        return value is None or text == "null", None
    if origin is bool:
        value = _WORDS.get(text.lower(), value)
        return isinstance(value, bool), value
    if origin is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) < 1e308, float(value) if number and abs(value) < 1e308 else None
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if origin is str:
        return True, value if isinstance(value, str) else text
    if isinstance(origin, type) and issubclass(origin, Path):
        return True, Path(text)
    if origin in (tuple, list):
        return isinstance(value, tuple | list), origin(value) if isinstance(value, tuple | list) else None
    return True, value


def _said(hint: Any) -> str:
    origin = typing.get_origin(hint) or hint
    if origin is typing.Literal:
        return ", ".join(map(str, typing.get_args(hint)))
    return _SAID.get(origin, str(getattr(origin, "__name__", origin)))
