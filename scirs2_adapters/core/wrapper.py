"""Optimizers around optimizers: a wrapper sees the parameter that its base has stepped, and keeps slots of its own
beside the base's.

The base's hyperparameters are the wrapper's too, under the same names, so that a schedule that rewrites the learning
rate, a parameter group or a config needs to know nothing of the nesting.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from .errors import bad_type
from .fields import Field
from .matrix import Matrix
from .rule import Rule, Scalars
from .slots import Axes, Leaf, Slot
from .synonyms import unknown_argument


class Wrapper(Rule):
    """A rule made of another. Subclasses state `wrap_coefficients` and `wrap`, which returns the new parameter and
    slots.
    """

    base: Rule
    default_base: ClassVar[str] = "adamw"
    wrap: Callable[..., Any]
    options: ClassVar[tuple[str, ...]] = ("base", "match")

    @classmethod
    def _declared(cls) -> dict[str, Field]:
        return {k: f for k, f in super()._declared().items() if k not in Rule.__dict__}

    @classmethod
    def signature(cls) -> inspect.Signature:
        """`base`, the wrapper's own fields, and any field of the base by name."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        own = [inspect.Parameter(k, kind, default=f.default, annotation=f.kind) for k, f in cls.fields.items()]
        base = inspect.Parameter("base", kind, default=cls.default_base, annotation=str | Rule)
        hyper = inspect.Parameter("base_hyper", inspect.Parameter.VAR_KEYWORD)
        return inspect.Signature([base, *own, hyper])

    def __init__(self, base: str | Rule | None = None, *args: Any, **hyper: Any) -> None:
        own, call = type(self).fields, type(self).__name__
        if len(args) > len(own):
            raise TypeError(f"`{call}` takes at most {len(own) + 1} arguments by position. Received: {len(args) + 1}.")
        positional = dict(zip(own, args, strict=False))
        if twice := positional.keys() & hyper.keys():
            raise TypeError(f"`{call}({min(twice)}=...)` was given twice, by position and by name.")
        self._fill({"base": base} | positional | hyper, hyper.pop("match", None), str, type(self).__name__)

    def _fill(self, hyper: Scalars, match: str | None, spell: Callable[[str], str], call: str) -> None:
        given = {k: v for k, v in hyper.items() if k != "match"}
        base = given.pop("base", None)
        base = self._base(self.default_base if base is None else base, call)
        own = {k: given.pop(k) for k in list(given) if k in type(self).fields}
        for key, field in type(self).fields.items():
            vars(self)[key] = field.check(call, spell(key), own.get(key, field.default))
        if unknown := given.keys() - base.fields.keys():
            spelled = {k: spell(k) for k in (*type(self).fields, *base.fields)} | {"base": "base"}
            raise unknown_argument(call, min(unknown), self.name, spelled, spelled.values())
        if isinstance(base, Rule):
            asked = {"match": match} if match or "match" in hyper else {}
            base = base.replace(**given, **asked) if given or asked else base
        else:
            base = base.build(given, match=match, spell=spell, call=call)
        vars(self).update(base=base, match=base.match, fields={**type(self).fields, **base.fields})
        vars(self).update({k: getattr(base, k) for k in base.fields})
        vars(self).update(
            decay="inside", time_dependence="step", sparse=base.sparse if base.sparse == "exact" else None
        )
        vars(self).update(moduli=base.moduli)
        self.check(spell, call)

    @classmethod
    def fields_with(cls, base: Any = None) -> dict[str, Field]:
        return {**cls.fields, **cls._base(cls.default_base if base is None else base, cls.__name__).fields}

    @staticmethod
    def _base(base: object, call: str) -> Any:
        """The class or rule meant by `base`. One wrapper in another would have the slots of both under one name."""
        if isinstance(base, str):
            from .registry import get

            base = get(base)
        cls = base if isinstance(base, type) else type(base)
        if not issubclass(cls, Rule) or issubclass(cls, Wrapper) or cls.needs_closure:
            worded = (
                "must be the name of an optimizer that wraps no other nor needs a closure, or such a rule as AdamW()"
            )
            raise bad_type(call, "base", worded, base)
        return base

    def wrap_coefficients(self, math: Any, t: Any) -> Scalars:
        """The scalars of `wrap` at step `t`."""
        raise bad_type(type(self).__name__, "wrap_coefficients", "must be defined by the wrapper", None)

    @classmethod
    @functools.cache
    def _wrap_signature(cls) -> tuple[tuple[Slot, ...], tuple[str, ...]]:
        return cls._roles(cls.wrap, 3)

    @property
    def routes(self) -> bool:
        return self.base.routes

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
        return (*self.base.all_slots(), *self._wrap_signature()[0])

    def _wants(self, present_if: str, leaf: Leaf) -> bool:
        own = present_if in type(self).fields or hasattr(type(self), present_if)
        return super()._wants(present_if, leaf) if own else self.base._wants(present_if, leaf)

    def scalars(self, math: Any, t: Any) -> dict[str, Any]:
        return {**self.base.scalars(math, t), **self.wrap_coefficients(math, t)}

    def refuses(self, leaf: Leaf) -> str | None:
        return self.base.refuses(leaf)

    def axes(self, leaf: Leaf) -> Axes:
        return self.base.axes(leaf)

    def leaf_coefficients(self, leaf: Leaf) -> Scalars:
        return self.base.leaf_coefficients(leaf)

    def apply(self, xp: Any, p: Any, g: Any, slots: dict[str, Any], scalars: Scalars) -> tuple[Any, dict[str, Any]]:
        declared, names = self._wrap_signature()
        own = {s.name for s in declared}
        p, remembered = self.base.apply(xp, p, g, {k: v for k, v in slots.items() if k not in own}, scalars)
        p, *new = self.wrap(xp, p, *(slots.get(s.name) for s in declared), **{n: scalars[n] for n in names})
        kept = {s.name: value for s, value in zip(declared, new, strict=True) if s.name in slots}
        return p, remembered | kept

    def kernel_key(self) -> tuple[Any, ...]:
        return (*self._structure(type(self).fields), self.base.kernel_key())

    def get_config(self) -> dict[str, Any]:
        own = {k: getattr(self, k) for k in type(self).fields}
        from .registry import is_listed

        base = type(self.base)  # by name where there is one
        named = is_listed(base)  # type: ignore[arg-type]  # classes are hashable
        return {"base": base.name if named else base, **own, **self.base.get_config()}

    def replace(self, **changes: Any) -> Self:
        """A wrapper with its own or its base's hyperparameters changed; a new `base` brings its own."""
        own = {k: changes.pop(k, getattr(self, k)) for k in type(self).fields}
        base = changes.pop("base", None)
        return type(self)(self.base if base in (None, self.base.name, type(self.base)) else base, **own, **changes)

    def replace_unchecked(self, values: Scalars) -> Self:
        """The same wrapper with other values of its own or its base's fields, unchecked."""
        new = super().replace_unchecked(values)
        vars(new)["base"] = self.base.replace_unchecked({k: v for k, v in values.items() if k in self.base.fields})
        return new
