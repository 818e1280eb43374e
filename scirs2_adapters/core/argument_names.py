"""How a framework spells the core's words: `lr` and `betas` in torch, `beta_1` in Keras, `b1` in optax.

An adapter states them as data. Signatures, the translation of arguments both ways and the spelling in error messages
follow from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self, TypeVar

from .errors import bad_type
from .fields import Field, Value, members_of
from .synonyms import unknown_argument

#: Hyperparameters by name, the core's or a framework's.
Values = Mapping[str, Value]
#: From the core's name of an argument to the one that the user of an adapter has typed.
Spell = Callable[[str], str]


class Buildable(Protocol):
    """A class that is made from hyperparameters under the core's names: a rule."""

    name: ClassVar[str]

    @classmethod
    def fields_with(cls, base: object = None) -> dict[str, Field]:
        """The fields, with those of the base that it wraps."""

    @classmethod
    def build(cls, values: Values, *, match: str | None = None, spell: Spell = str, call: str = "") -> Self:
        """One of these values."""


Built = TypeVar("Built", bound=Buildable)


@dataclass(frozen=True)
class ArgumentNames:
    """`names` maps core words to the framework's; `tuples` maps a word of the framework's to the core words it holds,
    as far as a rule has them.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    tuples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def tuples_of(self, fields: Mapping[str, Field]) -> dict[str, tuple[str, ...]]:
        """The framework's tuples for these fields, with those members that there are: the first two, and more if there
        are more. A third one that may be None stands by itself.
        """
        tuples: dict[str, tuple[str, ...]] = {}
        for word, (first, second, *more) in self.tuples.items():
            if first in fields and second in fields:
                tuples[word] = (first, second, *(m for m in more if m in fields and not fields[m].optional))
        return tuples

    def words(self, fields: Mapping[str, Field]) -> dict[str, tuple[str, int | None]]:
        """Where the framework keeps each field: its word, and the position in its tuple or None."""
        words: dict[str, tuple[str, int | None]] = {}
        for core in fields:
            words[core] = self.names.get(core, core), None
        for word, members in self.tuples_of(fields).items():
            for position, core in enumerate(members):
                words[core] = word, position
        return words

    def place(self, core: str, fields: Mapping[str, Field]) -> tuple[str, int | None]:
        """Where the framework keeps a field, or what would be one: its word, and the position in its tuple or None."""
        return self.words(fields).get(core) or (self.names.get(core, core), None)

    def spell(self, core: str, fields: Mapping[str, Field]) -> str:
        """The word as the framework's user typed it: `betas[1]`."""
        word, position = self.place(core, fields)
        return word if position is None else f"{word}[{position}]"

    def places(self, fields: Mapping[str, Field]) -> list[tuple[str, str, int | None]]:
        """Where the framework keeps each field: (core word, framework's word, position in its tuple or None)."""
        return [(core, *place) for core, place in self.words(fields).items()]

    def spelled(self, fields: Mapping[str, Field]) -> dict[str, str]:
        """The framework's word for each core word, whole where it holds several."""
        return {core: word for core, (word, _) in self.words(fields).items()}

    def parameters(self, fields: Mapping[str, Field]) -> dict[str, inspect.Parameter]:
        """The framework's parameters for these fields, in their order, with their defaults."""
        kind, result = inspect.Parameter.POSITIONAL_OR_KEYWORD, dict[str, inspect.Parameter]()
        tuples = self.tuples_of(fields)
        for (_, word, position), f in zip(self.places(fields), fields.values(), strict=True):
            default = f.default if position is None else tuple(fields[m].default for m in tuples[word])
            annotation = "tuple[float, ...]" if position is not None or isinstance(f.kind, tuple) else f.kind.__name__
            annotation = "tuple[str, ...]" if f.default == () else annotation
            annotation += " | None" if f.optional else ""
            result.setdefault(word, inspect.Parameter(word, kind, default=default, annotation=annotation))
        return result

    def to_framework(self, values: Values, fields: Mapping[str, Field]) -> dict[str, Value]:
        """Core values under the framework's words; a member of a tuple that has none has its default."""
        result, tuples = dict[str, Value](), self.tuples_of(fields)
        for core, value in values.items():
            word, position = self.place(core, fields)
            result[word] = value if position is None else tuple(values.get(m, fields[m].default) for m in tuples[word])
        return result

    def to_core(self, arguments: Values, fields: Mapping[str, Field], call: str) -> dict[str, Value]:
        """The framework's arguments, all known, under the core's words; a tuple of another length is refused."""
        back = {word: core for core, word, position in self.places(fields) if position is None}
        result, tuples = dict[str, Value](), self.tuples_of(fields)
        for word, value in arguments.items():
            if word in back:
                result[back[word]] = value
            else:
                result.update(members_by_name(call, word, value, tuples[word]))
        return result

    def rule(
        self, cls: type[Built], arguments: Values, *, match: str | None = None, call: str, also: Iterable[str] = ()
    ) -> Built:
        """A rule from the framework's arguments. What the user has not set is not passed on, so that `match` may set
        other defaults. `also` are the call's other arguments, which the user of another library's word may mean.
        """
        base = {"base": arguments["base"]} if "base" in arguments else {}
        fields = cls.fields_with(base.get("base"))
        hyper, places = {k: v for k, v in arguments.items() if k != "base"}, self.places(fields)
        known = {word for _, word, _ in places}
        if unknown := [k for k in hyper if k not in known]:
            others = (*(["base"] if hasattr(cls, "default_base") else []), *also)
            spelled = self.spelled(fields) | {k: k for k in others}
            raise unknown_argument(call, unknown[0], cls.name, spelled, [*self.parameters(fields), *others])
        typed = {core: word if place is None else f"{word}[{place}]" for core, word, place in places}
        return cls.build(base | self.to_core(hyper, fields, call), match=match, spell=typed.__getitem__, call=call)


def members_by_name(call: str, word: str, value: Value, members: Sequence[str]) -> dict[str, Value]:
    """The numbers in a tuple of a framework's, by the core's names."""
    if (numbers := members_of(value, len(members))) is None:
        raise bad_type(call, word, f"must be a tuple of {len(members)} numbers", value)
    return dict(zip(members, numbers, strict=True))


def signature(
    fields: Mapping[str, Field],
    names: ArgumentNames,
    *,
    order: Iterable[str],
    options: Values,
    first: Mapping[str, inspect.Parameter] | None = None,
    base: str | None = None,
) -> inspect.Signature:
    """A constructor's signature: `first`, the fields by the framework's names, and `options` with their defaults.

    The arguments in `order` are taken by position, in this order; all others by name only. A wrapper has the default
    optimizer inside as its `base`, and takes all other arguments of that one too.
    """
    parameter = inspect.Parameter
    arguments = dict(first or {})
    if base is not None:
        arguments["base"] = parameter("base", parameter.KEYWORD_ONLY, default=base, annotation="str | Rule")
    arguments |= names.parameters(fields)
    arguments |= {k: parameter(k, parameter.KEYWORD_ONLY, default=default) for k, default in options.items()}
    positional = [k for k in order if k in arguments]
    parameters = [arguments[k].replace(kind=parameter.POSITIONAL_OR_KEYWORD) for k in positional]
    parameters += [p.replace(kind=parameter.KEYWORD_ONLY) for k, p in arguments.items() if k not in positional]
    rest = [] if base is None else [parameter("base_hyper", parameter.VAR_KEYWORD)]
    return inspect.Signature([*parameters, *rest])


def merge_arguments(
    call: str,
    known: inspect.Signature,
    args: Sequence[Value],
    keywords: Values,
    before: tuple[str, ...] = (),
    none_is_default: Container[str] = (),
) -> dict[str, Value]:
    """The arguments of a call by name. `before` are those that the adapter has already taken off the front; None is not
    passed on for an argument in `none_is_default`.
    """
    order = [k for k, p in known.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD][len(before) :]
    if len(args) > len(order):
        after = f" after `{before[-1]}`" if before else ""
        most = f"at most {len(order)} arguments{after} by position ({', '.join(order)})"
        raise TypeError(f"`{call}` takes {most}. Received: {len(args)}.")
    by_position = dict(zip(order, args, strict=False))
    if twice := by_position.keys() & keywords.keys():
        raise TypeError(f"`{call}({min(twice)}=...)` was given twice, by position and by name.")
    return {k: v for k, v in {**by_position, **keywords}.items() if v is not None or k not in none_is_default}
