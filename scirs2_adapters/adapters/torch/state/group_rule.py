"""The rule of one parameter group: made from the group's values, and made anew from those that change between steps."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from scirs2_adapters.core.argument_names import Values, members_by_name
from scirs2_adapters.core.fields import Value, positive
from scirs2_adapters.core.groups import refuse_unlike
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import check_path

from ..argument_names import NONE_IS_DEFAULT, PLAIN, TORCH, both_words, build, places, plain

LIMIT = positive(None, "largest norm of all gradients together")
#: Keys of a group, besides hyperparameters, that say what its rule is or how it is stepped.
_OPTIONS = ("base", "match", "kernel", "max_grad_norm")


def rule_of(cls: type[Rule], group: Values) -> Rule:
    """The rule of a group's values, checked as the constructor's arguments are."""
    keys = places(cls, group.get("base"))
    values = {k: group[k] for k in keys if k not in NONE_IS_DEFAULT or group[k] is not None}
    base = {"base": group["base"]} if group.get("base") else {}
    return build(cls, values | base, group["match"])


class GroupRule:
    """A group's rule and the values that it was made from.

    `whole` is the rule with all its wrappers, `rule` what takes the step: of a wrapper that evaluates the model, its
    base. `traced` says that a hyperparameter is a tensor, `live` that a value can be written in place.
    """

    rule: Rule

    def __init__(self, rule: Rule, group: Values) -> None:
        """`rule` has been checked, and was made from the values of the group."""
        self.fields = rule.fields
        self.places = places(type(rule), group.get("base"))
        self.keys = (*self.places, *_OPTIONS)
        values = [group.get(k) for k in self.keys]
        self._read(rule, group, _OPTIONS if _all_plain(values) else self.keys, values)

    def after(self, group: Values) -> GroupRule:
        """The rule of the group as its values are now: this one if none has changed."""
        values = [group.get(k) for k in self.keys]
        if not self.live and self._equals(values):
            return self
        if (group.get("base"), group["match"]) != (self.base, self.match):
            return GroupRule(rule_of(type(self.whole), group), group)
        if self.live or self.traced:
            return self._changed(group, self.keys, values)
        pairs = zip(self.keys, values, self.values, strict=True)
        return self._changed(group, [k for k, value, last in pairs if value is not last], values)

    @functools.cached_property
    def other(self) -> Rule:
        """The rule of what this one does not step."""
        return self.rule.rest()

    def _changed(self, group: Values, keys: Sequence[str], values: list[Value]) -> GroupRule:
        new = object.__new__(GroupRule)
        vars(new).update(vars(self))
        vars(new).pop("other", None)
        new._read(self.whole, group, keys, values)
        return new

    def _equals(self, values: list[Value]) -> bool:
        try:
            return values == self.values
        except (ValueError, RuntimeError):  # an array or a tensor has taken the place of a number
            return False

    def _read(self, before: Rule, group: Values, keys: Sequence[str], values: list[Value]) -> None:
        """Takes the values of these keys; each that differs from the one before is checked as the constructor does."""
        call = type(before).__name__
        hyper: dict[str, Value] = {}
        for key in keys:
            for name, value in self._fields_of(call, key, group[key]) if key in self.places else ():
                if not isinstance(value, torch.Tensor) and value != getattr(before, name):
                    with both_words(call, group):
                        value = self.fields[name].check(call, TORCH.spell(name, self.fields), value)
                hyper[name] = value
        if "kernel" in keys:
            check_path(call, group["kernel"])
        if "max_grad_norm" in keys:
            LIMIT.check(call, "max_grad_norm", group.get("max_grad_norm"))
        self.values = values
        self.kernel, self.match, self.base = group["kernel"], group["match"], group.get("base")
        self.whole = rule = before.replace_unchecked(hyper) if hyper else before
        self.rule = getattr(rule, "base", rule) if rule.needs_closure else rule
        self.live = not _all_plain(values) and any(map(_in_place, values))
        self.traced = any(isinstance(value, torch.Tensor) for value in hyper.values())

    def _fields_of(self, call: str, key: str, value: Value) -> list[tuple[str, Value]]:
        """The fields that a group has under this key, with their values."""
        names = self.places[key]
        if isinstance(names, str):
            return [(names, self.fields[names].default if value is None and key in NONE_IS_DEFAULT else _number(value))]
        usual = type(value) is tuple and len(value) == len(names)
        members = value if usual else members_by_name(call, key, value, names).values()
        return list(zip(names, map(_number, members), strict=True))


def refuse_unlike_groups(call: str, group_rules: Sequence[GroupRule]) -> None:
    """Refuse groups that differ in what numbers of the model are computed from."""
    fields = group_rules[0].fields
    refuse_unlike(call, [group_rule.rule for group_rule in group_rules], lambda name: TORCH.spell(name, fields))


def _all_plain(values: Iterable[Value]) -> bool:
    """Whether all values are numbers, flags and words, or tuples of them: the common case."""
    for value in values:
        kind = type(value)
        if kind not in PLAIN and not (kind is tuple and PLAIN.issuperset(map(type, value))):
            return False
    return True


def _in_place(value: Value) -> bool:
    """Whether a value can be written in place."""
    if isinstance(value, tuple):
        return any(map(_in_place, value))
    return isinstance(value, (torch.Tensor, np.ndarray, list))


def _number(value: Value) -> Value:
    """A CPU tensor as the number it is now; one that is differentiated, or lies elsewhere, stays a tensor."""
    if type(value) in (float, bool, int):
        return value
    if not isinstance(value, torch.Tensor):
        return plain(value)
    if value.numel() != 1:
        return value.tolist()
    here = type(value) is torch.Tensor and value.device.type == "cpu"
    return value.item() if here and not (value.requires_grad and torch.is_grad_enabled()) else value.reshape(())
