"""What every executor decides before a step, said once: which rule and program step a parameter, whether the CPU kernel
runs them, and which parameters share a row of coefficients.

Each adapter brings its arrays, its parameter groups and its clock; the decisions are made here. `HostOptimizer` is the
shortest example.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ..argument_names import Spell
from ..formats import companion
from ..program.recorded import Program, record
from ..rule import Rule
from ..slots import Extent, Leaf, Slot
from .options import takes_host

Item = TypeVar("Item")
Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, eq=False)
class ParamEntry:
    """One parameter of a step. `index` is its place among the gradients, `group` its parameter group; `rule` steps it,
    which is another one than the group's where the group's does not fit (`routed`).
    """

    index: int
    group: int
    leaf: Leaf
    rule: Rule
    routed: bool
    program: Program

    @functools.cached_property
    def coefficient_key(self) -> Hashable:
        """Parameters with equal keys have equal coefficients at the same step."""
        return self.group, self.routed, self.rule.leaf_key(self.leaf) if self.rule.per_parameter else None


COEFFICIENT_KEY = operator.attrgetter("coefficient_key")


def param_entry(
    index: int, rule: Rule, leaf: Leaf, *, group: int = 0, scaled: bool = False, call: str = "", spell: Spell = str,
    place: int | None = None,
) -> ParamEntry:  # fmt: skip
    """The entry of a parameter whose group has this rule; what the rule cannot step is refused here, in the words of
    the `call` and of `spell`. `place` is its place among all parameters, where these are some of them.
    """
    routed = rule.route(leaf)
    leaf = replace(leaf, place=index if place is None else place) if routed.numbered else leaf
    return ParamEntry(index, group, leaf, routed, routed is not rule, record(routed, leaf, scaled, call, spell))


def choose_paths(call: str, kernels: Sequence[str], obstacles: Sequence[str | None], one_path: bool) -> list[bool]:
    """For each parameter whether the CPU kernel steps it. `one_path`: what holds one back holds all back, as where a
    rule keeps numbers of the whole model.
    """
    if one_path:
        obstacles = [next(filter(None, obstacles), None)] * len(obstacles)
    return [takes_host(call, kernel, obstacle) for kernel, obstacle in zip(kernels, obstacles, strict=True)]


def coefficient_rows(keys: Sequence[Hashable], make: Callable[[int], Row]) -> tuple[list[Row], list[int]]:
    """The different rows of coefficients and which one each parameter takes; `make` is called with the place of the
    first parameter of each key.
    """
    first: dict[Hashable, int] = {}
    index = [first.setdefault(key, len(first)) for key in keys]
    return [make(index.index(row)) for row in range(len(first))], index


def array_names(slots: Iterable[Slot], dtypes: Mapping[str, str]) -> tuple[str, ...]:
    """The arrays of a parameter: itself, its gradient, its slots, and what their storage needs beside them."""
    names = ("p", "g", *(s.name for s in slots if s.extent is not Extent.MODEL))
    return (*names, *filter(None, (companion(name, dtypes[name]) for name in names)))


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by key, in the order in which each key is first met."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
