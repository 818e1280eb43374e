"""optax transformations made from rules.

A factory keeps the numbers it is given, which may be traced, and builds nothing on a device; `inject_hyperparams`
calls one inside every update. No `from __future__ import annotations`: wrappers read the annotation of a learning rate
as an object.
"""

import functools
from collections.abc import Callable, Mapping

import optax

from scirs2_adapters.core.document import document
from scirs2_adapters.core.fields import Value
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import check_path

from ..argument_names import DTYPES, argument_names, given_by_name, of_matrices, signature
from ..state import layout
from .arguments import parse_hyperparameters, parse_options, state_dtypes
from .fused import explain, step
from .update import Skipping, Update

__all__ = ["explain", "factory", "step", "transformation"]
#: Where users find what is made here.
ADAPTER = __package__.rpartition(".")[0]


def transformation(cls: type[Rule], arguments: Mapping[str, Value]) -> optax.GradientTransformationExtraArgs:
    """The transformation of a rule with these arguments, by optax's names."""
    call, rest = cls.name, dict(arguments)
    fields, names = cls.fields_with(rest.get("base")), argument_names(cls)
    options = parse_options(cls, rest)
    hyper = parse_hyperparameters(cls, rest)
    build = functools.partial(cls.build, match=options.match, spell=lambda n: names.spell(n, fields), call=call)
    rule = build(hyper.base | hyper.plain)
    check_path(call, options.kernel)
    actual = build(hyper.base | hyper.plain | hyper.traced) if hyper.traced else rule
    place = layout(
        actual, hyper.plain | hyper.traced | hyper.schedules, frozenset(hyper.schedules), options.mask is not None
    )
    update = Update(rule, hyper, place, options, state_dtypes(actual, options, place))
    stepping = Skipping(update) if options.skip_nonfinite else update
    return optax.GradientTransformationExtraArgs(stepping.init, stepping)


@functools.cache
def factory(name: str) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """The factory of an optimizer, with optax's argument names."""
    cls = get(name)
    known, names, fields = signature(cls), argument_names(cls), cls.fields_with()

    def make(*args: Value, **keywords: Value) -> optax.GradientTransformationExtraArgs:
        accepted = signature(cls, keywords["base"]) if keywords.get("base") is not None else known
        return transformation(cls, given_by_name(cls.name, accepted, args, keywords))

    make.__name__ = make.__qualname__ = cls.name
    make.__module__ = ADAPTER
    make.__signature__ = known  # type: ignore[attr-defined]
    moments = {"moment_dtype": DTYPES[cls.name][0]} if cls.name in DTYPES else {}
    options = ("mask", "kernel", "state_dtype", *moments, "axis_name", "skip_nonfinite")
    also = (*cls.options, *options, *(["dimensions"] if of_matrices(cls) else []))
    spell = lambda k: moments.get(k) or names.spell(k, fields)  # noqa: E731
    make.__doc__ = document(cls.text, names.seen(fields), _example(cls.name), spell, also)
    return make


def _example(name: str) -> list[str]:
    return [
        ">>> import jax.numpy as jnp",
        f">>> from {ADAPTER.replace('.adapters', '')} import {name}, step",
        f'>>> tx, params = {name}(), {{"w": jnp.ones(3)}}',
        '>>> params, state = step(tx, {"w": jnp.ones(3)}, tx.init(params), params)',
    ]
