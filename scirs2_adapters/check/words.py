"""The rule that an optimizer is compared with, made from the arguments of the optimizer."""

from __future__ import annotations

from importlib import import_module

from scirs2_adapters.core import Rule, Wrapper, get
from scirs2_adapters.core import names as rule_names
from scirs2_adapters.core.argument_names import ArgumentNames
from scirs2_adapters.core.errors import did_you_mean

from .driver import Driver
from .outcome import SubjectError, told

ADAPTERS = {"torch": "torch", "keras": "tf", "optax": "jax", "sklearn": "sklearn"}


def _names(framework: str, rule: type[Rule]) -> ArgumentNames:
    """How the framework spells the rule's fields."""
    members = vars(import_module(f"scirs2_adapters.adapters.{ADAPTERS[framework]}.argument_names"))
    if "argument_names" in members:
        spelled: ArgumentNames = members["argument_names"](rule)
        return spelled
    return next(value for value in members.values() if isinstance(value, ArgumentNames))


def rule_of(driver: Driver, name: str) -> dict[str, Rule]:
    """The rule of this name with the optimizer's arguments, as far as it knows them, and its forms by `match`."""
    try:
        cls = get(name)
    except ValueError as error:
        way_out = did_you_mean(name, rule_names()) or " `scirs2 list` names all."
        raise SubjectError(f"`--against` must name an optimizer of ours. Received: {name!r}.{way_out}") from error
    try:
        names = _names(driver.framework, cls)
        around = {"base"} if issubclass(cls, Wrapper) else set()
        known = {*names.parameters(cls.fields_with(driver.subject.fixed.get("base") if around else None)), *around}
        fixed = {k: v for k, v in driver.subject.fixed.items() if k not in known}
        if fixed:
            raise SubjectError(f"`--with {next(iter(fixed))}=...` is no argument of {cls.name}.")
        values = {k: v for k, v in driver.subject.defaults().items() if k in known}
        rules = {name: names.rule(cls, values, call=f"--against {name}")}
        for match in cls.matches:
            rules[f'{name} with match="{match}"'] = names.rule(cls, values, match=match, call=f"--against {name}")
    except (ValueError, TypeError) as error:
        raise SubjectError(told(error).partition(": ")[2]) from error
    return rules
