"""Name -> object tables, resolved lazily, open to a user's own `package.module:Name`."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vgbench.errors import UserError

# What is imported is a name, and nothing that a file system would make something else of.
_OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


class Registry:
    """The table of one room: one line a method.

    Args:
        kind: what the entries are, for messages ("aggregation", "loss", ...).
        entries: name -> "package.module:Name". A module is imported when its entry is first asked for, so that an
            optional dependency is needed only by whoever uses it.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def resolve(self, name: str) -> Any:
        """Return the object that `name` stands for; raises UserError if there is none."""
        target = self._entries.get(name, name)
        module_name, _, attribute = target.partition(":")
        if not _OWN.fullmatch(target):
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise UserError(
                f"{self.kind} {name!r} is not known.{hint} Known: {', '.join(self._entries)}; "
                "or your own as package.module:Name"
            )
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except (ImportError, ValueError) as error:
            raise UserError(f"{self.kind} {name!r}: cannot import {module_name} ({error})") from error
        except AttributeError as error:
            raise UserError(f"{self.kind} {name!r}: module {module_name} has no {attribute}") from error
