"""Optimizers around optimizers: a wrapper sees the parameter that its base has stepped, and keeps slots of its own
beside the base's.

The base's hyperparameters are the wrapper's too, under the same names, so that a schedule that rewrites the learning
rate, a parameter group or a config needs to know nothing of the nesting.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import ClassVar, Self

from .argument_names import ArgumentNames, Spell, Values, signature
from .declaration import numbers_of
from .errors import bad_type
from .fields import Field, Value
from .matrix import Matrix
from .ops import Array, Scalar, Scalars
from .registry import get, is_listed
from .rule import Rule
from .slots import Axes, Leaf, Slot
from .synonyms import unknown_argument

_BASE = "must be the name of an optimizer that wraps no other nor needs a closure, or such a rule as AdamW()"


class Wrapper(Rule):
    """A rule made of another. Subclasses state `wrap_coefficients` and `wrap`, which returns the new parameter and
    slots.
    """

    base: Rule
    default_base: ClassVar[str] = "adamw"
    #: The formula for one array: `wrap(self, xp, p, *slots, /, *coefficients)`.
    wrap: Callable[..., tuple[Array, ...]]
    options: ClassVar[tuple[str, ...]] = ("base", "match")

    @classmethod
    def _declared(cls) -> dict[str, Field]:
        return {k: f for k, f in super()._declared().items() if k not in vars(Rule)}

    @classmethod
    def _constructor(cls) -> inspect.Signature:
        order = ("base", *cls.fields)
        return signature(cls.fields, ArgumentNames(), order=order, options={}, base=cls.default_base)

    def _fill(self, values: Values, match: str | None, spell: Spell, call: str) -> None:
        names = type(self).fields
        base_values = {k: v for k, v in values.items() if k not in (*names, "base", "match")}
        base = self._base(values.get("base"), call)
        for key, field in names.items():
            vars(self)[key] = field.check(call, spell(key), values.get(key, field.default))
        if unknown := base_values.keys() - base.fields.keys():
            spelled = {k: spell(k) for k in (*names, *base.fields)} | {"base": "base"}
            raise unknown_argument(call, min(unknown), self.name, spelled, spelled.values())
        if isinstance(base, Rule):
            changes = base_values | ({"match": match} if match or "match" in values else {})
            base = base.replace(**changes) if changes else base
        else:
            base = base.build(base_values, match=match, spell=spell, call=call)
        # taken over are the hyperparameters of the base, and those of its traits that are the same around it
        vars(self).update({k: getattr(base, k) for k in base.fields})
        vars(self).update(base=base, match=base.match, fields={**type(self).fields, **base.fields})
        sparse = base.sparse if base.sparse == "exact" else None
        vars(self).update(decay="inside", time_dependence="step", sparse=sparse, moduli=base.moduli)
        self.check(spell, call)

    @classmethod
    def fields_with(cls, base: object = None) -> dict[str, Field]:
        return {**cls.fields, **cls._base(base, cls.__name__).fields}

    @classmethod
    def _base(cls, base: object, call: str) -> Rule | type[Rule]:
        """The class or rule meant by `base`, or the default one for None. One wrapper in another would have the slots
        of both under one name.
        """
        base = cls.default_base if base is None else base
        base = get(base) if isinstance(base, str) else base
        kind = base if isinstance(base, type) else type(base)
        if not issubclass(kind, Rule) or issubclass(kind, Wrapper) or kind.needs_closure:
            raise bad_type(call, "base", _BASE, base)
        return base  # type: ignore[return-value]  # by `kind`

    def wrap_coefficients(self, math: SimpleNamespace, t: Scalar) -> Scalars:
        """The scalars of `wrap` at step `t`."""
        raise bad_type(type(self).__name__, "wrap_coefficients", "must be defined by the wrapper", None)

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
        return type(self)(self.base.other(), **{k: getattr(self, k) for k in type(self).fields})

    def misfit(self, leaf: Leaf) -> str:
        return self.base.misfit(leaf)

    def unwanted(self, leaf: Leaf) -> str:
        return self.base.unwanted(leaf)

    def doubts(self, leaves: Sequence[Leaf]) -> list[str]:
        return self.base.doubts(leaves)

    def view(self, leaf: Leaf) -> Matrix | None:
        return self.base.view(leaf)

    def all_slots(self) -> tuple[Slot, ...]:
        return (*self.base.all_slots(), *self.roles("wrap")[0])

    def _wants(self, present_if: str, leaf: Leaf) -> bool:
        own = present_if in type(self).fields or hasattr(type(self), present_if)
        return super()._wants(present_if, leaf) if own else self.base._wants(present_if, leaf)

    def scalars(self, math: SimpleNamespace, t: Scalar) -> dict[str, Scalar]:
        return {**self.base.scalars(math, t), **numbers_of(self, self.wrap_coefficients, math, t)}

    def refuses(self, leaf: Leaf) -> str | None:
        return self.base.refuses(leaf)

    def axes(self, leaf: Leaf) -> Axes:
        return self.base.axes(leaf)

    def leaf_coefficients(self, leaf: Leaf) -> Scalars:
        return self.base.leaf_coefficients(leaf)

    def apply(
        self, xp: Array, p: Array, g: Array, slots: Mapping[str, Array], scalars: Scalars
    ) -> tuple[Array, dict[str, Array]]:
        names = {s.name for s in self.roles("wrap")[0]}
        p, base_slots = self.base.apply(xp, p, g, {k: v for k, v in slots.items() if k not in names}, scalars)
        p, new = self._evaluate("wrap", xp, (p,), slots, scalars)
        return p, base_slots | new

    def kernel_key(self) -> tuple[object, ...]:
        return (*self._structure(type(self).fields), self.base.kernel_key())

    def get_config(self) -> dict[str, Value]:
        own = {k: getattr(self, k) for k in type(self).fields}
        base = type(self.base)
        named = is_listed(base)  # type: ignore[arg-type]  # classes are hashable
        return {"base": base.name if named else base, **own, **self.base.get_config()}

    def replace(self, **changes: Value) -> Self:
        """A wrapper with its own or its base's hyperparameters changed; a new `base` brings its own."""
        own = {k: changes.pop(k, getattr(self, k)) for k in type(self).fields}
        base = changes.pop("base", None)
        return type(self)(self.base if base in (None, self.base.name, type(self.base)) else base, **own, **changes)

    def replace_unchecked(self, values: Values) -> Self:
        """The same wrapper with other values of its own or its base's fields, unchecked."""
        new = super().replace_unchecked(values)
        vars(new)["base"] = self.base.replace_unchecked({k: v for k, v in values.items() if k in self.base.fields})
        return new
