"""Which optimizers there are: one for each file in `optimizers/`, and those that other distributions offer by entry
point. Those that evaluate the model inside a step, in `closures/`, are a list apart: few frameworks have closures. So
are those whose step depends on the loss, in `values/`: not every framework knows it there.

Names are read from file names and metadata alone; a module is loaded when its name is asked for.
"""

from __future__ import annotations

import functools
import threading
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from .errors import ArgumentTypeError, ArgumentValueError
from .rule import Rule
from .synonyms import similar_or_all

GROUP = "scirs2.optimizers"
_lock = threading.Lock()
_IGNORED = str.maketrans("", "", "_-")


@functools.cache
def built_in() -> tuple[str, ...]:
    """The names of the optimizers in this distribution."""
    return _files("optimizers")


@functools.cache
def with_closure() -> tuple[str, ...]:
    """The names of the optimizers that need a closure; `get` gives these too."""
    return _files("closures")


def with_value() -> tuple[str, ...]:
    """The names of the optimizers whose step depends on the loss; `get` gives these too."""
    return _files("values")


@functools.cache
def _files(folder: str) -> tuple[str, ...]:
    files = (Path(__file__).parent / folder).glob("*.py")
    return tuple(sorted(f.stem for f in files if not f.stem.startswith("_")))


@functools.cache
def _offered() -> dict[str, EntryPoint]:
    """Third parties' entry points, read once; a name that two distributions claim is an error that names both."""
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        name = plain(point.name)
        ours = name in (*built_in(), *with_closure(), *with_value())
        other = "scirs2" if ours else _owner(points[name]) if name in points else None
        if other is not None and (ours or points[name].value != point.value):
            raise ArgumentValueError(
                f"The optimizer name `{point.name}` is claimed by two distributions: {other} and {_owner(point)}. "
                "Uninstall one of them, or ask its author for another entry point name."
            )
        points[name] = point
    return points


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def names() -> list[str]:
    """The names of all optimizers that need neither a closure nor the loss, sorted."""
    return sorted({*built_in(), *_offered()})


def plain(name: str) -> str:
    """A name as `names` has it: others write `schedule_free_adamw` or `schedule-free-adamw`."""
    return name.casefold().translate(_IGNORED)


def get(name: str) -> type[Rule]:
    """The rule class of this name, in any capitalization, with or without `_` and `-`.

    >>> get("adamw")().learning_rate
    0.001
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f"`get` takes the name of an optimizer as a string. Received: {name!r} ({type(name).__name__})."
        )
    return _load(plain(name), name)


@functools.cache
def _load(name: str, typed: str) -> type[Rule]:
    for folder in ("optimizers", "closures", "values"):
        if name in _files(folder):
            return rule_in(f"{__package__}.{folder}.{name}")
    offered = _offered()
    if name not in offered:
        known = [*names(), *with_closure(), *with_value()]
        raise ArgumentValueError(f"No optimizer is named `{typed}`.{similar_or_all(name, known)}")
    with _lock:
        rule = offered[name].load()
    if not (isinstance(rule, type) and issubclass(rule, Rule)):
        raise ArgumentTypeError(
            f"The entry point `{name}` of {_owner(offered[name])} must be a Rule class. Received: {rule!r}."
        )
    return _named(rule, name, f"The entry point `{name}` of {_owner(offered[name])}")


@functools.cache
def is_listed(rule: type[Rule]) -> bool:
    """Whether `get` gives this class for its name; others, made in a script, can be named only by themselves."""
    return rule.name in (*names(), *with_value()) and get(rule.name) is rule


def rule_in(module: str) -> type[Rule]:
    """The one rule that a module defines."""
    rules = [v for v in vars(import_module(module)).values() if isinstance(v, type) and issubclass(v, Rule)]
    local = [rule for rule in rules if rule.__module__ == module]
    if len(local) != 1:
        raise ArgumentValueError(f"`{module}` must define exactly one rule. It defines: {[r.__name__ for r in local]}.")
    return _named(local[0], module.rpartition(".")[2], f"`{module}`")


def _named(rule: type[Rule], name: str, where: str) -> type[Rule]:
    """The rule, whose class must be called as it is asked for."""
    if rule.name != name:
        words = f"must define a class named `{name}`, in any capitalization. It defines: `{rule.__name__}`."
        raise ArgumentValueError(f"{where} {words}")
    return rule
