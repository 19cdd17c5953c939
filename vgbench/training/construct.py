"""Build a method that a registry names from the options that its constructor asks for."""

from __future__ import annotations

import inspect
from typing import Any

from vgbench.errors import UserError
from vgbench.registry import Registry


def construct(registry: Registry, name: str, options: object, **given: Any) -> Any:
    """Return `registry[name](...)`, each parameter taken from `given` or from the option of the same name.

    So a user's own loss or miner gets any training option by naming it in its constructor, and needs no other wiring.

    Raises:
        UserError: the name is not known, or its constructor asks for something that is no option.
    """
    factory = registry.resolve(name)
    if not callable(factory):
        raise UserError(f"{registry.kind} {name!r}: is no class or function. Expected package.module:Class")
    arguments: dict[str, Any] = {}
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in given:
            arguments[parameter.name] = given[parameter.name]
        elif hasattr(options, parameter.name):
            arguments[parameter.name] = getattr(options, parameter.name)
        elif parameter.default is parameter.empty:
            known = ", ".join([*given, *getattr(options, "__dataclass_fields__", {})])
            raise UserError(
                f"{registry.kind} {name!r}: its constructor asks for {parameter.name!r}. Expected any of: {known}"
            )
    return factory(**arguments)
