"""Name -> object tables, resolved lazily, open to a user's own `package.module:Name`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

from vgbench.arguments import parameters_of, read_arguments_of_several
from vgbench.errors import UserError, did_you_mean, in_short

# What is imported is a name, and nothing that a file system would make something else of.
_OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


class Registry:
    """The table of one kind of part: one line per part.

    Args:
        kind: what the entries are, for messages ("aggregation", "loss", ...).
        entries: name -> "package.module:Name". A module is imported when its entry is first asked for, so that an
            optional dependency is needed only by whoever uses it, and naming the entries imports none.
        positional: how many parameters of an entry, from the first, the caller fills in by their place.
        named: those that it fills in by their names.
        method: of an entry's class, the method that has the keywords; the class itself if there is none.
        closed: whether a user's own `package.module:Name` has no place here.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, str],
        *,
        positional: int = 0,
        named: Collection[str] = (),
        method: str = "",
        closed: bool = False,
    ) -> None:
        self.kind = kind
        self.closed = closed
        self.positional, self.named, self.method = positional, tuple(named), method
        self._entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def families(self) -> list[str]:
        """Return the names with those of one family (the same first letters) cut to its first and last."""
        families: dict[str, list[str]] = {}
        for name in self:
            families.setdefault(re.match(r"[a-z]*", name)[0], []).append(name)  # type: ignore[index]
        shown = [names if len(names) < 2 else [f"{names[0]} ... {names[-1]}"] for names in families.values()]
        return [name for names in shown for name in names] if len(list(self)) > 20 else list(self)

    def unknown(self, name: str) -> str:
        """Return what to say where no part can have this name, "" where one has or is the user's own.

        Nothing is imported.
        """
        if name in self or (_OWN.fullmatch(name) and not self.closed):
            return ""
        known = list(self)
        hint = did_you_mean(name, known)
        own = "" if self.closed else "; or your own as package.module:Name"
        return f"{self.kind} {name!r} is not known.{hint} Known: {', '.join(known)}{own}"

    def is_own(self, name: str) -> bool:
        """Whether a name is a user's own `package.module:Name`, which importing runs."""
        return ":" in name and name not in self

    def filled_in(self, target: Callable[..., Any]) -> tuple[str, ...]:
        """Return the parameters of an entry that the caller fills in, so that they are no keywords of a user's."""
        return (*list(parameters_of(target))[: self.positional], *self.named)

    def keywords(self, option: str, name: str, words: Sequence[str] | None) -> dict[str, Any]:
        """Return what `--<option>_args` says to the part `name`; raises UserError as `keywords_of_each`."""
        return self.keywords_of_each(option, (name,), words)[name] if words else {}

    def keywords_of_each(
        self, option: str, names: Sequence[str], words: Sequence[str] | None
    ) -> dict[str, dict[str, Any]]:
        """Share out `name=value` words among the parts that one option names.

        Args:
            option: the option's name, without dashes.
            names: of the parts.
            words: of `--<option>_args`, None where it is unset.

        Raises:
            UserError: no part has such a keyword, or its value is of another type than the part's signature says.
        """
        if not words:
            return {name: {} for name in names}
        targets = {name: self._with_keywords(name) for name in names}
        parts = {name: (target, self.filled_in(target)) for name, target in targets.items()}
        return read_arguments_of_several(f"--{option}", parts, words)

    def _with_keywords(self, name: str) -> Callable[..., Any]:
        """Return what has the keywords of an entry."""
        target = self.resolve(name)
        found = getattr(target, self.method, None) if self.method else target
        if not callable(found):
            raise UserError(f"{self.kind} {name!r}: is no class or function. Expected package.module:Class")
        return cast(Callable[..., Any], found)

    def resolve(self, name: str) -> Any:
        """Return the object that `name` stands for; raises UserError if there is none."""
        known = self._entries.get(name, "")
        if not known and (problem := self.unknown(name)):
            raise UserError(problem)
        module_name, _, attribute = (known or name).partition(":")
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # somebody else's module may fail in any way
            if isinstance(error, UserError) or (name in self._entries and not isinstance(error, ImportError)):
                raise
            raise UserError(f"{self.kind} {name!r}: cannot import {module_name} ({in_short(error)})") from error
        try:
            return getattr(module, attribute)
        except AttributeError as error:
            raise UserError(f"{self.kind} {name!r}: module {module_name} has no {attribute}") from error
