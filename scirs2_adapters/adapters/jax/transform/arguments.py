"""The arguments of a factory, parsed: the options of the adapter, and hyperparameters by what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from scirs2_adapters.core.argument_names import Values
from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.fields import Value, flag, is_narrow, is_number, is_traced
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import StateDtype, check_state_dtype

from ..argument_names import DTYPES, OURS, argument_names, dtype_default
from ..ops import AxisName, Number, Schedule, Tree, is_function, real
from ..state import Layout, possible_slots


class Given(np.ndarray):
    """A number of the user's that counts as traced: where it is 0 there is memory all the same, since the tree of the
    state must not follow from values.
    """


class Options(NamedTuple):
    """The arguments that every factory has. `first_moments` is optax's own argument for their dtype."""

    kernel: str
    match: str | None
    mask: Tree
    dimensions: Tree
    axis_name: AxisName
    skip_nonfinite: bool
    state_dtype: object
    first_moments: object


class Hyperparameters(NamedTuple):
    """The arguments of a rule under the core's names: schedules, values that are arrays or traced, and plain ones."""

    schedules: dict[str, Schedule]
    traced: dict[str, Number | np.ndarray]
    plain: dict[str, Value]
    base: dict[str, Value]


def parse_options(cls: type[Rule], arguments: dict[str, Value]) -> Options:
    """Takes the options out of the arguments."""
    call, names = cls.name, argument_names(cls).names
    given = {k: arguments.pop(names.get(k, k), default) for k, default in {**OURS, "dimensions": None}.items()}
    given["skip_nonfinite"] = bool(flag(False, "").check(call, "skip_nonfinite", given["skip_nonfinite"]))
    given["axis_name"] = _axis_name(call, given["axis_name"])
    default = dtype_default(cls, given["match"]) if given["state_dtype"] is None else None
    return Options(**given, first_moments=arguments.pop(DTYPES.get(call, ("",))[0], default))


def parse_hyperparameters(cls: type[Rule], arguments: dict[str, Value]) -> Hyperparameters:
    """Sorts the other arguments, by optax's names, and spells them in the core's."""
    call, names = cls.name, argument_names(cls)
    base = {"base": arguments.pop("base")} if "base" in arguments else {}
    fields = cls.fields_with(base.get("base"))
    scheduled = {names.names.get(n, n): n for n in fields if n == "weight_decay" or n.endswith("learning_rate")}
    schedules = {
        scheduled[k]: arguments.pop(k) for k in list(arguments) if k in scheduled and is_function(arguments[k])
    }
    _refuse_narrow(call, arguments)
    traced: dict[str, Number | np.ndarray] = {}
    plain: dict[str, Value] = {}
    for k, value in names.to_core(arguments, fields, call).items():
        if is_traced(value):
            traced[k] = value
        elif fields[k].structural and is_number(value) and value == 0:
            traced[k] = np.asarray(value).view(Given)
        else:
            plain[k] = tuple(value) if isinstance(value, list) else value
    return Hyperparameters(schedules, traced, plain, base)


def state_dtypes(rule: Rule, options: Options, layout: Layout) -> StateDtype:
    """The dtypes of memory, where users of JAX write dtypes and optax's names of slots, checked."""
    named = _named(options.state_dtype, layout)
    known = possible_slots(rule).values()
    check_state_dtype(rule.name, named, list(known))
    argument, *moments = DTYPES.get(rule.name, ("",))
    if options.first_moments is None:
        return named
    dtype = _floating(rule.name, argument, options.first_moments)
    of_rest = {s.name: named for s in known if s.initial is None} if isinstance(named, str) else named or {}
    return {**of_rest, **dict.fromkeys(moments, dtype)}


def _named(state_dtype: Value, layout: Layout) -> Value:
    """The dtypes by name, under the core's names of slots."""
    if not isinstance(state_dtype, Mapping):
        return _name(state_dtype)
    slots = {f: s.removeprefix("-") for p in layout.places for f, s in p.fields.items()}
    return {n if n in layout.slots else slots.get(n, n): _name(dtype) for n, dtype in state_dtype.items()}


def _refuse_narrow(call: str, values: Values) -> None:
    """Refuse what `inject_hyperparams` has rounded to 16-bit parameters' dtype: b2 is 1 then, and the step NaN."""
    for argument, value in values.items():
        if is_traced(value) and is_narrow(value):
            worded = "must be a number of 32 bits or more, for 0.999 in bfloat16 is 1"
            way_out = "Use `optax.inject_hyperparams(..., hyperparam_dtype=jnp.float32)`."
            raise bad_type(call, argument, worded, value, way_out)


def _axis_name(call: str, axis_name: object) -> AxisName:
    """The names of the mapped axes over which a rule's sums go."""
    names = tuple(axis_name) if isinstance(axis_name, list) else axis_name
    if names is None or isinstance(names, str):
        return names
    if isinstance(names, tuple) and all(isinstance(n, str) for n in names):
        return names
    raise bad_type(call, "axis_name", "must be None, the name of an axis, or a tuple of names", axis_name)


def _dtype(dtype: Value) -> np.dtype | None:
    """A dtype, or None where it is none; of an array its own, for `inject_hyperparams` calls what can be called,
    `jnp.bfloat16` with the rest.
    """
    try:
        return jnp.dtype(dtype.dtype if is_traced(dtype) else dtype)
    except TypeError:
        return None


def _name(dtype: Value) -> Value:
    """The name of a dtype; what is none stays what it is."""
    known = None if dtype is None or isinstance(dtype, str) else _dtype(dtype)
    return dtype if known is None else known.name


def _floating(call: str, argument: str, value: object) -> str:
    """The name of a floating dtype, given as JAX takes dtypes; of a complex one that of its parts."""
    dtype = _dtype(value)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        raise bad_type(call, argument, "must be None or a floating dtype", value)
    return real(dtype)
