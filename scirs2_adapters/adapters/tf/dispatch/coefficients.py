"""The coefficients of a step, computed once for all variables that share them."""

from __future__ import annotations

from collections.abc import Sequence

from keras import ops

from scirs2_adapters.core.ops import Scalars
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.plan import coefficient_rows

from ..ops import Tensor, number, scalars
from ..state import RuleState, VariableEntry


def coefficients(optimizer: RuleState, entries: Sequence[VariableEntry], learning_rate: Tensor) -> list[Scalars]:
    """The coefficients of each variable, with the learning rate, decay and step count that hold now."""
    decays = [optimizer._use_weight_decay(entry.variable) for entry in entries]

    def row(i: int) -> Scalars:
        entry = entries[i]
        rule = _rule_now(optimizer, entry, decays[i], learning_rate)
        t = ops.cast(ops.convert_to_tensor(optimizer.iterations), entry.compute) + 1
        return {**rule.scalars(scalars(entry.compute), t), **entry.rule.leaf_coefficients(entry.leaf)}

    keys = [(e.coefficient_key(None), e.compute, decay) for e, decay in zip(entries, decays, strict=True)]
    rows, row_of = coefficient_rows(keys, row)
    return [rows[i] for i in row_of]


def _rule_now(optimizer: RuleState, entry: VariableEntry, decays: bool, learning_rate: Tensor) -> Rule:
    rate = learning_rate
    if not isinstance(rate, (int, float)):
        rate = _exact(optimizer, number(ops.convert_to_tensor(rate), entry.compute), entry.compute)
    values = {"learning_rate": rate, "weight_decay": (optimizer.weight_decay or 0.0) if decays else 0.0}
    return optimizer.rule.replace_unchecked(values).route(entry.leaf)


def _exact(optimizer: RuleState, rate: Tensor, dtype: str) -> Tensor:
    """The rate in full. The variable of a constant rate holds it in float32; as long as it holds that one, a float64
    step takes the number that the user gave.
    """
    constant = optimizer.constant_rate
    if constant is None or dtype != "float64":
        return rate
    exact, rounded = (number(x, dtype) for x in constant)
    return ops.where(ops.equal(rate, rounded), exact, rate)
