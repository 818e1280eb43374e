"""optax transformations made from rules: the factories, and what becomes of their arguments.

A factory keeps its numbers as they are, which may be traced, and builds nothing on a device; `inject_hyperparams`
calls one inside every update. No `from __future__ import annotations`: wrappers read the annotation of a learning rate
as an object.
"""

import functools
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters.adapters._xla.ops import AxisName, Number, is_function, real
from scirs2_adapters.core.document import document
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.fields import Field, Value, flag, is_narrow, is_number, is_traced
from scirs2_adapters.core.groups import sums, unlike
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import HALVES, StateDtype, check_path, check_rounding, check_state_dtype
from scirs2_adapters.core.wrapper import Wrapper, refuse_base

from ..argument_names import (
    DTYPES,
    OURS,
    argument_names,
    arguments_by_name,
    dtype_default,
    factory_name,
    factory_signature,
    of_matrices,
    optax_wrapper,
)
from ..state import Layout, layout, possible_slots
from .fused import explain, step
from .memory_report import memory
from .update import Hyperparameters, Options, Skipping, Update

__all__ = ["explain", "factory", "memory", "step", "transformation"]
#: Where users find what is made here.
ADAPTER = __package__.rpartition(".")[0]


class TracedNumber(np.ndarray):
    """A number of the user's that counts as traced: where it is 0 there is memory all the same, since the tree of the
    state must not follow from values.
    """


def transformation(cls: type[Rule], arguments: Mapping[str, Value]) -> optax.GradientTransformationExtraArgs:
    """The transformation of a rule with these arguments, by optax's names."""
    call, rest = factory_name(cls.name), dict(arguments)
    fields, names = cls.fields_with(rest.get("base")), argument_names(cls)
    options = _parse_options(cls, rest)
    hyper = _parse_hyperparameters(cls, rest)
    build = functools.partial(cls.build, match=options.match, spell=lambda n: names.spell(n, fields), call=call)
    rule = build(hyper.plain)
    check_path(call, options.kernel)
    check_rounding(call, options.rounding, HALVES)
    actual = build(hyper.plain | hyper.traced) if hyper.traced else rule
    values = hyper.plain | hyper.traced | hyper.schedules
    if options.mask is not None and sums(actual) and unlike(actual, actual.replace_unchecked({"weight_decay": 0.0})):
        worded = "must be None where numbers of all parameters are computed with the decay, as with these arguments"
        raise bad_value(call, names.names.get("mask", "mask"), worded, options.mask)
    place = layout(actual, values, frozenset(hyper.schedules), options.mask is not None)
    state_dtype = _state_dtypes(actual, options, place)
    place = place.with_companions(actual, state_dtype, options.rounding)
    update = Update(rule, hyper, place, options, state_dtype)
    stepping = Skipping(update) if options.skip_nonfinite else update
    return optax.GradientTransformationExtraArgs(stepping.init, stepping)


@functools.cache
def factory(name: str) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """The factory of an optimizer, with optax's argument names."""
    cls = get(name)
    called, known, names, fields = factory_name(name), factory_signature(cls), argument_names(cls), cls.fields_with()

    def make(*args: Value, **keywords: Value) -> optax.GradientTransformationExtraArgs:
        if (theirs := optax_wrapper(cls, (*args, *keywords.values()))) is not None:
            return theirs(*args, **keywords)
        if issubclass(cls, Wrapper) and args:
            refuse_base(called, next(iter(known.parameters)), args[0])
        accepted = factory_signature(cls, keywords["base"]) if keywords.get("base") is not None else known
        return transformation(cls, arguments_by_name(called, accepted, args, keywords))

    make.__name__ = make.__qualname__ = called
    make.__module__ = ADAPTER
    make.__signature__ = known  # type: ignore[attr-defined]
    moments = {"moment_dtype": DTYPES[cls.name][0]} if cls.name in DTYPES else {}
    options = ("mask", "kernel", "state_dtype", "rounding", *moments, "axis_name", "skip_nonfinite")
    also = (*cls.options, *options, *(["dimensions"] if of_matrices(cls) else []))
    spell = lambda k: moments.get(k) or names.spell(k, fields)  # noqa: E731
    make.__doc__ = document(cls.text, names.seen(fields), _example(called, cls.needs_value), spell, also)
    return make


def _example(name: str, needs_value: bool) -> list[str]:
    return [
        ">>> import jax.numpy as jnp",
        f">>> from {ADAPTER.replace('.adapters', '')} import {name}, step",
        f'>>> tx, params = {name}(), {{"w": jnp.ones(3)}}',
        f'>>> params, state = step(tx, {{"w": jnp.ones(3)}}, tx.init(params), params{", value=3.0" * needs_value})',
    ]


def _parse_options(cls: type[Rule], arguments: dict[str, Value]) -> Options:
    """Takes the options out of the arguments."""
    call, names = factory_name(cls.name), argument_names(cls).names
    options = {k: arguments.pop(names.get(k, k), default) for k, default in {**OURS, "dimensions": None}.items()}
    options["skip_nonfinite"] = bool(flag(False, "").check(call, "skip_nonfinite", options["skip_nonfinite"]))
    options["axis_name"] = _axis_name(call, options["axis_name"])
    default = dtype_default(cls, options["match"]) if options["state_dtype"] is None else None
    return Options(**options, first_moments=arguments.pop(DTYPES.get(cls.name, ("",))[0], default))


def _parse_hyperparameters(cls: type[Rule], arguments: dict[str, Value]) -> Hyperparameters:
    """Sorts the other arguments, by optax's names, and spells them in the core's."""
    call, names = factory_name(cls.name), argument_names(cls)
    plain: dict[str, Value] = {"base": arguments.pop("base")} if "base" in arguments else {}
    fields = cls.fields_with(plain.get("base"))
    scheduled = {names.names.get(n, n): n for n in fields if n == "weight_decay" or n.endswith("learning_rate")}
    functions = [k for k, value in arguments.items() if k in scheduled and is_function(value)]
    schedules = {scheduled[k]: arguments.pop(k) for k in functions}
    _refuse_schedules(call, {names.names.get(n, n): f for n, f in names.seen(fields).items()}, arguments, scheduled)
    # `inject_hyperparams` rounds its numbers to the dtype of 16-bit parameters: b2 is 1 then, and the step NaN.
    for argument, value in arguments.items():
        if is_traced(value) and is_narrow(value):
            worded = "must be a number of 32 bits or more, for 0.999 in bfloat16 is 1"
            way_out = "Use `optax.inject_hyperparams(..., hyperparam_dtype=jnp.float32)`."
            raise bad_type(call, argument, worded, value, way_out)
    traced: dict[str, Number | np.ndarray] = {}
    for k, value in names.to_core(arguments, fields, call).items():
        if is_traced(value):
            traced[k] = value
        elif fields[k].structural and is_number(value) and value == 0:
            traced[k] = np.asarray(value).view(TracedNumber)
        else:
            plain[k] = tuple(value) if isinstance(value, list) else value
    return Hyperparameters(schedules, traced, plain)


def _refuse_schedules(
    call: str, fields: Mapping[str, Field], arguments: Mapping[str, Value], scheduled: Iterable[str]
) -> None:
    """Refuse functions for arguments that take none, for those that do what is neither function nor number, and keys of
    JAX's random numbers, which are arrays without numbers.
    """
    for argument in fields.keys() & arguments.keys():
        field, value = fields[argument], arguments[argument]
        if is_function(value):
            taken = " and ".join(f"`{k}`" for k in scheduled)
            way_out = f"A function of the step count may be {taken}; for others there is `optax.inject_hyperparams`."
            raise bad_type(call, argument, field.worded, value, way_out)
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended):
            raise bad_type(call, argument, field.worded, value)
        known = is_number(value) or is_traced(value) or (value is None and field.optional)
        if argument in scheduled and not known:
            raise bad_type(call, argument, f"{field.worded}, or a function of the step count", value)


def _state_dtypes(rule: Rule, options: Options, layout: Layout) -> StateDtype:
    """The dtypes of memory, where users of JAX write dtypes and optax's names of slots, checked."""
    named = _named(options.state_dtype, layout)
    known = possible_slots(rule).values()
    check_state_dtype(factory_name(rule.name), named, list(known))
    argument, *moments = DTYPES.get(rule.name, ("",))
    if options.first_moments is None:
        return named
    dtype = _floating(factory_name(rule.name), argument, options.first_moments)
    of_rest = {s.name: named for s in known if s.initial is None} if isinstance(named, str) else named or {}
    return {**of_rest, **dict.fromkeys(moments, dtype)}


def _named(state_dtype: Value, layout: Layout) -> Value:
    """The dtypes by name, under the core's names of slots."""
    if not isinstance(state_dtype, Mapping):
        return _name(state_dtype)
    slots = {f: s.removeprefix("-") for p in layout.places for f, s in p.fields.items()}
    return {n if n in layout.slots else slots.get(n, n): _name(dtype) for n, dtype in state_dtype.items()}


def _axis_name(call: str, axis_name: object) -> AxisName:
    """The names of the mapped axes over which a rule's sums go."""
    names = tuple(axis_name) if isinstance(axis_name, list) else axis_name
    if names is None or isinstance(names, str) or (isinstance(names, tuple) and all(isinstance(n, str) for n in names)):
        return names
    raise bad_type(call, "axis_name", "must be None, the name of an axis, or a tuple of names", axis_name)


def _dtype(dtype: Value) -> np.dtype | None:
    """A dtype, or None if the argument is none. An array stands for its dtype, because `inject_hyperparams` calls
    whatever can be called, `jnp.bfloat16` too.
    """
    try:
        return jnp.dtype(dtype.dtype if is_traced(dtype) else dtype)
    except TypeError:
        return None


def _name(dtype: Value) -> Value:
    """The name of a dtype; anything else is returned as it is."""
    known = None if dtype is None or isinstance(dtype, str) else _dtype(dtype)
    return dtype if known is None else known.name


def _floating(call: str, argument: str, value: object) -> str:
    """The name of a floating dtype, in any form that JAX takes; for a complex dtype, the name of its parts' dtype."""
    dtype = _dtype(value)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        raise bad_type(call, argument, "must be None or a floating dtype", value)
    return real(dtype)
