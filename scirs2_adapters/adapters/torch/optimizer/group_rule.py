"""The rule of one parameter group: made from the group's values, and made anew from those that change between steps."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from scirs2_adapters.core.fields import positive
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import check_path

from ..argument_names import NONE_IS_DEFAULT, TORCH, both_words, build, plain

LIMIT = positive(None, "largest norm of all gradients together")
#: Keys of a group, besides hyperparameters, that say what its rule is or how it is stepped.
_OPTIONS = ("base", "match", "kernel", "max_grad_norm")
#: Values of these types are never written in place.
_FIXED = frozenset({float, int, bool, str, type(None)})
Group = Mapping[str, Any]


def made_from(cls: type[Rule], group: Group) -> GroupRule:
    """The rule of a group, checked as the constructor's arguments are."""
    names = dict.fromkeys(host for _, host, _ in TORCH.places(cls.fields_with(group.get("base"))))
    values = {n: group[n] for n in names if n not in NONE_IS_DEFAULT or group[n] is not None}
    base = {"base": group["base"]} if group.get("base") else {}
    return GroupRule(build(cls, values | base, group["match"]), group)


class GroupRule:
    """A group's rule and the values that it was made from.

    `whole` is the rule with all its wrappers, `rule` what takes the step: of a wrapper that evaluates the model, its
    base. `traced` says that a hyperparameter is a tensor.
    """

    def __init__(self, rule: Rule, group: Group) -> None:
        self.fields = rule.fields
        self.arguments = _arguments(type(rule), group.get("base"))  # type: ignore[arg-type]
        self.keys = (*self.arguments, *_OPTIONS)
        self.core: dict[str, Any] = {}
        self.live = self.traced = False
        self._read(rule, group, self.keys, [group.get(k) for k in self.keys])

    def after(self, group: Group) -> GroupRule:
        """The rule of the group as its values are now: this one if none has changed."""
        values = [group.get(k) for k in self.keys]
        if not self.live and self._equals(values):
            return self
        if (group.get("base"), group["match"]) != (self.base, self.match):
            return made_from(type(self.whole), group)
        if self.live or self.traced:
            return self._changed(group, self.keys, values)
        pairs = zip(self.keys, values, self.values, strict=True)
        return self._changed(group, [k for k, value, last in pairs if value is not last], values)

    def _changed(self, group: Group, keys: Sequence[str], values: list[Any]) -> GroupRule:
        new = object.__new__(GroupRule)
        vars(new).update(vars(self), live=False, traced=False)
        new._read(self.whole, group, keys, values)
        return new

    def _equals(self, values: list[Any]) -> bool:
        try:
            return values == self.values
        except (ValueError, RuntimeError):  # an array or a tensor has taken the place of a number
            return False

    def _read(self, before: Rule, group: Group, keys: Sequence[str], values: list[Any]) -> None:
        """Takes the values of these keys; each that differs from the one before is checked as the constructor does."""
        call, core = type(before).__name__, {}
        for key in keys:
            for name, place in self.arguments.get(key, ()):
                core[name] = self._value(call, key, group[key], name, place)
        for name, value in core.items():
            if not isinstance(value, torch.Tensor) and value != getattr(before, name):
                core[name] = self._checked(call, group, name, value)
        if "kernel" in keys:
            check_path(call, group["kernel"])
        if "max_grad_norm" in keys:
            LIMIT.check(call, "max_grad_norm", group.get("max_grad_norm"))
        self.values, self.live = values, any(type(v) not in _FIXED and _in_place(v) for v in map(group.get, keys))
        self.kernel, self.match, self.base = group["kernel"], group["match"], group.get("base")
        self.core = self.core | core
        self.traced = any(isinstance(v, torch.Tensor) for v in core.values())
        self.whole = before.replace_unchecked(core)
        self.rule: Rule = getattr(self.whole, "base", self.whole) if self.whole.needs_closure else self.whole

    def _value(self, call: str, key: str, value: Any, name: str, place: int | None) -> Any:
        """The value of a field, under whatever key and place of a tuple the group has it."""
        if place is not None:
            usual = type(value) is tuple and len(value) == len(TORCH.tuples[key])
            value = (value if usual else TORCH.members(call, key, value))[place]
        return self.fields[name].default if value is None and key in NONE_IS_DEFAULT else _number(value)

    def _checked(self, call: str, group: Group, name: str, value: Any) -> Any:
        with both_words(call, group):
            return self.fields[name].check(call, TORCH.spell(name, self.fields), value)


@functools.cache
def _arguments(cls: type[Rule], base: str | None) -> Mapping[str, list[tuple[str, int | None]]]:
    """For each key of a group the fields that it holds, and where in its tuple."""
    arguments: dict[str, list[tuple[str, int | None]]] = {}
    for core, host, place in TORCH.places(cls.fields_with(base)):
        arguments.setdefault(host, []).append((core, place))
    return arguments


def _in_place(value: Any) -> bool:
    """Whether a value can be written in place."""
    if isinstance(value, tuple):
        return any(type(v) not in _FIXED and _in_place(v) for v in value)
    return isinstance(value, (torch.Tensor, np.ndarray, list))


def _number(value: Any) -> Any:
    """A CPU tensor as the number it is now; one that is differentiated, or lies elsewhere, stays a tensor."""
    if type(value) in (float, bool, int):
        return value
    if not isinstance(value, torch.Tensor):
        return plain(value)
    if value.numel() != 1:
        return value.tolist()
    here = type(value) is torch.Tensor and value.device.type == "cpu"
    return value.item() if here and not (value.requires_grad and torch.is_grad_enabled()) else value.reshape(())
