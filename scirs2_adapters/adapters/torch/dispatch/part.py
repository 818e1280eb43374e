"""Some parameters of an optimizer, stepped by themselves.

`step` is given a `Part` in place of the optimizer: the same groups, rules and memory, but of these parameters alone,
with plans of its own. Parts that are stepped one after the other make the step of the optimizer, bit for bit, for rules
that sum over a parameter at most.
"""

from __future__ import annotations

import functools
import weakref
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import cast

from ..state.group_rule import GroupRule
from ..state.protocols import Group, GroupValues, RuleOptimizerLike
from ..state.tensors import Tensor
from .step import Plan, step


class Place:
    """A group that has some parameters of a part, and where in its list they are."""

    def __init__(self, index: int, group: Group, at: list[int]) -> None:
        self.index, self.group, self.at = index, group, at
        self.params: list[Tensor] = [group["params"][i] for i in at]

    def stands(self, groups: Sequence[Group]) -> bool:
        """Whether the group and its parameters are where they were."""
        if self.index >= len(groups) or groups[self.index] is not self.group:
            return False
        params = self.group["params"]
        return len(params) > self.at[-1] and all(params[i] is p for i, p in zip(self.at, self.params, strict=True))

    def view(self) -> Group:
        """The group as it is now, with these parameters alone."""
        names, count = self.group.get("param_names") or (), len(self.group["params"])
        some = {"param_names": [names[i] for i in self.at]} if len(names) == count else {}
        return {**self.group, **some, "params": self.params}


class Part:
    """Some parameters of an optimizer, as `step` and `Plan` see an optimizer."""

    def __init__(self, optimizer: RuleOptimizerLike, wanted: Sequence[Tensor]) -> None:
        self._optimizer = weakref.ref(optimizer)
        self.places: list[Place] = []
        missing = set(map(id, wanted))
        for index, group in enumerate(optimizer.param_groups):
            at = [i for i, p in enumerate(group["params"]) if id(p) in missing]
            first = {id(group["params"][i]): i for i in reversed(at)}  # a group may hold one twice
            missing -= first.keys()
            if first:
                self.places.append(Place(index, group, sorted(first.values())))
        self.params = [p for place in self.places for p in place.params]
        self.state: defaultdict[Tensor, Group] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self.defaults, self._names, self._number = optimizer.defaults, optimizer._names, optimizer._number
        self._plans: dict[Hashable, Plan] = {}

    @property
    def optimizer(self) -> RuleOptimizerLike:
        """The optimizer, which lives as long as it is stepped."""
        optimizer = self._optimizer()
        if optimizer is None:
            raise ReferenceError("The optimizer of these parameters is no more.")
        return optimizer

    def stands(self, optimizer: RuleOptimizerLike) -> bool:
        """Whether its parameters are still where they were in the groups."""
        return all(place.stands(optimizer.param_groups) for place in self.places)

    def step(self) -> None:
        """Steps the parameters, by the values that their groups have now."""
        state = self.optimizer.state
        self.param_groups = [place.view() for place in self.places]
        for p in self.params:
            if p in state:
                self.state[p] = state[p]
            else:
                self.state.pop(p, None)
        try:
            step(cast(RuleOptimizerLike, self))
        finally:  # a step that is refused has taken back what memory it began
            for p, memory in self.state.items():
                if p not in state:
                    state[p] = memory

    def _group_rule(self, index: int, group: GroupValues) -> GroupRule:
        return self.optimizer._group_rule(self.places[index].index, group)

    def _place(self, p: Tensor) -> int:
        return self.optimizer._place(p)

    def _say(self) -> None:
        self.optimizer._say()


@functools.cache
def _class_for(name: str) -> type[Part]:
    """The class of this name, which is that of the optimizer: errors of a step say it."""
    return type(name, (Part,), {})


def part_of(optimizer: RuleOptimizerLike, params: Sequence[Tensor]) -> Part:
    """These parameters of an optimizer, but for those that are in none of its groups."""
    return _class_for(type(optimizer).__name__)(optimizer, params)
