"""The coefficients of a step: a row for all variables that share them, with the present rate, decay and count.

They are tensors where a step is traced. Where a kernel is called from Python they are Python's numbers, the same as
`HostOptimizer`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from keras import ops

from scirs2_adapters.core.formats import DITHER
from scirs2_adapters.core.ops import HOST_SCALARS, Scalars
from scirs2_adapters.core.step.plan import coefficient_rows

from ..ops import Tensor, number, scalars
from ..state import RuleState, VariableEntry, coded, raw
from .current_rule import rule_now
from .traced import Update


class Example(NamedTuple):
    """A variable, for all that have its coefficients; whether it decays."""

    entry: VariableEntry
    decays: bool


def examples(optimizer: RuleState, entries: Sequence[VariableEntry]) -> tuple[list[Example], list[int]]:
    """One variable for each row of coefficients, and the row that each variable takes."""
    candidates = [Example(entry, optimizer._use_weight_decay(entry.variable)) for entry in entries]
    keys = [(entry.coefficient_key, entry.compute, decays) for entry, decays in candidates]
    return coefficient_rows(keys, candidates.__getitem__)


def as_tensors(optimizer: RuleState, updates: Sequence[Update], learning_rate: Tensor) -> list[Update]:
    """These updates with coefficients that are tensors."""
    different, row_of = examples(optimizer, [update.entry for update in updates])
    count = ops.convert_to_tensor(optimizer.iterations) + 1
    dither = {DITHER: coded.dither(count)} if any(update.entry.coded for update in updates) else {}
    rows = []
    for example in different:
        compute, rate = example.entry.compute, learning_rate
        if not isinstance(rate, (int, float)):
            rate = _exact(optimizer, number(ops.convert_to_tensor(rate), compute), compute)
        rows.append({**_row(optimizer, example, rate, ops.cast(count, compute)), **dither})
    return [update._replace(coefficients=rows[i]) for update, i in zip(updates, row_of, strict=True)]


def rows_of(updates: Sequence[Update]) -> tuple[list[Scalars], list[int]]:
    """The different rows of coefficients, and which one each variable takes."""
    rows = {id(update.coefficients): update.coefficients for update in updates}
    places = {key: place for place, key in enumerate(rows)}
    return list(rows.values()), [places[id(update.coefficients)] for update in updates]


def as_numbers(optimizer: RuleState, different: Sequence[Example], learning_rate: Tensor) -> list[Scalars]:
    """The rows of coefficients as Python's numbers; of what is on a device the rate and the count are read, once."""
    rate, constant = read(learning_rate), optimizer.constant_rate
    if constant is not None and rate == constant[1]:
        rate = constant[0]
    count = int(read(optimizer.iterations)) + 1
    return [_row(optimizer, example, rate, count) for example in different]


def read(x: Tensor) -> float:
    """A number that is a variable, a tensor or a number."""
    x = raw(x)
    return float(x.item() if hasattr(x, "item") else x)


def _row(optimizer: RuleState, example: Example, rate: Tensor, count: Tensor) -> Scalars:
    entry, decays = example
    rule = rule_now(optimizer, entry, decays, {"learning_rate": rate})
    xp = HOST_SCALARS if isinstance(count, int) else scalars(entry.compute)
    return {**rule.scalars(xp, count), **entry.rule.leaf_coefficients(entry.leaf)}


def _exact(optimizer: RuleState, rate: Tensor, dtype: str) -> Tensor:
    """The rate in full. The variable of a constant rate holds it in float32; as long as it holds that one, a float64
    step takes the number that the user gave.
    """
    constant = optimizer.constant_rate
    if constant is None or dtype != "float64":
        return rate
    exact, rounded = (number(x, dtype) for x in constant)
    return ops.where(ops.equal(rate, rounded), exact, rate)
