"""Sets of hyperparameters, derived from a rule's fields: a field that is added is tested without an edit here."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

import scirs2_adapters
from scirs2_adapters.core import HostOptimizer, Rule, Wrapper
from scirs2_adapters.core.fields import Field
from scirs2_adapters.core.hyperparameters import MODES
from scirs2_adapters.core.matrix import OUTPUTS_FIRST
from scirs2_adapters.core.program.recorded import programs_of
from scirs2_adapters.core.slots import Extent, Leaf

from .problem import Problem

Hyper = dict[str, Any]

#: What shows in matrices of a few rows and in a few steps, of fields whose defaults are for larger ones.
SMALL: Hyper = {"rank": 2, "update_proj_gap": 5, "rank_fraction": 0.6}
#: Large enough that parameters of 16 bits move.
PACE = 0.05


def other(field: Field) -> Any:
    """A valid value that is not the default."""
    value = field.default
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return tuple(0.9 * v for v in value) or ("no name has this",)
    if field.choices:
        return next(c for c in field.choices if c != value)
    if field.kind is int:
        return value - 2 if field.accepts(value - 2) else value + 1
    tried = (0.5, 2.0) if not value or value == float("inf") else (value * 0.9, value * 2)
    return next(v for v in tried if v != value and field.accepts(v))


def brisk(rule: type[Rule]) -> Hyper:
    """The defaults, but with a learning rate, and first steps of a rule that learns from them, that show."""
    fields = rule.fields_with()
    alike = {"layout": OUTPUTS_FIRST} if "layout" in fields else {}  # frameworks lay kernels in two ways
    return {"learning_rate": max(PACE, fields["learning_rate"].default), **learned(rule), **alike, **small(rule)}


def small(rule: type[Rule]) -> Hyper:
    """What a rule needs to show what it does to matrices of a few rows."""
    fields = rule.fields_with()
    return {k: value for k, value in SMALL.items() if k in fields and fields[k].default > value}


def learned(rule: type[Rule]) -> Hyper:
    """First steps that parameters of 16 bits show, of a rule that learns from where they lead: a size that no dtype
    rounds.
    """
    return {rule.first_step: 2.0**-4} if rule.first_step else {}


@functools.cache
def still_steps(name: str) -> int:
    """How many steps of a rule go by before one moves a parameter, as where a first one only looks at the gradient."""
    rule, params = scirs2_adapters.get(name), [np.ones((3, 2))]
    optimizer = HostOptimizer(rule(**brisk(rule)), params, kernel="traced")
    for count in range(10):
        optimizer.step([np.ones((3, 2))])
        if np.any(params[0] != 1.0):
            return count
    raise AssertionError(f"{name} never moves")


def turned(rule: type[Rule]) -> Hyper:
    """All that is structural the other way round, and weight decay: what the defaults leave out."""
    changed = {k: other(f) for k, f in rule.fields_with().items() if f.structural and k not in MODES}
    changed |= {"rank": 1} if "rank" in small(rule) else {}
    return {**brisk(rule), **changed, "weight_decay": 0.1}


def option_sets(name: str) -> Iterator[Hyper]:
    """All combinations of structural fields; each other field changed, over the defaults and over structure turned."""
    rule = scirs2_adapters.get(name)
    few = small(rule)
    yield from ({}, {**few, "rank": 1}) if "rank" in few else ()
    for options in _option_sets(rule):
        yield {**few, **options}
    if issubclass(rule, Wrapper):
        yield from ({"base": base, **decaying(base)} for base in bases_of(rule))


def _option_sets(rule: type[Rule]) -> Iterator[Hyper]:
    fields = {k: f for k, f in rule.fields_with().items() if k not in MODES}
    structural = {k: other(f) for k, f in fields.items() if f.structural}
    sizes = range(len(structural) + 1)
    for chosen in itertools.chain.from_iterable(itertools.combinations(structural, n) for n in sizes):
        yield {k: structural[k] for k in chosen}
    for key, field in fields.items():
        if key not in structural:
            yield {key: other(field)}
            yield {**structural, key: other(field)}


def decaying(name: str) -> Hyper:
    """A learning rate that shows and is that of all parameters, and weight decay where it acts beside their step."""
    rule = scirs2_adapters.get(name)()
    beside = rule.decay == "decoupled" and not rule.routes and "weight_decay" in rule.fields
    one_rate = {"adamw_ratio": 1.0} if "adamw_ratio" in rule.fields else {}
    return {"learning_rate": max(PACE, rule.learning_rate), "weight_decay": 0.1 if beside else 0.0, **one_rate}


def looks(wrapper: type[Wrapper]) -> bool:
    """Whether a wrapper looks at matrices."""
    return wrapper.view is not Wrapper.view


def sums(wrapper: type[Wrapper]) -> bool:
    """Whether a wrapper sums over the model."""
    return bool(wrapper().model_slots())


def bases_of(wrapper: type[Wrapper]) -> list[str]:
    """The optimizers that a wrapper goes around: none that evaluates an average, and of other wrappers none. If it
    looks at matrices, none with numbers of the model, nor with eigenvectors, for it leaves matrices without full rank.
    If it sums over the model, none that steps some shapes otherwise.
    """
    rules = [(n, scirs2_adapters.get(n)) for n in scirs2_adapters.names()]
    plain = [(n, r) for n, r in rules if not issubclass(r, Wrapper) and r.evaluation is None]
    plain = [
        (n, r)
        for n, r in plain
        if not looks(wrapper) or not any(s.extent in (Extent.SIDE, Extent.MODEL) for s in r().all_slots())
    ]
    plain = [(n, r) for n, r in plain if not sums(wrapper) or len(programs_of(r())) == 1]
    beside = "cautious_decay" in wrapper.presets
    return [n for n, r in plain if not beside or r().decay in ("decoupled", "absolute")]


def losses(name: str, task: Problem) -> dict[str, list[float]]:
    """What the twin of a rule takes besides gradients."""
    return {"values": task.values} if scirs2_adapters.get(name).needs_value else {}


def resolved(name: str, hyper: Hyper, dtype: str) -> Hyper:
    """The options with those defaults said in numbers that a rule takes from the parameter's dtype."""
    rule = scirs2_adapters.get(name)(**hyper)
    of_leaf = rule.leaf_coefficients(Leaf((2, 3), dtype))
    unsaid = {k: v for k, v in of_leaf.items() if k in rule.fields and getattr(rule, k) is None}
    return {**hyper, **unsaid}
