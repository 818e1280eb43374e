"""What the class of a rule says, read and checked when the class is made. A name or value that nothing reads is an
error, because without it the rule would be another optimizer.
"""

from __future__ import annotations

import functools
import inspect
import math
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal, get_args, get_origin, get_type_hints

from .errors import bad_type, bad_value, did_you_mean
from .fields import Field, Value, is_number
from .match import CONVENTIONS, OptaxState
from .ops import Scalars
from .slots import Slot

#: The coefficient that is the loss of the step; a rule whose formula takes it needs the loss at each step.
VALUE = "value"
#: The slots of a formula and the names of the coefficients that it uses.
Roles = tuple[tuple[Slot, ...], tuple[str, ...]]
#: A rule or the class of one, which stand above this module.
RuleClass = Value
_PRESENT = (
    "a field with structural=True, or a method, that says whether the slot exists (its first value is said by "
    "`slot(initial=...)`)"
)


_hints = functools.cache(get_type_hints)


def roles_of(call: str, formula: Callable[..., object], leading: int) -> Roles:
    """What the signature of a formula says: arrays stand before `/` and coefficients after it. The first `leading`
    arrays are no slots.
    """
    parameters = list(inspect.signature(formula).parameters.values())
    arrays = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    if not arrays:
        way_out = "Slots stand before it, coefficients after it: `update(self, xp, p, g, exp_avg, /, learning_rate)`."
        raise bad_type(call, "", "must have a `/` in its signature", formula, way_out)
    for p in arrays[leading:]:
        if not isinstance(p.annotation, Slot) and p.annotation is not p.empty:
            way_out = "Leave `from __future__ import annotations` out." if isinstance(p.annotation, str) else ""
            worded = 'must have an annotation from `core/slots.py`, as `slot(initial="name of a field")`, or none'
            raise bad_type(f"{call}({p.name}: ...)", "", worded, p.annotation, way_out)
    for p in (*arrays[:leading], *parameters[len(arrays) :]):
        if isinstance(p.annotation, Slot):
            raise bad_type(f"{call}({p.name}: ...)", "", "must stand after `p` and `g` and before `/`", p.annotation)
    marks = [(p.name, p.annotation if isinstance(p.annotation, Slot) else Slot()) for p in arrays[leading:]]
    slots = tuple(Slot(**vars(mark) | {"name": name}) for name, mark in marks)
    return slots, tuple(p.name for p in parameters[len(arrays) :])


def numbers_of(rule: RuleClass, coefficients: Callable[..., Value], *args: object) -> Scalars:
    """What `coefficients` returns. The error for a field that a shared formula needs and the rule lacks names it."""
    try:
        scalars = coefficients(*args)
    except AttributeError as error:
        if not isinstance(error.obj, type(rule)):
            raise
        asks, name = traceback.extract_tb(error.__traceback__)[-1].name, error.name
        needed = f"`{asks}` needs `{name}`: a field of `{type(rule).__name__}`, or a constant such as `{name} = 0.0`"
        raise TypeError(f"{needed} in its class.{did_you_mean(str(name), rule.fields)}") from error
    if not isinstance(scalars, Mapping):
        raise bad_type(type(rule).__name__, coefficients.__name__, "must return a dict of numbers by name", scalars)
    return scalars


def check_class(cls: RuleClass, base: RuleClass, line: Iterable[str]) -> None:
    """Refuse what a subclass of `base` says of traits, fields, `matches`, slots and `optax_state` if nothing would
    read. `line` are the names in its class line.
    """
    hints, call = _hints(base), cls.__name__
    below = [c for c in reversed(cls.__mro__) if issubclass(c, base) and c is not base]
    said = {k: v for c in below for k, v in vars(c).items() if k not in hints and not hasattr(base, k) and k[0] != "_"}
    choices = {k: get_args(hint) for k, hint in hints.items() if get_origin(hint) is Literal}
    choices["first_step"] = ("", *cls.fields)
    for name in line:
        _known(f"class {call}(..., {name}=...)", name, choices, "a trait of `Rule`")
    for computed in [k for k in choices if isinstance(inspect.getattr_static(cls, k), property)]:
        del choices[computed]
    for trait in choices:
        _check_value(f"class {call}(..., {trait}=...)", getattr(cls, trait), choices[trait])
    for name in cls.fields:
        if not isinstance(value := inspect.getattr_static(cls, name), Field):
            raise bad_type(call, name, "must be declared by a kind of field, as it is in the base class", value)
    for name in [k for k, v in said.items() if isinstance(v, (list, tuple))]:
        way_out = 'Declare each number by a kind of field, as in `beta1 = fraction(0.9, "decay rate of the mean")`.'
        raise bad_type(call, name, "must not be several numbers: a field holds one", said[name], way_out)
    constants = {k: (type(v),) for k, v in said.items() if isinstance(v, (bool, int, float, str))}
    _check_matches(cls, choices | constants)
    if hasattr(cls, "update"):
        methods = [k for k, v in said.items() if inspect.isfunction(v)]
        for slot in cls.roles()[0]:
            _check_slot(f"{call}.update({slot.name}: ...)", slot, cls.fields, [*constants], methods)
        slots = [s.name for s in cls.roles()[0]]
        _check_optax_state(cls, slots)
        _check_evaluation(cls, slots)
    for formula in filter(cls.__dict__.__contains__, ("wrap_gradient", "wrap_step", "wrap_update", "wrap")):
        cls.roles(formula)


def _check_evaluation(cls: RuleClass, slots: Collection[str]) -> None:
    for slot in cls.roles("evaluation")[0] if cls.evaluation else ():
        _known(f"{cls.__name__}.evaluation({slot.name}: ...)", slot.name, slots, "a slot of `update`")


def _known(place: str, name: object, choices: Collection[str], role: str) -> None:
    if name not in choices:
        words = f"{did_you_mean(str(name), choices)} There are: {', '.join(choices) or 'none'}."
        raise TypeError(f"`{place}` names {name!r}, which must be {role}.{words}")


def _check_value(place: str, value: Value, choices: tuple[Value, ...]) -> None:
    """The value must be one of those of the trait, or of the type of a constant."""
    if isinstance(choices[0], type):
        if type(value) is not choices[0] and not (is_number(value) and choices[0] in (int, float)):
            raise bad_type(place, "", f"must be of type {choices[0].__name__}, as in the class", value)
    elif not any(type(value) is type(choice) and value == choice for choice in choices):
        way_out = did_you_mean(str(value), [c for c in choices if isinstance(c, str)])
        raise bad_value(place, "", f"must be one of {', '.join(map(repr, choices))}", value, way_out)


def _check_matches(cls: RuleClass, others: Mapping[str, tuple[Value, ...]]) -> None:
    """Each row must name a framework, and each entry a field, a trait or a constant of the class, with its value."""
    if not isinstance(cls.matches, Mapping):
        raise bad_type(cls.__name__, "matches", 'must be a dict of rows, as {"optax": {}}', cls.matches)
    for framework, row in cls.matches.items():
        _known(f"{cls.__name__}.matches", framework, CONVENTIONS, "a framework")
        place = f'{cls.__name__}.matches["{framework}"]'
        if not isinstance(row, Mapping):
            raise bad_type(place, "", "must be a dict of defaults and traits, as {}", row)
        for name, value in row.items():
            _known(place, name, (*cls.fields, *others), "a field or trait of the rule that it does not compute")
            if name in cls.fields:
                cls.fields[name].check(f'{place}["{name}"]', "", value)
            else:
                _check_value(f'{place}["{name}"]', value, others[name])


def _check_slot(place: str, slot: Slot, fields: Mapping[str, Field], constants: list[str], methods: list[str]) -> None:
    if isinstance(slot.initial, str) and slot.initial != "parameter":
        numeric = [k for k, f in fields.items() if is_number(f.default)]
        _known(place, slot.initial, (*numeric, *constants), "a field of the rule that is its first value, a number")
    elif slot.initial is not None and not isinstance(slot.initial, str):
        _check_first_number(place, slot.initial, slot.block_dtype)
    if slot.present_if is not None:
        _known(place, slot.present_if, [*(k for k, f in fields.items() if f.structural), *methods], _PRESENT)
    if slot.wide_if is not None:
        _known(place, slot.wide_if, [*fields, *methods], "a field or method of the rule")
    _check_value(f"{place} `block_dtype`", slot.block_dtype, ("int8", "uint8", None))


def _check_first_number(place: str, initial: Value, block_dtype: str | None) -> None:
    if not is_number(initial):
        raise bad_type(place, "", "must have a number or the name of a field as `initial`", initial)
    if not math.isfinite(initial):
        raise bad_value(place, "", "must have a finite number as `initial`", initial)
    if initial < 0 and block_dtype == "uint8":
        way_out = 'Leave `block_dtype="uint8"` out if the slot may be negative.'
        raise bad_value(place, "", "must have an `initial` of at least 0, as it is never negative", initial, way_out)


def _check_optax_state(cls: RuleClass, slots: list[str]) -> None:
    state, place = cls.optax_state, f"{cls.__name__}.optax_state"
    if not isinstance(state, OptaxState | None):
        raise bad_type(place, "", "must be an `OptaxState` or None", state)
    if state is None:
        return
    for slot in state.fields.values():
        _known(f"{place}.fields", slot, (*slots, "count"), "a slot of the rule, or count")
    for name in state.unless:
        _known(f"{place}.unless", name, cls.fields, "a field of the rule")
    _check_value(f"{place}.decays", state.decays, ("", "before", "after"))
