"""The rule of a variable in the step that is taken: weight decay can be assigned, and variables be left out of it."""

from __future__ import annotations

from types import MappingProxyType

from scirs2_adapters.core.argument_names import Values
from scirs2_adapters.core.routing import without_decay
from scirs2_adapters.core.rule import Rule

from ..state import RuleState, VariableEntry


def rule_now(optimizer: RuleState, entry: VariableEntry, decays: bool, values: Values = MappingProxyType({})) -> Rule:
    """The rule that steps a variable, with the weight decay of now, which is none of any kind if it does not decay."""
    rule = optimizer.rule
    decay = {"weight_decay": optimizer.weight_decay or 0.0} if decays else without_decay(rule)
    return rule.replace_unchecked({**decay, **values}).route(entry.leaf)


def does_decay(optimizer: RuleState, entry: VariableEntry) -> bool:
    """Whether a step decays the variable."""
    return bool(rule_now(optimizer, entry, optimizer._use_weight_decay(entry.variable)).weight_decay)
