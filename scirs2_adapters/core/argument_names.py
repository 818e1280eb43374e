"""How a framework spells the core's words: `lr` and `betas` in torch, `beta_1` in Keras, `b1` in optax.

An adapter states them as data. Signatures, the translation of arguments both ways and the spelling in error messages
follow from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import bad_type
from .fields import Field, members_of
from .rule import Rule
from .synonyms import unknown_argument


@dataclass(frozen=True)
class ArgumentNames:
    """`names` maps core words to the host's; `tuples` maps a host's word to the core words it holds, where a rule has
    them all.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    tuples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def _tuple_of(self, core: str, fields: Mapping[str, Field]) -> str | None:
        for host, members in self.tuples.items():
            if core in members and all(m in fields for m in members):
                return host
        return None

    def spell(self, core: str, fields: Mapping[str, Field]) -> str:
        """The word as the host's user typed it: `betas[1]`."""
        host = self._tuple_of(core, fields)
        return f"{host}[{self.tuples[host].index(core)}]" if host else self.names.get(core, core)

    def places(self, fields: Mapping[str, Field]) -> list[tuple[str, str, int | None]]:
        """Where the host keeps each field: (core word, host's word, position in the host's tuple or None)."""
        found: list[tuple[str, str, int | None]] = []
        for core in fields:
            host = self._tuple_of(core, fields)
            found.append(
                (core, host, self.tuples[host].index(core)) if host else (core, self.names.get(core, core), None)
            )
        return found

    def spelled(self, fields: Mapping[str, Field]) -> dict[str, str]:
        """The host's word for each core word, whole where it holds several."""
        return {core: host for core, host, _ in self.places(fields)}

    def parameters(self, fields: Mapping[str, Field]) -> dict[str, inspect.Parameter]:
        """The host's parameters for these fields, in their order, with their defaults."""
        kind, found = inspect.Parameter.POSITIONAL_OR_KEYWORD, dict[str, inspect.Parameter]()
        for core, f in fields.items():
            host = self._tuple_of(core, fields)
            default = tuple(fields[m].default for m in self.tuples[host]) if host else f.default
            name = host or self.names.get(core, core)
            annotation = "tuple[float, ...]" if host or isinstance(f.kind, tuple) else f.kind.__name__
            annotation += " | None" if f.optional else ""
            found.setdefault(name, inspect.Parameter(name, kind, default=default, annotation=annotation))
        return found

    def to_framework(self, values: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
        """Core values under the host's words."""
        found: dict[str, Any] = {}
        for core, value in values.items():
            host = self._tuple_of(core, fields)
            if host is None:
                found[self.names.get(core, core)] = value
            elif host not in found:
                found[host] = tuple(values[m] for m in self.tuples[host])
        return found

    def to_core(self, given: Mapping[str, Any], fields: Mapping[str, Field], call: str) -> dict[str, Any]:
        """The host's arguments, all of them known, under the core's words; a tuple of another length is refused."""
        back = {self.names.get(c, c): c for c in fields if self._tuple_of(c, fields) is None}
        found: dict[str, Any] = {}
        for host, value in given.items():
            if host in back:
                found[back[host]] = value
                continue
            found.update(zip(self.tuples[host], self.members(call, host, value), strict=True))
        return found

    def members(self, call: str, host: str, value: Any) -> tuple[Any, ...]:
        """The numbers in a tuple of the host's."""
        count = len(self.tuples[host])
        if (numbers := members_of(value, count)) is None:
            raise bad_type(call, host, f"must be a tuple of {count} numbers", value)
        return numbers

    def rule(
        self,
        cls: type[Rule],
        given: Mapping[str, Any],
        *,
        match: str | None = None,
        call: str = "",
        also: Iterable[str] = (),
    ) -> Rule:
        """A rule from the host's arguments. Only what was given is passed on, so that `match` may have its own
        defaults. `also` are the call's other arguments, which the user of another library's word may mean.
        """
        call = call or cls.__name__
        base = {"base": given["base"]} if "base" in given else {}
        fields = cls.fields_with(base.get("base"))
        hyper, known = {k: v for k, v in given.items() if k != "base"}, self.parameters(fields)
        for word in [k for k in hyper if k not in known]:
            others = (*(["base"] if hasattr(cls, "default_base") else []), *also)
            spelled = self.spelled(fields) | {k: k for k in others}
            raise unknown_argument(call, word, cls.name, spelled, [*known, *others])
        core = self.to_core(hyper, fields, call)
        return cls.build(base | core, match=match, spell=lambda name: self.spell(name, fields), call=call)


def by_name(
    call: str, known: inspect.Signature, args: Sequence[Any], given: Mapping[str, Any], before: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The arguments of a call by name. `before` are those that the adapter has already taken off the front."""
    order = [k for k, p in known.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD][len(before) :]
    if len(args) > len(order):
        after = f" after `{before[-1]}`" if before else ""
        listed = ", ".join(order)
        raise TypeError(f"`{call}` takes {len(order)} arguments{after} by position ({listed}). Received: {len(args)}.")
    placed = dict(zip(order, args, strict=False))
    if twice := placed.keys() & given.keys():
        raise TypeError(f"`{call}({min(twice)}=...)` was given twice, by position and by name.")
    return {**placed, **given}
