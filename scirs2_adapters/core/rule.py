"""The declaration of an optimizer: fields, coefficients, formula. Everything else in this package is derived from it.

A rule says only what is its own: `update` returns the step `u` to subtract and the new slots. L2 and decoupled weight
decay and `maximize` are the same for all and applied here, decay as `p - (lr*wd*p + u)`: one subtraction from p. The
usual form, p times `1 - lr*wd`, rounds the factor to the parameter's precision and drifts by 18 times what float32
storage costs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from .document import document, numpy_example
from .errors import bad_type, bad_value
from .fields import Field, flag, nonnegative, rate
from .match import conventions
from .routing import Routed
from .slots import Extent, Leaf, Slot, refusal
from .synonyms import unknown_argument

Scalars = Mapping[str, Any]


class Rule(Routed):
    """Base of all optimizers. Subclasses are final: to vary one, change a field, add a `matches` row, or wrap it."""

    learning_rate = rate(1e-3)
    weight_decay = nonnegative(0.0, "weight decay")
    maximize = flag(False, "ascend instead of descend")

    #: The framework whose formula was asked for, or None for the default one.
    match: str | None

    name: ClassVar[str]
    fields: ClassVar[dict[str, Field]]
    #: The docstring as its author wrote it, before the arguments are put in.
    text: ClassVar[str | None]
    #: Arguments besides the fields, explained in `document.OPTIONS`.
    options: ClassVar[tuple[str, ...]] = ("match",)
    #: Traits: constants of a formula that `class Name(Rule, trait=...)` or a row of `matches` sets.
    #: Where weight decay acts: "l2" into the gradient, "decoupled" times the learning rate, "absolute" not, "before" as
    #: "decoupled" but on the parameter that `update` sees, which matters to one that measures it, "inside" `update`.
    decay: str = "decoupled"
    #: What `coefficients` needs to know of time: "step", "first" (only whether it is the first step) or "none".
    time_dependence: str = "step"
    #: Where eps is added: "outside" the root, "inside" it, or "hat", outside the root of an uncorrected moment.
    eps_place: str = "outside"
    #: Whether a momentum buffer holds steps already multiplied by the learning rate.
    lr_in_buffer: bool = False
    #: Whether AMSGrad takes the largest corrected moment instead of the largest raw one.
    max_corrected: bool = False
    #: Whether square, absolute value and sign of a complex number are its modulus's or its parts'; None: it takes none.
    moduli: bool | None = False
    #: The field that says how large first steps are, of a rule that learns from where they have led.
    first_step: str = ""
    #: How it takes a gradient of which only some rows are given: "exact", as if the others were zeros; "rows", where it
    #: steps those rows alone and takes no other gradient; None not at all. Only elementwise formulas take any.
    sparse: str | None = None
    #: Whether a step evaluates the model itself and so needs a closure: the rules in `closures/`.
    needs_closure: bool = False
    #: For each framework with an optimizer of this name, the defaults and traits that give its formula.
    matches: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init_subclass__(cls, **traits: Any) -> None:
        for trait, value in traits.items():
            setattr(cls, trait, value)
        cls.fields = cls._declared()
        cls.name = cls.__name__.lower()
        cls.__signature__ = cls.signature()  # type: ignore[attr-defined]
        cls.text = vars(cls).get("__doc__")
        if hasattr(cls, "update") or hasattr(cls, "wrap") or cls.needs_closure:
            cls.__doc__ = document(cls.text, cls.fields, numpy_example(cls), also=cls.options)

    @classmethod
    def _declared(cls) -> dict[str, Field]:
        """The fields of the class and its bases: the learning rate first, decay and direction last."""
        found: dict[str, Field] = {}
        for base in reversed(cls.__mro__):
            found |= {k: v for k, v in vars(base).items() if isinstance(v, Field)}
        last = ("weight_decay", "maximize")
        order = ["learning_rate", *(k for k in found if k not in ("learning_rate", *last)), *last]
        return {k: found[k] for k in order}

    @classmethod
    def signature(cls) -> inspect.Signature:
        """The constructor's signature, made from the fields."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        fields = [inspect.Parameter(k, kind, default=f.default, annotation=f.kind) for k, f in cls.fields.items()]
        match = inspect.Parameter("match", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=str | None)
        return inspect.Signature([*fields, match])

    def __init__(self, *args: Any, match: str | None = None, **hyper: Any) -> None:
        call = type(self).__name__
        if len(args) > len(self.fields):
            raise TypeError(f"`{call}` takes at most {len(self.fields)} arguments. Received: {len(args)}.")
        positional = dict(zip(self.fields, args, strict=False))
        if twice := positional.keys() & hyper.keys():
            raise TypeError(f"`{call}({min(twice)}=...)` was given twice, by position and by name.")
        self._fill(positional | hyper, match, str, call)

    @classmethod
    def build(
        cls, hyper: Scalars, *, match: str | None = None, spell: Callable[[str], str] = str, call: str = ""
    ) -> Self:
        """A rule from core names; errors spell the arguments as the adapter's user typed them."""
        new = object.__new__(cls)
        new._fill(hyper, match, spell, call or cls.__name__)
        return new

    @classmethod
    def fields_with(cls, base: Any = None) -> dict[str, Field]:
        """The fields of this rule; a wrapper adds those of its base, given by name, class or rule."""
        del base
        return cls.fields

    def _fill(self, hyper: Scalars, match: str | None, spell: Callable[[str], str], call: str) -> None:
        overrides = self._match_row(match, call)
        if unknown := hyper.keys() - self.fields.keys():
            spelled = {k: spell(k) for k in self.fields}
            raise unknown_argument(call, min(unknown), self.name, spelled, spelled.values())
        values = {k: f.default for k, f in self.fields.items()} | overrides | dict(hyper)
        for key, field in self.fields.items():
            values[key] = field.check(call, spell(key), values[key])
        vars(self).update(values, match=match)
        self.check(spell, call)

    def _match_row(self, match: str | None, call: str) -> dict[str, Any]:
        if match is None:
            return {}
        if not isinstance(match, str) or match not in self.matches:
            known = ", ".join(map(repr, self.matches)) or "none: no framework has this optimizer"
            raise bad_value(
                call, "match", f"must be None or one of the frameworks that have {self.name} ({known})", match
            )
        return conventions(match, self.fields) | self.matches[match]

    def check(self, spell: Callable[[str], str], call: str) -> None:
        """Refuse combinations of values; the rule overrides it where it has any."""

    # -- the three parts a rule states

    def coefficients(self, math: Any, t: Any) -> Scalars:
        """Scalars of step `t` (from 1), in float64 on the host; `math` holds sqrt, exp, log, expm1, maximum, minimum,
        where.
        """
        raise bad_type(type(self).__name__, "coefficients", "must be defined by the rule", None)

    update: Callable[..., Any]

    def refuses(self, leaf: Leaf) -> str | None:
        """What a parameter must be that this one is not, or None."""
        return refusal(leaf, self.moduli, getattr(self, self.first_step, None))

    # -- derived

    @classmethod
    @functools.cache
    def _signature(cls) -> tuple[tuple[Slot, ...], tuple[str, ...]]:
        return cls._roles(cls.update, 4)

    @staticmethod
    def _roles(formula: Callable[..., Any], skip: int) -> tuple[tuple[Slot, ...], tuple[str, ...]]:
        """Slots and names of coefficients, read from a formula's signature: arrays before `/`, scalars after."""
        parameters = list(inspect.signature(formula).parameters.values())[skip:]
        slots, scalars = [], []
        for p in parameters:
            if p.kind is inspect.Parameter.POSITIONAL_ONLY:
                mark = p.annotation if isinstance(p.annotation, Slot) else Slot()
                slots.append(Slot(**vars(mark) | {"name": p.name}))
            else:
                scalars.append(p.name)
        return tuple(slots), tuple(scalars)

    def all_slots(self) -> tuple[Slot, ...]:
        """Every slot the rule may have, in the order of its formula."""
        return self._signature()[0]

    def slots(self, leaf: Leaf) -> tuple[Slot, ...]:
        """The slots this rule keeps for this parameter."""
        return tuple(
            s.along(self.axes(leaf)) for s in self.all_slots() if not s.present_if or self._wants(s.present_if, leaf)
        )

    def _wants(self, present_if: str, leaf: Leaf) -> bool:
        if present_if in self.fields:
            return self.fields[present_if].present(getattr(self, present_if))
        return bool(getattr(self, present_if)(leaf))

    def scalars(self, math: Any, t: Any) -> dict[str, Any]:
        """All scalars of step `t`: the rule's own, its fields under their names, and those of weight decay."""
        own = {"zero": 0.0, "one": 1.0} | {k: getattr(self, k) for k in self.fields} | dict(self.coefficients(math, t))
        if self.decay == "l2":
            own["l2"] = self.weight_decay
        elif self.decay != "inside":
            own["decay"] = self.weight_decay * (1.0 if self.decay == "absolute" else self.learning_rate)
        return own

    def apply(self, xp: Any, p: Any, g: Any, slots: dict[str, Any], scalars: Scalars) -> tuple[Any, dict[str, Any]]:
        """One step of one parameter: the new parameter and the new slots."""
        if self.maximize:
            g = -g
        if self.decay == "l2":
            g = g + scalars["l2"] * p
        if self.decay == "before":
            p = p - scalars["decay"] * p
        declared, names = self._signature()
        given = (slots.get(s.name) for s in declared)
        result = self.update(xp, p, g, *given, **{n: scalars[n] for n in names})
        u, *new = result if isinstance(result, tuple) else (result,)
        if len(new) != len(declared):
            wanted = ", ".join(s.name for s in declared)
            raise TypeError(f"`{self.name}.update` must return the step, then a new value for each slot: {wanted}.")
        if self.decay in ("decoupled", "absolute"):
            u = scalars["decay"] * p + u
        return p - u, {s.name: value for s, value in zip(declared, new, strict=True) if s.name in slots}

    def kernel_key(self) -> tuple[Any, ...]:
        """What a compiled kernel depends on besides dtypes: the class, its traits, static values, which slots exist."""
        return (*self._structure(self.fields), getattr(self, "match", None))

    def _structure(self, fields: Mapping[str, Field]) -> tuple[Any, ...]:
        values = ((f, getattr(self, k)) for k, f in fields.items() if f.static or f.structural)
        return (type(self), *(value if f.static else f.present(value) for f, value in values))

    def model_slots(self) -> tuple[Slot, ...]:
        """The slots that are one number for all parameters together."""
        return tuple(s for s in self.all_slots() if s.extent is Extent.MODEL)

    # -- the value semantics of a rule

    def get_config(self) -> dict[str, Any]:
        """Every hyperparameter by name, `match` included: `type(rule)(**rule.get_config())` is an equal rule."""
        return {k: getattr(self, k) for k in self.fields} | {"match": self.match}

    def replace(self, **changes: Any) -> Self:
        """A rule with some hyperparameters changed, checked again."""
        config = self.get_config() | changes
        return type(self)(**config)

    def replace_unchecked(self, values: Scalars) -> Self:
        """The same rule with other values, unchecked: for what schedules and users change while it runs."""
        new = object.__new__(type(self))
        vars(new).update(vars(self) | dict(values))
        return new

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn's estimators have it, so that `optimizer__learning_rate` can be searched."""
        del deep
        return self.get_config()

    def set_params(self, **params: Any) -> Self:
        """As scikit-learn's estimators have it, but for a changed copy: others may hold this rule, and its hash."""
        return self.replace(**params)

    def __setattr__(self, key: str, value: Any) -> None:
        raise AttributeError(
            f"`{type(self).__name__}.{key}` cannot be assigned: rules are values. Use `rule.replace({key}={value!r})`."
        )

    def __delattr__(self, key: str) -> None:
        raise AttributeError(f"`{type(self).__name__}.{key}` cannot be deleted: rules are values.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and type(other) is type(self) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash((type(self), *self.get_config().items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **self.get_config()), ()

    def __repr__(self) -> str:
        config = {k: v for k, v in self.get_config().items() if k != "match" or v is not None}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in config.items())})"
