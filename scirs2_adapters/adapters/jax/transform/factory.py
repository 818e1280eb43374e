"""optax transformations made from rules.

A factory keeps the numbers it is given, which may be traced, and builds nothing on a device; `inject_hyperparams`
calls one inside every update. No `from __future__ import annotations`: wrappers read the annotation of a learning rate
as an object.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters.core.document import document
from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.fields import flag, is_narrow, is_number, is_traced
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import StateDtype, check_path, check_state_dtype

from ..argument_names import DTYPES, argument_names, dtype_default, given_by_name, of_matrices, signature
from ..ops import real
from ..state import Layout, layout, possible_slots
from .fused import explain, step
from .skipping import Skipping
from .update import Update, is_function

__all__ = ["explain", "factory", "step", "transformation"]
#: Where users find what is made here.
ADAPTER = __package__.rpartition(".")[0]


class Given(np.ndarray):
    """A number of the user's that counts as traced: where it is 0 there is memory all the same, since the tree of the
    state must not follow from values.
    """


def transformation(cls: type[Rule], given: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
    """The transformation of a rule with these arguments, by optax's names."""
    call, given = cls.name, dict(given)
    fields, words = cls.fields_with(given.get("base")), argument_names(cls)
    kernel, match = given.pop("kernel", "auto"), given.pop("match", None)
    mask, dimensions = (given.pop(words.names.get(k, k), None) for k in ("mask", "dimensions"))
    state_dtype, axis_name = given.pop("state_dtype", None), _axes(call, given.pop("axis_name", None))
    skips = _yes(call, "skip_nonfinite", given.pop("skip_nonfinite", False))
    argument, *slots = DTYPES.get(cls.name, ("",))
    first = given.pop(argument, dtype_default(cls, match) if state_dtype is None else None)
    spelled = {words.names.get(n, n): n for n in fields if n == "weight_decay" or n.endswith("learning_rate")}
    schedules = {spelled[k]: given.pop(k) for k in list(given) if k in spelled and is_function(given[k])}
    _refuse_narrow(call, given)
    core = words.to_core({k: v for k, v in given.items() if k != "base"}, fields, call)
    hyper = {k: v for k, v in core.items() if is_traced(v) or (fields[k].structural and v == 0 and is_number(v))}
    hyper = {k: np.asarray(v).view(Given) if is_number(v) else v for k, v in hyper.items()}
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in core.items() if k not in hyper}
    base = {"base": given["base"]} if "base" in given else {}
    rule = cls.build(base | plain, match=match, spell=lambda n: words.spell(n, fields), call=call)
    check_path(call, kernel)
    whole = base | core | hyper
    actual = cls.build(whole, match=match, spell=lambda n: words.spell(n, fields), call=call) if hyper else rule
    place = layout(actual, {**core, **schedules}, frozenset(schedules), mask is not None)
    state_dtype = _named(state_dtype, place)
    check_state_dtype(call, state_dtype, list(possible_slots(actual).values()))
    dtypes = _dtypes(actual, state_dtype, slots, None if first is None else _floating(call, argument, first))
    stepping = Update(rule, hyper, schedules, place, mask, kernel, dtypes, call, axis_name, dimensions)
    update = Skipping(stepping) if skips else stepping
    return optax.GradientTransformationExtraArgs(update.init, update)


def _yes(call: str, argument: str, value: Any) -> bool:
    """A switch, as `transformation` takes it."""
    return bool(flag(False, "").check(call, argument, value))


def _refuse_narrow(call: str, values: Mapping[str, Any]) -> None:
    """Refuse what `inject_hyperparams` has rounded to 16-bit parameters' dtype: b2 is 1 then, and the step NaN."""
    for argument, value in values.items():
        if is_traced(value) and is_narrow(value):
            raise bad_type(
                call, argument, "must be a number of 32 bits or more, for 0.999 in bfloat16 is 1", value,
                "Use `optax.inject_hyperparams(..., hyperparam_dtype=jnp.float32)`.",
            )  # fmt: skip


def _axes(call: str, axis_name: Any) -> Any:
    """The names of the mapped axes over which a rule's sums go."""
    names = tuple(axis_name) if isinstance(axis_name, list) else axis_name
    if names is None or isinstance(names, str) or (isinstance(names, tuple) and all(isinstance(n, str) for n in names)):
        return names
    raise bad_type(call, "axis_name", "must be None, the name of an axis, or a tuple of names", axis_name)


def _named(state_dtype: Any, place: Layout) -> Any:
    """`state_dtype` by name, where users of JAX write dtypes and optax's names of slots."""
    if not isinstance(state_dtype, Mapping):
        return _name(state_dtype)
    theirs = {f: s.removeprefix("-") for p in place.places for f, s in p.fields.items()}
    return {n if n in place.slots else theirs.get(n, n): _name(dtype) for n, dtype in state_dtype.items()}


def _plain(dtype: Any) -> np.dtype:
    """A dtype; of an array its own, for `inject_hyperparams` calls what can be called, `jnp.bfloat16` with the rest."""
    return jnp.dtype(dtype.dtype if is_traced(dtype) else dtype)


def _name(dtype: Any) -> Any:
    """The name of a dtype; what is none stays what it is."""
    try:
        return dtype if dtype is None or isinstance(dtype, str) else _plain(dtype).name
    except TypeError:
        return dtype


def _floating(call: str, argument: str, dtype: Any) -> str:
    """The name of a floating dtype, given as JAX takes dtypes; of a complex one that of its parts."""
    try:
        found = _plain(dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.inexact):
        raise bad_type(call, argument, "must be None or a floating dtype", dtype)
    return real(found)


def _dtypes(rule: Rule, state_dtype: StateDtype, slots: Iterable[str], first: str | None) -> StateDtype:
    """`state_dtype` with optax's argument for first moments put in."""
    if first is None:
        return state_dtype
    if isinstance(state_dtype, str):
        state_dtype = {s.name: state_dtype for s in possible_slots(rule).values() if s.initial is None}
    return {**(state_dtype or {}), **dict.fromkeys(slots, first)}


@functools.cache
def factory(name: str) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """The factory of an optimizer, with optax's argument names."""
    cls = get(name)
    known, words, fields = signature(cls), argument_names(cls), cls.fields_with()

    def make(*args: Any, **given: Any) -> optax.GradientTransformationExtraArgs:
        takes = signature(cls, given["base"]) if given.get("base") is not None else known
        return transformation(cls, given_by_name(cls.name, takes, args, given))

    make.__name__ = make.__qualname__ = cls.name
    make.__module__ = ADAPTER
    make.__signature__ = known  # type: ignore[attr-defined]
    moments = {"moment_dtype": DTYPES[cls.name][0]} if cls.name in DTYPES else {}
    options = ("mask", "kernel", "state_dtype", *moments, "axis_name", "skip_nonfinite")
    also = (*cls.options, *options, *(["dimensions"] if of_matrices(cls) else []))
    spell = lambda k: moments.get(k) or words.spell(k, fields)  # noqa: E731
    make.__doc__ = document(cls.text, words.seen(fields), _example(cls.name), spell, also)
    return make


def _example(name: str) -> list[str]:
    return [
        ">>> import jax.numpy as jnp",
        f">>> from {ADAPTER.replace('.adapters', '')} import {name}, step",
        f'>>> tx, params = {name}(), {{"w": jnp.ones(3)}}',
        '>>> params, state = step(tx, {"w": jnp.ones(3)}, tx.init(params), params)',
    ]
