"""The hyperparameters of a rule: how they are set, checked and changed. A rule is a value: it is never changed in
place, and it compares, hashes and pickles by its configuration.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import ClassVar, Self

from .argument_names import ArgumentNames, Spell, Values, merge_arguments, signature
from .errors import bad_value
from .fields import Field, Value
from .match import CONVENTIONS
from .synonyms import unknown_argument

#: The fields of every rule that change what becomes of its step and its decay.
MODES = ("cautious", "cautious_decay", "peak_rate")


class Hyperparameters:
    """The fields of a rule and their values."""

    #: The framework whose formula was asked for, or None for the default one.
    match: str | None
    name: ClassVar[str]
    #: How a configuration names it: a wrapper with its base, as "lookahead(lion)".
    label: str
    fields: ClassVar[dict[str, Field]]
    __signature__: ClassVar[inspect.Signature]
    #: For each framework with an optimizer of this name, the defaults and traits that give its formula.
    matches: ClassVar[Mapping[str, Values]] = {}

    def __init_subclass__(cls) -> None:
        cls.fields = cls._declared()
        cls.name = cls.label = cls.__name__.lower().replace("_", "")
        cls.__signature__ = cls._constructor()
        for key, field in cls.fields.items():  # which is why none is checked when a rule is built
            field.check(cls.__name__, key, field.default)

    @classmethod
    def _declared(cls) -> dict[str, Field]:
        """The fields of the class and its bases: the learning rate first, decay and direction last."""
        declared: dict[str, Field] = {}
        for base in reversed(cls.__mro__):
            declared |= {k: v for k, v in vars(base).items() if isinstance(v, Field)}
        last = ("weight_decay", "maximize", *MODES)
        order = ["learning_rate", *(k for k in declared if k not in ("learning_rate", *last)), *last]
        return {k: declared[k] for k in order if k in declared}

    @classmethod
    def _constructor(cls) -> inspect.Signature:
        """The signature of the constructor."""
        return signature(cls.fields, ArgumentNames(), order=cls.fields, options={"match": None})

    def __init__(self, /, *args: Value, **values: Value) -> None:
        call = type(self).__name__
        values = merge_arguments(call, self.__signature__, args, values)
        self._fill(values, values.get("match"), str, call)

    @classmethod
    def build(cls, values: Values, *, match: str | None = None, spell: Spell = str, call: str = "") -> Self:
        """A rule from core names; errors spell the arguments as the adapter's user typed them."""
        new = object.__new__(cls)
        new._fill(values, match, spell, call or cls.__name__)
        return new

    @classmethod
    def fields_with(cls, base: object = None) -> dict[str, Field]:
        """The fields of this rule; a wrapper adds those of its base, which is a name, a class or a rule."""
        return cls.fields

    def _fill(self, values: Values, match: str | None, spell: Spell, call: str) -> None:
        row = self._match_row(match, call)
        if unknown := values.keys() - self.fields.keys() - {"match"}:
            spelled = {k: spell(k) for k in self.fields}
            raise unknown_argument(call, min(unknown), self.name, spelled, spelled.values())
        explicit = {k: v for k, v in values.items() if k != "match"}
        chosen = {k: f.default for k, f in self.fields.items()} | row | explicit
        for key, field in self.fields.items():
            if chosen[key] is not field.default:
                chosen[key] = field.check(call, spell(key), chosen[key])
        vars(self).update(chosen, match=match)
        self.check(spell, call)

    def _match_row(self, match: str | None, call: str) -> dict[str, Value]:
        if match is None:
            return {}
        if not isinstance(match, str) or match not in self.matches:
            known = ", ".join(map(repr, self.matches)) or "none: no framework has this optimizer"
            requirement = f"must be None or one of the frameworks that have {self.name} ({known})"
            raise bad_value(call, "match", requirement, match)
        usual = {k: v for k, v in CONVENTIONS[match].items() if k != "eps" or "eps" in self.fields}
        if getattr(type(self), "moduli", True) is None:  # no convention gives complex numbers a meaning
            usual.pop("moduli", None)
        return usual | dict(self.matches[match])

    def check(self, spell: Spell, call: str) -> None:
        """Refuse combinations of values; the rule overrides it where it has any."""

    def get_config(self) -> dict[str, Value]:
        """Every hyperparameter by name, `match` included: `type(rule)(**rule.get_config())` is an equal rule."""
        return {k: getattr(self, k) for k in self.fields} | {"match": self.match}

    def replace(self, **changes: Value) -> Self:
        """A rule with some hyperparameters changed, checked again."""
        return type(self)(**self.get_config() | changes)

    def replace_unchecked(self, values: Values) -> Self:
        """The same rule with other values, unchecked: for what schedules and users change while it runs."""
        new = object.__new__(type(self))
        vars(new).update(vars(self) | dict(values))
        return new

    def get_params(self, deep: bool = True) -> dict[str, Value]:
        """As scikit-learn's estimators have it, so that `optimizer__learning_rate` can be searched."""
        return self.get_config()

    def set_params(self, **params: Value) -> Self:
        """As scikit-learn's estimators have it, but for a changed copy: others may hold this rule, and its hash."""
        return self.replace(**params)

    def __setattr__(self, key: str, value: object) -> None:
        raise AttributeError(
            f"`{type(self).__name__}.{key}` cannot be assigned: rules are values. Use `rule.replace({key}={value!r})`."
        )

    def __delattr__(self, key: str) -> None:
        raise AttributeError(f"`{type(self).__name__}.{key}` cannot be deleted: rules are values.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hyperparameters):
            return False
        return type(other) is type(self) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash((type(self), *self.get_config().items()))

    def __reduce__(self) -> tuple[functools.partial[Self], tuple[()]]:
        return functools.partial(type(self), **self.get_config()), ()

    def __repr__(self) -> str:
        unsaid = ("match", *MODES)
        config = {k: v for k, v in self.get_config().items() if k not in unsaid or v not in (None, False)}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in config.items())})"
