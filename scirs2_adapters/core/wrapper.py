"""Optimizers around optimizers: a wrapper changes the gradient that its base sees or the step that its base takes, or
sees the parameter that its base has stepped, and keeps slots beside those of the base.

The base's hyperparameters are the wrapper's too, under the same names, so that a schedule that rewrites the learning
rate, a parameter group or a config needs to know nothing of the nesting.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar, Self

from .argument_names import ArgumentNames, Spell, Values, signature
from .declaration import numbers_of
from .errors import ArgumentValueError, bad_type, bad_value
from .fields import Field, Value
from .matrix import Axes, Matrix
from .ops import Array, Scalar, Scalars
from .registry import get, is_listed, names, plain, with_value
from .rule import Rule, innermost
from .slots import Leaf, Slot, each_of
from .synonyms import unknown_argument

_BASE = 'must be the name of an optimizer that needs no closure, as "lion" or "mars(lion)", or such a rule as AdamW()'
#: The formulas that a wrapper may have, in the order in which a step comes to them.
PLACES = ("wrap_gradient", "wrap_step", "wrap_update", "wrap")
#: What a wrapper may have as its base has it: one value for both.
SHARED = frozenset(("layout",))


def refuse_base(call: str, argument: str, rate: Value) -> None:
    """Refuse an optimizer in the place of the learning rate, which is the first argument in most frameworks."""
    named = isinstance(rate, str) and plain(rate.partition("(")[0]) in {*names(), *with_value()}
    if named or isinstance(rate, Rule):
        shown, written = (rate.label, rate.label) if isinstance(rate, Rule) else (rate, f'"{rate}"')
        raise bad_type(call, argument, "must be a number, and is no optimizer", shown, f"Write `base={written}`.")


class Wrapper(Rule):
    """A rule made of another. Subclasses state `wrap_coefficients` and one of the formulas below, which returns what
    takes the place of its first array, and the new slots.
    """

    base: Rule
    default_base: ClassVar[str] = "adamw"
    #: The gradient that the base sees: `wrap_gradient(self, xp, g, p, *slots, /, *coefficients)`.
    wrap_gradient: Callable[..., Array | tuple[Array, ...]]
    #: The step, weight decay in it, that is subtracted: `wrap_step(self, xp, u, p, *slots, /, *coefficients)`.
    wrap_step: Callable[..., Array | tuple[Array, ...]]
    #: The same with the gradient that the base was to see: `wrap_update(self, xp, u, p, g, *slots, /, *coefficients)`.
    wrap_update: Callable[..., Array | tuple[Array, ...]]
    #: The new parameter: `wrap(self, xp, p, *slots, /, *coefficients)`.
    wrap: Callable[..., Array | tuple[Array, ...]]
    #: Values of the base's that the wrapper stands for.
    presets: ClassVar[Values] = {}
    options: ClassVar[tuple[str, ...]] = ("base", "match")

    @classmethod
    def _declared(cls) -> dict[str, Field]:
        return {k: f for k, f in super()._declared().items() if k not in Rule.fields}

    @classmethod
    def _constructor(cls) -> inspect.Signature:
        return signature(cls.fields, ArgumentNames(), order=("base", *cls.fields), options={}, base=cls.default_base)

    @classmethod
    def _formulas(cls) -> list[str]:
        return [formula for formula in PLACES if hasattr(cls, formula)]

    def _fill(self, values: Values, match: str | None, spell: Spell, call: str) -> None:
        names = type(self).fields
        refuse_base(call, spell("learning_rate"), values.get("learning_rate"))
        base, inner = self._base(values.get("base"), call)
        for key, field in names.items():
            vars(self)[key] = field.check(call, spell(key), values.get(key, field.default))
        fields = base.fields_with(inner) if isinstance(base, type) else base.fields
        arguments = {"base", "match", *names} - (SHARED & fields.keys())
        base_values = {k: v for k, v in values.items() if k not in arguments}
        if unknown := base_values.keys() - fields.keys():
            spelled = {k: spell(k) for k in (*names, *fields)} | {"base": "base"}
            raise unknown_argument(call, min(unknown), self.name, spelled, spelled.values())
        if isinstance(base, Rule):
            changes = base_values | ({"match": match} if match or "match" in values else {})
            base = base.replace(**{**self.presets, **changes}) if changes or self.presets else base
        else:
            inside = {} if inner is None else {"base": inner}
            base = base.build({**self.presets, **inside, **base_values}, match=match, spell=spell, call=call)
        for key, value in self.presets.items():
            if getattr(base, key) != value:
                worded = f"must be {value!r}, for that is what the wrapper is"
                raise bad_value(call, spell(key), worded, getattr(base, key))
        self._take_over(base, call)
        self.check(spell, call)

    def _take_over(self, base: Rule, call: str) -> None:
        """The hyperparameters of the base, and those of its traits that are the same around it."""
        taken = {*(type(self).fields.keys() - SHARED), *(s.name for s in self._own_slots())}
        twice = taken & {*base.fields, *(s.name for s in base.all_slots())}
        swapped = isinstance(base, Wrapper) and self.evaluation is None
        way_out = f"Write `{base.name}({self.name}({base.base.label}))`." if swapped else ""  # type: ignore[attr-defined]
        for refused, worded in (
            (twice, f"that has no `{min(twice, default='')}` of its own, for there can be one"),
            (base.needs_value and self.needs_closure, "whose step does not depend on the loss, which is elsewhere"),
            (base.evaluation, "that evaluates what it trains; a wrapper of averages is the outermost"),
        ):
            if refused:
                raise bad_value(call, "base", f"must be an optimizer {worded}", base.label, way_out * (not twice))
        vars(self).update({k: getattr(base, k) for k in base.fields})
        vars(self).update(base=base, match=base.match, fields=self._with_own(base.fields), decay="inside")
        vars(self).update(time_dependence="step", sparse=base.sparse if base.sparse == "exact" else None)
        vars(self).update(needs_value=base.needs_value, by_output=base.by_output or type(self).by_output)
        vars(self).update(label=f"{self.name}({base.label})", numbered=base.numbered, moduli=base.moduli)

    @classmethod
    def fields_with(cls, base: object = None) -> dict[str, Field]:
        kind, inner = cls._base(base, cls.__name__)
        return cls._with_own(kind.fields_with(inner) if isinstance(kind, type) else kind.fields)

    @classmethod
    def _with_own(cls, fields: Mapping[str, Field]) -> dict[str, Field]:
        """The fields of the wrapper and these of its base, with the defaults that the wrapper presets."""
        preset = {k: replace(fields[k], default=value) for k, value in cls.presets.items()}
        return {**cls.fields, **fields, **preset}

    @classmethod
    def _base(cls, base: object, call: str) -> tuple[Rule | type[Rule], str | None]:
        """The class or rule meant by `base`, or the default one for None; and the base of that: "lookahead(lion)" is
        Lookahead around Lion.
        """
        received = base = cls.default_base if base is None else base
        inner = None
        if isinstance(base, str):
            nested = re.fullmatch(r"\s*([^()]+?)\s*\((.+)\)\s*", base)
            name, inner = nested.groups() if nested else (base.strip(), None)
            try:
                base = get(name)
            except ArgumentValueError as error:
                raise bad_value(call, "base", _BASE, received, str(error)) from error
        kind = base if isinstance(base, type) else type(base)
        if not issubclass(kind, Rule) or kind.needs_closure or (inner is not None and not issubclass(kind, Wrapper)):
            named = f'Write `base="{plain(kind.__name__)}"`.' * (plain(kind.__name__) in names())
            way_out = f"`{kind.__name__}` goes around no other." if inner else named
            raise bad_type(call, "base", _BASE, received, way_out)
        return base, inner  # type: ignore[return-value]  # by `kind`

    def wrap_coefficients(self, math: SimpleNamespace, t: Scalar) -> Scalars:
        """The scalars of the formulas at step `t`."""
        return {}

    @classmethod
    def needs(cls, formula: str) -> dict[str, str]:
        """The coefficients of the wrapper begin with its name: the base may have coefficients of the same name."""
        return {n: n if n in ("zero", "one", *Rule.fields) else f"{cls.name}_{n}" for n in cls.roles(formula)[1]}

    @property
    def routes(self) -> bool:
        return self.base.routes

    @property
    def looks_at_names(self) -> bool:
        return self.base.looks_at_names

    @property
    def per_parameter(self) -> bool:
        return self.base.per_parameter

    def other(self) -> Rule:
        """The wrapper around the rule that steps what its base leaves."""
        return self._around(self.base.rest())

    rest = other

    def _around(self, base: Rule) -> Self:
        """The same wrapper around a rule that is known to fit."""
        new = object.__new__(type(self))
        vars(new).update({k: getattr(self, k) for k in type(self).fields})
        new._take_over(base, type(self).__name__)
        return new

    def misfit(self, leaf: Leaf) -> str:
        return self.base.misfit(leaf)

    def unwanted(self, leaf: Leaf) -> str:
        return self.base.unwanted(leaf)

    def doubts(self, leaves: Sequence[Leaf]) -> list[str]:
        return self.base.doubts(leaves)

    def view(self, leaf: Leaf) -> Matrix | None:
        return self.base.view(leaf)

    def _own_slots(self) -> tuple[Slot, ...]:
        return each_of(self, [slot for formula in self._formulas() for slot in self.roles(formula)[0]])

    def all_slots(self) -> tuple[Slot, ...]:
        return (*self.base.all_slots(), *self._own_slots())

    def _wants(self, present_if: str, leaf: Leaf) -> bool:
        declared = present_if in type(self).fields or hasattr(type(self), present_if)
        return super()._wants(present_if, leaf) if declared else self.base._wants(present_if, leaf)

    def scalars(self, math: SimpleNamespace, t: Scalar) -> dict[str, Scalar]:
        numbers = {**{k: vars(self)[k] for k in type(self).fields}, **numbers_of(self, self.wrap_coefficients, math, t)}
        return {**self.base.scalars(math, t), **{f"{self.name}_{k}": x for k, x in numbers.items()}}

    def refuses(self, leaf: Leaf, spell: Spell = str) -> str | None:
        return self.base.refuses(leaf, spell) or super().refuses(leaf, spell)

    def axes(self, leaf: Leaf) -> Axes:
        return self.base.axes(leaf)

    def leaf_coefficients(self, leaf: Leaf) -> Scalars:
        return self.base.leaf_coefficients(leaf)

    def leaf_key(self, leaf: Leaf) -> Hashable:
        return self.base.leaf_key(leaf)

    def apply(
        self, xp: Array, p: Array, g: Array, slots: Mapping[str, Array], scalars: Scalars, around: Sequence[Rule] = ()
    ) -> tuple[Array, dict[str, Array]]:
        if not self.estimating:
            return self.base.apply(xp, p, g, slots, scalars, (*around, self))
        p, new = self.base.apply(xp, p, g, slots, scalars)  # no step: a wrapper does not see it, and forgets nothing
        return p, {s.name: scalars["one"] * slots[s.name] for s in self._own_slots() if s.name in slots} | new

    def kernel_key(self) -> tuple[object, ...]:
        return (*self._structure(type(self).fields), self.base.kernel_key())

    def get_config(self) -> dict[str, Value]:
        inside = {k: value for k, value in self.base.get_config().items() if k != "base"}
        return {"base": self._named_base(), **{k: getattr(self, k) for k in type(self).fields}, **inside}

    def _named_base(self) -> str | type[Rule] | Rule:
        """The base as a configuration has it: by name where it has one, else its class, or a wrapper itself."""
        if is_listed(type(self.base)) and is_listed(type(innermost(self))):  # type: ignore[arg-type]  # hashable
            return self.base.label
        return self.base if isinstance(self.base, Wrapper) else type(self.base)

    def replace(self, **changes: Value) -> Self:
        """A wrapper with some of its or its base's hyperparameters changed; a new `base` comes with its values."""
        values = {k: changes.pop(k, getattr(self, k)) for k in type(self).fields}
        base = changes.pop("base", None)
        return type(self)(self.base if base in (None, self.base.label, type(self.base)) else base, **values, **changes)

    def replace_unchecked(self, values: Values) -> Self:
        """The same wrapper with other values of its or its base's fields, unchecked."""
        new = super().replace_unchecked(values)
        vars(new)["base"] = self.base.replace_unchecked({k: v for k, v in values.items() if k in self.base.fields})
        return new
