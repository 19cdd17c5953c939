"""Build a method that a registry names from the options that its constructor asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vgbench.arguments import parameters_of
from vgbench.errors import UserError
from vgbench.registry import Registry


def construct(
    registry: Registry, option: str, name: str, options: object, words: Sequence[str] | None, **given: Any
) -> Any:
    """Return `registry[name](...)`, each parameter from `--<option>_args`, `given`, or the option of the same name.

    So a user's own loss or miner gets any training option by naming it in its constructor, and needs no other wiring.

    Args:
        option: the option that named it.
        options: of training.
        words: "name=value" of `--<option>_args`.
        given: what the caller fills in.

    Raises:
        UserError: the name is not known, or its constructor asks for something that is no option.
    """
    factory = registry.resolve(name)
    if not callable(factory):
        raise UserError(f"{registry.kind} {name!r}: is no class or function. Expected package.module:Class")
    arguments = registry.keywords(option, name, words)
    for parameter in parameters_of(factory).values():
        if parameter.name in arguments:
            continue
        if parameter.name in given:
            arguments[parameter.name] = given[parameter.name]
        elif hasattr(options, parameter.name):
            arguments[parameter.name] = getattr(options, parameter.name)
        elif parameter.default is parameter.empty:
            known = ", ".join([*given, *getattr(options, "__dataclass_fields__", {})])
            raise UserError(
                f"{registry.kind} {name!r}: its constructor asks for {parameter.name!r}. Expected any of: {known}; or "
                f"--{option}_args {parameter.name}=<value>"
            )
    return factory(**arguments)
